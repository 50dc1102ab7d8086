"""What a solver returns: :class:`Solution`, its :class:`Status`, and the :class:`Certificate` of a point."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from theory import CertificateError, Problem
from theory.arrays import Array


class Status(enum.Enum):
    """How a minimization ended; ``.value`` is a sentence."""

    OPTIMAL = "the minimum was found"
    SET = "the minimizers form a set, of which one element is returned"
    NO_MINIMUM = "the loss has no minimum; it does not increase along the direction returned"
    STALLED = "the required accuracy was not reached"

    @property
    def is_minimum(self) -> bool:
        """Whether the point returned is a global minimum."""
        return self in (Status.OPTIMAL, Status.SET)


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction of recession (δρ, δθ): along it the loss never increases, and it has no minimum."""

    rho: Array
    thetas: Array


@dataclass(frozen=True, eq=False)
class MinimizerSet:
    """The set that ρ* ranges over when it is not a point.

    ``kind`` is ``"segment"`` (between the two rows of ``points``; one element is its midpoint), ``"ray"`` (from
    ``points[0]`` along ``basis[0]``, under a reported gradient as strong as all regularizers), or ``"affine"``
    (``points[0]`` plus the span of the rows of ``basis``, along which all models move together).
    """

    kind: str
    points: Array
    basis: Array


@dataclass(frozen=True)
class Certificate:
    """Bounds on the error of a point, computed from the data alone.

    Attributes
    ----------
    distance_bound : float
        ‖(ρ, θ) - (ρ*, θ*)‖₂ is at most this, for the closest minimizer; ``inf`` where nothing is known.
    theta_distance_bound : float
        ‖θ - θ*‖₂ is at most this (it can be finite where ρ* is not pinned down).
    gap_bound : float
        Loss minus minimum is at most this.
    residual : float
        An upper bound on the norm of the gradient, or on the distance of 0 to the subdifferential.
    modulus : float
        The modulus of strong convexity that was used (on a ball around the point where it is local).
    kind : str
        Which argument gave the distance bound.
    rigorous : bool
        Whether every operation was done in ball arithmetic.
    """

    distance_bound: float
    theta_distance_bound: float
    gap_bound: float
    residual: float
    modulus: float
    kind: str
    rigorous: bool

    def require(self, *, distance: float = math.inf, gap: float = math.inf) -> Certificate:
        """Return this certificate if its bounds are at most ``distance`` and ``gap``.

        Raises
        ------
        CertificateError
            If a bound is larger than demanded, or NaN.

        Examples
        --------
        >>> Certificate(1e-9, 1e-9, 1e-18, 1e-9, 1.0, "quadratic", False).require(distance=1e-8).kind
        'quadratic'
        """
        if not (self.distance_bound <= distance and self.gap_bound <= gap):
            raise CertificateError(
                f"demanded distance <= {distance:g} and gap <= {gap:g}, but the data support only "
                f"distance <= {self.distance_bound:g} and gap <= {self.gap_bound:g} ({self.kind})"
            )
        return self


@dataclass(frozen=True, eq=False)
class Solution:
    """The point (ρ*, θ*) that :func:`solvers.minimize` returns.

    Attributes
    ----------
    rho : (P,) array
    thetas : (N, P) array
    status : Status
    certificate : Certificate
        Computed from the data on first access, by code that shares nothing with the solver.
    stats : mapping
        ``method``, ``iterations``, ``relative_residual``, and what else the method reports.
    direction : Direction or None
        Where there is no minimum, the direction of recession.
    minimizers : MinimizerSet or None
        Where ρ* is a set, that set.
    """

    problem: Problem = field(repr=False)
    rho: Array
    thetas: Array = field(repr=False)
    status: Status
    stats: Mapping[str, Any]
    direction: Direction | None = None
    minimizers: MinimizerSet | None = None

    @cached_property
    def certificate(self) -> Certificate:
        """Bounds on the error of this point (see :func:`solvers.certify`)."""
        # Imported here because certificate.py is independent of every solver, and results are shared by both.
        from solvers.certificate import certify

        return certify(self.problem, self.rho, self.thetas)
