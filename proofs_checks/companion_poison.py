r"""Further statements on the least poison: C10 to C14.

Throughout ν > 0, :math:`w = F(\theta^\dagger) + 2\nu\theta^\spadesuit` and :math:`s = w^T\theta^\spadesuit`; θ♠
is the model whose pull at θ† is -F(θ†): there is one for ℓ2², one for smooth-ℓ2 if ‖F(θ†)‖ < λ, and for ℓ2 θ† itself
serves if ‖F(θ†)‖ ≤ λ (C7).  A dataset is *exact* if the gradients of its data points at θ♠ add up to -w; then, with
the ridge term, they balance the pull, and (θ†, θ♠) is a minimum.  For ℓ2² and smooth-ℓ2 the exact datasets are all
datasets with ρ* = θ†: the pull determines θ♠, and ∇L_s = -F(θ†) says that the gradients add up to -w.  If w = 0, no
data are exact; the statements below are on w ≠ 0.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import sympy as sp
from flint import arb
from hypothesis import strategies as st

from proofs_checks.exact import LinearUser, add, dot, times
from proofs_checks.k_single_point import exact_problems, is_minimum, joined, reported_model
from proofs_checks.l_linear_classification import poison_grows_with_the_number_of_users
from proofs_checks.registry import Evidence, Tally, at_most, both, check, less
from proofs_checks.search import attack, ball, precise, rationals, vanishes
from proofs_checks.steps import root_norm
from proofs_checks.strategies import arguments, rational


@check(
    "c10_one_point",
    part="exact",
    method="symbolic",
    falsehoods={"minus_one_over_c": {"sign": -1}, "c_instead_of_one_over_c": {"power": 1}},
    strengthen=lambda excess: {"sign": 1 + excess},
)
def every_scale_is_exact(*, sign: Fraction | int = 1, power: int = -1) -> Evidence:
    """(cw, cwᵀθ♠+1/c) gives ρ* = θ† for every c ≠ 0: ((cw)ᵀθ♠-A)cw = -w.  With c = 1/‖w‖ the query has length 1."""
    tally = Tally()
    c, w, theta = sp.symbols("c w theta", nonzero=True)
    answer = c * w * theta + sp.Rational(sign) * c**power
    tally.step(vanishes((c * w * theta - answer) * c * w + w), "the data gradient is -w")
    for (problem, target), scale in product(exact_problems(4), [Fraction(1, 100), Fraction(-3), Fraction(20)]):
        g, model = reported_model(problem, target)
        w_value = add(g, model, 2 * problem.nu)
        if all(x == 0 for x in w_value):
            tally.skip()
            continue
        point = LinearUser([times(scale, w_value)], [scale * dot(w_value, model) + sign * scale**power])
        tally.claim(is_minimum(joined(problem, point), target), "ρ* = target", c=scale, w=w_value, A=point.A[0])
    return tally.evidence()


@check(
    "c10_one_point",
    part="only",
    method="symbolic",
    falsehoods={"other_directions_too": {"direction": True}, "other_answers_too": {"offset": Fraction(1, 10)}},
    strengthen=lambda excess: {"offset": excess},
)
def no_other_point(*, direction: bool = False, offset: Fraction | int = 0) -> Evidence:
    """If (Qᵀθ♠-A)Q = -w ≠ 0 then Q = cw with c ≠ 0, and A = cwᵀθ♠+1/c.  For ℓ2² and smooth-ℓ2 these are the only single
    points with ρ* = θ†.

    Proof.  ρ* = θ† says that the pull of θ_s* is -F(θ†), so θ_s* = θ♠ (these pulls are injective; that of ℓ2 is not),
    and its local gradient (Qᵀθ♠-A)Q+2νθ♠ is -F(θ†).  The gradient is a multiple of Q, so Q = cw; then (cwᵀθ♠-A)c = -1.
    As a claim on instances: an A off by `offset`, or a query off the direction of w, is also exact.
    """
    tally = Tally()
    c, s, answer = sp.symbols("c s A", nonzero=True)
    if not direction and not offset:
        solved = sp.solve((c * s - answer) * c + 1, answer)
        tally.step(
            len(solved) == 1 and vanishes(solved[0] - c * s - 1 / c), "(cs-A)c = -1 has the one solution A = cs+1/c"
        )
        z, lam = sp.symbols("z lambda", positive=True)
        pulls = {"ℓ2²": 2 * lam * z, "smooth-ℓ2": lam * z / sp.sqrt(1 + z**2)}
        for name, pull in pulls.items():
            tally.step(
                bool(sp.simplify(sp.diff(pull, z)).is_positive) or None, f"{name}: the pull increases with the distance"
            )
    for w1, w2, t1, t2, scale in rationals(10, 12, 5):
        if not scale or not (w1 or w2):
            tally.skip()
            continue
        query = [scale * w1, scale * w2 + (1 if direction else 0)]
        a = scale * (w1 * t1 + w2 * t2) + 1 / scale + offset
        residual = dot(query, [t1, t2]) - a
        gradient = times(residual, query)
        tally.claim(gradient == [-w1, -w2], "the data gradient is -w", w=[w1, w2], theta=[t1, t2], Q=query, A=a)
    return tally.evidence()


@check(
    "c10_one_point",
    part="least_answer",
    method="symbolic",
    falsehoods={"ten_percent_more": {"factor": Fraction(11, 10)}, "reversed": {"upper": True}},
    strengthen=lambda excess: {"factor": 1 + excess},
)
def least_answer_of_one_point(*, factor: Fraction | int = 1, upper: bool = False) -> Evidence:
    """|cs+1/c| ≥ 2√s for s > 0, with equality at c = 1/√s: (cs+1/c)² - 4s = (cs-1/c)².  (-c gives -A.)"""
    tally = Tally()
    c, s = sp.symbols("c s", positive=True)
    if factor <= 1 and not upper:
        tally.step(vanishes((c * s + 1 / c) ** 2 - 4 * s - (c * s - 1 / c) ** 2), "the excess is a square")
    for root, scale in product(
        [Fraction(1), Fraction(1, 3), Fraction(10)], [Fraction(1), Fraction(3), Fraction(1, 10)]
    ):
        # c = scale/√s: cs + 1/c = scale·√s + √s/scale.
        size = scale * root + root / scale
        left, right = (size, 2 * factor * root) if upper else (2 * factor * root, size)
        tally.claim(at_most(left, right), "2√s <= |A| at c = scale/√s", s=root**2, scale=scale, A=size)
    return tally.evidence()


@check(
    "c11_bounded_answers",
    part="lower_bound",
    method="class",
    falsehoods={
        "five_s": {"constant": 5},
        "reversed": {"upper": True},
        "queries_half_as_long_again": {"length": Fraction(3, 2)},
    },
    strengthen=lambda excess: {"constant": 4 * (1 + excess)},
)
def squares_of_answers(*, constant: Fraction | int = 4, upper: bool = False, length: Fraction | int = 1) -> Evidence:
    """Every exact dataset has ΣA² ≥ 4s; so with |A| ≤ a at least 4s/a² points.  If also ‖Q‖ ≤ b, then k points need an
    R > 0 with (R+s)² ≤ ka²R and ‖w‖² ≤ kb²R.

    Proof.  Multiply Σ(m_i-A_i)Q_i = -w by θ♠: s = Σ(A_i-m_i)m_i, m_i = Q_iᵀθ♠; and A²/4 - (A-m)m = (A/2-m)² ≥ 0.
    *Bounded queries*: let r_i = A_i-m_i, not all 0 as w ≠ 0, and R = Σr²; then s² ≤ RΣm² and ka² ≥ ΣA² = R+2s+Σm² ≥
    (R+s)²/R, and ‖w‖² = ‖ΣrQ‖² ≤ (Σ|r|)²b² ≤ kRb².
    """
    tally = Tally()
    a, m = sp.symbols("A m", real=True)
    if constant <= 4 and not upper and length == 1:
        tally.step(vanishes(a**2 / 4 - (a - m) * m - (a / 2 - m) ** 2), "A²/4 - (A-m)m is a square")
        total, work, squares = sp.symbols("R s M", real=True)  # M = Σm²
        tally.step(
            vanishes((total + 2 * work + squares) * total - (total + work) ** 2 - (squares * total - work**2)),
            "RΣA²-(R+s)² = RΣm²-s² >= 0",
        )
        root_norm(tally)  # (Σ|r|)² <= kR
    cases = [
        *rationals(11, 12, 6),
        [Fraction(2), Fraction(1), Fraction(4), Fraction(2), Fraction(0), Fraction(0)],
        [Fraction(2), Fraction(1)] * 3,
    ]
    for a1, m1, a2, m2, a3, m3 in cases:
        s = (a1 - m1) * m1 + (a2 - m2) * m2 + (a3 - m3) * m3
        squares = a1**2 + a2**2 + a3**2
        left, right = (squares, constant * s) if upper else (constant * s, squares)
        tally.claim(
            at_most(left, right), "4s <= ΣA² for three points with margins m", A=[a1, a2, a3], m=[m1, m2, m3], s=s
        )
        # d = 1 and θ♠ = 1: the queries are the margins, and w = s.
        residuals = (a1 - m1) ** 2 + (a2 - m2) ** 2 + (a3 - m3) ** 2
        longest = max(abs(m1), abs(m2), abs(m3))
        tally.claim(
            both(
                at_most((residuals + s) ** 2, squares * residuals),
                at_most((length * s) ** 2, 3 * longest**2 * residuals),
            ),
            "(R+s)² <= RΣA² and ‖w‖² <= kb²R",
            A=[a1, a2, a3],
            Q=[m1, m2, m3],
        )
    if not upper:
        attack(
            tally,
            "4s <= A² for one point with margin m",
            arguments(a=rational(), m=rational()),
            lambda a, m: constant * (a - m) * m <= a * a,
            lambda a, m: a * a - constant * (a - m) * m,
        )
    return tally.evidence()


@check(
    "c11_bounded_answers",
    part="construction",
    method="symbolic",
    falsehoods={
        "half_the_points": {"share": Fraction(1, 2)},
        "whole_margin": {"margin": Fraction(1)},
        "bounded_queries_for_half_of_r": {"residual": Fraction(1, 2)},
    },
    strengthen=lambda excess: {"share": 1 - excess},
)
def equal_points_attain_the_bound(
    *, share: Fraction | int = 1, margin: Fraction = Fraction(1, 2), residual: Fraction | int = 1
) -> Evidence:
    """For s > 0, k equal points Q = (A/(2s))w, A = √(4s/k) are exact: k(A-Qᵀθ♠)Q = (kA²/(4s))w = w.

    So k = max(1, ⌈4s/a²⌉) points with |A| ≤ a suffice, a > 0.  For s ≤ 0 one point (cw, cs+1/c) does: its answer is 0
    at c = 1/√-s, and for s = 0 it is 1/c.  *Bounded queries*: the condition of the part `lower_bound` is sufficient:
    with c = 1/√(kR), k points (cw, cs+1/(kc)) are exact, A² = (R+s)²/(kR) ≤ a² and ‖Q‖² = ‖w‖²/(kR) ≤ b².  So no
    semidefinite program is needed: the number is exact, and not only up to d+1 points.
    """
    tally = Tally()
    s, k, w = sp.symbols("s k w", positive=True)
    answer = sp.sqrt(4 * s / (k * sp.Rational(share)))
    scale = answer * sp.Rational(margin) / s
    # Qᵀθ♠ = scale·s.
    tally.step(vanishes(k * (answer - scale * s) * scale * w - w), "the data gradient is -w")
    total_, c = sp.symbols("R c", positive=True)
    work = sp.Symbol("s", real=True)
    equal = c * work + 1 / (k * c)
    tally.step(vanishes(k * (equal - c * work) * c * w - w), "so it is for (cw, cs+1/(kc))")
    tally.step(
        vanishes(equal.subs(c, 1 / sp.sqrt(k * total_)) ** 2 - (total_ + work) ** 2 / (k * total_)), "A² = (R+s)²/(kR)"
    )
    tally.step(vanishes((c * w).subs(c, 1 / sp.sqrt(k * total_)) ** 2 - w**2 / (k * total_)), "‖Q‖² = ‖w‖²/(kR)")
    negative = sp.Symbol("n", positive=True)  # s = -n
    tally.step(vanishes((c * -negative + 1 / c).subs(c, 1 / sp.sqrt(negative))), "s < 0: the answer is 0 at c = 1/√-s")
    for count, work_value, w_value, below in product(
        [1, 4], [Fraction(-3), Fraction(2)], [Fraction(1), Fraction(6)], [1, 3]
    ):
        # R = below²/count, so that c = 1/below; the dataset has the Σr² that the condition speaks of.
        c_value, total_r = Fraction(1, below), residual * Fraction(below**2, count)
        answer_value = c_value * work_value + 1 / (count * c_value)
        tally.claim(
            both(
                answer_value**2 == (total_r + work_value) ** 2 / (count * total_r),
                (c_value * w_value) ** 2 == w_value**2 / (count * total_r),
                count * (answer_value - c_value * work_value) * c_value == 1,
            ),
            "k points (cw, cs+1/(kc)) are exact, with A² = (R+s)²/(kR) and ‖Q‖² = ‖w‖²/(kR)",
            k=count,
            s=work_value,
            w=w_value,
            c=c_value,
        )
    for count, root in product([1, 4, 25], [Fraction(1), Fraction(3, 2)]):
        # s = count·root²/4, so that A = √(4s/count) = root is rational.
        s_value = count * root**2 / 4
        used = Fraction(count) * share
        a_value = root
        scale_value = a_value * margin / s_value
        total = used * (a_value - scale_value * s_value) * scale_value
        tally.claim(total == 1, "k(A-Qᵀθ♠)·scale = 1 with |A| = a", s=s_value, points=used, a=a_value, total=total)
    return tally.evidence()


def _lambert(x: arb) -> arb:
    return x.lambertw()


@check(
    "c12_logistic_budget",
    part="lower_bound",
    method="symbolic",
    falsehoods={
        "ten_percent_fewer": {"factor": Fraction(9, 10)},
        "w_of_one": {"of_one": True, "factor": Fraction(1, 3)},
    },
    strengthen=lambda excess: {"factor": 1 - excess},
)
@precise
def contribution_of_one_label(*, factor: Fraction | int = 1, of_one: bool = False) -> Evidence:
    """One label adds at most W(1/e) = 0.2785 to s: xσ(-x) ≤ W(1/e) for all real x, x = A·Qᵀθ♠; so at least s/W(1/e)
    labels.

    Proof.  The gradient of a point is -Aσ(-x)Q, so exactness times θ♠ gives s = Σx_iσ(-x_i).  For any V ≥ 0, xσ(-x) ≤ V
    says (x-V)e^{-x} ≤ V, and te^{-t} ≤ e^{-1} with t = x-V makes the left-hand side at most e^{-1-V}; that is V exactly
    for V = W(1/e).  te^{-t} is largest at t = 1.
    """
    tally = Tally()
    t, x, v = sp.symbols("t x V", real=True)
    if factor >= 1 and not of_one:
        tally.step(
            vanishes(sp.diff(t * sp.exp(-t), t) - (1 - t) * sp.exp(-t)),
            "(te^{-t})' = (1-t)e^{-t}: largest at t = 1, value 1/e",
        )
        tally.step(
            vanishes(sp.expand((x - v) * sp.exp(-x) - (x - v) * sp.exp(-(x - v)) * sp.exp(-v))),
            "(x-V)e^{-x} = te^{-t}·e^{-V}",
        )
        tally.step(
            vanishes(sp.expand(v * (1 + sp.exp(x)) - x - sp.exp(x) * (v - (x - v) * sp.exp(-x)))),
            "V-xσ(-x), times 1+e^x, is e^x(V-(x-V)e^{-x})",
        )
    bound = ball(factor) * (_lambert(arb(1)) if of_one else _lambert((-arb(1)).exp()))
    peak = 1 + _lambert((-arb(1)).exp())
    points = [ball(Fraction(k, 8)) for k in range(-16, 80)] + [
        peak + ball(gap) for gap in (Fraction(1, 10**7), Fraction(-1, 10**9))
    ]
    for point in points:
        value = point / (1 + point.exp())
        # At the peak itself the two sides are equal; near it balls of 160 bits tell them apart.
        tally.claim(at_most(value, bound), "xσ(-x) <= W(1/e)", x=point.mid().str(12))

    def margin(x: Fraction) -> float:
        return float((bound - ball(x) / (1 + ball(x).exp())).mid())

    attack(
        tally,
        "xσ(-x) <= W(1/e)",
        arguments(x=rational(-60, 60)),
        lambda x: at_most(ball(x) / (1 + ball(x).exp()), bound),
        margin,
    )
    return tally.evidence()


@check(
    "c12_logistic_budget",
    part="construction",
    method="symbolic",
    modulo=("intermediate_value",),
    falsehoods={"one_label_fewer": {"fewer": 1}, "half_as_long": {"end": 1}},
)
@precise
def enough_labels_are_exact(*, fewer: int = 0, end: int = 2) -> Evidence:
    """For s > 0, k = ⌈s/W(1/e)⌉ equal points Q = tw, label 1, are exact for some t; for s ≤ 0 one is.  So m ≥ 1 points
    reach exactly the models ρ with s(ρ) ≤ m·W(1/e) (of those that have a θ♠; further points with Q = 0 change nothing).

    Proof.  The gradients add up to -w if ktσ(-ts) = 1.  *s > 0*: with x = ts this is kxσ(-x) = s.  The value is 0 at
    x = 0, and at the peak x = 1+W it is k(1+W)/(1+e^{1+W}) = kW ≥ s, as We^W = 1/e says e^{1+W} = 1/W; by continuity
    there is a solution in (0, 1+W].  *s ≤ 0*: tσ(-ts) is 0 at t = 0, and at least t/2 = 1 at t = 2.
    """
    tally = Tally()
    if not fewer:
        omega = sp.Symbol("W", positive=True)
        tally.step(vanishes((1 + omega) / (1 + 1 / omega) - omega), "(1+W)σ(-(1+W)) = W where e^{1+W} = 1/W")
        t, s_, k = sp.symbols("t s k", positive=True)
        tally.step(
            vanishes(k * t * s_ / (1 + sp.exp(t * s_)) - s_ * (k * t / (1 + sp.exp(t * s_)))), "ktσ(-ts) = kxσ(-x)/s"
        )
        below = 1 / (1 + t)  # e^{ts} <= 1 for s <= 0
        tally.step(vanishes(1 / (1 + below) - sp.Rational(1, 2) - t / (2 * (2 + t))), "σ(-ts) >= 1/2 for s <= 0")
    w = _lambert((-arb(1)).exp())
    peak = 1 + w
    top = peak / (1 + peak.exp())
    for s in [Fraction(1, 10), Fraction(1), Fraction(7), Fraction(1000)]:
        exact = ball(s) / w
        count = int(exact.mid().ceil().unique_fmpz() or 0) - fewer
        tally.claim(both(less(0, ball(s)), at_most(ball(s), count * top)), "0 < s <= k·max xσ(-x)", s=s, labels=count)
    for s in [Fraction(-1, 10), Fraction(-7)]:
        value = end / (1 + (end * ball(s)).exp())
        tally.claim(less(1, value), "tσ(-ts) > 1 at t = 2", s=s, t=end)
    return tally.evidence()


@check(
    "c13_class_budget",
    method="symbolic",
    falsehoods={"ten_percent_fewer": {"factor": Fraction(9, 10)}, "as_for_two_classes": {"two_classes": True}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
@precise
def contribution_of_one_class_label(*, factor: Fraction | int = 1, two_classes: bool = False) -> Evidence:
    """One label among K adds at most V = W((K-1)/e): m_y - Σp_am_a ≤ V for all margins m, p = softmax(m); so exact data
    are at least s/V points, s = <w, θ♠> the Frobenius product.

    Proof.  The gradient of a point is (p-e_y)Qᵀ, so exactness times θ♠ says that s is the sum of the m_y-Σp_am_a.  (A
    soft label is a mean of hard ones, and adds no more.)  With d_a = m_y-m_a the left-hand side is
    Σd_ae^{-d_a}/(1+Σe^{-d_a}), over a ≠ y; it is at most V if Σ(d_a-V)e^{-d_a} ≤ V, and each term is at most e^{-1-V}
    (te^{-t} ≤ 1/e).  (K-1)e^{-1-V} = V is the definition of V.  Equal margins of the others attain it, so no symmetry
    had to be supposed.  The number s/V is not always attained: a point with equal margins of the others has a multiple
    of e_y-1/K for e_y-p, so w has to be made of such.  (And the rows of w must add up to 0.)  `solvers.poison` makes
    exact data for K classes, and says how far they are above s/V.
    """
    tally = Tally()
    t, d, v = sp.symbols("t d V", real=True)
    if factor >= 1 and not two_classes:
        tally.step(
            vanishes(sp.diff(t * sp.exp(-t), t) - (1 - t) * sp.exp(-t)), "te^{-t} is largest at t = 1, value 1/e"
        )
        tally.step(
            vanishes(sp.expand((d - v) * sp.exp(-d) - (d - v) * sp.exp(-(d - v)) * sp.exp(-v))),
            "(d-V)e^{-d} = te^{-t}·e^{-V}",
        )
        weights_, sums = sp.symbols("E S", real=True)  # Σe^{-d_a} and Σd_ae^{-d_a} over a ≠ y
        tally.step(
            vanishes((v - sums / (1 + weights_)) * (1 + weights_) - (v - (sums - v * weights_))),
            "V-Σp_ad_a, times 1+Σe^{-d}, is V-Σ(d-V)e^{-d}",
        )
    for classes in (2, 3, 10):
        best = _lambert(ball(classes - 1) * (-arb(1)).exp())
        bound = ball(factor) * (_lambert((-arb(1)).exp()) if two_classes else best)
        families = [[1 + best + ball(Fraction(1, 10**7))] * (classes - 1)]
        families += [[ball(g) for g in gaps[: classes - 1]] for gaps in rationals(13, 12, 9)]
        for gaps in families:
            weights = [(-gap).exp() for gap in gaps]
            value = sum((gap * weight for gap, weight in zip(gaps, weights, strict=True)), arb(0)) / (
                1 + sum(weights, arb(0))
            )
            tally.claim(
                at_most(value, bound), "m_y - Σp_am_a <= W((K-1)/e)", K=classes, gaps=[gap.mid().str(8) for gap in gaps]
            )

    def slack(gaps: list[Fraction]) -> arb:
        weights = [(-ball(gap)).exp() for gap in gaps]
        value = sum((ball(gap) * w for gap, w in zip(gaps, weights, strict=True)), arb(0)) / (1 + sum(weights, arb(0)))
        return ball(factor) * _lambert(ball(1 if two_classes else len(gaps)) * (-arb(1)).exp()) - value

    attack(
        tally,
        "m_y - Σp_am_a <= W((K-1)/e)",
        arguments(gaps=st.lists(rational(-30, 60), min_size=1, max_size=5)),
        lambda gaps: at_most(0, slack(gaps)),
        lambda gaps: float(slack(gaps).mid()),
    )
    return tally.evidence()


@check(
    "c14_growth",
    method="symbolic",
    falsehoods={"grows_like_n": {"squared": False}, "distance_does_not_grow": {"distance": False}},
)
def poison_grows_quadratically(*, squared: bool = True, distance: bool = True) -> Evidence:
    """ℓ2²: s = wᵀθ♠ = Θ(N²): with F(θ†) = (N-1)f, f ≠ 0 fixed, w and θ♠ are both affine in N-1, and s has the leading
    coefficient ‖f‖²(1+ν/λ)/(2λ) > 0.  (For smooth-ℓ2 no data reach θ† once (N-1)‖f‖ > λ.)
    """
    return poison_grows_with_the_number_of_users(squared=squared, distance=distance)
