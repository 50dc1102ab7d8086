r"""The exact global minimum of the loss (eq. 1) and of its views (eqs 2 and 48).

===============================  =============================================================================
problem                          method
===============================  =============================================================================
least squares, ℓ2²               closed form: Cholesky factors, one d × d system (``"closed_form"``)
least squares, ℓ2, smooth-ℓ2     Newton on ρ, local models by secular equations (``"secular"``)
any other loss                   Newton on the joint arrowhead system (``"newton"``); ties of ℓ2 from steps with the
                                 regularizer kept exact, each a ``"secular"`` problem
K classes, P >= 150              Newton with conjugate gradients, no Hessian formed (``"newton_cg"``); if that takes
                                 long or is not enough, and they are not too large, with Hessians
your own regularizer             Newton on the joint system, its Hessian by differences (``"dense"``)
===============================  =============================================================================

``"dense"`` also serves every smooth problem as an independent, readable second route.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from solvers import _kernels as kernels
from solvers import large
from solvers._parallel import over_users
from solvers.dense import dense_newton
from solvers.existence import flat_directions, recession, recession_of_one_feature, unbounded_tilt, used_rows
from solvers.newton import newton
from solvers.optimality import Optimality, gradient_at_zero, local_gradients, margins, optimality
from solvers.quadratic import (
    EigenModels,
    Models,
    built_in,
    is_built_in,
    least_squares_factors,
    minimize_models,
    quadratic_factors,
    squared_l2_refinement,
    squared_l2_step,
)
from solvers.result import Direction, MinimizerSet, Solution, Status
from solvers.segment import center_of_segment
from solvers.views import Ridge, anchors_of, assemble, rows_of_free
from theory import L2, AssumptionError, LeastSquares, Problem, ShapeError, SolverError, SquaredL2
from theory.arrays import Array, as_positive
from theory.regularizers import norms

METHODS = ("auto", "closed_form", "secular", "newton", "newton_cg", "dense")


def minimize(
    problem: Problem,
    *,
    tol: float = 1e-10,
    method: str = "auto",
    throw: bool = True,
    start: tuple[Array, Array] | None = None,
) -> Solution:
    r"""Return the global minimum (ρ*, θ*) of the loss.

    .. math:: \min_{\rho,\vec\theta}\ \sum_n \mathcal L_n(\theta_n) + \sum_n \mathcal R(\rho, \theta_n) + \rho^T g

    Parameters
    ----------
    problem : Problem
    tol : float, > 0
        The residual that counts as solved, relative to ‖∇Loss(0, 0)‖.  The solvers go on to rounding anyway.
    method : str
        One of :data:`METHODS`; ``"auto"`` chooses by loss and regularizer (see the module's table).
    throw : bool
        Raise :class:`SolverError` where no minimum was reached (the error carries the solution), or return.
    start : ((P,), (N, P)), optional
        Where ``"newton"`` and ``"newton_cg"`` start, for example a neighbouring minimum; the others need no start.

    Returns
    -------
    Solution
        With ``status`` OPTIMAL, or SET where the minimizers are a set.  The element returned then is: for plain
        ℓ2 with ρ* on a segment its midpoint, on a ray the point that was reached; for flat directions (ν = 0) the
        one with no component in them.  With ``throw=False`` also NO_MINIMUM (with the direction of recession) or
        STALLED.

    Raises
    ------
    SolverError
        No minimum exists, or the residual stayed above ``tol``.
    AssumptionError, ShapeError
        Bad arguments.

    Source: eq. 1 (``eq1_global_loss``), eq. 2, eq. 48.

    Examples
    --------
    >>> import numpy as np
    >>> from theory import LeastSquares, Problem, SquaredL2, UserDataset
    >>> users = [UserDataset([[1.0]], [1.0]), UserDataset([[1.0]], [3.0])]
    >>> solution = minimize(Problem(users, LeastSquares(), SquaredL2(0.5)))
    >>> solution.rho.round(12), solution.thetas.ravel().round(12)
    (array([2.]), array([1.5, 2.5]))
    """
    if not isinstance(problem, Problem):
        raise ShapeError("problem", "a Problem", type(problem).__name__)
    tol = as_positive(tol, "tol", "eq1_global_loss")
    methods = _choose(problem, method)
    method = methods[0]
    direction = recession_of_one_feature(problem)
    flat = np.zeros((0, problem.dim)) if direction is not None else flat_directions(problem)
    if direction is None:
        direction = unbounded_tilt(problem, flat)
    if direction is None and method in ("newton", "dense") and _is_cheap_to_decide(problem):
        direction = recession(problem)
    if direction is not None:
        solution = _without_minimum(problem, direction, method)
    else:
        attempts = []
        for i, method in enumerate(methods):
            attempts.append(_attempt(problem, method, flat, start, tol, last=i == len(methods) - 1))
            if attempts[-1].status is not Status.STALLED:
                break
        decided = attempts[-1].status is not Status.STALLED
        solution = attempts[-1] if decided else min(attempts, key=lambda attempt: attempt.stats["relative_residual"])
    return checked(solution, tol) if throw else solution


def _attempt(
    problem: Problem, method: str, flat: Array, start: tuple[Array, Array] | None, tol: float, *, last: bool
) -> Solution:
    try:
        reached = _run(problem, method, flat, start, last)
    except np.linalg.LinAlgError as error:
        # Curvatures are lost in rounding (data of very different sizes), or no minimum exists.
        return _gave_up(problem, method, str(error))
    return finish(problem, reached, tol, method, flat)


def checked(solution: Solution, tol: float) -> Solution:
    """Return ``solution`` if it is a minimum; raise :class:`SolverError` with it if not."""
    if not solution.status.is_minimum:
        raise SolverError(_explain(solution, tol), solution)
    return solution


def _is_cheap_to_decide(problem: Problem) -> bool:
    """Whether existence is decided before the solve (a linear program over the data), or after it."""
    return problem.stack.labels.size <= 20_000


def _choose(problem: Problem, method: str) -> tuple[str, ...]:
    """Return the method, or those that are tried one after the other."""
    if method not in METHODS:
        raise ShapeError("method", f"one of {', '.join(METHODS)}", repr(method))
    allowed: tuple[str, ...]
    if not is_built_in(problem.reg):
        allowed = ("dense",)
    elif isinstance(problem.loss, LeastSquares):
        allowed = ("closed_form", "secular", "dense") if isinstance(problem.reg, SquaredL2) else ("secular", "dense")
    elif large.fits(problem):
        allowed = ("newton_cg", "newton", "dense") if large.is_faster(problem) else ("newton", "newton_cg", "dense")
    else:
        allowed = ("newton", "dense")
    if isinstance(problem.reg, L2):
        allowed = tuple(name for name in allowed if name != "dense")
    if method == "auto":
        # The first is not given all the time that it wants; where the second fails too, it is.
        hurried = allowed[0] == "newton_cg" and not large.is_large(problem)
        return (*allowed[:2], allowed[0]) if hurried else allowed[:1]
    if method not in allowed:
        pair = f"{problem.loss.name} with {problem.reg.name}"
        raise AssumptionError("eq1_global_loss", f"method {method!r} for {pair}", f"use one of {', '.join(allowed)}")
    return (method,)


def _gave_up(problem: Problem, method: str, reason: str) -> Solution:
    solution = replace(_without_minimum(problem, None, method), status=Status.STALLED)
    return replace(solution, stats={**solution.stats, "relative_residual": 1.0, "failure": reason})


def _explain(solution: Solution, tol: float) -> str:
    if solution.status is Status.NO_MINIMUM:
        return f"{Status.NO_MINIMUM.value} (solution.direction)"
    found, failure = solution.stats["relative_residual"], solution.stats.get("failure")
    return f"{Status.STALLED.value}: relative residual {found:g} with tol = {tol:g}" + (
        f" ({failure})" if failure else ""
    )


_Refine = Callable[[Array, Array, Array, Array], tuple[Array, Array]]


@dataclass(frozen=True, eq=False)
class Reached:
    """Where a method stopped: models, iterations, and ‖∇Loss(0, 0)‖, to which residuals are relative.

    ``refine(rho, thetas, gradients, pulls)`` solves once more with the gradients taken from the data, which are
    accurate to rounding where normal equations have lost digits; ``refine_singular`` does so in eigenbases, where
    I + σB_n has lost digits too (B_n nearly singular, σ huge).
    """

    rho: Array
    thetas: Array
    iterations: int
    scale: float
    refine: _Refine | None = None
    refine_singular: _Refine | None = None


def _run(problem: Problem, method: str, flat: Array, start: tuple[Array, Array] | None, last: bool) -> Reached:
    ridge = Ridge(problem, flat)
    if method == "closed_form":
        return _closed_form(problem, ridge)
    if method == "secular":
        return _secular(problem, ridge)
    if method == "dense":
        return _dense(problem, ridge)
    begin = None if start is None else problem._check_point(*start)
    if method == "newton":
        return Reached(*newton(problem, ridge, begin))
    return Reached(*large.newton_cg(problem, begin, np.inf if last else large.worthwhile(problem)))


def finish(problem: Problem, reached: Reached, tol: float, method: str, flat: Array) -> Solution:
    """Refine what a method reached, see whether the minimizer is a set, and judge the residual."""
    rho, thetas, gradients, residual = _refined(problem, reached)
    minimizers: MinimizerSet | None = None
    if len(flat):
        minimizers = MinimizerSet("affine", rho[None], flat)
    elif isinstance(problem.reg, L2):
        rho, minimizers = center_of_segment(problem, rho, thetas, residual.pulls)
        residual = optimality(problem, rho, thetas, gradients, reached.scale)
    status = Status.SET if minimizers is not None else Status.OPTIMAL
    direction: Direction | None = None
    undecided = method in ("newton", "dense") and not _is_cheap_to_decide(problem)
    if undecided and (direction := recession(problem)) is not None:
        status, minimizers = Status.NO_MINIMUM, None
    elif not (residual.relative <= tol or residual.norm <= _rounding(problem, rho, thetas)):
        status, minimizers = Status.STALLED, None
    stats = {
        "method": method,
        "iterations": reached.iterations,
        "relative_residual": residual.relative,
        "n_tied": int(np.sum((thetas == rho).all(axis=1) & problem.free)),
    }
    return Solution(problem, rho, thetas, status, stats, direction, minimizers)


def _rounding(problem: Problem, rho: Array, thetas: Array) -> float:
    """Return what one rounding of each number that enters the gradient can do to it: no point has a smaller residual.

    It matters where the models are far from 0 and close to each other (large λ, tiny ν, a reported gradient), and
    where ∇Loss(0, 0) itself is nothing but rounding (labels that cancel).
    """
    sizes = norms(thetas)
    forces, terms = _data_forces(problem, thetas, sizes)
    forces += 2.0 * problem.nu * float(np.sum(sizes))
    terms += forces
    reg = problem.reg
    if is_built_in(reg):
        lam, apart = reg.lam, norms(rho - thetas)
        if isinstance(reg, SquaredL2):
            stiffness = np.full_like(apart, 2.0 * lam)
        elif isinstance(reg, L2):
            # Not next to the kink, where rounding turns the whole force around: a model there must be tied to ρ.
            stiffness = np.divide(lam, apart, out=np.zeros_like(apart), where=apart > 1e-8 * norms(rho))
        else:
            stiffness = lam / np.hypot(1.0, apart)
        terms += float(np.sum(stiffness * (norms(rho) + sizes)))
        forces += float(np.sum(stiffness * apart))
    # Models so large that rounding them changes the forces themselves excuse nothing.
    return min(float(np.finfo(np.float64).eps * terms), 1e-8 * forces)


def _data_forces(problem: Problem, thetas: Array, sizes: Array) -> tuple[float, float]:
    """Return Σ_i ‖Q_i‖ times the two terms that cancel in φ', and Σ_i φ'' ‖Q_i‖²‖θ‖, for the rounding of margins."""
    rows = used_rows(problem)
    if rows.size == 0:
        return 0.0, 0.0
    labels, m = problem.stack.labels[rows], margins(problem, thetas)[rows]
    lengths = norms(problem.stack.Q[rows])
    slopes = np.abs(problem.loss.dphi(m, labels)) + np.abs(labels)
    curvatures = np.abs(problem.loss.d2phi(m, labels)).reshape(rows.size, -1).max(axis=1)
    of_user = np.repeat(sizes, problem.stack.stop - problem.stack.start)
    return float(lengths @ norms(slopes.reshape(rows.size, -1))), float((curvatures * lengths**2) @ of_user)


# Below these relative residuals a refinement cannot gain enough to pay.
_REFINE_ABOVE = 3e-15
_REFINE_SINGULAR_ABOVE = 1e-13


def _refined(problem: Problem, reached: Reached) -> tuple[Array, Array, Array, Optimality]:
    """Refine while that at least halves the residual; return ρ, θ, ∇L_n(θ_n) and the residual."""
    rho, thetas = reached.rho, reached.thetas
    gradients = local_gradients(problem, thetas)
    residual = optimality(problem, rho, thetas, gradients, reached.scale)
    for refine, above in ((reached.refine, _REFINE_ABOVE), (reached.refine_singular, _REFINE_SINGULAR_ABOVE)):
        while refine is not None and residual.relative > above:
            try:
                candidate = refine(rho, thetas, gradients, residual.pulls)
            except np.linalg.LinAlgError:
                break
            new_gradients = local_gradients(problem, candidate[1])
            new_residual = optimality(problem, *candidate, new_gradients, reached.scale)
            halved = new_residual.relative <= 0.5 * residual.relative
            if new_residual.relative < residual.relative:
                (rho, thetas), gradients, residual = candidate, new_gradients, new_residual
            if not halved:
                break
    return rho, thetas, gradients, residual


def _without_minimum(problem: Problem, direction: Direction | None, method: str) -> Solution:
    rho, thetas = np.zeros(problem.dim), np.zeros((problem.n_users, problem.dim))
    for s, model in problem.pinned.items():
        thetas[s] = model
    stats: dict[str, Any] = {"method": method, "iterations": 0, "relative_residual": float("nan"), "n_tied": 0}
    return Solution(problem, rho, thetas, Status.NO_MINIMUM, stats, direction)


def _closed_form(problem: Problem, ridge: Ridge) -> Reached:
    """Least squares with ℓ2²: the stationarity conditions are linear (Cholesky, then one d × d system)."""
    start, stop = rows_of_free(problem)
    lam, anchors = built_in(problem.reg).lam, anchors_of(problem)
    shift = 2.0 * (problem.nu + lam)
    if ridge.is_zero:
        factors = least_squares_factors(problem.stack.Q, problem.stack.labels, start, stop, shift)
    else:
        H, b = normal_equations(problem, start, stop)
        ridge.add_to(H)
        factors = quadratic_factors(H, b, shift)
    gradient = anchors.slope - 2.0 * lam * anchors.models.sum(axis=0)
    free, n_pins = problem.free, len(anchors.models)
    rho, thetas = squared_l2_step(factors, lam, n_pins, gradient)

    def refine(rho: Array, thetas: Array, gradients: Array, pulls: Array) -> tuple[Array, Array]:
        local = (gradients - pulls)[free]
        drho, dthetas = squared_l2_refinement(factors, lam, n_pins, pulls.sum(axis=0) + problem.slope, local)
        return rho + drho, assemble(problem, thetas[free] + dthetas)

    return Reached(rho, assemble(problem, thetas), 1, gradient_at_zero(problem, factors.b), refine)


def normal_equations(problem: Problem, start: np.ndarray, stop: np.ndarray) -> tuple[Array, Array]:
    """Return Q_nᵀQ_n (lower triangles) and Q_nᵀA_n of the free users, whose rows are ``start[n]:stop[n]``."""
    stack, size = problem.stack, problem.dim
    H, b = np.empty((len(start), size, size)), np.empty((len(start), size))
    over_users(
        lambda _, first, last: kernels.least_squares_normal(stack.Q, stack.labels, start, stop, H, b, first, last),
        (stop - start) * float(size**2),
    )
    return H, b


def _secular(problem: Problem, ridge: Ridge) -> Reached:
    """Least squares with any regularizer: the local models eliminated exactly, Newton on ρ."""
    H, b = normal_equations(problem, *rows_of_free(problem))
    ridge.add_to(H)
    return reach_by_secular(problem, Models(H, 2.0 * problem.nu, np.zeros_like(b), -b))


def reach_by_secular(problem: Problem, models: Models | EigenModels, near: Array | None = None) -> Reached:
    """Minimize least squares from its quadratic models, which are exact; ``slope`` is their gradient at 0.

    ``near`` is a ρ to start from.
    """
    anchors, free, reg = anchors_of(problem), problem.free, built_in(problem.reg)
    point, iterations = minimize_models(models, reg, anchors, near)

    def refine_with(models: Models | EigenModels, rho: Array, thetas: Array, gradients: Array) -> tuple[Array, Array]:
        center, slope = np.ascontiguousarray(thetas[free]), np.ascontiguousarray(gradients[free])
        again, _ = minimize_models(replace(models, center=center, slope=slope), reg, anchors, rho)
        return again.rho, assemble(problem, again.thetas)

    def refine_singular(rho: Array, thetas: Array, gradients: Array, pulls: Array) -> tuple[Array, Array]:
        eigen = models.in_eigenbases() if isinstance(models, Models) else models
        return refine_with(eigen, rho, thetas, gradients)

    return Reached(
        point.rho,
        assemble(problem, point.thetas),
        iterations,
        gradient_at_zero(problem, models.slope),
        refine=lambda rho, thetas, gradients, pulls: refine_with(models, rho, thetas, gradients),
        refine_singular=refine_singular if isinstance(models, Models) else None,
    )


def _dense(problem: Problem, ridge: Ridge) -> Reached:
    scale = gradient_at_zero(problem)
    rho, thetas, iterations = dense_newton(problem, ridge.matrix if not ridge.is_zero else None, scale)
    return Reached(rho, thetas, iterations, scale)
