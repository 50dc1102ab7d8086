r"""Federated gradient descent under an attack, round by round (section 2.2).

.. math:: \rho^{t+1} = \rho^t - \eta_t\Bigl(\sum_{n\ne s} g_n^t + g_s^t\Bigr)

How the honest sum F(ρ) is computed with fully optimized local models:

============================  ====================================================================  ==============
problem                       method                                                                a round costs
============================  ====================================================================  ==============
least squares, ℓ2²            θ_n = K_n⁻¹(b_n + 2λρ) is affine in ρ, so F(ρ) = Mρ - c, M and c      2P² flops
                              computed once
least squares, ℓ2, smooth-ℓ2  one secular equation a user, in eigenbases computed once              4NP² flops
logistic, K classes           Newton's method from the models of the last round, compiled             2 N ℐ P² flops
a loss of your own            :func:`solvers.local_minima`                                          a Newton solve
============================  ====================================================================  ==============

All are exact (to rounding).  ``local="step"`` keeps the local models instead, and moves each by one gradient step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import scipy.linalg

from solvers import _kernels as kernels
from solvers._parallel import over_users
from solvers.local import local_minima
from solvers.optimality import local_gradients
from solvers.quadratic import KINDS, Anchors, BuiltIn, EigenModels, Models, reduce_to_rho
from theory import L2, AssumptionError, LeastSquares, Logistic, Multinomial, Problem, ShapeError, SquaredL2
from theory.arrays import Array, as_count, as_index, as_positive, as_vector, frozen
from theory.attacks import Attack, View
from theory.dynamics import (
    GradientStep,
    ServerRule,
    admissible_step,
    honest_smoothness,
    is_plausible,
    regularizer_smoothness,
)
from theory.regularizers import norms

Rates = float | Sequence[float] | Array | Callable[[int], float]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A run of federated gradient descent; everything but ``thetas`` is kept for the ``rounds`` that were kept.

    Attributes
    ----------
    rounds : (T,) array of int
        Which rounds are kept: every ``keep_every``-th, and the first and the last.
    rho : (T, P) array
        ρ^t; with ``keep_every=1`` the shape is (n_rounds + 1, P).
    reports : (T, P) array
        The attacker's report g_s^t as the server used it; NaN in the last row if nobody attacks or it was not asked
        any more (ρ of the last round has not been answered to).
    honest_sums : (T, P) array
        F of the same rounds, the sum of the others' reports; NaN likewise.
    thetas : (N - 1, P) array, or (N, P) without an attacker
        Local models of the last round that was answered to.
    ignored : int
        How many reports of the attacker were not plausible.
    diverged : bool
        Whether ρ left the range of float64; the run stops there.
    step_limit : float
        The step below which the counter-gradient attack provably converges, 1/(2L); 0 where no L is known.
    largest_step : float
        The largest rate that was used.
    """

    rounds: np.ndarray
    rho: Array
    reports: Array
    honest_sums: Array
    thetas: Array = field(repr=False)
    ignored: int
    diverged: bool
    step_limit: float
    largest_step: float

    @property
    def final(self) -> Array:
        """The last ρ."""
        return self.rho[-1]

    @property
    def is_admissible(self) -> bool:
        """Whether every rate was below :attr:`step_limit`; a larger one is allowed, but nothing is known of it."""
        return self.largest_step < self.step_limit

    def distance_to(self, target: Any) -> Array:
        """Return ‖ρ^t - target‖₂ for each round kept, shape (T,)."""
        return norms(self.rho - as_vector(target, "target", self.rho.shape[1]))


def federated_descent(
    problem: Problem,
    *,
    eta: Rates,
    n_rounds: int,
    attack: Attack | None = None,
    s: int | None = None,
    rho0: Any = None,
    local: str = "exact",
    local_eta: float | None = None,
    implausible: str = "ignore",
    server: ServerRule | None = None,
    keep_every: int = 1,
    stop: float | None = None,
) -> Trajectory:
    r"""Run federated gradient descent for ``n_rounds`` rounds, with user ``s`` attacking.

    Parameters
    ----------
    problem : Problem
        Whatever user ``s`` holds is not used.
    eta : float, sequence of floats, or function of the round
        η_t > 0.  A rate above ``Trajectory.step_limit`` is allowed; ``Trajectory.is_admissible`` says so.
    n_rounds : int
    attack : Attack, optional
        Without one, everybody is honest.
    s : int, optional
        The attacker; required with ``attack``.
    rho0 : (P,) array_like, optional
        ρ^0, by default 0.
    local : {"exact", "step"}
        Local models fully optimized in each round (Dinh et al., 2020), or moved by one gradient step (Hanzely and
        Richtárik, 2021) of rate ``local_eta`` (by default η_t), from θ_n = ρ^0.
    implausible : {"ignore", "project"}
        What the server does to a report outside GRAD(ρ): ignore it in this round, as the paper says, or project it.
    server : ServerRule, optional
        By default the paper's gradient step.
    keep_every : int
        Thin the trajectory.
    stop : float, optional
        Stop early when a step moved ρ by at most ``stop`` × max(1, ‖ρ‖) twice in a row.

    Returns
    -------
    Trajectory

    Raises
    ------
    AssumptionError
        An attack that presumes plain gradient steps meets another server rule; a regularizer of your own with
        ``local="exact"``.
    ShapeError
        Bad arguments, an attacker's index out of range, a report that is not a finite vector.
    SolverError
        A local problem has no minimum.

    Source: section 2.2 (``federated_descent``), eqs 6, 7.

    Examples
    --------
    >>> from theory import UserDataset
    >>> from theory.attacks import CounterGradient
    >>> reg = SquaredL2(0.5)
    >>> problem = Problem([UserDataset([[1.0]], [5.0]), UserDataset.empty(1)], LeastSquares(), reg, nu=0.1)
    >>> run = federated_descent(problem, eta=0.3, n_rounds=60, attack=CounterGradient([2.0], reg), s=1)
    >>> run.final.round(12), run.rho.shape, run.is_admissible
    (array([2.]), (61, 1), True)
    """
    n_rounds = as_count(n_rounds, "n_rounds")
    keep_every = as_count(keep_every, "keep_every", 1)
    rule = GradientStep() if server is None else server
    others = _without_attacker(problem, attack, s, rule)
    rate = _schedule(eta, n_rounds)
    if implausible not in ("ignore", "project"):
        raise ShapeError("implausible", "'ignore' or 'project'", repr(implausible))
    start = np.zeros(problem.dim) if rho0 is None else as_vector(rho0, "rho0", problem.dim)
    honest = honest_sums(others, local, start, local_eta)
    record = _Record(keep_every, problem.dim, n_rounds)
    with np.errstate(over="ignore", invalid="ignore"):
        return _run(honest, rate, n_rounds, attack, problem, start, implausible == "project", rule, record, stop)


def _run(
    honest: HonestSums,
    rate: Callable[[int], float],
    n_rounds: int,
    attack: Attack | None,
    problem: Problem,
    rho: Array,
    project: bool,
    rule: ServerRule,
    record: _Record,
    stop: float | None,
) -> Trajectory:
    nothing = frozen(np.zeros(problem.dim))
    state, ignored, diverged, largest, still = rule.start(problem.dim), 0, False, 0.0, 0
    known: tuple[Array, float, Array] | tuple[()] = ()
    answered = 0
    for t in range(n_rounds):
        eta = rate(t)
        largest = max(largest, eta)
        total = honest(rho, eta)
        report = nothing
        if attack is not None:
            report = _checked_report(attack, View(t, rho, eta, *known), problem.dim)
            if not is_plausible(report, problem.reg):
                ignored += 1
                report = frozen(np.asarray(problem.reg.project(report))) if project else nothing
            known = (rho, eta, report)
        record.keep(t, rho, report if attack is not None else None, total)
        following, state = rule.step(state, rho, total + report, eta)
        following = frozen(np.asarray(following))
        if not np.all(np.isfinite(following)) or float(np.abs(following).max(initial=0.0)) > _HUGE:
            diverged = True
            break
        moved = float(norms(following - rho)) if stop is not None else math.inf
        rho, answered = following, t + 1
        if stop is not None:
            still = still + 1 if moved <= stop * max(1.0, float(norms(rho))) else 0
            if still == 2:
                break
    record.finish(answered, rho)
    limit = admissible_step(honest.smoothness())
    return Trajectory(*record.arrays(), honest.thetas(rho), ignored, diverged, limit, largest)


# Beyond this the local problems cannot be solved in float64 any more.
_HUGE = 1e100


def _without_attacker(problem: Problem, attack: Attack | None, s: int | None, rule: ServerRule) -> Problem:
    if not isinstance(problem, Problem):
        raise ShapeError("problem", "a Problem", type(problem).__name__)
    if not isinstance(rule, ServerRule):
        raise ShapeError("server", "an object with name, start, step", repr(rule))
    if attack is None:
        if s is not None:
            raise ShapeError("attack", "an attack, as s is given", "None")
        return problem
    if isinstance(attack, type) or not isinstance(attack, Attack):
        raise ShapeError("attack", "an object with name, needs_gradient_steps, report", repr(attack))
    if s is None:
        raise ShapeError("s", "the index of the attacker", "None")
    s = as_index(s, "s", problem.n_users)
    if attack.needs_gradient_steps and type(rule) is not GradientStep:
        raise AssumptionError(
            "eq6_estimate",
            f"attack {attack.name!r} against the server rule {rule.name!r}",
            "the estimate (ρ^{t-1} - ρ^t)/η - g holds for plain gradient steps only; use GradientStep()",
        )
    aim = getattr(attack, "target", None)
    if aim is not None:
        as_vector(aim, "attack.target", problem.dim)
    return problem.without(s)


def _schedule(eta: Rates, n_rounds: int) -> Callable[[int], float]:
    statement = "federated_descent"
    if callable(eta):
        return lambda t: as_positive(eta(t), f"eta({t})", statement)
    if np.ndim(eta) == 0:
        constant = as_positive(eta, "eta", statement)
        return lambda t: constant
    rates = as_vector(eta, "eta")
    if rates.size < n_rounds:
        raise ShapeError("eta", f"a rate for each of {n_rounds} rounds", f"{rates.size} rates")
    if not np.all(rates > 0):
        raise AssumptionError(statement, f"eta[{int(np.argmin(rates > 0))}] <= 0", "every rate must be > 0")
    return lambda t: float(rates[t])


def _checked_report(attack: Attack, view: View, dim: int) -> Array:
    report = np.asarray(attack.report(view))
    if report.shape == (dim,) and report.dtype == np.float64 and np.all(np.isfinite(report)):
        return frozen(report) if report.flags.owndata and report.flags.writeable else report
    if report.shape == (dim,) and np.issubdtype(report.dtype, np.floating):
        # An attack on a run that diverges overflows with it.
        return np.nan_to_num(report, nan=0.0, posinf=_HUGE, neginf=-_HUGE)
    return as_vector(report, f"report of {attack.name!r} in round {view.round}", dim)


class _Record:
    """The rounds that are kept."""

    def __init__(self, keep_every: int, dim: int, n_rounds: int) -> None:
        self.keep_every, self.missing = keep_every, np.full(dim, np.nan)
        self.rounds: list[int] = []
        self.rho: list[Array] = []
        self.reports: list[Array] = []
        self.honest: list[Array] = []

    def keep(self, t: int, rho: Array, report: Array | None, total: Array) -> None:
        if t % self.keep_every == 0:
            self._append(t, rho, self.missing if report is None else report, total)

    def finish(self, t: int, rho: Array) -> None:
        if not self.rounds or self.rounds[-1] != t:
            self._append(t, rho, self.missing, self.missing)

    def _append(self, t: int, rho: Array, report: Array, total: Array) -> None:
        self.rounds.append(t)
        self.rho.append(rho)
        self.reports.append(report)
        self.honest.append(total)

    def arrays(self) -> tuple[np.ndarray, Array, Array, Array]:
        return (
            frozen(np.array(self.rounds)),
            frozen(np.array(self.rho)),
            frozen(np.array(self.reports)),
            frozen(np.array(self.honest)),
        )


# --------------------------------------------------------------------------------------------------------------
# The honest sum
# --------------------------------------------------------------------------------------------------------------


class HonestSums(Protocol):
    """F as a function of ρ (and, for local steps, of the rate), the local models there, and a Lipschitz constant."""

    def __call__(self, rho: Array, eta: float) -> Array:
        """Return F(ρ)."""
        ...

    def thetas(self, rho: Array) -> Array:
        """Return the local models."""
        ...

    def smoothness(self) -> float:
        """Return a Lipschitz constant of F; ∞ where none is known."""
        ...


def honest_sums(others: Problem, local: str, start: Array, local_eta: float | None = None) -> HonestSums:
    """Return the sum of the reports of all users of ``others``, by the method of the table in the module."""
    if local == "step":
        return _OneStep(others, start, local_eta)
    if local != "exact":
        raise ShapeError("local", "'exact' or 'step'", repr(local))
    if local_eta is not None:
        raise ShapeError("local_eta", "None with local='exact'", repr(local_eta))
    if type(others.reg) not in KINDS:
        raise AssumptionError("local_optimum", f"regularizer {others.reg!r}", "use local='step'")
    if type(others.loss) is LeastSquares and others.n_users > 0:
        if type(others.reg) is not SquaredL2:
            return _Secular(others)
        if others.nu > 0 or others.free.any():
            return affine_honest_sum(others)
    if type(others.loss) in (Logistic, Multinomial) and others.n_users > 0:
        return _Followed(others, start)
    return _Solved(others)


@dataclass(frozen=True, eq=False)
class AffineSum:
    r"""F(ρ) = Mρ - c for least squares with ℓ2².

    Stationarity of a local model is K_nθ_n = b_n + 2λρ with K_n = Q_nᵀQ_n + 2(ν + λ)I, so its report is
    2λ(ρ - θ_n) = 2λ K_n⁻¹((Q_nᵀQ_n + 2νI)ρ - b_n): no difference of nearly equal matrices for large λ.
    """

    others: Problem
    M: Array
    c: Array

    def __call__(self, rho: Array, eta: float = 0.0) -> Array:
        """Return F(ρ)."""
        return self.M @ rho - self.c

    def thetas(self, rho: Array) -> Array:
        """Return the local models at ρ."""
        return local_minima(self.others, rho)[0]

    def smoothness(self) -> float:
        """Return the largest eigenvalue of M: the smallest Lipschitz constant of F."""
        return max(float(np.linalg.eigvalsh(self.M)[-1]), 0.0)


def affine_honest_sum(others: Problem) -> AffineSum:
    """Return F(ρ) = Mρ - c of all users of ``others`` (least squares, ℓ2²); N P³ flops."""
    lam, size = cast(SquaredL2, others.reg).lam, others.dim
    M, c = np.zeros((size, size)), -np.array(others.slope)
    H, b = _normal_equations(others)
    diagonal = np.arange(size)
    for lower, right in zip(H, b, strict=True):
        A = np.tril(lower) + np.tril(lower, -1).T
        A[diagonal, diagonal] += 2.0 * others.nu
        K = A.copy()
        K[diagonal, diagonal] += 2.0 * lam
        solved = scipy.linalg.cho_solve(scipy.linalg.cho_factor(K, lower=True), np.column_stack([A, right]))
        M += 2.0 * lam * solved[:, :size]
        c += 2.0 * lam * solved[:, size]
    for model in others.pinned.values():
        M[diagonal, diagonal] += 2.0 * lam
        c += 2.0 * lam * model
    return AffineSum(others, 0.5 * (M + M.T), c)


def _normal_equations(problem: Problem) -> tuple[Array, Array]:
    """Return Q_nᵀQ_n (lower triangles) and Q_nᵀA_n of the users that are not pinned."""
    free, stack, size = problem.free, problem.stack, problem.dim
    start, stop = np.ascontiguousarray(stack.start[free]), np.ascontiguousarray(stack.stop[free])
    H, b = np.empty((len(start), size, size)), np.empty((len(start), size))
    over_users(
        lambda _, first, last: kernels.least_squares_normal(stack.Q, stack.labels, start, stop, H, b, first, last),
        (stop - start) * float(size**2) + 1.0,
    )
    return H, b


class _Secular:
    """Least squares with ℓ2 or smooth-ℓ2: eigenbases once, then one secular equation a user and round."""

    def __init__(self, others: Problem) -> None:
        self.others = others
        H, b = _normal_equations(others)
        models: EigenModels = Models(H, 2.0 * others.nu, np.zeros_like(b), -b).in_eigenbases()
        self.models = models
        pins = [others.pinned[s] for s in sorted(others.pinned)]
        self.anchors = Anchors(np.array(pins).reshape(len(pins), others.dim), np.array(others.slope))

    def __call__(self, rho: Array, eta: float) -> Array:
        return reduce_to_rho(self.models, cast(BuiltIn, self.others.reg), self.anchors, rho, order=0).gradient

    def thetas(self, rho: Array) -> Array:
        return local_minima(self.others, rho)[0]

    def smoothness(self) -> float:
        if isinstance(self.others.reg, L2) and self.others.pinned:
            return math.inf
        stiffness = regularizer_smoothness(self.others.reg)
        largest = self.models.beta.max(axis=1, initial=0.0)
        parallel = largest if math.isinf(stiffness) else largest * stiffness / (largest + stiffness)
        return float(parallel.sum() + len(self.anchors.models) * (stiffness if self.others.pinned else 0.0))


class _Followed:
    """Logistic and K-class losses: Newton's method from the models of the last round."""

    def __init__(self, others: Problem, start: Array) -> None:
        self.others = others
        stack, free = others.stack, others.free
        self.rows = np.ascontiguousarray(stack.start[free]), np.ascontiguousarray(stack.stop[free])
        self.labels = np.ascontiguousarray(stack.labels.reshape(-1, others.loss.n_outputs))
        self.models = np.tile(start, (int(free.sum()), 1))
        self.pulls, self.sigmas = np.zeros_like(self.models), np.zeros(len(self.models))
        self.flops = (self.rows[1] - self.rows[0]) * 2.0 * others.dim**2 + float(others.dim) ** 3

    def __call__(self, rho: Array, eta: float) -> Array:
        problem, reg = self.others, cast(BuiltIn, self.others.reg)
        status = over_users(
            lambda _, a, b: kernels.followed_minima(
                problem.stack.Q, self.labels, *self.rows, 2.0 * problem.nu, rho, reg.lam, KINDS[type(reg)],
                self.models, self.pulls, self.sigmas, a, b,
            ),
            self.flops,
        )  # fmt: skip
        if status != 0:
            # Singular to rounding, or too far from the last round: start afresh, in eigenbases where need be.
            return _Solved(problem)(rho, eta)
        pins = sum((reg.gradient(rho, model) for model in problem.pinned.values()), np.zeros(problem.dim))
        return self.pulls.sum(axis=0) + pins + problem.slope

    def thetas(self, rho: Array) -> Array:
        return local_minima(self.others, rho)[0]

    def smoothness(self) -> float:
        return honest_smoothness(self.others)


class _Solved:
    """Any loss: the local problems are solved in each round."""

    def __init__(self, others: Problem) -> None:
        self.others = others

    def __call__(self, rho: Array, eta: float) -> Array:
        if self.others.n_users == 0:
            return np.array(self.others.slope)
        return local_minima(self.others, rho)[1].sum(axis=0) + self.others.slope

    def thetas(self, rho: Array) -> Array:
        return local_minima(self.others, rho)[0] if self.others.n_users else np.zeros((0, self.others.dim))

    def smoothness(self) -> float:
        return honest_smoothness(self.others)


class _OneStep:
    """Local models are kept, and moved by one gradient step a round.

    NumPy: ``thetas = theory.dynamics.local_step(problem, rho, thetas, eta)``
    """

    def __init__(self, others: Problem, start: Array, local_eta: float | None) -> None:
        self.others = others
        self.rate = None if local_eta is None else as_positive(local_eta, "local_eta", "federated_descent")
        self.models = np.tile(start, (others.n_users, 1))
        for s, model in others.pinned.items():
            self.models[s] = model

    def __call__(self, rho: Array, eta: float) -> Array:
        free = self.others.free
        slopes = local_gradients(self.others, self.models) - self.others.reg.gradient(rho, self.models)
        step = (eta if self.rate is None else self.rate) * slopes
        self.models[free] -= step[free]
        return self.others.reg.gradient(rho, self.models).sum(axis=0) + self.others.slope

    def thetas(self, rho: Array) -> Array:
        return self.models

    def smoothness(self) -> float:
        return math.inf  # the theory of the step is for fully optimized models
