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

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from solvers import _kernels as kernels
from solvers._parallel import over_items, over_users
from solvers.optimality import gradient_at_zero
from solvers.quadratic import built_in
from solvers.views import anchors_of, assemble, rows_of_free
from theory import Multinomial, Problem, SquaredL2
from theory.arrays import Array

_MAX_ITERATIONS = 300
_MAX_CG = 80
_FLOOR = 1e-13
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
        self.rows = (self.stop - self.start).astype(np.float64)

    def rho(self, theta: Array) -> Array:
        """Return the ρ that is best for Θ."""
        return (theta.sum(axis=0) + self.offset) / self.count

    def evaluate(self, theta: Array) -> tuple[float, Array, np.ndarray]:
        """Return value, gradient (N, K, d) and class probabilities (rows, K) in single precision."""
        n, K, d = self.shape
        values, gradients = np.zeros(n), np.empty(self.shape)
        probabilities = np.zeros((len(self.labels), K), dtype=np.float32)
        X, unit = self.queries.X, self.queries.unit

        def task(part: int, a: int, b: int) -> int:
            return kernels.softmax_terms(
                X, unit, self.labels, self.start, self.stop, theta, probabilities, values, gradients, a, b
            )

        over_users(task, self.rows * (4.0 * K * d))
        rho = self.rho(theta)
        away = theta - rho
        value = (
            values.sum() + self.nu * np.sum(theta**2) + self.lam * (np.sum(away**2) + np.sum((rho - self.pins) ** 2))
        )
        gradients += 2.0 * self.nu * theta + 2.0 * self.lam * away
        return float(value + np.sum(self.slope * rho)), gradients, probabilities

    def hessian_times(self, V: Array, probabilities: np.ndarray) -> Array:
        """Return HV; the data part in single precision."""
        out = np.empty(self.shape, dtype=np.float32)
        X, unit = self.queries.X, np.float32(self.queries.unit)
        single = V.astype(np.float32)

        def task(part: int, a: int, b: int) -> int:
            return kernels.softmax_hessian_times(X, unit, probabilities, self.start, self.stop, single, out, a, b)

        over_users(task, self.rows * (4.0 * self.K * self.shape[2]))
        return out + 2.0 * (self.nu + self.lam) * V - (2.0 * self.lam / self.count) * V.sum(axis=0)


class _Preconditioner:
    """Per class: (M_k + (2ν + 2λ)I)⁻¹ for deviations from the mean model, (M_k + (2ν + 2λM/(N+M))I)⁻¹ for the mean."""

    def __init__(self, loss: _Loss, probabilities: np.ndarray) -> None:
        n, K, d = loss.shape
        self.shifts = (
            2.0 * (loss.nu + loss.lam),
            2.0 * loss.nu + 2.0 * loss.lam * (loss.count - n) / loss.count,
        )
        self.deviation = np.empty((K, d, d), dtype=np.float32)
        self.mean = np.empty((K, d, d), dtype=np.float32)

        def task(k: int) -> None:
            M = _pooled_hessian(loss, probabilities[:, k]) / n
            self.deviation[k] = _inverse(M, self.shifts[0])
            self.mean[k] = _inverse(M, self.shifts[1])

        over_items(task, K)

    def __call__(self, R: Array) -> Array:
        """Return the preconditioned residual (N, K, d)."""
        common = R.mean(axis=1, keepdims=True)  # the same for every class: the losses are flat there
        single = (R - common).astype(np.float32)
        mean = single.mean(axis=0)
        by_class = np.ascontiguousarray((single - mean).transpose(1, 0, 2))
        Z = np.matmul(by_class, self.deviation) + np.matmul(mean[:, None, :], self.mean)
        Z = Z.transpose(1, 0, 2).astype(np.float64)
        common_mean = common.mean(axis=0)
        flat = (common - common_mean) / self.shifts[0] + common_mean / self.shifts[1]
        return Z - Z.mean(axis=1, keepdims=True) + flat


_SMALLEST_WEIGHT = 1e-4


def _pooled_hessian(loss: _Loss, p: np.ndarray) -> np.ndarray:
    """Σ_i p_i(1 - p_i) Q_i Q_iᵀ over all rows, without rows of small weight but with an exact diagonal."""
    X, unit = loss.queries.X, loss.queries.unit
    used = np.zeros(len(p), dtype=bool)
    for a, b in zip(loss.start, loss.stop, strict=True):
        used[a:b] = True
    weight = np.where(used, p * (1.0 - p), 0.0).astype(np.float32)
    kept = np.flatnonzero(weight > _SMALLEST_WEIGHT)
    total = np.zeros((X.shape[1], X.shape[1]), dtype=np.float32)
    diagonal = np.zeros(X.shape[1])
    for a in range(0, len(kept), 4096):
        rows = kept[a : a + 4096]
        block = X[rows].astype(np.float32) * np.sqrt(weight[rows])[:, None]
        total += block.T @ block
    for a in range(0, len(p), 8192):
        block = X[a : a + 8192].astype(np.float32)
        diagonal += weight[a : a + 8192] @ (block * block)
    np.fill_diagonal(total, diagonal)
    return total.astype(np.float64) * unit**2


def _inverse(M: Array, shift: float) -> np.ndarray:
    shifted = M + (shift + 1e-7 * float(np.trace(M)) / len(M)) * np.eye(len(M))
    factor, status = scipy.linalg.lapack.dpotrf(shifted, lower=1)
    if status != 0:  # single precision lost definiteness: the diagonal alone
        return np.diag(1.0 / np.diag(shifted))
    inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=1)
    return np.tril(inverse) + np.tril(inverse, -1).T


def newton_cg(problem: Problem, start: tuple[Array, Array] | None = None) -> tuple[Array, Array, int, float]:
    """Return ρ (P,), θ (N, P), the number of Newton steps and ‖∇Loss(0, 0)‖."""
    loss = _Loss(problem)
    theta = np.zeros(loss.shape)
    value, gradient, probabilities = loss.evaluate(theta)
    scale = max(float(np.linalg.norm(gradient)), 1e-300)
    if start is not None:
        free = start[1][problem.free].reshape(-1, loss.K, problem.query_dim)
        theta = np.ascontiguousarray(free[:, :, loss.queries.columns])
        value, gradient, probabilities = loss.evaluate(theta)
    preconditioner, age = _Preconditioner(loss, probabilities), 0
    size, forcing, last_length, iterations = float(np.linalg.norm(gradient)) / scale, 0.25, 1.0, 0
    while iterations < _MAX_ITERATIONS and size > _FLOOR:
        iterations += 1
        step, n_cg = _conjugate_gradients(loss, probabilities, gradient, preconditioner, forcing)
        found = _search(loss, theta, value, gradient, step, min(1.0, 4.0 * last_length))
        if found is None:
            break
        theta, value, gradient, probabilities, last_length = found
        previous, size = size, float(np.linalg.norm(gradient)) / scale
        if last_length == 1.0 and size < previous / 3.0:
            forcing = min(0.25, 0.3 * size / previous)
        age += 1
        if n_cg > 12 and age >= 3 and size > 1e-12:
            preconditioner, age = _Preconditioner(loss, probabilities), 0
    rho, thetas = _embed(loss, theta)
    return rho, assemble(problem, thetas), iterations, gradient_at_zero(problem)


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
