r"""Further statements on impossibility: C21."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product

import sympy as sp

from proofs_checks.d_impossibility import trimmed_mean
from proofs_checks.registry import Evidence, Tally, at_most, check
from proofs_checks.search import vanishes


@check(
    "c21_sharp_in_one_dimension",
    part="trimmed_mean",
    method="symbolic",
    falsehoods={"a_tenth_less": {"factor": Fraction(9, 10)}, "one_trimmed_too_few": {"drop": -1}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def trimmed_mean_attains_the_bound(*, factor: Fraction | int = 1, drop: int = 0) -> Evidence:
    """Dropping the F least and F largest of N values leaves a mean within F/(N-F) of the honest mean, honest values
    in [0, 1], F < N/2.

    Proof.  The answer does not decrease in any value, so the Byzantine ones may as well lie at one end, beyond all
    others.  The error is then linear in the sorted honest values, which are a mean of vectors (0, …, 0, 1, …, 1); so it
    is largest at one of these, with k ones.  With all Byzantine values above, the answer is min(1, k/(N-2F)): the error
    is kF/((N-2F)(N-F)) ≤ F/(N-F) for k ≤ N-2F, and 1-k/(N-F) ≤ F/(N-F) beyond; below is the mirror image.  Attacked
    on all 0-1 values for N ≤ 14.  Attained: F honest ones, the Byzantine values 0, the answer 0 (Corollary 2).
    """
    tally = Tally()
    if factor == 1 and not drop:
        ones, f, rest, more = sp.symbols("k F m s", positive=True)  # m = N-2F; N-F = m+F
        few = ones / rest - ones / (rest + f)
        tally.step(vanishes(few - ones * f / (rest * (rest + f))), "k/(N-2F)-k/(N-F) = kF/((N-2F)(N-F))")
        room = (f / (rest + f) - few).subs(rest, ones + more)
        tally.step(
            vanishes(room - f * more / ((ones + more) * (ones + more + f))), "which is below F/(N-F) for k < N-2F"
        )
        tally.step(vanishes((few - f / (rest + f)).subs(ones, rest)), "and F/(N-F) at k = N-2F")
        beyond = f / (rest + f) - (1 - (rest + more) / (rest + f))
        tally.step(vanishes(beyond - more / (rest + f)), "1-k/(N-F) <= F/(N-F) for k >= N-2F")
        x = sp.symbols("x1:5", real=True)
        levels = [x[0], *(later - earlier for earlier, later in pairwise(x))]
        tally.step(
            vanishes(sum(level * (4 - i) for i, level in enumerate(levels)) - sum(x)),
            "sorted values as sums of their steps",
        )
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
