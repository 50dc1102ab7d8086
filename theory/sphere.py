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
_MAX_ITERATIONS = 100


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
    beta = vectors.T @ g
    gaps = eigenvalues - eigenvalues[0]
    s = _secular_root(gaps, beta)
    coordinates = _coordinates(gaps, beta, s)
    u = vectors @ coordinates
    u = u / np.linalg.norm(u)
    multiplier = float(eigenvalues[0] - s)
    value = float(u @ (H @ u) + g @ u)
    # |u| differs from 1 by a few units in the last place; Hu, the dot products and that, all together.
    d = g.size
    size_H, size_g = float(np.linalg.norm(H)), float(np.linalg.norm(g))
    rounding = gamma(2 * d + 12) * (math.sqrt(d) * size_H + size_g)
    return SphereMinimum(u, multiplier, _certified_low(H, g, multiplier, value), value + rounding)


def _secular_root(gaps: Array, beta: Array) -> float:
    r"""Return s >= 0 with :math:`\sum_i\beta_i^2/(2(\gamma_i+s))^2 = 1`, or 0 where the sum stays below 1."""
    half = 0.5 * np.abs(beta)
    low = max(0.0, float(np.max(half - gaps)))
    high = float(np.linalg.norm(half))
    if high == 0.0:
        return 0.0
    if low == 0.0:
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(half > 0, half / gaps, 0.0)
        if not np.linalg.norm(terms) > 1.0:
            return 0.0
        low = 1e-300
    # Newton's method on 1/‖u(s)‖ - 1, which is concave and increasing in s: it approaches the root from the left.
    s = low
    for _ in range(_MAX_ITERATIONS):
        shifted = gaps + s
        u = half / shifted
        length = float(np.linalg.norm(u))
        slope = float(np.sum(u * u / shifted)) / length**3
        if length > 1.0:
            low = s
        else:
            high = s
        step = (1.0 / length - 1.0) / slope
        following = s - step
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - s) <= 2.0 * UNIT * following:
            return following
        s = following
    return s


def _coordinates(gaps: Array, beta: Array, s: float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.where(beta != 0.0, -0.5 * beta / (gaps + s), 0.0)
    if s == 0.0:
        # The "hard case": the stationary point is inside the ball, and the null space of H - μI fills it up.
        u[~np.isfinite(u)] = 0.0
        u[0] = math.sqrt(max(0.0, 1.0 - float(u[1:] @ u[1:])))
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
    -(η + ‖E‖)·‖(u, 1)‖² = -2(η + ‖E‖).
    """
    M = lifted(H, g, multiplier, value)
    n = M.shape[0]
    size = float(np.sum(np.abs(np.diagonal(H)))) + n * (abs(multiplier) + abs(value)) + float(np.linalg.norm(g))
    if not math.isfinite(size):
        return -math.inf
    shift = gamma(8.0 * n) * size / n + 1e-300
    for _ in range(12):
        try:
            np.linalg.cholesky(M + shift * np.eye(n))
        except np.linalg.LinAlgError:
            shift *= 16.0
            continue
        error = gamma(n + 4) * (1.0 + gamma(4 * n)) * (size + n * shift) + shift
        return value - 2.0 * error - 4.0 * UNIT * abs(value)
    return -math.inf
