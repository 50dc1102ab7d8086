r"""Exact data whose queries stay in a box, such as images in [0, 1]^d (Appendix L.3, with hard labels and exactly).

The equation of :mod:`theory.poisoning`, Σ_i φ'(Q_iᵀθ♠, A_i) Q_i = -w, is linear in how often a query gets a label, once
the queries are given.  So, for a pool of queries inside the box:

* least squares: answers A_i = m_i + r_i with the least-norm r of Σ r_iQ_i = w; any pool that spans w does it;
* labels: counts c_{ia} >= 0 of least total by a linear program (at most as many distinct points as equations); they are
  rounded, and the queries then moved within the box by Newton's method until the equation holds to rounding.  Each
  coordinate moves in proportion to its distance from the box's boundary, so no step leaves it.

A constant column (an intercept: equal bounds) is not moved.  A pool can only do what its queries allow: the program is
infeasible where no labelling of them counters w, and costly where θ♠ is sure of the label of nearly every query:
queries near its indifference subspace (:func:`theory.indifference_queries`) are worth most.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.optimize

from theory import AssumptionError, LeastSquares, ShapeError, SolverError, UserDataset
from theory.arrays import Array, as_matrix
from theory.losses import Loss, margins
from theory.poisoning import Demand
from theory.regularizers import norms

_linear_program: Any = scipy.optimize.linprog
_EXACT = 1e-13
# The queries of the pool are drawn this fraction towards the middle of the box, to have room to move.
_ROOM = 0.1


def box_points(
    demand: Demand, loss: Loss, pool: Any, low: Any, high: Any, *, max_points: int = 2_000_000
) -> UserDataset:
    r"""Return exact data with queries in the box [low, high], made of queries close to those of ``pool``.

    Parameters
    ----------
    demand : Demand
    loss : LeastSquares, Logistic or Multinomial
    pool : (M, d) array_like
        Queries in the box; with labels, each may be used with each label, any number of times.
    low, high : float or (d,) array_like
        Bounds of the queries; equal bounds for a constant column.
    max_points : int
        Refuse where more points are needed.

    Raises
    ------
    ShapeError
        Bounds that do not fit, or a pool outside the box.
    AssumptionError
        No answers of these queries counter w, or only more than ``max_points``.
    SolverError
        The rounding of the counts could not be mended within the box.

    Examples
    --------
    >>> from theory import Logistic, missing_gradient
    >>> rng = np.random.default_rng(0)
    >>> demand = Demand.of([2.0, -1.0, 0.5], [1.0, -2.0, 0.3], nu=0.0)
    >>> data = box_points(demand, Logistic(), rng.random((40, 3)), 0.0, 1.0)
    >>> bool(norms(missing_gradient(data, demand, Logistic())) < 1e-12), bool(((0 <= data.Q) & (data.Q <= 1)).all())
    (True, True)
    """
    pool = as_matrix(pool, "pool", columns=demand.w.size // loss.n_outputs)
    low, high = (np.array(np.broadcast_to(bound, pool.shape[1]), dtype=np.float64) for bound in (low, high))
    if not (np.all(low <= high) and np.all((pool >= low) & (pool <= high))):
        raise ShapeError("pool", "queries between low and high", "queries outside, or bounds in the wrong order")
    if demand.size == 0.0:
        return UserDataset.empty(pool.shape[1])
    if isinstance(loss, LeastSquares):
        return _answers(demand, pool)
    queries = pool + _ROOM * (0.5 * (low + high) - pool)
    labels = np.array([-1.0, 1.0]) if loss.n_outputs == 1 else np.arange(float(loss.n_outputs))
    for spread in (0, 2, 8):
        found = _rounded(demand, loss, queries, labels, low, high, spread * pool.shape[1], max_points)
        if found is not None:
            return found
    raise SolverError("the queries cannot move far enough within the box to mend the rounding of the counts")


def _rounded(
    demand: Demand, loss: Loss, queries: Array, labels: Array, low: Array, high: Array, spread: int, max_points: int
) -> UserDataset | None:
    """Round the counts of the linear program and mend the equation; None if that fails.

    ``spread`` queries get each label once beforehand, which costs points, and leaves more of them to be moved.
    """
    base = np.zeros((len(queries), len(labels)))
    base[:spread] = 1.0
    counts = _counts(demand, loss, queries, labels, base)
    if not counts.sum() <= max_points:
        raise AssumptionError(
            "app_l_box",
            f"{counts.sum():,.0f} points with these queries, against max_points = {max_points:,}",
            "add queries about which θ♠ is less sure, or choose a target that the honest users oppose less",
        )
    used = np.argwhere(counts > 1e-9 * counts.max())
    Q, A, real = queries[used[:, 0]], labels[used[:, 1]], counts[used[:, 0], used[:, 1]]
    for whole in (np.maximum(np.round(real), 1.0), np.ceil(real)):
        moved = _moved(demand, loss, Q, A, whole, low, high)
        if moved is not None:
            repeats = whole.astype(np.int64)
            return UserDataset(np.repeat(moved, repeats, axis=0), np.repeat(A, repeats))
    return None


def _answers(demand: Demand, pool: Array) -> UserDataset:
    r = np.linalg.lstsq(pool.T, demand.w, rcond=None)[0]
    if not norms(pool.T @ r - demand.w) <= 1e-10 * demand.size:
        raise _infeasible()
    return UserDataset(pool, pool @ demand.reported_model + r)


def _infeasible() -> AssumptionError:
    return AssumptionError(
        "app_l_box", "a pool whose queries cannot counter w", "add queries: more of them, and more different ones"
    )


def _slopes(demand: Demand, loss: Loss, Q: Array, A: Array) -> Array:
    """-φ' for each point, shape (n, outputs)."""
    m = margins(demand.reported_model, Q, loss.n_outputs)
    return -loss.dphi(m, loss.encode(A, "A")).reshape(len(Q), loss.n_outputs)


def _counts(demand: Demand, loss: Loss, queries: Array, labels: Array, base: Array) -> Array:
    """Least total of real counts (M, labels) that are at least ``base``."""
    K = loss.n_outputs
    columns = []
    for label in labels:
        slopes = _slopes(demand, loss, queries, np.full(len(queries), label))
        columns.append(np.einsum("ik,ij->ikj", slopes, queries).reshape(len(queries), -1))
    matrix = np.stack(columns, axis=1).reshape(-1, demand.w.size).T
    right = demand.w
    if K > 1:  # the equations of the last class follow from the others: all sum to 0
        keep = (K - 1) * queries.shape[1]
        if not norms(demand.w.reshape(K, -1).sum(axis=0)) <= 1e-9 * demand.size:
            raise _infeasible()
        matrix, right = matrix[:keep], right[:keep]
    right = right - matrix @ base.ravel()
    found = _linear_program(np.ones(matrix.shape[1]), A_eq=matrix, b_eq=right, bounds=(0, None), method="highs")
    if not found.success:
        raise _infeasible()
    return np.asarray(found.x).reshape(len(queries), len(labels)) + base


def _moved(demand: Demand, loss: Loss, Q: Array, A: Array, counts: Array, low: Array, high: Array) -> Array | None:
    """Move the queries within the box until the equation holds; None if that fails.

    With point i counted c_i, the left side is Σ c_i (-φ'_i) ⊗ Q_i, and its derivative in Q_i is
    c_i[(-φ'_i) ⊗ I - (φ''_i Θ♠) ⊗ Q_i].  Steps have least norm in the coordinates divided by their room.
    """
    K, dim = loss.n_outputs, Q.shape[1]
    theta = demand.reported_model.reshape(K, dim)
    encoded = loss.encode(A, "A")

    def excess(queries: Array) -> Array:
        return demand.w - np.einsum("i,ik,ij->kj", counts, _slopes(demand, loss, queries, A), queries).ravel()

    queries, residual = Q, excess(Q)
    for _ in range(60):
        if norms(residual) <= _EXACT * demand.size:
            return queries
        slopes = _slopes(demand, loss, queries, A)
        curvature = loss.d2phi(margins(demand.reported_model, queries, K), encoded).reshape(len(Q), K, K)
        derivative = np.einsum("ik,jl->ikjl", slopes, np.eye(dim))
        derivative -= np.einsum("ikc,cl,ij->ikjl", curvature, theta, queries, optimize=True)
        room = np.minimum(queries - low, high - queries)
        matrix = (derivative * (counts[:, None] * room)[:, None, None, :]).transpose(1, 2, 0, 3).reshape(K * dim, -1)
        step = np.linalg.lstsq(matrix, residual, rcond=1e-12)[0].reshape(queries.shape)
        length = min(1.0, 0.9 / max(float(np.abs(step).max()), 1e-300))
        while length > 1e-6:
            trial = queries + length * room * step
            new = excess(trial)
            if norms(new) < (1.0 - 0.1 * length) * norms(residual):
                break
            length *= 0.5
        else:
            return queries if norms(residual) <= 100 * _EXACT * demand.size else None
        queries, residual = trial, new
    return None
