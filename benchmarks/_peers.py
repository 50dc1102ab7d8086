"""What the solvers are measured against: the BLAS limit, a NumPy loop, SciPy's minimizers, CVXPY with Clarabel.

A peer returns the point that it reached; its accuracy is computed by the benchmark, never by the peer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.optimize

from solvers import _kernels as kernels
from solvers._parallel import over_users
from solvers.data_terms import data_terms
from solvers.dense import regularizer_hessian
from solvers.oracles import cvxpy_minimum
from theory import LeastSquares, Problem, SquaredL2
from theory.arrays import Array

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
        self._hessians: tuple[Array, list[Array]] | None = None

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
            H = np.tril(H) + np.tril(H, -1).transpose(0, 2, 1)
            springs = [regularizer_hessian(problem, rows[0], theta) for theta in rows[1:]]
            self._at, self._hessians = x.tobytes(), (H, springs)
        H, springs = self._hessians
        moved = v.reshape(self.shape)
        pulled = np.array([S @ (moved[0] - w) for S, w in zip(springs, moved[1:], strict=True)])
        local = np.einsum("nij,nj->ni", H, moved[1:]) + 2.0 * problem.nu * moved[1:] - pulled
        return np.concatenate([pulled.sum(axis=0)[None], local]).ravel()


def scipy_peer(problem: Problem, method: str) -> Point:
    """``scipy.optimize.minimize`` on the joint loss: ``"L-BFGS-B"`` or ``"trust-ncg"``, to its own best accuracy."""
    joint = Joint(problem)
    options = {
        "L-BFGS-B": {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 20, "ftol": 0.0, "gtol": 1e-12},
        "trust-ncg": {"maxiter": 500, "gtol": 1e-10},
    }[method]
    found = scipy.optimize.minimize(
        joint.value_and_gradient,
        np.zeros(joint.shape[0] * joint.shape[1]),
        jac=True,
        hessp=joint.hessian_times if method == "trust-ncg" else None,
        method=method,
        options=options,
    )
    rows = found.x.reshape(joint.shape)
    return rows[0].copy(), np.ascontiguousarray(rows[1:])
