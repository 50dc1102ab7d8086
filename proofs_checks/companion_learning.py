r"""Further statements on learning: C15 and C16."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb

import sympy as sp
from flint import arb

from proofs_checks.exact import Vector, apply, dot, matrix, vector
from proofs_checks.f_gradient_pac import derivative_identities, difference_identity
from proofs_checks.registry import Evidence, Tally, at_most, check, less
from proofs_checks.search import attack, ball, precise, sigmoid, vanishes, worst
from proofs_checks.steps import power_vanishes
from proofs_checks.strategies import arguments, rational

_RADII = [Fraction(1, 100), Fraction(1), Fraction(10)]


@check(
    "c15_decidable",
    method="class",
    falsehoods={
        "sphere_alone": {"with_origin": False},
        "origin_alone": {"with_sphere": False},
        "twice_a": {"factor": 2},
    },
)
def gradient_pac_is_decided_at_two_radii(
    *, with_origin: bool = True, with_sphere: bool = True, factor: int = 1
) -> Evidence:
    """r²uᵀHu - r·pᵀu ≥ A·min(r, r²) - B·r for all r > 0 exactly if it holds at r → 0 (‖p‖ ≤ B) and at r = 1 (A, B
    include I and I^α).

    Proof.  Divide by r.  For r ≤ 1, r(uᵀHu-A) ≥ pᵀu-B is affine in r, so its ends decide.  For r ≥ 1, r·uᵀHu ≥ uᵀHu
    as H ≥ 0, so r = 1 decides.
    """
    tally = Tally()
    h, p, a, b, r = sp.symbols("h p A B r", real=True)
    slack = (r**2 * h - r * p - a * r**2 + b * r) / r
    if with_origin and with_sphere and factor == 1:
        tally.step(
            vanishes(slack - ((1 - r) * (b - p) + r * (h - p - a + b))),
            "for r <= 1: a mean of the slacks at 0 and at 1",
        )
        beyond = (r**2 * h - r * p - a * r + b * r) / r
        tally.step(vanishes(beyond - (h - p - a + b) - (r - 1) * h), "for r >= 1: the slack at 1 plus (r-1)uᵀHu")
    circle: list[Vector] = [
        [(1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)] for t in (Fraction(n, 5) for n in range(-15, 16))
    ]
    for rows, lean, bound, slope in product(
        [[[2, 0], [0, 1]], [[3, 1], [1, 1]]],
        [vector([0, 0]), vector([1, 0]), vector(["1/2", "1/2"])],
        [Fraction(1, 2), Fraction(2)],
        [Fraction(1, 4), Fraction(1)],
    ):
        hessian, tilt = matrix(rows), lean
        for u in circle:
            curvature, tilted = dot(u, apply(hessian, u)), dot(tilt, u)
            at_origin = tilted <= bound or not with_origin
            at_sphere = curvature - tilted >= slope - bound or not with_sphere
            if not (at_origin and at_sphere):
                tally.skip()
                continue
            for radius in [Fraction(1, 10**6), Fraction(1, 2), Fraction(1), Fraction(3), Fraction(10**6)]:
                left = radius**2 * curvature - radius * tilted
                right = factor * slope * min(radius, radius**2) - bound * radius
                tally.claim(
                    at_most(right, left), "the event along one ray", H=rows, p=lean, A=slope, B=bound, u=u, r=radius
                )

    def decide(h: Fraction, p: Fraction, a_: Fraction, b_: Fraction, r_: Fraction) -> bool:
        if (with_origin and p > b_) or (with_sphere and h - p < a_ - b_):
            return True
        return r_ * r_ * h - r_ * p >= factor * a_ * min(r_, r_ * r_) - b_ * r_

    size = rational(0, 9)
    drawn = arguments(h=size, p=rational(-9, 9), a_=size, b_=size, r_=rational(Fraction(1, 10**6), 1000))
    attack(tally, "the event along one ray, uᵀHu = h, pᵀu = p", drawn, decide)
    return tally.evidence()


@check(
    "c16_explicit_constant",
    part="inequality",
    method="symbolic",
    falsehoods={
        "one_percent_more": {"factor": Fraction(101, 100)},
        "squares_alone": {"square_alone": True},
        "b_unbounded": {"reach": 5},
    },
    strengthen=lambda excess: {"factor": 1 + excess},
)
@precise
def distance_with_one_constant(*, factor: Fraction | int = 1, square_alone: bool = False, reach: int = 1) -> Evidence:
    """Δ(a, b) ≥ (σ(k+1)-σ(k))·min(t, t²), t = |a-b|, |b| ≤ k.

    Proof.  σ(b+t)-σ(b) decreases in |b+t/2|, so for |b| ≤ k it is least at b = k, where it is concave in t: at least
    t·(σ(k+1)-σ(k)) for t ≤ 1 (chord), at least σ(k+1)-σ(k) for t ≥ 1.  Multiply by t.  It replaces Lemmas 24 and 25
    at once.
    """
    tally = Tally()
    if factor <= 1 and not square_alone and reach == 1:
        tally.step(difference_identity(), "σ(b+t)-σ(b) = sinh(t/2)/(cosh(b+t/2)+cosh(t/2))")
        tally.step(derivative_identities(), "σ'' = -σ'tanh(z/2) <= 0 for z >= 0: concave")
    for k in _RADII:
        constant = ball(factor) * (sigmoid(ball(k + 1)) - sigmoid(ball(k)))

        def margin(x: object, constant: arb = constant) -> float:
            b, t = arb(float(x[0])), float(x[1])  # type: ignore[index]
            value = arb(t) * (sigmoid(b + arb(t)) - sigmoid(b)) - constant * arb(min(t, t * t))
            return float(value.mid())

        found = worst(margin, [(-float(k), float(k)), (1e-6, 4.0)], seed=16, rounds=4)
        points = [(Fraction(found[0]), Fraction(found[1]))]
        points += [
            (reach * k, t)
            for t in (
                Fraction(1, 10**6),
                Fraction(1, 2),
                1 - Fraction(1, 10**13),
                1 + Fraction(1, 10**13),
                Fraction(30),
            )
        ]
        for (b, t), sign in product(points, (1, -1)):
            delta = ball(t) * (sigmoid(ball(sign * b + sign * t)) - sigmoid(ball(sign * b))) * sign
            bound = constant * ball(t * t if square_alone else min(t, t * t))
            tally.claim(at_most(bound, delta), "(σ(k+1)-σ(k))·min(t, t²) <= Δ(b+t, b)", k=k, b=sign * b, t=sign * t)
    return tally.evidence()


@check(
    "c16_explicit_constant",
    part="sharp",
    method="symbolic",
    falsehoods={"a_larger_constant_at_one": {"at": Fraction(1, 2)}},
)
@precise
def constant_is_best_possible(*, at: Fraction | int = 1) -> Evidence:
    """At b = k, a = k+1 both sides are equal: Δ = 1·(σ(k+1)-σ(k)) and min(t, t²) = 1.  At other gaps there is room."""
    tally = Tally()
    k = sp.Symbol("k", positive=True)
    gap = sp.Rational(at)
    left = gap * (1 / (1 + sp.exp(-k - gap)) - 1 / (1 + sp.exp(-k)))
    right = (1 / (1 + sp.exp(-k - 1)) - 1 / (1 + sp.exp(-k))) * sp.Min(gap, gap**2)
    tally.step(vanishes(left - right) if at == 1 else None, "equality for every k")
    for value in _RADII:
        delta = ball(at) * (sigmoid(ball(value + at)) - sigmoid(ball(value)))
        bound = (sigmoid(ball(value + 1)) - sigmoid(ball(value))) * ball(min(Fraction(at), Fraction(at) ** 2))
        tally.claim(
            at_most(delta, bound * ball(1 + Fraction(1, 10**30))), "Δ <= the bound (up to 10⁻³⁰)", k=value, gap=at
        )
    return tally.evidence()


@check(
    "c17_sharp_exponent",
    method="symbolic",
    modulo=("central_limit", "law_of_large_numbers"),
    falsehoods={"one_half_works": {"alpha": Fraction(1, 2)}, "three_eighths_works": {"alpha": Fraction(3, 8)}},
)
@precise
def exponent_above_one_half(*, alpha: Fraction = Fraction(3, 4)) -> Evidence:
    """P(|Σξ_i| > B·I^α) falls below 1 % for α = 3/4 at I = 4096, B = 1; for α = 1/2 it stays near P(|N| > B) > 30 %.

    The event of Definition 3 for linear regression says ‖p‖ ≤ B·I^α and uᵀHu-pᵀu ≥ AI-B·I^α (C15), p = ΣξQ up to the
    ridge term.  Proof.  *α > 1/2 works*: by Chebyshev P(‖ΣξQ‖ > B·I^α/2) ≤ 4vI/(B²I^{2α}), v = E‖ξQ‖² finite, tends to
    0; and H/I → Σ (law of large numbers), so A < λ_min(Σ) works for every B > 0, and A > λ_min(Σ) does not, as I^α/I →
    0.  *α ≤ 1/2 fails*: ΣξQ/√I has a normal limit that is not 0 (central limit theorem), so P(‖ΣξQ‖ ≤ B√I) stays
    below 1 for every B.  Instances: signs, exact.
    """
    tally = Tally()
    if alpha > Fraction(1, 2):
        size, spread, b = sp.symbols("I v B", positive=True)
        gap = sp.Symbol("g", positive=True)  # α = 1/2+g
        chebyshev = spread * size / (b * size ** (sp.Rational(1, 2) + gap) / 2) ** 2
        tally.step(
            vanishes(sp.powsimp(sp.expand(chebyshev - 4 * spread / b**2 * size ** (-2 * gap)))),
            "Chebyshev's bound is (4v/B²)I^{-2g}",
        )
        power_vanishes(tally, -2 * gap, "which tends to 0")
        power_vanishes(tally, 1 / (1 + gap) - 1, "I^α/I → 0 for α < 1")
    for count in (4096,):
        bound = count ** float(alpha)
        # 4096^α is an integer for multiples of 1/4 and of 1/3; else it is rounded up, which favours the claim.
        limit = round(bound) if abs(bound - round(bound)) < 1e-9 else int(bound) + 1
        heads = [k for k in range(count + 1) if abs(2 * k - count) > limit]
        probability = Fraction(sum(comb(count, k) for k in heads), 2**count)
        tally.claim(
            less(probability, Fraction(1, 100)),
            "P(|Σξ| > I^α) < 1 %",
            I=count,
            alpha=alpha,
            probability=float(probability),
        )
    return tally.evidence()


@check(
    "c18_necessary_and_sufficient",
    method="symbolic",
    modulo=("law_of_large_numbers",),
    falsehoods={"singular_is_enough": {"singular": True}, "twice_the_eigenvalue": {"factor": 2}},
)
def second_moment_must_be_definite(*, singular: bool = False, factor: int = 1) -> Evidence:
    """Along every unit u, (θ-θ†)ᵀ∇L = I·r²uᵀΣ̂u + O(r) with Σ̂ → Σ: A > 0 works exactly if λ_min(Σ) > 0, and any A up
    to it.

    Proof.  If uᵀΣu = 0 then Qᵀu = 0 almost surely: the data do not see u, and AI ≤ B·I^α+2ν(1+‖θ†‖) fails at r = 1
    for large I, whatever A > 0, B and α < 1.  Else Σ̂ → Σ (law of large numbers), and C15 and C17 give the event with
    A < λ_min(Σ); for logistic regression with κ(R, K)·λ_min(E[QQᵀ1{‖Q‖ ≤ R}]) (C16), positive for large R: what is
    dropped is not negative.  Second moments are all that is used.
    """
    tally = Tally()
    if not singular and factor == 1:
        power_vanishes(tally, 1 / (1 + sp.Symbol("g", positive=True)) - 1, "(B·I^α)/I → 0, so AI <= B·I^α+c fails")
        power_vanishes(tally, -1, "2ν(1+‖θ†‖)/I → 0")
        tally.adopt(distance_with_one_constant())
    cases = (
        [([[1, 0], [0, 0]], Fraction(1, 10)), ([[1, 1], [1, 1]], Fraction(1, 1000))]
        if singular
        else [([[2, 0], [0, 1]], Fraction(1)), ([[2, 1], [1, 2]], Fraction(1))]
    )
    circle: list[Vector] = [
        [(1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)] for t in (Fraction(n, 5) for n in range(-15, 16))
    ]
    for rows, slope in cases:
        for u in circle:
            curvature = dot(u, apply(matrix(rows), u))
            # At r = 1, I = 10⁸, B = 1, α = 3/4, ν = 1: I·curvature + 2 >= factor·A·I - I^α.
            size, power = Fraction(10**8), Fraction(10**6)
            tally.claim(
                at_most(factor * slope * size, size * curvature + 2 + power),
                "the event at r = 1",
                sigma=rows,
                A=slope,
                u=u,
            )
    return tally.evidence()
