r"""Which models attackers can force, and how far (Lemma 3, C9).

Let H = N - 1 users be honest and f attackers report together, with F = ∇e the honest sum.  ρ is stationary exactly if
the attackers' reports sum to -F(ρ), and a sum of f plausible gradients is any vector of

* ℝ^P for ℓ2²;
* the ball B(0, fλ) for ℓ2: each reports -F(ρ)/f, through a model tied to ρ;
* its interior for smooth-ℓ2 by models, the closed ball by gradients.

Hence the models that can be forced are {ρ : ‖F(ρ)‖ <= fλ} for ℓ2, its part with < for smooth-ℓ2, everything for ℓ2².
Every honest user pulls with less than λ (smooth-ℓ2) or at most λ (ℓ2), so f >= H forces everything: half of all users.

For f < H the set is bounded, with an explicit radius (:func:`displacement_bound`).
"""

from __future__ import annotations

import math

import numpy as np

from theory.arrays import Array, as_count, frozen
from theory.errors import AssumptionError
from theory.regularizers import L2, Regularizer, SmoothL2, SquaredL2, norms

__all__ = [
    "OutOfReachError",
    "attack_force",
    "displacement_bound",
    "distance_behind",
    "distance_to_reach",
    "is_reachable",
]


class OutOfReachError(AssumptionError):
    """The target cannot be forced.

    Attributes
    ----------
    margin : float
        fλ - ‖F(target)‖, which is < 0 (or 0, for smooth-ℓ2).
    nearest : (P,) array
        A model that can be forced (for smooth-ℓ2: a limit of such), as close to the target as was found: the nearest
        one if P = 1; in more dimensions, where the set need not be convex, a local optimum.
    distance_at_least : float
        No model within this distance of the target can be forced (:func:`distance_to_reach`, :func:`distance_behind`).
    """

    def __init__(
        self, statement: str, value: str, mend: str, margin: float, nearest: Array, distance_at_least: float = 0.0
    ) -> None:
        super().__init__(statement, value, mend)
        self.args = (statement, value, mend, margin, nearest, distance_at_least)
        self.margin = margin
        self.nearest = frozen(np.array(nearest, dtype=np.float64))
        self.distance_at_least = distance_at_least


def attack_force(reg: Regularizer, n_attackers: int = 1) -> float:
    """Return fλ, the largest norm of the sum of f plausible gradients; ∞ for ℓ2².

    Raises
    ------
    AssumptionError
        For a regularizer of your own, whose gradient set is known by its projection only.

    Examples
    --------
    >>> attack_force(L2(0.5), 3), attack_force(SquaredL2(0.5))
    (1.5, inf)
    """
    f = as_count(n_attackers, "n_attackers", 1)
    if isinstance(reg, SquaredL2):
        return math.inf
    if isinstance(reg, (L2, SmoothL2)):
        return f * reg.lam
    raise AssumptionError("reach", f"regularizer {reg.name!r}", "its gradient set is not known; use a built-in one")


def is_reachable(gradient_norm: float, reg: Regularizer, n_attackers: int = 1) -> bool:
    """Whether models can force a ρ with ‖F(ρ)‖ = ``gradient_norm``.

    Examples
    --------
    >>> [is_reachable(1.0, reg) for reg in (L2(1.0), SmoothL2(1.0), SquaredL2(1.0))]
    [True, False, True]
    """
    force = attack_force(reg, n_attackers)
    return gradient_norm < force if isinstance(reg, SmoothL2) else gradient_norm <= force


def distance_to_reach(gradient_norm: float, force: float, L: float) -> float:
    r"""Return (‖F(θ†)‖ - fλ)/L, a lower bound on the distance of θ† to every model that can be forced.

    If ‖F(ρ)‖ <= fλ then ‖F(θ†)‖ - fλ <= ‖F(θ†) - F(ρ)‖ <= L‖θ† - ρ‖, with L of :func:`theory.smoothness`.  It is
    attained where all honest losses have the same curvature everywhere.

    Examples
    --------
    >>> distance_to_reach(3.0, 1.0, 4.0), distance_to_reach(0.5, 1.0, 4.0), distance_to_reach(3.0, 1.0, math.inf)
    (0.5, 0.0, 0.0)
    """
    return max(gradient_norm - force, 0.0) / L if L > 0 else 0.0


def distance_behind(F: Array, offset: Array, force: float) -> float:
    r"""Return a lower bound on the distance of θ† = y + ``offset`` to every model that can be forced, from F = F(y).

    If ‖F(ρ)‖ <= fλ then <F(y), ρ - y> <= <F(ρ), ρ - y> <= fλ‖ρ - y‖, as F is monotone.  So no such ρ lies in the cone
    with apex y, axis F(y) and half-angle β = arccos(fλ/‖F(y)‖); θ†, at the angle α from the axis, lies
    ‖offset‖ sin(β - α) within it.

    Examples
    --------
    >>> round(distance_behind(np.array([2.0, 0.0]), np.array([10.0, 0.0]), 1.0), 9)      # β = 60°
    8.660254038
    >>> distance_behind(np.array([2.0, 0.0]), np.array([0.0, 10.0]), 1.0)
    0.0
    """
    size = float(norms(F))
    if not size > force:
        return 0.0
    axis, cosine = F / size, force / size
    along = float(axis @ offset)
    across = float(norms(offset - along * axis))
    # ‖offset‖ sin(β - α), with sin β = √(1 - cos²β).
    return max(along * math.sqrt((1.0 - cosine) * (1.0 + cosine)) - across * cosine, 0.0)


def displacement_bound(lam: float, n_attackers: int, excess: float, moduli: Array, distances: Array) -> float:
    r"""Return an upper bound on ‖ρ - ρ⁰‖ for every ρ with ‖F(ρ)‖ <= fλ, f < H (ℓ2 and smooth-ℓ2).

    .. math:: \frac{e(\rho^0) - \sum_n \mathcal L_n(\theta_n^0)
              + \sum_n\bigl(\frac{\lambda^2}{2\mu_n} + \lambda\|\theta_n^0 - \rho^0\|\bigr)}{(H - f)\lambda}

    with θ_n⁰ the minimum of L_n and μ_n its modulus.  Proof.  For every θ, R(ρ, θ) >= λ‖ρ - θ‖ >= λ‖ρ - ρ⁰‖ -
    λ‖θ - θ_n⁰‖ - λ‖θ_n⁰ - ρ⁰‖ and L_n(θ) >= L_n(θ_n⁰) + μ_n‖θ - θ_n⁰‖²/2, so with D = ‖ρ - ρ⁰‖
    e(ρ) >= HλD + Σ L_n(θ_n⁰) - Σ(λ²/(2μ_n) + λ‖θ_n⁰ - ρ⁰‖).  By convexity e(ρ) - e(ρ⁰) <= <F(ρ), ρ - ρ⁰> <= fλD.

    Parameters
    ----------
    lam : float
    n_attackers : int
        f.
    excess : float
        e(ρ⁰) - Σ L_n(θ_n⁰).
    moduli, distances : (H,) arrays
        μ_n, and ‖θ_n⁰ - ρ⁰‖.

    Examples
    --------
    >>> displacement_bound(1.0, 1, 0.0, np.array([1.0, 1.0]), np.zeros(2))
    1.0
    """
    H = len(moduli)
    if n_attackers >= H or not np.all(moduli > 0):
        return math.inf
    return float((excess + np.sum(lam**2 / (2.0 * moduli) + lam * distances)) / ((H - n_attackers) * lam))
