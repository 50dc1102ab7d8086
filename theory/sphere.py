r"""The least value of a quadratic on the unit sphere, between two certified bounds.

.. math:: V = \min_{\|u\|_2 = 1} u^THu + g^Tu

**Duality.**  For a real μ let

.. math:: M(\mu, c) = \begin{pmatrix} H - \mu I & g/2\\ g^T/2 & \mu - c\end{pmatrix}, \qquad
          \binom u1^T M(\mu, c) \binom u1 = u^THu + g^Tu - c \quad\text{where } \|u\| = 1.

So :math:`M(\mu, c)\succeq 0` for one μ proves V >= c.  Conversely, M(μ, V) is positive semidefinite for the
multiplier μ of a minimizer (the S-lemma with equality on the sphere, or the optimality conditions of a trust-region
problem: :math:`(H-\mu I)u = -g/2`, :math:`H - \mu I\succeq 0`), so nothing is lost.

**Computation.**  One eigendecomposition, and a scalar equation for the distance s = λ_min - μ >= 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from theory.arrays import Array

UNIT = 2.0**-53


def gamma(n: float) -> float:
    """Return γ_n = n·u/(1 - n·u), the relative error of n roundings."""
    return n * UNIT / (1.0 - n * UNIT)


@dataclass(frozen=True, eq=False)
class SphereMinimum:
    """The minimum of uᵀHu + gᵀu on the unit sphere.

    Attributes
    ----------
    point : (d,) array, a minimizer u
    multiplier : float, its μ
    low, high : float
        Certified: low <= V <= high for the matrix and vector as they were given.
    """

    point: Array
    multiplier: float
    low: float
    high: float


def minimize_on_sphere(H: Array, g: Array) -> SphereMinimum:
    r"""Return the minimum of :math:`u^THu + g^Tu` over :math:`\|u\|_2 = 1`, with bounds.

    Parameters
    ----------
    H : (d, d), symmetric, d >= 1
    g : (d,)

    Returns
    -------
    SphereMinimum
        ``low`` is proved by a Cholesky factorization of M(μ, c) (see the module), whose rounding is bounded a
        priori; ``high`` is the value at a point.

    Examples
    --------
    >>> minimum = minimize_on_sphere(np.diag([1.0, 2.0]), np.array([0.0, 2.0]))
    >>> minimum.point.round(6), round(minimum.high, 12)
    (array([ 0., -1.]), 0.0)
    """
    eigenvalues, vectors = np.linalg.eigh(H)
    half = 0.5 * (vectors.T @ g)
    gaps = eigenvalues - eigenvalues[0]
    s = _secular_root(gaps, half)
    u = vectors @ _coordinates(gaps, half, s)
    u = u / np.linalg.norm(u)
    multiplier = float(eigenvalues[0] - s)
    value = float(u @ (H @ u) + g @ u)
    # ‖u‖ differs from 1 by d/2 + 2 roundings, which count twice; with Hu and the dot products all errors together are
    # 3d + 5 roundings of |u|ᵀ|H||u| + |g|ᵀ|u|.  Neither norm squares small numbers, which would underflow.
    size = float(np.linalg.norm(H, 1)) + math.hypot(*g)
    rounding = gamma(3 * g.size + 8) * size + 1e-300
    return SphereMinimum(u, multiplier, _certified_low(H, g, multiplier, value), value + rounding)


def _secular_root(gaps: Array, half: Array) -> float:
    r"""Return s >= 0 with :math:`\sum_i h_i^2/(\gamma_i+s)^2 = 1`, or 0 where the sum stays below 1."""
    moved = half != 0.0
    gaps, half = gaps[moved], np.abs(half[moved])
    # No term exceeds 1 at the root.
    s = float(np.max(half - gaps, initial=0.0))
    # Newton's method on 1/‖u(s)‖ - 1, which is concave and increasing in s: it approaches the root from the left.
    while True:
        shifted = gaps + s
        u = half / shifted
        length = float(np.linalg.norm(u))
        if not length > 1.0:
            return s
        # The slope is Σu²/(γ + s)/‖u‖³; its sum may overflow, and times the least gap does not.
        following = s + float(shifted[0] * (length - 1.0) * length**2 / np.sum(u * u * (shifted[0] / shifted)))
        if not following > s:
            return s
        s = following


def _coordinates(gaps: Array, half: Array, s: float) -> Array:
    # With s = 0 every |h_i| is at most its γ_i, and h_i = 0 where that is 0.
    u = np.divide(-half, gaps + s, out=np.zeros_like(half), where=half != 0.0)
    if s == 0.0:
        # The "hard case": the stationary point is inside the ball, and the null space of H - μI fills it up.
        u[0] = math.sqrt(max(0.0, 1.0 - float(u @ u)))
    return u


def lifted(H: Array, g: Array, multiplier: float, value: float) -> Array:
    """Return the matrix M(μ, c) of the module's docstring, shape (d + 1, d + 1)."""
    d = g.size
    M = np.empty((d + 1, d + 1))
    M[:d, :d] = H
    M[np.arange(d), np.arange(d)] -= multiplier
    M[:d, d] = M[d, :d] = 0.5 * g
    M[d, d] = multiplier - value
    return M


def _certified_low(H: Array, g: Array, multiplier: float, value: float) -> float:
    """Return a c that M(μ, c) >= 0 proves to be at most V.

    If the Cholesky factorization of M + ηI runs to its end in floating point, then M + ηI + E is positive
    semidefinite for some E with ‖E‖ <= γ_{n+1} tr(RᵀR) (Higham, Theorem 10.3), so that uᵀHu + gᵀu - c is at least
    -(η + ‖E‖)·‖(u, 1)‖² = -2(η + ‖E‖).  The rounding of M itself, and that of the trace, are in γ_{n+5}.  η is at most
    16 times what the factorization needs.
    """
    M = lifted(H, g, multiplier, value)
    n = g.size + 1
    size = float(np.sum(np.abs(np.diagonal(H)))) + n * (abs(multiplier) + abs(value))
    shift = gamma(8 * n) * size / n + 1e-300
    while math.isfinite(shift):
        try:
            np.linalg.cholesky(M + shift * np.eye(n))
        except np.linalg.LinAlgError:
            shift *= 16.0
            continue
        error = gamma(n + 5) * (size + n * shift) + shift
        return value - 2.0 * error - 4.0 * UNIT * abs(value)
    return -math.inf
