"""Exact minima: residuals computed from ``theory`` alone, second routes, metamorphic relations, and no minimum at all.

Nothing here trusts a number that the solver reports: the residual is ``Problem.gradient`` with the subgradients at
ties chosen below, directions of recession are measured on the data, and segments are measured with ``Problem.value``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
import scipy.optimize
import threadpoolctl
from scipy.special import expit

from proofs_checks.generators import (
    CORNERS,
    LOSSES,
    NO_MINIMUM,
    OUTLIER,
    REGULARIZERS,
    ambivalent_user,
    random_problem,
    random_user,
    tilted,
    unit_vector,
)
from solvers import Direction, Solution, Status, _parallel, honest_gradient, local_minima, minimize
from theory import (
    L2,
    AssumptionError,
    EquipoiseError,
    LeastSquares,
    Logistic,
    Loss,
    Multinomial,
    Problem,
    ShapeError,
    SmoothL2,
    SolverError,
    SquaredL2,
    UserDataset,
)
from theory.arrays import Array
from theory.losses import local_gradient, local_hessian, local_loss, margins

EPS = float(np.finfo(np.float64).eps)
GOAL = 1e-12  # the relative residual that well-posed problems must reach


# ---------------------------------------------------------------------------------------------------------------
# The residual, once more
# ---------------------------------------------------------------------------------------------------------------


def zero_point(problem: Problem) -> tuple[Array, Array]:
    thetas = np.zeros((problem.n_users, problem.dim))
    for s, model in problem.pinned.items():
        thetas[s] = model
    return np.zeros(problem.dim), thetas


def size_of(gradient: tuple[Array, Array]) -> float:
    return float(np.hypot(np.linalg.norm(gradient[0]), np.linalg.norm(gradient[1])))


def residual(problem: Problem, rho: Array, thetas: Array) -> float:
    """An upper bound on the distance of 0 to the subdifferential at (ρ, θ)."""
    outer, inner = problem.gradient(rho, thetas)
    if isinstance(problem.reg, L2):
        lam, tied = problem.reg.lam, (thetas == rho).all(axis=1)
        for n in np.flatnonzero(tied & problem.free):
            # theory's gradient takes 0 at the kink; the subgradient in B(0, λ) that is closest to ∇L_n is better.
            length = float(np.linalg.norm(inner[n]))
            subgradient = inner[n] * min(1.0, lam / length) if length > 0 else np.zeros(problem.dim)
            inner[n] = inner[n] - subgradient
            outer = outer + subgradient
        held = lam * int((tied & ~problem.free).sum())
        length = float(np.linalg.norm(outer))
        outer = outer * max(0.0, 1.0 - held / length) if length > 0 else outer
    return size_of((outer, inner))


def scale_of(problem: Problem) -> float:
    """‖∇Loss(0, 0)‖, to which residuals are relative."""
    return size_of(problem.gradient(*zero_point(problem)))


def rounding(problem: Problem, rho: Array, thetas: Array) -> float:
    """What one rounding of each number that enters the gradient does to it; it matters where ∇Loss(0, 0) is ≈ 0."""
    lam, total, K = problem.reg.lam, 0.0, problem.loss.n_outputs
    for n in range(problem.n_users):
        Q, a = problem.stack.user(n)
        apart = float(np.linalg.norm(rho - thetas[n]))
        # Next to the kink of plain ℓ2 rounding could excuse anything; there a model must be tied.
        stiff = lam / apart if apart > 1e-6 * np.linalg.norm(rho) else 0.0
        stiffness = {"squared_l2": 2 * lam, "l2": stiff}.get(problem.reg.name, lam / np.hypot(1.0, apart))
        total += (stiffness + 2 * problem.nu) * float(np.linalg.norm(rho) + np.linalg.norm(thetas[n]))
        if problem.free[n] and len(Q):
            m, lengths = margins(thetas[n], Q, K), np.linalg.norm(Q, axis=1)
            slope = np.abs(problem.loss.dphi(m, a)) + (np.abs(a) if isinstance(problem.loss, LeastSquares) else 1.0)
            curvature = np.abs(problem.loss.d2phi(m, a)).reshape(len(Q), -1).max(axis=1)
            margin_rounding = curvature * lengths * np.linalg.norm(thetas[n])
            total += float(np.sum(lengths * (np.linalg.norm(slope.reshape(len(Q), K), axis=1) + margin_rounding)))
    return EPS * total


def allowed(problem: Problem, rho: Array, thetas: Array) -> float:
    return max(GOAL * scale_of(problem), rounding(problem, rho, thetas))


def assert_minimum(problem: Problem, solution: Solution) -> None:
    assert solution.status.is_minimum
    assert residual(problem, solution.rho, solution.thetas) <= allowed(problem, solution.rho, solution.thetas)


def name_of(loss: Loss) -> str:
    return f"{loss.name}{loss.n_outputs if loss.n_outputs > 1 else ''}"


needs_compilation = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="takes minutes without compilation")
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=name_of)
every_reg = pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda r: r.__name__)


@every_loss
@every_reg
@pytest.mark.parametrize("corner", CORNERS)
def test_every_corner_is_solved_to_rounding(corner: str, loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = CORNERS[corner](rng, loss, reg_type)
    assert_minimum(problem, minimize(problem))


@every_loss
@every_reg
@pytest.mark.parametrize("n_users", [1, 2, 10, 300])
def test_any_number_of_users(n_users: int, loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=n_users, dim=3, n_data=6)
    assert_minimum(problem, minimize(problem))


@every_loss
@every_reg
@pytest.mark.parametrize("lam", 10.0 ** np.arange(-3.0, 4.0))
def test_lambda_from_a_thousandth_to_a_thousand(
    lam: float, loss: Loss, reg_type: Any, rng: np.random.Generator
) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=5, dim=4, n_data=9, lam=lam)
    assert_minimum(problem, minimize(problem))


@needs_compilation
@every_reg
def test_ten_thousand_users(reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), reg_type, n_users=10_000, dim=20, n_data=5)
    assert_minimum(problem, minimize(problem))


@needs_compilation
@pytest.mark.slow
@every_reg
def test_ten_thousand_logistic_users(reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, Logistic(), reg_type, n_users=10_000, dim=20, n_data=5)
    assert_minimum(problem, minimize(problem))


@needs_compilation
@every_reg
def test_two_hundred_dimensions(reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), reg_type, n_users=3, dim=200, n_data=250, nu=1e-2)
    assert_minimum(problem, minimize(problem))


@needs_compilation
@pytest.mark.slow
@every_reg
def test_two_hundred_dimensions_of_a_logistic_model(reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, Logistic(), reg_type, n_users=3, dim=200, n_data=250, nu=1e-2)
    assert_minimum(problem, minimize(problem))


@every_loss
@every_reg
def test_outliers_duplicates_collinear_and_empty_users_together(
    loss: Loss, reg_type: Any, rng: np.random.Generator
) -> None:
    dim = 4
    users = [random_user(rng, loss, 12, dim) for _ in range(4)]
    line = np.outer(rng.standard_normal(10), unit_vector(rng, dim))
    users += [users[0], users[0], UserDataset.empty(dim), ambivalent_user(rng, loss, line)]
    Q, A = rng.standard_normal((12, dim)), random_user(rng, loss, 12, dim).A.copy()
    if isinstance(loss, LeastSquares):
        A[:3] = OUTLIER * np.array([1.0, -1.0, 1.0])
    else:
        Q[:3] *= OUTLIER
    problem = Problem([*users, UserDataset(Q, A)], loss, reg_type(2.0), 0.05)
    assert_minimum(problem, minimize(problem))


def slightly_off(solution: Solution, size: float) -> Iterator[tuple[Array, Array]]:
    free = solution.problem.free
    yield solution.rho + size, solution.thetas
    yield solution.rho, solution.thetas + size * free[:, None]
    one = np.zeros_like(solution.thetas)
    one[int(np.flatnonzero(free)[0]), 0] = size
    yield solution.rho, solution.thetas + one
    yield solution.rho, np.where(free[:, None], solution.rho, solution.thetas)  # all tied
    yield zero_point(solution.problem)


@every_loss
@every_reg
def test_the_residual_refuses_perturbed_points(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=3, lam=0.3).pin(2, np.full(3 * loss.n_outputs, 0.4))
    solution = minimize(problem)
    assert_minimum(problem, solution)
    for rho, thetas in slightly_off(solution, 1e-9):
        assert not residual(problem, rho, thetas) <= allowed(problem, rho, thetas)


# ---------------------------------------------------------------------------------------------------------------
# Ties of plain ℓ2
# ---------------------------------------------------------------------------------------------------------------


def gradients_at(problem: Problem, thetas: Array) -> Array:
    return np.array(
        [local_gradient(thetas[n], *problem.stack.user(n), problem.loss, problem.nu) for n in range(problem.n_users)]
    )


@pytest.mark.parametrize(("loss", "lam"), [(LOSSES[0], 9.0), (LOSSES[1], 2.0), (LOSSES[2], 4.0)], ids=str)
def test_ties_are_exact_and_exactly_where_the_force_is_below_lambda(
    loss: Loss, lam: float, rng: np.random.Generator
) -> None:
    problem = random_problem(rng, loss, L2, n_users=12, dim=3, n_data=10, lam=lam, nu=0.1)
    solution = minimize(problem)
    tied = (solution.thetas == solution.rho).all(axis=1)
    assert 0 < tied.sum() < 12
    forces = np.linalg.norm(gradients_at(problem, solution.thetas), axis=1)
    assert np.all(forces[tied] <= problem.reg.lam)
    # Bit for bit: a model that differs from ρ feels the full force λ, up to the residual.
    scale = scale_of(problem)
    assert np.all(np.abs(forces[~tied] - problem.reg.lam) <= GOAL * scale)
    assert solution.stats["n_tied"] == tied.sum()


@pytest.mark.parametrize("seed", [30, 43, 48, 145, 173, 201])
def test_a_model_that_becomes_tied_on_the_way_does_not_hold_up_the_search(seed: int) -> None:
    """A user without information, one with a single direction, and one in full: along Newton's step the last one's
    model meets ρ, where the curvature jumps.  A search that tries a few fixed lengths creeps (found by stress tests).
    """
    rng, dim = np.random.default_rng(seed), 5
    models = [rng.normal(size=dim) * 10.0 ** rng.uniform(-1, 1) for _ in range(3)]
    queries = [
        np.zeros((17, dim)),
        np.outer(rng.normal(size=17), rng.normal(size=dim)),
        rng.normal(size=(30, dim)),
    ]
    noise = [0.5 * rng.normal(size=len(Q)) * Q.any() for Q in queries]
    users = [UserDataset(Q, Q @ theta + e) for Q, theta, e in zip(queries, models, noise, strict=True)]
    problem = Problem(users, LeastSquares(), L2(float(10.0 ** rng.uniform(-1, 0.5))), 1e-3)
    solution = minimize(problem)
    assert_minimum(problem, solution)
    assert solution.stats["n_tied"] >= 1
    assert solution.stats["iterations"] <= 30


@every_loss
def test_a_large_lambda_ties_everybody_to_the_pooled_model(loss: Loss, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, L2, n_users=4, dim=2, n_data=6, lam=1e3, nu=0.2)
    solution = minimize(problem)
    assert np.all(solution.thetas == solution.rho)
    pooled = UserDataset(np.concatenate([u.Q for u in problem.users]), np.concatenate([u.A for u in problem.users]))
    lone = minimize(Problem([pooled], loss, L2(1.0), 4 * 0.2))
    # The pooled loss is 2·4ν-strongly convex; each residual is at most GOAL times its scale.
    scale = scale_of(problem)
    assert np.linalg.norm(lone.rho - solution.rho) <= 2 * GOAL * scale * 2 / (2 * 4 * 0.2)


# ---------------------------------------------------------------------------------------------------------------
# Second routes
# ---------------------------------------------------------------------------------------------------------------


def curvature_of_reg(problem: Problem, rho: Array, theta: Array) -> Array:
    reg, z, identity = problem.reg, rho - theta, np.eye(rho.size)
    if isinstance(reg, SquaredL2):
        return 2 * reg.lam * identity
    root = np.linalg.norm(z) if isinstance(reg, L2) else np.hypot(1.0, np.linalg.norm(z))
    return reg.lam / root * (identity - np.outer(z, z) / root**2)


def modulus(solution: Solution) -> float:
    """Least eigenvalue of the joint Hessian at the solution, tied users moving with ρ (on which the loss is smooth)."""
    problem, P = solution.problem, solution.problem.dim
    tied = (solution.thetas == solution.rho).all(axis=1) & problem.free & isinstance(problem.reg, L2)
    movable = [n for n in range(problem.n_users) if problem.free[n] and not tied[n]]
    H = np.zeros((P * (1 + len(movable)),) * 2)
    for n in range(problem.n_users):
        own = local_hessian(solution.thetas[n], *problem.stack.user(n), problem.loss, problem.nu)
        if tied[n]:
            H[:P, :P] += own
            continue
        R = curvature_of_reg(problem, solution.rho, solution.thetas[n])
        H[:P, :P] += R
        if n in problem.pinned:
            continue
        at = slice(P * (1 + movable.index(n)), P * (2 + movable.index(n)))
        H[at, at] += own + R
        H[:P, at] -= R
        H[at, :P] -= R
    return float(np.linalg.eigvalsh(H)[0])


def assert_same(a: tuple[Array, Array], b: tuple[Array, Array], solution: Solution, *residuals: float) -> None:
    """Two points whose residuals are known are as close as the curvature at the minimum makes them.

    The Hessian changes by less than a factor of 2 within such distances, hence the 2.
    """
    distance = float(np.hypot(np.linalg.norm(a[0] - b[0]), np.linalg.norm(a[1] - b[1])))
    size = float(np.linalg.norm(a[0]) + np.linalg.norm(a[1]))
    assert distance <= 2 * sum(residuals) / modulus(solution) + 8 * EPS * size


def residual_of(problem: Problem, solution: Solution) -> float:
    return residual(problem, solution.rho, solution.thetas)


def unique_problem(rng: np.random.Generator, loss: Loss, reg_type: Any, n_users: int = 5) -> Problem:
    """Enough users and dimensions for ρ* to be a point under plain ℓ2, too."""
    return random_problem(rng, loss, reg_type, n_users=n_users, dim=2, n_data=7, lam=0.7, nu=0.15)


@every_loss
@pytest.mark.parametrize("reg_type", [SquaredL2, SmoothL2], ids=lambda r: r.__name__)
@pytest.mark.parametrize("corner", ["plain", "pinned", "tilted", "collinear_queries", "empty_users"])
def test_dense_newton_agrees(corner: str, loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = CORNERS[corner](rng, loss, reg_type)
    fast, dense = minimize(problem), minimize(problem, method="dense")
    assert dense.stats["method"] == "dense" != fast.stats["method"]
    assert_minimum(problem, dense)
    pairs = (fast.rho, fast.thetas), (dense.rho, dense.thetas)
    assert_same(*pairs, fast, residual_of(problem, fast), residual_of(problem, dense))


def test_secular_agrees_with_the_closed_form(rng: np.random.Generator) -> None:
    problem = unique_problem(rng, LeastSquares(), SquaredL2)
    closed, secular = minimize(problem), minimize(problem, method="secular")
    assert closed.stats["method"] == "closed_form"
    assert secular.stats["method"] == "secular"
    pairs = (closed.rho, closed.thetas), (secular.rho, secular.thetas)
    assert_same(*pairs, closed, residual_of(problem, closed), residual_of(problem, secular))


@every_reg
def test_the_linear_system_of_least_squares(reg_type: Any, rng: np.random.Generator) -> None:
    """With the stiffnesses λ/… frozen at the solution, the conditions are linear: solve that system by np.linalg."""
    problem = unique_problem(rng, LeastSquares(), reg_type)
    solution = minimize(problem)
    P, N = problem.dim, problem.n_users
    apart = np.linalg.norm(solution.rho - solution.thetas, axis=1)
    tied = apart == 0
    lam = problem.reg.lam
    stiffness = {
        SquaredL2: np.full(N, 2 * lam),
        L2: lam / np.where(tied, 1.0, apart),
        SmoothL2: lam / np.hypot(1.0, apart),
    }[reg_type]
    stiffness = np.where(tied & (reg_type is L2), 1e9, stiffness)  # a rigid spring for a tie
    K = np.zeros((P * (N + 1),) * 2)
    right = np.zeros(P * (N + 1))
    for n in range(N):
        Q, a = problem.stack.user(n)
        at = slice(P * (n + 1), P * (n + 2))
        K[at, at] = Q.T @ Q + (2 * problem.nu + stiffness[n]) * np.eye(P)
        K[at, :P] = K[:P, at] = -stiffness[n] * np.eye(P)
        K[:P, :P] += stiffness[n] * np.eye(P)
        right[at] = Q.T @ a
    found = np.linalg.solve(K, right).reshape(N + 1, P)
    tolerance = 1e-7 if tied.any() and reg_type is L2 else 1e-10  # forces of order 10 stretch the rigid spring by 1e-8
    assert np.abs(found[0] - solution.rho).max() <= tolerance
    assert np.abs(found[1:] - solution.thetas).max() <= tolerance


@every_loss
@every_reg
def test_scipy_finds_no_lower_point(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=2, dim=2, n_data=5, lam=0.4, nu=0.2)
    solution = minimize(problem)
    P = problem.dim

    def split(x: Array) -> tuple[Array, Array]:
        return x[:P], x[P:].reshape(problem.n_users, P)

    def function(x: Array) -> tuple[float, Array]:
        outer, inner = problem.gradient(*split(x))
        return problem.value(*split(x)), np.concatenate([outer, inner.ravel()])

    start = 0.1 * rng.standard_normal(P * (problem.n_users + 1))
    found = scipy.optimize.minimize(function, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    ours = problem.value(solution.rho, solution.thetas)
    assert ours <= found.fun + 16 * EPS * abs(found.fun)
    # The loss grows by at least μ/2 per squared distance: BFGS' point, within gap g of ours, is within √(2g/μ).
    if reg_type is not L2:
        assert abs(found.fun - ours) <= 1e-12 * abs(ours)
        distance = np.linalg.norm(found.x - np.concatenate([solution.rho, solution.thetas.ravel()]))
        assert distance <= 2 * (found.jac @ found.jac) ** 0.5 / modulus(solution) + 1e-12


@every_loss
@every_reg
@pytest.mark.parametrize("corner", ["plain", "many_users", "pinned", "tilted", "nu_zero", "empty_users", "outliers"])
def test_at_the_minimum_the_honest_reports_cancel(
    corner: str, loss: Loss, reg_type: Any, rng: np.random.Generator
) -> None:
    problem = CORNERS[corner](rng, loss, reg_type)
    solution = minimize(problem)
    thetas, reports = local_minima(problem, solution.rho)
    total = reports.sum(axis=0) + problem.slope
    if isinstance(problem.reg, L2):
        held = sum(np.array_equal(model, solution.rho) for model in problem.pinned.values())
        assert held == 0  # no kink at a pinned model here
    # Each local problem is solved to 1e-10 of its forces at worst, and they add up.
    forces = np.maximum(np.linalg.norm(gradients_at(problem, np.tile(solution.rho, (problem.n_users, 1))), axis=1), 1.0)
    assert np.linalg.norm(total) <= 1e-11 * (forces.sum() + scale_of(problem))
    if problem.nu > 0:
        # The local problems are 2ν-strongly convex.
        slack = 1e-11 * (forces.max() + scale_of(problem)) / (2 * problem.nu)
        assert np.abs(thetas - solution.thetas).max() <= slack


@every_loss
@every_reg
def test_local_minima_are_minima_anywhere(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=4, dim=2, n_data=6, lam=0.8, nu=0.1)
    rho = rng.standard_normal(problem.dim)
    thetas, reports = local_minima(problem, rho)
    for n in range(problem.n_users):
        user = problem.stack.user(n)
        best = local_loss(thetas[n], *user, problem.loss, problem.nu) + float(problem.reg.value(rho, thetas[n]))
        gradient = local_gradient(thetas[n], *user, problem.loss, problem.nu)
        assert np.linalg.norm(gradient - reports[n]) <= 1e-11 * max(
            1.0, float(np.linalg.norm(local_gradient(rho, *user, problem.loss, problem.nu)))
        )
        for _ in range(20):
            other = thetas[n] + rng.standard_normal(problem.dim) * 10.0 ** rng.uniform(-3, 1)
            value = local_loss(other, *user, problem.loss, problem.nu) + float(problem.reg.value(rho, other))
            assert value > best


@every_loss
@every_reg
def test_honest_gradient_is_the_slope_of_the_partially_minimized_loss(
    loss: Loss, reg_type: Any, rng: np.random.Generator
) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=4, dim=2, n_data=6, lam=0.8, nu=0.1)
    rho, others, h = rng.standard_normal(problem.dim), problem.without(1), 1e-5
    direction = unit_vector(rng, problem.dim)

    def partial(at: Array) -> float:
        return others.value(at, local_minima(others, at)[0])

    slope = (partial(rho + h * direction) - partial(rho - h * direction)) / (2 * h)
    # Central differences: h² times third derivatives, and rounding of values of order 10 over h.
    assert abs(slope - honest_gradient(problem, 1, rho) @ direction) <= 1e-7
    solution = minimize(problem)
    own = local_minima(problem, solution.rho)[1][1]
    assert np.linalg.norm(honest_gradient(problem, 1, solution.rho) + own) <= 1e-10


# ---------------------------------------------------------------------------------------------------------------
# Metamorphic relations
# ---------------------------------------------------------------------------------------------------------------


def compare(before: Solution, after: Solution, rho: Array, thetas: Array) -> None:
    """``(rho, thetas)`` is ``after`` carried back to ``before``."""
    assert before.status is after.status
    # What carries the models back may round a tied model away from ρ.
    close = np.linalg.norm(thetas - rho, axis=1) <= 8 * EPS * np.linalg.norm(rho)
    thetas = np.where(close[:, None], rho, thetas)
    carried = residual(before.problem, rho, thetas)
    scale = size_of(before.problem.gradient(*zero_point(before.problem)))
    assert carried <= 10 * GOAL * scale  # itself a minimum of the original problem
    assert_same((before.rho, before.thetas), (rho, thetas), before, residual_of(before.problem, before), carried)


@every_loss
@every_reg
def test_permuting_users_permutes_their_models(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = unique_problem(rng, loss, reg_type)
    order = rng.permutation(problem.n_users)
    shuffled = Problem([problem.users[n] for n in order], loss, problem.reg, problem.nu)
    before, after = minimize(problem), minimize(shuffled)
    back = np.argsort(order)
    assert np.array_equal((after.thetas == after.rho)[back], before.thetas == before.rho)
    compare(before, after, after.rho, after.thetas[back])


@every_loss
@every_reg
def test_rotating_the_space_rotates_the_models(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = unique_problem(rng, loss, reg_type)
    U = np.linalg.qr(rng.standard_normal((problem.query_dim,) * 2))[0]
    rotated = Problem([UserDataset(u.Q @ U.T, u.A) for u in problem.users], loss, problem.reg, problem.nu)
    before, after = minimize(problem), minimize(rotated)
    back = np.kron(np.eye(loss.n_outputs), U.T)
    compare(before, after, after.rho @ back.T, after.thetas @ back.T)


@every_reg
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_scaling_the_answers_scales_the_models(reg_type: Any, factor: float, rng: np.random.Generator) -> None:
    """Least squares: (c A, θ → c θ) multiplies the loss by c² for ℓ2² with the same λ, for ℓ2 with c λ."""
    if reg_type is SmoothL2:
        pytest.skip("smooth-ℓ2 is not homogeneous")
    problem = unique_problem(rng, LeastSquares(), reg_type)
    lam = problem.reg.lam * (factor if reg_type is L2 else 1.0)
    users = [UserDataset(u.Q, factor * u.A) for u in problem.users]
    before, after = minimize(problem), minimize(Problem(users, problem.loss, reg_type(lam), problem.nu))
    compare(before, after, after.rho / factor, after.thetas / factor)


@every_loss
@every_reg
def test_multiplying_the_loss_changes_nothing(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    """Every datum three times, with 3λ and 3ν, is three times the loss."""
    problem = unique_problem(rng, loss, reg_type)
    users = [UserDataset(np.tile(u.Q, (3, 1)), np.tile(u.A, 3)) for u in problem.users]
    tripled = Problem(users, loss, reg_type(3 * problem.reg.lam), 3 * problem.nu)
    before, after = minimize(problem), minimize(tripled)
    compare(before, after, after.rho, after.thetas)


@every_loss
@every_reg
def test_the_order_of_the_data_of_a_user_does_not_matter(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = unique_problem(rng, loss, reg_type)
    users = []
    for u in problem.users:
        order = rng.permutation(u.n_data)
        users.append(UserDataset(u.Q[order], u.A[order]))
    before, after = minimize(problem), minimize(Problem(users, loss, problem.reg, problem.nu))
    compare(before, after, after.rho, after.thetas)


@every_loss
@every_reg
def test_a_user_without_data_and_penalty_changes_nothing(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    users = [ambivalent_user(rng, loss, rng.standard_normal((6, 2))) for _ in range(3)]
    problem = Problem(users, loss, reg_type(0.5), 0.0)
    more = Problem([*users, UserDataset.empty(2)], loss, reg_type(0.5), 0.0)
    before, after = minimize(problem), minimize(more)
    assert_minimum(more, after)
    tolerance = 1e-10 * (1.0 + np.abs(before.rho).max())
    # For K classes the softmax shift is flat, so both return the element without it: the same one.
    assert np.abs(after.rho - before.rho).max() <= tolerance
    assert np.abs(after.thetas[:3] - before.thetas).max() <= tolerance
    assert np.abs(after.thetas[3] - after.rho).max() <= tolerance


@every_reg
def test_relabelling_classes_permutes_the_columns(reg_type: Any, rng: np.random.Generator) -> None:
    loss = Multinomial(4)
    problem = unique_problem(rng, loss, reg_type)
    relabel = np.array([2, 0, 3, 1])
    users = [UserDataset(u.Q, relabel[u.A.astype(int)].astype(float)) for u in problem.users]
    before, after = minimize(problem), minimize(Problem(users, loss, problem.reg, problem.nu))

    def back(x: Array) -> Array:
        return x.reshape(4, -1)[relabel].ravel()

    compare(before, after, back(after.rho), np.array([back(theta) for theta in after.thetas]))


@every_loss
@every_reg
def test_doubling_every_user_leaves_the_models(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = unique_problem(rng, loss, reg_type)
    doubled = Problem([*problem.users, *problem.users], loss, problem.reg, problem.nu)
    before, after = minimize(problem), minimize(doubled)
    assert np.array_equal(after.thetas[:5] == after.rho, after.thetas[5:] == after.rho)
    compare(before, after, after.rho, after.thetas[:5])
    compare(before, after, after.rho, after.thetas[5:])


def test_two_classes_are_binary_logistic_regression(rng: np.random.Generator) -> None:
    """m = θ_1 - θ_0: with θ_0 = -θ_1 the K-class loss is the binary one of 2θ_1, and ν, λ act on 2‖θ_1‖²."""
    binary = random_problem(rng, Logistic(), SquaredL2, n_users=3, dim=2, n_data=8, lam=0.5, nu=0.2)
    users = [UserDataset(u.Q, (u.A + 1) / 2) for u in binary.users]
    classes = Problem(users, Multinomial(2), SquaredL2(1.0), 0.4)
    before, after = minimize(binary), minimize(classes)
    rho, thetas = after.rho.reshape(2, 2), after.thetas.reshape(3, 2, 2)
    assert np.abs(rho[0] + rho[1]).max() <= 1e-11
    compare(before, after, rho[1] - rho[0], thetas[:, 1] - thetas[:, 0])


def test_soft_labels_are_mixtures_of_hard_ones(rng: np.random.Generator) -> None:
    Q = rng.standard_normal((6, 2))
    soft = UserDataset(Q, np.tile([0.5, 0.25, 0.25], (6, 1)))
    hard = UserDataset(np.tile(Q, (4, 1)), np.repeat([0.0, 0.0, 1.0, 2.0], 6))
    other = random_user(rng, Multinomial(3), 5, 2)
    quadruple = UserDataset(np.tile(other.Q, (4, 1)), np.tile(other.A, 4))
    before = minimize(Problem([soft, other], Multinomial(3), SmoothL2(0.5), 0.1))
    after = minimize(Problem([hard, quadruple], Multinomial(3), SmoothL2(2.0), 0.4))
    compare(before, after, after.rho, after.thetas)


def test_pinning_a_user_at_its_own_optimum_changes_nothing(rng: np.random.Generator) -> None:
    """Lemma 1 in small: a user who reports θ_s* instead of data leaves the others where they are."""
    for reg_type in REGULARIZERS:
        for loss in LOSSES:
            problem = unique_problem(rng, loss, reg_type)
            before = minimize(problem)
            s = int(np.argmax(np.linalg.norm(before.thetas - before.rho, axis=1)))
            assert np.any(before.thetas[s] != before.rho)
            pinned = problem.pin(s, before.thetas[s])
            after = minimize(pinned)
            assert_minimum(pinned, after)
            compare(before, after, after.rho, after.thetas)


def test_tilting_by_the_report_of_a_user_changes_nothing(rng: np.random.Generator) -> None:
    for reg_type in REGULARIZERS:
        for loss in LOSSES:
            problem = unique_problem(rng, loss, reg_type)
            before = minimize(problem)
            g = local_minima(problem, before.rho)[1][1]
            tilted_problem = problem.tilt(1, g)
            after = minimize(tilted_problem)
            assert_minimum(tilted_problem, after)
            others = [0, 2, 3, 4]
            point = (before.rho, before.thetas[others])
            assert residual(tilted_problem, *point) <= 1e-11 * scale_of(problem)
            assert_same(
                point,
                (after.rho, after.thetas),
                after,
                residual(tilted_problem, *point),
                residual_of(tilted_problem, after),
            )


def test_without_is_the_problem_of_the_others(rng: np.random.Generator) -> None:
    for reg_type in REGULARIZERS:
        problem = unique_problem(rng, Logistic(), reg_type)
        fresh = Problem(problem.users[1:], problem.loss, problem.reg, problem.nu)
        before, after = minimize(fresh), minimize(problem.without(0))
        compare(before, after, after.rho, after.thetas)


# ---------------------------------------------------------------------------------------------------------------
# No minimum: directions of recession
# ---------------------------------------------------------------------------------------------------------------


def growth_of_loss(loss: Loss, Q: Array, a: Array, delta: Array) -> float:
    """lim_{t→∞} of the data part's growth per t along δ."""
    m = margins(delta, Q, loss.n_outputs)
    size = margins(np.abs(delta), np.abs(Q), loss.n_outputs)
    if isinstance(loss, LeastSquares):
        return 0.0 if np.all(np.abs(m) <= 1e-12 * size) else np.inf
    m = np.where(np.abs(m) <= 1e-12 * size, 0.0, m)
    if isinstance(loss, Logistic):
        return float(np.sum(np.maximum(0.0, -a * m)))
    return float(np.sum(np.max(m, axis=1) * a.sum(axis=1) - np.sum(a * m, axis=1)))


def growth(problem: Problem, direction: Direction) -> float:
    """The recession function of the loss, from its definition: what the loss gains per unit of the direction."""
    total = float(direction.rho @ problem.slope)
    for n in range(problem.n_users):
        delta = direction.thetas[n]
        if np.any(delta != 0) and (problem.nu > 0 or not problem.free[n]):
            return np.inf
        apart = float(np.linalg.norm(direction.rho - delta))
        if apart > 0 and isinstance(problem.reg, SquaredL2):
            return np.inf
        total += problem.reg.lam * apart + growth_of_loss(problem.loss, *problem.stack.user(n), delta)
    return total


def assert_descends_for_ever(problem: Problem, direction: Direction | None) -> None:
    """The loss never grows along the direction, and it strictly falls on the way."""
    assert direction is not None
    assert direction.rho.shape == (problem.dim,)
    assert direction.thetas.shape == (problem.n_users, problem.dim)
    assert np.isfinite(direction.rho).all()
    assert growth(problem, direction) <= 1e-12 * (1.0 + problem.slope @ problem.slope) ** 0.5
    rho, thetas = zero_point(problem)
    values = np.array(
        [problem.value(rho + t * direction.rho, thetas + t * direction.thetas) for t in (0.0, 0.1, 1.0, 10.0, 1e4)]
    )
    assert values[1] < values[0]
    # A logistic loss reaches its infimum to rounding before long.
    assert np.all(np.diff(values) <= 8 * EPS * np.abs(values[0]))


def refuse_minimum(problem: Problem) -> Solution:
    with pytest.raises(SolverError, match="no minimum") as caught:
        minimize(problem)
    solution = caught.value.solution
    assert solution.status is Status.NO_MINIMUM
    assert not solution.status.is_minimum
    assert_descends_for_ever(problem, solution.direction)
    returned = minimize(problem, throw=False)
    assert returned.status is Status.NO_MINIMUM
    assert np.array_equal(returned.direction.rho, solution.direction.rho)
    return solution


@every_loss
@every_reg
@pytest.mark.parametrize("corner", NO_MINIMUM)
def test_no_minimum_is_said_with_a_direction(corner: str, loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    refuse_minimum(NO_MINIMUM[corner](rng, loss, reg_type))


def labelled(Q: Array, loss: Loss, model: Array) -> UserDataset:
    """The best answers of one model."""
    m = margins(model, Q, loss.n_outputs)
    return UserDataset(Q, np.where(m > 0, 1.0, -1.0) if loss.n_outputs == 1 else np.argmax(m, axis=1).astype(float))


@every_reg
@pytest.mark.parametrize("loss", [Logistic(), Multinomial(2), Multinomial(4)], ids=name_of)
def test_separable_labels_have_no_minimum_and_any_penalty_restores_it(
    loss: Loss, reg_type: Any, rng: np.random.Generator
) -> None:
    model = rng.standard_normal(3 * loss.n_outputs)
    users = [labelled(rng.standard_normal((15, 3)), loss, model) for _ in range(3)] + [UserDataset.empty(3)]
    refuse_minimum(Problem(users, loss, reg_type(1.0), 0.0))
    penalized = Problem(users, loss, reg_type(1.0), 1e-3)
    assert_minimum(penalized, minimize(penalized))


@every_reg
def test_one_contradiction_restores_the_minimum(reg_type: Any, rng: np.random.Generator) -> None:
    """Labels that overlap in every direction have a minimum, with ν = 0 too."""
    model = rng.standard_normal(2)
    users = [labelled(rng.standard_normal((15, 2)), Logistic(), model) for _ in range(2)]
    Q = np.concatenate([5.0 * np.eye(2), -5.0 * np.eye(2)])
    wrong = UserDataset(Q, -labelled(Q, Logistic(), model).A)
    problem = Problem([*users, wrong], Logistic(), reg_type(1.0), 0.0)
    assert_minimum(problem, minimize(problem))


@every_reg
def test_quasi_separable_labels_have_no_minimum(reg_type: Any, rng: np.random.Generator) -> None:
    """Along (1, 1)/√2 no datum gets worse, most stay equal, and one gets better."""
    along, across = np.array([1.0, 1.0]), np.array([1.0, -1.0])
    Q = np.concatenate(
        [np.outer(rng.standard_normal(10), across), np.outer(rng.standard_normal(10), across), along[None]]
    )
    A = np.concatenate([np.ones(10), -np.ones(10), [1.0]])
    users = [UserDataset(Q[:12], A[:12]), UserDataset(Q[12:], A[12:])]
    solution = refuse_minimum(Problem(users, Logistic(), reg_type(1.0), 0.0))
    assert abs(abs(solution.direction.rho @ along) / np.sqrt(2) / np.linalg.norm(solution.direction.rho) - 1) <= 1e-6


@every_reg
def test_a_rare_pixel_leaves_no_minimum(reg_type: Any, rng: np.random.Generator) -> None:
    """A feature >= 0 that is never active in one class, as pixels of handwritten digits are."""
    Q = np.abs(rng.standard_normal((60, 4)))
    A = rng.integers(0, 3, 60).astype(float)
    Q[(A == 1) | (rng.random(60) < 0.8), 2] = 0.0
    assert (Q[A == 1, 2] == 0).all()
    assert Q[:, 2].any()
    users = [UserDataset(Q[:30], A[:30]), UserDataset(Q[30:], A[30:])]
    refuse_minimum(Problem(users, Multinomial(3), reg_type(1.0), 0.0))


@pytest.mark.parametrize("reg_type", [L2, SmoothL2], ids=lambda r: r.__name__)
@every_loss
def test_a_reported_gradient_stronger_than_all_regularizers_wins(
    loss: Loss, reg_type: Any, rng: np.random.Generator
) -> None:
    users = [random_user(rng, loss, 6, 2) for _ in range(3)]
    lam = 0.7
    strong = tilted(rng, users, loss, reg_type(lam), 0.2, fraction=3.001)
    refuse_minimum(strong)
    weak = tilted(rng, users, loss, reg_type(lam), 0.2, fraction=2.7)
    assert_minimum(weak, minimize(weak))


@every_reg
@pytest.mark.parametrize("scale", [1e-2, 1e-6, 1e-10])
def test_a_feature_in_other_units_separates_all_the_same(scale: float, reg_type: Any, rng: np.random.Generator) -> None:
    """The direction that separates is a mixture of two features, and small against the rest of the data."""
    A = rng.choice([-1.0, 1.0], 30)
    X = np.column_stack([scale * A * (0.1 + rng.random(30)), rng.standard_normal(30)])
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    solution = refuse_minimum(Problem([UserDataset(X @ turn.T, A)], Logistic(), reg_type(1.0), 0.0))
    direction = turn.T @ solution.direction.rho
    assert direction[0] > 0
    assert abs(direction[1]) <= 2 * scale * abs(direction[0])


@every_reg
@pytest.mark.parametrize("size", [1e4, 1e7])
def test_a_large_datum_does_not_drown_a_contradiction(size: float, reg_type: Any) -> None:
    """Two small data contradict each other along the direction of a large one: there is a minimum."""
    Q = [[1.0, 0.0], [1.0, 0.0], [size, 0.0], [0.0, 1.0], [0.0, 1.0]]
    problem = Problem([UserDataset(Q, [1.0, -1.0, 1.0, 1.0, -1.0])], Logistic(), reg_type(1.0), 0.0)
    solution = minimize(problem)
    assert solution.status is Status.OPTIMAL
    assert_minimum(problem, solution)


@every_reg
def test_a_class_that_nobody_answers_leaves_no_minimum(reg_type: Any, rng: np.random.Generator) -> None:
    """Its margins can fall for ever where an intercept, or any direction of one sign, lets them."""
    Q = np.column_stack([np.ones(20), rng.standard_normal((20, 2))])
    users = [UserDataset(Q[:10], rng.integers(0, 2, 10)), UserDataset(Q[10:], rng.integers(0, 2, 10))]
    refuse_minimum(Problem(users, Multinomial(3), reg_type(1.0), 0.0))


@every_reg
def test_soft_labels_that_exclude_no_class_have_a_minimum(reg_type: Any, rng: np.random.Generator) -> None:
    """Separable class ids have none; the same ids, softened, have."""
    Q = rng.standard_normal((12, 2))
    ids = np.argmax(margins(rng.standard_normal(6), Q, 3), axis=1)
    refuse_minimum(Problem([UserDataset(Q, ids.astype(float))], Multinomial(3), reg_type(1.0), 0.0))
    soft = Problem([UserDataset(Q, 0.9 * np.eye(3)[ids] + 0.1 / 3)], Multinomial(3), reg_type(1.0), 0.0)
    assert_minimum(soft, minimize(soft))


@every_reg
@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_a_reported_gradient_against_logistic_data_without_penalty(
    strength: float, reg_type: Any, rng: np.random.Generator
) -> None:
    """One query, answered both ways: along it the losses grow by 1 per unit, so a slope of 1 or more outweighs them."""
    users = [UserDataset([[1.0], [1.0]], [1.0, -1.0]), UserDataset.empty(1)]
    problem = Problem(users, Logistic(), reg_type(10.0), 0.0).tilt(1, [strength])
    if strength < 1:
        assert_minimum(problem, minimize(problem))
    else:
        refuse_minimum(problem)


@pytest.mark.parametrize("reg_type", [L2, SmoothL2], ids=lambda r: r.__name__)
def test_a_slope_that_only_some_users_resist_is_no_minimum(reg_type: Any) -> None:
    """ν = 0, and in the second coordinate only one of three users has data: it holds against λ, not against 2λ."""
    full, first_only = UserDataset(np.eye(2), [1.0, 2.0]), UserDataset([[1.0, 0.0]], [1.0])
    base = Problem([full, first_only, first_only, first_only], LeastSquares(), reg_type(1.0), 0.0)
    held = base.tilt(3, [0.0, 0.9])
    assert_minimum(held, minimize(held))
    with pytest.raises(SolverError):
        minimize(base.tilt(3, [0.0, 2.0]))


def test_curvatures_lost_in_rounding_are_an_error_of_this_package(rng: np.random.Generator) -> None:
    """Data of size 1e8 beside λ = 1e-3: no Cholesky factor of the Hessian exists in float64."""
    Q = 1e9 * rng.standard_normal((30, 3))
    for loss in (Multinomial(3), Logistic(), LeastSquares()):
        for reg_type in REGULARIZERS:
            A = rng.integers(0, 3, 30).astype(float) if loss.n_outputs > 1 else rng.choice([-1.0, 1.0], 30)
            try:
                solution = minimize(Problem([UserDataset(Q, A)], loss, reg_type(1e-3), 1e-9))
            except SolverError as error:
                solution = error.solution
                assert solution.status is Status.STALLED
            assert np.isfinite(solution.rho).all()


def test_the_direction_is_refused_where_it_is_wrong(rng: np.random.Generator) -> None:
    problem = NO_MINIMUM["separable"](rng, Logistic(), L2)
    right = minimize(problem, throw=False).direction
    for wrong in (
        Direction(-right.rho, -right.thetas),
        Direction(right.rho, np.zeros_like(right.thetas)),
        Direction(np.zeros_like(right.rho), np.zeros_like(right.thetas)),
        Direction(np.roll(right.rho, 1) * [1, -1], np.roll(right.thetas, 1, axis=1) * [1, -1]),
    ):
        with pytest.raises(AssertionError):
            assert_descends_for_ever(problem, wrong)


def test_stalling_is_an_error_that_carries_the_point(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    from solvers import newton

    problem = random_problem(rng, Logistic(), SquaredL2, n_users=4, dim=3)
    monkeypatch.setattr(newton, "_MAX_ITERATIONS", 2)
    with pytest.raises(SolverError, match="relative residual") as caught:
        minimize(problem)
    solution = caught.value.solution
    assert solution.status is Status.STALLED
    assert not solution.status.is_minimum
    reached = residual(problem, solution.rho, solution.thetas) / scale_of(problem)
    assert reached > 1e-10
    assert abs(solution.stats["relative_residual"] / reached - 1) <= 1e-6
    assert minimize(problem, throw=False).status is Status.STALLED
    # The same point is good enough for one who asks for less.
    assert minimize(problem, tol=2 * reached).status is Status.OPTIMAL


# ---------------------------------------------------------------------------------------------------------------
# ρ* that is a set
# ---------------------------------------------------------------------------------------------------------------


def affine_problem(loss: Loss, reg_type: Any, rng: np.random.Generator) -> Problem:
    """ν = 0 and no query with a third coordinate."""
    queries = [np.column_stack([rng.standard_normal((6, 2)), np.zeros(6)]) for _ in range(3)]
    return Problem([ambivalent_user(rng, loss, Q) for Q in queries], loss, reg_type(0.6), 0.0)


@every_loss
@every_reg
def test_flat_directions_give_the_affine_set_and_its_minimal_element(
    loss: Loss, reg_type: Any, rng: np.random.Generator
) -> None:
    problem = affine_problem(loss, reg_type, rng)
    solution = minimize(problem)
    assert_minimum(problem, solution)
    assert solution.status is Status.SET
    assert solution.minimizers.kind == "affine"
    basis = solution.minimizers.basis
    # One direction for each class; with K classes also the shift of all classes at once, for each feature.
    expected = 1 if loss.n_outputs == 1 else loss.n_outputs + 3 - 1
    assert basis.shape == (expected, problem.dim)
    assert np.abs(basis @ basis.T - np.eye(expected)).max() <= 16 * EPS
    assert np.array_equal(solution.minimizers.points, solution.rho[None])
    best = problem.value(solution.rho, solution.thetas)
    for _ in range(5):
        shift = rng.standard_normal(expected) @ basis
        moved = problem.value(solution.rho + shift, solution.thetas + shift)
        assert abs(moved - best) <= 1e-12 * (1 + abs(best))
    # No component of ρ or of any model in the flat directions.
    size = np.abs(solution.thetas).max()
    assert np.abs(basis @ solution.rho).max() <= 1e-10 * size
    assert np.abs(solution.thetas @ basis.T).max() <= 1e-10 * size
    # The other directions are not flat.
    other = rng.standard_normal(problem.dim)
    other -= basis.T @ (basis @ other)
    assert problem.value(solution.rho + other, solution.thetas + other) > best + 1e-3


def test_full_rank_without_penalty_is_no_set(rng: np.random.Generator) -> None:
    users = [UserDataset(rng.standard_normal((6, 2)), rng.standard_normal(6)) for _ in range(3)]
    for reg_type in REGULARIZERS:
        solution = minimize(Problem(users, LeastSquares(), reg_type(0.6), 0.0))
        assert solution.status is Status.OPTIMAL
        assert solution.minimizers is None


def check_segment(problem: Problem) -> Solution:
    solution = minimize(problem)
    assert_minimum(problem, solution)
    assert solution.status is Status.SET
    assert solution.minimizers.kind == "segment"
    low, high = solution.minimizers.points
    assert np.array_equal(solution.rho, solution.minimizers.points.mean(axis=0))
    best = problem.value(solution.rho, solution.thetas)
    slack = 16 * problem.n_users * EPS * abs(best)
    for t in (0.0, 0.3, 1.0):
        assert abs(problem.value(low + t * (high - low), solution.thetas) - best) <= slack
    # Beyond either end the loss grows, so the segment is not too short; ends that were too far would be seen above.
    for t in (-0.02, 1.02):
        assert problem.value(low + t * (high - low), solution.thetas) > best + slack
    return solution


@every_loss
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_two_users_of_plain_l2_leave_a_segment(dim: int, loss: Loss, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, L2, n_users=2, dim=dim, n_data=7, lam=0.05, nu=0.1)
    solution = check_segment(problem)
    # It runs from one model to the other.
    ends = solution.minimizers.points
    assert (
        min(np.abs(ends - solution.thetas).max(), np.abs(ends - solution.thetas[::-1]).max())
        <= 1e-9 * np.abs(solution.thetas).max()
    )


def users_on_a_line(values: list[float], loss: Loss, rng: np.random.Generator) -> list[UserDataset]:
    return [UserDataset([[1.0], [2.0]], [v, 2.0 * v]) for v in values]


@pytest.mark.parametrize("n_users", [2, 4, 6, 10])
def test_an_even_number_of_users_in_one_dimension(n_users: int, rng: np.random.Generator) -> None:
    values = np.sort(3.0 * rng.standard_normal(n_users))
    problem = Problem(users_on_a_line(list(values), LeastSquares(), rng), LeastSquares(), L2(1e-3), 0.0)
    solution = check_segment(problem)
    # Least squares with λ small: θ_n = a_n ± λ/5, and ρ* runs between the middle two.
    middle = [values[n_users // 2 - 1] + 2e-4, values[n_users // 2] - 2e-4]
    assert np.abs(np.sort(solution.minimizers.points.ravel()) - middle).max() <= 1e-12 * 10


@pytest.mark.parametrize("n_users", [1, 3, 5, 11])
def test_an_odd_number_of_users_in_one_dimension_is_a_median(n_users: int, rng: np.random.Generator) -> None:
    values = 3.0 * rng.standard_normal(n_users)
    problem = Problem(users_on_a_line(list(values), LeastSquares(), rng), LeastSquares(), L2(1e-3), 0.0)
    solution = minimize(problem)
    assert_minimum(problem, solution)
    assert solution.status is Status.OPTIMAL
    # The middle user is tied and keeps its own optimum.
    assert abs(solution.rho[0] - np.median(values)) <= 1e-12 * 10
    assert solution.thetas[int(np.argsort(values)[n_users // 2])] == solution.rho


def test_duplicated_users_on_a_line_in_the_plane(rng: np.random.Generator) -> None:
    one, other = random_user(rng, LeastSquares(), 6, 2), random_user(rng, LeastSquares(), 6, 2)
    for users in ([one, one, other, other], [one, other, one, other, one, other]):
        solution = check_segment(Problem(users, LeastSquares(), L2(0.05), 0.1))
        assert np.array_equal(solution.thetas[0], solution.thetas[users.index(one, 1) if users[1] is one else 2])
    # Three against two is a strict majority: ρ* is its model.
    problem = Problem([one, one, one, other, other], LeastSquares(), L2(0.05), 0.1)
    solution = minimize(problem)
    assert_minimum(problem, solution)
    assert solution.status is Status.OPTIMAL
    assert np.all(solution.thetas[:3] == solution.rho)


def test_a_large_lambda_ties_two_users_and_leaves_no_segment(rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), L2, n_users=2, dim=2, n_data=7, lam=1e3, nu=0.1)
    solution = minimize(problem)
    assert_minimum(problem, solution)
    assert solution.status is Status.OPTIMAL


def test_a_segment_with_a_follower(rng: np.random.Generator) -> None:
    """With ν = 0 a user without data costs nothing anywhere: it follows ρ along the segment."""
    users = users_on_a_line([-1.0, 2.0], LeastSquares(), rng)
    problem = Problem([*users, UserDataset.empty(1)], LeastSquares(), L2(1e-3), 0.0)
    solution = minimize(problem)
    assert_minimum(problem, solution)
    assert solution.status is Status.SET
    assert np.array_equal(solution.thetas[2], solution.rho)
    assert abs(solution.rho[0] - 0.5) <= 1e-11


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_gradient_as_strong_as_all_regularizers_leaves_a_ray(sign: float, rng: np.random.Generator) -> None:
    """In one dimension ρ can go away from all models for ever at no cost."""
    users = [*users_on_a_line([-1.0, 0.5, 3.0], LeastSquares(), rng), UserDataset.empty(1)]
    problem = Problem(users, LeastSquares(), L2(1.0), 0.0).tilt(3, [sign * 3.0])
    solution = minimize(problem)
    assert_minimum(problem, solution)
    assert solution.status is Status.SET
    assert solution.minimizers.kind == "ray"
    end, outward = solution.minimizers.points[0], solution.minimizers.basis[0]
    assert outward[0] == -sign
    extreme = solution.thetas.min() if sign > 0 else solution.thetas.max()
    assert abs(end[0] - extreme) <= 8 * EPS * abs(extreme)
    best = problem.value(solution.rho, solution.thetas)
    for t in (0.0, 1.0, 100.0):
        assert abs(problem.value(end + t * outward, solution.thetas) - best) <= 64 * EPS * (1.0 + t + abs(best))
    assert problem.value(end - 0.01 * outward, solution.thetas) > best + 1e-3  # it does not reach further in


# ---------------------------------------------------------------------------------------------------------------
# Pinned models under plain ℓ2
# ---------------------------------------------------------------------------------------------------------------


@every_loss
def test_a_pinned_model_can_hold_rho(loss: Loss, rng: np.random.Generator) -> None:
    """The others pull with less than λ at the reported model: ρ* is that model, bit for bit."""
    base = random_problem(rng, loss, L2, n_users=2, dim=2, n_data=4, lam=0.8, nu=0.1)
    # Two users cannot outweigh three.
    model = rng.standard_normal(base.dim)
    users = [*base.users, UserDataset.empty(2), UserDataset.empty(2), UserDataset.empty(2)]
    problem = Problem(users, loss, L2(0.8), 0.1)
    for s in (2, 3, 4):
        problem = problem.pin(s, model)
    solution = minimize(problem)
    assert solution.status is Status.OPTIMAL
    assert np.array_equal(solution.rho, model)
    assert_minimum(problem, solution)
    pull = np.linalg.norm(local_minima(problem, model)[1][:2].sum(axis=0))
    assert pull < 3 * 0.8
    free = minimize(problem.without(4).without(3).without(2))
    assert not np.array_equal(free.rho, model)


def test_a_pinned_model_that_holds_rho_by_a_hair(rng: np.random.Generator) -> None:
    """The tilt at the pinned model is λ(1 - ε), λ exactly, and λ(1 + ε)."""
    user, lam = UserDataset([[1.0, 0.0], [0.0, 1.0]], [0.3, 0.4]), 2.0
    model = np.array([0.3, 0.4])  # the user's own optimum: it pulls with nothing
    base = Problem([user, user, user], LeastSquares(), L2(lam), 0.0).pin(1, model)
    direction = np.array([0.6, 0.8])
    for strength, held in ((0.5, True), (1.0 - 1e-9, True), (1.0 + 1e-6, False), (1.5, False)):
        problem = base.tilt(2, strength * lam * direction)
        solution = minimize(problem)
        assert_minimum(problem, solution)
        assert np.array_equal(solution.rho, model) is held, strength
        if not held:
            # The free user is dragged along -direction until its own force makes up the difference.
            assert (solution.rho - model) @ direction < 0


def test_a_tilt_of_exactly_lambda_at_a_pinned_model_is_a_minimum() -> None:
    user, lam = UserDataset([[1.0]], [1.0]), 2.0
    problem = Problem([user, user, user], LeastSquares(), L2(lam), 0.0).pin(1, [1.0]).tilt(2, [lam])
    solution = minimize(problem)
    assert_minimum(problem, solution)


@every_loss
@every_reg
def test_everybody_pinned_leaves_a_median_or_a_mean(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    problem = CORNERS["all_pinned"](rng, loss, reg_type)
    solution = minimize(problem)
    assert_minimum(problem, solution)
    models = np.array([problem.pinned[s] for s in range(3)])
    assert np.array_equal(solution.thetas, models)
    if reg_type is SquaredL2:
        assert np.abs(solution.rho - models.mean(axis=0)).max() <= 16 * EPS * np.abs(models).max()


def test_three_pins_at_120_degrees_meet_at_the_fermat_point() -> None:
    corners = np.array([[1.0, 0.0], [-0.5, np.sqrt(0.75)], [-0.5, -np.sqrt(0.75)]])
    problem = Problem([UserDataset.empty(2)] * 3, LeastSquares(), L2(1.0), 0.1)
    for s, corner in enumerate(corners):
        problem = problem.pin(s, corner)
    assert np.abs(minimize(problem).rho).max() <= 4 * EPS
    # Seen from (x, 0) the other two are 120° apart at x = 0: from there on to the left, ρ stays at that model.
    assert np.abs(minimize(problem.pin(0, [0.1, 0.0])).rho).max() <= 4 * EPS
    assert np.array_equal(minimize(problem.pin(0, [-0.1, 0.0])).rho, [-0.1, 0.0])


def test_two_pins_alone_leave_a_segment() -> None:
    problem = Problem([UserDataset.empty(2)] * 2, LeastSquares(), L2(1.0), 0.0).pin(0, [0.0, 0.0]).pin(1, [2.0, 2.0])
    solution = minimize(problem)
    assert_minimum(problem, solution)
    best = problem.value(solution.rho, solution.thetas)
    assert abs(best - np.sqrt(8.0)) <= 8 * EPS * best
    assert solution.status is Status.SET
    assert np.abs(solution.rho - 1.0).max() <= 4 * EPS


# ---------------------------------------------------------------------------------------------------------------
# A loss and a regularizer of one's own
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PseudoHuber:
    """φ(m, a) = √(1 + (m - a)²) - 1."""

    name = "pseudo_huber"
    n_outputs = 1

    def encode(self, A: Array, name: str) -> Array:
        return np.asarray(A, dtype=np.float64)

    def phi(self, m: Array, a: Array) -> Array:
        return np.hypot(1.0, m - a) - 1.0

    def dphi(self, m: Array, a: Array) -> Array:
        return (m - a) / np.hypot(1.0, m - a)

    def d2phi(self, m: Array, a: Array) -> Array:
        return np.hypot(1.0, m - a) ** -3


@dataclass(frozen=True)
class Poisson:
    """φ(m, a) = e^m - a m, counts a."""

    name = "poisson"
    n_outputs = 1

    def encode(self, A: Array, name: str) -> Array:
        return np.asarray(A, dtype=np.float64)

    def phi(self, m: Array, a: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.exp(m) - a * m

    def dphi(self, m: Array, a: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.exp(m) - a

    def d2phi(self, m: Array, a: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.exp(m)


@dataclass(frozen=True)
class SmoothedHinge:
    """The square of softplus(1 - a m), a smooth squared hinge."""

    name = "smoothed_hinge"
    n_outputs = 1

    def encode(self, A: Array, name: str) -> Array:
        return np.asarray(A, dtype=np.float64)

    def phi(self, m: Array, a: Array) -> Array:
        return np.logaddexp(0.0, 1.0 - a * m) ** 2

    def dphi(self, m: Array, a: Array) -> Array:
        return -2.0 * a * np.logaddexp(0.0, 1.0 - a * m) * expit(1.0 - a * m)

    def d2phi(self, m: Array, a: Array) -> Array:
        p = expit(1.0 - a * m)
        return 2.0 * p * (p + np.logaddexp(0.0, 1.0 - a * m) * (1.0 - p))


@dataclass(frozen=True)
class TwoTargets:
    """A loss with two outputs: pseudo-Huber of each, answers (ℐ, 2), and a small coupling of the two."""

    name = "two_targets"
    n_outputs = 2

    def encode(self, A: Array, name: str) -> Array:
        return np.asarray(A, dtype=np.float64)

    def phi(self, m: Array, a: Array) -> Array:
        return np.sum(np.hypot(1.0, m - a), axis=1) + 0.25 * np.sum(m - a, axis=1) ** 2

    def dphi(self, m: Array, a: Array) -> Array:
        return (m - a) / np.hypot(1.0, m - a) + 0.5 * np.sum(m - a, axis=1, keepdims=True)

    def d2phi(self, m: Array, a: Array) -> Array:
        diagonal = np.hypot(1.0, m - a) ** -3
        return diagonal[:, :, None] * np.eye(2) + 0.5


def data_of_own_loss(loss: Any, rng: np.random.Generator, n_users: int = 4) -> list[UserDataset]:
    users = []
    for _ in range(n_users):
        Q = rng.standard_normal((9, 2))
        if isinstance(loss, Poisson):
            A = rng.poisson(2.0, 9).astype(float)
        elif isinstance(loss, SmoothedHinge):
            A = rng.choice([-1.0, 1.0], 9)
        elif isinstance(loss, TwoTargets):
            A = rng.standard_normal((9, 2)) * 3.0
        else:
            A = 3.0 * rng.standard_normal(9)
        users.append(UserDataset(Q, A))
    return users


OWN_LOSSES = [PseudoHuber(), Poisson(), SmoothedHinge(), TwoTargets()]


@every_reg
@pytest.mark.parametrize("loss", OWN_LOSSES, ids=name_of)
@pytest.mark.parametrize("nu", [0.1, 0.0])
def test_a_loss_of_ones_own(nu: float, loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    users = [*data_of_own_loss(loss, rng), UserDataset.empty(2)]
    problem = Problem(users, loss, reg_type(0.7), nu)
    assert_minimum(problem, minimize(problem))
    pinned = problem.pin(1, np.full(problem.dim, 0.3)).tilt(0, np.full(problem.dim, 0.1))
    assert_minimum(pinned, minimize(pinned))
    assert minimize(problem).stats["method"] == "newton"


def test_least_squares_written_by_hand_agrees_with_the_built_in(rng: np.random.Generator) -> None:
    class ByHand:
        name, n_outputs = "by_hand", 1
        encode = LeastSquares.encode
        phi, dphi, d2phi = LeastSquares.phi, LeastSquares.dphi, LeastSquares.d2phi

    for reg_type in REGULARIZERS:
        problem = unique_problem(rng, LeastSquares(), reg_type)
        before, after = minimize(problem), minimize(Problem(problem.users, ByHand(), problem.reg, problem.nu))
        assert after.stats["method"] == "newton"
        compare(before, after, after.rho, after.thetas)


@dataclass(frozen=True)
class LogCosh:
    """λ Σ_j ln cosh(z_j)."""

    lam: float
    name = "log_cosh"

    def value(self, rho: Array, theta: Array) -> Array:
        z = np.abs(rho - theta)
        return self.lam * np.sum(z + np.log1p(np.exp(-2 * z)) - np.log(2.0), axis=-1)

    def gradient(self, rho: Array, theta: Array) -> Array:
        return self.lam * np.tanh(rho - theta)

    def project(self, g: Array) -> Array:
        return np.clip(g, -self.lam, self.lam)


@dataclass(frozen=True)
class QuadraticAndQuartic:
    """λ(‖z‖² + ‖z‖⁴)."""

    lam: float
    name = "quartic"

    def value(self, rho: Array, theta: Array) -> Array:
        square = np.sum((rho - theta) ** 2, axis=-1)
        return self.lam * (square + square**2)

    def gradient(self, rho: Array, theta: Array) -> Array:
        z = rho - theta
        return self.lam * (2.0 + 4.0 * np.sum(z**2, axis=-1, keepdims=True)) * z

    def project(self, g: Array) -> Array:
        return np.array(g)


@dataclass(frozen=True)
class Mahalanobis:
    """λ zᵀMz with M = diag(1, 2, 3, …)."""

    lam: float
    name = "mahalanobis"

    def weights(self, size: int) -> Array:
        return self.lam * np.arange(1.0, size + 1.0)

    def value(self, rho: Array, theta: Array) -> Array:
        return np.sum(self.weights(np.shape(rho)[-1]) * (rho - theta) ** 2, axis=-1)

    def gradient(self, rho: Array, theta: Array) -> Array:
        return 2.0 * self.weights(np.shape(rho)[-1]) * (rho - theta)

    def project(self, g: Array) -> Array:
        return np.array(g)


@every_loss
@pytest.mark.parametrize("reg", [LogCosh(0.7), QuadraticAndQuartic(0.7), Mahalanobis(0.7)], ids=lambda r: r.name)
def test_a_regularizer_of_ones_own(loss: Loss, reg: Any, rng: np.random.Generator) -> None:
    users = [random_user(rng, loss, n, 2) for n in (7, 5, 0, 6)]
    problem = Problem(users, loss, reg, 0.1)
    assert_minimum(problem, minimize(problem))
    pinned = problem.pin(1, np.full(problem.dim, 0.3)).tilt(0, np.full(problem.dim, 0.1))
    assert_minimum(pinned, minimize(pinned))
    with pytest.raises(AssumptionError):
        minimize(problem, method="newton")


def test_mahalanobis_is_squared_l2_in_other_units(rng: np.random.Generator) -> None:
    weights = np.array([1.0, 2.0])
    problem = Problem([random_user(rng, LeastSquares(), 7, 2) for _ in range(3)], LeastSquares(), Mahalanobis(0.7), 0.0)
    users = [UserDataset(u.Q / np.sqrt(weights), u.A) for u in problem.users]
    own, known = minimize(problem), minimize(Problem(users, LeastSquares(), SquaredL2(0.7), 0.0))
    assert np.abs(known.rho / np.sqrt(weights) - own.rho).max() <= 1e-11
    assert np.abs(known.thetas / np.sqrt(weights) - own.thetas).max() <= 1e-11


# ---------------------------------------------------------------------------------------------------------------
# Arguments
# ---------------------------------------------------------------------------------------------------------------


def test_bad_arguments_are_named(rng: np.random.Generator) -> None:
    linear = random_problem(rng, LeastSquares(), SquaredL2, n_users=2)
    for tol in (0.0, -1e-3, float("nan"), float("inf")):
        with pytest.raises(AssumptionError, match="tol"):
            minimize(linear, tol=tol)
    with pytest.raises(ShapeError, match="tol"):
        minimize(linear, tol="small")
    with pytest.raises(ShapeError, match="method"):
        minimize(linear, method="magic")
    with pytest.raises(ShapeError, match="problem"):
        minimize([1, 2, 3])
    with pytest.raises(ShapeError, match="rho"):
        local_minima(linear, np.zeros(7))
    with pytest.raises(ShapeError, match="rho"):
        local_minima(linear, np.full(3, np.nan))
    with pytest.raises(ShapeError, match="s: "):
        honest_gradient(linear, 2, np.zeros(3))


@pytest.mark.parametrize(
    ("loss", "reg_type", "method"),
    [
        (LeastSquares(), SquaredL2, "newton"),
        (LeastSquares(), L2, "closed_form"),
        (LeastSquares(), SmoothL2, "closed_form"),
        (LeastSquares(), L2, "dense"),
        (Logistic(), SquaredL2, "closed_form"),
        (Logistic(), SquaredL2, "secular"),
        (Logistic(), L2, "dense"),
    ],
    ids=str,
)
def test_a_method_that_does_not_apply_is_refused(
    loss: Loss, reg_type: Any, method: str, rng: np.random.Generator
) -> None:
    with pytest.raises(AssumptionError, match=method):
        minimize(random_problem(rng, loss, reg_type, n_users=2), method=method)


def test_results_can_be_read_but_not_mistaken(rng: np.random.Generator) -> None:
    problem = random_problem(rng, Logistic(), L2, n_users=3)
    solution = minimize(problem)
    assert solution.rho.shape == (problem.dim,)
    assert solution.thetas.shape == (3, problem.dim)
    assert solution.rho.dtype == solution.thetas.dtype == np.float64
    assert solution.problem is problem
    assert {"method", "iterations", "relative_residual"} <= set(solution.stats)
    assert solution.direction is None


# ---------------------------------------------------------------------------------------------------------------
# Threads
# ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Set the number of threads, and let small problems use them."""

    def set_threads(n: int) -> None:
        monkeypatch.setenv("EQUIPOISE_NUM_THREADS", str(n))
        monkeypatch.setattr(_parallel, "_SERIAL_FLOPS", 0.0)
        _parallel._pool.cache_clear()

    yield set_threads
    _parallel._pool.cache_clear()


@every_loss
@every_reg
def test_the_number_of_threads_changes_rounding_only(
    loss: Loss, reg_type: Any, with_threads: Callable[[int], None], rng: np.random.Generator
) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=9, dim=3, n_data=6, lam=0.7, nu=0.15)
    solutions = []
    for threads in (1, 2, 5):
        with_threads(threads)
        solutions.append(minimize(problem))
        again = minimize(problem)
        # Deterministic for a number of threads: to the last bit.
        assert np.array_equal(again.rho, solutions[-1].rho)
        assert np.array_equal(again.thetas, solutions[-1].thetas)
    for other in solutions[1:]:
        compare(solutions[0], other, other.rho, other.thetas)


def blas_threads() -> list[int]:
    return [lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]


def test_the_blas_threads_of_the_user_are_left_as_they_were(rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=4)
    for wanted in (1, 2, 3):
        with threadpoolctl.threadpool_limits(wanted, user_api="blas"):
            before = blas_threads()
            assert wanted in before  # a BLAS built without threads (as some wheels bring along) stays at 1
            minimize(problem)
            assert blas_threads() == before


def overlap_two_calls() -> None:
    """A enters, B enters, A leaves, B leaves; where calls take turns, A gives up waiting for B."""
    a_is_in, b_is_in, a_is_out = threading.Event(), threading.Event(), threading.Event()

    def first(part: int, start: int, stop: int) -> int:
        a_is_in.set()
        b_is_in.wait(0.3)
        return 0

    def second(part: int, start: int, stop: int) -> int:
        b_is_in.set()
        a_is_out.wait(10)
        return 0

    def run_first() -> int:
        status = _parallel.over_users(first, np.ones(1))
        a_is_out.set()
        return status

    def run_second() -> int:
        a_is_in.wait(10)
        return _parallel.over_users(second, np.ones(1))

    with ThreadPoolExecutor(2) as pool:
        assert [job.result(20) for job in (pool.submit(run_first), pool.submit(run_second))] == [0, 0]


@pytest.fixture
def two_blas_threads() -> Iterator[None]:
    """Outside of any limit: while one is in force, newer threadpoolctl lets nobody but its owner change the setting."""
    controller = threadpoolctl.ThreadpoolController()
    before = controller.limit(limits=2, user_api="blas")
    release = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release()
    yield
    before.restore_original_limits()


def test_overlapping_calls_do_not_leave_a_single_blas_thread_behind(
    two_blas_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = blas_threads()
    overlap_two_calls()
    assert blas_threads() == before
    # Without taking turns B would restore what A had set.
    careless = threadpoolctl.ThreadpoolController()
    monkeypatch.setattr(_parallel, "one_blas_thread", lambda: careless.limit(limits=1, user_api="blas"))
    overlap_two_calls()
    with pytest.raises(AssertionError):
        assert blas_threads() == before


def test_minimize_runs_in_several_python_threads_at_once(
    with_threads: Callable[[int], None], rng: np.random.Generator
) -> None:
    with_threads(2)
    problems = [
        random_problem(rng, loss, reg_type, n_users=6, dim=3, n_data=6) for loss in LOSSES for reg_type in REGULARIZERS
    ]
    alone = [minimize(problem) for problem in problems]
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(minimize, problems * 3))
        assert blas_threads() == before
    # To rounding: in a thread that is not the main one, a BLAS with several threads may sum in another order.
    for k, solution in enumerate(together):
        expected, other = alone[k % len(problems)], alone[(k + 1) % len(problems)]
        assert solution.status is expected.status
        np.testing.assert_allclose(solution.rho, expected.rho, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(solution.thetas, expected.thetas, rtol=1e-12, atol=1e-13)
        # What another call computes is told apart.
        assert other.rho.shape != solution.rho.shape or np.abs(solution.rho - other.rho).max() > 1e-6


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_cut_covers_every_user_once(parts: int, rng: np.random.Generator) -> None:
    for weights in (np.ones(1), np.ones(10), np.array([100.0, 1, 1, 1]), np.array([1.0, 1, 1, 100]), rng.random(50)):
        ranges = _parallel.cut(weights, parts)
        assert 1 <= len(ranges) <= parts
        assert [n for a, b in ranges for n in range(a, b)] == list(range(len(weights)))
    loads = [weights[a:b].sum() for a, b in ranges]
    assert max(loads) <= weights.sum() / parts + weights.max()  # no range exceeds its share by more than one user


def test_users_without_any_cost_are_cut_too() -> None:
    ranges = _parallel.cut(np.zeros(5), 2)
    assert [n for a, b in ranges for n in range(a, b)] == list(range(5))


def test_the_status_of_any_thread_is_returned(with_threads: Callable[[int], None]) -> None:
    with_threads(3)
    assert _parallel.over_users(lambda part, a, b: 0, np.ones(6)) == 0
    for bad in range(6):
        assert _parallel.over_users(lambda part, a, b, n=bad: n + 1 if a <= n < b else 0, np.ones(6)) == bad + 1


def test_an_exception_in_a_thread_reaches_the_caller(with_threads: Callable[[int], None]) -> None:
    with_threads(3)

    def task(part: int, a: int, b: int) -> int:
        raise ZeroDivisionError(f"part {part}")

    before = blas_threads()
    with pytest.raises(ZeroDivisionError):
        _parallel.over_users(task, np.ones(6))
    assert blas_threads() == before
    assert _parallel.over_users(lambda part, a, b: 0, np.ones(6)) == 0  # the pool still works


# ---------------------------------------------------------------------------------------------------------------
# Planted falsehoods: wrong solvers, which the residual above must refuse
# ---------------------------------------------------------------------------------------------------------------


def points_of_wrong_solvers(problem: Problem) -> dict[str, tuple[Array, Array]]:
    """What ``minimize`` would return if it got a term wrong or stopped early; user 1 is pinned, a gradient reported."""
    loss, reg, nu, users = problem.loss, problem.reg, problem.nu, problem.users
    right = minimize(problem)

    def again(nu: float = nu, reg: Any = reg, pin: float = 1.0, slope: float = 1.0) -> tuple[Array, Array]:
        changed = Problem([*users, UserDataset.empty(problem.query_dim)], loss, reg, nu)
        changed = changed.tilt(len(users), slope * problem.slope).pin(1, pin * problem.pinned[1])
        solution = minimize(changed)
        thetas = solution.thetas.copy()
        thetas[1] = problem.pinned[1]
        return solution.rho, thetas

    unpinned = minimize(problem.without(1))
    early = 0.999999999 * right.rho, np.where(problem.free[:, None], 0.999999999 * right.thetas, right.thetas)
    return {
        "the pinned model forgotten": (unpinned.rho, np.insert(unpinned.thetas, 1, problem.pinned[1], axis=0)),
        "another pinned model": again(pin=1 + 1e-8),
        "the reported gradient forgotten": again(slope=0.0),
        "the reported gradient with the wrong sign": again(slope=-1.0),
        "ν for 2ν": again(nu=0.5 * nu),
        "ν slightly off": again(nu=nu * (1 + 1e-8)),
        "λ/2 for λ": again(reg=type(reg)(0.5 * reg.lam)),
        "λ slightly off": again(reg=type(reg)(reg.lam * (1 + 1e-8))),
        "an iteration too few": early,
        "the mean for ρ": (right.thetas.mean(axis=0), right.thetas),
    }


@every_loss
@every_reg
def test_wrong_solvers_are_refused(loss: Loss, reg_type: Any, rng: np.random.Generator) -> None:
    users = [random_user(rng, loss, 7, 2) for _ in range(5)]
    problem = tilted(rng, users, loss, reg_type(0.6), 0.2).pin(1, 2.0 * rng.standard_normal(2 * loss.n_outputs))
    assert_minimum(problem, minimize(problem))
    for name, point in points_of_wrong_solvers(problem).items():
        assert not residual(problem, *point) <= allowed(problem, *point), name


@every_loss
def test_a_tie_that_is_not_exact_is_refused(loss: Loss, rng: np.random.Generator) -> None:
    """Next to ρ a model feels the full force λ: without the last bit there is no tie."""
    problem = random_problem(rng, loss, L2, n_users=4, dim=2, n_data=6, lam=1e3, nu=0.2)
    solution = minimize(problem)
    thetas = np.nextafter(solution.thetas, np.inf)
    assert not residual(problem, solution.rho, thetas) <= allowed(problem, solution.rho, thetas)


def test_a_value_below_the_tangent_is_garbage() -> None:
    """A convex function lies above its tangents; where σ is near 1e15 and B near 1e9 values are lost in rounding."""
    from solvers import quadratic

    def at(value: float) -> Any:
        return SimpleNamespace(value=value)

    models = quadratic.Models(np.ones((1, 1, 1)), 0.0, np.zeros((1, 1)), np.zeros((1, 1)))
    bases = models.in_eigenbases()
    for honest in (-1.0, -0.5, 0.0, 3.0):  # the tangent predicts -1
        assert not quadratic._is_garbage(models, at(0.0), at(honest), -1.0)
        assert not quadratic._is_garbage(bases, at(0.0), at(honest), -1.0)
    assert quadratic._is_garbage(bases, at(0.0), at(-1.001), -1.0)
    with pytest.raises(np.linalg.LinAlgError):  # eigenbases are still to be tried
        quadratic._is_garbage(models, at(0.0), at(-1.001), -1.0)


# ---------------------------------------------------------------------------------------------------------------
# Hard inputs: whatever happens, it is an answer or an error of this package, and soon
# ---------------------------------------------------------------------------------------------------------------


def hard_problem(rng: np.random.Generator) -> Problem:
    loss: Loss = [LeastSquares(), Logistic(), Multinomial(int(rng.integers(2, 5)))][rng.integers(3)]
    n_users, dim = int(rng.choice([1, 2, 3, 5, 12])), int(rng.choice([1, 2, 4]))
    reg = REGULARIZERS[rng.integers(3)](float(10.0 ** rng.uniform(-3, 3)))
    users = []
    for _ in range(n_users):
        n_data = int(rng.choice([0, 1, 3, 12]))
        user = random_user(rng, loss, n_data, dim)
        kind, Q, A = rng.integers(6), user.Q.copy(), user.A.copy()
        if n_data and kind == 1:
            Q[:] = np.outer(rng.standard_normal(n_data), rng.standard_normal(dim))
        elif n_data and kind == 2:
            Q[0] *= OUTLIER
        elif kind == 3:
            Q *= np.logspace(0, -4, dim)
        elif kind == 4:
            Q = np.round(Q)
        elif n_data and kind == 5 and isinstance(loss, LeastSquares):
            A[0] = OUTLIER
        users.append(users[-1] if users and rng.random() < 0.2 else UserDataset(Q, A))
    problem = Problem(users, loss, reg, float(rng.choice([0.0, 0.0, 1e-6, 1e-2, 1.0])))
    if rng.random() < 0.3:
        problem = problem.pin(int(rng.integers(n_users)), rng.standard_normal(problem.dim))
    if n_users > 1 and rng.random() < 0.3:
        problem = problem.tilt(0, rng.uniform(0, 1.5) * reg.lam * unit_vector(rng, problem.dim))
    return problem


@pytest.mark.parametrize("seed", range(60))
def test_hard_problems_end_in_a_minimum_a_direction_or_an_error(seed: int) -> None:
    problem = hard_problem(np.random.default_rng([2022, seed]))
    start = time.perf_counter()
    try:
        solution = minimize(problem)
    except SolverError as error:
        solution = error.solution
        assert solution.status in (Status.NO_MINIMUM, Status.STALLED)
    except EquipoiseError as error:  # nothing here violates an assumption
        pytest.fail(str(error))
    assert time.perf_counter() - start < 20.0
    if solution.status is Status.NO_MINIMUM:
        assert_descends_for_ever(problem, solution.direction)
    elif solution.status.is_minimum:
        found = residual(problem, solution.rho, solution.thetas)
        # Well-posed or not, the solver says OPTIMAL only below its tolerance of 1e-10.
        assert found <= max(1e-10 * scale_of(problem), rounding(problem, solution.rho, solution.thetas))
