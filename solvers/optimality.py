r"""How far a point is from optimal: the residual that every solver reports.

The residual is ‖∇Loss(ρ, θ)‖₂ or, where plain ℓ2 has a kink (θ_n = ρ to the last bit), a point of the
subdifferential that is close to 0.  It is reported relative to ‖∇Loss(0, 0)‖₂.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers import _kernels as kernels
from solvers._parallel import over_users
from theory import L2, LeastSquares, Problem
from theory.arrays import Array
from theory.regularizers import norms


def margins(problem: Problem, thetas: Array) -> Array:
    """Return the margins of all data points under ``thetas`` (N, P), as the loss takes them."""
    stack, K = problem.stack, problem.loss.n_outputs
    out = np.zeros((stack.Q.shape[0], K))
    flops = 2.0 * (stack.stop - stack.start) * problem.dim
    over_users(lambda _, a, b: kernels.margins(stack.Q, stack.start, stack.stop, thetas, out, a, b), flops)
    return out[:, 0] if K == 1 else out


def pull_back(problem: Problem, slopes: Array) -> Array:
    """Return Σ_i slopes_i ⊗ Q_i for each user (N, P): the gradient of the data part."""
    stack = problem.stack
    out = np.empty((problem.n_users, problem.dim))
    columns = np.ascontiguousarray(slopes.reshape(slopes.shape[0], problem.loss.n_outputs))
    flops = 2.0 * (stack.stop - stack.start) * problem.dim
    over_users(lambda _, a, b: kernels.pull_back(stack.Q, stack.start, stack.stop, columns, out, a, b), flops)
    return out


def local_gradients(problem: Problem, thetas: Array, m: Array | None = None) -> Array:
    """Return ∇L_n(θ_n) for each user (N, P); ``m`` are the margins, if known.

    NumPy: ``[local_gradient(thetas[n], *stack.user(n), loss, nu) for n in range(N)]``
    """
    if m is None and type(problem.loss) is LeastSquares:
        return _least_squares_gradients(problem, thetas)
    m = margins(problem, thetas) if m is None else m
    return pull_back(problem, problem.loss.dphi(m, problem.stack.labels)) + 2.0 * problem.nu * thetas


def _least_squares_gradients(problem: Problem, thetas: Array) -> Array:
    stack, out, shift = problem.stack, np.empty_like(thetas), 2.0 * problem.nu

    def task(part: int, first: int, last: int) -> int:
        return kernels.least_squares_gradients(
            stack.Q, stack.labels, stack.start, stack.stop, thetas, shift, out, first, last
        )

    over_users(task, 4.0 * (stack.stop - stack.start) * problem.dim)
    return out


@dataclass(frozen=True, eq=False)
class Optimality:
    """Residual of a point: its norm, the norm relative to ‖∇Loss(0, 0)‖, and the forces ∇_ρR(ρ, θ_n) (N, P)."""

    norm: float
    relative: float
    pulls: Array


def gradient_at_zero(problem: Problem, gradients: Array | None = None) -> float:
    """Return ‖∇Loss(0, 0)‖₂ (pinned models stay where they are); 1 if it is 0.

    ``gradients`` are ∇L_n(0) of the free users, where the caller has them.
    """
    zero = np.zeros(problem.dim)
    if gradients is None:
        gradients = local_gradients(problem, np.zeros((problem.n_users, problem.dim)))[problem.free]
    outer = problem.slope + sum((problem.reg.gradient(zero, m) for m in problem.pinned.values()), zero)
    size = float(np.hypot(norms(gradients.ravel()), norms(outer)))
    return size if size > 0 else 1.0


def optimality(problem: Problem, rho: Array, thetas: Array, gradients: Array, scale: float) -> Optimality:
    """Return the residual at (ρ, θ), given ∇L_n(θ_n) (N, P) and ‖∇Loss(0, 0)‖."""
    free = problem.free
    pulls = np.asarray(problem.reg.gradient(rho, thetas))
    if isinstance(problem.reg, L2):
        pulls = pulls.copy()
        tied = (thetas == rho).all(axis=1)
        pulls[tied & free] = problem.reg.project(gradients[tied & free])
        _balance_at_pins(problem, pulls, tied & ~free)
    outer = pulls.sum(axis=0) + problem.slope
    inner = gradients[free] - pulls[free]
    norm = float(np.hypot(norms(outer), norms(inner.ravel())))
    return Optimality(norm, norm / scale, pulls)


def _balance_at_pins(problem: Problem, pulls: Array, at_pin: Array) -> None:
    """Where ρ meets pinned models, their subgradients take up as much of the remaining force as they can."""
    count = int(at_pin.sum())
    if count:
        pulls[at_pin] = 0.0
        pulls[at_pin] = problem.reg.project(-(pulls.sum(axis=0) + problem.slope) / count)
