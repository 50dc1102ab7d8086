r"""Federated gradient descent as a pure transition, and what is known of it before it runs (section 2.2, Appendix H).

In round t every user n updates its local model, either to the minimum

.. math:: \theta_n^t = \arg\min_\theta \mathcal L_n(\theta) + \mathcal R(\rho^t, \theta)

or by one gradient step from :math:`\theta_n^{t-1}`, and reports
:math:`g_n^t = \nabla_\rho\mathcal R(\rho^t, \theta_n^t)`.  The server ignores reports outside GRAD(ρ) and steps against
the **sum** of the others,

.. math:: \rho^{t+1} = \rho^t - \eta_t \sum_n g_n^t.

With fully optimized local models the honest reports sum to F(ρ) = ∇e(ρ), where
e(ρ) = Σ_{n≠s} min_θ [L_n(θ) + R(ρ, θ)].  All that is known of a run beforehand follows from two numbers:

* L, a Lipschitz constant of F (:func:`smoothness`): steps below 1/(2L) let the counter-gradient attack converge;
* μ, a modulus of strong convexity of e (:func:`strong_convexity`): it bounds what a model attack can shift.

**Both come from infimal convolutions.**  φ_n = min_θ L_n(θ) + r(ρ - θ) has the conjugate L_n* + r*.  If L_n is
L_n-smooth and r is L_R-smooth, their conjugates are 1/L_n- and 1/L_R-strongly convex, so φ_n* is
(1/L_n + 1/L_R)-strongly convex, and φ_n is (1/L_n + 1/L_R)⁻¹-smooth.  With the words exchanged, φ_n is
(1/μ_n + 1/μ_R)⁻¹-strongly convex.  Sums add up.  (C3 and C8 of the companion statements.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from theory.arrays import Array, as_index, as_nonnegative, as_positive
from theory.errors import AssumptionError
from theory.losses import LeastSquares, Logistic, Multinomial, local_gradient
from theory.problem import Problem
from theory.regularizers import Regularizer, SmoothL2, SquaredL2, norms

# --------------------------------------------------------------------------------------------------------------
# One round
# --------------------------------------------------------------------------------------------------------------


@runtime_checkable
class ServerRule(Protocol):
    """How the server moves ρ; ``step`` is pure: what it remembers is in ``state``."""

    @property
    def name(self) -> str:
        """A short name."""
        ...

    def start(self, dim: int) -> Any:
        """Return the state before the first round."""
        ...

    def step(self, state: Any, rho: Array, total: Array, eta: float) -> tuple[Array, Any]:
        """Return ρ^{t+1} and the next state, from the sum of the reports."""
        ...


@dataclass(frozen=True)
class GradientStep:
    """The paper's server: ρ^{t+1} = ρ^t - η_t Σ_n g_n^t.

    Examples
    --------
    >>> GradientStep().step(None, np.array([1.0]), np.array([2.0]), 0.25)[0]
    array([0.5])
    """

    name = "gradient_step"

    def start(self, dim: int) -> None:
        """Nothing is remembered."""

    def step(self, state: None, rho: Array, total: Array, eta: float) -> tuple[Array, None]:
        """Return ρ - η·total."""
        return rho - eta * total, None


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015), as in the paper's experiments; no statement of the paper covers it.

    Examples
    --------
    >>> rule = Adam()
    >>> rule.step(rule.start(1), np.array([1.0]), np.array([2.0]), 0.25)[0].round(6)
    array([0.75])
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    name = "adam"

    def start(self, dim: int) -> tuple[int, Array, Array]:
        """Return (0, 0, 0): rounds, first and second moments."""
        return 0, np.zeros(dim), np.zeros(dim)

    def step(
        self, state: tuple[int, Array, Array], rho: Array, total: Array, eta: float
    ) -> tuple[Array, tuple[int, Array, Array]]:
        """Return Adam's next ρ and moments."""
        t, first, second = state[0] + 1, *state[1:]
        first = self.beta1 * first + (1.0 - self.beta1) * total
        second = self.beta2 * second + (1.0 - self.beta2) * total**2
        corrected = np.sqrt(second / (1.0 - self.beta2**t)) + self.epsilon
        return rho - eta * (first / (1.0 - self.beta1**t)) / corrected, (t, first, second)


def local_step(problem: Problem, rho: Array, thetas: Array, eta: float) -> Array:
    r"""One gradient step of every local model on :math:`\mathcal L_n(\theta) + \mathcal R(\rho, \theta)`, shape (N, P).

    Pinned models stay.  At the kink θ_n = ρ of plain ℓ2 the element 0 of the subdifferential of R is taken.

    Examples
    --------
    >>> from theory import LeastSquares, UserDataset
    >>> problem = Problem([UserDataset([[1.0]], [3.0])], LeastSquares(), SquaredL2(0.5))
    >>> local_step(problem, np.zeros(1), np.ones((1, 1)), 0.5)
    array([[1.5]])
    """
    moved = np.array(thetas)
    pulls = problem.reg.gradient(rho, thetas)
    for n in np.flatnonzero(problem.free).tolist():
        slope = local_gradient(thetas[n], *problem.stack.user(n), problem.loss, problem.nu) - pulls[n]
        moved[n] = thetas[n] - eta * slope
    return moved


def is_plausible(g: Array, reg: Regularizer) -> bool:
    """Whether ``g`` lies in GRAD(ρ), up to the rounding of a projection onto it.

    Examples
    --------
    >>> is_plausible(np.array([3.0, 4.0]), SmoothL2(5.0)), is_plausible(np.array([3.0, 4.1]), SmoothL2(5.0))
    (True, False)
    """
    # A projection g·λ/‖g‖ has the norm λ within (P/2 + 3) units in the last place.
    rounding = (0.5 * np.size(g) + 3.0) * np.finfo(np.float64).eps
    return bool(norms(g - reg.project(g)) <= rounding * norms(g))


# --------------------------------------------------------------------------------------------------------------
# Smoothness and strong convexity
# --------------------------------------------------------------------------------------------------------------

# sup of the largest eigenvalue of d2phi over all margins.
_CURVATURES: dict[type, float] = {LeastSquares: 1.0, Logistic: 0.25, Multinomial: 0.5}


def regularizer_smoothness(reg: Regularizer) -> float:
    """Return L_R, the Lipschitz constant of ∇R in ρ - θ: 2λ (ℓ2²), λ (smooth-ℓ2), ∞ (ℓ2, or a regularizer of your own).

    Examples
    --------
    >>> regularizer_smoothness(SquaredL2(3.0)), regularizer_smoothness(SmoothL2(3.0))
    (6.0, 3.0)
    """
    if type(reg) is SquaredL2:
        return 2.0 * reg.lam
    return reg.lam if type(reg) is SmoothL2 else math.inf


def local_smoothness(problem: Problem) -> Array:
    """Return 2ν + sup φ''·‖Q_n‖² for each user, shape (N,): a Lipschitz constant of ∇L_n; ∞ for a loss of your own.

    For K classes sup φ'' = 1/2: diag(p) - ppᵀ has row sums 2p_k(1 - p_k) ≤ 1/2 in absolute value.
    """
    curvature = _CURVATURES.get(type(problem.loss), math.inf)
    squares = np.array([_largest_eigenvalue(problem.stack.user(n)[0]) for n in range(problem.n_users)])
    return 2.0 * problem.nu + np.where(squares > 0, curvature, 0.0) * np.where(squares > 0, squares, 1.0)


def local_convexity(problem: Problem) -> Array:
    """Return μ_n, a modulus of strong convexity of L_n, shape (N,): 2ν, plus λ_min(Q_nᵀQ_n) for least squares."""
    moduli = np.full(problem.n_users, 2.0 * problem.nu)
    if type(problem.loss) is LeastSquares:
        for n in range(problem.n_users):
            Q = problem.stack.user(n)[0]
            if Q.shape[0] >= Q.shape[1]:
                moduli[n] += float(np.linalg.svd(Q, compute_uv=False)[-1]) ** 2
    return moduli


def _largest_eigenvalue(Q: Array) -> float:
    return float(np.linalg.norm(Q, 2)) ** 2 if Q.size else 0.0


def smoothness(problem: Problem, s: int) -> float:
    r"""Return :math:`L = \sum_{n\ne s} (1/L_n + 1/L_R)^{-1}`, a Lipschitz constant of F.

    A pinned user counts L_R.  For ℓ2² and smooth-ℓ2 it is at most (N - 1) L_R whatever the data; for plain ℓ2 it is
    Σ L_n, as long as the local models are fully optimized and nobody is pinned.

    Source: C3 (``smoothness_of_honest_sum``); the proof is in the docstring of this module.

    Examples
    --------
    >>> from theory import LeastSquares, UserDataset
    >>> problem = Problem([UserDataset([[1.0]], [3.0]), UserDataset.empty(1)], LeastSquares(), SquaredL2(0.5))
    >>> smoothness(problem, 1)
    0.5
    """
    return honest_smoothness(problem.without(as_index(s, "s", problem.n_users)))


def honest_smoothness(others: Problem) -> float:
    """Return the constant of :func:`smoothness` for the sum over all users of ``others``."""
    constants = np.where(others.free, local_smoothness(others), math.inf)
    return float(np.sum(_parallel(constants, regularizer_smoothness(others.reg))))


def strong_convexity(problem: Problem, s: int) -> float:
    r"""Return :math:`\mu = \sum_{n\ne s} (1/\mu_n + 1/(2\lambda))^{-1}`, a modulus of strong convexity of e, for ℓ2².

    Under ℓ2 and smooth-ℓ2 e grows linearly, and no modulus holds everywhere: 0.

    Examples
    --------
    >>> from theory import LeastSquares, UserDataset
    >>> problem = Problem([UserDataset([[1.0]], [3.0]), UserDataset.empty(1)], LeastSquares(), SquaredL2(0.5))
    >>> strong_convexity(problem, 1)
    0.5
    """
    s = as_index(s, "s", problem.n_users)
    if type(problem.reg) is not SquaredL2:
        return 0.0
    moduli = np.where(problem.free, local_convexity(problem), math.inf)
    return float(np.sum(np.delete(_parallel(moduli, 2.0 * problem.reg.lam), s)))


def _parallel(a: Array, b: float) -> Array:
    """Return (1/a + 1/b)⁻¹; 0 where a is 0, the other where one is infinite."""
    with np.errstate(divide="ignore"):
        return 1.0 / (1.0 / a + 1.0 / b)


def model_attack_contraction(problem: Problem, s: int) -> float:
    r"""Return the explicit constant of Lemma 2 for ℓ2²: by how much less ρ* moves than user s's model.

    .. math:: \|\rho^*(\mathcal D) - \rho^*(\theta_s^♠)\| \le c\,\|\theta_s^*(\mathcal D) - \theta_s^♠\|

    c = 2λ/(2λ + μ) with μ of :func:`strong_convexity`; c < 1 as soon as ν > 0 and somebody else takes part.

    Proof.  By Lemma 1, ρ*(D) = ρ*(θ_s*(D)).  And ρ*(θ) = argmin e(ρ) + λ‖ρ - θ‖², so F(ρ*(θ)) = 2λ(θ - ρ*(θ)).
    Subtract two such equations and multiply with δ = ρ*(θ) - ρ*(θ'): μ‖δ‖² ≤ <F - F', δ> = 2λ<θ - θ', δ> - 2λ‖δ‖².

    Raises
    ------
    AssumptionError
        For another regularizer.

    Source: C8 (``c8_without_compactness``).
    """
    if type(problem.reg) is not SquaredL2:
        raise AssumptionError("c8_without_compactness", f"regularizer {problem.reg.name}", "the constant is for ℓ2²")
    return 2.0 * problem.reg.lam / (2.0 * problem.reg.lam + strong_convexity(problem, s))


# --------------------------------------------------------------------------------------------------------------
# Steps and rates
# --------------------------------------------------------------------------------------------------------------


def admissible_step(L: float) -> float:
    """Return 1/(2L): the counter-gradient attack converges for every constant step below it.

    ∞ if F is constant (L = 0), and 0 if no L is known (L = ∞).

    Source: C1, C2 (``cga_converges``, ``cga_step_is_sharp``).

    Examples
    --------
    >>> admissible_step(2.0)
    0.25
    """
    if L == math.inf:
        return 0.0
    L = as_nonnegative(L, "L", "cga_step_is_sharp")
    return 0.5 / L if L > 0 else math.inf


def counter_gradient_rate(q: float) -> float:
    r"""Return :math:`(q + \sqrt{q^2+4q})/2`, the factor a round by which CGA against ℓ2² converges at worst, q = ηL.

    Proof.  CGA against ℓ2² gives ρ^{t+1} = θ† - η(F_t - F_{t-1}) (eq. 174).  With u_t = ‖ρ^{t+1} - ρ^t‖ therefore
    u_{t+1} ≤ q(u_t + u_{t-1}), so u_t ≤ C r^t for the positive root r of x² = qx + q, and ‖ρ^{t+1} - θ†‖ ≤ q u_{t-1}.
    It is attained: where F is linear with eigenvalue L, x² + qx - q = 0 has the root -r.  r < 1 exactly for q < 1/2.

    Source: C2 (``cga_step_is_sharp``), Theorem 4.

    Examples
    --------
    >>> counter_gradient_rate(0.5)
    1.0
    """
    q = as_nonnegative(q, "q", "cga_step_is_sharp")
    return 0.5 * (q + math.sqrt(q * q + 4.0 * q))


def counter_gradient_local_rate(q: float, a: float) -> float:
    r"""Return :math:`(q + \sqrt{q^2+4(q+a)})/2`, the same for the variant on local models; a = L/(2λ(N-1)), q = ηL.

    Proof.  The variant gives ρ^{t+1} = θ† + F_{t-1}/(2λ(N-1)) - η(F_t - F_{t-1}), so that
    u_{t+1} ≤ q u_t + (q + a) u_{t-1}.  The positive root of x² = qx + q + a is below 1 exactly for 2q + a < 1,
    and is attained with the other sign where F is linear with eigenvalue L.

    Source: C5 (``cga_local_models``), section 5.4.

    Examples
    --------
    >>> counter_gradient_local_rate(0.25, 0.5)
    1.0
    """
    q, a = as_nonnegative(q, "q", "cga_local_models"), as_nonnegative(a, "a", "cga_local_models")
    return 0.5 * (q + math.sqrt(q * q + 4.0 * (q + a)))


def gradient_descent_rate(eta: float, mu: float, L: float) -> float:
    """Return max(|1 - ημ|, |1 - ηL|): the factor a round under a constant report; below 1 for 0 < η < 2/L if μ > 0.

    As 0 <= μ <= L, it is max(1 - ημ, ηL - 1).

    Source: C4 (``c4_convergence_exactly_when``).

    Examples
    --------
    >>> gradient_descent_rate(0.5, 1.0, 2.0)
    0.5
    """
    eta = as_positive(eta, "eta", "c4_convergence_exactly_when")
    return max(1.0 - eta * mu, eta * L - 1.0)
