r"""How badly can F Byzantine users among N mislead a learner, and how close is that to the bound of Corollary 2?

For each learner the program searches honest and Byzantine models for the largest

.. math:: C = \frac{\|\rho - \overline{\theta_H}\|}{\max_{h,h'\in H}\|\theta_h - \theta_{h'}\|},

and sets it beside F/(N - F), below which no learner can be (Corollary 2).  What the search finds is a lower bound of
the learner's true constant; "unbounded" means that it grows with the size of the attack.  The trimmed mean attains the
bound for d = 1, and ``minimax`` (:class:`solvers.learners.Minimax`) for d <= 2 and, if F = 1, for every d (claim C21).

For d > 2 the figure also shows √(2d/(d+1))·F/(N - F), below which minimax stays (claim C21; it goes back to the
expansion constant of ℝ^d, Grünbaum 1959).  Whether some learner attains F/(N - F) itself for d >= 3 and F >= 2 is open:
no search has found models for which minimax does not.

The learners of the paper (``ours``) are given so much data that the local models are the preferred ones; then ℓ2² is
the mean and ℓ2 the geometric median.

**Files** written to ``--out``: ``impossibility.png``, ``impossibility.svg``, ``results.json`` (``rows``: ``learner``,
``F``, ``N``, ``dim``, ``bound``, ``worst`` (null if ``unbounded``), ``evaluations``, ``seconds``), and ``cells.jsonl``,
the log that an interrupted run resumes from.

A default run takes two to three minutes on two processors.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import _figures, _harness, _sweep, _worst_case
from benchmarks._figures import OKABE_ITO, Series
from benchmarks._harness import ResumeLog
from benchmarks._worst_case import LEARNERS, is_defined
from theory import ShapeError
from theory.arrays import as_count
from theory.impossibility import least_constant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "impossibility"

SERIES = {
    "ours, squared_l2": Series(LEARNERS["ours, squared_l2"], OKABE_ITO["blue"], "o"),
    "ours, l2": Series(LEARNERS["ours, l2"], OKABE_ITO["vermillion"], "s", is_hollow=True),
    "ours, smooth_l2": Series(LEARNERS["ours, smooth_l2"], OKABE_ITO["green"], "^"),
    "mean": Series("mean", OKABE_ITO["black"], "x"),
    "coordinate median": Series("coordinate median", OKABE_ITO["sky_blue"], "v"),
    "geometric median": Series("geometric median", OKABE_ITO["orange"], "D"),
    "trimmed mean": Series("trimmed mean", OKABE_ITO["purple"], "P"),
    "Krum": Series("Krum", OKABE_ITO["yellow"], "h"),
    "multi-Krum": Series("multi-Krum", _figures.REFERENCE, "*"),
    "minimax": Series("minimax", OKABE_ITO["black"], "o", is_hollow=True),
}


@dataclass(frozen=True)
class Config:
    """What one run computes.

    Attributes
    ----------
    learners : tuple of str
        Names in :data:`LEARNERS`.
    users, dims : tuple of int
        The numbers N of users, and the dimensions d; F runs over 1 <= F < N/2.
    budget : int
        Evaluations of the learner for each cell.
    seed : int
    """

    learners: tuple[str, ...]
    users: tuple[int, ...]
    dims: tuple[int, ...]
    budget: int
    seed: int

    def __post_init__(self) -> None:
        for name, values, least in (("--users", self.users, 3), ("--dims", self.dims, 1)):
            if not values or len(set(values)) != len(values):
                raise ShapeError(name, "distinct integers", str(list(values)))
            for value in values:
                as_count(value, name, least)
        as_count(self.budget, "--budget", 1)
        as_count(self.seed, "--seed")

    def tasks(self) -> list[tuple[Any, ...]]:
        """Return the cells (learner, F, N, d, budget, seed) for which the learner is defined."""
        return [
            (name, F, N, d, self.budget, self.seed)
            for d in self.dims
            for N in self.users
            for F in range(1, (N + 1) // 2)
            for name in self.learners
            if is_defined(name, F, N)
        ]


@dataclass(frozen=True, eq=False)
class Results:
    """The outcome of :func:`run`; ``rows`` are described in the docstring of this module."""

    config: Config
    key: str
    rows: list[dict[str, Any]]
    wall_seconds: float


def run(config: Config, out: Path, *, jobs: int = 1, fresh: bool = False, progress: bool = False) -> Results:
    """Compute every cell that the log in ``out`` does not have yet."""
    start = time.perf_counter()
    # A cell carries its budget and seed in its task, so that the key is code and versions alone.
    key = _sweep.sweep_key(NAME, {}, _worst_case, _harness, _sweep)
    log = ResumeLog(out / _harness.LOG, key)
    if fresh:
        log.clear()
    rows = _sweep.sweep(
        _worst_case.worst_case, config.tasks(), log, name=NAME, jobs=as_count(jobs, "--jobs", 1), progress=progress
    )
    return Results(config, key, rows, time.perf_counter() - start)


# -------------------------------------------------------------------------------------------------- table, JSON, figure


def attainable(d: int) -> float:
    """Return the factor of the bound at which some learner is known to stay in dimension d: 1, or √(2d/(d + 1))."""
    return 1.0 if d <= 2 else math.sqrt(2.0 * d / (d + 1.0))


def table(results: Results) -> str:
    """Return one line for each learner and dimension: the worst C over the bound, its range over all F and N."""
    headers = ["learner", "d", "cells", "worst C / bound: least", "largest", "at the largest F/N"]
    lines = []
    for name in results.config.learners:
        for d in results.config.dims:
            own = [row for row in results.rows if row["learner"] == name and row["dim"] == d]
            if not own:
                continue
            ratios = [math.inf if row["unbounded"] else row["worst"] / row["bound"] for row in own]
            last = max(range(len(own)), key=lambda i: own[i]["bound"])
            lines.append([name, str(d), str(len(own)), *(_ratio(x) for x in (min(ratios), max(ratios), ratios[last]))])
    notes = [
        "worst C: found by search, so the learner's true constant is at least this. bound: F/(N - F), Corollary 2.",
        "unbounded: C grows with the attack, or the learner moves although all honest users agree.",
        "A ratio below 1 would contradict Corollary 2.",
    ]
    return "\n".join([_harness.format_table(headers, lines), "", *notes])


def _ratio(value: float) -> str:
    return "unbounded" if math.isinf(value) else f"{value:.4f}"


def as_json(results: Results) -> dict[str, Any]:
    """Return the content of ``results.json``."""
    rows = [{name: value for name, value in row.items() if name != "task"} for row in results.rows]
    return {
        "program": f"benchmarks.{NAME}",
        "key": results.key,
        "config": dataclasses.asdict(results.config),
        "rows": rows,
        "seeds": {"seed": results.config.seed, "key": ["learner", "F", "N", "d"]},
        "timing": {"wall_seconds": results.wall_seconds, "search_seconds": sum(row["seconds"] for row in rows)},
        "environment": _harness.environment(),
    }


def draw(results: Results) -> Figure:
    """Return the figure: the worst C found over the bound, one panel for each dimension."""
    from matplotlib.figure import Figure

    dims = results.config.dims
    figure = Figure(figsize=(2.9 * len(dims) + 0.6, 4.3), layout="constrained")
    axes = figure.subplots(1, len(dims), sharex=True, sharey=True, squeeze=False)[0]
    finite = [row["worst"] / row["bound"] for row in results.rows if not row["unbounded"]]
    top = 2.0 * max([*finite, 2.0])
    for panel, d in zip(axes, dims, strict=True):
        _draw_panel(panel, results, d, top)
    axes[0].set_ylabel("worst $C$ found, divided by $F/(N-F)$")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, columnspacing=1.4, handletextpad=0.5)
    return figure


def _draw_panel(axes: Axes, results: Results, d: int, top: float) -> None:
    rows = [row for row in results.rows if row["dim"] == d]
    bounds = sorted({row["bound"] for row in rows})
    low, high = bounds[0] / 1.2, bounds[-1] * 1.2
    least = 0.7
    axes.axhspan(least, 1.0, color="#DDDDDD", linewidth=0, zorder=0.5)
    axes.axhline(1.0, color=_figures.REFERENCE, linewidth=1.0, zorder=1, label="bound of Corollary 2")
    grey: dict[str, Any] = {"fontsize": 7, "ha": "right", "va": "center", "color": _figures.REFERENCE}
    axes.annotate("excluded by Corollary 2", (high / 1.03, math.sqrt(least)), **grey)
    label = "known to be attainable"
    axes.axhline(attainable(d), color=_figures.REFERENCE, linewidth=0.9, linestyle=":", zorder=1, label=label)
    names = results.config.learners
    for i, name in enumerate(names):
        own = [row for row in rows if row["learner"] == name]
        # Side by side, so that no marker hides another.
        shift = 1.025 ** (i - (len(names) - 1) / 2)
        x = [row["bound"] * shift for row in own]
        y = [top if row["unbounded"] else row["worst"] / row["bound"] for row in own]
        look = SERIES[name].line() | {"linestyle": "none", "markersize": 4.0, "markeredgewidth": 0.8}
        look.pop("dashes")
        axes.plot(x, y, label=SERIES[name].label, zorder=3, **look)
    axes.axhline(top / 1.25, color=_figures.REFERENCE, linewidth=0.6, linestyle="--")
    axes.annotate("unbounded", (low * 1.03, top * 1.13), fontsize=7.5, color=_figures.REFERENCE)
    axes.set(xscale="log", yscale="log", xlabel="$F/(N-F)$", title=f"$d = {d}$")
    # Plain numbers, where powers of ten would be too far apart.
    for axis, places in ((axes.xaxis, (0.1, 0.2, 0.5)), (axes.yaxis, (1, 2, 5, 10, 20))):
        axis.set_ticks([x for x in places if x < top / 1.25], labels=[f"{x:g}" for x in places if x < top / 1.25])
    axes.minorticks_off()
    axes.set(xlim=(low, high), ylim=(least, top * 1.5))


def write(results: Results, out: Path) -> list[Path]:
    """Write figure and JSON into ``out``; return the paths."""
    json_path = out / "results.json"
    _harness.write_json(json_path, as_json(results))
    with _figures.style():
        png, svg = _figures.save(draw(results), out, NAME)
    return [png, svg, json_path]


# -------------------------------------------------------------------------------------------------------- command line

_FULL: dict[str, Any] = {"users": tuple(range(3, 12)), "dims": (1, 2, 5), "budget": 200}
_QUICK: dict[str, Any] = {"users": (3, 5, 7, 10), "dims": (1, 2), "budget": 150}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = _harness.Parser(
        prog=f"python -m benchmarks.{NAME}",
        description="How badly can F of N users mislead each learner, against the bound F/(N - F) of Corollary 2?  An "
        "interrupted run goes on where it stopped when the same command is given again.",
    )
    options.add_argument("--learners", help="names, separated by semicolons (all)")
    options.add_argument("--users", help=f"the numbers N of users ({_text(_FULL['users'])})")
    options.add_argument("--dims", help=f"the dimensions ({_text(_FULL['dims'])})")
    options.add_argument("--budget", type=int, help=f"evaluations of a learner for each cell ({_FULL['budget']})")
    _harness.add_run_options(
        options, NAME, quick="fewer users, dimensions and evaluations", seed="seed of the search", jobs=None
    )
    return options


def _text(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def config_from(options: argparse.Namespace) -> Config:
    """Return the configuration that the options ask for."""
    preset = _QUICK if options.quick else _FULL
    names = tuple(LEARNERS)
    if options.learners is not None:
        asked = [name.strip() for name in options.learners.split(";")]
        for name in asked:
            if name not in LEARNERS:
                raise ShapeError("--learners", f"names among {'; '.join(LEARNERS)}", repr(name))
        names = tuple(name for name in LEARNERS if name in asked)
    return Config(
        learners=names,
        users=preset["users"] if options.users is None else _harness.parse_integers(options.users, "--users"),
        dims=preset["dims"] if options.dims is None else _harness.parse_integers(options.dims, "--dims"),
        budget=preset["budget"] if options.budget is None else options.budget,
        seed=options.seed,
    )


@_harness.command_line
def main(argv: list[str] | None = None) -> int:
    """Run the program; return 0, 2 for bad input, 130 if interrupted."""
    options = parser().parse_args(argv)
    config = config_from(options)
    jobs = _harness.jobs_of(options)
    out = _harness.make_folder(options.out)
    least, most = least_constant(1, max(config.users)), max(row[1] / (row[2] - row[1]) for row in config.tasks())
    print(f"{len(config.tasks())} cells, F/(N - F) from {least:.3g} to {most:.3g}, seed {config.seed}")
    with _harness.resumable(out):
        results = run(config, out, jobs=jobs, fresh=options.fresh, progress=True)
    print(f"\n{table(results)}\n")
    print("wrote " + ", ".join(str(path) for path in write(results, out)))
    print(f"{results.wall_seconds:.1f} s")
    return _harness.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
