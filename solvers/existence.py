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
_LP_MARGIN = 1e-5


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
    """Return a common direction of recession of a logistic problem with ν = 0, or None if none was found.

    A single feature is tried first, which is cheap at any size; then two linear programs decide.  With a reported
    gradient (slope ≠ 0) and a regularizer of linear growth, directions in which the models part are not tried.
    """
    if problem.nu > 0 or problem.pinned or not isinstance(problem.loss, (Logistic, Multinomial)):
        return None
    rows = used_rows(problem)
    if len(rows) == 0:
        return None
    Q, labels = problem.stack.Q[rows], problem.stack.labels[rows]
    direction = _single_feature(Q, labels) if not problem.slope.any() else None
    if direction is None:
        direction = _linear_programs(_growth(Q, labels), problem.slope)
    return None if direction is None else _together(problem, direction / np.linalg.norm(direction))


def _single_feature(Q: Array, labels: Array) -> Array | None:
    """A feature of one sign that is never active in some class (K classes), or always agrees with the label."""
    if labels.ndim == 1:
        signed = labels[:, None] * Q
        for sign in (1.0, -1.0):
            found = (sign * signed >= 0).all(axis=0) & (signed != 0).any(axis=0)
            if found.any():
                return sign * np.eye(Q.shape[1])[int(np.argmax(found))]
        return None
    active = (labels.T > 0).astype(np.float64) @ (Q != 0).astype(np.float64) > 0  # (K, d)
    one_sign = (Q >= 0).all(axis=0).astype(int) - (Q <= 0).all(axis=0).astype(int)
    found = (one_sign != 0) & active.any(axis=0) & ~active.all(axis=0)
    if not found.any():
        return None
    feature = int(np.argmax(found))
    direction = np.zeros((labels.shape[1], Q.shape[1]))
    direction[active[:, feature], feature] = float(one_sign[feature])
    return direction.ravel()


def _growth(Q: Array, labels: Array) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """Linear forms of δ and the data point of each: the loss of a point grows like its largest form (or 0)."""
    n = len(Q)
    if labels.ndim == 1:
        return scipy.sparse.csr_matrix(-labels[:, None] * Q), np.arange(n)
    K = labels.shape[1]
    # The loss of a point grows like max_k m_k - Σ_l p_l m_l, with m = δ Q_i.
    blocks = [
        scipy.sparse.csr_matrix(((np.eye(K)[k] - labels)[:, :, None] * Q[:, None, :]).reshape(n, -1)) for k in range(K)
    ]
    return scipy.sparse.vstack(blocks).tocsr(), np.tile(np.arange(n), K)


def _linear_programs(growth: tuple[scipy.sparse.csr_matrix, np.ndarray], slope: Array) -> Array | None:
    forms, point = growth
    n, size = int(point.max()) + 1, slope.size
    scale = max(float(np.abs(forms).max()), float(np.abs(slope).max()), 1e-300)
    forms, slope = forms / scale, slope / scale
    box = [(-1.0, 1.0)] * size
    if slope.any():
        # Does the slope outweigh the growth of the losses?  minimize Σ_i s_i + slope·δ with s_i >= its forms, 0.
        of_point = scipy.sparse.csr_matrix((np.ones(len(point)), (np.arange(len(point)), point)), shape=(len(point), n))
        result = scipy.optimize.linprog(
            np.concatenate([slope, np.ones(n)]),
            A_ub=scipy.sparse.hstack([forms, -of_point]).tocsr(),
            b_ub=np.zeros(len(point)),
            bounds=box + [(0.0, None)] * n,
            method="highs",
        )
        if result.status == 0 and result.fun < -_LP_MARGIN:
            return result.x[:size]
    # Is there a direction in which nothing grows and something decreases for ever?
    objective = np.asarray(forms.sum(axis=0)).ravel() + slope
    constraints = scipy.sparse.vstack([forms, scipy.sparse.csr_matrix(slope)]).tocsr()
    result = scipy.optimize.linprog(
        objective, A_ub=constraints, b_ub=np.zeros(constraints.shape[0]), bounds=box, method="highs"
    )
    if result.status != 0:
        return None
    change = constraints @ result.x
    # HiGHS works to 1e-7; a decrease counts only if it stands out of that.
    return result.x if change.min() < -_LP_MARGIN and change.max() < 0.1 * _LP_MARGIN else None


def _together(problem: Problem, delta: Array) -> Direction:
    return Direction(delta, np.tile(delta, (problem.n_users, 1)))
