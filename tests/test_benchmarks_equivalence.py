"""The three programs of the equivalence: what they report is what the packages compute, and bad input is named."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import solvers.large
from benchmarks import _harness, cga_convergence, equivalence, poisoning_cost
from theory import ShapeError, class_bound

CGA = cga_convergence.Config(n_users=3, dim=2, n_data=6, lam=1.0, nu=0.1, rounds=300, sweep=2, seed=0)
COST = poisoning_cost.Config(
    users=(3, 6, 12, 24),
    dim=2,
    n_classes=3,
    n_data=8,
    lam=1.0,
    nu=0.1,
    max_answer=3.0,
    construct=6,
    max_points=5000,
    sizes=(30,),
    replicates=1,
    side=9,
    seed=0,
)
EQUIVALENCE = equivalence.Config(
    data=("iris",), n_honest=3, lam=0.3, nu=0.1, rounds=80, max_points=20_000, seed=0
)  # fmt: skip


def test_cga_rows_agree_with_theory() -> None:
    for q in (1 / 3, 0.49, 0.51):
        row = cga_convergence.run_one(CGA, "squared_l2", q)
        assert row["rate"] == pytest.approx(row["theory_rate"], rel=0.01)
        assert row["converges_in_theory"] == (q < 0.5) == (row["curve"][-1] < row["curve"][0])
    others = [cga_convergence.run_one(CGA, name, 0.49) for name in ("l2", "smooth_l2")]
    assert all(row["theory_rate"] is None for row in others)
    assert all(row["distance"] < 0.1 * row["curve"][0] for row in others)


def test_a_rate_is_measured_above_rounding() -> None:
    curve = np.maximum(0.8 ** np.arange(400.0), 1e-16)
    assert cga_convergence.measured_rate(curve) == pytest.approx(0.8, rel=1e-9)
    assert cga_convergence.measured_rate(np.array([1.0, 0.0, 0.0])) is None


@pytest.mark.parametrize("loss", poisoning_cost.LOSSES)
def test_costs_are_lower_bounds_that_are_met(loss: str) -> None:
    row = poisoning_cost.cost(COST, loss, 3)
    assert row["points"] >= row["bound"] > 0
    assert row["distance"] < 1e-10
    assert row["distance_bound"] < 1e-10
    if loss == "logistic":
        assert row["points"] == math.ceil(row["work"] / class_bound(2))
    if loss == "linear":
        assert row["points"] == math.ceil(4 * row["work"] / 9)
        assert row["answer"] == pytest.approx(2 * math.sqrt(row["work"]))


def test_costs_grow_with_the_square() -> None:
    rows = [poisoning_cost.cost(dataclasses.replace(COST, max_points=0), "linear", n) for n in (10, 20, 40, 80)]
    found = {fit["quantity"]: fit["slope"] for fit in poisoning_cost.fits(rows)}
    assert found["work"] == pytest.approx(2.0, abs=0.15)
    assert found["answer"] == pytest.approx(1.0, abs=0.1)
    assert all(row["distance"] is None for row in rows)
    wrong = [{**row, "work": row["work"] / row["N"]} for row in rows]  # growth N would be seen
    assert {fit["quantity"]: fit["slope"] for fit in poisoning_cost.fits(wrong)}["work"] < 1.2


def test_users_of_a_smaller_problem_are_among_those_of_a_larger() -> None:
    small, target = poisoning_cost.problem_of(COST, "linear", 3)
    large, same = poisoning_cost.problem_of(COST, "linear", 6)
    assert np.array_equal(target, same)
    assert all(np.array_equal(small.users[n].Q, large.users[n].Q) for n in range(3))


@pytest.mark.parametrize("method", [0, 1])
def test_ways_to_poison_are_compared(method: int) -> None:
    def median(n: int) -> float:
        return float(np.median([poisoning_cost.compare(COST, method, n, r)["distance"] for r in range(3)]))

    assert median(4000) < median(20)


def both_parts(config: equivalence.Config, name: str) -> dict[str, Any]:
    return {**equivalence.run_part(config, name, "attacks"), **equivalence.run_part(config, name, "data")}


def test_the_three_attacks_meet_on_real_data() -> None:
    row = both_parts(EQUIVALENCE, "iris")
    for key in ("distance_gradient", "distance_model", "distance_data", "certified_data", "certified_model"):
        assert row[key] < 1e-8
    assert row["bound"] <= row["points"] <= 1.1 * row["bound"]
    assert row["distinct"] < 20
    assert row["curve_gradient"][0] > 1.0
    assert f"{row['points']:,}" in equivalence.table([row])
    far = {**row, "certified_data": 6e-7, "target_norm": 20.0}
    assert "6.0e-07    3.0e-08" in equivalence.table([far])
    assert "still on their way" not in equivalence.table([far])
    few = both_parts(dataclasses.replace(EQUIVALENCE, max_points=3), "iris")
    assert few["points"] is None
    assert "points are needed" in few["reason"]
    assert "points are needed" in equivalence.table([few])


def test_a_large_problem_is_solved_with_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The route of MNIST (no Hessian, few distinct points) on images small enough for every test run."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (90, 3, 3)).astype(np.uint8)
    np.savez(tmp_path / "own.npz", x_train=images, y_train=rng.integers(0, 4, 90))
    config = dataclasses.replace(EQUIVALENCE, nu=1e-2, rounds=3)
    usual = both_parts(config, str(tmp_path / "own.npz"))
    solved: list[Any] = []
    newton_cg = solvers.large.newton_cg
    monkeypatch.setattr(solvers.large, "newton_cg", lambda *a: solved.append(newton_cg(*a)) or solved[-1])
    monkeypatch.setattr(solvers.large, "is_large", lambda problem: True)
    monkeypatch.setattr(equivalence, "_EXACT", 1)
    row = both_parts(config, str(tmp_path / "own.npz"))
    assert len(solved) >= 4
    assert row["points"] == usual["points"]
    assert row["distance_data"] <= 1e-8 * max(1.0, row["target_norm"])
    assert row["certified_data"] <= 1e-8 * max(1.0, row["target_norm"])
    assert usual["local"] == "exact"
    assert "still on their way" in equivalence.table([row])


def test_a_file_of_ones_own(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (60, 2, 2)).astype(np.uint8)
    np.savez(tmp_path / "own.npz", x_train=images, y_train=rng.integers(0, 3, 60))
    data = equivalence.load(str(tmp_path / "own.npz"))
    assert data.Q.shape == (60, 5)
    assert data.Q.max() == 1.0
    assert data.loss.n_outputs == 3
    with pytest.raises(ShapeError, match="--data"):
        equivalence.load(str(tmp_path / "missing.npz"))


@pytest.mark.parametrize("module", [cga_convergence, poisoning_cost, equivalence], ids=lambda module: module.NAME)
def test_bad_options_end_with_a_sentence(module: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for options in (["--nu", "0"], ["--lam", "-1"], ["--nonsense"]):
        assert module.main([*options, "--out", str(tmp_path)]) == 2
        assert "error:" in capsys.readouterr().err
    assert equivalence.main(["--data", "nowhere", "--out", str(tmp_path)]) == 2
    assert "--data" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ resuming

SMALL = {
    cga_convergence: ["--quick", "--users", "3", "--dim", "2", "--data-per-user", "6", "--rounds", "60"],
    poisoning_cost: ["--quick", "--users", "3,5", "--max-points", "300", "--side", "7"],
    equivalence: ["--data", "iris,diabetes", "--rounds", "20"],
}


def in_this_process(computed: list[Any], at_most: float) -> Callable[..., None]:
    """``run_tasks`` without workers, interrupted when it has computed ``at_most`` cells."""

    def run_tasks(function: Any, tasks: Any, *, jobs: int, on_result: Any, **_: Any) -> None:
        for task in tasks:
            if len(computed) >= at_most:
                raise KeyboardInterrupt
            computed.append(task)
            on_result(function(*task))

    return run_tasks


def rows_of(out: Path) -> Any:
    content = json.loads((out / "results.json").read_text())
    for row in content["rows"]:
        for key in [key for key in row if key.startswith("seconds")]:
            del row[key]
    return {key: content[key] for key in content if key not in ("timing", "environment")}


@pytest.mark.parametrize("module", SMALL, ids=lambda module: module.NAME)
def test_an_interrupted_run_goes_on_where_it_stopped(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module._figures, "save", lambda *a: (tmp_path,))  # figures are drawn in other tests

    def run(out: str, *more: str, at_most: float = math.inf) -> tuple[int, list[Any]]:
        computed: list[Any] = []
        monkeypatch.setattr(_harness, "run_tasks", in_this_process(computed, at_most))
        return module.main([*SMALL[module], *more, "--out", str(tmp_path / out)]), computed

    status, everything = run("whole")
    assert status == 0
    status, first = run("broken", at_most=3)
    assert status == _harness.EXIT_INTERRUPTED
    assert "goes on from there" in capsys.readouterr().out
    assert not (tmp_path / "broken" / "results.json").exists()
    # A line that was torn apart is computed again.
    log = tmp_path / "broken" / "cells.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    status, rest = run("broken")
    assert status == 0
    assert first[:2] + rest == everything
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "whole")
    assert run("broken") == (0, [])
    # Another configuration takes nothing from the log, and leaves in it what it had.
    status, other = run("broken", "--nu", "0.2")
    assert (status, other) == (0, everything)
    assert rows_of(tmp_path / "broken")["rows"] != rows_of(tmp_path / "whole")["rows"]
    assert run("broken") == (0, [])
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "whole")
    assert run("broken", "--fresh") == (0, everything)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """SIGKILL, which no program can catch, after some cells: the log has them, and none is computed again."""
    command = [sys.executable, "-m", "benchmarks.cga_convergence", *SMALL[cga_convergence], "--rounds", "1000"]
    log = tmp_path / "broken" / "cells.jsonl"
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "broken")], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and log.read_bytes().count(b"\n") >= 2):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = log.read_bytes()
    assert done.count(b"\n") >= 2
    for out in ("broken", "whole"):
        subprocess.run([*command, "--out", str(tmp_path / out)], check=True, capture_output=True)
    assert log.read_bytes().startswith(done[: done.rindex(b"\n") + 1])
    assert log.read_bytes().count(b"\n") == 19 + (not done.endswith(b"\n"))
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "whole")


def test_another_file_of_the_same_name_is_other_data(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "own.npz"
    prints = []
    for _ in range(2):
        np.savez(path, x_train=rng.integers(0, 256, (6, 2, 2)).astype(np.uint8), y_train=np.arange(6) % 3)
        prints.append(equivalence._fingerprint(str(path)))
    assert prints[0] != prints[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "options"),
    [
        (cga_convergence, ["--rounds", "100"]),
        (poisoning_cost, ["--users", "3,5,10"]),
        (equivalence, ["--data", "diabetes,iris"]),
    ],
    ids=["cga_convergence", "poisoning_cost", "equivalence"],
)
def test_a_quick_run_writes_its_files(module: Any, options: list[str], tmp_path: Path) -> None:
    assert module.main(["--quick", *options, "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["program"] == module.NAME
    assert results["rows"]
    assert "git_revision" in results["environment"]
    for suffix in ("png", "svg"):
        assert (tmp_path / f"{module.NAME}.{suffix}").stat().st_size > 1000
