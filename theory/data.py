r"""Datasets of users, query distributions, and the honest data of Theorems 2 and 3.

An honest user with preferred model :math:`\theta^\dagger` draws queries :math:`Q_i` independently from a query
distribution and answers them with its model:

* linear (Theorem 2): :math:`A_i = Q_i^T\theta^\dagger + \xi_i`, with independent zero-mean noise;
* logistic (Theorem 3): :math:`A_i = 1` with probability :math:`\sigma(Q_i^T\theta^\dagger)`, else -1;
* K classes: :math:`A_i = k` with probability softmax\ :math:`_k(Q_i\theta^\dagger)`.

Everything random takes an explicit :class:`numpy.random.Generator`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from scipy.special import expit, softmax

from theory.arrays import (
    Array,
    as_array,
    as_count,
    as_matrix,
    as_nonnegative,
    as_positive,
    as_vector,
    dimensions,
    frozen,
)
from theory.errors import ShapeError
from theory.losses import LeastSquares, Logistic, Loss, Multinomial, margins


@dataclass(frozen=True, eq=False)
class UserDataset:
    """The data of one user: queries and their answers.

    Parameters
    ----------
    Q : (ℐ, d) array_like
        One query (feature vector) per row.  An intercept is a column of ones.
    A : (ℐ,) or (ℐ, K) array_like
        Answers: real numbers, -1/+1, class ids, or rows of label probabilities; which of them is right is
        decided by the loss of the :class:`theory.Problem` that the data enter.

    Raises
    ------
    ShapeError
        Wrong shapes, NaN or infinite entries, or lengths that differ.

    Examples
    --------
    >>> UserDataset([[1.0, 2.0]], [3.0])
    UserDataset(n_data=1, dim=2)
    >>> UserDataset.empty(2).n_data
    0
    """

    Q: Array
    A: Array

    def __init__(self, Q: Any, A: Any) -> None:
        queries = as_matrix(Q, "Q")
        answers = as_array(A, "A", 2 if dimensions(A) == 2 else 1)
        if queries.shape[1] == 0:
            raise ShapeError("Q", "at least one column", f"shape {queries.shape}")
        if answers.shape[0] != queries.shape[0]:
            raise ShapeError("A", f"one answer per query ({queries.shape[0]})", f"shape {answers.shape}")
        object.__setattr__(self, "Q", queries)
        object.__setattr__(self, "A", answers)

    @classmethod
    def empty(cls, dim: int) -> UserDataset:
        """Return the dataset of a user who has no data."""
        return cls(np.zeros((0, as_count(dim, "dim", 1))), np.zeros(0))

    @property
    def n_data(self) -> int:
        """ℐ, the number of data points."""
        return self.Q.shape[0]

    @property
    def dim(self) -> int:
        """d, the dimension of a query."""
        return self.Q.shape[1]

    def __repr__(self) -> str:
        return f"UserDataset(n_data={self.n_data}, dim={self.dim})"


@runtime_checkable
class Queries(Protocol):
    """A distribution of queries."""

    @property
    def dim(self) -> int:
        """d, the dimension of a query."""
        ...

    @property
    def bound(self) -> float:
        """Return sup ‖Q‖₂ over the support; infinite where the support is unbounded."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw ``n`` independent queries, shape (n, d)."""
        ...

    def second_moment(self) -> Array:
        """Σ = E[Q Qᵀ], shape (d, d)."""
        ...


@dataclass(frozen=True)
class GaussianQueries:
    """Standard Gaussian queries: sub-Gaussian with parameter 1, unbounded; Σ = I.

    Covered by Theorem 2 in the form of Appendix F.2; outside the printed hypotheses of Theorem 3, which asks for
    a bounded support.
    """

    dim: int
    name = "gaussian"
    bound = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", as_count(self.dim, "dim", 1))

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw ``n`` queries."""
        return rng.standard_normal((n, self.dim))

    def second_moment(self) -> Array:
        """Return I."""
        return np.eye(self.dim)


@dataclass(frozen=True)
class CubeQueries:
    """Queries uniform on the cube [-w, w]^d; Σ = (w²/3) I.

    The half-width w is √3 by default, so that Σ = I as for the other distributions.
    """

    dim: int
    half_width: float = math.sqrt(3.0)
    name = "cube"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", as_count(self.dim, "dim", 1))
        object.__setattr__(self, "half_width", as_positive(self.half_width, "half_width", "thm2_linear_local_pac"))

    @property
    def bound(self) -> float:
        """Return w√d."""
        return self.half_width * math.sqrt(self.dim)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw ``n`` queries."""
        return rng.uniform(-self.half_width, self.half_width, (n, self.dim))

    def second_moment(self) -> Array:
        """Return (w²/3) I."""
        return (self.half_width**2 / 3.0) * np.eye(self.dim)


@dataclass(frozen=True)
class RademacherQueries:
    """Queries with independent entries -1 or +1; Σ = I, ‖Q‖ = √d."""

    dim: int
    name = "rademacher"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", as_count(self.dim, "dim", 1))

    @property
    def bound(self) -> float:
        """Return √d."""
        return math.sqrt(self.dim)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw ``n`` queries."""
        return 2.0 * rng.integers(0, 2, (n, self.dim)).astype(np.float64) - 1.0

    def second_moment(self) -> Array:
        """Return I."""
        return np.eye(self.dim)


@dataclass(frozen=True)
class SphereQueries:
    """Queries uniform on the sphere of radius √d (so that Σ = I)."""

    dim: int
    name = "sphere"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", as_count(self.dim, "dim", 1))

    @property
    def bound(self) -> float:
        """Return √d."""
        return math.sqrt(self.dim)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw ``n`` queries."""
        normals = rng.standard_normal((n, self.dim))
        return normals * (math.sqrt(self.dim) / np.linalg.norm(normals, axis=1, keepdims=True))

    def second_moment(self) -> Array:
        """Return I."""
        return np.eye(self.dim)


@dataclass(frozen=True)
class BallQueries:
    """Queries uniform in the ball of radius √(d + 2) (so that Σ = I)."""

    dim: int
    name = "ball"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", as_count(self.dim, "dim", 1))

    @property
    def bound(self) -> float:
        """Return √(d + 2)."""
        return math.sqrt(self.dim + 2)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw ``n`` queries."""
        normals = rng.standard_normal((n, self.dim))
        # The radius of a uniform point has the distribution function r^d.
        radii = self.bound * rng.random((n, 1)) ** (1.0 / self.dim)
        return normals * (radii / np.linalg.norm(normals, axis=1, keepdims=True))

    def second_moment(self) -> Array:
        """Return I."""
        return np.eye(self.dim)


@dataclass(frozen=True, eq=False)
class EmpiricalQueries:
    """The rows of a real data set as queries, drawn independently with replacement.

    Bounded, so Theorems 2 and 3 apply whenever the rows span ℝ^d.

    Parameters
    ----------
    rows : (n, d) array_like, n >= 1
    name : str
    """

    rows: Array
    name: str = "empirical"

    def __post_init__(self) -> None:
        rows = as_matrix(self.rows, "rows")
        if 0 in rows.shape:
            raise ShapeError("rows", "at least one row and one column", f"shape {rows.shape}")
        object.__setattr__(self, "rows", rows)

    @property
    def dim(self) -> int:
        """d, the number of columns."""
        return self.rows.shape[1]

    @property
    def bound(self) -> float:
        """Return the largest norm of a row."""
        return float(np.max(np.linalg.norm(self.rows, axis=1)))

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw ``n`` rows with replacement."""
        return self.rows[rng.integers(0, self.rows.shape[0], n)]

    def second_moment(self) -> Array:
        """Return RᵀR/n for the matrix R of the rows."""
        return self.rows.T @ self.rows / self.rows.shape[0]


def honest_answers(Q: Array, theta_honest: Any, loss: Loss, rng: np.random.Generator, *, noise: float = 1.0) -> Array:
    r"""Answer queries honestly with the preferred model :math:`\theta^\dagger`.

    Parameters
    ----------
    Q : (ℐ, d)
    theta_honest : (P,)
        The preferred model; P = d, or K d for K classes.
    loss : LeastSquares, Logistic or Multinomial
        Which kind of answer: real, -1/+1, or a class id.
    rng : numpy.random.Generator
    noise : float, >= 0
        Standard deviation of the Gaussian noise ξ of a linear answer; unused otherwise.

    Returns
    -------
    (ℐ,) array

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> honest_answers(np.array([[1.0], [2.0]]), [3.0], LeastSquares(), rng, noise=0.0)
    array([3., 6.])
    """
    queries = as_matrix(Q, "Q")
    theta = as_vector(theta_honest, "theta_honest", loss.n_outputs * queries.shape[1])
    m = margins(theta, queries, loss.n_outputs)
    if isinstance(loss, LeastSquares):
        return m + as_nonnegative(noise, "noise", "thm2_linear_local_pac") * rng.standard_normal(m.size)
    if isinstance(loss, Logistic):
        return np.where(rng.random(m.size) < expit(m), 1.0, -1.0)
    if isinstance(loss, Multinomial):
        cumulative = np.cumsum(softmax(m, axis=1), axis=1)
        # The last column is left out: it is 1 up to rounding, and no draw may fall beyond it.
        return (rng.random((m.shape[0], 1)) >= cumulative[:, :-1]).sum(axis=1).astype(np.float64)
    raise ShapeError("loss", "LeastSquares, Logistic or Multinomial", repr(loss))


def honest_dataset(
    queries: Queries, theta_honest: Any, n_data: int, loss: Loss, rng: np.random.Generator, *, noise: float = 1.0
) -> UserDataset:
    r"""Draw the honest dataset of Theorem 2 (linear) or Theorem 3 (logistic).

    Parameters
    ----------
    queries : Queries
        A query distribution, for example :class:`GaussianQueries`.
    theta_honest : (P,) array_like
    n_data : int, >= 0
    loss, rng, noise : see :func:`honest_answers`

    Examples
    --------
    >>> honest_dataset(RademacherQueries(3), [1.0, 0.0, 0.0], 5, Logistic(), np.random.default_rng(0))
    UserDataset(n_data=5, dim=3)
    """
    Q = frozen(np.ascontiguousarray(queries.sample(as_count(n_data, "n_data"), rng), dtype=np.float64))
    return UserDataset(Q, frozen(honest_answers(Q, theta_honest, loss, rng, noise=noise)))
