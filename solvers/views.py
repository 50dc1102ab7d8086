"""The free users of a problem apart from what is fixed: pinned models and the slope of reported gradients."""

from __future__ import annotations

import numpy as np

from solvers.quadratic import Anchors
from theory import Problem
from theory.arrays import Array


def anchors_of(problem: Problem) -> Anchors:
    """Return what acts on ρ beside the free users."""
    models = [problem.pinned[s] for s in sorted(problem.pinned)]
    return Anchors(np.array(models).reshape(len(models), problem.dim), np.array(problem.slope))


def assemble(problem: Problem, free_thetas: Array) -> Array:
    """Return all local models (N, P) from those of the free users."""
    thetas = np.empty((problem.n_users, problem.dim))
    thetas[problem.free] = free_thetas
    for s, model in problem.pinned.items():
        thetas[s] = model
    return thetas


def rows_of_free(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return where the rows of each free user start and stop in the stack."""
    free = problem.free
    return np.ascontiguousarray(problem.stack.start[free]), np.ascontiguousarray(problem.stack.stop[free])


class Ridge:
    """κ‖Π θ_n‖²/2 on the flat directions: it changes nothing but the choice of the element of the affine set."""

    def __init__(self, problem: Problem, flat: Array) -> None:
        lam = getattr(problem.reg, "lam", 1.0)
        self.is_zero = len(flat) == 0
        self.matrix = lam * (flat.T @ flat) if not self.is_zero else np.zeros((0, 0))

    def add_to(self, hessians: Array) -> None:
        """Add κΠ to every Hessian."""
        if not self.is_zero:
            hessians += self.matrix
