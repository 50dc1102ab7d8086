r"""Appendix B: the three reductions behind the equivalence.  Instances are exact."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import isqrt

import sympy as sp

from proofs_checks.a_convexity import regularizers_meet_assumption_1
from proofs_checks.exact import LinearProblem, LinearUser, Matrix, Vector, add, dot, solve, times, vector
from proofs_checks.k_single_point import exact_problems
from proofs_checks.registry import Erratum, Evidence, Tally, at_most, both, check, less
from proofs_checks.search import attack, vanishes
from proofs_checks.steps import limit_equation, stays_near
from proofs_checks.strategies import arguments, linear_problems

PYTHAGOREAN = [(Fraction(3, 4), Fraction(5, 4)), (Fraction(12, 5), Fraction(13, 5)), (Fraction(40, 9), Fraction(41, 9))]
"""Pairs z, √(1+z²), both rational."""


def modified_value(problem: LinearProblem, s: int, rho: Vector, thetas: Matrix) -> Fraction:
    """Return Loss_s (eq. 2): user s has no data, but the ridge term and the regularizer of its model stay."""
    users = tuple(LinearUser([], []) if n == s else user for n, user in enumerate(problem.users))
    return LinearProblem(users, problem.lam, problem.nu, problem.dim).value(rho, thetas)


def _minima() -> Iterator[tuple[LinearProblem, Vector, Matrix]]:
    for problem, _ in exact_problems():
        attacker = LinearUser([vector([2] * problem.dim)], vector([7]))
        whole = LinearProblem((*problem.users, attacker), problem.lam, problem.nu, problem.dim)
        found = whole.minimum()
        if found is not None:
            yield whole, *found


@check(
    "lem1_model_to_data",
    method="symbolic",
    falsehoods={"another_model": {"shift": Fraction(1, 10)}, "without_the_pull": {"with_pull": False}},
    strengthen=lambda excess: {"shift": excess},
)
def frozen_minimum_minimizes_the_modified_loss(*, shift: Fraction | int = 0, with_pull: bool = True) -> Evidence:
    """With θ_s♠ = θ_s*, the rest of a global minimum minimizes Loss_s.

    Proof.  Loss(ρ, (θ_{-s}, θ_s*), D) - Loss_s(ρ, θ_{-s}, θ_s*) is the constant L_s(θ_s*, D_s) - L_s(θ_s*, ∅), so the
    two are minimized together.  Instances: the gradient of Loss_s in ρ and in every θ_n, n ≠ s, vanishes exactly.
    """
    tally = Tally()
    others, pull, data, ridge = sp.symbols("others pull data ridge")
    if not shift and with_pull:
        tally.step(
            vanishes((others + pull + data + ridge) - (others + pull + ridge) - data),
            "the difference of the losses is constant",
        )
    for whole, rho, thetas in _minima():
        s = len(whole.users) - 1
        reported = [x + shift for x in thetas[s]]
        models = [*thetas[:s], reported]
        in_rho, in_thetas = whole.gradient(rho, models)
        if not with_pull:
            in_rho = add(in_rho, add(rho, reported, -1), -2 * whole.lam)
        flat = all(x == 0 for x in in_rho) and all(x == 0 for row in in_thetas[:s] for x in row)
        tally.claim(
            flat, "the gradient of Loss_s vanishes at (ρ*, θ*_{-s})", rho=rho, reported=reported, gradient=in_rho
        )

    def decide(problem: LinearProblem) -> bool | None:
        found = problem.minimum()
        if found is None:
            return None
        rho, thetas = found
        in_rho, in_thetas = problem.gradient(rho, [*thetas[:-1], [x + shift for x in thetas[-1]]])
        return not any(in_rho) and not any(x for row in in_thetas[:-1] for x in row)

    attack(tally, "the gradient of Loss_s vanishes, the last user frozen", arguments(problem=linear_problems()), decide)
    return tally.evidence()


@check(
    "lem1_model_to_data",
    part="proof_37",
    method="certified",
    equations=(37,),
    printed={"ridge": 0},
    falsehoods={"without_ridge": {"ridge": 0}, "twice_the_ridge": {"ridge": 2}},
    errata=Erratum(
        place="(37)",
        repair="Add L_s(θ_s*, ∅) = ν‖θ_s*‖², which (2) keeps: Loss_s = Loss - L_s(θ_s*, D_s) + ν‖θ_s*‖². The same "
        "constant is missing in (38).",
        survives="Yes: a constant does not move the minimum.",
    ),
)
def modified_loss_at_the_minimum(*, ridge: int = 1) -> Evidence:
    """Loss_s(ρ*, θ*) = Loss(ρ*, θ*) - L_s(θ_s*, D_s) + ν‖θ_s*‖²."""
    tally = Tally()
    for whole, rho, thetas in _minima():
        s = len(whole.users) - 1
        user, theta = whole.users[s], thetas[s]
        local = whole.nu * dot(theta, theta)
        local += sum(((dot(q, theta) - a) ** 2 / 2 for q, a in zip(user.Q, user.A, strict=True)), Fraction(0))
        right = whole.value(rho, thetas) - local + ridge * whole.nu * dot(theta, theta)
        left = modified_value(whole, s, rho, thetas)
        tally.claim(left == right, "Loss_s = Loss - L_s (+ ridge)", nu=whole.nu, theta_s=theta, left=left, right=right)
    return tally.evidence()


@check(
    "lem1_model_to_data",
    part="proof_38",
    method="certified",
    equations=(38,),
    printed={"strict": True},
    falsehoods={"strict": {"strict": True}, "reversed": {"reversed_sign": True}},
    errata=Erratum(
        place="(38)",
        repair="≤ instead of <: other points may be minimal too, the optimum itself for one.",
        survives="Yes.",
        scan=True,
    ),
)
def optimum_is_at_most_any_other(*, strict: bool = False, reversed_sign: bool = False) -> Evidence:
    """Loss(ρ*, θ*) ≤ Loss(ρ, θ) for any ρ, θ, with equality at the optimum."""
    tally = Tally()
    for whole, rho, thetas in _minima():
        best = whole.value(rho, thetas)
        for move in (Fraction(0), Fraction(1, 10**6), Fraction(-2)):
            other = whole.value([x + move for x in rho], thetas)
            left, right = (other, best) if reversed_sign else (best, other)
            tally.claim(
                less(left, right) if strict else at_most(left, right),
                "Loss(ρ*, θ*) against Loss(ρ, θ)",
                move=move,
                left=best,
                right=other,
            )
    return tally.evidence()


@check(
    "eq2_modified_loss",
    method="certified",
    equations=(2, 39),
    falsehoods={"pull_dropped": {"keeps_pull": False}, "data_kept": {"keeps_data": True}},
)
def modified_loss_drops_the_data_only(*, keeps_pull: bool = True, keeps_data: bool = False) -> Evidence:
    """Loss_s = Σ_{n≠s} L_n + ν‖θ♠‖² + Σ_n R(ρ, θ_n), user by user; this is what `Problem.pin` does."""
    import numpy as np

    from theory import LeastSquares, Problem, SquaredL2, UserDataset

    tally = Tally()
    users = [UserDataset([[1.0, 2.0]], [3.0]), UserDataset([[2.0, 0.5]], [1.0])]
    problem = Problem(users, LeastSquares(), SquaredL2(0.5), 0.25)
    rho, theta, report = np.array([1.0, -1.0]), np.array([0.5, 2.0]), np.array([4.0, 1.0])
    value = problem.pin(1, report).value(rho, np.array([theta, report]))
    # All numbers are dyadic, so floats are exact here.
    first = 0.25 * theta @ theta + 0.5 * (theta @ [1.0, 2.0] - 3.0) ** 2 + 0.5 * (rho - theta) @ (rho - theta)
    second = 0.25 * report @ report + (0.5 * (rho - report) @ (rho - report) if keeps_pull else 0.0)
    second += 0.5 * (report @ [2.0, 0.5] - 1.0) ** 2 if keeps_data else 0.0
    tally.claim(
        bool(value == first + second),
        "Loss_s of two users, exact in binary",
        value=float(value),
        sum=float(first + second),
    )
    return tally.evidence()


@check(
    "lem3_gradient_to_model",
    part="squared_l2",
    method="symbolic",
    equations=(48, 49, 50, 51, 52),
    falsehoods={"one_lambda": {"two": 1}, "other_sign": {"sign": 1}},
    strengthen=lambda excess: {"two": 2 * (1 + excess)},
)
def model_for_a_gradient_squared(*, two: Fraction | int = 2, sign: int = -1) -> Evidence:
    """ℓ2²: θ♠ = ρ∞ + sign·g∞/(2λ), sign -1, makes ρ∞ the minimum of the modified loss exactly, without an ε.

    Proof for all convex L_n, ν = 0 included.  F is Lipschitz, with 2λ for each user (L_n = ∞ in the step), and
    F(ρ∞)+g∞ = 0, as ρ^{t+1}-ρ^t = -η(F(ρ^t)+g_t) → 0.  ∇_ρLoss² = ∇Loss¹ + ∇_ρR(ρ, θ_s) - g∞ (52) vanishes where
    2λ(ρ∞-θ♠) = g∞; the loss is convex, and R(·, θ♠) strictly so, so that ρ∞ is the only minimum.
    """
    tally = Tally()
    rho, g, lam = sp.symbols("rho g lambda", positive=True)
    theta = rho + sign * g / (sp.Rational(two) * lam)
    tally.step(vanishes(2 * lam * (rho - theta) - g), "∇_ρR(ρ∞, θ♠) = g∞")
    limit_equation(tally)
    for problem, limit in exact_problems():
        f = problem.honest_gradient(-1, limit)
        if f is None:
            tally.skip()
            continue
        report = add(limit, f, -sign / (Fraction(two) * problem.lam))
        left = add(f, add(limit, report, -1), 2 * problem.lam)
        tally.claim(
            all(x == 0 for x in left), "F(ρ∞)+2λ(ρ∞-θ♠) = 0 with g∞ = -F(ρ∞)", rho=limit, lam=problem.lam, left=left
        )
    return tally.evidence()


@check(
    "lem3_gradient_to_model",
    part="smooth_l2",
    method="symbolic",
    equations=(54, 55, 56),
    printed={"with_nu": False},
    falsehoods={
        "as_for_l2_squared": {"scaled": False},
        "boundary_is_reached": {"boundary_exact": True},
        "nu_zero": {"with_nu": False},
    },
    errata=Erratum(
        place="Lemma 3 for smooth-ℓ2, where ‖g∞‖ = λ",
        repair="Suppose ν > 0 in the local losses, as (5) does and as Lemma 13 needs; or ‖g∞‖ < λ.",
        survives="Yes in the setting of section 4. For losses that are only convex (and smooth) the honest reports can "
        "add up to λ exactly on a whole region; there the report of length λ holds ρ, but the pull of a local model is "
        "always below λ, so that no modified loss has a minimum there.",
    ),
)
def model_for_a_gradient_smooth(*, scaled: bool = True, boundary_exact: bool = False, with_nu: bool = True) -> Evidence:
    """smooth-ℓ2: θ♠ = ρ∞-g/√(λ²-‖g‖²) for ‖g‖ < λ, exactly; on the boundary θ♠ at distance r errs by λ(1-r/√(1+r²)) <
    λ/(2r²), and ρ* is within any ε of ρ∞ for large r, if ν > 0.

    Proof.  F(ρ∞)+g∞ = 0 as for ℓ2².  For ‖g‖ < λ the gradient of the modified loss f = e+R(·, θ♠) vanishes at ρ∞; f is
    strictly convex, as R(·, θ♠) is.  On the boundary the gradient at ρ∞ is the error, for θ♠ = ρ∞-rg/λ.  For ν > 0 e
    is bounded below, so that f has a minimum ρ*.  Let μ be the modulus of e on the ball of radius ε around ρ∞ (Lemma
    13), which does not depend on θ♠.  If ρ* is outside, the slope towards it at the sphere is at most 0, that at ρ*,
    and at least με-‖∇f(ρ∞)‖: so the error is at least με, and for large r it is not.

    Without ν: two honest users with L(θ) = Huber(θ)/2, λ = 1.  Each pulls with 1/2 as soon as (ρ-1)² ≥ 1/3, so F = 1
    there, and the report -1 holds ρ^t at ρ⁰ = 3.  A minimum of a modified loss needs F(ρ) = |pull of θ♠| < 1.
    """
    tally = Tally()
    g, lam, r = sp.symbols("g lambda r", positive=True)
    z = g / sp.sqrt(lam**2 - g**2)
    if not with_nu:
        limit, within = Fraction(3), Fraction(1)
        tally.claim(
            less((limit - within - 1) ** 2, Fraction(1, 3)),
            "some report has its minimum within ε of ρ∞: there (ρ-1)² < 1/3; two Huber users without ridge, λ = 1",
            limit=limit,
            epsilon=within,
        )
    if scaled and not boundary_exact and with_nu:
        pull = lam * z / sp.sqrt(1 + z**2)
        tally.step(vanishes(sp.simplify(pull**2 - g**2)), "the pull at distance g/√(λ²-g²) is g")
        error = 1 - r / sp.sqrt(1 + r**2)
        tally.step(
            bool(sp.simplify(1 + r**2 - (r * (1 + 1 / (2 * r**2))) ** 2 + 1 / (4 * r**2)) == 0) or None,
            "√(1+r²) < r+1/(2r)",
        )
        tally.step(bool(sp.limit(error, r, sp.oo) == 0) or None, "the error vanishes with growing r")
        limit_equation(tally)
        size, along, sphere, mu, eps = sp.symbols("G a s mu epsilon", real=True)
        brackets = (size + along) + (sphere - along - mu * eps) - sphere
        tally.step(
            vanishes(size - mu * eps - brackets), "‖∇f(ρ∞)‖-με is a sum of three nonnegative terms if ‖ρ*-ρ∞‖ > ε"
        )
    for (z_value, root), lam_value in product(PYTHAGOREAN, [Fraction(1), Fraction(3)]):
        gradient = lam_value * z_value / root
        distance = z_value if scaled else gradient / (2 * lam_value)
        # √(1+distance²) is rational at z; compare squares otherwise.
        tally.claim(
            gradient**2 * (1 + distance**2) == (lam_value * distance) ** 2,
            "λd/√(1+d²) = ‖g‖ at d = ‖ρ∞-θ♠‖",
            g=gradient,
            lam=lam_value,
            d=distance,
        )
        error = lam_value * (1 - z_value / root)
        tally.claim(less(error, lam_value / (2 * z_value**2)), "error on the boundary", r=z_value, error=error)
        if boundary_exact:
            tally.claim(error == 0, "some model gives a gradient of length λ", r=z_value, error=error)
    return tally.evidence()


@check(
    "lem3_gradient_to_model",
    part="l2",
    method="class",
    falsehoods={"beyond_lambda": {"reach": Fraction(2)}, "model_elsewhere": {"shift": Fraction(1, 4)}},
    strengthen=lambda excess: {"reach": 1 + excess},
)
def model_for_a_gradient_l2(*, reach: Fraction | int = 1, shift: Fraction | int = 0) -> Evidence:
    """ℓ2: θ♠ = ρ∞ makes ρ∞ a minimum of the modified loss whenever ‖g∞‖ ≤ λ.

    Proof.  The honest reports F_t are subgradients of e at ρ^t (at its kink a user reports the one that its optimality
    names), and F_t+g_t = (ρ^t-ρ^{t+1})/η → 0; so F_t → -g∞, and e(z) ≥ e(ρ^t)+F_tᵀ(z-ρ^t) becomes e(z) ≥
    e(ρ∞)-g∞ᵀ(z-ρ∞) in the limit.  (For smooth L_n, F is Lipschitz and F(ρ∞) = -g∞.)  So
    e(ρ)+λ‖ρ-ρ∞‖-e(ρ∞) is the slack of e plus λ‖x‖-g∞ᵀx ≥ 0, x = ρ-ρ∞.  (The minimum may be a set, of which ρ∞ is an
    element: Lemma 13, which the printed proof uses, does not cover ℓ2.)  Instances: d = 1, one honest user with
    L(θ) = θ²; F(ρ) = 2ρ for |ρ| ≤ λ/2, ±λ beyond.
    """
    tally = Tally()
    if reach == 1 and not shift:
        limit_equation(tally)
        slack, length, along, bound = sp.symbols("s x g_along lambda", real=True)
        tally.step(
            vanishes((slack - along) + bound * length - slack - (bound * length - along)),
            "e(ρ)+λ‖x‖-e(ρ∞) = slack + (λ‖x‖-g∞ᵀx)",
        )
        u1, u2, v1, v2 = sp.symbols("u1 u2 v1 v2", real=True)
        gram = (u1**2 + u2**2) * (v1**2 + v2**2) - (u1 * v1 + u2 * v2) ** 2
        tally.step(vanishes(gram - (u1 * v2 - u2 * v1) ** 2), "Cauchy-Schwarz, in the plane of g∞ and x")
    for lam, part in product([Fraction(1), Fraction(4)], [Fraction(0), Fraction(1, 2), Fraction(-1), Fraction(1)]):
        size = reach * part * lam
        rho = part * lam / 2
        report = rho + shift
        # 0 ∈ F(ρ) + ∂: at a report elsewhere the subdifferential is one point, ±λ.
        low, high = (-lam, lam) if report == rho else ((lam, lam) if rho > report else (-lam, -lam))
        tally.claim(
            both(at_most(low, -size), at_most(-size, high)),
            "-F(ρ∞) is in the subdifferential of R(·, θ♠) at ρ∞",
            lam=lam,
            rho=rho,
            F=size,
        )
    return tally.evidence()


@check(
    "lem3_gradient_to_model",
    part="proof_53",
    method="class",
    equations=(53,),
    printed={"by_product": True},
    falsehoods={"by_product": {"by_product": True}, "twice": {"factor": 2}},
    errata=Erratum(
        place="(53)",
        repair="ε‖∇(ρ∞)‖ ≥ (ρ∞-ρ*)ᵀ∇(ρ∞) is the wrong way round where ‖ρ∞-ρ*‖ > ε. Instead: at the point at distance "
        "ε from ρ* towards ρ∞ the "
        "slope is at least με, and along the ray it does not decrease, so ‖∇(ρ∞)‖ ≥ με. (Where ‖g∞‖ = λ the set on "
        "which μ1 is taken is not compact, as θ_s runs to infinity; take the modulus of e, which does not depend on "
        "θ_s: part `smooth_l2`.)",
        survives="Yes: the conclusion ‖∇(ρ∞)‖ ≥ με is right for convex losses.",
    ),
    strengthen=lambda excess: {"factor": 1 + excess},
)
def gradient_far_from_the_minimum(*, by_product: bool = False, factor: Fraction | int = 1) -> Evidence:
    """‖∇f(ρ∞)‖ ≥ με if ‖ρ∞-ρ*‖ > ε, f convex and μ-strongly convex on the ball of radius ε around ρ*."""
    tally = Tally()
    slope_near, gain = sp.symbols("s_near gain", nonnegative=True)
    mu, eps = sp.symbols("mu epsilon", positive=True)
    if not by_product and factor <= 1:
        near, far = mu * eps + slope_near, mu * eps + slope_near + gain
        tally.step(vanishes(far - near - gain), "along the ray the slope grows by gain >= 0")
        tally.step(vanishes(far - mu * eps - slope_near - gain), "so it stays at least με")
    # Huber: μx²/2 up to ε, slope με beyond; and the plain quadratic.
    for mu_value, eps_value, far_value, flat in product(
        [Fraction(1, 3), Fraction(2)], [Fraction(1, 2)], [Fraction(2), Fraction(7)], (True, False)
    ):
        slope = mu_value * (eps_value if flat else far_value)
        if by_product:
            tally.claim(
                at_most(far_value * slope, eps_value * slope),
                "ε‖∇‖ >= (ρ∞-ρ*)ᵀ∇",
                mu=mu_value,
                epsilon=eps_value,
                distance=far_value,
                slope=slope,
            )
        tally.claim(
            at_most(factor * mu_value * eps_value, slope),
            "‖∇‖ >= με",
            mu=mu_value,
            epsilon=eps_value,
            distance=far_value,
            slope=slope,
        )
    return tally.evidence()


@check(
    "lem14_sampling",
    part="proof_45",
    method="certified",
    equations=(41, 42, 43, 44, 45, 46, 47),
    printed={"uniform": False},
    falsehoods={"kappa_at_one_point": {"uniform": False}},
    errata=Erratum(
        place="(43) to (45)",
        repair="Choose κ such that |R(ρ, θ_s)-R(ρ, θ♠)| ≤ η/3 for all ρ of a compact set outside of which every "
        "Loss_s(·, θ_s), ‖θ_s-θ♠‖ ≤ κ, exceeds "
        "L♠+η; (43) asks for it at ρ♠ only, and (45) then fails. (R need not be differentiable: ℓ2 is not.)",
        survives="Yes: uniform continuity on that compact set gives such a κ.",
    ),
)
def infimum_outside_is_stable(*, uniform: bool = True) -> Evidence:
    """inf_D Loss_s(·, θ_s) ≥ inf_D Loss_s(·, θ♠) - η/3 for ‖θ_s-θ♠‖ ≤ κ.

    Instances, exact: N = 2, d = 1, ℓ2², λ = 1, honest loss mθ², θ♠ = 0, so ρ♠ = θ_1♠ = 0 and L♠ = 0; ε = 1.  D is |ρ|
    ≥ 1 or |θ_1| ≥ 1.
    """
    tally = Tally()

    def infimum(m: Fraction, theta: Fraction) -> Fraction:
        # On |ρ| = 1 the best θ_1 is ρ/(1+m); on |θ_1| = 1 the best ρ is the mean of θ_1 and θ_s.
        on_rho = m / (1 + m) + (1 - theta) ** 2
        on_model = m + (1 - theta) ** 2 / 2
        return min(on_rho, on_model)

    for m in [Fraction(3), Fraction(10), Fraction(1)]:
        eta = infimum(m, Fraction(0))
        for step in range(1, 9):
            theta = Fraction(step, 8)
            at_start = theta**2  # |R(ρ♠, θ_s) - R(ρ♠, θ♠)|
            on_edge = 2 * theta - theta**2 if uniform else Fraction(0)  # the same at |ρ| = 1
            if max(at_start, on_edge) > eta / 3:
                tally.skip()
                continue
            tally.claim(
                at_most(eta - eta / 3, infimum(m, theta)),
                "(45)",
                m=m,
                theta_s=theta,
                eta=eta,
                infimum=infimum(m, theta),
            )
    return tally.evidence()


def sampled_users(count: int, model: Vector) -> LinearUser:
    """Return ``count`` noiseless answers of a model in d = 2, half to each unit vector; repeated points as one scaled
    one.
    """
    # n copies of (Q, A) have the gradient of one copy of (√n Q, √n A); n is a square.
    root = isqrt(count // 2)
    if 2 * root * root != count:
        raise ValueError("the count is to be twice a square")
    return LinearUser([[Fraction(root), Fraction(0)], [Fraction(0), Fraction(root)]], times(root, model))


def _norm_at_most(a: Vector, bound: Fraction) -> bool:
    return dot(a, a) <= bound**2


def _imitation(tally: Tally, share: Fraction, target_shift: Fraction) -> None:
    """Decide (3) and (40): with enough honest answers of θ♠ all other models are within ε of those under the model
    attack.
    """
    for problem, report in exact_problems(6):
        if problem.dim != 2:
            continue
        s = len(problem.users)
        pinned = _under_model_attack(problem, report)
        if pinned is None:
            tally.skip()
            continue
        for epsilon in (Fraction(1, 10), Fraction(1, 10**4)):
            # λ_min = I/2: ‖θ_s*-θ♠‖ <= 2(2ν‖θ♠‖ + 2λ‖ρ-θ♠‖)/I, and ρ* and every θ_n* move by less than that.
            gap = add(pinned[0], report, -1)
            lean = 2 * problem.nu * sum(map(abs, report)) + 2 * problem.lam * sum(map(abs, gap))
            root = int(share * 2 * (lean / epsilon + 1)) + 1
            attacker = sampled_users(2 * root * root, [x + target_shift for x in report])
            whole = LinearProblem((*problem.users, attacker), problem.lam, problem.nu, problem.dim)
            found = whole.minimum()
            if found is None:
                tally.skip()
                continue
            moved = [add(found[0], pinned[0], -1)]
            moved += [add(found[1][n], pinned[1][n], -1) for n in range(s)]
            near = all(_norm_at_most(difference, epsilon) for difference in moved)
            tally.claim(near, "within ε of the model attack", epsilon=epsilon, points=2 * root * root, report=report)


def _under_model_attack(problem: LinearProblem, report: Vector) -> tuple[Vector, Matrix] | None:
    """Return the minimum of the modified loss: a user whose single model is the report."""
    # F(ρ) + 2λ(ρ-θ♠) = 0, where F is affine: read off its columns, as in LinearProblem.minimum.
    zero = times(0, report)
    at_zero = problem.honest_gradient(-1, zero)
    if at_zero is None:
        return None
    columns = []
    for j in range(problem.dim):
        at_unit = problem.honest_gradient(-1, [Fraction(int(i == j)) for i in range(problem.dim)])
        if at_unit is None:
            return None
        columns.append(add(at_unit, at_zero, -1))
    left = [
        [x + 2 * problem.lam * (i == j) for j, x in enumerate(row)] for i, row in enumerate(zip(*columns, strict=True))
    ]
    rho = solve(left, add(times(2 * problem.lam, report), at_zero, -1))
    if rho is None:
        return None
    thetas = [problem.local_minimum(n, rho) for n in range(len(problem.users))]
    return rho, [theta for theta in thetas if theta is not None]


@check(
    "lem2_data_to_model",
    method="class",
    equations=(3,),
    falsehoods={
        "a_thousandth_of_the_data": {"share": Fraction(1, 1000)},
        "answers_of_another_model": {"target_shift": Fraction(1)},
    },
)
def dataset_imitates_a_report(*, share: Fraction = Fraction(1), target_shift: Fraction = Fraction(0)) -> Evidence:
    """Honest answers of θ♠, enough of them, bring every model within ε of the model attack; so some dataset does.

    Proof.  The three regularizers are continuous, not negative and tend to infinity.  By Lemma 14 (whose hypotheses on
    the losses are meant here too) the answers do it with probability at least 1-δ > 0; an event of positive
    probability happens for some data.  Instances: noiseless answers to least squares with ℓ2², of an explicit number:
    the attacker learns θ♠ up to (2ν‖θ♠‖+‖∇R‖)/λ_min(ΣQQᵀ); ρ* follows with a factor below 1 (C8), and each θ_n*
    follows ρ* with the factor λ/(λ+ν) at most.  Both minima are solved for exactly.
    """
    tally = Tally()
    delta, spare = sp.symbols("delta s", positive=True)
    tally.step(bool((1 - delta).subs(delta, 1 / (1 + spare)).is_positive) or None, "1-δ > 0 for δ = 1/(1+s) < 1")
    _imitation(tally, share, target_shift)
    return tally.evidence()


@check(
    "lem14_sampling",
    method="class",
    modulo=("extreme_value", "heine_cantor"),
    equations=(40,),
    falsehoods={
        "a_thousandth_of_the_data": {"share": Fraction(1, 1000)},
        "answers_of_another_model": {"target_shift": Fraction(1)},
    },
)
def sampled_answers_imitate_a_report(
    *, share: Fraction = Fraction(1), target_shift: Fraction = Fraction(0)
) -> Evidence:
    """For every ε there is a number of data from which on (40) holds with probability 1-δ; without noise, with 1.

    Proof.  Local PAC* (for H = {s}) puts θ_s* within κ of θ♠ with probability 1-δ, and the rest of a global minimum
    minimizes f' = Loss_s(·, θ_s*) (Lemma 1), while z♠ is the minimum, alone, of f = Loss_s(·, θ♠).  In both leave out
    the ridge term of user s, a constant; then f-f' = R(ρ, θ♠)-R(ρ, θ_s*).
    *Convex L_n and R*: on the sphere of radius ε around z♠ the continuous f exceeds f* by some 2κ'+s (extreme values),
    and |f-f'| ≤ κ' on the ball for small κ (uniform continuity); so f' has its minima in the ball.
    *Continuous L_n and R, bounded below* (by 0, as in Lemmas 29 and 30), with R(ρ, θ) ≥ c wherever ‖ρ-θ‖ ≥ D(c): by
    (41) to (47) as repaired.  Where f ≤ f*+1, or f' ≤ f*+1 with κ ≤ 1, every R(ρ, θ_n) is at most c = f*+1, that of s
    too: so ρ is within D of θ♠ or θ_s*, the θ_n within D of ρ, and all such points are in one compact set K.  On K
    without the open ball of radius ε around z♠ the least value of f is above f* (extreme values, uniqueness), so f ≥
    f*+η there for some η ≤ 1.  For small κ, |f-f'| ≤ η/3 on K (uniform continuity).  So f' exceeds f'(z♠) by η/3 on K
    outside the ball, and by 2/3 outside K.
    Instances: noiseless answers to least squares with ℓ2², exact.
    """
    tally = Tally()
    stays_near(tally)
    least, eta, first, second, third, rest = sp.symbols("f_* eta s1 s2 s3 r", nonnegative=True)
    outside, centre = least + eta + first - (eta / 3 - second), least + eta / 3 - third
    left = eta / 3 + first + second + third
    tally.step(vanishes(outside - centre - left), "not convex: f' on K outside the ball exceeds f'(z♠) by η/3 or more")
    beyond = (least + 1 + first) - centre.subs(eta, 1 - rest)
    tally.step(
        vanishes(beyond - (sp.Rational(2, 3) + rest / 3 + first + third)), "and outside K by 2/3 or more, η = 1-r"
    )
    _imitation(tally, share, target_shift)
    return tally.evidence()


@check(
    "lem3_gradient_to_model",
    part="proof_regularizers",
    method="symbolic",
    printed={"plain_l2": True},
    falsehoods={"plain_l2_meets_assumption_1": {"plain_l2": True}},
    errata=Erratum(
        place="the use of Lemma 13 in the proof of Lemma 3",
        repair="Lemma 13 needs Assumption 1, which ℓ2 does not meet (it is neither smooth nor locally strongly "
        "convex). For ℓ2 take "
        "θ♠ = ρ∞: the kink there balances every g∞ of the ball (part `l2`).",
        survives="Yes for the lemma, where `a minimum` is read as one of possibly many.",
    ),
)
def regularizers_of_lemma_3_meet_assumption_1(*, plain_l2: bool = False) -> Evidence:
    """The regularizers to which the printed proof of Lemma 3 applies Lemma 13 meet Assumption 1: ℓ2² and smooth-ℓ2
    do.
    """
    return regularizers_meet_assumption_1(plain_l2=plain_l2)
