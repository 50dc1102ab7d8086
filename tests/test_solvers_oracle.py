"""Every solver's minimum against the cone solver's, for all losses, regularizers and corners.

Two points agree if they are no farther apart than their certificates allow: each certificate bounds the distance to
the closest minimizer from the data alone.  Where a certificate says nothing (ν = 0 and a flat direction), the values
and the optimality conditions still must agree.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from proofs_checks.generators import CORNERS, LOSSES, NO_MINIMUM, REGULARIZERS, edge_biased_problem
from proofs_checks.optimality import force_scale, stationarity_excess
from solvers import Solution, Status, minimize
from solvers.certificate import certify
from solvers.oracles import OracleSolution, cvxpy_minimum, cvxpy_recession
from theory import L2, LeastSquares, Multinomial, Problem, SolverError, SquaredL2

EPS = float(np.finfo(np.float64).eps)
ACCURACY = 1e-8
CASES = [(loss, reg_type) for loss in LOSSES for reg_type in REGULARIZERS]
IDS = [f"{loss.name}-{reg_type.__name__}" for loss, reg_type in CASES]


def distance_to_minimizers(solution: Solution, rho: np.ndarray, thetas: np.ndarray) -> float:
    """The distance of a point to the set of minimizers that a solution describes."""
    d_rho, d_thetas = rho - solution.rho, thetas - solution.thetas
    if solution.minimizers is None:
        return math.hypot(float(np.linalg.norm(d_rho)), float(np.linalg.norm(d_thetas)))
    if solution.minimizers.kind == "affine":
        # All models move together along the basis; what is left after the best such move is the distance.
        moves = np.tile(solution.minimizers.basis, (1, len(thetas) + 1))
        stacked = np.concatenate([d_rho, d_thetas.ravel()])
        best = np.linalg.lstsq(moves.T, stacked, rcond=None)[0]
        return float(np.linalg.norm(stacked - moves.T @ best))
    start, end = solution.minimizers.points
    along = end - start
    # ρ slides on the segment, and a model without a force of its own (no data, ν = 0) slides with it.
    problem = solution.problem
    free_riders = [
        n for n, u in enumerate(problem.users) if not u.n_data and n not in problem.pinned and problem.nu == 0.0
    ]
    sliding = np.array([rho, *thetas[free_riders]])
    t = float(np.clip(np.mean((sliding - start) @ along) / (along @ along), 0.0, 1.0))
    at_rest = np.delete(d_thetas, free_riders, axis=0)
    return math.hypot(float(np.linalg.norm(sliding - (start + t * along))), float(np.linalg.norm(at_rest)))


def promised_gap(problem: Problem, oracle: OracleSolution) -> float:
    """How far the oracle's loss can be from the minimum (see test_oracles for the derivation)."""
    largest = [1.0]
    if isinstance(problem.loss, LeastSquares):
        largest += [float(np.max(np.abs(problem.stack.labels), initial=0.0))]
        largest += [float(np.max(np.abs(model))) for model in problem.pinned.values()]
    ties = 2.0 * problem.n_users * problem.reg.lam * (1.0 + float(np.linalg.norm(oracle.rho)))  # type: ignore[attr-defined]
    return ACCURACY * (3.0 * (max(largest) ** 2 + abs(oracle.value)) + ties)


def value_rounding(problem: Problem, value: float) -> float:
    """The rounding of a loss that is a sum of terms of one sign, and of the tilt."""
    return 4.0 * EPS * (problem.stack.labels.size + problem.n_users * problem.dim + 10.0) * (1.0 + abs(value))


def compare(problem: Problem, solution: Solution, oracle: OracleSolution) -> None:
    ours, theirs = problem.value(solution.rho, solution.thetas), problem.value(oracle.rho, oracle.thetas)
    rounding = value_rounding(problem, theirs)
    # The oracle is no better than rounding, and we are no better than it promises.
    assert ours <= theirs + rounding
    assert theirs <= ours + promised_gap(problem, oracle) + rounding
    certificate, other = certify(problem, solution.rho, solution.thetas), certify(problem, oracle.rho, oracle.thetas)
    assert theirs - ours <= other.gap_bound + rounding
    assert (
        distance_to_minimizers(solution, oracle.rho, oracle.thetas) <= certificate.distance_bound + other.distance_bound
    )


def is_stationary(problem: Problem, rho: np.ndarray, thetas: np.ndarray) -> bool:
    """Whether the optimality conditions hold to 1e-12, or to the rounding of the terms that cancel in them."""
    at_zero = stationarity_excess(_unpinned(problem), np.zeros(problem.dim), np.zeros((problem.n_users, problem.dim)))
    rounding = 20.0 * EPS * force_scale(problem, rho, thetas)
    return stationarity_excess(problem, rho, thetas) <= 1e-12 * at_zero + rounding


def _unpinned(problem: Problem) -> Problem:
    for s in problem.pinned:
        problem = problem.pin(s, np.zeros(problem.dim))
    return problem


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=IDS)
def test_solvers_agree_with_the_oracle(loss: Any, reg_type: Any, corner: str, rng: np.random.Generator) -> None:
    problem = CORNERS[corner](rng, loss, reg_type)
    solution = minimize(problem)
    assert solution.status.is_minimum
    assert is_stationary(problem, solution.rho, solution.thetas)
    compare(problem, solution, cvxpy_minimum(problem, accuracy=ACCURACY))
    if problem.nu > 0.0:
        # The comparison of distances is not empty.
        assert certify(problem, solution.rho, solution.thetas).theta_distance_bound <= 1e-6 * (
            1.0 + float(np.linalg.norm(solution.thetas))
        )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=IDS)
def test_solvers_agree_with_the_oracle_on_random_edges(loss: Any, reg_type: Any, seed: int) -> None:
    problem = edge_biased_problem(np.random.default_rng([seed, 77]), loss, reg_type)
    solution = minimize(problem)
    assert is_stationary(problem, solution.rho, solution.thetas)
    compare(problem, solution, cvxpy_minimum(problem, accuracy=ACCURACY))


@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=IDS)
def test_every_method_agrees_with_the_oracle(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    problem = CORNERS["pinned_and_tilted"](rng, loss, reg_type)
    oracle = cvxpy_minimum(problem, accuracy=ACCURACY)
    if isinstance(problem.loss, LeastSquares):
        methods = ("closed_form", "secular", "dense") if reg_type is SquaredL2 else ("secular", "dense")
    else:
        methods = ("newton", "dense")
    for method in methods:
        # The readable second route needs a smooth loss.
        if method == "dense" and reg_type is L2:
            continue
        solution = minimize(problem, method=method)
        assert solution.stats["method"] == method
        assert is_stationary(problem, solution.rho, solution.thetas)
        compare(problem, solution, oracle)


@pytest.mark.parametrize("corner", NO_MINIMUM)
@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=IDS)
def test_no_minimum_is_reported_with_its_direction(
    loss: Any, reg_type: Any, corner: str, rng: np.random.Generator
) -> None:
    problem = NO_MINIMUM[corner](rng, loss, reg_type)
    recession = cvxpy_recession(problem)
    assert recession.rate < -1e-3 or recession.decrease > 1e-3
    solution = minimize(problem, throw=False)
    assert solution.status is Status.NO_MINIMUM
    assert solution.direction is not None
    # The loss decreases for ever along the direction: from any point, however far.
    size = float(np.linalg.norm(solution.direction.rho))
    assert size > 0.0
    rho, thetas = solution.direction.rho / size, solution.direction.thetas / size
    values = [problem.value(t * rho, t * thetas) for t in (1.0, 3.0, 9.0)]
    assert values[0] > values[1] > values[2]
    with pytest.raises(SolverError):
        minimize(problem)


def wrong_problem(problem: Problem, falsehood: str) -> Problem:
    """What a solver with the named mistake would minimize instead."""
    if falsehood == "nu is dropped":
        return Problem(problem.users, problem.loss, problem.reg, 0.0)
    if falsehood == "nu is one in a million off":
        return Problem(problem.users, problem.loss, problem.reg, problem.nu * (1.0 + 1e-6))
    if falsehood == "lambda is doubled":
        return Problem(problem.users, problem.loss, type(problem.reg)(2.0 * problem.reg.lam), problem.nu)  # type: ignore[attr-defined,call-arg]
    if falsehood == "lambda is one in a million off":
        reg = type(problem.reg)(problem.reg.lam * (1.0 + 1e-6))  # type: ignore[attr-defined,call-arg]
        return Problem(problem.users, problem.loss, reg, problem.nu)
    if falsehood == "a user is dropped":
        return problem.pin(0, np.zeros(problem.dim))
    raise ValueError(falsehood)


@pytest.mark.parametrize(
    "falsehood",
    [
        "nu is dropped",
        "nu is one in a million off",
        "lambda is doubled",
        "lambda is one in a million off",
        "a user is dropped",
    ],
)
@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=IDS)
def test_a_wrong_minimum_is_caught(loss: Any, reg_type: Any, falsehood: str, rng: np.random.Generator) -> None:
    problem = CORNERS["plain"](rng, loss, reg_type)
    right = minimize(problem)
    assert is_stationary(problem, right.rho, right.thetas)
    wrong = minimize(wrong_problem(problem, falsehood), throw=False)
    assert not is_stationary(problem, wrong.rho, wrong.thetas)
    if "million" not in falsehood:
        # A coarse mistake is seen by the oracle too.
        planted = Solution(problem, wrong.rho, wrong.thetas, wrong.status, wrong.stats)
        with pytest.raises(AssertionError):
            compare(problem, planted, cvxpy_minimum(problem, accuracy=ACCURACY))


def test_the_classes_of_the_multinomial_loss_move_together(rng: np.random.Generator) -> None:
    # With ν = 0 a common shift of all classes changes nothing: the minimizers are a set, and the distance is to it.
    problem = CORNERS["nu_zero"](rng, Multinomial(3), REGULARIZERS[0])
    solution = minimize(problem)
    assert solution.status is Status.SET
    assert solution.minimizers is not None
    shift = np.tile([0.3, -0.2], 3)
    assert distance_to_minimizers(solution, solution.rho + shift, solution.thetas + shift) <= 1e-12
    assert distance_to_minimizers(solution, solution.rho + shift, solution.thetas) > 0.1
    oracle = cvxpy_minimum(problem, accuracy=ACCURACY)
    # Seen through the margins, whose differences between classes are what the loss determines, both agree.
    assert distance_to_minimizers(solution, oracle.rho, oracle.thetas) <= 1e-3
