r"""Plain ℓ2: when ρ* is a segment, and its midpoint.

Given the local models, ρ* minimizes Σ_n λ‖ρ - θ_n‖ + ρᵀg, as a geometric median does.  If no user is strictly tied
to ρ (‖∇L_n(ρ)‖ < λ) and all models lie on one line through ρ, then ρ can slide along that line, at no cost, up to
the next model on either side: N = 2, d = 1 with N even, duplicated users.
"""

from __future__ import annotations

import numpy as np

from solvers.result import MinimizerSet
from theory import Problem
from theory.arrays import Array
from theory.regularizers import norms

# Forces within this fraction of λ from the sphere count as on it; directions within it as parallel.
_NEAR = 1e-9


def center_of_segment(problem: Problem, rho: Array, thetas: Array, gradients: Array) -> tuple[Array, MinimizerSet | None]:
    """Return ρ unchanged and None where ρ* is a point; otherwise the midpoint of the segment, and the segment.

    Parameters
    ----------
    rho, thetas : a minimum, (P,) and (N, P)
    gradients : ∇L_n(θ_n), (N, P)
    """
    lam = problem.reg.lam
    apart = norms(rho - thetas)
    scale = max(float(np.abs(rho).max(initial=0.0)), float(np.abs(thetas).max(initial=0.0)))
    forces = np.where((apart > 0)[:, None], problem.reg.gradient(rho, thetas), gradients)
    sizes = norms(forces)
    idle = _without_any_loss(problem)
    for s in problem.pinned:
        if apart[s] == 0:
            return rho, None  # held by a pinned model: strictly, or within rounding of it
    if np.any((sizes < lam * (1.0 - _NEAR)) & ~idle):
        return rho, None  # a strictly tied user holds ρ
    if idle.all():
        return rho, None
    axis = forces[np.flatnonzero(~idle)[0]]
    axis = axis / norms(axis)
    along = forces @ axis / lam
    if np.any((norms(forces / lam - along[:, None] * axis) > _NEAR) & ~idle):
        return rho, None
    # A force along +axis pulls ρ back towards a model on its -axis side.
    position = (thetas - rho) @ axis
    below = position[(along > 0) & ~idle]
    above = position[(along < 0) & ~idle]
    if below.size == 0 or above.size == 0:
        return rho, None  # a reported gradient balances one side: a ray, of which ρ is kept
    low, high = float(below.max()), float(above.min())
    if high - low <= 1e-9 * max(scale, 1e-300):
        return rho, None
    ends = np.array([rho + low * axis, rho + high * axis])
    middle = ends.mean(axis=0)
    # Users without any loss follow ρ.
    thetas[idle & problem.free] = middle
    return middle, MinimizerSet("segment", ends, axis[None])


def _without_any_loss(problem: Problem) -> Array:
    """Users with ν = 0 and no data: their model is wherever ρ is."""
    empty = problem.stack.stop == problem.stack.start
    return empty & problem.free & (problem.nu == 0)
