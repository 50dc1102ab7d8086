r"""The cells of ``pac_exponents``: one sample each, on which an event is decided or a minimum is found."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._harness import generator
from solvers import minimize
from theory import (
    L2,
    LeastSquares,
    Logistic,
    Problem,
    RademacherQueries,
    SmoothL2,
    SquaredL2,
    UserDataset,
    gradient_pac,
    honest_dataset,
)
from theory.arrays import Array
from theory.expectation import averaged

REGULARIZERS: dict[str, SquaredL2 | L2 | SmoothL2] = {
    "squared_l2": SquaredL2(1.0),
    "l2": L2(1.0),
    "smooth_l2": SmoothL2(1.0),
}
DIM = 3
THETA = np.array([1.0, 0.0, 0.0])
#: The exponents and the multiples of λ_min(Σ) that are tried, with B = 1.
ALPHAS = (0.4, 0.5, 0.6, 0.75)
SLOPES = (0.8, 1.0, 1.2)
SLOPE_OF_ALPHAS, ALPHA_OF_SLOPES = 0.5, 0.75

TAILS = {
    "bounded": "Rademacher queries",
    "t3": "Student t, 3 degrees of freedom: second moments, no third",
    "singular": "Student t with a coordinate that is always 0: Σ is singular",
}
#: A and B of the heavy-tailed event.  With a singular Σ it needs Aℐ <= Bℐ^(3/4), which fails for ℐ > (B/A)^4.
TAIL_SLOPE = {"linear": 0.5, "logistic": 0.05}
TAIL_B = 0.3

EXPECTATION_OTHER = -1.5
SAMPLE_MODELS = np.array([[0.5, 0.0], [0.0, -0.5]])
SAMPLE_OTHERS = 3
SAMPLE_NU = 0.1

KINDS = ("exponent", "tails", "expectation", "sample")


@dataclass(frozen=True)
class StudentQueries:
    """Multivariate Student t queries with Σ = I (for more than 2 degrees of freedom); unbounded, heavy-tailed."""

    dim: int
    freedom: float
    name = "student"
    bound = math.inf

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw ``n`` queries."""
        scale = np.sqrt((self.freedom - 2.0) / rng.chisquare(self.freedom, (n, 1)))
        return rng.standard_normal((n, self.dim)) * scale

    def second_moment(self) -> Array:
        """Return I."""
        return np.eye(self.dim)


@dataclass(frozen=True)
class SingularQueries:
    """The same, with the last coordinate replaced by 0."""

    dim: int
    freedom: float
    name = "singular"
    bound = math.inf

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw ``n`` queries."""
        Q = StudentQueries(self.dim, self.freedom).sample(n, rng)
        Q[:, -1] = 0.0
        return Q

    def second_moment(self) -> Array:
        """Return diag(1, ..., 1, 0)."""
        return np.diag([1.0] * (self.dim - 1) + [0.0])


def tail_queries(name: str) -> Any:
    """Return the queries of :data:`TAILS`."""
    if name == "bounded":
        return RademacherQueries(DIM)
    return StudentQueries(DIM, 3.0) if name == "t3" else SingularQueries(DIM, 3.0)


def cell(kind: str, n_data: int, replicate: int, seed: int) -> dict[str, Any]:
    """Return the values of one cell, by name; a decided event is 1 or 0, an undecided one None."""
    start = time.perf_counter()
    rng = generator(seed, KINDS.index(kind), n_data, replicate)
    values = {"exponent": _exponent, "tails": _tails, "expectation": _expectation, "sample": _sample}[kind](n_data, rng)
    return {"values": values, "seconds": time.perf_counter() - start}


def _exponent(n: int, rng: np.random.Generator) -> dict[str, Any]:
    data = honest_dataset(RademacherQueries(DIM), THETA, n, LeastSquares(), rng)

    def holds(A: float, alpha: float) -> Any:
        found = gradient_pac(data, THETA, loss=LeastSquares(), nu=0.0, A=A, B=1.0, alpha=alpha).holds
        return None if found is None else int(found)

    values = {f"alpha {alpha:g}": holds(SLOPE_OF_ALPHAS, alpha) for alpha in ALPHAS}
    return values | {f"A {slope:g}": holds(slope, ALPHA_OF_SLOPES) for slope in SLOPES}


def _tails(n: int, rng: np.random.Generator) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in TAILS:
        for loss in (LeastSquares(), Logistic()):
            label = "linear" if isinstance(loss, LeastSquares) else "logistic"
            data = honest_dataset(tail_queries(name), THETA, n, loss, rng)
            options = {} if label == "linear" else {"max_cells": 2000}
            found = gradient_pac(
                data, THETA, loss=loss, nu=0.0, A=TAIL_SLOPE[label], B=TAIL_B, alpha=0.75, **options
            ).holds  # fmt: skip
            values[f"{name} {label}"] = None if found is None else int(found)
    return values


def _expectation(n: int, rng: np.random.Generator) -> dict[str, Any]:
    honest, other = np.array([1.0]), np.array([EXPECTATION_OTHER])
    data = honest_dataset(RademacherQueries(1), honest, n, LeastSquares(), rng)
    fixed = honest_dataset(RademacherQueries(1), other, 10, LeastSquares(), rng, noise=0.0)
    values: dict[str, Any] = {}
    for name, reg in REGULARIZERS.items():
        for label, users in (("sum", [data, averaged(fixed)]), ("mean", [averaged(data), averaged(fixed)])):
            solution = minimize(Problem(users, LeastSquares(), reg))
            values[f"{name} {label}"] = float(abs(solution.thetas[0, 0] - honest[0]))
    return values


def sample_others(loss: Any) -> list[UserDataset]:
    """Return the fixed data of the other users of the sample-size figure."""
    answers = -10.0 * np.ones(4) if isinstance(loss, LeastSquares) else -np.ones(4)
    return [UserDataset(np.tile(np.eye(2), (2, 1)), answers)] * SAMPLE_OTHERS


def _sample(n: int, rng: np.random.Generator) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for label, loss in (("linear", LeastSquares()), ("logistic", Logistic())):
        honest = [honest_dataset(RademacherQueries(2), model, n, loss, rng) for model in SAMPLE_MODELS]
        for name, reg in REGULARIZERS.items():
            solution = minimize(Problem([*honest, *sample_others(loss)], loss, reg, nu=SAMPLE_NU))
            errors = np.linalg.norm(solution.thetas[:2] - SAMPLE_MODELS, axis=1)
            values[f"{name} {label}"] = float(np.max(errors))
    return values
