r"""Hard-labelled data for K-class logistic regression that are exact, with few points (C13).

The equation is Σ_i (e_{A_i} - p_i)Q_iᵀ = W with p_i = softmax(Θ♠Q_i) (see :mod:`theory.poisoning`).  Write the centred
model as CΘ♠ = U diag(σ) Vᵀ, of rank r <= K - 1, and Q = V diag(1/σ) z + q with q orthogonal to V.  Then p depends on z
alone, through the margins Uz, and the equation falls into two:

.. math:: \sum_i (e_{A_i} - p_i) z_i^T = W V\,\mathrm{diag}(\sigma), \qquad
          \sum_i (e_{A_i} - p_i) q_i^T = W (I - VV^T).

The second is linear in the q_i: its least-norm solution.  The first has (K - 1) r equations whatever d is.  It is
solved for J groups of equal points with counts n_j:

1. relaxed: real counts, least total, by Newton's method with a barrier that keeps the counts positive.  At the least
   total the multipliers X of the equation price every point of the solution at its cost, and z_j is where the price
   (e_a - p(z))ᵀXz of a point with label a is largest.  Where some other point is worth more than it costs, it gets a
   group, and the total is lowered again;
2. counts are rounded up, and the z_j adjusted by Newton's method (least-norm steps) until the equation holds again;
3. where rounding matters, single points are taken away for as long as Newton's method still finds a solution.

The total is at least s/W((K-1)/e), and that much is enough only if all points have their other classes equally likely.
These contribute multiples of (e_a - 1/K)(e_a - 1/K)ᵀ, so W Θ♠ᵀ would have to be such a sum; how far it is from one is
what the data cost above the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from scipy.special import softmax

from theory import AssumptionError, SolverError, UserDataset
from theory.arrays import Array
from theory.losses import Multinomial
from theory.poisoning import Demand, class_bound, least_points
from theory.regularizers import norms

# Directions of the model below this fraction of its size are left out; class sums within it of W count as 0.
_RANK = 1e-10
_SUM = 1e-9
# Below this many points in all, rounding matters, and several relaxed solutions are rounded.
_FEW = 400
# Margins beyond this are not tried: a point that its model contradicts so much has weight 1 already.
_FAR = 12.0
# The relaxed total is this close to the least for its groups; a round of new groups must gain ten times as much.
_GAP = 1e-3


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

    def prices(self, X: Array, z: Array, labels: np.ndarray) -> tuple[Array, Array, Array]:
        r"""Return the price (e_a - p)ᵀYz, Y = left X, of each point, its gradient in z and **minus** its Hessian.

        With v = Yz, H = diag(p) - ppᵀ and q = Hv, the price is v_a - pᵀv.  Its gradient is Yᵀ(e_a - p) - Uᵀq, and minus
        its Hessian UᵀHY + YᵀHU + UᵀDU with D = diag(q) - qpᵀ - pqᵀ.
        """
        U, Y = self.U, self.left @ X
        p = softmax(z @ U.T, axis=1)
        v = z @ Y.T
        mean = np.sum(p * v, axis=1)
        q = p * (v - mean[:, None])
        pU, pY, qU = p @ U, p @ Y, q @ U
        gradients = Y[labels] - pY - qU
        cross = np.einsum("jk,ka,kb->jab", p, U, Y) - pU[:, :, None] * pY[:, None, :]
        bent = np.einsum("jk,ka,kb->jab", q, U, U) - qU[:, :, None] * pU[:, None, :] - pU[:, :, None] * qU[:, None, :]
        return v[np.arange(len(labels)), labels] - mean, gradients, cross + np.swapaxes(cross, 1, 2) + bent

    def margins_moved(self, dz: Array) -> Array:
        """The largest change of a margin of each point when z changes by ``dz``."""
        return np.abs(dz @ self.U.T).max(axis=1)


@dataclass(frozen=True, eq=False)
class _Groups:
    """J groups of equal points: their labels (J,), counts (J,) and z (J, r)."""

    labels: np.ndarray
    counts: Array
    z: Array

    @property
    def total(self) -> float:
        """The number of points."""
        return float(self.counts.sum())

    def __getitem__(self, keep: np.ndarray) -> _Groups:
        return _Groups(self.labels[keep], self.counts[keep], self.z[keep])

    def joined(self, other: _Groups) -> _Groups:
        """These groups and others."""
        pairs = ((self.labels, other.labels), (self.counts, other.counts), (self.z, other.z))
        return _Groups(*(np.concatenate(pair) for pair in pairs))


def class_points(demand: Demand, n_classes: int, *, extra_rounds: int = 4) -> UserDataset:
    r"""Return hard-labelled data that make θ_s♠ the exact local minimum: Σ_i (e_{A_i} - p_i)Q_iᵀ = W.

    Parameters
    ----------
    demand : Demand
    n_classes : int
        K.
    extra_rounds : int
        How often groups are added at most.

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


def class_groups(demand: Demand, n_classes: int, *, extra_rounds: int = 4) -> tuple[Array, np.ndarray, np.ndarray]:
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
    least = least_points(demand, Multinomial(n_classes))
    found = _whole(core, _relaxed(core, demand.work, extra_rounds), least)
    labels, counts, z = found.labels, found.counts, found.z
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


# --------------------------------------------------------------------------------------------------------------
# Real counts, least total
# --------------------------------------------------------------------------------------------------------------


def _relaxed(core: _Core, work: float, extra_rounds: int) -> list[_Groups]:
    """Groups with real counts of ever smaller total; the first have one group a class, the last nearly the least."""
    scale = float(norms(core.G.ravel()))
    scaled = replace(core, G=core.G / scale)
    many = _many_points(scaled, work / scale, 1.0 / scale)
    found, X = _least_total(scaled, many)
    stages = [many, found]
    if work <= 0.0 or found.total * scale < _FEW:
        stages.insert(1, _fewer_points(scaled, many, 1.0 / scale))
    for _ in range(extra_rounds):
        new = _paying_points(scaled, X)
        if len(new.labels) == 0:
            break
        few = np.full(len(new.labels), 0.02 * found.total / len(new.labels))
        more, X = _least_total(scaled, found.joined(replace(new, counts=few)))
        gained = 1.0 - more.total / found.total
        if not gained > _GAP:
            break
        # A group this small is none: it is what the barrier leaves of one that does not pay.
        found = more[more.counts > 1e-4 * more.total / len(more.counts)]
        stages.append(found)
        if gained < 10.0 * _GAP:
            break
    return [replace(groups, counts=groups.counts * scale) for groups in stages]


def _many_points(core: _Core, work: float, one: float) -> _Groups:
    """A solution of many points, equally many of each class.

    In the limit p = 1/K and z_a = K G_a/n, with G_a the row of class a.
    """
    K, labels = core.n_classes, np.arange(core.n_classes)
    total = 4.0 * max(work / class_bound(K), K * float(norms(core.G.ravel())), K * one)
    for _ in range(60):
        counts = np.full(K, total / K)
        z = _newton(core, labels, counts, K / total * (core.left @ core.G))
        if z is not None:
            return _Groups(labels, counts, z)
        total *= 2.0
    raise SolverError("K-class poisoning: no solution was found, not even with many points")


def _fewer_points(core: _Core, many: _Groups, one: float) -> _Groups:
    """As many points of each class as before, but about the least number: for demands that a few large queries meet.

    There (s <= 0) the relaxed total is hardly above 0, and says nothing of whole numbers.
    """
    found, factor = many, 0.7
    while factor < 0.97:
        counts = factor * found.counts
        z = _newton(core, found.labels, counts, found.z) if counts[0] >= one else None
        if z is None:
            factor = factor**0.5
        else:
            found = _Groups(found.labels, counts, z)
    return found


def _least_total(core: _Core, start: _Groups) -> tuple[_Groups, Array]:
    r"""Lower the total of real counts; return the groups, and the multipliers X (K - 1, r) of the equation.

    Newton's method on Σn_j - μΣ ln n_j subject to the equation.  The Lagrangian Σn_j - <X, Σn_jf_j - G> has the second
    derivatives μ/n_j² in n_j and n_j times minus the Hessian of the price in z_j (their product vanishes at the
    solution, and is left out); each is replaced by a positive definite one, with κ added as long as steps are short.
    """
    labels, n, z = start.labels, start.counts, start.z
    J, r = z.shape
    mu, kappa, weight = 0.1 * start.total / J, 0.1, 0.0
    excess = core.excess(n, z, labels)
    X = _multipliers(core, start, mu)
    history = [start.total]
    for _ in range(200):
        in_counts, in_z = core.jacobian(n, z, labels)
        values, V = np.linalg.eigh(core.prices(X.reshape(-1, r), z, labels)[2])
        bend = (np.abs(values) + kappa) * np.maximum(n, 1e-3 * n.mean())[:, None]
        soft = n**2 / (mu + kappa * n)
        B = (in_z.reshape(-1, J, r).transpose(1, 0, 2) @ V) / np.sqrt(bend)[:, None, :]
        B = B.transpose(1, 0, 2).reshape(len(excess), -1)
        slope = 1.0 - mu / n
        S = (in_counts * soft) @ in_counts.T + B @ B.T
        S[np.diag_indices_from(S)] += 1e-14 * np.trace(S)
        X = np.linalg.solve(S, (in_counts * soft) @ slope - excess)
        dn = soft * (in_counts.T @ X - slope)
        dz = np.einsum("jab,jb->ja", V, (B.T @ X).reshape(J, r) / np.sqrt(bend))
        weight = max(weight, 2.0 * float(norms(X)))
        fall = float(slope @ dn) - weight * float(norms(excess))
        length = _length(core, _Groups(labels, n, z), dn, dz, mu, weight, fall)
        if length == 0.0:
            break
        n, z = n + length * dn, z + length * dz
        excess = core.excess(n, z, labels)
        kappa = 4.0 * kappa if length < 0.3 else max(kappa / 4.0, 1e-8) if length > 0.7 else kappa
        history.append(float(n.sum()))
        if abs(fall) < 0.1 * mu * J:
            if mu * J <= 1.01 * _GAP * n.sum() and norms(excess) < 1e-6:
                break
            mu = max(0.2 * mu, _GAP * float(n.sum()) / J)
        if len(history) > 20 and abs(history[-20] - history[-1]) < _GAP * history[-1] and norms(excess) < 1e-4:
            break
    return _Groups(labels, n, z), X.reshape(-1, r)


def _multipliers(core: _Core, groups: _Groups, mu: float) -> Array:
    """Least-squares solution of the stationarity of Σn_j - μΣ ln n_j - <X, Σn_jf_j - G>."""
    in_counts, in_z = core.jacobian(groups.counts, groups.z, groups.labels)
    right = np.concatenate([1.0 - mu / groups.counts, np.zeros(in_z.shape[1])])
    return np.asarray(scipy.linalg.lstsq(np.vstack([in_counts.T, in_z.T]), right, lapack_driver="gelsy")[0])


def _length(core: _Core, at: _Groups, dn: Array, dz: Array, mu: float, weight: float, fall: float) -> float:
    """The length of a step that keeps counts positive and margins close, and lowers total, barrier and residual."""

    def merit(counts: Array, z: Array) -> float:
        rest = float(norms(core.excess(counts, z, at.labels)))
        return float(counts.sum() - mu * np.log(counts).sum()) + weight * rest

    shrinking = max(float(np.max(-dn / at.counts)), 1e-300)
    length = min(1.0, 0.95 / shrinking, 1.0 / max(float(core.margins_moved(dz).max()), 1e-300))
    before = merit(at.counts, at.z)
    while length > 1e-8:
        if merit(at.counts + length * dn, at.z + length * dz) <= before + 1e-4 * length * fall + 1e-13 * abs(before):
            return length
        length *= 0.5
    return 0.0


def _paying_points(core: _Core, X: Array) -> _Groups:
    """For each class the point that is worth most at the prices X, if that is more than it costs (counts are 0)."""
    K, U, best = core.n_classes, core.U, 1.0 + class_bound(core.n_classes)
    pairs = [(a, b) for a in range(K) for b in range(K)]
    labels = np.array([a for a, _ in pairs])
    z = best * np.array([U[a] - (U[b] if a != b else 0.0) for a, b in pairs])
    z, prices = _climbed(core, X, z, labels)
    tops = [int(np.flatnonzero(labels == a)[np.argmax(prices[labels == a])]) for a in range(K)]
    paying = np.array([j for j in tops if prices[j] > 1.0 + _GAP], dtype=np.int64)
    return _Groups(labels, np.zeros(len(labels)), z)[paying]


def _climbed(core: _Core, X: Array, z: Array, labels: np.ndarray) -> tuple[Array, Array]:
    """Newton's method to local maxima of the price, with margins within _FAR; any point is as good as its price."""
    value, gradient, bent = core.prices(X, z, labels)
    going = np.ones(len(labels), dtype=bool)
    for _ in range(40):
        values, V = np.linalg.eigh(bent)
        values = np.maximum(np.abs(values), 1e-3 * np.abs(values).max(axis=1, keepdims=True) + 1e-300)
        step = np.einsum("jab,jb->ja", V, np.einsum("jab,ja->jb", V, gradient) / values)
        step *= np.minimum(1.0, 1.0 / np.maximum(core.margins_moved(step), 1e-300))[:, None]
        gain = np.zeros(len(labels))
        for length in (1.0, 0.25):
            trial = z + length * step
            new = core.prices(X, trial, labels)
            better = going & (gain == 0.0) & (new[0] > value) & (core.margins_moved(trial) < _FAR)
            gain[better] = (new[0] - value)[better]
            z = np.where(better[:, None], trial, z)
        going = gain > 1e-7
        if not going.any():
            break
        value, gradient, bent = core.prices(X, z, labels)
    return z, value


# --------------------------------------------------------------------------------------------------------------
# Integer counts
# --------------------------------------------------------------------------------------------------------------


def _newton(core: _Core, labels: np.ndarray, counts: Array, z: Array) -> Array | None:
    """Solve the core equation for z with fixed counts by damped least-norm Newton steps; None if that fails."""
    scale = float(norms(core.G.ravel()))
    excess = core.excess(counts, z, labels)
    sizes: list[float] = []
    for _ in range(60):
        size = float(norms(excess))
        if size <= 1e-13 * scale:
            return z
        # Even at a double root the residual falls by 4 a step; where it hardly falls in so many there is no root.
        sizes.append(size)
        if len(sizes) > 30 and size > 0.5 * sizes[-12]:
            return None
        matrix = core.jacobian(counts, z, labels)[1]
        step = scipy.linalg.lstsq(matrix, -excess, cond=1e-12, lapack_driver="gelsy")[0].reshape(z.shape)
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


def _whole(core: _Core, stages: list[_Groups], least: int) -> _Groups:
    """The last stage that can be rounded; where few points may do, that which takes fewest."""
    best: _Groups | None = None
    for relaxed in reversed(stages):
        if best is not None and (best.total <= least or (least > 1 and _FEW < best.total < 1.1 * stages[-1].total)):
            break
        found = _rounded(core, relaxed, least)
        if found is not None and (best is None or found.total < best.total):
            best = found
    if best is None:
        raise SolverError("K-class poisoning: no integer counts were found")
    return best


def _rounded(core: _Core, relaxed: _Groups, least: int) -> _Groups | None:
    """Integer counts close to the real ones, and z for which the equation holds; None if none were found."""
    labels, counts = relaxed.labels, relaxed.counts
    whole, z = np.ceil(counts - 1e-9), None
    for more in (0.0, 0.001, 0.003, 0.01, 0.03, 0.1):
        whole = whole + np.ceil(more * whole)
        # Near a double root a start with smaller margins leads to the root that stays.
        for shrink in (1.0, 0.97, 0.9, 0.7, 0.4):
            z = _newton(core, labels, whole, shrink * relaxed.z)
            if z is not None:
                break
        if z is not None:
            break
    if z is None:
        return None
    if len(labels) < 5.0 * _GAP * counts.sum():
        return _Groups(labels, whole, z)
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
        if not taken or _FEW < whole.sum() < 1.1 * counts.sum():
            break
    return _Groups(labels, whole, z)[whole > 0]


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
