r"""``python -m benchmarks.solver_speed``: how fast the exact solvers are, beside their peers and the physical limit.

Every row is measured in this process: size, loss, regularizer, method, median and spread of the wall time over the
repetitions, the residual that was reached (‖gradient‖ relative to that at 0), and three ratios: to the *BLAS limit*
(each user's Gram product and Cholesky factor, same threads), to our time, and whether the accuracy is no worse than
ours.  A peer that does not reach the accuracy is reported with the accuracy that it reached.  Compilation is a row of
its own.  ``--growth`` adds how the cost grows with N, d and ℐ, with fitted exponents.

``results.json`` holds ``config``, ``environment``, ``rows`` and ``growth``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from benchmarks import _peers as peers
from benchmarks._figures import OKABE_ITO, save, style
from benchmarks._harness import (
    EXIT_OK,
    Parser,
    available_processors,
    command_line,
    environment,
    format_table,
    generator,
    make_folder,
    parse_names,
    write_json,
)
from solvers import minimize, minimize_path
from solvers._parallel import n_threads
from solvers.optimality import gradient_at_zero, local_gradients, optimality
from theory import (
    L2,
    EquipoiseError,
    GaussianQueries,
    LeastSquares,
    Logistic,
    Loss,
    Problem,
    Regularizer,
    ShapeError,
    SmoothL2,
    SquaredL2,
    honest_dataset,
)
from theory.arrays import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Size = tuple[int, int, int]
LOSSES: dict[str, Loss] = {"linear": LeastSquares(), "logistic": Logistic()}
REGULARIZERS = ("squared_l2", "l2", "smooth_l2")
SIZES: tuple[Size, ...] = ((10, 20, 100), (100, 50, 200), (100, 50, 1000), (1000, 100, 1000), (10000, 20, 50))
QUICK: tuple[Size, ...] = ((10, 20, 100), (100, 50, 200))
# Largest data (entries of Q) that a peer is tried on; beyond it a run takes minutes.
PEER_ENTRIES = {"CVXPY + Clarabel": 2_000_000, "L-BFGS-B": 11_000_000, "trust-ncg": 2_000_000}


@dataclass(frozen=True)
class Config:
    """Everything that decides what is measured."""

    sizes: tuple[Size, ...] = SIZES
    losses: tuple[str, ...] = tuple(LOSSES)
    regularizers: tuple[str, ...] = REGULARIZERS
    repetitions: int = 5
    seed: int = 0
    nu: float = 0.01
    peers: bool = True
    growth: bool = False


@dataclass
class Results:
    """Rows of the table, and of the growth of the cost."""

    config: Config
    rows: list[dict[str, Any]] = field(default_factory=list)
    growth: list[dict[str, Any]] = field(default_factory=list)


def make_problem(size: Size, loss: str, reg: str, nu: float, rng: np.random.Generator) -> Problem:
    """Draw users with different preferred models; λ is such that some, but not all, models tie under plain ℓ2."""
    n_users, dim, n_data = size
    queries, chosen = GaussianQueries(dim), LOSSES[loss]
    spread = 1.0 if loss == "linear" else dim**-0.5
    users = [honest_dataset(queries, spread * rng.standard_normal(dim), n_data, chosen, rng) for _ in range(n_users)]
    regularizer: Regularizer
    if reg == "squared_l2":
        regularizer = SquaredL2(1.0)
    else:
        regularizer = (L2 if reg == "l2" else SmoothL2)(0.05 * n_data)
    return Problem(users, chosen, regularizer, nu)


def residual(problem: Problem, rho: Array, thetas: Array) -> float:
    """Return ‖gradient‖ at a point relative to that at 0, whoever found the point."""
    gradients = local_gradients(problem, thetas)
    return optimality(problem, rho, thetas, gradients, gradient_at_zero(problem)).relative


def timed(call: Callable[[], Any], repetitions: int) -> tuple[list[float], Any]:
    """Return the wall times of ``repetitions`` calls after one that is not counted, and the last value."""
    value = call()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        value = call()
        seconds.append(time.perf_counter() - start)
    return seconds, value


def measure(config: Config, size: Size, loss: str, reg: str) -> list[dict[str, Any]]:
    """Return the rows of one problem."""
    problem = make_problem(size, loss, reg, config.nu, generator(config.seed, *size))
    limit, _ = timed(peers.blas_limit(problem), config.repetitions)
    ours, solution = timed(lambda: minimize(problem), config.repetitions)
    base = {"size": list(size), "loss": loss, "reg": reg}
    common = (float(np.median(limit)), float(np.median(ours)), solution.stats["relative_residual"])
    rows = [
        _row(base, "BLAS limit", limit, None, common),
        _row(base, "equipoise", ours, solution.stats["relative_residual"], common, solution.stats["iterations"]),
    ]
    if loss == "linear":
        rows.append(_path_row(base, problem, config, common))
    if config.peers:
        rows += _peer_rows(base, problem, config, common)
    return rows


def _path_row(
    base: dict[str, Any], problem: Problem, config: Config, common: tuple[float, float, float]
) -> dict[str, Any]:
    """One more λ on a path, after the factorization that the first one paid for."""
    reg = problem.reg
    settings = [(type(reg)(reg.lam * (1.0 + 0.1 * k)), config.nu) for k in range(config.repetitions + 2)]  # type: ignore
    seconds, last = [], None
    path = minimize_path(problem, settings)
    next(path)
    next(path)
    for _ in range(config.repetitions):
        start = time.perf_counter()
        last = next(path)
        seconds.append(time.perf_counter() - start)
    found = float("nan") if last is None else last.stats["relative_residual"]
    return _row(base, "equipoise, one more λ", seconds, found, common)


def _peer_rows(
    base: dict[str, Any], problem: Problem, config: Config, common: tuple[float, float, float]
) -> list[dict[str, Any]]:
    entries = problem.stack.Q.size
    calls: list[tuple[str, Callable[[], peers.Point], int]] = []
    if peers.has_numpy_loop(problem):
        calls.append(("NumPy loop", lambda: peers.numpy_loop(problem), config.repetitions))
    if not isinstance(problem.reg, L2):
        calls.append(("L-BFGS-B", lambda: peers.scipy_peer(problem, "L-BFGS-B"), 1))
        calls.append(("trust-ncg", lambda: peers.scipy_peer(problem, "trust-ncg"), 1))
    calls.append(("CVXPY + Clarabel", lambda: peers.cvxpy_peer(problem), 1))
    rows = []
    for name, call, repetitions in calls:
        if entries > PEER_ENTRIES.get(name, entries):
            continue
        try:
            if repetitions == 1:
                start = time.perf_counter()
                point = call()
                seconds = [time.perf_counter() - start]
            else:
                seconds, point = timed(call, repetitions)
        except EquipoiseError as error:
            rows.append({**base, "method": name, "failed": str(error)[:200]})
            continue
        rows.append(_row(base, name, seconds, residual(problem, *point), common))
    return rows


def _row(
    base: dict[str, Any],
    method: str,
    seconds: list[float],
    reached: float | None,
    common: tuple[float, float, float],
    iterations: int | None = None,
) -> dict[str, Any]:
    limit, ours, accuracy = common
    median = float(np.median(seconds))
    return {
        **base,
        "method": method,
        "seconds": median,
        "spread": [float(min(seconds)), float(max(seconds))],
        "runs": len(seconds),
        "residual": reached,
        "iterations": iterations,
        "over_limit": median / limit,
        "over_ours": median / ours,
        "as_accurate": None if reached is None else bool(reached <= max(1e-12, 10 * accuracy)),
    }


def compile_rows() -> list[dict[str, Any]]:
    """Return the time that the first call of each kind takes in this process (compilation, or loading of a cache)."""
    rows = []
    for loss in LOSSES:
        for reg in REGULARIZERS:
            for size in ((2, 3, 5), (20, 3, 5)):
                problem = make_problem(size, loss, reg, 0.01, generator(0, 1))
                start = time.perf_counter()
                minimize(problem)
                rows.append({"loss": loss, "reg": reg, "size": list(size), "seconds": time.perf_counter() - start})
    return rows


#: What the cost grows like where the term in question dominates.
EXPECTED = {"N": 1.0, "d": 2.0, "I": 1.0}


def growth(config: Config, progress: Any) -> list[dict[str, Any]]:
    """Return time against N, d and ℐ, with the exponent fitted to the upper half of each range."""
    bases = {"N": (0, 20, 200), "d": (50, 0, 2000), "I": (50, 50, 0)}
    ranges = {"N": (250, 500, 1000, 2000, 4000), "d": (16, 32, 64, 128), "I": (500, 1000, 2000, 4000, 8000)}
    rows = []
    for reg in config.regularizers:
        for axis, values in ranges.items():
            seconds: list[float] = []
            for value in values:
                size = tuple(value if entry == 0 else entry for entry in bases[axis])
                problem = make_problem((size[0], size[1], size[2]), "linear", reg, config.nu, generator(config.seed, 7))
                runs, _ = timed(partial(minimize, problem), 3)
                seconds.append(float(np.median(runs)))
                progress.update()
            half = len(values) // 2
            slope = float(np.polyfit(np.log(values[half:]), np.log(seconds[half:]), 1)[0])
            rows.append(
                {"reg": reg, "axis": axis, "values": list(values), "seconds": seconds, "exponent": slope,
                 "expected": EXPECTED[axis]}
            )  # fmt: skip
    return rows


def run(config: Config, *, show_progress: bool = True) -> tuple[Results, list[dict[str, Any]]]:
    """Measure everything; return the results and the rows of compilation."""
    compiled = compile_rows()
    results = Results(config)
    cells = [(size, loss, reg) for size in config.sizes for loss in config.losses for reg in config.regularizers]
    # A logistic problem of 10⁸ entries takes half a minute a run.
    cells = [cell for cell in cells if not (cell[1] == "logistic" and np.prod(cell[0]) > 5e7)]
    total = len(cells) + (14 * len(config.regularizers) if config.growth else 0)
    with tqdm(total=total, disable=not show_progress, file=sys.stderr, unit="cell") as progress:
        for size, loss, reg in cells:
            progress.set_postfix_str(f"{size} {loss} {reg}")
            results.rows += measure(config, size, loss, reg)
            progress.update()
        if config.growth:
            results.growth = growth(config, progress)
    return results, compiled


def table(results: Results, compiled: list[dict[str, Any]]) -> str:
    """Return the table for the screen."""
    headers = ("N, d, ℐ", "loss", "reg", "method", "ms", "min-max", "residual", "× limit", "× ours")
    lines = []
    for row in results.rows:
        name = ", ".join(map(str, row["size"]))
        if "failed" in row:
            lines.append((name, row["loss"], row["reg"], row["method"], "failed", "", row["failed"][:40], "", ""))
            continue
        low, high = row["spread"]
        reached = "" if row["residual"] is None else f"{row['residual']:.0e}" + ("" if row["as_accurate"] else " *")
        lines.append(
            (name, row["loss"], row["reg"], row["method"], f"{1e3 * row['seconds']:.3g}",
             f"{1e3 * low:.3g}-{1e3 * high:.3g}", reached, f"{row['over_limit']:.2f}", f"{row['over_ours']:.1f}")
        )  # fmt: skip
    text = format_table(headers, lines)
    text += "\n* less accurate than ours; its time is not that of the same answer"
    text += f"\ncompilation or loading of all of it: {sum(row['seconds'] for row in compiled):.1f} s"
    if results.growth:
        rows = [(g["reg"], g["axis"], f"{g['exponent']:.2f}", f"{g['expected']:.0f}") for g in results.growth]
        text += "\n\n" + format_table(("reg", "axis", "fitted exponent", "expected where it dominates"), rows)
    return text


def draw(results: Results) -> Figure:
    """Draw the time of each method over the BLAS limit, one panel a loss."""
    import matplotlib.pyplot as plt

    styles = {
        "equipoise": ("blue", "o"),
        "equipoise, one more λ": ("sky_blue", "v"),
        "NumPy loop": ("green", "s"),
        "L-BFGS-B": ("orange", "D"),
        "trust-ncg": ("purple", "P"),
        "CVXPY + Clarabel": ("vermillion", "^"),
    }
    losses = results.config.losses
    figure, axes = plt.subplots(1, len(losses), figsize=(4.6 * len(losses), 4.2), squeeze=False, layout="constrained")
    labels = [f"{size}\n{reg}" for size in _size_names(results) for reg in results.config.regularizers]
    for panel, loss in zip(axes[0], losses, strict=True):
        for name, (color, marker) in styles.items():
            rows = [r for r in results.rows if r["method"] == name and r["loss"] == loss and "failed" not in r]
            if not rows:
                continue
            x = [labels.index(f"{', '.join(map(str, r['size']))}\n{r['reg']}") for r in rows]
            y = [r["over_limit"] for r in rows]
            good = [bool(r["as_accurate"]) for r in rows]
            panel.scatter(
                x, y, marker=marker, s=26, label=name, edgecolors=OKABE_ITO[color],
                facecolors=[OKABE_ITO[color] if g else "none" for g in good],
            )  # fmt: skip
        panel.axhline(1.0, color="#555555", lw=1.0, ls="--")
        panel.set(yscale="log", title=loss, ylabel="time / BLAS limit")
        panel.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
    axes[0][0].legend(fontsize=7, loc="upper left", title="hollow: less accurate", title_fontsize=7)
    return figure


def draw_growth(results: Results) -> Figure:
    """Draw time against N, d and ℐ, with the fitted exponents."""
    import matplotlib.pyplot as plt

    from benchmarks._figures import REGULARIZER_SERIES

    figure, axes = plt.subplots(1, 3, figsize=(9.2, 3.2), layout="constrained")
    for panel, axis in zip(axes, ("N", "d", "I"), strict=True):
        for row in (r for r in results.growth if r["axis"] == axis):
            series = REGULARIZER_SERIES[row["reg"]]
            panel.plot(row["values"], row["seconds"], label=f"{series.label}: {row['exponent']:.2f}", **series.line())
        panel.set(xscale="log", yscale="log", xlabel="ℐ" if axis == "I" else axis, ylabel="seconds")
        panel.legend(title=f"fitted exponent (expected {EXPECTED[axis]:.0f})", title_fontsize=7.5, fontsize=7.5)
    return figure


def _size_names(results: Results) -> list[str]:
    return [", ".join(map(str, size)) for size in results.config.sizes]


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
    options = Parser(prog="python -m benchmarks.solver_speed", description=__doc__)
    options.add_argument("--quick", action="store_true", help="two small sizes, in under a minute")
    options.add_argument("--sizes", help='N,d,I triples, for example "10,20,100;100,50,1000"')
    options.add_argument("--loss", default="linear,logistic", help="linear, logistic or both")
    options.add_argument("--reg", default=",".join(REGULARIZERS), help="regularizers")
    options.add_argument("--repetitions", type=int, default=5, help="timed runs of each method (at least 5 to report)")
    options.add_argument("--no-peers", action="store_true", help="only ours and the BLAS limit")
    options.add_argument("--growth", action="store_true", help="also how the cost grows with N, d and I")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--jobs", type=int, default=0, help="threads (default: all); set EQUIPOISE_NUM_THREADS instead"
    )
    options.add_argument("--out", type=Path, default=Path("results/solver_speed"))
    return options


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    options = parser().parse_args(argv)
    if options.repetitions < 1:
        raise ShapeError("--repetitions", "an integer >= 1", str(options.repetitions))
    if options.jobs not in (0, n_threads()):
        raise ShapeError(
            "--jobs", f"{n_threads()}, the threads of this process", f"{options.jobs}; set EQUIPOISE_NUM_THREADS"
        )
    config = Config(
        sizes=_parse_sizes(options.sizes) if options.sizes else (QUICK if options.quick else SIZES),
        losses=parse_names(options.loss, tuple(LOSSES), "--loss"),
        regularizers=parse_names(options.reg, REGULARIZERS, "--reg"),
        repetitions=options.repetitions,
        seed=options.seed,
        peers=not options.no_peers,
        growth=options.growth,
    )
    make_folder(options.out)
    results, compiled = run(config)
    print(table(results, compiled))
    record = {**environment(), "threads": n_threads(), "processors": available_processors()}
    write_json(
        options.out / "results.json",
        {"config": asdict(config), "environment": record, "compilation": compiled, "rows": results.rows,
         "growth": results.growth},
    )  # fmt: skip
    with style():
        paths = list(save(draw(results), options.out, "solver_speed"))
        if results.growth:
            paths += save(draw_growth(results), options.out, "growth")
    print("\nwrote " + ", ".join(str(path) for path in [options.out / "results.json", *paths]))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
