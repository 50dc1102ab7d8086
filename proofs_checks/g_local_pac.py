r"""Appendix G: gradient-PAC* implies local PAC*.

Numbers of data are fourth powers, so that :math:`I^{3/4}` is an integer and everything is exact.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import sympy as sp
from hypothesis import strategies as st

from proofs_checks.exact import LinearProblem, LinearUser, add, dot, vector
from proofs_checks.registry import Erratum, Evidence, Tally, at_most, check, less
from proofs_checks.search import attack, vanishes
from proofs_checks.steps import along_the_ray, both_events, power_vanishes
from proofs_checks.strategies import arguments, rational

R, A, B, E = sp.symbols("r A B E", positive=True)


@check(
    "lem29_local_models_bounded",
    part="proof_157",
    method="symbolic",
    equations=(152, 153, 154, 155, 156, 157, 158, 159),
    falsehoods={
        "nine_tenths": {"kept": Fraction(9, 10)},
        "radius_one_half": {"radius": Fraction(1, 2)},
        "threshold_two": {"threshold": 2},
    },
    strengthen=lambda excess: {"kept": Fraction(3, 4) * (1 + excess)},
)
def growth_beyond_two(*, kept: Fraction = Fraction(1, 2), radius: Fraction | int = 2, threshold: int = 4) -> Evidence:
    """L_h(θ)-L_h(θ†) ≥ (AI/2 - BI^α)r for r ≥ 2 (3/4 would do for 1/2), and AI - 2BI^α > AI/2 ≥ L⁰ for I > I_1.

    Proof.  ∫_0^1 min(1, tr) dt = 1 - 1/(2r) for r ≥ 1.  And I^{1-α} > 4B/A gives 2BI^α < AI/2.
    """
    tally = Tally()
    t, s = sp.symbols("t s", positive=True)
    integral = sp.integrate(R * t, (t, 0, 1 / R)) + sp.integrate(1, (t, 1 / R, 1))
    tally.step(vanishes(integral - (1 - 1 / (2 * R))), "the integral is 1-1/(2r)")
    if kept == Fraction(1, 2) and radius == 2:
        tally.step(
            vanishes((1 - 1 / (2 * (2 + s))) - sp.Rational(1, 2) - (1 + s) / (2 * (2 + s))), "it exceeds 1/2 for r >= 2"
        )
    for r in [Fraction(radius), radius + Fraction(1, 2), Fraction(50)]:
        value = 1 - 1 / (2 * r) if r >= 1 else r / 2
        tally.claim(at_most(kept, value), "∫ min(1, tr) dt >= kept", r=r, integral=value)
    attack(
        tally,
        "∫ min(1, tr) dt >= kept",
        arguments(r=rational(radius, 1000)),
        lambda r: kept <= (1 - 1 / (2 * r) if r >= 1 else r / 2),
        lambda r: (1 - 1 / (2 * r) if r >= 1 else r / 2) - kept,
    )
    for a, b, root in product([Fraction(1, 3), Fraction(2)], [Fraction(1, 2), Fraction(3)], range(2, 60)):
        if not root > threshold * b / a:
            tally.skip()
            continue
        size, power = Fraction(root**4), Fraction(root**3)
        tally.claim(less(a * size / 2, a * size - 2 * b * power), "AI-2BI^α > AI/2, α = 3/4", A=a, B=b, I=size)
    return tally.evidence()


def _extremal(x: Fraction, a: Fraction, b: Fraction, root: int) -> Fraction:
    """L(θ†+x)-L(θ†) for the convex loss with L' = AI·clip(x, -1, 1) - BI^α, which meets the event with equality for x
    > 0.
    """
    size, power = Fraction(root**4), Fraction(root**3)
    huber = x * x / 2 if abs(x) <= 1 else abs(x) - Fraction(1, 2)
    return a * size * huber - b * power * x


def _least(a: Fraction, b: Fraction, root: int) -> tuple[Fraction, Fraction]:
    """Return where the extremal loss is least, and by how much it is below its value at θ†: B²I^{2α-1}/(2A)."""
    return b / (a * root), b**2 * root**2 / (2 * a)


@check(
    "lem29_local_models_bounded",
    part="proof_160",
    method="certified",
    equations=(160,),
    printed={"compare_with": "preferred"},
    falsehoods={
        "preferred_models": {"compare_with": "preferred"},
        "preferred_models_and_as_many_data_each": {"compare_with": "preferred", "counted": True},
    },
    errata=Erratum(
        place="(160) and I_1",
        repair="The losses of the other honest users may fall below their values at the preferred models, by up to "
        "B²I^{2α-1}/(2A), I their own number of data, which Definition 1 does not bound. So compare with (0, m_H, 0) "
        "instead of (0, θ_H†, 0), m_h within 2 of θ_h† and L_h(m_h) ≤ inf L_h + 1: a model farther than 2 costs more "
        "as soon as its user has I data with AI - 2BI^α > |H| + ΣR(0, m_h) + Σ_{n∉H}(L_n(0)+R(0, 0)).",
        survives="Yes: the lemma says only that I is large enough.",
    ),
)
def far_model_costs_more(*, compare_with: str = "minimizers", counted: bool = False) -> Evidence:
    """If one honest model is farther than 2, the loss exceeds that where every honest loss is least.

    Instances: |H| users with the extremal convex loss (L' = AI·clip(x) - BI^α), α = 3/4, preferred models 0, ℓ2² with
    λ = 10⁻⁶, no other users, so L⁰ = 0; one model at 2.01, the others at their best, with as many data or with more.
    `counted` adds their gain at equal numbers of data, (|H|-1)B²I^{2α-1}/(2A), to the threshold.
    """
    tally = Tally()
    a = b = Fraction(1)
    lam, far = Fraction(1, 10**6), Fraction(201, 100)
    for more, users, root in product([1, 10], [1, 2, 10, 80, 1000], range(5, 40)):
        gain = a * root**4 - 2 * b * Fraction(root**3)
        (mine, least), (best, lowest) = _least(a, b, root), _least(a, b, more * root)
        if compare_with == "preferred":
            is_enough = root > 4 * b / a and (not counted or gain > (users - 1) * least)
        else:
            is_enough = gain > users * (1 + 4 * lam)
        if not is_enough:
            tally.skip()
            continue
        cost = _extremal(far, a, b, root) - (users - 1) * lowest + lam * (far**2 + (users - 1) * best**2)
        other = -least - (users - 1) * lowest + lam * (mine**2 + (users - 1) * best**2)
        change = cost - (0 if compare_with == "preferred" else other)
        tally.claim(
            less(0, change),
            "Loss(ρ=0, θ) > Loss(0, θ†)" if compare_with == "preferred" else "Loss(ρ=0, θ) > Loss(0, m)",
            users=users,
            I=root**4,
            I_of_the_others=(more * root) ** 4,
            change=float(change),
        )
        if tally.has_witness:
            break
    return tally.evidence()


@check(
    "lem29_local_models_bounded",
    method="class",
    falsehoods={
        "preferred_models": {"compare_with": "preferred"},
        "radius_one_tenth": {"radius": Fraction(1, 10)},
    },
)
def models_stay_within_two(*, compare_with: str = "minimizers", radius: Fraction | int = 2) -> Evidence:
    """From some I on, no honest model of a global minimum is farther than 2, whatever the numbers I_h ≥ I of data.

    R is bounded on bounded sets (each of the three is at most R(0, θ) with ‖θ‖ = K+2 for ‖m_h‖ ≤ K+2).
    Proof.  On the events of Definition 3 for all h, each of probability tending to 1 in I_h, integrate uᵀ∇L_h along
    rays from θ_h†: L_h(θ)-L_h(θ_h†) ≥ (AI_h/2-BI_h^α)r for r ≥ 2, which is positive for large I.  So inf L_h is that
    over r ≤ 2, and there is m_h with r ≤ 2 and L_h(m_h) ≤ inf L_h+1.  Let c bound ΣR(0, m_h)+Σ_{n∉H}(L_n(0)+R(0, 0)).
    The loss at the minimum is at most that at (0, m_H, 0), and no L_n and no R is negative; so L_f(θ_f*)-L_f(θ_f†) ≤
    |H|+c for each honest f.  If θ_f* were farther than 2, the left-hand side would exceed AI_f-2BI_f^α, which
    exceeds |H|+c from some I on, as α < 1.  (Preferred models instead of m_H do not do: the other honest losses may
    gain B²I_h^{2α-1}/(2A), and I_h may be far larger than I_f.)
    """
    tally = Tally()
    if compare_with == "minimizers" and radius == 2:
        along_the_ray(tally)
        # α = 1/(1+g): any exponent below 1 (exponents of at most 0 are smaller still).
        power_vanishes(tally, 1 / (1 + sp.Symbol("g", positive=True)) - 1, "2BI^α/I → 0")
        power_vanishes(tally, -1, "(|H|+c)/I → 0, so AI-2BI^α > |H|+c from some I on")
        far, preferred, reached, mine, least, count = sp.symbols("L_f L_f† L_f(m) L_H L_H(m) H", real=True)
        rest, at_zero, bound = sp.symbols("X X0 c", nonnegative=True)
        optimal, competitor = far + mine + rest, reached + least + at_zero
        parts = (competitor - optimal) + (preferred + 1 - reached) + (mine + count - 1 - least) + rest
        tally.step(
            vanishes((count + bound) - (far - preferred) - parts - (bound - at_zero)),
            "|H|+c - (L_f(θ*)-L_f(θ†)) is a sum of five nonnegative terms",
        )
    a = b = Fraction(1)
    lam = Fraction(1)
    tally.step(
        vanishes(sp.solve(sp.diff(A * R**2 / 2 - B * R, R), R)[0] - B / A), "AIr²/2-BI^αr is least at r = BI^α/(AI)"
    )
    for more, users, root in product([1, 10], [1, 3, 80], range(5, 30)):
        (mine_at, least_f), (best, lowest) = _least(a, b, root), _least(a, b, more * root)
        if a * root**4 - 2 * b * Fraction(root**3) <= users * (1 + 4 * lam):
            tally.skip()
            continue
        other = -least_f - (users - 1) * lowest + lam * (mine_at**2 + (users - 1) * best**2)
        # Where a local loss is least is too near to be ruled out, if the radius is smaller than that.
        for distance in [radius + Fraction(1, 100), Fraction(5), *([mine_at] if mine_at > radius else [])]:
            cost = _extremal(distance, a, b, root) - (users - 1) * lowest
            change = cost - (0 if compare_with == "preferred" else other)
            tally.claim(
                less(0, change),
                "the far point costs more",
                users=users,
                I=root**4,
                I_of_the_others=(more * root) ** 4,
                distance=distance,
                change=float(change),
            )
    return tally.evidence()


@check(
    "lem30_global_model_bounded",
    part="proof_constant",
    method="certified",
    printed={"own_terms": False},
    falsehoods={"l0_plus_one": {"own_terms": False}},
    errata=Erratum(
        place="the constant D in the proof of Lemma 30",
        repair="Compare with the point (0, θ_H*, 0) instead of (0, θ_H†, 0): R(ρ*, θ*_h) ≤ Σ_h R(0, θ_h*) + "
        "Σ_{n∉H}(L_n(0)+R(0, 0)), which is bounded "
        "for θ_h* within 2 of θ_h†. L⁰+1 is not a bound, because the data terms of honest users may be smaller at θ* "
        "than at θ†.",
        survives="Yes, with the other constant, for nonnegative continuous R.",
    ),
)
def bound_on_the_regularizer(*, own_terms: bool = True) -> Evidence:
    """R(ρ*, θ*_h) ≤ Σ_h R(0, θ_h*) + Σ_{n∉H}(L_n(0, D_n)+R(0, 0)); exact on least squares with ℓ2²."""
    tally = Tally()
    for answers, lam, outsider in product(
        [(190, -190), (150, 150), (0, 190)], [Fraction(1), Fraction(5)], [None, Fraction(30)]
    ):
        users = [LinearUser([vector([100])], vector([a])) for a in answers]
        if outsider is not None:
            users.append(LinearUser([vector([1])], vector([outsider])))
        problem = LinearProblem(tuple(users), lam, Fraction(1, 100), 1)
        found = problem.minimum()
        if found is None or any(abs(theta[0]) > 2 for theta in found[1][:2]):
            tally.skip()
            continue
        rho, thetas = found
        cost = Fraction(0) if outsider is None else outsider**2 / 2
        # L⁰ = Loss(0, (θ_H† = 0, 0), (∅, D)) is the cost of the outsiders alone.
        bound = sum((lam * theta[0] ** 2 for theta in thetas[:2]), cost) if own_terms else cost + 1
        for theta in thetas[:2]:
            tally.claim(
                at_most(lam * (rho[0] - theta[0]) ** 2, bound),
                "R(ρ*, θ*) within the bound, preferred models 0",
                answers=answers,
                lam=lam,
                outsider=outsider,
                rho=rho[0],
                theta=theta[0],
            )
    return tally.evidence()


@check(
    "lem30_global_model_bounded",
    method="class",
    modulo=("extreme_value",),
    falsehoods={"l0_plus_one": {"own_terms": False}},
)
def global_model_is_bounded(*, own_terms: bool = True) -> Evidence:
    """ρ* lies within D+2 of θ_h'†, where R > c beyond distance D and c bounds Σ_h R(0, θ_h) + Σ_{n∉H}(L_n(0)+R(0, 0))
    over ‖θ_h-θ_h†‖ ≤ 2 (a compact set, on which a continuous R is bounded; the three regularizers: at distance K+2).

    Proof.  Loss(ρ*, θ*) ≤ Loss(0, (θ_H*, 0_{-H})).  The losses L_h of H are the same on both sides and cancel; what
    remains on the left is nonnegative, as no L_n is negative, and contains R(ρ*, θ*_h').  So R(ρ*, θ*_h') ≤ c, and the
    two are within D.  The bound does not depend on the numbers of data of H.
    """
    tally = Tally()
    mine, pulls, rest, zero_pulls, zero_rest, one = sp.symbols("L_H R_H X R0_H X0 R_h", nonnegative=True)
    optimal, competitor = mine + pulls + rest, mine + zero_pulls + zero_rest
    slack = (competitor - optimal) + (pulls - one) + rest
    tally.step(
        vanishes((zero_pulls + zero_rest - one) - slack), "bound - R(ρ*, θ*_h) is a sum of three nonnegative terms"
    )
    inner = bound_on_the_regularizer(own_terms=own_terms)
    for witness in inner.refuted:
        tally.claim(False, witness.finding, **witness.instance)
    for _ in range(inner.decided):
        tally.claim(True, "instances")
    return tally.evidence()


@check(
    "lem5_local_pac",
    part="proof_168",
    method="symbolic",
    equations=(161, 162, 163, 164, 165, 166, 167, 168),
    falsehoods={"half_of_i2": {"share": 1}, "half_the_radius": {"factor": Fraction(1, 2)}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def distance_from_the_preferred_model(*, share: int = 2, factor: Fraction | int = 1) -> Evidence:
    """0 ≥ AI·min(r, r²) - (BI^α+E)r and I > I_2 give r < 1 and r ≤ (BI^α+E)/(AI).

    Proof.  For r ≥ 1 it would say AI ≤ BI^α+E, but I > I_2 makes each term less than AI/2.  For r < 1 divide by AIr.
    """
    tally = Tally()
    size, power = sp.symbols("I P", positive=True)
    if share == 2 and factor == 1:
        s1, s2 = sp.symbols("s1 s2", positive=True)
        gap = (size * A) - (size * A / 2 - s1) - (size * A / 2 - s2)
        tally.step(vanishes(gap - s1 - s2), "AI - BI^α - E = s1+s2 > 0 with BI^α = AI/2-s1, E = AI/2-s2")
        edge = (B * power + E) / (A * size)
        tally.step(vanishes(A * size * edge**2 - (B * power + E) * edge), "equality at r = (BI^α+E)/(AI)")

    def decide(a: Fraction, b: Fraction, e: Fraction, root: int, r: Fraction) -> bool:
        if not (root**4 > share * e / a and root > share * b / a):
            return True
        size_value, lean = a * root**4, b * root**3 + e
        meets = size_value * min(r, r * r) <= lean * r
        return not meets or r <= factor * lean / size_value

    positive = rational(Fraction(1, 1000), 9)
    drawn = arguments(a=positive, b=positive, e=positive, root=st.integers(1, 20), r=rational(0, 9))
    attack(tally, "what meets the inequality is within (BI^α+E)/(AI), α = 3/4", drawn, decide)
    for a, b, e, root in product(
        [Fraction(1, 2), Fraction(2)], [Fraction(1, 3), Fraction(2)], [Fraction(1), Fraction(100)], range(1, 30)
    ):
        if not (root**4 > share * e / a and root > share * b / a):
            tally.skip()
            continue
        size_value, power_value = Fraction(root**4), Fraction(root**3)
        radius = (b * power_value + e) / (a * size_value)
        # The largest r that the inequality allows is this radius if it is below 1, else there is no bound at all.
        tally.claim(less(radius, 1), "no r >= 1 meets the inequality", A=a, B=b, E=e, I=size_value)
        tally.claim(at_most(radius, factor * radius), "the largest r within (BI^α+E)/(AI)", A=a, B=b, E=e, I=size_value)
    return tally.evidence()


@check(
    "lem5_local_pac",
    method="class",
    modulo=("extreme_value",),
    falsehoods={"half_the_radius": {"factor": Fraction(1, 4)}, "without_the_pull": {"with_pull": False}},
)
def honest_user_recovers_its_model(*, factor: Fraction | int = 1, with_pull: bool = True) -> Evidence:
    """‖θ_h*-θ_h†‖ ≤ (BI^α+E)/(AI), which is at most ε < 1 from I = max((2B/(Aε))^{1/(1-α)}, 2E/(Aε)) on; E bounds ‖∇R‖.

    Proof.  There is a minimum, as ν > 0: the loss is continuous and at least νΣ‖θ_n‖²+ΣR, which tends to infinity.
    Take any, and write I for the number of data of the honest user h, which need not be that of others.  Each event
    fails with probability at most δ/(2|H|) from some I on; so all hold with probability 1-δ.  On them Lemma 29 keeps
    the honest models within 2, and Lemma 30 bounds R(ρ*, θ_h*) by a c that does not depend on the numbers of data of
    H: E = λ for ℓ2 and smooth-ℓ2, and E = 2√(λc) for ℓ2², as ‖∇R‖² = 4λR.  No other compactness is needed.  As L_h is
    differentiable and R convex, -∇L_h(θ_h*) is a (sub)gradient of R(ρ*, ·), of norm at most E also where θ_h* = ρ*;
    so the event gives 0 ≥ AI·min(r, r²)-(BI^α+E)r.  Then the part `proof_168` (r = 0 is what is wanted).
    Instances: the exact minimum of least squares with ℓ2², A = λ_min/2, BI^α = ‖ΣξQ‖+2ν‖θ†‖.
    """
    tally = Tally()
    if factor == 1 and with_pull:
        both_events(tally)
        tally.adopt(distance_from_the_preferred_model())
        lam, z, eps, more, extra = sp.symbols("lambda z epsilon s t", positive=True)
        tally.step(vanishes(sp.diff(lam * z**2, z) ** 2 - 4 * lam * (lam * z**2)), "ℓ2²: ‖∇R‖² = 4λR")
        pull = sp.diff(lam * sp.sqrt(1 + z**2), z)
        tally.step(vanishes(lam**2 - pull**2 - lam**2 / (1 + z**2)), "smooth-ℓ2: ‖∇R‖ < λ")
        # I = J^{1/(1-α)} with J >= 2B/(Aε): BI^α/(AI) = B/(AJ); and E/(AI) <= ε/2 for I >= 2E/(Aε).
        first = eps / 2 - B / (A * (2 * B / (A * eps) + more))
        second = eps / 2 - E / (A * (2 * E / (A * eps) + extra))
        tally.step(bool(sp.simplify(first).is_positive) or None, "BI^α/(AI) < ε/2")
        tally.step(bool(sp.simplify(second).is_positive) or None, "E/(AI) < ε/2")
    a1, p1, e1, r1 = sp.symbols("a p e r", positive=True)
    tally.step(vanishes((a1 * r1**2 - (p1 + e1) * r1) / r1 - (a1 * r1 - p1 - e1)), "(167) divided by r")
    for copies, honest, other, noise in product(
        [1, 4, 100], [Fraction(1), Fraction(-3)], [Fraction(0), Fraction(50)], [Fraction(0), Fraction(1, 2)]
    ):
        q = [Fraction(3)] * copies
        answers = [x * honest + noise * (1 if i % 2 else -1) + noise for i, x in enumerate(q)]
        lam, nu = Fraction(1), Fraction(1, 10)
        problem = LinearProblem(
            (LinearUser([[x] for x in q], answers), LinearUser([vector([1])], vector([other]))), lam, nu, 1
        )
        found = problem.minimum()
        if found is None:
            tally.skip()
            continue
        rho, thetas = found
        pull = 2 * lam * abs(add(rho, thetas[0], -1)[0])
        lean = abs(sum((x * (y - x * honest) for x, y in zip(q, answers, strict=True)), Fraction(0))) + 2 * nu * abs(
            honest
        )
        moment = dot(q, q)
        bound = factor * (lean + (pull if with_pull else 0)) / (moment / 2)
        distance = abs(thetas[0][0] - honest)
        if distance >= 1:
            tally.skip()
            continue
        tally.claim(
            at_most(distance, bound),
            "|θ*-θ†| <= (BI^α+E)/(AI)",
            I=copies,
            honest=honest,
            other=other,
            distance=float(distance),
        )
    return tally.evidence()
