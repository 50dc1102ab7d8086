"""What all benchmarks share: random streams, the log, workers, records; and intervals and slopes."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from benchmarks import __main__ as listing
from benchmarks import _harness
from benchmarks._harness import ResumeLog, run_tasks
from benchmarks._statistics import LEAST_REPLICATES, clopper_pearson, fit_slope
from theory import EquipoiseError, ShapeError, SolverError

# ------------------------------------------------------------------------------------------------- Clopper and Pearson

Interval = Callable[[int, int], tuple[float, float]]


def wald(k: int, n: int) -> tuple[float, float]:
    half = 1.96 * math.sqrt(k / n * (1 - k / n) / n)
    return k / n - half, k / n + half


def one_tail_too_long(k: int, n: int) -> tuple[float, float]:
    return clopper_pearson(k, n, level=0.90)


def off_by_one(k: int, n: int) -> tuple[float, float]:
    return clopper_pearson(min(k + 1, n), n)


def least_coverage(interval: Interval, n: int) -> float:
    """Return the least exact coverage over p, which is attained at an end of some interval or next to it."""
    ends = np.array([interval(k, n) for k in range(n + 1)])
    probabilities = np.unique(np.clip(np.concatenate([ends.ravel() - 1e-9, ends.ravel() + 1e-9]), 0.0, 1.0))
    covered = (ends[:, :1] <= probabilities) & (probabilities <= ends[:, 1:])
    return float((binom.pmf(np.arange(n + 1)[:, None], n, probabilities) * covered).sum(axis=0).min())


@pytest.mark.parametrize("n", [1, 2, 7, 20, 100])
def test_clopper_pearson_covers_every_probability(n: int) -> None:
    # The sum of n + 1 binomial probabilities is exact to a few n eps.
    assert least_coverage(clopper_pearson, n) >= 0.95 - 1e-12


@pytest.mark.parametrize("falsehood", [wald, one_tail_too_long, off_by_one])
@pytest.mark.parametrize("n", [7, 100])
def test_intervals_that_cover_too_little_are_caught(falsehood: Interval, n: int) -> None:
    assert least_coverage(falsehood, n) < 0.95 - 1e-12


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (3, 10), (0, 100), (99, 100), (100, 100), (50, 1000)])
def test_clopper_pearson_agrees_with_scipy(k: int, n: int) -> None:
    exact = binomtest(k, n).proportion_ci(0.95, method="exact")
    # Both invert the same beta integral, to about 1e-12 by their root finders.
    np.testing.assert_allclose(clopper_pearson(k, n), (exact.low, exact.high), rtol=0, atol=1e-10)


def test_clopper_pearson_refuses_more_successes_than_trials() -> None:
    with pytest.raises(ShapeError, match="at most trials = 3"):
        clopper_pearson(4, 3)


# --------------------------------------------------------------------------------------------------------------- slopes

SIZES = np.array([500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0, 50000.0, 100000.0])


def planted_errors(exponent: float, n_replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Return errors of nested samples: the norm of a ten-dimensional random walk at times ℐ, as ℐ^exponent."""
    steps = np.sqrt(np.diff(SIZES, prepend=0.0))[:, None, None] * rng.standard_normal((SIZES.size, n_replicates, 10))
    walk = np.linalg.norm(np.cumsum(steps, axis=0), axis=2).T
    return walk / np.sqrt(SIZES) * SIZES**exponent


@pytest.mark.parametrize("exponent", [-1 / 2, -1 / 3, -1 / 4, -1.0])
def test_a_planted_slope_is_recovered_and_told_from_the_others(exponent: float, rng: np.random.Generator) -> None:
    fit = fit_slope(SIZES, planted_errors(exponent, 100, rng), rng)
    assert fit.low is not None
    assert fit.high is not None
    assert fit.low <= exponent <= fit.high
    others = {-1 / 2, -1 / 3, -1 / 4, -1.0} - {exponent}
    assert not any(fit.low <= other <= fit.high for other in others)


def test_the_slope_of_an_exact_power_law_is_exact(rng: np.random.Generator) -> None:
    fit = fit_slope(SIZES, np.tile(3.0 * SIZES**-0.5, (20, 1)), rng)
    # Eight logarithms below 12 with weights below 1/2: at most some 100 eps.
    np.testing.assert_allclose([fit.value, fit.low, fit.high], -0.5, rtol=0, atol=1e-13)


def coverage_of_slopes(shrink: float, rng: np.random.Generator, n_worlds: int = 200) -> float:
    hits = 0
    for _ in range(n_worlds):
        fit = fit_slope(SIZES, planted_errors(-0.5, 20, rng), rng, n_resamples=400)
        hits += abs(fit.low + fit.high + 1.0) <= shrink * (fit.high - fit.low)  # type: ignore[operator]
    return hits / n_worlds


def test_the_bootstrap_interval_covers(rng: np.random.Generator) -> None:
    # At a coverage of 95 %, fewer than 179 of 200 happen once in a thousand times.
    assert coverage_of_slopes(1.0, rng) >= 179 / 200


def test_an_interval_of_half_the_width_is_caught(rng: np.random.Generator) -> None:
    assert coverage_of_slopes(0.5, rng) < 179 / 200


def test_few_replicates_give_no_interval_and_zeros_no_slope(rng: np.random.Generator) -> None:
    errors = planted_errors(-0.5, LEAST_REPLICATES, rng)
    assert fit_slope(SIZES, errors[:-1], rng).low is None
    assert fit_slope(SIZES, errors, rng).low is not None
    assert fit_slope(SIZES, np.zeros((20, SIZES.size)), rng).value is None


# -------------------------------------------------------------------------------------------------------------- streams


def collisions(make: Callable[..., np.random.Generator]) -> int:
    keys = [(seed, *key) for seed in range(3) for n in range(3) for key in itertools.product(range(3), repeat=n)]
    draws = [make(*key).random() for key in keys]
    return len(draws) - len(set(draws))


def test_no_two_streams_are_alike() -> None:
    assert collisions(_harness.generator) == 0


def test_streams_made_by_adding_to_the_seed_are_caught() -> None:
    assert collisions(lambda seed, *key: np.random.default_rng(seed + sum(key))) > 0


# -------------------------------------------------------------------------------------------------------------- the log

ROWS = [{"x": 0.1 + i, "name": f"row {i}"} for i in range(3)]


class NaiveLog(ResumeLog):
    """Appends without a look at how the file ends: a planted defect."""

    def append(self, row: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"key": self.key, **row}) + "\n")


def rows_after_tearing(log_type: type[ResumeLog], path: Path, n_bytes: int) -> list[dict[str, Any]]:
    """Write ROWS, cut the last line to ``n_bytes``, append the last row again, and read."""
    path.unlink(missing_ok=True)
    for row in ROWS:
        log_type(path, "k").append(row)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:n_bytes])
    before = log_type(path, "k").rows()
    if before[:2] != ROWS[:2] or len(before) > 3:
        return before
    log_type(path, "k").append(ROWS[2])
    return [*before[:2], *log_type(path, "k").rows()[-1:]]


@pytest.mark.parametrize("n_bytes", [0, 1, 10, 30, 43, 44])
def test_a_torn_last_line_costs_that_row_alone(tmp_path: Path, n_bytes: int) -> None:
    assert rows_after_tearing(ResumeLog, tmp_path / "rows.jsonl", n_bytes) == ROWS


def test_appending_to_a_torn_line_is_caught(tmp_path: Path) -> None:
    assert rows_after_tearing(NaiveLog, tmp_path / "rows.jsonl", 10) != ROWS


def test_the_log_counts_what_it_cannot_read_and_keeps_keys_apart(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    ResumeLog(path, "old").append({"x": 1})
    with path.open("a") as file:
        file.write('{"x": 2}\n[3]\nnot json\n\n{"key": "new", "x"')
    log = ResumeLog(path, "new")
    log.append({"x": 4})
    assert log.rows() == [{"x": 4}]
    assert log.n_unreadable == 4
    log.clear()
    assert log.rows() == []


def test_numbers_come_back_from_the_log_bit_by_bit(tmp_path: Path, rng: np.random.Generator) -> None:
    numbers = [*rng.standard_normal(100), 5e-324, 1.7976931348623157e308, -0.0, 0.1]
    log = ResumeLog(tmp_path / "rows.jsonl", "k")
    log.append({"numbers": numbers})
    back = log.rows()[0]["numbers"]
    assert np.array(back).tobytes() == np.array(numbers).tobytes()


# -------------------------------------------------------------------------------------------------------------- workers


def test_workers_return_every_value_from_processes_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    values: list[Any] = []
    run_tasks(os.getenv, [(name,) for name in _harness.THREAD_VARIABLES], jobs=2, on_result=values.append)
    assert values == ["1"] * len(_harness.THREAD_VARIABLES)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_a_refusal_in_a_worker_arrives_as_one_and_keeps_the_rest() -> None:
    values: list[Any] = []
    tasks = [("10,20", "--a"), ("oops", "--b"), ("30", "--c")]
    with pytest.raises(EquipoiseError, match="--b: expected integers separated by commas, found 'oops'"):
        run_tasks(_harness.parse_integers, tasks, jobs=1, on_result=values.append)
    assert (10, 20) in values


def test_a_worker_that_dies_is_reported() -> None:
    with pytest.raises(SolverError, match="a worker process died"):
        run_tasks(os._exit, [(1,)], jobs=1, on_result=print)


def test_an_interruption_keeps_what_is_under_way(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kept: list[None] = []

    def interrupt(value: None) -> None:
        kept.append(value)
        if len(kept) == 1:
            raise KeyboardInterrupt

    tasks = [(str(tmp_path / str(n)),) for n in range(3000)]
    with pytest.raises(KeyboardInterrupt):
        run_tasks(os.mkdir, tasks, jobs=1, on_result=interrupt)
    # One worker holds one task, and a few more wait in its queue; they are handed over, and the rest is not begun.
    assert 1 < len(kept) < 3000
    assert len(kept) == len(list(tmp_path.iterdir()))
    assert "interrupted" in capfd.readouterr().err


# -------------------------------------------------------------------------------------------------------------- records


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    _harness.write_json(path, {"x": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        _harness.write_json(path, {"x": math.nan})
    assert json.loads(path.read_text()) == {"x": 1.5}


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    _harness.write_json(path, {"x": 1.5})
    write = Path.write_text

    def write_half(self: Path, text: str, **options: Any) -> int:
        write(self, text[: len(text) // 2], **options)
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="no space left"):
        _harness.write_json(path, {"x": 2.5})
    assert json.loads(path.read_text()) == {"x": 1.5}


def test_changed_code_has_another_key(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    file = tmp_path / "package" / "module.py"
    keys = []
    for text in ("x = 1\n", "x = 2\n"):
        file.write_text(text)
        keys += [_harness.code_key(tmp_path / "package"), _harness.code_key(file)]
    file.rename(file.with_name("renamed.py"))
    keys.append(_harness.code_key(tmp_path / "package"))
    assert len(set(keys)) == 5


def test_the_environment_names_versions_and_revision() -> None:
    record = _harness.environment()
    assert json.loads(json.dumps(record)) == record
    assert record["packages"]["numpy"] == np.__version__
    assert record["git_revision"] is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", record["git_revision"])


def test_an_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    @_harness.command_line
    def main(argv: list[str] | None = None) -> int:
        raise ShapeError("--x", "a number", "two\nlines")

    assert main([]) == 2
    assert capsys.readouterr().err == "error: --x: expected a number, found two lines\n"


def test_other_errors_are_not_hidden() -> None:
    @_harness.command_line
    def main(argv: list[str] | None = None) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main([])


@pytest.mark.parametrize("text", ["linear,unknown", "", "linear,,logistic"])
def test_unknown_names_are_refused(text: str) -> None:
    with pytest.raises(ShapeError, match="--loss: expected names among linear, logistic"):
        _harness.parse_names(text, ("linear", "logistic"), "--loss")


def test_the_listing_names_every_program_and_its_purpose(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main() == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[2:])
    assert shown.keys() == {path.stem for path in (root / "benchmarks").glob("[!_]*.py")}
    assert shown["pac_scaling"].startswith("How fast an honest user's model converges to the one it prefers")
