r"""How fast an honest user's model converges to the one it prefers, whatever the others hold (Theorems 2 and 3).

Each of H honest users among N provides ℐ data that its preferred model θ_h† answers; the others hold adversarial data
that do not depend on ℐ.  The program finds the exact global minimum (ρ*, θ*) of the loss (eq. 1) for ℐ from 10 to
100,000, for linear and logistic regression and the three regularizers, and reports

* the error :math:`\max_{h\in\mathcal H}\|\theta_h^* - \theta_h^\dagger\|_2`: its median and 10-90 % band over
  replicates, and the slope of the median, with a bootstrap interval, beside what theory says;
* the success frequency of Definition 1, :math:`P[\forall h: \|\theta_h^* - \theta_h^\dagger\|_2 \le \varepsilon]`, with
  its exact (Clopper-Pearson) interval.

What theory says of the slope: -1/2 is the rate of the central limit theorem, an equality in the limit of many data as
long as the pull of the others stays bounded (eq. 161).  Eq. 168 with α = 3/4 (Lemma 23 for linear, F.3.4 for logistic
regression) proves an upper bound with exponent -1/4, and no more.  This program measures; it asserts nothing.

**The slope is fitted** on sizes at which the limit is a good description, chosen without a look at the errors:

* ℐ >= 100 times the mean leverage of a query, which is d for linear and somewhat more for logistic regression, and
  ℐ >= 10 times the largest (see :func:`benchmarks._pac_cells.leverage`).  A sample of ℐ data inflates the error of
  linear regression by about d/(2ℐ), and in a single direction by up to the largest leverage over 2ℐ;
* the median shift that others cause is at most a quarter of the sampling error c/√ℐ of the limit law.  The two add
  like the legs of a right triangle, so the shift then adds at most about 3 % to the error.

If fewer than three sizes are left, the fit takes the largest ones and says so: the limit is not reached, and theory
expects nothing of the slope but the bound.  Where the pull of the others is what is left, it is between -1 and -1/2.

How data are drawn: see :mod:`benchmarks._pac_cells`.  In short: the sizes of one replicate are nested (its data of
size ℐ are the first ℐ of one sample), replicates are independent, and preferred models and the others' data are drawn
once, because Definition 1 fixes them before the honest data.

**Files** written to ``--out``: ``pac_scaling.png``, ``pac_scaling.svg``, ``results.json``, and ``cells.jsonl``, which
is the log that an interrupted run resumes from.  The same command goes on where it stopped; ``--fresh`` starts anew.
``results.json`` holds

``config``
    every option that a number depends on; ``key`` is its hash, with versions and code, that ties log rows to it.
``queries``
    ``name``, ``dim``, ``columns`` (null for a distribution), ``notes`` (what was left out or scaled).
``rows``
    one for each loss, regularizer and size: ``loss``, ``reg``, ``n_data``, ``q10``, ``median``, ``q90`` of the error,
    ``median_shift`` (the others' part), ``replicates``, ``successes``, ``success``, ``success_low``, ``success_high``.
``fits``
    one for each loss and regularizer: ``slope``, ``slope_low``, ``slope_high`` (95 %; null where there are fewer than
    10 replicates), ``fit_from``, ``fit_to``, ``fit_sizes``, ``in_limit_regime``, ``limit_slope`` and ``bound_slope``
    (what theory says), ``limit_constant`` (c), ``over_limit`` (median error at the largest ℐ, divided by c/√ℐ).
``solver``
    ``largest_relative_residual`` over all minima of the run, and ``largest_certified_distance``: in replicate 0, every
    local model is certified to be at most this far from that of the exact minimum (null where no bound is known).
``seeds``
    the seed, and which stream of it draws what.
``timing``
    ``compile_seconds`` apart from ``solve_seconds`` (summed over workers) and ``wall_seconds``.
``environment``
    versions, revision, processor, BLAS, threads.

``cells.jsonl`` has one line for each loss, regularizer and replicate: ``errors[k][h]`` and ``shifts[k][h]`` for size k
and honest user h.

A default run takes one to three minutes on two processors and at most 0.8 GB (while two workers compile).
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

import numpy as np

import solvers
import theory
from benchmarks import _figures, _harness, _pac_cells, _queries
from benchmarks._harness import ResumeLog
from benchmarks._pac_cells import ADVERSARIES, LOSSES, REGULARIZERS, Scene, Setting
from benchmarks._queries import QuerySource, query_source
from benchmarks._statistics import LEAST_REPLICATES, clopper_pearson, fit_slope
from theory import ShapeError
from theory.arrays import Array, as_count, as_positive

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "pac_scaling"
LEVEL = 0.95

#: What theory says of the exponent: the limit, and the upper bound of eq. 168 with α = 3/4, that is 3/4 - 1.
LIMIT_SLOPE, BOUND_SLOPE = -0.5, -0.25
#: The slope without noise: only the shift is left, and it falls like 1/ℐ.
NOISELESS_SLOPE = -1.0

#: Where the limit law describes the errors: data for each unit of the mean and of the largest leverage, and the
#: largest shift, in units of the sampling error.
DATA_PER_MEAN_LEVERAGE = 100
DATA_PER_LARGEST_LEVERAGE = 10
LARGEST_SHIFT = 0.25
LEAST_FIT_SIZES = 3

_MEGABYTE = 2**20
_MEMORY = 1000 * _MEGABYTE
_MEMORY_OF_A_PROCESS = 220 * _MEGABYTE


@dataclass(frozen=True)
class Config:
    """What one run computes.

    Attributes
    ----------
    setting : Setting
    losses, regs : tuple of str
        Names in :data:`LOSSES` and :data:`REGULARIZERS`.
    replicates : int, >= 1
    epsilon : float, > 0
        ε of Definition 1.
    """

    setting: Setting
    losses: tuple[str, ...]
    regs: tuple[str, ...]
    replicates: int
    epsilon: float

    def __post_init__(self) -> None:
        as_count(self.replicates, "--replicates", 1)
        as_positive(self.epsilon, "--epsilon", "def1_local_pac")


@dataclass(frozen=True, eq=False)
class Results:
    """The outcome of :func:`run`; ``rows`` and ``fits`` are described in the docstring of this module."""

    config: Config
    source: QuerySource
    key: str
    rows: list[dict[str, Any]]
    fits: list[dict[str, Any]]
    largest_residual: float
    largest_certified_distance: float | None
    timing: dict[str, float]


# ----------------------------------------------------------------------------------------------------------------- run


def run(
    config: Config, source: QuerySource, out: Path, *, jobs: int = 1, fresh: bool = False, progress: bool = False
) -> Results:
    """Compute every cell that the log in ``out`` does not have yet, and summarize all of them.

    Parameters
    ----------
    config : Config
    source : QuerySource
        As :func:`benchmarks._queries.query_source` returns it.
    out : Path
        An existing folder, which holds ``cells.jsonl``.
    jobs : int, >= 1
        Worker processes; no number depends on it.
    fresh : bool
        Empty the log first.
    progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    EquipoiseError
        A problem without a minimum, for instance; the cells that were finished stay in the log.
    """
    start = time.perf_counter()
    as_count(jobs, "--jobs", 1)
    key = run_key(config, source)
    log = ResumeLog(out / _harness.LOG, key)
    if fresh:
        log.clear()
    cells = finished_cells(log, config)
    compile_seconds: dict[str, float] = {"total": 0.0}
    with _progress_bar(config, len(cells), progress) as bar:

        def keep(result: tuple[list[dict[str, Any]], float]) -> None:
            new, seconds = result
            compile_seconds["total"] += seconds
            for cell in new:
                log.append(cell)
                cells[cell["loss"], cell["reg"], cell["replicate"]] = cell
            bar.update(len(new))

        scene = Scene.build(config.setting, source, config.losses)
        _harness.run_tasks(
            _pac_cells.replicate_cells,
            missing_tasks(config, cells),
            jobs=jobs,
            on_result=keep,
            setup=_pac_cells.start_worker,
            setup_arguments=(scene,),
        )
    rows, fits = summarize(config, scene, cells)
    return Results(
        config=config,
        source=source,
        key=key,
        rows=rows,
        fits=fits,
        largest_residual=max(cell["residual"] for cell in cells.values()),
        largest_certified_distance=_largest([cell["certified"] for name, cell in cells.items() if name[2] == 0]),
        timing={
            "compile_seconds": compile_seconds["total"],
            "solve_seconds": sum(cell["seconds"] for cell in cells.values()),
            "wall_seconds": time.perf_counter() - start,
        },
    )


def _largest(bounds: Sequence[float | None]) -> float | None:
    known = [bound for bound in bounds if bound is not None]
    return max(known) if len(known) == len(bounds) else None


def run_key(config: Config, source: QuerySource) -> str:
    """Return the hash of all that a cell's numbers depend on: setting, queries, versions and code.

    Replicates, losses, regularizers and ε are not part of it: a run with more of them reuses the cells it shares.
    """
    packages = {name: version for name, version in _harness.versions().items() if name not in ("matplotlib", "pyarrow")}
    numbers = (theory, solvers)
    folders = [Path(module.__file__).parent for module in numbers if module.__file__]
    helpers = [Path(module.__file__) for module in (_pac_cells, _queries, _harness) if module.__file__]
    content = {
        "program": NAME,
        "setting": dataclasses.asdict(config.setting),
        "queries": source.key,
        "packages": packages,
        "code": _harness.code_key(*folders, *helpers),
    }
    return _harness.content_key(content)


Cells = dict[tuple[str, str, int], dict[str, Any]]


def finished_cells(log: ResumeLog, config: Config) -> Cells:
    """Return the cells of ``config`` that are in the log and whole."""
    shape = (len(config.setting.sizes), config.setting.n_honest)
    cells: Cells = {}
    for row in log.rows():
        try:
            name = (row["loss"], row["reg"], row["replicate"])
            parts = [np.array(row[part], dtype=np.float64) for part in ("errors", "shifts")]
            is_whole = all(part.shape == shape and np.isfinite(part).all() for part in parts)
            is_asked_for = name[0] in config.losses and name[1] in config.regs and 0 <= name[2] < config.replicates
            bound = 0.0 if row["certified"] is None else row["certified"]
            if is_whole and is_asked_for and math.isfinite(row["residual"] + row["seconds"] + bound):
                cells[name] = row
        except (KeyError, TypeError, ValueError):
            continue
    return cells


def missing_tasks(config: Config, cells: Cells) -> list[tuple[str, tuple[str, ...], int]]:
    """Return one task (loss, regularizers, replicate) for each sample with cells to compute.

    Losses alternate, so that two workers compile different kernels at first.
    """
    tasks = []
    for replicate in range(config.replicates):
        for loss in reversed(config.losses):
            regs = tuple(reg for reg in config.regs if (loss, reg, replicate) not in cells)
            if regs:
                tasks.append((loss, regs, replicate))
    return tasks


def _progress_bar(config: Config, done: int, show: bool) -> Any:
    from tqdm import tqdm

    total = len(config.losses) * len(config.regs) * config.replicates
    return tqdm(total=total, initial=done, unit="cell", desc=NAME, file=sys.stderr, disable=not show, mininterval=0.5)


# ------------------------------------------------------------------------------------------------------------- summary


def summarize(config: Config, scene: Scene, cells: Cells) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and fits of a complete run, from its cells alone."""
    rows, fits = [], []
    for loss in config.losses:
        limit = _limit_law(scene, loss)
        for reg in config.regs:
            own = [cells[loss, reg, replicate] for replicate in range(config.replicates)]
            # Definition 1 speaks of all honest users at once: the worst of them counts.
            errors = np.array([cell["errors"] for cell in own]).max(axis=2)
            shifts = np.median(np.array([cell["shifts"] for cell in own]).max(axis=2), axis=0)
            rows += _rows(config, loss, reg, errors, shifts)
            fits.append(_fit(config, loss, reg, errors, shifts, limit))
    return rows, fits


def _rows(config: Config, loss: str, reg: str, errors: Array, shifts: Array) -> list[dict[str, Any]]:
    rows = []
    quantiles = np.quantile(errors, [0.1, 0.5, 0.9], axis=0)
    for k, size in enumerate(config.setting.sizes):
        successes = int(np.sum(errors[:, k] <= config.epsilon))
        low, high = clopper_pearson(successes, config.replicates, LEVEL)
        rows.append(
            {
                "loss": loss,
                "reg": reg,
                "n_data": size,
                "q10": float(quantiles[0, k]),
                "median": float(quantiles[1, k]),
                "q90": float(quantiles[2, k]),
                "median_shift": float(shifts[k]),
                "replicates": config.replicates,
                "successes": successes,
                "success": successes / config.replicates,
                "success_low": low,
                "success_high": high,
            }
        )
    return rows


@dataclass(frozen=True)
class LimitLaw:
    """c of the limit law c/√ℐ, and the number of data below which it says little."""

    constant: float
    least_data: float


def _limit_law(scene: Scene, loss: str) -> LimitLaw:
    mean, largest = _pac_cells.leverage(scene, loss)
    # Rounding must not exclude a size that is just enough.
    least = (1.0 - 1e-9) * max(DATA_PER_MEAN_LEVERAGE * mean, DATA_PER_LARGEST_LEVERAGE * largest)
    return LimitLaw(constant=_pac_cells.limit_constant(scene, loss), least_data=least)


def fit_range(sizes: Array, shifts: Array, limit: LimitLaw) -> tuple[int, bool]:
    """Return the index of the first size of the fit, and whether the limit law describes all its sizes.

    Parameters
    ----------
    sizes, shifts : (K,)
        ℐ, and the median shift that the others cause.
    limit : LimitLaw
        Its constant is 0 where there is no noise; the shift is then all that there is to fit.

    Examples
    --------
    >>> sizes = np.array([10.0, 100.0, 1000.0, 10000.0, 100000.0])
    >>> fit_range(sizes, 1.0 / sizes, LimitLaw(constant=1.0, least_data=30.0))
    (1, True)
    >>> fit_range(sizes, 1e4 / sizes, LimitLaw(constant=1.0, least_data=30.0))
    (2, False)
    """
    is_described = sizes >= limit.least_data
    if limit.constant > 0:
        is_described &= shifts <= LARGEST_SHIFT * limit.constant / np.sqrt(sizes)
    n_last = int(np.argmin(is_described[::-1])) if not is_described.all() else sizes.size
    if n_last >= LEAST_FIT_SIZES:
        return sizes.size - n_last, True
    return max(0, sizes.size - LEAST_FIT_SIZES), False


def _fit(config: Config, loss: str, reg: str, errors: Array, shifts: Array, limit: LimitLaw) -> dict[str, Any]:
    sizes = np.array(config.setting.sizes, dtype=np.float64)
    first, in_regime = fit_range(sizes, shifts, limit)
    fit: dict[str, Any] = {"loss": loss, "reg": reg, "slope": None, "slope_low": None, "slope_high": None}
    if sizes.size >= 2:
        stream = (_pac_cells.BOOTSTRAP, list(LOSSES).index(loss), list(REGULARIZERS).index(reg))
        rng = _harness.generator(config.setting.seed, *stream)
        slope = fit_slope(sizes[first:], errors[:, first:], rng, level=LEVEL)
        fit |= {"slope": slope.value, "slope_low": slope.low, "slope_high": slope.high}
    has_noise = limit.constant > 0
    return fit | {
        "level": LEVEL,
        "fit_from": int(sizes[first]),
        "fit_to": int(sizes[-1]),
        "fit_sizes": int(sizes.size - first),
        "in_limit_regime": in_regime,
        "limit_slope": LIMIT_SLOPE if has_noise else NOISELESS_SLOPE,
        "bound_slope": BOUND_SLOPE,
        "limit_constant": limit.constant,
        "over_limit": float(np.median(errors[:, -1]) * math.sqrt(sizes[-1]) / limit.constant) if has_noise else None,
    }


# -------------------------------------------------------------------------------------------------- table, JSON, figure


def table(results: Results) -> str:
    """Return the table that is printed on the screen, with the notes that it needs."""
    config = results.config
    size = config.setting.sizes[-1]
    last = {(row["loss"], row["reg"]): row for row in results.rows if row["n_data"] == size}
    headers = [
        "loss",
        "regularizer",
        f"error at {size:,}",
        "slope",
        f"{LEVEL:.0%} interval",
        "fitted on",
        "expected",
        "error / limit",
        f"P[error <= {config.epsilon:g}] at {size:,}",
    ]
    lines = []
    for fit in results.fits:
        row = last[fit["loss"], fit["reg"]]
        lines.append(
            [
                fit["loss"],
                fit["reg"],
                f"{row['median']:.4g}",
                _number(fit["slope"], "+.3f") + ("" if fit["in_limit_regime"] else " *"),
                f"[{_number(fit['slope_low'], '+.3f')}, {_number(fit['slope_high'], '+.3f')}]",
                f"{fit['fit_from']:,} to {fit['fit_to']:,}",
                "-1/2" if fit["limit_slope"] == LIMIT_SLOPE else "-1 (no noise)",
                _number(fit["over_limit"], ".3f"),
                f"{row['success']:.2f} [{row['success_low']:.2f}, {row['success_high']:.2f}]",
            ]
        )
    return "\n".join([_harness.format_table(headers, lines), "", *_notes(results)])


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _notes(results: Results) -> list[str]:
    config = results.config
    notes = [
        f"error: median over {config.replicates} replicates of max_h ||theta_h* - theta_h^dagger||, "
        f"{config.setting.n_honest} honest of {config.setting.n_users} users.",
        "expected: -1/2 is the central limit rate, an equality in the limit. Eq. 168 with alpha = 3/4 gives only the "
        "upper bound exponent -1/4.",
        "error / limit: the error at the largest size divided by the limit law's; it tends to 1.",
        "fitted on: sizes at which the limit law is a good description (enough data per parameter, and the pull of the "
        f"others at most {LARGEST_SHIFT:g} of the sampling error); python -m pydoc benchmarks.{NAME} tells more.",
    ]
    if not all(fit["in_limit_regime"] for fit in results.fits):
        notes.append(
            f"* fewer than {LEAST_FIT_SIZES} sizes are in that range, so the largest are fitted: the limit is not "
            "reached. A slope between -1 and -1/2 is the mark of others whose pull still dominates."
        )
    if config.replicates < LEAST_REPLICATES:
        notes.append(f"no intervals for slopes: they need at least {LEAST_REPLICATES} replicates.")
    return notes


def as_json(results: Results) -> dict[str, Any]:
    """Return the content of ``results.json``, as the docstring of this module describes it."""
    config = results.config
    return {
        "program": f"benchmarks.{NAME}",
        "key": results.key,
        "config": {
            **dataclasses.asdict(config.setting),
            "losses": config.losses,
            "regs": config.regs,
            "replicates": config.replicates,
            "epsilon": config.epsilon,
        },
        "queries": {
            "name": results.source.name,
            "dim": results.source.queries.dim,
            "columns": results.source.columns,
            "notes": results.source.notes,
        },
        "rows": results.rows,
        "fits": results.fits,
        "solver": {
            "largest_relative_residual": results.largest_residual,
            "largest_certified_distance": results.largest_certified_distance,
        },
        "seeds": {
            "seed": config.setting.seed,
            "generator": "numpy.random.default_rng(SeedSequence(seed, spawn_key=key))",
            "keys": {
                "preferred model of honest user h": [_pac_cells.MODELS, "h"],
                "data of the j-th other user": [_pac_cells.OTHERS, "j"],
                "honest data": [_pac_cells.HONEST, "replicate", "h"],
                "expected Hessian and leverage": [_pac_cells.CURVATURE],
                "limit law": [_pac_cells.LIMIT, "h"],
                "bootstrap": [_pac_cells.BOOTSTRAP, "loss", "regularizer"],
            },
        },
        "timing": results.timing,
        "environment": _harness.environment(),
    }


def draw(results: Results) -> Figure:
    """Return the figure: errors above, success frequencies below, one column for each loss."""
    from matplotlib.figure import Figure

    losses = results.config.losses
    figure = Figure(figsize=(3.6 * len(losses) + 0.4, 5.4), layout="constrained")
    axes = figure.subplots(2, len(losses), sharex=True, sharey="row", squeeze=False, height_ratios=(1.55, 1.0))
    for column, loss in enumerate(losses):
        _draw_errors(axes[0, column], results, loss)
        _draw_success(axes[1, column], results, loss)
    axes[0, 0].set_ylabel(r"error  $\max_h\,\|\theta_h^* - \theta_h^\dagger\|_2$")
    axes[1, 0].set_ylabel(rf"$P[\,\mathrm{{error}} \leq {results.config.epsilon:g}\,]$")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handlelength=3.0, columnspacing=2.2)
    return figure


_TITLES = {"linear": "Linear regression (Theorem 2)", "logistic": "Logistic regression (Theorem 3)"}


def _draw_errors(axes: Axes, results: Results, loss: str) -> None:
    fits = {fit["reg"]: fit for fit in results.fits if fit["loss"] == loss}
    sizes = np.array(results.config.setting.sizes, dtype=np.float64)
    for reg in results.config.regs:
        look = _figures.REGULARIZER_SERIES[reg]
        q10, median, q90 = (_column(results, loss, reg, name) for name in ("q10", "median", "q90"))
        axes.fill_between(sizes, q10, q90, color=look.color, alpha=0.14, linewidth=0)
        axes.plot(sizes, median, label=look.label, **look.line())
    constant = next(iter(fits.values()))["limit_constant"]
    if constant > 0:
        limit = constant / np.sqrt(sizes)
        axes.plot(sizes, limit, color=_figures.REFERENCE, linewidth=1.0, zorder=1.5, label=r"limit law, slope $-1/2$")
    axes.axhline(results.config.epsilon, color=_figures.REFERENCE, linewidth=0.8, linestyle=":")
    axes.annotate(
        rf"$\varepsilon = {results.config.epsilon:g}$",
        (sizes[0], results.config.epsilon),
        xytext=(0, 2.5),
        textcoords="offset points",
        fontsize=8,
        color=_figures.REFERENCE,
    )
    axes.set(xscale="log", yscale="log", title=_TITLES[loss])
    axes.text(
        0.97, 0.97, _slopes_text(fits, results.config.regs), transform=axes.transAxes, ha="right", va="top", fontsize=8
    )


def _slopes_text(fits: dict[str, dict[str, Any]], regs: Sequence[str]) -> str:
    starts = [f"{fits[reg]['fit_from']:,}" for reg in regs]
    lines = [rf"fitted slope [95 %], $\mathcal{{I}} \geq$ {starts[0] if len(set(starts)) == 1 else ' / '.join(starts)}"]
    for reg in regs:
        slope, low, high = (_number(fits[reg][name], ".3f") for name in ("slope", "slope_low", "slope_high"))
        star = "" if fits[reg]["in_limit_regime"] else "*"
        numbers = f"{slope}{star} [{low}, {high}]" if fits[reg]["slope_low"] is not None else f"{slope}{star}"
        # The label holds hyphens of its own.
        lines.append(f"{_figures.REGULARIZER_SERIES[reg].label}: " + numbers.replace("-", "\N{MINUS SIGN}"))
    if any(not fits[reg]["in_limit_regime"] for reg in regs):
        lines.append("* limit not reached")
    return "\n".join(lines)


def _draw_success(axes: Axes, results: Results, loss: str) -> None:
    sizes = np.array(results.config.setting.sizes, dtype=np.float64)
    regs = results.config.regs
    for i, reg in enumerate(regs):
        look = _figures.REGULARIZER_SERIES[reg]
        success, low, high = (_column(results, loss, reg, name) for name in ("success", "success_low", "success_high"))
        # Side by side, so that no interval hides another.
        place = sizes * 1.08 ** (i - (len(regs) - 1) / 2)
        axes.plot(place, success, **(look.line() | {"linewidth": 0.9, "markersize": 3.6}))
        axes.vlines(place, low, high, color=look.color, linewidth=1.0)
    axes.set(xscale="log", ylim=(-0.04, 1.04), xlabel=r"honest data per honest user  $\mathcal{I}$")


def _column(results: Results, loss: str, reg: str, name: str) -> Array:
    return np.array([row[name] for row in results.rows if row["loss"] == loss and row["reg"] == reg])


def write(results: Results, out: Path) -> list[Path]:
    """Write figure and JSON into ``out``; return the paths."""
    json_path = out / "results.json"
    _harness.write_json(json_path, as_json(results))
    with _figures.style():
        png, svg = _figures.save(draw(results), out, NAME)
    return [png, svg, json_path]


# -------------------------------------------------------------------------------------------------------- command line

_FULL = {"replicates": 200, "max_data": 100_000}
_QUICK = {"replicates": 20, "max_data": 10_000}


def sizes_up_to(largest: int) -> tuple[int, ...]:
    """Return 10, 20, 50, 100, 200, ... up to ``largest``.

    Examples
    --------
    >>> sizes_up_to(100)
    (10, 20, 50, 100)
    """
    as_count(largest, "--max-data", 10)
    candidates = (digit * 10**power for power in range(1, len(str(largest)) + 1) for digit in (1, 2, 5))
    return tuple(size for size in candidates if size <= largest)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = _harness.Parser(
        prog=f"python -m benchmarks.{NAME}",
        description="How fast does ||theta_h* - theta_h^dagger|| fall with the number of honest data?  An interrupted "
        "run goes on where it stopped when the same command is given again.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="adversaries:\n" + "\n".join(f"  {name:<9} {text}" for name, text in ADVERSARIES.items()),
    )
    problem = options.add_argument_group("the problem")
    problem.add_argument("--loss", default=",".join(LOSSES), help="losses, separated by commas (%(default)s)")
    problem.add_argument("--reg", default=",".join(REGULARIZERS), help="regularizers (%(default)s)")
    problem.add_argument("--users", type=int, default=10, help="N, the number of users (%(default)s)")
    problem.add_argument("--honest", type=int, default=2, help="H, how many of them are honest (%(default)s)")
    problem.add_argument("--lam", type=float, default=1.0, help="lambda > 0 (%(default)s)")
    problem.add_argument("--nu", type=float, default=0.1, help="weight of ||theta||^2, >= 0 (%(default)s)")
    problem.add_argument("--noise", type=float, default=1.0, help="sd of the noise of linear answers (%(default)s)")
    problem.add_argument("--norm", type=float, default=1.0, help="norm of the preferred models (%(default)s)")
    problem.add_argument("--adversary", default="opposite", help="what the others hold, see below (%(default)s)")
    problem.add_argument("--adversarial-data", type=int, default=500, help="data of each of them (%(default)s)")
    problem.add_argument(
        "--strength", type=float, default=10.0, help="they answer like -STRENGTH theta^dagger (%(default)s)"
    )
    queries = options.add_argument_group("the queries")
    queries.add_argument(
        "--queries",
        default="cube",
        help=f"{', '.join(_queries.DISTRIBUTIONS)}; {', '.join(_queries.BUNDLED)} (scikit-learn); or the path of a "
        ".csv or .parquet file, whose rows are drawn with replacement (%(default)s)",
    )
    queries.add_argument("--dim", type=int, help=f"d of a distribution ({_queries.DEFAULT_DIM})")
    queries.add_argument("--columns", help="columns of a data set to use, separated by commas (all)")
    queries.add_argument("--target", help="a column of a data set to leave out, such as its labels")
    queries.add_argument("--scaling", default="standard", help=f"{', '.join(_queries.SCALINGS)} (%(default)s)")
    queries.add_argument("--intercept", action="store_true", help="append a column of ones to a data set")
    sampling = options.add_argument_group("the measurement")
    sampling.add_argument("--max-data", type=int, help=f"largest number of honest data ({_FULL['max_data']})")
    sampling.add_argument("--sizes", help="the numbers of honest data instead, such as 10,100,1000")
    sampling.add_argument("--replicates", type=int, help=f"independent repetitions ({_FULL['replicates']})")
    sampling.add_argument("--epsilon", type=float, default=0.1, help="epsilon of Definition 1 (%(default)s)")
    sampling.add_argument("--seed", type=int, default=0, help="seed of all random numbers (%(default)s)")
    sampling.add_argument(
        "--quick",
        action="store_true",
        help=f"{_QUICK['replicates']} replicates up to {_QUICK['max_data']} data, unless said otherwise",
    )
    running = options.add_argument_group("the run")
    running.add_argument("--out", type=Path, default=Path("results") / NAME, help="folder to write to (%(default)s)")
    running.add_argument("--jobs", type=int, help="worker processes (2, or 1 on one processor)")
    resume = running.add_mutually_exclusive_group()
    resume.add_argument("--resume", action="store_true", help="go on from the log in the folder (the default)")
    resume.add_argument("--fresh", action="store_true", help="forget the log in the folder, and start anew")
    return options


def config_from(options: argparse.Namespace) -> Config:
    """Return the configuration that the options ask for."""
    preset = _QUICK if options.quick else _FULL
    if options.sizes is not None and options.max_data is not None:
        raise ShapeError("--sizes", "either --sizes or --max-data", "both")
    if options.sizes is not None:
        sizes = _harness.parse_integers(options.sizes, "--sizes")
    else:
        sizes = sizes_up_to(preset["max_data"] if options.max_data is None else options.max_data)
    setting = Setting(
        n_users=options.users,
        n_honest=options.honest,
        sizes=sizes,
        lam=options.lam,
        nu=options.nu,
        noise=options.noise,
        norm=options.norm,
        adversary=options.adversary,
        n_adversarial=options.adversarial_data,
        strength=options.strength,
        seed=options.seed,
    )
    return Config(
        setting=setting,
        losses=_harness.parse_names(options.loss, tuple(LOSSES), "--loss"),
        regs=_harness.parse_names(options.reg, tuple(REGULARIZERS), "--reg"),
        replicates=preset["replicates"] if options.replicates is None else options.replicates,
        epsilon=options.epsilon,
    )


def memory_of_worker(setting: Setting, dim: int) -> int:
    """Return about how many bytes a worker needs: the sample of a replicate, and twice the data of one problem.

    A problem copies its users' data into one block, which the solver may scale by weights once more.
    """
    sample = setting.n_honest * setting.sizes[-1] * (dim + 1) * 8
    others = (setting.n_users - setting.n_honest) * setting.n_adversarial * (dim + 1) * 8
    return _MEMORY_OF_A_PROCESS + 3 * sample + 4 * others


def jobs_within_memory(asked: int | None, setting: Setting, dim: int) -> tuple[int, str | None]:
    """Return the number of jobs, and a note if the default was lowered to stay within 1 GB of memory."""
    if asked is not None:
        return as_count(asked, "--jobs", 1), None
    usual = min(2, _harness.available_processors())
    fitting = (_MEMORY - _MEMORY_OF_A_PROCESS) // memory_of_worker(setting, dim)
    if fitting >= usual:
        return usual, None
    return 1, f"one job, as each needs about {memory_of_worker(setting, dim) // _MEGABYTE} MB; --jobs overrides this"


@_harness.command_line
def main(argv: list[str] | None = None) -> int:
    """Run the program; return 0, 2 for bad input, 130 if interrupted."""
    options = parser().parse_args(argv)
    config = config_from(options)
    columns = None if options.columns is None else [name.strip() for name in options.columns.split(",")]
    source = query_source(
        options.queries,
        dim=options.dim,
        columns=columns,
        target=options.target,
        scaling=options.scaling,
        intercept=options.intercept,
    )
    jobs, note = jobs_within_memory(options.jobs, config.setting, source.queries.dim)
    out: Path = options.out
    _harness.make_folder(out)
    _print_heading(config, source, [] if note is None else [note])
    with _harness.resumable(out):
        results = run(config, source, out, jobs=jobs, fresh=options.fresh, progress=True)
    print(f"\n{table(results)}\n")
    print("wrote " + ", ".join(str(path) for path in write(results, out)))
    timing = results.timing
    print(
        f"minima: relative residual at most {results.largest_residual:.1e}; in replicate 0, certified distance to the "
        f"exact local models at most {_number(results.largest_certified_distance, '.1e')}"
    )
    print(f"{timing['wall_seconds']:.1f} s; compilation {timing['compile_seconds']:.1f} s, summed over the workers")
    return _harness.EXIT_OK


def _print_heading(config: Config, source: QuerySource, notes: Sequence[str]) -> None:
    setting = config.setting
    print(
        f"{setting.n_honest} honest of {setting.n_users} users, d = {source.queries.dim}, queries: {source.name}, "
        f"others: {setting.adversary}, lam = {setting.lam:g}, nu = {setting.nu:g}, seed {setting.seed}, "
        f"{config.replicates} replicates of {len(setting.sizes)} sizes, {setting.sizes[0]:,} to {setting.sizes[-1]:,}"
    )
    for text in (*source.notes, *notes):
        print(f"  {text}")


if __name__ == "__main__":
    sys.exit(main())
