"""Learners for Definition 2: the global model ρ* of the personalized loss (eq. 1), and one with the least constant."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from solvers.joint import minimize
from theory import AssumptionError, Loss, Problem, Regularizer, SolverError, UserDataset
from theory.arrays import Array, as_count, as_matrix
from theory.regularizers import norms

_STATEMENT = "def2_byzantine"


@dataclass(frozen=True)
class Personalized:
    """The learner that returns ρ* of :func:`solvers.minimize`.

    Parameters
    ----------
    loss : Loss
    reg : Regularizer
    nu : float, >= 0

    Raises
    ------
    SolverError
        The loss has no minimum.

    Source: eq. 1 (``eq1_global_loss``), Definition 2.

    Examples
    --------
    >>> from theory import LeastSquares, SquaredL2
    >>> users = [UserDataset([[1.0]], [1.0]), UserDataset([[1.0]], [3.0])]
    >>> Personalized(LeastSquares(), SquaredL2(1.0))(users).round(12)
    array([2.])
    """

    loss: Loss
    reg: Regularizer
    nu: float = 0.0

    @property
    def name(self) -> str:
        """The regularizer's name."""
        return f"ours, {self.reg.name}"

    def __call__(self, users: Sequence[UserDataset]) -> Array:
        """Return ρ*."""
        return minimize(Problem(users, self.loss, self.reg, nu=self.nu)).rho


@dataclass(frozen=True)
class Minimax:
    r"""The point whose worst constant is least: of all answers to these models, the best in the sense of (4).

    Any n = N - F of the users may be the honest ones.  With m_S and D_S the mean and the diameter of the models of such
    a set S, the answer minimizes

    .. math:: C(a) = \max_S \|a - m_S\| / D_S,

    so that ‖a - m_S‖ <= C(a)·D_S whoever is honest.  **It attains F/(N - F), the bound of Corollary 2, for d <= 2, and
    for F = 1 in every dimension**; √(2d/(d + 1)) times that in d dimensions (claim C21).  Whether some rule attains it
    for d >= 3 and F >= 2 is open; :meth:`constant` tells what was attained for given models.

    The sets are listed: up to :math:`\binom{N}{F} = 20{,}000`.

    Parameters
    ----------
    n_attackers : int
        F, with N > 2F.

    Raises
    ------
    AssumptionError
        N <= 2F, or too many sets.
    SolverError
        The point was not shown to have the least C up to a share of 1e-6.

    Source: Definition 2, Corollary 2, claim C21 (``c21_sharp_in_one_dimension``).

    Examples
    --------
    >>> models = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [9.0, 9.0]])
    >>> rule = Minimax(1)
    >>> rule(models).round(6)
    array([0.736476, 0.736476])
    >>> rule.constant(models, rule(models)) <= 1 / 4
    True
    """

    n_attackers: int
    name = "minimax"

    def __call__(self, models: Array) -> Array:
        """Aggregate ``models``, shape (N, P)."""
        means, diameters = self._sets(models)
        smallest = int(np.argmin(diameters))
        center, unit = means[smallest], float(diameters[smallest])
        spread = float(norms(means - center).max())
        if unit <= 1e-12 * spread or spread == 0.0:
            return np.array(center)  # these users agree, and if they are the honest ones nothing else will do
        # The answer is within C·D_S of every mean: seen from the set of least diameter, all numbers are moderate.
        answer = _least_ratio((means - center) / unit, diameters / unit)
        return np.asarray(center + unit * answer)

    def constant(self, models: Array, answer: Array) -> float:
        """Return C(answer), 0/0 being 0: the answer is within C·D_S of every mean m_S."""
        means, diameters = self._sets(models)
        errors = norms(means - answer)
        safe = np.where(diameters > 0, diameters, 1.0)
        return float(np.max(np.where(diameters > 0, errors / safe, np.where(errors > 0, math.inf, 0.0))))

    def _sets(self, models: Array) -> tuple[Array, Array]:
        models, F = as_matrix(models, "models"), as_count(self.n_attackers, "n_attackers")
        if not len(models) > 2 * F:
            raise AssumptionError(_STATEMENT, f"N = {len(models)}, F = {F}", "this rule needs N > 2F")
        if math.comb(len(models), F) > 20_000:
            raise AssumptionError(_STATEMENT, f"N = {len(models)}, F = {F}", "at most 20,000 sets of users are listed")
        kept = _subsets(len(models), len(models) - F)
        gaps = norms(models[:, None, :] - models[None, :, :])
        diameters = np.array([gaps[np.ix_(users, users)].max() for users in kept])
        return models[kept].mean(axis=1), diameters


@functools.cache
def _subsets(n: int, size: int) -> np.ndarray:
    return np.array(list(itertools.combinations(range(n), size)))


def _least_ratio(centers: Array, radii: Array) -> Array:
    """Return the minimizer x of max_S ‖x - c_S‖/r_S; it is unique.  Few sets decide: they are taken one by one."""
    x, active = np.zeros(centers.shape[1]), [int(np.argmin(radii))]
    for _ in range(len(radii)):
        ratios = norms(centers - x) / radii
        worst = int(np.argmax(ratios))
        if worst in active or not ratios[worst] > float(ratios[active].max()) * (1.0 + 1e-12):
            break
        active.append(worst)
        x = _least_of_few(centers[active], radii[active], x)
    if not _excess(centers, radii, x) <= 1e-6:
        raise SolverError("the point with the least constant was not found")
    return x


def _excess(centers: Array, radii: Array, x: Array) -> float:
    """Return by what share, at most, max_S ‖x - c_S‖/r_S exceeds its minimum.

    The gradients of the largest terms have a mean g.  All y with a smaller maximum t are within 2t·min r of x, so by
    convexity the minimum is at least that of those terms less ‖g‖·2t·min r.
    """
    away = x - centers
    lengths = norms(away)
    ratios = lengths / radii
    largest = float(ratios.max())
    near = ratios >= largest * (1.0 - 1e-7)
    if largest == 0.0:
        return 0.0
    slopes = away[near] / (lengths[near] * radii[near])[:, None]
    # The weights whose mean gradient is least: they sum to about 1, and are made to.
    weights, _ = scipy.optimize.nnls(np.vstack([slopes.T, np.ones(len(slopes))]), np.append(np.zeros(len(x)), 1.0))
    mean = weights @ slopes / weights.sum()
    return 1e-7 + 2.0 * float(radii.min() * norms(mean))


def _least_of_few(centers: Array, radii: Array, x: Array) -> Array:
    """Minimize t subject to ‖x - c_i‖ <= t·r_i."""

    def slack(z: Array) -> Array:
        return np.asarray(z[-1] - norms(centers - z[:-1]) / radii)

    def slopes(z: Array) -> Array:
        away = z[:-1] - centers
        lengths = norms(away)
        unit = away / np.where(lengths > 0, lengths, 1.0)[:, None]
        return np.hstack([-unit / radii[:, None], np.ones((len(radii), 1))])

    down = np.zeros(len(x) + 1)
    down[-1] = 1.0
    start = np.append(x, (norms(centers - x) / radii).max())
    found = scipy.optimize.minimize(
        lambda z: z[-1], start, jac=lambda z: down, method="SLSQP", options={"maxiter": 200, "ftol": 1e-15},
        constraints=[{"type": "ineq", "fun": slack, "jac": slopes}],
    )  # fmt: skip
    return np.asarray(found.x[:-1])
