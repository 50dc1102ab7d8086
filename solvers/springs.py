r"""The regularizers of all users as springs between ρ and the local models, with ρ where they balance.

Each local model θ_n and each pinned model hangs on ρ by a spring.  With u = θ - ρ, s = √(ε² + ‖u‖²) and w = λ/s

.. math:: R = \lambda s, \qquad \nabla_\theta R = w\,u, \qquad \nabla^2_\theta R = w\,(I - u u^T/s^2):

ε = 1 is smooth-ℓ2, ε = 0 is ℓ2 away from its kink, and ε in between smooths the kink.  For ℓ2², w = 2λ and the Hessian
is w·I.  Where ρ is the best for the local models, their joint Hessian is W_n(V_n - r) with r what ρ does in answer:
Σ W_n(V_n - r) = 0 over all springs.

Where ρ is no variable, it has a *hub*: it is one of the models (plain ℓ2, users tied to ρ), or stays at a point.  With
ε = 0 the springs themselves can put ρ on a model, which then is its hub.

Source: section 2 (``def_regularization``), Lemma 13.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from theory.arrays import Array
from theory.regularizers import norms

Hub = int | Array | None
_MAX_ITERATIONS = 100
_LENGTHS = 0.5 ** np.arange(8)
_REACHES = 10.0  # how far a step may go, in distances from ρ to the farthest model
_DROWNED = 1e-13
_NO_LENGTH = 1e-150
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class SquaredSprings:
    """λ‖ρ - ·‖² to every model and to ``pins`` (M, P), with ρᵀ``slope``."""

    lam: float
    pins: Array
    slope: Array

    def settle(self, theta: Array, guess: Array | None) -> SquaredTension:
        """Put ρ at the mean of all models, less slope/(2λ(N + M))."""
        count = len(theta) + len(self.pins)
        rho = (theta.sum(axis=0) + self.pins.sum(axis=0) - self.slope / (2.0 * self.lam)) / count
        away = theta - rho
        value = self.lam * (np.sum(away**2) + np.sum((rho - self.pins) ** 2)) + self.slope @ rho
        weights = np.full(len(theta), 2.0 * self.lam)
        return SquaredTension(rho, float(value), 2.0 * self.lam * away, weights, 2.0 * self.lam * len(self.pins))


@dataclass(frozen=True, eq=False)
class SquaredTension:
    """Springs at given models.

    Attributes
    ----------
    rho : (P,) array
        Where the springs balance.
    value : float
        Their energy.
    forces : (B, P) array
        ∇_θR of each model.
    weights : (B,) array
        w of each model.
    fixed_weight : float
        The sum of w over the pinned models.
    hub : None, int or array
        As in :class:`BentSprings`, also where ρ was found on a model.
    """

    rho: Array
    value: float
    forces: Array
    weights: Array
    fixed_weight: float
    hub: Hub = None

    def times(self, V: Array) -> Array:
        """Return 2λ(V - ΣV/(N + M))."""
        w = self.weights[0]
        return np.asarray(w * (V - w / (len(V) * w + self.fixed_weight) * V.sum(axis=0)))


@dataclass(frozen=True, eq=False)
class BentSprings:
    """λ(√(ε² + ‖ρ - ·‖²) - ε) to every model and to ``pins`` (M, P), with ρᵀ``slope``.

    ``hub``: None where ρ is free, the number of the model that ρ is, or the point (P,) where ρ stays.
    """

    lam: float
    eps: float
    pins: Array
    slope: Array
    hub: Hub = None

    def settle(self, theta: Array, guess: Array | None) -> BentTension:
        """Put ρ where the springs balance: damped Newton steps, and Weiszfeld's where those do not help."""
        if isinstance(self.hub, int):
            return self._at(theta, theta[self.hub])
        if self.hub is not None:
            return self._at(theta, self.hub)
        anchors = np.concatenate([theta, self.pins])
        best = self._at(theta, anchors.mean(axis=0) if guess is None else guess)
        if guess is not None and not float(norms(best.imbalance)) <= 0.1 * self.lam * len(anchors):
            center = self._at(theta, anchors.mean(axis=0))
            best = center if center.value < best.value - _DROWNED * best.magnitude else best
        for iteration in range(_MAX_ITERATIONS):
            size = float(norms(best.imbalance))
            if best.total_weight == 0.0:  # ρ and all models are at one place, and ε = 0
                stuck = self._at_kink(theta, best)
                return best if stuck is None else stuck
            if not size > 4.0 * _EPS * best.scale:
                break
            following = self._damped(theta, best, size)
            if following is None and size <= 1e3 * _EPS * best.scale:
                break
            if (following is None or iteration % 8 == 7) and (stuck := self._at_kink(theta, best)) is not None:
                return stuck
            if following is None:
                following = self._at(theta, best.rho - best.imbalance / best.total_weight)
            best = following
        return best

    def _at_kink(self, theta: Array, best: BentTension) -> BentTension | None:
        """Return ρ on the model that is next to it, as a hub, if the other springs cannot draw it away (ε = 0)."""
        if self.eps > 0.0:
            return None
        anchors = np.concatenate([theta, self.pins])
        nearest = int(np.argmin(norms(anchors - best.rho)))
        here = (anchors == anchors[nearest]).all(axis=1)
        own = nearest < len(theta)
        if here[: len(theta)].sum() > own:
            return None
        if not float(norms(self._at(theta, anchors[nearest]).imbalance)) <= self.lam * here.sum():
            return None
        return replace(self, hub=nearest if own else anchors[nearest]).settle(theta, None)

    def _damped(self, theta: Array, best: BentTension, size: float) -> BentTension | None:
        """Return a Newton step whose length lowers the energy, or, where that drowns in rounding, the imbalance."""
        step = best.answer_of_rho(best.imbalance)
        promise = float(best.imbalance @ step)
        size_of_step = float(norms(step))
        # From far away, where all forces are nearly parallel, Newton's steps are too long by orders of magnitude.
        longest = 1.0 if not size_of_step > _REACHES * best.reach else _REACHES * best.reach / size_of_step
        for length in longest * _LENGTHS:
            # A smaller imbalance alone could be that of a point far away.
            following = self._at(theta, best.rho - length * step)
            change = following.value - best.value
            if abs(change) <= _DROWNED * best.magnitude:
                if float(norms(following.imbalance)) <= (1.0 - 0.5 * length) * size:
                    return following
            elif change <= -1e-4 * length * promise:
                return following
        return None

    def _at(self, theta: Array, rho: Array) -> BentTension:
        return BentTension(self, theta, rho)


class BentTension:
    """Springs at given models: attributes and ``times`` as in :class:`SquaredTension`."""

    def __init__(self, springs: BentSprings, theta: Array, rho: Array) -> None:
        lam, self.hub, self.rho = springs.lam, springs.hub, rho
        self.u, pinned = theta - rho, springs.pins - rho
        apart, pinned_apart = norms(self.u), norms(pinned)
        eps = springs.eps
        lengths, pinned_lengths = np.hypot(eps, apart), np.hypot(eps, pinned_apart)
        stored = lam * (_stretch(apart, lengths, eps) + _stretch(pinned_apart, pinned_lengths, eps))
        reported = float(springs.slope @ rho)
        self.value = stored + reported
        self.magnitude = stored + abs(reported)  # of what cancels in ``value``
        self.reach = float(max(lengths.max(initial=0.0), pinned_lengths.max(initial=0.0)))
        # A spring without length and with ε = 0 has no Hessian; where the model is ρ itself, it has no spring either.
        self.s, pinned_lengths = (np.where(x > _NO_LENGTH, x, np.inf) for x in (lengths, pinned_lengths))
        self.weights, pinned_weights = lam / self.s, lam / pinned_lengths
        self.fixed_weight = float(pinned_weights.sum())
        self.total_weight = float(self.weights.sum()) + self.fixed_weight
        self.forces = self.weights[:, None] * self.u
        self.imbalance = springs.slope - self.forces.sum(axis=0) - pinned_weights @ pinned
        #: Of what cancels in ``imbalance``: forces, and what one rounding of ρ does to them.
        self.scale = lam * (len(self.s) + len(pinned)) + float(norms(springs.slope) + self.total_weight * norms(rho))
        if isinstance(self.hub, int):
            self.forces[self.hub] += self.imbalance
        self._pinned = pinned, pinned_weights, pinned_lengths
        self._factor: tuple[Array, Array, Array] | None = None

    def times(self, V: Array) -> Array:
        """Return the product of the Hessian with V (B, P)."""
        if isinstance(self.hub, int):
            answer = V[self.hub]
        elif self.hub is not None:
            answer = np.zeros(V.shape[1])
        else:
            answer = self.answer_of_rho(self._bent(V).sum(axis=0))
        out = self._bent(V - answer)
        if isinstance(self.hub, int):
            pinned, weights, lengths = self._pinned
            along = (weights * (pinned @ answer) / lengths**2) @ pinned
            out[self.hub] += self.fixed_weight * answer - along - out.sum(axis=0)
        return out

    def _bent(self, V: Array) -> Array:
        along = np.einsum("np,np->n", self.u, V) / self.s**2
        return self.weights[:, None] * (V - along[:, None] * self.u)

    def answer_of_rho(self, force: Array) -> Array:
        r"""Return H⁻¹ ``force`` with H = Σ W over all springs, w̄I - YYᵀ: by the small matrix of w̄I - YᵀY."""
        if self.total_weight == 0.0:
            return np.zeros_like(force)
        if self._factor is None:
            u, w, s = map(np.concatenate, zip((self.u, self.weights, self.s), self._pinned, strict=True))
            Y = (np.sqrt(w) / s)[:, None] * u
            gram = Y @ Y.T if len(Y) < Y.shape[1] else Y.T @ Y
            values, vectors = scipy.linalg.eigh(gram)
            stiffness = self.total_weight - values
            # Models on a line with ε = 0: along it nothing resists, and ρ stays.
            resists = stiffness > 1e-12 * self.total_weight
            self._factor = Y, vectors, np.where(resists, 1.0 / np.where(resists, stiffness, 1.0), 0.0)
        Y, vectors, flexibility = self._factor
        if len(Y) >= Y.shape[1]:
            return np.asarray(vectors @ (flexibility * (vectors.T @ force)))
        # (w̄I - YYᵀ)⁻¹ b = (b + Y (w̄I - YᵀY)⁻¹ Yᵀb)/w̄, with the rows of this Y for columns.
        inner = vectors @ (flexibility * (vectors.T @ (Y @ force)))
        return np.asarray((force + Y.T @ inner) / self.total_weight)


def _stretch(apart: Array, lengths: Array, eps: float) -> float:
    """Σ √(ε² + ‖u‖²) - ε, without cancellation: the constant λε of every spring would drown the loss of the data."""
    longest = lengths + eps
    return float(np.sum(apart * np.divide(apart, longest, out=np.zeros_like(apart), where=longest > 0)))


Springs = SquaredSprings | BentSprings
Tension = SquaredTension | BentTension
