r"""Explicit constants of gradient-PAC* (Definition 3) and explicit sample sizes for local PAC* (Definition 1).

**Constants** A_K, B_K, α_K such that the event holds with probability → 1, for all ‖θ†‖ <= K:

=========  =========================================  ======================================================
loss       the paper                                  here
=========  =========================================  ======================================================
linear     A = λ_min(Σ)/2, α = 3/4                    A = λ_min(Σ), any α in (1/2, 1), any B > 0 (sharp, C17)
logistic   A = min(λ_min c_K/2, e_K), α = 3/4         A = max_R κ(R, K)·λ_min(E[QQᵀ1{‖Q‖ <= R}])  (C16, C18)
=========  =========================================  ======================================================

with :math:`\kappa(R, K) = [\sigma(R(K+1)) - \sigma(RK)]/R`.

*Linear, sharp.*  By :mod:`theory.pac` the event is ‖p‖ <= Bℐ^α and V >= Aℐ - Bℐ^α, where p = -Σξ_iQ_i + 2νθ† is of
order √ℐ, and V = min(uᵀHu + pᵀu) differs from ℐλ_min(Σ) by O(√ℐ).  So α > 1/2 and A <= λ_min(Σ) make both true with
probability → 1 for every B > 0, and with A > λ_min(Σ) the second fails, since ℐ^α is of lower order than ℐ.  For α =
1/2 and noise with E[ξ²QQᵀ] ≠ 0, p/√ℐ has a normal limit, so P(‖p‖ <= B√ℐ) stays below 1 for every B; smaller α are
worse.  (Claim C17 is confirmed; it needs finite fourth moments of the queries for the O(√ℐ) of V, or A < λ_min(Σ).)

*Logistic.*  For ‖Q_i‖ <= R and ‖z‖ <= 1 the secant slope of :mod:`theory.pac_logistic` is at least κ(R, K), because w
decreases in both arguments.  Dropping the other data loses nothing but size, as every δ >= 0.  Hence Σδ >= κ(R, K)
λ_min(Σ_{‖Q_i‖<=R} Q_iQ_iᵀ) min(r, r²), and the sum concentrates by the law of large numbers with second moments only.
So boundedness is not needed: gradient-PAC* holds iff Σ is positive definite (C18; if vᵀΣv = 0, then Qᵀv = 0 almost
surely, the data say nothing along v, and the left side is 2ν(θ-θ†)ᵀθ there, which is below Aℐ for large ℐ).

**Sample sizes** (C19).  At a minimum, stationarity in θ_h (eqs 162-163) and convexity give, with t = ‖θ_h* - θ_h†‖,

.. math:: (a_h + 2\nu)\min(1, t) - G_h \ \le\ u^T\nabla\mathcal L_h(\theta_h^*)\ \le\ E,

where a_h = κ λ_min(Gram) (κ = 1 and no minimum with 1 for least squares), G_h = ‖∇L_h(θ_h†)‖, and E bounds the
regularizer's force.  For ℓ2 and smooth-ℓ2, E = λ *whatever the others do*.  For ℓ2² the loss at the minimum is at most
the loss at ρ = ρ₀, θ_h = θ_h†, θ_n = θ_n⁰, and L_h(θ) >= L_h(θ_h†) - G_h²/(2a_h), so

.. math:: \lambda\|\rho^*-\theta_h^*\|^2 \le \Delta_0 + \sum_{h}\frac{G_h^2}{2a_h}, \qquad
          \Delta_0 = \sum_h\lambda\|\rho_0-\theta_h^\dagger\|^2
          + \sum_{n\notin H}\big[\mathcal L_n(\theta_n^0)+\lambda\|\rho_0-\theta_n^0\|^2 - \inf\mathcal L_n\big],

and E = 2√(λ(Δ₀ + ΣG_h²/(2a_h))), which is O(1) in ℐ.  (This sum over *all* honest users is what eq. 160 of Lemma 29
leaves out: when one honest model is far off, the other honest users' losses may be below their values at θ_h†.)  With
the bounds of :mod:`theory.concentration`, t <= (E + G)/(a + 2ν) = O(ε) needs ℐ = O(ε⁻² log(1/δ)).  Every bound
improves with a user's own number of data, so users with more than ℐ data are covered.

Source: Definition 1 (``def1_local_pac``), Definition 3, Lemmas 4 and 5; claims C16-C19.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, gammaln

from theory.arrays import Array, as_count, as_matrix, as_nonnegative, as_positive
from theory.concentration import (
    Spectrum,
    candidate_radii,
    gram_bounds,
    least_gram_factor,
    noise_bound,
    truncated_second_moment,
)
from theory.data import (
    BallQueries,
    CubeQueries,
    GaussianQueries,
    Queries,
    RademacherQueries,
    SphereQueries,
    UserDataset,
)
from theory.errors import AssumptionError, ShapeError
from theory.losses import LeastSquares, Logistic, Loss, local_loss
from theory.pac_logistic import secant
from theory.regularizers import L2, Regularizer, SmoothL2, SquaredL2

LARGEST_SAMPLE = 10**12


@dataclass(frozen=True)
class PacConstants:
    """A, B, α of Definition 3, and the radius at which queries are cut off (infinite: they are not)."""

    A: float
    B: float
    alpha: float
    radius: float


def curvature_constant(radius: float, K: float) -> float:
    r"""Return :math:`\kappa(R, K) = [\sigma(R(K+1)) - \sigma(RK)]/R`.

    Examples
    --------
    >>> round(curvature_constant(1.0, 0.0), 6)
    0.231059
    """
    return float(secant(np.array(radius * K), np.array(radius)))


def gradient_pac_constants(
    queries: Queries, loss: Loss, K: float, *, B: float = 1.0, alpha: float = 0.75
) -> PacConstants:
    r"""Return constants for which Definition 3 holds, for all ``norm(theta_honest) <= K`` (claims C16-C18).

    Parameters
    ----------
    queries : Queries
        With a positive definite second moment.
    loss : LeastSquares or Logistic
    K : float, >= 0
    B : float, > 0
        Any B works.
    alpha : float in (1/2, 1)
        Any works.

    Returns
    -------
    PacConstants
        A is the largest possible for least squares; for logistic regression a lower bound of it.  At A = λ_min(Σ)
        itself the event's probability tends to 1 only with ℐ^α against O(√ℐ).

    Raises
    ------
    AssumptionError
        Σ is not positive definite, or α or B outside its range.

    Examples
    --------
    >>> from theory import GaussianQueries, LeastSquares, Logistic
    >>> gradient_pac_constants(GaussianQueries(3), LeastSquares(), 1.0).A
    1.0
    >>> 0.02 < gradient_pac_constants(GaussianQueries(3), Logistic(), 1.0).A < 0.25
    True
    """
    K = as_nonnegative(K, "K", "def3_gradient_pac")
    B = as_positive(B, "B", "def3_gradient_pac")
    if not 0.5 < alpha < 1.0:
        raise AssumptionError("def3_gradient_pac", f"alpha = {alpha}", "every alpha in (1/2, 1) works, and no other")
    spectrum = Spectrum.of(queries)
    if isinstance(loss, LeastSquares):
        return PacConstants(spectrum.low, B, alpha, math.inf)
    _require_logistic(loss)
    choices = [(curvature_constant(R, K) * truncated_second_moment(queries, R), R) for R in candidate_radii(queries, K)]
    A, radius = max(choices)
    return PacConstants(A, B, alpha, float(radius))


def paper_constants(queries: Queries, loss: Loss, K: float, *, B: float = 1.0, nu: float = 0.0) -> PacConstants:
    r"""Return the constants of the paper's proofs (eqs 110 and 133-138), with α = 3/4 and B_K = B + 2νK.

    For logistic regression: :math:`C_0 = \inf_u E|Q^Tu|` (see :func:`least_mean_projection`), C = C₀/4 (Lemma 27),
    d_K = σ(MK + 1) - σ(MK), e_K = d_K C/4, f_K = 4/C, g_K = (f_K + K)M, c_K = σ'(g_K).

    Raises
    ------
    AssumptionError
        Logistic regression with unbounded queries, which Theorem 3 excludes.

    Examples
    --------
    >>> from theory import RademacherQueries, LeastSquares
    >>> paper_constants(RademacherQueries(3), LeastSquares(), 1.0).A
    0.5
    """
    K = as_nonnegative(K, "K", "def3_gradient_pac")
    spectrum = Spectrum.of(queries)
    B_K = as_positive(B, "B", "def3_gradient_pac") + 2.0 * as_nonnegative(nu, "nu", "eq5_local_loss") * K
    if isinstance(loss, LeastSquares):
        return PacConstants(0.5 * spectrum.low, B_K, 0.75, math.inf)
    _require_logistic(loss)
    M = spectrum.bound
    if not math.isfinite(M):
        raise AssumptionError(
            "thm3_logistic_local_pac", "unbounded queries", "the paper's proof needs a bounded support"
        )
    C = least_mean_projection(queries) / 4.0
    d_K = float(secant(np.array(M * K), np.array(1.0)))
    g_K = (4.0 / C + K) * M
    c_K = float(expit(g_K) * expit(-g_K))
    return PacConstants(min(0.5 * spectrum.low * c_K, d_K * C / 4.0), B_K, 0.75, math.inf)


def least_mean_projection(queries: Queries) -> float:
    r"""Return :math:`C_0 = \inf_{\|u\|=1} E|Q^Tu|` (eq. 120), or a lower bound of it.

    Exact for rotationally invariant queries (E|Q₁|) and for Rademacher ones (1/√2 for d >= 2, Szarek 1976).  For the
    cube E|X| >= E[X²]^{3/2}/E[X⁴]^{1/2} >= w/3 (Hölder; the kurtosis of a sum of symmetric uniform variables is at most
    3).  For others E|X| >= E[X²]/M >= λ_min/M.

    Examples
    --------
    >>> from theory import SphereQueries
    >>> round(least_mean_projection(SphereQueries(3)), 6)  # a coordinate is uniform on [-√3, √3]
    0.866025
    """
    d = queries.dim
    # E|u_1| for u uniform on the unit sphere.
    mean = math.exp(float(gammaln(0.5 * d) - gammaln(0.5 * (d + 1)))) / math.sqrt(math.pi)
    if isinstance(queries, GaussianQueries):
        return math.sqrt(2.0 / math.pi)
    if isinstance(queries, SphereQueries):
        return math.sqrt(d) * mean
    if isinstance(queries, BallQueries):
        return float(queries.bound) * d / (d + 1.0) * mean
    if isinstance(queries, RademacherQueries):
        return 1.0 if d == 1 else math.sqrt(0.5)
    if isinstance(queries, CubeQueries):
        return queries.half_width / 3.0
    spectrum = Spectrum.of(queries)
    return spectrum.low / spectrum.bound


def event_probability(
    queries: Queries, loss: Loss, n: int, constants: PacConstants, K: float, *, nu: float = 0.0, noise: float = 1.0
) -> float:
    r"""Return a lower bound of the probability of the event of Definition 3 with ``n`` data (0 if nothing is known).

    The event follows from ‖p‖ <= Bn^α and κλ_min(Gram) >= An, because V >= κλ_min(Gram) - ‖p‖.  The largest δ for
    which :mod:`theory.concentration` proves both is found by bisection.

    Examples
    --------
    >>> from theory import RademacherQueries, LeastSquares
    >>> constants = PacConstants(A=0.5, B=2.0, alpha=0.75, radius=math.inf)
    >>> event_probability(RademacherQueries(2), LeastSquares(), 10_000, constants, 1.0) > 0.99
    True
    """
    n = as_count(n, "n", 1)
    K = as_nonnegative(K, "K", "def3_gradient_pac")
    nu = as_nonnegative(nu, "nu", "eq5_local_loss")
    noise = as_nonnegative(noise, "noise", "thm2_linear_local_pac")

    def is_proved(delta: float) -> bool:
        user = UserBounds.of(queries, loss, n, delta, K, nu, noise, constants.radius)
        return user.slope() >= constants.A * n and constants.B * n**constants.alpha >= user.noise

    if not is_proved(1.0):
        return 0.0
    low, high = -300.0, 0.0  # log10 of δ
    while low < (middle := 0.5 * (low + high)) < high:
        low, high = (low, middle) if is_proved(10.0**middle) else (middle, high)
    return 1.0 - 10.0**high


@dataclass(frozen=True)
class UserBounds:
    """What holds for one user's honest data with probability 1 - δ.

    Attributes
    ----------
    gram : float
        A lower bound of λ_min of the Gram matrix (of the queries within ``radius`` for logistic regression).
    noise : float
        G, an upper bound of ‖∇L(θ†)‖.
    radius, norm : float
        R and K = ‖θ†‖; R is infinite for least squares.
    """

    gram: float
    noise: float
    radius: float
    norm: float

    @classmethod
    def of(
        cls, queries: Queries, loss: Loss, n: int, delta: float, K: float, nu: float, noise: float, radius: float
    ) -> UserBounds:
        """Split δ between the Gram matrix and the noise."""
        if isinstance(loss, LeastSquares):
            G = noise_bound(queries, n, noise, 0.5 * delta) + 2.0 * nu * K
            return cls(gram_bounds(queries, n, 0.5 * delta)[0], G, math.inf, K)
        _require_logistic(loss)
        G = noise_bound(queries, n, 0.5, 0.5 * delta) + 2.0 * nu * K
        R = min(radius, float(queries.bound))
        eigenvalue = truncated_second_moment(queries, R)
        return cls(least_gram_factor(n, eigenvalue, R, queries.dim, 0.5 * delta) * n * eigenvalue, G, R, K)

    def slope(self, t: float = 1.0) -> float:
        """Return a with Σδ >= a‖z‖² for ‖z‖ <= t (t <= 1 for logistic regression): :math:`w(RK, Rt)` times the Gram."""
        if self.radius == math.inf:
            return self.gram
        return self.gram * float(secant(np.array(self.radius * self.norm), np.array(self.radius * t)))

    def error(self, force: float, nu: float) -> float:
        r"""Return the bound on t that :math:`(a + 2\nu)\min(1, t) - G <= E` gives; infinite if it gives none.

        For logistic regression t < 1 can be used again, with the larger slope a(t) that it allows.
        """
        pull = force + self.noise
        if self.radius == math.inf:
            return pull / (self.gram + 2.0 * nu)
        if not pull < self.slope() + 2.0 * nu:
            return math.inf
        # (a(t) + 2ν)t increases in t, as σ(R(K + t)) does.
        low, high = 0.0, 1.0
        while low < (t := 0.5 * (low + high)) < high:
            low, high = (low, t) if (self.slope(t) + 2.0 * nu) * t >= pull else (t, high)
        return high


# --------------------------------------------------------------------------------------------------------- sample sizes


@dataclass(frozen=True)
class SampleSize:
    """How many data suffice for local PAC* (Definition 1), and what they guarantee.

    Attributes
    ----------
    n_data : int
        With at least this many data from each honest user, all errors are at most ``error`` with probability
        1 - δ.
    error : float
        <= ε.
    force : float
        E, which bounds the regularizer's pull.
    curvature, noise : float
        a (smallest) and G (largest over the honest users) at ``n_data``.
    """

    n_data: int
    error: float
    force: float
    curvature: float
    noise: float


def guaranteed_error(
    queries: Queries,
    loss: Loss,
    reg: Regularizer,
    theta_honest: Any,
    *,
    n_data: int,
    delta: float,
    nu: float = 0.0,
    noise: float = 1.0,
    others: Sequence[UserDataset] = (),
) -> SampleSize:
    r"""Return the error that at least ``n_data`` honest data of each honest user guarantee (claim C19).

    The arguments are those of :func:`sample_size`; ``error`` is infinite where nothing is proved.

    Examples
    --------
    >>> from theory import L2, LeastSquares, RademacherQueries
    >>> at = {"queries": RademacherQueries(2), "loss": LeastSquares(), "reg": L2(1.0), "theta_honest": [1.0, 0.0]}
    >>> guaranteed_error(**at, n_data=10_000, delta=0.1).error < 0.05
    True
    """
    return _guarantee(queries, loss, reg, theta_honest, delta, nu, noise, others)(as_count(n_data, "n_data", 1))


def _guarantee(
    queries: Queries,
    loss: Loss,
    reg: Regularizer,
    theta_honest: Any,
    delta: float,
    nu: float,
    noise: float,
    others: Sequence[UserDataset],
) -> Callable[[int], SampleSize]:
    """Check the arguments; return what n data guarantee as a function of n."""
    delta = as_positive(delta, "delta", "def1_local_pac")
    if not delta < 1.0:
        raise AssumptionError("def1_local_pac", f"delta = {delta}", "delta must lie in (0, 1)")
    nu = as_nonnegative(nu, "nu", "eq5_local_loss")
    noise = as_nonnegative(noise, "noise", "thm2_linear_local_pac")
    models = as_matrix(np.atleast_2d(theta_honest), "theta_honest", columns=queries.dim)
    norms = [float(x) for x in np.linalg.norm(models, axis=1)]
    radius = gradient_pac_constants(queries, loss, max(norms)).radius
    part = delta / len(norms)
    reference = reference_loss(models, others, loss, reg, nu)

    def guarantee(n: int) -> SampleSize:
        bounds = [UserBounds.of(queries, loss, n, part, K, nu, noise, radius) for K in norms]
        curvature, G = min(user.slope() for user in bounds), max(user.noise for user in bounds)
        if not all(user.slope() > user.noise for user in bounds):
            return SampleSize(n, math.inf, math.inf, curvature, G)
        excess = sum(user.noise**2 / (2.0 * user.slope()) for user in bounds)
        force = _force(reg, reference + excess)
        return SampleSize(n, max(user.error(force, nu) for user in bounds), force, curvature, G)

    return guarantee


def sample_size(
    queries: Queries,
    loss: Loss,
    reg: Regularizer,
    theta_honest: Any,
    *,
    epsilon: float,
    delta: float,
    nu: float = 0.0,
    noise: float = 1.0,
    others: Sequence[UserDataset] = (),
) -> SampleSize:
    r"""Return an explicit ℐ for local PAC* learning (Definition 1; claim C19).

    If every honest user h provides at least ℐ honest data (they may provide different numbers), then with
    probability at least 1 - δ every minimum of the global loss has ‖θ_h* - θ_h†‖ <= ε for all h.

    Parameters
    ----------
    queries : Queries
        Bounded or Gaussian.
    loss : LeastSquares or Logistic
    reg : SquaredL2, L2 or SmoothL2
    theta_honest : (H, d) or (d,) array_like
        The preferred models of the honest users.
    epsilon : float, > 0
    delta : float in (0, 1)
    nu : float, >= 0
    noise : float, >= 0
        The sub-Gaussian parameter of the noise of linear answers; unused for logistic regression.
    others : sequence of UserDataset
        The fixed data of the other users; they matter for ℓ2² only.

    Returns
    -------
    SampleSize
        The least ℐ that the bounds of this module prove.

    Raises
    ------
    AssumptionError
        Arguments out of range, Σ singular, or more than 10^12 data needed.

    Examples
    --------
    >>> from theory import L2, LeastSquares, RademacherQueries
    >>> sizes = [sample_size(RademacherQueries(2), LeastSquares(), L2(1.0), [1.0, 0.0], epsilon=e, delta=0.1).n_data
    ...          for e in (0.01, 0.001)]
    >>> 80 < sizes[1] / sizes[0] < 100   # of order 1/ε²
    True
    """
    epsilon = as_positive(epsilon, "epsilon", "def1_local_pac")
    guarantee = _guarantee(queries, loss, reg, theta_honest, delta, nu, noise, others)
    low, high = 0, LARGEST_SAMPLE
    if not guarantee(high).error <= epsilon:
        raise AssumptionError("def1_local_pac", f"epsilon = {epsilon}", "more than 10^12 data would be needed")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if guarantee(middle).error <= epsilon else (middle, high)
    return guarantee(high)


def _force(reg: Regularizer, excess: float) -> float:
    """Return E, a bound on ‖∇_θ R(ρ*, θ_h*)‖."""
    if isinstance(reg, (L2, SmoothL2)):
        return reg.lam
    if isinstance(reg, SquaredL2):
        return 2.0 * math.sqrt(reg.lam * excess)
    raise AssumptionError("lem5_local_pac", f"regularizer {reg!r}", "use SquaredL2, L2 or SmoothL2")


def reference_loss(models: Array, others: Sequence[UserDataset], loss: Loss, reg: Regularizer, nu: float) -> float:
    r"""Return Δ₀ of the module's docstring, with ρ₀ the mean of the honest models (0 unless the regularizer is ℓ2²).

    For least squares θ_n⁰ minimizes L_n(θ) + λ‖ρ₀ - θ‖²; for logistic regression θ_n⁰ = ρ₀ and inf L_n >= 0.
    """
    if not isinstance(reg, SquaredL2):
        return 0.0
    rho = models.mean(axis=0)
    total = reg.lam * float(np.sum((models - rho) ** 2))
    for n, user in enumerate(others):
        if not isinstance(user, UserDataset) or user.dim != rho.size:
            raise ShapeError(f"others[{n}]", f"a UserDataset of dimension {rho.size}", repr(user))
        labels = loss.encode(user.A, f"others[{n}].A")
        if isinstance(loss, LeastSquares):
            total += _least_squares_excess(user.Q, labels, rho, reg.lam, nu)
        else:
            total += local_loss(rho, user.Q, labels, loss, nu)
    return total


def _least_squares_excess(Q: Array, a: Array, rho: Array, lam: float, nu: float) -> float:
    r"""Return :math:`\min_\theta[\mathcal L(\theta) + \lambda\|\rho - \theta\|^2] - \min\mathcal L` or a little more.

    ν is √(2ν)I below Q, so that :math:`\mathcal L = \tfrac12\|Q\theta - a\|^2`.  With Q = USVᵀ and w = Qρ - a it is
    Σ λ(u_iᵀw)²/(s_i² + 2λ) over the s_i > 0.  Rounding hides which of the smallest are positive, and their u_i: all of
    them together count for at most half the square of what the other u_i leave of w.
    """
    d = rho.size
    Q = np.vstack([Q, math.sqrt(2.0 * nu) * np.eye(d)])
    w = Q @ rho - np.append(a, np.zeros(d))
    U, s, _ = np.linalg.svd(Q, full_matrices=False)
    is_known = s > 1e-6 * s[0]
    U, s = U[:, is_known], s[is_known]
    along = U.T @ w
    rest = w - U @ along
    unknown = 0.0 if s.size == d else 0.5 * float(rest @ rest)
    return (lam * float(np.sum((along / np.hypot(s, math.sqrt(2.0 * lam))) ** 2)) + unknown) * (1.0 + 1e-9)


def _require_logistic(loss: Loss) -> None:
    if not isinstance(loss, Logistic):
        raise AssumptionError("lem4_gradient_pac", f"loss {loss!r}", "use LeastSquares() or Logistic()")
