r"""Lemmas 5 and 20-30 as functions: both sides of each inequality, on any data.

Each returns an :class:`Inequality` ``left >= right`` (arrays where the arguments are arrays), with the constants that
the printed proofs leave open.  Lemma 4 is :func:`theory.pac.gradient_pac` with the constants of
:mod:`theory.pac_constants`.

Two proofs of Appendix G need a repair, which leaves the statements as they are:

* *Lemma 29, eq. 160* compares losses as if only the user with the far model mattered.  The losses of the other honest
  users may lie below their values at θ_h†, each by up to B²ℐ^{2α-1}/(2A), which grows with ℐ for α > 1/2.  It grows
  more slowly than Aℐ, so a larger ℐ₁ suffices: :func:`lemma29_least_data`.
* *Lemma 30* bounds R(ρ*, θ_h*) by L⁰ + 1, but L_h(θ_h*) may lie below L_h(θ_h†) in the same way.  Compare instead with
  the same θ_h* and another ρ, so that the honest losses cancel: :func:`lemma30_radius`.

Source: Appendices F and G.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from theory.arrays import Array, as_array, as_count, as_index, as_matrix, as_nonnegative, as_positive, as_vector
from theory.errors import AssumptionError, ShapeError
from theory.pac_logistic import secant
from theory.regularizers import L2, Regularizer, SmoothL2, SquaredL2


@dataclass(frozen=True, eq=False)
class Inequality:
    """The statement ``left >= right``, entry by entry."""

    left: Any
    right: Any

    @property
    def slack(self) -> Any:
        """left - right."""
        return self.left - self.right

    @property
    def holds(self) -> bool:
        """Whether it is true of all entries (NaN is not)."""
        return bool(np.all(np.asarray(self.left) >= np.asarray(self.right)))


# ---------------------------------------------------------------------------------------------- linear regression (F.2)


def lemma20(S: Any, Sigma: Any) -> Inequality:
    r"""Weyl: :math:`\|S - \Sigma\|_2 \ge |\lambda_{\min}(S) - \lambda_{\min}(\Sigma)|` for symmetric matrices.

    Examples
    --------
    >>> lemma20(np.diag([1.0, 2.0]), np.diag([3.0, 2.0])).holds
    True
    """
    d = len(_entries(S, "S"))
    S, Sigma = _symmetric(S, "S", d), _symmetric(Sigma, "Sigma", d)
    distance = float(np.max(np.abs(np.linalg.eigvalsh(S - Sigma))))
    return Inequality(distance, abs(float(np.linalg.eigvalsh(S)[0]) - float(np.linalg.eigvalsh(Sigma)[0])))


def lemma21(Q: Any, Sigma: Any) -> Inequality:
    r""":math:`\lambda_{\min}(\hat\Sigma) \ge \lambda_{\min}(\Sigma)/2`, which holds with high probability.

    The probability of failure is at most δ once :func:`theory.concentration.least_gram_factor` is at least 1/2.

    Examples
    --------
    >>> lemma21(np.eye(2), np.eye(2)).slack
    0.0
    """
    Q = _entries(Q, "Q")
    Sigma = _symmetric(Sigma, "Sigma", Q.shape[1])
    return Inequality(float(np.linalg.eigvalsh(Q.T @ Q / len(Q))[0]), 0.5 * float(np.linalg.eigvalsh(Sigma)[0]))


def lemma22(Q: Any, j: int, s: Any, *, sigma: float = 1.0) -> Inequality:
    r"""ξQ[j] is sub-exponential, even sub-Gaussian for bounded queries: a bound on its moment generating function.

    .. math:: \exp\big(\tfrac12(s\sigma\max_i|Q_{ij}|)^2\big) \ \ge\ \frac1n\sum_i\cosh(s\sigma Q_{ij})
              = E\,e^{s\xi Q[j]},

    for queries drawn from the rows of Q and noise ξ = ±σ.  Its mean is zero because ξ is independent of Q.

    Examples
    --------
    >>> lemma22(np.array([[1.0], [3.0]]), 0, np.array([0.5, 1.0, 2.0])).holds
    True
    """
    Q = _entries(Q, "Q")
    column = Q[:, as_index(j, "j", Q.shape[1])]
    s = np.asarray(s, dtype=np.float64)
    sigma = as_nonnegative(sigma, "sigma", "lem22_noise_times_query")
    right = np.mean(np.cosh(s[..., None] * sigma * column), axis=-1)
    return Inequality(np.exp(0.5 * (s * sigma * np.max(np.abs(column))) ** 2), right)


def lemma23(Q: Any, noise: Any, B: float) -> Inequality:
    r""":math:`B\mathcal I^{3/4} \ge \|\sum_i\xi_iQ_i\|_2`, which holds with high probability for every B > 0.

    Examples
    --------
    >>> lemma23(np.eye(2), [0.5, -0.5], 1.0).holds
    True
    """
    Q = as_matrix(Q, "Q")
    xi = as_vector(noise, "noise", len(Q))
    return Inequality(as_positive(B, "B", "lem23_noise_sum") * len(Q) ** 0.75, float(np.linalg.norm(Q.T @ xi)))


# -------------------------------------------------------------------------------------------- logistic regression (F.3)


def logistic_distance(a: Any, b: Any) -> Array:
    r"""Return :math:`\Delta(a, b) = (a-b)(\sigma(a)-\sigma(b))` (Definition 7), to high relative accuracy.

    Examples
    --------
    >>> float(logistic_distance(1.0, 1.0))
    0.0
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return (a - b) ** 2 * secant(b, a - b)


def lemma24(a: Any, b: Any, k: float) -> Inequality:
    r""":math:`\Delta(a, b) \ge c_k|a-b|^2` for |a|, |b| <= k, with :math:`c_k = \sigma'(k)`, the best constant.

    Raises
    ------
    AssumptionError
        An argument is larger than k in absolute value.

    Examples
    --------
    >>> lemma24([0.5, -1.0], [1.0, 1.0], 1.0).holds
    True
    """
    a, b = _within(a, k, "a", "lem24_logistic_distance"), _within(b, k, "b", "lem24_logistic_distance")
    return Inequality(logistic_distance(a, b), expit(k) * expit(-k) * (a - b) ** 2)


def lemma25(a: Any, b: Any, k: float) -> Inequality:
    r""":math:`\Delta(a, b) \ge d_k|a-b| - d_k` for |b| <= k and all a, with :math:`d_k = \sigma(k+1)-\sigma(k)`.

    Examples
    --------
    >>> lemma25([5.0, -9.0], [1.0, -1.0], 1.0).holds
    True
    """
    b = _within(b, k, "b", "lem25_logistic_linear")
    a = np.asarray(a, dtype=np.float64)
    d_k = float(secant(np.array(float(k)), np.array(1.0)))
    return Inequality(logistic_distance(a, b), d_k * np.abs(a - b) - d_k)


def logistic_distance_bound(a: Any, b: Any, k: float) -> Inequality:
    r""":math:`\Delta(a,b) \ge d_k\min(|a-b|, |a-b|^2)` for |b| <= k: Lemmas 24 and 25 in one (claim C16).

    **Proof.**  Let b >= 0 and t = |a - b|.  The secant slope s(b, ·) is the mean of σ' between b and a; by
    :mod:`theory.pac_logistic` it is at least w(b, t) >= w(k, t).  For t <= 1, w(k, t) >= w(k, 1) = d_k.  For t >= 1,
    Δ = t·|σ(a) - σ(b)| >= t·(σ(k+1) - σ(k)), since the difference grows with t.  Equality at b = k, a = k + 1, so d_k
    is best possible.

    Examples
    --------
    >>> bool(abs(logistic_distance_bound(2.0, 1.0, 1.0).slack) < 1e-15)
    True
    """
    b = _within(b, k, "b", "c16_explicit_constant")
    t = np.abs(np.asarray(a, dtype=np.float64) - b)
    d_k = float(secant(np.array(float(k)), np.array(1.0)))
    return Inequality(logistic_distance(a, b), d_k * np.minimum(t, t * t))


def lemma26(Q: Any, u: Any) -> Inequality:
    r"""E|Qᵀu| > 0 for queries whose support spans the space; here for rows of Q drawn with equal probability.

    The right side is the explicit :math:`\lambda_{\min}(\hat\Sigma)/\max_i\|Q_i\|`, positive iff the rows span: |x| >=
    x²/M for |x| <= M, and u is a unit vector.

    Examples
    --------
    >>> lemma26(np.eye(2), [0.6, 0.8]).holds
    True
    """
    Q = _entries(Q, "Q")
    direction = _unit(u, Q.shape[1])
    M = float(np.max(np.linalg.norm(Q, axis=1)))
    least = max(0.0, float(np.linalg.eigvalsh(Q.T @ Q / len(Q))[0]))
    return Inequality(float(np.mean(np.abs(Q @ direction))), least / M if M > 0 else 0.0)


def lemma27(Q: Any, C: float) -> Inequality:
    r""":math:`\sum_i|Q_i^Tu| \ge C\mathcal I` for all unit u at once, by a lower bound of the left side.

    The left side returned is :math:`\lambda_{\min}(\sum_iQ_iQ_i^T)/\max_i\|Q_i\|`, at most the minimum over u, because
    |x| >= x²/M.  So Lemma 27 follows from Lemma 21, with C = λ_min(Σ)/(2M) and without a covering.

    (Eqs 121-124 have M_Q where Hoeffding's inequality, for variables in [0, M_Q], gives M_Q²: for M_Q > 1 the printed
    bound is false.  With values 0 and 10 of probability 1/2, ℐ = 1 and t = 5, the probability is 1, and the printed
    bound 2e^{-5}.  With M_Q² the proof goes through.)

    Examples
    --------
    >>> lemma27(np.eye(2), 0.5).holds
    True
    """
    Q = _entries(Q, "Q")
    C = as_nonnegative(C, "C", "lem27_uniform_lower_bound")
    M = float(np.max(np.linalg.norm(Q, axis=1)))
    least = max(0.0, float(np.linalg.eigvalsh(Q.T @ Q)[0]))
    return Inequality(least / M if M > 0 else 0.0, C * len(Q))


def lemma28(Q: Any, theta: Any, theta_honest: Any, A: float) -> Inequality:
    r""":math:`\sum_i\Delta(Q_i^T\theta, Q_i^T\theta^\dagger) \ge A\mathcal I\min(r, r^2)` at one θ, r = ‖θ - θ†‖.

    With A = κ(M, ‖θ†‖)·λ_min(Σ̂) it holds for all θ and every dataset (claim C16): see :mod:`theory.pac_constants`.

    Examples
    --------
    >>> lemma28(np.eye(2), [1.0, 0.0], [0.0, 0.0], 0.1).holds
    True
    """
    Q = as_matrix(Q, "Q")
    first, second = as_vector(theta, "theta", Q.shape[1]), as_vector(theta_honest, "theta_honest", Q.shape[1])
    r = float(np.linalg.norm(first - second))
    left = float(np.sum(logistic_distance(Q @ first, Q @ second)))
    return Inequality(left, as_nonnegative(A, "A", "lem28_logistic_lower_bound") * len(Q) * min(r, r * r))


# ------------------------------------------------------------------------------------------------------ local PAC* (G)


def lemma5_error(A: float, B: float, alpha: float, force: float, n_data: int) -> float:
    r"""Return :math:`(B\mathcal I^\alpha + E)/(A\mathcal I)`, the error bound of eq. 168; infinite for ℐ <= ℐ₂.

    ℐ₂ = max{2E/A, (2B/A)^{1/(1-α)}}: above it the right side is below 1, which the step from eq. 166 to 167 needs.

    Examples
    --------
    >>> lemma5_error(1.0, 1.0, 0.5, 1.0, 10_000)
    0.0101
    """
    A, B = as_positive(A, "A", "lem5_local_pac"), as_nonnegative(B, "B", "lem5_local_pac")
    force, n = as_nonnegative(force, "force", "lem5_local_pac"), as_count(n_data, "n_data", 1)
    _check_exponent(alpha, "lem5_local_pac")
    least = max(2.0 * force / A, _power(2.0 * B / A, 1.0 / (1.0 - alpha)))
    return (B * n**alpha + force) / (A * n) if n > least else math.inf


def lemma29_least_data(
    A: float, B: float, alpha: float, reference_loss: float, n_honest: int = 1, *, printed: bool = False
) -> float:
    r"""Return ℐ₁ of Lemma 29, as printed or repaired for several honest users.

    Printed: max{2L⁰/A, (4B/A)^{1/(1-α)}}.  Repaired, for H honest users: if Bℐ^α <= Aℐ/(4√H), the losses of the others
    fall by at most B²ℐ^{2α-1}/(2A) <= Aℐ/(32H) each, so eq. 158 leaves Aℐ - Aℐ/2 - Aℐ/32 > L⁰ for

    .. math:: \mathcal I > \max\{32L^0/(15A),\ (4\sqrt H\,B/A)^{1/(1-\alpha)}\}.

    Examples
    --------
    >>> lemma29_least_data(1.0, 1.0, 0.5, 3.0, printed=True), lemma29_least_data(1.0, 1.0, 0.5, 3.0, n_honest=4)
    (16.0, 64.0)
    """
    statement = "lem29_local_models_bounded"
    A, B = as_positive(A, "A", statement), as_nonnegative(B, "B", statement)
    L0, H = as_nonnegative(reference_loss, "reference_loss", statement), as_count(n_honest, "n_honest", 1)
    _check_exponent(alpha, statement)
    if printed:
        return max(2.0 * L0 / A, _power(4.0 * B / A, 1.0 / (1.0 - alpha)))
    return max(32.0 * L0 / (15.0 * A), _power(4.0 * math.sqrt(H) * B / A, 1.0 / (1.0 - alpha)))


def lemma29(thetas: Any, theta_honest: Any) -> Inequality:
    """2 >= ‖θ_h* - θ_h†‖ for each honest user, at a minimum with more than ℐ₁ data.

    Examples
    --------
    >>> lemma29([[1.0], [0.0]], [[0.0], [3.0]]).left - lemma29([[1.0], [0.0]], [[0.0], [3.0]]).right
    array([ 1., -1.])
    """
    found = as_matrix(thetas, "thetas")
    honest = as_matrix(theta_honest, "theta_honest", *found.shape)
    return Inequality(2.0, np.linalg.norm(found - honest, axis=1))


def lemma30_radius(reg: Regularizer, theta_honest: Any, others_loss: float, rho: Any) -> float:
    r"""Return a bound on ‖ρ* - θ_h†‖ for each honest h, for honest models within 2 of the preferred ones (repaired).

    At the minimum the loss is at most the one with the same θ_h*, but ρ₀ (``rho``) and θ_n⁰ for the others.  The honest
    local losses cancel, so R(ρ*, θ_h*) <= S := Σ_h sup_{‖θ-θ_h†‖<=2} R(ρ₀, θ) + Δ, where Δ (``others_loss``) is
    Σ_n [L_n(θ_n⁰) + R(ρ₀, θ_n⁰) - inf L_n] over the others.  Hence ‖ρ* - θ_h†‖ <= R⁻¹(S) + 2.

    Examples
    --------
    >>> lemma30_radius(SquaredL2(1.0), [[0.0]], 0.0, [0.0])
    4.0
    """
    models = _entries(theta_honest, "theta_honest")
    center = as_vector(rho, "rho", models.shape[1])
    total = as_nonnegative(others_loss, "others_loss", "lem30_global_model_bounded")
    for model in models:
        farthest = np.linalg.norm(model - center) + 2.0
        total += float(reg.value(np.array([farthest]), np.zeros(1)))
    return _inverse(reg, total) + 2.0


def _inverse(reg: Regularizer, value: float) -> float:
    """Return the distance at which the regularizer reaches ``value``."""
    if isinstance(reg, SquaredL2):
        return math.sqrt(value / reg.lam)
    if isinstance(reg, L2):
        return value / reg.lam
    if isinstance(reg, SmoothL2):
        # √((R/λ)² - 1), but no square overflows.  The value is at least λ√5, that at distance 2.
        return math.sqrt(value / reg.lam - 1.0) * math.sqrt(value / reg.lam + 1.0)
    raise AssumptionError("lem30_global_model_bounded", f"regularizer {reg!r}", "use SquaredL2, L2 or SmoothL2")


def _power(base: float, exponent: float) -> float:
    """Return ``base ** exponent``, infinite where it is beyond float64: no number of data is then enough."""
    try:
        return base**exponent
    except OverflowError:
        return math.inf


def _entries(value: Any, name: str, rows: int | None = None, columns: int | None = None) -> Array:
    """Return ``value`` as a matrix that is not empty."""
    matrix = as_matrix(value, name, rows, columns)
    if not matrix.size:
        raise ShapeError(name, "at least one row and one column", f"shape {matrix.shape}")
    return matrix


def _symmetric(value: Any, name: str, size: int) -> Array:
    # Eigenvalues are computed from one triangle: those of another matrix, unless this one is symmetric up to rounding.
    matrix = _entries(value, name, size, size)
    if np.max(matrix - matrix.T) > 1e-9 * np.max(np.abs(matrix)):
        raise ShapeError(name, "a symmetric matrix", f"{matrix.tolist()}")
    return matrix


def _within(value: Any, k: float, name: str, statement: str) -> Array:
    array = as_array(value, name, np.ndim(value))
    if not np.all(np.abs(array) <= k):
        raise AssumptionError(statement, f"|{name}| = {np.max(np.abs(array))}", f"it must be at most k = {k}")
    return array


def _unit(u: Any, size: int) -> Array:
    vector = as_vector(u, "u", size)
    length = float(np.linalg.norm(vector))
    if not length > 0:
        raise AssumptionError("def8_sphere", "u = 0", "u must not be zero")
    return vector / length


def _check_exponent(alpha: float, statement: str) -> None:
    if not alpha < 1.0:
        raise AssumptionError(statement, f"alpha = {alpha}", "alpha must be below 1")
