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
from scipy.special import expit, softmax

from solvers import _kernels as kernels
from solvers._parallel import one_blas_thread
from solvers.result import Direction
from theory import Logistic, Multinomial, Problem, SquaredL2
from theory.arrays import Array
from theory.losses import margins

_EPS = float(np.finfo(np.float64).eps)
_ROUNDING = 1e-12  # changes below this fraction of the terms that they are summed from count as none
_LP_ACCURACY = 1e-6  # HiGHS works to 1e-7
_MAX_POOLED, _POOLED_ITERATIONS = 2000, 60
_TRUSTED = 1e5  # beyond it, curvatures of the pooled loss are below 1e-10 and its gradient is lost in rounding


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
    strongest, slack = lam * problem.n_users, 4 * _EPS
    if size > strongest * (1 + slack) or (size >= strongest * (1 - slack) and problem.reg.name == "smooth_l2"):
        return Direction(-slope / size, np.zeros((problem.n_users, problem.dim)))
    return None


def recession_of_one_feature(problem: Problem) -> Direction | None:
    """Return a direction of recession along one feature, if there is one: one pass over the data at any size."""
    is_candidate = isinstance(problem.loss, (Logistic, Multinomial)) and not problem.slope.any()
    if problem.nu > 0 or problem.pinned or not is_candidate:
        return None
    Q, labels = _used_data(problem)
    delta = _single_feature(Q, labels) if len(Q) else None
    return None if delta is None else _together(problem, delta / np.linalg.norm(delta))


def _used_data(problem: Problem) -> tuple[Array, Array]:
    """Return the queries and encoded answers of all users, without a copy where they are the whole stack."""
    rows, stack = used_rows(problem), problem.stack
    return (stack.Q, stack.labels) if len(rows) == len(stack.Q) else (stack.Q[rows], stack.labels[rows])


def recession(problem: Problem) -> Direction | None:
    """Return a common direction of recession of a logistic problem with ν = 0, or None if none was found.

    Whether there is one depends only on the signs of the data's margins, so on all data together.  In this order: a
    single feature, which is cheap at any size; Newton's method on the pooled data, which ends in a certificate of
    either answer unless data stay undecided for ever; a linear program.  Every direction that is returned was checked
    on the data, to rounding.  With a reported gradient (slope ≠ 0) linear programs decide, and with a regularizer of
    linear growth directions in which the models part are not tried.
    """
    if problem.nu > 0 or problem.pinned or not isinstance(problem.loss, (Logistic, Multinomial)):
        return None
    Q, labels = _used_data(problem)
    if len(Q) == 0:
        return None
    with one_blas_thread():
        delta = _direction(problem.loss, Q, labels, problem.slope)
    return None if delta is None else _together(problem, delta / np.linalg.norm(delta))


def _direction(loss: Logistic | Multinomial, Q: Array, labels: Array, slope: Array) -> Array | None:
    if slope.any():
        delta = _slope_outweighs(Q, labels, slope)
        if delta is not None and _outweighs(Q, labels, slope, delta):
            return delta
        delta = _nothing_grows(Q, labels, slope)
        return delta if delta is not None and _descends(Q, labels, delta, slope) else None
    delta = _single_feature(Q, labels)
    if delta is None:
        decided, delta = _pooled_newton(loss, _Coordinates(Q, labels), labels)
        if not decided or (delta is not None and not _descends(Q, labels, delta)):
            delta = _nothing_grows(Q, labels)
    return delta if delta is not None and _descends(Q, labels, delta) else None


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


def _growth(Q: Array, labels: Array) -> tuple[Array, np.ndarray]:
    """Linear forms of δ and the data point of each: the loss of a point grows like its largest form (or 0)."""
    n = len(Q)
    if labels.ndim == 1:
        return -labels[:, None] * Q, np.arange(n)
    K = labels.shape[1]
    # The loss of a point grows like max_k m_k - Σ_l p_l m_l, with m = δ Q_i.
    mass = labels.sum(axis=1)[:, None]
    blocks = [((mass * np.eye(K)[k] - labels)[:, :, None] * Q[:, None, :]).reshape(n, -1) for k in range(K)]
    return np.concatenate(blocks), np.tile(np.arange(n), K)


def _growth_along(Q: Array, labels: Array, delta: Array) -> tuple[Array, Array]:
    """Return how each data point's loss changes far out along δ (< 0: it falls for ever), and the size of its terms."""
    W = delta.reshape(-1, Q.shape[1]).T
    units = _column_norms(Q)
    # δ is known to rounding of its largest part, in units in which the queries are of the same size in every feature.
    m, size = Q @ W, np.abs(Q / units).sum(axis=1) * float(np.abs(W * units[:, None]).max())
    if labels.ndim == 1:
        return -labels * m[:, 0], size
    # The classes that carry weight must stay at the top together; then the loss falls if any other falls behind.
    worst = np.where(labels > 0, m, np.inf).min(axis=1)
    others = np.where(labels > 0, np.inf, m).min(axis=1)
    behind = m.max(axis=1) - worst
    fall = np.where(np.isfinite(others), others - worst, 0.0)
    return np.where(behind > _ROUNDING * size, behind, fall), size


def _column_norms(Q: Array) -> Array:
    columns = np.linalg.norm(Q, axis=0)
    return np.where(columns > 0, columns, 1.0)


def _without_dust(Q: Array, delta: Array) -> Array:
    """Return δ with what is within rounding of 0 set to 0."""
    W = delta.reshape(-1, Q.shape[1])
    sizes = np.abs(W) * _column_norms(Q)
    return np.where(sizes > 1e-14 * sizes.max(), W, 0.0).ravel()


def _descends(Q: Array, labels: Array, delta: Array, slope: Array | None = None) -> bool:
    """Whether along δ no data point gets worse, and one gets better for ever or the slope goes down."""
    if not np.isfinite(delta).all():
        return False
    growth, size = _growth_along(Q, labels, delta)
    growth = np.where(np.abs(growth) <= _ROUNDING * size, 0.0, growth)
    tilt = 0.0 if slope is None else float(slope @ delta)
    if slope is not None and abs(tilt) <= _ROUNDING * float(np.abs(slope) @ np.abs(delta)):
        tilt = 0.0
    return bool(np.all(growth <= 0) and tilt <= 0 and (np.any(growth < 0) or tilt < 0))


def _outweighs(Q: Array, labels: Array, slope: Array, delta: Array) -> bool:
    """Whether the slope goes down along δ by more than all data points together get worse."""
    if not np.isfinite(delta).all():
        return False
    if labels.ndim == 1:
        worse = np.maximum(-labels * (Q @ delta), 0.0)
    else:
        m = Q @ delta.reshape(labels.shape[1], -1).T
        worse = labels.sum(axis=1) * m.max(axis=1) - np.sum(labels * m, axis=1)
    size = float(np.abs(slope) @ np.abs(delta)) + float(_growth_along(Q, labels, delta)[1].sum())
    return bool(slope @ delta + worse.sum() < -1e-9 * size)


class _Coordinates:
    """Directions δ = T y in which the queries, scaled to unit rows, are orthonormal: units do not blur a decision.

    Moving all models by a δ with Q δ = 0 changes nothing; T leaves such δ out.
    """

    def __init__(self, Q: Array, labels: Array) -> None:
        columns = _column_norms(Q)
        scaled = _unit_rows(Q / columns)
        _, singular, Vt = np.linalg.svd(scaled, full_matrices=False)
        keep = singular > max(scaled.shape) * _EPS * singular.max(initial=0.0)
        whitened = Vt[keep].T / singular[keep]  # (d, r)
        basis = whitened / columns[:, None]
        self.T = basis if labels.ndim == 1 else np.kron(np.eye(labels.shape[1]), basis)
        self.queries = _unit_rows(scaled @ whitened)

    def unit_forms(self, forms: Array) -> Array:
        """Return ``forms`` in y, each scaled to norm 1 (which leaves its sign alone), without those that vanish."""
        unit = _unit_rows(forms @ self.T)
        return unit[unit.any(axis=1)]


def _unit_rows(M: Array) -> Array:
    lengths = np.linalg.norm(M, axis=1, keepdims=True)
    return M / np.where(lengths > 0, lengths, 1.0)


def _pooled_newton(loss: Logistic | Multinomial, coordinates: _Coordinates, labels: Array) -> tuple[bool, Array | None]:
    r"""Minimize the loss of all data together, each query scaled to length 1; return whether that decided, and δ.

    Scaling queries changes the loss but no sign, hence not the answer.  The third derivative of a logistic loss along
    u is at most :math:`c\max_i|Q_i^Tu|` times the second (c = 1, or 2 for K classes), so damped Newton steps
    decrease it, and a minimum exists once :math:`\|\nabla\|_{H^{-1}}\max_i c\|Q_i\|_{H^{-1}} \le 1/2` (Bach, 2010,
    Proposition 2).  If a minimum does not exist, the iterates soon answer every query rightly, unless some stay equal.
    """
    Z, K = coordinates.queries, loss.n_outputs
    d = Z.shape[1]
    if d == 0:
        return True, None
    if K * d > _MAX_POOLED:
        return False, None
    factor, y = 1.0 if K == 1 else 2.0, np.zeros(K * d)
    for _ in range(_POOLED_ITERATIONS):
        m = margins(y, Z, K)
        L = _pooled_hessian(Z, m)
        if kernels.cholesky(L) != 0:
            return False, None
        gradient = loss.dphi(m, labels)
        gradient = Z.T @ gradient if K == 1 else (gradient.T @ Z).ravel()
        step = -gradient
        kernels.cholesky_solve(L, step)
        decrement = float(np.sqrt(max(-float(gradient @ step), 0.0)))
        longest = _longest(Z, L, K)
        if not longest <= _TRUSTED:
            return False, None
        if factor * decrement * longest <= 0.25:  # half of what suffices, for rounding
            return True, None
        reach = factor * float(np.abs(margins(step, Z, K)).max())
        y = y + (np.log1p(reach) / reach if reach > 0 else 1.0) * step
        if _descends(Z, labels, y):
            return True, coordinates.T @ y
    return False, None


def _pooled_hessian(Z: Array, m: Array) -> Array:
    n, d = Z.shape
    one, all_rows = np.zeros(1, dtype=np.int64), np.full(1, n, dtype=np.int64)
    if m.ndim == 1:
        H = np.empty((1, d, d))
        kernels.weighted_gram(Z, one, all_rows, expit(m) * expit(-m), H, 0, 1)
        return H[0]
    K = m.shape[1]
    H = np.empty((1, K * d, K * d))
    kernels.multinomial_hessian(Z, one, all_rows, softmax(m, axis=1), np.ones(n), H, 0, 1)
    # The shift of all classes at once is flat: any curvature will do there.
    return H[0] + np.kron(np.full((K, K), 1.0 / K), np.eye(d))


def _longest(Z: Array, L: Array, K: int) -> float:
    """The largest ‖Q_i‖ of one class in the metric of (L Lᵀ)⁻¹."""
    inverse, d = L.copy(), Z.shape[1]
    kernels.cholesky_inverse(inverse)
    largest = 0.0
    for k in range(K):
        block = np.tril(inverse[k * d : (k + 1) * d, k * d : (k + 1) * d])
        block = block + np.tril(block, -1).T
        largest = max(largest, float(np.max(np.sum((Z @ block) * Z, axis=1))))
    return float(np.sqrt(largest))


def _nothing_grows(Q: Array, labels: Array, slope: Array | None = None) -> Array | None:
    """Is there a direction in which nothing grows and something falls for ever?"""
    coordinates = _Coordinates(Q, labels)
    forms = _growth(Q, labels)[0]
    forms = coordinates.unit_forms(forms if slope is None else np.vstack([forms, slope]))
    if forms.size == 0:
        return None
    result = scipy.optimize.linprog(
        forms.sum(axis=0), A_ub=forms, b_ub=np.zeros(len(forms)), bounds=[(-1.0, 1.0)] * forms.shape[1], method="highs"
    )
    if result.status != 0:
        return None
    change = forms @ result.x
    if not change.min() < -_LP_ACCURACY:
        return None
    # HiGHS keeps the constraints to 1e-7; what is meant to stay equal is made equal to rounding.
    equal = forms[change > -_LP_ACCURACY]
    y = result.x - np.linalg.lstsq(equal, equal @ result.x, rcond=1e-12)[0] if len(equal) else result.x
    return _without_dust(Q, coordinates.T @ y)


def _slope_outweighs(Q: Array, labels: Array, slope: Array) -> Array | None:
    """Does the slope outweigh the growth of the losses?  Minimize Σ_i s_i + slope·δ with s_i >= its forms and 0."""
    coordinates = _Coordinates(Q, labels)
    forms, point = _growth(Q, labels)
    forms, tilt, n = forms @ coordinates.T, slope @ coordinates.T, len(Q)
    scale = max(float(np.abs(forms).max()), float(np.abs(tilt).max()), np.finfo(np.float64).tiny)
    of_point = scipy.sparse.csr_matrix((np.ones(len(point)), (np.arange(len(point)), point)), shape=(len(point), n))
    result = scipy.optimize.linprog(
        np.concatenate([tilt / scale, np.ones(n)]),
        A_ub=scipy.sparse.hstack([scipy.sparse.csr_matrix(forms / scale), -of_point]).tocsr(),
        b_ub=np.zeros(len(point)),
        bounds=[(-1.0, 1.0)] * len(tilt) + [(0.0, None)] * n,
        method="highs",
    )
    return coordinates.T @ result.x[: len(tilt)] if result.status == 0 and result.fun < -_LP_ACCURACY else None


def _together(problem: Problem, delta: Array) -> Direction:
    return Direction(delta, np.tile(delta, (problem.n_users, 1)))
