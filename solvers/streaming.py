r"""Users read one at a time: least squares with ℓ2² when the data do not fit in memory.

The global model needs only two sums over users (K_n = Q_nᵀQ_n + 2(ν + λ)I, b_n = Q_nᵀA_n),

.. math:: \Bigl(N I - 2\lambda\sum_n K_n^{-1}\Bigr)\rho^* = \sum_n K_n^{-1}b_n, \qquad
          \theta_n^* = K_n^{-1}(b_n + 2\lambda\rho^*),

so one pass over the users gives ρ*, and a second pass gives each θ_n* as its user comes by.  Memory is O(d²) plus one
block of users, whatever their number: a block holds as many users as share the work well among threads and vector
lanes, and no more than :data:`_BLOCK_ENTRIES` numbers unless a single user has more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from solvers import _kernels as kernels
from solvers._parallel import over_users
from solvers.quadratic import Factors, back_substituted, least_squares_factors
from theory import AssumptionError, ShapeError, SquaredL2, UserDataset
from theory.arrays import Array, as_count, as_matrix, as_nonnegative, as_vector, frozen
from theory.regularizers import norms

# A block is closed when it holds this many users, or this many numbers (8 MB): ℐd queries and d² factors a user.
_BLOCK_USERS = 512
_BLOCK_ENTRIES = 2**20


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
            square += float(np.sum((_local_gradients(block, thetas, self.nu) - pulls) ** 2))
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


def _ranges(block: UserBlock) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each user and the row after the last."""
    stop = np.cumsum(block.sizes)
    return stop - block.sizes, stop


def _factor(block: UserBlock, reg: SquaredL2, nu: float) -> Factors:
    return least_squares_factors(block.Q, block.A, *_ranges(block), 2.0 * (nu + reg.lam))


def _local_gradients(block: UserBlock, thetas: Array, nu: float) -> Array:
    """Return ∇L_n(θ_n) from the data, not from the Gram matrices."""
    start, stop = _ranges(block)
    gradients = np.empty_like(thetas)
    over_users(
        lambda _, a, z: kernels.least_squares_gradients(
            block.Q, block.A, start, stop, thetas, 2.0 * nu, gradients, a, z
        ),
        4.0 * block.sizes * thetas.shape[1],
    )
    return gradients


def _blocks(source: Source) -> Iterator[UserBlock]:
    """Group users into blocks of bounded size, checking that all have the same dimension."""
    dim: int | None = None
    for block in _grouped(source):
        width = block.Q.shape[1]
        if dim is not None and width != dim:
            raise ShapeError("source", f"queries of dimension {dim}, as the first user's", f"dimension {width}")
        dim = width
        yield block


def _grouped(source: Source) -> Iterator[UserBlock]:
    waiting: list[UserDataset] = []
    entries, seen = 0, 0
    for item in source():
        if isinstance(item, UserDataset):
            waiting.append(item)
            entries += item.Q.size + item.Q.shape[1] ** 2
            if entries < _BLOCK_ENTRIES and len(waiting) < _BLOCK_USERS:
                continue
        elif not isinstance(item, UserBlock):
            raise ShapeError("source", "UserDataset or UserBlock items", type(item).__name__)
        if waiting:
            yield _join(waiting, seen)
            seen += len(waiting)
            waiting, entries = [], 0
        if isinstance(item, UserBlock):
            yield from _pieces(item)
            seen += len(item.sizes)
    if waiting:
        yield _join(waiting, seen)


def _join(users: list[UserDataset], seen: int) -> UserBlock:
    """Return the users as one block; ``seen`` users came before them."""
    width = users[0].Q.shape[1]
    for n, user in enumerate(users):
        if user.Q.shape[1] != width:
            raise ShapeError(
                f"user {seen + n} of source", f"queries of dimension {width}, as the others'", f"{user.Q.shape[1]}"
            )
        if user.A.ndim != 1:
            raise ShapeError(f"user {seen + n} of source", "A of one dimension", f"shape {user.A.shape}")
    # Arrays that nobody else can write to are not copied again.
    return UserBlock(
        frozen(np.concatenate([user.Q for user in users])),
        frozen(np.concatenate([user.A for user in users])),
        np.array([len(user.A) for user in users], dtype=np.int64),
    )


def _pieces(block: UserBlock) -> Iterator[UserBlock]:
    """Cut a block of the user's own, which may hold many more users than a block here should."""
    n, width = len(block.sizes), block.Q.shape[1]
    entries = np.cumsum(block.sizes * width + width**2)
    if n <= _BLOCK_USERS and (n <= 1 or entries[-1] <= _BLOCK_ENTRIES):
        if n:
            yield block
        return
    start, stop = _ranges(block)
    first = 0
    while first < n:
        before = entries[first - 1] if first else 0
        last = int(np.searchsorted(entries, before + _BLOCK_ENTRIES, side="right"))
        last = min(max(last, first + 1), first + _BLOCK_USERS)
        rows = slice(int(start[first]), int(stop[last - 1]))
        yield UserBlock(block.Q[rows], block.A[rows], block.sizes[first:last])
        first = last


def parquet_users(
    path: str | Path,
    *,
    user: str,
    target: str,
    features: list[str] | None = None,
    batch_rows: int | None = None,
    is_sorted: bool = True,
) -> Source:
    """Return a source that reads the users of a Parquet file, or of a folder of files in the order of their names.

    The rows of a user stand next to each other.  Files are read in pieces, so that neither their number nor the
    size of their row groups matters for the memory.

    Parameters
    ----------
    path : path of a Parquet data set
    user, target : names of the columns with the user's id and the answer
    features : names of the columns of Q; all other columns by default
    batch_rows : rows read at a time; by default, what 8 MB hold
    is_sorted : bool
        Whether ids must not decrease.  If False they may come in any order; that the rows of a user are next to each
        other then cannot be checked in bounded memory, and a user that comes back later counts as another.

    Raises
    ------
    ShapeError
        A path that is no Parquet data set, a column that is missing, is not of numbers or has nulls, or ids that
        decrease.
    """
    import pyarrow
    import pyarrow.dataset

    try:
        dataset = pyarrow.dataset.dataset(str(path), format="parquet")
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ShapeError("path", "a Parquet file, or a folder of such files", f"{path} ({error})") from None
    names = dataset.schema.names
    columns = [name for name in names if name not in (user, target)] if features is None else list(features)
    if not columns:
        raise ShapeError("features", "at least one column", f"{path} with the columns {', '.join(names)}")
    for name in [user, target, *columns]:
        if name not in names:
            raise ShapeError(name, f"a column of {path} (it has {', '.join(names)})", "no such column")
    rows = as_count(max(_BLOCK_ENTRIES // len(columns), 1) if batch_rows is None else batch_rows, "batch_rows", 1)

    def read() -> Iterator[UserBlock]:
        # The rows of the last user, who may go on in the next batch.
        held: list[tuple[Array, Array]] = []
        last: Any = None
        for batch in _batches(dataset, [user, target, *columns], rows):
            ids = _ids(batch, user, last, is_sorted)
            cuts = np.flatnonzero(ids[1:] != ids[:-1]) + 1
            if held and ids[0] != last:
                cuts = np.concatenate([[0], cuts])
            last = ids[-1]
            if not cuts.size:
                held.append(_rows(batch, columns, target, []))
                continue
            Q, A = _rows(batch, columns, target, held)
            cuts += len(A) - len(ids)
            whole = int(cuts[-1])
            yield UserBlock(Q[:whole], A[:whole], np.diff(cuts, prepend=0))
            # Copies: views would keep the block alive.
            held = [(frozen(Q[whole:].copy()), frozen(A[whole:].copy()))]
        if held:
            Q, A = (frozen(np.concatenate([part[k] for part in held])) for k in (0, 1))
            yield UserBlock(Q, A, np.array([len(A)]))

    return read


def _batches(dataset: Any, columns: list[str], rows: int) -> Iterator[Any]:
    """Read the files of a data set a few rows at a time.

    A scan of the data set would read ahead without regard to who waits for it, up to all of it; and a reader without a
    buffer of its own reads a row group, which may be a whole file, at once.
    """
    import pyarrow.parquet

    for fragment in dataset.get_fragments():
        with pyarrow.parquet.ParquetFile(
            fragment.path, filesystem=fragment.filesystem, buffer_size=2**18, pre_buffer=False
        ) as file:
            for name in columns:
                if name not in file.schema_arrow.names:
                    raise ShapeError(name, f"a column of {fragment.path}, as of the first file", "no such column")
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                if batch.num_rows:
                    yield batch


def _ids(batch: Any, user: str, last: Any, is_sorted: bool) -> np.ndarray:
    """Return the ids of the users of a batch, which follows the id ``last``."""
    column = batch.column(user)
    if column.null_count:
        raise ShapeError(user, "an id in each row", "a null")
    ids: np.ndarray = column.to_numpy(zero_copy_only=False)
    if ids.dtype.kind == "f" and np.isnan(ids).any():
        raise ShapeError(user, "an id in each row", "NaN")
    if is_sorted:
        follows = ids[1:] >= ids[:-1]
        if not follows.all():
            at = int(np.argmin(follows))
            raise ShapeError(user, "rows sorted by user", f"{ids[at + 1]!r} after {ids[at]!r}")
        if last is not None and not ids[0] >= last:
            raise ShapeError(user, "rows sorted by user", f"{ids[0]!r} after {last!r}")
    return ids


def _rows(batch: Any, columns: list[str], target: str, held: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return Q and A of a batch, below the rows that are ``held`` from batches before."""
    before = sum(len(A) for _, A in held)
    Q, A = np.empty((before + batch.num_rows, len(columns))), np.empty(before + batch.num_rows)
    if held:
        np.concatenate([part[0] for part in held], out=Q[:before])
        np.concatenate([part[1] for part in held], out=A[:before])
    for j, name in enumerate(columns):
        Q[before:, j] = _numbers(batch, name)
    A[before:] = _numbers(batch, target)
    return frozen(Q), frozen(A)


def _numbers(batch: Any, name: str) -> np.ndarray:
    column = batch.column(name)
    if column.null_count:
        raise ShapeError(name, "a number in each row", "a null")
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "fiub":
        raise ShapeError(name, "a column of real numbers", f"type {column.type}")
    return values


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
