r"""Large K-class problems: Newton with conjugate gradients, no Hessian is ever formed.

ρ is always where the regularizers balance (:mod:`solvers.springs`), so only Θ remains:

.. math:: \nabla_n = \nabla\mathcal L_n(\theta_n) + \nabla_\theta\mathcal R(\rho, \theta_n), \qquad
          (HV)_n = \nabla^2\mathcal L_n V_n + W_n(V_n - r), \qquad \textstyle\sum_n W_n(V_n - r) = 0.

* The queries are kept as bytes where that loses nothing (images), their constant-zero columns left out: there the
  models are 0.
* Values and gradients are in double precision; Hessian-vector products, which only steer, in single precision.
* The preconditioner has one Hessian for each class, pooled over the users, and the springs without their direction
  (W_n ≈ w_n I); what all classes share meets the springs and ν alone, as the losses are flat there.
* Plain ℓ2 has a kink where θ_n = ρ.  It is smoothed, λ√(ε² + ‖·‖²), and ε falls until the users whose distance falls
  with it show which are tied.  Then those share one model, ε is 0, and the result is judged as any other: at a wrong
  guess the residual is large, and ε falls further.

Source: section 5.1 and Appendix I (the paper's MNIST problem, with ℓ2² and ℓ2).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import scipy.linalg

from solvers import _kernels as kernels
from solvers._parallel import n_threads, one_blas_thread, over_items, over_users
from solvers.optimality import gradient_at_zero, local_gradients, optimality
from solvers.quadratic import built_in, is_built_in
from solvers.springs import BentSprings, Springs, SquaredSprings, Tension
from solvers.views import anchors_of, assemble, rows_of_free
from theory import L2, Multinomial, Problem, SmoothL2, SquaredL2
from theory.arrays import Array
from theory.regularizers import norms

_MAX_ITERATIONS = 300
_CG_STEPS = (80, 1280)  # in one Newton step: at first, and where they did not suffice
_FLOOR = 1e-14
_SINGLE = 1e-5  # residual to which products in single precision lead
_STAGE = 1e-3  # relative gradient at which ν falls
_UNITS = (1.0, 1.0 / 255.0, 1.0 / 16.0)


def is_large(problem: Problem) -> bool:
    """Whether the Hessians of all users would take more than a quarter of a gigabyte."""
    return 8.0 * problem.n_users * problem.dim**2 > 2**28


def is_faster(problem: Problem) -> bool:
    """Whether this method beats Newton's with Hessians: from about here, 3 to 40 times as P goes to 640."""
    return problem.dim >= 150 or is_large(problem)


def worthwhile(problem: Problem) -> float:
    """Return how many products with the Hessian cost as much as 50 of Newton's steps with Hessians."""
    rows, n, P = float(np.sum(problem.stack.stop - problem.stack.start)), problem.n_users, problem.dim
    return 50.0 * (rows * P + n * P**2) / (8.0 * rows + 20.0 * n)


def fits(problem: Problem) -> bool:
    """Whether this method solves ``problem``: K classes, and ν > 0 (or, for ℓ2², a pinned model)."""
    held = problem.nu > 0 or (isinstance(problem.reg, SquaredL2) and bool(problem.pinned))
    return type(problem.loss) is Multinomial and is_built_in(problem.reg) and held and bool(problem.free.any())


@dataclass(frozen=True, eq=False)
class CompactQueries:
    """Q[:, columns] = unit · X up to one rounding of the product (images are x/255); other columns do not matter."""

    X: np.ndarray
    unit: float
    columns: np.ndarray


def compact(Q: Array, used: np.ndarray | None = None) -> CompactQueries:
    """Return the queries as bytes where that loses nothing, else as they are, without columns that are 0 throughout.

    ``used`` (d,) marks columns that are kept even so.

    Examples
    --------
    >>> found = compact(np.array([[0.0, 0.0, 1.0], [128 / 255, 0.0, 1.0]]))
    >>> found.X.dtype.name, found.columns
    ('uint8', array([0, 2]))
    """
    columns = np.flatnonzero(Q.any(axis=0) if used is None else Q.any(axis=0) | used)
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


@dataclass(frozen=True, eq=False)
class _Point:
    """The loss at Θ (B, K, d): value, gradient, class probabilities (rows, K) in single precision, and the springs."""

    theta: Array
    value: float
    gradient: Array
    probabilities: np.ndarray
    tension: Tension

    @property
    def size(self) -> float:
        return float(np.linalg.norm(self.gradient))


class _Loss:
    """The loss of the models Θ (B, K, d) of the free users, or of groups of them that share a model."""

    def __init__(self, problem: Problem) -> None:
        self.K, self.nu, self.lam = problem.loss.n_outputs, problem.nu, built_in(problem.reg).lam
        anchors = anchors_of(problem)
        fixed = np.vstack([anchors.models, anchors.slope]).reshape(-1, self.K, problem.query_dim)
        self.queries = compact(problem.stack.Q, np.asarray(fixed.any(axis=(0, 1))))
        self.labels = problem.stack.labels
        self.mass = self.labels.sum(axis=1).astype(np.float32)
        # What all classes share costs only ν and springs: without anchors that have such a part, the models have none.
        self.only_contrasts = not np.abs(fixed.mean(axis=1)).max() > 1e-15 * np.abs(fixed).max()
        live = fixed[:, :, self.queries.columns].reshape(len(fixed), -1)
        self.springs = _springs(problem, live[:-1], live[-1])
        start, stop = rows_of_free(problem)
        self.owner, self.first, self.last = pieces(start, stop, n_threads())
        self.members = np.ones(len(start))  # users of each model
        self.shape = (len(start), self.K, len(self.queries.columns))

    def at(self, nu: float) -> _Loss:
        """Return this loss with another ν."""
        other = copy(self)
        other.nu = nu
        return other

    def with_springs(self, springs: Springs) -> _Loss:
        """Return this loss with other springs."""
        other = copy(self)
        other.springs = springs
        return other

    def grouped(self, group: np.ndarray) -> _Loss:
        """Return the loss of the models of groups: user n has model ``group[n]``, or one that is fixed if negative."""
        other = copy(self)
        other.members = np.bincount(group[group >= 0], minlength=group.max(initial=-1) + 1).astype(np.float64)
        other.shape = (len(other.members), *self.shape[1:])
        owner = group[self.owner]
        kept = owner >= 0
        other.owner, other.first, other.last = owner[kept], self.first[kept], self.last[kept]
        return other

    def evaluate(self, theta: Array, rho: Array | None = None) -> _Point:
        """Return the loss at Θ; ``rho`` is where to look for ρ first."""
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
        tension = self.springs.settle(theta.reshape(len(theta), -1), rho)
        value = values.sum() + self.nu * np.sum(self.members * np.sum(theta**2, axis=(1, 2))) + tension.value
        forces = tension.forces.reshape(self.shape)
        gradient = self._by_model(parts) + 2.0 * self.nu * self.members[:, None, None] * theta + forces
        if self.only_contrasts:  # what all classes share is rounding, and ν would make steps of it
            gradient -= gradient.mean(axis=1, keepdims=True)
        return _Point(theta, float(value), gradient, probabilities, tension)

    def hessian_times(self, V: Array, point: _Point) -> Array:
        """Return HV; the data part in single precision."""
        parts = np.empty((len(self.owner), *self.shape[1:]), dtype=np.float32)
        single, unit = np.ascontiguousarray(V, dtype=np.float32), np.float32(self.queries.unit)

        def task(_part: int, a: int, b: int) -> int:
            X, p, own = self.queries.X, point.probabilities, self.owner
            return kernels.softmax_hessian_times(X, unit, self.mass, p, self.first, self.last, own, single, parts, a, b)

        over_users(task, self._flops())
        spring = point.tension.times(V.reshape(len(V), -1)).reshape(self.shape)
        return self._by_model(parts.astype(np.float64)) + 2.0 * self.nu * self.members[:, None, None] * V + spring

    def weights(self, point: _Point) -> np.ndarray:
        """Return mass·p(1 - p) for each class (K, rows); 0 in rows that act on no model, where all p are 0."""
        p = point.probabilities
        return np.ascontiguousarray((self.mass[:, None] * p * (1.0 - p)).T)

    def embed(self, theta: Array, n_columns: int) -> Array:
        """Return models (B, K·n_columns): in the columns that were left out they are 0."""
        out = np.zeros((len(theta), self.K, n_columns))
        out[:, :, self.queries.columns] = theta.reshape(len(theta), self.K, -1)
        return out.reshape(len(theta), -1)

    def taken(self, models: Array, n_columns: int) -> Array:
        """Return models (B, K, d) without the columns that are left out."""
        return np.ascontiguousarray(models.reshape(len(models), self.K, n_columns)[:, :, self.queries.columns])

    def _flops(self) -> Array:
        return (self.last - self.first) * (4.0 * self.shape[1] * self.shape[2])

    def _by_model(self, parts: Array) -> Array:
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


def _springs(problem: Problem, pins: Array, slope: Array) -> Springs:
    lam = built_in(problem.reg).lam
    if isinstance(problem.reg, SquaredL2):
        return SquaredSprings(lam, pins, slope)
    return BentSprings(lam, 1.0 if isinstance(problem.reg, SmoothL2) else 0.0, pins, slope)


class _Pooled:
    """Σ_i w_ki X_iX_iᵀ of each class, from a sample of the rows."""

    def __init__(self, loss: _Loss, point: _Point, sample: int) -> None:
        self.X, self.sample, self.scale = loss.queries.X, sample, loss.queries.unit**2
        self.weights = loss.weights(point)
        self.diagonals = _diagonals(self.X, self.weights)

    def scores(self, shift: float) -> np.ndarray:
        """Return the leverage (K, rows) of the rows where each M_k is shifted by ``shift``."""
        return _scores(self.X, self.weights, self.diagonals + shift / self.scale)

    def hessian(self, k: int, scores: np.ndarray) -> Array:
        """Return M_k (its lower triangle)."""
        return _pooled_hessian(self.X, self.weights[k], scores[k], self.diagonals[k], self.sample) * self.scale


class _EqualSprings:
    """Per class: (M_k/N + (2ν + w)I)⁻¹ for deviations from the mean model, (M_k/N + (2ν + wM/(N+M))I)⁻¹ for the mean.

    w is the same for all users (ℓ2²), and so are their Hessians, M_k/N; M/(N+M) is the share of the pinned models.
    """

    def __init__(self, loss: _Loss, point: _Point, sample: int) -> None:
        n, K, d = loss.shape
        weight, fixed = float(point.tension.weights[0]), point.tension.fixed_weight
        self.only_contrasts = loss.only_contrasts
        self.shifts = 2.0 * loss.nu + weight, 2.0 * loss.nu + weight * fixed / (n * weight + fixed)
        self.deviation = np.empty((K, d, d), dtype=np.float32)
        self.mean = np.empty((K, d, d))  # up to 1/(2ν) beside 1/‖M‖: more than single precision holds
        pooled = _Pooled(loss, point, sample)
        scores = pooled.scores(self.shifts[1] * n)

        def task(k: int) -> None:
            M = pooled.hessian(k, scores) / n
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
        out -= out.mean(axis=1, keepdims=True)
        if self.only_contrasts:  # rounding, and what ν makes of it
            return out
        common_mean = common.mean(axis=0)
        return out + (common - common_mean) / self.shifts[0] + common_mean / self.shifts[1]


class _UnequalSprings:
    """Per class, in the eigenbasis of M_k: springs w_n from ρ to each model, whose Hessian is its share of M_k.

    There the joint system of ρ and the models is one arrowhead of numbers for each eigenvalue.
    """

    def __init__(self, loss: _Loss, point: _Point, sample: int) -> None:
        _, K, d = loss.shape
        self.tension, self.only_contrasts = point.tension, loss.only_contrasts
        pooled = _Pooled(loss, point, sample)
        mass = np.zeros(len(loss.members))
        np.add.at(mass, loss.owner, [float(loss.mass[a:b].sum()) for a, b in zip(loss.first, loss.last, strict=True)])
        self.share = mass / max(float(mass.sum()), 1e-300)
        self.ridge = 2.0 * loss.nu * loss.members
        scores = pooled.scores(float(self.ridge.sum()))
        self.vectors, self.values = np.empty((K, d, d)), np.zeros((K + 1, d))  # the last: what all classes share

        def task(k: int) -> None:
            M = pooled.hessian(k, scores)
            M[np.diag_indices(d)] *= 1.0 + 1e-6  # what single precision left uncertain
            values, self.vectors[k] = scipy.linalg.eigh(M, driver="evd", overwrite_a=True, check_finite=False)
            self.values[k] = np.maximum(values, 0.0)

        over_items(task, K)

    def __call__(self, R: Array) -> Array:
        """Return the preconditioned residual (B, K, d)."""
        common = R.mean(axis=1, keepdims=True)
        Z = np.ascontiguousarray((R - common).transpose(1, 0, 2))

        def task(k: int) -> None:
            Z[k] = self._arrow(Z[k] @ self.vectors[k], self.values[k]) @ self.vectors[k].T

        over_items(task, len(Z))
        out = np.ascontiguousarray(Z.transpose(1, 0, 2))
        out -= out.mean(axis=1, keepdims=True)
        return out if self.only_contrasts else out + self._arrow(common[:, 0], self.values[-1])[:, None]

    def _arrow(self, R: Array, values: Array) -> Array:
        """Solve (share·λ + ridge + w)x_n - w_n x_ρ = R_n, and the row of ρ, for each eigenvalue λ (columns)."""
        w, hub = self.tension.weights[:, None], self.tension.hub
        own = self.share[:, None] * values + self.ridge[:, None]
        if not (hub is None or isinstance(hub, int)):
            return np.asarray(R / (own + w))
        pull = w / (own + w)
        force = np.sum(pull * R, axis=0)
        stiffness = self.tension.fixed_weight + np.sum(pull * own, axis=0)
        if hub is None:
            # Where all springs are without length (ε = 0) there is no stiffness, and no force.
            return np.asarray(R / (own + w) + pull * (force / np.maximum(stiffness, 1e-300)))
        # The model that is ρ has no spring, w = 0.
        x = (force + R[hub]) / (stiffness + own[hub])
        out = R / (own + w) + pull * x
        out[hub] = x
        return np.asarray(out)


_Preconditioner = _EqualSprings | _UnequalSprings


def _preconditioner(loss: _Loss, point: _Point, sample: int) -> _Preconditioner:
    if isinstance(loss.springs, SquaredSprings):
        return _EqualSprings(loss, point, sample)
    return _UnequalSprings(loss, point, sample)


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


def newton_cg(
    problem: Problem, start: tuple[Array, Array] | None = None, products: float = np.inf
) -> tuple[Array, Array, int, float]:
    """Return ρ (P,), θ (N, P), the number of Newton steps and ‖∇Loss(0, 0)‖.

    After that many ``products`` with the Hessian it returns what it has.
    """
    with one_blas_thread():  # threads of BLAS that wait for work, after a dot product even, would keep kernels waiting
        loss, scale = _Loss(problem), gradient_at_zero(problem)
        loss.only_contrasts &= start is None
        descent = _Descent(loss, products)
        if isinstance(problem.reg, L2):
            rho, thetas = _through_kinks(problem, descent, scale, start)
        else:
            near = None if start is None else loss.taken(start[1][problem.free], problem.query_dim)
            theta = descent.follow() if near is None or not descent.is_below_zero(near) else near
            rho, thetas = _models(problem, loss, descent.run(loss, theta, _FLOOR))
        return rho, thetas, descent.iterations, scale


def local_minimum(problem: Problem) -> Array:
    """Return θ*(ρ) (P,) of the first user, who is free, where ρ is the model of the second, who is pinned."""
    with one_blas_thread():
        if isinstance(problem.reg, SquaredL2):
            # With 2λ for λ the best ρ' between θ and m = ρ is their mean, and what is left is
            # 2λ(‖(θ-m)/2‖² + ‖(θ-m)/2‖²) = λ‖θ - ρ‖².
            twice = problem.with_regularizer(SquaredL2(2.0 * problem.reg.lam), problem.nu)
            return newton_cg(twice)[1][0]
        descent, rho = _Descent(_Loss(problem)), problem.pinned[1]
        springs = _bent(descent.loss)
        held = descent.loss.with_springs(replace(springs, pins=springs.pins[:0], hub=springs.pins[0]))
        if isinstance(problem.reg, SmoothL2):
            return _models(problem, held, descent.run(held, descent.follow(held), _FLOOR))[1][0]
        pull = local_gradients(problem, np.tile(rho, (2, 1)))[0]
        return rho.copy() if norms(pull) <= held.lam else _away_from_kink(problem, descent, held)


def _away_from_kink(problem: Problem, descent: _Descent, held: _Loss) -> Array:
    """Return the model of the only user, who is not tied to the ρ that is held."""
    eps, theta = descent.reach(), descent.follow(held.with_springs(replace(_bent(held), eps=descent.reach())))
    for _ in range(_MAX_SMOOTHINGS):
        point = descent.run(held, theta, _FLOOR)
        if point.size <= _SETTLED * descent.scale:
            break
        eps *= _FALLS_WITH_EPS
        theta = descent.run(held.with_springs(replace(_bent(held), eps=eps)), theta, _STAGE).theta
    return _models(problem, held, point)[1][0]


def _models(problem: Problem, loss: _Loss, point: _Point, group: np.ndarray | None = None) -> tuple[Array, Array]:
    """Return ρ (P,) and θ (N, P); user n has model ``group[n]`` of the point, or ρ if that is negative."""
    rho = loss.embed(point.tension.rho[None], problem.query_dim)[0]
    models = loss.embed(point.theta, problem.query_dim)
    if group is not None:
        models = np.where((group >= 0)[:, None], models[np.maximum(group, 0)] if len(models) else rho, rho)
    return rho, assemble(problem, models)


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

    def __init__(self, loss: _Loss, products: float = np.inf) -> None:
        self.loss, self.products = loss, products  # those that may still be taken
        self._flat = loss.evaluate(np.zeros(loss.shape))
        self.scale = max(self._flat.size, 1e-300)
        self.iterations, self.sample, self.most_cg = 0, _SAMPLES[0], _CG_STEPS[0]
        diagonal = _diagonals(loss.queries.X, loss.weights(self._flat)) * loss.queries.unit**2
        self.curvature = float(diagonal.sum()) / max(diagonal.size, 1)

    def is_below_zero(self, theta: Array) -> bool:
        """Whether the loss at Θ is less than at 0, from where :meth:`follow` goes on: else Θ is no good start."""
        return self.loss.evaluate(theta).value < self._flat.value

    def reach(self) -> float:
        """Return about how far the models go from 0: a step of the mean user by the mean curvature."""
        n = len(self.loss.members)
        return self.scale / (self.curvature / np.sqrt(n) + 2.0 * self.loss.nu * np.sqrt(n))

    def follow(self, loss: _Loss | None = None) -> Array:
        """Follow the minimum as ν falls to its value, a few steps for each ν.

        Rows that are all but decided (rare pixels) make Newton's steps overshoot, and cost damped steps; a larger ν
        forbids that.  As ν falls tenfold, Θ moves about as it did the time before.
        """
        loss = self.loss if loss is None else loss
        theta, previous = np.zeros(loss.shape), None
        for nu in stages(2e-3 * self.curvature / len(theta), loss.nu):
            start = theta if previous is None else 2.0 * theta - previous
            previous, theta = theta, self.run(loss.at(nu), start, _STAGE).theta
        return theta

    def run(
        self, loss: _Loss, theta: Array, tolerance: float, rho: Array | None = None, patience: int = _MAX_ITERATIONS
    ) -> _Point:
        """Return Θ with a relative gradient of at most ``tolerance``, or the best that rounding allows.

        Give up where ``patience`` steps do not make the gradient ten times smaller.
        """
        point = loss.evaluate(theta, rho)
        size, forcing, last_length, age, idle = point.size / self.scale, 0.25, 1.0, 0, 0
        mark, since = size, 0
        if not size > tolerance:
            return point
        preconditioner, first = _preconditioner(loss, point, self.sample), self.iterations
        while self.iterations - first < _MAX_ITERATIONS and size > tolerance and idle < 3 and since < patience:
            if not self.products > 0:
                break
            self.iterations += 1
            step, n_cg = _conjugate_gradients(loss, point, preconditioner, forcing, self.most_cg)
            self.products -= n_cg
            found = _search(loss, point, step, min(1.0, 4.0 * last_length))
            if found is None:
                break
            point, last_length = found
            previous, size = size, point.size / self.scale
            if last_length == 1.0 and size < previous / 3.0:
                forcing = min(0.25, max(0.3 * size / previous, _SINGLE))
            idle = idle + 1 if 0.7 * previous < size < 1e-8 else 0
            age += 1
            mark, since = (size, 0) if size <= 0.1 * mark else (mark, since + 1)
            if n_cg == self.most_cg and last_length == 1.0 and size > 0.3 * previous:
                self.most_cg = min(2 * self.most_cg, _CG_STEPS[1])
            if n_cg > 40:
                self.sample = min(2 * self.sample, _SAMPLES[1])
            if n_cg > 12 and age >= 3 and size > max(tolerance, 1e-12):
                preconditioner, age = _preconditioner(loss, point, self.sample), 0
        return point


def _conjugate_gradients(
    loss: _Loss, point: _Point, preconditioner: _Preconditioner, forcing: float, most: int
) -> tuple[Array, int]:
    """Return an approximate -H⁻¹∇ with residual at most ``forcing`` times the gradient, and the iterations.

    After ``most`` iterations the residual may be larger.
    """
    step, residual = np.zeros_like(point.gradient), -point.gradient
    target = forcing * point.size
    z = preconditioner(residual)
    direction, product = z, float(np.sum(residual * z))
    for iteration in range(1, most + 1):
        curved = loss.hessian_times(direction, point)
        curvature = float(np.sum(direction * curved))
        length = product / curvature if curvature > 0 else np.inf
        if not (product > 0 and np.isfinite(length)):
            return (step if iteration > 1 else z), iteration
        step = step + length * direction
        residual = residual - length * curved
        if float(np.linalg.norm(residual)) <= target:
            return step, iteration
        z = preconditioner(residual)
        following = float(np.sum(residual * z))
        direction, product = z + (following / product) * direction, following
    return step, most


def _search(loss: _Loss, point: _Point, step: Array, length: float) -> tuple[_Point, float] | None:
    """Find a length of sufficient decrease, by cubic interpolation from the slopes at both ends."""
    slope = float(np.sum(point.gradient * step))
    if not slope < 0:
        return None
    for _ in range(30):
        new = loss.evaluate(point.theta + length * step, point.tension.rho)
        change = new.value - point.value
        drowned = abs(change) <= 1e-11 * abs(point.value)
        if (change < 0 and change <= 1e-4 * length * slope and not drowned) or (drowned and new.size < point.size):
            return new, length
        if drowned:
            return None
        length *= _shrink(change, length * slope, length * float(np.sum(new.gradient * step)))
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


# ---- Plain ℓ2 ------------------------------------------------------------------------------------------------------

_MAX_SMOOTHINGS = 10
_FALLS_WITH_EPS, _TIED_BELOW, _NEXT_TO = 0.1, 0.3, 1e-10
_PATIENCE = 5  # steps with the first guess of the ties
_SETTLED = 1e-11  # relative residual at which a guess of the ties was right
_WRONG_TIE, _ROUNDING = 1e-3, 2e-16
_STAGNANT = 1e-9


def _through_kinks(
    problem: Problem, descent: _Descent, scale: float, start: tuple[Array, Array] | None
) -> tuple[Array, Array]:
    """Return ρ and θ for plain ℓ2: smooth the kink until the ties show, then solve with these ties."""
    best: tuple[float, Array, Array] | None = None
    settled = _below_lambda(_SETTLED, descent.loss.lam, scale)
    before, last = np.zeros(0, dtype=bool), np.inf
    # The right ties are soon told from wrong ones, with which Newton's steps run into kinks.
    for i, (tied, rho, thetas) in enumerate(_guesses(problem, descent, start)):
        found = _with_ties(problem, descent, tied, rho, thetas, _PATIENCE * 2**i)
        gradients = local_gradients(problem, found[1])
        residual = optimality(problem, *found, gradients, scale).relative
        if best is None or residual < best[0]:
            best = residual, *found
        # The same ties again, and no better by them: what is left is rounding.
        stagnates = 0.5 * last <= residual <= _STAGNANT and np.array_equal(tied, before)
        if residual <= settled or stagnates or not descent.products > 0:
            break
        before, last = tied, residual
    if best is None:
        raise np.linalg.LinAlgError("no ties were found")
    return best[1:]


def _below_lambda(residual: float, lam: float, scale: float) -> float:
    """Return a residual that shows a wrong tie, which is wrong by a force of about λ, as far as rounding lets."""
    return min(residual, max(_WRONG_TIE * lam / scale, _ROUNDING))


def _guesses(
    problem: Problem, descent: _Descent, start: tuple[Array, Array] | None
) -> Iterator[tuple[np.ndarray, Array, Array]]:
    """Yield which users are tied to ρ, and the models from which to go on."""
    if start is not None:
        yield (start[1] == start[0]).all(axis=1), *start
    loss = descent.loss
    # The forces of the springs, which decide on the ties, must be seen beside those of the data.
    tolerance = min(_STAGE, max(0.01 * loss.lam / descent.scale, _FLOOR))
    eps = descent.reach()
    theta = descent.follow(loss.with_springs(replace(_bent(loss), eps=eps)))
    before: Array | None = None
    for _ in range(_MAX_SMOOTHINGS):
        smoothed = loss.with_springs(replace(_bent(loss), eps=eps))
        point = descent.run(smoothed, theta, tolerance)
        theta = point.theta
        rho, thetas = _models(problem, smoothed, point)
        lengths = norms(thetas - rho)
        if before is not None:
            yield lengths <= np.maximum(_TIED_BELOW * before, _NEXT_TO * norms(rho)), rho, thetas
        # Else a point that is good enough for this ε could be so for the next, and would not move.
        before, eps, tolerance = lengths, _FALLS_WITH_EPS * eps, max(_FALLS_WITH_EPS * tolerance, _FLOOR)


def _bent(loss: _Loss) -> BentSprings:
    if not isinstance(loss.springs, BentSprings):
        raise TypeError("ℓ2 has bent springs")
    return loss.springs


def _with_ties(
    problem: Problem, descent: _Descent, tied: np.ndarray, rho: Array, thetas: Array, patience: int
) -> tuple[Array, Array]:
    """Return ρ and θ where the ``tied`` users (N,) have the model ρ, which is that of the pinned among them."""
    loss, here = descent.loss, tied[problem.free]
    pins = np.flatnonzero(~problem.free & tied)
    rho = thetas[pins[0]] if len(pins) else rho
    if len(pins) and here.all():
        return rho, assemble(problem, np.tile(rho, (len(here), 1)))
    center = loss.taken(rho[None], problem.query_dim)
    models = loss.taken(thetas[problem.free][~here], problem.query_dim)
    if loss.only_contrasts and not len(pins):  # what ρ has of it is rounding, which no step would remove
        center, models = (x - x.mean(axis=1, keepdims=True) for x in (center, models))
    hub: int | Array | None = None
    first = 0  # the number of the first model that is nobody's but its user's
    if len(pins):
        hub = center.reshape(-1)
    elif here.any():
        hub, first, models = 0, 1, np.concatenate([center, models])
    group = np.where(here, first - 1, first - 1 + np.cumsum(~here))
    exact = loss.grouped(group).with_springs(replace(_bent(loss), eps=0.0, hub=hub))
    floor = _below_lambda(_FLOOR, loss.lam, descent.scale)
    point = descent.run(exact, models, floor, center.reshape(-1), patience)
    found, thetas = _models(problem, exact, point, group)
    return (rho if len(pins) else found), thetas
