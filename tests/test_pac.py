"""Gradient-PAC* verdicts against brute force, exact arithmetic, and criteria that are wrong on purpose."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from theory import AssumptionError, LeastSquares, Multinomial, ShapeError, UserDataset, rational
from theory.arrays import Array
from theory.pac import ExactModel, PacEvent, PacVerdict, gradient_pac, pac_slack
from theory.sphere import lifted, minimize_on_sphere

LINEAR: dict[str, Any] = {"loss": LeastSquares()}
RADII = np.concatenate([[1e-9, 1e-6, 1e-3], np.linspace(0.01, 1.0, 40), [1.5, 3.0, 10.0, 1e3]])


def directions(d: int, n: int = 3000) -> Array:
    if d == 1:
        return np.array([[1.0], [-1.0]])
    if d == 2:
        angles = np.linspace(0.0, 2.0 * math.pi, n, endpoint=False)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    u = np.random.default_rng(1).standard_normal((n, d))
    return u / np.linalg.norm(u, axis=1, keepdims=True)


def least_slack(Q: Array, a: Array, theta: Array, nu: float, A: float, B: float, alpha: float) -> float:
    """The least value over a grid of (left - right)/t of Definition 3, from the gradient of the loss alone."""
    n, d = Q.shape
    u = directions(d)
    at = theta + RADII[:, None, None] * u
    gradient = (at @ Q.T - a) @ Q + 2.0 * nu * at
    h = np.einsum("tud,ud->tu", gradient, u) - A * n * np.minimum(1.0, RADII)[:, None] + B * float(n) ** alpha
    return float(h.min())


def random_instance(rng: np.random.Generator) -> tuple[Array, Array, Array, dict[str, float]]:
    """Small integers and halves: equalities, collinear queries, no data and no noise all occur."""
    d, n = int(rng.integers(1, 4)), int(rng.integers(0, 6))
    Q = rng.integers(-2, 3, (n, d)) / float(rng.choice([1.0, 2.0]))
    a = rng.integers(-3, 4, n).astype(float)
    theta = rng.integers(-1, 2, d).astype(float)
    numbers = {
        "nu": float(rng.choice([0.0, 0.25, 1.0])),
        "A": float(rng.choice([0.0, 0.25, 0.5, 1.0, 2.0])),
        "B": float(rng.choice([0.0, 0.5, 1.0, 2.0, 4.0, 8.0])),
        "alpha": float(rng.choice([0.0, 0.5, 0.75, 0.6])),
    }
    return Q, a, theta, numbers


# Grid and criterion differ by the rounding of the grid's sums; the instances are of size 100 at most.
GRID_ROUNDING = 1e-9


def disagreements(criterion: Callable[..., bool | None], n_instances: int = 300) -> list[str]:
    """Where a criterion says True but the grid has a violation, or False but exact arithmetic proves the event."""
    rng = np.random.default_rng(20220717)
    found = []
    for k in range(n_instances):
        Q, a, theta, numbers = random_instance(rng)
        holds = criterion(Q, a, theta, **numbers)
        slack = least_slack(Q, a, theta, **numbers)
        if holds is not False and slack < -GRID_ROUNDING:
            found.append(f"{k}: holds {holds}, but the slack is {slack}")
        if holds is not True and slack > 0.2:
            found.append(f"{k}: holds {holds}, but the least slack on the grid is {slack}")
    return found


def decide(Q: Array, a: Array, theta: Array, **numbers: float) -> PacVerdict:
    return gradient_pac(UserDataset(Q, a), theta, **LINEAR, **numbers)


def model(Q: Array, a: Array, theta: Array, nu: float) -> tuple[Array, Array]:
    return Q.T @ Q + 2.0 * nu * np.eye(theta.size), Q.T @ (Q @ theta - a) + 2.0 * nu * theta


def test_pac_verdicts_agree_with_a_grid() -> None:
    assert disagreements(lambda *data, **numbers: decide(*data, **numbers).holds) == []


def wrong_without_nu(Q: Array, a: Array, theta: Array, nu: float, A: float, B: float, alpha: float) -> bool | None:
    return decide(Q, a, theta, nu=0.0, A=A, B=B, alpha=alpha).holds


def wrong_without_centre(Q: Array, a: Array, theta: Array, nu: float, A: float, B: float, alpha: float) -> bool:
    H, p = model(Q, a, theta, nu)
    return minimize_on_sphere(H, p).high >= A * len(Q) - B * float(len(Q)) ** alpha - 1e-9


def wrong_eigenvalue(Q: Array, a: Array, theta: Array, nu: float, A: float, B: float, alpha: float) -> bool:
    """The proof of Theorem 2 replaces the sphere's minimum by λ_min - ‖p‖: sufficient, not necessary."""
    H, p = model(Q, a, theta, nu)
    b = B * float(len(Q)) ** alpha
    return bool(np.linalg.norm(p) <= b and np.linalg.eigvalsh(H)[0] - np.linalg.norm(p) >= A * len(Q) - b)


def wrong_without_noise(Q: Array, a: Array, theta: Array, nu: float, A: float, B: float, alpha: float) -> bool:
    H, p = model(Q, a, theta, nu)
    b = B * float(len(Q)) ** alpha
    return bool(np.linalg.norm(p) <= b and np.linalg.eigvalsh(H)[0] >= A * len(Q) - b)


@pytest.mark.parametrize("wrong", [wrong_without_nu, wrong_without_centre, wrong_eigenvalue, wrong_without_noise])
def test_pac_wrong_criteria_disagree_with_the_grid(wrong: Callable[..., bool | None]) -> None:
    assert disagreements(wrong)


def exact_in_one_dimension(Q: Array, a: Array, theta: Array, nu: float, A: float, B: float, alpha: float) -> bool:
    """d = 1 and B·I^α rational: for both signs t·h(t) is quadratic on (0, 1] and on [1, ∞); rational arithmetic."""
    q, y = [Fraction(float(x)) for x in Q[:, 0]], [Fraction(float(x)) for x in a]
    at, n = Fraction(float(theta[0])), len(q)
    H = sum((x * x for x in q), Fraction(0)) + 2 * Fraction(nu)
    p = sum((x * (x * at - z) for x, z in zip(q, y, strict=True)), Fraction(0)) + 2 * Fraction(nu) * at
    b = Fraction(B) * Fraction(float(n) ** alpha)
    assert float(b) == B * float(n) ** alpha
    ends = [sign * p + b for sign in (1, -1)] + [H + sign * p + b - Fraction(A) * n for sign in (1, -1)]
    return min(ends) >= 0


def test_pac_is_exact_in_one_dimension() -> None:
    rng = np.random.default_rng(5)
    n_equal = 0
    for _ in range(400):
        n = int(rng.choice([0, 1, 4]))
        Q, a = rng.integers(-2, 3, (n, 1)) / 2.0, rng.integers(-3, 4, n) / 2.0
        theta = rng.integers(-1, 2, 1).astype(float)
        numbers = {
            "nu": float(rng.choice([0.0, 0.25, 1.0])),
            "A": float(rng.integers(0, 9)) / 4.0,
            "B": float(rng.integers(0, 9)) / 2.0,
            "alpha": float(rng.choice([0.0, 0.5])),
        }
        verdict = decide(Q, a, theta, **numbers)
        assert verdict.holds is exact_in_one_dimension(Q, a, theta, **numbers)
        n_equal += verdict.certificate.kind == "exact"
    # The equalities that floating point cannot decide did occur.
    assert n_equal >= 40


def test_pac_equality_is_decided_exactly_to_the_last_bit() -> None:
    # ‖p‖ = 5 with p = (3, 4), from Q = I and answers -(3, 4) at θ† = 0; ℐ = 2, so b = 5 needs B = 5 and α = 0.
    data = UserDataset(np.eye(2), [-3.0, -4.0])
    at = {"theta_honest": [0.0, 0.0], "loss": LeastSquares(), "nu": 0.0, "alpha": 0.0}
    # V = min (1 + p·u) = -4, so the largest A is (V + 5)/2 = 1/2.
    assert gradient_pac(data, **at, A=0.5, B=5.0).holds is True
    assert gradient_pac(data, **at, A=float(np.nextafter(0.5, 1)), B=5.0).holds is False
    below = gradient_pac(data, **at, A=0.0, B=float(np.nextafter(5.0, 0)))
    assert below.holds is False
    assert below.verify()
    assert gradient_pac(data, **at, A=0.0, B=5.0).verify()


def test_pac_equality_at_a_direction_that_no_float_represents_is_decided() -> None:
    # H = diag(6, 31), p = (-6, -48), u = (3/5, 4/5), μ = 1: (H - μ)u = -p/2, and V = μ + p·u/2 = -20 exactly.
    Q = [[2, 0], [1, 0], [1, 0], [0, 5], [0, 2], [0, 1], [0, 1]]
    data = UserDataset(Q, [3, 0, 0, 9, 1, 1, 0])
    at = {"theta_honest": [0.0, 0.0], "loss": LeastSquares(), "nu": 0.0, "B": 55.0, "alpha": 0.0}
    # V + b = 35 = 7·A.
    equal = gradient_pac(data, **at, A=5.0)
    assert equal.holds is True
    assert equal.certificate.kind == "exact"
    assert equal.certificate.multiplier == 1
    assert equal.verify()
    assert gradient_pac(data, **at, A=float(np.nextafter(5.0, 6.0))).holds is False
    assert gradient_pac(data, **at, A=float(np.nextafter(5.0, 4.0))).holds is True


def test_pac_irrational_equality_of_the_gradient_is_decided() -> None:
    # ‖p‖ = √2 = Bℐ^α with B = 1, ℐ = 2, α = 1/2: neither is rational, both squares are.
    data = UserDataset(np.eye(2), [-1.0, -1.0])
    at = {"theta_honest": [0.0, 0.0], "loss": LeastSquares(), "nu": 0.0, "alpha": 0.5}
    assert gradient_pac(data, **at, A=0.0, B=1.0).holds is True
    assert gradient_pac(data, **at, A=0.0, B=float(np.nextafter(1.0, 0))).holds is False


@pytest.mark.parametrize("d", [2, 3, 7])
def test_pac_hard_case_of_the_sphere_is_decided(d: int) -> None:
    # H = diag(1, 4, ..., 4) and p = (0, 3, 0, ...): p is orthogonal to the lowest eigenvector and small, so μ = 1 and
    # V = 1 - p₂²/(4(4 - 1)) = 1/4.
    Q = np.diag([1.0] + [2.0] * (d - 1))
    a = np.zeros(d)
    a[1] = -1.5
    data = UserDataset(Q, a)
    at = {"theta_honest": np.zeros(d), "loss": LeastSquares(), "nu": 0.0, "B": 4.0, "alpha": 0.0}
    # V + b = 1/4 + 4 = 17/4 = A·d.
    if d == 2:
        assert gradient_pac(data, **at, A=17.0 / 8.0).holds is True
        refuted = gradient_pac(data, **at, A=float(np.nextafter(17.0 / 8.0, 9)))
        assert refuted.holds is False
        assert refuted.verify()
    verdict = gradient_pac(data, **at, A=4.25 / d * (1 - 1e-12))
    assert verdict.holds is True
    assert verdict.best_A == pytest.approx(4.25 / d, rel=1e-13)
    assert gradient_pac(data, **at, A=4.25 / d * (1 + 1e-12)).holds is False


def test_pac_overflowing_data_are_decided() -> None:
    data = UserDataset([[1e200, 0.0], [0.0, 1e-200]], [0.0, 0.0])
    at = {"theta_honest": [0.0, 0.0], "loss": LeastSquares(), "nu": 0.0, "B": 0.0, "alpha": 0.5}
    assert gradient_pac(data, **at, A=0.0).holds is True
    refuted = gradient_pac(data, **at, A=1e-300)
    assert refuted.holds is False
    assert refuted.verify()


def test_pac_no_data() -> None:
    data = UserDataset.empty(2)
    at = {"theta_honest": [3.0, 4.0], "loss": LeastSquares(), "nu": 0.5, "A": 7.0}
    # The event is ‖2νθ†‖ = 5 <= B·0^α.
    assert gradient_pac(data, **at, B=5.0, alpha=0.0).holds is True
    assert gradient_pac(data, **at, B=5.0, alpha=0.0).best_A == math.inf
    assert gradient_pac(data, **at, B=4.99, alpha=0.0).holds is False
    assert gradient_pac(data, **at, B=1e9, alpha=0.5).holds is False
    with pytest.raises(AssumptionError, match="alpha"):
        gradient_pac(data, **at, B=1.0, alpha=-0.5)


def test_pac_witness_violates_and_best_A_separates() -> None:
    rng = np.random.default_rng(3)
    for d in (1, 2, 5, 20, 100):
        n = 3 * d
        Q = rng.standard_normal((n, d))
        theta = rng.standard_normal(d)
        data = UserDataset(Q, Q @ theta + rng.standard_normal(n))
        _, p = model(data.Q, data.A, theta, 0.1)
        numbers = {"nu": 0.1, "B": 1.5 * float(np.linalg.norm(p)) / n**0.75, "alpha": 0.75}
        best = gradient_pac(data, theta, **LINEAR, A=0.0, **numbers).best_A
        assert best > 0
        assert gradient_pac(data, theta, **LINEAR, A=best * (1 - 1e-9), **numbers).holds is True
        refuted = gradient_pac(data, theta, **LINEAR, A=best * (1 + 1e-9) + 1e-9, **numbers)
        assert refuted.holds is False
        assert refuted.witness is not None
        assert pac_slack(data, refuted.witness, theta, **LINEAR, A=refuted.event.A, **numbers) < 0
        # ‖p‖ > b: the event fails for every A, however small the excess.
        numbers["B"] *= (1.0 - 1e-6) / 1.5
        steep = gradient_pac(data, theta, **LINEAR, A=0.0, **numbers)
        assert steep.holds is False
        assert steep.best_A == -math.inf
        assert steep.witness is not None
        assert pac_slack(data, steep.witness, theta, **LINEAR, A=0.0, **numbers) < 0


def test_pac_verdict_can_be_checked_by_exact_arithmetic() -> None:
    rng = np.random.default_rng(8)
    for _ in range(30):
        Q, a, theta, numbers = random_instance(rng)
        verdict = decide(Q, a, theta, **numbers)
        assert verdict.verify() is True
    planted = decide(np.eye(2), np.zeros(2), np.zeros(2), nu=0.0, A=0.4, B=0.0, alpha=0.5)
    object.__setattr__(planted.certificate, "multiplier", 3.0)
    assert planted.verify() is None


def test_pac_permuting_rotating_and_splitting_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    d, n = 4, 12
    Q, theta = rng.standard_normal((n, d)), rng.standard_normal(d)
    a = Q @ theta + rng.standard_normal(n)
    numbers = {"nu": 0.2, "A": 0.1, "B": 8.0, "alpha": 0.6}
    reference = decide(Q, a, theta, **numbers)
    order = rng.permutation(n)
    R, _ = np.linalg.qr(rng.standard_normal((d, d)))
    for other in (decide(Q[order], a[order], theta, **numbers), decide(Q @ R, a, R.T @ theta, **numbers)):
        width = reference.best_A_bounds.high - reference.best_A_bounds.low
        assert other.holds is reference.holds
        assert abs(other.best_A - reference.best_A) <= width + 1e-12


def test_sphere_minimum_bounds_enclose_dense_search() -> None:
    rng = np.random.default_rng(2)
    for d in (1, 2, 3):
        for scale in (1e-8, 1.0, 1e8):
            H = rng.standard_normal((d, d))
            H, g = scale * (H + H.T), scale * rng.standard_normal(d)
            minimum = minimize_on_sphere(H, g)
            u = directions(d)
            values = np.einsum("ij,jk,ik->i", u, H, u) + u @ g
            assert minimum.low <= values.min()
            assert minimum.high - minimum.low <= 1e-12 * scale * 10
            assert minimum.low <= minimum.high


def test_sphere_lower_bound_is_proved_by_exact_arithmetic_and_a_higher_one_is_not() -> None:
    rng = np.random.default_rng(6)
    for d in (1, 2, 5):
        H = rng.standard_normal((d, d))
        H, g = H + H.T, rng.standard_normal(d)
        minimum = minimize_on_sphere(H, g)
        scale = float(np.abs(H).sum() + np.abs(g).sum())
        proved = rational.fractions(lifted(H, g, minimum.multiplier, minimum.low - 1e-13 * scale))
        too_high = rational.fractions(lifted(H, g, minimum.multiplier, minimum.high + 1e-13 * scale))
        assert rational.is_positive_semidefinite(proved)
        assert not rational.is_positive_semidefinite(too_high)


def test_exact_semidefiniteness_on_matrices_with_known_answer() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        n, rank = int(rng.integers(1, 6)), int(rng.integers(0, 4))
        L = rational.fractions(rng.integers(-3, 4, (n, rank)) / 4.0).reshape(n, rank)
        G = L.dot(L.T) if rank else rational.fractions(np.zeros((n, n)))
        assert rational.is_positive_semidefinite(G)
        lowered = G.copy()
        j = int(rng.integers(n))
        lowered[j, j] -= G[j, j] + Fraction(1, 10**12)
        assert not rational.is_positive_semidefinite(lowered)


POWERS = [
    (16, Fraction(3, 4), Fraction(8)),
    (0, Fraction(1, 2), Fraction(0)),
    (0, Fraction(0), Fraction(1)),
    (7, Fraction(-1), Fraction(1, 7)),
]


@pytest.mark.parametrize(("base", "exponent", "value"), POWERS)
def test_rational_powers_are_exact(base: int, exponent: Fraction, value: Fraction) -> None:
    assert rational.power(base, exponent).low == rational.power(base, exponent).high == value


def test_irrational_powers_are_enclosed_tightly() -> None:
    found = rational.power(10, Fraction(1, 2))
    assert found.low**2 < 10 < found.high**2
    assert found.high - found.low < Fraction(1, 10**70)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"A": -1.0}, AssumptionError, "A must be"),
        ({"B": -1.0}, AssumptionError, "B must be"),
        ({"B": math.nan}, AssumptionError, "B must be"),
        ({"alpha": 1.0}, AssumptionError, "alpha"),
        ({"alpha": math.nan}, ShapeError, "alpha"),
        ({"nu": -0.1}, AssumptionError, "nu"),
        ({"theta_honest": [0.0]}, ShapeError, "theta_honest"),
        ({"theta_honest": [0.0, math.inf]}, ShapeError, "theta_honest"),
        ({"loss": Multinomial(3)}, AssumptionError, "loss"),
        ({"loss": LeastSquares}, AssumptionError, "loss"),
        ({"data": None}, ShapeError, "data"),
        ({"gap": 0.1}, ShapeError, "options"),
    ],
)
def test_pac_bad_input_is_refused(change: dict[str, Any], error: type[Exception], says: str) -> None:
    arguments: dict[str, Any] = {
        "data": UserDataset(np.eye(2), [0.0, 0.0]), "theta_honest": [0.0, 0.0], "loss": LeastSquares(),
        "nu": 0.0, "A": 0.1, "B": 1.0, "alpha": 0.5,
    }  # fmt: skip
    with pytest.raises(error, match=says):
        gradient_pac(**{**arguments, **change})


def test_pac_verdict_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match="three values"):
        bool(decide(np.eye(1), np.zeros(1), np.zeros(1), nu=0.0, A=0.1, B=0.0, alpha=0.5))


@pytest.mark.slow
def test_pac_decision_costs_less_than_five_eigendecompositions() -> None:
    rng = np.random.default_rng(0)
    Q = rng.standard_normal((1000, 50))
    data = UserDataset(Q, Q @ np.ones(50) + rng.standard_normal(1000))
    H = data.Q.T @ data.Q

    def least_time(function: Callable[[], object]) -> float:
        times = []
        for _ in range(30):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    reference = least_time(lambda: np.linalg.eigh(H))
    ours = least_time(lambda: gradient_pac(data, np.ones(50), **LINEAR, nu=0.1, A=0.3, B=3.0, alpha=0.75))
    assert ours < 5.0 * reference


@pytest.mark.parametrize(
    ("A", "z", "is_violated"), [(0.9, 0.5, False), (1.1, 0.5, True), (1.9, 2.0, False), (2.1, 2.0, True)]
)
def test_pac_exact_violation_uses_the_smaller_of_t_and_its_square(A: float, z: float, is_violated: bool) -> None:
    # t² against A·min(t, t²): for t = 1/2 the threshold is A = 1, for t = 2 it is A = 2.
    event = PacEvent.checked(UserDataset([[1.0]], [0.0]), [0.0], LeastSquares(), 0.0, A, 0.0, 0.5)
    assert ExactModel.of(event).is_violated_at(np.array([z])) is is_violated


@pytest.mark.parametrize("size", [1e-150, 1e-165, 1e-170, 1e-300])
@pytest.mark.parametrize(("share", "holds"), [(1.0 - 1e-10, False), (1.0 + 1e-10, True)])
def test_a_gradient_whose_square_underflows_is_not_taken_for_none(size: float, share: float, holds: bool) -> None:
    """With one datum (q, 1) and ν = A = 0, ‖∇L(0)‖ = q: the event holds exactly if q <= B.

    Norms that are taken from squares are 0 below 1e-162, where every B >= 0 seemed to be enough.
    """
    verdict = gradient_pac(
        UserDataset([[size]], [1.0]), [0.0], loss=LeastSquares(), nu=0.0, A=0.0, B=size * share, alpha=0.5
    )
    assert verdict.holds is holds
