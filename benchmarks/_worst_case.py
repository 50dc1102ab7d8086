r"""The search for the worst C of a learner: how far can honest models and Byzantine ones drive it from the honest mean?

.. math:: \sup\ \frac{\|\rho - \overline{\theta_H}\|}{\max_{h,h'\in H}\|\theta_h-\theta_{h'}\|}

over the models of N - F honest and F Byzantine users.  A learner achieves (F, N, C)-Byzantine learning only if C is at
least this (Definition 2, for ε → 0 and models that are learned exactly).  The search gives a lower bound of it; the two
worlds of Corollary 2 are among its candidates, so it is F/(N - F) at least, or a learner moves although all honest
users agree, which no C allows.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks._harness import generator
from solvers.learners import Minimax, Personalized
from theory import L2, LeastSquares, SmoothL2, SolverError, SquaredL2, UserDataset
from theory.arrays import Array
from theory.impossibility import diameter, least_constant, two_worlds
from theory.learners import CoordinateMedian, GeometricMedian, Krum, Mean, MultiKrum, TrimmedMean

#: Each user's data are as good as this many noiseless answers to each coordinate, so that θ_n ≈ θ_n†.
WEIGHT = 1e6
# An error below this, with honest users that agree, counts as none: data of finite weight move ρ by about λ/WEIGHT.
AGREEMENT = 1e-3
# A ratio above this, that grows in proportion to the attack, is called unbounded.
UNBOUNDED = 30.0
FAR = 1e3

LEARNERS: dict[str, str] = {
    "ours, squared_l2": r"ours, $\ell_2^2$",
    "ours, l2": r"ours, $\ell_2$",
    "ours, smooth_l2": r"ours, smooth-$\ell_2$",
    "mean": "mean",
    "coordinate median": "coordinate median",
    "geometric median": "geometric median",
    "trimmed mean": "trimmed mean",
    "Krum": "Krum",
    "multi-Krum": "multi-Krum",
    "minimax": "minimax",
}
REGULARIZERS: dict[str, type[SquaredL2] | type[L2] | type[SmoothL2]] = {
    "squared_l2": SquaredL2,
    "l2": L2,
    "smooth_l2": SmoothL2,
}

Rule = Callable[[Array], Array]


def rule_of(name: str, F: int) -> Rule:
    """Return the learner as a function of the models, shape (N, d), that the users' data determine."""
    if name.startswith("ours"):
        learner = Personalized(LeastSquares(), REGULARIZERS[name.split(", ")[1]](1.0))
        return functools.partial(_learn, learner)
    rules: dict[str, Rule] = {
        "mean": Mean(),
        "coordinate median": CoordinateMedian(),
        "geometric median": GeometricMedian(),
        "trimmed mean": TrimmedMean(F),
        "Krum": Krum(F),
        "multi-Krum": MultiKrum(F),
        "minimax": Minimax(F),
    }
    return rules[name]


def _learn(learner: Personalized, models: Array) -> Array:
    size = math.sqrt(WEIGHT)
    queries = size * np.eye(models.shape[1])
    return learner([UserDataset(queries, size * model) for model in models])


def is_defined(name: str, F: int, N: int) -> bool:
    """Whether the rule exists for F attackers among N users."""
    return N > 2 * F and (N >= F + 3 or "Krum" not in name)


def worst_case(name: str, F: int, N: int, dim: int, budget: int, seed: int) -> dict[str, Any]:
    """Search for the worst ratio with about ``budget`` evaluations; return a row of the results."""
    start = time.perf_counter()
    search = Search(rule_of(name, F), F, N, dim)
    for models, honest in structured(F, N, dim):
        search.try_models(models, honest)
    rng = generator(seed, sorted(LEARNERS).index(name), F, N, dim)
    while search.n_evaluations < budget and search.worst < UNBOUNDED:
        search.climb(rng)
    is_unbounded = search.worst >= UNBOUNDED
    return {
        "learner": name,
        "F": F,
        "N": N,
        "dim": dim,
        "bound": least_constant(F, N),
        "worst": None if is_unbounded else search.worst,
        "unbounded": is_unbounded,
        "evaluations": search.n_evaluations,
        "seconds": time.perf_counter() - start,
    }


class Search:
    """Keeps the worst configuration that was seen."""

    def __init__(self, rule: Rule, F: int, N: int, dim: int) -> None:
        self.rule, self.F, self.N, self.dim = rule, F, N, dim
        self.worst = 0.0
        self.models = np.zeros((N, dim))
        self.n_evaluations = 0

    def try_models(self, models: Array, honest: slice) -> bool:
        """Evaluate one configuration; return whether it is the worst so far."""
        self.n_evaluations += 1
        try:
            rho = self.rule(models)
        except SolverError:
            return False
        ratio = self.ratio(rho, models[honest])
        if not ratio > self.worst:
            return False
        self.worst = ratio
        # Later steps take the honest users first.
        others = np.ones(self.N, dtype=bool)
        others[honest] = False
        self.models = np.concatenate([models[honest], models[others]])
        return True

    def ratio(self, rho: Array, honest: Array) -> float:
        """Return the error over the diameter; infinite for an error although all honest users agree."""
        error, spread = float(np.linalg.norm(rho - honest.mean(axis=0))), diameter(honest)
        if spread < 1e-9:
            return math.inf if error > AGREEMENT else 0.0
        return error / spread

    def climb(self, rng: np.random.Generator, n_steps: int = 60) -> None:
        """Perturb the worst configuration with steps that shrink where they do not help."""
        honest = slice(0, self.N - self.F)
        size = 0.5
        for _ in range(n_steps):
            step = size * rng.standard_normal(self.models.shape)
            # Few users at a time, or only the Byzantine ones.
            step[rng.random(self.N) < rng.choice([0.0, 0.5, 0.8])] = 0.0
            if rng.random() < 0.3:
                step[honest] = 0.0
            models = self.models + step
            # The problem is invariant under scaling for all rules but one; the unit diameter keeps numbers moderate.
            models = models / max(diameter(models[honest]), 1e-9)
            if np.abs(models).max() > 2 * FAR:
                continue
            size = min(2.0, size * 1.5) if self.try_models(models, honest) else max(1e-3, size * 0.9)


def structured(F: int, N: int, dim: int) -> Iterator[tuple[Array, slice]]:
    """Yield the two worlds of Corollary 2, and honest models on a segment or a simplex with the others together."""
    n_honest = N - F
    _, models, _, _, _ = two_worlds(F, N, 0.0, dim=dim)
    yield np.array(models), slice(0, n_honest)
    yield np.array(models), slice(F, N)
    places = (0.0, 0.5, 1.0, -1.0, 2.0, FAR, -FAR)
    for n_ones in range(1, n_honest):
        honest = np.zeros((n_honest, dim))
        honest[n_honest - n_ones :, 0] = 1.0
        for place in places:
            attackers = np.zeros((F, dim))
            attackers[:, 0] = place
            yield np.concatenate([honest, attackers]), slice(0, n_honest)
    if dim > 1:
        for n_corner in range(1, n_honest):
            honest = np.zeros((n_honest, dim))
            # The corners of a simplex, of which one is held by n_corner users.
            for i in range(n_honest - n_corner):
                honest[i, i % dim] = 1.0
            for place in (0.0, 1.0 / dim, 1.0, -1.0, FAR):
                yield np.concatenate([honest, np.full((F, dim), place)]), slice(0, n_honest)
