"""Kernels of the certificate (a section of ``solvers/_kernels.py``)."""

from __future__ import annotations

import numba
import numpy as np

# --------------------------------------------------------------------------------------------------------------
# Certificates: double-double arithmetic.  A number is an unevaluated sum high + low, |low| <= ulp(high)/2.  All
# operations are exact transformations of float64 (Dekel 1971, Knuth), so they need IEEE 754 arithmetic, round to
# nearest and no contraction to fused operations; ``fastmath`` is off.  Each dd_ operation has a relative error
# below 2^-100 (Joldes, Muller & Popescu 2017 prove at most 15·2^-106).
# --------------------------------------------------------------------------------------------------------------

_SPLITTER = 134217729.0  # 2^27 + 1: Veltkamp's splitting into halves of 26 bits; |a| > 2^996 overflows to NaN
_LN2_HIGH = 0.6931471805599453
_LN2_LOW = 2.3190468138462996e-17
# 1/k! for k = 10, ..., 0, as double-doubles
_TAYLOR_HIGH = np.array(
    [
        2.755731922398589e-07,
        2.7557319223985893e-06,
        2.48015873015873e-05,
        0.0001984126984126984,
        0.001388888888888889,
        0.008333333333333333,
        0.041666666666666664,
        0.16666666666666666,
        0.5,
        1.0,
        1.0,
    ]
)
_TAYLOR_LOW = np.array(
    [
        2.3767714622250297e-23,
        -1.858393274046472e-22,
        2.1511947866775882e-23,
        1.7209558293420705e-22,
        -5.300543954373577e-20,
        1.1564823173178714e-19,
        2.3129646346357427e-18,
        9.25185853854297e-18,
        0.0,
        0.0,
        0.0,
    ]
)
_UNIT = 2.0**-53
# An operation that underflows errs by less than 2^-1021, whether or not subnormal numbers are flushed to zero.
_TINY = 1e-300
# Below this argument e^x < 1e-299 counts as 0.
_EXP_FLOOR = -690.0


def two_sum_impl(a, b):
    """Return s, e with a + b = s + e exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product_impl(a, b):
    """Return p, e with a·b = p + e exactly, but for overflow and underflow."""
    p = a * b
    c = _SPLITTER * a
    a_high = c - (c - a)
    a_low = a - a_high
    c = _SPLITTER * b
    b_high = c - (c - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def dd_add_impl(a, a_low, b, b_low):
    """(a + a_low) + (b + b_low)."""
    s, e = two_sum(a, b)
    t, f = two_sum(a_low, b_low)
    e = e + t
    high = s + e
    e = (e - (high - s)) + f
    total = high + e
    return total, e - (total - high)


def dd_multiply_impl(a, a_low, b, b_low):
    """(a + a_low)·(b + b_low)."""
    p, e = two_product(a, b)
    e = e + (a * b_low + a_low * b)
    high = p + e
    return high, e - (high - p)


def dd_divide_impl(a, a_low, b, b_low):
    """(a + a_low)/(b + b_low), by long division with two corrections."""
    q = a / b
    p, e = dd_multiply(b, b_low, q, 0.0)
    r, r_low = dd_add(a, a_low, -p, -e)
    q2 = r / b
    p, e = dd_multiply(b, b_low, q2, 0.0)
    r, r_low = dd_add(r, r_low, -p, -e)
    q3 = r / b
    high, low = two_sum(q, q2)
    return dd_add(high, low, q3, 0.0)


def dd_exp_impl(x, x_low):
    """e^(x + x_low) for x <= 1e-3; relative error below 2^-85, plus 1e-320 where the low part underflows.

    Values below 1e-299 count as 0.  x = k ln 2 + 64 t with |t| < 0.0055.  The error has three parts: the reduction
    (2^-100·700); eleven Horner steps of 2^-99 each and the rest of the Taylor series (t^11/11! < 2^-106), which six
    squarings multiply by 64.
    """
    if x < _EXP_FLOOR:
        return 0.0, 0.0
    k = np.rint(x / _LN2_HIGH)
    p, e = dd_multiply(_LN2_HIGH, _LN2_LOW, k, 0.0)
    t, t_low = dd_add(x, x_low, -p, -e)
    t = t * 0.015625
    t_low = t_low * 0.015625
    y = _TAYLOR_HIGH[0]
    y_low = _TAYLOR_LOW[0]
    for i in range(1, _TAYLOR_HIGH.size):
        y, y_low = dd_multiply(y, y_low, t, t_low)
        y, y_low = dd_add(y, y_low, _TAYLOR_HIGH[i], _TAYLOR_LOW[i])
    for _ in range(6):
        y, y_low = dd_multiply(y, y_low, y, y_low)
    scale = 2.0**k
    return y * scale, y_low * scale


def dd_expit_impl(x, x_low):
    """σ(x + x_low) = 1/(1 + e^-x); relative error below 2^-84, plus 1e-299 where the exponential counts as 0."""
    if x > 0.0:
        e, e_low = dd_exp(-x, -x_low)
        s, s_low = dd_add(1.0, 0.0, e, e_low)
        return dd_divide(1.0, 0.0, s, s_low)
    e, e_low = dd_exp(x, x_low)
    s, s_low = dd_add(1.0, 0.0, e, e_low)
    return dd_divide(e, e_low, s, s_low)


def slopes_impl(kind, m, m_low, m_error, labels, s, s_low, s_error):
    """φ'(m, a) of one data point as double-doubles, with a bound on the error of each.

    ``kind`` is 0 for least squares, 1 for logistic, 2 for multinomial; arrays of length K.

    A margin that is known up to δ changes σ, and each softmax probability, by a factor between e^(-2δ) and
    e^(2δ), hence by at most a fraction 4δ where δ <= 1/4, and never by more than 1.
    """
    size = m.size
    if kind == 0:
        s[0], s_low[0] = dd_add(m[0], m_low[0], -labels[0], 0.0)
        s_error[0] = m_error[0] + 2.0**-100 * (abs(m[0]) + abs(labels[0]))
        return
    if kind == 1:
        a = labels[0]
        p, p_low = dd_expit(-a * m[0], -a * m_low[0])
        s[0] = -a * p
        s_low[0] = -a * p_low
        s_error[0] = abs(p) * (4.0 * m_error[0] + 2.0**-84) + _TINY * 10.0
        if not m_error[0] <= 0.25:
            s_error[0] = 1.0 + m_error[0]
        return
    top = 0
    delta = 0.0
    for k in range(size):
        if m[k] > m[top]:
            top = k
        delta = max(delta, m_error[k])
    total = 0.0
    total_low = 0.0
    mass = 0.0
    mass_low = 0.0
    for k in range(size):
        x, x_low = dd_add(m[k], m_low[k], -m[top], -m_low[top])
        s[k], s_low[k] = dd_exp(x, x_low)
        total, total_low = dd_add(total, total_low, s[k], s_low[k])
        mass, mass_low = dd_add(mass, mass_low, labels[k], 0.0)
    for k in range(size):
        p, p_low = dd_divide(s[k], s_low[k], total, total_low)
        p, p_low = dd_multiply(p, p_low, mass, mass_low)
        s[k], s_low[k] = dd_add(p, p_low, -labels[k], 0.0)
        s_error[k] = abs(p) * (4.0 * delta + 2.0**-82) + 2.0**-98 * (abs(p) + labels[k]) + _TINY * 10.0 * size
        if not delta <= 0.25:
            s_error[k] = 2.0 * (mass + delta)


def data_gradients_impl(Q, labels, start, stop, thetas, thetas_low, kind, high, low, error, first, last):
    """Σ_i Q_i φ'(Q_iᵀθ_n, a_i) straight from the data, as double-doubles, for the users first <= n < last.

    ``labels`` (rows, K); ``thetas + thetas_low`` (N, K, d) are the models, as normalized double-doubles; ``error`` (N,)
    bounds the Euclidean norm of what ``high + low`` (N, K, d) lacks.  About 60 flops for each entry of Q and each of
    the K outputs.

    A sum of n products x_j y_j with compensation (Ogita, Rump & Oishi 2005) errs by at most
    ((n + 1) u)² (1 + small) Σ|x_j y_j|; the factors 2 and the larger counts below cover what is small, including
    the rounding of products with low parts and of the bounds themselves.
    """
    n_outputs, dim = thetas.shape[1], thetas.shape[2]
    q_high = np.empty(dim)
    q_low = np.empty(dim)
    t_high = np.empty((n_outputs, dim))
    t_low = np.empty((n_outputs, dim))
    m = np.empty(n_outputs)
    m_low = np.empty(n_outputs)
    m_error = np.empty(n_outputs)
    s = np.empty(n_outputs)
    s_low = np.empty(n_outputs)
    s_error = np.empty(n_outputs)
    margin_factor = 2.0 * ((dim + 3.0) * _UNIT) ** 2
    for n in range(first, last):
        sum_factor = 2.0 * ((stop[n] - start[n] + 4.0) * _UNIT) ** 2
        for k in range(n_outputs):
            for j in range(dim):
                c = _SPLITTER * thetas[n, k, j]
                t_high[k, j] = c - (c - thetas[n, k, j])
                t_low[k, j] = thetas[n, k, j] - t_high[k, j]
                high[n, k, j] = 0.0
                low[n, k, j] = 0.0
        total_error = 0.0
        for i in range(start[n], stop[n]):
            # margins: Q[i] @ thetas[n].T
            length = 0.0
            for j in range(dim):
                q = Q[i, j]
                c = _SPLITTER * q
                q_high[j] = c - (c - q)
                q_low[j] = q - q_high[j]
                length += abs(q)
            for k in range(n_outputs):
                total = 0.0
                compensation = 0.0
                size = 0.0
                for j in range(dim):
                    p = Q[i, j] * thetas[n, k, j]
                    e = (q_high[j] * t_high[k, j] - p) + q_high[j] * t_low[k, j] + q_low[j] * t_high[k, j]
                    e = (e + q_low[j] * t_low[k, j]) + Q[i, j] * thetas_low[n, k, j]
                    new = total + p
                    t = new - total
                    compensation += ((total - (new - t)) + (p - t)) + e
                    total = new
                    size += abs(p)
                m[k], m_low[k] = two_sum(total, compensation)
                m_error[k] = margin_factor * size + dim * _TINY
            slopes(kind, m, m_low, m_error, labels[i], s, s_low, s_error)
            # high[n] + low[n] += np.outer(s, Q[i])
            for k in range(n_outputs):
                total_error += length * (sum_factor * abs(s[k]) + s_error[k]) + dim * _TINY
                c = _SPLITTER * s[k]
                s_high = c - (c - s[k])
                s_rest = s[k] - s_high
                for j in range(dim):
                    p = Q[i, j] * s[k]
                    e = ((q_high[j] * s_high - p) + q_high[j] * s_rest + q_low[j] * s_high) + q_low[j] * s_rest
                    new = high[n, k, j] + p
                    t = new - high[n, k, j]
                    low[n, k, j] += ((high[n, k, j] - (new - t)) + (p - t)) + (e + Q[i, j] * s_low[k])
                    high[n, k, j] = new
        error[n] = 1.01 * total_error
    return 0


_compile = numba.njit(cache=True, nogil=True, error_model="numpy")
two_sum = _compile(two_sum_impl)
two_product = _compile(two_product_impl)
dd_add = _compile(dd_add_impl)
dd_multiply = _compile(dd_multiply_impl)
dd_divide = _compile(dd_divide_impl)
dd_exp = _compile(dd_exp_impl)
dd_expit = _compile(dd_expit_impl)
slopes = _compile(slopes_impl)
data_gradients = _compile(data_gradients_impl)
