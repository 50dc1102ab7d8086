r"""The statements of the main text whose proofs are short, and the equivalence itself.

The two sides of Theorem 1 are decided independently.  *Attack*: a constant plausible report :math:`g =
-F(\theta^\dagger)` exists exactly if :math:`F(\theta^\dagger)` lies in GRAD.  *Data*: a dataset is constructed and
the gradient of the whole global loss is seen to vanish, in exact arithmetic; or no dataset can do it, because the
pull of any local model is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import sympy as sp

from proofs_checks.b_equivalence import PYTHAGOREAN, model_for_a_gradient_squared
from proofs_checks.c_convergence import global_model_converges
from proofs_checks.exact import LinearProblem, LinearUser, Vector, add, dot, times
from proofs_checks.k_single_point import exact_problems, is_minimum, joined, reported_model
from proofs_checks.registry import Erratum, Evidence, Tally, at_most, both, check, less
from proofs_checks.search import attack as attack_by_chance
from proofs_checks.search import is_sum_of_squares, rationals, vanishes
from proofs_checks.steps import descent_converges, limit_equation, lipschitz
from proofs_checks.strategies import arguments, rational, targeted
from theory import L2, LeastSquares, Problem, SmoothL2, SquaredL2, UserDataset


@check(
    "eq1_global_loss",
    method="certified",
    equations=(1,),
    falsehoods={"mean_over_users": {"mean": True}, "pull_of_one_user": {"pulls": 1}},
)
def global_loss_is_a_sum(*, mean: bool = False, pulls: int = 3) -> Evidence:
    """`Problem.value` is Σ L_n + Σ R, on dyadic numbers, where floats are exact."""
    tally = Tally()
    users = [UserDataset([[1.0]], [2.0]), UserDataset([[0.5], [2.0]], [1.0, -1.0]), UserDataset.empty(1)]
    problem = Problem(users, LeastSquares(), SquaredL2(0.5), 0.25)
    rho, thetas = np.array([1.5]), np.array([[2.0], [-1.0], [0.5]])
    expected = Fraction(0)
    for n, (user, theta) in enumerate(zip(users, thetas[:, 0], strict=True)):
        t = Fraction(theta)
        expected += t**2 / 4 + sum(
            (Fraction(q) * t - Fraction(a)) ** 2 / 2 for q, a in zip(user.Q[:, 0], user.A, strict=True)
        )
        expected += (Fraction(3, 2) - t) ** 2 / 2 if n < pulls else 0
    value = Fraction(problem.value(rho, thetas))
    tally.claim(
        value == expected / (3 if mean else 1),
        "Problem.value against the sum in rationals",
        value=value,
        expected=expected,
    )
    return tally.evidence()


@check(
    "eq5_local_loss",
    method="certified",
    equations=(5,),
    falsehoods={"mean_over_data": {"mean": True}, "half_the_ridge": {"ridge": Fraction(1, 2)}},
)
def local_loss_is_a_sum_over_data(*, mean: bool = False, ridge: Fraction | int = 1) -> Evidence:
    """A user alone, at ρ = θ: the loss is ν‖θ‖² + Σ(Qᵀθ-A)²/2; repeating every point doubles the data part exactly."""
    tally = Tally()
    q, a, theta = [1.0, 0.5, 4.0], [2.0, -1.0, 0.25], 1.5
    for copies in (1, 2):
        user = UserDataset(np.array([q * copies]).T, a * copies)
        value = Fraction(
            Problem([user], LeastSquares(), SquaredL2(1.0), 0.5).value(np.array([theta]), np.array([[theta]]))
        )
        data = sum((Fraction(x) * Fraction(theta) - Fraction(y)) ** 2 / 2 for x, y in zip(q, a, strict=True)) * copies
        expected = ridge * Fraction(theta) ** 2 / 2 + data / (3 * copies if mean else 1)
        tally.claim(
            value == expected, "local loss against the sum in rationals", copies=copies, value=value, expected=expected
        )
    return tally.evidence()


@check(
    "def_regularization",
    method="symbolic",
    falsehoods={"gradient_without_two": {"two": 1}, "smooth_without_root": {"root": False}},
)
def regularizers_and_their_gradients(*, two: int = 2, root: bool = True) -> Evidence:
    """Values and gradients of the three regularizers; each is least at θ = ρ.  The code agrees where all roots are
    rational.
    """
    tally = Tally()
    lam, r = sp.symbols("lambda r", positive=True)
    if two == 2 and root:
        for value, slope in (
            (lam * r**2, 2 * lam * r),
            (lam * r, lam),
            (lam * sp.sqrt(1 + r**2), lam * r / sp.sqrt(1 + r**2)),
        ):
            tally.step(vanishes(sp.diff(value, r) - slope), f"the derivative of {value} in r is {slope}")
            tally.step(bool(sp.sympify(slope).is_positive) or None, "and positive: least at r = 0")
    rho, zero = np.zeros(1), np.zeros(1)
    for z, length in [(Fraction(3, 4), Fraction(5, 4))]:
        theta = np.array([-float(z)])
        squared, plain, smooth = SquaredL2(2.0), L2(2.0), SmoothL2(2.0)
        tally.claim(Fraction(float(squared.gradient(rho, theta)[0])) == two * 2 * z, "gradient of ℓ2²", z=z)
        tally.claim(Fraction(float(plain.value(rho, theta))) == 2 * z, "value of ℓ2", z=z)
        tally.claim(
            Fraction(float(smooth.value(rho, theta))) == 2 * (length if root else length**2), "value of smooth-ℓ2", z=z
        )
        for reg in (squared, plain, smooth):
            tally.claim(
                less(float(reg.value(rho, zero)), float(reg.value(rho, theta))), f"{reg.name} is least at θ = ρ", z=z
            )
    return tally.evidence()


@check(
    "grad_set",
    method="symbolic",
    falsehoods={
        "larger_ball": {"radius": Fraction(101, 100)},
        "smaller_ball": {"radius": Fraction(99, 100)},
        "open_ball": {"closed": False},
        "l2_without_its_kink": {"kink": False},
    },
    strengthen=lambda excess: {"radius": 1 + excess},
)
def plausible_gradients(*, radius: Fraction | int = 1, closed: bool = True, kink: bool = True) -> Evidence:
    """The lengths of ∇_ρR are all numbers for ℓ2², and dense in [0, λ] for smooth-ℓ2; ℓ2 has λ, and [0, λ] at its kink.

    Proof.  All directions occur, as R depends on ‖ρ-θ‖ alone.  ℓ2²: 2λr = g at r = g/(2λ).  smooth-ℓ2: λr/√(1+r²) = g
    has the solution r = g/√(λ²-g²) for each g < λ, and is below λ; so the closure is the closed ball.  ℓ2: u is a
    subgradient of λ‖·‖ at 0 exactly if ‖u‖ ≤ λ, as λ‖x‖-uᵀx ≥ (λ-‖u‖)‖x‖, with equality at x = u; elsewhere the
    gradient has length λ.  (Gradients alone would make the sphere.)
    """
    tally = Tally()
    g, lam, r = sp.symbols("g lambda r", positive=True)
    pull = lam * r / sp.sqrt(1 + r**2)
    if radius == 1 and closed:
        tally.step(
            vanishes(sp.simplify((pull.subs(r, g / sp.sqrt(lam**2 - g**2))) ** 2 - g**2)),
            "every length below λ is attained",
        )
        tally.step(vanishes(lam**2 - pull**2 - lam**2 / (1 + r**2)), "no length reaches λ")
        tally.step(bool(sp.limit(pull, r, sp.oo) == lam) or None, "λ is the limit")
        tally.step(vanishes(sp.diff(lam * r**2, r).subs(r, g / (2 * lam)) - g), "ℓ2² has every length")
        u1, u2, x1, x2 = sp.symbols("u1 u2 x1 x2", real=True)
        gram = (u1**2 + u2**2) * (x1**2 + x2**2) - (u1 * x1 + u2 * x2) ** 2
        tally.step(vanishes(gram - (u1 * x2 - u2 * x1) ** 2), "Cauchy-Schwarz: λ‖x‖-uᵀx >= (λ-‖u‖)‖x‖")
        tally.step(vanishes(lam * g - g**2 - (lam - g) * g), "with equality at x = u, where it is negative if ‖u‖ > λ")
    # Within the ball of the claimed radius a gradient is to be found as close as we like; beyond it none.
    for size in [Fraction(0), Fraction(1, 2), Fraction(1) - Fraction(1, 10**6), Fraction(1), radius * Fraction(1)]:
        inside = size <= radius if closed else size < radius
        near = size <= 1  # the closure of [0, λ), λ = 1
        tally.claim(inside == near, "in the claimed set exactly if it is a limit of gradients, λ = 1", length=size)
    for size in [Fraction(0), Fraction(1, 2), Fraction(1)]:
        tally.claim(size == 1 or kink, "ℓ2 has every length up to λ, λ = 1", length=size)
    for size in [Fraction(1) + Fraction(1, 10**13), (1 + Fraction(radius)) / 2, Fraction(2)]:
        tally.claim((size <= radius) == (size <= 1), "beyond λ nothing is plausible, λ = 1", length=size)
    return tally.evidence()


@check(
    "eq6_estimate",
    method="symbolic",
    equations=(6,),
    falsehoods={"other_sign": {"sign": -1}, "own_report_kept": {"own": 0}},
)
def estimate_is_exact(*, sign: int = 1, own: int = 1) -> Evidence:
    """(ρ^{t-1}-ρ^t)/η_{t-1} - g_s^{t-1} is the sum of the others' reports at t-1, for every rate."""
    tally = Tally()
    rho, others, mine, eta = sp.symbols("rho F g eta", positive=True)
    after = rho - eta * (others + mine)
    tally.step(vanishes(sign * (rho - after) / eta - own * mine - others), "the update solved for the others' sum")
    for a, b, c, d in rationals(6, 10, 4):
        rate = abs(d) + Fraction(1, 10)
        new = a - rate * (b + c)
        tally.claim(sign * (a - new) / rate - own * c == b, "estimate = others' sum", rho=a, others=b, own=c, eta=rate)
    return tally.evidence()


def _clip(x: Fraction, bound: Fraction) -> Fraction:
    return max(-bound, min(bound, x))


@check(
    "prop2_cga_projection",
    method="symbolic",
    falsehoods={
        "no_clipping": {"clips": False},
        "h_with_the_other_sign": {"sign": 1},
        "scaled_to_half": {"scale": Fraction(1, 2)},
    },
    strengthen=lambda excess: {"scale": 1 - excess},
)
def attack_is_a_projection(*, clips: bool = True, sign: int = -1, scale: Fraction | int = 1) -> Evidence:
    """Over g in GRAD, ‖ρ-η(ĝ+g)-θ†‖ is least at the projection of h = g_s^{t-1}+(ρ^t-θ†)/η-(ρ^{t-1}-ρ^t)/η'.

    Proof.  ρ-η(ĝ+g)-θ† = η(h-g) with h = (ρ-θ†)/η-ĝ and ĝ as in (6).  For ℓ2² g = h is plausible.  A ball's projection
    is h·min(1, λ/‖h‖): with ‖h‖ = λ+s and ‖g‖ = λ-t, ‖h-g‖² = s²+2st+t²+2(‖h‖‖g‖-hᵀg) ≥ s², with equality only for
    t = 0 and g in the direction of h.
    """
    tally = Tally()
    rho, before, target, mine, eta, eta0, g = sp.symbols("rho rho0 target g0 eta eta0 g", positive=True)
    estimate = (before - rho) / eta0 - mine
    h = mine + (rho - target) / eta + sign * (before - rho) / eta0
    tally.step(vanishes(rho - eta * (estimate + g) - target - eta * (h - g)), "the objective is η‖h-g‖")
    bound, beyond, short, aside = sp.symbols("lambda s t slack", nonnegative=True)  # hᵀg = ‖h‖‖g‖-slack
    longer, shorter = bound + beyond, bound - short
    squared = longer**2 + shorter**2 - 2 * (longer * shorter - aside)
    tally.step(
        vanishes(squared - beyond**2 - (2 * beyond * short + short**2 + 2 * aside)), "‖h-g‖ >= ‖h‖-λ for g in the ball"
    )
    for a, b, c, d in rationals(7, 12, 4):
        lam, rate = Fraction(1), Fraction(1, 2)
        direction = c + (a - b) / rate + sign * (d - a) / rate
        report = _clip(direction, lam * scale) if clips else direction
        guess = (d - a) / rate - c

        def cost(
            x: Fraction, a: Fraction = a, b: Fraction = b, guess: Fraction = guess, rate: Fraction = rate
        ) -> Fraction:
            return abs(a - rate * (guess + x) - b)

        best = min(cost(Fraction(k, 20)) for k in range(-20, 21))
        tally.claim(
            both(at_most(abs(report), lam), at_most(cost(report), best)),
            "plausible, and no worse than any report on a grid, d = 1, λ = 1",
            rho=a,
            target=b,
            last=c,
            before=d,
            report=report,
        )

    def margin(h: Fraction, other: Fraction) -> Fraction:
        chosen = _clip(h, scale * Fraction(1)) if clips else h
        if abs(chosen) > 1:
            return Fraction(-1)
        return abs(h - other) - abs(h - chosen)

    attack_by_chance(
        tally,
        "the report is plausible, and no plausible one comes closer, d = 1, λ = 1",
        arguments(h=rational(), other=rational(-1, 1)),
        lambda **drawn: margin(**drawn) >= 0,
        margin,
    )
    return tally.evidence()


@check(
    "eq7_counter_gradient",
    method="symbolic",
    equations=(7,),
    falsehoods={"towards_the_origin": {"to_target": False}},
)
def counter_gradient_aims_at_the_target(*, to_target: bool = True) -> Evidence:
    """If the others repeat their last reports, an unbounded attack lands on the target in one round.  (As printed the
    target is θ_s^t: the dagger was lost.)
    """
    tally = Tally()
    now, sum_of_others, goal, rate = sp.symbols("rho F target eta", positive=True)
    if to_target:
        wanted = (now - goal) / rate - sum_of_others
        tally.step(vanishes(now - rate * (sum_of_others + wanted) - goal), "ρ-η(F+h) = θ† with h = (ρ-θ†)/η-F")
    for rho, others, target, eta in rationals(8, 10, 4):
        if eta <= 0:
            tally.skip()
            continue
        report = (rho - (target if to_target else 0)) / eta - others
        tally.claim(
            rho - eta * (others + report) == target, "ρ^{t+1} = θ†", rho=rho, others=others, target=target, eta=eta
        )
    return tally.evidence()


@check(
    "prop3_partial_honesty",
    method="symbolic",
    falsehoods={"half_the_length": {"length": Fraction(1, 2)}, "away_from_the_target": {"sign": -1}},
    strengthen=lambda excess: {"length": 1 - excess},
)
def limit_report_points_at_the_target(*, length: Fraction | int = 1, sign: int = 1) -> Evidence:
    """P(g+v/η) = g with v = ρ∞-θ† ≠ 0 holds exactly for g = λv/‖v‖.

    Proof.  Where reports and models converge, h^t = g^{t-1}+(ρ^t-θ†)/η-(ρ^{t-1}-ρ^t)/η tends to g+v/η, and P is
    continuous; so the limit report has P(g+v/η) = g.  If ‖g+v/η‖ ≤ λ the projection is g+v/η ≠ g.  Else g = (g+v/η)s
    with 0 < s < 1 and ‖g‖ = λ, so g(1-s) = sv/η: g is a positive multiple of v, of length λ.
    """
    tally = Tally()
    lam, v, eta = sp.symbols("lambda v eta", positive=True)
    g = sign * sp.Rational(length) * lam
    moved = g + v / eta
    if sign == 1 and length == 1:
        tally.step(vanishes(moved * lam / moved - lam), "λ·h/‖h‖ = λ for h = λ+v/η > 0")
        tally.step(bool((moved - lam).is_positive) or None, "‖h‖ > λ, so the projection scales")
    attack_by_chance(
        tally,
        "no other report than λv/|v| is fixed, λ = 2, d = 1",
        arguments(v=rational(Fraction(1, 1000), 9), eta=rational(Fraction(1, 1000), 9), g=rational(-2, 2)),
        lambda v, eta, g: (_clip(g + v / eta, Fraction(2)) == g) is (g == sign * length * 2),
    )
    for value, rate, sense in product([Fraction(1, 1000), Fraction(5)], [Fraction(1, 10), Fraction(3)], (1, -1)):
        report = sign * sense * length * Fraction(2)
        tally.claim(
            _clip(report + sense * value / rate, Fraction(2)) == report,
            "P(g+v/η) = g, λ = 2, d = 1",
            v=sense * value,
            eta=rate,
            g=report,
        )
        others = [Fraction(k, 4) for k in range(-8, 9) if Fraction(k, 4) != sense * 2]
        if length == 1 and sign == 1:
            fixed = [x for x in others if _clip(x + sense * value / rate, Fraction(2)) == x]
            tally.claim(not fixed, "no other report is fixed", v=sense * value, eta=rate, fixed=fixed)
    return tally.evidence()


@check(
    "prop1_convergence",
    method="class",
    modulo=("extreme_value",),
    printed={"interior": False, "nu": 0},
    falsehoods={
        "nu_zero": {"nu": 0},
        "limit_on_the_boundary": {"interior": False},
        "step_beyond_two_over_l": {"reach": Fraction(5, 2)},
    },
    errata=Erratum(
        place="Proposition 1",
        repair="Suppose ν > 0 in the local losses (with L_n = 0 nothing holds ρ), and for smooth-ℓ2 with N = 2 that "
        "the limit gradient is inside the "
        "ball: ‖g∞‖ < λ.",
        survives="Yes in the setting of section 4 (ν > 0) with at least two honest users, or with ℓ2². An attacker on "
        "the boundary of GRAD against one "
        "honest user makes ρ run to infinity.",
    ),
)
def global_model_converges_with_the_reports(
    *, interior: bool = True, nu: int = 1, reach: Fraction | int = 1
) -> Evidence:
    """With ν > 0, and ‖g∞‖ < λ if N = 2 with smooth-ℓ2, the limiting loss has a minimizer; so Lemma 15 applies.

    Proof.  ℓ2² and smooth-ℓ2 meet Assumption 1.  The convex part of L_n is above an affine function: L_n(θ) ≥
    ν‖θ‖²-a‖θ‖-b.  For smooth-ℓ2, √(1+‖ρ-θ‖²) ≥ ‖ρ‖-‖θ‖; so each min_θ L_n(θ)+R(ρ, θ) is at least λ‖ρ‖-b-(a+λ)²/(4ν),
    and e(ρ)+g∞ᵀρ at least ((N-1)λ-‖g∞‖)‖ρ‖ minus a constant.  ‖g∞‖ ≤ λ, so the slope is positive, for N ≥ 3 always.
    For ℓ2², ‖ρ‖² ≤ (1+2λ/ν)‖ρ-θ‖²+(1+ν/(2λ))‖θ‖² bounds λ‖ρ-θ‖²+(ν/2)‖θ‖² from below by λν‖ρ‖²/(2λ+ν), and (ν/2)‖θ‖²
    takes in a‖θ‖.  Either way the limiting loss, which is continuous, tends to infinity: it has a minimum.
    The witnesses are those of Lemma 15: L_n = 0 (convex and smooth) with a constant report; N = 2 on the boundary.
    """
    tally = Tally()
    if interior and nu and reach <= 1:
        size, a, b, ridge, lam, far = sp.symbols("|theta| a b nu lambda |rho|", positive=True)
        local = ridge * size**2 - a * size - b + lam * (far - size)
        square = ridge * (size - (a + lam) / (2 * ridge)) ** 2
        tally.step(
            vanishes(local - (lam * far - b - (a + lam) ** 2 / (4 * ridge)) - square),
            "smooth-ℓ2: L_n(θ)+R(ρ, θ) >= λ‖ρ‖-b-(a+λ)²/(4ν)",
        )
        rho, theta = sp.symbols("rho theta", real=True)
        form = lam * (rho - theta) ** 2 + ridge / 2 * theta**2 - lam * ridge / (2 * lam + ridge) * rho**2
        weights = [((2 * lam + ridge) / 2, theta - 2 * lam / (2 * lam + ridge) * rho)]
        tally.step(is_sum_of_squares(form, weights), "ℓ2²: λ‖ρ-θ‖²+(ν/2)‖θ‖² >= λν/(2λ+ν)·‖ρ‖²")
        half = ridge / 2 * (size - a / ridge) ** 2
        tally.step(vanishes(ridge / 2 * size**2 - a * size + a**2 / (2 * ridge) - half), "(ν/2)‖θ‖²-a‖θ‖ >= -a²/(2ν)")
    tally.adopt(global_model_converges(interior=interior, nu=nu, reach=reach))
    return tally.evidence()


@check(
    "claim_model_is_gradient_attack",
    method="class",
    printed={"plain_l2": True},
    falsehoods={
        "step_too_long": {"reach": Fraction(5, 2)},
        "report_of_another_model": {"shift": 1},
        "for_l2_too": {"plain_l2": True},
    },
    errata=Erratum(
        place="section 3.2, the remark that any model attack is achieved by the honest gradients of its model, for ℓ2",
        repair="Suppose ℓ2² or smooth-ℓ2 (and ν > 0). Under ℓ2 the honest gradients of θ♠ have length λ wherever ρ is "
        "not θ♠, so where the minimum is θ♠ itself and ‖F(θ♠)‖ < λ they do not converge at any constant rate, unless ρ "
        "meets θ♠ exactly.",
        survives="Yes, with other reports: the projection of (ρ-ηF(ρ)-θ♠)/η onto the ball (Theorem 1, part `l2`).",
    ),
)
def model_attack_is_a_converging_gradient_attack(
    *, reach: Fraction | int = 1, shift: int = 0, plain_l2: bool = False
) -> Evidence:
    """Reporting ∇_ρR(ρ^t, θ♠) is a converging gradient attack whose limit is the minimum of the modified loss.

    Proof for ℓ2² and smooth-ℓ2, ν > 0, local models optimized in each round.  The rounds are then gradient descent on
    the minimized modified loss e+R(·, θ♠), which is convex and smooth (Lemma 13, C3), and strongly convex on bounded
    sets (Lemma 13); as e is bounded below and R tends to infinity it has a minimum.  For η ≤ 1/L the distance to it
    falls geometrically, and the reports, which are Lipschitz in ρ, converge with it.
    Instances, exact: ℓ2², k users without data; F(ρ) = 2kλνρ/(λ+ν), so the minimum is where F(ρ)+2λ(ρ-θ♠) = 0.

    ℓ2 is not smooth at θ♠.  One honest user with L = ρ², λ = 1: F(ρ) = 2ρ for |ρ| ≤ 1/2, else ±1; θ♠ = 1/8 is the
    minimum.  Reports ±1 that converge are 1 or -1 from some round on; then ρ would tend to where F = -1 or 1, at or
    beyond -1/2 or 1/2, that is to the other side of θ♠, where the report has the other sign.
    """
    tally = Tally()
    if reach <= 1 and not shift and not plain_l2:
        descent_converges(tally)
        lipschitz(tally)
    if plain_l2:
        for eta in [Fraction(1, 7), Fraction(1, 100)]:
            rho, model, reports = Fraction(0), Fraction(1, 8), []
            for _ in range(200):
                reports.append(Fraction(1) if rho > model else Fraction(-1))
                rho -= eta * (_clip(2 * rho, Fraction(1)) + reports[-1])
                if rho == model:
                    break
            last = reports[-10:]
            tally.claim(
                less(max(last) - min(last), 1),
                "the reports of rounds 191 to 200 are within 1 of each other, ℓ2, L = ρ², λ = 1, θ♠ = 1/8, ρ⁰ = 0",
                eta=eta,
                reports=last,
            )
    for lam, nu, k, model in product(
        [Fraction(1), Fraction(1, 5)], [Fraction(1), Fraction(3)], [1, 4], [Fraction(5), Fraction(-2)]
    ):
        slope = 2 * k * lam * nu / (lam + nu)
        eta = reach / (slope + 2 * lam)
        rho = Fraction(1)
        for _ in range(60):
            rho -= eta * (slope * rho + 2 * lam * (rho - model - shift))
        limit = 2 * lam * model / (slope + 2 * lam)
        tally.claim(
            less(abs(rho - limit), Fraction(1, 10**6)),
            "ρ^60 against the minimum of the modified loss",
            lam=lam,
            nu=nu,
            others=k,
            model=model,
            rho=float(rho),
        )
    return tally.evidence()


@check(
    "claim_average_local_models",
    method="symbolic",
    falsehoods={"other_sign": {"sign": 1}, "all_users": {"count": 0}},
)
def mean_of_the_local_models(*, sign: int = -1, count: int = 1) -> Evidence:
    """The mean of the others' models is ρ - ĝ/(2λ(N-1)), as g_n = 2λ(ρ-θ_n)."""
    tally = Tally()
    rho, lam = sp.symbols("rho lambda", positive=True)
    n, total = sp.symbols("n S", positive=True)  # n = N-1 others, whose models add up to S
    reports = 2 * lam * (n * rho - total)
    tally.step(vanishes(total / n - (rho + sign * reports / (2 * lam * (n + 1 - count)))), "for every number of users")
    for others in (1, 2, 5):
        models = [Fraction(k) for k in range(others)]
        summed = sum((4 * (3 - theta) for theta in models), Fraction(0))
        predicted = 3 + sign * summed / (4 * (others + 1 - count))
        mean = sum(models, Fraction(0)) / others
        tally.claim(
            mean == predicted, "mean model at ρ = 3, λ = 2, θ_n = n", others=others, mean=mean, predicted=predicted
        )
    return tally.evidence()


# ---- Theorem 1 --------------------------------------------------------------------------------------------------


def _equivalence_steps(tally: Tally) -> None:
    eps, first, second, lam, lipschitz_constant, slack, more = sp.symbols(
        "epsilon s1 s2 lambda L s t", nonnegative=True
    )
    near, imitated = eps / 2 - first, eps / 2 - second
    tally.step(vanishes(eps - (near + imitated) - first - second), "attack to data: within ε/2 and ε/2 is within ε")
    at_target = (lam - slack) + (lipschitz_constant * eps - more)
    tally.step(
        vanishes(lam + lipschitz_constant * eps - at_target - slack - more),
        "data to attack: ‖F(θ†)‖ <= ‖F(ρ_ε)‖+Lε <= λ+Lε for every ε, so ‖F(θ†)‖ <= λ",
    )
    limit_equation(tally)


def _proximal_rounds(tally: Tally) -> None:
    """Verify that g = P((ρ-ηF(ρ)-θ†)/η), P the projection onto the ball of radius λ, descends Φ = e+λ‖·-θ†‖, η ≤ 1/L.

    With ρ' = ρ-η(F+g) and v = (ρ-ηF-θ†)/η, ρ'-θ† = η(v-g) is 0 or in the direction of g, which then has length λ: so
    λ‖ρ'-θ†‖ = gᵀ(ρ'-θ†).  Hence Φ(z)-Φ(ρ') ≥ (‖z-ρ'‖²-‖z-ρ‖²)/(2η) for every z.
    """
    rho, after, z, goal, f = sp.symbols("rho rho' z target F", real=True)
    e_now, e_after, e_z, kink_z = sp.symbols("e(rho) e(rho') e(z) h(z)", real=True)
    eta, smooth, lam, more = sp.symbols("eta L lambda s", positive=True)
    report = (rho - after) / eta - f
    tally.step(vanishes(rho - eta * (f + report) - after), "ρ' = ρ-η(F+g)")
    tally.step(vanishes((rho - eta * f - goal) - eta * report - (after - goal)), "ρ'-θ† = η(v-g)")
    tally.step(
        vanishes(lam * eta * ((lam + more) - lam) - lam * eta * more), "‖v‖ > λ: gᵀ(ρ'-θ†) = λη(‖v‖-λ) = λ‖ρ'-θ†‖"
    )
    u1, u2, v1, v2 = sp.symbols("u1 u2 v1 v2", real=True)
    gram = (u1**2 + u2**2) * (v1**2 + v2**2) - (u1 * v1 + u2 * v2) ** 2
    tally.step(vanishes(gram - (u1 * v2 - u2 * v1) ** 2), "Cauchy-Schwarz: gᵀ(z-θ†) <= λ‖z-θ†‖")
    convex = e_z - e_now - f * (z - rho)  # >= 0
    flat = e_now + f * (after - rho) + smooth / 2 * (after - rho) ** 2 - e_after  # >= 0: e is L-smooth
    kink = kink_z - report * (z - goal)  # >= 0: λ‖z-θ†‖ >= gᵀ(z-θ†)
    kink_after = report * (after - goal)  # = λ‖ρ'-θ†‖
    claimed = (e_z + kink_z) - (e_after + kink_after) - ((z - after) ** 2 - (z - rho) ** 2) / (2 * eta)
    spare = (1 / (2 * eta) - smooth / 2) * (rho - after) ** 2  # >= 0 for η <= 1/L
    tally.step(vanishes(claimed - convex - flat - kink - spare), "Φ(z)-Φ(ρ') >= (‖z-ρ'‖²-‖z-ρ‖²)/(2η)")


def _scalar_rounds(
    force: Callable[[Fraction], Fraction],
    start: Fraction,
    target: Fraction,
    eta: Fraction,
    bound: Fraction,
    *,
    rounds: int,
) -> Fraction:
    """Return ρ after so many rounds of the report P((ρ-ηF-θ†)/η), d = 1."""
    rho = start
    for _ in range(rounds):
        free = rho - eta * force(rho)
        rho = free - eta * _clip((free - target) / eta, bound)
    return rho


@check(
    "thm1_equivalence",
    part="squared_l2",
    method="class",
    falsehoods={
        "equivalence_fails_for_some_target": {"agree": False},
        "dataset_without_nu": {"of_nu": 0},
        "weaker_attack": {"attack_share": Fraction(1, 2)},
    },
)
def equivalence_for_squared_l2(*, agree: bool = True, of_nu: int = 2, attack_share: Fraction | int = 1) -> Evidence:
    """ℓ2²: every target is reached by a converging gradient attack, and by datasets within every ε.

    Proof for all convex losses, ν = 0 included, and any constant rate.  With ℓ2² each honest user has one best model
    for each ρ, and F is 2λ(N-1)-Lipschitz.  *Attack*: GRAD is everything; the report (ρ⁰-θ†)/η-F(ρ⁰) leads to θ† in
    one round, and -F(θ†) stays there.  *Data*: with θ♠ = θ†+F(θ†)/(2λ) the modified loss, minimized over the others'
    models, is e+λ‖·-θ♠‖²+const, which is strongly convex and has the gradient 0 at θ†: a minimum, alone.  So Lemma 2
    gives a dataset within ε.  Both sides always hold.
    Instances: least squares, where one data point is exact.
    Attack: two rounds of these reports from ρ⁰ = 0 at η = 5, far beyond 2/L for most of them.  Data: Theorem 5, with
    the joint minimum solved for in rationals.
    """
    tally = Tally()
    rho, target, f, f_there, lam, eta = sp.symbols("rho target F(rho) F(target) lambda eta", positive=True)
    first = (rho - target) / eta - f
    tally.step(vanishes(rho - eta * (f + first) - target), "(ρ⁰-θ†)/η-F(ρ⁰) leads to θ† in one round")
    tally.step(vanishes(target - eta * (f_there - f_there) - target), "-F(θ†) stays at θ†")
    tally.step(vanishes(f_there + 2 * lam * (target - (target + f_there / (2 * lam)))), "F(θ†)+2λ(θ†-θ♠) = 0")

    def decide(problem: LinearProblem, target: Vector) -> bool | None:
        attack = _reached_in_two_rounds(problem, target, attack_share)
        g, theta = reported_model(problem, target)
        w = add(g, theta, of_nu * problem.nu)
        data = is_minimum(joined(problem, LinearUser([w], [dot(w, theta) + 1])), target)
        return None if data is None else (attack and data) is agree

    for with_ridge, goal in exact_problems():
        for problem in (with_ridge, LinearProblem(with_ridge.users, with_ridge.lam, Fraction(0), with_ridge.dim)):
            holds = decide(problem, goal)
            if holds is None and problem.nu == 0:
                tally.skip()  # the minimum of the global loss is a set
                continue
            tally.claim(holds, "both sides hold", target=goal, lam=problem.lam, nu=problem.nu, expected=agree)
    attack_by_chance(tally, "both sides hold", targeted(), decide)
    return tally.evidence()


def _reached_in_two_rounds(problem: LinearProblem, target: Vector, share: Fraction | int) -> bool:
    """Run (ρ⁰-θ†)/η-F(ρ⁰), then -F(θ†), both times ``share``, from ρ⁰ = 0; decide whether both rounds end at θ†."""
    eta, rho = Fraction(5), [Fraction(0)] * problem.dim
    ends = []
    for _ in range(2):
        force = problem.honest_gradient(-1, rho)
        if force is None:
            raise ArithmeticError("the local minima are not unique")
        report = add(times(share / eta, add(rho, target, -1)), force, -share)
        rho = add(rho, add(force, report), -eta)
        ends.append(rho)
    return ends == [target, target]


def _smooth_users(k: int, lam: Fraction, nu: Fraction, z: Fraction, root: Fraction) -> tuple[Fraction, Fraction]:
    """k honest users without data under smooth-ℓ2: return ρ and F(ρ) at which ρ-θ_n = z, √(1+z²) = root."""
    pull = lam * z / root
    return z + pull / (2 * nu), k * pull


def _attack_at_a_large_rate(tally: Tally) -> None:
    """13 honest users without data, smooth-ℓ2, λ = 1, ν = 1/800, η = 100: no report leads from a far ρ⁰ to 0.

    With z = ρ-θ_n and s = z/√(1+z²): ρ = z+400s and F = 13s, so ρ-ηF = z-900s, which is convex in s: on a stretch of s
    it is at most the larger of its values at the ends, and always at least -900.  The report adds at most ±100.
    """
    users, eta, ridge, k = 13, 100, 400, 1300
    ends = [(Fraction(7, 24), Fraction(7, 25)), (Fraction(k * k - 1, 2 * k), Fraction(k * k - 1, k * k + 1))]
    near, far = (z + ridge * s for z, s in ends)
    highest = max(z + ridge * s - eta * users * s for z, s in ends) + eta
    lowest = Fraction(-(users * eta - ridge) - eta)
    is_kept_away = bool(-far <= lowest and highest <= -near)
    tally.claim(
        is_kept_away is False,
        "attack and data agree on whether the target 0 is reached: 0 is the minimum without any data of the attacker, "
        "and every report keeps |ρ^t| between near and far",
        others=users,
        lam=1,
        nu=Fraction(1, 800),
        eta=eta,
        near=near,
        far=far,
        next_from=lowest,
        next_to=highest,
    )


def _attack_without_a_ridge(tally: Tally) -> None:
    """Two honest users with ν = 0 and one datum of a Huber loss of slope at most 1/2, smooth-ℓ2, λ = 1.

    They meet the hypotheses: without noise cΣHuber(θ-θ†) is gradient-PAC* (with equality, A = c), so learning is
    locally PAC* (Lemma 5).  A user's pull at ρ is the slope 1/2 as soon as (ρ-1)/√(1+(ρ-1)²) ≥ 1/2, that is (ρ-1)² ≥
    1/3: there F = 1 = λ, and the report -1 holds ρ^t at ρ⁰.  A minimum for some data needs F(ρ) < 1, the pull of the
    attacker's model being below 1.
    """
    start, within = Fraction(3), Fraction(1)
    held = (start - 1) ** 2 >= Fraction(1, 3)  # F(ρ⁰) = λ
    data = (start - within - 1) ** 2 < Fraction(1, 3)  # F < λ somewhere within 1 of ρ⁰
    tally.claim(
        held is data,
        "attack and data agree on whether the target ρ⁰ is reached within 1; two Huber users without ridge",
        target=start,
        attack=held,
        data=data,
    )


@check(
    "thm1_equivalence",
    part="smooth_l2",
    method="class",
    printed={"small_step": False, "with_nu": False},
    falsehoods={
        "reach_twice_lambda": {"reach": Fraction(2)},
        "every_target": {"reach": Fraction(1000)},
        "equivalence_fails": {"agree": False},
        "dataset_of_squared_l2": {"smooth_report": False},
        "any_constant_rate": {"small_step": False},
        "nu_zero": {"with_nu": False},
    },
    errata=Erratum(
        place="Theorem 1 for smooth-ℓ2: `the learning rate is constant`, and `each loss is convex`",
        repair="Suppose that the constant rate is small, η ≤ 1/((N-1)λ), as section 3.2 does; and ν > 0, as (5) does.",
        survives="Yes for ℓ2², at every constant rate and for all convex losses; and for smooth-ℓ2 in the setting of "
        "section 4 at a small rate. Else: at a large rate many honest users can throw ρ from one side of the target "
        "to the other, whatever the attacker reports; and without ν their reports can add up to λ exactly on a whole "
        "region, where an attack can hold ρ but no dataset brings a minimum.",
    ),
)
def equivalence_for_smooth_l2(
    *,
    reach: Fraction | int = 1,
    agree: bool = True,
    smooth_report: bool = True,
    small_step: bool = True,
    with_nu: bool = True,
) -> Evidence:
    """smooth-ℓ2: a target is reached by a converging attack, and by datasets within every ε, exactly if ‖F(θ†)‖ ≤ λ.

    Proof for N ≥ 2, convex losses with a ridge term, ν > 0, as in (5), local models optimized in each round, and η ≤
    1/((N-1)λ).  *From attack to data*: Lemma 3 gives a report whose modified loss has its minimum within ε/2; that
    minimum is the only one, as e is strictly convex, so Lemma 2 gives a dataset within ε/2 of it.  *From data to
    attack*: at the minima ρ_ε (Lemma 1) the pull of θ_s is -F(ρ_ε), in GRAD, which is closed, and F is Lipschitz, so
    -F(θ†) is in GRAD.  Reporting it for ever makes the rounds descent on e-F(θ†)ᵀρ, whose minimum is θ†, and no other
    point, as e is strongly convex on bounded sets; so it need not be supposed that there is one.
    Instances: d = 1, k honest users without data, targets at which every root is rational.  Data: with g = F(θ†), θ♠
    = θ†+g/√(λ²-g²) and w = g+2νθ♠, the point (w, wθ♠+1) makes all three gradients vanish.  If |F(θ†)| > λ no local
    model balances F, and as F increases no ρ* of any dataset is beyond the point where F = λ.
    """
    tally = Tally()
    if small_step and with_nu:
        _equivalence_steps(tally)
        descent_converges(tally)
    if not small_step:
        _attack_at_a_large_rate(tally)
    if not with_nu:
        _attack_without_a_ridge(tally)
    for k, lam, nu, (z, root), sign in product(
        [1, 2, 3], [Fraction(1), Fraction(2)], [Fraction(1, 2), Fraction(3)], PYTHAGOREAN, (1, -1)
    ):
        target, f = (sign * value for value in _smooth_users(k, lam, nu, z, root))
        attack = abs(f) <= reach * lam
        if abs(f) >= lam:
            data = False
        else:
            # (λ²-f²) must be a square for exactness: with k = 1 it is, √(λ²-f²) = λ/root.
            if k != 1:
                tally.skip()
                continue
            theta = target + (f * root / lam if smooth_report else f / (2 * lam))
            w = f + 2 * nu * theta
            gap = target - theta
            pull_squared = (lam * gap) ** 2 / (1 + gap**2)
            in_rho = pull_squared == f**2 and (gap > 0) == (f < 0)
            in_theta = (w * theta - (w * theta + 1)) * w + 2 * nu * theta + f == 0
            data = in_rho and in_theta
        tally.claim(
            (attack == data) is agree,
            "attack and data agree on whether the target is reached",
            others=k,
            lam=lam,
            nu=nu,
            target=target,
            F=f,
            attack=attack,
            data=data,
        )
    return tally.evidence()


@check(
    "thm1_equivalence",
    part="l2",
    method="class",
    modulo=("bolzano_weierstrass",),
    printed={"ties": True, "small_step": False},
    falsehoods={
        "reach_twice_lambda": {"reach": Fraction(2)},
        "equivalence_fails": {"agree": False},
        "minimum_may_be_a_set": {"ties": True},
        "any_constant_rate": {"small_step": False},
        "constant_report": {"proximal": False},
    },
    errata=Erratum(
        place="Theorem 1 for ℓ2, where the global minimum is a set, and for large rates",
        repair="Suppose for ℓ2 that the minimum of the modified loss of the report θ† is unique (as Lemma 2 does), "
        "that the losses are smooth, ν > 0 and the constant rate is small, η ≤ 1/L.",
        survives="Yes, wherever the minimum is unique, at small rates. Else: with one honest user without data, ν = λ "
        "= 1, every "
        "target beyond 1/2 is a global minimum for some data, but from ρ⁰ = 0 at a small rate no attack ever passes "
        "1/2.",
    ),
)
def equivalence_for_l2(
    *,
    reach: Fraction | int = 1,
    agree: bool = True,
    ties: bool = False,
    small_step: bool = True,
    proximal: bool = True,
) -> Evidence:
    """ℓ2: the same with ‖F(θ†)‖ ≤ λ; the dataset makes the attacker's model θ† itself, and the kink balances F.

    Proof for N ≥ 2, convex L_n-smooth losses with ν > 0, η ≤ 1/L with L = ΣL_n, and targets where the modified loss of
    the report θ† has no other minimum if it has one at θ†.  (At its kink a user reports ∇L_n, as its optimality says;
    so F = ∇e is L-Lipschitz.)  Both sides are equivalent to ‖F(θ†)‖ ≤ λ, and then θ† minimizes Φ = e+λ‖·-θ†‖, as in
    Lemma 3, and by hypothesis nothing else does.
    *Attack*: it implies ‖F(θ†)‖ ≤ λ, as F(θ†)+g∞ = 0.  Conversely report P((ρ-ηF(ρ)-θ†)/η), P the projection onto the
    ball: by the step below, with z = θ†, the distance to θ† does not grow, and the Φ(ρ^t)-Φ(θ†) ≥ 0 sum to at most
    ‖ρ⁰-θ†‖²/(2η), so they vanish; every cluster point is a minimizer, that is θ†, and ρ^t → θ†.  The reports are
    (ρ^t-ρ^{t+1})/η-F(ρ^t), and tend to -F(θ†).
    *Data*: they imply ‖F(θ†)‖ ≤ λ as for smooth-ℓ2.  Conversely Lemma 2 imitates the report θ♠ = θ†.
    Reporting -F(θ†) for ever would not do: honest users at odds make F = 0 on a whole segment, where ρ then rests.

    Instances: d = 1, k honest users with L(θ) = νθ² and no data: F(ρ) = 2kνρ where 2ν|ρ| < λ.  Data: (w, wθ†+1) with
    w = F+2νθ†, whose gradient at θ† is -F: within the ball, so θ_s = ρ = θ† is a global minimum.  Attack: rounds.

    Ties: k = 1 and a target m+1 beyond m = λ/(2ν), where F = λ is flat.  Attack: from ρ⁰ = 0 with η ≤ 1/(2ν) no
    report of the ball leads beyond m, as ρ ≤ m gives ρ-η(2νρ+g) ≤ (1-2νη)ρ + 2νη·m ≤ m.  Data: with g = λ the same
    data point is exact.

    Large rate: k = 9, λ = η = 1, ν = 1/6, so ρ-ηF = ρ-9·clip(ρ/3), which on [1, 7] lies between -6 and -2 (it is
    linear between 1, 3 and 7).  Whatever |g| ≤ 1, [1, 7] goes to [-7, -1] and back: the target 0 is not reached.
    """
    tally = Tally()
    if not ties and small_step and proximal:
        _equivalence_steps(tally)
        _proximal_rounds(tally)
    if ties:
        _attacks_on_ties(tally)
    if not small_step:
        _attack_on_l2_at_a_large_rate(tally)
    shares = [Fraction(1, 8), Fraction(-1, 2), Fraction(9, 10)]
    for k, lam, nu, part in product([1, 2, 5], [Fraction(1), Fraction(3)], [Fraction(1, 2), Fraction(2)], shares):
        target = part * lam / (2 * nu)
        f = 2 * k * nu * target

        def force(rho: Fraction, k: int = k, lam: Fraction = lam, nu: Fraction = nu) -> Fraction:
            return k * _clip(2 * nu * rho, lam)

        eta = 1 / (2 * k * nu)
        attack = _scalar_rounds(force, Fraction(0), target, eta, reach * lam, rounds=3) == target
        tally.claim(
            (attack == _one_point_under_l2(target, f, lam, nu)) is agree,
            "attack and data agree on whether the target is reached",
            others=k,
            lam=lam,
            nu=nu,
            target=target,
            F=f,
            attack=attack,
        )
    # Two honest users with curvature 1 around -10 and 10: F = 0 from -9 to 9.
    for target in [Fraction(5), Fraction(-7)]:
        rho = Fraction(0)
        if proximal:
            rho = _scalar_rounds(
                lambda x: _clip(x - 10, Fraction(1)) + _clip(x + 10, Fraction(1)),
                rho,
                target,
                Fraction(1, 2),
                Fraction(1),
                rounds=20,
            )
        data = _one_point_under_l2(target, Fraction(0), Fraction(1), Fraction(1, 2))
        tally.claim(
            (rho == target) is data is agree,
            "two honest users at odds: attack and data agree",
            target=target,
            rho_20=rho,
        )
    return tally.evidence()


def _attacks_on_ties(tally: Tally) -> None:
    for lam, nu in product([Fraction(1), Fraction(3)], [Fraction(1, 2), Fraction(1)]):
        edge, eta = lam / (2 * nu), 1 / (4 * nu)
        highest = Fraction(0)
        for _ in range(50):  # the report -λ leads highest, as the next ρ decreases with the report and grows with ρ
            highest -= eta * (2 * nu * min(highest, edge) - lam)
        attack = highest > edge
        data = _one_point_under_l2(edge + 1, lam, lam, nu)
        tally.claim(
            attack == data,
            "attack and data agree on whether the target is reached, one honest user without data, ρ⁰ = 0",
            lam=lam,
            nu=nu,
            eta=eta,
            target=edge + 1,
            attack=attack,
            data=data,
            highest_after_50_rounds=float(highest),
        )


def _attack_on_l2_at_a_large_rate(tally: Tally) -> None:
    ends = [rho - 9 * _clip(rho / 3, Fraction(1)) for rho in (Fraction(1), Fraction(3), Fraction(7))]
    is_kept_away = min(ends) - 1 >= -7 and max(ends) + 1 <= -1
    data = _one_point_under_l2(Fraction(0), Fraction(0), Fraction(1), Fraction(1, 6))
    tally.claim(
        (not is_kept_away) is data,
        "attack and data agree on whether the target 0 is reached, nine honest users without data, ρ⁰ = 1",
        lam=1,
        nu=Fraction(1, 6),
        eta=1,
        next_from=min(ends) - 1,
        next_to=max(ends) + 1,
        data=data,
    )


def _one_point_under_l2(target: Fraction, f: Fraction, lam: Fraction, nu: Fraction) -> bool:
    """Decide whether the data point (w, wθ†+1), w = F+2νθ†, makes ρ = θ_s = θ† a global minimum under ℓ2."""
    w = f + 2 * nu * target
    local = (w * target - (w * target + 1)) * w + 2 * nu * target
    # One subgradient u of the kink serves both: F + u = 0 in ρ, and local - u = 0 in θ_s.
    return local == -f and abs(local) <= lam


@check(
    "claim_all_continuous_regularizers",
    method="certified",
    in_words="for which convex regularizers beyond the paper's three the remark holds; and, for the witness, honest "
    "users with so many data that their models stay at 0",
    printed={"convex": False},
    falsehoods={"double_well": {"convex": False}},
    errata=Erratum(
        place="section 3, the remark that the proof holds for all continuous regularizers that tend to infinity",
        repair="Lemma 3 (by Lemma 13) needs a regularizer that is convex and, as printed, Assumption 1; for continuous "
        "regularizers in general, bounded below, only the direction through Lemma 2 goes through.",
        survives="Yes for the three regularizers that the paper studies.",
    ),
)
def attack_limits_are_minima_of_a_model_attack(*, convex: bool = True) -> Evidence:
    """If reports g∞ = 0 leave ρ at 0, some θ♠ puts a minimum of the modified loss within 1/10 of 0; three honest users.

    The honest models stay at 0.  With a convex R such as z² some θ♠ always does (Lemma 3).  With R = (z²-1)², which is
    continuous and tends to infinity, ρ = 0 is a fixed point of the descent, and no θ♠ does: a minimum with |ρ| ≤ 1/10
    needs the second derivative 3(12ρ²-4)+12z²-4 ≥ 0, so z² ≥ 4/3-3ρ² ≥ 1.303, where 4|z|(z²-1) > 1.2 ≥ 12|ρ|(1-ρ²): the
    gradient cannot vanish.
    """
    if convex:
        return model_for_a_gradient_squared()
    tally = Tally()
    edge = Fraction(1, 10)
    least_square = Fraction(4, 3) - 3 * edge**2
    # (4|z|(z²-1))² increases in z² beyond 1.
    pull_squared = 16 * least_square * (least_square - 1) ** 2
    needed_squared = (12 * edge) ** 2
    tally.claim(
        at_most(pull_squared, needed_squared),
        "some report can balance the gradient near 0 where the curvature allows a minimum",
        least_z_squared=least_square,
        pull_squared=pull_squared,
        needed_squared=needed_squared,
    )
    return tally.evidence()
