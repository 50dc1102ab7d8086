r"""The local models that honest users answer with, and the gradients that they report (section 2.2).

.. math:: \theta_n^*(\rho) = \arg\min_\theta \mathcal L_n(\theta) + \mathcal R(\rho, \theta), \qquad
          F(\rho) = \sum_{n\ne s} \nabla_\rho\mathcal R(\rho, \theta_n^*(\rho)).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers import large
from solvers.data_terms import data_hessians
from solvers.optimality import local_gradients, margins
from solvers.quadratic import Anchors, BuiltIn, Models, built_in, reduce_to_rho
from theory import L2, LeastSquares, Problem, SolverError, UserDataset
from theory.arrays import Array, as_vector
from theory.regularizers import norms

_MAX_ITERATIONS = 200


def local_minima(problem: Problem, rho: Any, *, tol: float = 1e-10) -> tuple[Array, Array]:
    r"""Return θ_n*(ρ) and the reports ∇_ρR(ρ, θ_n*(ρ)) of all users, shapes (N, P).

    For plain ℓ2 a tied user's model equals ρ to the last bit, and its report is ∇L_n(ρ), the gradient of the
    partially minimized loss (not zero).  A pinned user's model is the reported one.

    Parameters
    ----------
    problem : Problem
    rho : (P,) array_like
    tol : float
        Residual of each local problem, relative to the force λ (or to ‖∇L_n(ρ)‖ where that is larger).

    Raises
    ------
    SolverError
        A local problem has no minimum or did not reach ``tol``.

    Source: section 2.2 (``local_optimum``).

    Examples
    --------
    >>> from theory import L2, UserDataset
    >>> problem = Problem([UserDataset([[1.0]], [5.0]), UserDataset([[1.0]], [0.5])], LeastSquares(), L2(1.0))
    >>> thetas, reports = local_minima(problem, [0.0])
    >>> thetas.ravel().round(12), reports.ravel()
    (array([4., 0.]), array([-1. , -0.5]))
    """
    rho = as_vector(rho, "rho", problem.dim)
    reg = built_in(problem.reg)
    free = problem.free
    thetas = np.tile(rho, (problem.n_users, 1))
    for s, model in problem.pinned.items():
        thetas[s] = model
    if free.any():
        thetas = _minimize_each(problem, reg, rho, thetas, tol)
    gradients = local_gradients(problem, thetas)
    reports = np.array(reg.gradient(rho, thetas))
    if isinstance(reg, L2):
        tied = (thetas == rho).all(axis=1) & free
        reports[tied] = reg.project(gradients[tied])
    return thetas, reports


def honest_gradient(problem: Problem, s: int, rho: Any) -> Array:
    r"""Return F(ρ), the sum of the reports of all users but ``s``, with local models fully optimized.

    It is the gradient of Σ_{n≠s} min_θ [L_n(θ) + R(ρ, θ)], so user ``s`` makes ρ stationary by reporting -F(ρ).

    Examples
    --------
    >>> from theory import SquaredL2, UserDataset
    >>> problem = Problem([UserDataset([[1.0]], [5.0]), UserDataset.empty(1)], LeastSquares(), SquaredL2(0.5))
    >>> honest_gradient(problem, 1, [1.0])
    array([-2.])
    """
    others = problem.without(s)
    if others.n_users == 0:
        return np.array(others.slope)
    return local_minima(others, rho)[1].sum(axis=0) + others.slope


def _minimize_each(problem: Problem, reg: BuiltIn, rho: Array, thetas: Array, tol: float) -> Array:
    """Newton on every local problem at once; the regularizer is exact in each step, the steps are damped per user."""
    if large.fits(problem) and large.is_large(problem):
        return _minimize_large(problem, reg, rho, thetas, tol)
    free = problem.free
    nothing = Anchors(np.zeros((0, problem.dim)), np.zeros(problem.dim))
    m = margins(problem, thetas)
    for _ in range(_MAX_ITERATIONS):
        gradients = local_gradients(problem, thetas, m)
        center, slope = np.ascontiguousarray(thetas[free]), np.ascontiguousarray(gradients[free])
        models = Models(data_hessians(problem, m), 2.0 * problem.nu, center, slope)
        target = thetas.copy()
        target[free] = _eliminated(models, reg, nothing, rho)
        if isinstance(problem.loss, LeastSquares):
            return target
        thetas, m, moved = _damped(problem, rho, thetas, m, target, gradients)
        if not moved:
            break
    return _checked(problem, rho, thetas, local_gradients(problem, thetas, m), tol)


def _checked(problem: Problem, rho: Array, thetas: Array, gradients: Array, tol: float) -> Array:
    residual = _local_residuals(problem, rho, thetas, gradients)
    if not residual.max() <= tol:
        raise SolverError(f"local problem of user {int(np.argmax(residual))}: relative residual {residual.max():g}")
    return thetas


def _minimize_large(problem: Problem, reg: BuiltIn, rho: Array, thetas: Array, tol: float) -> Array:
    """Solve the local problems one by one, without Hessians."""
    found, nobody = thetas.copy(), UserDataset.empty(problem.query_dim)
    for n in np.flatnonzero(problem.free):
        alone = Problem([problem.users[n], nobody], problem.loss, reg, problem.nu).pin(1, rho)
        found[n] = large.local_minimum(alone)
    return _checked(problem, rho, found, local_gradients(problem, found), tol)


def _eliminated(models: Models, reg: BuiltIn, nothing: Anchors, rho: Array) -> Array:
    try:
        return reduce_to_rho(models, reg, nothing, rho, order=0).thetas
    except np.linalg.LinAlgError:  # B_n singular to rounding
        return reduce_to_rho(models.in_eigenbases(), reg, nothing, rho, order=0).thetas


def _damped(
    problem: Problem, rho: Array, thetas: Array, m: Array, target: Array, gradients: Array
) -> tuple[Array, Array, bool]:
    """Move every user towards its target as far as its own loss decreases enough; say whether anyone moved."""
    step = target - thetas
    dm = margins(problem, step)
    start_values = _local_values(problem, rho, thetas, m)
    predicted = np.sum(gradients * step, axis=1) + (
        np.asarray(problem.reg.value(rho, target)) - np.asarray(problem.reg.value(rho, thetas))
    )
    length = np.ones(problem.n_users)
    rows = np.repeat(np.arange(problem.n_users), problem.stack.stop - problem.stack.start)
    index = np.concatenate([np.arange(a, b) for a, b in zip(problem.stack.start, problem.stack.stop, strict=True)])
    before = _local_residuals(problem, rho, thetas, gradients)
    for _ in range(50):
        trial = np.where((length == 1.0)[:, None], target, thetas + length[:, None] * step)
        new_m = m.copy()
        weights = length[rows].reshape((-1,) + (1,) * (m.ndim - 1))
        new_m[index] = m[index] + weights * dm[index]
        change = _local_values(problem, rho, trial, new_m) - start_values
        after = _local_residuals(problem, rho, trial, local_gradients(problem, trial, new_m))
        drowned = (np.abs(change) <= 1e-11 * np.abs(start_values)) | (np.abs(predicted) <= 1e-13 * np.abs(start_values))
        good = ((change <= 1e-4 * length * predicted) & (change < 0)) | (drowned & (after < before))
        length = np.where(good, length, np.where(drowned, 0.0, 0.5 * length))
        if np.all(good | (length == 0.0)):
            break
    final = np.where((length == 1.0)[:, None], target, thetas + length[:, None] * step)
    return final, margins(problem, final), bool(np.any(length[problem.free] > 0))


def _local_values(problem: Problem, rho: Array, thetas: Array, m: Array) -> Array:
    losses = problem.loss.phi(m, problem.stack.labels)
    data = np.array([losses[a:b].sum() for a, b in zip(problem.stack.start, problem.stack.stop, strict=True)])
    return data + problem.nu * np.sum(thetas**2, axis=1) + np.asarray(problem.reg.value(rho, thetas))


def _local_residuals(problem: Problem, rho: Array, thetas: Array, gradients: Array) -> Array:
    """Distance of 0 to the subdifferential of each local problem, relative to its forces; 0 for pinned users."""
    pulls = np.array(problem.reg.gradient(rho, thetas))
    if isinstance(problem.reg, L2):
        tied = (thetas == rho).all(axis=1)
        pulls[tied] = problem.reg.project(gradients[tied])
    scale = np.maximum(norms(local_gradients(problem, np.tile(rho, (problem.n_users, 1)))), built_in(problem.reg).lam)
    return np.where(problem.free, norms(gradients - pulls) / scale, 0.0)
