r"""Gradient-PAC* of logistic regression: certified bounds, a local search for a witness, and branch and bound.

Notation of :mod:`theory.pac`; :math:`m_i = Q_i^T\theta^\dagger`, z = θ - θ†.  Because
:math:`\nabla\mathcal L(\theta) - p = 2\nu z + \sum_i(\sigma(m_i + Q_i^Tz) - \sigma(m_i))Q_i`, the event is, by radial
monotonicity, F(z) >= 0 for all ‖z‖ <= 1, where

.. math:: F(z) = p^Tz + b\|z\| + (2\nu - A\mathcal I)\|z\|^2 + \sum_i\delta(m_i, Q_i^Tz), \qquad
          \delta(m, x) = x\,(\sigma(m+x)-\sigma(m)) = \Delta(m + x, m) \ge 0 .

**Convex minorant.**  The secant slope s(m, x) = (σ(m+x) - σ(m))/x is the mean of σ' between m and m + x, and σ' is
even and decreases away from 0.  So for |x| <= r

.. math:: s(m, x) \ge w(m, r) := \frac{\sigma(|m| + r)-\sigma(|m|)}{r},

because moving away from 0 lowers the mean, and towards 0 it exceeds the mean over the mirrored interval.  With
r_i = ‖Q_i‖ and W = Σ w(m_i, r_i) Q_i Q_iᵀ, F(z)/t >= uᵀp + b + t(uᵀWu + 2ν - Aℐ) for z = tu, t <= 1, which is affine
in t.  Hence ‖p‖ <= b and :math:`\min_{\|u\|=1}(u^T(W + 2\nu I)u + p^Tu) \ge A\mathcal I - b` prove the event: the
criterion of least squares with a smaller matrix.  With w(M‖θ†‖, M) for all i it gives the A_K of claim C16.

**Upper bound.**  Where ‖p‖ <= b, the largest A is the infimum over 0 < ‖z‖ <= 1 of
(pᵀz + b‖z‖ + 2ν‖z‖² + Σδ)/(ℐ‖z‖²); every z bounds it from above, and local minima are found by exact minimization of
quadratic models on spheres.

**Branch and bound.**  On a ball of radius R around c, with y = z - c and ĉ = c/‖c‖, and any η >= 0,

.. math:: F(z) \ge F(z) + \eta(\|z\|^2 - 1) \ge F_0 + g^Ty + \tfrac12y^TKy \quad\text{for } \|z\|\le1,

where K adds up lower bounds of δ'' over the cell (|δ'''| <= 0.2887 + |x|/8), and
‖z‖ >= ĉᵀz + ‖y_⊥‖²/(2(‖c‖ + R)).  The quadratic is minimized over the ball ‖y‖ <= R through its dual, every value of
which is a lower bound.  η is the multiplier that makes F stationary in the radial direction, so cells at the boundary
of the unit ball are bounded as sharply as inside.  The error of the bound is O(R³).  Near z = 0, where F vanishes,
the convex minorant with radii τ‖Q_i‖ proves a whole ball at once.

All bounds allow for rounding and underflow, and take ``expit`` and ``expm1`` to be within 4 units in the last place.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from scipy.special import expit

from theory import rational
from theory.arrays import Array, as_count, as_positive
from theory.pac import (
    UNDERFLOW,
    Bounds,
    PacCertificate,
    PacEvent,
    PacVerdict,
    bounds_of,
    compare,
    is_small,
    norm_bounds,
    verdict,
)
from theory.sphere import UNIT, gamma, minimize_on_sphere

_BLOCK = 4096
# Bounds |δ'''(m, x)| <= 3 max|σ''| + |x| max|σ'''|, with max|σ''| = 1/(6√3) and max|σ'''| = 1/8.
_THIRD_CONSTANT, _THIRD_SLOPE = 3.0 / (6.0 * math.sqrt(3.0)), 0.125
#: Work that branch and bound may take by default, in multiplications (some seconds).
DEFAULT_WORK = 4_000_000_000
_LARGEST_DEFAULT = 100_000
#: Branch and bound keeps the products of the entries of each query: at most this many numbers.
LARGEST_PRODUCTS = 25_000_000
_FUNCTION_ERROR = 40.0 * UNIT


def secant(m: Array, x: Array) -> Array:
    r"""Return (σ(m + x) - σ(m))/x to high relative accuracy, and σ'(m) where x = 0.

    With l = min(m, m + x) and y = |x| it is σ(l + y)σ(-l)(1 - e^{-y})/y.

    Examples
    --------
    >>> secant(np.array([0.0]), np.array([0.0]))
    array([0.25])
    """
    low, y = np.minimum(m, m + x), np.abs(x)
    return expit(low + y) * expit(-low) * np.divide(-np.expm1(-y), y, out=np.ones_like(y), where=y > 0)


@dataclass(frozen=True, eq=False)
class Model:
    """What all bounds share: margins, p, its error, and the numbers of the event."""

    Q: Array
    m: Array
    lengths: Array
    margin_error: Array
    p: Array
    error_p: float
    nu: float
    slope: float
    radius: Bounds

    @classmethod
    def of(cls, event: PacEvent) -> Model:
        """Compute margins and p = ∇L(θ†) in floating point, with bounds on the errors."""
        Q, theta = event.Q, event.theta
        n, d = Q.shape
        m = Q @ theta
        lengths = np.sqrt(np.einsum("ij,ij->i", Q, Q)) * (1.0 + gamma(d + 2)) + UNDERFLOW
        size_theta = math.hypot(*theta)
        margin_error = gamma(d + 1) * lengths * size_theta + 1e-300
        # ∇ℓ = -A σ(-A m) Q.
        slopes = -event.labels * expit(-event.labels * m)
        p = 2.0 * event.nu * theta
        for start in range(0, n, _BLOCK):
            p = p + Q[start : start + _BLOCK].T @ slopes[start : start + _BLOCK]
        terms = min(n, _BLOCK) + math.ceil(n / _BLOCK) + 8
        # σ' is at most 1/4, and at most e^{-|m|}.
        steepest = np.minimum(0.25, np.exp(-np.maximum(0.0, np.abs(m) - margin_error)))
        slope_error = np.minimum(1.0, steepest * margin_error) + _FUNCTION_ERROR
        error_p = float(np.sum(lengths * slope_error)) + gamma(terms) * (
            float(np.sum(lengths)) + 2.0 * event.nu * size_theta
        )
        error_p = 1.01 * error_p + UNDERFLOW
        return cls(Q, m, lengths, margin_error, p, error_p, event.nu, event.slope, bounds_of(event.radius()))

    @property
    def n_data(self) -> int:
        """ℐ."""
        return self.Q.shape[0]

    def discrepancy(self, x: Array) -> Array:
        """Return δ(m_i, x_i); ``x`` has shape (..., ℐ)."""
        return x * x * secant(self.m, x)

    def value(self, z: Array) -> float:
        """Return pᵀz + 2ν‖z‖² + Σδ, the left side of Definition 3."""
        return float(self.p @ z + 2.0 * self.nu * (z @ z) + np.sum(self.discrepancy(self.Q @ z)))

    def error(self, z: Array) -> float:
        """Bound the error of :meth:`value`."""
        t = math.hypot(*z)
        x = self.Q @ z
        delta = self.discrepancy(x)
        x_error = gamma(self.p.size + 1) * self.lengths * t
        # |∂δ/∂x| <= |x|/2 and |∂δ/∂m| <= |x|·min(1/4, |x|/10); sums of ℐ terms.
        terms = np.abs(x) * (0.5 * x_error + np.minimum(0.25, 0.1 * np.abs(x)) * self.margin_error)
        total = float(np.sum(terms + _FUNCTION_ERROR * delta)) + gamma(self.n_data + 4) * float(np.sum(delta))
        return 1.01 * (
            total
            + self.error_p * t
            + gamma(self.p.size + 8) * (math.hypot(*self.p) * t + 2 * self.nu * t * t)
            + 1e-300 * (1.0 + self.nu)
        )

    def weights(self, shrink: float) -> Array:
        """Return lower bounds of w(m_i, ``shrink``·‖Q_i‖); its relative slope in both arguments is at most 1."""
        r = shrink * self.lengths
        lost = self.margin_error + gamma(4) * r + _FUNCTION_ERROR
        return secant(np.abs(self.m), r) * np.maximum(0.0, 1.0 - lost)

    def minorant(self, shrink: float) -> tuple[Array, float]:
        """Return W for offsets up to ``shrink``, and a bound on the rounding error of its sum."""
        w = self.weights(shrink)
        d = self.p.size
        W = np.zeros((d, d))
        for start in range(0, self.n_data, _BLOCK):
            rows = self.Q[start : start + _BLOCK]
            W += (rows.T * w[start : start + _BLOCK]) @ rows
        terms = min(self.n_data, _BLOCK) + math.ceil(self.n_data / _BLOCK) + 8
        return W, 1.01 * gamma(terms) * float(np.sum(w * self.lengths**2)) + 1e-300


def slack_bounds(event: PacEvent, offset: Array) -> Bounds:
    """Return bounds of left minus right of Definition 3 at θ† + ``offset``.

    Examples
    --------
    >>> from theory import Logistic, UserDataset
    >>> event = PacEvent.checked(UserDataset([[1.0]], [1.0]), [0.0], Logistic(), 0.0, 0.1, 1.0, 0.5)
    >>> slack_bounds(event, np.array([1.0])).low > 0.6
    True
    """
    return _slack(Model.of(event), offset)


def _slack(model: Model, z: Array) -> Bounds:
    t = math.hypot(*z)
    left = model.value(z)
    gain = model.slope * t * min(t, 1.0)
    error = model.error(z) + gamma(model.p.size + 12) * (abs(left) + gain + model.radius.high * t)
    return Bounds(left - gain + model.radius.low * t - error, left - gain + model.radius.high * t + error)


def decide(event: PacEvent, *, max_cells: int | None = None, gap: float = 1e-9) -> PacVerdict:
    r"""Decide the event of Definition 3 for logistic regression.

    Parameters
    ----------
    event : PacEvent
    max_cells : int, optional
        How many cells branch and bound may look at (by default, what a few seconds allow; 0 for none).
    gap : float, > 0
        Branch and bound does not start where the largest A is known to within ``gap`` times A.

    Returns
    -------
    PacVerdict
        None where the budget did not suffice.  ``best_A_bounds`` then says what is known.
    """
    gap = as_positive(gap, "gap", "def3_gradient_pac")
    n, d = event.Q.shape
    if max_cells is None:
        max_cells = min(_LARGEST_DEFAULT, int(DEFAULT_WORK / ((n + 1) * (d * d + 30))))
    max_cells = as_count(max_cells, "max_cells")
    with np.errstate(over="ignore", invalid="ignore"):
        model = Model.of(event)
        if not math.isfinite(float(np.sum(model.lengths**2)) + model.error_p + float(np.sum(model.m))):
            nothing = Bounds(0.0, math.inf)
            empty = PacCertificate("convex minorant", nothing, model.radius, nothing, bounds_of(event.threshold()))
            return verdict(event, None, empty, "the data overflow", fits=None)
        return _decide(event, model, max_cells, gap)


def _decide(event: PacEvent, model: Model, max_cells: int, gap: float) -> PacVerdict:
    norm, threshold = norm_bounds(model.p, model.error_p), bounds_of(event.threshold())
    fits = compare(norm, model.radius)
    if fits is None:
        fits = _exact_gradient_test(event)
    W, error_W = model.minorant(1.0)
    minimum = minimize_on_sphere(W + 2.0 * model.nu * np.eye(model.p.size), model.p)
    low = minimum.low - error_W - model.error_p - gamma(8) * 2.0 * model.nu
    certificate = PacCertificate(
        "convex minorant", norm, model.radius, Bounds(low, math.inf), threshold, minimum.multiplier
    )
    if fits is False:
        return verdict(event, False, certificate, "‖∇L(θ†)‖ exceeds Bℐ^α", _steep_offset(model), fits=False)
    if fits and (event.slope == 0.0 or low >= threshold.high):
        certificate = replace(certificate, sphere_minimum=Bounds(low, _sphere_high(model, minimum.point)))
        return verdict(event, True, certificate, "proved by the convex minorant", fits=True)
    z = _local_search(model, minimum.point)
    certificate = replace(certificate, sphere_minimum=Bounds(low, _sphere_high(model, z)))
    if _slack(model, z).high < 0:
        return verdict(event, False, certificate, "a θ found by local search violates the inequality", z, fits=fits)
    if not fits:
        return verdict(event, None, certificate, "‖∇L(θ†)‖ is within the rounding error of Bℐ^α", fits=None)
    known = certificate.sphere_minimum.high + model.radius.high - model.slope
    if known <= gap * model.slope:
        return verdict(
            event, None, certificate, f"the largest A exceeds A by less than {gap:g} A, if at all", fits=True
        )
    return _branch_and_bound(event, model, certificate, z, max_cells)


def _sphere_high(model: Model, z: Array) -> float:
    """Return the V for which (V + b)/ℐ is the upper bound of the largest A that ``z`` gives."""
    t = float(np.linalg.norm(z))
    left = model.value(z) + model.error(z) + model.radius.high * t
    return left / (t * min(t, 1.0)) * (1.0 + gamma(8)) + gamma(8) * model.radius.high - model.radius.low


def _exact_gradient_test(event: PacEvent) -> bool | None:
    """Decide ‖p‖ <= b exactly where p is rational: all margins are zero, so σ(m_i) = 1/2."""
    if not is_small(event) or not _has_zero_margins(event):
        return None
    # θ† is orthogonal to every query: the two parts of p = 2νθ† - ΣAQ/2 are too.
    theta, pull = rational.fractions(event.theta), rational.fractions(event.labels).dot(rational.fractions(event.Q))
    squared = (2 * Fraction(event.nu)) ** 2 * theta.dot(theta) + pull.dot(pull) / Fraction(4)
    bound = event.squared_radius()
    if squared <= bound.low:
        return True
    return False if squared > bound.high else None


def _has_zero_margins(event: PacEvent) -> bool:
    # A computed margin of 0 can be a rounded one; these are exact.
    Q, _ = rational.integers(event.Q)
    theta, _ = rational.integers(event.theta)
    return not np.any(Q.dot(theta) != 0)


def _steep_offset(model: Model) -> Array | None:
    """Return an offset along -p at which the inequality fails."""
    length = float(np.linalg.norm(model.p))
    if length == 0.0:
        return None
    best: tuple[float, Array] | None = None
    for k in range(200):
        z = -model.p / length * 2.0**-k
        slack = _slack(model, z)
        if slack.high < 0:
            if best is not None and slack.high >= best[0]:
                break
            best = (slack.high, z)
    return None if best is None else best[1]


# --------------------------------------------------------------------------------------------------------- local search


def _ratio(model: Model, z: Array) -> float:
    """Return the A·ℐ for which the inequality is an equality at z, ‖z‖ <= 1."""
    t = float(np.linalg.norm(z))
    return (model.value(z) + model.radius.high * t) / (t * t)


def _local_search(model: Model, start: Array) -> Array:
    """Return a local minimizer of the ratio, the best of a few radii."""
    best = start
    for t in (1.0, 0.6, 0.3, 0.1):
        z = _descend(model, best / np.linalg.norm(best) * t)
        if _ratio(model, z) < _ratio(model, best):
            best = z
    for factor in (0.97, 0.8):
        z = best * factor
        # Close to θ† errors are all that is left of the ratio: what it bounds must become less as well.
        while _ratio(model, z) < _ratio(model, best) and _sphere_high(model, z) < _sphere_high(model, best):
            best, z = z, z * factor
    return best


def _descend(model: Model, z: Array, max_steps: int = 30) -> Array:
    """Minimize pᵀz + Σδ on the sphere through z: each step minimizes the second-order model there exactly."""
    t = float(np.linalg.norm(z))
    current = model.value(z)
    for _ in range(max_steps):
        x = model.Q @ z
        s = expit(model.m + x)
        curvature = s * (1.0 - s)
        slope = x * secant(model.m, x) + x * curvature
        K = (model.Q.T * (2.0 * curvature + x * curvature * (1.0 - 2.0 * s))) @ model.Q
        gradient = model.p + model.Q.T @ slope
        # Value at z' = t u: t²/2 uᵀKu + t(gradient - Kz)ᵀu + constant.
        u = minimize_on_sphere(0.5 * t * t * K, t * (gradient - K @ z)).point
        for _ in range(12):
            following = t * u
            reached = model.value(following)
            if reached < current:
                break
            # Halve the way along the sphere.
            middle = u + z / t
            length = float(np.linalg.norm(middle))
            if length == 0.0:
                return z
            u = middle / length
        else:
            return z
        gained = current - reached
        z, current = following, reached
        if gained <= 1e-13 * (abs(current) + model.slope):
            break
    return z


# ----------------------------------------------------------------------------------------------------- branch and bound


def _proved_radius(model: Model) -> float:
    """Return a τ such that the convex minorant proves F >= 0 for ‖z‖ <= τ, given ‖p‖ <= b; 0 if none was found."""
    for k in range(1, 16):
        tau = 2.0**-k
        W, error = model.minorant(tau)
        low = minimize_on_sphere(tau * (W + 2.0 * model.nu * np.eye(model.p.size)), model.p).low
        if (
            low - tau * error - model.error_p - gamma(8) * model.nu
            >= tau * model.slope * (1 + gamma(4)) - model.radius.low
        ):
            return tau
    return 0.0


def _branch_and_bound(
    event: PacEvent, model: Model, certificate: PacCertificate, best: Array, max_cells: int
) -> PacVerdict:
    d = model.p.size
    if model.n_data * d * (d + 1) // 2 > LARGEST_PRODUCTS:
        return verdict(event, None, certificate, "too large for branch and bound", fits=True)
    tau = _proved_radius(model) if max_cells else 0.0
    if tau == 0.0:
        return verdict(event, None, certificate, "no ball around θ† was proved", fits=True)
    bounder = _CellBounds(model)
    # A cell is a box: (bound, serial number, centre, half widths); the worst bound comes first.
    heap: list[tuple[float, int, Array, Array]] = [(-math.inf, 0, np.zeros(d), np.ones(d))]
    used = serial = 0
    while heap and used < max_cells:
        batch = [heapq.heappop(heap) for _ in range(min(len(heap), bounder.batch, max_cells - used))]
        # A cell that meets the shell τ < ‖z‖ <= 1 has a half that does.
        centres, halves = _split(batch, tau)
        used += len(centres)
        lows, at = bounder(centres, halves)
        z = at / max(1.0, float(np.linalg.norm(at)))
        if _ratio(model, z) < _ratio(model, best):
            best = min(_local_search(model, z), z, key=lambda point: _ratio(model, point))
            if _slack(model, best).high < 0:
                high = Bounds(certificate.sphere_minimum.low, _sphere_high(model, best))
                found = replace(certificate, kind="branch and bound", sphere_minimum=high, cells=used)
                return verdict(
                    event, False, found, "a θ found by branch and bound violates the inequality", best, fits=True
                )
        for low, centre, half in zip(lows, centres, halves, strict=True):
            if not low >= 0.0:
                serial += 1
                heapq.heappush(heap, (float(low), serial, centre, half))
    high = Bounds(certificate.sphere_minimum.low, _sphere_high(model, best))
    certificate = replace(certificate, kind="branch and bound", sphere_minimum=high, cells=used)
    if heap:
        return verdict(event, None, certificate, f"{used} cells did not suffice", fits=True)
    return verdict(event, True, certificate, "proved by branch and bound", fits=True)


def _split(batch: list[tuple[float, int, Array, Array]], tau: float) -> tuple[Array, Array]:
    """Halve the longest edge of each cell; leave out what is outside the unit ball or inside the proved one."""
    centres, halves = [], []
    for _, _, centre, half in batch:
        j = int(np.argmax(half))
        for sign in (-1.0, 1.0):
            c, h = centre.copy(), half.copy()
            h[j] *= 0.5
            c[j] += sign * h[j]
            nearest = np.maximum(np.abs(c) - h, 0.0)
            if nearest @ nearest <= 1.0 and np.sum((np.abs(c) + h) ** 2) > tau * tau:
                centres.append(c)
                halves.append(h)
    return np.array(centres), np.array(halves)


class _CellBounds:
    """Lower bounds of F over the part of boxes that is in the unit ball, many at once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        rows, columns = np.triu_indices(model.p.size)
        self.rows, self.columns = rows, columns
        self.products = model.Q[:, rows] * model.Q[:, columns]
        # 256 cells, or as many as take 2 million numbers with more than 7812 data.
        self.batch = max(1, 2_000_000 // max(7_812, model.n_data))

    def __call__(self, centres: Array, halves: Array) -> tuple[Array, Array]:
        """Return a lower bound for each box, and the centre where F is least compared with ‖z‖²."""
        model, d = self.model, self.model.p.size
        R = np.linalg.norm(halves, axis=1)
        c = np.linalg.norm(centres, axis=1)
        positive = np.where(c > 0, c, 1.0)
        unit = centres / positive[:, None]
        x = centres @ model.Q.T
        spread = np.minimum(halves @ np.abs(model.Q.T), R[:, None] * model.lengths) * (1.0 + gamma(d + 4))
        s = expit(model.m + x)
        curvature = s * (1.0 - s)
        chord = secant(model.m, x)
        delta = x * x * chord
        second = 2.0 * curvature + x * curvature * (1.0 - 2.0 * s)
        second = second - spread * (_THIRD_CONSTANT + _THIRD_SLOPE * (np.abs(x) + spread)) - 1e-14 * (2.0 + np.abs(x))
        quadratic = 2.0 * model.nu - model.slope
        total = delta.sum(axis=1)
        value = centres @ model.p + model.radius.low * c + quadratic * c * c + total
        gradient = model.p + model.radius.low * unit + 2.0 * quadratic * centres
        gradient = gradient + (x * chord + x * curvature) @ model.Q
        # Stationarity in the radial direction: the multiplier of ‖z‖² <= 1, for cells that reach beyond.
        radial = np.einsum("kj,kj->k", gradient, unit)
        eta = np.where(c + R > 1.0, np.maximum(0.0, -radial / (2.0 * positive)), 0.0)
        packed = second @ self.products
        K = np.empty((len(centres), d, d))
        K[:, self.rows, self.columns] = packed
        K[:, self.columns, self.rows] = packed
        bend = model.radius.low / (c + R)
        K = K + ((2.0 * quadratic + 2.0 * eta + bend)[:, None, None]) * np.eye(d)
        K = K - bend[:, None, None] * unit[:, :, None] * unit[:, None, :]
        K[c == 0] -= bend[c == 0][:, None, None] * np.eye(d)
        g = gradient + 2.0 * eta[:, None] * centres
        start = value + eta * (c * c - 1.0)
        low = start + _ball_minimum(K, g, R)
        size = (
            np.abs(centres) @ np.abs(model.p)
            + total
            + (model.radius.high + 2 * abs(quadratic) + 2 * eta) * (1 + c) ** 2
        )
        pull = np.linalg.norm(g, axis=1) + np.abs(x) @ model.lengths + model.radius.high
        bow = np.abs(K).sum(axis=(1, 2)) + np.abs(second) @ model.lengths**2
        rounding = gamma(model.n_data + 40 * d + 64)
        error = rounding * (size + R * pull + R * R * bow) + (c + R) * model.error_p
        margins = float(np.max(model.margin_error, initial=0.0))
        error = error + margins * (c + R) * ((np.abs(x) + spread) @ model.lengths)
        ratio = np.where(c > 0, value / positive**2, math.inf)
        return low - error, centres[int(np.argmin(ratio))]


def _ball_minimum(K: Array, g: Array, R: Array) -> Array:
    """Return lower bounds of the minimum of gᵀy + yᵀKy/2 over ‖y‖ <= R, one for each K.

    For s >= 0 with K + sI positive definite, -gᵀ(K + sI)⁻¹g/2 - sR²/2 is one (weak duality); s is found by bisection,
    and how well it is found affects the sharpness only.
    """
    eigenvalues, vectors = np.linalg.eigh(K)
    beta = np.einsum("kij,ki->kj", vectors, g)
    least = eigenvalues[:, 0]
    scale = np.abs(eigenvalues).max(axis=1) + 1e-300
    floor = np.maximum(0.0, -least) + 1e-12 * scale
    length = np.linalg.norm(beta, axis=1)
    low, high = floor, floor + scale + length / R
    # The dual increases while ‖(K + sI)⁻¹g‖ > R.
    for _ in range(40):
        s = np.sqrt(low * high)
        too_long = np.sum((beta / (eigenvalues + s[:, None])) ** 2, axis=1) > R * R
        low, high = np.where(too_long, s, low), np.where(too_long, high, s)
    return np.maximum(_dual(eigenvalues, beta, R, high), _dual(eigenvalues, beta, R, floor))


def _dual(eigenvalues: Array, beta: Array, R: Array, s: Array) -> Array:
    return -0.5 * np.sum(beta**2 / (eigenvalues + s[:, None]), axis=1) - 0.5 * s * R * R
