"""Sources of queries: what is read, what is refused, and that nothing is changed in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_diabetes

from benchmarks import _queries
from benchmarks._queries import query_source
from theory import AssumptionError, EmpiricalQueries, EquipoiseError, ShapeError

GOOD = "a,b,label\n1,2,x\n2,-1,y\n0.5,3,x\n4,1e1,y\n"
VALUES = np.array([[1.0, 2.0], [2.0, -1.0], [0.5, 3.0], [4.0, 10.0]])


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(GOOD)
    return path


def rows_of(source: _queries.QuerySource) -> np.ndarray:
    assert isinstance(source.queries, EmpiricalQueries)
    return source.queries.rows


# ------------------------------------------------------------------------------------------------------ what is refused

REFUSED_CSV = {
    "missing column": ("a,b\n1,2\n", {"columns": ["a", "c"]}, ["rows.csv", "'c'", "a, b"]),
    "missing target": ("a,b\n1,2\n", {"target": "c"}, ["rows.csv", "'c'", "a, b"]),
    "text": ("a,b\n1,2\n1,two\n", {}, ["rows.csv", "column 'b'", "'two' in row 2"]),
    "no entry": ("a,b\n1,2\n,3\n", {}, ["rows.csv", "column 'a'", "'' in row 2"]),
    "NaN": ("a,b\n1,2\n3,nan\n", {}, ["rows.csv", "column 'b'", "nan in row 2"]),
    "infinite": ("a,b\n1,2\n3,4\n-inf,1\n", {}, ["rows.csv", "column 'a'", "-inf in row 3"]),
    "ragged": ("a,b\n1,2\n3\n", {}, ["rows.csv", "2 entries in each row", "1 in row 2"]),
    "no header": ("1,2\n3,4\n", {}, ["rows.csv", "names of the columns", "numbers"]),
    "another separator": ("a;b\n1;2\n", {}, ["rows.csv", "another separator"]),
    "empty": ("", {}, ["rows.csv", "names of the columns", "empty"]),
    "no rows": ("a,b\n", {}, ["rows.csv", "at least one row"]),
    "repeated column": ("a,a\n1,2\n", {}, ["rows.csv", "each column once", "a more than once"]),
    "column asked for twice": ("a,b\n1,2\n", {"columns": ["a", "a"]}, ["--columns", "a more than once"]),
    "open quote": ('a,b\n1,"2\n', {}, ["rows.csv", "comma-separated values"]),
    "only constants": ("a,b\n1,2\n1,2\n", {}, ["rows.csv", "a column that is not constant"]),
}


@pytest.mark.parametrize("case", REFUSED_CSV)
def test_a_bad_csv_file_is_refused_by_name(case: str, tmp_path: Path) -> None:
    text, options, expected = REFUSED_CSV[case]
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(ShapeError) as refused:
        query_source(str(path), **options)  # type: ignore[arg-type]
    assert all(part in str(refused.value) for part in expected), refused.value


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,b\n1,\xff\xfe\n")
    with pytest.raises(ShapeError, match=r"rows\.csv: expected text in UTF-8"):
        query_source(str(path))


REFUSED_PARQUET = {
    "missing column": ({"a": [1.0, 2.0]}, {"columns": ["b"]}, ["rows.parquet", "'b'"]),
    "null": ({"a": [1.0, 2.0], "b": [1, None]}, {}, ["rows.parquet", "column 'b'", "nan in row 2"]),
    "text": ({"a": [1.0, 2.0], "b": ["x", "y"]}, {}, ["rows.parquet", "column 'b'", "type string"]),
    "NaN": ({"a": [float("nan"), 2.0]}, {}, ["rows.parquet", "column 'a'", "nan in row 1"]),
}


@pytest.mark.parametrize("case", REFUSED_PARQUET)
def test_a_bad_parquet_file_is_refused_by_name(case: str, tmp_path: Path) -> None:
    content, options, expected = REFUSED_PARQUET[case]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(content), path)
    with pytest.raises(ShapeError) as refused:
        query_source(str(path), **options)  # type: ignore[arg-type]
    assert all(part in str(refused.value) for part in expected), refused.value


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text(GOOD)
    with pytest.raises(ShapeError, match=r"rows\.parquet: expected a Parquet file"):
        query_source(str(path))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("iris", {}, r"--queries: expected one of .*digits.*, found 'iris'"),
        ("absent.csv", {}, r"--queries: expected a file that exists, found 'absent\.csv'"),
        ("digits", {"dim": 3}, r"--dim: expected no value: the columns of digits decide the dimension, found 3"),
        ("cube", {"columns": ["a"]}, r"--queries: expected a data set"),
        ("cube", {"intercept": True}, r"--queries: expected a data set"),
        ("cube", {"dim": 0}, r"dim: expected an integer >= 1, found 0"),
        ("cube", {"scaling": "robust"}, r"--scaling: expected one of standard, whiten, none, found 'robust'"),
        ("diabetes", {"columns": ["age", "height"]}, r"diabetes: expected a column named 'height'"),
    ],
)
def test_a_bad_request_is_refused(name: str, options: dict[str, object], expected: str) -> None:
    with pytest.raises(EquipoiseError, match=expected):
        query_source(name, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("scaling", _queries.SCALINGS)
def test_rows_that_do_not_span_are_refused_and_the_column_named(scaling: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,twice\n1,2,2\n2,-1,4\n0.5,3,1\n4,10,8\n")
    with pytest.raises(AssumptionError, match=r"span 2 of 3 dimensions; leave out .* (a|twice)$"):
        query_source(str(path), scaling=scaling)


def test_whitening_fewer_rows_than_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n3,5\n")
    with pytest.raises(AssumptionError, match="whitening needs more rows"):
        query_source(str(path), scaling="whiten")


# --------------------------------------------------------------------------------------------------------- what is read


def test_csv_and_parquet_with_equal_rows_are_the_same_queries(csv_file: Path) -> None:
    parquet = csv_file.with_suffix(".parquet")
    columns = {"a": pa.array([1.0, 2.0, 0.5, 4.0], pa.float32()), "b": pa.array([2, -1, 3, 10], pa.int8())}
    pq.write_table(pa.table({**columns, "label": ["x", "y", "x", "y"]}), parquet)
    from_csv = query_source(str(csv_file), target="label", scaling="none")
    from_parquet = query_source(str(parquet), columns=["a", "b"], scaling="none")
    np.testing.assert_array_equal(rows_of(from_csv), VALUES)
    assert from_csv.key == from_parquet.key
    assert from_csv.columns == from_parquet.columns == ("a", "b")


def test_every_entry_and_the_order_of_columns_are_in_the_key(csv_file: Path) -> None:
    keys = [query_source(str(csv_file), columns=columns, scaling="none").key for columns in (["a", "b"], ["b", "a"])]
    csv_file.write_text(GOOD.replace("1e1", "10.000000000000002"))
    keys.append(query_source(str(csv_file), columns=["a", "b"], scaling="none").key)
    keys += [query_source("cube", dim=dim).key for dim in (2, 3)] + [query_source("sphere", dim=2).key]
    assert len(set(keys)) == 6


def test_long_files_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_queries, "_BLOCK", 3)
    path = tmp_path / "rows.csv"
    path.write_text("a\n" + "".join(f"{i}\n" for i in range(10)))
    np.testing.assert_array_equal(rows_of(query_source(str(path), scaling="none"))[:, 0], np.arange(10.0))
    path.write_text(path.read_text().replace("7\n", "seven\n"))
    with pytest.raises(ShapeError, match="'seven' in row 8"):
        query_source(str(path))
    path.write_text(path.read_text().replace("seven\n", "7\n").replace("8\n", "8,8\n"))
    with pytest.raises(ShapeError, match="expected 1 entries in each row, found 2 in row 9"):
        query_source(str(path))


def test_columns_of_a_bundled_data_set_are_chosen_by_name() -> None:
    rows = rows_of(query_source("diabetes", columns=["bmi", "age"], scaling="none"))
    whole = load_diabetes()
    np.testing.assert_array_equal(rows, whole.data[:, [whole.feature_names.index(name) for name in ("bmi", "age")]])


def test_scalings(csv_file: Path) -> None:
    standard = rows_of(query_source(str(csv_file), target="label"))
    # Means and variances of four numbers of size 1 are exact to a few eps.
    np.testing.assert_allclose(standard.mean(axis=0), 0.0, atol=1e-15)
    np.testing.assert_allclose(standard.var(axis=0), 1.0, rtol=1e-14)
    correlation = standard[:, 0] @ standard[:, 1] / 4
    assert correlation == pytest.approx(np.corrcoef(VALUES.T)[0, 1], rel=1e-13)
    whitened = query_source(str(csv_file), target="label", scaling="whiten")
    np.testing.assert_allclose(whitened.queries.second_moment(), np.eye(2), atol=1e-13)


def test_constant_columns_are_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,zero,one\n1,0,1\n2,0,1\n4,0,1\n")
    standard = query_source(str(path))
    assert standard.columns == ("a",)
    assert "left out 2 constant columns: zero, one" in standard.notes
    # Without scaling a column of ones is an intercept.
    plain = query_source(str(path), scaling="none")
    assert plain.columns == ("a", "one")
    assert "left out 1 constant columns: zero" in plain.notes


def test_an_intercept_is_a_last_column_of_ones(csv_file: Path) -> None:
    source = query_source(str(csv_file), target="label", intercept=True)
    assert source.columns == ("a", "b", "intercept")
    np.testing.assert_array_equal(rows_of(source)[:, 2], 1.0)


def test_digits_loses_its_three_blank_pixels() -> None:
    source = query_source("digits")
    assert source.queries.dim == 61
    assert "left out 3 constant columns: pixel_0_0, pixel_4_0, pixel_4_7" in source.notes


@pytest.mark.parametrize(("name", "dim"), [("diabetes", 10), ("breast_cancer", 30)])
def test_bundled_data_sets_have_all_their_columns(name: str, dim: int) -> None:
    assert query_source(name).queries.dim == dim


def test_only_gaussian_queries_leave_the_hypotheses_of_theorem_3() -> None:
    noted = {name for name in _queries.DISTRIBUTIONS if any("Theorem 3" in note for note in query_source(name).notes)}
    assert noted == {"gaussian"}
