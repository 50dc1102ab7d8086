"""Appendix D: what no algorithm can do.  In both worlds the algorithm sees the same data, so it answers the same ρ."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import sympy as sp

from proofs_checks.registry import Erratum, Evidence, Tally, at_most, both, check, less
from proofs_checks.search import attack, vanishes
from proofs_checks.steps import both_events
from proofs_checks.strategies import arguments, rational

RHO, EPS, C, M = sp.symbols("rho epsilon C m", positive=True)


def trimmed_mean(values: list[Fraction], drop: int) -> Fraction:
    """Return the mean of what remains after dropping the ``drop`` smallest and the ``drop`` largest values."""
    kept = sorted(values)[drop : len(values) - drop]
    return sum(kept, Fraction(0)) / len(kept)


@check(
    "cor1_majority",
    method="symbolic",
    equations=(94,),
    falsehoods={"a_minority": {"minority": True}, "epsilon_one": {"epsilon": Fraction(1)}},
    strengthen=lambda excess: {"epsilon": 1 + excess},
)
def half_of_the_users_suffice(*, minority: bool = False, epsilon: Fraction = Fraction(1, 4)) -> Evidence:
    """For F ≥ N/2 there are disjoint honest groups of N-F users, who prefer -1 and 1; no ρ is within √ε of both, for
    ε < 1.

    Proof.  With probability at least 1-2δ > 0, for δ < 1/2, both guarantees hold on the same data.
    (ρ+1)²+(ρ-1)² = 2ρ²+2 ≥ 2 > 2ε.  For F < N/2 it is false: the trimmed mean is (F, N, C)-Byzantine learning
    in d = 1.
    """
    tally = Tally()
    if not minority and epsilon < 1:
        tally.step(vanishes((RHO + 1) ** 2 + (RHO - 1) ** 2 - 2 * RHO**2 - 2), "(ρ+1)²+(ρ-1)² = 2+2ρ²")
        both_events(tally)
    for n in range(2, 12):
        for f in range(1, n):
            if (2 * f < n) is not minority:
                continue
            if not minority:
                tally.claim(at_most(2 * (n - f), n), "two disjoint honest groups fit", N=n, F=f)
                continue
            # All data in which at most F users deviate: k users say 1, the others -1.
            worst = Fraction(0)
            for ones, bad in product(range(n - f + 1), range(f + 1)):
                honest = [Fraction(1)] * ones + [Fraction(-1)] * (n - f - ones)
                answer = trimmed_mean([*honest, *[Fraction(10)] * bad, *[Fraction(-10)] * (f - bad)], f)
                mean = sum(honest, Fraction(0)) / len(honest)
                spread = max(honest) - min(honest)
                worst = max(worst, abs(answer - mean) - Fraction(f, n - f) * spread)
            tally.claim(less(0, worst), "the trimmed mean violates (4) with C = F/(N-F)", N=n, F=f, excess=worst)
    for rho in [Fraction(k, 8) for k in range(-12, 13)]:
        tally.claim(
            not ((rho + 1) ** 2 <= epsilon and (rho - 1) ** 2 <= epsilon),
            "ρ violates one of the two guarantees",
            rho=rho,
            epsilon=epsilon,
        )
    return tally.evidence()


@check(
    "cor2_heterogeneity",
    method="symbolic",
    equations=(95,),
    falsehoods={"at_the_bound": {"share": Fraction(1)}, "twice_the_bound": {"share": Fraction(2)}},
    strengthen=lambda excess: {"share": 1 + excess},
)
def no_constant_below(*, share: Fraction = Fraction(99, 100)) -> Evidence:
    """For C < m = F/(N-F) some ε > 0 leaves no ρ with ρ² ≤ ε and (ρ-m)² ≤ C²+ε.

    Proof.  With probability at least 1-2δ > 0 both guarantees hold on the same data.  With e = √ε < (m²-C²)/(2m):
    (m-e)² - (C²+e²) = m²-C²-2me > 0.  In the second world F of the N-F honest users prefer 1, the others 0, so the
    mean is m and the diameter 1; all users prefer 0 in the first.  At C = m the
    answer ρ = 0 meets both.
    """
    tally = Tally()
    e = sp.Symbol("e", positive=True)
    if share < 1:
        tally.step(vanishes((M - e) ** 2 - (C**2 + e**2) - (M**2 - C**2 - 2 * M * e)), "(m-e)²-(C²+e²) = m²-C²-2me")
        both_events(tally)

    def decide(m: Fraction, rho: Fraction) -> bool:
        c = share * m
        epsilon = ((m * m - c * c) / (4 * m)) ** 2 if share < 1 else Fraction(1, 10**6)
        return not (rho * rho <= epsilon and (rho - m) ** 2 <= c * c + epsilon)

    drawn = arguments(m=rational(Fraction(1, 100), 1), rho=rational(-2, 2))
    attack(tally, "no ρ meets both guarantees", drawn, decide)
    for n, f in [(3, 1), (5, 2), (10, 3), (101, 50)]:
        m = Fraction(sum([1] * f + [0] * (n - 2 * f)), n - f)
        tally.claim(m == Fraction(f, n - f), "the honest mean of the second world is F/(N-F)", N=n, F=f)
        c = share * m
        root = (m * m - c * c) / (4 * m) if share < 1 else Fraction(1, 10**6)
        # ρ = √ε is the best answer: it is the closest to m that the first world allows.
        tally.claim(
            less(c * c + root * root, (m - root) ** 2), "no ρ meets both guarantees", N=n, F=f, C=c, epsilon=root**2
        )
    return tally.evidence()


@check(
    "cor2_heterogeneity",
    part="proof_96",
    method="symbolic",
    equations=(96,),
    printed={"root": False},
    falsehoods={"epsilon_without_root": {"root": False}},
    errata=Erratum(
        place="(96)",
        repair="|ρ|² ≤ ε gives |ρ| ≤ √ε, so C² ≥ (F/(N-F) - √ε)² - ε.",
        survives="Yes: the limit ε → 0 is the same.",
    ),
)
def consequence_of_both_guarantees(*, root: bool = True) -> Evidence:
    """ρ² ≤ ε, (ρ-m)² ≤ C²+ε and √ε ≤ m give C² ≥ (m-√ε)²-ε.  Proof: (m-ρ)² ≥ (m-√ε)² for ρ ≤ √ε ≤ m."""
    tally = Tally()
    e, s, t = sp.symbols("e s t", nonnegative=True)
    if root:
        # ρ = e-s, m = e+t.
        tally.step(vanishes((e + t - (e - s)) ** 2 - t**2 - (2 * t * s + s**2)), "(m-ρ)²-(m-√ε)² = 2ts+s² >= 0")
    for m, small in product([Fraction(1, 2), Fraction(1)], [Fraction(1, 4), Fraction(1, 10)]):
        rho, epsilon = small, small**2
        c_squared = (rho - m) ** 2 - epsilon
        if c_squared < 0 or small > m:
            tally.skip()
            continue
        bound = (m - (small if root else epsilon)) ** 2 - epsilon
        tally.claim(
            at_most(bound, c_squared),
            "C² >= the bound, at C² = (ρ-m)²-ε",
            m=m,
            epsilon=epsilon,
            rho=rho,
            C_squared=c_squared,
        )
    return tally.evidence()


@check(
    "def2_byzantine",
    method="certified",
    equations=(4,),
    falsehoods={"median_of_means_is_exact": {"c": Fraction(0)}},
)
def definition_2_can_be_met(*, c: Fraction | None = None) -> Evidence:
    """Definition 2 is not empty: for exact data in d = 1 and F < N/2 the trimmed mean meets (4) with C = F/(N-F), and
    not with C = 0.
    """
    tally = Tally()
    for n, f in [(3, 1), (5, 2), (7, 2)]:
        constant = Fraction(f, n - f) if c is None else c
        for ones, bad in product(range(n - f + 1), range(f + 1)):
            honest = [Fraction(1)] * ones + [Fraction(0)] * (n - f - ones)
            answer = trimmed_mean([*honest, *[Fraction(9)] * bad, *[Fraction(-9)] * (f - bad)], f)
            mean = sum(honest, Fraction(0)) / len(honest)
            spread = max(honest) - min(honest)
            tally.claim(
                both(at_most((answer - mean) ** 2, constant**2 * spread**2)),
                "(4) with ε = 0",
                N=n,
                F=f,
                ones=ones,
                answer=answer,
            )
    return tally.evidence()
