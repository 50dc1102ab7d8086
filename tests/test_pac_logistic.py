"""Gradient-PAC* of logistic regression: bounds, branch and bound and witnesses against brute force on a grid."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from theory import AssumptionError, Logistic, UserDataset, gradient_pac, largest_A, pac_logistic, pac_slack
from theory.arrays import Array
from theory.pac import Bounds, PacCertificate, PacEvent, PacVerdict
from theory.pac_logistic import Model, secant, slack_bounds

LOGISTIC: dict[str, Any] = {"loss": Logistic()}
RADII = np.concatenate([[1e-6, 1e-3], np.linspace(0.02, 1.0, 50), [1.5, 3.0, 10.0]])


def instance(rng: np.random.Generator) -> tuple[UserDataset, Array, dict[str, float]]:
    d, n = int(rng.integers(1, 4)), int(rng.integers(1, 30))
    Q = rng.standard_normal((n, d)) * 10 ** rng.uniform(-0.5, 0.8)
    theta = rng.standard_normal(d) * rng.choice([0.0, 0.5, 2.0])
    a = np.where(rng.random(n) < expit(Q @ theta), 1.0, -1.0)
    nu, alpha = float(rng.choice([0.0, 0.1])), float(rng.choice([0.5, 0.75]))
    p = 2.0 * nu * theta - Q.T @ (a * expit(-a * (Q @ theta)))
    B = float(np.linalg.norm(p)) / n**alpha * float(rng.choice([0.9, 1.01, 1.5, 3.0]))
    return UserDataset(Q, a), theta, {"nu": nu, "B": B, "alpha": alpha}


def grid(data: UserDataset, theta: Array, nu: float, B: float, alpha: float) -> tuple[Array, Array]:
    """Return t and (z·∇L(θ† + z) + b t)/t on a grid, from the gradient of the loss alone."""
    u = np.random.default_rng(1).standard_normal((2000, data.dim))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    z = (RADII[:, None, None] * u).reshape(-1, data.dim)
    t = np.linalg.norm(z, axis=1)
    slope = -data.A * expit(-data.A * ((theta + z) @ data.Q.T))
    left = np.sum((slope @ data.Q) * z, axis=1) + 2.0 * nu * np.sum((theta + z) * z, axis=1)
    return t, left / t + B * data.n_data**alpha


# The grid's sums of 30 terms of size 100 are rounded to less than this.
ROUNDING = 1e-9


def disagreements(n_instances: int = 60, **options: Any) -> tuple[list[str], dict[Any, int]]:
    rng = np.random.default_rng(7)
    found, counts = [], {True: 0, False: 0, None: 0}
    for k in range(n_instances):
        data, theta, numbers = instance(rng)
        t, left = grid(data, theta, **numbers)
        ratio = float(np.min(left / np.minimum(1.0, t))) / data.n_data
        # Close to the largest A from both sides, where a wrong bound shows.
        A = max(0.0, ratio * float(rng.choice([0.3, 0.9, 0.99, 0.999, 1.0001, 1.01, 1.5])))
        verdict = gradient_pac(data, theta, **LOGISTIC, A=A, **numbers, **options)
        counts[verdict.holds] += 1
        slack = float(np.min(left - A * data.n_data * np.minimum(1.0, t)))
        if verdict.holds is True and slack < -ROUNDING:
            found.append(f"{k}: said to hold, but the slack on the grid is {slack}")
        if verdict.holds is False and verdict.witness is not None:
            at_witness = pac_slack(data, verdict.witness, theta, **LOGISTIC, A=A, **numbers)
            if not at_witness < 0:
                found.append(f"{k}: refuted by a witness with slack {at_witness}")
            if not verdict.verify():
                found.append(f"{k}: the witness is not confirmed")
        if verdict.best_A > ratio * (1 + 1e-9) + ROUNDING and verdict.holds is not False:
            found.append(f"{k}: best_A {verdict.best_A} above the ratio {ratio} on the grid")
    return found, counts


def test_pac_logistic_verdicts_agree_with_a_grid() -> None:
    found, counts = disagreements()
    assert found == []
    # All but ill-conditioned ones are decided, and both ways.
    assert counts[None] <= 1
    assert min(counts[True], counts[False]) >= 15


def test_pac_planted_midpoint_slope_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # σ'(m) in place of the least secant slope: what an expansion at θ† would use.
    monkeypatch.setattr(Model, "weights", lambda self, shrink: expit(self.m) * expit(-self.m))
    assert disagreements(30, max_cells=0)[0]


def test_pac_planted_slope_towards_zero_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # The secant towards the origin, not away from it.
    monkeypatch.setattr(Model, "weights", lambda self, shrink: secant(np.abs(self.m), -shrink * self.lengths))
    assert disagreements(30, max_cells=0)[0]


def test_pac_planted_cells_without_curvature_error_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # Cells whose bound takes the centre's curvature as if it held everywhere in them, and grow without limit.
    monkeypatch.setattr(pac_logistic, "_ball_minimum", lambda K, g, R: np.zeros(len(R)))
    assert disagreements(30)[0]


def test_pac_planted_missing_nu_is_caught() -> None:
    rng = np.random.default_rng(3)
    caught = 0
    for _ in range(30):
        data, theta, numbers = instance(rng)
        if numbers["nu"] == 0.0 or not np.any(theta):
            continue
        with_nu = largest_A(data, theta, **LOGISTIC, **numbers, gap=1e-3)
        without = largest_A(data, theta, **LOGISTIC, **{**numbers, "nu": 0.0}, gap=1e-3)
        caught += with_nu.low > without.high or with_nu.high < without.low
    assert caught >= 3


def test_secant_slope_to_relative_accuracy() -> None:
    import mpmath

    rng = np.random.default_rng(0)
    with mpmath.workdps(60):
        for _ in range(300):
            m, x = float(rng.uniform(-40, 40)), float(rng.choice([-1, 1]) * 10 ** rng.uniform(-12, 2))
            sigma = [1 / (1 + mpmath.exp(-(mpmath.mpf(m) + y))) for y in (mpmath.mpf(x), mpmath.mpf(0))]
            exact = (sigma[0] - sigma[1]) / mpmath.mpf(x)
            # _FUNCTION_ERROR is the bound that the certificates allow for, at m + x rounded as here.
            allowed = pac_logistic._FUNCTION_ERROR + abs(m + x) * 2.0**-53
            assert abs(secant(np.array(m), np.array(x)) / exact - 1) <= allowed


def test_least_secant_slope_is_a_lower_bound_and_attained() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        m, r = rng.uniform(-6, 6), 10 ** rng.uniform(-3, 1.5)
        x = np.concatenate([rng.uniform(-r, r, 200), [-r, r, 0.0]])
        slopes = secant(np.full(x.size, m), x)
        bound = float(secant(np.array(abs(m)), np.array(r)))
        assert slopes.min() >= bound * (1 - 1e-14)
        assert slopes.min() <= bound * (1 + 1e-14)


def test_pac_largest_A_encloses_the_grid_s_and_is_narrow() -> None:
    rng = np.random.default_rng(12)
    n_narrow = 0
    for _ in range(12):
        data, theta, numbers = instance(rng)
        bounds = largest_A(data, theta, **LOGISTIC, **numbers, gap=1e-3)
        t, left = grid(data, theta, **numbers)
        ratio = float(np.min(left / np.minimum(1.0, t))) / data.n_data
        if bounds.low == -math.inf:
            continue
        assert bounds.low <= ratio + ROUNDING
        # The grid has 2000 directions in d <= 3: it is no finer than a per cent or so.
        n_narrow += bounds.high - bounds.low <= 1.1e-3 * bounds.high
    assert n_narrow >= 6


def test_pac_logistic_exact_cancellation_is_decided() -> None:
    # θ† = 0 and each query with both labels: ∇L(θ†) = 0 exactly, so B = 0 is allowed.  σ' >= ... with |x| <= 1: the
    # largest A is σ(1) - 1/2.
    data = UserDataset([[1.0], [1.0]], [1.0, -1.0])
    at = {"theta_honest": [0.0], "loss": Logistic(), "nu": 0.0, "B": 0.0, "alpha": 0.5}
    exact = expit(1.0) - 0.5
    assert gradient_pac(data, **at, A=exact * (1 - 1e-12)).holds is True
    assert gradient_pac(data, **at, A=exact * (1 + 1e-12)).holds is False
    tilted = UserDataset([[1.0], [1.0 + 1e-15]], [1.0, -1.0])
    assert gradient_pac(tilted, **at, A=0.0).holds is False
    # ‖∇L(0)‖ = 1/2 = B·1^α exactly.
    single = UserDataset([[1.0]], [1.0])
    assert gradient_pac(single, **{**at, "B": 0.5}, A=0.0).holds is True
    assert gradient_pac(single, **{**at, "B": float(np.nextafter(0.5, 0))}, A=0.0).holds is False


def test_pac_logistic_no_data_is_the_quadratic() -> None:
    data = UserDataset.empty(2)
    at = {"theta_honest": [3.0, 4.0], "loss": Logistic(), "nu": 0.5, "A": 7.0, "alpha": 0.0}
    assert gradient_pac(data, **at, B=5.0).holds is True
    assert gradient_pac(data, **at, B=4.99).holds is False


def test_pac_slack_bounds_enclose_the_slack() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        data, theta, numbers = instance(rng)
        event = PacEvent.checked(data, theta, Logistic(), numbers["nu"], 0.1, numbers["B"], numbers["alpha"])
        z = rng.standard_normal(data.dim) * 10 ** rng.uniform(-3, 1)
        bounds = slack_bounds(event, z)
        slack = pac_slack(data, theta + z, theta, **LOGISTIC, A=0.1, **numbers)
        rounding = 1e-12 * (1.0 + float(np.sum(np.linalg.norm(data.Q, axis=1))) * (1 + float(np.linalg.norm(z))))
        assert bounds.low - rounding <= slack <= bounds.high + rounding
        assert bounds.high - bounds.low <= 10 * rounding


def test_pac_logistic_budget_of_zero_says_undecided_not_true() -> None:
    rng = np.random.default_rng(7)
    outcomes = [disagreements(25, max_cells=0)[1][None]]
    assert max(outcomes) >= 1
    data, theta, numbers = instance(rng)
    with pytest.raises(AssumptionError, match="gap"):
        gradient_pac(data, theta, **LOGISTIC, A=0.1, **numbers, gap=0.0)


@pytest.mark.slow
def test_pac_logistic_certificate_is_fast_and_scales() -> None:
    rng = np.random.default_rng(0)
    for n, d, limit in [(10_000, 10, 0.05), (10_000, 100, 5.0), (1_000_000, 10, 10.0)]:
        Q, theta = rng.standard_normal((n, d)), np.full(d, 1.0 / math.sqrt(d))
        data = UserDataset(Q, np.where(rng.random(n) < expit(Q @ theta), 1.0, -1.0))
        times = []
        for _ in range(3):
            start = time.perf_counter()
            verdict = gradient_pac(data, theta, **LOGISTIC, nu=0.1, A=1e-6, B=1.0, alpha=0.75)
            times.append(time.perf_counter() - start)
        assert verdict.holds is True
        assert min(times) < limit


def local_difference(model: Model, z: Array) -> Array:
    """F of the module's docstring at the rows of z, from its definition."""
    t = np.linalg.norm(z, axis=1)
    x = z @ model.Q.T
    delta = np.sum(x * (expit(model.m + x) - expit(model.m)), axis=1)
    return z @ model.p + model.radius.low * t + (2.0 * model.nu - model.slope) * t**2 + delta


def test_pac_cell_bounds_are_below_the_function_and_not_vacuous() -> None:
    rng = np.random.default_rng(9)
    gaps = []
    for _ in range(60):
        data, theta, numbers = instance(rng)
        A = float(rng.choice([0.0, 0.05, 0.5]))
        event = PacEvent.checked(data, theta, Logistic(), numbers["nu"], A, numbers["B"], numbers["alpha"])
        model, d = Model.of(event), data.dim
        # Inside, across the boundary of the unit ball, and around its centre.
        centres = rng.standard_normal((8, d))
        centres *= (rng.choice([0.0, 0.3, 0.7, 1.0], (8, 1))) / np.linalg.norm(centres, axis=1, keepdims=True)
        halves = rng.uniform(0.2, 1.0, (8, d)) * rng.choice([1e-3, 0.03, 0.3], (8, 1))
        lows, _ = pac_logistic._CellBounds(model)(centres, halves)
        scale = float(np.sum(np.linalg.norm(data.Q, axis=1) ** 3)) + model.radius.high + 1.0
        for low, centre, half in zip(lows, centres, halves, strict=True):
            z = centre + half * np.concatenate([rng.uniform(-1, 1, (200, d)), rng.choice([-1.0, 1.0], (50, d))])
            z = z[np.linalg.norm(z, axis=1) <= 1.0]
            if not len(z):
                continue
            least = float(local_difference(model, z).min())
            assert low <= least + 1e-11 * scale
            if float(np.linalg.norm(centre)) < 0.9 and np.max(half) < 2e-3:
                gaps.append((least - low) / (scale * float(np.linalg.norm(half))))
    # Not trivially low: at radius 1e-3 the bound is within a per cent of first order of what the sample reaches.
    assert max(gaps) < 2.0
    assert min(gaps) >= -1e-8


def test_pac_cells_cover_the_shell_between_the_proved_ball_and_the_unit_sphere() -> None:
    rng = np.random.default_rng(10)
    for d, tau in [(1, 0.25), (2, 0.5), (3, 0.01)]:
        cells = [(-math.inf, 0, np.zeros(d), np.ones(d))]
        for _ in range(4):
            centres, halves = pac_logistic._split(cells, tau)
            cells = [(0.0, i, c, h) for i, (c, h) in enumerate(zip(centres, halves, strict=True))]
        z = rng.standard_normal((500, d))
        z *= rng.uniform(tau, 1.0, (500, 1)) / np.linalg.norm(z, axis=1, keepdims=True)
        inside = np.all(np.abs(z[:, None, :] - centres) <= halves, axis=2)
        assert inside.any(axis=1).all()


def test_pac_proved_ball_is_really_proved() -> None:
    rng = np.random.default_rng(11)
    n_proved = 0
    for _ in range(40):
        data, theta, numbers = instance(rng)
        A = float(rng.choice([0.05, 0.2, 1.0]))
        event = PacEvent.checked(data, theta, Logistic(), numbers["nu"], A, numbers["B"], numbers["alpha"])
        model = Model.of(event)
        tau = pac_logistic._proved_radius(model)
        # It supposes ‖p‖ <= b, which is decided before.
        if tau == 0.0 or np.linalg.norm(model.p) > model.radius.low:
            continue
        n_proved += 1
        z = rng.standard_normal((500, data.dim))
        z *= tau * rng.uniform(0.01, 1.0, (500, 1)) / np.linalg.norm(z, axis=1, keepdims=True)
        assert np.all(local_difference(model, z) >= -1e-11 * np.linalg.norm(z, axis=1) * (1.0 + model.slope))
    assert n_proved >= 10


# ----------------------------------------------------------------------------------------------- at the ends of float64


@pytest.mark.parametrize("size", [1e-100, 1e-150, 1e-160, 1e-170, 1e-200, 1e-300])
def test_pac_tiny_data_are_not_said_to_fit_because_their_squares_underflow(size: float) -> None:
    """‖∇L(0)‖ = size/2 exactly; the squares of what is below 1e-162 are 0, which would make it 0 <= B."""
    data = UserDataset([[size, 0.0]], [1.0])
    options: dict[str, Any] = {"loss": Logistic(), "nu": 0.0, "A": 0.0, "alpha": 0.5}
    assert gradient_pac(data, [0.0, 0.0], B=0.5 * size * (1 - 1e-10), **options).holds is False
    assert gradient_pac(data, [0.0, 0.0], B=0.5 * size * (1 + 1e-10), **options).holds is True
    # With a margin that is not 0 nothing is exact: σ(-0.3·size)·size exceeds 0.4·size.
    assert gradient_pac(data, [0.3, 0.0], B=0.4 * size, **options).holds is not True
    # Underflow is allowed for in the gradient and in its norm, 1e-150 each.
    assert gradient_pac(data, [0.3, 0.0], B=0.6 * size + 3e-150, **options).holds is True
    model = Model.of(PacEvent.checked(data, [0.3, 0.0], Logistic(), 0.0, 0.0, 1.0, 0.5))
    assert model.lengths[0] >= size
    assert model.error_p >= 1e-150
    # The gradient of ν‖θ‖² at tiny θ†, without data.
    nothing = {**options, "nu": 0.5, "alpha": 0.0}
    assert gradient_pac(UserDataset.empty(1), [size], B=size, **nothing).holds is True
    assert gradient_pac(UserDataset.empty(1), [size], B=size * (1 - 1e-10), **nothing).holds is False


@pytest.mark.parametrize("t", [1e-320, 1e-250, 1e-170, 1e-155, 1e-3, 3.0])
@pytest.mark.parametrize("nu", [0.0, 0.5, 1e150])
def test_pac_slack_at_offsets_of_every_size(t: float, nu: float) -> None:
    """‖z‖ of a tiny z is not 0: b‖z‖ is the largest part of the slack there."""
    import mpmath

    # One query Q = 1 with A = 1 at θ† = 0: z·∇L = -z/2 + 2νz² + z(σ(z) - 1/2), and b = 1.
    event = PacEvent.checked(UserDataset([[1.0]], [1.0]), [0.0], Logistic(), nu, 0.25, 1.0, 0.5)
    bounds = slack_bounds(event, np.array([t]))
    with mpmath.workdps(400):
        z = mpmath.mpf(t)
        delta = z * (1 / (1 + mpmath.exp(-z)) - mpmath.mpf(1) / 2)
        slack = -z / 2 + 2 * mpmath.mpf(nu) * z * z + delta - mpmath.mpf(1) / 4 * min(z, z * z) + z
        assert mpmath.mpf(bounds.low) <= slack <= mpmath.mpf(bounds.high)
        assert bounds.high - bounds.low <= 1e-12 * float(slack) + 1e-148 * t + 3e-300 * (1.0 + nu)


def test_pac_the_search_does_not_run_into_the_centre_where_only_rounding_is_left() -> None:
    """Where b is below ‖p‖ by less than is known of it, F(z)/‖z‖² falls without end towards θ†, and proves nothing."""
    n_refuted = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        d, n = int(rng.integers(1, 3)), int(rng.integers(1, 40))
        data = UserDataset(rng.standard_normal((n, d)), np.where(rng.random(n) < 0.5, 1.0, -1.0))
        theta = 10.0 * rng.standard_normal(d)
        model = Model.of(PacEvent.checked(data, theta, Logistic(), 0.0, 0.01, 1.0, 0.0))
        B = float(np.linalg.norm(model.p)) - 0.5 * model.error_p
        event = PacEvent.checked(data, theta, Logistic(), 0.0, 0.01, B, 0.0)
        z = pac_logistic._local_search(Model.of(event), -model.p / np.linalg.norm(model.p))
        assert np.linalg.norm(z) > 1e-12
        n_refuted += pac_logistic.slack_bounds(event, z).high < 0
    assert n_refuted >= 3


# ------------------------------------------------------------------------ what is promised of the search and the budget


def plain(Q: Any, m: Any, p: Any, *, radius: float = 0.0, nu: float = 0.0, slope: float = 0.0, **known: Any) -> Model:
    """A model with margins and a gradient of its own, known without error unless said otherwise."""
    Q, m, p = (np.array(x, dtype=float) for x in (Q, m, p))
    errors = {"margin_error": np.zeros(len(Q)), "error_p": 0.0, **known}
    return Model(
        Q=Q, m=m, lengths=np.linalg.norm(Q, axis=1), p=p, nu=nu, slope=slope, radius=Bounds(radius, radius), **errors
    )


def test_pac_search_minimizes_the_second_order_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its gradient and Hessian are those of the value, less ν‖z‖², which does not vary on the sphere."""
    seen: list[tuple[Array, Array]] = []
    real = pac_logistic.minimize_on_sphere

    def watch(H: Array, g: Array) -> Any:
        seen.append((H, g))
        return real(H, g)

    monkeypatch.setattr(pac_logistic, "minimize_on_sphere", watch)
    rng = np.random.default_rng(4)
    model = plain(2.0 * rng.standard_normal((6, 3)), rng.standard_normal(6), rng.standard_normal(3))
    z, h = 0.7 * np.array([0.6, 0.0, -0.8]), 1e-4
    pac_logistic._descend(model, z, max_steps=1)
    (H, g), t, e = seen[0], 0.7, np.eye(3)
    hessian = np.empty((3, 3))
    gradient = np.array([(model.value(z + h * e[i]) - model.value(z - h * e[i])) / (2 * h) for i in range(3)])
    for i in range(3):
        for j in range(3):
            plus, minus = e[i] + e[j], e[i] - e[j]
            same = model.value(z + h * plus) + model.value(z - h * plus)
            hessian[i, j] = (same - model.value(z + h * minus) - model.value(z - h * minus)) / (4 * h * h)
    assert pytest.approx(hessian, abs=1e-6) == 2.0 * H / t**2
    assert pytest.approx(gradient - hessian @ z, abs=1e-6) == g / t


def test_pac_search_gives_up_a_step_after_twelve_tries_and_a_descent_after_thirty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[Array] = []
    real = Model.value

    def value(self: Model, z: Array) -> float:
        tried.append(z)
        return real(self, z)

    monkeypatch.setattr(Model, "value", value)
    # Every way raises pᵀz from its least value: the step of 90° is halved along the circle, to 90°/2^11.
    least = plain([[0.0, 0.0]], [0.0], [1.0, 0.0])
    monkeypatch.setattr(pac_logistic, "minimize_on_sphere", lambda H, g: SimpleNamespace(point=np.array([0.0, 1.0])))
    assert pac_logistic._descend(least, np.array([-0.5, 0.0])).tolist() == [-0.5, 0.0]
    angles = [math.atan2(z[1], -z[0]) for z in tried]
    assert angles == pytest.approx([0.0, *(math.pi / 2.0 / 2.0**k for k in range(12))], rel=1e-9)
    assert [float(np.linalg.norm(z)) for z in tried] == pytest.approx([0.5] * 13, rel=1e-12)
    # A step that neither gains nor loses is none.
    flat = plain([[0.0, 0.0]], [0.0], [0.0, 0.0])
    assert pac_logistic._descend(flat, np.array([-1.0, 0.0])).tolist() == [-1.0, 0.0]
    # Small steps, each of which gains.
    turns: list[float] = []

    def step(H: Array, g: Array) -> Any:
        turns.append(1.5 - 0.01 * len(turns))
        return SimpleNamespace(point=np.array([-math.cos(turns[-1]), math.sin(turns[-1])]))

    monkeypatch.setattr(pac_logistic, "minimize_on_sphere", step)
    pac_logistic._descend(least, np.array([0.0, 1.0]))
    assert len(turns) == 30


def test_pac_descent_ends_where_a_step_gains_nothing_beside_the_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    # -cos(angle) gains 1.5·10^-8 from 2·10^-4 to 10^-4: less than 10^-13 times Aℐ = 10^6.
    model = plain([[0.0, 0.0]], [0.0], [-1.0, 0.0], slope=1e6)
    made: list[float] = []

    def step(H: Array, g: Array) -> Any:
        made.append([2e-4, 1e-4, 0.0][len(made)])
        return SimpleNamespace(point=np.array([math.cos(made[-1]), math.sin(made[-1])]))

    monkeypatch.setattr(pac_logistic, "minimize_on_sphere", step)
    pac_logistic._descend(model, np.array([0.0, 1.0]), max_steps=3)
    assert made == [2e-4, 1e-4]
    # A gain of exactly 10^-13·(|value| + Aℐ) = 10^-13 is none, and one of half as much again is.
    for gain, steps in [(1e-13, 1), (1.5e-13, 3)]:
        made.clear()
        values = iter([gain, 0.0, -1.0, -2.0])
        monkeypatch.setattr(Model, "value", lambda self, z, values=values: next(values))
        pac_logistic._descend(replace(model, slope=1.0), np.array([0.0, 1.0]), max_steps=3)
        assert len(made) == steps


def ratio_along(t: float, slopes: list[float], margins: list[float], excess: float) -> float:
    """(F(-t) + slope·t²)/t² for ‖p‖ = b - excess: excess/t + Σq(σ(m) - σ(m - qt))/t."""
    steps = (q * float(expit(m) - expit(m - q * t)) for q, m in zip(slopes, margins, strict=True))
    return (excess + sum(steps)) / t


@pytest.mark.parametrize(
    ("slopes", "margins", "excess", "least"),
    [
        # The least ratio is at 0.53, which steps of 3 % find and steps of 20 % miss by 3 %.
        ([14.0], [12.0], 1.0, 2.15439),
        # From 1, where a step of 3 % makes it worse, a step of 20 % gets to a lower valley.
        ([287.0, 181.0], [28.0, 168.0], 5.0, 365.0),
        # At 1, 0.6, 0.3 and 0.1 it is 282, 143, 17 and 50; steps from 0.6 and from 0.3 go up.
        ([81.0, 196.0], [36.0, 172.0], 5.0, 16.66891),
        # At 1, 0.6, 0.3 and 0.1 it is 509, 262, 253 and 11; steps from 0.3 go up.
        ([262.0, 75.0, 144.0, 28.0], [158.0, 14.0, 114.0, 24.0], 1.0, 11.12526),
    ],
)
def test_pac_search_shortens_an_offset_by_small_and_by_large_steps(
    slopes: list[float], margins: list[float], excess: float, least: float
) -> None:
    model = plain(np.array(slopes)[:, None], margins, [1e4], radius=1e4 + excess)
    z = pac_logistic._local_search(model, np.array([-1.0]))
    found = ratio_along(-float(z[0]), slopes, margins, excess)
    assert found == pytest.approx(least, rel=1e-4)
    assert pac_logistic._ratio(model, z) == pytest.approx(found, rel=1e-9)


def test_pac_steep_offsets_are_halved_until_that_no_longer_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    model = plain([[0.0]], [0.0], [2.0])
    slacks: list[float] = []
    monkeypatch.setattr(
        pac_logistic, "_slack", lambda model, z: Bounds(-math.inf, slacks[min(int(-math.log2(-z[0])), len(slacks) - 1)])
    )
    # What may be an equality is no violation.
    slacks[:] = [0.0]
    assert pac_logistic._steep_offset(model) is None
    for given, k in [([1.0, -1.0, -2.0, -1.5, -3.0], 2), ([-1.0, -1.0, -2.0], 0), ([0.5] * 199 + [-1.0], 199)]:
        slacks[:] = given
        found = pac_logistic._steep_offset(model)
        assert found is not None
        assert found.tolist() == [-(2.0**-k)]
    slacks[:] = [0.5] * 200 + [-1.0]
    assert pac_logistic._steep_offset(model) is None


def test_pac_cells_that_just_fill_the_proved_ball_are_left_out() -> None:
    centres, _ = pac_logistic._split([(0.0, 0, np.array([0.5]), np.array([0.5]))], 0.5)
    assert centres.tolist() == [[0.75]]
    # And those outside the unit ball, on both sides.
    for sign in (-1.0, 1.0):
        centres, _ = pac_logistic._split([(0.0, 0, np.array([1.25 * sign, 0.0]), np.array([0.5, 0.25]))], 0.5)
        assert centres.tolist() == [[sign, 0.0]]


def test_pac_a_cell_whose_bound_is_zero_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = known_bounds()
    A = 0.5 * (bounds.low + bounds.high)
    for low, holds in [(0.0, True), (-1e-300, None), (math.nan, None)]:
        at = lambda self, centres, halves, low=low: (np.full(len(centres), low), centres[0])  # noqa: E731
        monkeypatch.setattr(pac_logistic._CellBounds, "__call__", at)
        assert undecided(A=A, max_cells=20).holds is holds


def test_pac_cells_that_meet_the_shell_have_a_half_that_does() -> None:
    """So that no batch of cells is ever empty: branch and bound relies on it."""
    rng = np.random.default_rng(3)
    for d, tau in [(1, 0.5), (2, 0.25), (3, 0.5), (3, 2.0**-15)]:
        cells = [(0.0, 0, np.zeros(d), np.ones(d))]
        for _ in range(200):
            cell = cells.pop(int(rng.integers(len(cells))))
            centres, halves = pac_logistic._split([cell], tau)
            assert len(centres) >= 1
            cells += [(0.0, 0, c, h) for c, h in zip(centres, halves, strict=True)]


@pytest.mark.parametrize("above", [True, False])
def test_pac_proved_radius_allows_for_every_error(above: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each as large as can be seen: of W, of ∇L(θ†), of 2ν, of Aℐ."""
    monkeypatch.setattr(pac_logistic, "gamma", lambda n: 1e-4 * n)
    numbers: dict[str, Any] = {"nu": 1.5, "slope": 4.0, "error_p": 0.003, "margin_error": np.array([0.01, 0.02])}
    args = ([[2.0, 0.0], [1.0, 1.0]], [0.3, -0.5], [0.6, -0.8])
    W, error = plain(*args, **numbers).minorant(0.5)
    assert error > 1e-3
    least = pac_logistic.minimize_on_sphere(0.5 * (W + 3.0 * np.eye(2)), np.array([0.6, -0.8])).low
    # least - τ·error - error_p - 8·unit·ν >= τ·Aℐ·(1 + 4·unit) - b at τ = 1/2.
    needed = 0.5 * 4.0 * (1 + 4e-4) - least + 0.5 * error + 0.003 + 8e-4 * 1.5
    b = needed + (1e-9 if above else -1e-9)
    assert (pac_logistic._proved_radius(plain(*args, radius=b, **numbers)) == 0.5) is above


def test_pac_no_radius_below_two_to_the_minus_15_is_tried() -> None:
    # Without data F(z) = pᵀz + b‖z‖ - slope·‖z‖², so that the ball of radius b - ‖p‖ is proved.
    model = plain([[0.0]], [0.0], [1.0], radius=1.0 + 0.75 * 2.0**-15, slope=1.0)
    assert pac_logistic._proved_radius(model) == 0.0


def undecided(**options: Any) -> PacVerdict:
    """A verdict on an A between what the minorant proves and what a search refutes."""
    rng = np.random.default_rng(5)
    data = UserDataset(3.0 * rng.standard_normal((12, 2)), np.where(rng.random(12) < 0.5, 1.0, -1.0))
    return gradient_pac(data, [0.4, -0.3], **LOGISTIC, nu=0.0, B=1.0, alpha=0.75, **options)


def known_bounds() -> Bounds:
    """What the minorant proves, and what a local search refutes, which is done only above the minorant's A."""
    proved = undecided(A=0.0).best_A_bounds
    return Bounds(proved.low, undecided(A=proved.high, max_cells=0).best_A_bounds.high)


def test_pac_what_is_not_decided_keeps_the_bounds_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """‖∇L(θ†)‖ <= b is known: the largest A is not negative, and the minorant's A is one."""
    bounds = known_bounds()
    assert 0.0 < bounds.low < 0.9 * bounds.high
    A = bounds.low + 0.9 * (bounds.high - bounds.low)
    few = undecided(A=A, max_cells=2)
    none = undecided(A=A, max_cells=0)
    close = undecided(A=A, gap=10.0)
    monkeypatch.setattr(pac_logistic, "LARGEST_PRODUCTS", 35)
    large = undecided(A=A)
    reasons = ["2 cells did not suffice", "no ball around θ† was proved", "less than 10 A, if at all", "too large"]
    for verdict, reason in zip((few, none, close, large), reasons, strict=True):
        assert verdict.holds is None
        assert reason in verdict.reason
        assert verdict.best_A_bounds.low == bounds.low
        assert A <= verdict.best_A_bounds.high <= bounds.high * (1 + 1e-9)


def test_pac_branch_and_bound_starts_where_the_largest_A_is_not_known_to_within_the_gap() -> None:
    first = known_bounds()
    A = first.low + 0.9 * (first.high - first.low)
    gap = undecided(A=A, max_cells=0).best_A_bounds.high / A - 1.0
    assert "if at all" in undecided(A=A, gap=gap * 1.001, max_cells=0).reason
    assert "no ball" in undecided(A=A, gap=gap * 0.999, max_cells=0).reason
    n_equal = 0
    for near in np.linspace(0.98 * A, A, 20):
        certificate, slope = undecided(A=near, max_cells=0).certificate, near * 12
        known = certificate.sphere_minimum.high + certificate.radius.high - slope
        if known / slope * slope == known:
            n_equal += 1
            assert "if at all" in undecided(A=near, gap=known / slope, max_cells=0).reason
    assert n_equal >= 5


def test_pac_budgets_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, ...]] = []
    monkeypatch.setattr(pac_logistic, "_decide", lambda event, model, *budget: seen.append(budget))
    data = UserDataset(np.zeros((99_999, 3)), np.ones(99_999))
    pac_logistic.decide(PacEvent.checked(data, np.zeros(3), Logistic(), 0.0, 0.1, 1.0, 0.5))
    # 4·10^9 multiplications, 10^5·(3² + 30) for a cell.
    assert seen == [(1025, 1e-9)]
    # 25 million products of entries; without a cell to look at nothing else is computed.
    event = PacEvent.checked(UserDataset([[1.0]], [1.0]), [0.0], Logistic(), 0.0, 0.1, 1.0, 0.5)
    nothing = Bounds(0.0, math.inf)
    certificate = PacCertificate("convex minorant", nothing, nothing, nothing, nothing)
    for n, reason in [(25_000_000, "no ball"), (25_000_001, "too large")]:
        model: Any = SimpleNamespace(p=np.zeros(1), n_data=n)
        assert reason in pac_logistic._branch_and_bound(event, model, certificate, np.ones(1), 0).reason


def test_pac_batches_are_whole_numbers_of_cells() -> None:
    many: Any = SimpleNamespace(p=np.zeros(1), Q=np.zeros((300_000, 1)), n_data=300_000)
    assert pac_logistic._CellBounds(many).batch == 6


def test_pac_long_queries_do_not_overflow() -> None:
    # Lengths 10^120: their squares are in the range of float64, their cubes are not.
    verdict = gradient_pac(UserDataset([[1e120]], [1.0]), [0.0], **LOGISTIC, nu=0.0, A=0.1, B=1e121, alpha=0.5)
    assert verdict.holds is True


def test_pac_a_radius_that_is_just_proved_is_one() -> None:
    # Without data and with A = 0 the criterion is low >= -b, whatever the radius: the first is taken, or none.
    low = pac_logistic.minimize_on_sphere(np.zeros((1, 1)), np.array([1.0])).low
    assert pac_logistic._proved_radius(plain([[0.0]], [0.0], [1.0], radius=-low)) == 0.5
    assert pac_logistic._proved_radius(plain([[0.0]], [0.0], [1.0], radius=math.nextafter(-low, 0.0))) == 0.0


def test_pac_cells_inside_the_unit_ball_are_bounded_without_a_multiplier(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []

    def watch(K: Array, g: Array, R: Array) -> Array:
        seen.extend(zip(K[:, 0, 0].tolist(), g[:, 0].tolist(), strict=True))
        return np.zeros(len(K))

    monkeypatch.setattr(pac_logistic, "_ball_minimum", watch)
    # F(z) = -z falls outwards; [1/2, 1] touches the sphere, [1/2, 5/4] crosses it, where η = 1/(2c) makes g vanish.
    model = plain([[0.0]], [0.0], [-1.0])
    pac_logistic._CellBounds(model)(np.array([[0.75], [0.875]]), np.array([[0.25], [0.375]]))
    assert seen[0] == (0.0, -1.0)
    assert seen[1] == pytest.approx((2.0 * 0.5 / 0.875, 0.0), rel=1e-15)


def test_pac_rounding_of_second_derivatives_grows_with_the_size_of_x(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def watch(K: Array, g: Array, R: Array) -> Array:
        seen.extend(K[:, 0, 0].tolist())
        return np.zeros(len(K))

    monkeypatch.setattr(pac_logistic, "_ball_minimum", watch)
    # At x = ±10^10 all of δ'' is rounding: 10^-14·(2 + |x|) times Q².
    pac_logistic._CellBounds(plain([[1e10]], [0.0], [0.0]))(np.array([[1.0], [-1.0]]), np.full((2, 1), 1e-40))
    assert seen == pytest.approx([-1e-14 * (2.0 + 1e10) * 1e20] * 2, rel=1e-6)


def test_pac_error_of_the_minorant_does_not_grow_with_the_number_of_blocks() -> None:
    # 8192 equal rows: sums of 4096 and of 2 blocks, not of 8192.
    n = 8192
    model = plain(np.ones((n, 1)), np.zeros(n), [0.0])
    W, error = model.minorant(1.0)
    terms = (4096 + 2 + 8) * 2.0**-53
    assert error == pytest.approx(1.01 * terms * float(W[0, 0]), rel=1e-9, abs=0.0)
