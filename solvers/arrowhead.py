r"""Newton's step on the joint system of ρ and all θ_n, local models eliminated by Cholesky factors.

With R''_n = s_n I - κ_n z_n z_nᵀ for z_n = ρ - θ_n, where

.. math:: s = 2\lambda,\ \kappa = 0 \ (\ell_2^2), \qquad s = \lambda/r,\ \kappa = \lambda/r^3 \text{ with }
          r = \sqrt{1 + \|z\|^2} \ (\text{smooth-}\ell_2) \text{ or } r = \|z\| \ (\ell_2),

and K_n = ∇²L_n + R''_n, the step is δθ_n = K_n⁻¹(-∇_n + R''_n δρ) and

.. math:: \Bigl(\sum_n R''_n - R''_n K_n^{-1} R''_n\Bigr)\delta\rho = -\nabla_\rho - \sum_n R''_n K_n^{-1}\nabla_n.

A user that is tied to ρ (plain ℓ2) moves with it: it adds ∇²L_n to the matrix and its gradient to the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from solvers import _kernels as kernels
from solvers._parallel import n_threads, over_users
from solvers.quadratic import Anchors, BuiltIn, back_substituted
from theory import L2, SquaredL2
from theory.arrays import Array
from theory.regularizers import norms


def spring(reg: BuiltIn, z: Array) -> tuple[Array, Array]:
    """Return s and κ (N,) of R'' = s I - κ z zᵀ at ``z`` (N, P).

    Examples
    --------
    >>> spring(L2(6.0), np.array([[0.0, 2.0]]))
    (array([3.]), array([0.75]))
    """
    if isinstance(reg, SquaredL2):
        return np.full(len(z), 2.0 * reg.lam), np.zeros(len(z))
    length = norms(z)
    root = length if isinstance(reg, L2) else np.hypot(1.0, length)
    root = np.where(root > 0, root, 1.0)
    stiffness = reg.lam / root
    return stiffness, stiffness / root / root


@dataclass(frozen=True, eq=False)
class Arrowhead:
    """The factored system at one point; it serves neighbouring points too, where its steps are no longer Newton's."""

    L: Array
    z: Array
    stiffness: Array
    softening: Array
    tied: np.ndarray
    schur: tuple[Array, bool]

    def step(self, outer: Array, inner: Array) -> tuple[Array, Array]:
        """Return δρ (P,), δθ (N, P) for the gradients ∇_ρ (P,) and ∇_θ (N, P) of the loss.

        Of a tied user the force that it exerts on ρ is part of ``inner``: its gradient ∇L_n alone.
        """
        inner_free = np.where(self.tied[:, None], 0.0, -inner)
        nothing = np.zeros_like(outer)
        solved, _ = back_substituted(self.L, inner_free, nothing)
        drho = scipy.linalg.cho_solve(
            self.schur, self._springs(solved).sum(axis=0) - outer - inner[self.tied].sum(axis=0)
        )
        pulled = inner_free + self._springs(np.broadcast_to(drho, inner.shape))
        dthetas, _ = back_substituted(self.L, np.ascontiguousarray(pulled), nothing)
        dthetas[self.tied] = drho
        return drho, dthetas

    def _springs(self, x: Array) -> Array:
        """R''_n x_n, 0 for tied users."""
        out = self.stiffness[:, None] * x - (self.softening * np.einsum("np,np->n", self.z, x))[:, None] * self.z
        return np.where(self.tied[:, None], 0.0, out)


def factor(
    H: Array, shift: float, reg: BuiltIn, anchors: Anchors, rho: Array, thetas: Array, tied: np.ndarray
) -> Arrowhead:
    """Factor the system with data Hessians ``H`` (N, P, P; lower triangles, used up); ``tied`` (N,) only for ℓ2.

    Raises LinAlgError where a K_n or the matrix for ρ is not positive definite to rounding.
    """
    n, size = thetas.shape
    z = rho - thetas
    stiffness, softening = spring(reg, z)
    schur = np.zeros((n_threads(), size, size))

    def task(part: int, first: int, last: int) -> int:
        return kernels.arrowhead_factor(H, shift, z, stiffness, softening, tied, schur[part], first, last)

    status = over_users(task, np.full(n, float(size) ** 3))
    if status != 0:
        raise np.linalg.LinAlgError(f"the Hessian of user {status - 1} is not positive definite")
    total = schur.sum(axis=0)
    for p, (s, kappa) in enumerate(zip(*spring(reg, rho - anchors.models), strict=True)):
        away = rho - anchors.models[p]
        total += s * np.eye(size) - kappa * np.outer(away, away)
    for t in np.flatnonzero(tied):
        H[t] = np.eye(size)  # no factor: solves for this user are not used
    return Arrowhead(H, z, stiffness, softening, tied, scipy.linalg.cho_factor(total, lower=True))
