r"""Gradient attacks (section 5.1): what the attacker sees, and what it reports.

An attack is an object with a ``name``, ``needs_gradient_steps`` and one method, ``report(view)``.  The
:class:`View` holds exactly what the paper's attacker knows: the rates, ρ^t, ρ^{t-1} and its own last report.  An
attack of your own takes a few lines:

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class PullTowards:
...     "Report the most plausible vector that points away from the target, so that ρ moves towards it."
...     target: tuple[float, ...]
...     reg: Regularizer
...     name = "pull_towards"
...     needs_gradient_steps = False
...
...     def report(self, view: View) -> Array:
...         return self.reg.project((view.rho - np.array(self.target)) / view.eta)
>>> contract_violations(PullTowards((1.0, 2.0), L2(1.0)), dim=2, reg=L2(1.0), rng=np.random.default_rng(0))
[]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from theory.arrays import Array, as_count, as_nonnegative, as_vector, frozen
from theory.dynamics import is_plausible
from theory.errors import AssumptionError, EquipoiseError, ShapeError
from theory.regularizers import L2, Regularizer, SmoothL2, SquaredL2, norms

__all__ = [
    "Attack",
    "ConstantGradient",
    "CounterGradient",
    "CounterGradientLocal",
    "ModelAttack",
    "View",
    "boundary_error",
    "contract_violations",
    "reported_model_from_gradient",
]


@dataclass(frozen=True, eq=False)
class View:
    """What an attacker knows in round t: nothing of the others' data, models or reports.

    Attributes
    ----------
    round : int
        t, from 0.
    rho : (P,) array, read-only
        ρ^t.
    eta : float
        η_t.
    previous_rho, previous_eta, previous_report
        ρ^{t-1}, η_{t-1} and the report of the last round **as the server used it** (0 if it was ignored); None in
        round 0.
    """

    round: int
    rho: Array
    eta: float
    previous_rho: Array | None = None
    previous_eta: float | None = None
    previous_report: Array | None = None

    def estimated_honest_sum(self) -> Array:
        r"""Return :math:`\hat g_{-s}^t = (\rho^{t-1} - \rho^t)/\eta_{t-1} - g_s^{t-1}` (eq. 6), and 0 in round 0.

        It is the honest sum of the last round, exactly, if the server makes plain gradient steps.
        """
        if self.previous_rho is None or self.previous_eta is None or self.previous_report is None:
            return np.zeros_like(self.rho)
        return (self.previous_rho - self.rho) / self.previous_eta - self.previous_report


@runtime_checkable
class Attack(Protocol):
    """What :func:`solvers.federated_descent` asks of an attack."""

    @property
    def name(self) -> str:
        """A short name."""
        ...

    @property
    def needs_gradient_steps(self) -> bool:
        """Whether the attack presumes the server's rule ρ - η Σ g; any other server then refuses it."""
        ...

    def report(self, view: View) -> Array:
        """Return the report of this round, shape (P,)."""
        ...


@dataclass(frozen=True, eq=False)
class CounterGradient:
    r"""The counter-gradient attack (eqs 6, 7): report the plausible gradient that should bring ρ^{t+1} to the target.

    .. math:: g_s^t = \mathrm{Proj}_{GRAD}(h_s^t), \qquad
              h_s^t = \frac{\rho^t - \theta_s^\dagger}{\eta_t} - \hat g_{-s}^t.

    Proof that this is eq. 7: ‖ρ^t - η(ĝ + g) - θ†‖ = η‖h - g‖, so the best plausible g is the projection of h.

    Parameters
    ----------
    target : (P,) array_like
    reg : Regularizer
        Whose ``project`` is the projection onto GRAD(ρ).

    Raises
    ------
    ShapeError
        A regularizer without a gradient set: one that has no ``project``.

    Source: eqs 6, 7, Proposition 2 (``prop2_cga_projection``).

    Examples
    --------
    >>> CounterGradient([1.0], SquaredL2(1.0)).report(View(0, np.array([3.0]), 0.5))
    array([4.])
    """

    target: Array
    reg: Regularizer

    name = "counter_gradient"
    needs_gradient_steps = True

    def __init__(self, target: Any, reg: Regularizer) -> None:
        object.__setattr__(self, "target", as_vector(target, "target"))
        object.__setattr__(self, "reg", _with_gradient_set(reg))

    def report(self, view: View) -> Array:
        """Return the projection of h_s^t onto GRAD(ρ^t)."""
        return self.reg.project((view.rho - self.target) / view.eta - view.estimated_honest_sum())


def _with_gradient_set(reg: Any) -> Regularizer:
    """Return ``reg``, or refuse it here rather than in the first round."""
    if isinstance(reg, type) or not isinstance(reg, Regularizer):
        raise ShapeError("reg", "a regularizer with name, value, gradient, and project (onto GRAD(ρ))", repr(reg))
    return reg


@dataclass(frozen=True, eq=False)
class CounterGradientLocal:
    r"""The variant that aims at the mean of the others' local models (section 5.4).

    .. math:: h_s^t = \frac1{\eta_t}\Bigl(\rho^t - \theta_s^\dagger - \frac{\hat g_{-s}^t}{2\lambda(N-1)}\Bigr)
              - \hat g_{-s}^t.

    It presumes ℓ2², under which the mean of the others' models is ρ - F(ρ)/(2λ(N-1)).

    Parameters
    ----------
    target : (P,) array_like
    reg : SquaredL2
    n_users : int, >= 2
        N, the attacker included.

    Raises
    ------
    AssumptionError
        For another regularizer: there a report does not determine the model.

    Examples
    --------
    >>> CounterGradientLocal([1.0], SquaredL2(1.0), 2).report(View(0, np.array([3.0]), 0.5))
    array([4.])
    """

    target: Array
    reg: SquaredL2
    n_users: int

    name = "counter_gradient_local"
    needs_gradient_steps = True

    def __init__(self, target: Any, reg: Regularizer, n_users: int) -> None:
        if not isinstance(_with_gradient_set(reg), SquaredL2):
            raise AssumptionError(
                "cga_local_models", f"regularizer {reg.name}", "the mean of local models follows from F for ℓ2² only"
            )
        object.__setattr__(self, "target", as_vector(target, "target"))
        object.__setattr__(self, "reg", reg)
        object.__setattr__(self, "n_users", as_count(n_users, "n_users", 2))

    def report(self, view: View) -> Array:
        """Return h_s^t; every vector is plausible for ℓ2²."""
        honest = view.estimated_honest_sum()
        shift = honest / (2.0 * self.reg.lam * (self.n_users - 1))
        return self.reg.project((view.rho - self.target - shift) / view.eta - honest)


@dataclass(frozen=True, eq=False)
class ModelAttack:
    r"""Report honestly, but for a model of one's choice: :math:`g_s^t = \nabla_\rho\mathcal R(\rho^t, \theta_s^♠)`.

    For plain ℓ2 at the kink ρ^t = θ_s♠ the report is 0.

    Examples
    --------
    >>> ModelAttack([1.0], SquaredL2(0.5)).report(View(0, np.array([3.0]), 0.1))
    array([2.])
    """

    reported_model: Array
    reg: Regularizer

    name = "model_attack"
    needs_gradient_steps = False

    def __init__(self, reported_model: Any, reg: Regularizer) -> None:
        object.__setattr__(self, "reported_model", as_vector(reported_model, "reported_model"))
        object.__setattr__(self, "reg", _with_gradient_set(reg))

    def report(self, view: View) -> Array:
        """Return ∇_ρ R(ρ^t, θ_s♠)."""
        return self.reg.gradient(view.rho, self.reported_model)


@dataclass(frozen=True, eq=False)
class ConstantGradient:
    """Report the same gradient in every round; ρ then minimizes e(ρ) + ρᵀg (eq. 48).

    Examples
    --------
    >>> ConstantGradient([1.0]).report(View(0, np.array([3.0]), 0.1))
    array([1.])
    """

    g: Array

    name = "constant_gradient"
    needs_gradient_steps = False

    def __init__(self, g: Any) -> None:
        object.__setattr__(self, "g", as_vector(g, "g"))

    def report(self, view: View) -> Array:
        """Return g."""
        return self.g


# --------------------------------------------------------------------------------------------------------------
# From a gradient to a model
# --------------------------------------------------------------------------------------------------------------


def reported_model_from_gradient(rho: Any, g: Any, reg: Regularizer, *, distance: float | None = None) -> Array:
    r"""Return the model θ_s♠ whose report at ρ is ``g`` (Lemma 3, Proposition 4).

    ========== =============================================== ====================
    ℓ2²        :math:`\rho - g/(2\lambda)`                     every g
    smooth-ℓ2  :math:`\rho - g/\sqrt{\lambda^2 - \|g\|^2}`     ‖g‖ < λ
    ℓ2         :math:`\rho`                                    ‖g‖ <= λ
    ========== =============================================== ====================

    (The proof of Proposition 4 prints λ(ρ - θ♠) for the gradient of λ‖ρ - θ♠‖²; its statement has the factor 2.)
    Proof for smooth-ℓ2: λz/√(1 + ‖z‖²) = g is parallel to z, with λ²‖z‖² = ‖g‖²(1 + ‖z‖²).  For ℓ2 every g of the ball
    is a subgradient at the kink; ρ is then the minimum if it was stationary, and the only one if ‖g‖ < λ.

    On the boundary ‖g‖ = λ of smooth-ℓ2 no model reports g.  The one at ``distance`` r from ρ in its direction misses
    it by :func:`boundary_error`, and no model within r of ρ misses it by less.

    Parameters
    ----------
    rho, g : (P,) array_like
    reg : SquaredL2, L2 or SmoothL2
    distance : float, optional
        r, used only on the boundary of smooth-ℓ2 (‖g‖ >= λ up to rounding).

    Raises
    ------
    AssumptionError
        g is not plausible, or lies on the boundary and no distance is given, or the distance is negative or not
        finite, or the regularizer has no preimage.

    Examples
    --------
    >>> reported_model_from_gradient([0.0], [2.0], SquaredL2(0.5))
    array([-2.])
    >>> reported_model_from_gradient([0.0], [3.0], SmoothL2(5.0))
    array([-0.75])
    """
    rho = as_vector(rho, "rho")
    g = as_vector(g, "g", rho.size)
    if not isinstance(reg, (SquaredL2, L2, SmoothL2)):
        raise AssumptionError(
            "lem3_gradient_to_model", f"regularizer {reg.name!r}", "a preimage is known for the paper's regularizers"
        )
    if not is_plausible(g, reg):
        raise AssumptionError(
            "lem3_gradient_to_model", f"‖g‖ = {norms(g)} with λ = {reg.lam}", "project g onto GRAD(ρ) first"
        )
    if isinstance(reg, SmoothL2) and (distance is not None or not norms(g) < reg.lam):
        if distance is None:
            raise AssumptionError(
                "lem3_gradient_to_model",
                f"‖g‖ = {norms(g)} on the boundary λ = {reg.lam}",
                "no model reports g; pass the distance at which one may nearly do",
            )
        full = norms(g) / math.sqrt((reg.lam - norms(g)) * (reg.lam + norms(g))) if norms(g) < reg.lam else math.inf
        distance = as_nonnegative(distance, "distance", "lem3_gradient_to_model")
        if distance < full:
            return rho - distance * g / norms(g)
    return np.asarray(reg.preimage(rho, g))


def boundary_error(lam: float, distance: float) -> float:
    r"""Return :math:`\lambda(1 - r/\sqrt{1+r^2})`: what a model within r misses of a gradient of norm λ (smooth-ℓ2).

    It lies between λ/(2(1 + r²)) and λ/(2r²).  It is the least for all models within r, because reports of such models
    have norm at most λr/√(1 + r²).

    Source: C7 (``c7_preimage``).

    Examples
    --------
    >>> round(boundary_error(1.0, 0.75), 12)
    0.4
    """
    root = math.hypot(1.0, distance)
    # The difference 1 - r/√(1+r²) without cancellation.
    return lam / (root * (root + distance))


# --------------------------------------------------------------------------------------------------------------
# The contract of an attack
# --------------------------------------------------------------------------------------------------------------


def contract_violations(
    attack: Any, *, dim: int, reg: Regularizer, rng: np.random.Generator, rounds: int = 4
) -> list[str]:
    """Return what ``attack`` does that no attack may do, in sentences; an empty list if nothing was found.

    An attack must answer in the first round (when there is no last one) and later; each answer is a finite vector (P,)
    that is plausible under ``reg``; asked twice, it says the same; and it leaves what it is shown as it was.

    Parameters
    ----------
    attack : object
    dim : int
        P.
    reg : Regularizer
    rng : numpy.random.Generator
    rounds : int

    Examples
    --------
    >>> contract_violations(ConstantGradient([5.0]), dim=1, reg=L2(1.0), rng=np.random.default_rng(0), rounds=1)
    ['round 0: the report is not plausible (norm 5), so the server ignores it']
    """
    if not isinstance(attack, Attack):
        return ["it lacks a name, needs_gradient_steps or a method report(view)"]
    found: list[str] = []
    view = View(0, frozen(rng.standard_normal(dim)), 0.1)
    for t in range(rounds):
        before = replace(view)
        copies = [None if a is None else a.copy() for a in (view.rho, view.previous_rho, view.previous_report)]
        try:
            report, again = attack.report(view), attack.report(before)
        except (EquipoiseError, ArithmeticError, TypeError, ValueError, AttributeError, IndexError) as error:
            return [*found, f"round {t}: it fails with {type(error).__name__}: {error}"]
        try:
            report, again = as_vector(report, "report", dim), as_vector(again, "report", dim)
        except ShapeError as error:
            return [*found, f"round {t}: the report is not a finite vector of shape ({dim},): {error}"]
        if not np.array_equal(report, again):
            found.append(f"round {t}: asked twice, it reports differently")
        shown = (view.rho, view.previous_rho, view.previous_report)
        if any(a is not None and not np.array_equal(a, np.asarray(b)) for a, b in zip(shown, copies, strict=True)):
            found.append(f"round {t}: it changes what it is shown")
        if not is_plausible(report, reg):
            found.append(f"round {t}: the report is not plausible (norm {norms(report):g}), so the server ignores it")
        view = View(t + 1, frozen(view.rho + rng.standard_normal(dim)), 0.1 / (t + 1), view.rho, view.eta, report)
    return found
