r"""Large K-class problems with ℓ2²: Newton with conjugate gradients, no Hessian is ever formed.

With ℓ2² the global model is ρ = (Σ_n θ_n + Σ_p m_p - g/(2λ))/(N + M) for M pinned models m_p, so only Θ remains:

.. math:: \nabla_n = \nabla\mathcal L_n(\theta_n) + 2\lambda(\theta_n - \rho), \qquad
          (HV)_n = \nabla^2\mathcal L_n V_n + 2\lambda\bigl(V_n - \tfrac{1}{N + M}\textstyle\sum_k V_k\bigr).

* The queries are kept as bytes where that loses nothing (images), their constant-zero columns left out: there the
  minimum has a closed form.
* Values and gradients are in double precision; Hessian-vector products, which only steer, in single precision.
* The preconditioner is the pooled Hessian of each class by itself, shifted by 2λ + 2ν for deviations from the mean
  model and by 2ν for the mean; what all classes share is divided by the shift, as the losses are flat there.

Source: section 5.1 and Appendix I (the paper's MNIST problem).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.linalg

from solvers import _kernels as kernels
from solvers._parallel import n_threads, one_blas_thread, over_items, over_users
from solvers.optimality import gradient_at_zero
from solvers.quadratic import built_in
from solvers.views import anchors_of, assemble, rows_of_free
from theory import Multinomial, Problem, SquaredL2
from theory.arrays import Array

_MAX_ITERATIONS = 300
_MAX_CG = 80
_FLOOR = 1e-13
_STAGE = 1e-3  # relative gradient at which ν falls
_UNITS = (1.0, 1.0 / 255.0, 1.0 / 16.0)


def is_large(problem: Problem) -> bool:
    """Whether the Hessians of all users would take more than a quarter of a gigabyte."""
    return 8.0 * problem.n_users * problem.dim**2 > 2**28


def fits(problem: Problem) -> bool:
    """Whether this method solves ``problem``: K classes, ℓ2², ν > 0 (or a pinned model)."""
    return (
        type(problem.loss) is Multinomial
        and isinstance(problem.reg, SquaredL2)
        and (problem.nu > 0 or bool(problem.pinned))
        and bool(problem.free.any())
    )


@dataclass(frozen=True, eq=False)
class CompactQueries:
    """Q[:, columns] = unit · X up to one rounding of the product (images are x/255); all other columns of Q are 0."""

    X: np.ndarray
    unit: float
    columns: np.ndarray


def compact(Q: Array) -> CompactQueries:
    """Return the queries as bytes where that loses nothing, else as they are, without columns that are 0 throughout.

    Examples
    --------
    >>> found = compact(np.array([[0.0, 0.0, 1.0], [128 / 255, 0.0, 1.0]]))
    >>> found.X.dtype.name, found.columns
    ('uint8', array([0, 2]))
    """
    columns = np.flatnonzero(Q.any(axis=0))
    for unit in _UNITS:
        as_bytes = _bytes(Q, columns, unit)
        if as_bytes is not None:
            return CompactQueries(as_bytes, unit, columns)
    return CompactQueries(np.ascontiguousarray(Q[:, columns]), 1.0, columns)


def _bytes(Q: Array, columns: np.ndarray, unit: float) -> np.ndarray | None:
    out = np.empty((len(Q), len(columns)), dtype=np.uint8)
    for a in range(0, len(Q), 4096):
        part = Q[a : a + 4096][:, columns]
        scaled = np.rint(part / unit)
        if not (scaled.min(initial=0) >= 0 and scaled.max(initial=0) <= 255 and np.array_equal(scaled * unit, part)):
            # x/255 is not x·(1/255) to the last bit; both spellings of the same image are taken.
            if not (0 < unit < 1 and scaled.min() >= 0 and scaled.max() <= 255):
                return None
            if not np.array_equal(scaled / round(1.0 / unit), part):
                return None
        out[a : a + 4096] = scaled
    return out


class _Loss:
    """The loss of Θ (N, K, d) once ρ is eliminated."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.queries = compact(problem.stack.Q)
        self.start, self.stop = rows_of_free(problem)
        self.labels = problem.stack.labels
        self.mass = self.labels.sum(axis=1).astype(np.float32)
        self.lam, self.nu = built_in(problem.reg).lam, problem.nu
        self.K = problem.loss.n_outputs
        d = len(self.queries.columns)
        self.shape = (len(self.start), self.K, d)
        anchors = anchors_of(problem)
        live = anchors.models.reshape(-1, self.K, problem.query_dim)[:, :, self.queries.columns]
        slope = anchors.slope.reshape(self.K, -1)[:, self.queries.columns]
        self.pins = live
        self.count = len(self.start) + len(live)
        self.offset = live.sum(axis=0) - slope / (2.0 * self.lam)
        self.slope = slope
        self.owner, self.first, self.last = pieces(self.start, self.stop, n_threads())

    def at(self, nu: float) -> _Loss:
        """Return this loss with another ν."""
        other = copy(self)
        other.nu = nu
        return other

    def rho(self, theta: Array) -> Array:
        """Return the ρ that is best for Θ."""
        return (theta.sum(axis=0) + self.offset) / self.count

    def evaluate(self, theta: Array) -> tuple[float, Array, np.ndarray]:
        """Return value, gradient (N, K, d) and class probabilities (rows, K) in single precision."""
        values, parts = np.zeros(len(self.owner)), np.empty((len(self.owner), *self.shape[1:]))
        probabilities = np.zeros(self.labels.shape, dtype=np.float32)
        theta = np.ascontiguousarray(theta)

        def task(_part: int, a: int, b: int) -> int:
            return kernels.softmax_terms(
                self.queries.X,
                self.queries.unit,
                self.labels,
                self.first,
                self.last,
                self.owner,
                theta,
                probabilities,
                values,
                parts,
                a,
                b,
            )

        over_users(task, self._flops())
        rho = self.rho(theta)
        away = theta - rho
        value = (
            values.sum() + self.nu * np.sum(theta**2) + self.lam * (np.sum(away**2) + np.sum((rho - self.pins) ** 2))
        )
        gradients = self._by_user(parts) + 2.0 * self.nu * theta + 2.0 * self.lam * away
        return float(value + np.sum(self.slope * rho)), gradients, probabilities

    def hessian_times(self, V: Array, probabilities: np.ndarray) -> Array:
        """Return HV; the data part in single precision."""
        parts = np.empty((len(self.owner), *self.shape[1:]), dtype=np.float32)
        single, unit = np.ascontiguousarray(V, dtype=np.float32), np.float32(self.queries.unit)

        def task(_part: int, a: int, b: int) -> int:
            return kernels.softmax_hessian_times(
                self.queries.X, unit, self.mass, probabilities, self.first, self.last, self.owner, single, parts, a, b
            )

        over_users(task, self._flops())
        spring = 2.0 * (self.nu + self.lam) * V - (2.0 * self.lam / self.count) * V.sum(axis=0)
        return self._by_user(parts.astype(np.float64)) + spring

    def weights(self, probabilities: np.ndarray) -> np.ndarray:
        """Return mass·p(1 - p) for each class (K, rows), 0 in rows that belong to no free user."""
        out = np.ascontiguousarray((self.mass[:, None] * probabilities * (1.0 - probabilities)).T)
        for a, b in zip(np.append(0, self.stop), np.append(self.start, len(self.mass)), strict=True):
            out[:, a:b] = 0.0
        return out

    def _flops(self) -> Array:
        return (self.last - self.first) * (4.0 * self.shape[1] * self.shape[2])

    def _by_user(self, parts: Array) -> Array:
        out = np.zeros(self.shape)
        np.add.at(out, self.owner, parts)
        return out


def pieces(start: np.ndarray, stop: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut the rows of each user for ``threads`` threads: owner, first and last row of each piece.

    Examples
    --------
    >>> pieces(np.array([0, 10]), np.array([10, 2510]), 2)
    (array([0, 1, 1]), array([   0,   10, 1260]), array([  10, 1260, 2510]))
    """
    target = max(-(-int(np.sum(stop - start)) // (4 * threads)), 1024)
    owner, edges = [], []
    for n, (a, b) in enumerate(zip(start, stop, strict=True)):
        cuts = np.linspace(a, b, max(round((b - a) / target), 1) + 1).astype(np.int64)
        owner += [n] * (len(cuts) - 1)
        edges += list(pairwise(cuts))
    first, last = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return np.array(owner, dtype=np.int64), np.ascontiguousarray(first), np.ascontiguousarray(last)


class _Preconditioner:
    """Per class: (M_k + (2ν + 2λ)I)⁻¹ for deviations from the mean model, (M_k + (2ν + 2λM/(N+M))I)⁻¹ for the mean."""

    def __init__(self, loss: _Loss, probabilities: np.ndarray, sample: int) -> None:
        n, K, d = loss.shape
        self.shifts = (
            2.0 * (loss.nu + loss.lam),
            2.0 * loss.nu + 2.0 * loss.lam * (loss.count - n) / loss.count,
        )
        self.deviation = np.empty((K, d, d), dtype=np.float32)
        self.mean = np.empty((K, d, d))  # up to 1/(2ν) beside 1/‖M‖: more than single precision holds
        weights = loss.weights(probabilities)
        X, scale = loss.queries.X, loss.queries.unit**2 / n
        diagonals = _diagonals(X, weights)
        scores = _scores(X, weights, diagonals + self.shifts[1] / scale)

        def task(k: int) -> None:
            M = _pooled_hessian(X, weights[k], scores[k], diagonals[k], sample) * scale
            self.deviation[k] = _inverse(M, self.shifts[0])
            self.mean[k] = _inverse(M, self.shifts[1])

        over_items(task, K)

    def __call__(self, R: Array) -> Array:
        """Return the preconditioned residual (N, K, d)."""
        common = R.mean(axis=1, keepdims=True)  # the same for every class: the losses are flat there
        rest = R - common
        mean = rest.mean(axis=0)
        by_class = np.ascontiguousarray((rest - mean).transpose(1, 0, 2), dtype=np.float32)
        Z = np.empty(by_class.shape)

        def task(k: int) -> None:
            Z[k] = by_class[k] @ self.deviation[k] + mean[k] @ self.mean[k]

        over_items(task, len(Z))
        out = np.ascontiguousarray(Z.transpose(1, 0, 2))
        common_mean = common.mean(axis=0)
        flat = (common - common_mean) / self.shifts[0] + common_mean / self.shifts[1]
        return out - out.mean(axis=1, keepdims=True) + flat


_SAMPLES = (4096, 16384)  # rows of a class in the pooled Hessian: at first, and where CG takes long


def _pooled_hessian(X: np.ndarray, weight: np.ndarray, score: np.ndarray, diagonal: np.ndarray, size: int) -> Array:
    """Σ_i w_i X_i X_iᵀ (lower triangle) from a sample of the rows, scaled to the exact diagonal."""
    rows, scale = systematic_sample(weight, score, size)
    total = np.zeros((X.shape[1], X.shape[1]), dtype=np.float32, order="F")
    for a in range(0, len(rows), 2048):
        block = X[rows[a : a + 2048]].astype(np.float32) * scale[a : a + 2048, None]
        total = scipy.linalg.blas.ssyrk(1.0, block.T, beta=1.0, c=total, lower=1, overwrite_c=1)
    seen = np.diag(total) > 0
    ratio = np.sqrt(np.where(seen, diagonal, 0.0) / np.where(seen, np.diag(total), 1.0))
    M = total.astype(np.float64) * ratio[:, None] * ratio
    np.fill_diagonal(M, diagonal)
    return M


def systematic_sample(weight: np.ndarray, score: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return about ``size`` rows and the square roots of weights w' with E Σ w'_i X_i X_iᵀ = Σ w_i X_i X_iᵀ.

    Row i is taken with probability q_i = min(1, score_i/τ), evenly along the rows, and weighs w_i/q_i.

    Examples
    --------
    >>> weight = np.array([4.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    >>> rows, scale = systematic_sample(weight, weight, 3)
    >>> rows, scale**2
    (array([0, 1, 4]), array([4., 2., 2.]))
    """
    score = np.where(weight > 0, score, 0.0).astype(np.float64)
    if np.count_nonzero(score) <= size:
        rows = np.flatnonzero(score)
        return rows, np.sqrt(weight[rows])
    threshold = np.inf
    while True:  # τ falls, as rows become certain, until Σ min(1, score/τ) is the size
        certain = score >= threshold
        following = float(score[~certain].sum()) / (size - np.count_nonzero(certain))
        if not following < threshold * (1.0 - 1e-9):
            break
        threshold = following
    q = np.minimum(score / threshold, 1.0)
    count = np.cumsum(q)
    rows = np.flatnonzero(np.floor(count + 0.5) > np.floor(count - q + 0.5))
    return rows, np.sqrt(weight[rows] / q[rows])


def _diagonals(X: np.ndarray, weights: np.ndarray) -> Array:
    """Σ_i w_ki X_ij² (K, d)."""
    blocks = _row_blocks(len(X))
    parts = np.empty((len(blocks), len(weights), X.shape[1]), dtype=np.float32)

    def task(i: int) -> None:
        block = X[blocks[i]].astype(np.float32)
        parts[i] = weights[:, blocks[i]] @ (block * block)

    over_items(task, len(blocks))
    return parts.sum(axis=0, dtype=np.float64)


def _scores(X: np.ndarray, weights: np.ndarray, metric: Array) -> np.ndarray:
    """w_ki Σ_j X_ij²/metric_kj (K, rows): how much row i adds to M_k where the other rows add little."""
    out = np.empty_like(weights)
    blocks, inverse = _row_blocks(len(X)), (1.0 / metric).astype(np.float32)

    def task(i: int) -> None:
        block = X[blocks[i]].astype(np.float32)
        out[:, blocks[i]] = weights[:, blocks[i]] * (inverse @ (block * block).T)

    over_items(task, len(blocks))
    return out


def _row_blocks(n_rows: int) -> list[slice]:
    return [slice(a, a + 2048) for a in range(0, n_rows, 2048)]


def _inverse(M: Array, shift: float) -> Array:
    """(M + shift·I)⁻¹, with what single precision left uncertain in M added to its diagonal."""
    shifted = M + np.diag(shift + 1e-6 * np.diag(M))
    factor, status = scipy.linalg.lapack.dpotrf(shifted, lower=1)
    if status != 0:  # single precision lost definiteness: the diagonal alone
        return np.diag(1.0 / np.diag(shifted))
    inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=1)
    return np.tril(inverse) + np.tril(inverse, -1).T


def newton_cg(problem: Problem, start: tuple[Array, Array] | None = None) -> tuple[Array, Array, int, float]:
    """Return ρ (P,), θ (N, P), the number of Newton steps and ‖∇Loss(0, 0)‖."""
    with one_blas_thread():  # threads of BLAS that wait for work, after a dot product even, would keep kernels waiting
        loss = _Loss(problem)
        descent = _Descent(loss)
        if start is None:
            theta = descent.follow(np.zeros(loss.shape))
        else:
            free = start[1][problem.free].reshape(-1, loss.K, problem.query_dim)
            theta = np.ascontiguousarray(free[:, :, loss.queries.columns])
        theta = descent.run(loss, theta, _FLOOR)
        rho, thetas = _embed(loss, theta)
        return rho, assemble(problem, thetas), descent.iterations, gradient_at_zero(problem)


def stages(first: float, last: float) -> list[float]:
    """Values of ν, ten times smaller each, from ``first`` to above ``last``, at most nine.

    Examples
    --------
    >>> stages(0.1, 1e-3)
    [0.1, 0.01]
    """
    count = int(np.ceil(np.log10(first / max(last, 1e-9 * first)) - 0.5)) if first > 0 else 0
    return [float(first / 10.0**j) for j in range(count)]


class _Descent:
    """Damped Newton steps, counted; gradients are relative to the one at Θ = 0."""

    def __init__(self, loss: _Loss) -> None:
        self.loss = loss
        _, gradient, self._flat = loss.evaluate(np.zeros(loss.shape))
        self.scale = max(float(np.linalg.norm(gradient)), 1e-300)
        self.iterations, self.sample = 0, _SAMPLES[0]

    def follow(self, theta: Array) -> Array:
        """Follow the minimum as ν falls to its value, a few steps for each ν.

        Rows that are all but decided (rare pixels) make Newton's steps overshoot, and cost damped steps; a larger ν
        forbids that.  As ν falls tenfold, Θ moves about as it did the time before.
        """
        loss = self.loss
        diagonal = _diagonals(loss.queries.X, loss.weights(self._flat)) * loss.queries.unit**2
        curvature = float(diagonal.sum()) / max(diagonal.size, 1)
        previous = None
        for nu in stages(2e-3 * curvature / len(theta), loss.nu):
            start = theta if previous is None else 2.0 * theta - previous
            previous, theta = theta, self.run(loss.at(nu), start, _STAGE)
        return theta

    def run(self, loss: _Loss, theta: Array, tolerance: float) -> Array:
        """Return Θ with a relative gradient of at most ``tolerance``, or the best that rounding allows."""
        value, gradient, probabilities = loss.evaluate(theta)
        size, forcing, last_length, age, idle = float(np.linalg.norm(gradient)) / self.scale, 0.25, 1.0, 0, 0
        if size <= tolerance:
            return theta
        preconditioner = _Preconditioner(loss, probabilities, self.sample)
        while self.iterations < _MAX_ITERATIONS and size > tolerance and idle < 3:
            self.iterations += 1
            step, n_cg = _conjugate_gradients(loss, probabilities, gradient, preconditioner, forcing)
            found = _search(loss, theta, value, gradient, step, min(1.0, 4.0 * last_length))
            if found is None:
                break
            theta, value, gradient, probabilities, last_length = found
            previous, size = size, float(np.linalg.norm(gradient)) / self.scale
            if last_length == 1.0 and size < previous / 3.0:
                forcing = min(0.25, 0.3 * size / previous)
            idle = idle + 1 if 0.7 * previous < size < 1e-8 else 0
            age += 1
            if n_cg > 40:
                self.sample = min(2 * self.sample, _SAMPLES[1])
            if n_cg > 12 and age >= 3 and size > max(tolerance, 1e-12):
                preconditioner, age = _Preconditioner(loss, probabilities, self.sample), 0
        return theta


def _embed(loss: _Loss, theta: Array) -> tuple[Array, Array]:
    """Put the columns that are constant 0 back, where every model is that of the pinned users' mean, or 0."""
    n, K, _ = loss.shape
    d, columns = loss.problem.query_dim, loss.queries.columns
    thetas, rho = np.zeros((n, K, d)), np.zeros((K, d))
    thetas[:, :, columns] = theta
    rho[:, columns] = loss.rho(theta)
    dead = np.setdiff1d(np.arange(d), columns)
    if len(dead):
        anchors = anchors_of(loss.problem)
        pull = anchors.models.reshape(-1, K, d)[:, :, dead].sum(axis=0) * 2.0 * loss.lam
        pull -= anchors.slope.reshape(K, d)[:, dead]
        # (2ν + 2λ)θ = 2λρ for every user, and 2λ(N + M)ρ = 2λNθ + pull.
        share = loss.lam / (loss.nu + loss.lam)
        rho[:, dead] = pull / (2.0 * loss.lam * (loss.count - n * share))
        thetas[:, :, dead] = share * rho[:, dead]
    return rho.ravel(), thetas.reshape(n, -1)


def _conjugate_gradients(
    loss: _Loss, probabilities: np.ndarray, gradient: Array, preconditioner: _Preconditioner, forcing: float
) -> tuple[Array, int]:
    """Return an approximate -H⁻¹∇ with residual at most ``forcing`` times the gradient, and the iterations."""
    step, residual = np.zeros_like(gradient), -gradient
    target = forcing * float(np.linalg.norm(gradient))
    z = preconditioner(residual)
    direction, product = z, float(np.sum(residual * z))
    for iteration in range(1, _MAX_CG + 1):
        curved = loss.hessian_times(direction, probabilities)
        curvature = float(np.sum(direction * curved))
        if not curvature > 0 or not product > 0:
            return (step if iteration > 1 else z), iteration
        length = product / curvature
        step = step + length * direction
        residual = residual - length * curved
        if float(np.linalg.norm(residual)) <= target:
            return step, iteration
        z = preconditioner(residual)
        following = float(np.sum(residual * z))
        direction, product = z + (following / product) * direction, following
    return step, _MAX_CG


def _search(
    loss: _Loss, theta: Array, value: float, gradient: Array, step: Array, length: float
) -> tuple[Array, float, Array, np.ndarray, float] | None:
    """Find a length of sufficient decrease, by cubic interpolation from the slopes at both ends."""
    slope = float(np.sum(gradient * step))
    if not slope < 0:
        return None
    size = float(np.linalg.norm(gradient))
    for _ in range(30):
        moved = theta + length * step
        new_value, new_gradient, probabilities = loss.evaluate(moved)
        change = new_value - value
        drowned = abs(change) <= 1e-11 * abs(value)
        if (change < 0 and change <= 1e-4 * length * slope and not drowned) or (
            drowned and float(np.linalg.norm(new_gradient)) < size
        ):
            return moved, new_value, new_gradient, probabilities, length
        if drowned:
            return None
        length *= _shrink(change, length * slope, length * float(np.sum(new_gradient * step)))
    return None


def _shrink(change: float, slope: float, new_slope: float) -> float:
    """Return where on (0, 1) the cubic with these end values and slopes is least, kept within [0.1, 0.5]."""
    a = slope + new_slope - 3.0 * change
    b = a * a - slope * new_slope
    if not np.isfinite(b) or b < 0:
        return 0.5
    root = np.sqrt(b)
    denominator = new_slope - slope + 2.0 * root
    at = 1.0 - (new_slope + root - a) / denominator if denominator != 0 else 0.5
    return float(min(max(at, 0.1), 0.5))
