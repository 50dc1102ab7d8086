r"""Probabilities, honestly: exact where they are finite, else two opposite e-processes with three verdicts.

**The claim** is P(failure) <= δ, for a failure that can be drawn again and again.

**Exact first.**  Where the randomness is finite, :func:`exact_probability` adds it up in rational numbers.

**Sequentially.**  After n draws with k failures, for a density π on (δ, 1] and one on [0, δ),

.. math:: E_n^{\mathrm{refute}} = \int_\delta^1\frac{p^k(1-p)^{n-k}}{\delta^k(1-\delta)^{n-k}}\,\pi(dp), \qquad
          E_n^{\mathrm{accept}} = \int_0^\delta\frac{p^k(1-p)^{n-k}}{\delta^k(1-\delta)^{n-k}}\,\pi'(dp).

If the true probability q is at most δ, then :math:`E^{\mathrm{refute}}` is a nonnegative supermartingale with start 1:
for p >= δ one draw multiplies it on average by 1 + (q - δ)(p - δ)/(δ(1 - δ)) <= 1.  By Ville's inequality it ever
reaches 1/a with probability at most a.  The other is the same for q >= δ.  So

* REFUTED when :math:`E^{\mathrm{refute}}\ge1/a`: wrong with probability at most a if the claim is true;
* ACCEPTED when :math:`E^{\mathrm{accept}}\ge1/a`: wrong with probability at most a if it is false;
* UNDECIDED when the draws are used up.  It is never a pass.

One may look after every draw and stop at any time.  At q = δ itself neither is ever likely.

**The twin.**  A test that cannot refute says nothing.  :func:`decide_with_twin` also runs the claim "P <= δ" on draws
whose failure probability is raised to at least 2δ, which must be REFUTED: a draw of the twin fails if the draw does, or
if an independent coin of probability 2δ does.

**Seeds** come from the statement's id, so no one can choose them.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
from scipy.special import betainc, betaincc, betaln

from theory.arrays import as_count, as_positive
from theory.errors import AssumptionError

_STATEMENT = "def1_local_pac"

T = TypeVar("T")


class Outcome(enum.Enum):
    """What a sequential test concludes."""

    ACCEPTED = "the probability of failure is at most delta"
    REFUTED = "the probability of failure exceeds delta"
    UNDECIDED = "the draws did not suffice"


@dataclass(frozen=True)
class SequentialResult:
    """The verdict on P(failure) <= delta.

    Attributes
    ----------
    outcome : Outcome
    n_draws, n_failures : int
    log_refute, log_accept : float
        The logarithms of the two e-values at the end.
    delta, error : float
        δ, and a, the probability of a wrong verdict.
    """

    outcome: Outcome
    n_draws: int
    n_failures: int
    log_refute: float
    log_accept: float
    delta: float
    error: float


def seed_of(statement: str) -> int:
    """Return the seed that belongs to a statement's id: the first 8 bytes of its SHA-256.

    Examples
    --------
    >>> seed_of("thm2_linear_local_pac") == seed_of("thm2_linear_local_pac") != seed_of("thm3_logistic_local_pac")
    True
    """
    return int.from_bytes(hashlib.sha256(statement.encode()).digest()[:8], "big")


def generator_of(statement: str, *key: int) -> np.random.Generator:
    """Return the generator of a statement's id; different keys give independent streams.

    Examples
    --------
    >>> bool(generator_of("lem4_gradient_pac").random() == generator_of("lem4_gradient_pac").random())
    True
    """
    return np.random.default_rng(np.random.SeedSequence(seed_of(statement), spawn_key=key))


def exact_probability(
    outcomes: Sequence[tuple[T, Fraction]], n: int, event: Callable[[tuple[T, ...]], bool]
) -> Fraction:
    """Return the exact probability of ``event`` for ``n`` independent draws from a finite distribution.

    ``outcomes`` are values with their weights, which must not be negative and sum to 1 (else AssumptionError).

    Examples
    --------
    >>> coin = [(-1, Fraction(1, 2)), (1, Fraction(1, 2))]
    >>> exact_probability(coin, 4, lambda draws: abs(sum(draws)) >= 4)
    Fraction(1, 8)
    """
    if sum((weight for _, weight in outcomes), Fraction(0)) != 1:
        raise AssumptionError(_STATEMENT, "weights that do not sum to 1", "give the whole distribution")
    if not all(weight >= 0 for _, weight in outcomes):
        raise AssumptionError(_STATEMENT, "a weight below 0", "a probability is not negative")
    total = Fraction(0)
    for draws in itertools.product(outcomes, repeat=as_count(n, "n")):
        if event(tuple(value for value, _ in draws)):
            total += math.prod((weight for _, weight in draws), start=Fraction(1))
    return total


def binomial_tail(n: int, k: int, p: Fraction) -> Fraction:
    """Return P[Bin(n, p) >= k], exactly, for 0 <= p <= 1 (else AssumptionError).

    Examples
    --------
    >>> binomial_tail(3, 2, Fraction(1, 2))
    Fraction(1, 2)
    """
    n, k = as_count(n, "n"), as_count(k, "k")
    if not 0 <= p <= 1:
        raise AssumptionError(_STATEMENT, f"p = {p}", "p must lie in [0, 1]")
    return sum((math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)), Fraction(0))


def log_e_values(n: int, k: int, delta: float) -> tuple[float, float]:
    r"""Return (log E^refute, log E^accept) after ``n`` draws with ``k`` failures.

    The densities are Beta(1/2, 1/2) cut off at δ and renormalized, for which the integrals are incomplete beta
    functions.

    Examples
    --------
    >>> refute, accept = log_e_values(100, 50, 0.1)
    >>> refute > 40 and accept < 0
    True
    """
    a, b = k + 0.5, n - k + 0.5
    base = betaln(a, b) - betaln(0.5, 0.5) - k * math.log(delta) - (n - k) * math.log1p(-delta)
    with np.errstate(divide="ignore"):
        upper = float(np.log(betaincc(a, b, delta)) - np.log(betaincc(0.5, 0.5, delta)))
        lower = float(np.log(betainc(a, b, delta)) - np.log(betainc(0.5, 0.5, delta)))
    return float(base) + upper, float(base) + lower


def decide(draws: Iterable[bool], delta: float, *, error: float, max_draws: int) -> SequentialResult:
    """Decide P(failure) <= δ from a stream of draws (True is a failure).

    Parameters
    ----------
    draws : iterable of bool
        Independent draws; only as many as needed are taken.
    delta : float in (0, 1)
    error : float in (0, 1)
        a, the probability of a wrong verdict.
    max_draws : int, >= 1

    Examples
    --------
    >>> rng = generator_of("example")
    >>> decide((rng.random() < 0.3 for _ in range(10**6)), 0.1, error=1e-6, max_draws=1000).outcome.name
    'REFUTED'
    """
    delta, error = _probability(delta, "delta"), _probability(error, "error")
    limit = as_count(max_draws, "max_draws", 1)
    threshold = -math.log(error)
    n = k = 0
    refute = accept = 0.0
    for failure in itertools.islice(draws, limit):
        n += 1
        k += bool(failure)
        refute, accept = log_e_values(n, k, delta)
        if refute >= threshold:
            return SequentialResult(Outcome.REFUTED, n, k, refute, accept, delta, error)
        if accept >= threshold:
            return SequentialResult(Outcome.ACCEPTED, n, k, refute, accept, delta, error)
    return SequentialResult(Outcome.UNDECIDED, n, k, refute, accept, delta, error)


def decide_with_twin(
    statement: str,
    fails: Callable[[np.random.Generator], bool],
    delta: float,
    *,
    error: float = 1e-6,
    max_draws: int = 10_000,
) -> tuple[SequentialResult, SequentialResult]:
    r"""Decide P(failure) <= δ, and the same claim for a twin that fails with probability at least 2δ.

    The twin fails if the draw fails or an independent coin of probability 2δ does, so its probability is
    q + (1 - q)·2δ, at least 2δ whatever q is.  If the twin is not REFUTED, the draws cannot tell δ from 2δ, and an
    acceptance means nothing.

    Parameters
    ----------
    statement : str
        The id from which the seeds are derived: key 0 of :func:`generator_of` draws for the claim, key 1 for the
        twin, and key 2 tosses its coin.
    fails : callable
        Draws once with the generator it is given, and says whether it failed.
    delta : float in (0, 1/2)

    Returns
    -------
    (result, twin)

    Examples
    --------
    >>> result, twin = decide_with_twin("example", lambda rng: rng.random() < 0.01, 0.1)
    >>> result.outcome.name, twin.outcome.name
    ('ACCEPTED', 'REFUTED')
    """
    delta = _probability(delta, "delta")
    if not delta < 0.5:
        raise AssumptionError(_STATEMENT, f"delta = {delta}", "the twin fails with probability 2 delta < 1")
    rng = generator_of(statement, 0)
    result = decide((fails(rng) for _ in itertools.count()), delta, error=error, max_draws=max_draws)
    twin_rng, coin = generator_of(statement, 1), generator_of(statement, 2)
    twins = (fails(twin_rng) or bool(coin.random() < 2.0 * delta) for _ in itertools.count())
    return result, decide(twins, delta, error=error, max_draws=max_draws)


def _probability(value: float, name: str) -> float:
    number = as_positive(value, name, _STATEMENT)
    if not number < 1.0:
        raise AssumptionError(_STATEMENT, f"{name} = {number}", f"{name} must lie in (0, 1)")
    return number
