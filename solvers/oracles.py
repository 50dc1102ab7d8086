r"""The same problems in CVXPY, solved by Clarabel: the independent second opinion of the tests.

Nothing here shares code with a solver of this package or with the formulas of :mod:`theory`: the loss (eq. 1) is
written once more, as a cone program, from the data alone.

==============================  =================================================
term                            cone program
==============================  =================================================
least squares, ℓ2², ν‖θ‖²       quadratic objective
logistic                        two exponential cones for each data point
K-class logistic                K exponential cones for each data point
ℓ2 and smooth-ℓ2                one second-order cone for each user
==============================  =================================================

**Accuracy.** Clarabel measures the relative duality gap and the relative residuals of the cone program.  A gap of ε
at a modulus of strong convexity μ leaves a distance of :math:`\sqrt{2\varepsilon|\mathrm{Loss}|/\mu}`, so an oracle
is good for 1e-9 to 1e-4 in the models, never for 1e-12.  Compare with it only through the certificates of both
points (:func:`solvers.certify`), which state how far each of them can be from the minimum.

This is the only module that imports CVXPY.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
from scipy import sparse

from theory import L2, LeastSquares, Logistic, Multinomial, Problem, ShapeError, SmoothL2, SolverError, SquaredL2
from theory.arrays import Array, as_positive, frozen

# One attempt after the other until one succeeds: the part of the demanded accuracy that Clarabel aims at, and its
# longest step.  Each may stop at the whole accuracy.  A tight aim can end in a numerical error where a looser one is
# reached, and so can long steps on exponential cones with margins of 1e4.
_ATTEMPTS = ((1e-4, 0.99), (1e-2, 0.99), (1.0, 0.99), (1.0, 0.9))
_LEAST_AIM = 1e-13
_MAX_ITERATIONS = 500


@dataclass(frozen=True, eq=False)
class OracleSolution:
    """The answer of the oracle.

    Attributes
    ----------
    rho : (P,) array
    thetas : (N, P) array
        Pinned users hold the model that they report.  NaN everywhere where the loss is unbounded below.
    value : float
        The loss as the cone program counts it, which shares no code with :meth:`theory.Problem.value`; -inf where
        the loss is unbounded below.
    status : str
        ``"optimal"`` or ``"unbounded"``.
    """

    rho: Array
    thetas: Array
    value: float
    status: str


@dataclass(frozen=True, eq=False)
class RecessionSolution:
    r"""What the directions of recession say about the minimum (Rockafellar, *Convex Analysis*, Theorem 27.1).

    Attributes
    ----------
    rate : float
        The least rate :math:`\lim_t \mathrm{Loss}(t\delta)/t` over the directions δ of the box [-1, 1]; negative if
        and only if the loss is unbounded below.
    decrease : float
        How much the loss strictly gains, to first order in the data that it fits, over the directions with rate 0;
        positive if and only if the data can be fitted better for ever, so that the infimum is not attained.
    rho, thetas : arrays
        The direction that was found, zero for a pinned user.
    """

    rate: float
    decrease: float
    rho: Array
    thetas: Array


def cvxpy_minimum(problem: Problem, *, accuracy: float = 1e-8, reduce: bool = True) -> OracleSolution:
    r"""Minimize the global loss (eq. 1), with its pinned models (eq. 2) and tilts (eq. 48), by Clarabel.

    Parameters
    ----------
    problem : Problem
        With one of the losses and regularizers of :mod:`theory`.
    accuracy : float, > 0
        The relative duality gap and residuals demanded; Clarabel aims at 1e-4 of it.  See the module's notes for
        what this means for the models.
    reduce : bool
        Replace the data of a user with more than d real answers by the triangle of their QR factorization, which
        changes the loss by a constant only.  ``False`` keeps the raw data.

    Returns
    -------
    OracleSolution
        Under plain ℓ2, a model within ``accuracy`` of ρ (relative to 1 + ‖ρ‖) is returned as ρ itself.

    Raises
    ------
    SolverError
        The accuracy was not reached.
    ShapeError
        A loss or regularizer that has no cone program here.

    Notes
    -----
    An infimum that is bounded but not attained (separable labels with ν = 0) cannot be told from a minimum by the
    duality gap: Clarabel stops far out, where the gap is small.  :func:`cvxpy_recession` tells them apart.

    Examples
    --------
    >>> from theory import UserDataset
    >>> problem = Problem([UserDataset([[1.0]], [2.0])], LeastSquares(), SquaredL2(1.0), nu=0.5)
    >>> solution = cvxpy_minimum(problem)
    >>> bool(abs(solution.rho[0] - 1.0) < 1e-6), bool(abs(solution.value - 1.0) < 1e-6)
    (True, True)
    """
    accuracy = as_positive(accuracy, "accuracy", "cvxpy_minimum")
    program = _Program(problem, reduce=reduce)
    status = _solve(program.minimization, accuracy)
    if status == cp.UNBOUNDED:
        nowhere = frozen(np.full(problem.dim, math.nan))
        return OracleSolution(nowhere, frozen(np.full((problem.n_users, problem.dim), math.nan)), -math.inf, status)
    rho, thetas = program.scale * _value(program.rho), program.all_models(program.scale)
    if isinstance(problem.reg, L2):
        rho, thetas = _tie(problem, rho, thetas, accuracy)
    return OracleSolution(
        rho=frozen(rho),
        thetas=frozen(thetas),
        value=program.scale**2 * _value(program.minimization).item() + program.constant,
        status=status,
    )


def cvxpy_recession(problem: Problem, *, accuracy: float = 1e-8) -> RecessionSolution:
    r"""Find a direction along which the loss never increases, as a linear or second-order cone program.

    The recession function of the loss sums, over the users,

    * for ν‖θ‖²: 0 if ν = 0 or :math:`\delta\theta = 0`, and +∞ otherwise;
    * for least squares: 0 if :math:`Q\delta\theta = 0`, and +∞ otherwise;
    * for logistic data :math:`\max(0, -a\,Q^T\delta\theta)`, for K classes :math:`\max_k m_k - \sum_k a_k m_k`;
    * for ℓ2²: 0 if :math:`\delta\theta = \delta\rho`, and +∞ otherwise;
    * for ℓ2 and smooth-ℓ2: :math:`\lambda\|\delta\rho - \delta\theta\|`;
    * for the tilts :math:`g^T\delta\rho`.

    Neither number decides the one case in which the tilts pull with exactly Nλ under smooth-ℓ2.

    Examples
    --------
    >>> from theory import UserDataset
    >>> separable = [UserDataset([[1.0], [-1.0]], [1.0, -1.0])]
    >>> cvxpy_recession(Problem(separable, Logistic(), L2(1.0), nu=0.0)).decrease > 1.0
    True
    >>> abs(cvxpy_recession(Problem(separable, Logistic(), L2(1.0), nu=0.1)).decrease) < 1e-6
    True
    """
    accuracy = as_positive(accuracy, "accuracy", "cvxpy_recession")
    program = _Recession(problem)
    _solve(program.steepest, accuracy)
    rate = _value(program.steepest).item()
    if rate < -math.sqrt(accuracy):
        return RecessionSolution(rate, 0.0, *program.direction())
    _solve(program.gaining, accuracy)
    return RecessionSolution(rate, _value(program.gaining).item(), *program.direction())


def _solve(program: cp.Problem, accuracy: float) -> str:
    """Solve in place and return ``"optimal"`` or ``"unbounded"``; raise SolverError otherwise."""
    found = ""
    for part, step in _ATTEMPTS:
        aim = max(part * accuracy, min(_LEAST_AIM, accuracy))
        found = _attempt(program, aim, accuracy, max_step_fraction=step)
        if found in (cp.UNBOUNDED, cp.UNBOUNDED_INACCURATE):
            return cp.UNBOUNDED
        if found in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
            return cp.OPTIMAL
    raise SolverError(f"Clarabel did not reach the accuracy {accuracy:g}: {found}")


def _attempt(program: cp.Problem, aim: float, accuracy: float, **options: float) -> str:
    """Solve in place and return CVXPY's status; "inaccurate" in it means within ``accuracy`` but not ``aim``."""
    tolerances = {f"tol_{kind}": aim for kind in ("gap_abs", "gap_rel", "feas")}
    tolerances |= {f"reduced_{kind}": accuracy for kind in tolerances}
    try:
        with warnings.catch_warnings():
            # The status says it.
            warnings.filterwarnings("ignore", message="Solution may be inaccurate", category=UserWarning)
            program.solve(solver=cp.CLARABEL, max_iter=_MAX_ITERATIONS, **tolerances, **options)
    except cp.error.SolverError as error:
        return str(error)
    return str(program.status)


def _value(solved: Any) -> Array:
    """Return the value of a variable or problem that was solved."""
    return np.array(solved.value, dtype=np.float64)


class _Variables:
    """The variables of a problem: ρ and the free models, each divided by a scale chosen by the caller."""

    def __init__(self, problem: Problem) -> None:
        if not isinstance(problem.loss, (LeastSquares, Logistic, Multinomial)):
            raise ShapeError("problem.loss", "LeastSquares, Logistic or Multinomial", repr(problem.loss))
        if not isinstance(problem.reg, (SquaredL2, L2, SmoothL2)):
            raise ShapeError("problem.reg", "SquaredL2, L2 or SmoothL2", repr(problem.reg))
        self.problem = problem
        self.reg = problem.reg
        self.free = np.flatnonzero(problem.free)
        self.rho = cp.Variable(problem.dim)
        # CVXPY has no empty variables: where all users are pinned, one row stands there that nothing refers to.
        self.models = cp.Variable((max(self.free.size, 1), problem.dim))

    def data(self, reduce: bool) -> tuple[list[sparse.csr_array], Array]:
        """Return for each class the matrix that maps the flattened models to its margins, and the answers."""
        problem = self.problem
        blocks = [problem.stack.user(n) for n in self.free.tolist()]
        if reduce and isinstance(problem.loss, LeastSquares):
            blocks = [_triangle(Q, a) for Q, a in blocks]
        K, d, P = problem.loss.n_outputs, problem.query_dim, problem.dim
        maps = []
        for k in range(K):
            padded = [np.zeros((len(Q), P)) for Q, _ in blocks]
            for matrix, (Q, _) in zip(padded, blocks, strict=True):
                matrix[:, k * d : (k + 1) * d] = Q
            maps.append(sparse.csr_array(sparse.block_diag(padded)) if padded else sparse.csr_array((0, P)))
        answers = np.concatenate([a for _, a in blocks]) if blocks else np.zeros(0)
        return maps, answers

    def margins(self, maps: list[sparse.csr_array]) -> Any:
        """Return the margins, of shape (rows,) or (rows, K)."""
        flat = cp.vec(self.models, order="C")
        columns = [matrix @ flat for matrix in maps]
        return columns[0] if len(columns) == 1 else cp.vstack(columns).T

    def differences(self, pinned: Array) -> Any:
        """Return the rows ρ - θ_n of all users, pinned ones last; None if there is no user."""
        rows = [self.rho - self.models[i] for i in range(self.free.size)] + [self.rho - model for model in pinned]
        return cp.vstack(rows) if rows else None

    def all_models(self, scale: float) -> Array:
        """Return the models of all users, shape (N, P)."""
        thetas = np.zeros((self.problem.n_users, self.problem.dim))
        if self.free.size:
            thetas[self.free] = scale * _value(self.models)
        for s, model in self.problem.pinned.items():
            thetas[s] = model
        return thetas


class _Program(_Variables):
    """Minimize (Loss - constant)/s² over the models divided by s, the ``scale``."""

    def __init__(self, problem: Problem, *, reduce: bool) -> None:
        super().__init__(problem)
        maps, answers = self.data(reduce)
        pinned = np.array([*problem.pinned.values()]).reshape(-1, problem.dim)
        self.scale = self._choose_scale(answers, pinned)
        self.constant = problem.nu * float(np.sum(pinned**2)) + _dropped_by_reduction(problem, reduce)
        terms = [self._local(maps, answers), self._regularization(pinned / self.scale)]
        terms.append((problem.slope / self.scale) @ self.rho)
        self.minimization = cp.Problem(cp.Minimize(cp.sum(cp.hstack([term for term in terms if term is not None]))))

    def _choose_scale(self, answers: Array, pinned: Array) -> float:
        # Clarabel's gap is relative to the loss, so one outlier of 1e4 in the answers would cost eight digits.
        # Least squares, ν‖θ‖² and ℓ2² are homogeneous: with models and answers divided by s they are divided by s².
        # The other losses are not, and have no large answers.
        if not isinstance(self.problem.loss, LeastSquares):
            return 1.0
        return max(1.0, float(np.max(np.abs(answers), initial=0.0)), float(np.max(np.abs(pinned), initial=0.0)))

    def _local(self, maps: list[sparse.csr_array], answers: Array) -> Any:
        """Σ_n ν‖θ_n‖² + Σ_i φ over the free users, or None if there is no free user."""
        if self.free.size == 0:
            return None
        total = self.problem.nu * cp.sum_squares(self.models)
        if maps[0].shape[0] == 0:
            return total
        m = self.margins(maps)
        loss = self.problem.loss
        if isinstance(loss, LeastSquares):
            return total + 0.5 * cp.sum_squares(m - answers / self.scale)
        if isinstance(loss, Logistic):
            return total + cp.sum(cp.logistic(-cp.multiply(answers, m)))
        # Rows of label probabilities sum to 1 only up to rounding; Problem weighs the log-partition by the sum.
        partition = cp.multiply(answers.sum(axis=1), cp.log_sum_exp(m, axis=1))
        return total + cp.sum(partition) - cp.sum(cp.multiply(answers, m))

    def _regularization(self, pinned: Array) -> Any:
        """Σ_n R(ρ, θ_n) over all users, or None if there is no user."""
        reg, z = self.reg, self.differences(pinned)
        if z is None:
            return None
        if isinstance(reg, SquaredL2):
            return reg.lam * cp.sum_squares(z)
        if isinstance(reg, SmoothL2):
            # √(1 + ‖z‖²) is the norm of z with a coordinate 1 put before it.
            z = cp.hstack([np.full((z.shape[0], 1), 1.0 / self.scale), z])
        return (reg.lam / self.scale) * cp.sum(cp.norm(z, 2, axis=1))


class _Recession(_Variables):
    """The recession function over the box [-1, 1]: its least value, and the gain where it vanishes."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        maps, answers = self.data(reduce=False)
        # A pinned model does not move.
        z = self.differences(np.zeros((len(problem.pinned), problem.dim)))
        constraints: list[Any] = [cp.abs(self.rho) <= 1.0, cp.abs(self.models) <= 1.0]
        rate: list[Any] = [problem.slope @ self.rho]
        gain: Any = cp.Constant(0.0)
        if problem.nu > 0:
            constraints.append(self.models == 0)
        if z is not None and isinstance(self.reg, SquaredL2):
            constraints.append(z == 0)
        elif z is not None:
            rate.append(self.reg.lam * cp.sum(cp.norm(z, 2, axis=1)))
        if maps[0].shape[0]:
            m = self.margins(maps)
            if isinstance(problem.loss, LeastSquares):
                constraints.append(m == 0)
            elif isinstance(problem.loss, Logistic):
                rate.append(cp.sum(cp.pos(-cp.multiply(answers, m))))
                gain = cp.sum(cp.multiply(answers, m))
            else:
                fit = cp.sum(cp.multiply(answers, m), axis=1)
                rate.append(cp.sum(cp.max(m, axis=1) - fit))
                gain = cp.sum(fit - cp.sum(m, axis=1) / problem.loss.n_outputs)
        total = cp.sum(cp.hstack(rate))
        self.steepest = cp.Problem(cp.Minimize(total), constraints)
        self.gaining = cp.Problem(cp.Maximize(gain), [*constraints, total <= 0.0])

    def direction(self) -> tuple[Array, Array]:
        """Return (δρ, δθ) with the rows of pinned users zero."""
        thetas = np.zeros((self.problem.n_users, self.problem.dim))
        if self.free.size:
            thetas[self.free] = _value(self.models)
        return frozen(_value(self.rho)), frozen(thetas)


def _tie(problem: Problem, rho: Array, thetas: Array, accuracy: float) -> tuple[Array, Array]:
    """Set equal to ρ the models that are equal to it up to the accuracy, and ρ to a pinned model likewise.

    An interior-point method stops beside the kink of plain ℓ2, where the gradient of the norm is meaningless.
    """
    near = np.linalg.norm(thetas - rho, axis=1) <= accuracy * (1.0 + np.linalg.norm(rho))
    pinned = np.flatnonzero(near & ~problem.free)
    tied = thetas[pinned[0]].copy() if pinned.size else rho
    return tied, np.where((near & problem.free)[:, None], tied, thetas)


def _triangle(Q: Array, a: Array) -> tuple[Array, Array]:
    """Return (R, Uᵀa) of the factorization Q = UR, where that is smaller than (Q, a)."""
    if Q.shape[0] <= Q.shape[1]:
        return Q, a
    U, R = np.linalg.qr(Q)
    return R, U.T @ a


def _dropped_by_reduction(problem: Problem, reduce: bool) -> float:
    """Return the constant ½‖a - UUᵀa‖², summed over the users whose data were reduced."""
    if not (reduce and isinstance(problem.loss, LeastSquares)):
        return 0.0
    total = 0.0
    for n in np.flatnonzero(problem.free).tolist():
        Q, a = problem.stack.user(n)
        if Q.shape[0] > Q.shape[1]:
            U = np.linalg.qr(Q)[0]
            total += 0.5 * float(np.sum((a - U @ (U.T @ a)) ** 2))
    return total
