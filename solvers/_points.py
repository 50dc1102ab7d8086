r"""What the data say at a point (ρ, θ): gradients and curvature, each with a proven bound on its error.

====================  ==============================================  ============================================
class                 gradients                                       eigenvalues of Gram matrices
====================  ==============================================  ============================================
:class:`FloatPoint`   double-double, straight from the data           float64, proven by a Cholesky factorization
:class:`BallPoint`    balls of 192 bits                               balls, proven by an approximate inverse factor
====================  ==============================================  ============================================

A-priori bounds of :class:`FloatPoint` (u = 2⁻⁵³).  A float64 sum of n products, in any order, errs by at most
n u (1 + n u) Σ|x_j y_j| (Higham 2002, section 3.1), so a Gram matrix XᵀX of I rows errs by at most (I + 8) u tr(XᵀX)
in norm.  A Cholesky factorization of a d × d matrix A that runs to completion proves λ_min(A) >= -2 (d + 4) u tr(A)
(Higham 2002, theorem 10.3; Rump 2006; the factor 2 allows for products with reciprocals).  Assumed are IEEE 754
arithmetic, a BLAS that computes sums of products (none of the fast matrix multiplications), and ``numpy.exp`` within
1e-13; nothing is assumed of the eigenvalue routine, whose result is only a guess that is then proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from solvers import _kernels as kernels
from solvers._enclosures import TINY, UNIT, Balls, Interval, Mask, Twofold, Vectors, ball_interval, two_sum
from solvers._parallel import over_users
from theory import LeastSquares, Logistic, Multinomial, Problem
from theory.arrays import Array
from theory.losses import local_hessian
from theory.regularizers import norms

# Gram matrices with more entries than this in all are used block by block and not kept.
_KEPT_ENTRIES = 2**26
_BLOCK_ENTRIES = 2**17
# Radii at which local curvature is tried, in units of 1/max‖Q_i‖; at the first a logistic weight falls by 0.1 %.
_RADII = (1e-3, 0.1, 1.0, 4.0)
# Hessians of other losses are formed, for a better bound, where that takes no more flops than this.
_HESSIAN_FLOPS = 1e9
# Covers the rounding of a bound that is a short product or a sum of nonnegative terms.
_UP = 1.0 + 1e-9


@dataclass(frozen=True)
class ParallelSums:
    """A lower bound on Σ H_n:A_n, and κ_n and C_n of each model (see :mod:`solvers.certificate`).

    ``total`` is a float64 matrix or an ``arb_mat``; Σ H_n:A_n is at least it less ``loss``·I.
    """

    total: Any
    loss: float
    ratios: Array
    stiffnesses: Array


class Curvature:
    r"""Matrices :math:`0 \preceq G_n \preceq \nabla^2\mathcal L_n - 2\nu I`, valid within ``radius`` of θ_n.

    Attributes
    ----------
    radius : float
        Infinite where the bound holds everywhere.
    least, largest : (N,) arrays
        Proven bounds on the eigenvalues of G_n.
    traces : (N,) array
        About tr G_n, for use where no proof is needed.
    matrices : (N, P, P) array or None
        G_n, each up to ``error`` in the spectral norm; None where there are none.
    """

    def __init__(self, radius: float, n_users: int) -> None:
        self.radius = radius
        self.least, self.largest = np.zeros(n_users), np.zeros(n_users)
        self.traces, self.error = np.zeros(n_users), np.zeros(n_users)
        self.matrices: Array | None = None

    def least_eigenvalue(
        self, multiple: float, weights: Array, directions: Vectors, cuts: Array, more: ParallelSums | None = None
    ) -> float:
        r"""Return a proven lower bound on λ_min of :math:`m I + \sum_n w_n G_n - \sum_n c_n \hat z_n \hat z_n^T`.

        Parameters
        ----------
        multiple : float
        weights, cuts : (N,) arrays, >= 0
        directions : (N, P)
            The unit vectors ẑ_n; one with cut 0 is not looked at.
        more : ParallelSums, optional
            To be added.
        """
        weighted, cut = np.flatnonzero(weights), np.flatnonzero(cuts)
        if len(weighted) and self.matrices is None:
            return -np.inf
        if not len(weighted) and not len(cut) and more is None:
            return multiple
        least = self._proven_least(weights, weighted, directions[cut], cuts[cut], more)
        if not len(weighted) and more is None:
            least = min(least, 0.0)
        return float((Interval(multiple) + least - (more.loss if more else 0.0)).low)

    def _proven_least(
        self, weights: Array, weighted: np.ndarray, directions: Any, cuts: Array, more: ParallelSums | None
    ) -> float:
        raise NotImplementedError

    def parallel_sums(
        self, users: np.ndarray, shift: float, across: Array, along: Array, directions: Any
    ) -> ParallelSums:
        r"""Bound Σ H_n:A_n over ``users`` for H_n = G_n + shift I and A_n = k⊥ I - (k⊥ - k∥) ẑ_nẑ_nᵀ."""
        raise NotImplementedError


class FloatCurvature(Curvature):
    """Curvature in float64."""

    def _proven_least(
        self, weights: Array, weighted: np.ndarray, directions: Any, cuts: Array, more: ParallelSums | None
    ) -> float:
        scaled = np.sqrt(cuts)[:, None] * directions.rounded()
        # The nonzero eigenvalues of ZᵀZ are those of ZZᵀ.
        small = not len(weighted) and more is None and len(cuts) < scaled.shape[1]
        total = -(scaled @ scaled.T) if small else -(scaled.T @ scaled)
        error = (sum(scaled.shape) + 8.0) * UNIT * float(np.sum(cuts))
        if len(weighted) and self.matrices is not None:
            total += (weights @ self.matrices.reshape(len(weights), -1)).reshape(total.shape)
            rounding = (len(weights) + 8.0) * UNIT * self.traces
            error += float(np.sum(weights * (self.error + rounding)))
        if more is not None:
            total += more.total
            error += 4.0 * UNIT * float(np.linalg.norm(more.total) + np.linalg.norm(total))
        return float(least_eigenvalues(total[None], np.array([_UP * error]))[0])

    def parallel_sums(
        self, users: np.ndarray, shift: float, across: Array, along: Array, directions: Any
    ) -> ParallelSums:
        matrices = np.asarray(self.matrices)
        size = matrices.shape[1]
        identity, u = np.eye(size), (3.0 * size + 20.0) * UNIT
        z = directions.rounded()[users]
        H = matrices[users] + shift * identity
        A = _directed(across[users], along[users], z)
        h, a = (np.linalg.norm(M, axis=(1, 2)) * _UP for M in (H, A))
        wrong_h, wrong_a = self.error[users] + u * h, u * (a + across[users])
        least = least_eigenvalues(H + A, _UP * (wrong_h + wrong_a))
        Y = _approximate_steps(H, A)
        W = identity - Y
        y, w = (np.linalg.norm(M, axis=(1, 2)) * _UP + TINY for M in (Y, W))
        # The rounding of W = I - Y moves AW and WᵀAW; that of products of P terms is below u times their sizes.
        wrong_w = UNIT * (y + size)
        rest = np.linalg.norm(H @ Y - A @ W, axis=(1, 2)) + (wrong_h + u * h) * y + (wrong_a + u * a) * w + a * wrong_w
        total = np.swapaxes(Y, 1, 2) @ H @ Y + np.swapaxes(W, 1, 2) @ A @ W
        wrong = (wrong_h + 2.0 * u * h) * y * y + (wrong_a + 2.0 * u * a) * w * w + 3.0 * a * (w + wrong_w) * wrong_w
        loss = _UP * (wrong + rest * rest / np.maximum(least, TINY)) + len(users) * UNIT * np.trace(
            total, axis1=1, axis2=2
        )
        if not np.all(least > 0):
            loss = np.array([np.inf])
        return ParallelSums(
            total.sum(axis=0), _UP * float(loss.sum()), _UP * (y + rest / np.maximum(least, TINY)), least
        )


class BallCurvature(Curvature):
    """Curvature in balls; ``matrices`` holds float64 approximations, for use where no proof is needed."""

    balls: tuple[Any, ...] = ()

    def _proven_least(
        self, weights: Array, weighted: np.ndarray, directions: Any, cuts: Array, more: ParallelSums | None
    ) -> float:
        from flint import arb

        size = directions.values.shape[1]
        small = not len(weighted) and more is None and len(cuts) < size
        roots = Balls(cuts).values
        roots = np.array([root.sqrt() for root in roots], dtype=object)
        Z = _arb_matrix(roots[:, None] * directions.values)
        total = -(Z * Z.transpose()) if small else -(Z.transpose() * Z)
        for n in weighted:
            total += self.balls[n] * arb(float(weights[n]))
        return ball_least_eigenvalue(total if more is None else total + more.total)

    def parallel_sums(
        self, users: np.ndarray, shift: float, across: Array, along: Array, directions: Any
    ) -> ParallelSums:
        from flint import arb, arb_mat

        size, z = directions.values.shape[1], directions.values
        identity = _arb_matrix(np.eye(size))
        total, loss, ratios, stiffnesses = arb_mat(size, size), arb(0), np.zeros(len(users)), np.zeros(len(users))
        for i, n in enumerate(users):
            k = arb(float(across[n]))
            column = _arb_matrix(z[n][:, None])
            H = self.balls[n] + identity * arb(shift)
            A = identity * k - column * column.transpose() * (k - arb(float(along[n])))
            stiffnesses[i] = ball_least_eigenvalue(H + A)
            if not stiffnesses[i] > 0:
                return ParallelSums(total, np.inf, ratios, stiffnesses)
            steps = _approximate_steps(float_matrix(H)[None], float_matrix(A)[None])[0]
            Y = _arb_matrix(steps)
            W = identity - Y
            rest = sum((x * x for x in (H * Y - A * W).entries()), arb(0))
            total += Y.transpose() * H * Y + W.transpose() * A * W
            loss += rest / arb(float(stiffnesses[i]))
            ratios[i] = np.linalg.norm(steps) * _UP + float(rest.upper().sqrt().upper()) / stiffnesses[i] * _UP
        return ParallelSums(total, float(loss.upper()) * _UP, ratios, stiffnesses)


def _directed(across: Array, along: Array, z: Array) -> Array:
    """A = k⊥ I - (k⊥ - k∥)ẑẑᵀ of each row."""
    return across[:, None, None] * np.eye(z.shape[1]) - ((across - along)[:, None] * z)[:, :, None] * z[:, None, :]


def _approximate_steps(H: Array, A: Array) -> Array:
    """About Y = (H + A)⁻¹A of each matrix; any values will do."""
    try:
        return np.eye(H.shape[1]) - np.linalg.solve(H + A, H)
    except np.linalg.LinAlgError:
        return np.zeros_like(H)


def least_eigenvalues(matrices: Array, error: Array) -> Array:
    """Return proven lower bounds on λ_min of symmetric matrices (n, P, P), each known up to ``error`` in norm.

    The guess of an eigenvalue routine, less a little, is proven: A - tI has a Cholesky factor, so λ_min(A) >= t up
    to the rounding of that factorization.  What cannot be proven is -∞.
    """
    n, size = matrices.shape[:2]
    bounds = np.full(n, -np.inf)
    good = np.flatnonzero(np.isfinite(matrices).all(axis=(1, 2)) & np.isfinite(error))
    if not len(good) or size == 0:
        return bounds
    A = matrices[good]
    sizes = np.linalg.norm(A, axis=(1, 2))
    try:
        guess = np.linalg.eigvalsh(A)[:, 0]
    except np.linalg.LinAlgError:
        return bounds
    diagonal = np.arange(size)
    pending = np.arange(len(good))
    for slack in (8.0 * size * UNIT, 1e-12 * size, 1e-9 * size, 1e-4 * size):
        # A relative 2⁻¹⁰ of the eigenvalue keeps the factorization away from breakdown at hardly any loss.
        t = guess[pending] - (2.0**-10 * np.abs(guess[pending]) + slack * sizes[pending] + TINY)
        shifted = A[pending]
        shifted[:, diagonal, diagonal] -= t[:, None]
        proven = _has_cholesky_factor(shifted)
        trace = np.sum(np.abs(shifted[:, diagonal, diagonal]), axis=1)
        rounding = 2.0 * (size + 8.0) * UNIT * trace + size * TINY
        here = good[pending]
        bounds[here[proven]] = (t - _UP * (rounding + error[here]))[proven]
        pending = pending[~proven]
        if not len(pending):
            break
    return np.nextafter(bounds, -np.inf)


def _has_cholesky_factor(matrices: Array) -> Mask:
    try:
        return np.isfinite(np.linalg.cholesky(matrices)).all(axis=(1, 2))
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.zeros(1, dtype=bool)
    half = len(matrices) // 2
    return np.concatenate([_has_cholesky_factor(matrices[:half]), _has_cholesky_factor(matrices[half:])])


def ball_least_eigenvalue(M: Any) -> float:
    """Return a proven lower bound on λ_min of a symmetric ``arb_mat``.

    X is an approximate inverse of the Cholesky factor of M - tI.  If X(M - tI)Xᵀ = I + E with ‖E‖_F < 1 for certain,
    then M - tI is positive definite.
    """
    from flint import arb

    size = M.nrows()
    A = float_matrix(M)
    if not np.isfinite(A).all():
        return -np.inf
    A = 0.5 * (A + A.T)
    identity = _arb_matrix(np.eye(size))
    guess, scale = float(np.linalg.eigvalsh(A)[0]), float(np.linalg.norm(A))
    for slack in (8.0 * size * UNIT, 1e-12 * size, 1e-9 * size, 1e-4 * size):
        t = guess - (2.0**-10 * abs(guess) + slack * scale + TINY)
        try:
            X = np.linalg.inv(np.linalg.cholesky(A - t * np.eye(size)))
        except np.linalg.LinAlgError:
            continue
        if not np.isfinite(X).all():
            continue
        factor = _arb_matrix(X)
        E = factor * (M - identity * arb(t)) * factor.transpose() - identity
        if sum((x * x for x in E.entries()), arb(0)) < 1:
            return t
    return -np.inf


def float_matrix(M: Any) -> Array:
    """Round the midpoints of an ``arb_mat`` to float64."""
    return np.array([float(x.mid()) for x in M.entries()]).reshape(M.nrows(), M.ncols())


class Point:
    """A point (ρ, θ) of a problem; see :class:`FloatPoint` and :class:`BallPoint`."""

    def __init__(self, problem: Problem, rho: Array, thetas: Array) -> None:
        self.problem = problem
        self.lam = float(getattr(problem.reg, "lam", np.nan))
        self.rho, self.rho_low = rho, np.zeros_like(rho)
        self.thetas, self.thetas_low = thetas, np.zeros_like(thetas)
        self.free: Mask = problem.free
        self.n_data = (problem.stack.stop - problem.stack.start).astype(np.int64)

    def minus(self, step_rho: Array, steps: Array) -> Point:
        """Return the point ``(rho, thetas) - (step_rho, steps)`` exactly, as unevaluated sums."""
        rho, rho_low = two_sum(self.rho, -step_rho)
        thetas, thetas_low = two_sum(self.thetas, -steps)
        other = self.moved(rho, thetas)
        other.rho_low, other.thetas_low = rho_low, thetas_low
        return other

    def moved(self, rho: Array, thetas: Array) -> Point:
        """Return another point of the problem; what does not depend on the point is kept."""
        other = type(self)(self.problem, rho, thetas)
        for name in ("_least_squares_curvature", "_all_row_lengths"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    # What the two kinds of points compute in their own arithmetic ---------------------------------------------

    def vectors(self, x: Any) -> Vectors:
        """Return exact vectors."""
        raise NotImplementedError

    @cached_property
    def differences(self) -> Vectors:
        """z_n = ρ - θ_n, shape (N, P)."""
        raise NotImplementedError

    @cached_property
    def gradients(self) -> Vectors:
        """∇L_n(θ_n), shape (N, P); zero for pinned users."""
        raise NotImplementedError

    def _no_curvature(self) -> Curvature:
        raise NotImplementedError

    def _gram_curvature(self, radius: float) -> Curvature:
        raise NotImplementedError

    # What is common to them -----------------------------------------------------------------------------------

    @property
    def radii(self) -> list[float]:
        """Radii at which to ask for curvature, the best first; the last is infinite."""
        if type(self.problem.loss) is not Logistic:
            return [np.inf]
        longest = max((float(np.max(self._row_lengths(n))) for n in self._users_with_data), default=0.0)
        return [radius / longest for radius in _RADII if longest > 0] + [np.inf]

    def curvature(self, radius: float) -> Curvature:
        """Return the curvature on the ball of ``radius`` around θ (everywhere if it is infinite)."""
        loss = self.problem.loss
        if type(loss) is LeastSquares:
            return self._least_squares_curvature
        if type(loss) is Logistic and np.isfinite(radius):
            return self._gram_curvature(radius)
        # Of a convex loss nothing more is known (and K-class losses are flat along a shift of all margins).
        return self._no_curvature()

    @cached_property
    def _least_squares_curvature(self) -> Curvature:
        return self._gram_curvature(np.inf)

    @cached_property
    def _users_with_data(self) -> list[int]:
        return np.flatnonzero(self.free & (self.n_data > 0)).tolist()

    @cached_property
    def _all_row_lengths(self) -> Array:
        Q = self.problem.stack.Q
        return np.sqrt(np.einsum("ij,ij->i", Q, Q) * _UP + TINY) * _UP

    def _row_lengths(self, n: int) -> Array:
        """Upper bounds on ‖Q_i‖ of user n."""
        return self._all_row_lengths[int(self.problem.stack.start[n]) : int(self.problem.stack.stop[n])]

    def _weighted_rows(self, n: int, radius: float) -> Array:
        r"""Rows X with :math:`X^TX \preceq \nabla^2 L_n(\theta) - 2\nu I` for ‖θ - θ_n‖ <= radius, up to rounding.

        σ' decreases with |m|, and |m_i| grows by at most ‖Q_i‖ radius, so the weights σ'(|m_i| + ‖Q_i‖ radius) are
        lower bounds.  The float64 rows √w Q err by u in each entry, hence XᵀX by 3u tr(XᵀX) in norm.
        """
        Q = self.problem.stack.user(n)[0]
        if type(self.problem.loss) is LeastSquares:
            return Q
        reach = (self._margin_bounds(n) + self._row_lengths(n) * radius) * _UP
        return np.sqrt(self._least_slopes(reach))[:, None] * Q

    def _least_slopes(self, m: Array) -> Array:
        """Lower bounds on σ'(m) = e^-m/(1 + e^-m)² for m >= 0."""
        decay = np.exp(-m)
        return decay / (1.0 + decay) ** 2 * (1.0 - 1e-9)

    def _margin_bounds(self, n: int) -> Array:
        """Upper bounds on |Q_iᵀθ_n| of user n."""
        Q, theta = self.problem.stack.user(n)[0], self.thetas[n]
        rounding = (len(theta) + 4.0) * UNIT * float(norms(theta)) * self._row_lengths(n) + TINY
        return np.abs(Q @ theta) + rounding * _UP

    def hessians(self, curvature: Curvature) -> Array | None:
        """Return float64 approximations of ∇²L_n, for use where no proof is needed; None where that costs too much."""
        problem = self.problem
        if curvature.matrices is not None:
            return curvature.matrices + 2.0 * problem.nu * np.eye(problem.dim)
        flops = float(np.sum(self.n_data)) * problem.dim**2
        if self.problem.n_users * problem.dim**2 > _KEPT_ENTRIES or flops > _HESSIAN_FLOPS:
            return None
        hessians = np.zeros((problem.n_users, problem.dim, problem.dim))
        for n in np.flatnonzero(self.free):
            hessians[n] = local_hessian(self.thetas[n], *problem.stack.user(int(n)), problem.loss, problem.nu)
        return hessians

    def smoothness(self, users: np.ndarray) -> Array:
        """Return upper bounds on ‖∇²L_n‖ everywhere, for the given users; infinite for a loss of your own."""
        # The Hessian of the log-partition is a covariance of unit vectors, of norm at most 1/2; rows of label
        # probabilities sum to at most 1 + 1e-9.
        factor = {LeastSquares: 1.0, Logistic: 0.25, Multinomial: 0.5 * _UP}.get(type(self.problem.loss), np.inf)
        squares = [float(np.sum(self._row_lengths(n) ** 2)) if self.n_data[n] else 0.0 for n in users]
        data_part = np.array([factor * square if square > 0 else 0.0 for square in squares])
        return (data_part + 2.0 * self.problem.nu) * _UP


class FloatPoint(Point):
    """A point whose quantities are computed in double-double and float64, with a-priori bounds."""

    def vectors(self, x: Any) -> Twofold:
        return Twofold(np.asarray(x, dtype=np.float64))

    @cached_property
    def differences(self) -> Twofold:
        z = Twofold.difference(self.rho[None, :], self.thetas)
        if not (self.rho_low.any() or self.thetas_low.any()):
            return z
        return z + Twofold.difference(self.rho_low[None, :], self.thetas_low)

    @cached_property
    def gradients(self) -> Twofold:
        data_part = self._data_gradients()
        weights = np.where(self.free, 2.0 * self.problem.nu, 0.0)
        if not weights.any():
            return data_part
        return data_part + Twofold(self.thetas, self.thetas_low).times(weights)

    def _data_gradients(self) -> Twofold:
        loss, stack, n_users = self.problem.loss, self.problem.stack, self.problem.n_users
        kind = {LeastSquares: 0, Logistic: 1, Multinomial: 2}.get(type(loss))
        if kind is None:
            return self._own_data_gradients()
        shape = (n_users, loss.n_outputs, self.problem.query_dim)
        high, low, error = np.zeros(shape), np.zeros(shape), np.zeros(n_users)
        labels = stack.labels.reshape(len(stack.labels), loss.n_outputs)
        stop = np.where(self.free, stack.stop, stack.start)
        thetas = np.ascontiguousarray(self.thetas).reshape(shape), np.ascontiguousarray(self.thetas_low).reshape(shape)

        def task(part: int, first: int, last: int) -> int:
            return kernels.data_gradients(
                stack.Q, labels, stack.start, stop, *thetas, kind, high, low, error, first, last
            )

        over_users(task, 60.0 * self.n_data * self.problem.dim)
        return Twofold(high.reshape(self.thetas.shape), low.reshape(self.thetas.shape), error)

    def _own_data_gradients(self) -> Twofold:
        """Gradients with a loss of your own, taken to compute ``dphi`` within 16 units in the last place."""
        loss, size = self.problem.loss, self.problem.dim
        values, error = np.zeros((self.problem.n_users, size)), np.zeros(self.problem.n_users)
        for n in self._users_with_data:
            Q, labels = self.problem.stack.user(n)
            theta = self.thetas[n].reshape(loss.n_outputs, -1)
            m = Q @ theta.T
            # A low part of θ, at most one unit in the last place, counts as rounding.
            shift = (Q.shape[1] + 6.0) * UNIT * (np.abs(Q) @ np.abs(theta.T))
            m, shift = (m[:, 0], shift[:, 0]) if loss.n_outputs == 1 else (m, shift)
            slope = np.asarray(loss.dphi(m, labels))
            bend = np.asarray(loss.d2phi(m, labels))
            # The slope moves by about φ'' times the rounding of the margin; the factor 2 is for φ'' nearby.
            moved = bend * shift if loss.n_outputs == 1 else np.einsum("ikl,il->ik", np.abs(bend), shift)
            wrong = 16.0 * UNIT * np.abs(slope) + 2.0 * np.abs(moved)
            columns, wrong = slope.reshape(len(Q), -1), wrong.reshape(len(Q), -1)
            values[n] = (columns.T @ Q).ravel()
            rounding = wrong + (len(Q) + 4.0) * UNIT * np.abs(columns)
            error[n] = _UP * float(np.sum(rounding * self._row_lengths(n)[:, None]))
        return Twofold(values, error=error)

    def _no_curvature(self) -> Curvature:
        return FloatCurvature(np.inf, self.problem.n_users)

    def _gram_curvature(self, radius: float) -> Curvature:
        n_users, size = self.problem.n_users, self.problem.dim
        curvature = FloatCurvature(radius, n_users)
        if n_users * size**2 <= _KEPT_ENTRIES:
            curvature.matrices = np.zeros((n_users, size, size))

        def task(part: int, first: int, last: int) -> int:
            # Blocks that stay in the processor's cache.
            step = max(1, _BLOCK_ENTRIES // size**2)
            for start in range(first, last, step):
                self._bound_grams(curvature, np.arange(start, min(start + step, last)))
            return 0

        over_users(task, self.n_data * size**2 + 4.0 * size**3)
        return curvature

    def _bound_grams(self, curvature: Curvature, users: np.ndarray) -> None:
        size = self.problem.dim
        matrices = np.zeros((len(users), size, size)) if curvature.matrices is None else curvature.matrices[users[0] :]
        matrices = matrices[: len(users)]
        for i, n in enumerate(users):
            if self.free[n] and self.n_data[n] > 0:
                X = self._weighted_rows(n, curvature.radius)
                np.matmul(X.T, X, out=matrices[i])
        traces = np.trace(matrices, axis1=1, axis2=2)
        error = _UP * ((self.n_data[users] + 12.0) * UNIT * traces + self.n_data[users] * TINY)
        frobenius = np.sqrt(np.einsum("nij,nij->n", matrices, matrices)) + TINY
        sums = np.max(np.sum(np.abs(matrices), axis=2), axis=1)
        enough = np.flatnonzero(self.n_data[users] >= size)
        curvature.traces[users], curvature.error[users] = traces, error
        curvature.largest[users] = _UP * (np.minimum(frobenius, sums) + error)
        curvature.least[users[enough]] = np.maximum(least_eigenvalues(matrices[enough], error[enough]), 0.0)


class BallPoint(Point):
    """A point whose quantities are computed in ball arithmetic, at the precision in force."""

    def vectors(self, x: Any) -> Balls:
        return Balls(np.asarray(x, dtype=np.float64))

    @cached_property
    def differences(self) -> Balls:
        return Balls.difference(self.rho[None, :], self.thetas) + Balls.difference(
            self.rho_low[None, :], self.thetas_low
        )

    @cached_property
    def gradients(self) -> Balls:

        loss, size = self.problem.loss, self.problem.dim
        sums = Balls(np.zeros((self.problem.n_users, size))).values
        for n in self._users_with_data:
            Q, labels = self.problem.stack.user(n)
            slopes = _ball_slopes(loss, self._ball_margins(n), labels.reshape(len(Q), loss.n_outputs))
            product = _arb_matrix(slopes.T) * _arb_matrix(Q)
            sums[n] = np.array(product.entries(), dtype=object)
        weights = np.where(self.free, 1.0, 0.0)
        models = Balls(self.thetas) + Balls(self.thetas_low)
        return Balls(sums) + models.times(2.0 * self.problem.nu * weights)

    def _ball_margins(self, n: int) -> Array:
        """Q θ_nᵀ of user n, an object array (ℐ, K)."""
        Q, size = self.problem.stack.user(n)[0], self.problem.loss.n_outputs
        theta = _arb_matrix(self.thetas[n].reshape(size, -1))
        theta += _arb_matrix(self.thetas_low[n].reshape(size, -1))
        product = _arb_matrix(Q) * theta.transpose()
        return np.array(product.entries(), dtype=object).reshape(len(Q), size)

    def _margin_bounds(self, n: int) -> Array:
        bounds = ball_interval(self._ball_margins(n)[:, 0])
        return np.maximum(np.abs(bounds.low), np.abs(bounds.high))

    def _least_slopes(self, m: Array) -> Array:
        decay = np.frompyfunc(lambda x: x.exp(), 1, 1)(-Balls(m).values)
        return np.maximum(ball_interval(decay / ((decay + 1) * (decay + 1))).low, 0.0)

    def _no_curvature(self) -> Curvature:
        return BallCurvature(np.inf, self.problem.n_users)

    def _gram_curvature(self, radius: float) -> Curvature:
        from flint import arb_mat

        n_users, size = self.problem.n_users, self.problem.dim
        curvature = BallCurvature(radius, n_users)
        curvature.matrices = np.zeros((n_users, size, size))
        balls = [arb_mat(size, size) for _ in range(n_users)]
        for n in self._users_with_data:
            X = self._weighted_rows(n, radius)
            rows = _arb_matrix(X)
            G = rows.transpose() * rows
            if type(self.problem.loss) is not LeastSquares:
                # Of the rounding of X: G less 4u tr(G) I is a lower bound, whatever the roundings were.
                rounding = _trace_bound(G) * 4.0 * UNIT * _UP
                G -= _arb_matrix(rounding * np.eye(size))
            balls[n] = G
            curvature.matrices[n] = float_matrix(G)
            curvature.traces[n] = np.trace(curvature.matrices[n])
            # The 1e-9 of _UP covers this rounding too, for ‖G‖_F >= tr(G)/√P.
            curvature.largest[n] = float(np.linalg.norm(curvature.matrices[n])) * _UP + TINY
            if len(X) >= size:
                curvature.least[n] = max(ball_least_eigenvalue(G), 0.0)
        curvature.balls = tuple(balls)
        return curvature


def _trace_bound(G: Any) -> float:
    return float(np.sum([float(G[i, i].upper()) for i in range(G.nrows())])) * _UP


def _arb_matrix(values: Any) -> Any:
    """A float64 or object array as an ``arb_mat``."""
    from flint import arb_mat

    return arb_mat(values.shape[0], values.shape[1], values.ravel().tolist())


def _ball_slopes(loss: Any, m: Array, labels: Array) -> Array:
    """φ'(m, a) of each data point, an object array (ℐ, K)."""
    a = Balls(labels).values
    if type(loss) is LeastSquares:
        return m - a
    exp = np.frompyfunc(lambda x: x.exp(), 1, 1)
    if type(loss) is Logistic:
        return -a / (exp(a * m) + 1)
    top = m[np.arange(len(m)), np.argmax(np.asarray(m, dtype=np.float64), axis=1)]
    powers = exp(m - top[:, None])
    return powers / np.sum(powers, axis=1, keepdims=True) * np.sum(a, axis=1, keepdims=True) - a
