"""Exact global minima, with certificates."""

from solvers.batch import (
    BatchSolution,
    gaussian_statistics,
    minimize_least_squares_batch,
    minimize_logistic_batch,
)
from solvers.certificate import certify
from solvers.chain import (
    Poisoning,
    PredictedLimit,
    Reach,
    ReportedModel,
    RoundTrip,
    counter_gradient_limit,
    poison,
    poison_by_sampling,
    poison_in_box,
    reach,
    reported_model,
    round_trip,
    with_counts,
)
from solvers.joint import minimize
from solvers.learners import Minimax, Personalized
from solvers.local import honest_gradient, local_minima
from solvers.path import minimize_path
from solvers.result import Certificate, Direction, MinimizerSet, Solution, Status
from solvers.streaming import StreamedSolution, UserBlock, minimize_stream, parquet_users
from solvers.trajectory import Trajectory, federated_descent
from theory.pac import PacVerdict, gradient_pac

__all__ = [
    "BatchSolution",
    "Certificate",
    "Direction",
    "Minimax",
    "MinimizerSet",
    "PacVerdict",
    "Personalized",
    "Poisoning",
    "PredictedLimit",
    "Reach",
    "ReportedModel",
    "RoundTrip",
    "Solution",
    "Status",
    "StreamedSolution",
    "Trajectory",
    "UserBlock",
    "certify",
    "counter_gradient_limit",
    "federated_descent",
    "gaussian_statistics",
    "gradient_pac",
    "honest_gradient",
    "local_minima",
    "minimize",
    "minimize_least_squares_batch",
    "minimize_logistic_batch",
    "minimize_path",
    "minimize_stream",
    "parquet_users",
    "poison",
    "poison_by_sampling",
    "poison_in_box",
    "reach",
    "reported_model",
    "round_trip",
    "with_counts",
]
