"""Gradient-PAC* of logistic regression: bounds, branch and bound and witnesses against brute force on a grid."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from theory import AssumptionError, Logistic, UserDataset, gradient_pac, largest_A, pac_logistic, pac_slack
from theory.arrays import Array
from theory.pac import PacEvent
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
