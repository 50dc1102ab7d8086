r"""Gradient-PAC* (Definition 3), decided for all θ.

The event :math:`\mathcal E(\mathcal D, \theta^\dagger, \mathcal I, A, B, \alpha)` of Definition 3 says that

.. math:: \forall\theta\in\mathbb R^P:\quad (\theta-\theta^\dagger)^T\nabla\mathcal L(\theta,\mathcal D)
          \ \ge\ A\mathcal I\min\{\|\theta-\theta^\dagger\|,\|\theta-\theta^\dagger\|^2\}
          - B\mathcal I^\alpha\|\theta-\theta^\dagger\| .

Here :math:`\mathcal L` is the whole local loss (eq. 5), with its term :math:`\nu\|\theta\|^2` (as in eqs 106 and 144),
and ℐ is the number of data points.  Write θ - θ† = t·u with ‖u‖ = 1 and t > 0, :math:`p = \nabla\mathcal
L(\theta^\dagger)`, :math:`b = B\mathcal I^\alpha`, divide by t, and let

.. math:: h(u, t) = u^T\nabla\mathcal L(\theta^\dagger + tu) + b - A\mathcal I\min(1, t).

The event is "h(u, t) >= 0 for all unit u and t > 0" (at t = 0 it says 0 >= 0).

**1. Radial monotonicity.**  :math:`\mathcal L` is convex, so :math:`u^T\nabla\mathcal L(\theta^\dagger + tu)` does not
decrease in t.  For t >= 1 the right side is constant, so h(u, t) >= h(u, 1): *only t <= 1 matters.*

**2. The centre.**  h(u, 0+) = uᵀp + b, so the event implies :math:`\|p\|\le b`.

**3. Least squares.**  :math:`\nabla\mathcal L(\theta^\dagger + tu) = p + tHu` with :math:`H = Q^TQ + 2\nu I`, so for
t <= 1 h is affine in t, and its least value over [0, 1] is at an end.  Hence the exact criterion

.. math:: \text{event}\iff \|p\|\le b\quad\text{and}\quad V := \min_{\|u\|=1}\big(u^THu + p^Tu\big)\ \ge\ A\mathcal I-b.

This is claim C15 with ν included (its p is ours with the sign changed, which the minimum over the sphere does not
see).  The largest A for which the event holds is (V + b)/ℐ; V + b >= λ_min(H) - ‖p‖ + b >= 0 whenever ‖p‖ <= b.

**4. Logistic.**  See :mod:`theory.pac_logistic`.

**Corners.**  ℐ = 0: the loss is ν‖θ‖², A plays no part, and the event is ‖2νθ†‖ <= B·0^α (0^0 = 1, and 0 to a negative
power is refused unless B = 0).  A = 0: the second condition follows from the first, as H is positive semidefinite.
B = 0: the event needs ∇L(θ†) = 0 exactly.

Source: Definition 3 (``def3_gradient_pac``), Lemma 4; claim C15.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from theory import rational
from theory.arrays import Array, as_array, as_nonnegative, as_positive, as_vector, frozen
from theory.data import UserDataset
from theory.errors import AssumptionError, ShapeError
from theory.losses import LeastSquares, Logistic, Loss, local_gradient
from theory.rational import Enclosure
from theory.sphere import gamma, minimize_on_sphere

_STATEMENT = "def3_gradient_pac"
_BLOCK = 1024
#: Exact arithmetic is tried up to this many products of data (about a second).
EXACT_PRODUCTS = 4_000_000
#: More than a length computed from squares loses where they underflow, which is 2.3e-162 for each √d.
UNDERFLOW = 1e-150


@dataclass(frozen=True)
class Bounds:
    """A real number between two floats."""

    low: float
    high: float


@dataclass(frozen=True)
class PacCertificate:
    r"""What a verdict rests on.

    Attributes
    ----------
    kind : str
        ``"trust region"`` (floating point, its errors bounded), ``"exact"`` (rational arithmetic), ``"convex
        minorant"`` or ``"branch and bound"`` (logistic).
    multiplier : float or Fraction
        μ of :mod:`theory.sphere` (a fraction in an exact certificate); NaN where the certificate has none.
    gradient_norm : Bounds
        Of ‖∇L(θ†)‖.
    radius : Bounds
        Of b = Bℐ^α, which ‖∇L(θ†)‖ may not exceed.
    sphere_minimum : Bounds
        Of V (least squares), or of a lower bound's V (logistic).
    threshold : Bounds
        Of Aℐ - b, which V must reach.
    cells : int
        Cells that branch and bound looked at.
    """

    kind: str
    gradient_norm: Bounds
    radius: Bounds
    sphere_minimum: Bounds
    threshold: Bounds
    multiplier: float | Fraction = math.nan
    cells: int = 0


@dataclass(frozen=True, eq=False)
class PacVerdict:
    r"""Whether the event of Definition 3 holds, and why.

    Attributes
    ----------
    holds : bool or None
        True (proved for all θ), False (a θ violates it), or None: not decided.
    witness : (P,) array or None
        If ``holds`` is False, a θ that violates the inequality (None if it differs from θ† by less than rounding).
    offset : (P,) array or None
        θ - θ† of that violation, to full precision (θ itself is rounded).
    best_A : float
        The largest A for which the event is proved, with this B and α (infinite for ℐ = 0); ``-inf`` if it is refuted
        or undecided for every A >= 0.
    best_A_bounds : Bounds
        The supremum of the A for which the event holds lies between these (``-inf`` stands for: there is none).
    reason : str
        One sentence.
    certificate : PacCertificate
    """

    holds: bool | None
    witness: Array | None
    offset: Array | None
    best_A: float
    best_A_bounds: Bounds
    reason: str
    certificate: PacCertificate
    event: PacEvent = field(repr=False)

    def __bool__(self) -> bool:
        raise TypeError("a PacVerdict has three values: compare .holds with True, False or None")

    def verify(self) -> bool | None:
        """Check the verdict again by exact rational arithmetic; True if it is confirmed.

        For least squares: a refutation is confirmed by the witness's offset, a proof by ‖p‖² <= b² and an LDLᵀ
        factorization of M(μ, Aℐ - b).  For logistic regression a refutation is confirmed at the offset in floating
        point with its error bounded; proofs are not checked again.  None: nothing could be concluded.
        """
        if self.holds is None:
            return None
        if isinstance(self.event.loss, LeastSquares):
            model = ExactModel.of(self.event)
            if self.holds:
                return model.proves(Fraction(self.certificate.multiplier)) or None
            return None if self.offset is None else model.is_violated_at(self.offset) or None
        if self.holds or self.offset is None:
            return None
        from theory.pac_logistic import slack_bounds

        return slack_bounds(self.event, self.offset).high < 0 or None


@dataclass(frozen=True, eq=False)
class PacEvent:
    """The checked arguments of :func:`gradient_pac`; ``labels`` are the encoded answers."""

    Q: Array
    labels: Array
    theta: Array
    loss: Loss
    nu: float
    A: float
    B: float
    alpha: float

    @classmethod
    def checked(cls, data: Any, theta_honest: Any, loss: Any, nu: Any, A: Any, B: Any, alpha: Any) -> PacEvent:
        """Check the arguments of :func:`gradient_pac`."""
        if not isinstance(data, UserDataset):
            raise ShapeError("data", "a UserDataset", type(data).__name__)
        if isinstance(loss, type) or not isinstance(loss, (LeastSquares, Logistic)):
            raise AssumptionError("lem4_gradient_pac", f"loss {loss!r}", "use LeastSquares() or Logistic()")
        exponent = float(as_array(alpha, "alpha", 0))
        if not exponent < 1.0:
            raise AssumptionError(_STATEMENT, f"alpha = {exponent}", "alpha must be below 1")
        B = as_nonnegative(B, "B", _STATEMENT)
        if data.n_data == 0 and exponent < 0 and B > 0:
            raise AssumptionError(_STATEMENT, f"alpha = {exponent} with no data", "0 to a negative power is undefined")
        return cls(
            Q=data.Q,
            labels=loss.encode(data.A, "data.A"),
            theta=as_vector(theta_honest, "theta_honest", data.dim),
            loss=loss,
            nu=as_nonnegative(nu, "nu", "eq5_local_loss"),
            A=as_nonnegative(A, "A", _STATEMENT),
            B=B,
            alpha=exponent,
        )

    @property
    def n_data(self) -> int:
        """ℐ."""
        return self.Q.shape[0]

    @property
    def slope(self) -> float:
        """Aℐ, rounded (zero only if it is zero)."""
        return self.A * self.n_data

    def radius(self) -> Enclosure:
        """Enclose b = Bℐ^α."""
        if self.B == 0.0:
            return Enclosure(Fraction(0), Fraction(0))
        return rational.power(self.n_data, Fraction(self.alpha)).scaled(Fraction(self.B))

    def squared_radius(self) -> Enclosure:
        """Enclose b², which can be rational where b is not."""
        if self.B == 0.0:
            return Enclosure(Fraction(0), Fraction(0))
        return rational.power(self.n_data, 2 * Fraction(self.alpha)).scaled(Fraction(self.B) ** 2)

    def threshold(self) -> Enclosure:
        """Enclose Aℐ - b."""
        slope, radius = Fraction(self.A) * self.n_data, self.radius()
        return Enclosure(slope - radius.high, slope - radius.low)


def pac_slack(
    data: UserDataset, theta: Any, theta_honest: Any, *, loss: Loss, nu: float, A: float, B: float, alpha: float
) -> float:
    r"""Return the left side minus the right side of Definition 3's inequality at one θ.

    Examples
    --------
    >>> data = UserDataset([[1.0]], [0.0])
    >>> pac_slack(data, [2.0], [0.0], loss=LeastSquares(), nu=0.0, A=1.0, B=0.0, alpha=0.5)
    2.0
    """
    event = PacEvent.checked(data, theta_honest, loss, nu, A, B, alpha)
    theta = as_vector(theta, "theta", data.dim)
    z = theta - event.theta
    t = float(np.linalg.norm(z))
    left = float(z @ local_gradient(theta, event.Q, event.labels, event.loss, event.nu))
    return left - event.A * event.n_data * min(t, t * t) + bounds_of(event.radius()).high * t


def gradient_pac(
    data: UserDataset, theta_honest: Any, *, loss: Loss, nu: float, A: float, B: float, alpha: float, **options: Any
) -> PacVerdict:
    r"""Decide the event of Definition 3, a statement on all :math:`\theta\in\mathbb R^d`.

    Parameters
    ----------
    data : UserDataset
    theta_honest : (d,) array_like
        θ†.
    loss : LeastSquares or Logistic
    nu : float, >= 0
        The local loss contains ν‖θ‖².
    A, B : float, >= 0
    alpha : float, < 1
        The three numbers are taken as the exact float64 that they are.
    options
        For :class:`theory.Logistic`: ``gap`` and ``max_cells`` of :func:`theory.pac_logistic.decide`.

    Returns
    -------
    PacVerdict
        Least squares: decided in floating point where the error bounds allow it, else in exact rational arithmetic
        (up to :data:`EXACT_PRODUCTS` products); None remains only for larger data within about 1e-12 of equality, for
        an equality whose multiplier is irrational, which needs d >= 3, or has a large denominator, and for some data
        whose squares overflow.  Logistic: None where the largest A is within ``gap`` of A, or ``max_cells`` is used up.

    Raises
    ------
    ShapeError, AssumptionError
        Bad arguments: A or B negative, alpha >= 1, a loss other than the two.

    Source: Definition 3 (``def3_gradient_pac``); claim C15.

    Examples
    --------
    One point Q = 1, A = 0 and θ† = 0: the inequality is t² >= A·min(t, t²), so the largest A is 1.

    >>> data = UserDataset([[1.0]], [0.0])
    >>> gradient_pac(data, [0.0], loss=LeastSquares(), nu=0.0, A=1.0, B=0.0, alpha=0.5).holds
    True
    >>> refuted = gradient_pac(data, [0.0], loss=LeastSquares(), nu=0.0, A=1.5, B=0.0, alpha=0.5)
    >>> refuted.holds, round(refuted.best_A, 12), abs(refuted.witness)
    (False, 1.0, array([1.]))
    """
    event = PacEvent.checked(data, theta_honest, loss, nu, A, B, alpha)
    if isinstance(event.loss, Logistic):
        from theory.pac_logistic import decide

        return decide(event, **options)
    if options:
        raise ShapeError("options", "none for least squares", ", ".join(options))
    # What overflows becomes infinite or NaN, which no comparison accepts: exact arithmetic takes over.
    with np.errstate(over="ignore", invalid="ignore"):
        return _decide_least_squares(event)


def largest_A(
    data: UserDataset,
    theta_honest: Any,
    *,
    loss: Loss,
    nu: float,
    B: float,
    alpha: float,
    gap: float = 1e-6,
    **options: Any,
) -> Bounds:
    r"""Enclose the largest A for which the event of Definition 3 holds (``-inf`` if it holds for none).

    Least squares: from the closed form, whatever ``gap``.  Logistic: verdicts on a few A, until the enclosure is
    ``gap`` wide relative to A, or branch and bound (with ``options``) no longer decides.

    Examples
    --------
    >>> from theory import Logistic
    >>> data = UserDataset([[1.0], [1.0]], [1.0, -1.0])
    >>> bounds = largest_A(data, [0.0], loss=Logistic(), nu=0.0, B=0.0, alpha=0.5)
    >>> round(bounds.low, 6) == round(bounds.high, 6) == 0.231059  # σ(1) - σ(0)
    True
    """
    gap = as_positive(gap, "gap", _STATEMENT)
    arguments: dict[str, Any] = {"loss": loss, "nu": nu, "B": B, "alpha": alpha, **options}
    bounds = gradient_pac(data, theta_honest, A=0.0, **arguments).best_A_bounds
    if isinstance(loss, LeastSquares) or not (bounds.low >= 0.0 and math.isfinite(bounds.high)):
        return bounds
    low, high, reach = bounds.low, bounds.high, 1.0 - 0.5 * gap
    while high - low > gap * high and reach > 1e-2:
        A = low + reach * (high - low) if reach < 0.9 else max(low, reach * high)
        found = gradient_pac(data, theta_honest, A=A, **arguments)
        is_better = found.best_A_bounds.high < high * (1.0 - 0.25 * gap)
        low, high = max(low, found.best_A_bounds.low), min(high, found.best_A_bounds.high)
        if found.holds is None and not is_better:
            reach *= 0.5
    return Bounds(low, high)


# ------------------------------------------------------------------------------------------------------- least squares


def _decide_least_squares(event: PacEvent) -> PacVerdict:
    radius, threshold = bounds_of(event.radius()), bounds_of(event.threshold())
    H, p, error_H, error_p = float_model(event)
    norm = norm_bounds(p, error_p)
    scale = Fraction(1)
    if not (math.isfinite(norm.high) and math.isfinite(float(np.linalg.norm(H)))):
        H, p, scale = _scaled_model(event)
        error_H = error_p = math.inf
    minimum = minimize_on_sphere(H, p)
    error = error_H + error_p
    sphere = Bounds(_down(minimum.low - error), _up(minimum.high + error))
    multiplier = Fraction(minimum.multiplier) * scale
    rounded = minimum.multiplier if scale == 1 else multiplier
    certificate = PacCertificate("trust region", norm, radius, sphere, threshold, rounded)
    fits = compare(norm, radius)
    reaches = True if event.slope == 0.0 else compare(threshold, sphere)
    if reaches is False or (fits is not None and (reaches is not None or not fits)):
        # Beyond the verdict, the largest A depends on which side of b ‖p‖ is.
        if fits is None and is_small(event):
            fits = ExactModel.of(event).has_small_gradient()
        if fits and reaches:
            return verdict(event, True, certificate, "both conditions hold, beyond the rounding error", fits=True)
        z = _least_squares_offset(event, H, p, minimum.point, radius.high)
        return verdict(event, False, certificate, _TOO_STEEP if fits is False else _TOO_FLAT, z, fits=fits)
    if not is_small(event):
        text = "within the rounding error of equality, and too large for exact arithmetic"
        return verdict(event, None, certificate, text, fits=fits)
    return _decide_exactly(event, certificate, minimum.point, multiplier)


_TOO_STEEP = "‖∇L(θ†)‖ exceeds Bℐ^α"
_TOO_FLAT = "the minimum over the sphere is below Aℐ - Bℐ^α"


def is_small(event: PacEvent) -> bool:
    """Whether exact arithmetic on the data takes no more than about a second."""
    return event.n_data * event.Q.shape[1] ** 2 <= EXACT_PRODUCTS


def norm_bounds(p: Array, error: float) -> Bounds:
    """Return bounds of ‖p + e‖ for ‖e‖ <= ``error``, where ``p`` is known in floating point."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = float(np.linalg.norm(p))
    if not math.isfinite(length):
        return Bounds(0.0, math.inf)
    spread = error + gamma(p.size + 2) * length + UNDERFLOW
    return Bounds(max(0.0, _down(length - spread)), _up(length + spread))


def compare(left: Bounds, right: Bounds) -> bool | None:
    """Whether left <= right: True or False where the bounds show it, else None (NaN shows nothing)."""
    if left.high <= right.low:
        return True
    return False if left.low > right.high else None


def _scaled_model(event: PacEvent) -> tuple[Array, Array, Fraction]:
    """Return H and p of data whose squares overflow, both divided by one number (zero if they are too many), and it."""
    d = event.theta.size
    if not is_small(event):
        return np.zeros((d, d)), np.zeros(d), Fraction(1)
    model = ExactModel.of(event)
    scale = max(abs(x) for x in (*model.H.ravel(), *model.p))
    H = np.array([[float(x / scale) for x in row] for row in model.H])
    return H, np.array([float(x / scale) for x in model.p]), scale


def float_model(event: PacEvent) -> tuple[Array, Array, float, float]:
    r"""Return :math:`H = Q^TQ + 2\nu I`, :math:`p = \nabla\mathcal L(\theta^\dagger)`, and bounds on the errors.

    The sums run over blocks of rows, so that n rows cost the rounding of about 1024 + n/1024 additions, not of n.
    """
    Q, theta, nu = event.Q, event.theta, event.nu
    n, d = Q.shape
    H, p = 2.0 * nu * np.eye(d), 2.0 * nu * theta
    squares = moments = fit = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        size_theta = math.hypot(*theta)
        for start in range(0, n, _BLOCK):
            rows, answers = Q[start : start + _BLOCK], event.labels[start : start + _BLOCK]
            residual = rows @ theta - answers
            H += rows.T @ rows
            p += rows.T @ residual
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows)) + UNDERFLOW
            squares += float(lengths @ lengths)
            moments += float(lengths @ np.abs(residual))
            fit += float(lengths @ (lengths * size_theta + np.abs(answers)))
        terms = min(n, _BLOCK) + math.ceil(n / _BLOCK) + 8
        size = squares + 2.0 * nu * math.sqrt(d)
        error_H = 1.01 * gamma(terms) * size
        error_p = 1.01 * (gamma(terms) * (moments + 2.0 * nu * size_theta) + gamma(d + 4) * fit)
    # Products of tiny numbers underflow: each by at most the smallest subnormal number.
    return H, p, error_H + 1e-300 * (n > 0), error_p + 1e-300 * (n > 0)


def _least_squares_offset(event: PacEvent, H: Array, p: Array, u: Array, radius: float) -> Array:
    """Return the offset z = θ - θ† with the largest violation among the few that the criterion suggests."""
    candidates = [u]
    length = float(np.linalg.norm(p))
    if length > radius:
        direction = -p / length
        growth = float(direction @ (H @ direction)) - event.A * event.n_data
        excess = length - radius
        # Along -p the violation of the inequality is t·excess - t²·growth, largest at excess/(2·growth).
        step = 1.0 if excess >= 2.0 * growth else excess / (2.0 * growth)
        candidates.append(step * direction)

    def violation(z: Array) -> float:
        t = float(np.linalg.norm(z))
        slack = float(z @ (H @ z) + p @ z) - event.A * event.n_data * min(t, t * t) + radius * t
        return -slack

    # A witness θ is a float64 vector: prefer offsets that θ† + z keeps.
    rounded = [(event.theta + z) - event.theta for z in candidates]
    best = max(rounded, key=violation)
    return best if violation(best) > 0 else max(candidates, key=violation)


def _decide_exactly(event: PacEvent, certificate: PacCertificate, minimizer: Array, near: Fraction) -> PacVerdict:
    """Decide in rational arithmetic what floating point could not; the multiplier is ``near`` a number."""
    model = ExactModel.of(event)
    if model.has_large_gradient():
        z = model.gradient_offset()
        return verdict(event, False, replace(certificate, kind="exact"), _TOO_STEEP, z, fits=False)
    fits = model.has_small_gradient() or None
    mu = model.find_proof(near)
    if mu is not None:
        proof = replace(certificate, kind="exact", multiplier=mu)
        return verdict(event, True, proof, "both conditions hold, by an exact LDLᵀ factorization", fits=True)
    d = event.theta.size
    for point in (minimizer, *np.eye(d), *(-np.eye(d))):
        if model.is_violated_at(point):
            return verdict(event, False, replace(certificate, kind="exact"), _TOO_FLAT, point, fits=fits)
    is_close = math.isfinite(certificate.sphere_minimum.high)
    text = "equality up to the last bit" if is_close else "squares of the data that overflow"
    return verdict(event, None, certificate, f"{text}, with a multiplier that was not identified", fits=fits)


@dataclass(frozen=True, eq=False)
class ExactModel:
    """The least squares event in rational arithmetic: H, p, and enclosures of b, b² and Aℐ - b."""

    H: np.ndarray
    p: np.ndarray
    slope: Fraction
    radius: Enclosure
    squared_radius: Enclosure
    threshold: Enclosure

    @classmethod
    def of(cls, event: PacEvent) -> ExactModel:
        """Compute the sums exactly."""
        H, p = rational.least_squares_model(event.Q, event.labels, event.theta, event.nu)
        slope = Fraction(event.A) * event.n_data
        return cls(H, p, slope, event.radius(), event.squared_radius(), event.threshold())

    def has_large_gradient(self) -> bool:
        """Whether ‖p‖ > b, which refutes the event."""
        return bool(self.p.dot(self.p) > self.squared_radius.high)

    def has_small_gradient(self) -> bool:
        """Whether ‖p‖ <= b, which the event needs."""
        return bool(self.p.dot(self.p) <= self.squared_radius.low)

    def proves(self, multiplier: Fraction) -> bool:
        """Whether this μ proves the event: ‖p‖ <= b and M(μ, Aℐ - b) >= 0 (or Aℐ = 0, where the first suffices)."""
        if not self.has_small_gradient():
            return False
        return self.slope == 0 or rational.is_positive_semidefinite(self.lifted(multiplier))

    def lifted(self, multiplier: Fraction) -> np.ndarray:
        """Return M(μ, c) of :mod:`theory.sphere`, for the c from above."""
        d = self.p.size
        M = np.empty((d + 1, d + 1), dtype=object)
        M[:d, :d] = self.H
        for j in range(d):
            M[j, j] = self.H[j, j] - multiplier
            M[j, d] = M[d, j] = self.p[j] / 2
        M[d, d] = multiplier - self.threshold.high
        return M

    def find_proof(self, multiplier: Fraction) -> Fraction | None:
        """Return a rational μ near ``multiplier`` that proves the event, or None."""
        if not self.p.any():
            # With p = 0 the corner of M asks for μ >= c, and H - μI is best for the smallest such μ: this decides.
            candidates = [self.threshold.high]
        elif self.p.size == 1:
            # uᵀHu + pᵀu is least at u = -sign(p), with μ = H - |p|/2.
            candidates = [self.H[0, 0] - abs(self.p[0]) / 2]
        else:
            candidates = [*_nearby_fractions(multiplier), min(np.diagonal(self.H))]
        return next((mu for mu in candidates if self.proves(mu)), None)

    def is_violated_at(self, offset: Array) -> bool:
        """Whether the inequality fails at θ† + ``offset``, exactly."""
        z = rational.fractions(offset)
        squared = z.dot(z)
        left = z.dot(self.H.dot(z)) + self.p.dot(z)
        length = rational.square_root(squared)
        # left - Aℐ·min(t, t²) + b·t, from above.
        return bool(left - self.slope * min(squared, length.low) + self.radius.high * length.high < 0)

    def gradient_offset(self) -> Array | None:
        """Return an offset along -p at which the inequality fails, if a float64 vector shows it."""
        size = max(abs(x) for x in self.p)
        z = -np.array([float(x / size) for x in self.p])
        while z.any():
            if self.is_violated_at(z):
                return z
            z = z / 16.0
        return None


def _nearby_fractions(exact: Fraction) -> list[Fraction]:
    """Return a number, simple fractions near it, and a little less than it (M is definite below the multiplier)."""
    simple = [exact.limit_denominator(10**k) for k in range(11)]
    dyadic = [Fraction(round(exact * 2**k), 2**k) for k in range(8, 41, 8)]
    less = [exact - abs(exact) / 2**k for k in (53, 51, 48, 44, 40)]
    return list(dict.fromkeys([exact, *simple, *dyadic, *less]))


# ------------------------------------------------------------------------------------------------------------- verdicts


def verdict(
    event: PacEvent,
    holds: bool | None,
    certificate: PacCertificate,
    reason: str,
    offset: Array | None = None,
    *,
    fits: bool | None,
) -> PacVerdict:
    """Return the verdict with bounds of the largest A; ``fits`` says whether ‖p‖ <= b."""
    bounds = _best_A(event, holds, certificate, fits)
    witness = None if offset is None else event.theta + offset
    if witness is not None and np.array_equal(witness, event.theta):
        # An offset below the resolution of θ† leaves no float64 vector θ to show; the offset itself is kept.
        witness = None
    return PacVerdict(
        holds=holds,
        witness=None if witness is None else frozen(witness),
        offset=None if offset is None else frozen(np.array(offset)),
        best_A=bounds.low,
        best_A_bounds=bounds,
        reason=reason,
        certificate=certificate,
        event=event,
    )


def _best_A(event: PacEvent, holds: bool | None, certificate: PacCertificate, fits: bool | None) -> Bounds:
    """Return bounds of the largest A, consistent with the verdict on this A."""
    radius, sphere = certificate.radius, certificate.sphere_minimum
    if fits is False:
        return Bounds(-math.inf, -math.inf)
    if event.n_data == 0:
        return Bounds(math.inf if fits else -math.inf, math.inf)
    # The true V + b is not negative where ‖p‖ <= b.
    low = max(0.0, _mean(sphere.low, radius.low, event.n_data).low) if fits else -math.inf
    high = max(0.0, _mean(sphere.high, radius.high, event.n_data).high)
    if holds is True:
        low = max(low, event.A)
    if holds is False:
        high = min(high, event.A)
    return Bounds(min(low, high), max(low, high))


def _mean(x: float, y: float, n: int) -> Bounds:
    """Return floats around (x + y)/n, without bounds where x or y is infinite."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return Bounds(-math.inf, math.inf)
    exact = (Fraction(x) + Fraction(y)) / n
    return bounds_of(Enclosure(exact, exact))


def bounds_of(value: Enclosure) -> Bounds:
    """Return floats around an enclosure; equal if it is one float64 number."""
    return Bounds(-_least_float_above(-value.low), _least_float_above(value.high))


def _least_float_above(value: Fraction) -> float:
    try:
        nearest = float(value)
    except OverflowError:
        return math.inf if value > 0 else float(-np.finfo(np.float64).max)
    return nearest if Fraction(nearest) >= value else _up(nearest)


def _down(x: float) -> float:
    return float(np.nextafter(x, -math.inf))


def _up(x: float) -> float:
    return float(np.nextafter(x, math.inf))
