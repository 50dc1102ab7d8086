"""The three programs of the equivalence: what they report is what the packages compute, and bad input is named."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import cga_convergence, equivalence, poisoning_cost
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


def test_the_three_attacks_meet_on_real_data() -> None:
    row = equivalence.run_one(EQUIVALENCE, "iris")
    for key in ("distance_gradient", "distance_model", "distance_data", "certified_data", "certified_model"):
        assert row[key] < 1e-8
    assert row["bound"] <= row["points"] <= 1.1 * row["bound"]
    assert row["curve_gradient"][0] > 1.0
    few = equivalence.run_one(dataclasses.replace(EQUIVALENCE, max_points=3), "iris")
    assert few["points"] is None
    assert "points are needed" in few["reason"]
    assert "points are needed" in equivalence.table([few])
    assert few["planned_points"] == row["points"]
    assert few["planned_distinct"] < 20
    assert few["planned_residual"] < 1e-10
    assert f"{row['points']:,} points" in equivalence.table([few])


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
