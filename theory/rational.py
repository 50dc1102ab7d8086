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
    """Return integers n (an array of objects) and the least shift k >= 0 with ``values`` = n / 2^k, exactly.

    Examples
    --------
    >>> n, k = integers(np.array([0.5, 3.0]))
    >>> n.tolist(), k
    ([1, 6], 1)
    """
    # Ratios in lowest terms, with powers of 2 below the line: the largest of them is the least that fits all.
    ratios = [float(value).as_integer_ratio() for value in values.ravel()]
    common = max((denominator for _, denominator in ratios), default=1)
    out = np.empty(len(ratios), dtype=object)
    out[:] = [numerator * (common // denominator) for numerator, denominator in ratios]
    return out.reshape(values.shape), common.bit_length() - 1


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
    common = math.lcm(*[Fraction(x).denominator for x in matrix.ravel()])
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
    if base <= 1 or exponent.denominator <= _LARGEST_ROOT:
        # x^(p/q) in lowest terms is rational only if x is a perfect q-th power, as 0 and 1 always are.
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
    # √(n/m) = √(n m 4^k) / (m 2^k), with k such that the root has at least 300 bits.  In lowest terms n/m is a square
    # if and only if n m is.
    k = max(0, 300 - (n * m).bit_length() // 2)
    square = n * m << (2 * k)
    root = math.isqrt(square)
    low = Fraction(root, m << k)
    return Enclosure(low, low if root**2 == square else Fraction(root + 1, m << k))


def _integer_root(value: int, order: int) -> int:
    """Return the largest integer r with r^order <= value, for a value >= 0."""
    # The root of a number of b bits has at most ⌈b / order⌉.
    low, high = 0, (1 << -(-value.bit_length() // order)) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if middle**order <= value:
            low = middle
        else:
            high = middle - 1
    return low
