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

from theory.arrays import Array, as_count
from theory.data import UserDataset
from theory.errors import AssumptionError

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
    if data.n_data == 0:
        return np.zeros(data.dim)
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
        return np.mean(models, axis=0)


@dataclass(frozen=True)
class CoordinateMedian:
    """The median of each coordinate (the middle of the two medians for even N)."""

    name = "coordinate median"

    def __call__(self, models: Array) -> Array:
        """Aggregate ``models``, shape (N, P)."""
        return np.median(models, axis=0)


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
        F = as_count(self.n_attackers, "n_attackers")
        if not len(models) > 2 * F:
            raise AssumptionError(_STATEMENT, f"N = {len(models)}, F = {F}", "the trimmed mean needs N > 2F")
        return np.mean(np.sort(models, axis=0)[F : len(models) - F], axis=0)


@dataclass(frozen=True)
class GeometricMedian:
    r"""A minimizer of :math:`\sum_n\|\rho - \theta_n\|_2`, to rounding.

    The minimizers that are models are found exactly: θ_n is one iff the other models' unit vectors towards it sum to
    at most its multiplicity.  With several, their mean is returned.  Otherwise the minimum is smooth: Newton's method
    with halved steps.

    Examples
    --------
    >>> GeometricMedian()(np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    array([0., 0.])
    """

    name = "geometric median"

    def __call__(self, models: Array) -> Array:
        """Aggregate ``models``, shape (N, P)."""
        points, counts = np.unique(models, axis=0, return_counts=True)
        differences = points[:, None, :] - points[None, :, :]
        distances = np.linalg.norm(differences, axis=2)
        with np.errstate(invalid="ignore"):
            pulls = np.where(distances[..., None] > 0, differences / distances[..., None], 0.0)
        pull = np.linalg.norm(np.einsum("j,ijk->ik", counts, pulls), axis=1)
        is_minimal = pull <= counts * (1.0 + 1e-12) + 1e-12
        if is_minimal.any():
            return np.mean(points[is_minimal], axis=0)
        return _smooth_median(points, counts.astype(np.float64))


def _smooth_median(points: Array, weights: Array) -> Array:
    def value(rho: Array) -> float:
        return float(weights @ np.linalg.norm(points - rho, axis=1))

    rho = np.average(points, axis=0, weights=weights)
    # The mean can be a model, where the sum is not smooth; a Weiszfeld step away from it keeps descent.
    best = points[np.argmin([value(point) for point in points])]
    if value(best) < value(rho):
        rho = best + 1e-3 * (rho - best)
    identity = np.eye(points.shape[1])
    for _ in range(_MAX_ITERATIONS):
        z = rho - points
        distance = np.maximum(np.linalg.norm(z, axis=1), 1e-300)
        unit = z / distance[:, None]
        gradient = weights @ unit
        scale = weights / distance
        hessian = np.sum(scale) * identity - (unit.T * scale) @ unit
        weiszfeld = gradient / np.sum(scale)
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            step = weiszfeld
        current = value(rho)
        following = next((rho - step / 2**k for k in range(30) if value(rho - step / 2**k) < current), rho - weiszfeld)
        if not value(following) < current:
            break
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
        return models[_krum_order(models, self.n_attackers)[0]]


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
        n_kept = len(models) - self.n_attackers if self.n_kept is None else as_count(self.n_kept, "n_kept", 1)
        return np.mean(models[_krum_order(models, self.n_attackers)[:n_kept]], axis=0)


def _krum_order(models: Array, n_attackers: int) -> np.ndarray:
    n_neighbours = len(models) - as_count(n_attackers, "n_attackers") - 2
    if n_neighbours < 1:
        raise AssumptionError(_STATEMENT, f"N = {len(models)}, F = {n_attackers}", "Krum needs N >= F + 3")
    squared = np.sum((models[:, None, :] - models[None, :, :]) ** 2, axis=2)
    np.fill_diagonal(squared, math.inf)
    scores = np.sum(np.sort(squared, axis=1)[:, :n_neighbours], axis=1)
    return np.argsort(scores, kind="stable")
