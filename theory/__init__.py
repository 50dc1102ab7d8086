"""The paper's mathematics, as plain NumPy that reads like the paper."""

from theory.data import (
    CubeQueries,
    EmpiricalQueries,
    GaussianQueries,
    Queries,
    RademacherQueries,
    SphereQueries,
    UserDataset,
    honest_answers,
    honest_dataset,
)
from theory.errors import AssumptionError, CertificateError, EquipoiseError, ShapeError, SolverError
from theory.losses import LeastSquares, Logistic, Loss, Multinomial
from theory.problem import Problem
from theory.regularizers import L2, Regularizer, SmoothL2, SquaredL2

__all__ = [
    "L2",
    "AssumptionError",
    "CertificateError",
    "CubeQueries",
    "EmpiricalQueries",
    "EquipoiseError",
    "GaussianQueries",
    "LeastSquares",
    "Logistic",
    "Loss",
    "Multinomial",
    "Problem",
    "Queries",
    "RademacherQueries",
    "Regularizer",
    "ShapeError",
    "SmoothL2",
    "SolverError",
    "SphereQueries",
    "SquaredL2",
    "UserDataset",
    "honest_answers",
    "honest_dataset",
]
