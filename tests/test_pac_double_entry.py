"""Double entry for gradient-PAC*: error bounds and branch and bound written again, one number at a time.

A bound that is a little too loose decides nothing wrong, and one that is a little too tight decides wrong almost never,
so that no comparison of verdicts sees either.  What guards against a lost term, factor or sign in them is to derive
each a second time from its docstring, without blocks, broadcasting or shortcuts.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from theory import AssumptionError, LeastSquares, Logistic, UserDataset, gradient_pac, largest_A, pac, pac_logistic
from theory.arrays import Array
from theory.pac import (
    Bounds,
    ExactModel,
    PacCertificate,
    PacEvent,
    bounds_of,
    compare,
    float_model,
    norm_bounds,
)
from theory.pac_logistic import Model, _ball_minimum, _CellBounds, _dual, _split, secant
from theory.rational import Enclosure

U = 2.0**-53


def approx(expected: Any, *, rel: float = 1e-6, abs: float = 0.0) -> Any:  # noqa: A002
    """Relative to what is expected, however small: pytest adds 1e-12, which is more than most bounds on rounding."""
    return pytest.approx(expected, rel=rel, abs=abs)


def rounding_of(n: float) -> float:
    """γ_n = nu/(1 - nu)."""
    return n * U / (1.0 - n * U)


COARSE = 1e-4


@pytest.fixture(params=["rounding of float64", "rounding as if it were coarse"])
def rounding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """The unit of rounding: also one so large that every term of a bound is seen beside the number that it bounds."""
    if request.param == "rounding of float64":
        return 40.0 * U

    def coarse(n: float) -> float:
        return COARSE * n / (1.0 - COARSE * n)

    for module in (pac_logistic, pac):
        monkeypatch.setattr(module, "gamma", coarse)
    monkeypatch.setattr(pac_logistic, "_FUNCTION_ERROR", 40.0 * COARSE)
    monkeypatch.setitem(globals(), "rounding_of", coarse)
    return 40.0 * COARSE


def sigma(x: float) -> float:
    return float(expit(x))


def chord(m: float, x: float) -> float:
    """(σ(m + x) - σ(m))/x, by the quotient itself; x is not small below."""
    return (sigma(m + x) - sigma(m)) / x if x else sigma(m) * sigma(-m)


def event_of(
    n: int = 7, d: int = 3, *, loss: Any = None, nu: float = 0.3, A: float = 0.11, B: float = 0.7, seed: int = 5
) -> PacEvent:
    rng = np.random.default_rng(seed)
    Q, theta = rng.standard_normal((n, d)), rng.standard_normal(d)
    loss = Logistic() if loss is None else loss
    a = np.where(rng.random(n) < 0.5, 1.0, -1.0) if isinstance(loss, Logistic) else rng.standard_normal(n)
    return PacEvent.checked(UserDataset(Q, a), theta, loss, nu, A, B, 0.75)


# -------------------------------------------------------------------------------------------------- logistic: the model


@pytest.mark.parametrize("block", [3, 4096])
@pytest.mark.parametrize("kind", ["plain", "at zero", "steep", "cancelling"])
def test_pac_errors_of_margins_and_gradient_are_those_derived(
    kind: str, block: int, rounding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pac_logistic, "_BLOCK", block)
    event = event_of()
    Q, theta = np.array(event.Q), np.array(event.theta)
    if kind == "at zero":
        theta = np.zeros(3)
    if kind == "steep":
        theta = theta * 9.0
    if kind == "cancelling":
        # The margin is a difference of two numbers of size 1e18: nothing is known of it, and σ is known within 1.
        Q[0], theta = [1e9, 1e9, 0.0], np.array([1e9, -1e9, 0.0])
    event = PacEvent.checked(UserDataset(Q, event.labels), theta, Logistic(), 0.3, 0.11, 0.7, 0.75)
    model = Model.of(event)
    n, d = Q.shape
    size = math.sqrt(math.fsum(x * x for x in theta))
    p = [2.0 * 0.3 * x for x in theta]
    total, lengths_total = [], []
    for i in range(n):
        m = float(model.m[i])
        length = math.sqrt(math.fsum(x * x for x in Q[i])) * (1.0 + rounding_of(d + 2))
        margin_error = rounding_of(d + 1) * length * size + 1e-300
        assert (
            abs(Fraction(m) - sum(Fraction(x) * Fraction(y) for x, y in zip(Q[i], theta, strict=True))) <= margin_error
        )
        assert model.lengths[i] == approx(length, rel=1e-15)
        assert model.margin_error[i] == approx(margin_error, rel=1e-14, abs=0.0)
        steepest = min(0.25, math.exp(-max(0.0, abs(m) - margin_error)))
        total.append(length * (min(1.0, steepest * margin_error) + rounding))
        lengths_total.append(length)
        a = float(event.labels[i])
        p = [x - a * sigma(-a * m) * q for x, q in zip(p, Q[i], strict=True)]
    terms = min(n, block) + -(-n // block) + 8
    error = 1.01 * (math.fsum(total) + rounding_of(terms) * (math.fsum(lengths_total) + 2.0 * 0.3 * size))
    assert model.p == approx(np.array(p), rel=1e-12)
    assert model.error_p == approx(error, rel=1e-13)
    assert (model.n_data, model.nu, model.slope) == (n, 0.3, 0.11 * n)
    assert model.radius == bounds_of(event.radius())


def value_by_hand(model: Model, z: Array) -> float:
    """pᵀz + 2ν‖z‖² + Σ x_i (σ(m_i + x_i) - σ(m_i))."""
    xs = [float(row @ z) for row in model.Q]
    total = math.fsum(x * (sigma(m + x) - sigma(m)) for x, m in zip(xs, model.m, strict=True))
    return float(model.p @ z) + 2.0 * model.nu * float(z @ z) + total


def error_by_hand(model: Model, z: Array, rounding: float) -> float:
    t, d, n = float(np.linalg.norm(z)), len(z), len(model.m)
    total, deltas = 0.0, 0.0
    for m, row, length, margin_error in zip(model.m, model.Q, model.lengths, model.margin_error, strict=True):
        x = float(row @ z)
        delta = x * x * chord(float(m), x)
        x_error = rounding_of(d + 1) * length * t
        total += abs(x) * (0.5 * x_error + min(0.25, 0.1 * abs(x)) * margin_error) + rounding * delta
        deltas += delta
    total += rounding_of(n + 4) * deltas
    fixed = rounding_of(d + 8) * (float(np.linalg.norm(model.p)) * t + 2.0 * model.nu * t * t)
    return 1.01 * (total + model.error_p * t + fixed)


@pytest.mark.parametrize("scale", [0.3, 1.0, 6.0])
def test_pac_value_error_and_slack_are_those_derived(scale: float, rounding: float) -> None:
    for seed in range(4):
        event = event_of(seed=seed)
        model = Model.of(event)
        z = scale * np.random.default_rng(seed + 100).standard_normal(3)
        z = z * (2.0 if scale > 1.0 else 1.0)
        assert model.value(z) == approx(value_by_hand(model, z), rel=1e-12)
        assert model.error(z) == approx(error_by_hand(model, z, rounding), rel=1e-9)
        t = float(np.linalg.norm(z))
        left, gain = model.value(z), model.slope * min(t, t * t)
        error = error_by_hand(model, z, rounding) + rounding_of(3 + 12) * (abs(left) + gain + model.radius.high * t)
        found = pac_logistic.slack_bounds(event, z)
        middle = left - gain + model.radius.low * t
        # Half the width is the error; the middle is the slack that the public function returns.
        assert 0.5 * (found.high - found.low) == approx(error, rel=0.05)
        assert found.low == approx(middle - error, rel=1e-13)
        assert found.high == approx(middle + error, rel=1e-13)
        slack = pac.pac_slack(
            UserDataset(event.Q, event.labels),
            event.theta + z,
            event.theta,
            loss=Logistic(),
            nu=0.3,
            A=0.11,
            B=0.7,
            alpha=0.75,
        )
        assert slack == approx(middle, rel=1e-12)


def test_pac_error_of_the_value_counts_each_of_its_parts(rounding: float) -> None:
    # Wide margins, so that |x| exceeds 5/2 and the cap 1/4 acts; and θ† so large that the margins' error dominates.
    rng = np.random.default_rng(3)
    Q, theta = 4.0 * rng.standard_normal((6, 2)), 1e3 * rng.standard_normal(2)
    for n in (6, 1):
        event = PacEvent.checked(UserDataset(Q[:n], np.ones(n)), theta, Logistic(), 0.0, 0.1, 1.0, 0.5)
        model = Model.of(event)
        for scale in (0.01, 0.3, 2.0):
            z = scale * rng.standard_normal(2)
            assert model.error(z) == approx(error_by_hand(model, z, rounding), rel=1e-9)


def test_pac_weights_and_minorant_are_those_derived(rounding: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in (2, 4096):
        monkeypatch.setattr(pac_logistic, "_BLOCK", block)
        model = Model.of(event_of(nu=0.0))
        for shrink in (1.0, 0.25):
            W, error = model.minorant(shrink)
            expected, size = np.zeros((3, 3)), 0.0
            for m, row, length, margin_error in zip(model.m, model.Q, model.lengths, model.margin_error, strict=True):
                r = shrink * float(length)
                lost = float(margin_error) + rounding_of(4) * r + rounding
                w = chord(abs(float(m)), r) * max(0.0, 1.0 - lost)
                expected += w * np.outer(row, row)
                size += w * float(length) ** 2
            assert W == approx(expected, rel=1e-12)
            terms = min(7, block) + -(-7 // block) + 8
            assert error == approx(1.01 * rounding_of(terms) * size, rel=1e-12)


def test_pac_weights_of_margins_of_which_nothing_is_known_are_zero() -> None:
    event = PacEvent.checked(
        UserDataset([[1e10, 1e10], [1.0, 0.0]], [1.0, 1.0]), [1e10, -1e10], Logistic(), 0.0, 0.1, 1.0, 0.5
    )
    weights = Model.of(event).weights(1.0)
    # The error of the first margin is above 1, and no weight may be negative.
    assert weights[0] == 0.0
    assert weights[1] >= 0.0
    # The loss is bounded to first order: what is left of the weight is 1 - lost.
    assert 1.0 - Model.of(event_of()).weights(1e-3)[0] / float(
        secant(np.abs(Model.of(event_of()).m), 1e-3 * Model.of(event_of()).lengths)[0]
    ) == approx(40 * U, rel=0.2)


def test_pac_ratio_and_upper_bound_of_the_sphere_are_those_derived(rounding: float) -> None:
    model = Model.of(event_of())
    for scale in (0.2, 0.9, 3.0):
        z = np.array([1.0, -1.0, 0.5]) / 1.5 * scale
        t = float(np.linalg.norm(z))
        assert pac_logistic._ratio(model, z) == approx((value_by_hand(model, z) + model.radius.high * t) / t**2)
        left = value_by_hand(model, z) + model.radius.high * t
        # (V + b)/ℐ is the A at which z gives equality, left = Aℐ min(t, t²), with all errors upwards.
        V = (left + error_by_hand(model, z, rounding)) / min(t, t * t) * (1.0 + rounding_of(8))
        V += rounding_of(8) * model.radius.high - model.radius.low
        assert pac_logistic._sphere_high(model, z) == approx(V, rel=1e-12)


# --------------------------------------------------------------------------------------------- logistic: bound by cells


def cell_by_hand(model: Model, centre: Array, half: Array) -> tuple[float, float]:
    """Return the lower bound of F over a cell and (F + slope·‖z‖²)/‖z‖² at its centre, from the module's text."""
    d, n = len(centre), len(model.m)
    R, c = float(np.linalg.norm(half)), float(np.linalg.norm(centre))
    unit = centre / c if c > 0 else np.zeros(d)
    b, quadratic = model.radius.low, 2.0 * model.nu - model.slope
    value, gradient = float(model.p @ centre) + b * c + quadratic * c * c, model.p + b * unit + 2.0 * quadratic * centre
    K, total, reach, bow = np.zeros((d, d)), 0.0, 0.0, 0.0
    pulls = 0.0
    for m, row, length in zip(model.m, model.Q, model.lengths, strict=True):
        x = float(row @ centre)
        spread = min(float(half @ np.abs(row)), R * float(length)) * (1.0 + rounding_of(d + 4))
        s = sigma(float(m) + x)
        slope = s * (1.0 - s)
        delta = x * x * chord(float(m), x)
        third = 1.0 / (2.0 * math.sqrt(3.0)) + 0.125 * (abs(x) + spread)
        second = 2.0 * slope + x * slope * (1.0 - 2.0 * s) - spread * third - 1e-14 * (2.0 + abs(x))
        total += delta
        gradient = gradient + (x * chord(float(m), x) + x * slope) * row
        K = K + second * np.outer(row, row)
        bow += abs(second) * float(length) ** 2
        pulls += abs(x) * float(length)
        reach += (abs(x) + spread) * float(length)
    value += total
    eta = max(0.0, -float(gradient @ unit) / (2.0 * c)) if c > 0 and c + R > 1.0 else 0.0
    # The Hessian of b‖z‖ is b(I - uuᵀ)/‖z‖, at least with ‖z‖ at its largest; at the centre 0 nothing is known of u.
    tangential = np.eye(d) - np.outer(unit, unit) if c > 0 else np.zeros((d, d))
    K = K + (2.0 * quadratic + 2.0 * eta) * np.eye(d) + b / (c + R) * tangential
    g = gradient + 2.0 * eta * centre
    low = value + eta * (c * c - 1.0) + float(_ball_minimum(K[None], g[None], np.array([R]))[0])
    size = float(np.abs(centre) @ np.abs(model.p)) + total
    size += (model.radius.high + 2.0 * abs(quadratic) + 2.0 * eta) * (1.0 + c) ** 2
    pull = float(np.linalg.norm(g)) + pulls + model.radius.high
    bow += float(np.abs(K).sum())
    error = rounding_of(n + 40 * d + 64) * (size + R * pull + R * R * bow) + (c + R) * model.error_p
    error += float(np.max(model.margin_error, initial=0.0)) * (c + R) * reach
    return low - error, (value - quadratic * c * c) / (c * c) if c > 0 else math.inf


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_pac_bounds_of_cells_are_those_derived(scale: float, rounding: float) -> None:
    rng = np.random.default_rng(11)
    for seed in range(3):
        event = event_of(seed=seed, A=0.4 * seed, nu=0.1 * seed)
        model = Model.of(
            PacEvent.checked(
                UserDataset(scale * np.array(event.Q), event.labels),
                event.theta,
                Logistic(),
                event.nu,
                event.A,
                0.7,
                0.75,
            )
        )
        centres = np.concatenate([np.zeros((1, 3)), rng.uniform(-0.8, 0.8, (7, 3)), 0.3 * rng.uniform(-1, 1, (4, 3))])
        halves = rng.uniform(0.02, 0.5, (12, 3))
        lows, at = _CellBounds(model)(centres, halves)
        expected = [cell_by_hand(model, centre, half) for centre, half in zip(centres, halves, strict=True)]
        assert lows == approx(np.array([low for low, _ in expected]), rel=1e-9, abs=1e-11)
        best = int(np.argmin([ratio for _, ratio in expected]))
        assert np.array_equal(at, centres[best])


def test_pac_rounding_of_cells_is_the_one_derived(rounding: float) -> None:
    # θ† so large that what is lost to rounding is seen in the bounds.
    rng = np.random.default_rng(2)
    event = PacEvent.checked(
        UserDataset(rng.standard_normal((4, 2)), np.ones(4)),
        1e12 * rng.standard_normal(2),
        Logistic(),
        0.0,
        0.2,
        0.3,
        0.5,
    )
    model = Model.of(event)
    centres, halves = rng.uniform(-0.8, 0.8, (5, 2)), rng.uniform(0.1, 0.4, (5, 2))
    lows, _ = _CellBounds(model)(centres, halves)
    expected = [cell_by_hand(model, centre, half)[0] for centre, half in zip(centres, halves, strict=True)]
    assert lows == approx(np.array(expected), rel=1e-9)


def test_pac_cells_are_below_the_function(rng: np.random.Generator) -> None:
    model = Model.of(event_of(A=0.2))
    centres, halves = rng.uniform(-0.6, 0.6, (20, 3)), rng.uniform(0.01, 0.3, (20, 3))
    lows, _ = _CellBounds(model)(centres, halves)
    for low, centre, half in zip(lows, centres, halves, strict=True):
        for _ in range(60):
            z = centre + half * rng.uniform(-1, 1, 3)
            t = float(np.linalg.norm(z))
            if t <= 1.0:
                assert low <= value_by_hand(model, z) + model.radius.low * t - model.slope * t * t


def test_pac_batches_of_cells_fit_the_memory() -> None:
    def batch(n: int) -> int:
        return _CellBounds(Model.of(event_of(n=n, d=1))).batch

    assert (batch(0), batch(1), batch(7812), batch(10_000), batch(40_000)) == (256, 256, 256, 200, 50)


def test_pac_ball_minimum_is_below_the_minimum_and_close_to_it(rng: np.random.Generator) -> None:
    for d in (1, 2, 3):
        K = rng.standard_normal((30, d, d))
        K = K + K.transpose(0, 2, 1)
        g, R = rng.standard_normal((30, d)), rng.uniform(0.1, 2.0, 30)
        found = _ball_minimum(K, g, R)
        for k in range(30):
            # Minimum in the ball: inside if K is definite, else on the sphere, where tᵀKt/2 is minimized exactly.
            on_sphere = pac_logistic.minimize_on_sphere(0.5 * R[k] ** 2 * K[k], R[k] * g[k]).high
            least = on_sphere
            if np.linalg.eigvalsh(K[k])[0] > 0:
                inside = -np.linalg.solve(K[k], g[k])
                if np.linalg.norm(inside) <= R[k]:
                    least = min(least, float(0.5 * g[k] @ inside))
            scale = abs(least) + 1.0
            assert found[k] <= least + 1e-12 * scale
            assert found[k] >= least - 1e-5 * scale


def test_pac_dual_of_the_ball_is_the_one_derived() -> None:
    eigenvalues, beta = np.array([[1.0, 3.0], [2.0, 5.0]]), np.array([[2.0, -1.0], [0.5, 4.0]])
    R, s = np.array([2.0, 0.5]), np.array([0.5, 3.0])
    expected = [
        -0.5 * (4.0 / 1.5 + 1.0 / 3.5) - 0.5 * 0.5 * 4.0,
        -0.5 * (0.25 / 5.0 + 16.0 / 8.0) - 0.5 * 3.0 * 0.25,
    ]
    assert _dual(eigenvalues, beta, R, s) == approx(np.array(expected), rel=1e-15)


def test_pac_cells_are_halved_and_those_that_do_not_matter_left_out() -> None:
    def halves_of(centre: list[float], half: list[float], tau: float) -> list[tuple[list[float], list[float]]]:
        centres, halves = _split([(0.0, 0, np.array(centre), np.array(half))], tau)
        return [(c.tolist(), h.tolist()) for c, h in zip(centres, halves, strict=True)]

    # The longest edge is halved, to both sides.
    assert halves_of([0.0, 0.0], [0.5, 1.0], 0.1) == [([0.0, -0.5], [0.5, 0.5]), ([0.0, 0.5], [0.5, 0.5])]
    assert halves_of([0.25, 0.0], [0.5, 0.25], 0.1) == [([0.0, 0.0], [0.25, 0.25]), ([0.5, 0.0], [0.25, 0.25])]
    # One half is wholly outside the unit ball; that which touches it stays.
    assert halves_of([1.25, 0.0], [0.5, 0.25], 0.1) == [([1.0, 0.0], [0.25, 0.25])]
    assert halves_of([1.0, 0.0], [0.5, 0.25], 0.1) == [([0.75, 0.0], [0.25, 0.25]), ([1.25, 0.0], [0.25, 0.25])]
    # Nearest corners (0.75, 0.75) are outside, (0.5, 0.75) inside.
    assert halves_of([0.75, 1.0], [0.5, 0.25], 0.1) == [([0.5, 1.0], [0.25, 0.25])]
    # Wholly inside the proved ball: left out, unless the farthest corner is beyond it.
    assert halves_of([0.0, 0.0], [0.5, 0.25], 0.72) == []
    assert len(halves_of([0.0, 0.0], [0.5, 0.25], 0.55)) == 2
    assert halves_of([0.25, 0.0], [0.5, 0.25], 0.72) == [([0.5, 0.0], [0.25, 0.25])]
    assert _split([], 0.5)[0].size == 0


# ----------------------------------------------------------------------------------------------- logistic: the decision


def test_pac_the_steepest_offset_is_the_best_of_its_halvings() -> None:
    for seed in range(5):
        event = event_of(seed=seed, B=0.01)
        model = Model.of(event)
        z = pac_logistic._steep_offset(model)
        assert z is not None
        assert -z / np.linalg.norm(z) == approx(model.p / np.linalg.norm(model.p))
        slacks = {k: pac_logistic._slack(model, -model.p / np.linalg.norm(model.p) * 2.0**-k).high for k in range(60)}
        k = round(-math.log2(float(np.linalg.norm(z))))
        assert slacks[k] < 0
        assert slacks[k] == min(slacks.values())


def test_pac_without_gradient_there_is_no_steep_offset() -> None:
    symmetric = UserDataset([[1.0], [1.0]], [1.0, -1.0])
    assert (
        pac_logistic._steep_offset(Model.of(PacEvent.checked(symmetric, [0.0], Logistic(), 0.0, 0.1, 0.0, 0.5))) is None
    )
    # A large radius: no offset along -p violates anything.
    model = Model.of(event_of(B=50.0))
    assert pac_logistic._steep_offset(model) is None


def test_pac_local_search_ends_where_no_neighbour_is_better(rng: np.random.Generator) -> None:
    for seed in range(6):
        model = Model.of(event_of(seed=seed, B=0.05 + 0.3 * seed, nu=0.02))
        start = np.array([0.6, 0.0, 0.8])
        found = pac_logistic._local_search(model, start)
        least = pac_logistic._ratio(model, found)
        assert least <= pac_logistic._ratio(model, start)
        t = float(np.linalg.norm(found))
        assert t <= 1.0 + 1e-12
        for _ in range(200):
            around = found / t + 0.02 * rng.standard_normal(3)
            around *= t / np.linalg.norm(around)
            # On the sphere through it the value is stationary and least; along the ray, steps of 20 % do not help.
            assert pac_logistic._ratio(model, around) >= least - 1e-9 * abs(least)
        assert pac_logistic._ratio(model, 0.8 * found) >= least


def test_pac_descent_on_a_sphere_finds_the_minimum_of_a_grid() -> None:
    angles = np.linspace(0.0, 2.0 * math.pi, 2000)
    for seed in range(6):
        model = Model.of(event_of(n=9, d=2, seed=seed))
        for t in (0.3, 1.0):
            grid = t * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            values = [model.value(z) for z in grid]
            start = grid[int(np.argmin(values)) - 300]
            found = pac_logistic._descend(model, start)
            assert np.linalg.norm(found) == approx(t, rel=1e-12)
            assert model.value(found) <= min(values) + 1e-12


def test_pac_proved_radius_is_the_first_power_of_two_that_the_minorant_proves(rounding: float) -> None:
    found = set()
    for seed in range(12):
        steep = float(np.linalg.norm(Model.of(event_of(seed=seed, nu=0.05)).p)) / 7**0.75
        model = Model.of(event_of(seed=seed, A=0.05 + 0.03 * seed, B=steep * (1.02 + 0.02 * seed), nu=0.05))
        expected = 0.0
        for k in range(1, 16):
            tau = 2.0**-k
            W, error = model.minorant(tau)
            least = pac_logistic.minimize_on_sphere(tau * (W + 2.0 * model.nu * np.eye(3)), model.p).low
            needed = tau * model.slope * (1 + rounding_of(4)) - model.radius.low
            if least - tau * error - model.error_p - rounding_of(8) * model.nu >= needed:
                expected = tau
                break
        assert pac_logistic._proved_radius(model) == expected
        found.add(expected)
    assert len(found) >= 2
    hopeless = Model.of(event_of(A=5.0, B=0.0))
    assert pac_logistic._proved_radius(hopeless) == 0.0


def test_pac_margins_are_zero_only_if_they_are_exactly() -> None:
    def zero(Q: Any, theta: Any) -> bool:
        data = UserDataset(np.array(Q, dtype=float).reshape(-1, 2), np.ones(len(Q)))
        return pac_logistic._has_zero_margins(PacEvent.checked(data, theta, Logistic(), 0.0, 0.1, 1.0, 0.5))

    assert zero([], [1.0, 2.0])
    assert zero([[1.0, 1.0]], [0.0, 0.0])
    assert zero([[1.0, 1.0], [0.0, 0.0]], [3.0, -3.0])
    assert not zero([[1.0, 1.0], [1.0, 0.0]], [3.0, -3.0])
    # The computed margin is 0 and the exact one 2^-60.
    assert not zero([[1.0, 2.0**-60]], [2.0**-1000, 1.0])


def test_pac_gradient_at_zero_margins_is_compared_exactly() -> None:
    # p = 2νθ - ΣAQ/2 with θ = 0: here (-1.5, 0), of norm exactly B.
    data = UserDataset([[1.0, 0.0], [2.0, 0.0]], [1.0, 1.0])

    def decided(B: float, nu: float = 0.0, theta: Any = (0.0, 0.0)) -> bool | None:
        event = PacEvent.checked(data, theta, Logistic(), nu, 0.1, B, 0.0)
        return pac_logistic._exact_gradient_test(event)

    assert decided(1.5) is True
    assert decided(math.nextafter(1.5, 0.0)) is False
    assert decided(1.5, theta=(1.0, 0.0)) is None
    # θ ⊥ Q: the margins are zero and 2νθ counts: ‖(-1.5, 2·1·1)‖ = 2.5.
    assert decided(2.5, nu=1.0, theta=(0.0, 1.0)) is True
    assert decided(math.nextafter(2.5, 0.0), nu=1.0, theta=(0.0, 1.0)) is False


def test_pac_data_that_overflow_are_not_decided() -> None:
    data = UserDataset([[1e200], [-1e200]], [1.0, 1.0])
    verdict = gradient_pac(data, [1e200], loss=Logistic(), nu=0.0, A=0.1, B=1.0, alpha=0.5)
    assert verdict.holds is None
    assert verdict.reason == "the data overflow"
    assert verdict.certificate.gradient_norm == Bounds(0.0, math.inf)


def test_pac_cells_are_counted_against_their_budget() -> None:
    event = event_of(n=12, d=2, seed=4, nu=0.0)
    data = UserDataset(event.Q, event.labels)
    options: dict[str, Any] = {"loss": Logistic(), "nu": 0.0, "B": 1.0, "alpha": 0.75}
    # The convex minorant proves no more than a part of the largest A; what is between them takes cells.
    A = 0.995 * largest_A(data, event.theta, **options, gap=1e-3).low
    free = gradient_pac(data, event.theta, A=A, **options)
    assert free.holds is True
    assert free.certificate.kind == "branch and bound"
    needed = free.certificate.cells
    assert gradient_pac(data, event.theta, A=A, **options, max_cells=needed).holds is True
    short = gradient_pac(data, event.theta, A=A, **options, max_cells=1)
    assert short.holds is None
    assert 1 <= short.certificate.cells <= 2
    assert short.reason == f"{short.certificate.cells} cells did not suffice"
    none = gradient_pac(data, event.theta, A=A, **options, max_cells=0)
    assert none.holds is None
    assert none.certificate.cells == 0
    assert none.reason == "no ball around θ† was proved"
    with pytest.raises(AssumptionError, match="gap"):
        gradient_pac(data, event.theta, A=A, **options, gap=0.0)
    close = gradient_pac(data, event.theta, A=A, **options, gap=0.1)
    assert close.holds is None
    assert close.certificate.cells == 0


def test_pac_large_data_are_not_given_to_branch_and_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    event = event_of(n=12, d=2, seed=4, nu=0.0)
    options: dict[str, Any] = {"loss": Logistic(), "nu": 0.0, "B": 1.0, "alpha": 0.75}
    data = UserDataset(event.Q, event.labels)
    A = 0.995 * largest_A(data, event.theta, **options, gap=1e-3).low
    # 12 data with 3 products each.
    monkeypatch.setattr(pac_logistic, "LARGEST_PRODUCTS", 36)
    assert gradient_pac(data, event.theta, A=A, **options).holds is True
    monkeypatch.setattr(pac_logistic, "LARGEST_PRODUCTS", 35)
    refused = gradient_pac(data, event.theta, A=A, **options)
    assert refused.holds is None
    assert refused.reason == "too large for branch and bound"


# ----------------------------------------------------------------------------------------------------- least squares


def bounds(low: float, high: float | None = None) -> Bounds:
    return Bounds(low, low if high is None else high)


@pytest.mark.parametrize("block", [3, 1024])
def test_pac_errors_of_the_quadratic_model_are_those_derived(
    block: int, rounding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pac, "_BLOCK", block)
    event = event_of(loss=LeastSquares())
    n, d, nu = 7, 3, 0.3
    H, p, error_H, error_p = float_model(event)
    exact_H, exact_p = np.zeros((d, d)), 2.0 * nu * event.theta
    squares = moments = fit = 0.0
    size = float(np.linalg.norm(event.theta))
    for row, a in zip(event.Q, event.labels, strict=True):
        residual, length = float(row @ event.theta - a), float(np.linalg.norm(row))
        exact_H, exact_p = exact_H + np.outer(row, row), exact_p + residual * row
        squares += length**2
        moments += length * abs(residual)
        fit += length * (length * size + abs(float(a)))
    assert H == approx(exact_H + 2.0 * nu * np.eye(d), rel=1e-13)
    assert p == approx(exact_p, rel=1e-12)
    terms = min(n, block) + -(-n // block) + 8
    assert error_H == approx(1.01 * rounding_of(terms) * (squares + 2.0 * nu * math.sqrt(d)), rel=1e-12)
    expected = rounding_of(terms) * (moments + 2.0 * nu * size) + rounding_of(d + 4) * fit
    assert error_p == approx(1.01 * expected, rel=1e-12)


def test_pac_no_data_have_no_error_and_tiny_data_one_that_covers_underflow() -> None:
    nothing = PacEvent.checked(UserDataset.empty(2), [1.0, 2.0], LeastSquares(), 0.0, 0.1, 1.0, 0.5)
    assert float_model(nothing)[2:] == (0.0, 0.0)
    tiny = PacEvent.checked(UserDataset([[1e-200]], [1e-200]), [0.0], LeastSquares(), 0.0, 0.1, 1.0, 0.5)
    assert float_model(tiny)[2:] == pytest.approx((1e-300, 1e-300), rel=1e-12, abs=0.0)
    # A length whose square underflows is taken for 1e-150, which times an answer of 1 is rounded.
    known = PacEvent.checked(UserDataset([[1e-200]], [1.0]), [0.0], LeastSquares(), 0.0, 0.1, 1.0, 0.5)
    assert 1e-166 < float_model(known)[3] < 1e-163


def test_pac_bounds_of_a_norm_are_those_derived(rounding: float) -> None:
    p = np.array([3.0, 4.0])
    found = norm_bounds(p, 0.25)
    spread = 0.25 + rounding_of(4) * 5.0
    assert found.low == math.nextafter(5.0 - spread, -math.inf)
    assert found.high == math.nextafter(5.0 + spread, math.inf)
    assert norm_bounds(p, 6.0).low == 0.0
    assert norm_bounds(np.array([1e200, 1e200]), 0.0) == Bounds(0.0, math.inf)


def test_pac_comparisons_of_bounds_claim_no_more_than_they_show() -> None:
    assert compare(bounds(1.0, 2.0), bounds(2.0, 3.0)) is True
    assert compare(bounds(1.0, 2.5), bounds(2.0, 3.0)) is None
    assert compare(bounds(3.0, 4.0), bounds(2.0, 3.0)) is None
    assert compare(bounds(3.5, 4.0), bounds(2.0, 3.0)) is False
    assert compare(bounds(math.nan), bounds(2.0)) is None


def test_pac_exact_arithmetic_is_for_small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    event = event_of(n=5, d=3, loss=LeastSquares())
    monkeypatch.setattr(pac, "EXACT_PRODUCTS", 45)
    assert pac.is_small(event)
    monkeypatch.setattr(pac, "EXACT_PRODUCTS", 44)
    assert not pac.is_small(event)


def test_pac_data_whose_squares_overflow_are_scaled_and_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    data = UserDataset([[1e200, 0.0], [0.0, 3e199]], [1e200, -2e180])
    event = PacEvent.checked(data, [0.25, 0.5], LeastSquares(), 0.0, 0.1, 1.0, 0.5)
    H, p, found = pac._scaled_model(event)
    model = ExactModel.of(event)
    scale = found
    assert scale == max(abs(x) for x in [*model.H.ravel(), *model.p])
    assert [[float(x / scale) for x in row] for row in model.H] == H.tolist()
    assert [float(x / scale) for x in model.p] == p.tolist()
    assert max(np.abs(H).max(), np.abs(p).max()) == 1.0
    # The largest number may be a negative entry of p.
    steep = PacEvent.checked(UserDataset([[1e170]], [1e300]), [0.0], LeastSquares(), 0.0, 0.1, 1.0, 0.5)
    assert pac._scaled_model(steep)[1].tolist() == [-1.0]
    monkeypatch.setattr(pac, "EXACT_PRODUCTS", 7)
    H, p, scale = pac._scaled_model(event)
    assert scale == 1
    assert (H.tolist(), p.tolist()) == ([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0])
    undecided = gradient_pac(data, [0.25, 0.5], loss=LeastSquares(), nu=0.0, A=0.1, B=1.0, alpha=0.5)
    assert undecided.holds is None
    assert undecided.reason == "within the rounding error of equality, and too large for exact arithmetic"


def test_pac_offset_of_a_refutation_is_the_worst_of_its_candidates() -> None:
    for seed in range(12):
        # A tiny radius: the gradient is too large; A large or small, so that both shapes of the step occur.
        event = event_of(loss=LeastSquares(), seed=seed, B=0.05, A=[0.0, 0.3, 3.0][seed % 3])
        H, p, _, _ = float_model(event)
        radius = bounds_of(event.radius()).high
        u = pac.minimize_on_sphere(H, p).point
        length, slope = float(np.linalg.norm(p)), event.A * event.n_data

        def violation(z: Array, H: Array = H, p: Array = p, slope: float = slope, radius: float = radius) -> float:
            t = float(np.linalg.norm(z))
            return slope * min(t, t * t) - radius * t - float(z @ H @ z + p @ z)

        direction = -p / length
        best = max([violation(u), *(violation(t * direction) for t in np.linspace(0.0, 1.0, 2001))])
        z = pac._least_squares_offset(event, H, p, u, radius)
        assert violation(z) == approx(best, rel=1e-5)
        assert violation(z) > 0


def test_pac_a_witness_is_what_the_offset_leaves_in_floating_point() -> None:
    event = event_of(loss=LeastSquares())
    certificate = PacCertificate("exact", bounds(1.0), bounds(2.0), bounds(3.0), bounds(1.0))
    assert math.isnan(certificate.multiplier)
    assert certificate.cells == 0
    far = pac.verdict(event, False, certificate, "why", np.array([0.5, -0.25, 1.0]), fits=None)
    assert far.witness is not None
    assert far.offset is not None
    assert np.array_equal(far.witness, event.theta + np.array([0.5, -0.25, 1.0]))
    assert far.offset.tolist() == [0.5, -0.25, 1.0]
    assert not far.offset.flags.writeable
    assert not far.witness.flags.writeable
    assert "event" not in repr(far)
    near = pac.verdict(event, False, certificate, "why", np.full(3, 1e-30), fits=None)
    assert near.witness is None
    assert near.offset is not None
    assert pac.verdict(event, True, certificate, "why", fits=True).witness is None


def test_pac_bounds_of_the_largest_A_follow_from_those_of_the_sphere() -> None:
    # n = 7: the largest A is (V + b)/7, with V in [3, 10] and b in [4, 4.5].
    event = event_of(loss=LeastSquares(), A=1.5)
    certificate = PacCertificate("exact", bounds(1.0), bounds(4.0, 4.5), bounds(3.0, 10.0), bounds(1.0))

    def best(holds: bool | None, fits: bool | None, sphere: Bounds | None = None) -> Bounds:
        used = certificate if sphere is None else PacCertificate("", bounds(1.0), bounds(4.0, 4.5), sphere, bounds(1.0))
        return pac._best_A(event, holds, used, fits)

    up = bounds_of(Enclosure(Fraction(29, 14), Fraction(29, 14))).high
    assert best(None, True) == Bounds(1.0, up)
    assert best(True, True) == Bounds(1.5, up)
    assert best(False, True) == Bounds(1.0, 1.5)
    assert best(None, None) == Bounds(-math.inf, up)
    assert best(True, False) == Bounds(-math.inf, -math.inf)
    # What is true cannot be negative where ‖p‖ <= b.
    assert best(None, True, bounds(-9.0, -8.0)) == Bounds(0.0, 0.0)
    assert best(True, True, bounds(-9.0, -8.0)) == Bounds(0.0, 1.5)
    low = bounds_of(Enclosure(Fraction(16, 7), Fraction(16, 7))).low
    assert best(False, True, bounds(12.0, 13.0)) == Bounds(1.5, low)
    # Data that overflow, of which nothing is known.
    assert best(None, True, bounds(-math.inf, math.inf)) == Bounds(0.0, math.inf)
    certificate = replace(certificate, radius=bounds(4.0, math.inf))
    assert best(None, True) == Bounds(1.0, math.inf)
    nothing = PacEvent.checked(UserDataset.empty(2), [0.0, 0.0], LeastSquares(), 0.0, 0.1, 1.0, 0.5)
    assert pac._best_A(nothing, True, certificate, True) == Bounds(math.inf, math.inf)
    assert pac._best_A(nothing, None, certificate, None) == Bounds(-math.inf, math.inf)


def test_pac_bounds_of_the_largest_A_contain_it_to_the_last_bit() -> None:
    # d = 1 and α = 0: the largest A is (H - |p| + B)/n.  With a large B the rounding of the sum and of the quotient are
    # more than what is not known of V, and together more than one unit in the last place.
    rng = np.random.default_rng(0)
    for _ in range(400):
        n = int(rng.choice([3, 5, 7, 11]))
        Q, a, B = rng.standard_normal((n, 1)), rng.standard_normal(n), float(10.0 ** rng.uniform(1.0, 12.0))
        found = gradient_pac(UserDataset(Q, a), [0.0], loss=LeastSquares(), nu=0.0, A=0.0, B=B, alpha=0.0).best_A_bounds
        q, y = [Fraction(float(x)) for x in Q[:, 0]], [Fraction(float(x)) for x in a]
        p = sum((x * z for x, z in zip(q, y, strict=True)), Fraction(0))
        largest = (sum((x * x for x in q), Fraction(0)) - abs(p) + Fraction(B)) / n
        assert Fraction(found.low) <= largest <= Fraction(found.high)


def test_pac_floats_around_a_rational_number_are_the_closest() -> None:
    def around(low: Fraction, high: Fraction | None = None) -> Bounds:
        return bounds_of(Enclosure(low, low if high is None else high))

    third = Fraction(1, 3)
    found = around(third)
    assert Fraction(found.low) < third < Fraction(found.high)
    assert math.nextafter(found.low, 1.0) == found.high
    assert around(Fraction(3, 4)) == Bounds(0.75, 0.75)
    assert around(-third) == Bounds(-found.high, -found.low)
    largest = float(np.finfo(np.float64).max)
    assert around(Fraction(10**400)) == Bounds(largest, math.inf)
    assert around(Fraction(-(10**400))) == Bounds(-math.inf, -largest)


@pytest.mark.parametrize("k", range(11))
def test_pac_simple_fractions_of_every_size_are_tried(k: int) -> None:
    # 1/q with the largest odd q of k digits, from so far that denominators of k + 1 digits come closer.
    q = max(1, 10**k - 1)
    near = float(Fraction(1, q) + Fraction(4, 10 * q * max(10**k, 2)))
    assert abs(Fraction(near).limit_denominator(10 ** (k + 1)) - Fraction(near)) < abs(Fraction(1, q) - Fraction(near))
    assert Fraction(1, q) in pac._nearby_fractions(Fraction(near))


@pytest.mark.parametrize("k", [8, 16, 24, 32, 40])
def test_pac_dyadic_fractions_are_tried(k: int) -> None:
    # An odd number over 2^k, from a third of the way to the next: no denominator up to 10^10 is better than 2^k there.
    fraction = Fraction(2 * (2**k // 3) + 1, 2**k)
    assert fraction in pac._nearby_fractions(fraction + Fraction(3, 10 * 2**k))


def test_pac_the_multiplier_itself_and_less_than_it_are_tried() -> None:
    golden = Fraction(0.6180339887498949)
    for exact in (golden, -golden):
        found = pac._nearby_fractions(exact)
        assert found[0] == exact
        assert found[-5:] == [exact - golden / 2**k for k in (53, 51, 48, 44, 40)]
        # Each costs a factorization: one, eleven simple ones, five dyadic ones and five that are less.
        assert len(found) == len(set(found)) == 22
        assert exact.limit_denominator(10**11) not in found
    assert pac._nearby_fractions(Fraction(3))[:2] == [3, Fraction(3) - Fraction(3, 2**53)]


def test_pac_largest_A_asks_less_and_less_where_nothing_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    event = event_of()

    def undecided(data: Any, theta: Any, *, A: float, **rest: Any) -> pac.PacVerdict:
        asked.append(A)
        certificate = PacCertificate("", bounds(0.0), bounds(0.0), bounds(0.0), bounds(0.0))
        return pac.PacVerdict(None, None, None, 1.0, Bounds(1.0, 2.0), "", certificate, event)

    monkeypatch.setattr(pac, "gradient_pac", undecided)
    found = largest_A(UserDataset.empty(1), [0.0], loss=Logistic(), nu=0.0, B=1.0, alpha=0.5, gap=0.01)
    assert found == Bounds(1.0, 2.0)
    # Close to the upper end; then at fractions of what is between the bounds, halved until 1/100.
    assert asked == approx([0.0, 0.995 * 2.0, *(1.0 + 0.995 / 2**k for k in range(1, 7))], rel=1e-14)


def test_pac_largest_A_closes_in_where_verdicts_help(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    event, truth = event_of(), 1.3

    def oracle(data: Any, theta: Any, *, A: float, **rest: Any) -> pac.PacVerdict:
        asked.append(A)
        certificate = PacCertificate("", bounds(0.0), bounds(0.0), bounds(0.0), bounds(0.0))
        found = Bounds(A, 8.0) if truth >= A else Bounds(0.0, max(A, 1.301))
        return pac.PacVerdict(truth >= A, None, None, found.low, found, "", certificate, event)

    monkeypatch.setattr(pac, "gradient_pac", oracle)
    found = largest_A(UserDataset.empty(1), [0.0], loss=Logistic(), nu=0.0, B=1.0, alpha=0.5, gap=0.01)
    assert found.low <= truth <= found.high
    assert found.high - found.low <= 0.01 * found.high
    assert asked[:3] == [0.0, 0.995 * 8.0, 0.995 * (0.995 * 8.0)]


def test_pac_largest_A_of_what_is_undecided_or_impossible_is_not_searched() -> None:
    # ‖p‖ is B up to rounding: whether any A holds is not known, and the search would begin at -∞.
    data = UserDataset([[1.0, 0.3], [0.2, 1.0]], [1.0, -1.0])
    theta = [0.3, -0.7]
    p = Model.of(PacEvent.checked(data, theta, Logistic(), 0.0, 0.0, 1.0, 0.0)).p
    found = largest_A(data, theta, loss=Logistic(), nu=0.0, B=float(np.linalg.norm(p)), alpha=0.0)
    assert found.low == -math.inf
    assert 0.0 < found.high < math.inf
    impossible = largest_A(data, theta, loss=Logistic(), nu=0.0, B=0.0, alpha=0.0)
    assert impossible == Bounds(-math.inf, -math.inf)
    assert largest_A(UserDataset.empty(1), [0.0], loss=Logistic(), nu=0.0, B=1.0, alpha=0.5) == Bounds(
        math.inf, math.inf
    )


def test_pac_verdicts_are_confirmed_by_what_they_rest_on() -> None:
    # One point Q = 1, A = 0 at θ† = 0: the event holds exactly for A <= 1.
    data = UserDataset([[1.0]], [0.0])
    options: dict[str, Any] = {"loss": LeastSquares(), "nu": 0.0, "B": 0.0, "alpha": 0.5}
    for A, holds in [(1.0, True), (math.nextafter(1.0, 2.0), False), (0.0, True)]:
        verdict = gradient_pac(data, [0.0], A=A, **options)
        assert verdict.holds is holds
        assert verdict.verify() is True
    model = ExactModel.of(PacEvent.checked(data, [0.0], LeastSquares(), 0.0, 1.0, 0.0, 0.5))
    # At equality nothing is violated, whatever the offset; M(1, 1) is semidefinite, and with another μ it is not.
    assert not any(model.is_violated_at(np.array([z])) for z in (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0))
    # With A = 1.1 it fails at t = 1, where 1 < 1.1, and not at t = 1.2, where 1.44 > 1.1·1.2.
    steeper = ExactModel.of(PacEvent.checked(data, [0.0], LeastSquares(), 0.0, 1.1, 0.0, 0.5))
    assert steeper.is_violated_at(np.array([1.0]))
    assert not steeper.is_violated_at(np.array([1.2]))
    assert model.proves(Fraction(1))
    assert not model.proves(Fraction(1) + Fraction(1, 10**30))
    assert not model.proves(Fraction(1) - Fraction(1, 10**30))
    assert model.lifted(Fraction(1, 3)).tolist() == [[Fraction(2, 3), 0], [0, Fraction(-2, 3)]]


def test_pac_exact_model_is_the_definition() -> None:
    event = PacEvent.checked(
        UserDataset([[1.0, 2.0], [0.5, 0.0]], [1.0, 2.0]), [1.0, -1.0], LeastSquares(), 0.25, 0.5, 2.0, 0.0
    )
    model = ExactModel.of(event)
    assert model.H.tolist() == [[Fraction(7, 4), 2], [2, Fraction(9, 2)]]
    # Residuals -2 and -3/2: p = -2(1, 2) - 3/2(1/2, 0) + (1/2)(1, -1).
    assert model.p.tolist() == [Fraction(-9, 4), Fraction(-9, 2)]
    assert (model.slope, model.radius.low, model.radius.high) == tuple(map(Fraction, (1, 2, 2)))
    assert (model.threshold.low, model.threshold.high) == tuple(map(Fraction, (-1, -1)))
    assert (model.squared_radius.low, model.squared_radius.high) == tuple(map(Fraction, (4, 4)))
    assert model.has_large_gradient()
    assert not model.has_small_gradient()
    expected = [
        [Fraction(7, 4) - 3, 2, Fraction(-9, 8)],
        [2, Fraction(9, 2) - 3, Fraction(-9, 4)],
        [Fraction(-9, 8), Fraction(-9, 4), 4],
    ]
    assert model.lifted(Fraction(3)).tolist() == expected
    offset = model.gradient_offset()
    assert offset is not None
    # Along -p, and the first power of 1/16 at which the inequality fails.
    assert offset.tolist() == [1 / 32, 1 / 16]
    for t in (1 / 16, 1.0, 3.0):
        z = t * np.array([0.5, 1.0])
        left = float(z @ np.array(model.H, dtype=float) @ z + np.array(model.p, dtype=float) @ z)
        length = float(np.linalg.norm(z))
        slack = left - 1.0 * min(length, length**2) + 2.0 * length
        assert model.is_violated_at(z) is (slack < 0)


def test_pac_gradient_of_huge_data_is_refuted_along_itself() -> None:
    data = UserDataset([[1e170, 0.0]], [1e170])
    model = ExactModel.of(PacEvent.checked(data, [0.0, 0.0], LeastSquares(), 0.0, 1.0, 1.0, 0.5))
    offset = model.gradient_offset()
    assert offset is not None
    assert offset.tolist()[0] > 0.0
    assert model.is_violated_at(offset)


def test_pac_radius_and_threshold_are_those_of_the_definition() -> None:
    def event(n: int, A: float, B: float, alpha: float) -> PacEvent:
        return PacEvent.checked(UserDataset(np.ones((n, 1)), np.zeros(n)), [0.0], LeastSquares(), 0.0, A, B, alpha)

    found = event(16, 0.5, 3.0, 0.75)
    assert (found.radius().low, found.radius().high) == tuple(map(Fraction, (24, 24)))
    assert (found.squared_radius().low, found.squared_radius().high) == tuple(map(Fraction, (576, 576)))
    assert (found.threshold().low, found.threshold().high) == tuple(map(Fraction, (-16, -16)))
    assert found.slope == 8.0
    # b = 2·√2 is irrational, b² is not; Aℐ - b is enclosed from both sides.
    found = event(2, 4.0, 2.0, 0.5)
    assert found.radius().low ** 2 < 8 < found.radius().high ** 2
    assert found.squared_radius().low == found.squared_radius().high == 8
    assert found.threshold().low == 8 - found.radius().high
    assert found.threshold().high == 8 - found.radius().low
    for alpha in (-1.0, 0.5):
        without = event(3, 1.0, 0.0, alpha)
        assert without.radius().low == without.radius().high == without.squared_radius().high == 0
        assert without.squared_radius().low == 0
        assert without.threshold().low == without.threshold().high == 3
    assert event(0, 1.0, 0.0, -1.0).radius().high == event(0, 1.0, 0.0, -1.0).squared_radius().high == 0
    with pytest.raises(AssumptionError, match="no data"):
        event(0, 1.0, 1.0, -1.0)
    assert event(0, 1.0, 1.0, 0.0).radius().high == 1
    with pytest.raises(AssumptionError, match="alpha = 1"):
        event(1, 1.0, 1.0, 1.0)


def test_pac_symmetric_data_whose_cells_have_equal_bounds_are_decided() -> None:
    h = math.sqrt(0.75)
    Q = 3.0 * np.array([[1.0, 0.0], [-1.0, 0.0], [0.5, h], [-0.5, h], [0.5, -h], [-0.5, -h]])
    data = UserDataset(Q, np.ones(6))
    options: dict[str, Any] = {"loss": Logistic(), "nu": 0.0, "B": 0.1, "alpha": 0.0}
    bounds = largest_A(data, [0.0, 0.0], **options, gap=1e-3)
    verdict = gradient_pac(data, [0.0, 0.0], A=0.99 * bounds.low, **options)
    assert verdict.holds is True
    assert verdict.certificate.kind == "branch and bound"


def test_pac_largest_A_stops_at_the_relative_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    event = event_of()

    def search(found: Bounds, gap: float) -> Bounds:
        def undecided(data: Any, theta: Any, *, A: float, **rest: Any) -> pac.PacVerdict:
            asked.append(A)
            certificate = PacCertificate("", bounds(0.0), bounds(0.0), bounds(0.0), bounds(0.0))
            return pac.PacVerdict(None, None, None, found.low, found, "", certificate, event)

        asked.clear()
        monkeypatch.setattr(pac, "gradient_pac", undecided)
        return largest_A(UserDataset.empty(1), [0.0], loss=Logistic(), nu=0.0, B=1.0, alpha=0.5, gap=gap)

    # A width of 0.015 is below 1 % of 2.015, and above 1 % of 1.015.
    assert search(Bounds(2.0, 2.015), 0.01) == Bounds(2.0, 2.015)
    assert asked == [0.0]
    assert search(Bounds(0.2, 0.215), 0.01) == Bounds(0.2, 0.215)
    assert len(asked) > 2
    assert search(Bounds(1.0, 3.0), 0.01) == Bounds(1.0, 3.0)
    assert asked == approx([0.0, 0.995 * 3.0, *(1.0 + 2.0 * 0.995 / 2**k for k in range(1, 7))], rel=1e-14)


def test_pac_offsets_are_such_that_the_model_keeps_them() -> None:
    for seed in range(6):
        event = event_of(loss=LeastSquares(), seed=seed, B=0.05, A=0.3)
        H, p, _, _ = float_model(event)
        z = pac._least_squares_offset(event, H, p, pac.minimize_on_sphere(H, p).point, bounds_of(event.radius()).high)
        assert np.array_equal((event.theta + z) - event.theta, z)


def test_pac_the_best_centre_is_that_of_the_least_ratio() -> None:
    rng = np.random.default_rng(0)
    for seed in range(4):
        model = Model.of(event_of(seed=seed, A=0.6 * seed, nu=0.3 * (seed % 2)))
        bounder = _CellBounds(model)
        for _ in range(8):
            centres, halves = rng.uniform(-0.9, 0.9, (4, 3)), np.full((4, 3), 0.05)
            # The largest Aℐ that z allows, up to a constant.
            ratios = [cell_by_hand(model, centre, half)[1] for centre, half in zip(centres, halves, strict=True)]
            assert np.array_equal(bounder(centres, halves)[1], centres[int(np.argmin(ratios))])


def test_pac_bounds_of_the_sphere_carry_the_errors_of_the_model(rounding: float) -> None:
    event = event_of(loss=LeastSquares(), A=0.01, B=5.0)
    H, p, error_H, error_p = float_model(event)
    minimum = pac.minimize_on_sphere(H, p)
    found = pac._decide_least_squares(event).certificate
    assert found.sphere_minimum.low == math.nextafter(minimum.low - (error_H + error_p), -math.inf)
    assert found.sphere_minimum.high == math.nextafter(minimum.high + (error_H + error_p), math.inf)
    assert found.gradient_norm == norm_bounds(p, error_p)
    assert found.radius == bounds_of(event.radius())
    assert found.threshold == bounds_of(event.threshold())
    assert found.multiplier == minimum.multiplier
    assert isinstance(found.multiplier, float)


def test_pac_lower_bound_of_the_minorant_carries_all_errors(rounding: float) -> None:
    event = event_of(A=1e-3, B=5.0)
    model = Model.of(event)
    W, error_W = model.minorant(1.0)
    minimum = pac_logistic.minimize_on_sphere(W + 2.0 * 0.3 * np.eye(3), model.p)
    verdict = pac_logistic.decide(event)
    assert verdict.certificate.kind == "convex minorant"
    low = minimum.low - error_W - model.error_p - rounding_of(8) * 2.0 * 0.3
    assert verdict.certificate.sphere_minimum.low == low
    assert verdict.certificate.sphere_minimum.high == pac_logistic._sphere_high(model, minimum.point)
    assert verdict.certificate.multiplier == minimum.multiplier
    assert verdict.certificate.gradient_norm == norm_bounds(model.p, model.error_p)


def test_pac_cells_by_default_are_what_the_work_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watch(event: Any, model: Any, max_cells: int, gap: float) -> None:
        seen.append(max_cells)

    monkeypatch.setattr(pac_logistic, "_decide", watch)
    for work in (4e9, 1e5):
        monkeypatch.setattr(pac_logistic, "DEFAULT_WORK", work)
        pac_logistic.decide(event_of())
    # 8·(9 + 30) multiplications for a cell; 100,000 cells at most.
    assert seen == [100_000, 320]
    pac_logistic.decide(event_of(), max_cells=7)
    assert seen[-1] == 7


def test_pac_data_whose_squares_overflow_are_not_decided() -> None:
    for Q, theta in (([[1e160]], [1e-160]), ([[1.0]], [0.0])):
        verdict = gradient_pac(UserDataset(Q, [1.0]), theta, loss=Logistic(), nu=0.0, A=0.01, B=2.0, alpha=0.5)
        assert (verdict.reason == "the data overflow") is (Q == [[1e160]])


def test_pac_offsets_below_the_resolution_of_the_model_are_kept_as_they_are() -> None:
    event = PacEvent.checked(UserDataset([[1.0]], [0.0]), [1e20], LeastSquares(), 0.0, 0.1, 1.0, 0.0)
    z = pac._least_squares_offset(event, np.array([[1.0]]), np.array([5.0]), np.array([-1.0]), 1.0)
    assert z.tolist() == [-1.0]


def test_pac_a_minorant_of_which_nothing_is_known_has_an_error_all_the_same() -> None:
    event = PacEvent.checked(UserDataset([[1e10, 1e10]], [1.0]), [1e10, -1e10], Logistic(), 0.0, 0.1, 1.0, 0.5)
    W, error = Model.of(event).minorant(1.0)
    assert not W.any()
    assert error == 1e-300


def test_pac_the_last_batch_of_cells_fits_the_budget() -> None:
    event = event_of(n=12, d=2, seed=4, nu=0.0)
    data = UserDataset(event.Q, event.labels)
    options: dict[str, Any] = {"loss": Logistic(), "nu": 0.0, "B": 1.0, "alpha": 0.75}
    A = 0.995 * largest_A(data, event.theta, **options, gap=1e-3).low
    for budget in (3, 5):
        # Each cell that is taken gives two at most.
        assert gradient_pac(data, event.theta, A=A, **options, max_cells=budget).certificate.cells <= budget + 1


@pytest.mark.parametrize("signs", [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])
def test_pac_branch_and_bound_finds_violations_in_every_quadrant(
    signs: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = event_of(n=12, d=2, seed=4, nu=0.0)
    flip = np.array(signs)
    data, theta = UserDataset(event.Q * flip, event.labels), event.theta * flip
    options: dict[str, Any] = {"loss": Logistic(), "nu": 0.0, "B": 1.0, "alpha": 0.75}
    A = 1.01 * largest_A(data, theta, **options, gap=1e-3).high
    honest = gradient_pac(data, theta, A=A, **options)
    assert honest.holds is False
    assert honest.offset is not None
    # Without a local search, and with a start on the other side, the cells have to find the violation.
    start = -np.array(honest.offset)
    first = pac_logistic.minimize_on_sphere(np.eye(2), np.ones(2)).point
    monkeypatch.setattr(pac_logistic, "_local_search", lambda model, z: start if z is first else z)
    monkeypatch.setattr(
        pac_logistic, "minimize_on_sphere", lambda H, p, real=pac_logistic.minimize_on_sphere: _at(real(H, p), first)
    )
    found = gradient_pac(data, theta, A=A, **options)
    assert found.holds is False
    assert found.certificate.kind == "branch and bound"
    assert found.offset is not None
    assert float(found.offset @ honest.offset) > 0.0
    assert found.verify() is True


def _at(minimum: Any, point: Array) -> Any:
    return type(minimum)(point, minimum.multiplier, minimum.low, minimum.high)


def test_pac_a_refutation_whose_offset_violates_nothing_is_not_confirmed() -> None:
    event = event_of(n=12, d=2, seed=4, nu=0.0)
    data = UserDataset(event.Q, event.labels)
    refuted = gradient_pac(data, event.theta, loss=Logistic(), nu=0.0, A=5.0, B=1.0, alpha=0.75)
    assert refuted.holds is False
    assert refuted.verify() is True
    tiny = 1e-3 * np.array(refuted.offset)
    assert 0.0 < pac_logistic.slack_bounds(refuted.event, tiny).high < 1.0
    assert replace(refuted, offset=tiny).verify() is None
    assert replace(refuted, offset=None).verify() is None


def test_pac_a_batch_has_one_cell_at_least() -> None:
    many = SimpleNamespace(p=np.zeros(1), Q=np.zeros((2_000_001, 1)), n_data=2_000_001)
    assert _CellBounds(many).batch == 1  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------- boundaries, sums, small valleys


def bare_model(
    Q: Any, m: Any, p: Any, *, radius: float = 0.0, nu: float = 0.0, slope: float = 0.0, error_p: float = 0.0
) -> Model:
    """A model with margins and a gradient of its own, known without error."""
    Q, m, p = (np.array(x, dtype=float) for x in (Q, m, p))
    return Model(Q, m, np.linalg.norm(Q, axis=1), np.zeros(len(Q)), p, error_p, nu, slope, bounds(radius))


@pytest.mark.parametrize(("Q", "theta"), [([[1.2e154], [1.2e154]], 1e-154), ([[1.2e154]], 6e153)])
def test_pac_data_of_which_only_a_sum_overflows_are_not_decided(Q: Any, theta: float) -> None:
    # Each square of a length is finite: the sum of two is not, nor is that of one and of the margin, 7e307.
    event = PacEvent.checked(UserDataset(Q, np.ones(len(Q))), [theta], Logistic(), 0.0, 0.01, 2.0, 0.5)
    model = Model.of(event)
    assert np.all(np.isfinite(model.lengths**2))
    assert np.all(np.isfinite(model.m))
    assert pac_logistic.decide(event, max_cells=5).reason == "the data overflow"


def test_pac_with_A_zero_a_small_gradient_is_enough() -> None:
    # p = 0 <= b = 0, exactly; W has a null space, so that its computed minimum is below 0 = Aℐ - b.
    data = UserDataset([[1.0, 0.3], [1.0, 0.3]], [1.0, -1.0])
    verdict = gradient_pac(data, [0.0, 0.0], loss=Logistic(), nu=0.0, A=0.0, B=0.0, alpha=0.5)
    assert verdict.certificate.sphere_minimum.low < 0.0
    assert (verdict.holds, verdict.certificate.kind) == (True, "convex minorant")


def test_pac_the_largest_A_of_the_minorant_is_proved_by_it() -> None:
    # With p = b = 0 the criterion is low >= Aℐ, and low does not depend on A: at equality it is met.
    data = UserDataset([[1.0], [1.0]], [1.0, -1.0])
    options: dict[str, Any] = {"loss": Logistic(), "nu": 0.0, "B": 0.0, "alpha": 0.5, "max_cells": 0}
    low = gradient_pac(data, [0.0], A=0.1, **options).certificate.sphere_minimum.low
    at = gradient_pac(data, [0.0], A=low / 2.0, **options)
    assert at.certificate.threshold.high == at.certificate.sphere_minimum.low == low
    assert at.holds is True
    assert gradient_pac(data, [0.0], A=math.nextafter(low / 2.0, 1.0), **options).holds is None


@pytest.mark.parametrize("where", ["local search", "branch and bound"])
def test_pac_an_inequality_that_may_be_an_equality_is_not_violated(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    event = event_of(n=12, d=2, seed=4, nu=0.0)
    data = UserDataset(event.Q, event.labels)
    options: dict[str, Any] = {"loss": Logistic(), "nu": 0.0, "B": 1.0, "alpha": 0.75}
    A = 1.01 * largest_A(data, event.theta, **options, gap=1e-3).high
    slacks = {"high": -1e-9}
    monkeypatch.setattr(pac_logistic, "_slack", lambda model, z: Bounds(-1.0, slacks["high"]))
    if where == "branch and bound":
        # The search sees the second point only, so that the first is what the cells improve upon.
        honest = gradient_pac(data, event.theta, A=A, **options).offset
        calls: list[Array] = []

        def search(model: Model, start: Array) -> Array:
            calls.append(start)
            slacks["high"] = 1.0 if len(calls) == 1 else high
            return -np.array(honest) if len(calls) == 1 else start

        monkeypatch.setattr(pac_logistic, "_local_search", search)
    for high, holds in [(-1e-9, False), (0.0, None)]:
        if where == "branch and bound":
            calls.clear()
        slacks["high"] = high
        assert gradient_pac(data, event.theta, A=A, **options, max_cells=40).holds is holds
        assert where == "local search" or len(calls) > 1


@pytest.mark.parametrize(("slopes", "margins"), [([16.0], [10.0]), ([38.0, 40.0], [34.0, 16.0])])
def test_pac_the_search_tries_four_radii(slopes: list[float], margins: list[float]) -> None:
    # ‖p‖ = b leaves offsets z = -t, for which the ratio is Σ q·(σ(m) - σ(m - qt))/t.
    model = bare_model(np.array(slopes)[:, None], margins, [100.0], radius=100.0)

    def ratio(t: float) -> float:
        return math.fsum(q * (sigma(m) - sigma(m - q * t)) / t for q, m in zip(slopes, margins, strict=True))

    radii = (1.0, 0.6, 0.3, 0.1)
    least = [ratio(t) for t in radii]
    # Each radius is better than the one before, and a little less than 1 (or than 0.6) is worse.
    assert least == sorted(least, reverse=True)
    k = len(slopes) - 1
    assert all(ratio(factor * radii[k]) > least[k] for factor in (0.97, 0.9, 0.8))
    z = pac_logistic._local_search(model, np.array([-1.0]))
    assert pac_logistic._ratio(model, z) <= least[-1] * (1.0 + 1e-9)


def test_pac_the_search_does_not_shrink_an_offset_for_nothing() -> None:
    # The ratio is 2ν everywhere: no shorter offset is better, and the violation of a long one is seen best.
    model = bare_model([[0.0]], [0.0], [0.0], nu=0.25)
    assert [pac_logistic._ratio(model, np.array([t])) for t in (1.0, 0.97, 0.5, 1e-3)] == [0.5] * 4
    assert np.abs(pac_logistic._local_search(model, np.array([1.0]))).tolist() == [1.0]


def test_pac_a_step_that_gains_nothing_leaves_the_point(monkeypatch: pytest.MonkeyPatch) -> None:
    # The step to the opposite point raises the value, and so do those part of the way: none is made.
    model = bare_model([[1.0, 0.0], [0.0, 1.0]], [0.3, -0.2], [1.0, 0.0])
    z = np.array([-0.5, 0.0])
    opposite = pac_logistic.minimize_on_sphere(np.eye(2), np.array([-1.0, 0.0]))
    monkeypatch.setattr(pac_logistic, "minimize_on_sphere", lambda H, g: _at(opposite, np.array([1.0, 0.0])))
    assert model.value(-z) > model.value(z)
    assert np.array_equal(pac_logistic._descend(model, z), z)
    monkeypatch.setattr(pac_logistic, "minimize_on_sphere", lambda H, g: _at(opposite, np.array([0.0, 1.0])))
    assert np.array_equal(pac_logistic._descend(model, z), z)


@pytest.mark.parametrize(("angle", "steps"), [(1e-6, 3), (1e-7, 2)])
def test_pac_descent_ends_where_a_step_gains_rounding_only(
    angle: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The value -10^6·cos(angle) exceeds the least one by 10^6·angle²/2, here 5·10^-13 or 5·10^-15 of its size.
    model = bare_model([[0.0, 0.0]], [0.0], [-1e6, 0.0])
    angles = [2.0 * angle, angle, 0.0]
    made: list[float] = []

    def step(H: Array, g: Array) -> Any:
        made.append(angles[len(made)])
        return SimpleNamespace(point=np.array([math.cos(made[-1]), math.sin(made[-1])]))

    monkeypatch.setattr(pac_logistic, "minimize_on_sphere", step)
    z = pac_logistic._descend(model, np.array([0.0, 1.0]), max_steps=3)
    assert (len(made), float(z[1])) == (steps, math.sin(angles[steps - 1]))


def test_pac_the_least_radius_that_is_proved_is_two_to_the_minus_15() -> None:
    # Without data F(z) = pᵀz + b‖z‖ - slope·‖z‖² >= 0 for ‖z‖ <= (b - ‖p‖)/slope.
    for gap, proved in [(1.5 * 2.0**-15, 2.0**-15), (0.5 * 2.0**-15, 0.0), (1.5 * 2.0**-14, 2.0**-14)]:
        model = bare_model([[0.0, 0.0]], [0.0], [0.6, -0.8], radius=1.0 + gap, slope=1.0)
        assert pac_logistic._proved_radius(model) == proved


def test_pac_the_proved_radius_allows_for_the_rounding_of_the_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pac_logistic, "gamma", lambda n: COARSE * n)
    nu, slope, tau = 3.0, 20.0, 0.5
    # pᵀu + 2ντ - 8·unit·ν >= τ·slope·(1 + 4·unit) - b at the least pᵀu = -1: this b is just enough, or just not.
    needed = tau * slope * (1.0 + 4.0 * COARSE) - (2.0 * nu * tau - 1.0) + 8.0 * COARSE * nu
    for b, proved in [(needed + 0.2 * COARSE, tau), (needed - 0.2 * COARSE, tau / 2.0)]:
        model = bare_model([[0.0, 0.0]], [0.0], [0.6, -0.8], radius=b, slope=slope, nu=nu)
        assert pac_logistic._proved_radius(model) == proved


@pytest.mark.parametrize("helps", [True, False])
def test_pac_the_better_of_a_cell_s_centre_and_what_search_makes_of_it_is_kept(
    helps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = event_of(n=12, d=2, seed=4, nu=0.0)
    data = UserDataset(event.Q, event.labels)
    options: dict[str, Any] = {"loss": Logistic(), "nu": 0.0, "B": 1.0, "alpha": 0.75}
    truth = largest_A(data, event.theta, **options, gap=1e-4)
    model = Model.of(PacEvent.checked(data, event.theta, Logistic(), 0.0, 0.1, 1.0, 0.75))
    real = pac_logistic._local_search
    starts: list[Array] = []

    def search(model: Model, start: Array) -> Array:
        starts.append(start)
        found = real(model, start)
        if len(starts) == 1 or not helps:
            # The first search fails, and others if they are not to help.
            return -found
        return found

    monkeypatch.setattr(pac_logistic, "_local_search", search)
    verdict = gradient_pac(data, event.theta, A=0.99 * truth.low, **options, max_cells=200)
    assert len(starts) > 1
    sought = [real(model, start) for start in starts[1:]] if helps else starts[1:]
    best = min(pac_logistic._sphere_high(model, z) for z in sought)
    assert verdict.certificate.sphere_minimum.high <= best + 1e-9


def test_pac_rounding_of_second_derivatives_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # Cells so small that δ'' hardly varies in them: K is δ'' less 10^-14·(2 + |x|).
    seen: list[Array] = []

    def watch(K: Array, g: Array, R: Array) -> Array:
        seen.append(K)
        return np.zeros(len(K))

    monkeypatch.setattr(pac_logistic, "_ball_minimum", watch)
    # δ''(m, x) = 2σ'(m + x) + xσ''(m + x): 1/2 at m = x = 0; with x = 10^10 nothing but the rounding is left.
    for q, c, exact, x in [(1.0, 0.0, 0.5, 0.0), (1e10, 1.0, 0.0, 1e10)]:
        model = bare_model([[q]], [0.0], [0.0])
        _CellBounds(model)(np.array([[c]]), np.array([[1e-40]]))
        lost = Fraction(exact) - Fraction(float(seen[-1][0, 0, 0])) / Fraction(q) ** 2
        assert float(lost) == approx(1e-14 * (2.0 + x), rel=0.02)


def test_pac_minima_in_a_ball_are_bounded_sharply_where_the_matrix_is_singular() -> None:
    def bound(K: Any, g: Any, R: float) -> float:
        with np.errstate(over="ignore"):
            return float(_ball_minimum(np.array([K], dtype=float), np.array([g], dtype=float), np.array([R]))[0])

    # -y_1²/2 + y_2 over ‖y‖ <= R, with y_2 = -r: -(R² - r²)/2 - r is least at r = 1, if R >= 1.
    least = -(2.0**2 - 1.0) / 2.0 - 1.0
    assert least * (1.0 + 1e-9) <= bound([[-1.0, 0.0], [0.0, 0.0]], [0.0, 1.0], 2.0) <= least * (1.0 - 1e-12)
    # Linear: -R‖g‖.
    assert bound([[0.0, 0.0], [0.0, 0.0]], [3.0, 4.0], 2.0) == approx(-10.0, rel=1e-6)
    # The hard case, g = 0: -R²/2, and the multiplier exceeds what is needed by one part in 10^12.
    found = bound([[-1.0, 0.0], [0.0, 0.5]], [0.0, 0.0], 2.0)
    assert -2.0 * (1.0 + 1.1e-12) <= found <= -2.0


# ------------------------------------------------------------------------------- least squares: what is decided where


def test_pac_the_quadratic_model_sums_blocks_of_1024_rows() -> None:
    # 2048 rows of the docstring's sum: 1024 additions in each block, 2 blocks, and 8 for the products.
    data = UserDataset(np.ones((2048, 1)), np.zeros(2048))
    _, _, error_H, _ = float_model(PacEvent.checked(data, [0.0], LeastSquares(), 0.0, 0.1, 1.0, 0.5))
    assert error_H == approx(1.01 * (1024 + 2 + 8) * U * 2048.0, rel=1e-9)


@pytest.mark.parametrize("gap", [0.2, 0.72])
def test_pac_largest_A_between_bounds_at_round_fractions(gap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    high = 3.0 if gap == 0.2 else 4.0

    def undecided(data: Any, theta: Any, *, A: float, **rest: Any) -> Any:
        asked.append(A)
        return SimpleNamespace(holds=None, best_A_bounds=Bounds(1.0, high))

    monkeypatch.setattr(pac, "gradient_pac", undecided)
    largest_A(UserDataset.empty(1), [0.0], loss=Logistic(), nu=0.0, B=1.0, alpha=0.5, gap=gap)
    if gap == 0.2:
        # From nine tenths on it is a fraction of the upper bound, below of what is between the bounds.
        assert asked[1] == 0.9 * 3.0
    else:
        # 0.64 is halved while it exceeds 1/100: 0.01 itself is not asked.
        assert asked == approx([0.0, *(1.0 + 3.0 * 0.64 / 2**k for k in range(6))], rel=1e-14)


def test_pac_largest_A_goes_on_at_the_upper_end_while_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    # Undecided every time, but the upper bound falls by half a gap: the next A is as close to the new one.
    asked: list[float] = []
    high = 8.0

    def undecided(data: Any, theta: Any, *, A: float, **rest: Any) -> Any:
        nonlocal high
        asked.append(A)
        if len(asked) in (2, 3):
            high *= 1.0 - 0.5 * 0.01
        return SimpleNamespace(holds=None, best_A_bounds=Bounds(1.0, high))

    monkeypatch.setattr(pac, "gradient_pac", undecided)
    largest_A(UserDataset.empty(1), [0.0], loss=Logistic(), nu=0.0, B=1.0, alpha=0.5, gap=0.01)
    assert asked[1:4] == approx([0.995 * 8.0 * 0.995**k for k in range(3)], rel=1e-14)


@pytest.mark.parametrize(("width", "is_searched"), [(0.9e-6, False), (1.5e-6, True)])
def test_pac_a_default_gap_is_a_millionth(width: float, is_searched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def undecided(data: Any, theta: Any, *, A: float, **rest: Any) -> Any:
        asked.append(A)
        return SimpleNamespace(holds=None, best_A_bounds=Bounds(1.0, 1.0 + width))

    monkeypatch.setattr(pac, "gradient_pac", undecided)
    largest_A(UserDataset.empty(1), [0.0], loss=Logistic(), nu=0.0, B=1.0, alpha=0.5)
    assert (len(asked) > 1) is is_searched


def test_pac_largest_A_at_its_boundaries(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    highs: list[float] = []

    def undecided(data: Any, theta: Any, *, A: float, **rest: Any) -> Any:
        asked.append(A)
        return SimpleNamespace(holds=None, best_A_bounds=Bounds(1.0, highs[min(len(asked), len(highs)) - 1]))

    monkeypatch.setattr(pac, "gradient_pac", undecided)
    at: dict[str, Any] = {"loss": Logistic(), "nu": 0.0, "B": 1.0, "alpha": 0.5, "gap": 0.5}
    # Half as wide as it is high: narrow enough for a gap of one half.
    highs[:] = [2.0]
    largest_A(UserDataset.empty(1), [0.0], **at)
    assert asked == [0.0]
    # An upper bound that falls by a quarter of the gap, to 7, does not help: the next A is half as far up.
    asked.clear()
    highs[:] = [8.0, 7.0]
    largest_A(UserDataset.empty(1), [0.0], **at)
    assert asked[:3] == [0.0, 1.0 + 0.75 * 7.0, 1.0 + 0.375 * 6.0]


def test_pac_with_A_zero_the_sphere_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    # H = diag(1e16, 0) and p = 0: V = 0, known within about 10, and b = 1/2.
    monkeypatch.setattr(pac, "EXACT_PRODUCTS", 0)
    data = UserDataset([[1e8, 0.0]], [0.0])
    at: dict[str, Any] = {"loss": LeastSquares(), "nu": 0.0, "B": 0.5, "alpha": 0.0}
    free = gradient_pac(data, [0.0, 0.0], A=0.0, **at)
    assert free.certificate.sphere_minimum.low < -0.5
    assert (free.holds, free.certificate.kind) == (True, "trust region")
    # With A = 1 it asks for V >= 1/2, which is false and here not known.
    assert gradient_pac(data, [0.0, 0.0], A=1.0, **at).holds is None
    monkeypatch.undo()
    assert gradient_pac(data, [0.0, 0.0], A=1.0, **at).holds is False


def test_pac_refutations_say_which_condition_fails_and_bound_the_largest_A() -> None:
    data = UserDataset([[1.0, 0.5], [0.2, 1.0], [0.3, -0.4]], [0.1, -0.2, 0.3])
    at: dict[str, Any] = {"loss": LeastSquares(), "nu": 0.0, "alpha": 0.0}
    assert gradient_pac(data, [0.0, 0.0], A=9.0, B=5.0, **at).reason == pac._TOO_FLAT
    assert gradient_pac(data, [0.0, 0.0], A=0.1, B=0.01, **at).reason == pac._TOO_STEEP
    # H = I, p = (3, 4), b = 5: A = 1/2 by the last bit, and ‖p‖ <= b exactly, so that some A holds.
    equal = UserDataset(np.eye(2), [-3.0, -4.0])
    found = gradient_pac(equal, [0.0, 0.0], A=math.nextafter(0.5, 1.0), B=5.0, **at)
    assert (found.holds, found.certificate.kind, found.reason) == (False, "exact", pac._TOO_FLAT)
    assert found.best_A_bounds.low == approx(0.5, rel=1e-13)


@pytest.mark.parametrize("query", [1e50, 1e100])
def test_pac_what_overflows_in_the_gradient_alone_is_decided(query: float) -> None:
    # p = -1e300 queries, and H = query²: its norm, the root of its square, is finite only for the smaller one.
    data = UserDataset([[query]], [1e300])
    found = gradient_pac(data, [0.0], loss=LeastSquares(), nu=0.0, A=0.1, B=1.0, alpha=0.0)
    assert (found.holds, found.reason) == (False, pac._TOO_STEEP)
    assert found.verify() is True


def test_pac_the_multiplier_of_data_that_overflow_is_that_of_the_data() -> None:
    # Q = 2^600·I and ν = 1, θ† = (1, 2)/2^600: H = (2^1200 + 2)I, p ≈ (2^600, 2^601), b = 5·2^600 and Aℐ - b = 10^300.
    size = 2.0**600
    data = UserDataset([[size, 0.0], [0.0, size]], [0.0, 0.0])
    at: dict[str, Any] = {"loss": LeastSquares(), "nu": 1.0, "B": 5.0 * size, "alpha": 0.0}
    for A, B, holds in [(1e300, 5.0, True), (1e300, 1.0, False)]:
        found = gradient_pac(data, [1.0 / size, 2.0 / size], A=A, **{**at, "B": B * size})
        assert found.holds is holds
        assert found.verify() is True
        assert abs(Fraction(found.certificate.multiplier) / 2**1200 - 1) < 1e-3


def test_pac_data_that_overflow_are_not_called_an_equality() -> None:
    # H = diag(1e400 + 2, 2) and p = (0, 2): V is 0 within 1e-400, so that with b = 5 the event holds for A up to 5.
    data = UserDataset([[1e200, 0.0]], [0.0])
    for A, holds in [(3.0, True), (4.9, None), (5.1, False)]:
        found = gradient_pac(data, [0.0, 1.0], loss=LeastSquares(), nu=1.0, A=A, B=5.0, alpha=0.0)
        assert found.holds is holds
        assert found.best_A_bounds.low <= 5.0 <= found.best_A_bounds.high
        assert (found.reason == "squares of the data that overflow, with a multiplier that was not identified") is (
            holds is None
        )


def test_pac_an_offset_that_rounding_hides_is_the_worst_of_its_candidates() -> None:
    # θ† is so large that θ† + z = θ† for every candidate: the first violates nothing, the second is along -p.
    event = PacEvent.checked(UserDataset(np.eye(2), [0.0, 0.0]), [1e20, 1e20], LeastSquares(), 0.0, 0.0, 1.0, 0.0)
    H, p, u = np.eye(2), np.array([3.0, 0.0]), np.array([0.0, 1.0])
    # Along -p the violation is 3t - t - t², largest at t = 1.
    assert pac._least_squares_offset(event, H, p, u, 1.0).tolist() == [-1.0, 0.0]


def test_pac_a_refutation_that_may_be_an_equality_is_not_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    event = event_of(B=0.01)
    verdict = gradient_pac(
        UserDataset(event.Q, event.labels), event.theta, loss=Logistic(), nu=0.3, A=0.11, B=0.01, alpha=0.75
    )
    assert (verdict.holds, verdict.verify()) == (False, True)
    monkeypatch.setattr(pac_logistic, "slack_bounds", lambda event, z: Bounds(-1.0, 0.0))
    assert verdict.verify() is None


def test_pac_a_multiplier_that_is_an_eigenvalue_and_no_float_is_found() -> None:
    # The hard case H = diag(h, 4), p = (0, 2): μ = h, and V = h - p₂²/(4(4 - h)), with an h of 100 binary digits.
    h = Fraction(1, 3) + Fraction(1, 2**100 + 1)
    H, p = np.array([[h, Fraction(0)], [Fraction(0), Fraction(4)]]), np.array([Fraction(0), Fraction(2)])
    V, b = h - 1 / (4 - h), Enclosure(Fraction(3), Fraction(3))
    model = ExactModel(H, p, V + 3, b, b.scaled(Fraction(3)), Enclosure(V, V))
    assert model.find_proof(Fraction(float(h))) == h


def test_pac_an_equality_with_an_irrational_multiplier_is_left_open() -> None:
    # H has the blocks ((1, 1), (1, 2)) and 3, and p = (0, 0, 2): the hard case with μ = (3 - √5)/2, so that μ² = 3μ - 1
    # and V = μ - 1/(3 - μ) = 0.  With ℐ = 5 and b = 5 the event holds for A <= 1.
    data = UserDataset(
        [[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]],
        [0.0, 0.0, -2.0, 0.0, 0.0],
    )
    at: dict[str, Any] = {"loss": LeastSquares(), "nu": 0.0, "B": 5.0, "alpha": 0.0}
    found = gradient_pac(data, np.zeros(3), A=1.0, **at)
    assert found.holds is None
    assert found.reason == "equality up to the last bit, with a multiplier that was not identified"
    assert found.best_A_bounds.low == approx(1.0, rel=1e-12)
    for A, holds in [(math.nextafter(1.0, 0.0), True), (math.nextafter(1.0, 2.0), False)]:
        decided = gradient_pac(data, np.zeros(3), A=A, **at)
        assert (decided.holds, decided.verify()) == (holds, True)


def test_pac_no_multiplier_proves_what_the_gradient_refutes() -> None:
    # A = 0, H = 1 and p = -2: with b = 1 the gradient is too large, although M(0, -1) is semidefinite; with b = 2 it is
    # not, and that is all that A = 0 asks for, although M(100, -2) is indefinite.
    for B, proved in [(1.0, False), (2.0, True)]:
        event = PacEvent.checked(UserDataset([[1.0]], [2.0]), [0.0], LeastSquares(), 0.0, 0.0, B, 0.0)
        model = ExactModel.of(event)
        assert model.proves(Fraction(0)) is model.proves(Fraction(100)) is proved
        assert (model.find_proof(Fraction(0)) is not None) is proved


def test_pac_what_floating_point_decides_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(event: Any) -> Any:
        raise RuntimeError("exact arithmetic was not needed")

    monkeypatch.setattr(ExactModel, "of", forbidden)
    data = UserDataset([[1.0, 0.5], [0.2, 1.0], [0.3, -0.4]], [0.1, -0.2, 0.3])
    for A, B, holds in [(0.1, 5.0, True), (9.0, 5.0, False), (0.1, 0.01, False)]:
        found = gradient_pac(data, [0.0, 0.0], loss=LeastSquares(), nu=0.0, A=A, B=B, alpha=0.0)
        assert found.holds is holds


def test_pac_no_A_is_left_by_a_gradient_that_is_too_large_by_less_than_rounding() -> None:
    # ‖p‖ = 1 + 2^-60 against B = 1.
    data = UserDataset([[1.0], [2.0**-60]], [1.0, 1.0])
    found = gradient_pac(data, [0.0], loss=LeastSquares(), nu=0.0, A=0.0, B=1.0, alpha=0.0)
    assert (found.holds, found.certificate.kind) == (False, "exact")
    assert found.best_A_bounds == Bounds(-math.inf, -math.inf)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("j", [0, 1])
def test_pac_violations_of_the_last_bit_are_sought_along_both_signs_of_the_axes(sign: float, j: int) -> None:
    # H = I, p = ±e_j and b = 1: uᵀHu + pᵀu is least at u = -p, where it is 0 < 2A - 1 by the last bit.
    answers = np.zeros(2)
    answers[j] = -sign
    A = math.nextafter(0.5, 1.0)
    event = PacEvent.checked(UserDataset(np.eye(2), answers), [0.0, 0.0], LeastSquares(), 0.0, A, 1.0, 0.0)
    certificate = PacCertificate("trust region", bounds(1.0), bounds(1.0), bounds(0.0), bounds(2 * A - 1.0))
    found = pac._decide_exactly(event, certificate, np.array([0.6, 0.8]), Fraction(2, 5))
    assert found.holds is False
    assert found.offset is not None
    assert found.offset.tolist() == (-sign * np.eye(2)[j]).tolist()


def test_pac_in_one_dimension_the_multiplier_does_not_depend_on_floating_point() -> None:
    # H = 3 and p = 1: uᵀHu + pᵀu is least at u = -1, where it is 2 = Aℐ - b, and only μ = 3 - 1/2 proves that.
    event = PacEvent.checked(UserDataset(np.ones((3, 1)), [-1.0, 0.0, 0.0]), [0.0], LeastSquares(), 0.0, 1.0, 1.0, 0.0)
    model = ExactModel.of(event)
    assert (model.H[0, 0], model.p[0], model.threshold.high) == (3, 1, 2)
    assert model.find_proof(Fraction(0.123)) == Fraction(5, 2)
