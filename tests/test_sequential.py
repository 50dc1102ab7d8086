"""Sequential verdicts: exact supermartingales, error rates by exact enumeration, and the twin that must be refuted."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from theory import AssumptionError
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
