r"""Gradient attack → model attack → poisoned data, and back, with a certified error on every arrow (Theorem 1).

.. code-block:: text

    gradients g_s^t → g_s, ρ^t → ρ∞        federated_descent, counter_gradient_limit
        ρ∞ = argmin e(ρ) + ρᵀg_s           certified on Loss¹_s (eq. 48)
    model θ♠ with ∇_ρR(ρ∞, θ♠) = g_s       reported_model
        ρ∞ = ρ*(θ♠)                        certified on Loss_s (eq. 2)
    data with ∇L_s(θ♠) = g_s               poison, poison_by_sampling
        ρ∞ = ρ*(D)                         certified on the loss itself (eq. 1)

Each of the three problems has its minimum at the same point up to rounding, and :func:`solvers.certify` says how much
that is from the data alone.  :func:`reach` says beforehand which targets can be forced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import scipy.optimize

from solvers import large
from solvers.box_poison import box_points
from solvers.certificate import certify
from solvers.class_poison import class_groups, class_points
from solvers.dense import regularizer_hessian
from solvers.joint import minimize
from solvers.local import local_minima
from solvers.quadratic import BuiltIn
from solvers.result import Certificate, Solution
from solvers.trajectory import HonestSums, Trajectory, federated_descent, honest_sums
from theory import (
    L2,
    AssumptionError,
    Multinomial,
    Problem,
    ShapeError,
    SmoothL2,
    SolverError,
    SquaredL2,
    UserDataset,
    honest_answers,
)
from theory.arrays import Array, as_count, as_index, as_positive, as_vector, frozen
from theory.attacks import CounterGradient, boundary_error, reported_model_from_gradient
from theory.data import Queries
from theory.dynamics import admissible_step, local_convexity, model_attack_contraction, smoothness
from theory.losses import local_hessian, local_loss
from theory.poisoning import Demand, least_points, poison_points
from theory.reach import (
    OutOfReachError,
    attack_force,
    displacement_bound,
    distance_behind,
    distance_to_reach,
    is_reachable,
)
from theory.regularizers import norms

# The types that SciPy declares for these are narrower than what it takes.
_scipy_minimize: Any = scipy.optimize.minimize
_scipy_constraint: Any = scipy.optimize.NonlinearConstraint

# --------------------------------------------------------------------------------------------------------------
# The honest users at one ρ
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Honest:
    """The other users at ρ: their problem, models θ_n*(ρ) (N - 1, P) and sum of reports F(ρ)."""

    others: Problem
    rho: Array
    thetas: Array
    F: Array

    @classmethod
    def at(cls, problem: Problem, s: int, rho: Array) -> _Honest:
        others = problem.without(s)
        if others.n_users == 0:
            return cls(others, rho, np.zeros((0, problem.dim)), np.array(others.slope))
        thetas, reports = local_minima(others, rho)
        return cls(others, rho, thetas, reports.sum(axis=0) + others.slope)

    def with_model(self, s: int, model: Array) -> Array:
        """All local models (N, P), user s's among them."""
        return np.insert(self.thetas, s, model, axis=0)

    def value(self) -> float:
        """e(ρ)."""
        return self.others.value(self.rho, self.thetas) if self.others.n_users else float(self.rho @ self.others.slope)

    def hessian(self) -> Array:
        """∇²e(ρ) = Σ R''_n - R''_n(∇²L_n + R''_n)⁻¹R''_n (not for plain ℓ2)."""
        total = np.zeros((self.rho.size, self.rho.size))
        for n in range(self.others.n_users):
            bend = regularizer_hessian(self.others, self.rho, self.thetas[n])
            total += bend
            if n not in self.others.pinned:
                user, loss = self.others.stack.user(n), self.others.loss
                K = local_hessian(self.thetas[n], *user, loss, self.others.nu) + bend
                total -= bend @ np.linalg.solve(K, bend)
        return 0.5 * (total + total.T)


def with_data(problem: Problem, s: int, data: UserDataset) -> Problem:
    """Return the problem in which user ``s`` holds ``data`` instead; pinned users and slopes stay.

    Examples
    --------
    >>> from theory import LeastSquares
    >>> problem = Problem([UserDataset([[1.0]], [2.0])] * 2, LeastSquares(), L2(1.0))
    >>> with_data(problem, 1, UserDataset.empty(1)).users[1].n_data
    0
    """
    s = as_index(s, "s", problem.n_users)
    users = list(problem.users)
    users[s] = data
    if np.any(problem.slope):
        users.append(UserDataset.empty(problem.query_dim))
    changed = Problem(users, problem.loss, problem.reg, problem.nu)
    for n, model in problem.pinned.items():
        if n != s:
            changed = changed.pin(n, model)
    return changed.tilt(len(users) - 1, problem.slope) if np.any(problem.slope) else changed


def with_counts(problem: Problem, s: int, points: UserDataset, counts: np.ndarray) -> Problem:
    r"""Return the K-class problem in which user ``s`` holds point i ``counts[i]`` times, none of them written out.

    A row of its labels says how often the query has each label, and the loss of the row is the sum of these,
    Σ_k c_ik ℓ(θ, Q_i, k) (:meth:`theory.Multinomial.phi` weighs the log-partition by the row's sum).  So the problem,
    its minimum and its certificate are those of Σ_i ``counts[i]`` plain points.

    Examples
    --------
    >>> users = [UserDataset([[1.0]], [0.0]), UserDataset([[2.0]], [1.0])]
    >>> problem = Problem(users, Multinomial(2), SquaredL2(1.0), nu=0.1)
    >>> counted = with_counts(problem, 0, UserDataset([[1.0]], [0.0]), np.array([3]))
    >>> written = with_data(problem, 0, UserDataset([[1.0]] * 3, [0.0] * 3))
    >>> bool(np.allclose(minimize(counted).rho, minimize(written).rho, rtol=0.0, atol=1e-12))
    True
    """
    if not isinstance(problem.loss, Multinomial):
        raise AssumptionError("thm5_single_point", f"counts for the loss {problem.loss.name!r}", "repeat the points")
    if np.shape(counts) != (points.n_data,) or not np.all(np.asarray(counts) >= 1):
        raise ShapeError("counts", f"{points.n_data} integers >= 1", repr(counts))
    plain = with_data(problem, s, points)
    labels = np.array(plain.stack.labels)
    labels[plain.stack.start[s] : plain.stack.stop[s]] *= np.asarray(counts, dtype=np.float64)[:, None]
    return plain._derive(stack=replace(plain.stack, labels=frozen(labels)))


def _lam(problem: Problem) -> float:
    return cast(BuiltIn, problem.reg).lam


def _target(problem: Problem, s: int, target: Any) -> tuple[int, Array]:
    if not isinstance(problem, Problem):
        raise ShapeError("problem", "a Problem", type(problem).__name__)
    return as_index(s, "s", problem.n_users), as_vector(target, "target", problem.dim)


# --------------------------------------------------------------------------------------------------------------
# Where the counter-gradient attack ends
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PredictedLimit:
    """Where CGA converges to, known before it runs.

    Attributes
    ----------
    rho : (P,) array
        argmin e(ρ) + ψ(ρ - θ†): the target itself for ℓ2²; argmin e + λ‖ρ - θ†‖ for ℓ2 and smooth-ℓ2.
    gradient : (P,) array
        The limit of the reports, -F(ρ).
    reaches_target : bool
    distance_bound : float
        ‖rho - the limit‖ is at most this.
    """

    rho: Array
    gradient: Array
    reaches_target: bool
    distance_bound: float


def counter_gradient_limit(problem: Problem, s: int, target: Any) -> PredictedLimit:
    r"""Return the limit of the counter-gradient attack, by one convex problem, without running it.

    For steps below 1/(2L) the attack converges to argmin e(ρ) + ψ(ρ - θ†), ψ the support function of GRAD (C1).

    * ℓ2²: ψ is infinite except at 0, so the limit is θ†.
    * ℓ2: ψ = λ‖·‖ is what a user with the fixed model θ† adds, so the limit is ρ*(θ†), the minimum of Loss_s (eq. 2).
    * smooth-ℓ2: θ† if ‖F(θ†)‖ <= λ; otherwise Newton's method on e(ρ) + λ‖ρ - θ†‖, which is smooth where ρ ≠ θ†.

    The bound: with g = λ(ρ - θ†)/‖ρ - θ†‖, the certificate of e(ρ) + ρᵀg holds for e + λ‖· - θ†‖ too, since their
    difference is convex with gradient 0 at ρ: on a sphere around ρ its gradient points outwards as well.

    Raises
    ------
    SolverError
        There is no limit (the honest users do not hold ρ), or Newton's method did not converge.

    Source: C1 (``cga_converges``), Proposition 3.

    Examples
    --------
    >>> from theory import LeastSquares
    >>> users = [UserDataset([[1.0]], [0.0])] * 3
    >>> limit = counter_gradient_limit(Problem(users, LeastSquares(), SmoothL2(1.0), nu=0.1), 0, [9.0])
    >>> limit.reaches_target, bool(0 < limit.rho[0] < 9), abs(limit.gradient).round(9)
    (False, True, array([1.]))
    """
    s, target = _target(problem, s, target)
    force = attack_force(problem.reg)
    honest = _Honest.at(problem, s, target)
    if norms(honest.F) <= force:
        bound = 0.0
        if norms(honest.F) > force * (1.0 - 1e-9):
            bound = certify(problem.tilt(s, -honest.F), target, honest.thetas).distance_bound
        return PredictedLimit(target, -honest.F, True, bound)
    solution = minimize(problem.pin(s, target))
    rho, lam = np.array(solution.rho), _lam(problem)
    if isinstance(problem.reg, SmoothL2):
        rho = _away_from_target(problem, s, target, rho)
    honest = _Honest.at(problem, s, rho)
    away = rho - target
    pull = lam * away / norms(away)
    certificate = certify(problem.tilt(s, pull), rho, honest.thetas)
    bound = certificate.distance_bound
    if isinstance(problem.reg, L2):
        bound = min(bound, solution.certificate.distance_bound)
    return PredictedLimit(frozen(rho), frozen(pull), False, bound)


def _away_from_target(problem: Problem, s: int, target: Array, rho: Array) -> Array:
    """Newton's method on e(ρ) + λ‖ρ - θ†‖ from a ρ ≠ θ†, damped by Armijo's rule."""
    lam = _lam(problem)

    def evaluate(point: Array) -> tuple[_Honest, float, Array]:
        honest = _Honest.at(problem, s, point)
        away = point - target
        distance = float(norms(away))
        return honest, honest.value() + lam * distance, honest.F + lam * away / distance

    honest, value, gradient = evaluate(rho)
    for _ in range(200):
        away = rho - target
        distance = float(norms(away))
        bend = lam / distance * (np.eye(rho.size) - np.outer(away, away) / distance**2)
        step = -np.linalg.solve(honest.hessian() + bend, gradient)
        length = 1.0
        while True:
            trial = rho + length * step
            if norms(trial - target) > 0.0:
                new_honest, new_value, new_gradient = evaluate(trial)
                drowned = abs(new_value - value) <= 1e-12 * abs(value)
                if new_value - value <= 1e-4 * length * float(gradient @ step) or (
                    drowned and norms(new_gradient) < norms(gradient)
                ):
                    break
            length *= 0.5
            if length < 1e-12:
                return _accepted(rho, gradient, lam)
        is_done = norms(new_gradient) > 0.5 * norms(gradient) and norms(new_gradient) <= 1e-12 * lam
        rho, honest, value, gradient = trial, new_honest, new_value, new_gradient
        if is_done:
            break
    return _accepted(rho, gradient, lam)


def _accepted(rho: Array, gradient: Array, lam: float) -> Array:
    if not norms(gradient) <= 1e-9 * lam:
        raise SolverError(f"limit of the counter-gradient attack: residual {norms(gradient):g}")
    return rho


# --------------------------------------------------------------------------------------------------------------
# From gradient to model
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ReportedModel:
    """The model attack that a limit gradient becomes (Lemma 3).

    Attributes
    ----------
    model : (P,) array
        θ♠.
    rho : (P,) array
        The limit ρ∞ that it is to have.
    gradient_error : float
        ‖∇_ρR(ρ∞, θ♠) - g_s‖: 0 (up to rounding) except on the boundary of smooth-ℓ2.
    distance_bound : float
        ‖ρ∞ - ρ*(θ♠)‖ is at most this.
    certificate : Certificate
        Of (ρ∞, θ_{-s}, θ♠) for Loss_s (eq. 2).
    """

    model: Array
    rho: Array
    gradient_error: float
    distance_bound: float
    certificate: Certificate


def reported_model(problem: Problem, s: int, rho: Any, g: Any, *, distance: float | None = None) -> ReportedModel:
    r"""Turn the limit (ρ∞, g_s) of a converging gradient attack into a model attack with a certified error.

    Parameters
    ----------
    problem : Problem
    s : int
    rho, g : (P,) array_like
        Limits of the models and of the reports; F(ρ∞) + g_s = 0 up to the error that the certificate then shows.
    distance : float, optional
        Only on the boundary of smooth-ℓ2: ‖θ♠ - ρ∞‖.

    Raises
    ------
    AssumptionError
        g is not plausible, or is on the boundary of smooth-ℓ2 and no distance is given.

    Source: Lemma 3, Proposition 4 (``lem3_gradient_to_model``), C7.

    Examples
    --------
    >>> from theory import LeastSquares
    >>> problem = Problem([UserDataset([[1.0]], [5.0]), UserDataset.empty(1)], LeastSquares(), SquaredL2(0.5), nu=0.1)
    >>> from solvers import honest_gradient
    >>> attack = reported_model(problem, 1, [2.0], -honest_gradient(problem, 1, [2.0]))
    >>> bool(attack.distance_bound < 1e-12), minimize(problem.pin(1, attack.model)).rho.round(12)
    (True, array([2.]))
    """
    s, rho = _target(problem, s, rho)
    g = as_vector(g, "g", problem.dim)
    model = frozen(np.array(reported_model_from_gradient(rho, g, problem.reg, distance=distance)))
    certificate = certify(problem.pin(s, model), rho, _Honest.at(problem, s, rho).with_model(s, model))
    if isinstance(problem.reg, L2):
        error = 0.0
    elif isinstance(problem.reg, SmoothL2) and not norms(g) < problem.reg.lam:
        error = boundary_error(problem.reg.lam, float(norms(rho - model)))
    else:
        error = float(norms(problem.reg.gradient(rho, model) - g))
    return ReportedModel(model, rho, error, certificate.distance_bound, certificate)


# --------------------------------------------------------------------------------------------------------------
# From model to data
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Poisoning:
    """Data of user s, and what they do.

    Attributes
    ----------
    data : UserDataset
        Plain labels; a point that is needed n times is there n times, or once if there are ``counts``.
    least_points : int
        No exact dataset has fewer points (for poisoning by sampling: of an exact dataset instead).
    reported_model : (P,) array
        θ♠ that the data make user s's local model.
    demand : Demand
        w and s = wᵀθ♠, which decide the number of points.
    problem : Problem
        With the data in it.
    target : (P,) array
    solution : Solution
        Its exact minimum, by a solver that knows nothing of the construction.
    distance_to_target : float
        ‖ρ - target‖ for the ρ of the solution.
    distance_bound : float
        ‖ρ* - target‖ is at most this.
    theta_distance_bound : float or None
        For poisoning by sampling against ℓ2²: what Lemma 2 with the explicit constant says of ‖ρ* - target‖.
    counts : (J,) array of int or None
        How often each point of ``data`` is there; None where ``data`` has them all.
    """

    data: UserDataset
    least_points: int
    reported_model: Array
    demand: Demand
    problem: Problem = field(repr=False)
    target: Array
    solution: Solution
    distance_to_target: float
    distance_bound: float
    theta_distance_bound: float | None = None
    counts: np.ndarray | None = None

    @property
    def n_points(self) -> int:
        """The number of points, counted with multiplicity."""
        return self.data.n_data if self.counts is None else int(self.counts.sum())

    def distinct(self) -> tuple[UserDataset, np.ndarray]:
        """Return the distinct points, and how often each is there; the sum of these is ``n_points``."""
        if self.counts is not None:
            return self.data, self.counts
        answers = self.data.A.reshape(self.n_points, -1)
        rows, counts = np.unique(np.column_stack([self.data.Q, answers]), axis=0, return_counts=True)
        Q, A = rows[:, : self.data.dim], rows[:, self.data.dim :]
        return UserDataset(Q, A[:, 0] if self.data.A.ndim == 1 else A), counts

    @property
    def is_least(self) -> bool:
        """Whether no exact dataset has fewer points."""
        return self.n_points == self.least_points


def poison(
    problem: Problem,
    s: int,
    target: Any,
    *,
    max_answer: float | None = None,
    max_query: float | None = None,
    max_points: int = 2_000_000,
    counted: bool = False,
) -> Poisoning:
    r"""Return data for user ``s`` whose exact minimum is ρ* = ``target``; whatever user ``s`` holds is replaced.

    ==================  ===============================================================================
    loss                number of points
    ==================  ===============================================================================
    least squares       1; with bounded answers ⌈4s/a²⌉; with bounded queries too, the least possible
    logistic            ⌈s/W(1/e)⌉, or the least possible with bounded queries
    K classes           close to ⌈s/W((K-1)/e)⌉, below which it is impossible (:mod:`solvers.class_poison`)
    ==================  ===============================================================================

    Here s = wᵀθ♠ and w = F(target) + 2νθ♠ (:mod:`theory.poisoning` has the proofs).

    Parameters
    ----------
    problem : Problem
    s : int
    target : (P,) array_like
        For K classes and ν > 0 its mean over the classes must be 0 (labels cannot move all classes alike).
    max_answer : float, optional
        Bound on |A|, for least squares.
    max_query : float, optional
        Bound on ‖Q‖₂, for least squares and logistic regression.
    max_points : int
        Refuse where more points are needed: their number grows with the square of the number of honest users.
    counted : bool
        For K classes: return each distinct point once, and how often it is there as ``Poisoning.counts``.  The problem
        that is solved and certified is the same; what is saved is memory, where there are 10⁵ points and more.

    Returns
    -------
    Poisoning

    Raises
    ------
    OutOfReachError
        The target cannot be forced under ℓ2 or smooth-ℓ2; with the margin and a nearby model that can.
    AssumptionError
        A bound that does not go with the loss, a target with a class mean, a loss or regularizer of your own; or more
        than ``max_points`` points are needed (the message says how many).
    SolverError
        The poisoned problem has no minimum.

    Source: Theorem 5, Lemma 2, Appendices K, L (``thm5_single_point``); C10-C13.

    Examples
    --------
    >>> from theory import LeastSquares, Logistic
    >>> users = [UserDataset([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])] * 3
    >>> attack = poison(Problem(users, LeastSquares(), SquaredL2(1.0), nu=0.1), 0, [2.0, 2.0])
    >>> attack.n_points, attack.solution.rho.round(9), attack.distance_bound < 1e-9
    (1, array([2., 2.]), True)
    >>> attack = poison(Problem(users, Logistic(), SquaredL2(1.0), nu=0.1), 0, [2.0, 2.0])
    >>> attack.n_points, attack.is_least, attack.distance_bound < 1e-9
    (39, True, True)
    """
    s, target = _target(problem, s, target)
    honest = _Honest.at(problem, s, target)
    _require_reachable(problem, s, target, honest)
    model = frozen(np.array(reported_model_from_gradient(target, -honest.F, problem.reg)))
    demand = Demand.of(honest.F, model, problem.nu)
    least = least_points(demand, problem.loss, max_answer=max_answer, max_query=max_query)
    if least > as_count(max_points, "max_points"):
        raise AssumptionError(
            "least_points",
            f"{least:,} points are needed, as wᵀθ♠ = {demand.work:g}",
            f"allow more than max_points = {max_points:,}, or choose a target that the honest users oppose less",
        )
    if counted:
        _require_class_means(problem, target, max_answer, max_query)
        Q, labels, counts = class_groups(demand, cast(Multinomial, problem.loss).n_classes)
        points = UserDataset(Q, labels.astype(np.float64))
        return _poisoning(problem, s, target, honest, demand, points, least, counts=counts)
    data = data_for(demand, problem, target, max_answer=max_answer, max_query=max_query)
    return _poisoning(problem, s, target, honest, demand, data, least)


def poison_in_box(
    problem: Problem, s: int, target: Any, pool: Any, *, low: Any = 0.0, high: Any = 1.0, max_points: int = 2_000_000
) -> Poisoning:
    r"""Return exact data whose queries stay in the box [low, high], such as images in [0, 1]^d.

    The queries are those of ``pool``, moved a little within the box; their number is not the least possible.

    Parameters
    ----------
    problem, s, target : see :func:`poison`
    pool : (M, d) array_like
        Queries in the box, for example the images that others hold.
    low, high : float or (d,) array_like
        Bounds of each coordinate; equal for an intercept.
    max_points : int

    Raises
    ------
    OutOfReachError, AssumptionError, SolverError
        As :func:`poison`, and if the pool does not suffice (:func:`solvers.box_poison.box_points`).

    Source: Appendix L.3 (``app_l_box``).

    Examples
    --------
    >>> from theory import Logistic
    >>> users = [UserDataset([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])] * 3
    >>> pool = np.random.default_rng(0).random((30, 2))
    >>> attack = poison_in_box(Problem(users, Logistic(), SquaredL2(0.1), nu=0.1), 0, [0.5, 0.5], pool)
    >>> attack.distance_bound < 1e-9, bool(((0 <= attack.data.Q) & (attack.data.Q <= 1)).all())
    (True, True)
    """
    s, target = _target(problem, s, target)
    honest = _Honest.at(problem, s, target)
    _require_reachable(problem, s, target, honest)
    model = frozen(np.array(reported_model_from_gradient(target, -honest.F, problem.reg)))
    demand = Demand.of(honest.F, model, problem.nu)
    data = box_points(demand, problem.loss, pool, low, high, max_points=max_points)
    return _poisoning(problem, s, target, honest, demand, data, least_points(demand, problem.loss))


def data_for(
    demand: Demand,
    problem: Problem,
    target: Array,
    *,
    max_answer: float | None = None,
    max_query: float | None = None,
) -> UserDataset:
    """Return exact data for a demand, by the method that goes with the loss of the problem."""
    if not isinstance(problem.loss, Multinomial):
        return poison_points(demand, problem.loss, max_answer=max_answer, max_query=max_query)
    _require_class_means(problem, target, max_answer, max_query)
    return class_points(demand, problem.loss.n_classes)


def _require_class_means(problem: Problem, target: Array, max_answer: float | None, max_query: float | None) -> None:
    """Refuse bounds, which K classes do not have, and a target that moves all classes alike."""
    if not isinstance(problem.loss, Multinomial):
        raise AssumptionError("classes_least_points", f"counts for the loss {problem.loss.name!r}", "leave out counted")
    if max_answer is not None or max_query is not None:
        raise AssumptionError(
            "classes_least_points", "max_answer or max_query for K classes", "leave it out: labels and queries are free"
        )
    classes = target.reshape(problem.loss.n_classes, -1)
    surplus = float(norms(classes.mean(axis=0)))
    if problem.nu > 0 and not surplus <= 1e-9 * max(1.0, float(norms(target))):
        raise AssumptionError(
            "classes_least_points",
            f"a target whose mean over the classes has norm {surplus:g}",
            "with ν > 0 data can force only targets with mean 0 over the classes: subtract it, no prediction changes",
        )


def _poisoning(
    problem: Problem,
    s: int,
    target: Array,
    honest: _Honest,
    demand: Demand,
    data: UserDataset,
    least: int,
    counts: np.ndarray | None = None,
) -> Poisoning:
    if counts is None:
        poisoned = with_data(problem, s, data)
        solution = minimize(poisoned)
    else:
        poisoned = with_counts(problem, s, data, counts)
        solution = _solution_with_counts(poisoned, s, data, counts, demand.reported_model)
    certificate = certify(poisoned, target, honest.with_model(s, demand.reported_model))
    distance = float(norms(solution.rho - target))
    bound = certificate.distance_bound
    if not bound <= 1e-12 * max(1.0, float(norms(target))):
        bound = min(bound, distance + solution.certificate.distance_bound)
    model = demand.reported_model
    return Poisoning(data, least, model, demand, poisoned, target, solution, distance, bound, counts=counts)


def _solution_with_counts(poisoned: Problem, s: int, points: UserDataset, counts: np.ndarray, model: Array) -> Solution:
    """The minimum of the poisoned problem; where Hessians are too large, from minima over two blocks.

    The conjugate gradients of :mod:`solvers.large` know no counts.  So ρ and the others' models are solved for with
    user s pinned at θ♠, and user s's model with ρ pinned there, each from scratch; if θ♠ is its minimum, that is the
    minimum of all (Lemma 1), and if not, the solver goes on from there.
    """
    if not large.is_large(poisoned):
        return minimize(poisoned)
    others = minimize(poisoned.pin(s, model))
    thetas = np.array(others.thetas)
    thetas[s] = _local_minimum_with_counts(poisoned, others.rho, points, counts)
    return minimize(poisoned, start=(others.rho, thetas))


def _local_minimum_with_counts(problem: Problem, rho: Array, points: UserDataset, counts: np.ndarray) -> Array:
    """θ_s*(ρ) for few distinct points, in the span of their queries; orthogonal to it θ = λρ/(λ + ν)."""
    K, lam = problem.loss.n_outputs, _lam(problem)
    span = np.linalg.qr(points.Q.T)[0]
    center = rho.reshape(K, -1)
    nobody = UserDataset.empty(span.shape[1])
    # As in solvers.local: one pinned user and 2λ for λ make the local problem a global one.
    alone = Problem([nobody, nobody], problem.loss, SquaredL2(2.0 * lam), problem.nu)
    alone = with_counts(alone, 0, UserDataset(points.Q @ span, points.A), counts)
    inside = minimize(alone.pin(1, (center @ span).ravel())).thetas[0].reshape(K, -1)
    outside = lam / (lam + problem.nu) * (center - (center @ span) @ span.T)
    return np.asarray(outside + inside @ span.T).ravel()


def _require_reachable(problem: Problem, s: int, target: Array, honest: _Honest) -> None:
    size, force = float(norms(honest.F)), attack_force(problem.reg)
    if is_reachable(size, problem.reg):
        return
    nearest = _nearest_reachable(problem, s, target, force)
    at_least = _distance_at_least(problem, s, target, nearest, size, force)
    which = "the nearest model that can be forced lies" if problem.dim == 1 else "a model that can be forced lies"
    none = "" if problem.dim == 1 else f"; none lies nearer than {at_least:.6g}"
    raise OutOfReachError(
        "reach",
        f"‖F(target)‖ = {size:.6g} against a force of {force:.6g} (margin {force - size:.3g})",
        f"{which} at distance {float(norms(nearest - target)):.6g} (error.nearest){none}",
        force - size,
        nearest,
        at_least,
    )


def poison_by_sampling(
    problem: Problem,
    s: int,
    target: Any,
    n_data: int,
    *,
    queries: Queries,
    rng: np.random.Generator,
    noise: float = 1.0,
) -> Poisoning:
    r"""Poison with ``n_data`` honest-looking answers of the model θ♠ (Lemmas 2 and 14), exact in the limit.

    Against ℓ2², ``theta_distance_bound`` is c‖θ_s* - θ♠‖ with the explicit c of C8 (plus the certificates).

    Parameters
    ----------
    problem, s, target : see :func:`poison`
    n_data : int
    queries : Queries
    rng : numpy.random.Generator
    noise : float
        Standard deviation of the noise of linear answers.

    Source: Lemma 14 (``lem14_sampling``), C8.

    Examples
    --------
    >>> from theory import GaussianQueries, LeastSquares
    >>> users = [UserDataset([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])] * 3
    >>> problem = Problem(users, LeastSquares(), SquaredL2(1.0), nu=0.1)
    >>> rng = np.random.default_rng(0)
    >>> attack = poison_by_sampling(problem, 0, [2.0, 2.0], 5000, queries=GaussianQueries(2), rng=rng)
    >>> attack.distance_to_target < 0.1, attack.distance_to_target <= attack.theta_distance_bound
    (True, True)
    """
    s, target = _target(problem, s, target)
    honest = _Honest.at(problem, s, target)
    _require_reachable(problem, s, target, honest)
    model = frozen(np.array(reported_model_from_gradient(target, -honest.F, problem.reg)))
    demand = Demand.of(honest.F, model, problem.nu)
    Q = frozen(np.ascontiguousarray(queries.sample(as_count(n_data, "n_data"), rng), dtype=np.float64))
    data = UserDataset(Q, honest_answers(Q, model, problem.loss, rng, noise=noise))
    poisoned = with_data(problem, s, data)
    solution = minimize(poisoned)
    distance = float(norms(solution.rho - target))
    theta_bound = None
    if isinstance(problem.reg, SquaredL2):
        contraction = model_attack_contraction(problem, s)
        theta_bound = contraction * float(norms(solution.thetas[s] - model)) + 2.0 * solution.certificate.distance_bound
    bound = distance + solution.certificate.distance_bound
    least = least_points(demand, problem.loss)
    return Poisoning(data, least, model, demand, poisoned, target, solution, distance, bound, theta_bound)


# --------------------------------------------------------------------------------------------------------------
# Reach
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Reach:
    """Whether a target can be forced, and how far models can be moved: the defender's view.

    Attributes
    ----------
    forced : bool
        Whether ``n_attackers`` attackers in the place of user s can force the target.
    margin : float
        fλ - ‖F(target)‖; ∞ for ℓ2².
    honest_model : (P,) array or None
        ρ⁰, the minimum without attackers; None where it does not exist or is not unique.
    nearest : (P,) array
        The target, or a model that can be forced as close to it as was found: the nearest one if P = 1; in more
        dimensions, where the set need not be convex, a local optimum (for P = 2 from the best of 64 directions).
    distance_at_least : float
        No model within this distance of the target can be forced; 0 if the target can.
    extent : float
        How far from ρ⁰ towards the target a model can be forced, as found among 33 points of the ray; ∞ where there
        is no limit.
    extent_bound : float
        An upper bound on it from the monotonicity of F along the ray.
    worst_bound : float
        No model farther than this from ρ⁰ can be forced, in any direction.
    """

    forced: bool
    margin: float
    honest_model: Array | None
    nearest: Array
    distance_at_least: float
    extent: float
    extent_bound: float
    worst_bound: float


def reach(problem: Problem, s: int, target: Any, *, n_attackers: int = 1) -> Reach:
    r"""Say whether ``n_attackers`` attackers in the place of user ``s`` force ρ* = ``target``, and how far they get.

    The honest users are all but ``s``.  Target and ρ⁰ span the ray of ``extent``.  Along a ray <F(ρ⁰ + tu), u>
    increases (e is convex) and is at most ‖F‖, so nothing beyond the t where it passes fλ can be forced.

    Source: C9 (``reach``).

    Examples
    --------
    >>> from theory import LeastSquares
    >>> users = [UserDataset([[1.0]], [0.0])] * 4
    >>> found = reach(Problem(users, LeastSquares(), L2(0.5), nu=0.1), 0, [9.0])
    >>> found.forced, round(found.extent, 9), found.extent <= found.worst_bound
    (False, 0.138888889, True)
    """
    s, target = _target(problem, s, target)
    f = as_count(n_attackers, "n_attackers", 1)
    force = attack_force(problem.reg, f)
    honest = _Honest.at(problem, s, target)
    size = float(norms(honest.F))
    forced = is_reachable(size, problem.reg, f)
    nearest = target if forced else _nearest_reachable(problem, s, target, force)
    if math.isinf(force):
        return Reach(forced, force, _honest_model(problem, s), nearest, 0.0, math.inf, math.inf, math.inf)
    start = _honest_model(problem, s)
    at_least = 0.0 if forced else _distance_at_least(problem, s, target, nearest, size, force)
    if start is None:
        return Reach(forced, force - size, None, nearest, at_least, math.nan, math.nan, math.inf)
    extent, outer = _extent(problem, s, start, target - start, force)
    return Reach(forced, force - size, start, nearest, at_least, extent, outer, _worst(problem, s, start, f))


def _honest_model(problem: Problem, s: int) -> Array | None:
    others = problem.without(s)
    if others.n_users == 0:
        return None
    solution = minimize(others, throw=False)
    return solution.rho if solution.status.is_minimum else None


def _sums(problem: Problem, s: int) -> HonestSums:
    return honest_sums(problem.without(s), "exact", np.zeros(problem.dim))


def _extent(problem: Problem, s: int, start: Array, ray: Array, force: float) -> tuple[float, float]:
    """Return the last t >= 0 with ‖F(start + tu)‖ <= force, and the t beyond which <F, u> exceeds it."""
    if norms(ray) == 0.0 or force >= _lam(problem) * (problem.n_users - 1):
        return math.inf, math.inf
    u = ray / norms(ray)

    sums = _sums(problem, s)

    def F(t: float) -> Array:
        return sums(start + t * u, 0.0)

    outer = max(1.0, float(norms(ray)))
    while float(F(outer) @ u) <= force:
        outer *= 2.0
        if outer > 1e9:
            return math.inf, math.inf
    outer = float(scipy.optimize.brentq(lambda t: float(F(t) @ u) - force, 0.0, outer, xtol=1e-13, rtol=1e-14))
    if norms(F(outer)) <= force * (1.0 + 1e-12):
        return outer, outer
    grid = np.linspace(0.0, outer, 33)
    for low, high in zip(grid[-2::-1], grid[:0:-1], strict=True):
        if norms(F(float(low))) <= force:
            t = scipy.optimize.brentq(lambda t: float(norms(F(t))) - force, low, high, xtol=1e-13, rtol=1e-14)
            return float(t), outer
    return 0.0, outer


def _worst(problem: Problem, s: int, start: Array, f: int) -> float:
    others = problem.without(s)
    if others.pinned or np.any(others.slope) or not problem.nu > 0:
        return math.inf
    own = [minimize(Problem([user], problem.loss, SquaredL2(1.0), problem.nu)).thetas[0] for user in others.users]
    at_start = _Honest.at(problem, s, start).value()
    least = sum(local_loss(own[n], *others.stack.user(n), problem.loss, problem.nu) for n in range(others.n_users))
    distances = np.array([float(norms(theta - start)) for theta in own])
    return displacement_bound(_lam(problem), f, at_start - least, local_convexity(others), distances)


def _nearest_reachable(problem: Problem, s: int, target: Array, force: float) -> Array:
    """A ρ with ‖F(ρ)‖ <= force that is close to the target: the closest if P = 1, a local optimum otherwise.

    In one dimension F increases, so the set is an interval.  In two its boundary is a curve, {ρ : F(ρ) = -g} for
    ‖g‖ = force, and the search starts from the best of 64 g; otherwise it starts from the minimum of
    e + force·‖ρ - target‖, where F has exactly that norm.
    """
    if problem.dim == 1:
        return _nearest_in_line(problem, s, target, force)
    start = _boundary_model(problem, s, target, force)
    if problem.dim == 2:
        angles = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)
        directions = np.column_stack([np.cos(angles), np.sin(angles)])
        ring = [minimize(problem.tilt(s, (1.0 - 1e-12) * force * g), throw=False) for g in directions]
        points = [start, *(found.rho for found in ring if found.status.is_minimum)]
        start = np.array(min(points, key=lambda rho: float(norms(rho - target))))
    inside = _honest_model(problem, s)
    sums = _sums(problem, s)

    def slack(rho: Array) -> float:
        return force - float(norms(sums(np.ascontiguousarray(rho), 0.0)))

    try:
        found = _scipy_minimize(
            lambda rho: 0.5 * float(np.sum((rho - target) ** 2)),
            start,
            jac=lambda rho: rho - target,
            constraints=_scipy_constraint(slack, 0.0, np.inf),
            method="SLSQP",
            options={"maxiter": 50, "ftol": 1e-12},
        )
    except SolverError:
        return start
    rho = np.asarray(found.x)
    if slack(rho) < 0.0 and inside is not None:
        # Pull back onto the set along the way to ρ⁰, where F = 0.
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if slack(rho + middle * (inside - rho)) < 0.0 else (low, middle)
        rho = rho + high * (inside - rho)
    if slack(rho) >= -1e-9 * force and norms(rho - target) < norms(start - target):
        return rho
    return start


def _distance_at_least(problem: Problem, s: int, target: Array, nearest: Array, size: float, force: float) -> float:
    """The best lower bound on the distance to what can be forced, from points on the way to ``nearest``."""
    sums, way = _sums(problem, s), target - nearest
    behind = [
        distance_behind(sums(np.ascontiguousarray(target - t * way), 0.0), t * way, force)
        for t in 1.0 - np.geomspace(1e-3, 1.0, 24, endpoint=False)
    ]
    found = max(distance_to_reach(size, force, smoothness(problem, s)), *behind)
    # Rounding of F and of the search must not put the bound beyond what was found.
    return min(found, float(norms(way)))


def _nearest_in_line(problem: Problem, s: int, target: Array, force: float) -> Array:
    """P = 1: the end of the interval {ρ : |F(ρ)| <= force} on the side of the target."""
    sums = _sums(problem, s)
    side = math.copysign(1.0, float(sums(target, 0.0)[0]))

    def excess(step: float) -> float:
        return side * float(sums(target - side * step, 0.0)[0]) - force

    far = 1.0
    while excess(far) > 0.0:
        far *= 2.0
        if far > 1e12:
            raise SolverError("no model can be forced: the honest users pull everywhere with more than the attackers")
    step = float(scipy.optimize.brentq(excess, 0.0, far, xtol=1e-14, rtol=1e-14))
    # The last step of the bisection may end on the wrong side.
    while excess(step) > 0.0 and step < far:
        step = min(far, step + 1e-14 * max(1.0, step, abs(float(target[0]))))
    return np.asarray(target - side * step)


def _boundary_model(problem: Problem, s: int, target: Array, force: float) -> Array:
    """argmin e(ρ) + force·‖ρ - target‖: force/λ users whose model is the target, for plain ℓ2."""
    copies = round(force / _lam(problem))
    if isinstance(problem.reg, L2):
        extended = Problem(
            [*problem.users, *([UserDataset.empty(problem.query_dim)] * (copies - 1))],
            problem.loss,
            problem.reg,
            problem.nu,
        )
        for n, model in problem.pinned.items():
            extended = extended.pin(n, model)
        for n in [s, *range(problem.n_users, extended.n_users)]:
            extended = extended.pin(n, target)
        # On the boundary itself the problem is degenerate, and any point nearby is as good.
        return np.array(minimize(extended, throw=False).rho)
    return np.array(counter_gradient_limit(problem, s, target).rho)


# --------------------------------------------------------------------------------------------------------------
# The round trip
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RoundTrip:
    """A converging gradient attack, the model attack made from it, the data made from that (Theorem 1).

    ``errors`` holds, for each of "gradient", "model" and "data", a bound on the distance of its exact limit or minimum
    from ``rho``; ``rhos`` their solutions, found by solvers that know nothing of each other.
    """

    trajectory: Trajectory
    rho: Array
    gradient: Array
    model: ReportedModel
    data: UserDataset
    rhos: dict[str, Array]
    errors: dict[str, float]

    @property
    def disagreement(self) -> float:
        """The largest distance between two of the solutions."""
        points = list(self.rhos.values())
        return max(float(norms(a - b)) for a in points for b in points)

    @property
    def bound(self) -> float:
        """The sum of the errors: no two exact limits differ by more."""
        return sum(self.errors.values())


def round_trip(
    problem: Problem,
    s: int,
    target: Any,
    *,
    eta: float | None = None,
    n_rounds: int = 20_000,
    rho0: Any = None,
) -> RoundTrip:
    r"""Run CGA until it stands still; make a model attack of its limit, and data of that; certify all three.

    Each arrow takes its input from the one before it alone: the model from the last ρ^t and report, the data from the
    model and that report.  Under plain ℓ2 a constant report need not determine ρ (d = 1: where the honest pulls cancel,
    e is flat); the error of "gradient" is then infinite, while model and data, tied to ρ, still determine it.

    Raises
    ------
    OutOfReachError
        The target cannot be forced.
    SolverError
        The attack did not come to rest within ``n_rounds``.

    Source: Theorem 1 (``thm1_equivalence``).

    Examples
    --------
    >>> from theory import LeastSquares
    >>> users = [UserDataset([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])] * 3
    >>> trip = round_trip(Problem(users, LeastSquares(), SquaredL2(1.0), nu=0.1), 0, [2.0, 2.0])
    >>> trip.disagreement <= trip.bound < 1e-10
    True
    """
    s, target = _target(problem, s, target)
    _require_reachable(problem, s, target, _Honest.at(problem, s, target))
    rate = _step(problem, s) if eta is None else as_positive(eta, "eta", "cga_converges")
    attack = CounterGradient(target, problem.reg)
    run = federated_descent(problem, eta=rate, n_rounds=n_rounds, attack=attack, s=s, rho0=rho0, stop=1e-14)
    if run.diverged or run.rounds[-1] == n_rounds:
        above = "" if run.is_admissible else f", not below the {run.step_limit:g} for which it is known to converge"
        raise SolverError(f"the attack did not come to rest in {n_rounds} rounds (step {rate:g}{above})")
    # The last round that was answered to: its report belongs to its ρ.
    rho, g = frozen(np.array(run.rho[-2])), frozen(np.array(run.reports[-2]))
    return _from_gradient(problem, s, run, rho, g)


def _from_gradient(problem: Problem, s: int, run: Trajectory, rho: Array, g: Array) -> RoundTrip:
    honest = _Honest.at(problem, s, rho)
    tilted = problem.tilt(s, g)
    model = reported_model(problem, s, rho, g)
    demand = Demand.of(-g, model.model, problem.nu)
    data = data_for(demand, problem, rho)
    poisoned = with_data(problem, s, data)
    at_data = certify(poisoned, rho, honest.with_model(s, model.model))
    solutions = {
        "gradient": minimize(tilted),
        "model": minimize(problem.pin(s, model.model)),
        "data": minimize(poisoned),
    }
    certificates = {"gradient": certify(tilted, rho, honest.thetas), "model": model.certificate, "data": at_data}
    errors = {
        name: certificates[name].distance_bound + solutions[name].certificate.distance_bound for name in solutions
    }
    return RoundTrip(run, rho, g, model, data, {name: x.rho for name, x in solutions.items()}, errors)


def _step(problem: Problem, s: int) -> float:
    """A step well below 1/(2L): against ℓ2² a small one is fast, against the others a large one."""
    limit = admissible_step(smoothness(problem, s))
    if math.isinf(limit):
        return 1.0
    if limit == 0.0:
        raise AssumptionError("cga_converges", "no Lipschitz constant of F is known", "pass a step eta")
    return limit * (0.05 if isinstance(problem.reg, SquaredL2) else 0.8)
