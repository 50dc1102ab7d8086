r"""The sharp constants of PAC* learning: exponents, heavy tails, sums against expectations, and sample sizes.

Four figures, each a claim beside a measurement; events are *decided* on each sample (:func:`theory.gradient_pac`), not
sampled over θ.

``pac_exponents``
    Linear regression: how often the event of Definition 3 holds for exponents α (A = λ_min(Σ)/2, B = 1), and for
    multiples A of λ_min(Σ) (α = 3/4).  Claim C17: α > 1/2 works, α = 1/2 tends to P(χ²_d <= B²) < 1 and fails, smaller
    ones tend to 0; A works up to λ_min(Σ).
``pac_heavy_tails``
    Bounded queries, Student t queries with 3 degrees of freedom, and queries with a singular Σ.  Claim C18: a positive
    definite Σ is what counts, not boundedness.
``pac_expectation``
    The honest user's error with summed losses and with mean losses (d = 1, one other user).  Claim C20: with means it
    tends to a limit that is not 0, for which there is a closed form.
``pac_sample_size``
    The (1 - δ)-quantile of the error, and the error that claim C19 guarantees with probability 1 - δ.

**Files** written to ``--out``: the four figures (PNG and SVG), ``results.json`` (``rows``: ``kind``, ``series``,
``n_data``, and ``successes``, ``undecided``, ``replicates``, ``low``, ``high`` for events (an exact 95 % interval, in
which an undecided sample counts once as failure and once as success), or ``q10``, ``median``, ``q90`` for errors),
``cells.jsonl`` (the log that an interrupted run resumes from).

A default run takes about two minutes on two processors.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammainc

from benchmarks import _exponent_cells, _figures, _harness, _sweep
from benchmarks._exponent_cells import ALPHAS, DIM, KINDS, REGULARIZERS, SLOPES, TAIL_B, TAILS
from benchmarks._figures import OKABE_ITO, REGULARIZER_SERIES, Series
from benchmarks._harness import ResumeLog
from benchmarks._statistics import clopper_pearson
from theory import LeastSquares, Logistic, RademacherQueries, ShapeError, guaranteed_error
from theory.arrays import Array, as_count
from theory.expectation import expectation_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "pac_exponents"
EVENTS = ("exponent", "tails")
COLORS = (OKABE_ITO["vermillion"], OKABE_ITO["orange"], OKABE_ITO["sky_blue"], OKABE_ITO["blue"], OKABE_ITO["green"])
MARKERS = ("o", "s", "^", "D", "v")


@dataclass(frozen=True)
class Config:
    """What one run computes: ``sizes`` and ``replicates`` for each of the figures ``kinds``."""

    kinds: tuple[str, ...]
    sizes: tuple[int, ...]
    replicates: int
    delta: float
    seed: int

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ShapeError("--figures", f"names among {', '.join(KINDS)}", "none")
        if list(self.sizes) != sorted(set(self.sizes)) or min(self.sizes, default=0) < 1:
            raise ShapeError("--sizes", "positive integers, each larger than the one before", str(list(self.sizes)))
        as_count(self.replicates, "--replicates", 2)
        as_count(self.seed, "--seed")
        if not 0.0 < self.delta < 1.0:
            raise ShapeError("--delta", "a number in (0, 1)", str(self.delta))

    def tasks(self) -> list[tuple[Any, ...]]:
        """Return the cells (kind, ℐ, replicate, seed)."""
        return [
            (kind, n, replicate, self.seed)
            for kind in self.kinds
            for n in self.sizes
            for replicate in range(self.replicates)
        ]


@dataclass(frozen=True, eq=False)
class Results:
    """The outcome of :func:`run`; ``rows`` are described in the docstring of this module."""

    config: Config
    key: str
    rows: list[dict[str, Any]]
    wall_seconds: float


def run(config: Config, out: Path, *, jobs: int = 1, fresh: bool = False, progress: bool = False) -> Results:
    """Compute every cell that the log in ``out`` does not have yet, and summarize all of them."""
    start = time.perf_counter()
    log = ResumeLog(out / _harness.LOG, _sweep.sweep_key(NAME, {}, _exponent_cells, _harness, _sweep))
    if fresh:
        log.clear()
    jobs = as_count(jobs, "--jobs", 1)
    cells = _sweep.sweep(_exponent_cells.cell, config.tasks(), log, name=NAME, jobs=jobs, progress=progress)
    return Results(config, log.key, summarize(config, cells), time.perf_counter() - start)


def summarize(config: Config, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows: frequencies of events, and quantiles of errors."""
    rows = []
    for kind in config.kinds:
        for n in config.sizes:
            own = [cell["values"] for cell in cells if cell["task"][:2] == [kind, n]]
            for series in own[0]:
                values = [value[series] for value in own]
                row = {"kind": kind, "series": series, "n_data": n, "replicates": len(values)}
                rows.append(row | (_frequency(values) if kind in EVENTS else _quantiles(values, config.delta)))
    return rows


def _frequency(values: list[int | None]) -> dict[str, Any]:
    successes, undecided = sum(value == 1 for value in values), sum(value is None for value in values)
    low, _ = clopper_pearson(successes, len(values))
    _, high = clopper_pearson(successes + undecided, len(values))
    return {"successes": successes, "undecided": undecided, "low": low, "high": high}


def _quantiles(values: list[float], delta: float) -> dict[str, Any]:
    q10, median, q90, high = np.quantile(values, [0.1, 0.5, 0.9, 1.0 - delta])
    return {"q10": float(q10), "median": float(median), "q90": float(q90), "quantile": float(high)}


# -------------------------------------------------------------------------------------------------- table, JSON, figure


def table(results: Results) -> str:
    """Return one line for each series, at the largest ℐ, beside what the claim says of the limit."""
    size = results.config.sizes[-1]
    lines = []
    for row in results.rows:
        if row["n_data"] != size:
            continue
        if row["kind"] in EVENTS:
            found = f"{row['successes'] / row['replicates']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        else:
            found = f"{row['median']:.4g}"
        lines.append([row["kind"], row["series"], found, limit_text(row["kind"], row["series"])])
    return _harness.format_table(["figure", "series", f"at {size:,}", "in the limit"], lines)


def chi_squared(B: float, d: int) -> float:
    """Return P(χ²_d <= B²), to which P(‖p‖ <= B√ℐ) tends for Σ = I and noise of variance 1."""
    return float(gammainc(0.5 * d, 0.5 * B * B))


def limit_text(kind: str, series: str) -> str:
    """Return what the claims say of a series for ℐ → ∞."""
    name, _, rest = series.rpartition(" ")
    if kind == "exponent" and name == "alpha":
        alpha = float(rest)
        return f"{chi_squared(1.0, DIM):.4f} (C17)" if alpha == 0.5 else ("1 (C17)" if alpha > 0.5 else "0 (C17)")
    if kind == "exponent":
        return "1 (C17)" if float(rest) <= 1.0 else "0 (C17)"
    if kind == "tails":
        return "0 (C18)" if name == "singular" else "1 (C18)"
    if kind == "expectation" and rest == "mean":
        return f"{expectation_error(REGULARIZERS[name], 1.0, _exponent_cells.EXPECTATION_OTHER):.4g} (C20)"
    return "0"


def as_json(results: Results) -> dict[str, Any]:
    """Return the content of ``results.json``."""
    return {
        "program": f"benchmarks.{NAME}",
        "key": results.key,
        "config": dataclasses.asdict(results.config),
        "rows": [row | {"limit": limit_text(row["kind"], row["series"])} for row in results.rows],
        "seeds": {"seed": results.config.seed, "key": ["figure", "n_data", "replicate"]},
        "timing": {"wall_seconds": results.wall_seconds},
        "environment": _harness.environment(),
    }


def _rows(results: Results, kind: str, series: str) -> list[dict[str, Any]]:
    return [row for row in results.rows if row["kind"] == kind and row["series"] == series]


def _draw_frequencies(axes: Axes, results: Results, kind: str, looks: dict[str, Series]) -> None:
    for i, (series, look) in enumerate(looks.items()):
        rows = _rows(results, kind, series)
        # Side by side, so that no interval hides another.
        x = np.array([row["n_data"] for row in rows]) * 1.06 ** (i - (len(looks) - 1) / 2)
        axes.plot(x, [row["successes"] / row["replicates"] for row in rows], label=look.label, **look.line())
        axes.vlines(x, [row["low"] for row in rows], [row["high"] for row in rows], color=look.color, linewidth=0.9)
    axes.set(xscale="log", ylim=(-0.04, 1.04), xlabel=r"data  $\mathcal{I}$")


def draw_exponent(results: Results) -> Figure:
    """Return the figure of claim C17."""
    figure, axes = _panels(2)
    alphas = {f"alpha {a:g}": Series(rf"$\alpha = {a:g}$", COLORS[i], MARKERS[i]) for i, a in enumerate(ALPHAS)}
    slopes = {
        f"A {a:g}": Series(rf"$A = {a:g}\,\lambda_{{\min}}(\Sigma)$", COLORS[i], MARKERS[i])
        for i, a in enumerate(SLOPES)
    }
    _draw_frequencies(axes[0], results, "exponent", alphas)
    _draw_frequencies(axes[1], results, "exponent", slopes)
    limit = chi_squared(1.0, DIM)
    axes[0].axhline(limit, color=_figures.REFERENCE, linewidth=0.8, linestyle=":")
    axes[0].annotate(
        rf"limit for $\alpha = 1/2$: $P[\chi^2_{DIM} \leq B^2] = {limit:.3f}$", (0.03, limit + 0.12),
        xycoords=("axes fraction", "data"), fontsize=7.5, color=_figures.REFERENCE,
    )  # fmt: skip
    axes[0].set(title=r"Exponent ($A = \lambda_{\min}(\Sigma)/2$, $B = 1$)", ylabel="frequency of the event")
    axes[1].set(title=r"Slope ($\alpha = 3/4$, $B = 1$)")
    for panel in axes:
        panel.legend(loc="center right")
    return figure


def draw_tails(results: Results) -> Figure:
    """Return the figure of claim C18."""
    figure, axes = _panels(2)
    labels = {
        "bounded": r"bounded ($\Sigma = I$)",
        "t3": r"Student $t_3$ ($\Sigma = I$)",
        "singular": r"singular $\Sigma$",
    }
    for panel, loss in zip(axes, ("linear", "logistic"), strict=True):
        looks = {f"{name} {loss}": Series(labels[name], COLORS[2 * i], MARKERS[i]) for i, name in enumerate(TAILS)}
        _draw_frequencies(panel, results, "tails", looks)
        slope = _exponent_cells.TAIL_SLOPE[loss]
        panel.set(title=rf"{loss.capitalize()} regression ($A = {slope:g}$, $B = {TAIL_B:g}$, $\alpha = 3/4$)")
    axes[0].set_ylabel("frequency of the event")
    axes[1].legend(loc="center right")
    return figure


def draw_expectation(results: Results) -> Figure:
    """Return the figure of claim C20."""
    figure, axes = _panels(1)
    for name, look in REGULARIZER_SERIES.items():
        for label, dashes in (("mean", ()), ("sum", (1.5, 1.5))):
            rows = _rows(results, "expectation", f"{name} {label}")
            x = np.array([row["n_data"] for row in rows])
            line = look.line() | {"dashes": dashes}
            axes[0].plot(x, [row["median"] for row in rows], label=f"{look.label}, {label}", **line)
            if label == "mean" or name == "squared_l2":
                # With sums the three bands coincide, and one is enough.
                low, high = ([row[q] for row in rows] for q in ("q10", "q90"))
                axes[0].fill_between(x, low, high, color=look.color, alpha=0.14, linewidth=0)
        limit = expectation_error(REGULARIZERS[name], 1.0, _exponent_cells.EXPECTATION_OTHER)
        axes[0].axhline(limit, color=look.color, linewidth=0.7, zorder=1)
    axes[0].set(
        xscale="log", yscale="log", xlabel=r"honest data  $\mathcal{I}$",
        ylabel=r"error  $|\theta_1^* - \theta_1^\dagger|$",
        title="Sums learn, expectations do not (lines: limits in closed form)",
    )  # fmt: skip
    axes[0].set_ylim(bottom=0.1 * axes[0].get_ylim()[0])
    axes[0].legend(ncols=2, loc="lower left")
    return figure


def draw_sample(results: Results) -> Figure:
    """Return the figure of claim C19."""
    figure, axes = _panels(2)
    delta = results.config.delta
    losses: dict[str, LeastSquares | Logistic] = {"linear": LeastSquares(), "logistic": Logistic()}
    for panel, (label, loss) in zip(axes, losses.items(), strict=True):
        for name, look in REGULARIZER_SERIES.items():
            rows = _rows(results, "sample", f"{name} {label}")
            panel.plot(
                [row["n_data"] for row in rows], [row["quantile"] for row in rows], label=look.label, **look.line()
            )
            sizes = np.geomspace(results.config.sizes[0], 100 * results.config.sizes[-1], 40).astype(int)
            bounds = [_bound(int(n), loss, name, delta) for n in sizes]
            line = look.line() | {"marker": "", "linewidth": 1.0}
            panel.plot(sizes, bounds, **line)
        panel.set(
            xscale="log",
            yscale="log",
            xlabel=r"data per honest user  $\mathcal{I}$",
            title=f"{label.capitalize()} regression",
        )
    axes[0].set_ylabel(rf"error: ${1 - delta:g}$-quantile (markers), guarantee (lines)")
    axes[0].legend(loc="lower left")
    return figure


def _bound(n: int, loss: LeastSquares | Logistic, reg: str, delta: float) -> float:
    found = guaranteed_error(
        RademacherQueries(2), loss, REGULARIZERS[reg], _exponent_cells.SAMPLE_MODELS, n_data=n, delta=delta,
        nu=_exponent_cells.SAMPLE_NU, others=_exponent_cells.sample_others(loss),
    )  # fmt: skip
    return found.error if math.isfinite(found.error) else math.nan


def _panels(n: int) -> tuple[Figure, Array]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * n + (0.4 if n > 1 else 1.4), 3.3), layout="constrained")
    return figure, figure.subplots(1, n, squeeze=False, sharey=n > 1)[0]


FIGURES: dict[str, tuple[str, Callable[[Results], Figure]]] = {
    "exponent": ("pac_exponents", draw_exponent),
    "tails": ("pac_heavy_tails", draw_tails),
    "expectation": ("pac_expectation", draw_expectation),
    "sample": ("pac_sample_size", draw_sample),
}


def write(results: Results, out: Path) -> list[Path]:
    """Write figures and JSON into ``out``; return the paths."""
    paths = [out / "results.json"]
    _harness.write_json(paths[0], as_json(results))
    with _figures.style():
        for kind in results.config.kinds:
            name, draw = FIGURES[kind]
            paths += _figures.save(draw(results), out, name)
    return paths


# -------------------------------------------------------------------------------------------------------- command line


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = _harness.Parser(
        prog=f"python -m benchmarks.{NAME}",
        description="The sharp constants of PAC* learning (claims C17 to C20), each beside a measurement.  An "
        "interrupted run goes on where it stopped when the same command is given again.",
    )
    options.add_argument("--figures", default=",".join(KINDS), help="which figures (%(default)s)")
    options.add_argument("--sizes", help="the numbers of data (100 to 100,000)")
    options.add_argument("--replicates", type=int, help="samples for each (100)")
    options.add_argument("--delta", type=float, default=0.1, help="δ of the sample sizes (%(default)s)")
    _harness.add_run_options(options, NAME, quick="20 samples, up to 10,000 data", jobs=None)
    return options


def config_from(options: argparse.Namespace) -> Config:
    """Return the configuration that the options ask for."""
    sizes: tuple[int, ...] = (100, 300, 1000, 3000, 10_000) + (() if options.quick else (30_000, 100_000))
    return Config(
        kinds=_harness.parse_names(options.figures, KINDS, "--figures"),
        sizes=sizes if options.sizes is None else _harness.parse_integers(options.sizes, "--sizes"),
        replicates=(20 if options.quick else 100) if options.replicates is None else options.replicates,
        delta=options.delta,
        seed=options.seed,
    )


@_harness.command_line
def main(argv: list[str] | None = None) -> int:
    """Run the program; return 0, 2 for bad input, 130 if interrupted."""
    options = parser().parse_args(argv)
    config = config_from(options)
    jobs = _harness.jobs_of(options)
    out = _harness.make_folder(options.out)
    print(f"{len(config.tasks())} cells, {config.sizes[0]:,} to {config.sizes[-1]:,} data, seed {config.seed}")
    with _harness.resumable(out):
        results = run(config, out, jobs=jobs, fresh=options.fresh, progress=True)
    print(f"\n{table(results)}\n")
    print("wrote " + ", ".join(str(path) for path in write(results, out)))
    print(f"{results.wall_seconds:.1f} s")
    return _harness.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
