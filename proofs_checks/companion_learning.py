r"""Further statements on learning: C15 to C18."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import sympy as sp
from flint import arb

from proofs_checks.companion_sample_size import binomial_at_most
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
    """r²uᵀHu - r·pᵀu ≥ A·min(r, r²) - B·r for all r > 0 and unit u exactly if it holds at r → 0 (‖p‖ ≤ B) and at r = 1
    (A, B include I and I^α).

    Proof.  For θ = θ†+ru the left-hand side is (θ-θ†)ᵀ∇L, H = ΣQQᵀ+2νI, p = -∇L(θ†).  Divide by r.  For r ≤ 1,
    r(uᵀHu-A) ≥ pᵀu-B is affine in r, so its ends decide; at r → 0 all u together say ‖p‖ ≤ B.  For r ≥ 1, r·uᵀHu ≥ uᵀHu
    as H ≥ 0, so r = 1 decides; there all u together are the minimum over the sphere, which is compact.
    For logistic regression (any convex loss) r ≤ 1 decides too: uᵀ∇L(θ†+ru) does not decrease in r, and beyond r = 1
    the bound stays.  What remains there is not in closed form: `theory.gradient_pac` branches and bounds.
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
        at_one, gain = sp.symbols("phi_1 gain", real=True)
        tally.step(
            vanishes((at_one + gain - a + b) - (at_one - a + b) - gain),
            "convex losses, r >= 1: the slack at 1 plus a gain",
        )
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
        "kappa_not_divided_by_m": {"divided": False},
        "kappa_without_m_in_the_radius": {"scaled": False},
    },
    strengthen=lambda excess: {"factor": 1 + excess},
)
@precise
def distance_with_one_constant(
    *,
    factor: Fraction | int = 1,
    square_alone: bool = False,
    reach: int = 1,
    divided: bool = True,
    scaled: bool = True,
) -> Evidence:
    """Δ(a, b) ≥ (σ(k+1)-σ(k))·min(t, t²), t = |a-b|, |b| ≤ k; and ΣΔ(Q_iᵀθ, Q_iᵀθ†) ≥ Iκλ_min(Σ̂)·min(r, r²), r =
    ‖θ-θ†‖, κ = [σ(M(K+1))-σ(MK)]/M, for all data with ‖Q_i‖ ≤ M, and ‖θ†‖ ≤ K.

    Proof.  σ(b+t)-σ(b) decreases in |b+t/2|, so for |b| ≤ k it is least at b = k, where it is concave in t: at least
    t·(σ(k+1)-σ(k)) for t ≤ 1 (chord), at least σ(k+1)-σ(k) for t ≥ 1.  Multiply by t.  (For a < b, Δ(a, b) =
    Δ(-a, -b).)
    *All data.*  Let θ = θ†+ru, τ = |Q_iᵀu| ≤ M, t = rτ, k = MK.  The chord over [0, M] has the slope κ, so σ(k+t)-σ(k)
    ≥ κt for t ≤ M.  For r ≤ 1, t ≤ M and Δ ≥ κt² = κτ²r²; for r ≥ 1 the difference is at least that at τ, so
    Δ ≥ t·κτ = κτ²r.  Στ² = uᵀ(ΣQ_iQ_iᵀ)u ≥ Iλ_min(Σ̂).
    It replaces Lemmas 24 to 28.
    """
    tally = Tally()
    if factor <= 1 and not square_alone and reach == 1 and divided and scaled:
        tally.step(difference_identity(), "σ(b+t)-σ(b) = sinh(t/2)/(cosh(b+t/2)+cosh(t/2))")
        tally.step(derivative_identities(), "σ'' = -σ'tanh(z/2) <= 0 for z >= 0: concave")
        a_, b_ = sp.symbols("a b", real=True)
        delta = (a_ - b_) * (1 / (1 + sp.exp(-a_)) - 1 / (1 + sp.exp(-b_)))
        tally.step(vanishes(delta - delta.subs({a_: -a_, b_: -b_}, simultaneous=True)), "Δ(a, b) = Δ(-a, -b)")
        radius, tau, chord, extra = sp.symbols("r tau kappa s", positive=True)
        near = radius * tau * (chord * radius * tau + extra)
        tally.step(vanishes(near - chord * tau**2 * radius**2 - radius * tau * extra), "r <= 1: Δ >= κτ²r²")
        far = radius * tau * (chord * tau + extra)
        tally.step(vanishes(far - chord * tau**2 * radius - radius * tau * extra), "r >= 1: Δ >= κτ²r")
    for m, bound_k, share in product(
        [Fraction(1, 4), Fraction(1), Fraction(5)], [Fraction(1, 100), Fraction(2)], [Fraction(1), Fraction(1, 50)]
    ):
        k = m * bound_k
        top = m * (bound_k + 1) if scaled else k + 1
        kappa = ball(factor) * (sigmoid(ball(top)) - sigmoid(ball(k))) / (ball(m) if divided else 1)
        for radius_value in (Fraction(1, 10**6), 1 - Fraction(1, 10**13), 1 + Fraction(1, 10**13), Fraction(40)):
            t = radius_value * share * m
            delta_value = ball(t) * (sigmoid(ball(k + t)) - sigmoid(ball(k)))
            claimed = kappa * ball((share * m) ** 2 * min(radius_value, radius_value**2))
            tally.claim(
                at_most(claimed, delta_value),
                "κτ²·min(r, r²) <= Δ(MK+rτ, MK)",
                M=m,
                K=bound_k,
                tau=share * m,
                r=radius_value,
            )
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


def _beyond(count: int, limit: float) -> arb:
    """Return P(|Σξ| > limit) for ``count`` signs."""
    # Heads k with count-2k > limit; the other side is its mirror image.
    most = max((k for k in range(count // 2 + 1) if count - 2 * k > limit), default=-1)
    return 2 * binomial_at_most(most, count, arb(1) / 2)


@check(
    "c17_sharp_exponent",
    method="symbolic",
    modulo=("central_limit", "law_of_large_numbers"),
    falsehoods={
        "one_half_works": {"alpha": Fraction(1, 2)},
        "three_eighths_works": {"alpha": Fraction(3, 8)},
        "three_quarters_fails": {"fails": Fraction(3, 4)},
        "half_as_much_again_as_the_eigenvalue": {"share": Fraction(3, 2)},
    },
)
@precise
def exponent_above_one_half(
    *, alpha: Fraction = Fraction(3, 4), fails: Fraction = Fraction(1, 2), share: Fraction | int = 1
) -> Evidence:
    """With independent noise of mean 0 and variance in (0, ∞), and queries with fourth moments and Σ positive definite,
    α = 1/2 fails for every B, and every α in (1/2, 1) works with every B > 0; for linear regression A works exactly if
    A ≤ λ_min(Σ).

    The event of Definition 3 for linear regression says ‖p‖ ≤ B·I^α and uᵀHu-pᵀu ≥ AI-B·I^α for unit u (C15), p =
    ΣξQ-2νθ†.
    Proof.  *α > 1/2 works, ‖θ†‖ ≤ K*: by Chebyshev P(‖ΣξQ‖ > B·I^α/2) ≤ 4vI/(B²I^{2α}), v = E‖ξQ‖², and
    P(‖ΣQQᵀ-IΣ‖ > B·I^α/4) ≤ 16vI/(B²I^{2α}), v = E‖Q‖⁴ (Frobenius norm); both tend to 0, and 2νK ≤ B·I^α/4 from some
    I on.  Then ‖p‖ ≤ 3B·I^α/4, and uᵀHu-pᵀu ≥ Iλ_min(Σ)-B·I^α: so A ≤ λ_min(Σ) works.
    (With second moments alone Σ̂ → Σ by the law of large numbers, and A < λ_min(Σ) works, as I^α/I → 0.)
    *A > λ_min(Σ) does not*: for its eigenvector u, uᵀHu/I → λ_min(Σ), ‖p‖/I → 0 and B·I^α/I → 0.
    *α ≤ 1/2 fails*: ΣξQ/√I has a normal limit with covariance E[ξ²]Σ, which is not 0 (central limit theorem), so
    P(‖p‖ ≤ B√I) stays below 1 for every B.
    *Logistic regression*: the residual σ(Qᵀθ†)-1{A = 1} is such a noise, with covariance E[σ'(Qᵀθ†)QQᵀ] of the sum; for
    r → 0 the event says ‖p‖ ≤ B·I^α again, so α = 1/2 fails.  For α > 1/2 the event follows from ‖p‖ ≤ B·I^α and C16,
    (θ-θ†)ᵀ∇L ≥ ΣΔ-r‖p‖, with A = κλ for any λ < λ_min(Σ) (for unbounded queries see C18).
    Instances, exact: signs as noise, queries 1; queries 0 or 1 with equal odds, without noise.
    """
    tally = Tally()
    if alpha > Fraction(1, 2) and fails <= Fraction(1, 2) and share <= 1:
        size, spread, b = sp.symbols("I v B", positive=True)
        gap = sp.Symbol("g", positive=True)  # α = 1/2+g
        power = size ** (sp.Rational(1, 2) + gap)
        for part, name in ((2, "the noise: (4v/B²)I^{-2g}"), (4, "the second moment: (16v/B²)I^{-2g}")):
            chebyshev = spread * size / (b * power / part) ** 2
            left = chebyshev - part**2 * spread / b**2 * size ** (-2 * gap)
            tally.step(vanishes(sp.powsimp(sp.expand(left))), f"Chebyshev's bound for {name}")
        power_vanishes(tally, -2 * gap, "which tends to 0")
        power_vanishes(tally, 1 / (1 + gap) - 1, "I^α/I → 0 for α < 1")
        least, spare, room = sp.symbols("lambda s w", nonnegative=True)
        whole = (size * least - b * power / 4 + spare) - (b * power / 2 + b * power / 4 - room)
        tally.step(
            vanishes(whole - (least * size - b * power) - spare - room), "the parts 1/4, 1/2 and 1/4 add up to B·I^α"
        )
    count = 4096
    probability = _beyond(count, count ** float(alpha))
    tally.claim(
        less(probability, ball(Fraction(1, 100))),
        "P(|Σξ| > I^α) < 1 %",
        I=count,
        alpha=alpha,
        probability=probability.str(6),
    )
    for size_value, bound in product((256, 1024, 4096), (1, 2)):
        beyond = _beyond(size_value, bound * size_value ** float(fails))
        tally.claim(
            less(ball(Fraction(1, 100)), beyond),
            "P(|Σξ| > B·I^α) > 1 %, and so it stays",
            I=size_value,
            B=bound,
            alpha=fails,
            probability=beyond.str(6),
        )
    # Q = 0 or 1: Σ = 1/2; the event, without noise and for ν = 0, is ΣQ² >= AI-I^{3/4}, A = share/2.
    least = int(-(-(share * count / Fraction(2) - 512) // 1))
    ones = 1 - binomial_at_most(least - 1, count, arb(1) / 2)
    tally.claim(
        less(ball(Fraction(99, 100)), ones),
        "P(ΣQ² >= AI-I^{3/4}) > 99 %",
        I=count,
        A=share / Fraction(2),
        probability=ones.str(6),
    )
    return tally.evidence()


@check(
    "c18_necessary_and_sufficient",
    method="symbolic",
    modulo=("law_of_large_numbers",),
    falsehoods={"singular_is_enough": {"singular": True}, "twice_the_eigenvalue": {"factor": 2}},
)
def second_moment_must_be_definite(*, singular: bool = False, factor: int = 1) -> Evidence:
    """With second moments of queries and noise, some A > 0 works exactly if λ_min(Σ) > 0; for linear regression every A
    below it does.

    Proof.  *Only if*: if uᵀΣu = 0 then Qᵀu = 0 almost surely: the data do not see u, so at θ†+u the left-hand side is
    2νuᵀ(θ†+u), and AI-B·I^α ≤ 2ν(1+‖θ†‖) fails for large I, whatever A > 0, B and α < 1; for both losses.
    *If*: Σ̂ → Σ (law of large numbers), and C15 and C17 give the event with A < λ_min(Σ) for linear regression.  For
    logistic regression keep the data with ‖Q‖ ≤ R alone: the others' Δ is not negative, so C16 gives A =
    κ(R, K)·λ for any λ < λ_min(E[QQᵀ1{‖Q‖ ≤ R}]); as R grows that matrix increases to Σ, so for large R it is positive
    definite.  Its noise has E‖ξQ‖² ≤ E‖Q‖².  No further moments are used, and one α, say 3/4, serves all ‖θ†‖ ≤ K.
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
