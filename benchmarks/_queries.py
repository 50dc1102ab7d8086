"""Where queries come from: a distribution, a data set of scikit-learn, or a CSV or Parquet file.

The rows of a data set are the support of a query distribution: queries are drawn from them with replacement, and the
answers are those of the preferred model (Theorems 2 and 3).  A label column of the data set plays no part.  Nothing
is changed in silence: :attr:`QuerySource.notes` says what was done to the columns.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import qr

from theory import (
    AssumptionError,
    CubeQueries,
    EmpiricalQueries,
    GaussianQueries,
    Queries,
    RademacherQueries,
    ShapeError,
    SphereQueries,
)
from theory.arrays import Array

DISTRIBUTIONS = {
    "cube": CubeQueries,
    "gaussian": GaussianQueries,
    "rademacher": RademacherQueries,
    "sphere": SphereQueries,
}
BUNDLED = ("breast_cancer", "diabetes", "digits")
FILE_TYPES = (".csv", ".parquet")
SCALINGS = ("standard", "whiten", "none")
DEFAULT_DIM = 10

_BLOCK = 10_000
_SPANNING = "thm3_logistic_local_pac"


@dataclass(frozen=True)
class QuerySource:
    """A query distribution and what a reader must know of it.

    Attributes
    ----------
    queries : Queries
    name : str
        The distribution, the data set, or the name of the file.
    key : str
        Equal for equal distributions: of a data set, a hash of the rows as they are drawn.
    columns : tuple of str or None
        The columns of a data set that are used, in order.
    notes : tuple of str
        What was done to the columns, and which hypotheses the distribution leaves; one sentence each.
    """

    queries: Queries
    name: str
    key: str
    columns: tuple[str, ...] | None
    notes: tuple[str, ...]


def query_source(
    name: str,
    *,
    dim: int | None = None,
    columns: Sequence[str] | None = None,
    target: str | None = None,
    scaling: str = "standard",
    intercept: bool = False,
) -> QuerySource:
    """Return the source of queries called ``name``.

    Parameters
    ----------
    name : str
        One of :data:`DISTRIBUTIONS` or :data:`BUNDLED`, or the path of a ``.csv`` or ``.parquet`` file whose columns
        have names (in a CSV file, on its first line).
    dim : int, optional
        d of a distribution (10 by default); the columns decide it for a data set.
    columns : sequence of str, optional
        The columns to use, all by default.
    target : str, optional
        A column to leave out, such as the labels.
    scaling : {"standard", "whiten", "none"}
        ``standard`` shifts each column to mean 0 and scales it to variance 1, ``whiten`` also removes the
        correlations (Σ = I), ``none`` leaves the entries as they are.
    intercept : bool
        Whether to append a column of ones to a data set, after scaling.

    Raises
    ------
    ShapeError
        Unknown name, a file that cannot be read, missing columns, entries that are not finite numbers.
    AssumptionError
        The rows do not span the space of the queries, as Theorem 3 and a positive definite Σ (Theorem 2) demand.

    Examples
    --------
    >>> query_source("sphere", dim=3).queries
    SphereQueries(dim=3)
    """
    if scaling not in SCALINGS:
        raise ShapeError("--scaling", f"one of {', '.join(SCALINGS)}", repr(scaling))
    if name in DISTRIBUTIONS:
        if columns is not None or target is not None or intercept:
            raise ShapeError("--queries", "a data set, as --columns, --target and --intercept ask for one", repr(name))
        queries = DISTRIBUTIONS[name](DEFAULT_DIM if dim is None else dim)
        return QuerySource(queries, name, repr(queries), None, _support_note(queries))
    if dim is not None:
        raise ShapeError("--dim", f"no value: the columns of {name} decide the dimension", str(dim))
    table, label = _read(name, _Choice(None if columns is None else tuple(columns), target))
    return _from_table(table, label, scaling=scaling, intercept=intercept)


def _support_note(queries: Queries) -> tuple[str, ...]:
    if math.isfinite(queries.bound):
        return ()
    return ("the support is unbounded: covered by Appendix F.2 for linear, outside Theorem 3 as printed for logistic",)


# ------------------------------------------------------------------------------------------------- from rows to queries


@dataclass(frozen=True, eq=False)
class _Table:
    names: tuple[str, ...]
    values: Array


def _from_table(table: _Table, label: str, *, scaling: str, intercept: bool) -> QuerySource:
    notes = []
    if 0 in table.values.shape:
        raise ShapeError(label, "at least one row and one column", f"shape {table.values.shape}")
    _refuse_non_finite(table, label)
    # Without scaling a constant that is not zero is an intercept; once centred it is zero, and says nothing.
    low, high = table.values.min(axis=0), table.values.max(axis=0)
    useless = (low == high) & ((low == 0.0) | (scaling != "none"))
    if useless.any():
        notes.append(f"left out {int(useless.sum())} constant columns: {_listed(table.names, useless)}")
    table = _Table(tuple(n for n, out in zip(table.names, useless, strict=True) if not out), table.values[:, ~useless])
    if not table.names:
        raise ShapeError(label, "a column that is not constant", "none")
    notes.append(
        f"{table.values.shape[0]} rows, {len(table.names)} columns, drawn with replacement; {_SCALED[scaling]}"
    )
    table = _scale(table, label, scaling)
    if intercept:
        ones = np.ones((table.values.shape[0], 1))
        table = _Table((*table.names, "intercept"), np.hstack([table.values, ones]))
        notes.append("a column of ones is appended")
    _refuse_dependent_columns(table, label)
    condition = np.linalg.cond(table.values) ** 2
    notes.append(f"the condition number of the second moment is {condition:.3g}")
    key = hashlib.sha256(repr(table.values.shape).encode() + np.ascontiguousarray(table.values).tobytes()).hexdigest()
    return QuerySource(EmpiricalQueries(table.values, label), label, key, table.names, tuple(notes))


_SCALED = {
    "standard": "each shifted to mean 0 and scaled to variance 1",
    "whiten": "shifted to mean 0 and whitened",
    "none": "not scaled",
}


def _refuse_non_finite(table: _Table, label: str) -> None:
    finite = np.isfinite(table.values)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise ShapeError(
            f"{label}, column {table.names[column]!r}",
            "finite numbers",
            f"{table.values[row, column]} in row {row + 1}",
        )


def _scale(table: _Table, label: str, scaling: str) -> _Table:
    if scaling == "none":
        return table
    centred = table.values - table.values.mean(axis=0)
    if scaling == "standard":
        return _Table(table.names, centred / centred.std(axis=0))
    if centred.shape[0] <= centred.shape[1]:
        raise AssumptionError(
            _SPANNING,
            f"{centred.shape[0]} rows with {centred.shape[1]} columns in {label}",
            "whitening needs more rows",
        )
    # X = U S V', so X V S^-1 V' sqrt(n) = sqrt(n) U V' has second moment I and stays closest to X.
    U, singular, Vt = np.linalg.svd(centred / centred.std(axis=0), full_matrices=False)
    if not singular[-1] > _rank_tolerance(centred.shape) * singular[0]:
        _refuse_dependent_columns(_Table(table.names, centred / centred.std(axis=0)), label)
    return _Table(table.names, math.sqrt(centred.shape[0]) * (U @ Vt))


def _rank_tolerance(shape: tuple[int, ...]) -> float:
    return max(shape) * float(np.finfo(np.float64).eps)


def _refuse_dependent_columns(table: _Table, label: str) -> None:
    """Refuse rows that do not span: name the columns that the others already determine."""
    unit = table.values / np.linalg.norm(table.values, axis=0)
    _, R, order = qr(unit, mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(R))
    rank = int(np.sum(diagonal > _rank_tolerance(unit.shape) * diagonal[0]))
    if rank < len(table.names):
        dependent = np.zeros(len(table.names), dtype=bool)
        dependent[order[rank:]] = True
        raise AssumptionError(
            _SPANNING,
            f"rows of {label} that span {rank} of {len(table.names)} dimensions",
            f"leave out columns that the others determine, such as {_listed(table.names, dependent)}",
        )


def _listed(names: Sequence[str], mask: Any) -> str:
    return _shortened([name for name, is_in in zip(names, mask, strict=True) if is_in])


def _shortened(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# ----------------------------------------------------------------------------------------------------- reading the rows


def _read(name: str, choice: _Choice) -> tuple[_Table, str]:
    if name in BUNDLED:
        return _read_bundled(name, choice), name
    path = Path(name)
    if path.suffix.lower() not in FILE_TYPES:
        known = ", ".join([*sorted(DISTRIBUTIONS), *BUNDLED])
        raise ShapeError("--queries", f"one of {known}, or the path of a .csv or .parquet file", repr(name))
    if not path.is_file():
        raise ShapeError("--queries", "a file that exists", repr(name))
    read = _read_csv if path.suffix.lower() == ".csv" else _read_parquet
    return read(path, choice), path.name


def _read_bundled(name: str, choice: _Choice) -> _Table:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    names = [str(feature) for feature in bunch.feature_names]
    wanted = choice.of(names, name)
    return _Table(
        tuple(wanted), np.asarray(bunch.data, dtype=np.float64)[:, [names.index(column) for column in wanted]]
    )


@dataclass(frozen=True)
class _Choice:
    """Which columns to use; the others are not even parsed, and may hold anything."""

    columns: tuple[str, ...] | None
    target: str | None

    def of(self, names: Sequence[str], label: str) -> list[str]:
        """Return the names of the columns to use, out of those that are there."""
        chosen = list(names if self.columns is None else self.columns)
        for name in [*chosen, *([] if self.target is None else [self.target])]:
            if name not in names:
                raise ShapeError(label, f"a column named {name!r}", f"the columns {_shortened(names)}")
        if self.columns is None:
            _refuse_repeated(names, label)
        _refuse_repeated(chosen, "--columns")
        return [name for name in chosen if name != self.target]


def _refuse_repeated(names: Sequence[str], argument: str) -> None:
    repeated = [name for i, name in enumerate(names) if name in names[:i]]
    if repeated:
        raise ShapeError(argument, "each column once", f"{_shortened(repeated)} more than once")


def _read_csv(path: Path, choice: _Choice) -> _Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(header, path.name)
            wanted = choice.of(header, path.name)
            positions = [header.index(name) for name in wanted]
            blocks = list(_csv_blocks(reader, path.name, header, positions))
    except UnicodeDecodeError as error:
        raise ShapeError(path.name, "text in UTF-8", f"a byte that is not ({error.reason})") from None
    except csv.Error as error:
        raise ShapeError(path.name, "comma-separated values", str(error)) from None
    return _Table(tuple(wanted), np.concatenate(blocks) if blocks else np.zeros((0, len(wanted))))


def _check_header(header: list[str], label: str) -> None:
    expected = "the names of the columns, separated by commas, on the first line"
    if not any(header):
        raise ShapeError(label, expected, "an empty line or file")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise ShapeError(label, expected, "another separator")
    if all(_is_number(name) for name in header):
        raise ShapeError(label, expected, f"numbers ({_shortened(header, 3)})")


def _csv_blocks(reader: Any, label: str, header: list[str], positions: list[int]) -> Iterator[Array]:
    done = 0
    lines = (line for line in reader if line)
    while block := list(islice(lines, _BLOCK)):
        for i, line in enumerate(block):
            if len(line) != len(header):
                raise ShapeError(label, f"{len(header)} entries in each row", f"{len(line)} in row {done + i + 1}")
        try:
            yield np.array([[float(line[j]) for j in positions] for line in block])
        except ValueError:
            raise _not_a_number(block, label, header, positions, done) from None
        done += len(block)


def _not_a_number(block: list[list[str]], label: str, header: list[str], positions: list[int], done: int) -> ShapeError:
    i, j = next((i, j) for i, line in enumerate(block) for j in positions if not _is_number(line[j]))
    return _non_numeric(label, header[j], f"{block[i][j]!r} in row {done + i + 1}")


def _non_numeric(label: str, column: str, found: str) -> ShapeError:
    return ShapeError(
        f"{label}, column {column!r}", "numbers (--columns chooses columns, and --target leaves one out)", found
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path, choice: _Choice) -> _Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = choice.of(file.schema_arrow.names, path.name)
            table = file.read(columns=names)
    except (pyarrow.ArrowException, OSError) as error:
        raise ShapeError(path.name, "a Parquet file", str(error)) from None
    values = np.empty((table.num_rows, len(names)))
    for j, name in enumerate(names):
        kind = table.schema.field(name).type
        types = pyarrow.types
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)):
            raise _non_numeric(path.name, name, f"type {kind}")
        # A null becomes NaN, and is refused as such.
        values[:, j] = table.column(name).cast(pyarrow.float64()).to_numpy()
    return _Table(tuple(names), values)
