r"""Hard-labelled data for K-class logistic regression that are exact, with few points (C13).

The equation is Σ_i (e_{A_i} - p_i)Q_iᵀ = W with p_i = softmax(Θ♠Q_i) (see :mod:`theory.poisoning`).  Write the centred
model as CΘ♠ = U diag(σ) Vᵀ, of rank r <= K - 1, and Q = V diag(1/σ) z + q with q orthogonal to V.  Then p depends on z
alone, through the margins Uz, and the equation falls into two:

.. math:: \sum_i (e_{A_i} - p_i) z_i^T = W V\,\mathrm{diag}(\sigma), \qquad
          \sum_i (e_{A_i} - p_i) q_i^T = W (I - VV^T).

The second is linear in the q_i: its least-norm solution.  The first has (K - 1) r equations whatever d is.  It is
solved for J groups of equal points with counts n_j:

1. relaxed: real counts, least total, by sequential quadratic programming; groups are added where the multipliers X of
   the equation say that a point pays more than it costs, (e_a - p(z))ᵀXz > 1;
2. counts are rounded up, and the z_j adjusted by Newton's method (least-norm steps) until the equation holds again;
3. where there are few points, single ones are taken away for as long as Newton's method still finds a solution.

The total is at least s/W((K-1)/e), and that much is enough only if all points have their other classes equally likely.
These contribute multiples of (e_a - 1/K)(e_a - 1/K)ᵀ, so W Θ♠ᵀ would have to be such a sum; how far it is from one is
what the data cost above the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from scipy.special import softmax

from theory import AssumptionError, SolverError, UserDataset
from theory.arrays import Array
from theory.losses import Multinomial
from theory.poisoning import Demand, class_bound, least_points
from theory.regularizers import norms

# Directions of the model below this fraction of its size are left out; class sums within it of W count as 0.
_RANK = 1e-10
_SUM = 1e-9
# Below this many points single ones are worth taking away.
_FEW = 400
# Margins beyond this are not tried: a point that its model contradicts so much has weight 1 already.
_FAR = 12.0

# The types that SciPy declares for it are narrower than what it takes.
_scipy_minimize: Any = scipy.optimize.minimize


@dataclass(frozen=True, eq=False)
class _Core:
    """The first equation: Σ c_j (e_{a_j} - p(z_j)) z_jᵀ = G, in a basis of the vectors with sum 0 on the left."""

    U: Array  # (K, r): margins are U z
    left: Array  # (K, K - 1): orthonormal basis of the vectors with sum 0
    G: Array  # (K - 1, r)

    @property
    def n_classes(self) -> int:
        return self.left.shape[0]

    def parts(self, z: Array, labels: np.ndarray) -> tuple[Array, Array]:
        """Return p (J, K) and (e - p) in the basis (J, K - 1)."""
        p = softmax(z @ self.U.T, axis=1)
        return p, (np.eye(self.n_classes)[labels] - p) @ self.left

    def excess(self, counts: Array, z: Array, labels: np.ndarray) -> Array:
        """Left side minus right side, flattened."""
        return np.asarray((self.parts(z, labels)[1] * counts[:, None]).T @ z - self.G).ravel()

    def jacobian(self, counts: Array, z: Array, labels: np.ndarray) -> tuple[Array, Array]:
        """Derivatives of :meth:`excess` in the counts ((K-1) r, J) and in z ((K-1) r, J r)."""
        p, parts = self.parts(z, labels)
        r = z.shape[1]
        in_counts = np.einsum("jk,jl->klj", parts, z).reshape(-1, len(labels))
        hessian = np.einsum("jk,kl->jkl", p, self.U) - np.einsum("jk,jl->jkl", p, p @ self.U)
        bent = -np.einsum("ki,jkl,jm->imjl", self.left, hessian, z, optimize=True)
        bent += np.einsum("ji,ml->imjl", parts, np.eye(r))
        in_z = (bent * counts[None, None, :, None]).reshape(-1, len(labels) * r)
        return in_counts, in_z


def class_points(demand: Demand, n_classes: int, *, extra_rounds: int = 1) -> UserDataset:
    r"""Return hard-labelled data that make θ_s♠ the exact local minimum: Σ_i (e_{A_i} - p_i)Q_iᵀ = W.

    Parameters
    ----------
    demand : Demand
    n_classes : int
        K.
    extra_rounds : int
        How often groups are added.

    Raises
    ------
    AssumptionError
        The columns of W do not sum to 0 (then no labels will do), or the model is the same for all classes.
    SolverError
        No solution was found.

    Examples
    --------
    >>> W = np.array([[2.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> demand = Demand.of(W.ravel(), 2.0 * W.ravel(), nu=0.0)
    >>> data = class_points(demand, 3)
    >>> data.n_data, least_points(demand, Multinomial(3))
    (35, 35)
    """
    Q, labels, counts = class_groups(demand, n_classes, extra_rounds=extra_rounds)
    return UserDataset(np.repeat(Q, counts, axis=0), np.repeat(labels.astype(np.float64), counts))


def class_groups(demand: Demand, n_classes: int, *, extra_rounds: int = 1) -> tuple[Array, np.ndarray, np.ndarray]:
    r"""Return the distinct points of :func:`class_points`, without repeating them: Q (J, d), labels (J,), counts (J,).

    Examples
    --------
    >>> W = np.array([[2.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> Q, labels, counts = class_groups(Demand.of(W.ravel(), 2.0 * W.ravel(), nu=0.0), 3)
    >>> Q.shape[0] == labels.size == counts.size, int(counts.sum())
    (True, 35)
    """
    dim = demand.w.size // n_classes
    if demand.size == 0.0:
        return np.zeros((0, dim)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    W, model = demand.w.reshape(n_classes, dim), demand.reported_model.reshape(n_classes, dim)
    _require_zero_sum(W)
    U, singular, Vt = np.linalg.svd(model - model.mean(axis=0), full_matrices=False)
    rank = int(np.sum(singular > _RANK * singular[0])) if singular[0] > 0 else 0
    if rank == 0:
        # The model is 0 up to a shift: all labels are equally likely, and Σ_a (e_a - 1/K) W_aᵀ = W as Σ_a W_a = 0.
        return W, np.arange(n_classes), np.ones(n_classes, dtype=np.int64)
    U, V = U[:, :rank], Vt[:rank].T
    left = np.linalg.svd(np.ones((1, n_classes)))[2][1:].T
    core = _Core(U, left, left.T @ W @ (V * singular[:rank]))
    labels, counts, z = _relaxed(core, demand.work, extra_rounds)
    least = least_points(demand, Multinomial(n_classes))
    labels, counts, z = _rounded(core, labels, counts, z, demand.work, least)
    Q = z @ (V / singular[:rank]).T
    weighted = core.parts(z, labels)[1] * counts[:, None]
    rest = left.T @ (W - (W @ V) @ V.T)
    Q = Q + np.linalg.lstsq(weighted.T, rest, rcond=None)[0]
    Q = _polished(Q, counts, labels, W, model)
    return Q, labels, counts.astype(np.int64)


def _require_zero_sum(W: Array) -> None:
    surplus = float(norms(W.sum(axis=0)))
    if not surplus <= _SUM * float(norms(W.ravel())):
        raise AssumptionError(
            "classes_least_points",
            f"the class sum of W has norm {surplus:g}",
            "labels cannot move all classes alike: with ν > 0 subtract the mean over the classes from the target",
        )


def _relaxed(core: _Core, work: float, extra_rounds: int) -> tuple[np.ndarray, Array, Array]:
    """Least total of real counts: labels (J,), counts (J,), z (J, r)."""
    scale = float(norms(core.G.ravel()))
    scaled = _Core(core.U, core.left, core.G / scale)
    labels = np.arange(core.n_classes)
    counts, z = _equal_counts(scaled, labels, work / scale, 1.0 / scale)
    counts, z = _improved(scaled, labels, counts, z)
    for _ in range(extra_rounds):
        new_labels, new_z = _paying_points(scaled, labels, counts, z)
        if len(new_labels) == 0:
            break
        more_labels = np.concatenate([labels, new_labels])
        start = np.concatenate([counts, np.full(len(new_labels), 0.02 * counts.sum())])
        more_counts, more_z = _improved(scaled, more_labels, start, np.vstack([z, new_z]))
        if not more_counts.sum() < counts.sum() * (1.0 - 1e-3):
            break
        used = more_counts > 1e-6 * more_counts.sum()
        labels, counts, z = more_labels[used], more_counts[used], more_z[used]
    return labels, scale * counts, z


def _equal_counts(core: _Core, labels: np.ndarray, work: float, one: float) -> tuple[Array, Array]:
    """Equal counts whose total is about the least for which Newton's method finds a solution.

    In the limit of many points p = 1/K and z_a = K G_a/n, with G_a the row of class a; from there the total shrinks,
    but not below ``one`` point in each group.
    """
    K = core.n_classes
    total = 4.0 * max(work / class_bound(K), K * float(norms(core.G.ravel())), K * one)
    for _ in range(60):
        solved = _newton(core, labels, np.full(K, total / K), K / total * (core.left @ core.G))
        if solved is not None:
            break
        total *= 2.0
    else:
        raise SolverError("K-class poisoning: no solution was found, not even with many points")
    z, factor = solved, 0.7
    while factor < 0.97:
        solved = _newton(core, labels, np.full(K, factor * total / K), z)
        if solved is None or factor * total < K * one:
            factor = factor**0.5
        else:
            total, z = factor * total, solved
    return np.full(K, total / K), z


def _improved(core: _Core, labels: np.ndarray, counts: Array, z: Array) -> tuple[Array, Array]:
    """The least total close to a start; the start where the optimization fails."""
    new_counts, new_z = _least_total(core, labels, counts, z)
    # At the least total the equation has a double root in z, so Newton's method is left for the rounded counts.
    solved = norms(core.excess(new_counts, new_z, labels)) <= 1e-3 * norms(core.G.ravel())
    is_start = norms(core.excess(counts, z, labels)) <= 1e-3 * norms(core.G.ravel())
    if solved and (not is_start or new_counts.sum() < counts.sum()):
        return new_counts, new_z
    return (counts, z) if is_start else (np.full_like(counts, np.inf), z)


def _least_total(core: _Core, labels: np.ndarray, counts: Array, z: Array) -> tuple[Array, Array]:
    J, r = z.shape

    def unpack(x: Array) -> tuple[Array, Array]:
        return x[:J], x[J:].reshape(J, r)

    def jacobian(x: Array) -> Array:
        return np.hstack(core.jacobian(*unpack(x), labels))

    objective = np.concatenate([np.ones(J), np.zeros(J * r)])
    found = _scipy_minimize(
        lambda x: float(x[:J].sum()),
        np.concatenate([counts, z.ravel()]),
        jac=lambda x: objective,
        bounds=[(0.0, None)] * J + [(-_FAR, _FAR)] * (J * r),
        constraints=[{"type": "eq", "fun": lambda x: core.excess(*unpack(x), labels), "jac": jacobian}],
        method="SLSQP",
        options={"maxiter": 200, "ftol": 1e-7},
    )
    new_counts, new_z = unpack(found.x)
    return np.maximum(new_counts, 0.0), new_z


def _newton(core: _Core, labels: np.ndarray, counts: Array, z: Array) -> Array | None:
    """Solve the core equation for z with fixed counts by damped least-norm Newton steps; None if that fails."""
    scale = float(norms(core.G.ravel()))
    excess = core.excess(counts, z, labels)
    for _ in range(60):
        size = float(norms(excess))
        if size <= 1e-13 * scale:
            return z
        step = np.linalg.lstsq(core.jacobian(counts, z, labels)[1], -excess, rcond=1e-12)[0].reshape(z.shape)
        length = min(1.0, 2.0 / float(np.abs(step).max())) if np.abs(step).max() > 0 else 1.0
        while length > 1e-4:
            trial = z + length * step
            new = core.excess(counts, trial, labels)
            if float(norms(new)) < (1.0 - 0.1 * length) * size:
                break
            length *= 0.5
        else:
            return z if size <= 1e-10 * scale else None
        z, excess = trial, new
    return z if float(norms(excess)) <= 1e-10 * scale else None


def _paying_points(core: _Core, labels: np.ndarray, counts: Array, z: Array) -> tuple[np.ndarray, Array]:
    """Return, for each class, the point whose value (e_a - p(z))ᵀXz exceeds its cost 1 by most, if one does."""
    K, r = core.n_classes, z.shape[1]
    in_counts, in_z = core.jacobian(counts, z, labels)
    used = counts > 1e-8 * counts.sum()
    # Stationarity: a point in use is worth what it costs, and moving it gains nothing.
    matrix = np.vstack([in_counts[:, used].T, in_z.T])
    right = np.concatenate([np.ones(int(used.sum())), np.zeros(in_z.shape[1])])
    X = np.linalg.lstsq(matrix, right, rcond=None)[0].reshape(K - 1, r)

    def loss(x: Array, a: int) -> tuple[float, Array]:
        p, part = core.parts(x[None], np.array([a]))
        pay = X @ x
        hessian = core.U * p[0][:, None] - np.outer(p[0], p[0] @ core.U)
        return -float(part[0] @ pay), -(part[0] @ X - (core.left.T @ hessian).T @ pay)

    best = 1.0 + class_bound(K)
    new_labels, new_z = [], []
    for a in range(K):
        starts = [best * core.U[a], *(best * (core.U[a] - core.U[b]) for b in range(K) if b != a)]
        found = [
            _scipy_minimize(loss, x, args=(a,), jac=True, method="L-BFGS-B", bounds=[(-20.0, 20.0)] * r) for x in starts
        ]
        top = min(found, key=lambda result: float(result.fun))
        if top.fun < -1.0 - 1e-3:
            new_labels.append(a)
            new_z.append(top.x)
    return np.array(new_labels, dtype=np.int64), np.array(new_z).reshape(len(new_labels), r)


def _rounded(
    core: _Core, labels: np.ndarray, counts: Array, z: Array, work: float, least: int
) -> tuple[np.ndarray, Array, Array]:
    """Integer counts close to the real ones, and z for which the equation holds."""
    solved = None
    whole = np.ceil(counts - 1e-9)
    for _ in range(10):
        # Near a double root a start with smaller margins leads to the root that stays.
        for shrink in (1.0, 0.97, 0.9, 0.7, 0.4):
            solved = _newton(core, labels, whole, shrink * z)
            if solved is not None:
                break
        if solved is not None:
            break
        whole = whole + np.maximum(1.0, np.round(0.01 * whole))
    if solved is None:
        labels = np.arange(core.n_classes)
        counts, z = _equal_counts(core, labels, work, 1.0)
        whole = np.ceil(counts)
        solved = _newton(core, labels, whole, z)
    if solved is None:
        raise SolverError("K-class poisoning: no integer counts were found")
    z = solved
    # Round down where that still works, largest first by what rounding added; single points while there are few.
    order = np.argsort(counts - np.floor(counts))
    while whole.sum() > least:
        taken = False
        for j in order:
            if whole[j] == 0 or whole.sum() <= least:
                continue
            fewer = whole.copy()
            fewer[j] -= 1
            solved = _newton(core, labels, fewer, z)
            if solved is not None:
                whole, z, taken = fewer, solved, True
        if not taken or whole.sum() > _FEW:
            break
    used = whole > 0
    return labels[used], whole[used], z[used]


def _polished(Q: Array, counts: Array, labels: np.ndarray, W: Array, model: Array) -> Array:
    """Least-norm corrections of the queries themselves, which remove the rounding of the two parts."""
    K = model.shape[0]

    def missing(queries: Array) -> tuple[Array, Array]:
        p = softmax(queries @ model.T, axis=1)
        weighted = (np.eye(K)[labels] - p) * counts[:, None]
        return W - weighted.T @ queries, weighted

    residual, weighted = missing(Q)
    for _ in range(3):
        # This leaves out that p moves too, so that it is no Newton step: it is kept only where it halves the residual.
        trial = Q + np.linalg.lstsq(weighted.T, residual, rcond=None)[0]
        new_residual, new_weighted = missing(trial)
        if not norms(new_residual.ravel()) < 0.5 * norms(residual.ravel()):
            break
        Q, residual, weighted = trial, new_residual, new_weighted
    return Q
