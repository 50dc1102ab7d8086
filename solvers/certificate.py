r"""Bounds on the error of a point (ρ, θ), computed from the data alone.

Nothing here comes from a solver: the point may come from anywhere.  Write x = (ρ, θ), F for the loss, g for its
gradient at x, b_n for a lower bound on the curvature of L_n (2ν + λ_min of a Gram matrix), z_n = ρ - θ_n.

**Smooth regularizers.**  On a ball of radius r around x the Hessian of F is at least μ I; everywhere for least
squares with ℓ2².  If ‖g‖ < μ r, there is exactly one minimizer, within ‖g‖/μ of x, and the gap is at most ‖g‖²/(2μ).
Proof: on the sphere, <∇F(y), y - x> >= <g, y - x> + μr² > 0, so the minimum of F over the ball is not on it, and
is global by convexity; and μ‖x* - x‖² <= <∇F(x*) - g, x* - x> = -<g, x* - x>.

*The modulus μ.*  The quadratic form of the Hessian is Σ_n θ_nᵀH_nθ_n + (ρ-θ_n)ᵀA_n(ρ-θ_n).  Let C_n <= λ_min(H_n+A_n),
κ_n >= ‖(H_n+A_n)⁻¹A_n‖, δ_n = θ_n - (H_n+A_n)⁻¹A_nρ.  Then the form is ρᵀSρ + Σ δ_nᵀ(H_n+A_n)δ_n, where S = Σ H_n:A_n
is a sum of parallel sums H:A = A - A(A+H)⁻¹A.  For s <= λ_min(S), and because the largest μ(κ‖ρ‖ + δ)² - Cδ² over δ
is μκ²C/(C-μ) ‖ρ‖², every μ < min_n C_n with

.. math:: s - \mu\Big(1 + \sum_n \frac{\kappa_n^2 C_n}{C_n - \mu}\Big) > 0

will do.  With scalars, κ = k/(k+b) and C = k+b, this μ is the smallest eigenvalue of the arrow matrix of
Σ_n k_n(ρ-θ_n)² + b_nθ_n², in a form without cancellation.  H:A grows with H and A and is concave, so it is bounded
below by scalars, and by a chord H:cI >= αI + βH.  Where both give nothing (ν = 0 and singular H_n), any Y serves:
with R = (H+A)Y - A, H:A = YᵀHY + (I-Y)ᵀA(I-Y) - Rᵀ(H+A)⁻¹R, whose last term is small, and κ <= ‖Y‖ + ‖R‖/C.

*One Newton step.*  For any ê, ‖x - x*‖ <= ‖ê‖ + ‖g(x - ê)‖/μ, if the ball of the second radius around x - ê lies
where μ holds.  With ê ≈ H⁻¹g the second term is small, and the bound is hardly more than the error itself.

**Plain ℓ2.**  At a kink u_n may be any vector of the ball B(0, λ).  Let T be the users with θ_n = ρ.

*Tied users with slack.*  Along {θ_T = ρ} the loss is smooth near x, so the above bounds the distance d to its minimizer
there.  If ‖∇L_t(ρ)‖ + ‖∇²L_t‖ d < λ for all t in T, that point is a global minimizer: u_t = ∇L_t makes 0 a subgradient.

*Dual argument.*  For any u_n in B(0, λ) with Σu_n = -slope exactly, v_n = ∇L_n(θ_n) - u_n, s_n(z) = λ‖z‖ - u_nᵀz >= 0,
E = Σ s_n(z_n) and S = Σ‖v_n‖²/b_n, every minimizer satisfies, with D² = Σ b_n‖θ_n - θ_n*‖²,

.. math:: F(x) - F^* \le S/2 + E, \qquad D \le \tfrac12(\sqrt S + \sqrt{S + 4E}), \qquad
          \sum_n s_n(z_n^*) \le S/4 + E,

so that (λ - ‖u_n‖)‖z_n*‖ <= S/4 + E.  Proof: along the segment h(t) = F(x + t(x* - x)) is convex, its left derivative
at every t <= 1 is <= 0, and it is strongly convex with D²; hence h(0) >= h(t) + t²D²/2, while the definition of u gives
h(t) >= h(0) - t√S D + t²D²/2 + Σ s_n(z_n(t)) - E.  Add them: t²D² + Σ s_n(z_n(t)) <= t√S D + E.  If b_n holds on balls
‖dθ_n‖ <= r only, take the largest t in it: D t/√b_n < r for all n leaves no t < 1; and the same holds for a minimizer
over that compact set instead of x*, so there is one inside, which is global by convexity.

*Two models* (or two groups of equal users; slope 0): ρ may be anywhere on the segment, so u_2 = -u_1 is exact.
*One parameter*: u_n = ±λ is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np

from solvers._enclosures import TINY, Interval, Mask, Vectors
from solvers._parallel import one_blas_thread, over_users
from solvers._points import BallPoint, Curvature, FloatPoint, ParallelSums, Point
from solvers.result import Certificate
from theory import (
    L2,
    CertificateError,
    LeastSquares,
    Logistic,
    Multinomial,
    Problem,
    SmoothL2,
    SquaredL2,
    UserDataset,
)
from theory.arrays import Array, frozen
from theory.regularizers import norms

_PRECISION = 192
# Users whose matrices are handled at once.
_BLOCK = 256
# A pinned model this close to ρ, relative to ‖ρ‖ and the distances of all models, is tried as the value of ρ.
_CLOSE = 1e-2


@dataclass(frozen=True)
class _Bounds:
    """Upper bounds on the distance of x, of θ alone, and on the gap; ``modulus`` and ``kind`` say how."""

    distance: float = np.inf
    theta: float = np.inf
    gap: float = np.inf
    modulus: float = 0.0
    kind: str = "no bound"

    def raised(self, height: Interval) -> _Bounds:
        """Return these bounds for a point whose loss is larger by at most ``height``."""
        return replace(self, gap=float((height + self.gap).high))

    def merged(self, other: _Bounds) -> _Bounds:
        """Return the better of both, bound by bound; the kind is that of the distance."""
        first, second = (self, other) if self._key() <= other._key() else (other, self)
        return replace(first, theta=min(first.theta, second.theta), gap=min(first.gap, second.gap))

    def _key(self) -> tuple[float, float, float]:
        return self.distance, self.theta, self.gap


def certify(problem: Problem, rho: Any, thetas: Any, *, rigorous: bool = False) -> Certificate:
    r"""Bound the distance of a point to the closest minimizer, and its loss above the minimum.

    Parameters
    ----------
    problem : Problem
    rho : (P,) array_like
    thetas : (N, P) array_like
        Row s of a pinned user must be the model that it reports.
    rigorous : bool
        Compute from the data in ball arithmetic, instead of in double-double and float64 with a-priori bounds on the
        rounding (which assume IEEE 754, a BLAS that computes sums of products, and an ``exp`` within 1e-13).

    Returns
    -------
    Certificate
        Bounds that hold whatever the point; infinite where nothing is known: ν = 0 and a direction in which the loss
        is flat, a regularizer of your own, overflow.  ``kind`` names the argument.  A loss of your own is taken to be
        convex, with ``dphi`` accurate to 16 units in the last place.

    Raises
    ------
    ShapeError, AssumptionError
        If the point does not fit the problem.
    CertificateError
        If ``rigorous`` is asked for a loss or regularizer of your own.

    Source: strong convexity (Definition 4), section 2, eq. 5; see the module for each argument and its proof.

    Examples
    --------
    >>> from theory import UserDataset
    >>> problem = Problem([UserDataset([[1.0], [1.0]], [1.0, 3.0])], LeastSquares(), SquaredL2(1.0))
    >>> certificate = certify(problem, [2.25], [[2.0]])
    >>> certificate.kind, 0.25 <= certificate.distance_bound < 0.2501
    ('Newton step, modulus', True)
    """
    rho, thetas = problem._check_point(rho, thetas)
    with np.errstate(all="ignore"), one_blas_thread():
        if type(problem.reg) not in (SquaredL2, L2, SmoothL2):
            return _residual_only(problem, rho, thetas, rigorous)
        problem, rho, thetas = _without_idle_features(problem, rho, thetas)
        if not rigorous:
            return _certificate(FloatPoint(problem, rho, thetas), rigorous=False)
        _refuse_own_loss(problem)
        from flint import ctx

        with ctx.workprec(_PRECISION):
            return _certificate(BallPoint(problem, rho, thetas), rigorous=True)


def _without_idle_features(problem: Problem, rho: Array, thetas: Array) -> tuple[Problem, Array, Array]:
    """Drop the features that are 0 in all queries, models, pinned models and slopes.

    The loss does not change when the sign of such a feature's coefficients is turned, so by convexity setting them
    to 0 does not increase it: a minimizer of the rest is a minimizer.  With ν = 0 the loss is flat along them, and
    with plain ℓ2 a single feature left makes the models collinear.
    """
    if problem.n_users == 0 or (problem.nu > 0 and type(problem.reg) is not L2):
        return problem, rho, thetas
    parameters = (rho != 0) | (problem.slope != 0) | np.any(thetas != 0, axis=0)
    acts = np.any(problem.stack.Q != 0, axis=0) | parameters.reshape(problem.loss.n_outputs, -1).any(axis=0)
    if acts.all() or not acts.any():
        return problem, rho, thetas
    keep = np.tile(acts, problem.loss.n_outputs)
    stack = replace(problem.stack, Q=frozen(np.ascontiguousarray(problem.stack.Q[:, acts])))
    users = tuple(UserDataset(stack.user(n)[0], user.A) for n, user in enumerate(problem.users))
    pinned = MappingProxyType({n: frozen(model[keep]) for n, model in problem.pinned.items()})
    rest = problem._derive(users=users, stack=stack, pinned=pinned, slope=frozen(problem.slope[keep]))
    return rest, frozen(rho[keep]), frozen(np.ascontiguousarray(thetas[:, keep]))


def _refuse_own_loss(problem: Problem) -> None:
    if type(problem.loss) not in (LeastSquares, Logistic, Multinomial):
        raise CertificateError(
            f"no rigorous certificate for the loss {problem.loss.name!r}: its code is not known here"
        )


def _residual_only(problem: Problem, rho: Array, thetas: Array, rigorous: bool) -> Certificate:
    if rigorous:
        raise CertificateError(
            f"no rigorous certificate for the regularizer {problem.reg.name!r}: its code is not known here"
        )
    at_rho, at_thetas = problem.gradient(rho, thetas)
    residual = float(np.hypot(norms(at_rho), norms(at_thetas.ravel())))
    return Certificate(np.inf, np.inf, np.inf, _sane(residual), 0.0, "own regularizer: residual only", False)


def _certificate(point: Point, *, rigorous: bool) -> Certificate:
    if point.problem.n_users == 0:
        return _without_users(point, rigorous)
    if type(point.problem.reg) is L2:
        bounds, residual = _l2_bounds(point), _l2_residual(point)
    else:
        bounds, gradient = _smooth_bounds(point, np.zeros(point.problem.n_users, dtype=bool))
        residual = float(gradient.high)
        if type(point.problem.reg) is SmoothL2 and not np.isfinite(bounds.distance):
            bounds = _first_finite(point, (_smooth_dual,)).merged(bounds)
    kind = bounds.kind
    if type(point.problem.loss) not in (LeastSquares, Logistic, Multinomial):
        kind += ", own loss taken as convex"
    distance = _sane(bounds.distance)
    theta = min(_sane(bounds.theta), distance)
    return Certificate(distance, theta, _sane(bounds.gap), _sane(residual), float(bounds.modulus), kind, rigorous)


def _without_users(point: Point, rigorous: bool) -> Certificate:
    """The loss is ρᵀslope: constant, or without a minimum."""
    size = float(point.vectors(point.problem.slope).norms().high)
    bound = np.inf if point.problem.slope.any() else 0.0
    return Certificate(bound, 0.0, bound, size if bound else 0.0, 0.0, "no users", rigorous)


def _sane(bound: float) -> float:
    """Return the bound; infinity for NaN."""
    return float(bound) if bound >= 0 else np.inf


# --------------------------------------------------------------------------------------------------------------
# Smooth losses
# --------------------------------------------------------------------------------------------------------------


def _pulls(point: Point) -> Vectors:
    """u_n = ∇_ρ R(ρ, θ_n), shape (N, P); NaN at the kink of plain ℓ2."""
    reg, z = point.problem.reg, point.differences
    constant = np.full(point.problem.n_users, point.lam)
    if type(reg) is SquaredL2:
        return z.times(2.0 * constant)
    return z.over_length(0.0 if type(reg) is L2 else 1.0).times(constant)


@dataclass(frozen=True)
class _Gradient:
    """The gradient in ρ (P,), that in θ (N, P), zero for models that do not move by themselves, and its norm."""

    at_rho: Vectors
    at_thetas: Vectors
    size: Interval


def _gradient(point: Point, tied: Mask) -> _Gradient:
    """The gradient at x along θ_T = ρ for the ``tied`` users T: there u_t = ∇L_t."""
    pulls = _pulls(point).replaced(tied, point.gradients)
    at_rho = pulls.total() + point.vectors(point.problem.slope)
    at_thetas = (point.gradients - pulls).replaced(~point.free | tied, point.vectors(np.zeros_like(point.thetas)))
    # In the norm of x a step of ρ by δ counts (1 + |T|)‖δ‖², so the gradient in ρ counts 1/(1 + |T|).
    sizes, at_rho_size = at_thetas.norms()[point.free & ~tied], at_rho.norms()
    size = (at_rho_size * at_rho_size / (1.0 + np.count_nonzero(tied)) + (sizes * sizes).total()).sqrt()
    return _Gradient(at_rho, at_thetas, size)


def _smooth_bounds(point: Point, tied: Mask) -> tuple[_Bounds, Interval]:
    """Bounds by strong convexity near x, with the models of ``tied`` users moving with ρ, and ‖g‖."""
    gradient = _gradient(point, tied)
    for radius in point.radii:
        curvature = point.curvature(radius)
        modulus, valid = _local_modulus(point, curvature, tied, gradient.size)
        if modulus > 0:
            local = "local modulus" if np.isfinite(valid) else "modulus"
            kind = f"tied models, {local}" if tied.any() else local
            bounds = _from_modulus(gradient.size, modulus, kind)
            return bounds.merged(_newton_bounds(point, curvature, tied, gradient, modulus, valid, kind)), gradient.size
    return _Bounds(kind="no modulus"), gradient.size


def _from_modulus(size: Interval, modulus: float, kind: str) -> _Bounds:
    distance = float((size / modulus).high)
    return _Bounds(distance, distance, float((size * size / (2.0 * Interval(modulus))).high), modulus, kind)


def _newton_bounds(
    point: Point, curvature: Curvature, tied: Mask, gradient: _Gradient, modulus: float, radius: float, kind: str
) -> _Bounds:
    """Bounds through x - ê for an approximate Newton step ê: ‖x - x*‖ <= ‖ê‖ + ‖g(x - ê)‖/μ."""
    step = _newton_step(point, curvature, tied, gradient)
    if step is None:
        return _Bounds()
    step_rho, steps = step
    rest = _gradient(point.minus(step_rho, steps), tied).size / modulus
    sizes, size_rho = point.vectors(steps).norms()[point.free], point.vectors(step_rho).norms()
    theta = (sizes * sizes).total()
    length = (size_rho * size_rho + theta).sqrt()
    # The ball of radius ``rest`` around x - ê must be where μ holds.
    if not length + rest < radius:
        return _Bounds()
    # F is convex, so the gap is at most gᵀ(x - x*), and half of that where F is quadratic.
    moving = point.free & ~tied
    slope = gradient.at_rho.dot(point.vectors(step_rho))
    slope = slope + gradient.at_thetas.dot(point.vectors(steps))[moving].total()
    gap = slope + gradient.size * rest
    if type(point.problem.loss) is LeastSquares and type(point.problem.reg) is SquaredL2:
        gap = 0.5 * gap
    distance, theta_distance = length + rest, theta.sqrt() + rest
    kind = f"Newton step, {kind}"
    return _Bounds(float(distance.high), float(theta_distance.high), float(gap.high), modulus, kind)


def _newton_step(point: Point, curvature: Curvature, tied: Mask, gradient: _Gradient) -> tuple[Array, Array] | None:
    """Return about H⁻¹g in float64, for ρ and θ; None where that fails.

    With K_n = H_n + A_n it is e_n = K_n⁻¹(g_n + A_n e_ρ), where (Σ A_nK_n⁻¹H_n) e_ρ = g_ρ + Σ A_nK_n⁻¹g_n.
    """
    hessians = point.hessians(curvature)
    if hessians is None:
        return None
    size, moving = point.problem.dim, np.flatnonzero(point.free & ~tied)
    g, rest = gradient.at_thetas.rounded(), gradient.at_rho.rounded()
    solved, sums = np.zeros((len(moving), size, size + 1)), []

    def task(part: int, first: int, last: int) -> int:
        for start in range(first, last, _BLOCK):
            users = moving[start : min(start + _BLOCK, last)]
            H, A = hessians[users], _regularizer_hessians(point, users)
            try:
                X = np.linalg.solve(H + A, np.concatenate([H, g[users][:, :, None]], axis=2))
            except np.linalg.LinAlgError:
                return 1
            solved[start : start + len(users)] = X
            sums.append(np.einsum("nij,njk->ik", A, X))
        return 0

    if over_users(task, np.full(len(moving), 5.0 * size**3)) != 0:
        return None
    pinned = _regularizer_hessians(point, np.flatnonzero(~point.free)).sum(axis=0)
    S = pinned + hessians[tied].sum(axis=0) + sum(X[:, :size] for X in sums)
    try:
        step_rho = np.linalg.solve(S, rest + sum(X[:, size] for X in sums))
    except np.linalg.LinAlgError:
        return None
    steps = np.where(point.free[:, None], step_rho, np.zeros((point.problem.n_users, size)))
    steps[moving] += solved[:, :, size] - solved[:, :, :size] @ step_rho
    return (step_rho, steps) if np.isfinite(step_rho).all() and np.isfinite(steps).all() else None


def _regularizer_hessians(point: Point, users: np.ndarray) -> Array:
    """R'' at z_n in float64, shape (n, P, P)."""
    reg, z = point.problem.reg, point.differences.rounded()[users]
    identity = np.eye(z.shape[1])
    if type(reg) is SquaredL2:
        return np.broadcast_to(2.0 * point.lam * identity, (*z.shape, z.shape[1]))
    lengths = norms(z)
    lengths = np.hypot(1.0, lengths) if type(reg) is SmoothL2 else np.where(lengths > 0, lengths, 1.0)
    unit = z / lengths[:, None]
    return (point.lam / lengths)[:, None, None] * (identity - unit[:, :, None] * unit[:, None, :])


def _local_modulus(point: Point, curvature: Curvature, tied: Mask, size: Interval) -> tuple[float, float]:
    """Return μ and the radius around x where it holds, with ‖g‖ < μ radius; (0, 0) if there are none such."""
    modulus, radius, bound = _modulus(point, curvature, 0.0, tied), curvature.radius, _modulus
    if type(point.problem.reg) is SquaredL2:
        return (modulus, radius) if size < Interval(modulus) * radius else (0.0, 0.0)
    if not modulus > 0:
        bound = _matrix_modulus
        modulus = bound(point, curvature, 0.0, tied)
    for _ in range(8):
        radius = 2.0 * float((size / modulus).high) if modulus > 0 else np.nan
        if not radius <= curvature.radius:
            break
        modulus = bound(point, curvature, radius, tied)
        if size < Interval(modulus) * radius:
            return modulus, radius
    return 0.0, 0.0


@dataclass(frozen=True)
class _Stiffness:
    r"""Bounds :math:`A_n \succeq k_\perp(I - \hat z\hat z^T) + k_\parallel\hat z\hat z^T - \text{loss}\,I` on R''."""

    across: Array
    along: Array
    loss: Array


def _stiffness(point: Point, radius: float) -> _Stiffness:
    r"""Bound the Hessian of R in z on the ball of ``radius`` around x.

    There ‖z' - z‖ <= √2 radius, and R'' = k(I - τ ẑ'ẑ'ᵀ) with k = λ/√(one + ‖z'‖²), 1 - τ = one/(one + ‖z'‖²), where
    one is 1 for smooth-ℓ2 and 0 for plain ℓ2.  The sine of the angle of z and z' is at most √2 radius/‖z‖, and
    ẑ'ẑ'ᵀ <= ẑẑᵀ + sine·I.
    """
    reg, n_users = point.problem.reg, point.problem.n_users
    if type(reg) is SquaredL2:
        constant = np.full(n_users, 2.0 * point.lam)
        return _Stiffness(constant, constant, np.zeros(n_users))
    one = 0.0 if type(reg) is L2 else 1.0
    sizes = point.differences.norms()
    shift = Interval(2.0).sqrt() * radius
    far = (sizes + shift) * (sizes + shift) + one
    across = (point.lam / far.sqrt()).low
    along = (Interval(across) * one / far).low
    if one == 1.0:
        near = Interval(np.maximum((sizes - shift).low, 0.0))
        steepest = (point.lam / (near * near + 1.0).sqrt()).high
        sine = np.minimum(np.nan_to_num((shift / sizes).high, nan=1.0, posinf=1.0), 1.0)
        turned = (Interval(along) - Interval(steepest) * sine).low
        # Where the direction of z may turn, R'' >= k∥ I without regard to direction is the better bound.
        keep = turned > 0.5 * along
        isotropic = np.maximum(along, 0.0)
        across = np.where(keep, (Interval(across) * (1.0 - Interval(sine))).low, isotropic)
        along = np.where(keep, turned, isotropic)
        if point.problem.dim == 1:
            across = along = isotropic
        return _Stiffness(across, np.minimum(across, along), np.zeros(n_users))
    if point.problem.dim == 1:
        # Without a change of sign |z| is linear.
        return _Stiffness(np.zeros(n_users), np.zeros(n_users), np.where(sizes > shift, 0.0, np.inf))
    near = sizes - shift
    sine = (shift / sizes).high
    loss = np.where(near > 0.0, (point.lam / near * Interval(sine)).high, np.inf)
    across = np.maximum((Interval(across) * (1.0 - Interval(sine))).low, 0.0)
    return _Stiffness(across, np.zeros(n_users), loss)


def _modulus(point: Point, curvature: Curvature, radius: float, tied: Mask) -> float:
    """Return a lower bound on the modulus of F within ``radius`` of x, along θ_T = ρ; 0 where none is known."""
    stiffness, moving = _stiffness(point, radius), point.free & ~tied
    b = _convexity(point, curvature).low
    k = stiffness.along
    chord = _Chord.of(curvature, b, k, point.problem)
    # H:A two ways, each a lower bound: a chord of the matrix H_n at A = k∥ I, or scalars b_n at A with its direction.
    across, along = _parallel(b, stiffness.across).low, _parallel(b, k).low
    by_chord = moving & (chord.trace > (point.problem.dim - 1) * across + along) & (chord.slope > 0)
    by_scalar = moving & ~by_chord
    multiples, weights, cuts = _fixed_parts(point, curvature, stiffness, tied)
    multiples[by_chord], weights[by_chord] = chord.constant[by_chord], chord.slope[by_chord]
    multiples[by_scalar] = np.maximum(across, 0.0)[by_scalar]
    cuts[by_scalar] = np.where(stiffness.across > k, (Interval(across) - along).high, 0.0)[by_scalar]
    s = _least_of_sum(point, curvature, multiples, weights, cuts)
    pulls = np.stack([k, np.where(by_chord, k, stiffness.across)], axis=1)[moving]
    sums = Interval(pulls) + b[moving][:, None]
    root = _secular_root(s, 1.0 + np.count_nonzero(tied), (Interval(pulls) / sums).high, sums.low)
    return _less_the_turning(root, stiffness.loss[~tied])


def _fixed_parts(point: Point, curvature: Curvature, stiffness: _Stiffness, tied: Mask) -> tuple[Array, Array, Array]:
    """What pinned and tied users add to S, as multiples of I, weights of G_n, and cuts of ẑ_nẑ_nᵀ."""
    pinned, k = ~point.free, stiffness.along
    multiples, weights, cuts = np.zeros((3, point.problem.n_users))
    multiples[pinned] = stiffness.across[pinned]
    cuts[pinned] = np.where(stiffness.across > k, (Interval(stiffness.across) - k).high, 0.0)[pinned]
    if curvature.matrices is None:
        multiples[tied] = _convexity(point, curvature).low[tied]
    else:
        multiples[tied], weights[tied] = 2.0 * point.problem.nu, 1.0
    return multiples, weights, cuts


def _least_of_sum(
    point: Point, curvature: Curvature, multiples: Array, weights: Array, cuts: Array, more: ParallelSums | None = None
) -> float:
    directions = point.differences.over_length(0.0) if cuts.any() else point.differences
    return curvature.least_eigenvalue(float(Interval(multiples).total().low), weights, directions, cuts, more)


def _less_the_turning(modulus: float, loss: Array) -> float:
    """Subtract what the turning of ẑ_n may cost: Σ loss_n‖dρ - dθ_n‖² is at most 2 Σ loss_n ‖dx‖²."""
    total = 2.0 * Interval(loss).total()
    return max(float((Interval(modulus) - total).low), 0.0) if loss.any() else modulus


def _matrix_modulus(point: Point, curvature: Curvature, radius: float, tied: Mask) -> float:
    """As :func:`_modulus`, from the parallel sums H_n:A_n themselves; for models whose own curvature is singular."""
    if curvature.matrices is None:
        return 0.0
    stiffness, moving = _stiffness(point, radius), np.flatnonzero(point.free & ~tied)
    if not np.isfinite(stiffness.loss[moving]).all():
        return 0.0
    directions = point.differences.over_length(0.0)
    sums = curvature.parallel_sums(moving, 2.0 * point.problem.nu, stiffness.across, stiffness.along, directions)
    s = _least_of_sum(point, curvature, *_fixed_parts(point, curvature, stiffness, tied), sums)
    root = _secular_root(s, 1.0 + np.count_nonzero(tied), sums.ratios[:, None], sums.stiffnesses[:, None])
    return _less_the_turning(root, stiffness.loss[~tied])


def _parallel(a: Array, c: Array) -> Interval:
    """a:c = ac/(a + c); 0 where a or c is 0."""
    quotient = Interval(a) / (1.0 + Interval(a) / np.where(c > 0, c, 1.0))
    positive = (a > 0) & (c > 0)
    return Interval(np.where(positive, np.maximum(quotient.low, 0.0), 0.0), np.where(positive, quotient.high, 0.0))


@dataclass(frozen=True)
class _Chord:
    """H_n : c_n I >= constant·I + slope·G_n, and the trace of the right-hand side."""

    constant: Array
    slope: Array
    trace: Array

    @classmethod
    def of(cls, curvature: Curvature, b: Array, c: Array, problem: Problem) -> _Chord:
        if curvature.matrices is None:
            return cls(np.zeros_like(b), np.zeros_like(b), np.full_like(b, -np.inf))
        top = (2.0 * Interval(problem.nu) + curvature.largest).high
        left, right = _parallel(b, c), _parallel(top, c)
        slope = np.where(top > b, (right - left).low / np.where(top > b, top - b, 1.0) * (1.0 - 1e-12), 0.0)
        slope = np.where(slope > 0, slope, 0.0)
        constant = (left - Interval(slope) * b).low
        # A concave function lies above the line if its ends do.
        below = (Interval(constant) + Interval(slope) * top).high <= right.low
        slope = np.where(below, slope, 0.0)
        constant = np.where(below, constant, left.low)
        shifted = (Interval(constant) + Interval(slope) * 2.0 * problem.nu).low
        return cls(shifted, slope, problem.dim * shifted + slope * curvature.traces)


def _secular_root(s: float, copies: float, ratios: Array, stiffnesses: Array) -> float:
    """Return nearly the largest μ < min C with s - μ(copies + Σ_n max κ²C/(C - μ)) > 0, proven; 0 if there is none.

    ``ratios`` κ and ``stiffnesses`` C have a row for each model, whose maximum counts.
    """
    top = float(np.min(stiffnesses, initial=np.inf))
    if not (s > 0 and top > 0):
        return 0.0
    low, high, scaled = 0.0, min(s / copies, top), ratios * ratios * stiffnesses
    for _ in range(60):
        mu = 0.5 * (low + high)
        inside = s - mu * (copies + float(np.sum(np.max(scaled / (stiffnesses - mu), axis=1)))) > 0 and mu < top
        low, high = (mu, high) if inside else (low, mu)
    for shrink in (1e-12, 1e-9, 1e-6, 1e-3, 0.5):
        mu = low * (1.0 - shrink)
        losses = Interval(ratios) * ratios * stiffnesses / (Interval(stiffnesses) - mu)
        total = Interval(np.max(losses.low, axis=1, initial=0.0), np.max(losses.high, axis=1, initial=0.0)).total()
        if mu < top and s - mu * (total + copies) > 0.0:
            return mu
    return 0.0


# --------------------------------------------------------------------------------------------------------------
# Plain ℓ2
# --------------------------------------------------------------------------------------------------------------


def _l2_bounds(point: Point) -> _Bounds:
    """Bounds at x, and at the point x' near it whose nearly tied models are tied."""
    bounds = _l2_bounds_at(point)
    rho, thetas = _snapped(point)
    moved = point.moved(rho, thetas)
    steps = type(point.differences).difference(point.thetas, thetas).norms()
    step_rho = type(point.differences).difference(point.rho, rho).norms()
    if not (np.any(steps.high[point.free] > TINY) or step_rho.high > TINY):
        return bounds
    shift = ((steps * steps).total() + step_rho * step_rho).sqrt()
    # F is convex, so F(x) - F(x') is at most ξᵀ(x - x') for a subgradient ξ at x.
    forces = _forces(point)
    lift = ((point.gradients - forces.pulls).norms() * steps).total() + forces.unbalanced * step_rho
    near = _l2_bounds_at(moved)
    return bounds.merged(
        replace(
            near,
            distance=float((shift + near.distance).high),
            theta=float((shift + near.theta).high),
            gap=float((lift + near.gap).high),
        )
    )


def _snapped(point: Point) -> tuple[Array, Array]:
    """ρ at a pinned model that is close to it, and at ρ the models that belong there, as ‖∇L_n(ρ)‖ < λ certainly."""
    rho, apart = point.rho, norms(point.rho - point.thetas)
    scale = norms(rho) + np.max(apart, initial=0.0)
    close_pins = np.flatnonzero(~point.free & (apart <= _CLOSE * scale))
    if len(close_pins):
        rho = point.thetas[close_pins[np.argmin(apart[close_pins])]]
    apart = norms(rho - point.thetas)
    # The product is 0 for users without any loss, who belong at ρ from anywhere.
    rise = np.where(apart > 0, point.smoothness(np.arange(point.problem.n_users)) * apart, 0.0)
    belongs = point.free & (norms(point.gradients.rounded()) + rise < point.lam)
    return rho, np.where(belongs[:, None], rho, point.thetas)


def _tied(point: Point) -> Mask:
    return point.free & np.all(point.thetas == point.rho, axis=1)


def _idle(point: Point) -> Mask:
    """Users without any loss (ν = 0, no data): their models are copies of ρ."""
    return point.free & (point.n_data == 0) & (point.problem.nu == 0)


def _l2_bounds_at(point: Point) -> _Bounds:
    tied = _tied(point)
    bounds, _ = _smooth_bounds(point, tied)
    if np.isfinite(bounds.distance) and _all_have_slack(point, tied, bounds.distance):
        return bounds
    return _first_finite(point, (_pinned_or_tied_with_slack, _two_models, _one_parameter, _repaired_dual))


def _first_finite(point: Point, arguments: tuple[Callable[[Point, Curvature], _Bounds], ...]) -> _Bounds:
    """The best bounds of several arguments, at the first radius that gives a finite distance."""
    best = _Bounds()
    # Users without any loss follow ρ, so they are left out of the dual argument; their models must be at ρ.
    if np.any(_idle(point) & np.any(point.thetas != point.rho, axis=1)):
        return best
    for radius in point.radii:
        curvature = point.curvature(radius)
        for argument in arguments:
            best = best.merged(argument(point, curvature))
        if np.isfinite(best.distance):
            break
    return best


def _all_have_slack(point: Point, tied: Mask, distance: float) -> bool:
    """Whether ‖∇L_t‖ < λ on the ball of radius ``distance`` around ρ, for every tied user."""
    users = np.flatnonzero(tied)
    sizes = point.gradients[users].norms() + Interval(point.smoothness(users)) * distance
    return bool(np.all(sizes < point.lam))


@dataclass(frozen=True)
class _Forces:
    """Elements u_n of the subdifferential of λ‖·‖ at z_n, and how far Σu_n + slope is from 0."""

    pulls: Vectors
    sizes: Interval
    unbalanced: Interval


def _forces(point: Point) -> _Forces:
    """λz/‖z‖ where the model is apart from ρ; at a kink the closest to ∇L_n, or 0 for a pinned user."""
    lam = point.lam
    at_kink = np.all(point.thetas == point.rho, axis=1)
    nearest = point.gradients.rounded()
    lengths, inside = norms(nearest), lam * (1.0 - 1e-14)
    nearest = nearest * np.where(lengths > inside, inside / np.where(lengths > 0, lengths, 1.0), 1.0)[:, None]
    pulls = _pulls(point).replaced(at_kink, point.vectors(nearest))
    sizes = Interval(np.where(at_kink, point.vectors(nearest).norms().high, lam))
    return _Forces(pulls, sizes, (pulls.total() + point.vectors(point.problem.slope)).norms())


def _convexity(point: Point, curvature: Curvature) -> Interval:
    return Interval(np.maximum((2.0 * Interval(point.problem.nu) + curvature.least).low, 0.0))


def _dual_bounds(point: Point, curvature: Curvature, lacks: Interval, excess: Interval, kind: str, rho: Any) -> _Bounds:
    """Bounds of the dual argument.

    Parameters
    ----------
    lacks : ‖v_n‖, (N,)
    excess : E
    rho : callable
        Bound on the distance of ρ, from D/√b_n (N,) and S/4 + E.
    """
    idle = _idle(point)
    active = point.free & ~idle
    b = _convexity(point, curvature)[active]
    if not np.all(b > 0.0):
        return _Bounds()
    lacks = lacks[active]
    S = (lacks * lacks / b).total()
    D = 0.5 * (S.sqrt() + (S + 4.0 * excess).sqrt())
    each = D / b.sqrt()
    if not np.all(each < curvature.radius):
        return _Bounds()
    gap = 0.5 * S + excess
    steps = np.zeros(point.problem.n_users)
    steps[active] = each.high
    rho_step = rho(Interval(steps), 0.25 * S + excess)
    least = float(np.min(b.low, initial=np.inf))
    square = D * D / least if np.isfinite(least) else Interval(0.0)
    copied = float(np.count_nonzero(idle))
    theta = (square + copied * rho_step * rho_step).sqrt() if copied else square.sqrt()
    distance = (square + (1.0 + copied) * rho_step * rho_step).sqrt()
    return _Bounds(float(distance.high), float(theta.high), float(gap.high), least if np.isfinite(least) else 0.0, kind)


def _pinned_or_tied_with_slack(point: Point, curvature: Curvature) -> _Bounds:
    """The dual argument with what is missing in Σu_n + slope = 0 given to users at the kink with ‖u_n‖ < λ."""
    lam, forces = point.lam, _forces(point)
    lacks = (point.gradients - forces.pulls).norms()
    missing = forces.unbalanced
    held = ~point.free & np.all(point.thetas == point.rho, axis=1)
    if held.any():
        share = missing / float(np.count_nonzero(held))
        slack = lam - share
        if not slack > 0.0:
            return _Bounds()

        def by_pin(steps: Interval, rest: Interval) -> Interval:
            return rest / (slack * float(np.count_nonzero(held)))

        return _dual_bounds(point, curvature, lacks, Interval(0.0), "dual, pinned model at ρ", by_pin)
    b = _convexity(point, curvature)
    takers = _tied(point) & (b.low > 0) & (forces.sizes.high < lam * (1.0 - 1e-9))
    if not takers.any():
        return _Bounds()
    weights = b.low * takers
    shares = missing * (Interval(weights) / Interval(weights).total())
    slacks = (lam - forces.sizes - shares)[takers]
    if not np.all(slacks > 0.0):
        return _Bounds()
    extra = Interval(np.zeros(point.problem.n_users), shares.high * takers)

    def by_tie(steps: Interval, rest: Interval) -> Interval:
        bounds = steps[takers] + rest / slacks
        return Interval(np.min(bounds.high))

    return _dual_bounds(point, curvature, lacks + extra, Interval(0.0), "dual, tied models", by_tie)


def _two_models(point: Point, curvature: Curvature) -> _Bounds:
    """Two users who matter, or two equal groups of equal users, and no slope.

    ρ may be anywhere between their two models, so u_n = ±λ(θ_2 - θ_1)/‖θ_2 - θ_1‖ is exact.  Equal users have equal
    θ_n*, as those are unique and may be exchanged.
    """
    groups = _two_groups(point)
    if groups is None or np.any(point.problem.slope != 0):
        return _Bounds()
    left, right = point.thetas[groups[0][0]], point.thetas[groups[1][0]]
    apart = type(point.differences).difference(right[None], left[None])
    pull = apart.over_length(0.0).times(np.array([point.lam]))
    lacks = np.zeros((2, point.problem.n_users))
    for users, force in ((groups[0], pull), (groups[1], -pull)):
        sizes = (point.gradients[users] - force).norms()
        lacks[0, users], lacks[1, users] = sizes.low, sizes.high
    # ρ' = θ_1 + t(θ_2 - θ_1) is the nearest point of the segment, up to rounding; x is compared with ρ' there.
    whole = apart.rounded()[0] / np.max(np.abs(apart.rounded()))
    step = (point.rho - left) / np.max(np.abs(apart.rounded()))
    t = float(np.clip(step @ whole / (whole @ whole), 0.0, 1.0))
    off = (point.differences[groups[0][:1]] - apart.times(np.array([t]))).norms()[0]
    parts = np.zeros(point.problem.n_users)
    parts[groups[0][0]], parts[groups[1][0]] = (Interval(1.0) - t).high, t

    def along(steps: Interval, rest: Interval) -> Interval:
        return (steps * parts).total() + off

    bounds = _dual_bounds(point, curvature, Interval(*lacks), Interval(0.0), "segment of two models", along)
    return bounds.raised(float(len(groups[0])) * 2.0 * point.lam * off)


def _two_groups(point: Point) -> tuple[np.ndarray, np.ndarray] | None:
    """The users who matter, if they are two, or two groups of as many, with the same data and model in each."""
    users = np.flatnonzero(~_idle(point))
    if len(users) < 2 or len(users) % 2 or np.all(point.thetas[users] == point.thetas[users[0]]):
        return None
    is_first = np.all(point.thetas[users] == point.thetas[users[0]], axis=1)
    groups = users[is_first], users[~is_first]
    if len(groups[0]) != len(groups[1]):
        return None
    for group in groups if len(users) > 2 else ():
        Q, labels = point.problem.stack.user(int(group[0]))
        for n in group[1:]:
            other = point.problem.stack.user(int(n))
            same = np.array_equal(point.thetas[n], point.thetas[group[0]]) and point.free[n] == point.free[group[0]]
            if not (same and np.array_equal(Q, other[0]) and np.array_equal(labels, other[1])):
                return None
    return groups


def _one_parameter(point: Point, curvature: Curvature) -> _Bounds:
    """P = 1: u_n = ±λ are exact, and if they balance, ρ is a median of the models up to their errors.

    Call the users with u_n = λ left, those with u_n = -λ right; Σu_n + slope = 0, and E = 2λ Σ (-u_n z_n/λ)₊.  Let m
    be the largest ‖dθ_n‖ - u_n z_n/λ, or 0.  The θ_n* of the left are then at most ρ + m, those of the right at least
    ρ - m.  If no left one is beyond a right one, every point between them minimizes in ρ, and some such is within m
    of ρ.  Otherwise the slope in ρ is <= 0 before the first right one and >= 0 after the last left one, both of them
    within m of ρ.
    """
    problem = point.problem
    active = np.flatnonzero(~_idle(point))
    if problem.dim != 1 or not len(active):
        return _Bounds()
    n_left = (len(active) - Fraction(float(problem.slope[0])) / Fraction(point.lam)) / 2
    if n_left.denominator != 1 or not 0 <= n_left <= len(active):
        return _Bounds()
    # Either the positions say who is left, or the forces.
    bounds = _Bounds()
    for values in (point.thetas[:, 0], -point.gradients.rounded()[:, 0]):
        signs = np.zeros(problem.n_users)
        order = active[np.argsort(values[active], kind="stable")]
        signs[order[: int(n_left)]], signs[order[int(n_left) :]] = 1.0, -1.0
        bounds = bounds.merged(_median_bounds(point, curvature, signs))
    return bounds


def _median_bounds(point: Point, curvature: Curvature, signs: Array) -> _Bounds:
    lam, theta = point.lam, point.thetas[:, 0]
    # D depends on θ alone, so it may be bounded at the ρ' with the least E.
    low, high = np.max(theta[signs > 0], initial=-np.inf), np.min(theta[signs < 0], initial=np.inf)
    best = np.clip(point.rho[0], low, high) if low <= high else 0.5 * (low + high)
    excesses = []
    for rho in (best, point.rho[0]):
        wrong = (theta - Interval(rho)) * signs
        excesses.append(2.0 * lam * Interval(np.maximum(wrong.low, 0.0), np.maximum(wrong.high, 0.0)).total())
    lacks = (point.gradients - point.vectors(lam * signs[:, None])).norms()

    def beyond(steps: Interval, rest: Interval) -> Interval:
        return (steps + (theta - Interval(point.rho[0])) * signs)[signs != 0].largest()

    bounds = _dual_bounds(point, curvature, lacks, excesses[0], "median of one parameter", beyond)
    return bounds.raised(excesses[1])


def _repaired_dual(point: Point, curvature: Curvature) -> _Bounds:
    r"""The dual argument with any forces ũ_n, repaired.

    With q = Σũ_n + slope, u_n = (1-ε)(ũ_n - q/N) - ε slope/N sums to -slope exactly, and it is in the ball for
    ε >= (‖q‖/N)/(λ + ‖q‖/N - ‖slope‖/N).  As ũ_nᵀz_n = λ‖z_n‖,
    E = ελ Σ‖z_n‖ + ((1-ε)q + ε slope)ᵀ Σz_n/N.
    """
    lam, forces = point.lam, _forces(point)
    active = np.flatnonzero(~_idle(point))
    if not len(active):
        return _Bounds()
    n = float(len(active))
    slope = point.vectors(point.problem.slope).norms() / n
    q = forces.unbalanced / n
    room = lam + q - slope
    # With ‖slope‖ >= Nλ the loss may have no minimum.
    if not slope < lam:
        return _Bounds()
    epsilon = Interval((q / room).high)
    if not epsilon < 1.0:
        return _Bounds()
    change = (1.0 - epsilon) * q + epsilon * slope
    z = point.differences[active]
    excess = epsilon * lam * z.norms().total() + change * z.total().norms()
    lacks = (point.gradients - forces.pulls).norms() + epsilon * forces.sizes + change
    slacks = lam - ((1.0 - epsilon) * (forces.sizes + q) + epsilon * slope)

    def by_slack(steps: Interval, rest: Interval) -> Interval:
        bounds = (steps + point.differences.norms() + rest / Interval(np.maximum(slacks.low, 0.0)))[active]
        return Interval(np.min(bounds.high))

    return _dual_bounds(point, curvature, lacks, excess, "dual", by_slack)


def _smooth_dual(point: Point, curvature: Curvature) -> _Bounds:
    r"""The dual argument for smooth-ℓ2, whose conjugate is :math:`R^*(u) = -\sqrt{\lambda^2 - \|u\|^2}`.

    Here s_n(z) = R(z) - u_nᵀz + R*(u_n) >= 0, for u_n = ∇R(z_n) - w_n q with weights w_n that sum to 1 and
    q = Σ∇R(z_n) + slope.  R* curves by at most c_n = λ²/(λ² - max‖u‖²)^(3/2), so s_n(z_n) <= c_n‖w_n q‖²/2, and s_n
    is 0 at a point within c_n‖w_n q‖ of z_n.  By convexity s_n(z_n*) <= τ keeps z_n* within t of that point if
    t²λ/(2(1 + (‖z_n‖ + c_n‖w_n q‖ + t)²)^(3/2)) > τ; and in any case (λ - ‖u_n‖)‖z_n*‖ <= τ + λ.
    """
    lam, idle = point.lam, _idle(point)
    pulls = _pulls(point)
    missing = (pulls.total() + point.vectors(point.problem.slope)).norms()
    weights = np.where(idle, 0.0, np.maximum(_stiffness(point, 0.0).along, 0.0))
    if not np.sum(weights) > 0:
        return _Bounds()
    shares = missing * (Interval(weights) / Interval(weights).total())
    reach = pulls.norms() + shares
    if not np.all(reach < lam):
        return _Bounds()
    room = (lam - reach) * (lam + reach)
    bend = lam * lam / (room * room.sqrt())
    excess = (0.5 * bend * shares * shares)[~idle].total()
    lacks = (point.gradients - pulls).norms() + shares
    z = point.differences.norms()
    moved = bend * shares

    def by_growth(steps: Interval, rest: Interval) -> Interval:
        t, tau = np.zeros(point.problem.n_users), float(rest.high)
        for _ in range(40):
            t = np.sqrt(2.0 * tau * (1.0 + (z.high + moved.high + t) ** 2) ** 1.5 / lam) * (1.0 + 1e-6)
        far = (z + moved + t) * (z + moved + t) + 1.0
        near = np.where(0.5 * Interval(t) * t * lam / (far * far.sqrt()) > tau, (moved + t).high, np.inf)
        anywhere = (z + (rest + lam) / (lam - reach)).high
        bounds = (steps + np.minimum(near, anywhere)).high
        return Interval(np.min(bounds[~idle]))

    return _dual_bounds(point, curvature, lacks, excess, "dual", by_growth)


def _l2_residual(point: Point) -> float:
    """Bound the distance of 0 to the subdifferential, with two choices of the forces at kinks."""
    forces = _forces(point)
    lacks = (point.gradients - forces.pulls).norms()[point.free]
    squares = (lacks * lacks).total()
    plain = (squares + forces.unbalanced * forces.unbalanced).sqrt()
    at_kink = np.all(point.thetas == point.rho, axis=1)
    room = (point.lam - forces.sizes)[at_kink]
    if not at_kink.any():
        return float(plain.high)
    # Shared equally among k kinks and ρ, what is missing counts ‖q‖²/(k + 1), if there is room in the balls.
    takers = float(np.count_nonzero(room.low > 0))
    share = forces.unbalanced / (takers + 1.0)
    if not takers or not np.all(room[room.low > 0] > share):
        return float(plain.high)
    roots = np.zeros(point.problem.n_users)
    roots[np.flatnonzero(at_kink)[room.low > 0]] = share.high
    lacks = ((point.gradients - forces.pulls).norms() + roots)[point.free]
    shared = ((lacks * lacks).total() + share * share).sqrt()
    return float(min(plain.high, shared.high))
