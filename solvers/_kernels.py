"""All compiled code of Equipoise, and nothing else.

Each kernel is a plain function over contiguous float64 arrays, compiled in one line at the end of the module, so
that it can be read, tested and mutated without compilation (``NUMBA_DISABLE_JIT=1``).  A kernel works on the users
``first <= n < last`` and writes only to their rows, so that several threads can share a call; it releases the
interpreter lock, raises nothing and returns a status (0 = done, otherwise 1 + the index of the user where it
failed).  ``fastmath`` is off, but for sums over one row of a large problem (``_compile_sums``).

Symmetric matrices live in row-major storage and only their lower triangle is read or written, unless stated
otherwise.  BLAS and LAPACK are called through SciPy's Cython interface by symbol name, which (unlike a function
pointer) Numba can cache on disk.

Notation: user n has queries ``Q[start[n]:stop[n]]`` (ℐ, d); N users, P parameters.
"""

from __future__ import annotations

import numba
import numpy as np
import scipy.linalg

_JIT = not getattr(numba.config, "DISABLE_JIT", False)  # set when Numba is imported, from NUMBA_DISABLE_JIT


# --------------------------------------------------------------------------------------------------------------
# BLAS and LAPACK on row-major arrays.  A row-major lower triangle is a column-major upper one, hence "U" below.
# --------------------------------------------------------------------------------------------------------------

if _JIT:
    import llvmlite.binding
    from numba.extending import get_cython_function_address

    def _external(name, module, n_arguments):
        symbol = "equipoise_" + name
        llvmlite.binding.add_symbol(symbol, get_cython_function_address(module, name))
        return numba.types.ExternalFunction(symbol, numba.types.void(*[numba.types.intp] * n_arguments))

    _dsyrk = _external("dsyrk", "scipy.linalg.cython_blas", 10)
    _ssyrk = _external("ssyrk", "scipy.linalg.cython_blas", 10)
    _dsymv = _external("dsymv", "scipy.linalg.cython_blas", 10)
    _dpotrf = _external("dpotrf", "scipy.linalg.cython_lapack", 5)
    _dpotri = _external("dpotri", "scipy.linalg.cython_lapack", 5)
    _dpotrs = _external("dpotrs", "scipy.linalg.cython_lapack", 8)
    _dsyevd = _external("dsyevd", "scipy.linalg.cython_lapack", 11)

    def gram_add(X, alpha, C):
        """C += alpha XᵀX, lower triangle; rows·P² flops."""
        rows, size = X.shape
        if rows == 0:
            return
        ints = np.array([size, rows], dtype=np.int32)
        reals = np.array([alpha, 1.0])
        flags = np.array([85, 78], dtype=np.uint8)  # "U", "N"
        i, r, f = ints.ctypes.data, reals.ctypes.data, flags.ctypes.data
        _dsyrk(f, f + 1, i, i + 4, r, X.ctypes.data, i, r + 8, C.ctypes.data, i)

    def gram_add_single(X, C):
        """C += XᵀX in single precision, lower triangle; rows·P² flops at twice the speed."""
        rows, size = X.shape
        if rows == 0:
            return
        ints = np.array([size, rows], dtype=np.int32)
        reals = np.array([1.0], dtype=np.float32)
        flags = np.array([85, 78], dtype=np.uint8)  # "U", "N"
        i, r, f = ints.ctypes.data, reals.ctypes.data, flags.ctypes.data
        _ssyrk(f, f + 1, i, i + 4, r, X.ctypes.data, i, r, C.ctypes.data, i)

    def symmetric_times(H, x, out):
        """out = H x from the lower triangle of H; 2P² flops."""
        ints = np.array([H.shape[0], 1], dtype=np.int32)
        reals = np.array([1.0, 0.0])
        flags = np.array([85], dtype=np.uint8)
        i, r = ints.ctypes.data, reals.ctypes.data
        _dsymv(flags.ctypes.data, i, r, H.ctypes.data, i, x.ctypes.data, i + 4, r + 8, out.ctypes.data, i + 4)

    def cholesky(K):
        """Overwrite the lower triangle of K by L with K = L Lᵀ; 1 if K is not positive definite. P³/3 flops."""
        ints = np.array([K.shape[0], 0], dtype=np.int32)
        flags = np.array([85], dtype=np.uint8)
        i = ints.ctypes.data
        _dpotrf(flags.ctypes.data, i, K.ctypes.data, i, i + 4)
        return 0 if ints[1] == 0 else 1

    def cholesky_inverse(L):
        """Overwrite the lower triangle L by that of (L Lᵀ)⁻¹; 2P³/3 flops."""
        ints = np.array([L.shape[0], 0], dtype=np.int32)
        flags = np.array([85], dtype=np.uint8)
        i = ints.ctypes.data
        _dpotri(flags.ctypes.data, i, L.ctypes.data, i, i + 4)
        return 0 if ints[1] == 0 else 1

    def cholesky_solve(L, x):
        """Overwrite x by (L Lᵀ)⁻¹ x; 2P² flops."""
        ints = np.array([L.shape[0], 1, 0], dtype=np.int32)
        flags = np.array([85], dtype=np.uint8)
        i = ints.ctypes.data
        _dpotrs(flags.ctypes.data, i, i + 4, L.ctypes.data, i, x.ctypes.data, i, i + 8)

    def eigenbasis_rows(H, values, work, iwork):
        """Overwrite H = Vᵀ diag(values) V by V, whose rows are eigenvectors; 1 on failure. About 9P³ flops."""
        ints = np.array([H.shape[0], work.size, iwork.size, 0], dtype=np.int32)
        flags = np.array([86, 85], dtype=np.uint8)  # "V", "U"
        i, f = ints.ctypes.data, flags.ctypes.data
        w, iw = work.ctypes.data, iwork.ctypes.data
        _dsyevd(f, f + 1, i, H.ctypes.data, i, values.ctypes.data, w, i + 4, iw, i + 8, i + 12)
        return 0 if ints[3] == 0 else 1

else:

    def gram_add(X, alpha, C):
        """C += alpha XᵀX."""
        C += alpha * (X.T @ X)

    def gram_add_single(X, C):
        """C += XᵀX in single precision."""
        C += X.T @ X

    def symmetric_times(H, x, out):
        """out = H x from the lower triangle of H."""
        out[:] = np.tril(H) @ x + np.tril(H, -1).T @ x

    def cholesky(K):
        """Overwrite the lower triangle of K by L with K = L Lᵀ; 1 if K is not positive definite."""
        lower = np.tril(K)
        try:
            K[:] = np.linalg.cholesky(lower + np.tril(K, -1).T)
        except np.linalg.LinAlgError:
            return 1
        return 0

    def cholesky_inverse(L):
        """Overwrite the lower triangle L by that of (L Lᵀ)⁻¹."""
        L[:] = scipy.linalg.cho_solve((np.tril(L), True), np.eye(L.shape[0]))
        return 0

    def cholesky_solve(L, x):
        """Overwrite x by (L Lᵀ)⁻¹ x."""
        x[:] = scipy.linalg.cho_solve((np.tril(L), True), x)

    def eigenbasis_rows(H, values, work, iwork):
        """Overwrite H = Vᵀ diag(values) V by V, whose rows are eigenvectors."""
        values[:], columns = np.linalg.eigh(np.tril(H) + np.tril(H, -1).T)
        H[:] = columns.T
        return 0


# --------------------------------------------------------------------------------------------------------------
# Margins, gradients and Hessians of the data
# --------------------------------------------------------------------------------------------------------------


def margins(Q, start, stop, thetas, out, first, last):
    """Margins of every data point, ``out[i, k] = Q_i · theta_nk`` (rows, K).  2·rows·P flops.

    NumPy: ``out[a:b] = Q[a:b] @ thetas[n].reshape(K, d).T``
    """
    d = Q.shape[1]
    K = thetas.shape[1] // d
    for n in range(first, last):
        a, b = start[n], stop[n]
        if b > a:
            if K == 1:
                out[a:b, 0] = np.dot(Q[a:b], thetas[n])
            else:
                out[a:b] = np.dot(Q[a:b], thetas[n].reshape(K, d).T)
    return 0


def pull_back(Q, start, stop, slopes, out, first, last):
    """Gradients of the data part, ``out[n] = Σ_i slopes_i ⊗ Q_i`` (N, P).  2·rows·P flops.

    NumPy: ``out[n] = (slopes[a:b].T @ Q[a:b]).ravel()``
    """
    K = slopes.shape[1]
    for n in range(first, last):
        a, b = start[n], stop[n]
        if b == a:
            out[n] = 0.0
        elif K == 1:
            out[n] = np.dot(slopes[a:b, 0].copy(), Q[a:b])
        else:
            out[n] = np.dot(slopes[a:b].copy().T, Q[a:b]).ravel()
    return 0


def least_squares_gradients(Q, answers, start, stop, thetas, shift, out, first, last):
    """Gradients of least squares in one pass, ``out[n] = Q_nᵀ(Q_n θ_n - A_n) + shift·θ_n``.  4·rows·d flops.

    NumPy: ``out[n] = Q[a:b].T @ (Q[a:b] @ thetas[n] - answers[a:b]) + shift * thetas[n]``
    """
    for n in range(first, last):
        a, b = start[n], stop[n]
        out[n] = shift * thetas[n]
        if b > a:
            residuals = np.dot(Q[a:b], thetas[n])
            for i in range(b - a):
                residuals[i] -= answers[a + i]
            out[n] += np.dot(residuals, Q[a:b])
    return 0


_BLOCK = 256  # rows of a scaled copy of the data: small enough to stay in the cache


def weighted_gram(Q, start, stop, weights, H, first, last):
    """Hessians with one output, ``H[n] = Σ_i weights_i Q_i Q_iᵀ`` (N, d, d).  rows·d² flops.

    NumPy: ``H[n] = (Q[a:b].T * weights[a:b]) @ Q[a:b]``
    """
    d = Q.shape[1]
    scaled = np.empty((_BLOCK, d))
    for n in range(first, last):
        H[n] = 0.0
        for a in range(start[n], stop[n], _BLOCK):
            rows = min(_BLOCK, stop[n] - a)
            for i in range(rows):
                root = np.sqrt(max(weights[a + i], 0.0))
                for j in range(d):
                    scaled[i, j] = root * Q[a + i, j]
            gram_add(scaled[:rows], 1.0, H[n])
    return 0


def logistic_terms(Q, labels, start, stop, thetas, shift, order, values, gradients, H, first, last):
    """Value, gradient and (``order`` 2) data Hessian of the local logistic losses in one pass over the data.

    values[n] = Σ ln(1 + e^{-am}), gradients[n] = -Σ a σ(-am) Q_i + shift·θ_n, H[n] = Σ σ(m)σ(-m) Q_iQ_iᵀ (N, d, d).
    rows·(4d + d²) flops.  NumPy: :class:`theory.Logistic` on the margins, then ``pull_back`` and ``weighted_gram``.
    ``order`` -2 computes the Hessian in single precision, which is enough to steer and takes half the time.
    """
    d = Q.shape[1]
    scaled = np.empty((_BLOCK if order == 2 else 0, d))
    single = np.empty((_BLOCK if order == -2 else 0, d), dtype=np.float32)
    total_single = np.empty((d if order == -2 else 0, d), dtype=np.float32)
    slopes = np.empty(_BLOCK)
    for n in range(first, last):
        gradients[n] = shift * thetas[n]
        total = 0.0
        if order == 2:
            H[n] = 0.0
        total_single[:] = 0.0
        for a in range(start[n], stop[n], _BLOCK):
            rows = min(_BLOCK, stop[n] - a)
            m = np.dot(Q[a : a + rows], thetas[n])
            for i in range(rows):
                label = labels[a + i]
                margin = label * m[i]
                e = np.exp(-abs(margin))
                total += np.log1p(e) + (0.0 if margin > 0.0 else -margin)
                slopes[i] = -label * ((e if margin > 0.0 else 1.0) / (1.0 + e))
                root = np.sqrt(e) / (1.0 + e)
                if order == 2:
                    for j in range(d):
                        scaled[i, j] = root * Q[a + i, j]
                elif order == -2:
                    for j in range(d):
                        single[i, j] = root * Q[a + i, j]
            gradients[n] += np.dot(slopes[:rows], Q[a : a + rows])
            if order == 2:
                gram_add(scaled[:rows], 1.0, H[n])
            elif order == -2:
                gram_add_single(single[:rows], total_single)
        if order == -2:
            for i in range(d):
                for j in range(i + 1):
                    H[n, i, j] = total_single[i, j]
        values[n] = total
    return 0


def multinomial_hessian(Q, start, stop, p, mass, H, first, last):
    """Hessians with K classes, ``H[n] = Σ_i mass_i (diag(p_i) - p_i p_iᵀ) ⊗ Q_i Q_iᵀ`` (N, P, P).

    The second term is -YᵀY with rows Y_i = √mass_i (p_i ⊗ Q_i), one BLAS call.  rows·P² flops.
    NumPy: ``np.einsum("ikl,ia,ib->kalb", curvature, Q, Q).reshape(P, P)``
    """
    d = Q.shape[1]
    K = p.shape[1]
    Y = np.empty((_BLOCK, K * d))
    scaled = np.empty((_BLOCK, d))
    diagonal = np.empty((d, d))
    for n in range(first, last):
        H[n] = 0.0
        for a in range(start[n], stop[n], _BLOCK):
            rows = min(_BLOCK, stop[n] - a)
            for k in range(K):
                for i in range(rows):
                    root = np.sqrt(mass[a + i] * p[a + i, k])
                    weight = np.sqrt(mass[a + i]) * p[a + i, k]
                    for j in range(d):
                        scaled[i, j] = root * Q[a + i, j]
                        Y[i, k * d + j] = weight * Q[a + i, j]
                diagonal[:] = 0.0
                gram_add(scaled[:rows], 1.0, diagonal)
                H[n, k * d : (k + 1) * d, k * d : (k + 1) * d] += diagonal
            gram_add(Y[:rows], -1.0, H[n])
    return 0


# --------------------------------------------------------------------------------------------------------------
# K classes without Hessian matrices: values, gradients and Hessian-vector products over groups of rows
# --------------------------------------------------------------------------------------------------------------
#
# X holds the queries divided by ``unit`` in any number type (bytes for images), so Q = unit·X to one rounding.  A
# group of rows is converted in the first cache and used twice; the data are read once.  BLAS is slow at products
# with K = 10 columns: with eight rows at a time the loops below keep the processor's multipliers busy instead.
#
# Range n of rows belongs to the user ``owner[n]``, whose model it uses; a user may be cut into several ranges, for
# threads, and the caller adds what they return.

_GROUP = 8
_TINY_PROBABILITY = 1e-25  # less is stored as 0: products in single precision would be subnormal, and slow

if _JIT:

    def _load_rows(X, a, b, x):
        """x[r] = X[a + r], and 0 from row b on."""
        for r in range(_GROUP):
            row = x[r]
            if a + r < b:
                source = X[a + r]
                for j in range(source.size):
                    row[j] = source[j]
            else:
                row[:] = 0.0

    def _rows_times(x, V, T):
        """T = x Vᵀ; x has _GROUP rows, whose sums run side by side."""
        x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
        for k in range(V.shape[0]):
            v = V[k]
            t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = v.dtype.type(0)
            for j in range(v.size):
                t0 += x0[j] * v[j]
                t1 += x1[j] * v[j]
                t2 += x2[j] * v[j]
                t3 += x3[j] * v[j]
                t4 += x4[j] * v[j]
                t5 += x5[j] * v[j]
                t6 += x6[j] * v[j]
                t7 += x7[j] * v[j]
            T[0, k], T[1, k], T[2, k], T[3, k] = t0, t1, t2, t3
            T[4, k], T[5, k], T[6, k], T[7, k] = t4, t5, t6, t7

    def _add_rows(x, C, G):
        """G += Cᵀ x; x and C have _GROUP rows."""
        x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
        for k in range(G.shape[0]):
            c0, c1, c2, c3 = C[0, k], C[1, k], C[2, k], C[3, k]
            c4, c5, c6, c7 = C[4, k], C[5, k], C[6, k], C[7, k]
            g = G[k]
            for j in range(g.size):
                g[j] += (c0 * x0[j] + c1 * x1[j] + c2 * x2[j] + c3 * x3[j]) + (
                    c4 * x4[j] + c5 * x5[j] + c6 * x6[j] + c7 * x7[j]
                )

else:

    def _load_rows(X, a, b, x):
        """x[r] = X[a + r], and 0 from row b on."""
        x[: b - a] = X[a : min(a + _GROUP, b)]
        x[b - a :] = 0.0

    def _rows_times(x, V, T):
        """T = x Vᵀ."""
        T[:] = x @ V.T

    def _add_rows(x, C, G):
        """G += Cᵀ x."""
        G += C.T @ x


def softmax_terms(X, unit, labels, start, stop, owner, models, probabilities, values, gradients, first, last):
    """Data part of the K-class losses: values (N,), gradients (N, K, d) and softmax of the margins (rows, K).

    4·rows·K·d flops.  NumPy: :class:`theory.Multinomial` on ``unit * X[a:b] @ models[owner[n]].T``.
    """
    d = X.shape[1]
    K = labels.shape[1]
    x = np.empty((_GROUP, d))
    m = np.empty((_GROUP, K))
    for n in range(first, last):
        scaled = models[owner[n]] * unit
        gradients[n] = 0.0
        total = 0.0
        for a in range(start[n], stop[n], _GROUP):
            _load_rows(X, a, stop[n], x)
            _rows_times(x, scaled, m)
            for i in range(min(_GROUP, stop[n] - a)):
                top = m[i, 0]
                mass = labels[a + i, 0]
                for k in range(1, K):
                    top = max(top, m[i, k])
                    mass += labels[a + i, k]
                normalizer = 0.0
                agreement = 0.0
                for k in range(K):
                    agreement += labels[a + i, k] * m[i, k]
                    m[i, k] = np.exp(m[i, k] - top)
                    normalizer += m[i, k]
                total += mass * (np.log(normalizer) + top) - agreement
                for k in range(K):
                    p = m[i, k] / normalizer
                    probabilities[a + i, k] = p if p > _TINY_PROBABILITY else 0.0
                    m[i, k] = mass * p - labels[a + i, k]
            _add_rows(x, m, gradients[n])  # rows of zeros add nothing
        gradients[n] *= unit
        values[n] = total
    return 0


def softmax_hessian_times(X, unit, mass, probabilities, start, stop, owner, directions, out, first, last):
    """Data part of the Hessians times ``directions`` (N, K, d), in single precision (enough for CG).

    out[n] = Σ_i mass_i (diag(p_i) - p_i p_iᵀ) V Q_i ⊗ Q_i.  4·rows·K·d flops.
    NumPy: ``T = Q @ V.T; C = mass * p * (T - (p * T).sum(1, keepdims=True)); out[n] = C.T @ Q``
    """
    d = X.shape[1]
    K = probabilities.shape[1]
    x = np.empty((_GROUP, d), dtype=np.float32)
    T = np.empty((_GROUP, K), dtype=np.float32)
    for n in range(first, last):
        total = np.zeros((K, d), dtype=np.float32)
        for a in range(start[n], stop[n], _GROUP):
            _load_rows(X, a, stop[n], x)
            _rows_times(x, directions[owner[n]], T)
            for i in range(min(_GROUP, stop[n] - a)):
                # Relative to the likeliest class every term carries a factor p(1 - p), so that the curvature of rows
                # that are all but decided, which is most of them, is not lost in rounding.
                likeliest = 0
                for k in range(1, K):
                    if probabilities[a + i, k] > probabilities[a + i, likeliest]:
                        likeliest = k
                reference = T[i, likeliest]
                mean = np.float32(0.0)
                for k in range(K):
                    T[i, k] -= reference
                    mean += probabilities[a + i, k] * T[i, k]
                for k in range(K):
                    T[i, k] = mass[a + i] * probabilities[a + i, k] * (T[i, k] - mean)
            _add_rows(x, T, total)
        out[n] = total * (unit * unit)
    return 0


# --------------------------------------------------------------------------------------------------------------
# ℓ2²: quadratic models eliminated by Cholesky factors
# --------------------------------------------------------------------------------------------------------------


def _normal_equations(Q, answers, H, b):
    """H = QᵀQ (lower triangle) and b = QᵀA of one user."""
    H[:] = 0.0
    b[:] = 0.0
    if Q.shape[0] > 0:
        gram_add(Q, 1.0, H)
        b[:] = np.dot(answers, Q)


def least_squares_factor(Q, answers, start, stop, shift, L, b, inverse_sum, solved_sum, first, last):
    """K_n = Q_nᵀQ_n + shift·I = L Lᵀ and b_n = Q_nᵀA_n; adds Σ K_n⁻¹ and Σ K_n⁻¹ b_n.  ℐd² + d³ flops a user.

    NumPy: ``K = Q.T @ Q + shift * np.eye(d); inverse_sum += inv(K); solved_sum += solve(K, Q.T @ A)``
    """
    d = Q.shape[1]
    x = np.empty(d)
    W = np.empty((d, d))
    for n in range(first, last):
        _normal_equations(Q[start[n] : stop[n]], answers[start[n] : stop[n]], L[n], b[n])
        if _eliminate(L[n], shift, b[n], W, x, inverse_sum, solved_sum) != 0:
            return n + 1
    return 0


def gram_and_factor(Q, start, stop, H, first, last):
    """The BLAS limit: Q_nᵀQ_n + I and its Cholesky factor, nothing else.  ℐd² + d³/3 flops a user."""
    for n in range(first, last):
        H[n] = 0.0
        gram_add(Q[start[n] : stop[n]], 1.0, H[n])
        for j in range(H.shape[1]):
            H[n, j, j] += 1.0
        if cholesky(H[n]) != 0:
            return n + 1
    return 0


def quadratic_factor(shift, L, b, inverse_sum, solved_sum, first, last):
    """As :func:`least_squares_factor`, for Hessians that stand in ``L`` already.  P³ flops a user."""
    P = L.shape[1]
    x = np.empty(P)
    W = np.empty((P, P))
    for n in range(first, last):
        if _eliminate(L[n], shift, b[n], W, x, inverse_sum, solved_sum) != 0:
            return n + 1
    return 0


def _eliminate(K, shift, b, W, x, inverse_sum, solved_sum):
    """Factor K + shift·I in place and add its inverse and its solution for b to the sums."""
    P = K.shape[0]
    for j in range(P):
        K[j, j] += shift
    if cholesky(K) != 0:
        return 1
    x[:] = b
    cholesky_solve(K, x)
    solved_sum += x
    W[:] = K
    if cholesky_inverse(W) != 0:
        return 1
    for i in range(P):
        for j in range(i + 1):
            inverse_sum[i, j] += W[i, j]
    return 0


def arrowhead_factor(H, shift, z, stiffness, softening, tied, S, first, last):
    """Factor K_n = H_n + (shift + s_n)I - κ_n z_n z_nᵀ in place and add R''_n - R''_n K_n⁻¹ R''_n to S.

    R''_n = s_n I - κ_n z_n z_nᵀ is the Hessian of the regularizer, s = ``stiffness``, κ = ``softening`` (N,).  A user
    that is tied to ρ adds H_n + shift·I instead, and has no factor.  P³ flops a user.
    NumPy: ``R = s * np.eye(P) - kappa * np.outer(z, z); S += R - R @ solve(H + shift * np.eye(P) + R, R)``
    """
    P = H.shape[1]
    W = np.empty((P, P))
    a = np.empty(P)
    for n in range(first, last):
        K, v, s, kappa = H[n], z[n], stiffness[n], softening[n]
        if tied[n]:
            for i in range(P):
                for j in range(i + 1):
                    S[i, j] += K[i, j]
                S[i, i] += shift
            continue
        for i in range(P):
            for j in range(i + 1):
                K[i, j] -= kappa * v[i] * v[j]
            K[i, i] += shift + s
        if cholesky(K) != 0:
            return n + 1
        for i in range(P):
            for j in range(i + 1):
                W[i, j] = K[i, j]
        if cholesky_inverse(W) != 0:
            return n + 1
        symmetric_times(W, v, a)
        along = 0.0
        for i in range(P):
            along += v[i] * a[i]
        outer = kappa * (1.0 + kappa * along)
        for i in range(P):
            for j in range(i + 1):
                S[i, j] -= s * s * W[i, j] + outer * v[i] * v[j] - s * kappa * (v[i] * a[j] + a[i] * v[j])
            S[i, i] += s
    return 0


def back_substitute(L, b, pull, thetas, total, first, last):
    """θ_n = K_n⁻¹(b_n + pull), and adds Σ θ_n to ``total``.  2P² flops a user.

    NumPy: ``thetas[n] = solve(K[n], b[n] + pull); total += thetas[n]``
    """
    P = pull.size
    x = np.empty(P)
    for n in range(first, last):
        for j in range(P):
            x[j] = b[n, j] + pull[j]
        cholesky_solve(L[n], x)
        thetas[n] = x
        total += x
    return 0


# --------------------------------------------------------------------------------------------------------------
# Any regularizer: local models eliminated through the secular equation
# --------------------------------------------------------------------------------------------------------------
#
# At the minimum over θ of q(θ) + R(ρ, θ), where q has the Hessian B and g = ∇q(ρ), the regularizer acts as a spring
# of stiffness s = 1/σ:  pull = ∇_ρR = s(ρ - θ) = (I + σB)⁻¹ g, and σ solves the secular equation
#
#     ‖(pull(σ), one/σ)‖ = λ        (one = 1 for smooth-ℓ2, 0 for ℓ2; σ = 1/(2λ) for ℓ2²).
#
# 1/‖·‖ is concave and increasing in σ.  So Newton's method on it increases monotonically to the root from the left,
# and from the right one step leads to the left.

SQUARED_L2, L2, SMOOTH_L2 = 0, 1, 2


def least_squares_normal(Q, answers, start, stop, H, b, first, last):
    """Normal equations of each user, H_n = Q_nᵀQ_n and b_n = Q_nᵀA_n.  ℐd² flops a user.

    NumPy: ``H[n] = Q[a:z].T @ Q[a:z]; b[n] = Q[a:z].T @ answers[a:z]``
    """
    for n in range(first, last):
        _normal_equations(Q[start[n] : stop[n]], answers[start[n] : stop[n]], H[n], b[n])
    return 0


def eigenbases(H, beta, shift, first, last):
    """Overwrite H_n by its eigenvectors (rows); beta_n = max(eigenvalues, 0) + shift.  About 9P³ flops a user.

    NumPy: ``values, V = np.linalg.eigh(H[n]); H[n] = V.T; beta[n] = np.maximum(values, 0) + shift``
    """
    P = H.shape[1]
    work = np.empty(1 + 6 * P + 2 * P * P)
    iwork = np.empty(3 + 5 * P, dtype=np.int32)
    for n in range(first, last):
        if eigenbasis_rows(H[n], beta[n], work, iwork) != 0:
            return n + 1
        for j in range(P):
            beta[n, j] = max(beta[n, j], 0.0) + shift
    return 0


def _secular(beta, g, lam, kind):
    """Return the root σ of the secular equation in an eigenbasis (NaN: none).  6P flops a step, 2-5 steps."""
    if kind == SQUARED_L2:
        return 0.5 / lam
    one = 1.0 if kind == SMOOTH_L2 else 0.0
    sigma = one / lam
    for _ in range(200):
        square = one / (sigma * sigma) if one > 0.0 else 0.0
        slope = one / (sigma * sigma * sigma) if one > 0.0 else 0.0
        for i in range(g.size):
            t = 1.0 / (1.0 + beta[i] * sigma)
            r = g[i] * t
            square += r * r
            slope += r * r * beta[i] * t
        excess = np.sqrt(square) / lam - 1.0
        if not excess > 2.3e-16:
            break
        if slope <= 0.0:
            return np.nan
        step = excess * square / slope
        if sigma + step == sigma:
            break
        sigma += step
    return sigma


def _spring_energy(lam, kind, z_square):
    """R as a function of ‖ρ - θ‖²."""
    if kind == SQUARED_L2:
        return lam * z_square
    if kind == L2:
        return lam * np.sqrt(z_square)
    return lam * np.sqrt(1.0 + z_square)


def _add_softening(pull, w, sigma, lam, kind, direction, negative):
    r"""Add κ v vᵀ with v = pull - w = σB(I + σB)⁻¹ pull: what the secular equation takes from the Hessian.

    κ = (s³/λ²)(one + ‖z‖²)/(one + zᵀ(I - (I + σB)⁻¹)z) in z = σ pull, which does not cancel.
    """
    one = 1.0 if kind == SMOOTH_L2 else 0.0
    square = one
    bent = one
    for i in range(pull.size):
        direction[i] = pull[i] - w[i]
        square += sigma * sigma * pull[i] * pull[i]
        bent += sigma * sigma * pull[i] * direction[i]
    if bent > 0.0:
        kappa = square / (sigma * lam * lam * bent)
        for i in range(pull.size):
            for j in range(i + 1):
                negative[i, j] += kappa * direction[i] * direction[j]


def _solve_secular(H, shift, g, lam, kind, sigma, K, pull, w):
    """Solve the secular equation by Cholesky factors of I + σB, B = H + shift·I, from a guess of σ.

    Leaves the factor in K, pull = (I + σB)⁻¹g and w = (I + σB)⁻¹pull; returns σ (NaN on failure).  P³/3 flops a
    step, 1-3 steps.
    """
    P = g.size
    one = 1.0 if kind == SMOOTH_L2 else 0.0
    lowest = one / lam
    if kind == SQUARED_L2:
        sigma = 0.5 / lam
    elif not sigma > lowest:
        sigma = lowest
    for _ in range(100):
        if sigma > 0.0:
            for i in range(P):
                for j in range(i):
                    K[i, j] = sigma * H[i, j]
                K[i, i] = 1.0 + sigma * (H[i, i] + shift)
            if cholesky(K) != 0:
                return np.nan
            pull[:] = g
            cholesky_solve(K, pull)
            w[:] = pull
            cholesky_solve(K, w)
            if kind == SQUARED_L2:
                return sigma
            slope = one / sigma**3 if one > 0.0 else 0.0
            square = one / sigma**2 if one > 0.0 else 0.0
            for i in range(P):
                square += pull[i] * pull[i]
                slope += pull[i] * (pull[i] - w[i]) / sigma
        else:
            pull[:] = g
            symmetric_times(H, g, w)
            square = 0.0
            slope = 0.0
            for i in range(P):
                square += g[i] * g[i]
                slope += g[i] * (w[i] + shift * g[i])
        excess = np.sqrt(square) / lam - 1.0
        if not slope > 0.0 or not np.isfinite(excess):
            return np.nan
        following = max(sigma + excess * square / slope, lowest)
        if sigma > 0.0 and abs(excess) <= 1e-9:
            # The factor is good enough: to first order in the rest, d pull/dσ = -(pull - w)/σ; the error is its square.
            for i in range(P):
                pull[i] -= (following - sigma) * (pull[i] - w[i]) / sigma
            return following
        if following == sigma:
            return sigma
        sigma = following
    return sigma


def partial_minima(
    H, shift, center, slope, rho, lam, kind, order, sigmas, thetas, pulls, value, gradient, hessian, negative,
    first, last,
):  # fmt: skip
    r"""Minimize q_n(θ) + R(ρ, θ) over θ for each user, and sum value, gradient and Hessian in ρ.

    q_n(θ) = slope_n·δ + δᵀB_nδ/2 with δ = θ - center_n and B_n = H_n + shift·I.  With σ and the pull from
    :func:`_solve_secular` (``sigmas`` holds the guesses and receives the roots):

        ∇φ_n(ρ) = pull,    θ_n = ρ - σ·pull,    ∇²φ_n(ρ) = (I - (I + σB_n)⁻¹)/σ - κ v vᵀ.

    ``hessian`` collects the first term (a majorizer, since √ is concave), ``negative`` the second.  ``order`` 0: value
    and gradient only; 2: Hessian too.  P³ to 2P³ flops a user.

    NumPy: minimize each user's q_n + R by any means, as ``tests/test_kernels.py`` does; :func:`partial_minima_eigen`
    is a second route.
    """
    P = rho.size
    y = np.empty(P)
    g = np.empty(P)
    w = np.empty(P)
    pull = np.empty(P)
    K = np.empty((P, P))
    for n in range(first, last):
        for i in range(P):
            y[i] = rho[i] - center[n, i]
        symmetric_times(H[n], y, g)
        length = 0.0
        for i in range(P):
            g[i] += shift * y[i] + slope[n, i]
            length += g[i] * g[i]
        sigma = 0.0
        if kind == L2 and length <= lam * lam:
            pull[:] = g
        else:
            sigma = _solve_secular(H[n], shift, g, lam, kind, sigmas[n], K, pull, w)
            if not sigma >= 0.0 or sigma == np.inf:
                return n + 1
        sigmas[n] = sigma
        z_square = 0.0
        model = 0.0
        for i in range(P):
            z = sigma * pull[i]
            z_square += z * z
            # B δ = pull - slope, so δᵀBδ needs no product.
            model += 0.5 * (y[i] - z) * (slope[n, i] + pull[i])
            pulls[n, i] = pull[i]
            gradient[i] += pull[i]
            thetas[n, i] = rho[i] - z if sigma > 0.0 else rho[i]  # a tied model equals ρ to the last bit
        value[0] += model + _spring_energy(lam, kind, z_square)
        if order < 2:
            continue
        if sigma > 0.0:
            if cholesky_inverse(K) != 0:
                return n + 1
            for i in range(P):
                for j in range(i):
                    hessian[i, j] -= K[i, j] / sigma
                hessian[i, i] += (1.0 - K[i, i]) / sigma
            if kind != SQUARED_L2:
                _add_softening(pull, w, sigma, lam, kind, y, negative)
        else:
            for i in range(P):
                for j in range(i):
                    hessian[i, j] += H[n, i, j]
                hessian[i, i] += H[n, i, i] + shift
    return 0


def partial_minima_eigen(
    V, beta, center, slope, rho, lam, kind, order, thetas, pulls, value, gradient, hessian, negative, first, last
):
    r"""As :func:`partial_minima`, for B_n = V_nᵀ diag(beta_n) V_n: many problems with the same B_n, or a singular one.

    4P² flops a user, P³ more with the Hessian.
    """
    P = rho.size
    y = np.empty(P)
    g = np.empty(P)
    u = np.empty(P)
    w = np.empty(P)
    scaled = np.empty((P, P))
    for n in range(first, last):
        y[:] = np.dot(V[n], rho - center[n])
        slope_hat = np.dot(V[n], slope[n])
        length = 0.0
        for i in range(P):
            g[i] = beta[n, i] * y[i] + slope_hat[i]
            length += g[i] * g[i]
        tied = kind == L2 and length <= lam * lam
        sigma = 0.0 if tied else _secular(beta[n], g, lam, kind)
        if not sigma >= 0.0 or sigma == np.inf:
            return n + 1
        z_square = 0.0
        model = 0.0
        for i in range(P):
            u[i] = g[i] / (1.0 + beta[n, i] * sigma)
            w[i] = u[i] / (1.0 + beta[n, i] * sigma)
            z_square += (sigma * u[i]) ** 2
            model += 0.5 * (y[i] - sigma * u[i]) * (slope_hat[i] + u[i])
        value[0] += model + _spring_energy(lam, kind, z_square)
        pulls[n] = np.dot(u, V[n])
        gradient += pulls[n]
        for i in range(P):
            thetas[n, i] = rho[i] - sigma * pulls[n, i] if sigma > 0.0 else rho[i]
        if order < 2:
            continue
        for i in range(P):
            root = np.sqrt(beta[n, i] / (1.0 + beta[n, i] * sigma))
            for j in range(P):
                scaled[i, j] = root * V[n, i, j]
        gram_add(scaled, 1.0, hessian)
        if kind != SQUARED_L2 and sigma > 0.0:
            _add_softening(pulls[n], np.dot(w, V[n]), sigma, lam, kind, y, negative)
    return 0


# --------------------------------------------------------------------------------------------------------------
# Small models: the same eliminations for LANES users at once, which share each vector instruction
# --------------------------------------------------------------------------------------------------------------
#
# For P <= 32 a call of LAPACK costs more than its arithmetic.  Here the innermost loop of every factorization runs
# over users: arrays are (P, P, LANES), the users of a batch interleaved; a batch that is not full is filled up with
# users whose matrix is the identity and whose vectors are 0.

LANES = 16
SMALL = 32  # the largest P for which the batched kernels pay


def _lanes_cholesky(K):
    """L in place of the lower triangle of each K[:, :, l], with 1/L_jj on the diagonal; 1 if one is not definite."""
    P, _, lanes = K.shape
    for j in range(P):
        for k in range(j):
            for i in range(j, P):
                for v in range(lanes):
                    K[i, j, v] -= K[i, k, v] * K[j, k, v]
        lowest = K[j, j, 0]
        for v in range(lanes):
            lowest = min(lowest, K[j, j, v])
        if not lowest > 0.0:
            return 1
        for v in range(lanes):
            K[j, j, v] = 1.0 / np.sqrt(K[j, j, v])
        for i in range(j + 1, P):
            for v in range(lanes):
                K[i, j, v] *= K[j, j, v]
    return 0


def _lanes_solve(K, x):
    """x[:, l] = (L Lᵀ)⁻¹ x[:, l] for the factors that :func:`_lanes_cholesky` leaves."""
    P, _, lanes = K.shape
    for i in range(P):
        for k in range(i):
            for v in range(lanes):
                x[i, v] -= K[i, k, v] * x[k, v]
        for v in range(lanes):
            x[i, v] *= K[i, i, v]
    for i in range(P - 1, -1, -1):
        for v in range(lanes):
            x[i, v] *= K[i, i, v]
        for k in range(i):
            for v in range(lanes):
                x[k, v] -= K[i, k, v] * x[i, v]


def _lanes_invert_factor(K):
    """Overwrite the factors by L⁻¹."""
    P, _, lanes = K.shape
    for j in range(P):
        for i in range(j + 1, P):
            # (L⁻¹)_ij = -(1/L_ii) Σ_{j<=k<i} L_ik (L⁻¹)_kj; column j left of it is finished already.
            for v in range(lanes):
                K[i, j, v] *= K[j, j, v]
            for k in range(j + 1, i):
                for v in range(lanes):
                    K[i, j, v] += K[i, k, v] * K[k, j, v]
            for v in range(lanes):
                K[i, j, v] *= -K[i, i, v]


def _lanes_add_inverse(Z, weight, total):
    """total_ij[l] += weight[l] (ZᵀZ)_ij for Z = L⁻¹: the inverses, lower triangle."""
    P, _, lanes = Z.shape
    scaled = np.empty(lanes)
    for k in range(P):
        for i in range(k + 1):
            for v in range(lanes):
                scaled[v] = weight[v] * Z[k, i, v]
            for j in range(i + 1):
                for v in range(lanes):
                    total[i, j, v] += scaled[v] * Z[k, j, v]


def _sum_lanes(total, out):
    """out += Σ_l total[:, :, l] (lower triangle)."""
    for i in range(total.shape[0]):
        for j in range(i + 1):
            for v in range(total.shape[2]):
                out[i, j] += total[i, j, v]


def least_squares_factor_small(Q, answers, start, stop, shift, L, b, inverse_sum, solved_sum, first, last):
    """:func:`least_squares_factor` in batches; ``L`` is (batches, P, P, LANES) and ``first`` starts a batch."""
    d = Q.shape[1]
    H = np.empty((d, d))
    x = np.empty((d, LANES))
    ones = np.empty(LANES)
    inverses = np.zeros((d, d, LANES))
    for head in range(first, last, LANES):
        K = L[head // LANES]
        for v in range(LANES):
            n = head + v
            ones[v] = 1.0 if n < last else 0.0
            if n < last:
                _normal_equations(Q[start[n] : stop[n]], answers[start[n] : stop[n]], H, b[n])
            for i in range(d):
                x[i, v] = b[n, i] if n < last else 0.0
                for j in range(i):
                    K[i, j, v] = H[i, j] if n < last else 0.0
                K[i, i, v] = H[i, i] + shift if n < last else 1.0
        if _lanes_eliminate(K, x, ones, solved_sum, inverses) != 0:
            return head + 1
    _sum_lanes(inverses, inverse_sum)
    return 0


def quadratic_factor_small(H, shift, L, b, inverse_sum, solved_sum, first, last):
    """:func:`quadratic_factor` in batches: the factors of H_n + shift·I go to ``L`` (batches, P, P, LANES)."""
    P = H.shape[1]
    x = np.empty((P, LANES))
    ones = np.empty(LANES)
    inverses = np.zeros((P, P, LANES))
    for head in range(first, last, LANES):
        K = L[head // LANES]
        for v in range(LANES):
            n = head + v
            ones[v] = 1.0 if n < last else 0.0
            for i in range(P):
                x[i, v] = b[n, i] if n < last else 0.0
                for j in range(i):
                    K[i, j, v] = H[n, i, j] if n < last else 0.0
                K[i, i, v] = H[n, i, i] + shift if n < last else 1.0
        if _lanes_eliminate(K, x, ones, solved_sum, inverses) != 0:
            return head + 1
    _sum_lanes(inverses, inverse_sum)
    return 0


def _lanes_eliminate(K, x, ones, solved_sum, inverses):
    """Factor a batch in place; add its solutions and its inverses to the sums."""
    if _lanes_cholesky(K) != 0:
        return 1
    _lanes_solve(K, x)
    for i in range(x.shape[0]):
        for v in range(x.shape[1]):
            solved_sum[i] += x[i, v]
    Z = K.copy()
    _lanes_invert_factor(Z)
    _lanes_add_inverse(Z, ones, inverses)
    return 0


def back_substitute_small(L, b, pull, thetas, total, first, last):
    """:func:`back_substitute` in batches."""
    P = pull.size
    x = np.empty((P, LANES))
    for head in range(first, last, LANES):
        count = min(LANES, last - head)
        x[:] = 0.0
        for v in range(count):
            for i in range(P):
                x[i, v] = b[head + v, i] + pull[i]
        _lanes_solve(L[head // LANES], x)
        for v in range(count):
            for i in range(P):
                thetas[head + v, i] = x[i, v]
                total[i] += x[i, v]
    return 0


def _lanes_secular(H, shift, g, lam, kind, sigma, tied, K, pull, w):
    """:func:`_solve_secular` for each lane that is not ``tied``; ``sigma`` holds guesses and receives the roots."""
    P, _, lanes = H.shape
    one = 1.0 if kind == SMOOTH_L2 else 0.0
    lowest = one / lam
    following = np.empty(lanes)
    square = np.empty(lanes)
    slope = np.empty(lanes)
    for v in range(lanes):
        if kind == SQUARED_L2:
            sigma[v] = 0.5 / lam
        elif tied[v]:
            sigma[v] = 0.0
        elif not sigma[v] > lowest:
            sigma[v] = lowest
    for _ in range(100):
        for i in range(P):
            for j in range(i):
                for v in range(lanes):
                    K[i, j, v] = sigma[v] * H[i, j, v]
            for v in range(lanes):
                K[i, i, v] = 1.0 + sigma[v] * (H[i, i, v] + shift)
                pull[i, v] = g[i, v]
        if _lanes_cholesky(K) != 0:
            return 1
        _lanes_solve(K, pull)
        w[:] = pull
        _lanes_solve(K, w)
        if kind == SQUARED_L2:
            return 0
        square[:] = 0.0
        slope[:] = 0.0
        for i in range(P):
            for v in range(lanes):
                square[v] += pull[i, v] * pull[i, v]
                slope[v] += pull[i, v] * (pull[i, v] - w[i, v])
        finished = True
        for v in range(lanes):
            s = sigma[v]
            following[v] = s
            if tied[v]:
                continue
            if s > 0.0:
                slope[v] = slope[v] / s + (one / s**3 if one > 0.0 else 0.0)
                square[v] += one / s**2 if one > 0.0 else 0.0
            else:
                slope[v] = _quadratic_form(H, shift, g, v)
            excess = np.sqrt(square[v]) / lam - 1.0
            if not slope[v] > 0.0 or not np.isfinite(excess):
                return 1
            following[v] = max(s + excess * square[v] / slope[v], lowest)
            if following[v] != s and not (s > 0.0 and abs(excess) <= 1e-9):
                finished = False
        if finished:
            for v in range(lanes):
                # To first order in the rest, as in _solve_secular.
                change = (following[v] - sigma[v]) / sigma[v] if sigma[v] > 0.0 else 0.0
                for i in range(P):
                    pull[i, v] -= change * (pull[i, v] - w[i, v])
                sigma[v] = following[v]
            return 0
        sigma[:] = following
    return 0


def _quadratic_form(H, shift, g, v):
    """gᵀ(H + shift·I)g of one lane, from the lower triangle."""
    total = 0.0
    for i in range(g.shape[0]):
        total += (H[i, i, v] + shift) * g[i, v] * g[i, v]
        for j in range(i):
            total += 2.0 * H[i, j, v] * g[i, v] * g[j, v]
    return total


def partial_minima_small(
    H, shift, center, slope, rho, lam, kind, order, sigmas, thetas, pulls, value, gradient, hessian, negative,
    first, last,
):  # fmt: skip
    """:func:`partial_minima` in batches of LANES users."""
    P = rho.size
    B = np.empty((P, P, LANES))
    K = np.empty((P, P, LANES))
    y = np.empty((P, LANES))
    g = np.empty((P, LANES))
    pull = np.empty((P, LANES))
    w = np.empty((P, LANES))
    sigma = np.empty(LANES)
    weight = np.empty(LANES)
    kappa = np.empty(LANES)
    tied = np.empty(LANES, dtype=np.bool_)
    inverses = np.zeros((P, P, LANES))
    softening = np.zeros((P, P, LANES))
    for head in range(first, last, LANES):
        count = min(LANES, last - head)
        for v in range(LANES):
            n = head + v
            sigma[v] = sigmas[n] if v < count else 0.0
            for i in range(P):
                y[i, v] = rho[i] - center[n, i] if v < count else 0.0
                g[i, v] = slope[n, i] + shift * y[i, v] if v < count else 0.0
                for j in range(i + 1):
                    B[i, j, v] = H[n, i, j] if v < count else 0.0
        for i in range(P):
            for v in range(LANES):
                g[i, v] += B[i, i, v] * y[i, v]
            for j in range(i):
                for v in range(LANES):
                    g[i, v] += B[i, j, v] * y[j, v]
                    g[j, v] += B[i, j, v] * y[i, v]
        for v in range(LANES):
            length = 0.0
            for i in range(P):
                length += g[i, v] * g[i, v]
            tied[v] = v >= count or (kind == L2 and length <= lam * lam)
        if _lanes_secular(B, shift, g, lam, kind, sigma, tied, K, pull, w) != 0:
            return head + 1
        for v in range(count):
            n = head + v
            sigmas[n] = sigma[v]
            z_square = 0.0
            model = 0.0
            bent = 1.0 if kind == SMOOTH_L2 else 0.0
            square = bent
            for i in range(P):
                z = sigma[v] * pull[i, v]
                z_square += z * z
                model += 0.5 * (y[i, v] - z) * (slope[n, i] + pull[i, v])
                pulls[n, i] = pull[i, v]
                gradient[i] += pull[i, v]
                thetas[n, i] = rho[i] - z if sigma[v] > 0.0 else rho[i]
                bent += sigma[v] * z * (pull[i, v] - w[i, v])
            value[0] += model + _spring_energy(lam, kind, z_square)
            weight[v] = -1.0 / sigma[v] if sigma[v] > 0.0 else 0.0
            square += z_square
            softens = kind != SQUARED_L2 and sigma[v] > 0.0 and bent > 0.0
            kappa[v] = square / (sigma[v] * lam * lam * bent) if softens else 0.0
            if order == 2:
                for i in range(P):
                    if sigma[v] > 0.0:
                        hessian[i, i] += 1.0 / sigma[v]
                        continue
                    for j in range(i + 1):
                        hessian[i, j] += B[i, j, v]
                    hessian[i, i] += shift
        if order < 2:
            continue
        for v in range(count, LANES):
            weight[v] = 0.0
            kappa[v] = 0.0
        _lanes_invert_factor(K)
        _lanes_add_inverse(K, weight, inverses)
        for i in range(P):
            for v in range(LANES):
                w[i, v] = pull[i, v] - w[i, v]
            for j in range(i + 1):
                for v in range(LANES):
                    softening[i, j, v] += kappa[v] * w[i, v] * w[j, v]
    if order == 2:
        _sum_lanes(inverses, hessian)
        _sum_lanes(softening, negative)
    return 0


# --------------------------------------------------------------------------------------------------------------
# Federated descent: local models of logistic and K-class users, followed from round to round
# --------------------------------------------------------------------------------------------------------------


def _class_terms(Q, labels, theta, shift, gradient, H, scaled):
    """Local loss of one user, its gradient and its data Hessian (lower triangle); returns the loss.

    ``labels`` (ℐ, 1) holds -1 and +1, or (ℐ, K) class probabilities.  ℐ(P² + 4P) flops with one output,
    ℐKP more with K.

    NumPy: ``local_loss``, ``local_gradient`` and ``local_hessian`` of ``theory.losses``, without 2ν in the Hessian.
    """
    rows, d = Q.shape
    K = labels.shape[1]
    P = theta.size
    value = 0.0
    for j in range(P):
        value += 0.5 * shift * theta[j] * theta[j]
        gradient[j] = shift * theta[j]
        for i in range(j + 1):
            H[j, i] = 0.0
    if rows == 0:
        return value
    if K == 1:
        m = np.dot(Q, theta)
        for i in range(rows):
            t = labels[i, 0] * m[i]
            e = np.exp(-abs(t))
            value += np.log1p(e) + (0.0 if t > 0.0 else -t)
            slope = -labels[i, 0] * ((e if t > 0.0 else 1.0) / (1.0 + e))
            root = np.sqrt(e) / (1.0 + e)
            for j in range(d):
                gradient[j] += slope * Q[i, j]
                scaled[i, j] = root * Q[i, j]
        gram_add(scaled[:rows], 1.0, H)
        return value
    p = np.empty(K)
    for i in range(rows):
        top = -np.inf
        for k in range(K):
            p[k] = np.dot(theta[k * d : (k + 1) * d], Q[i])
            top = max(top, p[k])
        total = 0.0
        mass = 0.0
        for k in range(K):
            mass += labels[i, k]
            value -= labels[i, k] * p[k]
            p[k] = np.exp(p[k] - top)
            total += p[k]
        value += mass * (top + np.log(total))
        for k in range(K):
            p[k] /= total
            slope = mass * p[k] - labels[i, k]
            for j in range(d):
                gradient[k * d + j] += slope * Q[i, j]
            for c in range(k + 1):
                weight = mass * ((p[k] if c == k else 0.0) - p[k] * p[c])
                for j in range(d):
                    for b in range(d if c < k else j + 1):
                        H[k * d + j, c * d + b] += weight * Q[i, j] * Q[i, b]
    return value


def followed_minima(Q, labels, start, stop, shift, rho, lam, kind, thetas, pulls, sigmas, first, last):
    r"""θ_n = argmin L_n(θ) + R(ρ, θ) and ∇_ρR(ρ, θ_n), by Newton's method from ``thetas``, which are overwritten.

    The regularizer is exact in each step (:func:`partial_minima`), which is damped by Armijo's rule and repeated until
    the residual ‖∇L_n(θ_n) - pull_n‖ is at the level of rounding.  A model of the last round is so close that two
    steps are the rule.  The flops of a step are those of :func:`_class_terms`, and P³.

    NumPy: ``solvers.local_minima(problem, rho)``
    """
    P = rho.size
    most = 0
    for n in range(first, last):
        most = max(most, stop[n] - start[n])
    scaled = np.empty((most, Q.shape[1]))
    H = np.zeros((1, P, P))
    slope = np.empty((1, P))
    center = np.empty((1, P))
    target = np.empty((1, P))
    pull = np.empty((1, P))
    value = np.zeros(1)
    unused = np.zeros(P)
    trial = np.empty(P)
    for n in range(first, last):
        rows = Q[start[n] : stop[n]]
        answers = labels[start[n] : stop[n]]
        center[0] = thetas[n]
        loss = _class_terms(rows, answers, center[0], shift, slope[0], H[0], scaled)
        residual = np.inf
        for _ in range(200):
            if partial_minima(
                H, shift, center, slope, rho, lam, kind, 0, sigmas[n : n + 1], target, pull, value, unused, H[0], H[0],
                0, 1,
            ) != 0:  # fmt: skip
                return n + 1
            before = 0.0
            after = 0.0
            predicted = 0.0
            for j in range(P):
                before += (rho[j] - center[0, j]) ** 2
                after += (rho[j] - target[0, j]) ** 2
                predicted += slope[0, j] * (target[0, j] - center[0, j])
            old = loss + _spring_energy(lam, kind, before)
            predicted += _spring_energy(lam, kind, after) - _spring_energy(lam, kind, before)
            length = 1.0
            drowned = not predicted < -1e-12 * abs(old)
            while True:
                distance = 0.0
                for j in range(P):
                    trial[j] = target[0, j] if length == 1.0 else center[0, j] + length * (target[0, j] - center[0, j])
                    distance += (rho[j] - trial[j]) ** 2
                loss = _class_terms(rows, answers, trial, shift, slope[0], H[0], scaled)
                if drowned or loss + _spring_energy(lam, kind, distance) - old <= 1e-4 * length * predicted:
                    break
                length *= 0.5
                if length < 1e-15:
                    return n + 1
            center[0] = trial
            size = lam * lam
            error = 0.0
            strength = 0.0
            for j in range(P):
                strength += pull[0, j] * pull[0, j]
                error += (slope[0, j] - pull[0, j]) ** 2
            error = np.sqrt(error / max(size, strength))
            if length == 1.0 and (error <= 1e-15 or (drowned and not error < 0.5 * residual)):
                residual = error
                break
            residual = error if length == 1.0 else np.inf
        if not residual <= 1e-10:
            return n + 1
        thetas[n] = center[0]
        pulls[n] = pull[0]
    return 0


# --------------------------------------------------------------------------------------------------------------
# Many small problems: whole minimizations inside one call
# --------------------------------------------------------------------------------------------------------------


def squared_l2_batch(G, b, shift, lam, rho, thetas, first, last):
    """Closed form of least squares with ℓ2² for problems ``first..last``, LANES problems at a time.

    G (R, N, d, d) and b (R, N, d) are Q_nᵀQ_n and Q_nᵀA_n of user n in each problem.  N·d³ flops a problem.
    NumPy: ``K = G + shift·I; M = N·I - 2λ Σ inv(K); rho = solve(M, Σ solve(K, b)); thetas = solve(K, b + 2λ rho)``
    """
    N, d = b.shape[1], b.shape[2]
    L = np.empty((N, d, d, LANES))
    M = np.empty((d, d, LANES))
    x = np.empty((d, LANES))
    total = np.empty((d, LANES))
    weight = np.full(LANES, -2.0 * lam)
    for head in range(first, last, LANES):
        count = min(LANES, last - head)
        M[:] = 0.0
        total[:] = 0.0
        for j in range(d):
            for v in range(LANES):
                M[j, j, v] = N
        for n in range(N):
            for v in range(LANES):
                for i in range(d):
                    x[i, v] = b[head + v, n, i] if v < count else 0.0
                    for j in range(i):
                        L[n, i, j, v] = G[head + v, n, i, j] if v < count else 0.0
                    L[n, i, i, v] = G[head + v, n, i, i] + shift if v < count else 1.0 + 2.0 * lam
            if _lanes_cholesky(L[n]) != 0:
                return head + 1
            _lanes_solve(L[n], x)
            total += x
            Z = L[n].copy()
            _lanes_invert_factor(Z)
            _lanes_add_inverse(Z, weight, M)
        if _lanes_cholesky(M) != 0:
            return head + 1
        for j in range(d):
            for v in range(count):
                # M is N·I minus terms of that size: a pivot of 1e-14 N is rounding (M_jj holds 1/L_jj).
                if M[j, j, v] * M[j, j, v] * N > 1e14:
                    return head + 1
        _lanes_solve(M, total)
        for v in range(count):
            rho[head + v] = total[:, v]
        for n in range(N):
            for i in range(d):
                for v in range(LANES):
                    moment = b[head + v, n, i] if v < count else 0.0
                    x[i, v] = moment + 2.0 * lam * total[i, v]
            _lanes_solve(L[n], x)
            for v in range(count):
                thetas[head + v, n] = x[:, v]
    return 0


_ROUNDING = 2.0**-50  # of a gradient B_nρ - b_n, relative to ‖b_n‖


def regularized_batch(G, b, shift, lam, kind, tolerance, rho, thetas, converged, first, last):
    """Least squares with ℓ2 or smooth-ℓ2 for each problem: Newton on ρ, as ``solvers.quadratic.minimize_models``.

    G (R, N, d, d), b (R, N, d); ``converged`` (R,) says where the gradient is at most ``tolerance`` times the forces
    that it sums, or at the level of their rounding (users who agree exert none).  LANES problems run side by side from
    ``first`` on; those on which this fails are done again one by one.
    """
    d = b.shape[2]
    for head in range(first, last, LANES):
        end = min(head + LANES, last)
        converged[head:end] = False
        if d <= SMALL:
            _lanes_regularized(
                G[head:end], b[head:end], shift, lam, kind, tolerance, rho[head:end], thetas[head:end],
                converged[head:end],
            )  # fmt: skip
        for r in range(head, end):
            if not converged[r]:
                converged[r] = _regularized_problem(G[r], b[r], shift, lam, kind, tolerance, rho[r], thetas[r])
    return 0


def _lanes_regularized(G, b, shift, lam, kind, tolerance, rho, thetas, converged):
    """Newton on ρ for at most LANES problems at once; a problem on which a step does not decrease is given up."""
    count, N, d = b.shape
    B = np.zeros((N, d, d, LANES))
    moments = np.zeros((N, d, LANES))
    K = np.empty((N, d, d, LANES))
    pulls = np.empty((N, d, LANES))
    bows = np.empty((N, d, LANES))
    sigmas = np.zeros((N, LANES))
    kappas = np.empty((N, LANES))
    hessian = np.empty((d, d, LANES))
    at = np.zeros((d, LANES))
    gradient = np.empty((d, LANES))
    value = np.empty(LANES)
    enough = np.empty(LANES)
    size = np.empty(LANES)
    active = np.zeros(LANES, dtype=np.bool_)
    active[:count] = True
    lengths = np.zeros((N, LANES))
    for v in range(count):
        for n in range(N):
            lengths[n, v] = np.sqrt(np.dot(b[v, n], b[v, n]))
            for i in range(d):
                moments[n, i, v] = b[v, n, i]
                for j in range(i):
                    B[n, i, j, v] = G[v, n, i, j]
                B[n, i, i, v] = G[v, n, i, i] + shift
    # The start is the minimum with springs of stiffness λ.
    status = _lanes_models(
        B, moments, at, 0.5 * lam, SQUARED_L2, active, tolerance, lengths, sigmas, K, pulls, bows, kappas, value,
        enough, gradient,
    )  # fmt: skip
    if status != 0 or _lanes_step(B, sigmas, K, bows, kappas, active, hessian, gradient, at) != 0:
        return
    sigmas[:] = 0.0
    best = np.full(LANES, np.inf)
    smallest = np.full(LANES, np.inf)
    for _ in range(20):
        status = _lanes_models(
            B, moments, at, lam, kind, active, tolerance, lengths, sigmas, K, pulls, bows, kappas, value,
            enough, gradient,
        )  # fmt: skip
        if status != 0:
            return
        size[:] = 0.0
        for i in range(d):
            for v in range(LANES):
                size[v] += gradient[i, v] * gradient[i, v]
        for v in range(count):
            size[v] = np.sqrt(size[v])
            if not active[v]:
                continue
            active[v] = value[v] <= best[v] or size[v] < smallest[v]
            if active[v] and size[v] <= enough[v]:
                converged[v] = True
                active[v] = False
                for i in range(d):
                    rho[v, i] = at[i, v]
                    for n in range(N):
                        thetas[v, n, i] = at[i, v] - sigmas[n, v] * pulls[n, i, v] if sigmas[n, v] > 0.0 else at[i, v]
            best[v] = min(best[v], value[v])
            smallest[v] = size[v]
        if not active.any():
            return
        if _lanes_step(B, sigmas, K, bows, kappas, active, hessian, gradient, at) != 0:
            return


def _lanes_models(
    B, moments, at, lam, kind, active, tolerance, lengths, sigmas, K, pulls, bows, kappas, value, enough, gradient
):
    """:func:`partial_minima` for user n of each active problem at ρ = ``at``; B includes the shift.

    K receives the factors, ``bows`` σB(I + σB)⁻¹ pull and ``kappas`` the factors of the negative part of the Hessian;
    ``enough`` is the gradient that counts as solved, ``lengths`` (N, LANES) are the ‖b_n‖.
    """
    N, d, lanes = moments.shape
    one = 1.0 if kind == SMOOTH_L2 else 0.0
    g = np.empty((d, lanes))
    length = np.empty(lanes)
    square = np.empty(lanes)
    bent = np.empty(lanes)
    model = np.empty(lanes)
    tied = np.empty(lanes, dtype=np.bool_)
    value[:] = 0.0
    enough[:] = 0.0
    gradient[:] = 0.0
    for n in range(N):
        for i in range(d):
            for v in range(lanes):
                g[i, v] = B[n, i, i, v] * at[i, v] - moments[n, i, v]
            for j in range(i):
                for v in range(lanes):
                    g[i, v] += B[n, i, j, v] * at[j, v]
                    g[j, v] += B[n, i, j, v] * at[i, v]
        square[:] = 0.0
        for i in range(d):
            for v in range(lanes):
                square[v] += g[i, v] * g[i, v]
        for v in range(lanes):
            length[v] = np.sqrt(square[v])
            tied[v] = not active[v] or (kind == L2 and length[v] <= lam)
        if _lanes_secular(B[n], 0.0, g, lam, kind, sigmas[n], tied, K[n], pulls[n], bows[n]) != 0:
            return 1
        square[:] = 0.0
        bent[:] = 0.0
        model[:] = 0.0
        for i in range(d):
            for v in range(lanes):
                pull = pulls[n, i, v]
                bow = pull - bows[n, i, v]
                bows[n, i, v] = bow
                square[v] += pull * pull
                bent[v] += pull * bow
                model[v] += (at[i, v] - sigmas[n, v] * pull) * (pull - moments[n, i, v])
                gradient[i, v] += pull
        for v in range(lanes):
            s = sigmas[n, v]
            z_square = s * s * square[v]
            if square[v] > 0.0:
                # A pull is rounded as g is, and g relative to b.
                enough[v] += np.sqrt(square[v]) * (tolerance + _ROUNDING * lengths[n, v] / length[v])
            value[v] += 0.5 * model[v] + _spring_energy(lam, kind, z_square)
            denominator = s * lam * lam * (one + s * s * bent[v])
            kappas[n, v] = (one + z_square) / denominator if kind != SQUARED_L2 and denominator > 0.0 else 0.0
    return 0


def _lanes_step(B, sigmas, K, bows, kappas, active, hessian, gradient, at):
    """at -= (Σ ∇²φ_n)⁻¹ gradient in each active lane, from what :func:`_lanes_models` left; K is overwritten."""
    N, d, lanes = bows.shape
    weight = np.empty(lanes)
    hessian[:] = 0.0
    for n in range(N):
        any_tied = False
        for v in range(lanes):
            s = sigmas[n, v]
            weight[v] = -1.0 / s if active[v] and s > 0.0 else 0.0
            any_tied = any_tied or (active[v] and not s > 0.0)
        for i in range(d):
            for v in range(lanes):
                hessian[i, i, v] -= weight[v]
            if any_tied:
                for j in range(i + 1):
                    for v in range(lanes):
                        hessian[i, j, v] += B[n, i, j, v] if active[v] and not sigmas[n, v] > 0.0 else 0.0
        _lanes_invert_factor(K[n])
        _lanes_add_inverse(K[n], weight, hessian)
        for i in range(d):
            for v in range(lanes):
                weight[v] = kappas[n, v] * bows[n, i, v]
            for j in range(i + 1):
                for v in range(lanes):
                    hessian[i, j, v] -= weight[v] * bows[n, j, v]
    for i in range(d):
        for v in range(lanes):
            if not active[v]:
                gradient[i, v] = 0.0
                hessian[i, i, v] = 1.0
                for j in range(i):
                    hessian[i, j, v] = 0.0
    if _lanes_cholesky(hessian) != 0:
        return 1
    _lanes_solve(hessian, gradient)
    for i in range(d):
        for v in range(lanes):
            at[i, v] -= gradient[i, v]
    return 0


def _regularized_problem(G, b, shift, lam, kind, tolerance, rho, thetas):
    """Newton on ρ for one problem, with the majorizer's step in reserve; returns whether it was solved."""
    N, d = b.shape
    center = np.zeros((N, d))
    sigmas = np.zeros(N)
    pulls = np.empty((N, d))
    hessian = np.empty((d, d))
    negative = np.empty((d, d))
    gradient = np.empty(d)
    new_gradient = np.empty(d)
    value = np.empty(1)
    K = np.empty((d, d))
    step = np.empty(d)
    trial = np.empty(d)
    g = np.empty(d)
    slope = -b
    trial[:] = 0.0
    sigmas[:] = 0.0
    _reset(value, new_gradient, hessian, negative)
    status = partial_minima(
        G, shift, center, slope, trial, 0.5 * lam, SQUARED_L2, 2, sigmas, thetas, pulls, value,
        new_gradient, hessian, negative, 0, N,
    )  # fmt: skip
    if status != 0 or _newton_step(hessian, new_gradient, K, trial) != 0:
        rho[:] = np.nan
        return False
    sigmas[:] = 0.0
    best = np.inf
    smallest = np.inf
    for attempt in range(100):
        _reset(value, new_gradient, K, negative)
        status = partial_minima(
            G, shift, center, slope, trial, lam, kind, 2, sigmas, thetas, pulls, value, new_gradient, K,
            negative, 0, N,
        )  # fmt: skip
        if status != 0:
            break
        size = np.sqrt(np.dot(new_gradient, new_gradient))
        enough = 0.0
        for n in range(N):
            symmetric_times(G[n], trial, g)
            g += shift * trial - b[n]
            length = np.sqrt(np.dot(g, g))
            if length > 0.0:
                rounding = _ROUNDING * np.sqrt(np.dot(b[n], b[n])) / length
                enough += np.sqrt(np.dot(pulls[n], pulls[n])) * (tolerance + rounding)
        if value[0] <= best or size < smallest:
            best = min(best, value[0])
            smallest = size
            rho[:] = trial
            gradient[:] = new_gradient
            hessian[:] = K
            if size <= enough:
                return True
            K -= negative
            if attempt > 50 or _newton_step(K, gradient, K, step) != 0:
                K[:] = hessian
                if _newton_step(K, gradient, K, step) != 0:
                    break
                trial[:] = rho + step
            else:
                trial[:] = rho + step
        else:
            # Newton overshot: the majorizer's step always decreases.
            K[:] = hessian
            if _newton_step(K, gradient, K, step) != 0:
                break
            trial[:] = rho + step
    if status != 0:
        rho[:] = np.nan
    return False


def _reset(value, gradient, hessian, negative):
    value[0] = 0.0
    gradient[:] = 0.0
    hessian[:] = 0.0
    negative[:] = 0.0


def _newton_step(H, gradient, K, step):
    """step = -H⁻¹ gradient, K overwritten by the factor; 1 if H is not positive definite."""
    K[:] = H
    if cholesky(K) != 0:
        return 1
    step[:] = -gradient
    cholesky_solve(K, step)
    return 0


# --------------------------------------------------------------------------------------------------------------
# Logistic regression of many small problems: rows side by side in blocks, so that vector instructions span rows
# --------------------------------------------------------------------------------------------------------------
#
# The rows of a user, each times its label, stand in blocks (d, _ROWS) that are filled up with zeros: a row of zeros
# adds nothing to a gradient or Hessian.  Sums over rows are kept in LANES partial sums.

_ROWS = 64
_LOG2_E = 1.4426950408889634
_ROUND = 6755399441055744.0  # 1.5·2^52: adding it rounds to an integer, which then stands in the lowest bits
# ln 2 as 33 bits and the rest, so that its products with integers below 2^20 are exact
_LN2_33 = 0.6931471803691238
_LN2_REST = 1.9082149292705877e-10
# No product of this many blocks of factors in [1, 2] overflows: 15·64 < 1023.
_FACTORS = 15


def _exp_negative(m, whole, out):
    """out = e^(-min(|m|, 708)) with a relative error below 3·2^-53, in a form that vectorizes.

    |m| = -k ln 2 - r with |r| <= ln 2 / 2.  The Taylor polynomial of degree 13 leaves out r^14/14! < 5e-18, and
    Horner's scheme rounds; ``whole`` (float64) receives 2^k, whose exponent is put together as an integer.
    """
    bits = whole.view(np.int64)
    for v in range(m.size):
        a = min(abs(m[v]), 708.0)
        shifted = _ROUND - a * _LOG2_E
        whole[v] = shifted
        k = shifted - _ROUND
        r = (-a - k * _LN2_33) - k * _LN2_REST
        p = 1.6059043836821613e-10
        p = p * r + 2.08767569878681e-09
        p = p * r + 2.505210838544172e-08
        p = p * r + 2.755731922398589e-07
        p = p * r + 2.7557319223985893e-06
        p = p * r + 2.48015873015873e-05
        p = p * r + 0.0001984126984126984
        p = p * r + 0.001388888888888889
        p = p * r + 0.008333333333333333
        p = p * r + 0.041666666666666664
        p = p * r + 0.16666666666666666
        p = p * r + 0.5
        p = p * r + 1.0
        out[v] = p * r + 1.0
    for v in range(m.size):
        bits[v] = (bits[v] + 1023) << 52
    for v in range(m.size):
        out[v] *= whole[v]


def _interleave(Q, labels, start, stop, step, X):
    """Rows start, start + step, ... < stop times their labels, in blocks X[k] (d, _ROWS); returns how many blocks."""
    d = Q.shape[1]
    blocks = 0
    for a in range(start, stop, step * _ROWS):
        for v in range(_ROWS):
            i = a + v * step
            if i < stop:
                for j in range(d):
                    X[blocks, j, v] = labels[i] * Q[i, j]
            else:
                for j in range(d):
                    X[blocks, j, v] = 0.0
        blocks += 1
    return blocks


def _logistic_sums(X, rows, theta, weights, sums, scratch, gradient):
    """Value Σ ln(1 + e^-m) and ``gradient`` -Σ σ(-m) x over the blocks X of one user, m = x·θ; weights = σ(m)σ(-m).

    The first ``rows`` rows are data.  ln(1 + e) is summed as the logarithm of Π(1 + e) = 1 + growth, where growth
    keeps its relative accuracy.  About 4d + 60 flops a row.
    """
    d = X.shape[1]
    m, e, whole, slope, growth, hinge = scratch
    sums[:] = 0.0
    growth[:] = 0.0
    hinge[:] = 0.0
    total = 0.0
    for k in range(X.shape[0]):
        for v in range(_ROWS):
            m[v] = theta[0] * X[k, 0, v]
        for j in range(1, d):
            for v in range(_ROWS):
                m[v] += theta[j] * X[k, j, v]
        for v in range(rows - k * _ROWS, _ROWS):
            m[v] = np.inf
        _exp_negative(m, whole, e)
        for v in range(_ROWS):
            inverse = 1.0 / (1.0 + e[v])
            slope[v] = (e[v] if m[v] > 0.0 else 1.0) * inverse
            weights[k, v] = e[v] * inverse * inverse
            growth[v] += e[v] * (1.0 + growth[v])
            hinge[v] += max(-m[v], 0.0)
        for j in range(d):
            for v in range(LANES):
                sums[j, v] += (slope[v] * X[k, j, v] + slope[v + LANES] * X[k, j, v + LANES]) + (
                    slope[v + 2 * LANES] * X[k, j, v + 2 * LANES] + slope[v + 3 * LANES] * X[k, j, v + 3 * LANES]
                )
        if k % _FACTORS == _FACTORS - 1 or k == X.shape[0] - 1:
            together = 0.0
            for v in range(_ROWS):
                together += growth[v] * (1.0 + together)
                growth[v] = 0.0
            total += np.log1p(together)
    for v in range(_ROWS):
        total += hinge[v]
    for j in range(d):
        gradient[j] = 0.0
        for v in range(LANES):
            gradient[j] -= sums[j, v]
    return total


def _interleaved_gram(X, weights, lanes, scaled, H):
    """H = Σ w x xᵀ over the blocks of one user, lower triangle.  rows·d² flops."""
    blocks, d, _ = X.shape
    if d > SMALL:
        H[:] = 0.0
        Y = np.empty((_ROWS, d))
        for k in range(blocks):
            for v in range(_ROWS):
                root = np.sqrt(weights[k, v])
                for i in range(d):
                    Y[v, i] = root * X[k, i, v]
            gram_add(Y, 1.0, H)
        return
    lanes[:] = 0.0
    for k in range(blocks):
        for i in range(d):
            for v in range(_ROWS):
                scaled[v] = weights[k, v] * X[k, i, v]
            for j in range(i + 1):
                for v in range(LANES):
                    lanes[i, j, v] += (scaled[v] * X[k, j, v] + scaled[v + LANES] * X[k, j, v + LANES]) + (
                        scaled[v + 2 * LANES] * X[k, j, v + 2 * LANES] + scaled[v + 3 * LANES] * X[k, j, v + 3 * LANES]
                    )
    for i in range(d):
        for j in range(i + 1):
            H[i, j] = 0.0
            for v in range(0, LANES, 4):
                H[i, j] += (lanes[i, j, v] + lanes[i, j, v + 1]) + (lanes[i, j, v + 2] + lanes[i, j, v + 3])


def _size_at_zero(X, heads, repeats, sums):
    """Norm of the gradients at θ = 0: half of the sums of the rows of each user, ``repeats`` times."""
    d = X.shape[1]
    square = 0.0
    for n in range(heads.size - 1):
        sums[:] = 0.0
        for k in range(heads[n], heads[n + 1]):
            for j in range(d):
                for v in range(LANES):
                    sums[j, v] += (X[k, j, v] + X[k, j, v + LANES]) + (X[k, j, v + 2 * LANES] + X[k, j, v + 3 * LANES])
        for j in range(d):
            total = 0.0
            for v in range(LANES):
                total += sums[j, v]
            square += (0.5 * repeats[n] * total) ** 2
    return np.sqrt(square)


def _logistic_arrowhead(
    X, heads, filled, repeats, nu, lam, rho, thetas, weights, sums, scratch, gradients, outer, joint
):
    """The loss of one problem, its gradients in θ (N, d) and ρ (``outer``), and ``joint``, the sum of all of these.

    The springs cancel from the sum, which is taken without them.  Other arguments as in :func:`_logistic_newton`.
    """
    N, d = thetas.shape
    total = 0.0
    outer[:] = 0.0
    joint[:] = 0.0
    for n in range(N):
        a, z = heads[n], heads[n + 1]
        data = _logistic_sums(X[a:z], filled[n], thetas[n], weights[a:z], sums, scratch, gradients[n])
        total += repeats[n] * data
        for i in range(d):
            z_i = rho[i] - thetas[n, i]
            total += nu * thetas[n, i] ** 2 + lam * z_i**2
            gradients[n, i] = repeats[n] * gradients[n, i] + 2.0 * nu * thetas[n, i]
            joint[i] += gradients[n, i]
            gradients[n, i] -= 2.0 * lam * z_i
            outer[i] += 2.0 * lam * z_i
    return total


def _logistic_newton(X, heads, filled, repeats, nu, lam, tolerance, rho, thetas):
    """Newton on the arrowhead system with backtracking, from (rho, thetas), which are overwritten, for one problem.

    User n has the blocks ``heads[n]:heads[n+1]`` of X, of which ``filled[n]`` rows are data, each counted
    ``repeats[n]`` times.  Returns whether the gradient became at most ``tolerance`` times that at 0, up to the forces
    that the springs exert when ρ and θ are rounded.
    """
    N, d = thetas.shape
    weights = np.empty((X.shape[0], _ROWS))
    lanes = np.empty((d, d, LANES))
    sums = np.empty((d, LANES))
    rows = np.empty((6, _ROWS))
    scratch = (rows[0], rows[1], rows[2], rows[3], rows[4], rows[5])
    L = np.empty((-(-N // LANES) if d <= SMALL else 0, d, d, LANES))
    H = np.empty((N, d, d))  # and the factors, where d > SMALL
    M = np.empty((d, d))
    outer = np.empty(d)
    joint = np.empty(d)
    drho = np.empty(d)
    nothing = np.zeros(d)
    gradients = np.empty((N, d))
    dthetas = np.empty((N, d))
    new_rho = rho.copy()
    new_thetas = thetas.copy()
    scale = _size_at_zero(X, heads, repeats, sums)
    value = _logistic_arrowhead(
        X, heads, filled, repeats, nu, lam, rho, thetas, weights, sums, scratch, gradients, outer, joint
    )
    length = 0.0
    before = 0.0
    again = 0
    for _ in range(200):
        size = np.sqrt((gradients * gradients).sum() + (outer * outer).sum())
        if size <= tolerance * scale or scale == 0.0:
            return True
        if np.sqrt((joint * joint).sum()) <= tolerance * scale:
            # A strong spring turns the last bit of ρ and θ into a force; only the sum of the gradients is free of it.
            grid = 2.0 * lam * np.sqrt(N * (rho * rho).sum() + (thetas * thetas).sum())
            if size <= tolerance * scale + 2.0**-50 * grid:
                return True
        gradients *= -1.0
        drho[:] = 0.0
        # After a whole step the factors serve once more, and then as long as two more such steps are all that it takes.
        if length == 1.0 and (again == 0 or (again < 3 and size * (size / before) ** 2 <= 0.01 * tolerance * scale)):
            again += 1
            if d > SMALL:
                back_substitute(H, gradients, nothing, dthetas, drho, 0, N)
            else:
                back_substitute_small(L, gradients, nothing, dthetas, drho, 0, N)
        else:
            again = 0
            for n in range(N):
                a, z = heads[n], heads[n + 1]
                _interleaved_gram(X[a:z], weights[a:z], lanes, rows[0], H[n])
                H[n] *= repeats[n]
            M[:] = 0.0
            if d > SMALL:
                status = quadratic_factor(2.0 * (nu + lam), H, gradients, M, drho, 0, N)
            else:
                status = quadratic_factor_small(H, 2.0 * (nu + lam), L, gradients, M, drho, 0, N)
            if status != 0:
                return False
            for i in range(d):
                for j in range(i + 1):
                    M[i, j] *= -2.0 * lam
                M[i, i] += N
            if cholesky(M) != 0:
                return False
        before = size
        for i in range(d):
            drho[i] = 2.0 * lam * drho[i] - outer[i]
        cholesky_solve(M, drho)
        # drho is 2λ times the step of ρ up to here.
        if d > SMALL:
            back_substitute(H, gradients, drho, dthetas, new_rho, 0, N)
        else:
            back_substitute_small(L, gradients, drho, dthetas, new_rho, 0, N)
        drho /= 2.0 * lam
        predicted = np.dot(outer, drho) - (gradients * dthetas).sum()
        length = 1.0
        accepted = False
        for _half in range(40):
            new_rho[:] = rho + length * drho
            new_thetas[:] = thetas + length * dthetas
            total = _logistic_arrowhead(
                X, heads, filled, repeats, nu, lam, new_rho, new_thetas, weights, sums, scratch, gradients, outer, joint
            )
            drowned = abs(total - value) <= 1e-11 * abs(value)
            if total - value <= 1e-4 * length * predicted or drowned:
                accepted = True
                break
            length *= 0.5
        if not accepted:
            return False
        rho[:] = new_rho
        thetas[:] = new_thetas
        value = total
    return False


# A first guess comes from every _THIN-th row of the users with _THIN blocks of rows or more.
_THIN = 4


def logistic_batch(Q, labels, start, stop, nu, lam, tolerance, rho, thetas, converged, first, last):
    """Logistic regression with ℓ2² for each problem: Newton on the arrowhead system with backtracking.

    ``start`` and ``stop`` are (R, N): user n of problem r has the rows ``start[r, n]:stop[r, n]`` of Q.  The gradient
    is brought below ``tolerance`` times that at 0.  About rows·(d² + 8d + 60) flops a step.
    """
    N, d = thetas.shape[1], thetas.shape[2]
    most = 0
    for r in range(first, last):
        blocks = 0
        for n in range(N):
            blocks += -(-(stop[r, n] - start[r, n]) // _ROWS)
        most = max(most, blocks)
    X = np.empty((most, d, _ROWS))
    heads = np.zeros(N + 1, dtype=np.int64)
    filled = np.empty(N, dtype=np.int64)
    repeats = np.empty(N)
    for r in range(first, last):
        rho[r] = 0.0
        thetas[r] = 0.0
        for thin in (_THIN, 1):
            thinned = False
            for n in range(N):
                count = stop[r, n] - start[r, n]
                step = thin if count >= _THIN * _ROWS else 1
                thinned = thinned or step > 1
                repeats[n] = step
                filled[n] = -(-count // step)
                heads[n + 1] = heads[n] - (-count // (step * _ROWS))
            if thin > 1 and not thinned:
                continue
            for n in range(N):
                _interleave(Q, labels, start[r, n], stop[r, n], int(repeats[n]), X[heads[n] : heads[n + 1]])
            converged[r] = _logistic_newton(
                X[: heads[N]], heads, filled, repeats, nu, lam, tolerance if thin == 1 else 0.1, rho[r], thetas[r]
            )
            if thin > 1 and not converged[r]:
                rho[r] = 0.0
                thetas[r] = 0.0
    return 0


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


def two_sum(a, b):
    """Return s, e with a + b = s + e exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a, b):
    """Return p, e with a·b = p + e exactly, but for overflow and underflow."""
    p = a * b
    c = _SPLITTER * a
    a_high = c - (c - a)
    a_low = a - a_high
    c = _SPLITTER * b
    b_high = c - (c - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def dd_add(a, a_low, b, b_low):
    """(a + a_low) + (b + b_low)."""
    s, e = two_sum(a, b)
    t, f = two_sum(a_low, b_low)
    e = e + t
    high = s + e
    e = (e - (high - s)) + f
    total = high + e
    return total, e - (total - high)


def dd_multiply(a, a_low, b, b_low):
    """(a + a_low)·(b + b_low)."""
    p, e = two_product(a, b)
    e = e + (a * b_low + a_low * b)
    high = p + e
    return high, e - (high - p)


def dd_divide(a, a_low, b, b_low):
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


def dd_exp(x, x_low):
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


def dd_expit(x, x_low):
    """σ(x + x_low) = 1/(1 + e^-x); relative error below 2^-84, plus 1e-299 where the exponential counts as 0."""
    if x > 0.0:
        e, e_low = dd_exp(-x, -x_low)
        s, s_low = dd_add(1.0, 0.0, e, e_low)
        return dd_divide(1.0, 0.0, s, s_low)
    e, e_low = dd_exp(x, x_low)
    s, s_low = dd_add(1.0, 0.0, e, e_low)
    return dd_divide(e, e_low, s, s_low)


def slopes(kind, m, m_low, m_error, labels, s, s_low, s_error):
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


def data_gradients(Q, labels, start, stop, thetas, thetas_low, kind, high, low, error, first, last):
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


# --------------------------------------------------------------------------------------------------------------
# Compilation, one line a kernel
# --------------------------------------------------------------------------------------------------------------

_compile = numba.njit(cache=True, nogil=True, error_model="numpy")

# Sums in any order: for LLVM to keep several partial sums, which loses no accuracy.
_compile_sums = numba.njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"}, inline="never"
)

gram_add = _compile(gram_add)
gram_add_single = _compile(gram_add_single)
symmetric_times = _compile(symmetric_times)
cholesky = _compile(cholesky)
cholesky_inverse = _compile(cholesky_inverse)
cholesky_solve = _compile(cholesky_solve)
eigenbasis_rows = _compile(eigenbasis_rows)
_normal_equations = _compile(_normal_equations)
_eliminate = _compile(_eliminate)
_secular = _compile(_secular)
_spring_energy = _compile(_spring_energy)
_add_softening = _compile(_add_softening)
_solve_secular = _compile(_solve_secular)
margins = _compile(margins)
pull_back = _compile(pull_back)
least_squares_gradients = _compile(least_squares_gradients)
weighted_gram = _compile(weighted_gram)
logistic_terms = _compile(logistic_terms)
multinomial_hessian = _compile(multinomial_hessian)
least_squares_factor = _compile(least_squares_factor)
quadratic_factor = _compile(quadratic_factor)
arrowhead_factor = _compile(arrowhead_factor)
back_substitute = _compile(back_substitute)
least_squares_normal = _compile(least_squares_normal)
eigenbases = _compile(eigenbases)
partial_minima = _compile(partial_minima)
partial_minima_eigen = _compile(partial_minima_eigen)
_lanes_cholesky = _compile(_lanes_cholesky)
_lanes_solve = _compile(_lanes_solve)
_lanes_invert_factor = _compile(_lanes_invert_factor)
_lanes_add_inverse = _compile(_lanes_add_inverse)
_sum_lanes = _compile(_sum_lanes)
_lanes_eliminate = _compile(_lanes_eliminate)
_quadratic_form = _compile(_quadratic_form)
_lanes_secular = _compile(_lanes_secular)
least_squares_factor_small = _compile(least_squares_factor_small)
quadratic_factor_small = _compile(quadratic_factor_small)
back_substitute_small = _compile(back_substitute_small)
partial_minima_small = _compile(partial_minima_small)
_class_terms = _compile(_class_terms)
followed_minima = _compile(followed_minima)
_load_rows = _compile(_load_rows)
_rows_times = _compile_sums(_rows_times)
_add_rows = _compile_sums(_add_rows)
softmax_terms = _compile(softmax_terms)
softmax_hessian_times = _compile(softmax_hessian_times)
_reset = _compile(_reset)
_newton_step = _compile(_newton_step)
squared_l2_batch = _compile(squared_l2_batch)
_lanes_models = _compile(_lanes_models)
_lanes_step = _compile(_lanes_step)
_lanes_regularized = _compile(_lanes_regularized)
_regularized_problem = _compile(_regularized_problem)
regularized_batch = _compile(regularized_batch)
_exp_negative = _compile(_exp_negative)
_interleave = _compile(_interleave)
_logistic_sums = _compile(_logistic_sums)
_interleaved_gram = _compile(_interleaved_gram)
_size_at_zero = _compile(_size_at_zero)
_logistic_arrowhead = _compile(_logistic_arrowhead)
_logistic_newton = _compile(_logistic_newton)
logistic_batch = _compile(logistic_batch)
gram_and_factor = _compile(gram_and_factor)
two_sum = _compile(two_sum)
two_product = _compile(two_product)
dd_add = _compile(dd_add)
dd_multiply = _compile(dd_multiply)
dd_divide = _compile(dd_divide)
dd_exp = _compile(dd_exp)
dd_expit = _compile(dd_expit)
slopes = _compile(slopes)
data_gradients = _compile(data_gradients)
