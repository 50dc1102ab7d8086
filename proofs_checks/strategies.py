"""Hypothesis strategies for the objects of :mod:`theory`, biased to the edges.

Examples
--------
>>> from hypothesis import find
>>> float(find(lambdas(), lambda lam: lam >= 1.0))
1.0
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from proofs_checks.exact import LinearProblem, LinearUser
from proofs_checks.generators import LOSSES, REGULARIZERS
from theory import LeastSquares, Logistic, Loss, Multinomial, Problem, Regularizer, UserDataset
from theory.arrays import Array

# Where a formula that is almost right goes wrong: zero, one, numbers next to each other, and outliers.
_EDGES = (0.0, 1.0, -1.0, 0.5, 1.0 + 2.0**-52, 1e-8, -1e-8, 1e4, -1e4)


def reals(bound: float = 1e4) -> st.SearchStrategy[float]:
    """Draw a real number of size at most ``bound``; every second one is at an edge."""
    edges = [x for x in _EDGES if abs(x) <= bound] + [bound, -bound]
    return st.sampled_from(edges) | st.floats(-bound, bound, allow_subnormal=False)


_RATIONAL_EDGES = (
    0,
    1,
    -1,
    Fraction(1, 2),
    Fraction(1, 10**6),
    Fraction(-1, 10**6),
    1 + Fraction(1, 10**9),
    1000,
    -1000,
)


def rational(low: Fraction | int = -1000, high: Fraction | int = 1000) -> st.SearchStrategy[Fraction]:
    """Draw a rational number of [low, high]; every second one is at an edge."""
    edges = sorted({Fraction(x) for x in (*_RATIONAL_EDGES, low, high) if low <= x <= high})
    finest = max(1000, Fraction(low).denominator, Fraction(high).denominator)
    return st.sampled_from(edges) | st.fractions(low, high, max_denominator=finest)


def arguments(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw one argument of each name, for :func:`proofs_checks.search.counterexample`."""
    return st.fixed_dictionaries(strategies)


@st.composite
def linear_problems(draw: st.DrawFn, least_nu: Fraction = Fraction(1, 100)) -> LinearProblem:
    """Draw an exact problem of 1 to 3 users with up to two data each, in 1 or 2 dimensions; often without data."""
    dim = draw(st.integers(1, 2))
    numbers = rational(-9, 9)
    users = []
    for _ in range(draw(st.integers(1, 3))):
        rows = draw(st.integers(0, 2))
        Q = [[draw(numbers) for _ in range(dim)] for _ in range(rows)]
        users.append(LinearUser(Q, [draw(numbers) for _ in range(rows)]))
    return LinearProblem(tuple(users), draw(rational(Fraction(1, 100), 100)), draw(rational(least_nu, 9)), dim)


@st.composite
def targeted(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an exact problem and a target in its space."""
    problem = draw(linear_problems())
    return {"problem": problem, "target": [draw(rational(-9, 9)) for _ in range(problem.dim)]}


def vectors(dim: int, bound: float = 1e4) -> st.SearchStrategy[Array]:
    """Draw a vector; its entries are often equal, zero or large."""
    return hnp.arrays(np.float64, (dim,), elements=reals(bound))


def matrices(rows: int, columns: int, bound: float = 1e4) -> st.SearchStrategy[Array]:
    """Draw a matrix; its rows are often equal, zero or large."""
    return hnp.arrays(np.float64, (rows, columns), elements=reals(bound))


def lambdas() -> st.SearchStrategy[float]:
    """Draw λ from 1e-3 to 1e3."""
    return st.sampled_from([1.0, 1e-3, 1e3]) | st.floats(1e-3, 1e3)


def nus() -> st.SearchStrategy[float]:
    """Draw ν from 0 to 1e3; it is often 0."""
    return st.sampled_from([0.0, 1.0, 1e-6, 1e3]) | st.floats(0.0, 1e3, allow_subnormal=False)


def losses() -> st.SearchStrategy[Loss]:
    """Draw one of the three losses, with 2 to 4 classes."""
    return st.sampled_from(LOSSES) | st.integers(2, 4).map(Multinomial)


def regularizers() -> st.SearchStrategy[Regularizer]:
    """Draw one of the three regularizers."""
    return st.builds(lambda reg_type, lam: reg_type(lam), st.sampled_from(REGULARIZERS), lambdas())


def margin_shapes(loss: Loss, rows: int) -> tuple[int, ...]:
    """Return the shape of the margins of ``rows`` data points."""
    return (rows,) if loss.n_outputs == 1 else (rows, loss.n_outputs)


def margins(loss: Loss, rows: int, bound: float = 40.0) -> st.SearchStrategy[Array]:
    """Draw margins, often equal or extreme."""
    return hnp.arrays(np.float64, margin_shapes(loss, rows), elements=reals(bound))


@st.composite
def probabilities(draw: st.DrawFn, rows: int, n_classes: int) -> Array:
    """Draw rows of label probabilities, often with zeros and ones."""
    weights = draw(
        hnp.arrays(np.float64, (rows, n_classes), elements=st.sampled_from([0.0, 1.0, 1e-8]) | st.floats(0, 1))
    )
    weights[weights.sum(axis=1) == 0.0] = 1.0
    return weights / weights.sum(axis=1, keepdims=True)


def answers(loss: Loss, rows: int, bound: float = 1e4) -> st.SearchStrategy[Array]:
    """Draw answers in the form in which a user gives them."""
    if isinstance(loss, LeastSquares):
        return vectors(rows, bound)
    if isinstance(loss, Logistic):
        return hnp.arrays(np.float64, (rows,), elements=st.sampled_from([-1.0, 1.0]))
    ids = hnp.arrays(np.float64, (rows,), elements=st.integers(0, loss.n_outputs - 1).map(float))
    return ids | probabilities(rows, loss.n_outputs)


@st.composite
def datasets(draw: st.DrawFn, loss: Loss, dim: int, bound: float = 10.0) -> UserDataset:
    """Draw a user with up to five data; often without any, or with the same query again and again."""
    rows = draw(st.integers(0, 5))
    if rows == 0:
        return UserDataset.empty(dim)
    Q = draw(matrices(rows, dim, bound))
    if draw(st.booleans()):
        Q = np.tile(Q[:1], (rows, 1))
    return UserDataset(Q, draw(answers(loss, rows, bound)))


@st.composite
def problems(draw: st.DrawFn, bound: float = 10.0) -> Problem:
    """Draw a problem of 1 to 4 users in 1 to 3 dimensions, often with equal users, pins and tilts."""
    loss, dim = draw(losses()), draw(st.integers(1, 3))
    users = draw(st.lists(datasets(loss, dim, bound), min_size=1, max_size=4))
    if draw(st.booleans()):
        users.append(users[0])
    problem = Problem(users, loss, draw(regularizers()), draw(nus()))
    if draw(st.booleans()):
        problem = problem.pin(draw(st.integers(0, problem.n_users - 1)), draw(vectors(problem.dim, bound)))
    if problem.n_users > 1 and draw(st.booleans()):
        problem = problem.tilt(draw(st.integers(0, problem.n_users - 1)), draw(vectors(problem.dim, bound)))
    return problem


@st.composite
def points(draw: st.DrawFn, problem: Problem, bound: float = 10.0) -> tuple[Array, Array]:
    """Draw (ρ, θ) at which ``problem`` can be evaluated; often θ_n = ρ for some users."""
    rho = draw(vectors(problem.dim, bound))
    thetas = draw(matrices(problem.n_users, problem.dim, bound))
    thetas[draw(hnp.arrays(bool, problem.n_users))] = rho
    for s, model in problem.pinned.items():
        thetas[s] = model
    return rho, thetas
