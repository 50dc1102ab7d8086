"""Exact global minima, with certificates."""

from solvers.joint import minimize
from solvers.local import honest_gradient, local_minima
from solvers.result import Certificate, Direction, MinimizerSet, Solution, Status

__all__ = [
    "Certificate",
    "Direction",
    "MinimizerSet",
    "Solution",
    "Status",
    "honest_gradient",
    "local_minima",
    "minimize",
]
