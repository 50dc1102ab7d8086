"""Arithmetic of the certificates: numbers and vectors that carry a bound on their error.

==================  =====================================================================================
:class:`Interval`   real numbers between two float64 bounds, every operation rounded outward
:class:`Twofold`    vectors in double-double with a bound on the Euclidean norm of their error
:class:`Balls`      vectors in ball arithmetic (Arb, through python-flint)
==================  =====================================================================================

The two kinds of vectors have the same methods, so that a certificate is written once.  All they assume is IEEE 754
arithmetic, rounded to nearest.  NaN always becomes the interval [-∞, ∞], so it refuses.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.arrays import Array
from theory.regularizers import norms

Mask = NDArray[np.bool_]
UNIT = 2.0**-53
# Relative error of one double-double operation on vectors; 15·2^-106 is proved for the worst, division.
_TWOFOLD = 2.0**-100
# Bounds the error of any operation that underflows, subnormal numbers flushed or not.
TINY = 1e-300


class Interval:
    """Arrays of real numbers, each known to lie between ``low`` and ``high``.

    Comparisons are certain or false: ``(x < y)[i]`` is true only if every number of x[i] is below every one of
    y[i].

    Examples
    --------
    >>> third = Interval(1.0) / 3.0
    >>> bool(third.low < third.high), bool(3.0 * third < 1.0), bool(third < 0.34)
    (True, False, True)
    """

    __array_ufunc__ = None  # NumPy arrays leave the operators to this class

    def __init__(self, low: Any, high: Any = None) -> None:
        self.low = np.asarray(low, dtype=np.float64)
        self.high = self.low if high is None else np.asarray(high, dtype=np.float64)
        unknown = np.isnan(self.low + self.high)
        if unknown.any():
            # ∞ - ∞ is NaN too, but [-∞, ∞] stays what it is.
            self.low, self.high = np.where(unknown, -np.inf, self.low), np.where(unknown, np.inf, self.high)

    @classmethod
    def around(cls, value: Any, error: Any) -> Interval:
        """Return [value - error, value + error]."""
        return cls(_down(value - error), _up(value + error))

    def __getitem__(self, index: Any) -> Interval:
        return Interval(self.low[index], self.high[index])

    def __len__(self) -> int:
        return len(self.low)

    def __add__(self, other: Any) -> Interval:
        other = _interval(other)
        return Interval(_down(self.low + other.low), _up(self.high + other.high))

    def __sub__(self, other: Any) -> Interval:
        other = _interval(other)
        return Interval(_down(self.low - other.high), _up(self.high - other.low))

    def __mul__(self, other: Any) -> Interval:
        other = _interval(other)
        products = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        # 0·∞ is NaN here and spreads: fmin and fmax would hide it.
        return Interval(_down(_fold(np.minimum, products)), _up(_fold(np.maximum, products)))

    def __truediv__(self, other: Any) -> Interval:
        other = _interval(other)
        quotients = [a / b for a in (self.low, self.high) for b in (other.low, other.high)]
        has_zero = (other.low <= 0) & (other.high >= 0)
        low = np.where(has_zero, -np.inf, _fold(np.minimum, quotients))
        high = np.where(has_zero, np.inf, _fold(np.maximum, quotients))
        return Interval(_down(low), _up(high))

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Interval:
        return _interval(other) - self

    def __rtruediv__(self, other: Any) -> Interval:
        return _interval(other) / self

    def __lt__(self, other: Any) -> Any:
        return self.high < _interval(other).low

    def __gt__(self, other: Any) -> Any:
        return self.low > _interval(other).high

    def sqrt(self) -> Interval:
        """√x of nonnegative numbers (what an enclosure holds below 0 is no such number)."""
        low = np.sqrt(np.maximum(self.low, 0.0))
        return Interval(np.maximum(_down(low), 0.0), _up(np.sqrt(np.maximum(self.high, 0.0))))

    def total(self) -> Interval:
        """Σ x_i; 0 of nothing."""
        return Interval(_down(_sum(self.low)), _up(_sum(self.high)))

    def largest(self) -> Interval:
        """The maximum of the x_i and 0."""
        return Interval(np.max(self.low, initial=0.0), np.max(self.high, initial=0.0))

    def __repr__(self) -> str:
        return f"Interval({self.low}, {self.high})"


def minimum(*values: Interval) -> Interval:
    """The least of several upper bounds of one number, elementwise."""
    return Interval(_fold(np.minimum, [v.low for v in values]), _fold(np.minimum, [v.high for v in values]))


def _interval(value: Any) -> Interval:
    return value if isinstance(value, Interval) else Interval(value)


def _down(value: Any) -> Array:
    return np.nextafter(value, -np.inf)


def _up(value: Any) -> Array:
    return np.nextafter(value, np.inf)


def _fold(function: Callable[[Any, Any], Any], values: list[Any]) -> Any:
    result = values[0]
    for value in values[1:]:
        result = function(result, value)
    return result


def _sum(values: Array) -> float:
    # fsum is correctly rounded, so one step outward covers it; it raises where a partial sum overflows.
    if not np.isfinite(values).all():
        return float(np.sum(values))
    try:
        return math.fsum(np.ravel(values).tolist())
    except OverflowError:
        return math.nan


# --------------------------------------------------------------------------------------------------------------
# Double-double arithmetic on arrays: exact transformations of Dekel and Knuth, as in the kernels.
# --------------------------------------------------------------------------------------------------------------

Pair = tuple[Array, Array]


def two_sum(a: Any, b: Any) -> Pair:
    """Return s, e with a + b = s + e exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _two_product(a: Any, b: Any) -> Pair:
    p = a * b
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: Any) -> Pair:
    c = 134217729.0 * a
    high = c - (c - a)
    return high, a - high


def _add(x: Pair, y: Pair) -> Pair:
    s, e = two_sum(x[0], y[0])
    t, f = two_sum(x[1], y[1])
    s, e = two_sum(s, e + t)
    return two_sum(s, e + f)


def _multiply(x: Pair, y: Pair) -> Pair:
    p, e = _two_product(x[0], y[0])
    return two_sum(p, e + (x[0] * y[1] + x[1] * y[0]))


def _divide(x: Pair, y: Pair) -> Pair:
    quotient = x[0] / y[0]
    result = (quotient, np.zeros_like(quotient))
    for _ in range(2):
        product = _multiply(y, (quotient, np.zeros_like(quotient)))
        x = _add(x, (-product[0], -product[1]))
        quotient = x[0] / y[0]
        result = _add(result, (quotient, np.zeros_like(quotient)))
    return result


def _square_root(x: Pair) -> Pair:
    root = np.sqrt(x[0])
    square = _two_product(root, root)
    rest = _add(x, (-square[0], -square[1]))[0]
    return two_sum(root, rest / (2.0 * root))


def _tree_sum(x: Pair, axis: int) -> Pair:
    """Sum over ``axis`` by pairs, so that rounding grows with the logarithm of the number of terms."""
    high, low = np.moveaxis(x[0], axis, 0), np.moveaxis(x[1], axis, 0)
    if len(high) == 0:
        return np.zeros(high.shape[1:]), np.zeros(high.shape[1:])
    while len(high) > 1:
        half = len(high) // 2
        head = _add((high[:half], low[:half]), (high[half : 2 * half], low[half : 2 * half]))
        high = np.concatenate([head[0], high[2 * half :]])
        low = np.concatenate([head[1], low[2 * half :]])
    return high[0], low[0]


class Vectors(ABC):
    """Vectors (..., P) with enclosed errors: the operations that :class:`Twofold` and :class:`Balls` share."""

    @classmethod
    @abstractmethod
    def difference(cls, x: Array, y: Array) -> Any:
        """Return x - y of float64 vectors."""

    @abstractmethod
    def __getitem__(self, index: Any) -> Any: ...

    @abstractmethod
    def __neg__(self) -> Any: ...

    @abstractmethod
    def __add__(self, other: Any) -> Any: ...

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    @abstractmethod
    def times(self, factors: Any) -> Any:
        """Multiply each vector by a float64 factor, ``factors`` of shape (...)."""

    @abstractmethod
    def over_length(self, one: float) -> Any:
        r"""Return :math:`z/\sqrt{one + \|z\|^2}` for ``one`` 0 or 1; NaN where this is 0/0."""

    @abstractmethod
    def total(self) -> Any:
        """Return the sum over the first axis."""

    @abstractmethod
    def norms(self) -> Interval:
        """‖·‖₂ of each vector."""

    @abstractmethod
    def dot(self, other: Any) -> Interval:
        """Return the scalar products."""

    @abstractmethod
    def replaced(self, mask: Mask, other: Any) -> Any:
        """Return these vectors, with those of ``other`` where ``mask``."""

    @abstractmethod
    def rounded(self) -> Array:
        """Return the nearest float64 vectors, without their error."""


class Twofold(Vectors):
    """Vectors ``high + low`` (..., P) in double-double; the true ones differ by at most ``error`` (...) in norm.

    Examples
    --------
    >>> x = Twofold(np.array([[1.0, 0.0]])) + Twofold(np.array([[1e-20, 0.0]]))
    >>> float(x.high[0, 0]), float(x.low[0, 0])
    (1.0, 1e-20)
    """

    def __init__(self, high: Array, low: Array | None = None, error: Any = 0.0) -> None:
        high = np.asarray(high, dtype=np.float64)
        self.high, self.low = two_sum(high, np.zeros_like(high) if low is None else low)
        self.error = np.broadcast_to(np.asarray(error, dtype=np.float64), self.high.shape[:-1])

    @classmethod
    def difference(cls, x: Array, y: Array) -> Twofold:
        return cls(*two_sum(x, -y))

    def dot(self, other: Any) -> Interval:
        products = np.sum(self.high * other.high, axis=-1)
        sizes, others = norms(self.high), norms(other.high)
        rounding = (self.high.shape[-1] + 8.0) * UNIT * sizes * others + self.error * (others + other.error)
        return Interval.around(products, _rounded_up(rounding + sizes * other.error + TINY))

    def __getitem__(self, index: Any) -> Twofold:
        return Twofold(self.high[index], self.low[index], self.error[index])

    def __neg__(self) -> Twofold:
        return Twofold(-self.high, -self.low, self.error)

    def __add__(self, other: Any) -> Twofold:
        high, low = _add((self.high, self.low), (other.high, other.low))
        rounding = _TWOFOLD * (norms(self.high) + norms(other.high)) + TINY
        return Twofold(high, low, _rounded_up(self.error + other.error + rounding))

    def times(self, factors: Any) -> Twofold:
        factors = np.asarray(factors, dtype=np.float64)
        column = factors[..., None]
        high, low = _multiply((self.high, self.low), (column, np.zeros_like(column)))
        return Twofold(high, low, _rounded_up(np.abs(factors) * self.error + _TWOFOLD * norms(high) + TINY))

    def over_length(self, one: float) -> Twofold:
        exponent = np.zeros(self.high.shape[:-1], dtype=np.int64)
        if one == 0.0:
            # z/‖z‖ does not change with scale, so a power of two brings z near 1: no overflow, no underflow.
            exponent = -np.frexp(np.max(np.abs(self.high), axis=-1, initial=0.0))[1].astype(np.int64)
        z = np.ldexp(self.high, exponent[..., None]), np.ldexp(self.low, exponent[..., None])
        error = np.ldexp(self.error, exponent)
        square = _add(_tree_sum(_multiply(z, z), axis=-1), (np.asarray(one), np.asarray(0.0)))
        root = _square_root(square)
        high, low = _divide(z, (root[0][..., None], root[1][..., None]))
        # P products, log2 P sums, a square root and a division each add at most 2^-100 to the relative error.
        rounding = (self.high.shape[-1] + 16.0) * _TWOFOLD * norms(high) + TINY
        # The map moves by at most 4‖δ‖/√(one + ‖z‖²) when z moves by δ, however large δ is.
        return Twofold(high, low, _rounded_up(rounding + np.where(error > 0, 4.0 * error / root[0], 0.0)))

    def total(self) -> Twofold:
        high, low = _tree_sum((self.high, self.low), axis=0)
        depth = 2.0 + math.log2(max(len(self.high), 1))
        rounding = depth * _TWOFOLD * np.sum(norms(self.high), axis=0) + TINY
        return Twofold(high, low, _rounded_up(np.sum(self.error, axis=0) + rounding))

    def norms(self) -> Interval:
        sizes = norms(self.high)
        # Rounding of high + low to high, of P squares and their sum, of a square root and two scalings.
        return Interval.around(sizes, _rounded_up((self.high.shape[-1] + 12.0) * UNIT * sizes + self.error))

    def replaced(self, mask: Mask, other: Any) -> Twofold:
        column = mask[..., None]
        high, low = np.where(column, other.high, self.high), np.where(column, other.low, self.low)
        return Twofold(high, low, np.where(mask, other.error, self.error))

    def rounded(self) -> Array:
        return self.high


def _rounded_up(error: Any) -> Any:
    # Bounds of errors are themselves sums of nonnegative terms, whose rounding this covers.
    return error * (1.0 + 1e-9)


class Balls(Vectors):
    """Vectors whose entries are balls: an object array (..., P) of ``flint.arb``, at the precision in force.

    Examples
    --------
    >>> bool(Balls(np.array([[3.0, 4.0]])).norms()[0] > 4.9)
    True
    """

    def __init__(self, values: Any) -> None:
        from flint import arb

        values = np.asarray(values)
        self.values = values if values.dtype == object else np.asarray(np.frompyfunc(arb, 1, 1)(values), dtype=object)

    @classmethod
    def difference(cls, x: Array, y: Array) -> Balls:
        return cls(x) - cls(y)

    def dot(self, other: Any) -> Interval:
        return ball_interval(np.sum(self.values * other.values, axis=-1))

    def __getitem__(self, index: Any) -> Balls:
        return Balls(self.values[index])

    def __neg__(self) -> Balls:
        return Balls(-self.values)

    def __add__(self, other: Any) -> Balls:
        return Balls(self.values + other.values)

    def times(self, factors: Any) -> Balls:
        return Balls(self.values * Balls(np.asarray(factors, dtype=np.float64)[..., None]).values)

    def over_length(self, one: float) -> Balls:
        square = np.sum(self.values * self.values, axis=-1, keepdims=True) + one
        return Balls(self.values / np.frompyfunc(lambda x: x.sqrt(), 1, 1)(square))

    def total(self) -> Balls:
        return Balls(np.sum(self.values, axis=0) if len(self.values) else np.zeros(self.values.shape[1:]))

    def norms(self) -> Interval:
        squares = np.sum(self.values * self.values, axis=-1)
        low = np.frompyfunc(lambda x: x.lower().nonnegative_part().sqrt(), 1, 1)(squares)
        high = np.frompyfunc(lambda x: x.upper().nonnegative_part().sqrt(), 1, 1)(squares)
        return Interval(np.maximum(ball_interval(low).low, 0.0), ball_interval(high).high)

    def replaced(self, mask: Mask, other: Any) -> Balls:
        return Balls(np.where(mask[..., None], other.values, self.values))

    def rounded(self) -> Array:
        return np.asarray(self.values, dtype=np.float64)


def ball_interval(values: Any) -> Interval:
    """Enclose balls in float64 bounds."""
    # Conversion rounds to a neighbour of the bound, so one step outward covers it.
    low = np.frompyfunc(lambda x: float(x.lower()), 1, 1)(values)
    high = np.frompyfunc(lambda x: float(x.upper()), 1, 1)(values)
    return Interval(_down(np.asarray(low, dtype=np.float64)), _up(np.asarray(high, dtype=np.float64)))
