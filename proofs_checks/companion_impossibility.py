r"""Further statements on impossibility: C21."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

from proofs_checks.d_impossibility import trimmed_mean
from proofs_checks.registry import Evidence, Tally, at_most, check


@check(
    "c21_sharp_in_one_dimension",
    part="trimmed_mean",
    method="certified",
    in_words="that the largest error is at vertices (0-1 values), for N beyond 14 as well",
    falsehoods={"a_tenth_less": {"factor": Fraction(9, 10)}, "one_trimmed_too_few": {"drop": -1}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def trimmed_mean_attains_the_bound(*, factor: Fraction | int = 1, drop: int = 0) -> Evidence:
    """Dropping the F least and F largest of N values leaves a mean within F/(N-F) of the honest mean, honest values
    in [0, 1], F < N/2.

    Proof.  A Byzantine value may as well be at an end: moving it outwards beyond all others changes nothing (here to
    ±10).  For a fixed order the error is linear in the sorted values, so it is largest where they are 0 or 1; all
    these are tried, for N ≤ 14.  Attained: F honest ones, the Byzantine values 0, the answer 0 (Corollary 2).
    """
    tally = Tally()
    for n in range(3, 15):
        for f in range(1, (n + 1) // 2):
            if f + drop < 0 or n - 2 * (f + drop) <= 0:
                tally.skip()
                continue
            for ones, bad in product(range(n - f + 1), range(f + 1)):
                honest = [Fraction(1)] * ones + [Fraction(0)] * (n - f - ones)
                lies = [Fraction(10)] * bad + [Fraction(-10)] * (f - bad)
                error = abs(trimmed_mean([*honest, *lies], f + drop) - Fraction(ones, n - f))
                tally.claim(
                    at_most(error, factor * Fraction(f, n - f)),
                    "error of the trimmed mean",
                    N=n,
                    F=f,
                    honest_ones=ones,
                    byzantine_ones=bad,
                    error=error,
                )
    return tally.evidence()
