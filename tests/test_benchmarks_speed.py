"""The speed benchmarks: what they time, count and compare, and that an interrupted run loses nothing."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import _peers, _speed_cells, _streams, _sweep, mnist_exact, solver_speed
from benchmarks._harness import EXIT_INTERRUPTED, EXIT_OK, EXIT_REFUSED, ResumeLog
from benchmarks._images import Images, load_images
from benchmarks._speed_cells import fit_exponent, make_problem, residual, timed
from benchmarks.solver_speed import Goal
from solvers import minimize
from theory import L2, Logistic, Problem, SmoothL2, SolverError, SquaredL2, UserDataset

LOSSES, REGULARIZERS = ("linear", "logistic"), ("squared_l2", "smooth_l2")

# ------------------------------------------------------------------------------------------------------------ stopwatch


class Clock:
    """A clock that only calls move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def call(self, *seconds: float) -> Callable[[], int]:
        """A call that takes these times in turn, and then the last of them; its value is how often it was called."""
        times, count = itertools.chain(seconds, itertools.repeat(seconds[-1])), itertools.count(1)

        def run() -> int:
            self.now += next(times)
            return next(count)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_speed_cells, "time", clock)
    monkeypatch.setattr(_peers, "time", clock)
    return clock


def test_the_first_turn_compiles_and_is_not_counted(clock: Clock) -> None:
    (seconds,), (last,) = timed([clock.call(2.0, 1.0, 3.0, 1.0)], runs=5)
    assert seconds == [1.0, 3.0, 1.0, 1.0, 1.0]
    assert last == 6


def test_short_calls_are_repeated_more_often(clock: Clock) -> None:
    (seconds,), _ = timed([clock.call(0.01)], runs=5)
    assert len(seconds) == 20
    assert len(timed([clock.call(1e-6)], runs=5)[0][0]) == 50
    assert len(timed([clock.call(1e-6)], runs=1)[0][0]) == 1


def test_calls_take_turns(clock: Clock) -> None:
    order: list[str] = []

    def named(name: str) -> Callable[[], None]:
        return lambda: (order.append(name), clock.call(1.0)())[0]

    timed([named("a"), named("b")], runs=3)
    assert order == ["a", "b"] * 4


@pytest.mark.parametrize(("seconds", "runs"), [(1.0, 5), (3.0, 3), (4.0, 2), (6.0, 1), (1000.0, 1)])
def test_a_slow_call_is_run_as_often_as_the_budget_allows(seconds: float, runs: int, clock: Clock) -> None:
    (times,), _ = timed([clock.call(seconds)], runs=5, budget=10.0)
    assert times == [seconds] * runs
    # No more than the budget is spent, unless one run takes longer.
    assert clock.now <= max(10.0, seconds)


# ---------------------------------------------------------------------------------------------------------------- peers


def problems() -> list[Problem]:
    return [
        make_problem((4, 3, 20), loss, reg, 0.05, np.random.default_rng(k))
        for k, (loss, reg) in enumerate(itertools.product(LOSSES, REGULARIZERS))
    ]


def hessian_error(joint: _peers.Joint, rng: np.random.Generator) -> float:
    """Return the relative difference of Hessian-vector products and central differences of gradients."""
    x, v = rng.standard_normal((2, joint.shape[0] * joint.shape[1]))
    step = 1e-5
    ends = [joint.value_and_gradient(x + sign * step * v)[1] for sign in (1.0, -1.0)]
    expected = (ends[0] - ends[1]) / (2.0 * step)
    return float(np.linalg.norm(joint.hessian_times(x, v) - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("k", range(4))
def test_the_peers_get_right_gradients_and_hessians(k: int, rng: np.random.Generator) -> None:
    problem = problems()[k]
    joint = _peers.Joint(problem)
    # Third derivatives are of the size of the second: the error is about step² and rounding / step.
    assert hessian_error(joint, rng) < 1e-8
    x = rng.standard_normal(joint.shape)
    value, gradient = joint.value_and_gradient(x.ravel())
    at_rho, at_thetas = problem.gradient(x[0], x[1:])
    assert value == pytest.approx(problem.value(x[0], x[1:]), rel=1e-13)
    np.testing.assert_allclose(gradient, np.concatenate([at_rho, at_thetas.ravel()]), rtol=0, atol=1e-11)


def test_a_wrong_hessian_is_caught(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    joint = _peers.Joint(problems()[1])
    assert hessian_error(joint, rng) < 1e-8
    isotropic = lambda problem, z, w: problem.reg.lam / np.hypot(1.0, np.linalg.norm(z, axis=1))[:, None] * w  # noqa: E731
    monkeypatch.setattr(_peers, "_springs", isotropic)
    assert hessian_error(joint, rng) > 1e-8


@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-ncg"])
@pytest.mark.parametrize("k", range(4))
def test_a_method_of_scipy_stops_at_the_accuracy_and_tells_when(method: str, k: int) -> None:
    problem = problems()[k]
    found = _peers.scipy_peer(problem, method, target=1e-6, limit=60.0)
    assert found.ended == ""
    assert found.residual <= 1e-6
    # What it claims is what its point has; both sum the same terms, to rounding.
    assert residual(problem, *found.point) == pytest.approx(found.residual, rel=1e-6, abs=1e-15)
    times = [found.reached[level] for level in ("0.01", "0.0001", "1e-06")]
    assert sorted(times) == times
    assert found.seconds == times[-1]


def test_a_method_of_scipy_that_gets_no_further_says_so() -> None:
    found = _peers.scipy_peer(problems()[0], "L-BFGS-B", target=0.0, limit=60.0)
    assert found.ended.startswith(("gave up after", "no progress"))
    assert 0.0 < found.residual < 1e-6


def test_a_method_of_scipy_that_runs_out_of_time_returns_its_best_point(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = _peers.Joint.value_and_gradient

    def slow(self: _peers.Joint, x: np.ndarray) -> tuple[float, np.ndarray]:
        clock.now += 1.0
        return evaluate(self, x)

    monkeypatch.setattr(_peers.Joint, "value_and_gradient", slow)
    found = _peers.scipy_peer(problems()[0], "L-BFGS-B", target=1e-12, limit=4.5)
    assert found.ended == "stopped after 4 s"
    assert clock.now == 5.0
    assert found.residual == pytest.approx(residual(problems()[0], *found.point), rel=1e-6)
    assert 1e-12 < found.residual < 1.0


def test_the_loop_is_the_minimum(rng: np.random.Generator) -> None:
    problem = make_problem((5, 3, 10), "linear", "squared_l2", 0.05, rng)
    assert _peers.has_numpy_loop(problem)
    assert residual(problem, *_peers.numpy_loop(problem)) < 1e-13
    assert not _peers.has_numpy_loop(make_problem((5, 3, 10), "linear", "l2", 0.05, rng))


# --------------------------------------------------------------------------------------------------------------- growth


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0])
def test_an_exponent_is_fitted_where_its_term_dominates(exponent: float) -> None:
    values = np.array([250, 500, 1000, 2000, 4000, 8000])
    exact = fit_exponent(values, 1e-6 * values**exponent)
    assert exact["exponent"] == pytest.approx(exponent, abs=1e-12)
    assert exact["error"] < 1e-12
    assert exact["from"] == 1000
    # A constant that the small sizes are made of does not matter.
    values = 4 ** np.arange(8)
    assert fit_exponent(values, values**exponent + 3.0)["exponent"] == pytest.approx(exponent, abs=0.1)
    slope = np.polyfit(np.log(values), np.log(values**exponent + 3.0), 1)[0]
    assert abs(slope - exponent) > 2.0 * abs(fit_exponent(values, values**exponent + 3.0)["exponent"] - exponent)


def test_the_error_of_an_exponent_is_that_of_least_squares(rng: np.random.Generator) -> None:
    values = 2.0 ** np.arange(1, 12)
    noisy = np.exp(np.log(values) + 0.1 * rng.standard_normal(values.size))
    fit = fit_exponent(values, noisy)
    half = slice((values.size - 1) // 2, None)
    slope, covariance = np.polyfit(np.log(values[half]), np.log(noisy[half]), 1, cov=True)
    assert fit["exponent"] == pytest.approx(slope[0], rel=1e-10)
    assert fit["error"] == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-10)


# ---------------------------------------------------------------------------------------------------------------- goals


def row(method: str, seconds: float, **more: Any) -> dict[str, Any]:
    return {"method": method, "seconds": seconds, "over_limit": seconds, "over_ours": seconds / 2.0, **more}


def cells_of(*rows: dict[str, Any], size: tuple[int, ...] = (100, 50, 1000), loss: str = "linear") -> dict[str, Any]:
    cell = {"kind": "problem", "size": list(size), "loss": loss, "reg": "squared_l2", "rows": list(rows)}
    return {"problem": [cell], "batch": [], "stream": [], "growth": [], "compile": []}


def verdicts(cells: dict[str, Any]) -> dict[str, bool | None]:
    return {goal.name: goal.is_met for goal in solver_speed.goals(cells)}


def test_goals_take_the_worst_and_say_what_was_not_measured() -> None:
    name = "least squares, ℓ2²: × BLAS limit at (100,50,1000), (1000,100,1000)"
    faster = "least squares, ℓ2²: × faster than CVXPY at (100,50,1000)"
    good, bad = row("equipoise", 1.4, iterations=1), row("equipoise", 1.6, iterations=1)
    assert verdicts(cells_of(good))[name] is True
    assert verdicts(cells_of(bad))[name] is False
    both = cells_of(good)
    both["problem"] += cells_of(bad, size=(1000, 100, 1000))["problem"]
    assert verdicts(both)[name] is False
    assert verdicts(cells_of(bad, size=(10, 20, 100)))[name] is None
    assert verdicts(cells_of(good, {"method": "CVXPY + Clarabel", "note": "not run"}))[faster] is None
    for seconds, met in ((79.0, False), (81.0, True)):
        found = verdicts(cells_of(good, row("CVXPY + Clarabel", seconds)))
        assert found[faster] is met


def test_a_goal_is_not_met_by_nan() -> None:
    assert Goal("", 1.0, float("nan")).is_met is False
    assert Goal("", 1.0, float("nan"), at_least=True).is_met is False
    assert [Goal("", 1.0, 2.0).is_met, Goal("", 1.0, 2.0, at_least=True).is_met] == [False, True]


def test_plain_l2_is_compared_with_smooth_at_the_same_size() -> None:
    cells = cells_of(loss="logistic")
    for size, reg, seconds in (((1, 1, 1), "l2", 3.0), ((1, 1, 1), "smooth_l2", 2.0), ((2, 2, 2), "l2", 9.0)):
        cells["problem"].append(
            {"size": list(size), "loss": "logistic", "reg": reg, "rows": [row("equipoise", seconds)]}
        )
    assert solver_speed._plain_over_smooth(cells) == 1.5


def stream_row(n_users: int, peak: float) -> dict[str, Any]:
    return {"source": "ready", "n_users": n_users, "data_bytes": 7000.0 * n_users, "peak": peak, "bytes_per_user": 0.0,
            "over_reading": {}}  # fmt: skip


def test_memory_is_compared_between_numbers_of_users() -> None:
    flat, kept = [stream_row(n, 1e8) for n in (10**5, 4 * 10**5)], [stream_row(n, 7e3 * n) for n in (10**5, 4 * 10**5)]
    assert solver_speed._memory_share(flat) == 0.0
    assert solver_speed._memory_share(kept) == pytest.approx(1.0)
    assert solver_speed._memory_share([stream_row(n, 7e3 * n) for n in (10, 40)]) is None


# ---------------------------------------------------------------------------------------------------------------- sweep


def test_a_sweep_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    done: list[int] = []

    def cell(number: int) -> dict[str, Any]:
        if number == 3 and len(done) == 2:
            raise KeyboardInterrupt
        done.append(number)
        return {"square": number**2}

    tasks = [(number,) for number in (1, 2, 3, 4)]
    log = ResumeLog(tmp_path / "cells.jsonl", "k")
    with pytest.raises(KeyboardInterrupt):
        _sweep.sweep_here(cell, tasks, log, name="test", progress=False)
    done.append(0)
    rows = _sweep.sweep_here(cell, tasks, log, name="test", progress=False)
    assert done == [1, 2, 0, 3, 4]
    assert [row["square"] for row in rows] == [1, 4, 9, 16]
    # Another code, setting or machine has another key.
    _sweep.sweep_here(cell, tasks, ResumeLog(tmp_path / "cells.jsonl", "other"), name="test", progress=False)
    assert done == [1, 2, 0, 3, 4, 1, 2, 3, 4]


# ---------------------------------------------------------------------------------------------------------- the program

SMALL = ["--sizes", "4,2,9;3,40,9", "--sections", "problems", "--repetitions", "2", "--reg", "squared_l2,smooth_l2"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("speed")
    assert solver_speed.main([*SMALL, "--loss", "linear", "--peer-seconds", "1", "--out", str(out)]) == EXIT_OK
    assert not (out / "cells.jsonl").exists()  # a run that is finished is measured anew
    assert {path.name for path in out.iterdir()} == {"results.json", "solver_speed.png", "solver_speed.svg"}
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def test_every_row_has_what_was_measured_and_its_ratios(results: dict[str, Any]) -> None:
    assert len(results["problem"]) == 4
    for cell in results["problem"]:
        rows = {row["method"]: row for row in cell["rows"]}
        expected = {"BLAS limit", "equipoise", "equipoise, another λ", "certificate", "certificate, ball arithmetic",
                    "L-BFGS-B", "trust-ncg", "CVXPY + Clarabel"}  # fmt: skip
        assert rows.keys() == expected | ({"NumPy loop"} if cell["reg"] == "squared_l2" else set())
        for one in rows.values():
            low, high = one["spread"]
            assert 0 < low <= one["seconds"] <= high
            assert one["over_limit"] == pytest.approx(one["seconds"] / rows["BLAS limit"]["seconds"])
            assert one["over_ours"] == pytest.approx(one["seconds"] / rows["equipoise"]["seconds"])
            assert one["runs"] >= 1
        assert rows["equipoise"]["as_accurate"]
        assert rows["equipoise"]["residual"] < 1e-13
        assert rows["certificate"]["distance_bound"] < 1e-10
        for method in ("L-BFGS-B", "CVXPY + Clarabel"):
            assert rows[method]["as_accurate"] == (rows[method]["residual"] <= 1e-12)
            assert rows[method]["residual"] < 1e-4
    assert {"processor", "threads", "packages", "git_revision", "blas"} <= results["environment"].keys()
    assert {"name", "wanted", "measured", "is_met"} <= results["goals"][0].keys()


def test_the_tables_show_every_row(results: dict[str, Any]) -> None:
    text = solver_speed.tables({kind: results[kind] for kind in _speed_cells.CELLS})
    lines = text.splitlines()
    for cell in results["problem"]:
        start = ", ".join(map(str, cell["size"]))
        for one in cell["rows"]:
            assert any(
                line.startswith(start) and one["method"] in line and f"{1e3 * one['seconds']:.3g}" in line
                for line in lines
            )


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[Any, ...]] = []

    def cell(*task: Any) -> dict[str, Any]:
        if len(measured) == 1:
            measured.append(())
            raise KeyboardInterrupt
        measured.append(task)
        return {"kind": "problem", "size": list(task[:3]), "loss": task[3], "reg": task[4],
                "rows": [row("equipoise", 1.0, spread=[1.0, 1.0], runs=1, residual=0.0, iterations=1, as_accurate=True,
                             note="")]}  # fmt: skip

    monkeypatch.setitem(_speed_cells.CELLS, "problem", cell)
    options = [*SMALL, "--loss", "linear", "--out", str(tmp_path)]
    assert solver_speed.main(options) == EXIT_INTERRUPTED
    assert solver_speed.main(options) == EXIT_OK
    assert len(measured) == 1 + 4  # the interruption, and each cell once
    assert len(set(measured)) == 5
    assert solver_speed.main(options) == EXIT_OK
    assert len(measured) == 1 + 8


REFUSED = {
    "sizes": (["--sizes", "1,2"], "--sizes: expected N,d,I triples"),
    "size 0": (["--sizes", "0,2,3"], "--sizes: expected positive integers"),
    "section": (["--sections", "nothing"], "--sections: expected names among problems"),
    "repetitions": (["--repetitions", "0"], "--repetitions: expected an integer >= 1"),
    "peer-seconds": (["--peer-seconds", "nan"], "--peer-seconds: expected a number > 0"),
    "jobs": (["--jobs", "77"], "--jobs: expected"),
    "users": (["--stream-users", "0"], "--stream-users: expected positive integers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_options_are_refused(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, message = REFUSED[case]
    assert solver_speed.main([*options, "--out", str(tmp_path)]) == EXIT_REFUSED
    assert message in capsys.readouterr().err


def test_no_peers_leaves_out_peers(tmp_path: Path) -> None:
    options = ["--sizes", "2,2,4", "--loss", "linear", "--reg", "squared_l2", "--repetitions", "1"]
    config = solver_speed._config(solver_speed.parser().parse_args([*options, "--no-peers"]))
    cell = _speed_cells.cell(*next(iter(replace(config, sections=("problems",)).tasks())))
    timed_rows = [one["method"] for one in cell["rows"] if "seconds" in one]
    assert timed_rows == ["BLAS limit", "equipoise", "equipoise, another λ", "certificate"]


@pytest.mark.parametrize("which", list(solver_speed.BATCHES))
def test_batches_solve_what_they_count(which: str) -> None:
    found = _speed_cells.batch_cell(which, 3, 1, 0)
    assert found["n_problems"] == 3 * {"logistic": 5, "nested to 100,000": 8}.get(which, 1)
    assert found["per_second"]["solved"] == pytest.approx(found["n_problems"] / found["seconds"]["solved"])


def test_logistic_batches_are_nested_and_solved(rng: np.random.Generator) -> None:
    models = [rng.standard_normal(10) for _ in range(5)]
    draw, solve, count = _speed_cells._logistic_batch(models, 2, rng)
    Q, A = draw()
    found = solve((Q, A))
    assert count == len(found.rho) == 10
    for r, k in ((0, 0), (1, 3), (1, 4)):
        size = _speed_cells._SIZES[k]
        users = [
            UserDataset(Q[a : a + size], A[a : a + size])
            for a in 1000 * (5 * r + np.arange(5))
        ]  # fmt: skip
        exact = minimize(Problem(users, Logistic(), SquaredL2(1.0), 0.01))
        np.testing.assert_allclose(found.rho[5 * r + k], exact.rho, rtol=0, atol=1e-9)


# -------------------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("kind", solver_speed.SOURCES)
def test_streams_are_measured_in_both_passes(kind: str, tmp_path: Path) -> None:
    stream, path = _streams.Stream(200, dim=20, seed=3), tmp_path / "users.parquet"
    stream.write(path)
    found = _streams.run(kind, 200, 2, 3, str(path))
    assert found["n_users"] == 200
    assert found["n_data"] == sum(40 + n % 11 for n in range(200)) or kind == "ready"
    assert found["residual"] < 1e-13
    assert found["peak"] >= found["resident_before"] > 2**20
    assert found["over_reading"]["read and Gram"] == 1.0
    for samples in found["profile"].values():
        assert samples[-1][0] == 200
        assert len(samples) <= 200
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found))


def test_the_file_holds_the_users_that_are_drawn(tmp_path: Path) -> None:
    stream, path = _streams.Stream(1200, seed=5), tmp_path / "users.parquet"
    stream.write(path)
    drawn = list(stream.users())
    read: Any = list(stream.source(path)())
    assert np.array_equal(np.concatenate([block.Q for block in read]), np.concatenate([user.Q for user in drawn]))
    assert np.array_equal(np.concatenate([block.A for block in read]), np.concatenate([user.A for user in drawn]))
    assert [int(n) for block in read for n in block.sizes] == [user.n_data for user in drawn]
    assert stream.bytes == pytest.approx(sum(user.Q.nbytes + user.A.nbytes for user in drawn), rel=0.01)


def test_a_pass_that_misses_users_is_noticed() -> None:
    stream = _streams.Stream(100)
    with pytest.raises(SolverError, match="90 of 100 users"):
        _streams.measure(stream, "short", lambda: itertools.islice(stream.users(), 90), 1, 60.0)


def test_the_slope_of_memory_is_in_bytes_a_user() -> None:
    samples = [(n, 1e8 + 50.0 * max(n, 250)) for n in range(0, 1001, 10)]
    assert _streams._slope(samples) == pytest.approx(50.0, rel=1e-9)
    assert _streams._slope([(n, 1e8) for n in range(100)]) == pytest.approx(0.0, abs=1e-3)
    assert _streams._slope([(5, 1e8)]) == 0.0


# --------------------------------------------------------------------------------------------------------------- images


@pytest.fixture
def pictures(rng: np.random.Generator) -> Images:
    """Three classes of 4 x 4 pixels; pixel 5 is never active in class 2, pixel 0 never at all."""
    x = rng.integers(1, 256, (60, 16)).astype(np.uint8) * (rng.random((60, 16)) < 0.6).astype(np.uint8)
    y = np.arange(60) % 3
    x[y == 2, 5] = 0
    x[:, 0] = 0
    return Images("pictures", x[:45], y[:45], x[45:], y[45:], 255.0)


def write_idx(folder: Path, images: Images, compress: bool) -> None:
    parts = {"train-images-idx3": images.x_train.reshape(-1, 4, 4), "train-labels-idx1": images.y_train,
             "t10k-images-idx3": images.x_test.reshape(-1, 4, 4), "t10k-labels-idx1": images.y_test}  # fmt: skip
    for name, array in parts.items():
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        raw = head + array.astype(np.uint8).tobytes()
        file = folder / (f"{name}-ubyte" + (".gz" if compress else ""))
        file.write_bytes(gzip.compress(raw) if compress else raw)


def write_npz(file: Path, images: Images) -> Path:
    np.savez(file, x_train=images.x_train.reshape(-1, 4, 4), y_train=images.y_train.astype(np.uint8),
             x_test=images.x_test.reshape(-1, 4, 4), y_test=images.y_test.astype(np.uint8))  # fmt: skip
    return file


def test_images_are_the_same_from_npz_and_idx(tmp_path: Path, pictures: Images) -> None:
    sources = [str(write_npz(tmp_path / "a.npz", pictures))]
    for compress in (False, True):
        folder = tmp_path / f"idx{compress}"
        folder.mkdir()
        write_idx(folder, pictures, compress)
        sources.append(str(folder))
    for source in sources:
        found = load_images(source)
        for part in ("x_train", "y_train", "x_test", "y_test"):
            assert np.array_equal(getattr(found, part), getattr(pictures, part))
        assert found.n_classes == 3
        assert found.queries("test").shape == (15, 17)
        assert found.queries("train").max() <= 1.0


def test_images_from_openml_are_split_as_mnist_is(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    class Answer:
        data = rng.integers(0, 256, (60_005, 4)).astype(float)
        target = np.array([str(n % 10) for n in range(60_005)])

    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda name, **options: Answer)
    found = load_images("openml")
    assert (found.x_train.shape, found.x_test.shape, found.n_classes) == ((60_000, 4), (5, 4), 10)
    assert np.array_equal(found.x_test, Answer.data[60_000:])
    assert found.y_test.tolist() == [0, 1, 2, 3, 4]


def test_mnist_exact_solves_certifies_and_explains(tmp_path: Path, pictures: Images) -> None:
    data = str(write_npz(tmp_path / "a.npz", pictures))
    options = ["--data", data, "--users", "3", "--nu", "0,0.1", "--path", "1,0.1", "--peer", "0.5"]
    assert mnist_exact.main([*options, "--repetitions", "5", "--out", str(tmp_path)]) == EXIT_OK
    results = json.loads((tmp_path / "results.json").read_text())
    refused, alone, start, path = results["rows"]
    assert refused["status"] == "NO_MINIMUM"
    assert refused["seconds"] < 1.0
    certificate = refused["certificate"]
    raised, pixel = set(certificate["classes_raised"]), certificate["pixel"]
    active = set(pictures.y_train[pictures.x_train[:, pixel] > 0].tolist())
    assert active == set(certificate["classes_in_which_it_is_active"])
    assert active <= raised != {0, 1, 2}
    assert (alone["nu"], start["nu"], path["nu"]) == (0.1, 1.0, 0.1)
    assert (alone["runs"], path["runs"]) == (5, 1)
    for solved in (alone, start, path):
        assert solved["relative_residual"] < 1e-10
        assert solved["distance_bound"] < 1e-6
    # Where it started does not matter, beyond what the certificates allow.
    assert path["loss"] == pytest.approx(alone["loss"], abs=alone["gap_bound"] + path["gap_bound"] + 1e-12)
    assert path["path_seconds"] == pytest.approx(start["seconds"] + path["seconds"])
    assert results["peer"]["seconds_to_residual"]["0.1"] <= results["peer"]["seconds"]
    assert 0.0 < results["peak_memory_gib"]
    assert (tmp_path / "mnist_exact.png").exists()


@pytest.mark.parametrize("reg", ["l2", "smooth_l2"])
def test_mnist_exact_takes_every_regularizer(reg: str, tmp_path: Path, pictures: Images) -> None:
    data = str(write_npz(tmp_path / "a.npz", pictures))
    options = ["--data", data, "--users", "3", "--nu", "0.1", "--path", "", "--lam", "50", "--reg", reg]
    assert mnist_exact.main([*options, "--out", str(tmp_path)]) == EXIT_OK
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["config"]["reg"] == reg
    # So strong a spring ties all users for ℓ2, and none for smooth-ℓ2.
    assert results["rows"][0]["n_tied"] == (3 if reg == "l2" else 0)
    assert results["rows"][0]["distance_bound"] < 1e-5
    problem = mnist_exact.make_problem(pictures, 3, {"l2": L2, "smooth_l2": SmoothL2}[reg](50.0), 0.1, 999)
    expected = minimize(problem, method="newton")
    assert results["rows"][0]["loss"] == pytest.approx(problem.value(expected.rho, expected.thetas), rel=1e-12)


def test_the_direction_at_nu_0_lowers_the_loss_for_ever(pictures: Images) -> None:
    problem = mnist_exact.make_problem(pictures, 3, SquaredL2(1.0), 0.0, 999)
    solution = minimize(problem, throw=False)
    direction = solution.direction
    assert direction is not None
    losses = [problem.value(t * direction.rho, t * direction.thetas) for t in (0.0, 1.0, 10.0, 100.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[1]


def test_a_certificate_that_does_not_hold_is_refused(pictures: Images) -> None:
    problem = mnist_exact.make_problem(pictures, 3, SquaredL2(1.0), 0.0, 999)
    solution = minimize(problem, throw=False)
    found = mnist_exact.explain_no_minimum(solution, problem, pictures)
    pixel = found["pixel"]
    assert solution.direction is not None
    # An image in which the pixel is active, but whose class is not raised.
    other = pictures.x_train.copy()
    other[np.argmax(pictures.y_train == next(k for k in range(3) if k not in found["classes_raised"])), pixel] = 9
    changed = replace(pictures, x_train=other)
    with pytest.raises(SolverError, match="none along which the loss decreases"):
        mnist_exact.explain_no_minimum(
            solution, mnist_exact.make_problem(changed, 3, SquaredL2(1.0), 0.0, 999), changed
        )
    # The other way, and models that do not move together.
    for rho, thetas in ((-1.0, -1.0), (1.0, 0.5)):
        direction = replace(
            solution.direction, rho=rho * solution.direction.rho, thetas=thetas * solution.direction.thetas
        )
        with pytest.raises(SolverError, match="none along which the loss decreases"):
            mnist_exact.explain_no_minimum(replace(solution, direction=direction), problem, pictures)


def test_separable_labels_are_another_reason(rng: np.random.Generator) -> None:
    x = rng.integers(1, 256, (12, 16)).astype(np.uint8)  # every pixel is active in every class
    y = np.arange(12) % 3
    pictures = Images("few", x, y, x, y, 255.0)
    problem = mnist_exact.make_problem(pictures, 3, SquaredL2(1.0), 0.0, 999)
    row, _ = mnist_exact.solve(problem, pictures, None)
    assert row["status"] == "NO_MINIMUM"
    assert "pixel" not in row["certificate"]
    assert 1 <= row["certificate"]["n_better"] <= 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "absent.npz"], "--data: expected an .npz file"),
        (["--nu", "-1"], "--nu = -1"),
        (["--path", "a"], "--path: expected numbers >= 0"),
        (["--users", "0"], "--users: expected 1 to"),
        (["--repetitions", "0"], "--repetitions: expected"),
        (["--lam", "0"], "--lam = 0"),
        (["--peer", "1", "--reg", "l2"], "--peer: expected 0"),
        (["--reg", "l3"], "invalid choice"),
    ],
)
def test_bad_options_of_mnist_exact(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mnist_exact.main([*options, "--out", str(tmp_path)]) == EXIT_REFUSED
    assert message in capsys.readouterr().err
