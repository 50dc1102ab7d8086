r"""How fast the counter-gradient attack converges, and from which step on it does not (Theorem 4, C1, C2).

With q = ηL, L the largest eigenvalue of F, theory says of CGA against ℓ2² and least squares:

* the distance to the target falls by (q + √(q² + 4q))/2 a round: an equality in the limit, as F is linear;
* it converges exactly for q < 1/2 (Appendix H proves q <= 1/3);

and of CGA against ℓ2 and smooth-ℓ2 that it converges for q < 1/2, L the data-free constant of C3, to the minimum of
e(ρ) + λ‖ρ - θ†‖, which is computed before the run; no rate is claimed there.  This program measures and asserts
nothing.

An interrupted run goes on where it stopped when the same command is given again.

**Files** in ``--out``: ``cga_convergence.png`` and ``.svg``, ``cells.jsonl`` (finished runs of the attack), and
``results.json`` with ``config``, ``rows`` (``reg``, ``q``, ``rounds``, ``distance`` to the predicted limit at the end,
``rate`` measured, ``theory_rate`` or null, ``converges_in_theory``), ``curves`` (distances by round), ``timing`` and
``environment``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _figures, _harness, _sweep
from benchmarks._harness import ResumeLog
from solvers import counter_gradient_limit, federated_descent, minimize
from solvers.trajectory import honest_sums
from theory import (
    L2,
    CounterGradient,
    GaussianQueries,
    LeastSquares,
    Problem,
    Regularizer,
    SmoothL2,
    SquaredL2,
    counter_gradient_rate,
    honest_dataset,
)
from theory.arrays import Array, as_count, as_positive

NAME = "cga_convergence"
STEPS = (1.0 / 3.0, 0.49, 0.5, 0.51)
_QUICK_SWEEP, _FULL_SWEEP = 7, 20
REGULARIZERS: dict[str, type[SquaredL2] | type[L2] | type[SmoothL2]] = {
    "squared_l2": SquaredL2,
    "l2": L2,
    "smooth_l2": SmoothL2,
}


@dataclass(frozen=True)
class Config:
    """What one run computes: N users of ``n_data`` data each, one of whom attacks, in ``dim`` dimensions."""

    n_users: int
    dim: int
    n_data: int
    lam: float
    nu: float
    rounds: int
    sweep: int
    seed: int

    def __post_init__(self) -> None:
        as_count(self.n_users, "--users", 2)
        as_count(self.dim, "--dim", 1)
        as_count(self.n_data, "--data-per-user", 1)
        as_count(self.rounds, "--rounds", 20)
        as_positive(self.lam, "--lam", "def_regularization")
        as_positive(self.nu, "--nu", "eq5_local_loss")


def problem_of(config: Config, reg: Regularizer) -> tuple[Problem, Array]:
    """Return the problem (user 0 attacks) and the target, which the honest users oppose."""
    rng = _harness.generator(config.seed, 0)
    preferred = rng.standard_normal(config.dim)
    queries = GaussianQueries(config.dim)
    users = [
        honest_dataset(queries, preferred + 0.3 * rng.standard_normal(config.dim), config.n_data, LeastSquares(), rng)
        for _ in range(config.n_users)
    ]
    return Problem(users, LeastSquares(), reg, config.nu), -2.0 * preferred


def run_one(config: Config, name: str, q: float) -> dict[str, Any]:
    """Run CGA with ηL = q; return one row, and the distances to the predicted limit by round."""
    problem, target = problem_of(config, REGULARIZERS[name](config.lam))
    limit = counter_gradient_limit(problem, 0, target)
    # For ℓ2² the smallest L; for the others a bound, as for any convex loss.
    L = honest_sums(problem.without(0), "exact", np.zeros(config.dim)).smoothness()
    # From the honest minimum, where F = 0, CGA would arrive in one round: start elsewhere.
    start = minimize(problem.without(0)).rho + 1.0
    attack = CounterGradient(target, problem.reg)
    trajectory = federated_descent(problem, eta=q / L, n_rounds=config.rounds, attack=attack, s=0, rho0=start)
    distance = trajectory.distance_to(limit.rho)
    return {
        "reg": name,
        "q": q,
        "rounds": int(trajectory.rounds[-1]),
        "distance": float(distance[-1]),
        "predicted_to": finite(limit.distance_bound),
        "rate": measured_rate(distance),
        "theory_rate": counter_gradient_rate(q) if name == "squared_l2" else None,
        "converges_in_theory": q < 0.5,
        "curve": [float(x) for x in distance],
    }


def measured_rate(distance: Array) -> float | None:
    """Return the factor a round over the later half of the rounds before rounding takes over; None if too few are left.

    Examples
    --------
    >>> measured_rate(0.5 ** np.arange(30.0))
    0.5
    """
    floor = 1e-11 * max(float(distance.max()), 1e-300)
    below = np.flatnonzero(distance <= floor)
    last = int(below[0]) - 1 if below.size else len(distance) - 1
    first = last // 2
    if last - first < 4:
        return None
    return float((distance[last] / distance[first]) ** (1.0 / (last - first)))


def sweep_of(config: Config) -> list[float]:
    """Return the values of q for ℓ2²: the four of the figure, and more between 0.02 and 0.55."""
    more = np.linspace(0.02, 0.55, config.sweep)
    return sorted({*STEPS, *(float(np.round(q, 4)) for q in more)})


def tasks_of(config: Config) -> list[tuple[Any, ...]]:
    """Return the cells (regularizer, q), in the order of the rows."""
    return [("squared_l2", q) for q in sweep_of(config)] + [(reg, q) for reg in ("l2", "smooth_l2") for q in STEPS]


def run(config: Config, out: Path, *, jobs: int = 1, fresh: bool = False, progress: bool = False) -> list[_sweep.Row]:
    """Return all rows, in the order of regularizer and q; those that the log in ``out`` has are not computed again."""
    # A cell does not depend on which other q there are.
    setting = {name: value for name, value in dataclasses.asdict(config).items() if name != "sweep"}
    log = ResumeLog(out / _harness.LOG, _sweep.sweep_key(NAME, setting, __file__, _harness, _sweep))
    if fresh:
        log.clear()
    function = functools.partial(run_one, config)
    return _sweep.sweep(function, tasks_of(config), log, name=NAME, jobs=jobs, progress=progress)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of the four steps as text."""
    lines = []
    for row in rows:
        if row["q"] in STEPS:
            theory = row["theory_rate"]
            lines.append(
                [
                    row["reg"],
                    f"{row['q']:.4f}",
                    f"{row['distance']:.2e}",
                    "-" if row["rate"] is None else f"{row['rate']:.5f}",
                    "no rate is claimed" if theory is None else f"{theory:.5f} (equality in the limit)",
                    "yes" if row["converges_in_theory"] else "no" if row["reg"] == "squared_l2" else "not claimed",
                ]
            )
    return _harness.format_table(
        ["regularizer", "eta L", "distance at the end", "rate", "rate in theory", "converges in theory"], lines
    )


def figure(rows: list[dict[str, Any]]) -> Any:
    """Return the figure: distances by round, rates against theory, and the other regularizers."""
    from matplotlib.figure import Figure

    colors = [_figures.OKABE_ITO[c] for c in ("blue", "green", "orange", "vermillion")]
    fig = Figure(figsize=(7.6, 3.0), layout="constrained")
    left, middle, right = fig.subplots(1, 3)
    for q, color in zip(STEPS, colors, strict=True):
        for row in rows:
            if row["q"] != q:
                continue
            curve = np.maximum(np.array(row["curve"]), 1e-16)
            label = f"ηL = {q:.2f}" if q != STEPS[0] else "ηL = 1/3"
            if row["reg"] == "squared_l2":
                left.semilogy(curve, color=color, label=label)
            elif row["reg"] == "smooth_l2" and q < 0.5:
                right.semilogy(curve, color=color, dashes=(1.5, 1.5), label=f"smooth-ℓ2, {label}")
            elif row["reg"] == "l2" and q < 0.5:
                right.semilogy(curve, color=color, label=f"ℓ2, {label}")
    left.set(title="ℓ2²: distance to the target", xlabel="round", ylabel="‖ρᵗ - θ†‖", ylim=(1e-15, 1e4))
    left.legend(fontsize=7)
    own = [row for row in rows if row["reg"] == "squared_l2" and row["rate"] is not None]
    grid = np.linspace(0.0, 0.56, 200)
    middle.plot(grid, [counter_gradient_rate(q) for q in grid], color=_figures.REFERENCE, label="(q + √(q² + 4q))/2")
    middle.plot(
        [row["q"] for row in own],
        [row["rate"] for row in own],
        "o",
        color=_figures.OKABE_ITO["blue"],
        ms=4,
        label="run",
    )
    middle.axvline(0.5, color=_figures.OKABE_ITO["vermillion"], lw=0.8, dashes=(4, 2))
    middle.axhline(1.0, color=_figures.REFERENCE, lw=0.6)
    middle.set(title="ℓ2²: factor a round", xlabel="q = ηL", ylim=(0.0, 1.12), xlim=(0.0, 0.56))
    middle.text(0.488, 0.03, "theory: converges for q < 1/2", rotation=90, ha="right", va="bottom", fontsize=7)
    middle.legend(fontsize=7, loc="upper left")
    right.set(title="others: to the predicted limit", xlabel="round", ylim=(1e-16, 1e9))
    right.legend(fontsize=7, loc="upper right")
    return fig


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = _harness.Parser(
        prog=f"python -m benchmarks.{NAME}", description="Rate and threshold of CGA against theory."
    )
    options.add_argument("--users", type=int, default=10, help="N, the attacker included (%(default)s)")
    options.add_argument("--dim", type=int, default=5, help="d (%(default)s)")
    options.add_argument("--data-per-user", type=int, default=20, help="data of each honest user (%(default)s)")
    options.add_argument("--lam", type=float, default=1.0, help="λ > 0 (%(default)s)")
    options.add_argument("--nu", type=float, default=0.1, help="ν > 0 (%(default)s)")
    options.add_argument("--rounds", type=int, help="rounds of a run (2000; 600 with --quick)")
    _harness.add_run_options(options, NAME, quick="fewer rounds and steps", jobs=1)
    return options


@_harness.command_line
def main(argv: list[str] | None = None) -> int:
    """Run the program; return 0, 2 for bad input, 130 if interrupted."""
    options = parser().parse_args(argv)
    config = Config(
        n_users=options.users,
        dim=options.dim,
        n_data=options.data_per_user,
        lam=options.lam,
        nu=options.nu,
        rounds=options.rounds if options.rounds is not None else 600 if options.quick else 2000,
        sweep=_QUICK_SWEEP if options.quick else _FULL_SWEEP,
        seed=options.seed,
    )
    jobs = _harness.jobs_of(options)
    out = _harness.make_folder(options.out)
    start = time.perf_counter()
    with _harness.resumable(out):
        rows = run(config, out, jobs=jobs, fresh=options.fresh, progress=True)
    seconds = time.perf_counter() - start
    print(f"\n{table(rows)}\n")
    with _figures.style():
        paths = _figures.save(figure(rows), out, NAME)
    keep = [{key: value for key, value in row.items() if key not in ("curve", "task")} for row in rows]
    curves = [{"reg": row["reg"], "q": row["q"], "distance": row["curve"]} for row in rows if row["q"] in STEPS]
    written = _harness.write_results(out, NAME, config, seconds, rows=keep, curves=curves)
    print("wrote " + ", ".join(str(path) for path in (*paths, written)))
    return _harness.EXIT_OK


def finite(value: Any) -> Any:
    """Return ``value``, or None for an infinite or missing number, which JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
