r"""Appendix H: the counter-gradient attack against ℓ2² converges to the target."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import sympy as sp

from proofs_checks.a_convexity import _modulus_of_the_loss
from proofs_checks.registry import Erratum, Evidence, Tally, at_most, check, less
from proofs_checks.search import vanishes
from proofs_checks.steps import linear_recursion_vanishes

ETA, L = sp.symbols("eta L", positive=True)


@check(
    "lem31_strongly_convex",
    method="class",
    equations=(169, 170),
    falsehoods={"nu_zero": {"with_nu": False}, "ten_times_the_modulus": {"factor": 10}},
)
def loss_is_strongly_convex(*, factor: Fraction | int = 1, with_nu: bool = True) -> Evidence:
    """With ℓ2² and ν > 0 the global loss is strongly convex, and so is the others' minimized loss.

    Proof.  As Lemma 11 with μ = 2λ on the whole space: the Hessian of λ‖ρ-θ_1‖² (the printed proof drops λ) and of
    Σν‖θ_n‖² are constant.  Partial minimization keeps the modulus (Lemma 10), if there is another user at all.
    ν > 0 is a standing hypothesis here.
    """
    tally = Tally()
    _modulus_of_the_loss(tally, factor, factor, with_nu)
    return tally.evidence()


@check(
    "thm4_cga_converges",
    part="proof_174",
    method="symbolic",
    equations=(171, 172, 173, 174),
    falsehoods={"sum_of_gradients": {"sign": 1}, "stale_report": {"stale": True}},
)
def next_global_model(*, sign: int = -1, stale: bool = False) -> Evidence:
    """ρ^{t+1} = θ† - η(F_t - F_{t-1}) under the attack against ℓ2²; no property of the losses is used."""
    tally = Tally()
    previous, target, g_before, f_before, f_now = sp.symbols("rho0 target g0 F0 F1", real=True)
    now = previous - ETA * (f_before + g_before)
    estimate = (previous - now) / ETA - g_before
    report = (now - target) / ETA - (0 if stale else estimate)
    after = now - ETA * (f_now + report)
    claimed = target - ETA * (f_now + sign * f_before)
    tally.step(vanishes(estimate - f_before), "(6): the estimate is the others' last report")
    tally.step(vanishes(after - claimed), "(171) to (174)")
    values = dict(
        zip((previous, target, g_before, f_before, f_now, ETA), map(sp.Rational, (1, 2, 3, 5, 7, "1/3")), strict=True)
    )
    tally.claim(bool((after - claimed).subs(values) == 0), "ρ^{t+1} with ρ⁰, θ†, g, F0, F1, η = 1, 2, 3, 5, 7, 1/3")
    return tally.evidence()


@check(
    "thm4_cga_converges",
    part="proof_difference",
    method="symbolic",
    printed={"sign": 1},
    falsehoods={"other_sign": {"sign": 1}},
    errata=Erratum(
        place="the line after (174)",
        repair="Both signs are to be exchanged: ρ^{t+1}-ρ^t = -η(F_t-F_{t-1}) + η(F_{t-1}-F_{t-2}).",
        survives="Yes: only norms are used.",
    ),
)
def difference_of_global_models(*, sign: int = -1) -> Evidence:
    """ρ^{t+1}-ρ^t = -η(F_t-F_{t-1}) + η(F_{t-1}-F_{t-2}), from (174) twice."""
    tally = Tally()
    target, f0, f1, f2 = sp.symbols("target F0 F1 F2", real=True)
    difference = (target - ETA * (f2 - f1)) - (target - ETA * (f1 - f0))
    claimed = sign * (ETA * (f2 - f1) - ETA * (f1 - f0))
    if sign == -1:
        tally.step(vanishes(difference - claimed), "(174) at t and at t-1")
    values = {ETA: sp.Rational(1, 2), f0: 0, f1: 1, f2: 5}
    tally.claim(
        bool((difference - claimed).subs(values) == 0),
        "both sides, F_{t-2}, F_{t-1}, F_t = 0, 1, 5, η = 1/2",
        left=difference.subs(values),
        right=claimed.subs(values),
    )
    return tally.evidence()


@check(
    "thm4_cga_converges",
    part="proof_recursion",
    method="symbolic",
    falsehoods={"five_ninths": {"rate": Fraction(5, 9)}, "eta_one_half": {"q": Fraction(1, 2)}},
    strengthen=lambda excess: {"rate": Fraction(7, 9) * (1 - excess)},
)
def two_step_contraction(*, rate: Fraction = Fraction(7, 9), q: Fraction = Fraction(1, 3)) -> Evidence:
    """u_{t+1} ≤ q(u_t+u_{t-1}) with q = 1/3 gives v_{t+2} ≤ (7/9)v_t for v_t = u_t+u_{t-1}; 7/9 is best possible.

    Proof.  u_{t+2}+u_{t+1} ≤ (q²+2q)u_t + (q²+q)u_{t-1}, and q²+2q = 7/9, q²+q = 4/9.
    """
    tally = Tally()
    u, w = sp.symbols("u w", nonnegative=True)
    ratio = sp.Rational(q)
    first = ratio * (u + w)
    second = ratio * (first + u)
    if rate == Fraction(7, 9) and q == Fraction(1, 3):
        tally.step(
            vanishes(second + first - sp.Rational(7, 9) * u - sp.Rational(4, 9) * w), "v_{t+2} <= 7u_t/9 + 4u_{t-1}/9"
        )
        tally.step(
            vanishes(sp.Rational(7, 9) * (u + w) - (second + first) - w / 3), "7v_t/9 minus that is u_{t-1}/3 >= 0"
        )
    for u_value, w_value in product([Fraction(0), Fraction(1)], [Fraction(0), Fraction(1), Fraction(1, 10**6)]):
        one = q * (u_value + w_value)
        two = q * (one + u_value)
        tally.claim(
            at_most(one + two, rate * (u_value + w_value)),
            "v_{t+2} <= rate·v_t where equality holds before",
            u_t=u_value,
            u_before=w_value,
        )
    return tally.evidence()


@check(
    "thm4_cga_converges",
    part="proof_constant",
    method="certified",
    printed={"inverse": False},
    falsehoods={"root_seven_thirds": {"inverse": False}, "without_a_constant": {"plain": True}},
    errata=Erratum(
        place="the bound on v_t in the proof of Theorem 4",
        repair="(7/9)^{(t-1)/2} is (√7/3)^t·(3/√7), so the constant is 3/√7 = 1.13 and not √7/3 = 0.88.",
        survives="Yes: some constant C is all that is used.",
        scan=True,
    ),
)
def geometric_bound(*, inverse: bool = True, plain: bool = False) -> Evidence:
    """v_{t+2} ≤ (7/9)v_t gives v_t ≤ (√7/3)^t (3/√7) max(v_0, v_1); compared by squares, which are rational."""
    tally = Tally()
    constant = Fraction(1) if plain else Fraction(9, 7) if inverse else Fraction(7, 9)
    for first, second in [(Fraction(1), Fraction(1)), (Fraction(0), Fraction(1)), (Fraction(2), Fraction(1))]:
        v = [first, second]
        for t in range(20):
            v.append(Fraction(7, 9) * v[t])
        for t, value in enumerate(v):
            bound = Fraction(7, 9) ** t * constant * max(first, second) ** 2
            tally.claim(at_most(value**2, bound), "v_t² <= (7/9)^t·C²·max(v_0, v_1)²", v_0=first, v_1=second, t=t)
    return tally.evidence()


@check(
    "thm4_cga_converges",
    method="class",
    unneeded={"η ≤ 1/(3L) (any η < 1/(2L) will do, C1 and C2)": {"reach": Fraction(45, 100)}},
    falsehoods={"step_one_over_l": {"reach": Fraction(1)}, "just_beyond_one_half": {"reach": Fraction(51, 100)}},
    strengthen=lambda excess: {"reach": Fraction(1, 2) * (1 + excess) + Fraction(1, 10**3)},
)
def global_model_reaches_the_target(*, reach: Fraction = Fraction(1, 3)) -> Evidence:
    """ρ^t → θ† for every constant η ≤ 1/(3L), and the reports converge, to -F(θ†).

    Proof.  F is L-Lipschitz (Lemma 13; there are others, else F = 0).  The first report supposes that the others report
    0, so that (174) holds with F_0 = 0 in the first round, and as it stands from the second on.  With
    u_t = ‖ρ^{t+1}-ρ^t‖, (174) twice gives u_{t+1} ≤ ηL(u_t+u_{t-1}) from then on, which is the
    recursion of `proof_recursion`; so u_t ≤ C·r^t with r < 1, and by (174) ‖ρ^{t+1}-θ†‖ = η‖F_t-F_{t-1}‖ ≤ ηL·u_{t-1},
    which tends to 0.  The report is g_t = (ρ^t-θ†)/η-F_{t-1}, and F_{t-1} → F(θ†).
    On a quadratic with one curvature L the recursion is exact: x_{t+1} = -q(x_t-x_{t-1}), q = ηL, which diverges for
    q > 1/2.
    """
    tally = Tally()
    q = sp.Symbol("q", positive=True)
    x = sp.Symbol("x")
    if reach <= Fraction(1, 3):
        u, w = sp.symbols("u w", nonnegative=True)
        first = (u + w) / 3
        tally.step(
            vanishes(sp.Rational(7, 9) * (u + w) - ((first + u) / 3 + first) - w / 3),
            "7v_t/9 - v_{t+2} = u_{t-1}/3 >= 0",
        )
        third = sp.Rational(1, 3)
        linear_recursion_vanishes(tally, third, third)
        tally.step(bool((third + sp.sqrt(third**2 + 4 * third)) / 2 < 1) or None, "r < 1 for q = 1/3")
        tally.adopt(next_global_model())
        tally.adopt(difference_of_global_models())
        previous, now, before, g_before, target = sp.symbols("rho0 rho1 F0 g0 target", real=True)
        first_report = (previous - target) / ETA
        tally.step(vanishes(previous - ETA * (before + first_report) - (target - ETA * before)), "(174) with F_0 = 0")
        report = ((now - target) / ETA - ((previous - now) / ETA - g_before)).subs(
            now, previous - ETA * (before + g_before)
        )
        settled = ((now - target) / ETA - before).subs(now, previous - ETA * (before + g_before))
        tally.step(vanishes(report - settled), "g_t = (ρ^t-θ†)/η-F_{t-1}")
    roots = sp.solve(x**2 + q * x - q, x)
    tally.step(
        any(vanishes(root - (-q - sp.sqrt(q**2 + 4 * q)) / 2) for root in roots) or None,
        "the worst root is -(q+√(q²+4q))/2",
    )
    for before, now in [(Fraction(1), Fraction(1)), (Fraction(1), Fraction(-3)), (Fraction(0), Fraction(1))]:
        a, b = before, now
        largest = max(abs(a), abs(b))
        for _ in range(400):
            a, b = b, (-reach * (b - a)).limit_denominator(10**40)
        tally.claim(
            less(abs(b), largest / 1000), "distance to the target after 400 rounds, q = ηL", q=reach, last=float(b)
        )
    return tally.evidence()
