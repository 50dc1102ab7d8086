r"""Learners: functions from the users' data sets to a global model ρ, as Definition 2 asks for one.

A *rule* maps the users' models, shape (N, P), to one vector, shape (P,).  :class:`Aggregation` makes a learner of a
rule: it fits each user's model to that user's data alone, and aggregates.

==============================  ========================================================================
rule                            what it returns
==============================  ========================================================================
:class:`Mean`                   the mean (no resistance: one user decides)
:class:`CoordinateMedian`       the median of each coordinate
:class:`GeometricMedian`        argmin of the sum of distances
:class:`TrimmedMean`            in each coordinate, the mean without the F smallest and the F largest
:class:`Krum`                   the model closest to its N - F - 2 nearest neighbours (Blanchard et al., 2017)
:class:`MultiKrum`              the mean of the m models with the best Krum scores
==============================  ========================================================================

A rule of another library is used in one line, because a rule is just a function of an array.  With ByzFL, whose
aggregators take NumPy arrays (``pip install equipoise[interop]``)::

    learner = Aggregation(byzfl.TrMean(f=2))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.arrays import Array, as_count, as_matrix
from theory.data import UserDataset
from theory.errors import AssumptionError
from theory.regularizers import norms

Rule = Callable[[Array], Any]
Learner = Callable[[Sequence[UserDataset]], Any]

_STATEMENT = "def2_byzantine"
_MAX_ITERATIONS = 500


def least_squares_fit(data: UserDataset) -> Array:
    """Return the least squares model of one user, of least norm where the data leave a choice (0 without data).

    Examples
    --------
    >>> least_squares_fit(UserDataset([[2.0]], [6.0]))
    array([3.])
    """
    return np.asarray(np.linalg.lstsq(data.Q, data.A, rcond=None)[0], dtype=np.float64)


@dataclass(frozen=True)
class Aggregation:
    """The learner that fits each user's model alone and applies ``rule`` to the models.

    Parameters
    ----------
    rule : callable
        From an (N, P) array to a (P,) array: one of this module, or of another library.
    fit : callable
        From a :class:`theory.UserDataset` to a (P,) array.

    Examples
    --------
    >>> users = [UserDataset([[1.0]], [1.0]), UserDataset([[1.0]], [2.0]), UserDataset([[1.0]], [9.0])]
    >>> Aggregation(CoordinateMedian())(users)
    array([2.])
    """

    rule: Rule
    fit: Callable[[UserDataset], Array] = least_squares_fit

    def __call__(self, users: Sequence[UserDataset]) -> Array:
        """Return ρ."""
        return np.asarray(self.rule(np.array([self.fit(user) for user in users])))


@dataclass(frozen=True)
class Mean:
    """The mean of the models."""

    name = "mean"

    def __call__(self, models: Array) -> Array:
        """Aggregate ``models``, shape (N, P)."""
        return np.mean(as_matrix(models, "models"), axis=0)


@dataclass(frozen=True)
class CoordinateMedian:
    """The median of each coordinate (the middle of the two medians for even N)."""

    name = "coordinate median"

    def __call__(self, models: Array) -> Array:
        """Aggregate ``models``, shape (N, P)."""
        return np.median(as_matrix(models, "models"), axis=0)


@dataclass(frozen=True)
class TrimmedMean:
    r"""In each coordinate, the mean without the F smallest and the F largest values; N > 2F.

    **It attains the bound of Corollary 2 for d = 1** (claim C21).  Let n = N - F, let :math:`x_1\le\dots\le x_n` be
    the honest values, Δ their diameter, and y the sorted values of all.  Each of the F others moves an order statistic
    by one place at most, so :math:`x_{k-F}\le y_k\le x_k` for F < k <= n.  The rule averages :math:`y_{F+1..n}`, so
    its value is at most the mean of the n - F largest honest values.  With T and S the means of the largest n - F and
    of the smallest F honest values, the honest mean is ((n - F)T + F·S)/n, so the excess is at most
    (F/n)(T - S) <= (F/n)Δ; below it is the same.  Equality: F honest values 0, the others 1.

    Examples
    --------
    >>> TrimmedMean(1)(np.array([[0.0], [1.0], [1.0], [99.0]]))
    array([1.])
    """

    n_attackers: int
    name = "trimmed mean"

    def __call__(self, models: Array) -> Array:
        """Aggregate ``models``, shape (N, P)."""
        models, F = as_matrix(models, "models"), as_count(self.n_attackers, "n_attackers")
        if not len(models) > 2 * F:
            raise AssumptionError(_STATEMENT, f"N = {len(models)}, F = {F}", "the trimmed mean needs N > 2F")
        return np.mean(np.sort(models, axis=0)[F : len(models) - F], axis=0)


@dataclass(frozen=True)
class GeometricMedian:
    r"""A minimizer of :math:`\sum_n\|\rho - \theta_n\|_2`: the sum is the least, to rounding.

    The minimizers that are models are found exactly: θ_n is one iff the other models' unit vectors towards it sum to
    at most its multiplicity.  With several, their mean is returned.  Otherwise the sum is smooth at its minimum:
    Newton's method with halved steps.

    Examples
    --------
    >>> GeometricMedian()(np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    array([0., 0.])
    """

    name = "geometric median"

    def __call__(self, models: Array) -> Array:
        """Aggregate ``models``, shape (N, P)."""
        points, counts = np.unique(as_matrix(models, "models"), axis=0, return_counts=True)
        differences = points[:, None, :] - points[None, :, :]
        distances = norms(differences)
        np.fill_diagonal(distances, math.inf)
        pulls = np.einsum("j,ijk->ik", counts, differences / distances[..., None])
        # The sum of N unit vectors is right to N P units in the last place.
        is_minimal = norms(pulls) <= counts * (1.0 + np.size(models) * np.finfo(np.float64).eps)
        if is_minimal.any():
            return np.mean(points[is_minimal], axis=0)
        return _smooth_median(points, counts.astype(np.float64))


def _smooth_median(points: Array, weights: Array) -> Array:
    """Return the geometric median of distinct points, none of which is one."""

    def value(rho: Array) -> float:
        return float(weights @ norms(points - rho))

    # The first step, away from the best point, descends (Vardi and Zhang, 2000).  All that follow descend too, and so
    # never come to a point, where alone the sum is not smooth.
    best = int(np.argmin([value(point) for point in points]))
    z = points[best] - np.delete(points, best, axis=0)
    scale = np.delete(weights, best) / norms(z)
    pull = scale @ z
    rho = points[best] - (1.0 - weights[best] / norms(pull)) * pull / np.sum(scale)
    for _ in range(_MAX_ITERATIONS):
        z = rho - points
        distance = norms(z)
        # (That first step can be less than the rounding of ρ; the rest of the sum then says where to go.)
        distance[distance == 0.0] = math.inf
        scale, unit = weights / distance, z / distance[:, None]
        hessian = np.sum(scale) * np.eye(rho.size) - (unit.T * scale) @ unit
        step = np.linalg.lstsq(hessian, weights @ unit, rcond=None)[0]  # flat along a line, to rounding
        current = value(rho)
        while not value(following := rho - step) < current:
            if np.array_equal(following, rho):
                return rho
            step = 0.5 * step
        rho = following
    return rho


@dataclass(frozen=True)
class Krum:
    """The model with the least sum of squared distances to its N - F - 2 nearest neighbours (ties: the first).

    Source: Blanchard et al. (2017); needs N - F - 2 >= 1.

    Examples
    --------
    >>> Krum(1)(np.array([[0.0], [0.1], [0.2], [9.0], [0.1]]))
    array([0.1])
    """

    n_attackers: int
    name = "Krum"

    def __call__(self, models: Array) -> Array:
        """Aggregate ``models``, shape (N, P)."""
        models = as_matrix(models, "models")
        return models[_krum_order(models, as_count(self.n_attackers, "n_attackers"))[0]]


@dataclass(frozen=True)
class MultiKrum:
    """The mean of the ``n_kept`` models with the best Krum scores (N - F by default).

    Examples
    --------
    >>> MultiKrum(1)(np.array([[0.0], [0.0], [3.0], [9.0]]))
    array([1.])
    """

    n_attackers: int
    n_kept: int | None = None
    name = "multi-Krum"

    def __call__(self, models: Array) -> Array:
        """Aggregate ``models``, shape (N, P)."""
        models = as_matrix(models, "models")
        F = as_count(self.n_attackers, "n_attackers")
        n_kept = len(models) - F if self.n_kept is None else as_count(self.n_kept, "n_kept", 1)
        return np.mean(models[_krum_order(models, F)[:n_kept]], axis=0)


def _krum_order(models: Array, n_attackers: int) -> np.ndarray:
    n_neighbours = len(models) - n_attackers - 2
    if n_neighbours < 1:
        raise AssumptionError(_STATEMENT, f"N = {len(models)}, F = {n_attackers}", "Krum needs N >= F + 3")
    squared = np.sum((models[:, None, :] - models[None, :, :]) ** 2, axis=2)
    np.fill_diagonal(squared, math.inf)
    scores = np.sum(np.sort(squared, axis=1)[:, :n_neighbours], axis=1)
    return np.argsort(scores, kind="stable")
