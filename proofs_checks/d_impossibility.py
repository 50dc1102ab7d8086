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
    """For N/2 ≤ F < N two disjoint groups of N-F users prefer -1 and 1, and no ρ is within √ε of both, for ε < 1.

    Proof.  Let each group answer as many queries as its own guarantee asks for; for each the other users are Byzantine,
    who may report anything, these data too.  With probability at least 1-2δ > 0, for δ < 1/2, both guarantees hold on
    the same data.  Each group agrees, so its diameter is 0, and (4) says (ρ+1)² ≤ ε and (ρ-1)² ≤ ε; but
    (ρ+1)²+(ρ-1)² = 2ρ²+2 ≥ 2 > 2ε.  In d > 1 let the groups prefer -e_1 and e_1: ρ is then the first coordinate.
    For F < N/2 it is false: the trimmed mean is (F, N, C)-Byzantine learning in d = 1.
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
    """For 0 ≤ C < m = F/(N-F) some ε > 0 leaves no ρ with ρ² ≤ ε and (ρ-m)² ≤ C²+ε.

    Proof.  For F ≥ N/2 this is Corollary 1, and for F = 0 there is no such C; so let 0 < F < N/2.  All users answer I
    queries, where I is large enough for both guarantees (see the part `proof_common_number`): the first N-F with the
    model 0, the last F with 1.  In the first world the first N-F are honest, who agree on 0: ρ² ≤ ε.  In the second
    the last N-F are, of whom F prefer 1 and N-2F prefer 0, so that the mean is m and the diameter 1: (ρ-m)² ≤ C²+ε.
    With probability at least 1-2δ > 0 both hold on the same data.  With e = √ε < (m²-C²)/(2m), which is below m:
    ρ ≤ e gives (ρ-m)² ≥ (m-e)², and (m-e)²-(C²+e²) = m²-C²-2me > 0.  In d > 1 all this is on a line, and ρ is the
    coordinate along it.  At C = m the answer ρ = 0 meets both.
    """
    tally = Tally()
    e, spare = sp.symbols("e s", positive=True)
    if share < 1:
        tally.step(vanishes((M - e) ** 2 - (C**2 + e**2) - (M**2 - C**2 - 2 * M * e)), "(m-e)²-(C²+e²) = m²-C²-2me")
        # e is below (m²-C²)/(2m) by s.
        left = (M**2 - C**2 - 2 * M * e).subs(e, (M**2 - C**2) / (2 * M) - spare)
        tally.step(vanishes(left - 2 * M * spare), "which is 2ms > 0")
        tally.step(vanishes(M - ((M**2 - C**2) / (2 * M) - spare) - (M**2 + C**2) / (2 * M) - spare), "m-e > 0")
        both_events(tally)
        tally.adopt(consequence_of_both_guarantees())

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
        scan=True,
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


def _model_of(number: int) -> Fraction:
    """Return the rational that a number of data stands for: 2^k(2b+1) is ±⌈k/2⌉/(b+1), so that each has a number."""
    k = (number & -number).bit_length() - 1
    return Fraction((-1) ** k * ((k + 1) // 2), ((number >> k) - 1) // 2 + 1)


def _number_of(model: Fraction) -> int:
    k = 2 * abs(model.numerator) - (model.numerator < 0)
    return int(2**k * (2 * (model.denominator - 1) + 1))


def _read_off(sizes: list[int]) -> Fraction:
    """Answer what the number of data that most users share stands for; the data themselves are not looked at."""
    return _model_of(max(set(sizes), key=sizes.count))


@check(
    "cor2_heterogeneity",
    part="proof_common_number",
    method="certified",
    printed={"at_least": False},
    falsehoods={"exactly_the_number": {"at_least": False}},
    errata=Erratum(
        place="Definition 2, `by answering I queries`, read as exactly I, and the proof of Corollary 2, where the two "
        "honest groups overlap and answer one number of queries",
        repair="Ask in Definition 2 for at least I queries, as in Definition 1: then the larger of the two numbers "
        "serves both groups. (Corollary 1 needs no common number, as its groups are disjoint.)",
        survives="Yes, with `at least`. With exactly I no: I may depend on the preferred models, so a learner that "
        "reads the mean off the number of data that most users share meets (4) with C = 0 for F < N/2.",
    ),
)
def numbers_of_data_can_be_shared(*, at_least: bool = True) -> Evidence:
    """A guarantee for all numbers of queries from I on is one for a number that serves both worlds; at I alone, not.

    The learner of the instances looks at the numbers of data alone: the one that N-F > N/2 users share stands for a
    rational.  For the number of a rational near the honest mean it is right, whatever the F others report; at others
    it is not.
    """
    tally = Tally()
    epsilon = Fraction(1, 100)
    for n, f in [(3, 1), (5, 2), (7, 3)]:
        worlds = [Fraction(0), Fraction(f, n - f)]  # the honest means
        own = [_number_of(mean) for mean in worlds]
        numbers = [[max(own)] * 2] if at_least else [own]
        for chosen in numbers:
            met = True
            for mean, number in zip(worlds, chosen, strict=True):
                for lie in (0, 1, number, number + 1):
                    met = met and (_read_off([number] * (n - f) + [lie or 1] * f) - mean) ** 2 <= epsilon
            tally.claim(not met, "the learner breaks (4) with C = 0 in one world", N=n, F=f, numbers=chosen)
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
