r"""Concentration of the honest data's two sums, with every constant explicit (Appendix F made quantitative).

An honest dataset of n queries has a Gram matrix :math:`Q^TQ = \sum_i Q_iQ_i^T` and a noise vector
:math:`\sum_i \xi_iQ_i`.  Below, M bounds ‖Q_i‖, and λ_min, λ_max are the extreme eigenvalues of Σ = E[QQᵀ].

=====================================  ==========================================================================
bound, each failing with prob. <= δ    source
=====================================  ==========================================================================
λ_min(QᵀQ) >= (1-η) n λ_min            matrix Chernoff (Tropp, 2012, Theorem 1.1): d·exp(-n(λ_min/M²)·k(-η)) = δ
λ_max(QᵀQ) <= (1+η) n λ_max            the same with d·exp(-n(λ_max/M²)·k(η)) = δ
√λ_min, √λ_max for Gaussian queries    √n ∓ (√d + √(2 ln(1/δ))) (Davidson and Szarek, 2001)
‖Σξ_iQ_i‖² <= σ²(T+2√(TLx)+2Lx)        Hsu, Kakade and Zhang (2012), x = ln(1/δ), T = tr(QᵀQ), L = λ_max(QᵀQ)
=====================================  ==========================================================================

with k(t) = (1+t)ln(1+t) - t.  The last row holds for independent zero-mean ξ_i that are σ-sub-Gaussian given Q
(:math:`E e^{s\xi}\le e^{\sigma^2s^2/2}`).  Linear noise has its own σ; the logistic residual σ(m) - 1[A = 1] has zero
mean and lies in an interval of length 1, so σ = 1/2 (Hoeffding's lemma).

Where queries are unbounded, a truncated Gram matrix :math:`\sum_{\|Q_i\|\le R}Q_iQ_i^T` is a lower bound to which the
first row applies with M = R (claim C18 rests on this).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc

from theory.arrays import Array
from theory.data import BallQueries, EmpiricalQueries, GaussianQueries, Queries
from theory.errors import AssumptionError


@dataclass(frozen=True)
class Spectrum:
    """The numbers of a query distribution that the bounds use.

    Attributes
    ----------
    dim : int
    low, high : float
        λ_min(Σ) and λ_max(Σ).
    trace : float
        E‖Q‖².
    bound : float
        M, infinite where there is none.
    """

    dim: int
    low: float
    high: float
    trace: float
    bound: float

    @classmethod
    def of(cls, queries: Queries) -> Spectrum:
        """Compute them.

        Raises
        ------
        AssumptionError
            Σ is not positive definite (to rounding), as Theorem 2 demands.
        """
        Sigma = queries.second_moment()
        eigenvalues = np.linalg.eigvalsh(Sigma)
        low, high = float(eigenvalues[0]), float(eigenvalues[-1])
        if not low > len(Sigma) * np.finfo(np.float64).eps * high:
            raise AssumptionError("thm2_linear_local_pac", f"λ_min(Σ) = {low}", "Σ must be positive definite")
        return cls(queries.dim, low, high, float(np.trace(Sigma)), float(queries.bound))


def chernoff_exponent(eta: float) -> float:
    """Return k(η) = (1 + η)ln(1 + η) - η for η >= -1.

    Examples
    --------
    >>> chernoff_exponent(0.0), chernoff_exponent(-1.0)
    (0.0, 1.0)
    """
    return 1.0 if eta == -1.0 else (1.0 + eta) * math.log1p(eta) - eta


def _needed(n: int, eigenvalue: float, bound: float, dim: int, delta: float) -> float:
    """Return the k(∓η) at which the probability of the table's first two rows is δ; infinite if there is none."""
    return math.log(dim / delta) * bound**2 / (n * eigenvalue) if n * eigenvalue > 0.0 else math.inf


def _deviation(needed: float, sign: float, high: float) -> float:
    """Return the least η (a float64) for which k(sign·η), which increases, is ``needed``; at most ``high``."""
    low = 0.0
    while low < (middle := 0.5 * (low + high)) < high:
        low, high = (low, middle) if chernoff_exponent(sign * middle) >= needed else (middle, high)
    return high


def least_gram_factor(n: int, eigenvalue: float, bound: float, dim: int, delta: float) -> float:
    """Return 1 - η of the first row, so that λ_min(QᵀQ) >= (1 - η) n λ_min with probability 1 - δ; 0 if there is none.

    Examples
    --------
    >>> round(least_gram_factor(10_000, 1.0, 1.0, 1, 0.01), 4)
    0.9698
    """
    # k(-1) = 1: if that is not enough, it is the η with which the bound says nothing.
    return 1.0 - _deviation(_needed(n, eigenvalue, bound, dim, delta), -1.0, 1.0)


def largest_gram_factor(n: int, eigenvalue: float, bound: float, dim: int, delta: float) -> float:
    """Return 1 + η of the second row; infinite if there is none.

    Examples
    --------
    >>> round(largest_gram_factor(10_000, 1.0, 1.0, 1, 0.01), 4)
    1.0305
    """
    needed = _needed(n, eigenvalue, bound, dim, delta)
    # k(x + 2) > x for x >= 0: true at 0, and the derivative of the left side is ln(x + 3) > 1.
    return 1.0 + _deviation(needed, 1.0, needed + 2.0)


def truncated_second_moment(queries: Queries, radius: float) -> float:
    """Return λ_min(E[QQᵀ 1{‖Q‖ <= R}]), exactly for Gaussian, ball and empirical queries, else for R >= M only.

    Examples
    --------
    >>> round(truncated_second_moment(GaussianQueries(2), 10.0), 6)
    1.0
    """
    if radius >= queries.bound:
        return Spectrum.of(queries).low
    if isinstance(queries, GaussianQueries):
        # E[Q_1² 1{‖Q‖ <= R}] = P(χ²_{d+2} <= R²): a factor q² raises the degrees of freedom by 2.
        return float(gammainc(0.5 * queries.dim + 1.0, 0.5 * radius**2))
    if isinstance(queries, BallQueries):
        return float((radius / queries.bound) ** (queries.dim + 2))
    if isinstance(queries, EmpiricalQueries):
        kept = queries.rows[np.linalg.norm(queries.rows, axis=1) <= radius]
        return max(0.0, float(np.linalg.eigvalsh(kept.T @ kept / len(queries.rows))[0]))
    return 0.0


def candidate_radii(queries: Queries, K: float = 0.0) -> Array:
    r"""Return the radii R at which a truncated Gram matrix is worth trying, for models up to length K.

    What is sought is the largest κ(R, K)·λ_min of :mod:`theory.pac_constants`.  For a large K it is near R = (d + 2)/K:
    κ decreases like :math:`e^{-RK}`, and the truncated moment of Gaussian and of ball queries grows like R^{d+2}.
    """
    if isinstance(queries, (GaussianQueries, BallQueries)):
        root = math.sqrt(queries.dim + 2)
        factors = np.linspace(0.3, 3.0, 55) if isinstance(queries, GaussianQueries) else np.linspace(0.3, 1.0, 36)
        return root / max(1.0, K / root) * factors
    if isinstance(queries, EmpiricalQueries):
        lengths = np.linalg.norm(queries.rows, axis=1)
        return np.unique(np.append(np.quantile(lengths, np.linspace(0.1, 1.0, 19)), queries.bound))
    return np.array([queries.bound])


def gram_bounds(queries: Queries, n: int, delta: float) -> tuple[float, float]:
    """Return (low, high): λ_min(QᵀQ) >= low and λ_max(QᵀQ) <= high, each with probability 1 - δ."""
    if isinstance(queries, GaussianQueries):
        deviation = math.sqrt(queries.dim) + math.sqrt(2.0 * math.log(1.0 / delta))
        return max(0.0, math.sqrt(n) - deviation) ** 2, (math.sqrt(n) + deviation) ** 2
    spectrum = Spectrum.of(queries)
    if not math.isfinite(spectrum.bound):
        raise AssumptionError("thm2_linear_local_pac", "unbounded queries", "bounds are known for Gaussian ones")
    low = least_gram_factor(n, spectrum.low, spectrum.bound, spectrum.dim, delta) * n * spectrum.low
    high = largest_gram_factor(n, spectrum.high, spectrum.bound, spectrum.dim, delta) * n * spectrum.high
    return low, high


def trace_bound(queries: Queries, n: int, delta: float) -> float:
    """Return T with tr(QᵀQ) <= T with probability 1 - δ: n M², or a χ² quantile's bound for Gaussian queries."""
    if isinstance(queries, GaussianQueries):
        # P(χ²_k >= k + 2√(kx) + 2x) <= e^{-x} (Laurent and Massart, 2000).
        k, x = n * queries.dim, math.log(1.0 / delta)
        return k + 2.0 * math.sqrt(k * x) + 2.0 * x
    return n * float(queries.bound) ** 2


def noise_bound(queries: Queries, n: int, sigma: float, delta: float) -> float:
    """Return G with ‖Σξ_iQ_i‖ <= G with probability 1 - δ (δ is split in three: trace, λ_max, noise).

    Examples
    --------
    >>> from theory import RademacherQueries
    >>> 100 < noise_bound(RademacherQueries(1), 10_000, 1.0, 0.1) < 350
    True
    """
    part = delta / 3.0
    T, L, x = trace_bound(queries, n, part), gram_bounds(queries, n, part)[1], math.log(1.0 / part)
    L = min(L, T)
    return sigma * math.sqrt(T + 2.0 * math.sqrt(T * L * x) + 2.0 * L * x)
