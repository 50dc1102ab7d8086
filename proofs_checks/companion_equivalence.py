r"""Further statements on the equivalence: C6 to C9."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import product

import sympy as sp
from flint import arb, ctx
from hypothesis import strategies as st

from proofs_checks.b_equivalence import (
    model_for_a_gradient_l2,
    model_for_a_gradient_smooth,
    model_for_a_gradient_squared,
)
from proofs_checks.companion_dynamics import moduli_add_in_parallel
from proofs_checks.exact import LinearUser, add, dot, times
from proofs_checks.k_single_point import exact_problems, is_minimum, joined
from proofs_checks.registry import Evidence, Tally, at_most, check
from proofs_checks.search import PRECISION, attack, ball, is_sum_of_squares, precise, vanishes
from proofs_checks.steps import descent_converges
from proofs_checks.strategies import arguments, rational

SMALL = [Fraction(1, 4), Fraction(1), Fraction(7, 2)]


@check(
    "c7_preimage",
    part="squared_l2",
    method="symbolic",
    falsehoods={"one_lambda": {"two": 1}, "other_sign": {"sign": 1}},
)
def preimage_squared(*, two: Fraction | int = 2, sign: int = -1) -> Evidence:
    """∇_ρR(ρ, ρ-g/(2λ)) = g for ℓ2², exactly; no ν is needed."""
    return model_for_a_gradient_squared(two=two, sign=sign)


@check(
    "c7_preimage",
    part="smooth_l2",
    method="symbolic",
    falsehoods={"as_for_l2_squared": {"scaled": False}, "boundary_is_reached": {"boundary_exact": True}},
)
def preimage_smooth(*, scaled: bool = True, boundary_exact: bool = False) -> Evidence:
    """∇_ρR(ρ, ρ-g/√(λ²-‖g‖²)) = g for smooth-ℓ2, ‖g‖ < λ; on the boundary no model gives g, and the gradient of the
    one at distance r against g errs by less than λ/(2r²).
    """
    return model_for_a_gradient_smooth(scaled=scaled, boundary_exact=boundary_exact)


@check(
    "c7_preimage",
    part="l2",
    method="class",
    falsehoods={"beyond_lambda": {"reach": Fraction(2)}, "model_elsewhere": {"shift": Fraction(1, 4)}},
)
def preimage_l2(*, reach: Fraction | int = 1, shift: Fraction | int = 0) -> Evidence:
    """Every g with ‖g‖ ≤ λ is a subgradient of R(·, ρ) at ρ for ℓ2."""
    return model_for_a_gradient_l2(reach=reach, shift=shift)


@check(
    "c8_without_compactness",
    method="class",
    falsehoods={"half": {"factor": Fraction(1, 2)}, "one_more_honest_user": {"honest": 1}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def global_model_follows_the_learned_model(*, factor: Fraction | int = 1, honest: int = 0) -> Evidence:
    """ℓ2², convex losses, ν > 0, N ≥ 2: ‖ρ*(D)-ρ*(θ♠)‖ ≤ c‖θ_s*(D)-θ♠‖, c = 2λ/(2λ+m) < 1, m = (N-1)·2λν/(λ+ν).

    Proof.  ρ*(θ) solves F(ρ)+2λ(ρ-θ) = 0 (Lemma 1 for the one with data), and F is m-strongly monotone: each user's h =
    2λ(ρ-θ*) is in ∂L_n(θ*), so <Δh, Δθ*> ≥ 2ν‖Δθ*‖² and <Δh, Δρ-Δθ*> = 2λ‖Δρ-Δθ*‖², and <Δh, Δρ> ≥ (2λν/(λ+ν))‖Δρ‖²,
    as moduli add in parallel.  With Δρ, Δθ: 2λ<Δθ-Δρ, Δρ> ≥ m‖Δρ‖², and (2λ)²‖Δθ‖² - (2λ+m)²‖Δρ‖² is
    ‖2λΔθ-(2λ+m)Δρ‖² plus 2(2λ+m) times the slack.  Sharp for users without data.  For ν = 0, where both minima exist,
    the same gives c = 1.
    """
    tally = Tally()
    lam, m = sp.symbols("lambda m", positive=True)
    drho, dtheta = sp.symbols("drho dtheta", real=True)
    if factor >= 1 and honest == 0:
        slack = 2 * lam * (dtheta - drho) * drho - m * drho**2
        claimed = (2 * lam) ** 2 * dtheta**2 - (2 * lam + m) ** 2 * drho**2
        square = 2 * lam * dtheta - (2 * lam + m) * drho
        tally.step(
            is_sum_of_squares(claimed - 2 * (2 * lam + m) * slack, [(sp.Integer(1), square)]), "the bound follows"
        )
        moduli_add_in_parallel(tally)
        nu_ = sp.Symbol("nu", positive=True)
        parallel = 1 / (1 / (2 * nu_) + 1 / (2 * lam))
        tally.step(vanishes(parallel - 2 * lam * nu_ / (lam + nu_)), "1/(1/(2ν)+1/(2λ)) = 2λν/(λ+ν)")
    positive = rational(Fraction(1, 1000), 9)
    attack(
        tally,
        "dρ*/dθ_s for others whose local losses have curvature 2ν+h",
        arguments(lam=positive, nu=positive, h=rational(0, 100), others=st.integers(1, 9)),
        lambda lam, nu, h, others: (
            2 * lam / (2 * lam + others * 2 * lam * (2 * nu + h) / (2 * lam + 2 * nu + h))
            <= factor * 2 * lam / (2 * lam + (others + honest) * 2 * lam * nu / (lam + nu))
        ),
    )
    for lam_value, nu, others in product(SMALL, SMALL, [1, 3, 10]):
        modulus = others * 2 * lam_value * nu / (lam_value + nu)
        claimed_modulus = (others + honest) * 2 * lam_value * nu / (lam_value + nu)
        true = 2 * lam_value / (2 * lam_value + modulus)
        bound = factor * 2 * lam_value / (2 * lam_value + claimed_modulus)
        tally.claim(at_most(true, bound), "dρ*/dθ_s for users without data", lam=lam_value, nu=nu, others=others)
    return tally.evidence()


@check(
    "c9_reach",
    part="bound",
    method="symbolic",
    falsehoods={"one_attacker_is_enough": {"counted": 1}, "half": {"factor": Fraction(1, 2)}},
)
def reach_is_bounded(*, counted: int = 0, factor: Fraction | int = 1) -> Evidence:
    """At a global minimum with f attackers, ‖F(ρ*)‖ ≤ fλ for ℓ2 and smooth-ℓ2: F plus f vectors of length at most λ
    is 0.  The models with ‖F‖ ≤ fλ are a closed set, so limits of such minima obey it too.

    Proof.  What an attacker adds, min_θ L_s(θ)+R(ρ, θ), is λ-Lipschitz in ρ as R is, so its subgradients have length λ
    at most; then the triangle inequality.  F is continuous.  On instances (d = 1) the attackers all pull with λ in one
    direction, and F = -fλ balances them.
    """
    tally = Tally()
    lam, u, v = sp.symbols("lambda u v", real=True)
    if not counted and factor == 1:
        first, second, count = sp.symbols("a b f", nonnegative=True)  # the lengths of a sum of f, and of one more
        slack = (first + second) ** 2 - (u + v) ** 2
        left = (first**2 - u**2) + (second**2 - v**2) + 2 * (first * second - u * v)
        tally.step(vanishes(slack - left), "‖u+v‖ <= a+b for ‖u‖ <= a, ‖v‖ <= b (Cauchy-Schwarz)")
        tally.step(
            vanishes((first + second).subs({first: count * lam, second: lam}) - (count + 1) * lam), "by induction"
        )
    for attackers, lam_value in product([1, 2, 5], SMALL):
        size = attackers * lam_value
        bound = factor * (counted or attackers) * lam_value
        tally.claim(
            at_most(size, bound),
            "|F(ρ*)| where f attackers pull with λ each, ℓ2",
            attackers=attackers,
            lam=lam_value,
            F=size,
        )
    return tally.evidence()


@check(
    "c9_reach",
    part="reached",
    method="class",
    falsehoods={
        "beyond_f_lambda": {"beyond": Fraction(11, 10)},
        "one_attacker_fewer": {"fewer": 1},
        "a_third_of_the_users": {"quorum": Fraction(1, 3)},
    },
    strengthen=lambda excess: {"beyond": 1 + excess},
)
def reach_is_attained(*, beyond: Fraction | int = 1, fewer: int = 0, quorum: Fraction = Fraction(1, 2)) -> Evidence:
    """Data of f attackers make ρ a global minimum if ‖F(ρ)‖ ≤ fλ for ℓ2, ‖F(ρ)‖ < fλ for smooth-ℓ2, and always for ℓ2².
    For f ≥ N/2 that is every ρ.

    Proof.  Let every attacker report -F/f: let it learn θ♠ = ρ for ℓ2, ρ+F/(2λf) for ℓ2², ρ+F/√(f²λ²-‖F‖²) for
    smooth-ℓ2 (C7).  The data point (w, wᵀθ♠+1) with w = F/f+2νθ♠ has the local gradient -w+2νθ♠ = -F/f at θ♠, which the
    pull of R balances (for ℓ2 the kink, as ‖F‖/f ≤ λ); in ρ the f forces add up to -F.  The loss is convex, so this is
    a minimum, in every dimension and for all convex losses of the others.
    *Uniqueness*, ν > 0: for ℓ2² and smooth-ℓ2 the loss is strictly convex.  For ℓ2 and ‖F(ρ)‖ < fλ, near ρ the
    attackers' best models are the global model itself, so the minimized loss is e+ΣL_s there, which is strictly convex;
    for ‖F(ρ)‖ = fλ there may be other minima (Theorem 1, ties).
    *Closure*, smooth-ℓ2, ν > 0: {‖F‖ ≤ fλ} is the closure of {‖F‖ < fλ}: for F ≠ 0 a step to ρ' = ρ-tF, t < 2/L, gives
    ‖F'‖² ≤ ‖F‖²-(2/(tL)-1)‖F'-F‖² by cocoercivity, and F' ≠ F, as e is strictly convex.
    *f ≥ N/2*: F is a sum of N-f ≤ f honest reports of length at most λ, and less than λ for smooth-ℓ2.
    """
    tally = Tally()
    if beyond == 1 and not fewer and quorum == Fraction(1, 2):
        force, model, count, nu_, inner = sp.symbols("F theta f nu s", positive=True)
        query = force / count + 2 * nu_ * model
        local_gradient = (inner - (inner + 1)) * query + 2 * nu_ * model  # inner = wᵀθ♠
        tally.step(vanishes(local_gradient + force / count), "the local gradient at θ♠ is -F/f")
        tally.step(vanishes(force + count * local_gradient), "F+Σu = 0")
        lam_, slack = sp.symbols("lambda s", positive=True)
        tally.step(vanishes(2 * lam_ * (force / (2 * lam_ * count)) - force / count), "ℓ2²: the pull at θ♠ is F/f")
        away = force / sp.sqrt(count**2 * lam_**2 - force**2)
        pull_squared = lam_**2 * away**2 / (1 + away**2)
        tally.step(vanishes(sp.simplify(pull_squared - (force / count) ** 2)), "smooth-ℓ2: so it is, squared")
        step, smooth, gap, along = sp.symbols("t L dF dF.F", real=True)
        cocoercive = -step * along - gap**2 / smooth  # <F'-F, ρ'-ρ>-‖F'-F‖²/L >= 0
        fall = force**2 - (force**2 + 2 * along + gap**2)
        tally.step(
            vanishes(fall - (2 / (step * smooth) - 1) * gap**2 - 2 * cocoercive / step),
            "‖F‖²-‖F'‖² >= (2/(tL)-1)‖F'-F‖²",
        )
        tally.step(
            vanishes(count * lam_ - ((2 * count - slack) - count) * lam_ - slack * lam_), "N = 2f-s: (N-f)λ <= fλ"
        )
    for attackers, lam, nu, part in product(
        [1, 2, 4], SMALL, [Fraction(1, 2)], [Fraction(0), Fraction(1, 3), Fraction(1)]
    ):
        used = attackers - fewer
        if used == 0:
            tally.skip()
            continue
        f = beyond * part * attackers * lam
        rho = Fraction(2)
        w = f / used + 2 * nu * rho
        local = (w * rho - (w * rho + 1)) * w + 2 * nu * rho
        balanced = f + used * local == 0
        tally.claim(
            balanced and abs(local) <= lam,
            "F + Σu = 0 with |u| <= λ, u the local gradient at the kink",
            attackers=used,
            lam=lam,
            F=f,
            local=local,
        )
    # ℓ2², from the data to the exact joint minimum.
    for (problem, target), attackers in product(exact_problems(4), [1, 3]):
        honest = problem.honest_gradient(-1, target)
        if honest is None or attackers - fewer == 0:
            tally.skip()
            continue
        report = add(target, honest, 1 / (2 * problem.lam * attackers))
        w_vector = add(times(Fraction(1, attackers), honest), report, 2 * problem.nu)
        point = LinearUser([w_vector], [dot(w_vector, report) + 1])
        for _ in range(attackers - fewer):
            problem = joined(problem, point)
        tally.claim(
            is_minimum(problem, target), "ρ* = target, ℓ2²", attackers=attackers - fewer, target=target, w=w_vector
        )
    for users in range(2, 9):
        attackers = -(-users * quorum.numerator // quorum.denominator)
        tally.claim(at_most(users - attackers, attackers), "(N-f)λ <= fλ for f >= N/2", N=users, f=attackers)
    return tally.evidence()


@check(
    "c6_four_way",
    method="class",
    falsehoods={
        "reach_is_half": {"reach": Fraction(1, 2)},
        "reach_is_twice": {"reach": Fraction(2)},
        "always_reached": {"reach": Fraction(10**6)},
    },
)
@precise
def four_ways_agree(*, reach: Fraction | int = 1) -> Evidence:
    """ν > 0, N ≥ 2, smooth-ℓ2, losses convex, smooth, nonnegative and locally PAC*: these are the same: a converging
    attack reaches θ† at a constant rate; ‖F(θ†)‖ ≤ λ; the counter-gradient attack does at every constant rate η <
    1/(2L); for every ε some dataset puts ρ* within ε of θ†.  For ℓ2² all four always hold.

    Proof.  The first, the second and the fourth: Theorem 1, whose proof decides both sides by ‖F(θ†)‖ ≤ λ (the report
    -F(θ†) for ever converges by C4).  The third: the attack's limit is a minimizer of e+λ‖·-θ†‖ (C1), and the only one:
    L_n(θ)+R(ρ, θ) is strictly convex in (ρ, θ) for ν > 0, so e is in ρ.  θ† is it exactly if 0 is in F(θ†) plus the
    ball of radius λ.  ℓ2²: GRAD is everything, and C1 says that the limit is θ†.
    Instances, in ball arithmetic: d = 1, three honest users with data or without; targets with |F| within 5 % of λ are
    left out.  The attack ends within 10⁻³ of the target or farther than 10⁻²; a data point puts ρ* within 10⁻⁶, or no
    dataset can, as |F| > λ up to 10⁻² from the target while every local model pulls with less than λ.
    """
    tally = Tally()
    if reach == 1:
        value, slack, length, along = sp.symbols("e s x F_along", real=True)
        lam = sp.Symbol("lambda", positive=True)
        gain = (value + slack - along) + lam * length - value
        tally.step(
            vanishes(gain - slack - (lam * length - along)), "‖F(θ†)‖ <= λ: e(ρ)+λ‖ρ-θ†‖-e(θ†) = s+(λ‖x‖+Fᵀx) >= 0"
        )
        size, step = sp.symbols("F t", positive=True)
        tally.step(vanishes((lam * step - size * step) + (size - lam) * step), "‖F(θ†)‖ > λ: a step along -F lowers it")
        descent_converges(tally)
    for lam_value, target, size, distance, data in _four_ways():
        if not (size > ball(Fraction(21, 20) * lam_value) or size < ball(Fraction(19, 20) * lam_value)):
            tally.skip()
            continue
        attack = at_most(size, ball(reach * lam_value))
        reached = True if distance < ball(Fraction(1, 1000)) else False if distance > ball(Fraction(1, 100)) else None
        agree = None if None in (attack, reached, data) else attack is reached and attack is data
        tally.claim(
            agree,
            "|F(θ†)| <= λ, the counter-gradient attack reaches θ†, and a dataset does",
            lam=lam_value,
            target=target,
            F=size.mid().str(8),
            distance=distance.mid().str(8),
            data=data,
        )
    return tally.evidence()


_HONEST = ((Fraction(3), Fraction(1)), (Fraction(1, 2), Fraction(-2)), (Fraction(0), Fraction(0)))
"""The honest users of C6: L(θ) = νθ² + (h/2)(θ-a)², as pairs h, a."""
_NU = Fraction(1, 2)


def _pull(rho: arb, h: arb, a: arb, lam: Fraction) -> arb:
    """Enclose the honest report λz/√(1+z²) at ρ, where (h+2ν)(ρ-z)-ha = λz/√(1+z²).

    The equation is k(z) = z+λz/((h+2ν)√(1+z²)) - m = 0 with k' ≥ 1, so that |z-z_0| ≤ |k(z_0)| for every z_0.
    """
    stiff = h + 2 * ball(_NU)
    middle = rho - h * a / stiff
    weight = ball(lam) / stiff

    def gap(z: arb, at: arb) -> arb:
        return z + weight * z / (1 + z * z).sqrt() - at

    z, at = middle.mid(), middle.mid()
    for _ in range(60):
        move = gap(z, at) / (1 + weight / (1 + z * z).sqrt() ** 3)
        z = (z - move.mid()).mid()
        if abs(move) < ball(Fraction(1, 2 ** (PRECISION - 20))):
            break
    z = z + arb(0, abs(gap(z, middle)).upper())
    return ball(lam) * z / (1 + z * z).sqrt()


def _honest_sum(rho: arb, lam: Fraction) -> arb:
    return sum((_pull(rho, ball(h), ball(a), lam) for h, a in _HONEST), arb(0))


@cache
@precise
def _four_ways() -> tuple[tuple[Fraction, Fraction, arb, arb, bool | None], ...]:
    """Return for each instance of C6: λ, θ†, |F(θ†)|, how far the attack ends from θ†, and whether data reach it."""
    found = []
    for lam in (Fraction(1, 2), Fraction(2)):
        # Each honest report is λ-Lipschitz in ρ (C3), so L <= 3λ.
        eta = Fraction(2, 5) / (3 * lam)
        for target in (Fraction(-3), Fraction(-1, 2), Fraction(0), Fraction(3, 10), Fraction(1), Fraction(4)):
            f = _honest_sum(ball(target), lam)
            found.append((lam, target, abs(f), _end_of_the_attack(lam, target, eta), _data_reach(lam, target, f)))
    return tuple(found)


def _end_of_the_attack(lam: Fraction, target: Fraction, eta: Fraction) -> arb:
    """Enclose |ρ^t-θ†| after 60 rounds of the counter-gradient attack from 0."""
    rho, last = arb(0), arb(0)
    with ctx.workprec(4 * PRECISION):  # a round may double the radius of the ball
        for _ in range(60):
            report = ((rho - ball(target)) / ball(eta) - last).min(ball(lam)).max(ball(-lam))
            last = _honest_sum(rho, lam)
            rho = rho - ball(eta) * (last + report)
    return abs(rho - ball(target))


def _data_reach(lam: Fraction, target: Fraction, f: arb) -> bool | None:
    """Decide whether a data point puts ρ* within 10⁻⁶ of the target; False if no dataset puts it within 10⁻²."""
    if abs(f) < ball(lam):
        model = ball(target) + f / (ball(lam) ** 2 - f**2).sqrt()
        w = f + 2 * ball(_NU) * model
        h, a = w * w, model + 1 / w if not w.contains(0) else arb(0)
        slopes = []
        for side in (-1, 1):
            rho = ball(target + Fraction(side, 10**6))
            slopes.append(_honest_sum(rho, lam) + _pull(rho, h, a, lam))
        return True if slopes[0] < 0 and slopes[1] > 0 else None
    # F increases: if it exceeds λ in size on the side towards 0 of the target, it does on both.
    near = [_honest_sum(ball(target + Fraction(side, 100)), lam) for side in (-1, 1)]
    return False if all(abs(value) > ball(lam) for value in near) else None
