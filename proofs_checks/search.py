"""Adversaries that look for an instance on which an inequality fails, and the symbolic tests of identities.

The adversary finds a candidate in floating point; a check then decides it in rational or ball arithmetic.  Its starting
points are biased to edges, where a constant that is almost right fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import wraps
from itertools import product
from typing import Any

import hypothesis
import numpy as np
import sympy as sp
from flint import arb, ctx
from hypothesis import strategies as st
from scipy.optimize import differential_evolution

from proofs_checks.registry import Decision, Tally
from theory.arrays import Array

Margin = Callable[[Array], float]


def worst(margin: Margin, bounds: Sequence[tuple[float, float]], *, seed: int, rounds: int = 40) -> Array:
    """Return a point of the box where ``margin`` is small: edge-biased points, then differential evolution.

    Examples
    --------
    >>> bool(abs(worst(lambda x: float((x[0] - 0.25) ** 2), [(0.0, 1.0)], seed=0)[0] - 0.25) < 1e-6)
    True
    """
    rng = np.random.default_rng(seed)
    low, high = np.array(bounds, dtype=float).T
    corners = np.array([list(point) for _, point in zip(range(16), product(*bounds), strict=False)])
    near = np.clip(corners + (high - low) * 1e-6 * rng.standard_normal(corners.shape), low, high)
    inside = low + (high - low) * rng.random((12, low.size))
    found = differential_evolution(
        lambda x: _finite(margin(x)),
        list(bounds),
        init=np.vstack([corners, near, inside]),
        maxiter=rounds,
        tol=1e-12,
        rng=rng,
        polish=False,
    )
    return np.asarray(found.x)


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else 1e300


class _FoundError(Exception):
    """Raised inside an attack that has succeeded."""


def counterexample(
    strategy: st.SearchStrategy[Any],
    decide: Callable[..., Decision],
    margin: Callable[..., Any] | None = None,
    *,
    seed: int = 0,
    examples: int = 100,
) -> Mapping[str, Any] | None:
    """Return arguments, shrunk, for which ``decide`` is False; None if ``examples`` attempts found none.

    The strategy draws dictionaries of arguments.  Hypothesis tries its edges first, climbs down ``margin`` where there
    is one, and makes what it finds small.

    Examples
    --------
    >>> draw = st.fixed_dictionaries({"x": st.fractions(0, 10)})
    >>> counterexample(draw, lambda x: x <= 5)["x"] > 5, counterexample(draw, lambda x: x >= 0) is None
    (True, True)
    """
    found: list[Mapping[str, Any]] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        verbosity=hypothesis.Verbosity.quiet,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.generate, hypothesis.Phase.target, hypothesis.Phase.shrink),
    )
    @hypothesis.given(strategy)
    def attempt(drawn: Mapping[str, Any]) -> None:
        if margin is not None:
            distance = float(margin(**drawn))
            if np.isfinite(distance):
                hypothesis.target(-distance)
        if decide(**drawn) is False:
            found.append(drawn)
            raise _FoundError

    try:
        attempt()
    except _FoundError:
        return found[-1]
    return None


def attack(
    tally: Tally,
    finding: str,
    strategy: st.SearchStrategy[Any],
    decide: Callable[..., Decision],
    margin: Callable[..., Any] | None = None,
) -> None:
    """Let Hypothesis look for a witness, once all else has found none; that it finds none counts as one instance."""

    def search() -> None:
        drawn = counterexample(strategy, decide, margin)
        if drawn is None:
            tally.claim(True, finding)
        else:
            tally.claim(False, finding, **drawn)

    tally.at_end(search)


def rationals(seed: int, count: int, size: int, *, bound: int = 6, denominator: int = 4) -> Iterator[list[Fraction]]:
    """Yield small rational vectors; every third entry is zero or ±1."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        values = rng.integers(-bound, bound + 1, size)
        below = rng.integers(1, denominator + 1, size)
        edges = rng.choice([0, 1, -1], size)
        is_edge = rng.random(size) < 1 / 3
        yield [
            Fraction(int(e)) if edge else Fraction(int(v), int(b))
            for v, b, e, edge in zip(values, below, edges, is_edge, strict=True)
        ]


def vanishes(expression: Any) -> Decision:
    """Decide whether a symbolic expression is identically zero; None if that could not be shown.

    Examples
    --------
    >>> x = sp.Symbol("x")
    >>> vanishes((x + 1) ** 2 - x**2 - 2 * x - 1), vanishes(x)
    (True, None)
    """
    expanded = sp.expand(expression)
    if expanded == 0 or sp.cancel(sp.together(expanded)) == 0 or sp.simplify(expanded) == 0:
        return True
    return None


def is_sum_of_squares(expression: Any, parts: Sequence[tuple[Any, Any]]) -> Decision:
    """Decide whether ``expression`` equals Σ weight·square² with the given pairs, weights known to be nonnegative.

    A quadratic form in inner products of vectors may be written with scalars: the form Σ c_ij <v_i, v_j> and the
    polynomial Σ c_ij v_i v_j have the same coefficients, so one identity holds exactly if the other does.
    """
    total = sum((weight * base**2 for weight, base in parts), sp.Integer(0))
    if any(weight.is_nonnegative is not True for weight, _ in parts):
        return None
    return vanishes(expression - total)


PRECISION = 160
"""Bits of ball arithmetic: twice what the smallest excess that is tried asks for."""


def ball(value: Any) -> arb:
    """Return an exact ball for a rational or a float (a float is taken as the dyadic number that it is)."""
    number = Fraction(value)
    with ctx.workprec(PRECISION):
        return arb(number.numerator) / arb(number.denominator)


def sigmoid(x: arb) -> arb:
    """Return 1/(1 + e^{-x}) in ball arithmetic."""
    return 1 / (1 + (-x).exp())


def precise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run ``function`` with :data:`PRECISION` bits, and restore the precision after it."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with ctx.workprec(PRECISION):
            return function(*args, **kwargs)

    return wrapped
