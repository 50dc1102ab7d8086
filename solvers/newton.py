r"""Newton's method for losses that are not quadratic.

Two kinds of steps, each followed by a search for sufficient decrease of the loss:

* the *joint* step minimizes the second-order model of the whole loss (:mod:`solvers.arrowhead`; for ℓ2², where the
  regularizer is its own model, :func:`solvers.quadratic.squared_l2_step`);
* the *exact* step minimizes Σ_n (quadratic model of L_n) + Σ_n R with the regularizer as it is
  (:func:`solvers.quadratic.minimize_models`).  Ties of plain ℓ2 come out of it, to the last bit.

With ℓ2 the exact step runs until it leaves the ties as they are, then the joint step takes over; it also stands in
where a joint step fails.  Close to the minimum the factors of one step serve for several more, as long as each divides
the residual by ten.  Hessians only steer: they are in single precision until that is seen not to suffice.

Source: eq. 1 (``eq1_global_loss``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from solvers import arrowhead
from solvers.data_terms import DataTerms, data_terms
from solvers.optimality import gradient_at_zero, optimality
from solvers.quadratic import (
    Factors,
    Models,
    built_in,
    minimize_models,
    quadratic_factors,
    squared_l2_refinement,
)
from solvers.views import Ridge, anchors_of, assemble
from theory import L2, Problem, SquaredL2
from theory.arrays import Array

_MAX_ITERATIONS = 200
_FLOOR = 3e-16
# From this relative residual on the last factors may do: what a step leaves is about its square.
_REUSE_BELOW = 1e-3
_GAIN = 0.1


@dataclass(frozen=True, eq=False)
class _State:
    """One iterate: models, value of the loss, ∇L_n (N, P), Hessians if they were asked for, residual and ∇_ρR."""

    rho: Array
    thetas: Array
    value: float
    terms: DataTerms
    residual: float
    pulls: Array


class _Newton:
    """What the steps share: the problem, the space for its Hessians, and what has been learnt on the way."""

    def __init__(self, problem: Problem, ridge: Ridge) -> None:
        self.problem, self.ridge, self.reg = problem, ridge, built_in(problem.reg)
        self.anchors, self.scale = anchors_of(problem), gradient_at_zero(problem)
        self.workspace = np.empty((int(problem.free.sum()), problem.dim, problem.dim))
        Q = problem.stack.Q
        largest = max(float(Q.max(initial=0.0)), -float(Q.min(initial=0.0)))
        self.single = problem.nu > 0 and 1e-6 < largest < 1e6 and ridge.is_zero
        self.joint = not isinstance(self.reg, L2)
        self.system: arrowhead.Arrowhead | _SquaredL2System | None = None

    def evaluate(self, rho: Array, thetas: Array, order: int) -> _State:
        problem = self.problem
        if order == 2:
            self.system = None  # its factors lie in the same space
        with np.errstate(over="ignore", invalid="ignore"):  # a loss without a minimum: not finite is not accepted
            terms = data_terms(problem, thetas, order=order, workspace=self.workspace, single=self.single)
            rest = problem.nu * float(np.sum(thetas**2)) + float(np.sum(problem.reg.value(rho, thetas)))
            found = optimality(problem, rho, thetas, terms.gradients, self.scale)
        return _State(rho, thetas, terms.value + rest + float(rho @ problem.slope), terms, found.relative, found.pulls)

    def with_hessians(self, state: _State) -> _State:
        return state if state.terms.hessians is not None else self.evaluate(state.rho, state.thetas, 2)

    def gradients(self, state: _State) -> tuple[Array, Array]:
        """Return ∇_ρ and ∇_θ of the free users; of tied users ∇L_n, and nothing in ∇_ρ."""
        free, tied = self.problem.free, self.tied(state)
        pulls = state.pulls.copy()
        pulls[tied] = 0.0
        return pulls.sum(axis=0) + self.problem.slope, (state.terms.gradients - pulls)[free]

    def tied(self, state: _State) -> np.ndarray:
        """Return which users (N,) are free and tied to ρ to the last bit."""
        if not isinstance(self.reg, L2):
            return np.zeros(self.problem.n_users, dtype=bool)
        return np.asarray((state.thetas == state.rho).all(axis=1) & self.problem.free)

    def takes_joint_step_next(self, state: _State, following: _State) -> bool:
        """Whether a joint step comes next: the last step, of either kind, went well and left the ties as they are."""
        if isinstance(self.reg, SquaredL2):
            return True
        good = following.residual <= 0.5 * state.residual
        if isinstance(self.reg, L2):
            return good and following.residual < 0.1 and np.array_equal(self.tied(state), self.tied(following))
        return good

    def factor(self, state: _State) -> None:
        """Factor the joint system at ``state``, whose Hessians are used up."""
        free, H, shift = self.problem.free, self._hessians(state), 2.0 * self.problem.nu
        self.ridge.add_to(H)
        if isinstance(self.reg, SquaredL2):
            slope = self._with_ridge(state.thetas[free], state.terms.gradients[free])
            factors = quadratic_factors(H, state.pulls[free] - slope, shift + 2.0 * self.reg.lam)
            self.system = _SquaredL2System(self, factors)
            return
        tied = self.tied(state)[free]
        self.system = arrowhead.factor(H, shift, self.reg, self.anchors, state.rho, state.thetas[free], tied)

    def joint_target(self, state: _State) -> tuple[Array, Array]:
        """Return the minimum of the model whose system is at hand."""
        if self.system is None:
            raise ValueError("the joint system has not been factored")
        outer, inner = self.gradients(state)
        drho, dthetas = self.system.step(outer, self._with_ridge(state.thetas[self.problem.free], inner))
        rho, thetas = state.rho + drho, assemble(self.problem, state.thetas[self.problem.free] + dthetas)
        thetas[self.tied(state)] = rho
        return rho, thetas

    def exact_target(self, state: _State, tolerance: float) -> tuple[Array, Array]:
        """Minimize Σ_n (quadratic model of L_n around ``state``) + Σ_n R; the Hessians are used up."""
        free, H = self.problem.free, self._hessians(state)
        self.ridge.add_to(H)
        center = np.ascontiguousarray(state.thetas[free])
        slope = np.ascontiguousarray(self._with_ridge(center, state.terms.gradients[free]))
        models = Models(H, 2.0 * self.problem.nu, center, slope)
        point, _ = minimize_models(models, self.reg, self.anchors, state.rho, tolerance=tolerance)
        return point.rho, assemble(self.problem, point.thetas)

    def _with_ridge(self, thetas: Array, gradients: Array) -> Array:
        return gradients if self.ridge.is_zero else gradients + thetas @ self.ridge.matrix

    @staticmethod
    def _hessians(state: _State) -> Array:
        if state.terms.hessians is None:
            raise ValueError("this state was evaluated without its Hessians")
        return state.terms.hessians


@dataclass(frozen=True, eq=False)
class _SquaredL2System:
    """The joint system of ℓ2², as :mod:`solvers.quadratic` factors it."""

    newton: _Newton
    factors: Factors

    def step(self, outer: Array, inner: Array) -> tuple[Array, Array]:
        """Return δρ (P,) and δθ (N, P) for the gradients ∇_ρ and ∇_θ."""
        lam, n_pins = built_in(self.newton.problem.reg).lam, len(self.newton.anchors.models)
        return squared_l2_refinement(self.factors, lam, n_pins, outer, inner)


def newton(problem: Problem, ridge: Ridge, start: tuple[Array, Array] | None = None) -> tuple[Array, Array, int, float]:
    """Return ρ, θ (N, P), the number of Newton steps (Hessians used) and ‖∇Loss(0, 0)‖."""
    method = _Newton(problem, ridge)
    pins = method.anchors.models
    rho = pins.mean(axis=0) if len(pins) else np.zeros(problem.dim)
    thetas = assemble(problem, np.zeros((int(problem.free.sum()), problem.dim)))
    if start is not None:
        rho, thetas = start
    state = method.evaluate(rho, thetas, 2)
    iteration, exact, n_poor = 0, False, 0
    while iteration < _MAX_ITERATIONS and state.residual > _FLOOR:
        reused = _reuse(method, state)
        if reused is not None:
            state = reused
            continue
        iteration += 1
        state = method.with_hessians(state)
        try:
            following = _step(method, state, exact)
        except np.linalg.LinAlgError:
            if method.single:
                method.single = False
                state = replace(state, terms=replace(state.terms, hessians=None))
                continue
            break  # the model of the loss has no minimum, or its curvature is lost in rounding
        state = replace(state, terms=replace(state.terms, hessians=None))  # used up by the step
        stagnates = following is None or (following.residual > 0.5 * state.residual and state.residual < 1e-13)
        poor = following is None or following.residual > 0.1 * state.residual
        if following is not None and (not stagnates or following.residual < state.residual):
            method.joint = method.takes_joint_step_next(state, following)
            state = following
        n_poor += poor
        if method.single and n_poor > 2 + (state.residual > 1e-2):
            method.single, n_poor = False, 0  # perhaps it is the precision of the Hessians
            continue
        if stagnates and exact:
            break
        # Where progress ends, one more step with the subproblem solved to rounding.
        exact = stagnates
    return state.rho, state.thetas, iteration, method.scale


def _reuse(method: _Newton, state: _State) -> _State | None:
    """Step with the factors of an earlier point; None if there are none, or if it does not pay."""
    if method.system is None or state.terms.hessians is not None or state.residual > _REUSE_BELOW:
        return None
    try:
        trial = method.evaluate(*method.joint_target(state), 1)
    except np.linalg.LinAlgError:
        return None
    if not trial.residual <= _GAIN * state.residual:
        # At rounding, whatever is better is taken; a Newton step then has the last word.
        method.system = None
        return trial if trial.residual < 0.5 * state.residual else None
    return trial


def _step(method: _Newton, state: _State, exact: bool) -> _State | None:
    """Take a joint step if it is one's turn and it decreases the loss, otherwise an exact one."""
    if method.joint and (not exact or isinstance(method.reg, SquaredL2)):
        try:
            method.factor(state)
            following = _search(method, state, *method.joint_target(state))
        except np.linalg.LinAlgError:
            if isinstance(method.reg, SquaredL2) or method.single:
                raise
            following = None
        if following is not None or isinstance(method.reg, SquaredL2):
            return following
        state = method.evaluate(state.rho, state.thetas, 2)
    # Newton squares the residual; the subproblem need not be solved much further than that.
    tolerance = 0.0 if exact else 0.01 * min(1.0, state.residual)
    return _search(method, state, *method.exact_target(state, tolerance))


def _search(method: _Newton, state: _State, rho: Array, thetas: Array) -> _State | None:
    """Backtrack from the model's minimum until the loss decreases enough; None if it cannot."""
    problem = method.problem
    drho, dthetas = rho - state.rho, thetas - state.thetas
    predicted = (
        float(np.sum(state.terms.gradients * dthetas))
        + float(drho @ problem.slope)
        + float(np.sum(problem.reg.value(rho, thetas) - problem.reg.value(state.rho, state.thetas)))
    )
    # The full step is nearly always taken and followed by another: evaluate the Hessians at once, unless the
    # factors of this step will do for the next.
    order = 2 if state.residual > (_REUSE_BELOW if method.system is not None else 1e-8) else 1
    length = 1.0
    for _ in range(50):
        at = (rho, thetas) if length == 1.0 else (state.rho + length * drho, state.thetas + length * dthetas)
        trial = method.evaluate(*at, order)
        change = trial.value - state.value
        if change < 0 and change <= 1e-4 * length * predicted:
            return trial
        if abs(change) <= 1e-11 * abs(state.value) or abs(predicted) <= 1e-13 * abs(state.value):
            # The decrease drowns in the rounding of the loss: let the residual decide.
            return trial if trial.residual < state.residual else None
        length *= 0.5
        order = 1
    return None
