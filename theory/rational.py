r"""Exact arithmetic on float64 data: every float64 is a rational number, so sums and products of data have no error.

Used where floating point cannot decide: equalities such as :math:`\|p\| = B\mathcal I^\alpha`, and certificates that
must be right to the last bit.  Only the standard library's integers, fractions and decimals are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from theory.arrays import Array

#: Decimal digits of an enclosure of an irrational power.
DIGITS = 80
# The denominator of an exponent up to which an exact root is looked for.
_LARGEST_ROOT = 1024


@dataclass(frozen=True)
class Enclosure:
    """A real number between two rationals; exact where they are equal."""

    low: Fraction
    high: Fraction

    def scaled(self, factor: Fraction) -> Enclosure:
        """Return ``factor`` times this number, for ``factor`` >= 0."""
        return Enclosure(self.low * factor, self.high * factor)


def integers(values: Array) -> tuple[np.ndarray, int]:
    """Return integers n (an array of objects) and a shift k with ``values`` = n / 2^k, exactly.

    Examples
    --------
    >>> n, k = integers(np.array([0.5, 3.0]))
    >>> n.tolist(), k
    ([1, 6], 1)
    """
    # A float has 53 bits, so its denominator is 2^(53 - exponent) at most.
    _, exponents = np.frexp(values[values != 0]) if np.any(values) else (None, np.zeros(1, dtype=int))
    shift = max(0, 53 - int(exponents.min()))
    scaled = [int(Fraction(float(value)) * (1 << shift)) for value in values.ravel()]
    common = _trailing_zeros(scaled)
    common = min(common, shift)
    out = np.empty(len(scaled), dtype=object)
    out[:] = [value >> common for value in scaled]
    return out.reshape(values.shape), shift - common


def _trailing_zeros(values: list[int]) -> int:
    bits = 0
    for value in values:
        bits |= abs(value)
    return (bits & -bits).bit_length() - 1 if bits else 10**9


def fractions(values: Any) -> np.ndarray:
    """Return the array of objects whose entries are ``values`` as fractions."""
    array = np.asarray(values, dtype=np.float64)
    out = np.empty(array.size, dtype=object)
    out[:] = [Fraction(float(value)) for value in array.ravel()]
    return out.reshape(array.shape)


def least_squares_model(Q: Array, a: Array, theta: Array, nu: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Return :math:`Q^TQ + 2\nu I` and :math:`Q^T(Q\theta - a) + 2\nu\theta` exactly, as arrays of fractions.

    Examples
    --------
    >>> H, g = least_squares_model(np.array([[0.5]]), np.array([0.25]), np.array([1.0]), 0.0)
    >>> H[0, 0], g[0]
    (Fraction(1, 4), Fraction(1, 8))
    """
    d = Q.shape[1]
    Qn, q = integers(Q)
    theta_f, nu_f = fractions(theta), Fraction(float(nu))
    tn, t = integers(theta)
    an, s = integers(a)
    gram = Qn.T.dot(Qn)
    H = np.array([[Fraction(int(x), 1 << (2 * q)) for x in row] for row in gram], dtype=object).reshape(d, d)
    # Q θ - a over the common denominator 2^(q + t + s).
    residual = Qn.dot(tn) * (1 << s) - an * (1 << (q + t))
    g = np.array([Fraction(int(x), 1 << (2 * q + t + s)) for x in Qn.T.dot(residual)], dtype=object)
    for j in range(d):
        H[j, j] += 2 * nu_f
        g[j] += 2 * nu_f * theta_f[j]
    return H, g


def is_positive_semidefinite(matrix: np.ndarray) -> bool:
    """Whether a symmetric matrix of fractions is positive semidefinite, exactly (LDLᵀ by Bareiss' recurrence).

    Bareiss' fraction-free elimination keeps integers: each entry is a minor.  With a zero on the diagonal of what is
    left, semidefiniteness demands a zero row, which is then left out; a negative diagonal entry refutes it.

    Examples
    --------
    >>> is_positive_semidefinite(np.array([[Fraction(1), Fraction(1)], [Fraction(1), Fraction(1)]], dtype=object))
    True
    >>> is_positive_semidefinite(np.array([[Fraction(0), Fraction(1)], [Fraction(1), Fraction(5)]], dtype=object))
    False
    """
    n = matrix.shape[0]
    common = math.lcm(*[Fraction(x).denominator for x in matrix.ravel()]) if n else 1
    rows = [[int(Fraction(x) * common) for x in row] for row in matrix]
    previous = 1
    for k in range(n):
        pivot = rows[k][k]
        if pivot < 0:
            return False
        if pivot == 0:
            if any(rows[k][j] != 0 for j in range(k + 1, n)):
                return False
            continue
        for i in range(k + 1, n):
            factor = rows[i][k]
            for j in range(i, n):
                rows[i][j] = (pivot * rows[i][j] - factor * rows[k][j]) // previous
                rows[j][i] = rows[i][j]
        previous = pivot
    return True


def power(base: int, exponent: Fraction) -> Enclosure:
    r"""Enclose ``base ** exponent`` for an integer base >= 0; exact wherever the power is rational.

    0 to the power 0 is 1, as in ``0.0 ** 0``.

    Raises
    ------
    ZeroDivisionError
        ``base = 0`` with a negative exponent.

    Examples
    --------
    >>> power(16, Fraction(3, 4)).low, power(2, Fraction(1, 2)).low ** 2 < 2
    (Fraction(8, 1), True)
    """
    if base == 0 and exponent < 0:
        raise ZeroDivisionError("0 to a negative power")
    if base in (0, 1) or exponent.denominator == 1:
        # 0 and 1 keep their value under every power > 0, and 0 to the power 0 is 1.
        exact = Fraction(base) ** (exponent.numerator if exponent.denominator == 1 else 1)
        return Enclosure(exact, exact)
    if exponent.denominator <= _LARGEST_ROOT:
        # x^(p/q) in lowest terms is rational only if x is a perfect q-th power.
        root = _integer_root(base, exponent.denominator)
        if root**exponent.denominator == base:
            exact = Fraction(root) ** exponent.numerator
            return Enclosure(exact, exact)
    context = Context(prec=DIGITS + 10)
    p = context.divide(Decimal(exponent.numerator), Decimal(exponent.denominator))
    value = Fraction(context.exp(context.multiply(p, context.ln(Decimal(base)))))
    # Three roundings to DIGITS + 10 digits; the exponent p·ln(base) is below 10^5 for every float64 exponent in use.
    # The constant covers a power so small that it underflows.
    error = value / 10**DIGITS + Fraction(1, 10**1000)
    return Enclosure(value - error, value + error)


def square_root(value: Fraction) -> Enclosure:
    """Enclose the square root of a fraction >= 0; exact where it is rational.

    Examples
    --------
    >>> square_root(Fraction(9, 4)).low
    Fraction(3, 2)
    """
    n, m = value.numerator, value.denominator
    if math.isqrt(n) ** 2 == n and math.isqrt(m) ** 2 == m:
        exact = Fraction(math.isqrt(n), math.isqrt(m))
        return Enclosure(exact, exact)
    # √(n/m) = √(n m 4^k) / (m 2^k), with k such that the root has at least 300 bits.
    k = max(0, 300 - (n * m).bit_length() // 2)
    root = math.isqrt(n * m << (2 * k))
    return Enclosure(Fraction(root, m << k), Fraction(root + 1, m << k))


def _integer_root(value: int, order: int) -> int:
    if order >= value.bit_length():
        return 1
    low, high = 1, 1 << (value.bit_length() // order + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if middle**order <= value:
            low = middle
        else:
            high = middle - 1
    return low
