"""The main job: its numbers against independent ones, its resuming, its statistics, its files and its refusals."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from benchmarks import _pac_cells, pac_scaling
from benchmarks._pac_cells import LOSSES, REGULARIZERS, Scene, Setting
from benchmarks._queries import query_source
from benchmarks.pac_scaling import Config, LimitLaw, Results, main, run
from theory import AssumptionError, Problem, ShapeError, SolverError, UserDataset

SETTING = Setting(
    n_users=4,
    n_honest=2,
    sizes=(4, 12, 40),
    lam=0.7,
    nu=0.3,
    noise=0.5,
    norm=1.5,
    adversary="opposite",
    n_adversarial=6,
    strength=10.0,
    seed=5,
)
CONFIG = Config(SETTING, losses=tuple(LOSSES), regs=tuple(REGULARIZERS), replicates=3, epsilon=0.5)
SOURCE = query_source("cube", dim=2)
PROBLEM = ["--users", "3", "--honest", "1", "--dim", "2", "--adversarial-data", "5"]
OPTIONS = [*PROBLEM, "--sizes", "4,12,40", "--replicates", "2", "--jobs", "1"]


def changed(**fields: Any) -> Config:
    return dataclasses.replace(CONFIG, setting=dataclasses.replace(SETTING, **fields))


def numbers(results: Results) -> str:
    """Return all numbers of a run as text: equal texts are equal bits."""
    return json.dumps([results.rows, results.fits, results.largest_residual, results.largest_certified_distance])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """A whole run with two workers, and its folder."""
    out = tmp_path_factory.mktemp("finished")
    return out, run(CONFIG, SOURCE, out, jobs=2)


@pytest.fixture
def scene() -> Scene:
    return Scene.build(SETTING, SOURCE, CONFIG.losses)


# ---------------------------------------------------------------------------------------------- the numbers of one cell


def quadratic_minimum(problem: Problem) -> np.ndarray:
    """Solve the stationarity equations of least squares with ℓ2² as one dense linear system."""
    N, d, lam = problem.n_users, problem.dim, problem.reg.lam  # type: ignore[attr-defined]
    K, b = np.zeros(((N + 1) * d, (N + 1) * d)), np.zeros((N + 1) * d)
    K[:d, :d] = 2 * lam * N * np.eye(d)
    for n, user in enumerate(problem.users):
        rows = slice((n + 1) * d, (n + 2) * d)
        K[rows, rows] = user.Q.T @ user.Q + 2 * (lam + problem.nu) * np.eye(d)
        K[rows, :d] = K[:d, rows] = -2 * lam * np.eye(d)
        b[rows] = user.Q.T @ user.A
    return np.linalg.solve(K, b).reshape(N + 1, d)


def captured_problems(scene: Scene, loss: str, reg: str, monkeypatch: pytest.MonkeyPatch) -> dict[int, list[Problem]]:
    """Return the problems that two replicates solve."""
    solve = _pac_cells.minimize
    seen: list[Problem] = []

    def remember(problem: Problem) -> Any:
        seen.append(problem)
        return solve(problem)

    monkeypatch.setattr(_pac_cells, "minimize", remember)
    found = {}
    for replicate in (0, 1):
        seen.clear()
        _pac_cells.solve_replicate(scene, loss, [reg], replicate)
        found[replicate] = list(seen)
    return found


def test_errors_and_shifts_agree_with_a_dense_solve(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = captured_problems(scene, "linear", "squared_l2", monkeypatch)[0]
    (cell,) = _pac_cells.solve_replicate(scene, "linear", ["squared_l2"], 0)
    for k, problem in enumerate(problems):
        rho, *thetas = quadratic_minimum(problem)
        for h in range(SETTING.n_honest):
            assert cell["errors"][k][h] == pytest.approx(np.linalg.norm(thetas[h] - scene.models[h]), rel=1e-9)
            # For the cube of half-width √3, Σ = I; the force is what the regularization exerts (eqs 162-163).
            force = -2 * SETTING.nu * thetas[h] - 2 * SETTING.lam * (thetas[h] - rho)
            assert cell["shifts"][k][h] == pytest.approx(np.linalg.norm(force) / SETTING.sizes[k], rel=1e-9)


def test_the_first_replicate_is_certified(
    finished: tuple[Path, Results], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = captured_problems(scene, "linear", "squared_l2", monkeypatch)
    solutions = [_pac_cells.minimize(problem) for problem in problems[0]]
    bound = max(solution.certificate.theta_distance_bound for solution in solutions)
    for problem, solution in zip(problems[0], solutions, strict=True):
        # The dense solve is itself exact to its condition number (below 1e4) times a few eps only.
        assert np.linalg.norm(quadratic_minimum(problem)[1:] - solution.thetas) <= bound + 1e-11
    first, second = (_pac_cells.solve_replicate(scene, "linear", ["squared_l2"], replicate)[0] for replicate in (0, 1))
    assert first["certified"] == bound > 0.0
    assert second["certified"] is None
    assert finished[1].largest_certified_distance is not None
    assert bound <= finished[1].largest_certified_distance < 1e-9


def test_one_cell_without_a_bound_leaves_the_run_without_one() -> None:
    assert pac_scaling._largest([1e-12, 3e-12]) == 3e-12
    assert pac_scaling._largest([1e-12, None]) is None


@pytest.mark.parametrize("loss", LOSSES)
def test_sizes_are_nested_and_the_others_never_change(scene: Scene, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = captured_problems(scene, loss, "squared_l2", monkeypatch)
    largest = problems[0][-1]
    for replicate in (0, 1):
        for size, problem in zip(SETTING.sizes, problems[replicate], strict=True):
            for h in range(SETTING.n_honest):
                whole = problems[replicate][-1].users[h]
                np.testing.assert_array_equal(problem.users[h].Q, whole.Q[:size])
                np.testing.assert_array_equal(problem.users[h].A, whole.A[:size])
            for other, same in zip(problem.users[SETTING.n_honest :], largest.users[SETTING.n_honest :], strict=True):
                np.testing.assert_array_equal(other.Q, same.Q)
                np.testing.assert_array_equal(other.A, same.A)
    samples = [problems[r][-1].users[h].Q.tobytes() for r in (0, 1) for h in range(SETTING.n_honest)]
    assert len(set(samples)) == 4


def test_honest_answers_follow_the_preferred_model(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = dataclasses.replace(scene, setting=dataclasses.replace(SETTING, noise=0.0))
    users = captured_problems(silent, "linear", "squared_l2", monkeypatch)[0][-1].users
    for h in range(SETTING.n_honest):
        np.testing.assert_allclose(users[h].A, users[h].Q @ scene.models[h], rtol=1e-12)
        assert np.linalg.norm(scene.models[h]) == pytest.approx(SETTING.norm, rel=1e-14)


def test_without_noise_pull_and_others_the_error_vanishes() -> None:
    setting = dataclasses.replace(SETTING, noise=0.0, nu=0.0, adversary="none", n_honest=1, sizes=(40,))
    scene = Scene.build(setting, SOURCE, ["linear"])
    for cell in _pac_cells.solve_replicate(scene, "linear", list(REGULARIZERS), 0):
        # The solver reaches a relative gradient of about 1e-13, and the curvature of 40 data is some 40.
        assert cell["errors"][0][0] < 1e-11


# ------------------------------------------------------------------------------------------------ what the others hold


@pytest.mark.parametrize("adversary", ["opposite", "outliers"])
@pytest.mark.parametrize("loss", LOSSES)
def test_each_of_the_others_works_against_an_honest_user(adversary: str, loss: str) -> None:
    setting = dataclasses.replace(SETTING, n_users=5, adversary=adversary)
    scene = Scene.build(setting, SOURCE, [loss])
    for j, user in enumerate(scene.others[loss]):
        margin = user.Q @ scene.models[j % 2]
        assert (np.sign(user.A) == -np.sign(margin)).all()
        if loss == "logistic":
            assert set(np.abs(user.A)) == {1.0}
            assert (np.abs(user.Q).max() > 100.0) == (adversary == "outliers")
        elif adversary == "outliers":
            assert set(np.abs(user.A)) == {1e4}
        else:
            np.testing.assert_allclose(user.A, -10.0 * margin, rtol=1e-12)


def test_others_without_data_hold_none() -> None:
    scene = Scene.build(dataclasses.replace(SETTING, adversary="none"), SOURCE, ["linear"])
    assert [user.n_data for user in scene.others["linear"]] == [0, 0]


# ------------------------------------------------------------------------------------------------------- the limit law


@pytest.mark.parametrize("n_honest", [1, 3])
def test_the_limit_constant_is_the_median_of_the_largest_gaussian(n_honest: int) -> None:
    setting = dataclasses.replace(SETTING, n_honest=n_honest, n_users=n_honest + 1)
    scene = Scene.build(setting, query_source("cube", dim=1), ["linear"])
    # P[max_h |Z_h| <= c] = (2Φ(c) - 1)^H = 1/2.
    exact = setting.noise * norm.ppf(0.5 + 0.5 ** (1 + 1 / n_honest))
    # The median of 40,000 draws: relative standard error below 0.6 %.
    assert _pac_cells.limit_constant(scene, "linear") == pytest.approx(exact, rel=0.025)


def test_the_expected_hessian_of_logistic_regression() -> None:
    setting = dataclasses.replace(SETTING, n_honest=1)
    scene = Scene.build(setting, query_source("gaussian", dim=1), ["logistic"])
    theta = float(scene.models[0, 0])
    exact, _ = quad(lambda q: q**2 * expit(q * theta) * expit(-q * theta) * norm.pdf(q), -12, 12)
    # q² φ'' <= q²/4 has a standard deviation below 0.25, over 200,000 draws.
    assert scene.curvatures["logistic"][0, 0, 0] == pytest.approx(exact, abs=5 * 0.25 / np.sqrt(200_000))


def test_the_expected_hessian_of_a_data_set_is_the_mean_over_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n-2,0.5\n3,1\n")
    source = query_source(str(path), scaling="none")
    scene = Scene.build(SETTING, source, ["logistic"])
    rows = np.array([[1.0, 2.0], [-2.0, 0.5], [3.0, 1.0]])
    for h, model in enumerate(scene.models):
        weights = expit(rows @ model) * expit(-rows @ model)
        np.testing.assert_allclose(scene.curvatures["logistic"][h], (rows.T * weights) @ rows / 3, rtol=1e-13)


def test_the_leverage_of_a_sphere_is_its_dimension_and_of_a_lonely_row_the_number_of_rows(tmp_path: Path) -> None:
    sphere = Scene.build(SETTING, query_source("sphere", dim=3), ["linear"])
    np.testing.assert_allclose(_pac_cells.leverage(sphere, "linear"), 3.0, rtol=1e-12)
    path = tmp_path / "rows.csv"
    path.write_text("common,rare\n" + "1,0\n" * 49 + "0,1\n")
    rare = Scene.build(SETTING, query_source(str(path), scaling="none"), ["linear"])
    np.testing.assert_allclose(_pac_cells.leverage(rare, "linear"), (2.0, 50.0), rtol=1e-12)


# ------------------------------------------------------------------------------------------------------------ resuming


def test_a_run_does_not_depend_on_the_number_of_jobs(finished: tuple[Path, Results], tmp_path: Path) -> None:
    assert numbers(run(CONFIG, SOURCE, tmp_path, jobs=1)) == numbers(finished[1])


@pytest.mark.parametrize("kept", [0.35, 0.8])
def test_an_interrupted_run_ends_with_the_same_numbers(
    kept: float, finished: tuple[Path, Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = (finished[0] / "cells.jsonl").read_bytes()
    # Cut in the middle of a line, as a process that is killed leaves it.
    cut = written.index(b"errors", int(kept * len(written))) + 20
    (tmp_path / "cells.jsonl").write_bytes(written[:cut])
    n_whole = written[:cut].count(b"\n")
    computed: list[tuple[str, str, int]] = []
    append = pac_scaling.ResumeLog.append

    def count(log: pac_scaling.ResumeLog, row: dict[str, Any]) -> None:
        computed.append((row["loss"], row["reg"], row["replicate"]))
        append(log, row)

    monkeypatch.setattr(pac_scaling.ResumeLog, "append", count)
    assert numbers(run(CONFIG, SOURCE, tmp_path, jobs=1)) == numbers(finished[1])
    assert len(computed) == len(set(computed)) == 2 * 3 * 3 - n_whole
    computed.clear()
    run(CONFIG, SOURCE, tmp_path, jobs=1)
    assert not computed
    assert len((tmp_path / "cells.jsonl").read_bytes().splitlines()) == 2 * 3 * 3 + 1


def test_rows_of_a_damaged_log_are_not_believed(finished: tuple[Path, Results], tmp_path: Path) -> None:
    lines = (finished[0] / "cells.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["errors"] = rows[0]["errors"][:-1]
    rows[1].pop("shifts")
    rows[2]["residual"] = "small"
    rows[3]["reg"] = "unknown"
    rows[4]["errors"][0][0] = float("nan")
    rows[5]["certified"] = "small"
    log = pac_scaling.ResumeLog(tmp_path / "cells.jsonl", finished[1].key)
    log.path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(pac_scaling.finished_cells(log, CONFIG)) == len(rows) - 6


CHANGES: list[dict[str, Any]] = [
    {"lam": 0.71},
    {"nu": 0.31},
    {"noise": 0.6},
    {"norm": 1.4},
    {"seed": 6},
    {"sizes": (4, 12, 41)},
    {"adversary": "none"},
    {"n_adversarial": 7},
    {"strength": 9.0},
    {"n_users": 5},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_a_changed_configuration_reuses_no_row(change: dict[str, Any], finished: tuple[Path, Results]) -> None:
    assert not reused(changed(**change), finished[0])


def reused(config: Config, folder: Path, source: Any = SOURCE) -> pac_scaling.Cells:
    log = pac_scaling.ResumeLog(folder / "cells.jsonl", pac_scaling.run_key(config, source))
    return pac_scaling.finished_cells(log, config)


def test_changed_queries_versions_and_code_reuse_no_row(
    finished: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(reused(CONFIG, finished[0])) == 18
    assert not reused(CONFIG, finished[0], query_source("sphere", dim=2))
    with monkeypatch.context() as patch:
        patch.setattr(pac_scaling._harness, "versions", lambda: {"equipoise": "0.0.0"})
        assert not reused(CONFIG, finished[0])
    with monkeypatch.context() as patch:
        patch.setattr(pac_scaling._harness, "code_key", lambda *roots: "other code")
        assert not reused(CONFIG, finished[0])


def test_a_key_that_forgets_the_setting_is_caught(
    finished: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pac_scaling, "run_key", lambda config, source: finished[1].key)
    caught = [change for change in CHANGES if reused(changed(**change), finished[0])]
    assert caught == CHANGES


def test_more_replicates_keep_the_rows_that_are_there(finished: tuple[Path, Results]) -> None:
    more = dataclasses.replace(CONFIG, replicates=5, epsilon=0.1, regs=("l2",))
    cells = reused(more, finished[0])
    assert len(cells) == 6
    tasks = pac_scaling.missing_tasks(more, cells)
    assert tasks == [(loss, ("l2",), replicate) for replicate in (3, 4) for loss in ("logistic", "linear")]


def test_fresh_forgets_the_log(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, losses=("linear",), regs=("squared_l2",), replicates=1)
    first = run(config, SOURCE, tmp_path)
    path = tmp_path / "cells.jsonl"
    row = json.loads(path.read_text())
    row["errors"][0][0] = 1e6
    path.write_text(json.dumps(row) + "\n")
    assert run(config, SOURCE, tmp_path).rows[0]["median"] == 1e6
    assert numbers(run(config, SOURCE, tmp_path, fresh=True)) == numbers(first)


def test_a_problem_without_a_minimum_is_reported_with_its_cell(tmp_path: Path) -> None:
    # Without ν, a handful of separable labels has no minimum.
    setting = dataclasses.replace(SETTING, nu=0.0, adversary="opposite", sizes=(1,), n_honest=1, n_users=2)
    config = dataclasses.replace(CONFIG, setting=setting, losses=("logistic",), regs=("squared_l2",), replicates=1)
    with pytest.raises(SolverError, match=r"logistic with squared_l2 and 1 honest data: "):
        run(config, query_source("cube", dim=3), tmp_path)


# ---------------------------------------------------------------------------------------------------------- statistics


def planted_cells(exponent: float, n_replicates: int, sizes: np.ndarray) -> tuple[Config, pac_scaling.Cells]:
    """Return cells whose second honest user errs like ℐ^exponent, with noise, and the first not at all."""
    setting = dataclasses.replace(SETTING, sizes=tuple(int(size) for size in sizes))
    config = Config(setting, ("linear",), ("l2",), n_replicates, epsilon=0.1)
    rng = np.random.default_rng(3)
    cells: pac_scaling.Cells = {}
    for replicate in range(n_replicates):
        worst = sizes**exponent * np.exp(0.2 * rng.standard_normal(sizes.size))
        errors = [[0.0, float(error)] for error in worst]
        cells["linear", "l2", replicate] = {"errors": errors, "shifts": [[0.0, 1e-9]] * sizes.size}
    return config, cells


@pytest.mark.parametrize("exponent", [-1 / 2, -1 / 3])
def test_the_summary_recovers_a_planted_rate(exponent: float) -> None:
    sizes = np.array([10.0, 100.0, 1000.0, 10_000.0, 100_000.0])
    config, cells = planted_cells(exponent, 40, sizes)
    rows, (fit,) = pac_scaling.summarize(config, Scene.build(config.setting, SOURCE, ("linear",)), cells)
    assert fit["slope_low"] <= exponent <= fit["slope_high"]
    assert fit["slope_low"] < fit["slope"] < fit["slope_high"]
    assert not fit["slope_low"] <= -5 / 6 - exponent <= fit["slope_high"]
    assert fit["in_limit_regime"]
    assert (fit["fit_from"], fit["fit_to"], fit["fit_sizes"]) == (1000, 100_000, 3)
    for k, row in enumerate(rows):
        worst = np.array([cell["errors"][k][1] for cell in cells.values()])
        assert row["median"] == np.median(worst)
        assert row["successes"] == np.sum(worst <= 0.1)
        assert row["success_low"] < row["success"] < row["success_high"] or row["successes"] in (0, 40)
        assert row["q10"] < row["median"] < row["q90"]


def test_an_error_of_exactly_epsilon_is_a_success() -> None:
    config, cells = planted_cells(0.0, 2, np.array([10.0]))
    cells["linear", "l2", 0]["errors"] = [[0.1, 0.1]]
    cells["linear", "l2", 1]["errors"] = [[0.0, np.nextafter(0.1, 1.0)]]
    (row,), _ = pac_scaling.summarize(config, Scene.build(config.setting, SOURCE, ("linear",)), cells)
    assert row["successes"] == 1


SIZES = np.array([10.0, 100.0, 1000.0, 10_000.0, 100_000.0])


@pytest.mark.parametrize(
    ("shift", "least", "constant", "expected"),
    [
        (0.0, 1.0, 1.0, (0, True)),  # nothing in the way: every size
        (0.0, 11.0, 1.0, (1, True)),  # too few data at the first
        (2.5, 1.0, 1.0, (1, True)),  # 2.5/ℐ <= 1/(4√ℐ) from ℐ = 100 on
        (2.51, 1.0, 1.0, (2, True)),
        (1e4, 1.0, 1.0, (2, False)),  # the pull still dominates
        (0.0, 1e5, 1.0, (2, False)),  # too few data almost everywhere
        (1e4, 1.0, 0.0, (0, True)),  # without noise there is nothing but the shift
    ],
)
def test_the_range_of_the_fit(shift: float, least: float, constant: float, expected: tuple[int, bool]) -> None:
    assert pac_scaling.fit_range(SIZES, shift / SIZES, LimitLaw(constant, least)) == expected


# --------------------------------------------------------------------------------------------------------------- files


def documented(section: str) -> set[str]:
    """Return the words in double backquotes of one entry of the module's docstring."""
    text = (pac_scaling.__doc__ or "").split(f"``{section}``\n")[1].split("\n``")[0]
    return set(text.split("``")[1::2])


def test_the_command_writes_figure_json_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    assert main([*OPTIONS, "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert {path.name for path in out.iterdir()} == {
        "pac_scaling.png",
        "pac_scaling.svg",
        "results.json",
        "cells.jsonl",
    }
    assert (out / "pac_scaling.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert ElementTree.parse(out / "pac_scaling.svg").getroot().tag.endswith("svg")
    content = json.loads((out / "results.json").read_text())
    assert len(content["rows"]) == 2 * 3 * 3
    assert len(content["fits"]) == 2 * 3
    assert "-1/2 is the central limit rate, an equality in the limit" in shown.out
    assert "Eq. 168 with alpha = 3/4 gives only the upper bound exponent -1/4" in shown.out
    assert "100%" in shown.err
    for fit in content["fits"]:
        line = next(line for line in shown.out.splitlines() if line.split()[:2] == [fit["loss"], fit["reg"]])
        assert f"{fit['slope']:+.3f}" in line


def test_the_json_holds_what_the_docstring_says(finished: tuple[Path, Results]) -> None:
    content = json.loads(json.dumps(pac_scaling.as_json(finished[1]), allow_nan=False))
    assert set(content["rows"][0]) == documented("rows")
    assert set(content["fits"][0]) - {"loss", "reg", "level"} == documented("fits")
    for section in ("solver", "queries", "timing"):
        assert documented(section) == set(content[section])
    assert {"python", "packages", "git_revision", "processor", "blas", "threads_per_worker"} <= set(
        content["environment"]
    )
    assert content["config"]["lam"] == SETTING.lam
    assert content["config"]["sizes"] == list(SETTING.sizes)


def test_the_figure_draws_the_rows(finished: tuple[Path, Results]) -> None:
    results = finished[1]
    figure = pac_scaling.draw(results)
    assert isinstance(figure, Figure)
    errors, success = figure.axes[:2], figure.axes[2:]
    for loss, above, below in zip(CONFIG.losses, errors, success, strict=True):
        assert (above.get_xscale(), above.get_yscale(), below.get_xscale()) == ("log", "log", "log")
        for reg, line, frequency in zip(CONFIG.regs, above.lines, below.lines, strict=False):
            rows = [row for row in results.rows if (row["loss"], row["reg"]) == (loss, reg)]
            np.testing.assert_array_equal(line.get_xdata(), SETTING.sizes)
            np.testing.assert_array_equal(line.get_ydata(), [row["median"] for row in rows])
            np.testing.assert_array_equal(frequency.get_ydata(), [row["success"] for row in rows])
        limit = above.lines[len(CONFIG.regs)]
        slopes = np.diff(np.log(limit.get_ydata())) / np.diff(np.log(SETTING.sizes))
        np.testing.assert_allclose(slopes, -0.5, rtol=1e-12)
    looks = {(line.get_color(), line.get_marker()) for line in errors[0].lines[:3]}
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == 3


def test_the_same_numbers_give_the_same_svg(finished: tuple[Path, Results], tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pac_scaling.write(finished[1], tmp_path / name)
    assert (tmp_path / "one/pac_scaling.svg").read_bytes() == (tmp_path / "two/pac_scaling.svg").read_bytes()


def test_an_interrupted_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pac_scaling._harness, "run_tasks", interrupt)
    assert main([*OPTIONS, "--out", str(tmp_path)]) == 130
    assert "the same command goes on from there" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------- options


def configured(text: str) -> Config:
    return pac_scaling.config_from(pac_scaling.parser().parse_args(text.split()))


def test_the_default_goes_from_10_to_100000_and_quick_does_less() -> None:
    full, quick = configured(""), configured("--quick")
    assert full.setting.sizes[0] == quick.setting.sizes[0] == 10
    assert full.setting.sizes[-1] == 100_000
    assert full.losses == ("linear", "logistic")
    assert full.regs == ("squared_l2", "l2", "smooth_l2")
    assert quick.replicates * sum(quick.setting.sizes) < 0.03 * full.replicates * sum(full.setting.sizes)
    assert dataclasses.replace(quick.setting, sizes=full.setting.sizes) == full.setting


def test_explicit_options_win_over_quick() -> None:
    config = configured("--quick --replicates 7 --max-data 500")
    assert config.replicates == 7
    assert config.setting.sizes == (10, 20, 50, 100, 200, 500)


REFUSED = {
    "no one else": ("--users 2 --honest 2", "--users: expected more users than the 2 honest ones, found 2"),
    "nobody honest": ("--honest 0", "--honest: expected an integer >= 1, found 0"),
    "sizes that fall": ("--sizes 10,5", "--sizes: expected positive integers, each larger than the one before"),
    "sizes that repeat": ("--sizes 10,10", "--sizes: expected positive integers, each larger than the one before"),
    "size zero": ("--sizes 0,10", "--sizes: expected positive integers, each larger than the one before"),
    "sizes of text": ("--sizes ten", "--sizes: expected integers separated by commas, found 'ten'"),
    "two kinds of sizes": (
        "--sizes 10,20 --max-data 100",
        "--sizes: expected either --sizes or --max-data, found both",
    ),
    "too few data": ("--max-data 9", "--max-data: expected an integer >= 10, found 9"),
    "lam": ("--lam 0", "--lam = 0.0"),
    "lam NaN": ("--lam nan", "--lam = nan"),
    "nu": ("--nu -1", "--nu = -1.0"),
    "noise": ("--noise inf", "--noise = inf"),
    "epsilon": ("--epsilon 0", "--epsilon = 0.0"),
    "strength": ("--strength -2", "--strength = -2.0"),
    "norm": ("--norm 0", "--norm = 0.0"),
    "replicates": ("--replicates 0", "--replicates: expected an integer >= 1, found 0"),
    "seed": ("--seed -1", "--seed: expected an integer >= 0, found -1"),
    "jobs": ("--jobs 0", "--jobs: expected an integer >= 1, found 0"),
    "loss": ("--loss quadratic", "--loss: expected names among linear, logistic"),
    "regularizer": ("--reg l1", "--reg: expected names among squared_l2, l2, smooth_l2"),
    "adversary": ("--adversary kind", "--adversary: expected one of opposite, outliers, none, found 'kind'"),
    "adversarial data": ("--adversarial-data 0", "--adversarial-data: expected an integer >= 1, found 0"),
    "data set": ("--queries mnist", "--queries: expected one of"),
    "file": ("--queries absent.parquet", "--queries: expected a file that exists, found 'absent.parquet'"),
    "not a number": ("--users many", "invalid int value: 'many'"),
    "unknown option": ("--colour blue", "unrecognized arguments"),
    "fresh and resume": ("--fresh --resume", "not allowed with argument"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_option_is_one_line_and_exit_code_2(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options, expected = REFUSED[case]
    assert main(options.split()) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert expected in shown.err
    assert not list(tmp_path.iterdir())


def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n3,nan\n")
    assert main(["--queries", str(path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "error: rows.csv, column 'b': expected finite numbers, found nan in row 2\n"
    assert main(["--queries", str(path), "--columns", "a,c", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "error: rows.csv: expected a column named 'c', found the columns a, b\n"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([*OPTIONS, "--out", str(tmp_path / "file" / "folder")]) == 2
    assert "--out: expected a folder that can be made" in capsys.readouterr().err


def test_rows_of_a_file_are_the_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,kind\n1,2,x\n-2,0.5,y\n3,1,x\n")
    source = query_source(str(path), target="kind", scaling="none")
    scene = Scene.build(SETTING, source, ["linear"])
    users = captured_problems(scene, "linear", "squared_l2", monkeypatch)[0][-1].users
    rows = {(1.0, 2.0), (-2.0, 0.5), (3.0, 1.0)}
    assert {tuple(query) for user in users for query in user.Q} == rows


def test_the_default_keeps_within_a_gigabyte() -> None:
    setting = configured("").setting
    assert pac_scaling.jobs_within_memory(None, setting, 10)[0] == min(2, pac_scaling._harness.available_processors())
    jobs, note = pac_scaling.jobs_within_memory(None, dataclasses.replace(setting, n_honest=9), 61)
    assert jobs == 1
    assert note is not None
    assert pac_scaling.jobs_within_memory(3, setting, 10) == (3, None)


def test_settings_refuse_what_a_hypothesis_excludes() -> None:
    with pytest.raises(AssumptionError, match="--lam = -1"):
        changed(lam=-1.0)
    with pytest.raises(ShapeError, match="--sizes"):
        changed(sizes=())
    with pytest.raises(ShapeError, match="--users"):
        changed(n_users=True)


def test_the_solver_warms_up_once_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pac_cells, "_WARM_UP", {})
    solved: list[tuple[UserDataset, ...]] = []
    solve = _pac_cells.minimize
    monkeypatch.setattr(_pac_cells, "minimize", lambda problem: (solved.append(problem.users), solve(problem))[1])
    first, second = (_pac_cells._warm_up("linear", "l2") for _ in range(2))
    assert first > 0.0
    assert second == 0.0
    assert len(solved) == 1
