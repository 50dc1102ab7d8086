r"""The regularizers :math:`\mathcal R(\rho, \theta)` that tie a local model to the global one.

================  ==========================================  ====================================
class             :math:`\mathcal R(\rho,\theta)`              GRAD(ρ)
================  ==========================================  ====================================
:class:`SquaredL2`  :math:`\lambda\|\rho-\theta\|_2^2`         :math:`\mathbb R^P`
:class:`L2`         :math:`\lambda\|\rho-\theta\|_2`           the ball :math:`\mathcal B(0,\lambda)`
:class:`SmoothL2`   :math:`\lambda\sqrt{1+\|\rho-\theta\|_2^2}`  the ball :math:`\mathcal B(0,\lambda)`
================  ==========================================  ====================================

All three depend on :math:`z = \rho - \theta` only, so :math:`\nabla_\theta\mathcal R = -\nabla_\rho\mathcal R` and
GRAD(ρ), the closure of all gradients :math:`\nabla_\rho\mathcal R(\rho, \theta)`, does not depend on ρ.  A set is
given by the projection onto it.  Every method takes arrays whose last axis is the parameter axis and broadcasts
over the others.

A regularizer of your own needs ``name``, ``value``, ``gradient`` and ``project`` (see :class:`Regularizer`).
Source: section 2 and section 2.2 of the paper (``grad_set``), Proposition 4 and Lemma 3 for the preimage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from theory.arrays import Array, as_positive
from theory.errors import AssumptionError

_LAMBDA = "def_regularization"
_TINY = np.finfo(np.float64).tiny


@runtime_checkable
class Regularizer(Protocol):
    """What :class:`theory.Problem` asks of a regularizer; it must be convex in (ρ, θ)."""

    @property
    def name(self) -> str:
        """A short name."""
        ...

    def value(self, rho: Array, theta: Array) -> Array:
        """R(ρ, θ), over the last axis."""
        ...

    def gradient(self, rho: Array, theta: Array) -> Array:
        """∇_ρ R(ρ, θ); at a kink, one element of the subdifferential. ∇_θ R is its negative."""
        ...

    def project(self, g: Array) -> Array:
        """The point of GRAD(ρ) that is closest to ``g``."""
        ...


def norms(z: Array) -> Array:
    """Return ‖z‖₂ over the last axis, for any finite ``z`` whose norm is finite: no square over- or underflows."""
    z = np.asarray(z, dtype=np.float64)
    # At least the least normal number: what is smaller is divided by it exactly, and so is 0.
    scale = np.max(np.abs(z), axis=-1, keepdims=True, initial=_TINY)
    return np.squeeze(scale * np.sqrt(np.sum((z / scale) ** 2, axis=-1, keepdims=True)), axis=-1)


def project_ball(g: Array, radius: float) -> Array:
    """Return the point of the ball B(0, radius) that is closest to ``g``: g·min(1, radius/‖g‖), for a radius > 0.

    Examples
    --------
    >>> project_ball(np.array([3.0, 4.0]), 1.0)
    array([0.6, 0.8])
    """
    length = norms(g)[..., None]
    return np.where(length > radius, radius * (g / np.maximum(length, radius)), g)


@dataclass(frozen=True)
class SquaredL2:
    r"""ℓ2²: :math:`\lambda\|\rho-\theta\|_2^2`, gradient :math:`2\lambda(\rho-\theta)`.

    Parameters
    ----------
    lam : float, > 0

    Examples
    --------
    >>> SquaredL2(0.5).gradient(np.array([3.0]), np.array([1.0]))
    array([2.])
    """

    lam: float

    name = "squared_l2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", as_positive(self.lam, "lam", _LAMBDA))

    def value(self, rho: Array, theta: Array) -> Array:
        """Return λ‖ρ - θ‖²."""
        return self.lam * np.sum((rho - theta) ** 2, axis=-1)

    def gradient(self, rho: Array, theta: Array) -> Array:
        """Return 2λ(ρ - θ)."""
        return 2.0 * self.lam * (rho - theta)

    def project(self, g: Array) -> Array:
        """Return ``g``: every vector is a plausible gradient."""
        return np.array(g, dtype=np.float64)

    def preimage(self, rho: Array, g: Array) -> Array:
        """Return the θ with ∇_ρ R(ρ, θ) = g: ρ - g/(2λ) (Proposition 4)."""
        return rho - np.asarray(g) / (2.0 * self.lam)


@dataclass(frozen=True)
class L2:
    r"""ℓ2: :math:`\lambda\|\rho-\theta\|_2`; at the kink θ = ρ its subdifferential is the ball of radius λ.

    Parameters
    ----------
    lam : float, > 0

    Examples
    --------
    >>> L2(2.0).gradient(np.array([0.0, 3.0]), np.zeros(2))
    array([0., 2.])
    """

    lam: float

    name = "l2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", as_positive(self.lam, "lam", _LAMBDA))

    def value(self, rho: Array, theta: Array) -> Array:
        """Return λ‖ρ - θ‖."""
        return self.lam * norms(rho - theta)

    def gradient(self, rho: Array, theta: Array) -> Array:
        """Return λ(ρ - θ)/‖ρ - θ‖, and 0 (one element of the subdifferential) where θ = ρ."""
        z = np.asarray(rho - theta, dtype=np.float64)
        length = norms(z)[..., None]
        return self.lam * (z / np.where(length > 0, length, 1.0))

    def project(self, g: Array) -> Array:
        """Return the closest point of the ball B(0, λ)."""
        return project_ball(g, self.lam)

    def preimage(self, rho: Array, g: Array) -> Array:
        """Return a θ with g ∈ ∂_ρ R(ρ, θ), for ‖g‖ <= λ: θ = ρ does for every such g (Lemma 3)."""
        _refuse_outside_ball(g, self.lam, closed=True)
        return np.array(np.broadcast_to(rho, np.broadcast_shapes(np.shape(rho), np.shape(g))), dtype=np.float64)


@dataclass(frozen=True)
class SmoothL2:
    r"""smooth-ℓ2: :math:`\lambda\sqrt{1+\|\rho-\theta\|_2^2}`, gradient :math:`\lambda z/\sqrt{1+\|z\|^2}`.

    Parameters
    ----------
    lam : float, > 0

    Examples
    --------
    >>> SmoothL2(1.0).value(np.zeros(1), np.zeros(1))
    np.float64(1.0)
    """

    lam: float

    name = "smooth_l2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", as_positive(self.lam, "lam", _LAMBDA))

    def value(self, rho: Array, theta: Array) -> Array:
        """Return λ√(1 + ‖ρ - θ‖²)."""
        return self.lam * np.hypot(1.0, norms(rho - theta))

    def gradient(self, rho: Array, theta: Array) -> Array:
        """Return λ(ρ - θ)/√(1 + ‖ρ - θ‖²)."""
        z = np.asarray(rho - theta, dtype=np.float64)
        return self.lam * (z / np.hypot(1.0, norms(z))[..., None])

    def project(self, g: Array) -> Array:
        """Return the closest point of the ball B(0, λ)."""
        return project_ball(g, self.lam)

    def preimage(self, rho: Array, g: Array) -> Array:
        """Return the θ with ∇_ρ R(ρ, θ) = g, for ‖g‖ < λ: ρ - g/√(λ² - ‖g‖²) (Lemma 3)."""
        _refuse_outside_ball(g, self.lam, closed=False)
        length = norms(g)[..., None]
        # √(λ - ‖g‖)·√(λ + ‖g‖) keeps the digits that √(λ² - ‖g‖²) loses near the boundary, and squares nothing.
        return rho - np.asarray(g) / (np.sqrt(self.lam - length) * np.sqrt(self.lam + length))


def _refuse_outside_ball(g: Array, lam: float, *, closed: bool) -> None:
    length = norms(g)
    # A projection lies on the sphere up to the rounding of ‖g‖, which is within (P/2 + 3) units in the last place.
    rounding = (0.5 * np.shape(g)[-1] + 3.0) * np.finfo(np.float64).eps
    if not np.all(length <= lam * (1.0 + rounding) if closed else length < lam):
        raise AssumptionError(
            "lem3_gradient_to_model",
            f"‖g‖ = {np.max(length)} with λ = {lam}",
            "project g onto GRAD(ρ) first" if closed else "the preimage exists only for ‖g‖ < λ",
        )
