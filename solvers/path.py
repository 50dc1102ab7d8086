r"""The same data again with another λ, ν or regularizer: a path, for the price of the parts that change.

* Least squares: the eigenbases of the Q_nᵀQ_n are computed once.  In them every further problem, whatever its λ, ν
  and regularizer, is Newton on ρ with secular equations (ℓ2²: one exact step), from ρ* of the problem before.
* Other losses: each problem starts from the minimum of the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from solvers.joint import checked, finish, minimize, normal_equations, reach_by_secular
from solvers.quadratic import EigenModels, Models, is_built_in
from solvers.result import Solution
from solvers.views import rows_of_free
from theory import LeastSquares, Problem, Regularizer
from theory.arrays import Array, as_nonnegative, as_positive


def minimize_path(
    problem: Problem, settings: Iterable[tuple[Regularizer, float]], *, tol: float = 1e-10, throw: bool = True
) -> Iterator[Solution]:
    r"""Yield the global minimum of ``problem`` for each (regularizer, ν) of ``settings``.

    Parameters
    ----------
    problem : Problem
        Its own regularizer and ν are not used.
    settings : iterable of (Regularizer, float)
        Order them so that neighbours are close: each problem starts from the minimum of the one before.
    tol, throw : see :func:`solvers.minimize`

    Examples
    --------
    >>> from theory import SquaredL2, UserDataset
    >>> users = [UserDataset([[1.0]], [1.0]), UserDataset([[1.0]], [3.0])]
    >>> problem = Problem(users, LeastSquares(), SquaredL2(1.0))
    >>> [float(s.thetas[0, 0].round(6)) for s in minimize_path(problem, [(SquaredL2(lam), 0.0) for lam in (0.5, 50.0)])]
    [1.5, 1.990099]
    """
    tol = as_positive(tol, "tol", "eq1_global_loss")
    eigen: tuple[Array, Array, Array] | None = None
    start: tuple[Array, Array] | None = None
    neighbour: type[Regularizer] | None = None
    for reg, nu in settings:
        nu = as_nonnegative(nu, "nu", "eq5_local_loss")
        current = problem.with_regularizer(reg, nu)
        if not isinstance(problem.loss, LeastSquares) or not is_built_in(reg) or nu == 0 or current.slope.any():
            # Existence and uniqueness (ν = 0, a reported gradient) are questions of their own, for minimize.
            solution = minimize(current, tol=tol, throw=throw, start=start)
        else:
            eigen = _eigen(current) if eigen is None else eigen
            V, eigenvalues, b = eigen
            models = EigenModels(V, eigenvalues + 2.0 * nu, np.zeros_like(b), -b)
            near = start[0] if start is not None and type(reg) is neighbour else None
            reached = reach_by_secular(current, models, near)
            solution = finish(current, reached, tol, "secular", np.zeros((0, current.dim)))
            solution = checked(solution, tol) if throw else solution
        start, neighbour = ((solution.rho, solution.thetas) if solution.status.is_minimum else None), type(reg)
        yield solution


def _eigen(problem: Problem) -> tuple[Array, Array, Array]:
    """Return V, the eigenvalues of Q_nᵀQ_n, and b_n = Q_nᵀA_n, for the free users."""
    H, b = normal_equations(problem, *rows_of_free(problem))
    found = Models(H, 0.0, np.zeros_like(b), -b).in_eigenbases()
    return found.V, found.beta, b
