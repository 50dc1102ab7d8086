r"""Many small problems at once, for Monte Carlo studies: R problems of N users with d parameters each.

Least squares needs only the sufficient statistics G_n = Q_nᵀQ_n and b_n = Q_nᵀA_n, and for Gaussian queries these can
be drawn without drawing any query (:func:`gaussian_statistics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers import _kernels as kernels
from solvers._parallel import over_users
from solvers.quadratic import KINDS, Anchors, BuiltIn, Models, is_built_in, minimize_models
from theory import L2, AssumptionError, ShapeError, SmoothL2, SolverError, SquaredL2
from theory.arrays import Array, as_array, as_count, as_nonnegative, as_vector
from theory.regularizers import norms

# The gradient that counts as solved, relative to the forces (ℓ2, smooth-ℓ2) or to the gradient at 0 (logistic).
_TOLERANCE = 1e-13
# The same for the few problems that are solved one by one (the default of ``minimize``).
_RESERVE_TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False)
class BatchSolution:
    """ρ* (R, d) and θ* (R, N, d) of each problem."""

    rho: Array
    thetas: Array


def minimize_least_squares_batch(gram: Any, moments: Any, reg: BuiltIn, nu: float = 0.0) -> BatchSolution:
    r"""Return the global minima of R least-squares problems from their sufficient statistics.

    Parameters
    ----------
    gram : (R, N, d, d) array_like
        Q_nᵀQ_n of each user; symmetric positive semidefinite.
    moments : (R, N, d) array_like
        Q_nᵀA_n of each user.
    reg : SquaredL2, L2 or SmoothL2
    nu : float, >= 0

    Raises
    ------
    ShapeError, AssumptionError
        Bad arguments.
    SolverError
        A problem has no unique minimum (ν = 0 and singular statistics) or was not solved.

    Notes
    -----
    The few problems with ℓ2 or smooth-ℓ2 that the batch gives up are solved one by one, and count as solved if the
    gradient in ρ is at most 1e-10 times the forces that it sums, the default of :func:`solvers.minimize`.

    Examples
    --------
    >>> gram, moments = np.ones((1, 2, 1, 1)), np.array([[[1.0], [3.0]]])
    >>> minimize_least_squares_batch(gram, moments, SquaredL2(0.5)).rho.round(12)
    array([[2.]])
    """
    G = as_array(gram, "gram", 4)
    R, N, d, _ = G.shape
    b = as_array(moments, "moments", 3, (R, N, d))
    if G.shape[3] != d or N == 0 or d == 0:
        raise ShapeError("gram", "shape (R, N, d, d) with N, d >= 1", f"shape {G.shape}")
    if not is_built_in(reg):
        raise AssumptionError("eq1_global_loss", f"regularizer {reg!r}", "use SquaredL2, L2 or SmoothL2")
    shift = 2.0 * as_nonnegative(nu, "nu", "eq5_local_loss")
    rho, thetas, converged = np.empty((R, d)), np.empty((R, N, d)), np.ones(R, dtype=bool)
    flops = np.full(R, 2.0 * N * d**3 + 500.0)
    lam = reg.lam
    if isinstance(reg, SquaredL2):
        status = over_users(
            lambda _, a, z: kernels.squared_l2_batch(G, b, shift + 2.0 * lam, lam, rho, thetas, a, z),
            flops,
            kernels.LANES,
        )
    else:
        status = over_users(
            lambda _, a, z: kernels.regularized_batch(
                G, b, shift, lam, KINDS[type(reg)], _TOLERANCE, rho, thetas, converged, a, z
            ),
            8.0 * flops,
            kernels.LANES,
        )
        for r in np.flatnonzero(~converged):
            converged[r] = _solve_alone(G[r], b[r], reg, shift, rho[r], thetas[r])
    solution = BatchSolution(rho, thetas)
    if status != 0:
        raise SolverError(
            f"problem {status - 1} or one of the next {kernels.LANES - 1} is singular; use nu > 0", solution
        )
    return _all_converged(solution, converged)


def _solve_alone(G: Array, b: Array, reg: L2 | SmoothL2, shift: float, rho: Array, thetas: Array) -> bool:
    """Solve one problem that plain Newton steps did not (with ℓ2, say, because a model becomes tied on the way)."""
    N, d = b.shape
    if shift == 0:
        pooled = np.linalg.eigvalsh(G.sum(axis=0))
        if not pooled[0] > 1e-13 * pooled[-1]:
            return False  # all models can move together
    nothing = Anchors(np.empty((0, d)), np.zeros(d))
    try:
        point, _ = minimize_models(Models(G, shift, np.zeros((N, d)), -b), reg, nothing, tolerance=_TOLERANCE)
    except np.linalg.LinAlgError:
        return False
    rho[:], thetas[:] = point.rho, point.thetas
    return bool(norms(point.gradient) <= _RESERVE_TOLERANCE * point.scale)


def minimize_logistic_batch(Q: Any, labels: Any, start: Any, stop: Any, reg: SquaredL2, nu: float) -> BatchSolution:
    r"""Return the global minima of R logistic problems with ℓ2² whose data stand in one block.

    Parameters
    ----------
    Q : (rows, d) array_like
    labels : (rows,) array_like of -1 and +1
    start, stop : (R, N) arrays of int
        User n of problem r has the rows ``start[r, n]:stop[r, n]``.  Users may share rows (nested samples).
    reg : SquaredL2
    nu : float, > 0

    Raises
    ------
    ShapeError, AssumptionError
        Bad arguments.
    SolverError
        A problem was not solved.

    Notes
    -----
    The gradient is at most 1e-13 times that at θ = 0.  Where λ is so large that rounding ρ and θ alone moves the
    gradient by more, this holds for the sum of the gradients over all models, which is free of λ, and ρ - θ_n is
    accurate to rounding.
    """
    queries = as_array(Q, "Q", 2)
    answers = as_vector(labels, "labels", len(queries))
    if not np.isin(answers, (-1.0, 1.0)).all():
        raise ShapeError("labels", "labels in {-1, +1}", f"{answers[~np.isin(answers, (-1.0, 1.0))][0]}")
    first, last = (np.ascontiguousarray(x, dtype=np.int64) for x in (start, stop))
    if first.ndim != 2 or first.shape != last.shape:
        raise ShapeError("start, stop", "the same shape (R, N)", f"{first.shape} and {last.shape}")
    if (first < 0).any() or (last < first).any() or (last > len(queries)).any():
        raise ShapeError("start, stop", f"0 <= start <= stop <= {len(queries)}", "ranges outside")
    if not isinstance(reg, SquaredL2):
        raise AssumptionError("eq1_global_loss", f"regularizer {reg!r}", "use SquaredL2")
    if not as_nonnegative(nu, "nu", "eq5_local_loss") > 0:
        raise AssumptionError("eq5_local_loss", f"nu = {nu}", "a batch of logistic problems needs nu > 0")
    R, N = first.shape
    d = queries.shape[1]
    rho, thetas, converged = np.empty((R, d)), np.empty((R, N, d)), np.empty(R, dtype=bool)
    flops = 8.0 * (last - first).sum(axis=1) * float(d * d + 4 * d + 30) + 8.0 * N * d**3
    over_users(
        lambda _, a, z: kernels.logistic_batch(
            queries, answers, first, last, nu, reg.lam, _TOLERANCE, rho, thetas, converged, a, z
        ),
        flops,
    )
    return _all_converged(BatchSolution(rho, thetas), converged)


def _all_converged(solution: BatchSolution, converged: np.ndarray) -> BatchSolution:
    if not converged.all():
        failed = np.flatnonzero(~converged)
        raise SolverError(f"{failed.size} problems were not solved, the first is number {failed[0]}", solution)
    return solution


def gaussian_statistics(
    sizes: Sequence[int], theta_honest: Any, n_replicates: int, rng: np.random.Generator, *, noise: float = 1.0
) -> tuple[Array, Array]:
    r"""Draw G = QᵀQ and b = QᵀA of honest linear data with standard Gaussian queries, for nested sample sizes.

    No query is drawn: G of ℐ queries has the Wishart law W(ℐ, I), which Bartlett's lower triangular T gives as
    G = TTᵀ, and given G, Qᵀξ is normal with covariance noise²·G, so b = Gθ† + noise·Tz.  The next larger sample adds
    independent statistics of the additional queries, so the joint law over ``sizes`` is that of nested samples.

    Parameters
    ----------
    sizes : increasing sample sizes ℐ
    theta_honest : (d,) array_like
    n_replicates : int
    rng : numpy.random.Generator
    noise : float, >= 0

    Returns
    -------
    gram (n_replicates, len(sizes), d, d) and moments (n_replicates, len(sizes), d).

    Examples
    --------
    >>> gram, moments = gaussian_statistics([10, 1000], [1.0, 2.0], 3, np.random.default_rng(0), noise=0.0)
    >>> np.allclose(np.linalg.solve(gram, moments[..., None])[..., 0], [1.0, 2.0])
    True
    """
    theta = as_vector(theta_honest, "theta_honest")
    noise = as_nonnegative(noise, "noise", "thm2_linear_local_pac")
    R, d = as_count(n_replicates, "n_replicates", 1), theta.size
    counts = [as_count(size, "sizes", 0) for size in sizes]
    steps = np.diff([0, *counts])
    if (steps < 0).any():
        raise ShapeError("sizes", "increasing sample sizes", repr(list(sizes)))
    gram, moments = np.zeros((R, len(counts), d, d)), np.zeros((R, len(counts), d))
    for k, step in enumerate(steps):
        T = _wishart_factor(R, d, int(step), rng)
        G = T @ T.transpose(0, 2, 1)
        b = G @ theta + noise * np.einsum("rij,rj->ri", T, rng.standard_normal((R, T.shape[2])))
        before = (gram[:, k - 1], moments[:, k - 1]) if k else (0.0, 0.0)
        gram[:, k], moments[:, k] = before[0] + G, before[1] + b
    return gram, moments


def _wishart_factor(R: int, d: int, count: int, rng: np.random.Generator) -> Array:
    """Return T (R, d, ·) with TTᵀ of the law of QᵀQ, Q (count, d) standard normal."""
    if count < d:
        return rng.standard_normal((R, d, count))
    T = np.tril(rng.standard_normal((R, d, d)), -1)
    diagonal = np.arange(d)
    T[:, diagonal, diagonal] = np.sqrt(rng.chisquare(count - diagonal, size=(R, d)))
    return T
