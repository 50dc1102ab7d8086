r"""Users read one at a time: least squares with ℓ2² when the data do not fit in memory.

The global model needs only two sums over users (K_n = Q_nᵀQ_n + 2(ν + λ)I, b_n = Q_nᵀA_n),

.. math:: \Bigl(N I - 2\lambda\sum_n K_n^{-1}\Bigr)\rho^* = \sum_n K_n^{-1}b_n, \qquad
          \theta_n^* = K_n^{-1}(b_n + 2\lambda\rho^*),

so one pass over the users gives ρ*, and a second pass gives each θ_n* as its user comes by.  Memory is O(d²) plus one
block of users, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from solvers.quadratic import Factors, back_substituted, least_squares_factors
from theory import AssumptionError, ShapeError, SquaredL2, UserDataset
from theory.arrays import Array, as_matrix, as_nonnegative, as_vector
from theory.regularizers import norms

# A block is closed when it holds this many users or rows.
_BLOCK_USERS = 1024
_BLOCK_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class UserBlock:
    """Several users at once: rows of ``Q`` (rows, d) and ``A`` (rows,), ``sizes[k]`` of them for the k-th user.

    Raises
    ------
    ShapeError
        Wrong shapes, entries that are not finite, or sizes that do not add up to the number of rows.
    """

    Q: Array
    A: Array
    sizes: np.ndarray

    def __post_init__(self) -> None:
        Q = as_matrix(self.Q, "Q")
        A = as_vector(self.A, "A", Q.shape[0])
        sizes = np.asarray(self.sizes)
        if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or (sizes < 0).any() or int(sizes.sum()) != len(Q):
            raise ShapeError("sizes", f"integers >= 0 that add up to {len(Q)} rows", f"{sizes!r}"[:80])
        for name, value in (("Q", Q), ("A", A), ("sizes", sizes.astype(np.int64))):
            object.__setattr__(self, name, value)


Source = Callable[[], Iterable[UserDataset | UserBlock]]


@dataclass(frozen=True, eq=False)
class StreamedSolution:
    """ρ* (P,), the number of users, and :meth:`thetas` for the second pass."""

    rho: Array
    n_users: int
    n_data: int
    reg: SquaredL2
    nu: float
    source: Source

    def thetas(self) -> Iterator[Array]:
        """Yield θ_n* (d,) of each user, in order, reading the users once more."""
        for block in _blocks(self.source):
            factors = _factor(block, self.reg, self.nu)
            yield from back_substituted(factors.L, factors.b, 2.0 * self.reg.lam * self.rho)[0]

    def residual(self) -> float:
        """Return ‖∇Loss‖ relative to ‖∇Loss(0, 0)‖, reading the users once more (memory independent of N)."""
        outer, square, scale = np.zeros_like(self.rho), 0.0, 0.0
        for block in _blocks(self.source):
            factors = _factor(block, self.reg, self.nu)
            thetas = back_substituted(factors.L, factors.b, 2.0 * self.reg.lam * self.rho)[0]
            pulls = self.reg.gradient(self.rho, thetas)
            for theta, pull, rows in zip(thetas, pulls, _slices(block.sizes), strict=True):
                Q, A = block.Q[rows], block.A[rows]
                gradient = Q.T @ (Q @ theta - A) + 2.0 * self.nu * theta - pull
                square += float(gradient @ gradient)
            outer += pulls.sum(axis=0)
            scale += float(np.sum(factors.b**2))
        return float(np.hypot(norms(outer), np.sqrt(square)) / (np.sqrt(scale) or 1.0))


def minimize_stream(source: Source, reg: SquaredL2, nu: float = 0.0) -> StreamedSolution:
    r"""Return the global minimum of least squares with ℓ2² over users that are read one after another.

    Parameters
    ----------
    source : callable without arguments
        Returns a fresh iterable of :class:`theory.UserDataset` or :class:`UserBlock` (many users at once, which saves
        Python's overhead per user) each time it is called; it is called once here and once for each further pass.
        See :func:`parquet_users` for a Parquet file.
    reg : SquaredL2
    nu : float, >= 0

    Raises
    ------
    ShapeError
        No users, or dimensions that differ.
    AssumptionError
        Another regularizer, ν < 0, or ν = 0 and data that do not determine ρ* (its minimizers form a set).

    Source: eq. 1 (``eq1_global_loss``), closed form.

    Examples
    --------
    >>> users = [UserDataset([[1.0]], [1.0]), UserDataset([[1.0]], [3.0])]
    >>> solution = minimize_stream(lambda: users, SquaredL2(0.5))
    >>> solution.rho.round(12), [float(t[0].round(12)) for t in solution.thetas()]
    (array([2.]), [1.5, 2.5])
    """
    if not isinstance(reg, SquaredL2):
        raise AssumptionError("eq1_global_loss", f"regularizer {reg!r}", "streaming needs SquaredL2")
    nu = as_nonnegative(nu, "nu", "eq5_local_loss")
    inverse_sum, solved_sum, n_users, n_data = None, None, 0, 0
    for block in _blocks(source):
        factors = _factor(block, reg, nu)
        inverse_sum = factors.inverse_sum if inverse_sum is None else inverse_sum + factors.inverse_sum
        solved_sum = factors.solved_sum if solved_sum is None else solved_sum + factors.solved_sum
        n_users, n_data = n_users + len(block.sizes), n_data + len(block.Q)
    if inverse_sum is None or solved_sum is None:
        raise ShapeError("source", "at least one user", "none")
    matrix = n_users * np.eye(len(solved_sum)) - 2.0 * reg.lam * inverse_sum
    # It is N·I minus terms of that size: eigenvalues below 1e-13 N are rounding, and ρ* is a set (ν = 0) or lost.
    if not float(np.linalg.eigvalsh(matrix)[0]) > 1e-13 * n_users:
        found = f"nu = {nu} with data that leave ρ undetermined to rounding"
        raise AssumptionError("eq1_global_loss", found, "use a larger nu, or minimize")
    rho: Array = np.linalg.solve(matrix, solved_sum).astype(np.float64)
    return StreamedSolution(rho, n_users, n_data, reg, nu, source)


def _factor(block: UserBlock, reg: SquaredL2, nu: float) -> Factors:
    stop = np.cumsum(block.sizes)
    return least_squares_factors(block.Q, block.A, stop - block.sizes, stop, 2.0 * (nu + reg.lam))


def _blocks(source: Source) -> Iterator[UserBlock]:
    """Group users into blocks of bounded size, checking that all have the same dimension."""
    waiting: list[UserDataset] = []
    rows, dim = 0, None
    for item in source():
        if not isinstance(item, (UserDataset, UserBlock)):
            raise ShapeError("source", "UserDataset or UserBlock items", type(item).__name__)
        width = item.Q.shape[1]
        if dim is not None and width != dim:
            raise ShapeError("source", f"queries of dimension {dim}, as the first user's", f"dimension {width}")
        dim = width
        if isinstance(item, UserBlock):
            if waiting:
                yield _join(waiting)
                waiting, rows = [], 0
            yield item
            continue
        waiting.append(item)
        rows += item.n_data
        if len(waiting) >= _BLOCK_USERS or rows >= _BLOCK_ROWS:
            yield _join(waiting)
            waiting, rows = [], 0
    if waiting:
        yield _join(waiting)


def _join(users: list[UserDataset]) -> UserBlock:
    for n, user in enumerate(users):
        if user.A.ndim != 1:
            raise ShapeError(f"users[{n}].A", "a one-dimensional array", f"shape {user.A.shape}")
    return UserBlock(
        np.concatenate([user.Q for user in users]),
        np.concatenate([user.A for user in users]),
        np.array([user.n_data for user in users], dtype=np.int64),
    )


def _slices(sizes: np.ndarray) -> list[slice]:
    stop = np.cumsum(sizes)
    return [slice(int(b - size), int(b)) for b, size in zip(stop, sizes, strict=True)]


def parquet_users(
    path: str | Path, *, user: str, target: str, features: list[str] | None = None, batch_rows: int = 65_536
) -> Source:
    """Return a source that reads the users of a Parquet file (or folder of files), whose rows are sorted by user.

    Parameters
    ----------
    path : path of a Parquet data set
    user, target : names of the columns with the user's id and the answer
    features : names of the columns of Q; all other columns by default
    batch_rows : rows read at a time

    Raises
    ------
    ShapeError
        A column that is missing, or users whose rows are not next to each other in increasing order of id.
    """
    import pyarrow.dataset

    dataset = pyarrow.dataset.dataset(str(path))
    names = dataset.schema.names
    columns = [name for name in names if name not in (user, target)] if features is None else list(features)
    for name in [user, target, *columns]:
        if name not in names:
            raise ShapeError(name, f"a column of {path} (it has {', '.join(names)})", "no such column")

    def read() -> Iterator[UserBlock]:
        rest: tuple[np.ndarray, Array, Array] | None = None
        for batch in dataset.to_batches(columns=[user, target, *columns], batch_size=batch_rows):
            if batch.num_rows == 0:
                continue
            ids = batch.column(user).to_numpy(zero_copy_only=False)
            A = batch.column(target).to_numpy(zero_copy_only=False).astype(np.float64)
            Q = np.column_stack([batch.column(c).to_numpy(zero_copy_only=False) for c in columns]).astype(np.float64)
            if rest is not None:
                ids, A, Q = (np.concatenate([old, new]) for old, new in zip(rest, (ids, A, Q), strict=True))
            if (ids[1:] < ids[:-1]).any():
                at = int(np.argmax(ids[1:] < ids[:-1]))
                raise ShapeError(user, "rows sorted by user", f"{ids[at + 1]!r} after {ids[at]!r}")
            starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
            # The last user may go on in the next batch.
            whole = int(starts[-1])
            if whole:
                yield UserBlock(Q[:whole], A[:whole], np.diff(starts))
            rest = (ids[whole:], A[whole:], Q[whole:])
        if rest is not None:
            yield UserBlock(rest[2], rest[1], np.array([len(rest[1])], dtype=np.int64))

    return read


def refine(solution: StreamedSolution) -> StreamedSolution:
    """Return the solution after one step of iterative refinement of ρ*, at the price of one more pass.

    Worth it only when 2λ is many orders of magnitude above the curvature of the users' data.
    """
    reg = solution.reg
    total, inverse_sum, n = np.zeros_like(solution.rho), np.zeros((solution.rho.size,) * 2), 0
    for block in _blocks(solution.source):
        factors = _factor(block, reg, solution.nu)
        total += back_substituted(factors.L, factors.b, 2.0 * reg.lam * solution.rho)[1]
        inverse_sum, n = inverse_sum + factors.inverse_sum, n + len(block.sizes)
    matrix = n * np.eye(len(total)) - 2.0 * reg.lam * inverse_sum
    rho: Array = (solution.rho + np.linalg.solve(matrix, total - n * solution.rho)).astype(np.float64)
    return StreamedSolution(rho, solution.n_users, solution.n_data, reg, solution.nu, solution.source)
