"""The programs ``impossibility`` and ``pac_exponents``: no search beats Corollary 2, runs resume, figures appear."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import _sweep, _worst_case, impossibility, pac_exponents
from benchmarks._harness import EXIT_OK, EXIT_REFUSED, ResumeLog
from benchmarks._worst_case import LEARNERS, Search, is_defined, rule_of, structured, worst_case
from theory.arrays import Array
from theory.impossibility import least_constant

# Learners of data see models only up to λ/WEIGHT; the others are exact up to rounding.
MODEL_ERROR = 1e-4


@pytest.mark.parametrize(("F", "N", "dim"), [(1, 3, 1), (1, 4, 2), (2, 5, 1), (2, 7, 2)])
@pytest.mark.parametrize("name", LEARNERS)
def test_impossibility_search_never_falls_below_the_bound(name: str, F: int, N: int, dim: int) -> None:
    if not is_defined(name, F, N):
        pytest.skip("the rule needs more users")
    row = worst_case(name, F, N, dim, budget=60, seed=0)
    assert row["unbounded"] or row["worst"] >= row["bound"] * (1 - MODEL_ERROR)
    if name == "trimmed mean" and dim == 1:
        assert row["worst"] == pytest.approx(least_constant(F, N), rel=1e-9)
    if name in ("mean", "ours, squared_l2"):
        assert row["unbounded"]


def test_impossibility_search_would_show_a_learner_below_the_bound() -> None:
    # Planted: a "learner" that is told the honest mean.  Nothing else stands between the search and a ratio of 0.
    F, N = 1, 4
    truth: dict[str, Array] = {}

    class Told(Search):
        def try_models(self, models: Array, honest: slice) -> bool:
            truth["mean"] = models[honest].mean(axis=0)
            return super().try_models(models, honest)

    search = Told(lambda models: truth["mean"], F, N, 1)
    for models, honest in structured(F, N, 1):
        search.try_models(models, honest)
    search.climb(np.random.default_rng(0))
    assert search.worst < 1e-9 < least_constant(F, N)


def test_impossibility_structured_candidates_hold_both_worlds() -> None:
    for F, N, dim in [(1, 3, 1), (2, 7, 3)]:
        candidates = list(structured(F, N, dim))
        assert all(models.shape == (N, dim) and len(models[honest]) == N - F for models, honest in candidates)
        (first, in_first), (second, in_second) = candidates[:2]
        assert np.array_equal(first, second)
        assert (in_first, in_second) == (slice(0, N - F), slice(F, N))


def test_impossibility_search_is_repeatable_and_climbs() -> None:
    rows = [worst_case("Krum", 1, 5, 2, budget=200, seed=3) for _ in range(2)]
    assert rows[0]["worst"] == rows[1]["worst"]
    short = worst_case("Krum", 1, 5, 2, budget=1, seed=3)
    assert short["worst"] < rows[0]["worst"]


def test_impossibility_learner_of_data_agrees_with_the_rule_it_becomes() -> None:
    models = np.random.default_rng(0).standard_normal((5, 2))
    for ours, rule in (("ours, squared_l2", "mean"), ("ours, l2", "geometric median")):
        assert rule_of(ours, 1)(models) == pytest.approx(rule_of(rule, 1)(models), abs=MODEL_ERROR)


def run_task(x: int) -> dict[str, Any]:
    return {"square": x * x}


@pytest.mark.slow
def test_impossibility_program_runs_resumes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--users", "3,4", "--dims", "1,2", "--budget", "20", "--jobs", "1", "--out", str(tmp_path)]
    assert impossibility.main(arguments) == EXIT_OK
    table = capsys.readouterr().out
    assert "trimmed mean" in table
    content = json.loads((tmp_path / "results.json").read_text())
    assert len(content["rows"]) == sum(is_defined(name, 1, N) for name in LEARNERS for N in (3, 4)) * 2
    assert all(row["unbounded"] or row["worst"] >= row["bound"] * (1 - MODEL_ERROR) for row in content["rows"])
    for suffix in ("png", "svg"):
        assert (tmp_path / f"impossibility.{suffix}").stat().st_size > 10_000
    log = (tmp_path / "cells.jsonl").read_bytes()
    (tmp_path / "cells.jsonl").write_bytes(log[: len(log) // 2])
    assert impossibility.main(arguments) == EXIT_OK
    again = json.loads((tmp_path / "results.json").read_text())
    for before, after in zip(content["rows"], again["rows"], strict=True):
        assert {**before, "seconds": 0} == {**after, "seconds": 0}


@pytest.mark.slow
def test_pac_exponents_program_runs_and_draws(tmp_path: Path) -> None:
    arguments = ["--sizes", "100,400", "--replicates", "3", "--jobs", "1", "--out", str(tmp_path)]
    assert pac_exponents.main(arguments) == EXIT_OK
    content = json.loads((tmp_path / "results.json").read_text())
    assert {row["kind"] for row in content["rows"]} == set(pac_exponents.KINDS)
    for name, _ in pac_exponents.FIGURES.values():
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "arguments",
    [
        ["--users", "2"],
        ["--users", "3,3"],
        ["--dims", "0"],
        ["--learners", "nobody"],
        ["--budget", "0"],
        ["--seed", "-1"],
        ["--jobs", "0"],
        ["--users", "x"],
    ],
)
def test_impossibility_program_refuses_bad_input(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert impossibility.main([*arguments, "--out", str(tmp_path)]) == EXIT_REFUSED
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [["--figures", "none"], ["--sizes", "10,5"], ["--replicates", "1"], ["--delta", "1"], ["--delta", "nan"]],
)
def test_pac_exponents_program_refuses_bad_input(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pac_exponents.main([*arguments, "--out", str(tmp_path)]) == EXIT_REFUSED
    assert capsys.readouterr().err.startswith("error: ")


def test_pac_exponent_frequencies_count_undecided_for_neither_side() -> None:
    row = pac_exponents._frequency([1, 1, 0, None])
    assert (row["successes"], row["undecided"]) == (2, 1)
    sure = pac_exponents._frequency([1, 1, 0, 0])
    # An undecided sample widens the interval upwards only.
    assert row["low"] == sure["low"]
    assert row["high"] > sure["high"]


def test_pac_exponent_limit_is_the_chi_squared_probability() -> None:
    # P(χ²_1 <= 1) and P(χ²_2 <= 1) = 1 - e^{-1/2}.
    assert pac_exponents.chi_squared(1.0, 1) == pytest.approx(math.erf(math.sqrt(0.5)), rel=1e-12)
    assert pac_exponents.chi_squared(1.0, 2) == pytest.approx(1.0 - math.exp(-0.5), rel=1e-12)


def test_sweep_takes_finished_cells_from_the_log(tmp_path: Path) -> None:
    log = ResumeLog(tmp_path / "cells.jsonl", "key")
    # A recorded value that no computation would give shows that it was not computed again.
    log.append({"task": [3], "square": -1})
    log.append({"task": [99], "square": 5})
    assert _sweep.sweep(run_task, [(3,)], log, name="x", jobs=1, progress=False) == [{"task": [3], "square": -1}]


def test_sweep_key_depends_on_code_and_setting(tmp_path: Path) -> None:
    file = tmp_path / "helper.py"
    file.write_text("x = 1\n")
    first = _sweep.sweep_key("program", {"a": 1}, str(file))
    assert first == _sweep.sweep_key("program", {"a": 1}, str(file))
    assert first != _sweep.sweep_key("program", {"a": 2}, str(file))
    file.write_text("x = 2\n")
    assert first != _sweep.sweep_key("program", {"a": 1}, str(file))


def test_worst_case_module_names_every_learner_s_series() -> None:
    assert list(impossibility.SERIES) == list(_worst_case.LEARNERS)
