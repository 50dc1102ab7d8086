"""What the solvers are measured against: the BLAS limit, a NumPy loop, SciPy's minimizers, CVXPY with Clarabel.

A peer returns the point that it reached; its accuracy is computed by the benchmark, never by the peer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.optimize

from solvers import _kernels as kernels
from solvers._parallel import over_users
from solvers.data_terms import data_terms
from solvers.optimality import gradient_at_zero
from solvers.oracles import cvxpy_minimum
from theory import LeastSquares, Problem, SquaredL2
from theory.arrays import Array
from theory.regularizers import norms

Point = tuple[Array, Array]


def blas_limit(problem: Problem) -> Callable[[], None]:
    """Return a call that forms each user's Gram product and factors it: what no method of this kind can avoid."""
    stack, d = problem.stack, problem.query_dim
    H = np.empty((problem.n_users, d, d))
    flops = (stack.stop - stack.start) * float(d * d) + d**3 / 3.0
    return lambda: _ignore(
        over_users(lambda _, a, b: kernels.gram_and_factor(stack.Q, stack.start, stack.stop, H, a, b), flops)
    )


def _ignore(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"the Gram matrix of user {status - 1} is singular")


def numpy_loop(problem: Problem) -> Point:
    """Least squares with ℓ2² in closed form, as a user would write it: one user at a time."""
    lam, nu, d = problem.reg.lam, problem.nu, problem.dim  # type: ignore[attr-defined]
    left, right, solved = problem.n_users * np.eye(d), np.zeros(d), []
    for user in problem.users:
        K = user.Q.T @ user.Q + 2.0 * (nu + lam) * np.eye(d)
        inverse, moment = np.linalg.inv(K), user.Q.T @ user.A
        left -= 2.0 * lam * inverse
        right += inverse @ moment
        solved.append((inverse, moment))
    rho: Array = np.linalg.solve(left, right).astype(np.float64)
    return rho, np.array([inverse @ (moment + 2.0 * lam * rho) for inverse, moment in solved])


def has_numpy_loop(problem: Problem) -> bool:
    """Whether there is a closed form to write as a loop."""
    return isinstance(problem.loss, LeastSquares) and isinstance(problem.reg, SquaredL2)


def cvxpy_peer(problem: Problem) -> Point:
    """CVXPY with Clarabel at the tight tolerances of ``solvers.oracles``."""
    solution = cvxpy_minimum(problem)
    return solution.rho, solution.thetas


class Joint:
    """Value, gradient and Hessian-vector product of the joint loss in one flat vector, on our compiled kernels.

    SciPy's methods get the same fast evaluations as ours, so that the comparison is one of algorithms.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.shape = (problem.n_users + 1, problem.dim)
        self._at: bytes = b""
        self._hessians: Array | None = None

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Return loss and gradient at ``x`` = (ρ, θ_1, ..., θ_N) in a row."""
        problem, rows = self.problem, x.reshape(self.shape)
        rho, thetas = rows[0], np.ascontiguousarray(rows[1:])
        terms = data_terms(problem, thetas, order=1)
        pulls = problem.reg.gradient(rho, thetas)
        value = terms.value + problem.nu * float(np.sum(thetas**2)) + float(np.sum(problem.reg.value(rho, thetas)))
        gradient = np.concatenate([pulls.sum(axis=0)[None], terms.gradients - pulls])
        return value, gradient.ravel()

    def hessian_times(self, x: Array, v: Array) -> Array:
        """Return the Hessian at ``x`` times ``v``; Hessians of users are kept as long as ``x`` stays."""
        problem, rows = self.problem, x.reshape(self.shape)
        if self._at != x.tobytes() or self._hessians is None:
            H = data_terms(problem, np.ascontiguousarray(rows[1:]), order=2).hessians
            if H is None:
                raise RuntimeError("no Hessians")
            lower = np.tril(H)
            self._at, self._hessians = x.tobytes(), lower + np.tril(H, -1).transpose(0, 2, 1)
        moved = v.reshape(self.shape)
        pulled = _springs(problem, rows[0] - rows[1:], moved[0] - moved[1:])
        local = (self._hessians @ moved[1:, :, None])[:, :, 0] + 2.0 * problem.nu * moved[1:] - pulled
        return np.concatenate([pulled.sum(axis=0)[None], local]).ravel()


def _springs(problem: Problem, z: Array, w: Array) -> Array:
    """R''(z_n) w_n for ℓ2² and smooth-ℓ2: 2λw, and λ/r (w - z zᵀw/r²) with r = √(1 + ‖z‖²)."""
    lam = problem.reg.lam  # type: ignore[attr-defined]
    if isinstance(problem.reg, SquaredL2):
        return 2.0 * lam * w
    root = np.hypot(1.0, norms(z))[:, None]
    along = np.sum(z * w, axis=1, keepdims=True)
    springs: Array = lam / root * (w - z * (along / root**2))
    return springs


@dataclass
class Descent:
    """What a method of SciPy reached: its best point, when it was there, and when it reached each accuracy."""

    point: Point
    residual: float = np.inf
    seconds: float = 0.0
    ended: str = ""
    reached: dict[str, float] = field(default_factory=dict)


class _EnoughError(Exception):
    """The accuracy is reached, or the time is up."""


_MILESTONES = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12)


def scipy_peer(problem: Problem, method: str, target: float, limit: float) -> Descent:
    """Run ``scipy.optimize.minimize`` on the joint loss until the relative gradient is ``target``, or for ``limit`` s.

    ``method`` is ``"L-BFGS-B"`` or ``"trust-ncg"``.  The time that counts is that of the best point: what it spends on
    finding out that it gets no further does not.
    """
    joint, scale, start = Joint(problem), gradient_at_zero(problem) or 1.0, time.perf_counter()
    best = Descent((np.zeros(problem.dim), np.zeros((problem.n_users, problem.dim))))

    def value_and_gradient(x: Array) -> tuple[float, Array]:
        value, gradient = joint.value_and_gradient(x)
        residual, now = float(norms(gradient)) / scale, time.perf_counter() - start
        if residual < best.residual:
            rows = x.reshape(joint.shape)
            best.point = rows[0].copy(), rows[1:].copy()
            best.residual, best.seconds = residual, now
            best.reached |= {f"{m:g}": now for m in _MILESTONES if residual <= m and f"{m:g}" not in best.reached}
        if residual <= target:
            raise _EnoughError("")
        if now > limit:
            raise _EnoughError(f"stopped after {limit:.0f} s")
        if now > 3.0 * best.seconds + 1.0:
            raise _EnoughError("no progress for twice the time")
        return value, gradient

    options = {
        "L-BFGS-B": {"maxiter": 10**6, "maxfun": 10**6, "maxcor": 20, "ftol": 0.0, "gtol": 0.0},
        "trust-ncg": {"maxiter": 10**6, "gtol": 0.0},
    }[method]
    try:
        found = scipy.optimize.minimize(
            value_and_gradient,
            np.zeros(joint.shape[0] * joint.shape[1]),
            jac=True,
            hessp=joint.hessian_times if method == "trust-ncg" else None,
            method=method,
            options=options,
        )
        best.ended = f"gave up after {found.nfev} evaluations"
    except _EnoughError as reason:
        best.ended = str(reason)
    return best
