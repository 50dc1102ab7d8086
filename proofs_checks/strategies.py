"""Hypothesis strategies for the objects of :mod:`theory`, biased to the edges.

Examples
--------
>>> from hypothesis import find
>>> float(find(lambdas(), lambda lam: lam >= 1.0))
1.0
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from proofs_checks.generators import LOSSES, REGULARIZERS
from theory import LeastSquares, Logistic, Loss, Multinomial, Problem, Regularizer, UserDataset
from theory.arrays import Array

# Where a formula that is almost right goes wrong: zero, one, numbers next to each other, and outliers.
_EDGES = (0.0, 1.0, -1.0, 0.5, 1.0 + 2.0**-52, 1e-8, -1e-8, 1e4, -1e4)


def reals(bound: float = 1e4) -> st.SearchStrategy[float]:
    """Draw a real number of size at most ``bound``; every second one is at an edge."""
    edges = [x for x in _EDGES if abs(x) <= bound] + [bound, -bound]
    return st.sampled_from(edges) | st.floats(-bound, bound, allow_subnormal=False)


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
