r"""Plain ℓ2: when ρ* is a segment, and its midpoint.

Given the local models, ρ* minimizes Σ_n λ‖ρ - θ_n‖ + ρᵀg, as a geometric median does.  If no user is strictly tied
to ρ (‖∇L_n(ρ)‖ < λ) and all models lie on one line through ρ, then ρ can slide along that line, at no cost, up to
the next model on either side: N = 2, d = 1 with N even, duplicated users.
"""

from __future__ import annotations

import numpy as np

from solvers.quadratic import built_in
from solvers.result import MinimizerSet
from theory import Problem
from theory.arrays import Array
from theory.regularizers import norms

# Forces within this fraction of λ from the sphere count as on it; directions within it as parallel.
_NEAR = 1e-9
_EPS = float(np.finfo(np.float64).eps)


def center_of_segment(problem: Problem, rho: Array, thetas: Array, pulls: Array) -> tuple[Array, MinimizerSet | None]:
    """Return ρ and None where ρ* is a point; the midpoint of a segment, or ρ as it is on a ray, and that set.

    Parameters
    ----------
    rho, thetas : a minimum, (P,) and (N, P); the rows of users without any loss, whose model is where ρ is, are moved
    pulls : subgradients of R in ρ that balance, as :func:`solvers.optimality.optimality` returns them, (N, P)
    """
    lam, idle = built_in(problem.reg).lam, _without_any_loss(problem)
    forces, apart = pulls / lam, norms(rho - thetas)
    if idle.all() or np.any((norms(forces) < 1.0 - _NEAR) & ~idle):
        return rho, None  # a user that is strictly tied to ρ, or a pinned model, holds it
    farthest = int(np.argmax(np.where(idle, -1.0, apart)))
    axis = forces[farthest] / norms(forces[farthest])
    scale = float(np.max(np.abs(thetas), initial=float(np.max(np.abs(rho)))))
    # The direction from ρ to a model next to it is known only up to rounding of both.
    near = _NEAR + 8.0 * _EPS * np.divide(scale, apart, out=np.zeros_like(apart), where=apart > 0)
    along = forces @ axis
    if np.any((norms(forces - along[:, None] * axis) > near) & ~idle):
        return rho, None
    # A force along +axis pulls ρ back towards a model on its -axis side.
    position = (thetas - rho) @ axis
    below, above = position[(along > 0) & ~idle], position[(along < 0) & ~idle]
    if below.size == 0 or above.size == 0:
        # A reported gradient as strong as all regularizers together: ρ can go away from the models for ever.
        end, outward = (float(below.max()), axis) if above.size == 0 else (float(above.min()), -axis)
        return rho, MinimizerSet("ray", (rho + end * axis)[None], outward[None])
    low, high = float(below.max()), float(above.min())
    if not high - low > 1e-9 * scale:
        return rho, None
    ends = np.array([rho + low * axis, rho + high * axis])
    middle = ends.mean(axis=0)
    thetas[idle & problem.free] = middle
    return middle, MinimizerSet("segment", ends, axis[None])


def _without_any_loss(problem: Problem) -> np.ndarray:
    """Users with ν = 0 and no data: their model is wherever ρ is."""
    empty = problem.stack.stop == problem.stack.start
    return empty & problem.free & (problem.nu == 0)
