r"""The definitions that could be empty, trivial or of no use: 1, 3, 6 and 7.

A definition is not true or false.  What can be checked is that something meets it and something does not, that it
bends the right way with its constants, and that the order of its quantifiers matters.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import sympy as sp
from flint import arb

from proofs_checks.companion_sample_size import (
    Setting,
    binomial_at_most,
    next_square,
    probability_of_recovery,
    sufficient_size,
)
from proofs_checks.exact import LinearProblem, LinearUser, vector
from proofs_checks.registry import Evidence, Tally, at_most, check, less
from proofs_checks.search import ball, precise, sigmoid, vanishes
from proofs_checks.steps import both_events
from theory import LeastSquares, UserDataset, gradient_pac


@check(
    "def1_local_pac",
    method="certified",
    falsehoods={
        "one_number_for_all_data_of_others": {"uniform": True},
        "met_by_averaged_losses": {"mean": True},
        "met_with_one_datum": {"enough": False},
    },
)
@precise
def local_pac_is_met_and_can_fail(*, uniform: bool = False, mean: bool = False, enough: bool = True) -> Evidence:
    """Definition 1 is met by least squares; and the number of data has to depend on the data of the others.

    Instances, exact: d = 1, queries 1, signs as noise.  *Met*: with the number of data of C19, for all three
    regularizers, the probability of an error of at most ε is at least 1-δ; smaller ε and δ ask for no fewer.
    *The order of the quantifiers*: I honest answers 0 against one datum (1, a) of another user, ℓ2² with λ = 1, ν = 0,
    end at a/(2I+1): small for large I once a is fixed, but for a = 10(2I+1) it is 10, whatever I.  *Sums*: averaged
    over the data it is a/3, whatever I (C20).
    """
    tally = Tally()
    for squared, (epsilon, delta) in product(
        [True, False], [(Fraction(9, 10), Fraction(1, 10)), (Fraction(1, 2), Fraction(1, 100))]
    ):
        at = Setting(Fraction(2), Fraction(1, 10), Fraction(1), epsilon, delta, squared)
        harder = Setting(Fraction(2), Fraction(1, 10), Fraction(1), epsilon / 2, delta / 2, squared)
        count = next_square(sufficient_size(at)) if enough else 1
        tally.claim(
            at_most(1 - ball(delta), probability_of_recovery(at, count)), "P(error <= ε) >= 1-δ", setting=at, I=count
        )
        tally.claim(at_most(sufficient_size(at), sufficient_size(harder)), "ε/2, δ/2 need no fewer data", setting=at)
    for root in (10, 1000):
        count = root**2
        honest = LinearUser([[Fraction(1 if mean else root)]], vector([0]))
        for answer in [Fraction(10), Fraction(10 * (2 * count + 1))] if uniform else [Fraction(10)]:
            problem = LinearProblem((honest, LinearUser([vector([1])], [answer])), Fraction(1), Fraction(0), 1)
            found = problem.minimum()
            error = None if found is None else abs(found[1][0][0])
            tally.claim(
                None if error is None else at_most(error, Fraction(1, 2)),
                "error <= 1/2 with at least 100 data, against one datum (1, a)",
                I=count,
                a=answer,
                error=error,
            )
    return tally.evidence()


def _event_on_a_line(moment: Fraction, lean: Fraction, slope: Fraction, bound: Fraction) -> bool:
    """Decide the event of Definition 3 for h·r²-|p|r ≥ AI·min(r, r²)-b·r, all r > 0, d = 1 (C15)."""
    return abs(lean) <= bound and moment - abs(lean) >= slope - bound


@check(
    "def3_gradient_pac",
    method="certified",
    falsehoods={
        "alpha_may_be_one": {"alpha": 4},
        "linear_growth_from_the_start": {"shape": "linear"},
        "quadratic_growth_for_ever": {"shape": "square"},
        "larger_constants_are_weaker": {"weaker": 2},
    },
)
@precise
def gradient_pac_is_met_and_can_fail(
    *, alpha: int = 3, shape: str = "both", weaker: Fraction | int = Fraction(1, 2)
) -> Evidence:
    """Definition 3 is met with probability near 1, not by data that say nothing, and is weaker for smaller A.

    Instances, exact: numbers of data are fourth powers, so that I^{alpha/4} is an integer.  *Met*: queries 1, signs as
    noise, A = B = 1, I = 10⁴: P(|Σξ| ≤ 1000) > 1-10⁻²⁰; logistic regression at θ† = 0 with as many labels of each kind
    and A = σ(1)-1/2 (C16).  *Not trivial*: data whose queries are 0 violate it for large I as α < 1; with α = 1 and B =
    A they meet it.  *Shape*: A·I·r alone fails near θ†, A·I·r² alone fails far away.  `theory.gradient_pac` decides the
    same.
    """
    tally = Tally()
    size, least, bound, r, more = sp.symbols("I A b r s", positive=True)
    if alpha == 3 and shape == "both" and weaker <= 1:
        tally.step(vanishes((least * size - bound) * r - ((least - more) * size - bound) * r - more * size * r), "in A")
        tally.step(vanishes((least - bound) * r - (least - (bound + more)) * r - more * r), "and in B it is monotone")
    root = 10
    count, power = Fraction(root**4), Fraction(root**alpha)
    half = arb(1) / 2
    met = 1 - 2 * binomial_at_most(int((count - power) // 2) - 1, int(count), half)
    tally.claim(less(1 - ball(Fraction(1, 10**20)), met), "P(|Σξ| <= I^α), queries 1, signs", I=count)
    tally.claim(not _event_on_a_line(Fraction(0), Fraction(0), count, power), "queries 0 violate the event", I=count)
    slope = sigmoid(arb(1)) - half
    for radius in [Fraction(1, 10**4), Fraction(1, 2), Fraction(1), Fraction(10), Fraction(10**3)]:
        grown = {"both": min(radius, radius**2), "linear": radius, "square": radius**2}[shape]
        left = ball(count * radius) * (sigmoid(ball(radius)) - half)
        right = slope * ball(count * grown) - ball(Fraction(root**2) * radius)
        tally.claim(at_most(right, left), "the event for balanced labels at θ† = 0, b = √I", r=radius)
    for noise, constant in product([Fraction(0), Fraction(1, 4), Fraction(3)], [Fraction(1), Fraction(2)]):
        answers = [noise * (-1) ** i + noise / 2 for i in range(16)]
        lean, bound_16 = sum(answers, Fraction(0)), Fraction(8)
        decided = _event_on_a_line(Fraction(16), lean, constant * 16, bound_16)
        data = UserDataset(np.ones((16, 1)), np.array([float(a) for a in answers]))
        verdict = gradient_pac(data, [0.0], loss=LeastSquares(), nu=0.0, A=float(constant), B=1.0, alpha=0.75)
        tally.claim(
            None if verdict.holds is None else verdict.holds is decided, "theory.gradient_pac", noise=noise, A=constant
        )
        then = _event_on_a_line(Fraction(16), lean, weaker * constant * 16, bound_16)
        tally.claim(then or not decided, "what holds with A holds with a smaller A", noise=noise, A=constant)
    return tally.evidence()


@check(
    "def6_high_probability",
    method="symbolic",
    falsehoods={"probability_one_half": {"limit": Fraction(1, 2)}},
    strengthen=lambda excess: {"limit": Fraction(1, 2) - excess},
)
def high_probability_is_closed_under_intersection(*, limit: Fraction | int = 1) -> Evidence:
    """Two events that hold with high probability hold together with high probability; a limit of 1/2 would not do.

    With limit p the least that the intersection can have is max(0, 2p-1), which is attained by complementary parts.
    """
    tally = Tally()
    if limit == 1:
        both_events(tally)
    tally.claim(less(0, max(Fraction(0), 2 * Fraction(limit) - 1)), "P(A∩B) stays positive", limit=limit)
    return tally.evidence()


@check(
    "def7_logistic_distance",
    method="symbolic",
    falsehoods={"sum_instead_of_difference": {"sign": 1}, "without_the_factor": {"with_factor": False}},
)
@precise
def logistic_distance_is_positive(*, sign: int = -1, with_factor: bool = True) -> Evidence:
    """Δ(a, b) = (a-b)(σ(a)-σ(b)) is symmetric, 0 for a = b and positive else, as σ increases.

    (a-b)(σ(a)-σ(b)) = 2·(t/2)sinh(t/2)/(cosh(b+t/2)+cosh(t/2)) with t = a-b, and z·sinh z > 0.
    """
    tally = Tally()
    a, b = sp.symbols("a b", real=True)
    z = sp.Symbol("z", positive=True)
    if sign == -1 and with_factor:
        gap = 1 / (1 + sp.exp(-a)) - 1 / (1 + sp.exp(-b))
        tally.step(vanishes((a - b) * gap - (b - a) * (-gap)), "symmetric")
        numerator = (sp.exp(a) - sp.exp(b)) / ((1 + sp.exp(a)) * (1 + sp.exp(b)))
        tally.step(vanishes(sp.simplify(gap - numerator)), "σ(a)-σ(b) = (e^a-e^b)/((1+e^a)(1+e^b))")
        tally.step(bool(sp.sinh(z).is_positive) or None, "which has the sign of a-b")
    for first, second in product([Fraction(-3), Fraction(0), Fraction(1, 10**6), Fraction(2), Fraction(30)], repeat=2):
        if first == second:
            tally.skip()
            continue
        factor = first + sign * second if with_factor else Fraction(1)
        value = ball(factor) * (sigmoid(ball(first)) - sigmoid(ball(second)))
        tally.claim(less(0, value), "Δ(a, b) > 0", a=first, b=second)
    return tally.evidence()
