r"""Newton's method for losses that are not quadratic.

Each step minimizes Σ_n (quadratic model of L_n) + Σ_n R exactly (:mod:`solvers.quadratic`; the regularizer is never
approximated), then searches along the step for sufficient decrease of the loss.  Ties of plain ℓ2 come out of the
subproblem exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from solvers.data_terms import DataTerms, data_terms
from solvers.optimality import gradient_at_zero, optimality
from solvers.quadratic import Anchors, Models, built_in, minimize_models, quadratic_factors, squared_l2_step
from solvers.views import Ridge, anchors_of, assemble
from theory import Problem, SquaredL2
from theory.arrays import Array

_MAX_ITERATIONS = 200
_FLOOR = 3e-16


@dataclass(frozen=True, eq=False)
class _State:
    """One iterate: models, value of the loss, ∇L_n (N, P), Hessians if they were asked for, relative residual."""

    rho: Array
    thetas: Array
    value: float
    terms: DataTerms
    residual: float


def newton(problem: Problem, ridge: Ridge, start: tuple[Array, Array] | None = None) -> tuple[Array, Array, int, float]:
    """Return ρ, θ (N, P), the number of iterations and ‖∇Loss(0, 0)‖."""
    scale, anchors = gradient_at_zero(problem), anchors_of(problem)
    n_free = int(problem.free.sum())
    workspace = np.empty((n_free, problem.dim, problem.dim))
    rho = anchors.models.mean(axis=0) if len(anchors.models) else np.zeros(problem.dim)
    thetas = assemble(problem, np.zeros((n_free, problem.dim)))
    if start is not None:
        rho, thetas = start
    state = _evaluate(problem, rho, thetas, scale, 2, workspace)
    iteration, exact = 0, False
    while iteration < _MAX_ITERATIONS and state.residual > _FLOOR:
        iteration += 1
        if state.terms.hessians is None:
            state = _evaluate(problem, state.rho, state.thetas, scale, 2, workspace)
        # Newton squares the residual; the subproblem need not be solved much further than that.
        tolerance = 0.0 if exact else 0.01 * min(1.0, state.residual)
        try:
            target = _target(problem, ridge, state, anchors, tolerance)
        except np.linalg.LinAlgError:
            break  # the model of the loss has no minimum, or its curvature is lost in rounding
        following = _search(problem, state, *target, scale, workspace)
        state = replace(state, terms=replace(state.terms, hessians=None))  # used up by the step
        stagnates = following is None or (following.residual > 0.5 * state.residual and state.residual < 1e-13)
        if following is not None and (not stagnates or following.residual < state.residual):
            state = following
        if stagnates and exact:
            break
        # Where progress ends, one more step with the subproblem solved to rounding.
        exact = stagnates
    return state.rho, state.thetas, iteration, scale


def _evaluate(problem: Problem, rho: Array, thetas: Array, scale: float, order: int, workspace: Array) -> _State:
    with np.errstate(over="ignore", invalid="ignore"):  # a loss without a minimum: what is not finite is not accepted
        terms = data_terms(problem, thetas, order=order, workspace=workspace)
        rest = problem.nu * float(np.sum(thetas**2)) + float(np.sum(problem.reg.value(rho, thetas)))
        residual = optimality(problem, rho, thetas, terms.gradients, scale).relative
    return _State(rho, thetas, terms.value + rest + float(rho @ problem.slope), terms, residual)


def _target(problem: Problem, ridge: Ridge, state: _State, anchors: Anchors, tolerance: float) -> tuple[Array, Array]:
    """Minimize the model of the loss around ``state``, whose Hessians are used up."""
    free, H, reg = problem.free, state.terms.hessians, built_in(problem.reg)
    if H is None:
        raise ValueError("this state was evaluated without its Hessians")
    ridge.add_to(H)
    center = np.ascontiguousarray(state.thetas[free])
    slope = np.ascontiguousarray(state.terms.gradients[free])
    if not ridge.is_zero:
        slope = slope + center @ ridge.matrix
    if isinstance(reg, SquaredL2):
        lam = reg.lam
        pulls = reg.gradient(state.rho, state.thetas)
        factors = quadratic_factors(H, pulls[free] - slope, 2.0 * (problem.nu + lam))
        drho, dthetas = squared_l2_step(factors, lam, len(anchors.models), pulls.sum(axis=0) + problem.slope)
        return state.rho + drho, assemble(problem, center + dthetas)
    models = Models(H, 2.0 * problem.nu, center, slope)
    point, _ = minimize_models(models, reg, anchors, state.rho, tolerance=tolerance)
    return point.rho, assemble(problem, point.thetas)


def _search(
    problem: Problem, state: _State, rho: Array, thetas: Array, scale: float, workspace: Array
) -> _State | None:
    """Backtrack from the model's minimum until the loss decreases enough; None if it cannot."""
    drho, dthetas = rho - state.rho, thetas - state.thetas
    predicted = (
        float(np.sum(state.terms.gradients * dthetas))
        + float(drho @ problem.slope)
        + float(np.sum(problem.reg.value(rho, thetas) - problem.reg.value(state.rho, state.thetas)))
    )
    # The full step is nearly always taken and followed by another: evaluate the Hessians at once, unless the
    # residual is about to reach rounding.
    order = 2 if state.residual > 1e-8 else 1
    length = 1.0
    for _ in range(50):
        at = (rho, thetas) if length == 1.0 else (state.rho + length * drho, state.thetas + length * dthetas)
        trial = _evaluate(problem, *at, scale, order, workspace)
        change = trial.value - state.value
        if change < 0 and change <= 1e-4 * length * predicted:
            return trial
        if abs(change) <= 1e-11 * abs(state.value) or abs(predicted) <= 1e-13 * abs(state.value):
            # The decrease drowns in the rounding of the loss: let the residual decide.
            return trial if trial.residual < state.residual else None
        length *= 0.5
        order = 1
    return None
