"""Sequential verdicts: exact supermartingales, error rates by exact enumeration, and the twin that must be refuted."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from theory import AssumptionError, ShapeError
from theory.sequential import (
    Outcome,
    binomial_tail,
    decide,
    decide_with_twin,
    exact_probability,
    generator_of,
    log_e_values,
    seed_of,
)


def expectation_after(n: int, q: float, delta: float, which: int) -> float:
    """E[E_n] under a true probability q, exactly up to rounding: a finite sum over the number of failures."""
    total = 0.0
    for k in range(n + 1):
        total += math.comb(n, k) * q**k * (1 - q) ** (n - k) * math.exp(log_e_values(n, k, delta)[which])
    return total


@pytest.mark.parametrize("delta", [0.05, 0.3])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_e_values_have_mean_at_most_one_under_their_null(n: int, delta: float) -> None:
    for q in (0.0, 0.5 * delta, delta):
        assert expectation_after(n, q, delta, 0) <= 1 + 1e-12
    for q in (delta, 0.5 * (1 + delta), 1.0):
        assert expectation_after(n, q, delta, 1) <= 1 + 1e-12
    # At the boundary both are martingales: a test that is weaker than it need be would show here.
    assert expectation_after(n, delta, delta, 0) == pytest.approx(1.0, abs=1e-10)
    assert expectation_after(n, delta, delta, 1) == pytest.approx(1.0, abs=1e-10)
    # Planted: with the hypotheses exchanged they are not supermartingales.
    assert expectation_after(n, min(1.0, 2 * delta), delta, 0) > 1.0
    assert expectation_after(n, 0.0, delta, 1) > 1.0


def wrong_verdict_probability(q: float, delta: float, error: float, n: int, wrong: Outcome) -> float:
    """The exact probability that ``decide`` gives ``wrong`` within n draws, by following the number of failures."""
    threshold, alive, total = -math.log(error), {0: 1.0}, 0.0
    for i in range(1, n + 1):
        following: dict[int, float] = {}
        for k, weight in alive.items():
            for step, chance in ((0, 1 - q), (1, q)):
                following[k + step] = following.get(k + step, 0.0) + weight * chance
        alive = {}
        for k, weight in following.items():
            refute, accept = log_e_values(i, k, delta)
            if refute >= threshold or accept >= threshold:
                total += weight * ((wrong is Outcome.REFUTED) == (refute >= threshold))
            else:
                alive[k] = weight
    return total


def test_wrong_verdicts_are_as_rare_as_promised_however_often_one_looks() -> None:
    assert wrong_verdict_probability(0.1, 0.1, 0.05, 150, Outcome.REFUTED) <= 0.05
    assert wrong_verdict_probability(0.1, 0.1, 0.05, 150, Outcome.ACCEPTED) <= 0.05
    # Planted: a fixed-sample threshold looked at after every draw would be wrong more often than that.
    assert wrong_verdict_probability(0.1, 0.1, 0.6, 150, Outcome.REFUTED) > 0.05
    # And it has power: 2δ is refuted nearly always within 600 draws.
    assert wrong_verdict_probability(0.2, 0.1, 1e-3, 600, Outcome.REFUTED) > 0.9


def test_decide_takes_no_more_draws_than_it_needs() -> None:
    drawn = []

    def stream() -> Any:
        for i in itertools.count():
            drawn.append(i)
            yield False

    result = decide(stream(), 0.1, error=1e-6, max_draws=10_000)
    assert result.outcome is Outcome.ACCEPTED
    assert len(drawn) == result.n_draws < 300


def test_decide_is_undecided_at_the_boundary_and_for_few_draws() -> None:
    rng = generator_of("test_boundary")
    boundary = decide((rng.random() < 0.1 for _ in itertools.count()), 0.1, error=1e-6, max_draws=2000)
    assert boundary.outcome is Outcome.UNDECIDED
    assert boundary.n_draws == 2000
    assert decide([False] * 3, 0.1, error=1e-6, max_draws=10).outcome is Outcome.UNDECIDED


def test_twin_is_refuted_and_a_false_claim_is_not_accepted() -> None:
    good, twin = decide_with_twin("test_twin", lambda rng: bool(rng.random() < 0.02), 0.1)
    assert (good.outcome, twin.outcome) == (Outcome.ACCEPTED, Outcome.REFUTED)
    # Planted: a claim that is false is refuted, and its twin too.
    bad, bad_twin = decide_with_twin("test_twin", lambda rng: bool(rng.random() < 0.2), 0.1)
    assert (bad.outcome, bad_twin.outcome) == (Outcome.REFUTED, Outcome.REFUTED)
    # Too few draws: the twin is not refuted, which unmasks the acceptance as worthless.
    _, weak = decide_with_twin("test_twin", lambda rng: False, 0.1, max_draws=10)
    assert weak.outcome is Outcome.UNDECIDED


def test_seeds_come_from_the_statement() -> None:
    assert seed_of("a") != seed_of("b")
    assert generator_of("a", 1).random() == generator_of("a", 1).random()
    assert generator_of("a", 1).random() != generator_of("a", 2).random()
    runs = [decide_with_twin("a", lambda rng: bool(rng.random() < 0.05), 0.2)[0] for _ in range(2)]
    assert runs[0] == runs[1]


def test_exact_probabilities_agree_with_the_binomial_law() -> None:
    coin = [(0, Fraction(2, 3)), (1, Fraction(1, 3))]
    for n in range(7):
        for k in range(n + 1):
            found = exact_probability(coin, n, lambda draws, k=k: sum(draws) >= k)
            assert found == binomial_tail(n, k, Fraction(1, 3))
    with pytest.raises(AssumptionError, match="sum to 1"):
        exact_probability(coin[:1], 2, lambda draws: True)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, math.nan])
def test_probabilities_outside_the_unit_interval_are_refused(delta: float) -> None:
    with pytest.raises(AssumptionError, match="delta"):
        decide([False], delta, error=0.1, max_draws=5)
    with pytest.raises(AssumptionError, match="delta"):
        decide_with_twin("test", lambda rng: False, delta)


def test_twin_needs_a_delta_below_one_half() -> None:
    with pytest.raises(AssumptionError, match="twin"):
        decide_with_twin("test", lambda rng: False, 0.5)


def test_e_values_stay_finite_or_infinitely_small_for_many_draws() -> None:
    for n, k in [(10**6, 0), (10**6, 10**6), (10**6, 10**5), (10**6, 10**5 + 3000)]:
        refute, accept = log_e_values(n, k, 0.1)
        assert not math.isnan(refute)
        assert not math.isnan(accept)
        assert max(refute, accept) > -np.inf


# ---------------------------------------------------------------------------------- what is promised to the last detail


def test_seed_is_the_start_of_a_published_hash() -> None:
    # SHA-256 of "abc" (FIPS 180-2, example B.1): another seed would let every recorded verdict change in silence.
    assert seed_of("abc") == 0xBA7816BF8F01CFEA


def test_before_the_first_draw_both_e_values_are_one() -> None:
    result = decide([], 0.1, error=0.5, max_draws=1)
    assert (result.outcome, result.n_draws, result.n_failures) == (Outcome.UNDECIDED, 0, 0)
    assert (result.log_refute, result.log_accept) == (0.0, 0.0)


@pytest.mark.parametrize("which", [Outcome.REFUTED, Outcome.ACCEPTED])
def test_an_e_value_that_just_reaches_the_threshold_decides(which: Outcome) -> None:
    # Ville's inequality bounds the probability that E ever *reaches* 1/a.
    failures = which is Outcome.REFUTED
    n_equal = 0
    for delta in np.linspace(0.05, 0.45, 41):
        value = log_e_values(1, int(failures), delta)[0 if failures else 1]
        error = math.exp(-value)
        if -math.log(error) == value:
            n_equal += 1
            assert decide([failures], delta, error=error, max_draws=5).outcome is which
        assert decide([failures], delta, error=error * (1 - 1e-12), max_draws=5).outcome is Outcome.UNDECIDED
    assert n_equal >= 5


def test_draws_are_one_at_least() -> None:
    with pytest.raises(ShapeError, match="max_draws"):
        decide([False], 0.1, error=0.1, max_draws=0)
    assert decide([False, False], 0.1, error=0.1, max_draws=1).n_draws == 1


def test_twin_has_streams_of_its_own_that_anyone_can_draw_again() -> None:
    delta, seen = 0.1, []

    def fails(rng: np.random.Generator) -> bool:
        seen.append(float(rng.random()))
        return seen[-1] < 0.05

    _, twin = decide_with_twin("test_streams", fails, delta, max_draws=40)
    drawn, twins, coins = (generator_of("test_streams", key).random(40).tolist() for key in range(3))
    assert seen == drawn + twins[: twin.n_draws]
    # The coin is tossed only where the draw did not fail, and lands on failure with probability 2δ.
    toss = iter(coins)
    assert twin.n_failures == sum(u < 0.05 or next(toss) < 2 * delta for u in twins[: twin.n_draws])
    # Equal streams would make the twin a copy of the draws, and its coin a copy of the twin.
    assert len({*drawn, *twins, *coins}) == 120


def test_coin_of_the_twin_has_exactly_the_probability_promised() -> None:
    # A generator's numbers are the multiples of 2^-53: u < 2δ has probability 2δ, and u <= 2δ would have more.
    first = float(generator_of("test_coin", 2).random())
    _, twin = decide_with_twin("test_coin", lambda rng: False, 0.5 * first, max_draws=1)
    assert (twin.n_draws, twin.n_failures) == (1, 0)
    _, twin = decide_with_twin("test_coin", lambda rng: False, 0.5 * math.nextafter(first, 1.0), max_draws=1)
    assert (twin.n_draws, twin.n_failures) == (1, 1)


def test_by_default_a_verdict_is_wrong_once_in_a_million_and_takes_ten_thousand_draws() -> None:
    # At the boundary q = δ nothing is decided.
    result, twin = decide_with_twin("test_default", lambda rng: bool(rng.random() < 0.1), 0.1)
    assert (result.outcome, result.n_draws, result.error, twin.error) == (Outcome.UNDECIDED, 10_000, 1e-6, 1e-6)


def test_what_is_no_distribution_has_no_probabilities() -> None:
    # The weights 2 and -1 sum to 1: "probabilities" 2 and -1 would come out.
    with pytest.raises(AssumptionError, match="weight below 0"):
        exact_probability([(0, Fraction(2)), (1, Fraction(-1))], 1, lambda draws: draws == (0,))
    assert exact_probability([(0, Fraction(1)), (1, Fraction(0))], 2, lambda draws: draws == (0, 0)) == 1
    for p in (Fraction(-1, 10**9), 1 + Fraction(1, 10**9)):
        with pytest.raises(AssumptionError, match="p must lie in"):
            binomial_tail(3, 2, p)
    # What is certain, and what is impossible.
    assert [binomial_tail(3, k, Fraction(1)) for k in range(5)] == [1, 1, 1, 1, 0]
    assert [binomial_tail(3, k, Fraction(0)) for k in range(5)] == [1, 0, 0, 0, 0]
