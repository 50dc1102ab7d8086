r"""``python -m benchmarks.solver_speed``: how fast the exact solvers are, beside their peers and the physical limit.

Everything is measured in this process, and what is compared takes turns.  For each size, loss and regularizer: median
and spread of the wall time over at least five runs, the residual that was reached (‖gradient‖ relative to that at 0),
and the ratios to the *BLAS limit* (each user's Gram product and Cholesky factor, same threads) and to our time.  Peers
are a plain NumPy loop, SciPy's L-BFGS-B and trust-ncg on our compiled evaluations, and CVXPY with Clarabel; one that
does not reach the accuracy is reported with the accuracy that it reached, and one that is slow is run fewer times, or
not at all, and its row says so (``--peer-seconds``).  Then come the certificates, how the cost grows with N, d and ℐ
(fitted exponents beside the expected ones), many small problems, users that are read one at a time, and compilation.

An interrupted run goes on where it stopped when the same command is given again; ``--fresh`` starts anew.
``--stream-users 1000000`` reads a million users.  ``results.json`` holds ``config``, ``environment``, ``goals`` (what
the solvers are meant to reach, and whether they do) and the cells of each section.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import _harness, _peers, _speed_cells, _streams, _sweep
from benchmarks._figures import OKABE_ITO, REFERENCE, REGULARIZER_SERIES, save, style
from benchmarks._harness import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    Parser,
    ResumeLog,
    available_processors,
    command_line,
    environment,
    format_table,
    make_folder,
    parse_integers,
    parse_names,
    write_json,
)
from benchmarks._speed_cells import GROWTH, LOSSES, REGULARIZERS, Row, Size
from solvers._parallel import n_threads
from theory import ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "solver_speed"
SECTIONS = ("problems", "growth", "batches", "streams", "compilation")
SIZES: tuple[Size, ...] = ((10, 20, 100), (100, 50, 200), (100, 50, 1000), (1000, 100, 1000), (10000, 20, 50))
QUICK: tuple[Size, ...] = ((10, 20, 100), (30, 20, 100))
BATCHES = {"squared_l2": 20_000, "nested to 100,000": 200, "smooth_l2": 20_000, "logistic": 200}
_MANY_BYTES = 2e8
SOURCES = ("ready", "iterator", "Parquet")

Cells = dict[str, list[Row]]


@dataclass(frozen=True)
class Config:
    """Everything that decides what is measured."""

    sizes: tuple[Size, ...] = SIZES
    losses: tuple[str, ...] = tuple(LOSSES)
    regularizers: tuple[str, ...] = REGULARIZERS
    sections: tuple[str, ...] = SECTIONS
    repetitions: int = 5
    seed: int = 0
    nu: float = 0.01
    peer_seconds: float = 10.0
    stream_users: tuple[int, ...] = (10_000, 50_000)
    quick: bool = False

    def tasks(self) -> Iterator[tuple[Any, ...]]:
        """Yield the cells: a kind and what it is measured with."""
        runs, seed, quick = self.repetitions, self.seed, int(self.quick)
        if "compilation" in self.sections:
            # First, while no kernel is in this process's memory that could be in the way of another's.
            yield from [("compile", code) for code in (("loaded",) if quick else ("loaded", "compiled"))]
        if "problems" in self.sections:
            for size in self.sizes:
                for loss in self.losses:
                    for reg in self.regularizers:
                        yield ("problem", *size, loss, reg, runs, seed, self.nu, self.peer_seconds)
        if "growth" in self.sections:
            for axis in GROWTH:
                for loss in self.losses:
                    yield ("growth", axis, loss, seed, self.nu, quick)
        if "batches" in self.sections:
            for which, count in BATCHES.items():
                yield ("batch", which, max(count // 20, 10) if quick else count, runs, seed)
        if "streams" in self.sections:
            for source in SOURCES:
                for n_users in self.stream_users:
                    yield ("stream", source, n_users, runs, seed)


def run(config: Config, out: Path, *, fresh: bool = False, progress: bool = False) -> Cells:
    """Measure all cells that the log in ``out`` does not have yet; return them by kind."""
    setting = {"machine": _speed_cells.machine(), "processor": environment()["processor"]}
    modules = (__file__, _speed_cells, _streams, _peers, _harness, _sweep)
    log = ResumeLog(out / _harness.LOG, _sweep.sweep_key(NAME, setting, *modules))
    if fresh:
        log.clear()
    with tempfile.TemporaryDirectory(dir=out) as folder:
        measure = _Cell(folder)
        rows = _sweep.sweep_here(measure, list(config.tasks()), log, name=NAME, progress=progress)
    return {kind: [row for row in rows if row["kind"] == kind] for kind in _speed_cells.CELLS}


class _Cell:
    """A cell; the folder for its files is not part of its name in the log."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, *task: Any) -> Row:
        return _speed_cells.cell(*task, *([self.folder] if task[0] == "stream" else []))


# --------------------------------------------------------------------------------------------------------------- goals


@dataclass(frozen=True)
class Goal:
    """What the solvers are meant to reach: ``measured`` at most, or ``at_least``, ``wanted``; None if not measured."""

    name: str
    wanted: float
    measured: float | None
    at_least: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether it is reached."""
        if self.measured is None:
            return None
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


def values(
    cells: Cells, loss: str, regs: Iterable[str], method: str, entry: str, sizes: Iterable[Size] | None = None
) -> list[float]:
    """Return an entry of the rows of ``method``, of all sizes or of some."""
    chosen = None if sizes is None else [list(size) for size in sizes]
    return [
        float(row[entry])
        for cell in cells["problem"]
        for row in cell["rows"]
        if cell["loss"] == loss and cell["reg"] in regs and (chosen is None or cell["size"] in chosen)
        if row["method"] == method and row.get(entry) is not None
    ]


def goals(cells: Cells) -> list[Goal]:
    """Return the goals, the worst value of each over what was measured."""
    large, small, other = ((100, 50, 1000), (1000, 100, 1000)), ((10000, 20, 50),), ((100, 50, 200),)
    large_names, small_name = "(100,50,1000), (1000,100,1000)", "(10000,20,50)"
    bent = ("l2", "smooth_l2")

    def most(*arguments: Any) -> float | None:
        return max(values(cells, *arguments), default=None)

    def least(*arguments: Any) -> float | None:
        return min(values(cells, *arguments), default=None)

    return [
        Goal(f"least squares, ℓ2²: × BLAS limit at {large_names}", 1.5,
             most("linear", ("squared_l2",), "equipoise", "over_limit", large)),
        Goal(f"least squares, ℓ2²: × BLAS limit at {small_name}", 2.0,
             most("linear", ("squared_l2",), "equipoise", "over_limit", small)),
        Goal("least squares, ℓ2²: × faster than CVXPY at (100,50,1000)", 40.0,
             least("linear", ("squared_l2",), "CVXPY + Clarabel", "over_ours", large[:1]), True),
        Goal(f"least squares, ℓ2²: × faster than CVXPY at {small_name}", 500.0,
             least("linear", ("squared_l2",), "CVXPY + Clarabel", "over_ours", small), True),
        Goal(f"least squares, ℓ2 and smooth-ℓ2: × BLAS limit at {large_names}", 3.0,
             most("linear", bent, "equipoise", "over_limit", large)),
        Goal(f"least squares, ℓ2 and smooth-ℓ2: × BLAS limit at {small_name}", 8.0,
             most("linear", bent, "equipoise", "over_limit", small)),
        Goal("least squares, ℓ2 and smooth-ℓ2: Newton steps", 6.0, most("linear", bent, "equipoise", "iterations")),
        Goal("least squares, ℓ2 and smooth-ℓ2: × faster than CVXPY at (100,50,1000)", 20.0,
             least("linear", bent, "CVXPY + Clarabel", "over_ours", large[:1]), True),
        Goal(f"least squares, ℓ2 and smooth-ℓ2: × faster than CVXPY at {small_name}", 230.0,
             least("linear", bent, "CVXPY + Clarabel", "over_ours", small), True),
        Goal(f"another λ, ν or regularizer: × BLAS limit at {large_names}, {small_name}", 0.7,
             most("linear", REGULARIZERS, "equipoise, another λ", "over_limit", large + small)),
        Goal("logistic, ℓ2² and smooth-ℓ2: × BLAS limit", 10.0,
             most("logistic", ("squared_l2", "smooth_l2"), "equipoise", "over_limit", large + small + other)),
        Goal("logistic, ℓ2² and smooth-ℓ2: Newton steps", 8.0,
             most("logistic", ("squared_l2", "smooth_l2"), "equipoise", "iterations")),
        Goal("logistic, ℓ2² and smooth-ℓ2: × faster than CVXPY at (100,50,200)", 90.0,
             least("logistic", ("squared_l2", "smooth_l2"), "CVXPY + Clarabel", "over_ours", other), True),
        Goal("logistic, ℓ2: × the time of smooth-ℓ2", 1.5, _plain_over_smooth(cells)),
        *_batch_goals(cells["batch"]),
        Goal("users read one at a time: × reading and Gram products", 2.0,
             max((value for row in cells["stream"] for name, value in row["over_reading"].items()), default=None)),
        Goal("users read one at a time: memory for a further user, as a share of its data", 0.05,
             _memory_share(cells["stream"])),
        Goal("certificate: × the solve at scale", 1.0,
             max((value for loss in LOSSES for value in
                  values(cells, loss, REGULARIZERS, "certificate", "over_ours", large + small)), default=None)),
    ]  # fmt: skip


def _plain_over_smooth(cells: Cells) -> float | None:
    times = {
        (reg, tuple(cell["size"])): row["seconds"]
        for cell in cells["problem"]
        for row in cell["rows"]
        for reg in [cell["reg"]]
        if cell["loss"] == "logistic" and row["method"] == "equipoise"
    }
    ratios = [
        seconds / times["smooth_l2", size]
        for (reg, size), seconds in times.items()
        if reg == "l2" and ("smooth_l2", size) in times
    ]
    return max(ratios, default=None)


def _batch_goals(rows: list[Row]) -> list[Goal]:
    wanted = {"squared_l2": 150_000.0, "smooth_l2": 20_000.0, "logistic": 5_000.0}
    found = {row["problem"]: row for row in rows}
    speeds = [
        Goal(f"many small problems, {name}: solved a second", number,
             found[name]["per_second"]["solved"] if name in found else None, True)
        for name, number in wanted.items()
    ]  # fmt: skip
    nested = found.get("nested to 100,000")
    seconds = nested["seconds"]["drawn and solved"] if nested and nested["n_problems"] == 8 * 200 else None
    return [*speeds, Goal("many small problems, nested samples to ℐ = 100,000, 200 replicates: seconds", 1.5, seconds)]


def _memory_share(rows: list[Row]) -> float | None:
    """Return the growth of the peak between the least and the most users, relative to the data, of the worst source.

    None where the data are so few that the first blocks decide.
    """
    shares = []
    for source in SOURCES:
        found = sorted((row for row in rows if row["source"] == source), key=lambda row: row["n_users"])
        if not found or found[-1]["data_bytes"] < _MANY_BYTES:
            continue
        if len(found) >= 2:
            grown = found[-1]["peak"] - found[0]["peak"]
            shares.append(grown / (found[-1]["data_bytes"] - found[0]["data_bytes"]))
        else:
            shares.append(found[0]["bytes_per_user"] * found[0]["n_users"] / found[0]["data_bytes"])
    return max(shares, default=None)


# -------------------------------------------------------------------------------------------------------------- tables


def tables(cells: Cells) -> str:
    """Return the tables for the screen."""
    parts = [
        _problem_table(cells["problem"]),
        _growth_table(cells["growth"]),
        _batch_table(cells["batch"]),
        _stream_table(cells["stream"]),
        _compile_table(cells["compile"]),
        _goal_table([goal for goal in goals(cells) if goal.measured is not None]),
    ]
    return "\n\n".join(part for part in parts if part)


def _problem_table(cells: list[Row]) -> str:
    if not cells:
        return ""
    headers = (
        "N, d, ℐ",
        "loss",
        "reg",
        "method",
        "ms",
        "min-max",
        "runs",
        "residual",
        "steps",
        "× limit",
        "× ours",
        "",
    )
    lines = []
    for cell in cells:
        start = (", ".join(map(str, cell["size"])), cell["loss"], cell["reg"])
        for row in cell["rows"]:
            if "seconds" not in row:
                lines.append((*start, row["method"], "", "", "", "", "", "", "", row["note"]))
                continue
            low, high = row["spread"]
            reached = "" if row["residual"] is None else f"{row['residual']:.0e}" + ("" if row["as_accurate"] else " *")
            lines.append(
                (*start, row["method"], f"{1e3 * row['seconds']:.3g}", f"{1e3 * low:.3g}-{1e3 * high:.3g}",
                 str(row["runs"]), reached, str(row["iterations"] or ""), f"{row['over_limit']:.2f}",
                 f"{row['over_ours']:.3g}", row["note"])
            )  # fmt: skip
    return format_table(headers, lines) + "\n* less accurate than ours: its time is not that of the same answer"


def _growth_table(cells: list[Row]) -> str:
    rows = [
        (cell["axis"].replace("I", "ℐ"), cell["loss"], name, f"{fit['exponent']:.2f} ± {fit['error']:.2f}",
         cell["expected"], f"{fit['from']} to {cell['values'][-1]}")
        for cell in cells
        for name, fit in cell["fits"].items()
    ]  # fmt: skip
    headers = ("cost against", "loss", "reg", "fitted exponent", "expected", "fitted to")
    return format_table(headers, rows) if rows else ""


def _batch_table(cells: list[Row]) -> str:
    rows = [
        (cell["problem"], str(cell["n_problems"]), f"{1e3 * cell['seconds']['solved']:.3g}",
         "{:.3g}-{:.3g}".format(*(1e3 * x for x in cell["spread"]["solved"])),
         f"{cell['per_second']['solved']:,.0f}", f"{cell['per_second']['drawn and solved']:,.0f}",
         f"{cell['minimize_per_second']:,.0f}")
        for cell in cells
    ]  # fmt: skip
    headers = ("small problems", "number", "ms", "min-max", "solved/s", "drawn and solved/s", "by minimize/s")
    return format_table(headers, rows) if rows else ""


def _stream_table(cells: list[Row]) -> str:
    rows = []
    for cell in cells:
        for name, seconds in cell["seconds"].items():
            low, high = cell["spread"][name]
            rows.append(
                (cell["source"], f"{cell['n_users']:,}", name, f"{seconds:.3g}", f"{low:.3g}-{high:.3g}",
                 str(cell["runs"]), f"{cell['over_reading'][name]:.2f}",
                 f"{cell['processor_over_reading'][name]:.2f}", f"{cell['residual']:.0e}",
                 f"{cell['peak'] / 2**20:.0f}", f"{cell['data_bytes'] / 2**20:.0f}")
            )  # fmt: skip
    headers = (
        "users from",
        "N",
        "pass",
        "s",
        "min-max",
        "runs",
        "× reading",
        "× CPU",
        "residual",
        "peak MiB",
        "data MiB",
    )
    if not rows:
        return ""
    share = _memory_share(cells)
    text = format_table(headers, rows)
    return text if share is None else text + f"\nmemory for each further user: {share:+.2%} of its data"


def _compile_table(cells: list[Row]) -> str:
    rows = [
        (f"code is {cell['code']}", f"{cell['seconds']:.1f}", ", ".join(
            f"{row['loss']} {row['reg']} {row['seconds']:.2g}".strip() for row in cell["rows"]))
        for cell in cells
    ]  # fmt: skip
    return format_table(("first calls in a new process", "s", "of which"), rows) if rows else ""


def _goal_table(found: list[Goal]) -> str:
    rows = [
        (goal.name, f"{'≥' if goal.at_least else '≤'} {goal.wanted:,.3g}", f"{goal.measured:,.3g}",
         "reached" if goal.is_met else "NOT reached")
        for goal in found
    ]  # fmt: skip
    return format_table(("goal (the worst of what was measured)", "wanted", "measured", ""), rows) if rows else ""


# ------------------------------------------------------------------------------------------------------------- figures

METHODS = {
    "equipoise": ("blue", "o"),
    "equipoise, another λ": ("sky_blue", "v"),
    "NumPy loop": ("green", "s"),
    "L-BFGS-B": ("orange", "D"),
    "trust-ncg": ("purple", "P"),
    "CVXPY + Clarabel": ("vermillion", "^"),
}


def draw(cells: list[Row]) -> Figure:
    """Draw the time of each method over the BLAS limit, one panel a loss; a line for each size and regularizer."""
    import matplotlib.pyplot as plt

    losses = [loss for loss in LOSSES if any(cell["loss"] == loss for cell in cells)]
    height = 0.9 + 0.2 * max(sum(cell["loss"] == loss for cell in cells) for loss in losses)
    figure, axes = plt.subplots(
        1, len(losses), figsize=(4.8 * len(losses), height + 0.5), squeeze=False, layout="constrained"
    )
    for panel, loss in zip(axes[0], losses, strict=True):
        lines = [cell for cell in cells if cell["loss"] == loss]
        for name, (color, marker) in METHODS.items():
            found = [
                (y, row["over_limit"], bool(row["as_accurate"]))
                for y, cell in enumerate(lines)
                for row in cell["rows"]
                if row["method"] == name and "seconds" in row
            ]
            for y, x, good in found:
                panel.scatter(x, y, marker=marker, s=24, zorder=3, edgecolors=OKABE_ITO[color],
                              facecolors=OKABE_ITO[color] if good else "none")  # fmt: skip
            if found:
                panel.scatter([], [], marker=marker, s=24, color=OKABE_ITO[color], label=name)
        panel.axvline(1.0, color=REFERENCE, lw=1.0, ls="--")
        panel.set(xscale="log", title=f"{loss} loss", xlabel="time / BLAS limit")
        labels = [f"{', '.join(map(str, cell['size']))}  {REGULARIZER_SERIES[cell['reg']].label}" for cell in lines]
        panel.set_yticks(range(len(lines)), labels, fontsize=7)
        panel.set_ylim(len(lines) - 0.4, -0.6)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=7.5,
                  title="(N, d, ℐ) on the left; hollow: less accurate than ours", title_fontsize=7.5)  # fmt: skip
    return figure


def draw_growth(cells: list[Row], axis: str) -> Figure:
    """Draw time against one of N, d and ℐ, one panel a loss, with the fitted exponents."""
    import matplotlib.pyplot as plt

    chosen = [cell for cell in cells if cell["axis"] == axis]
    figure, axes = plt.subplots(
        1, len(chosen), figsize=(3.6 * len(chosen), 4.1), squeeze=False, sharey=True, layout="constrained"
    )
    symbol = axis.replace("I", "ℐ")
    for panel, cell in zip(axes[0], chosen, strict=True):
        for name, seconds in cell["seconds"].items():
            fit = cell["fits"][name]
            if name == "BLAS limit":
                label, line = name, {"color": REFERENCE, "ls": "--", "lw": 1.1}
            else:
                label, line = REGULARIZER_SERIES[name].label, REGULARIZER_SERIES[name].line()
            panel.plot(cell["values"], seconds, label=f"{label}:  {fit['exponent']:.2f} ± {fit['error']:.2f}", **line)
        fixed = ", ".join(
            f"{letter} = {value:,}" for letter, value in zip("Ndℐ", cell["base"], strict=True) if letter != symbol
        )
        panel.axvspan(next(iter(cell["fits"].values()))["from"], cell["values"][-1], color="#F3F3F3", zorder=0)
        panel.set(xscale="log", yscale="log", xlabel=symbol, title=f"{cell['loss']} loss, {fixed}")
        panel.set_xticks(cell["values"], [f"{value:,}" for value in cell["values"]], fontsize=7)
        panel.minorticks_off()
        ends = np.array([cell["fits"]["BLAS limit"]["from"], cell["values"][-1]], dtype=float)
        for slope in (2.0, 3.0) if axis == "d" else (1.0,):
            # What is expected, a little below the limit.
            guide = 0.5 * cell["seconds"]["BLAS limit"][-1] * (ends / ends[-1]) ** slope
            panel.plot(ends, guide, color=REFERENCE, lw=0.8, ls=":")
            panel.annotate(
                f"slope {slope:.0f}", (ends[0], guide[0]), fontsize=7, color=REFERENCE, ha="right", va="center"
            )
        panel.legend(title=f"fitted exponent (expected: {cell['expected']})", title_fontsize=7.5, fontsize=7.5,
                     loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)  # fmt: skip
    axes[0][0].set_ylabel("seconds")
    return figure


def draw_streams(cells: list[Row]) -> Figure:
    """Draw the memory of the process along both passes against the users that were read."""
    import matplotlib.pyplot as plt

    n_users = max(cell["n_users"] for cell in cells)
    largest = [cell for cell in cells if cell["n_users"] == n_users]
    figure, axes = plt.subplots(
        1, len(largest), figsize=(3.1 * len(largest), 3.0), squeeze=False, sharey=True, layout="constrained"
    )
    colors = {"first pass: ρ*": "blue", "second pass: θ*": "vermillion"}
    for panel, cell in zip(axes[0], largest, strict=True):
        for name, color in colors.items():
            read, memory = np.array(cell["profile"][name]).T
            panel.plot(read / 1e3, memory / 2**20, color=OKABE_ITO[color], label=name, lw=1.1)
        ends = np.array([0.0, n_users])
        start = cell["profile"]["first pass: ρ*"][0][1]
        panel.plot(ends / 1e3, (start + ends / n_users * cell["data_bytes"]) / 2**20, color=REFERENCE, ls="--", lw=1.0,
                   label="if users were kept")  # fmt: skip
        panel.set(xlabel="users read / 1,000", title=f"users from: {cell['source']}")
        panel.set_ylim(0.0, None)
    axes[0][0].set_ylabel("memory of the process, MiB")
    axes[0][-1].legend(fontsize=7.5, loc="upper left")
    return figure


# -------------------------------------------------------------------------------------------------------- command line


def _parse_sizes(text: str) -> tuple[Size, ...]:
    sizes = []
    for part in text.split(";"):
        try:
            n_users, dim, n_data = (int(number) for number in part.split(","))
        except ValueError:
            raise ShapeError("--sizes", "N,d,I triples separated by semicolons", repr(part)) from None
        if min(n_users, dim, n_data) < 1:
            raise ShapeError("--sizes", "positive integers", repr(part))
        sizes.append((n_users, dim, n_data))
    return tuple(sizes)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    options = Parser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    options.add_argument("--quick", action="store_true", help="small sizes, in about a minute")
    options.add_argument("--sizes", help='N,d,I triples, for example "10,20,100;100,50,1000"')
    options.add_argument("--loss", default=",".join(LOSSES), help="linear, logistic or both")
    options.add_argument("--reg", default=",".join(REGULARIZERS), help="regularizers")
    options.add_argument("--sections", default=",".join(SECTIONS), help=f"some of {', '.join(SECTIONS)}")
    options.add_argument("--repetitions", type=int, default=5, help="timed runs of each method (at least 5 to report)")
    options.add_argument("--no-peers", action="store_true", help="only ours and the BLAS limit")
    options.add_argument(
        "--peer-seconds", type=float, default=10.0, metavar="S",
        help="time for all runs of one peer on one problem; a slow one is run once",
    )  # fmt: skip
    options.add_argument(
        "--stream-users", default="", metavar="N,N", help="numbers of users that are read one at a time"
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--fresh", action="store_true", help="forget what an interrupted run measured, and start anew")
    options.add_argument(
        "--jobs", type=int, default=0, help="threads (default: all); set EQUIPOISE_NUM_THREADS instead"
    )
    options.add_argument("--out", type=Path, default=Path("results") / NAME)
    return options


def _config(options: argparse.Namespace) -> Config:
    if options.repetitions < 1:
        raise ShapeError("--repetitions", "an integer >= 1", str(options.repetitions))
    if not options.peer_seconds > 0:
        raise ShapeError("--peer-seconds", "a number > 0", str(options.peer_seconds))
    if options.jobs not in (0, n_threads()):
        raise ShapeError(
            "--jobs", f"{n_threads()}, the threads of this process", f"{options.jobs}; set EQUIPOISE_NUM_THREADS"
        )
    users = options.stream_users or ("2000,8000" if options.quick else "10000,50000")
    stream_users = parse_integers(users, "--stream-users")
    if min(stream_users) < 1:
        raise ShapeError("--stream-users", "positive integers", users)
    return Config(
        sizes=_parse_sizes(options.sizes) if options.sizes else (QUICK if options.quick else SIZES),
        losses=parse_names(options.loss, tuple(LOSSES), "--loss"),
        regularizers=parse_names(options.reg, REGULARIZERS, "--reg"),
        sections=parse_names(options.sections, SECTIONS, "--sections"),
        repetitions=options.repetitions,
        seed=options.seed,
        peer_seconds=0.0
        if options.no_peers
        else (min(options.peer_seconds, 1.0) if options.quick else options.peer_seconds),
        stream_users=stream_users,
        quick=options.quick,
    )


def figures(cells: Cells) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the name of each figure for which something was measured, and how it is drawn."""
    if cells["problem"]:
        yield NAME, lambda: draw(cells["problem"])
    for axis in GROWTH:
        if any(cell["axis"] == axis for cell in cells["growth"]):
            yield f"growth_{axis}", lambda axis=axis: draw_growth(cells["growth"], axis)  # type: ignore[misc]
    if cells["stream"]:
        yield "streams", lambda: draw_streams(cells["stream"])


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    options = parser().parse_args(argv)
    config, out = _config(options), make_folder(options.out)
    try:
        cells = run(config, out, fresh=options.fresh, progress=True)
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(tables(cells))
    record = {**environment(), "threads": n_threads(), "processors": available_processors(),
              "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "as BLAS chooses")}  # fmt: skip
    record.pop("threads_per_worker")
    met = [{**asdict(goal), "is_met": goal.is_met} for goal in goals(cells)]
    write_json(out / "results.json", {"config": asdict(config), "environment": record, "goals": met, **cells})
    import matplotlib.pyplot as plt

    paths: list[Path] = []
    with style():
        for name, make in figures(cells):
            figure = make()
            paths += save(figure, out, name)
            plt.close(figure)
    # Another run measures anew.
    (out / _harness.LOG).unlink(missing_ok=True)
    print("\nwrote " + ", ".join(str(path) for path in [out / "results.json", *paths]))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
