r"""Optimality conditions of the global loss, written from the loss alone.

A point (ρ, θ) is a minimum if and only if 0 is in the subdifferential of the loss.  For the smooth regularizers that
is a zero gradient.  For plain ℓ2 the subdifferential at a tie θ_n = ρ contains all forces of norm at most λ, so there

.. math:: \|\nabla\mathcal L_n(\rho)\| \le \lambda \ (n \text{ tied}), \qquad
          \nabla\mathcal L_n(\theta_n) = \lambda\frac{\rho-\theta_n}{\|\rho-\theta_n\|} \ (n \text{ not tied}), \qquad
          \sum_{n} u_n + g = 0,

where a user reports :math:`u_n = \nabla\mathcal L_n(\theta_n)`, and a pinned one its
:math:`\nabla_\rho\mathcal R(\rho, \theta_n)`.
Nothing here is shared with a solver or a certificate.
"""

from __future__ import annotations

import math

import numpy as np

from theory import L2, LeastSquares, Problem, SquaredL2
from theory.arrays import Array
from theory.losses import local_gradient


def stationarity_excess(problem: Problem, rho: Array, thetas: Array) -> float:
    """Return a distance of (ρ, θ) from the conditions above, ties exact: 0 exactly where the loss is least.

    Where no tie matters it is the distance of 0 from the subdifferential; else the force at a tie is taken to be the
    user's own, which is the best choice at a minimum and may be a worse one elsewhere.

    Examples
    --------
    >>> from theory import LeastSquares, UserDataset
    >>> problem = Problem([UserDataset([[1.0]], [1.0]), UserDataset([[1.0]], [3.0])], LeastSquares(), L2(2.0))
    >>> stationarity_excess(problem, np.array([2.0]), np.array([[2.0], [2.0]]))
    0.0
    """
    if not isinstance(problem.reg, L2):
        d_rho, d_thetas = problem.gradient(rho, thetas)
        return math.hypot(float(np.linalg.norm(d_rho)), float(np.linalg.norm(d_thetas)))
    tied = np.all(thetas == rho, axis=1)
    pulls = problem.reg.gradient(rho, thetas)
    reports, squares = problem.slope.copy(), 0.0
    for n in range(problem.n_users):
        if n in problem.pinned:
            reports += pulls[n]
            continue
        force = local_gradient(thetas[n], *problem.stack.user(n), problem.loss, problem.nu)
        # The kink balances any force up to λ; elsewhere there is one that it balances.
        squares += max(0.0, float(np.linalg.norm(force)) - problem.reg.lam) ** 2 if tied[n] else 0.0
        squares += 0.0 if tied[n] else float(np.sum((force - pulls[n]) ** 2))
        reports += force if tied[n] else pulls[n]
    # Where ρ is tied to a pinned model, that kink balances up to λ as well.
    balanced = problem.reg.lam * sum(bool(tied[s]) for s in problem.pinned)
    return math.sqrt(squares + max(0.0, float(np.linalg.norm(reports)) - balanced) ** 2)


def force_scale(problem: Problem, rho: Array, thetas: Array) -> float:
    """Return the size of the terms that cancel in the gradient: its rounding is a small multiple of ε times this.

    Examples
    --------
    >>> from theory import LeastSquares, UserDataset
    >>> force_scale(Problem([UserDataset([[2.0]], [3.0])], LeastSquares(), L2(1.0)), np.zeros(1), np.zeros((1, 1)))
    7.0
    """
    total = float(np.linalg.norm(problem.slope))
    for n in range(problem.n_users):
        Q, a = problem.stack.user(n)
        # |φ'| is at most |m| + |a| for least squares, and at most 1 for each output otherwise.
        sizes = np.abs(Q) @ np.abs(thetas[n]) + np.abs(a) if isinstance(problem.loss, LeastSquares) else np.ones(len(a))
        total += 2.0 * problem.nu * float(np.linalg.norm(thetas[n])) + float(np.linalg.norm(np.abs(Q).T @ sizes))
        total += _spring_scale(problem, rho, thetas[n])
    return total


def _spring_scale(problem: Problem, rho: Array, theta: Array) -> float:
    """Return the size of the pull of R, times that by which the rounding of ρ and θ exceeds that of ρ - θ."""
    lam, size = problem.reg.lam, float(np.linalg.norm(rho) + np.linalg.norm(theta))  # type: ignore[attr-defined]
    if isinstance(problem.reg, SquaredL2):
        return 2.0 * lam * size
    length = float(np.linalg.norm(rho - theta))
    if isinstance(problem.reg, L2):
        return lam * max(1.0, size / length) if length > 0.0 else lam
    return lam * max(1.0, size / math.hypot(1.0, length))
