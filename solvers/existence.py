r"""Whether a minimum exists, and whether it is unique: flat directions and directions of recession (ν = 0).

With ν > 0 the loss is coercive in the local models, and a minimum exists unless a reported gradient g
(:meth:`theory.Problem.tilt`) is stronger than all regularizers together.  With ν = 0 and no pinned user:

* *flat* directions: moving all models by the same δ with Q_i·δ = 0 for every query (for K classes also the same
  vector for every class) changes nothing.  The minimizers form an affine set; the solvers return the element
  without a component in it.
* *recession*: moving all models by the same δ with a_i Q_i·δ >= 0 for all i (for K classes
  (δ_{a_i} - δ_k)·Q_i >= 0) never increases a logistic loss and decreases it for ever if one of them is positive:
  there is no minimum.  Any recession direction of Σ_n L_n + Σ_n R has δθ_n = δρ, because the regularizers grow in
  every other direction; so a linear program over δ decides.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse

from solvers.result import Direction
from theory import Logistic, Multinomial, Problem, SquaredL2
from theory.arrays import Array

_EPS = float(np.finfo(np.float64).eps)


def used_rows(problem: Problem) -> np.ndarray:
    """Return the indices of the rows of the stack that belong to a user."""
    stack = problem.stack
    if len(stack.start) == 0:
        return np.zeros(0, dtype=np.int64)
    return np.concatenate([np.arange(a, b) for a, b in zip(stack.start, stack.stop, strict=True)])


def flat_directions(problem: Problem) -> Array:
    """Return an orthonormal basis (F, P) of the directions along which all models can move together for nothing.

    Empty when ν > 0 or when a pinned user holds ρ in place.
    """
    K, d = problem.loss.n_outputs, problem.query_dim
    if problem.nu > 0 or problem.pinned:
        return np.zeros((0, problem.dim))
    Q = problem.stack.Q[used_rows(problem)]
    if len(Q) == 0:
        return np.eye(problem.dim)
    # Columns are scaled to norm 1 so that rank does not depend on units.
    scale = np.linalg.norm(Q, axis=0)
    scale[scale == 0] = 1.0
    R = np.linalg.qr(Q / scale, mode="r") if len(Q) > d else Q / scale
    _, singular, Vt = np.linalg.svd(R, full_matrices=True)
    rank = int(np.sum(singular > max(Q.shape) * _EPS * singular.max(initial=0.0)))
    null = Vt[rank:] / scale  # Q @ (v / scale) = 0
    null = np.linalg.qr(null.T)[0].T if len(null) else null
    if K == 1:
        return null
    if not isinstance(problem.loss, Multinomial):
        return np.kron(np.eye(K), null)
    contrasts = scipy.linalg.null_space(np.ones((1, K))).T
    shift = np.full((1, K), 1.0 / np.sqrt(K))
    return np.concatenate([np.kron(shift, np.eye(d)), np.kron(contrasts, null)])


def unbounded_tilt(problem: Problem, flat: Array) -> Direction | None:
    """Return a direction along which a reported gradient pulls for ever, where that is plain to see."""
    slope = problem.slope
    size = float(np.linalg.norm(slope))
    if size == 0:
        return None
    along_flat = flat.T @ (flat @ slope)
    if np.linalg.norm(along_flat) > 1e-10 * size:
        return _together(problem, -along_flat / np.linalg.norm(along_flat))
    lam = getattr(problem.reg, "lam", None)
    if lam is None or isinstance(problem.reg, SquaredL2):
        if problem.n_users == 0:
            return Direction(-slope / size, np.zeros((0, problem.dim)))
        return None
    # Σ_n R grows by at most λ N per unit of ρ, so a stronger slope wins.  For smooth-ℓ2 equality too has no minimum.
    strongest = lam * problem.n_users
    if size > strongest or (size == strongest and problem.reg.name == "smooth_l2"):
        return Direction(-slope / size, np.zeros((problem.n_users, problem.dim)))
    return None


def recession(problem: Problem) -> Direction | None:
    """Return a common direction of recession of a logistic problem with ν = 0, or None if there is none."""
    if problem.nu > 0 or problem.pinned or not isinstance(problem.loss, (Logistic, Multinomial)):
        return None
    rows = used_rows(problem)
    if len(rows) == 0:
        return None
    gains = _gains(problem, rows)
    n, size = gains.shape
    # maximize Σ min(gain_i·δ, 1) - M·violations... in exact form: gains·δ >= 0, slope·δ <= 0, |δ| <= 1.
    constraints = scipy.sparse.vstack([-gains, scipy.sparse.csr_matrix(problem.slope)]).tocsr()
    result = scipy.optimize.linprog(
        -np.asarray(gains.sum(axis=0)).ravel() + problem.slope,
        A_ub=constraints,
        b_ub=np.zeros(n + 1),
        bounds=[(-1.0, 1.0)] * size,
        method="highs",
    )
    if result.status != 0:
        return None
    delta = result.x
    gain = np.asarray(gains @ delta)
    # The linear program works to 1e-7; a direction counts only if its gain stands out of that.
    if not (gain.max() > 1e-5 and gain.min() > -1e-6 and problem.slope @ delta <= 1e-6):
        return None
    return _together(problem, delta / np.linalg.norm(delta))


def _gains(problem: Problem, rows: np.ndarray) -> scipy.sparse.csr_matrix:
    """Rows are the linear forms of δ that must not be negative; scaled to norm 1."""
    Q, labels = problem.stack.Q[rows], problem.stack.labels[rows]
    if isinstance(problem.loss, Logistic):
        return scipy.sparse.csr_matrix(_unit(labels[:, None] * Q))
    K = labels.shape[1]
    blocks = []
    Q = _unit(Q)
    for k in range(K):
        # Every class with positive probability must have the largest margin: (δ_k - δ_l)·Q_i >= 0.
        has = labels[:, k] > 0
        for other in range(K):
            if other == k or not has.any():
                continue
            block = scipy.sparse.lil_matrix((1, K))
            block[0, k], block[0, other] = 1.0, -1.0
            blocks.append(scipy.sparse.kron(block, scipy.sparse.csr_matrix(Q[has])))
    return scipy.sparse.vstack(blocks).tocsr()


def _unit(rows: Array) -> Array:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def _together(problem: Problem, delta: Array) -> Direction:
    return Direction(delta, np.tile(delta, (problem.n_users, 1)))
