r"""Further statements on the least poison: C10 to C14.

Throughout :math:`w = F(\theta^\dagger) + 2\nu\theta^\spadesuit` and :math:`s = w^T\theta^\spadesuit`.  A dataset is
exact if the gradients of its data points at θ♠ add up to -w; then, with the ridge term, they balance the others.
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
from proofs_checks.strategies import arguments, rational


@check(
    "c10_one_point",
    part="exact",
    method="symbolic",
    falsehoods={"minus_one_over_c": {"sign": -1}, "c_instead_of_one_over_c": {"power": 1}},
    strengthen=lambda excess: {"sign": 1 + excess},
)
def every_scale_is_exact(*, sign: Fraction | int = 1, power: int = -1) -> Evidence:
    """(cw, cwᵀθ♠+1/c) gives ρ* = θ† for every c ≠ 0: ((cw)ᵀθ♠-A)cw = -w."""
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
    """If (Qᵀθ♠-A)Q = -w ≠ 0 then Q = cw with c ≠ 0, and A = cwᵀθ♠+1/c.

    Proof.  The gradient is a multiple of Q, so Q = cw; then (cwᵀθ♠-A)c = -1.  As a claim on instances: an A off by
    `offset`, or a query off the direction of w, is also exact.
    """
    tally = Tally()
    c, s, answer = sp.symbols("c s A", nonzero=True)
    if not direction and not offset:
        solved = sp.solve((c * s - answer) * c + 1, answer)
        tally.step(
            len(solved) == 1 and vanishes(solved[0] - c * s - 1 / c), "(cs-A)c = -1 has the one solution A = cs+1/c"
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
    """|cs+1/c| ≥ 2√s for s > 0, with equality at c = 1/√s: (cs+1/c)² - 4s = (cs-1/c)²."""
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
    falsehoods={"five_s": {"constant": 5}, "reversed": {"upper": True}},
    strengthen=lambda excess: {"constant": 4 * (1 + excess)},
)
def squares_of_answers(*, constant: Fraction | int = 4, upper: bool = False) -> Evidence:
    """Every exact dataset has ΣA² ≥ 4s; so with |A| ≤ a at least 4s/a² points.

    Proof.  Multiply Σ(m_i-A_i)Q_i = -w by θ♠: s = Σ(A_i-m_i)m_i, m_i = Q_iᵀθ♠; and A²/4 - (A-m)m = (A/2-m)² ≥ 0.
    """
    tally = Tally()
    a, m = sp.symbols("A m", real=True)
    if constant <= 4 and not upper:
        tally.step(vanishes(a**2 / 4 - (a - m) * m - (a / 2 - m) ** 2), "A²/4 - (A-m)m is a square")
    cases = [*rationals(11, 12, 6), [Fraction(2), Fraction(1), Fraction(4), Fraction(2), Fraction(0), Fraction(0)]]
    for a1, m1, a2, m2, a3, m3 in cases:
        s = (a1 - m1) * m1 + (a2 - m2) * m2 + (a3 - m3) * m3
        squares = a1**2 + a2**2 + a3**2
        left, right = (squares, constant * s) if upper else (constant * s, squares)
        tally.claim(
            at_most(left, right), "4s <= ΣA² for three points with margins m", A=[a1, a2, a3], m=[m1, m2, m3], s=s
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
    falsehoods={"half_the_points": {"share": Fraction(1, 2)}, "whole_margin": {"margin": Fraction(1)}},
    strengthen=lambda excess: {"share": 1 - excess},
)
def equal_points_attain_the_bound(*, share: Fraction | int = 1, margin: Fraction = Fraction(1, 2)) -> Evidence:
    """For s > 0, k equal points Q = (A/(2s))w, A = √(4s/k) are exact: k(A-Qᵀθ♠)Q = (kA²/(4s))w = w.

    So k = max(1, ⌈4s/a²⌉) points with |A| ≤ a suffice.  (For s ≤ 0 one point (cw, cs+1/c) has an answer as small as
    one likes.)
    """
    tally = Tally()
    s, k, w = sp.symbols("s k w", positive=True)
    answer = sp.sqrt(4 * s / (k * sp.Rational(share)))
    scale = answer * sp.Rational(margin) / s
    # Qᵀθ♠ = scale·s.
    tally.step(vanishes(k * (answer - scale * s) * scale * w - w), "the data gradient is -w")
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

    Proof.  Exactness times θ♠ gives s = Σx_iσ(-x_i).  For any V ≥ 0, xσ(-x) ≤ V says (x-V)e^{-x} ≤ V, and te^{-t} ≤
    e^{-1} with t = x-V makes the left-hand side at most e^{-1-V}; that is V exactly for V = W(1/e).  te^{-t} is
    largest at t = 1.
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
    falsehoods={"one_label_fewer": {"fewer": 1}},
)
@precise
def enough_labels_are_exact(*, fewer: int = 0) -> Evidence:
    """With k = ⌈s/W(1/e)⌉ equal points Q = tw, label 1, kxσ(-x) = s has a solution x = ts in (0, 1+W(1/e)], by
    continuity.

    Decided by the two ends: the value is 0 at x = 0, and at the peak x = 1+W it is k(1+W)/(1+e^{1+W}) = kW ≥ s, as
    We^W = 1/e says e^{1+W} = 1/W.
    """
    tally = Tally()
    if not fewer:
        omega = sp.Symbol("W", positive=True)
        tally.step(vanishes((1 + omega) / (1 + 1 / omega) - omega), "(1+W)σ(-(1+W)) = W where e^{1+W} = 1/W")
    w = _lambert((-arb(1)).exp())
    peak = 1 + w
    top = peak / (1 + peak.exp())
    for s in [Fraction(1, 10), Fraction(1), Fraction(7), Fraction(1000)]:
        exact = ball(s) / w
        count = int(exact.mid().ceil().unique_fmpz() or 0) - fewer
        tally.claim(both(less(0, ball(s)), at_most(ball(s), count * top)), "0 < s <= k·max xσ(-x)", s=s, labels=count)
    return tally.evidence()


@check(
    "c13_class_budget",
    method="symbolic",
    falsehoods={"ten_percent_fewer": {"factor": Fraction(9, 10)}, "as_for_two_classes": {"two_classes": True}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
@precise
def contribution_of_one_class_label(*, factor: Fraction | int = 1, two_classes: bool = False) -> Evidence:
    """One label among K adds at most V = W((K-1)/e): m_y - Σp_am_a ≤ V for all margins m, p = softmax(m).

    Proof.  With d_a = m_y-m_a the left-hand side is Σd_ae^{-d_a}/(1+Σe^{-d_a}), over a ≠ y; it is at most V if
    Σ(d_a-V)e^{-d_a} ≤ V, and each term is at most e^{-1-V} (te^{-t} ≤ 1/e).  (K-1)e^{-1-V} = V is the definition of
    V.  Equal margins of the others attain it, so no symmetry had to be supposed.
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
    """s = wᵀθ♠ = Θ(N²): with F(θ†) = (N-1)f, w and θ♠ are both affine in N-1, and s has the leading coefficient
    ‖f‖²(1+ν/λ)/(2λ) > 0.
    """
    return poison_grows_with_the_number_of_users(squared=squared, distance=distance)
