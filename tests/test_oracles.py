"""The oracle's answers are minima of the loss that :class:`theory.Problem` evaluates.

The tolerance follows from what Clarabel promises.  Its duality gap, primal and dual residuals are each at most the
accuracy ε relative to the scaled cone program, so Loss - minimum <= 3ε(unit + |Loss|), and where the loss has
curvature at most L, ‖∇Loss‖² <= 2L(Loss - minimum).  For plain ℓ2 the same holds along the models that are tied to ρ,
and a tied user whose gradient exceeds λ by δ could gain δ²/(2L).
"""

from __future__ import annotations

import math
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import brentq

from proofs_checks.generators import CORNERS, LOSSES, NO_MINIMUM, REGULARIZERS
from proofs_checks.optimality import stationarity_excess
from solvers.oracles import OracleSolution, cvxpy_minimum, cvxpy_recession
from theory import (
    L2,
    AssumptionError,
    LeastSquares,
    Logistic,
    Multinomial,
    Problem,
    ShapeError,
    SmoothL2,
    SolverError,
    SquaredL2,
    UserDataset,
)

ACCURACY = 1e-8
# Errors of 1 % move the gradient by 1e-3, so they are seen at this accuracy.
FINE = 1e-10
CASES = [(loss, reg_type) for loss in LOSSES for reg_type in REGULARIZERS]
IDS = [f"{loss.name}-{reg_type.__name__}" for loss, reg_type in CASES]


def unit(problem: Problem) -> float:
    """The unit in which the oracle measures a least-squares loss: the square of the largest answer or pinned model."""
    if not isinstance(problem.loss, LeastSquares):
        return 1.0
    largest = [1.0, np.max(np.abs(problem.stack.labels), initial=0.0)]
    largest += [np.max(np.abs(model)) for model in problem.pinned.values()]
    return float(max(largest)) ** 2


def gap(problem: Problem, solution: OracleSolution, accuracy: float = ACCURACY) -> float:
    """How far the loss of the oracle's point can be from the minimum."""
    promised = 3.0 * accuracy * (unit(problem) + abs(solution.value))
    if not isinstance(problem.reg, L2):
        return promised
    # The oracle ties models that are within ε(1 + ‖ρ‖) of ρ, which moves the loss by its slope times that; at the
    # kink, the slope is at most that of the regularizer and of the data, which is at most λ there, for each user.
    return promised + 2.0 * problem.n_users * problem.reg.lam * accuracy * (1.0 + float(np.linalg.norm(solution.rho)))


def curvature(problem: Problem, rho: np.ndarray, thetas: np.ndarray) -> float:
    """An upper bound on the curvature of the loss in (ρ, θ), around models that are not tied to ρ."""
    largest = 0.0
    for n in range(problem.n_users):
        Q = problem.stack.user(n)[0]
        # φ'' is at most 1, or 1/4 for logistic data, or 1/2 for K classes.
        largest = max(largest, 2.0 * problem.nu + float(np.linalg.norm(Q, 2) ** 2 if Q.size else 0.0))
    lam = problem.reg.lam  # type: ignore[attr-defined]
    spring = 2.0 * lam if isinstance(problem.reg, SquaredL2) else lam
    if isinstance(problem.reg, L2):
        lengths = np.linalg.norm(rho - thetas, axis=1)
        # Half the distance, so that the bound holds on a ball around the point and not at the point alone.
        spring = lam / (0.5 * min(lengths[lengths > 0], default=1.0))
    return largest + spring * (problem.n_users + 1.0)


def tolerance(problem: Problem, solution: OracleSolution, accuracy: float = ACCURACY) -> float:
    L = curvature(problem, solution.rho, solution.thetas)
    return math.sqrt(2.0 * L * gap(problem, solution, accuracy))


def is_minimum(problem: Problem, solution: OracleSolution, accuracy: float = ACCURACY) -> bool:
    """Whether the answer passes as a minimum of ``problem``: by its value, and by the optimality conditions."""
    value = problem.value(solution.rho, solution.thetas)
    if not abs(value - solution.value) <= gap(problem, solution, accuracy):
        return False
    return stationarity_excess(problem, solution.rho, solution.thetas) <= tolerance(problem, solution, accuracy)


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=IDS)
def test_the_oracle_finds_a_minimum(loss: Any, reg_type: Any, corner: str, rng: np.random.Generator) -> None:
    problem = CORNERS[corner](rng, loss, reg_type)
    solution = cvxpy_minimum(problem, accuracy=ACCURACY)
    assert solution.status == "optimal"
    assert solution.thetas.shape == (problem.n_users, problem.dim)
    for s, model in problem.pinned.items():
        np.testing.assert_array_equal(solution.thetas[s], model)
    assert is_minimum(problem, solution)


def reweighted(problem: Problem, *, nu: float = 1.0, lam: float = 1.0, slope: float = 1.0) -> Problem:
    """The problem with ν, λ and the tilt multiplied by factors: what an oracle with that mistake would solve."""
    reg = type(problem.reg)(lam * problem.reg.lam)  # type: ignore[attr-defined,call-arg]
    users = [*problem.users, UserDataset.empty(problem.query_dim)]
    wrong = Problem(users, problem.loss, reg, nu * problem.nu).tilt(len(users) - 1, slope * problem.slope)
    for s, model in problem.pinned.items():
        wrong = wrong.pin(s, model)
    return wrong


FALSEHOODS = {
    "nu is dropped": {"nu": 0.0},
    "nu is halved": {"nu": 0.5},
    "nu is 1 percent off": {"nu": 1.01},
    "lambda is doubled": {"lam": 2.0},
    "lambda is 1 percent off": {"lam": 0.99},
    "the tilt is dropped": {"slope": 0.0},
    "the tilt has the wrong sign": {"slope": -1.0},
    "the tilt is 1 percent off": {"slope": 1.01},
}


@pytest.mark.parametrize("falsehood", FALSEHOODS)
@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=IDS)
def test_a_wrong_oracle_is_caught(loss: Any, reg_type: Any, falsehood: str, rng: np.random.Generator) -> None:
    problem = CORNERS["pinned_and_tilted"](rng, loss, reg_type)
    assert is_minimum(problem, cvxpy_minimum(reweighted(problem), accuracy=FINE), FINE)
    wrong = cvxpy_minimum(reweighted(problem, **FALSEHOODS[falsehood]), accuracy=FINE)
    # The value alone, and the optimality conditions alone, catch it.
    assert abs(problem.value(wrong.rho, wrong.thetas) - wrong.value) > gap(problem, wrong, FINE)
    assert stationarity_excess(problem, wrong.rho, wrong.thetas) > tolerance(problem, wrong, FINE)


@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=IDS)
def test_an_oracle_that_loses_data_or_a_pin_is_caught(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    problem = CORNERS["pinned"](rng, loss, reg_type)
    for s in range(problem.n_users):
        wrong = cvxpy_minimum(problem.pin(s, np.zeros(problem.dim)), accuracy=ACCURACY)
        thetas = wrong.thetas.copy()
        thetas[s] = problem.pinned.get(s, wrong.rho)
        assert stationarity_excess(problem, wrong.rho, thetas) > tolerance(problem, wrong)


@pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda reg_type: reg_type.__name__)
def test_reduced_and_raw_data_give_the_same_minimum(reg_type: Any, rng: np.random.Generator) -> None:
    for corner in ("plain", "outliers", "fewer_data_than_dimensions", "collinear_queries", "pinned"):
        problem = CORNERS[corner](rng, LeastSquares(), reg_type)
        raw = cvxpy_minimum(problem, accuracy=ACCURACY, reduce=False)
        reduced = cvxpy_minimum(problem, accuracy=ACCURACY)
        assert is_minimum(problem, raw)
        assert is_minimum(problem, reduced)
        assert abs(raw.value - reduced.value) <= gap(problem, raw) + gap(problem, reduced)


# Known answers, by a route that knows nothing of cones.


@pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda reg_type: reg_type.__name__)
def test_one_user_is_ridge_regression(reg_type: Any, rng: np.random.Generator) -> None:
    # With one user ρ = θ costs nothing beyond R(0).
    Q, A = rng.standard_normal((9, 3)), rng.standard_normal(9)
    problem = Problem([UserDataset(Q, A)], LeastSquares(), reg_type(0.7), nu=0.2)
    ridge = np.linalg.solve(Q.T @ Q + 0.4 * np.eye(3), Q.T @ A)
    solution = cvxpy_minimum(problem, accuracy=ACCURACY)
    # Minimized over ρ, the loss has curvature at least 2ν = 0.4.
    distance = math.sqrt(2.0 * gap(problem, solution) / 0.4)
    assert np.linalg.norm(solution.thetas[0] - ridge) <= distance
    rest = 0.7 if reg_type is SmoothL2 else 0.0
    expected = 0.5 * np.sum((Q @ ridge - A) ** 2) + 0.2 * ridge @ ridge + rest
    assert abs(solution.value - expected) <= gap(problem, solution)


def test_pinned_models_give_the_mean_and_the_geometric_median() -> None:
    corners = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])

    def center(reg: Any) -> np.ndarray:
        problem = Problem([UserDataset.empty(2)] * 3, LeastSquares(), reg)
        for s, corner in enumerate(corners):
            problem = problem.pin(s, corner)
        return cvxpy_minimum(problem, accuracy=1e-11).rho

    # The curvature is 6, and 0.45 or more at the Fermat point; the gap is at most 1e-9 (unit 16, loss below 54).
    np.testing.assert_allclose(center(SquaredL2(1.0)), corners.mean(axis=0), atol=math.sqrt(2e-9 / 0.45))
    # The Fermat point sees each side at 120°: on the diagonal, at 4/(3 + √3) from both axes.
    np.testing.assert_allclose(center(L2(1.0)), np.full(2, 4.0 / (3.0 + math.sqrt(3.0))), atol=math.sqrt(2e-9 / 0.45))


def test_one_logistic_datum() -> None:
    problem = Problem([UserDataset([[2.0]], [1.0])], Logistic(), SquaredL2(1.0), nu=0.1)
    exact = brentq(lambda theta: 0.2 * theta - 2.0 / (1.0 + math.exp(2.0 * theta)), 0.0, 10.0, xtol=1e-14)
    # The gap is at most 6e-8 (loss below 1), and the curvature at least 2ν = 0.2.
    assert cvxpy_minimum(problem).thetas[0, 0] == pytest.approx(exact, abs=math.sqrt(2.0 * 6e-8 / 0.2))


def test_soft_labels_of_one_query_are_reproduced() -> None:
    # With one query and ν = 0 the softmax of the margins is the mean of the labels.
    labels = np.array([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]])
    problem = Problem([UserDataset([[1.0], [1.0]], labels)], Multinomial(3), SquaredL2(1.0), nu=1e-9)
    odds = np.exp(cvxpy_minimum(problem).thetas[0])
    # The gap, at most 1.2e-7 (loss below 3), is twice a Kullback-Leibler divergence, so at least ‖p - q‖² (Pinsker).
    np.testing.assert_allclose(odds / odds.sum(), labels.mean(axis=0), atol=math.sqrt(1.2e-7))


# No minimum.


@pytest.mark.parametrize("corner", NO_MINIMUM)
@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=IDS)
def test_no_minimum_is_seen(loss: Any, reg_type: Any, corner: str, rng: np.random.Generator) -> None:
    problem = NO_MINIMUM[corner](rng, loss, reg_type)
    recession = cvxpy_recession(problem)
    assert recession.rate < -1e-3 or recession.decrease > 1e-3
    # Along the direction the loss decreases, from anywhere.
    assert problem.value(10.0 * recession.rho, 10.0 * recession.thetas) < problem.value(recession.rho, recession.thetas)
    solution = cvxpy_minimum(problem)
    if recession.rate < -1e-3:
        assert (solution.status, solution.value) == ("unbounded", -math.inf)
        assert np.isnan(solution.rho).all()
        assert np.isnan(solution.thetas).all()
    else:
        # The infimum is bounded but not attained, which the duality gap cannot tell: the answer lies far out.
        assert solution.status == "optimal"
        assert np.linalg.norm(solution.rho) > 5.0


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=IDS)
def test_a_minimum_has_no_direction_of_recession(
    loss: Any, reg_type: Any, corner: str, rng: np.random.Generator
) -> None:
    recession = cvxpy_recession(CORNERS[corner](rng, loss, reg_type))
    assert recession.rate >= -1e-4
    assert recession.decrease <= 1e-4


# Refusals.


def test_an_accuracy_out_of_reach_is_an_error(rng: np.random.Generator) -> None:
    problem = CORNERS["outliers"](rng, Logistic(), L2)
    assert cvxpy_minimum(problem, accuracy=1e-6).status == "optimal"
    with pytest.raises(SolverError, match="accuracy 1e-20"):
        cvxpy_minimum(problem, accuracy=1e-20)


@pytest.mark.parametrize("status", ["infeasible", "user_limit", "infeasible_inaccurate"])
def test_any_other_status_is_an_error(status: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    problem = CORNERS["plain"](rng, LeastSquares(), SquaredL2)
    monkeypatch.setattr(cp.Problem, "status", property(lambda self: status))
    with pytest.raises(SolverError, match=status):
        cvxpy_minimum(problem)


@pytest.mark.parametrize("accuracy", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("function", [cvxpy_minimum, cvxpy_recession])
def test_accuracy_must_be_positive(function: Any, accuracy: float, rng: np.random.Generator) -> None:
    with pytest.raises(AssumptionError, match="accuracy"):
        function(CORNERS["plain"](rng, LeastSquares(), SquaredL2), accuracy=accuracy)


def test_other_losses_and_regularizers_are_refused(rng: np.random.Generator) -> None:
    class Huber:
        name, n_outputs = "huber", 1

        def encode(self, A: Any, name: str) -> Any:
            return A

        def phi(self, m: Any, a: Any) -> Any:
            return np.abs(m - a)

        def dphi(self, m: Any, a: Any) -> Any:
            return np.sign(m - a)

        def d2phi(self, m: Any, a: Any) -> Any:
            return np.zeros_like(m)

    class Nothing:
        name = "nothing"

        def value(self, rho: Any, theta: Any) -> Any:
            return np.zeros(np.shape(theta)[:-1])

        def gradient(self, rho: Any, theta: Any) -> Any:
            return np.zeros_like(theta)

        def project(self, g: Any) -> Any:
            return np.zeros_like(g)

    users = CORNERS["plain"](rng, LeastSquares(), SquaredL2).users
    for function in (cvxpy_minimum, cvxpy_recession):
        with pytest.raises(ShapeError, match=r"problem\.loss"):
            function(Problem(users, Huber(), SquaredL2(1.0)))
        with pytest.raises(ShapeError, match=r"problem\.reg"):
            function(Problem(users, LeastSquares(), Nothing()))
