"""The paper's own learner: the global model ρ* of the personalized loss (eq. 1), for Definition 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from solvers.joint import minimize
from theory import Loss, Problem, Regularizer, UserDataset
from theory.arrays import Array


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
