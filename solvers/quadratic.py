r"""Exact minima of quadratic models tied together by a regularizer.

.. math:: \min_{\rho, \theta}\ \sum_n q_n(\theta_n) + \sum_n \mathcal R(\rho, \theta_n)
          + \sum_p \mathcal R(\rho, m_p) + \rho^T g, \qquad
          q_n(\theta) = s_n^T(\theta - c_n) + \tfrac12(\theta - c_n)^T B_n(\theta - c_n).

For least squares this is the problem itself; for other losses it is the subproblem of Newton's method.  The local
models are eliminated exactly, so that what remains is a convex function of ρ alone:

* ℓ2²: it is quadratic, and Cholesky factors of the B_n + 2λI give its Hessian (:func:`squared_l2_step`);
* ℓ2 and smooth-ℓ2: each elimination is one secular equation (:func:`solvers._kernels.partial_minima`), and Newton's
  method runs on ρ (:func:`minimize_models`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import scipy.linalg

from solvers import _kernels as kernels
from solvers._parallel import n_threads, over_users
from theory import L2, AssumptionError, Regularizer, SmoothL2, SquaredL2
from theory.arrays import Array
from theory.regularizers import norms

KINDS: dict[type, int] = {SquaredL2: kernels.SQUARED_L2, L2: kernels.L2, SmoothL2: kernels.SMOOTH_L2}
BuiltIn = SquaredL2 | L2 | SmoothL2

_EPS = float(np.finfo(np.float64).eps)
_MAX_ITERATIONS = 100
_HUGE = 1e150  # its square is still finite


@dataclass(frozen=True, eq=False)
class Anchors:
    """What acts on ρ beside the free users: the reported models (M, P) of pinned users and the slope g (P,)."""

    models: Array
    slope: Array


@dataclass(frozen=True, eq=False)
class EigenModels:
    """Quadratic models in their eigenbases: ``V`` (N, P, P) with eigenvectors as rows, ``beta`` (N, P)."""

    V: Array
    beta: Array
    center: Array
    slope: Array


@dataclass(frozen=True, eq=False)
class Models:
    """Quadratic models with B_n = H_n + shift·I; ``H`` (N, P, P) holds lower triangles."""

    H: Array
    shift: float
    center: Array
    slope: Array

    def in_eigenbases(self) -> EigenModels:
        """Return the same models in their eigenbases, eigenvalues of H_n below 0 by rounding set to 0."""
        V = self.H.copy()
        return EigenModels(V, eigenbases(V, self.shift), self.center, self.slope)


@dataclass(frozen=True, eq=False)
class Reduced:
    """The function of ρ that is left when the local models are eliminated, at one point.

    ``hessian`` is None at points where it was not asked for; ``negative`` is what is to be subtracted from it.
    """

    rho: Array
    thetas: Array
    pulls: Array
    sigmas: Array
    value: float
    gradient: Array
    hessian: Array | None
    negative: Array | None
    scale: float


def eigenbases(H: Array, shift: float) -> Array:
    """Overwrite the stack ``H`` (N, P, P) by its eigenvectors (rows); return the eigenvalues (N, P) + ``shift``."""
    n, size, _ = H.shape
    beta = np.empty((n, size))
    status = over_users(lambda _, a, b: kernels.eigenbases(H, beta, shift, a, b), np.full(n, 9.0 * size**3))
    if status != 0:
        raise np.linalg.LinAlgError(f"no eigendecomposition of the Hessian of user {status - 1}")
    return beta


def _is_small(size: int, n: int) -> bool:
    """Whether the batched kernels pay: few parameters, and users to fill a batch with."""
    return size <= kernels.SMALL and n >= kernels.LANES // 2


def reduce_to_rho(
    models: Models | EigenModels,
    reg: BuiltIn,
    anchors: Anchors,
    rho: Array,
    *,
    order: int,
    sigmas: Array | None = None,
) -> Reduced:
    """Eliminate the local models at ``rho``; ``order`` 0 leaves the Hessian out, ``sigmas`` (N,) are guesses."""
    n, size = models.center.shape
    parts = n_threads()
    value, gradient = np.zeros((parts, 1)), np.zeros((parts, size))
    hessian, negative = np.zeros((parts, size, size)), np.zeros((parts, size, size))
    thetas, pulls = np.empty((n, size)), np.empty((n, size))
    kind = KINDS[type(reg)]
    roots = np.zeros(n) if sigmas is None else sigmas.copy()

    def task(part: int, first: int, last: int) -> int:
        sums = (value[part], gradient[part], hessian[part], negative[part])
        if isinstance(models, Models):
            eliminate = kernels.partial_minima_small if _is_small(size, n) else kernels.partial_minima
            return eliminate(
                models.H, models.shift, models.center, models.slope, rho, reg.lam, kind, order, roots, thetas, pulls,
                *sums, first, last,
            )  # fmt: skip
        return kernels.partial_minima_eigen(
            models.V, models.beta, models.center, models.slope, rho, reg.lam, kind, order, thetas, pulls,
            *sums, first, last,
        )  # fmt: skip

    status = over_users(task, np.full(n, 8.0 * size**2 + float(size) ** 3), kernels.LANES)
    if status != 0:
        raise np.linalg.LinAlgError(f"the local problem of user {status - 1} has no minimum")
    pin_value, pin_gradient, pin_hessian, pin_negative = _pins(reg, rho, anchors.models)
    return Reduced(
        rho=rho,
        thetas=thetas,
        pulls=pulls,
        sigmas=roots,
        value=float(value.sum() + pin_value + rho @ anchors.slope),
        gradient=gradient.sum(axis=0) + pin_gradient.sum(axis=0) + anchors.slope,
        hessian=_symmetric(hessian.sum(axis=0)) + pin_hessian if order else None,
        negative=_symmetric(negative.sum(axis=0)) + pin_negative if order else None,
        scale=float(norms(pulls).sum() + norms(pin_gradient).sum() + norms(anchors.slope)),
    )


def minimize_models(
    models: Models | EigenModels,
    reg: BuiltIn,
    anchors: Anchors,
    rho: Array | None = None,
    *,
    tolerance: float = 0.0,
) -> tuple[Reduced, int]:
    """Minimize over ρ by Newton's method with a majorizing step in reserve; return the point and the iterations.

    The function of ρ is convex and C¹ away from the pinned models, its Hessian is that of a sum of parallel sums.
    Leaving out the negative part majorizes the function (√ is concave), so that step always decreases it.
    ``tolerance`` is the gradient that suffices, relative to the forces that it sums (0: as small as rounding allows).
    """
    tolerance = max(tolerance, 2 * _EPS)
    try:
        return _minimize(models, reg, anchors, rho, tolerance)
    except np.linalg.LinAlgError:
        # I + σB_n is not positive definite to rounding: B_n is singular and σ huge.
        if isinstance(models, EigenModels):
            raise
        return _minimize(models.in_eigenbases(), reg, anchors, rho, tolerance)


def _minimize(
    models: Models | EigenModels, reg: BuiltIn, anchors: Anchors, rho: Array | None, tolerance: float
) -> tuple[Reduced, int]:
    kink = _minimum_at_pin(models, reg, anchors)
    if kink is not None:
        return kink, 0
    if isinstance(reg, L2) and models.center.shape[1] == 1:
        return reduce_to_rho(models, reg, anchors, _weighted_median(models, reg, anchors), order=0), 1
    if rho is None or (anchors.models == rho).all(axis=1).any():
        rho = _start(models, reg, anchors)
    point = reduce_to_rho(models, reg, anchors, rho, order=2)
    for iteration in range(1, _MAX_ITERATIONS + 1):
        size = float(norms(point.gradient))
        if size <= tolerance * point.scale:
            return point, iteration - 1
        trial = _step(models, reg, anchors, point)
        if trial is None:
            return point, iteration
        if float(norms(trial.gradient)) > 0.25 * size and size <= 1e3 * _EPS * point.scale:
            # Rounding is reached: a step no longer shrinks the gradient.
            return (trial if float(norms(trial.gradient)) < size else point), iteration
        if float(norms(trial.gradient)) <= tolerance * trial.scale:
            return trial, iteration
        if trial.hessian is None:
            trial = reduce_to_rho(models, reg, anchors, trial.rho, order=2, sigmas=trial.sigmas)
        point = trial
    return point, _MAX_ITERATIONS


def _step(models: Models | EigenModels, reg: BuiltIn, anchors: Anchors, point: Reduced) -> Reduced | None:
    """Return a point that is lower: Newton's, or the majorizer's step, which is doubled as long as that pays."""
    hessian, negative = _hessian(point)
    reach = 10.0 * float(np.max(norms(point.rho - np.concatenate([point.thetas, anchors.models])), initial=0.0))
    newton = _descent(hessian - negative, point.gradient, reach)
    majorizing = _descent(hessian, point.gradient, reach)
    # Newton's step squares the relative gradient: below 1e-7 the next point is the last, and needs no Hessian.
    order = 0 if float(norms(point.gradient)) <= 1e-7 * point.scale else 2
    if np.isfinite(newton).all():
        trial = reduce_to_rho(models, reg, anchors, point.rho + newton, order=order, sigmas=point.sigmas)
        if _is_lower(models, point, trial, float(point.gradient @ newton)):
            return trial
        lowest = _along(models, reg, anchors, point, newton, float(trial.gradient @ newton))
    else:
        lowest = None
    # Where Newton's step is cut short (a model becomes tied to ρ on the way, say), the majorizer's may be better.
    for length in (1.0, 0.01):
        step = length * majorizing
        if not np.isfinite(step).all():
            break
        trial = reduce_to_rho(models, reg, anchors, point.rho + step, order=0, sigmas=point.sigmas)
        if _is_lower(models, point, trial, float(point.gradient @ step)):
            trial = _longer(models, reg, anchors, point, trial, step)
            return lowest if lowest is not None and lowest.value <= trial.value else trial
        if lowest is not None:
            break
    return lowest


def _along(
    models: Models | EigenModels, reg: BuiltIn, anchors: Anchors, point: Reduced, step: Array, slope_at_end: float
) -> Reduced | None:
    """Minimize along a step that is too long, by false position on the directional derivative (which increases)."""
    start = float(point.gradient @ step)
    ends, slopes, lowest = [0.0, 1.0], [start, slope_at_end if slope_at_end > 0 else -start], None
    for _ in range(20):
        share = slopes[0] / (slopes[0] - slopes[1])
        length = ends[0] + min(max(share, 0.1), 0.9) * (ends[1] - ends[0])
        trial = reduce_to_rho(models, reg, anchors, point.rho + length * step, order=0, sigmas=point.sigmas)
        slope = float(trial.gradient @ step)
        if _is_lower(models, point, trial, length * start) and (lowest is None or trial.value < lowest.value):
            lowest = trial
        if not np.isfinite(slope) or abs(slope) <= 0.1 * abs(start):
            break
        side = 0 if slope < 0 else 1
        ends[side], slopes[side] = length, slope
    return lowest


def _is_lower(models: Models | EigenModels, point: Reduced, trial: Reduced, predicted: float) -> bool:
    return not _is_garbage(models, point, trial, predicted) and _accept(point, trial, predicted)


def _hessian(point: Reduced) -> tuple[Array, Array]:
    if point.hessian is None or point.negative is None:
        raise ValueError("this point was evaluated without its Hessian")
    return point.hessian, point.negative


def _longer(
    models: Models | EigenModels, reg: BuiltIn, anchors: Anchors, point: Reduced, trial: Reduced, step: Array
) -> Reduced:
    for power in range(1, 40):
        further = reduce_to_rho(models, reg, anchors, point.rho + 2.0**power * step, order=0, sigmas=trial.sigmas)
        if not further.value < trial.value:
            break
        if _is_garbage(models, point, further, 2.0**power * float(point.gradient @ step)):
            break
        trial = further
    return trial


def _accept(point: Reduced, trial: Reduced, predicted: float) -> bool:
    decrease = trial.value - point.value
    if decrease <= 1e-4 * predicted and decrease < 0:
        return True
    # Differences of values drown in rounding near the minimum; there the gradient decides.
    drowned = abs(decrease) <= 1e-11 * (abs(point.value) + abs(trial.value))
    return bool(drowned and norms(trial.gradient) < norms(point.gradient))


def _is_garbage(models: Models | EigenModels, point: Reduced, trial: Reduced, predicted: float) -> bool:
    """Whether ``trial`` lies below the tangent of a convex function: its value was lost in rounding (a huge σ).

    Raises LinAlgError where eigenbases are still to be tried.
    """
    slack = 1e-6 * abs(predicted) + 1e-9 * (abs(point.value) + abs(trial.value))
    if not trial.value - point.value < predicted - slack:
        return False
    if isinstance(models, Models):
        raise np.linalg.LinAlgError("I + σB_n is lost in rounding")
    return True


def _descent(hessian: Array, gradient: Array, reach: float = np.inf) -> Array:
    """Return -H⁻¹g; on a (nearly) singular H, with eigenvalues held above rounding and a length of at most ``reach``.

    Without that limit a direction in which the function is nearly linear would send ρ beyond all models.
    """
    try:
        factor = scipy.linalg.cho_factor(hessian, lower=True)
        pivots = np.diag(factor[0])
        if pivots.min() > 1e-7 * pivots.max():
            return -scipy.linalg.cho_solve(factor, gradient)
    except np.linalg.LinAlgError:
        pass
    if not np.isfinite(hessian).all():
        return np.full_like(gradient, np.nan)
    values, vectors = scipy.linalg.eigh(hessian)
    floor = max(float(np.abs(values).max()) * 10 * _EPS, np.finfo(float).tiny)
    bound = reach if 0 < reach < _HUGE else _HUGE
    with np.errstate(over="ignore"):  # an infinite component is clipped, or refused by the caller
        along = (vectors.T @ gradient) / np.maximum(values, floor)
    return -vectors @ np.clip(along, -bound, bound)


def _weighted_median(models: Models | EigenModels, reg: L2, anchors: Anchors) -> Array:
    """One parameter, plain ℓ2: the derivative in ρ is a sum of clipped lines, whose root is found exactly."""
    beta = models.H[:, 0, 0] + models.shift if isinstance(models, Models) else models.beta[:, 0]
    center, slope = models.center[:, 0], models.slope[:, 0]
    pins, lam = anchors.models[:, 0], reg.lam

    def derivative(rho: float) -> float:
        forces = np.clip(beta * (rho - center) + slope, -lam, lam)
        return float(forces.sum() + lam * np.sign(rho - pins).sum() + anchors.slope[0])

    curved = beta > 0
    ends = [(center + (sign * lam - slope) / np.where(curved, beta, 1.0))[curved] for sign in (-1.0, 1.0)]
    breaks = np.unique(np.concatenate([*ends, pins]))
    if breaks.size == 0:
        return np.zeros(1)
    low, high = -1, breaks.size  # derivative < 0 at breaks[low], >= 0 at breaks[high]
    while high - low > 1:
        between = (low + high) // 2
        low, high = (between, high) if derivative(breaks[between]) < 0 else (low, between)
    if low < 0 or high == breaks.size:
        return breaks[[min(max(low, 0), breaks.size - 1)]]
    # Between two breaks the derivative is a line (pinned models are breaks, so it does not jump inside).
    left, right = float(breaks[low]), float(breaks[high])
    inside = (beta > 0) & (np.abs(beta * (0.5 * (left + right) - center) + slope) < lam)
    stiffness = float(beta[inside].sum())
    middle = 0.5 * (left + right)
    root = middle - derivative(middle) / stiffness if stiffness > 0 else right
    return np.array([min(max(root, left), right)])


def _start(models: Models | EigenModels, reg: BuiltIn, anchors: Anchors) -> Array:
    """Minimize with the regularizer replaced by its curvature at z = 0 (λ/2 ‖z‖²): one exact Newton step."""
    stand_in = reg if isinstance(reg, SquaredL2) else SquaredL2(0.5 * reg.lam)
    origin = anchors.models.mean(axis=0) if len(anchors.models) else np.zeros(models.center.shape[1])
    point = reduce_to_rho(models, stand_in, anchors, origin, order=2)
    return point.rho + _descent(_hessian(point)[0], point.gradient)


def _pins(reg: BuiltIn, rho: Array, pins: Array) -> tuple[float, Array, Array, Array]:
    """Value, gradients, Hessian and its negative part of Σ_p R(ρ, m_p)."""
    size = rho.size
    if len(pins) == 0:
        return 0.0, np.zeros((0, size)), np.zeros((size, size)), np.zeros((size, size))
    z = rho - pins
    length = norms(z)
    if isinstance(reg, SquaredL2):
        stiffness, kappa = np.full(len(pins), 2.0 * reg.lam), np.zeros(len(pins))
    else:
        root = length if isinstance(reg, L2) else np.hypot(1.0, length)
        root = np.maximum(root, np.finfo(float).tiny ** 0.25)  # at the kink, a very stiff spring
        stiffness, kappa = reg.lam / root, reg.lam / root / root / root
    negative = (z.T * kappa) @ z
    hessian = float(stiffness.sum()) * np.eye(size)
    return float(np.sum(reg.value(rho, pins))), reg.gradient(rho, pins), hessian, negative


def _minimum_at_pin(models: Models | EigenModels, reg: BuiltIn, anchors: Anchors) -> Reduced | None:
    """Plain ℓ2 is not differentiable in ρ where ρ meets a pinned model: see whether the minimum is there."""
    if not isinstance(reg, L2):
        return None
    for model, multiplicity in zip(*np.unique(anchors.models, axis=0, return_counts=True), strict=True):
        point = reduce_to_rho(models, reg, anchors, np.ascontiguousarray(model), order=0)
        if float(norms(point.gradient)) <= reg.lam * multiplicity:
            return point
    return None


def _symmetric(lower: Array) -> Array:
    return np.tril(lower) + np.tril(lower, -1).T


# --------------------------------------------------------------------------------------------------------------
# ℓ2²: Cholesky factors
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Factors:
    """Cholesky factors of K_n = B_n + 2λI, the right-hand sides b_n, Σ K_n⁻¹ and Σ K_n⁻¹ b_n.

    ``L`` is (N, P, P), or (batches, P, P, LANES) with the users of a batch interleaved.
    """

    L: Array
    b: Array
    inverse_sum: Array
    solved_sum: Array


def least_squares_factors(Q: Array, answers: Array, start: np.ndarray, stop: np.ndarray, shift: float) -> Factors:
    """Factor Q_nᵀQ_n + shift·I for every user."""
    n, d = len(start), Q.shape[1]
    small = _is_small(d, n)
    batches = -(-n // kernels.LANES)
    L, b = np.empty((batches, d, d, kernels.LANES) if small else (n, d, d)), np.empty((n, d))
    kernel = kernels.least_squares_factor_small if small else kernels.least_squares_factor

    def task(part: int, inverse: Array, solved: Array, first: int, last: int) -> int:
        return kernel(Q, answers, start, stop, shift, L, b, inverse, solved, first, last)

    return _factor(task, L, b, (stop - start) * float(d * d) + float(d) ** 3)


def quadratic_factors(H: Array, b: Array, shift: float) -> Factors:
    """Factor H_n + shift·I for every user; ``H`` is used up."""
    n, size, _ = H.shape
    small = _is_small(size, n)
    L = np.empty((-(-n // kernels.LANES), size, size, kernels.LANES)) if small else H

    def task(part: int, inverse: Array, solved: Array, first: int, last: int) -> int:
        if small:
            return kernels.quadratic_factor_small(H, shift, L, b, inverse, solved, first, last)
        return kernels.quadratic_factor(shift, L, b, inverse, solved, first, last)

    return _factor(task, L, b, np.full(n, float(size) ** 3))


def _factor(task: Callable[[int, Array, Array, int, int], int], L: Array, b: Array, flops: np.ndarray) -> Factors:
    size = b.shape[1]
    inverse, solved = np.zeros((n_threads(), size, size)), np.zeros((n_threads(), size))
    status = over_users(lambda part, a, z: task(part, inverse[part], solved[part], a, z), flops, kernels.LANES)
    if status != 0:
        raise np.linalg.LinAlgError(f"the Hessian of user {status - 1} plus 2λI is not positive definite")
    return Factors(L, b, _symmetric(inverse.sum(axis=0)), solved.sum(axis=0))


def squared_l2_step(factors: Factors, lam: float, n_pins: int, gradient: Array) -> tuple[Array, Array]:
    r"""Solve the arrowhead system of ℓ2²; return (δρ, δθ).

    With K_n = B_n + 2λI and b_n = -∇_{θ_n}, elimination of δθ_n = K_n⁻¹(b_n + 2λ δρ) leaves

    .. math:: \Bigl(\sum_n (I - 2\lambda K_n^{-1}) + M I\Bigr)\delta\rho = \sum_n K_n^{-1}b_n - \nabla_\rho/(2\lambda).

    The left-hand side is accurate only to rounding in I, so δρ is refined with the residual Σ_n (δθ_n - δρ) that the
    Cholesky solves give.
    """
    n, size = factors.b.shape
    matrix = (n + n_pins) * np.eye(size) - 2.0 * lam * factors.inverse_sum
    fixed = gradient / (2.0 * lam)
    drho = -_descent(matrix, factors.solved_sum - fixed)
    dthetas, residual = _back_substitute(factors, 2.0 * lam, drho, fixed, n_pins)
    for _ in range(3):
        size_of_terms = float(norms(dthetas).sum() + (n + n_pins) * norms(drho) + norms(fixed))
        if float(norms(residual)) <= 4 * _EPS * size_of_terms:
            break
        candidate = drho - _descent(matrix, residual)
        refined, smaller = _back_substitute(factors, 2.0 * lam, candidate, fixed, n_pins)
        if not norms(smaller) < norms(residual):
            break
        drho, dthetas, residual = candidate, refined, smaller
    return drho, dthetas


def squared_l2_refinement(
    factors: Factors, lam: float, n_pins: int, gradient: Array, local: Array
) -> tuple[Array, Array]:
    """Solve the same system for new gradients ∇_ρ (P,) and ∇_θ (N, P): one step of iterative refinement."""
    b = -local
    _, solved = back_substituted(factors.L, b, np.zeros(b.shape[1]))
    return squared_l2_step(Factors(factors.L, b, factors.inverse_sum, solved), lam, n_pins, gradient)


def _back_substitute(factors: Factors, stiffness: float, drho: Array, fixed: Array, n_pins: int) -> tuple[Array, Array]:
    dthetas, total = back_substituted(factors.L, factors.b, stiffness * drho)
    return dthetas, total - (len(dthetas) + n_pins) * drho - fixed


def back_substituted(L: Array, b: Array, pull: Array) -> tuple[Array, Array]:
    """Return K_n⁻¹(b_n + pull) for each user, and their sum."""
    n, size = b.shape
    solved, total = np.empty((n, size)), np.zeros((n_threads(), size))
    kernel = kernels.back_substitute_small if L.ndim == 4 else kernels.back_substitute
    flops = np.full(n, 2.0 * size**2)
    over_users(lambda part, a, z: kernel(L, b, pull, solved, total[part], a, z), flops, kernels.LANES)
    return solved, total.sum(axis=0)


def is_built_in(reg: Regularizer) -> TypeGuard[BuiltIn]:
    """Whether ``reg`` is exactly one of the paper's three regularizers."""
    return type(reg) in KINDS


def built_in(reg: Regularizer) -> BuiltIn:
    """Return ``reg``, which must be one of the paper's three regularizers."""
    if not is_built_in(reg):
        raise AssumptionError("def_regularization", f"regularizer {reg!r}", "use SquaredL2, L2 or SmoothL2")
    return reg
