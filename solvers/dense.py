r"""Newton's method on the joint loss in plain NumPy: for a regularizer of your own, and as a second route.

The Hessian of the loss in (ρ, θ) is an arrowhead: with R''_n = ∇²_zR(ρ - θ_n),

.. math:: \begin{pmatrix} \sum_n R''_n & -R''_n & \cdots \\
          -R''_n & \nabla^2\mathcal L_n + R''_n & \\ \vdots & & \ddots\end{pmatrix}.

Nothing here is shared with the compiled solvers; R'' of a regularizer that is not one of the paper's is obtained by
central differences of its gradient, which costs a few more iterations and no accuracy (the gradient is exact).
"""

from __future__ import annotations

import numpy as np

from theory import Problem, SmoothL2, SquaredL2
from theory.arrays import Array
from theory.losses import local_hessian

_MAX_ITERATIONS = 300
_DIFFERENCE = 1e-5


def dense_newton(problem: Problem, ridge: Array | None, scale: float) -> tuple[Array, Array, int]:
    """Return ρ, θ (N, P) and the number of iterations; ``scale`` is ‖∇Loss(0, 0)‖.

    ``ridge`` (P, P) is added to the Hessian of every local loss; the minimum that is reached has no component in it.
    """
    thetas = np.zeros((problem.n_users, problem.dim))
    for s, model in problem.pinned.items():
        thetas[s] = model
    rho = np.zeros(problem.dim)
    value, size = problem.value(rho, thetas), _residual(problem, rho, thetas) / scale
    for iteration in range(1, _MAX_ITERATIONS + 1):
        if size <= 3e-16:
            return rho, thetas, iteration - 1
        drho, dthetas, predicted = _newton_step(problem, rho, thetas, ridge)
        found = None
        for length in 0.5 ** np.arange(60):
            trial = (rho + length * drho, thetas + length * dthetas)
            new_value, new_size = problem.value(*trial), _residual(problem, *trial) / scale
            drowned = abs(new_value - value) <= 1e-11 * abs(value) and new_size < size
            if new_value - value <= 1e-4 * length * predicted < 0 or drowned:
                found = trial
                break
        if found is None or (new_size > 0.5 * size and size < 1e-13):
            return rho, thetas, iteration
        (rho, thetas), value, size = found, new_value, new_size
    return rho, thetas, _MAX_ITERATIONS


def _residual(problem: Problem, rho: Array, thetas: Array) -> float:
    outer, inner = problem.gradient(rho, thetas)
    return float(np.hypot(np.linalg.norm(outer), np.linalg.norm(inner)))


def _newton_step(problem: Problem, rho: Array, thetas: Array, ridge: Array | None) -> tuple[Array, Array, float]:
    """Return (δρ, δθ) and the predicted slope, by eliminating δθ_n = K_n⁻¹(R''_n δρ - ∇_n)."""
    outer, inner = problem.gradient(rho, thetas)
    if ridge is not None:
        inner = inner + thetas @ ridge
    schur, right = np.zeros((problem.dim, problem.dim)), -outer
    solved: dict[int, tuple[Array, Array]] = {}
    for n in range(problem.n_users):
        curvature = regularizer_hessian(problem, rho, thetas[n])
        schur = schur + curvature
        if n in problem.pinned:
            continue
        K = local_hessian(thetas[n], *problem.stack.user(n), problem.loss, problem.nu) + curvature
        K = K if ridge is None else K + ridge
        to_rho, to_self = np.linalg.solve(K, curvature), np.linalg.solve(K, -inner[n])
        solved[n] = (to_rho.astype(np.float64), to_self.astype(np.float64))
        schur = schur - curvature @ to_rho
        right = right + curvature @ to_self
    drho = np.linalg.lstsq(0.5 * (schur + schur.T), right, rcond=None)[0].astype(np.float64)
    dthetas = np.zeros_like(thetas)
    for n, (to_rho, to_self) in solved.items():
        dthetas[n] = to_rho @ drho + to_self
    return drho, dthetas, float(outer @ drho + np.sum(inner * dthetas))


def regularizer_hessian(problem: Problem, rho: Array, theta: Array) -> Array:
    """Return ∇²_ρ R(ρ, θ), shape (P, P)."""
    reg, size = problem.reg, rho.size
    if type(reg) is SquaredL2:
        return 2.0 * reg.lam * np.eye(size)
    if type(reg) is SmoothL2:
        z = rho - theta
        root = np.hypot(1.0, np.linalg.norm(z))
        return reg.lam / root * (np.eye(size) - np.outer(z / root, z / root))
    h = _DIFFERENCE * (1.0 + np.abs(rho - theta).max())
    columns = [(reg.gradient(rho + h * e, theta) - reg.gradient(rho - h * e, theta)) / (2 * h) for e in np.eye(size)]
    hessian = np.array(columns)
    return 0.5 * (hessian + hessian.T)
