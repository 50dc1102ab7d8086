r"""Values, gradients and Hessians of the local losses of all users.

Binary logistic regression has a kernel of its own, which reads the data once; every other loss goes through its
margins: a kernel for Qθ, NumPy for φ, φ' and φ'', kernels again for Qᵀφ' and Qᵀdiag(φ'')Q.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers import _kernels as kernels
from solvers._parallel import over_users
from solvers.existence import used_rows
from solvers.optimality import local_gradients, margins
from solvers.views import rows_of_free
from theory import Logistic, Multinomial, Problem
from theory.arrays import Array


@dataclass(frozen=True, eq=False)
class DataTerms:
    """Σ_n (data part of L_n), ∇L_n (N, P), and the data Hessians of the free users (lower triangles), if asked for."""

    value: float
    gradients: Array
    hessians: Array | None


def data_terms(
    problem: Problem, thetas: Array, *, order: int, workspace: Array | None = None, single: bool = False
) -> DataTerms:
    """Evaluate at ``thetas`` (N, P); ``order`` 2 fills ``workspace`` (N_free, P, P), or a new array, with Hessians.

    ``single`` allows Hessians in single precision.
    """
    if type(problem.loss) is Logistic:
        return _logistic(problem, thetas, -2 if order == 2 and single else order, workspace)
    m = margins(problem, thetas)
    rows = used_rows(problem)
    value = float(np.sum(problem.loss.phi(m[rows], problem.stack.labels[rows])))
    hessians = data_hessians(problem, m, workspace) if order == 2 else None
    return DataTerms(value, local_gradients(problem, thetas, m), hessians)


def _logistic(problem: Problem, thetas: Array, order: int, workspace: Array | None) -> DataTerms:
    # A pinned user has no rows, so its entries cost nothing; its Hessian is left out.
    start, stop = rows_of_free(problem)
    n, size, stack, shift = len(start), problem.dim, problem.stack, 2.0 * problem.nu
    values, gradients = np.zeros(n), np.empty((n, size))
    free_thetas = np.ascontiguousarray(thetas[problem.free])
    with_hessians = abs(order) == 2
    H = _space(workspace, n, size) if with_hessians else np.empty((0, size, size))

    def task(part: int, a: int, b: int) -> int:
        return kernels.logistic_terms(
            stack.Q, stack.labels, start, stop, free_thetas, shift, order, values, gradients, H, a, b
        )

    over_users(task, (stop - start) * (4.0 * size + (float(size**2) if with_hessians else 0.0) + 30.0))
    all_gradients = 2.0 * problem.nu * thetas
    all_gradients[problem.free] = gradients
    return DataTerms(float(values.sum()), all_gradients, H if with_hessians else None)


def _space(workspace: Array | None, n: int, size: int) -> Array:
    return np.empty((n, size, size)) if workspace is None else workspace


def data_hessians(problem: Problem, m: Array, workspace: Array | None = None) -> Array:
    """Return Σ_i d²φ(m_i) Q_i Q_iᵀ for each free user (N_free, P, P), lower triangles."""
    start, stop = rows_of_free(problem)
    stack, size, K = problem.stack, problem.dim, problem.loss.n_outputs
    H = _space(workspace, len(start), size)
    flops = (stop - start) * float(size**2)
    if K == 1:
        weights = np.ascontiguousarray(problem.loss.d2phi(m, stack.labels))
        over_users(lambda _, a, b: kernels.weighted_gram(stack.Q, start, stop, weights, H, a, b), flops)
    elif type(problem.loss) is Multinomial:
        p, mass = _class_probabilities(m, stack.labels)
        over_users(lambda _, a, b: kernels.multinomial_hessian(stack.Q, start, stop, p, mass, H, a, b), flops)
    else:
        for n, (a, b) in enumerate(zip(start, stop, strict=True)):
            Q, curvature = stack.Q[a:b], problem.loss.d2phi(m[a:b], stack.labels[a:b])
            H[n] = np.einsum("ikl,ia,ib->kalb", curvature, Q, Q, optimize=True).reshape(size, size)
    return H


def _class_probabilities(m: Array, labels: Array) -> tuple[Array, Array]:
    p = np.exp(m - m.max(axis=1, keepdims=True, initial=-np.inf))
    p /= p.sum(axis=1, keepdims=True)
    return p, labels.sum(axis=1)
