"""Streams: memory that does not grow with the users, the cost beside reading them, and Parquet files read in pieces.

Beside each property stands a planted falsehood, which the same measurement refuses.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import _streams
from solvers import UserBlock, _kernels, minimize, minimize_stream, parquet_users, streaming
from theory import LeastSquares, Problem, ShapeError, SquaredL2, UserDataset

REG, NU, DIM = SquaredL2(1.0), 0.01, 6


def drawn(n_users: int, seed: int = 0) -> Iterator[UserDataset]:
    rng = np.random.default_rng(seed)
    for n in range(n_users):
        size = n % 9
        yield UserDataset(rng.standard_normal((size, DIM)), rng.standard_normal(size))


def drawn_blocks(n_users: int) -> Iterator[UserBlock]:
    for _ in range(0, n_users, 32):
        yield streaming._join(list(drawn(32)), 0)


# --------------------------------------------------------------------------------------------------------------- memory


def first_pass(source: streaming.Source) -> None:
    minimize_stream(source, REG, NU)


def second_pass(source: streaming.Source) -> None:
    for _ in streaming.StreamedSolution(np.zeros(DIM), 1, 1, REG, NU, source).thetas():
        pass


def residual_pass(source: streaming.Source) -> None:
    streaming.StreamedSolution(np.zeros(DIM), 1, 1, REG, NU, source).residual()


PASSES = {"first": first_pass, "second": second_pass, "residual": residual_pass}
SOURCES: dict[str, Callable[[int], Iterator[Any]]] = {"users": drawn, "blocks": drawn_blocks}


#: Bytes for each user: keeping one number of each in an array takes 8, in a list of Python's 32.  (Python's allocator
#: keeps some 14 kB of the small objects that users take to make, however many they are.)
LEAST_KEPT = {"arrays": 8.0, "all": 32.0}


def growth(run: Callable[[streaming.Source], None], make: Callable[[int], Iterator[Any]]) -> dict[str, float]:
    """Return how many bytes a further user takes, between two users that stand at the same place of a block."""
    few, many = (1152, 4 * 1152) if _kernels._JIT else (288, 2 * 288)
    held: dict[int, np.ndarray] = {}
    arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)

    def source() -> Iterator[Any]:
        read = 0
        for item in make(many + 32):
            if read in (few, many):
                gc.collect()
                snapshot = tracemalloc.take_snapshot().filter_traces([arrays])
                size = sum(trace.size for trace in snapshot.traces)
                held[read] = np.array([size, tracemalloc.get_traced_memory()[0]])
            read += len(item.sizes) if isinstance(item, UserBlock) else 1
            yield item

    tracemalloc.start()
    try:
        run(source)
    finally:
        tracemalloc.stop()
    return dict(zip(LEAST_KEPT, (held[many] - held[few]) / (many - few), strict=True))


def is_flat(rates: dict[str, float]) -> bool:
    """Whether not even half a number is kept of each user (of few users, uncompiled: in arrays)."""
    return all(rate < 0.5 * LEAST_KEPT[kind] for kind, rate in rates.items() if _kernels._JIT or kind == "arrays")


def peak(run: Callable[[], None]) -> int:
    """Return the largest size of all Python objects and arrays that are alive at once while ``run`` runs."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_BLOCK_USERS", 32)
    monkeypatch.setattr(streaming, "_BLOCK_ENTRIES", 2**13)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("which", PASSES)
def test_memory_does_not_grow_with_the_users(which: str, kind: str, small_blocks: None) -> None:
    assert is_flat(growth(PASSES[which], SOURCES[kind]))


def keep_answers(source: streaming.Source) -> None:
    """Keeps one number of each user."""
    kept = [float(block.sizes[k]) for block in streaming._blocks(source) for k in range(len(block.sizes))]
    assert kept


PLANTED_PASSES: dict[str, Callable[[streaming.Source], None]] = {
    "users": lambda source: first_pass(lambda: list(source())),
    "thetas": lambda source: [None for _ in list(minimize_stream(source, REG, NU).thetas())].clear(),
    "a number": keep_answers,
}


@pytest.mark.parametrize("planted", [name for name in PLANTED_PASSES if _kernels._JIT or name != "a number"])
def test_users_that_are_kept_are_noticed(planted: str, small_blocks: None) -> None:
    assert not is_flat(growth(PLANTED_PASSES[planted], drawn))


def test_blocks_that_are_kept_are_noticed(small_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    grouped = streaming._grouped
    monkeypatch.setattr(streaming, "_grouped", lambda source: list(grouped(source)))
    assert not is_flat(growth(first_pass, drawn))


@pytest.mark.skipif(not _kernels._JIT, reason="minutes uncompiled, under the measurement of memory")
def test_a_large_block_is_not_factored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_BLOCK_USERS", 32)
    rng = np.random.default_rng(1)
    n, dim = 1024, 16
    block = UserBlock(rng.standard_normal((n, dim)), rng.standard_normal(n), np.ones(n, dtype=np.int64))
    first_pass_of(block)
    # The factors of all would take 8·1024·16² bytes, two megabytes; those of a piece of 32 users take 1/32 of them.
    assert peak(lambda: first_pass_of(block)) < 0.5e6
    assert peak(lambda: streaming._factor(block, REG, NU) and None) > 2e6


def first_pass_of(block: UserBlock) -> None:
    minimize_stream(lambda: [block], REG, NU)


# ---------------------------------------------------------------------------------------------------------------- speed


def cpu_seconds(call: Callable[[], Any]) -> float:
    """Return the least processor time of three calls, which waiting for the processor does not change."""
    times = []
    for _ in range(3):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def one_by_one(source: streaming.Source) -> None:
    """What a pass costs with Python's overhead for each user."""
    total, solved = np.zeros((20, 20)), np.zeros(20)
    for user in source():
        inverse = np.linalg.inv(user.Q.T @ user.Q + 2.02 * np.eye(20))
        total += inverse
        solved += inverse @ (user.Q.T @ user.A)


@pytest.mark.skipif(not _kernels._JIT, reason="times compiled code")
def test_both_passes_cost_at_most_twice_the_reading_and_the_gram_products() -> None:
    users = list(_streams.Stream(1000).users())

    def source() -> Iterator[UserDataset]:
        for _ in range(6):
            yield from users

    solution = minimize_stream(source, REG, NU)
    floor = cpu_seconds(lambda: _streams.gram_pass(source))
    assert cpu_seconds(lambda: minimize_stream(source, REG, NU)) <= 2.0 * floor
    assert cpu_seconds(lambda: _streams._consume(solution.thetas())) <= 2.0 * floor
    assert cpu_seconds(lambda: one_by_one(source)) > 2.0 * floor


# -------------------------------------------------------------------------------------------------------------- results


def test_the_residual_is_the_gradient_of_the_joint_loss() -> None:
    users = list(drawn(40))
    problem = Problem(users, LeastSquares(), REG, NU)
    solution = minimize_stream(lambda: users, REG, NU)
    away = streaming.StreamedSolution(solution.rho + 0.1, 40, solution.n_data, REG, NU, lambda: users)
    thetas = np.array(list(away.thetas()))
    at_rho, at_thetas = problem.gradient(away.rho, thetas)
    at_zero = np.concatenate([g.ravel() for g in problem.gradient(np.zeros(DIM), np.zeros((40, DIM)))])
    expected = np.hypot(np.linalg.norm(at_rho), np.linalg.norm(at_thetas)) / np.linalg.norm(at_zero)
    # Two orders of summation of some hundred terms.
    assert away.residual() == pytest.approx(expected, rel=1e-11)
    assert solution.residual() < 1e-13 < away.residual()


def test_a_large_block_gives_what_its_pieces_give(small_blocks: None) -> None:
    users = list(drawn(500))
    block = streaming._join(users, 0)
    whole, single = (minimize_stream(lambda s=s: s, REG, NU) for s in ([block], users))  # type: ignore[misc]
    assert whole.n_users == 500
    assert whole.n_data == sum(user.n_data for user in users)
    exact = minimize(Problem(users, LeastSquares(), REG, NU))
    for found in (whole, single):
        # K_n has condition below 1e3: rounding stays far below 1e-10.
        np.testing.assert_allclose(found.rho, exact.rho, rtol=0, atol=1e-12)
        np.testing.assert_allclose(np.array(list(found.thetas())), exact.thetas, rtol=0, atol=1e-12)
    missing = minimize_stream(lambda: [streaming._join(users[:-1], 0)], REG, NU)
    assert np.abs(missing.rho - exact.rho).max() > 1e-12


def test_a_user_without_data_stays_a_user() -> None:
    users = [UserDataset.empty(2), UserDataset([[1.0, 0.0], [0.0, 2.0]], [1.0, 1.0]), UserDataset.empty(2)]
    exact = minimize(Problem(users, LeastSquares(), REG, NU))
    np.testing.assert_allclose(minimize_stream(lambda: users, REG, NU).rho, exact.rho, rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        minimize_stream(lambda: [streaming._join(users, 0)], REG, NU).rho, exact.rho, rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("place", [0, 3, 700])
def test_a_bad_user_is_named_by_its_place(place: int) -> None:
    users = list(drawn(900))
    with pytest.raises(ShapeError, match=rf"user {max(place, 1)} of source: .*dimension {DIM}"):
        minimize_stream(lambda: [*users[: max(place, 1)], UserDataset(np.eye(2), np.ones(2)), *users], REG, NU)
    one_hot = UserDataset(np.ones((2, DIM)), np.eye(2))
    with pytest.raises(ShapeError, match=rf"user {place} of source: expected A of one dimension"):
        minimize_stream(lambda: [*users[:place], one_hot, *users], REG, NU)


# -------------------------------------------------------------------------------------------------------------- Parquet


def table_of(users: list[UserDataset], ids: list[Any]) -> pa.Table:
    sizes = [user.n_data for user in users]
    Q, A = np.concatenate([user.Q for user in users]), np.concatenate([user.A for user in users])
    columns: dict[str, Any] = {"who": [i for i, size in zip(ids, sizes, strict=True) for _ in range(size)], "y": A}
    return pa.table({**columns, **{f"x{j}": Q[:, j] for j in range(Q.shape[1])}})


def read(source: streaming.Source) -> tuple[np.ndarray, np.ndarray, list[int]]:
    blocks: Any = list(source())
    sizes = [int(size) for block in blocks for size in block.sizes]
    return np.concatenate([b.Q for b in blocks]), np.concatenate([b.A for b in blocks]), sizes


IDS: dict[str, Callable[[int], Any]] = {
    "integers": lambda n: 3 * n - 20,
    "floats": lambda n: n / 2,
    "text": lambda n: f"{n:05d}",
}


@pytest.mark.parametrize("batch_rows", [1, 2, 7, 50, None])
@pytest.mark.parametrize("kind", IDS)
def test_rows_and_users_come_back_whatever_the_pieces(
    kind: str, batch_rows: int | None, tmp_path: Path, rng: np.random.Generator
) -> None:
    users = [user for user in drawn(40) if user.n_data]
    # One user has far more rows than a batch.
    users.insert(5, UserDataset(rng.standard_normal((60, DIM)), rng.standard_normal(60)))
    table = table_of(users, [IDS[kind](n) for n in range(len(users))])
    ends = [0, 31, 32, 90, table.num_rows]  # users go on from file to file
    for k in range(4):
        pq.write_table(table.slice(ends[k], ends[k + 1] - ends[k]), tmp_path / f"part{k}.parquet", row_group_size=13)
    Q, A, sizes = read(parquet_users(tmp_path, user="who", target="y", batch_rows=batch_rows))
    assert np.array_equal(Q, np.concatenate([user.Q for user in users]))
    assert np.array_equal(A, np.concatenate([user.A for user in users]))
    assert sizes == [user.n_data for user in users]
    # Files that are read each for itself split users.
    apart = [read(parquet_users(file, user="who", target="y"))[2] for file in sorted(tmp_path.iterdir())]
    assert [size for part in apart for size in part] != sizes


def test_columns_of_other_numbers_and_a_choice_of_features(tmp_path: Path) -> None:
    table = pa.table(
        {
            "who": pa.array([1, 1, 2], pa.int16()), "y": pa.array([1, 2, 3], pa.uint8()),
            "a": pa.array([1.5, 2.5, 3.5], pa.float32()), "b": pa.array([True, False, True]),
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    Q, A, sizes = read(parquet_users(tmp_path / "t.parquet", user="who", target="y", features=["b", "a"]))
    assert Q.tolist() == [[1.0, 1.5], [0.0, 2.5], [1.0, 3.5]]
    assert (A.tolist(), sizes) == ([1.0, 2.0, 3.0], [2, 1])


def test_ids_in_no_order(tmp_path: Path) -> None:
    pq.write_table(pa.table({"who": [5, 5, 2, 9], "y": [1.0] * 4, "x": [1.0] * 4}), tmp_path / "t.parquet")
    for batch_rows in (1, 2, 3, 100):
        options: Any = {"user": "who", "target": "y", "batch_rows": batch_rows}
        assert read(parquet_users(tmp_path / "t.parquet", is_sorted=False, **options))[2] == [2, 1, 1]
        with pytest.raises(ShapeError, match=r"who: expected rows sorted by user, found .*2.* after .*5"):
            read(parquet_users(tmp_path / "t.parquet", **options))


COLUMNS: dict[str, Any] = {"who": [1, 1, 2], "y": [1.0, 2.0, 3.0], "x": [1.0, 2.0, 3.0]}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "null id": ({"who": [1, None, 2]}, "who: expected an id in each row, found a null"),
    "NaN id": ({"who": [1.0, float("nan"), 2.0]}, "who: expected an id in each row, found NaN"),
    "null feature": ({"x": [1.0, None, 2.0]}, "x: expected a number in each row, found a null"),
    "null answer": ({"y": [1.0, None, 2.0]}, "y: expected a number in each row, found a null"),
    "NaN feature": ({"x": [1.0, float("nan"), 2.0]}, "Q: expected finite entries, found nan"),
    "infinite answer": ({"y": [1.0, float("inf"), 2.0]}, "A: expected finite entries, found inf"),
    "text": ({"x": ["a", "b", "c"]}, "x: expected a column of real numbers, found type string"),
    "decreasing ids": ({"who": [2, 2, 1]}, "who: expected rows sorted by user"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_columns_are_refused_by_name(case: str, tmp_path: Path) -> None:
    change, message = REFUSED[case]
    for number, columns in enumerate((COLUMNS, COLUMNS | change)):
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
    assert read(parquet_users(tmp_path / "0.parquet", user="who", target="y"))[2] == [2, 1]
    with pytest.raises(ShapeError, match=message):
        read(parquet_users(tmp_path / "1.parquet", user="who", target="y"))


def test_bad_data_sets_are_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table(COLUMNS), tmp_path / "0.parquet")
    options: Any = {"user": "who", "target": "y"}
    with pytest.raises(ShapeError, match="path: expected a Parquet file"):
        parquet_users(tmp_path / "absent.parquet", **options)
    with pytest.raises(ShapeError, match="features: expected at least one column"):
        parquet_users(tmp_path / "0.parquet", features=[], **options)
    with pytest.raises(ShapeError, match=r"z: expected a column of .*\(it has who, y, x\)"):
        parquet_users(tmp_path / "0.parquet", features=["z"], **options)
    with pytest.raises(ShapeError, match="batch_rows"):
        parquet_users(tmp_path / "0.parquet", batch_rows=0, **options)
    (tmp_path / "text").write_text("a,b\n1,2\n")
    with pytest.raises(ShapeError, match="path: expected a Parquet file"):
        parquet_users(tmp_path / "text", **options)
    # A later file without the column; and one whose first user comes before the last of the file before.
    (tmp_path / "folder").mkdir()
    pq.write_table(pa.table(COLUMNS), tmp_path / "folder" / "0.parquet")
    pq.write_table(pa.table({"who": [3], "y": [1.0]}), tmp_path / "folder" / "1.parquet")
    with pytest.raises(ShapeError, match=r"x: expected a column of .*1\.parquet, as of the first file"):
        read(parquet_users(tmp_path / "folder", **options))
    pq.write_table(pa.table(COLUMNS), tmp_path / "folder" / "1.parquet")
    with pytest.raises(ShapeError, match=r"sorted by user, found .*1.* after .*2"):
        read(parquet_users(tmp_path / "folder", **options))


def arrow_peak(path: Path) -> int:
    """Return the most that Arrow holds while a block is handed over."""
    before, most = pa.total_allocated_bytes(), 0
    for _ in parquet_users(path, user="who", target="y", batch_rows=2000)():
        most = max(most, pa.total_allocated_bytes() - before)
    return most


def scanned(dataset: Any, columns: list[str], rows: int) -> Iterator[Any]:
    """A scan of the data set, which reads ahead without regard to who waits for it."""
    yield from dataset.to_batches(columns=columns, batch_size=rows)


def prebuffered(dataset: Any, columns: list[str], rows: int) -> Iterator[Any]:
    """Reads whole row groups at once."""
    for fragment in dataset.get_fragments():
        yield from pq.ParquetFile(fragment.path, pre_buffer=True).iter_batches(batch_size=rows, columns=columns)


@pytest.mark.parametrize("row_groups", ["one", "many"])
def test_reading_parquet_takes_memory_that_does_not_grow(
    row_groups: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    few, many = 50_000, 200_000
    for rows in (few, many):
        table = pa.table(
            {"who": np.arange(rows) // 20, "y": np.ones(rows), **{f"x{j}": rng.random(rows) for j in range(5)}}
        )
        group = rows if row_groups == "one" else 10_000
        pq.write_table(table, tmp_path / f"{rows}", row_group_size=group, use_dictionary=False, data_page_size=2**14)
        del table

    def growth() -> float:
        return (arrow_peak(tmp_path / f"{many}") - arrow_peak(tmp_path / f"{few}")) / (many - few)

    # One number kept of each row would be 8 bytes.
    assert growth() < 4.0
    monkeypatch.setattr(streaming, "_batches", scanned)
    assert growth() > 4.0
    if row_groups == "one":
        monkeypatch.setattr(streaming, "_batches", prebuffered)
        assert growth() > 4.0
