r"""How much data a target costs: least points and least answer against the number of honest users (C10-C14).

Honest users prefer models close to θ†; the target is -θ†, so each pulls against it by about the same amount.  With
w = F + 2νθ♠ and s = wᵀθ♠ (see :mod:`theory.poisoning`) the program reports against the number N of users

* linear regression: the least |answer| of one point, and the least number of points with |answers| <= a;
* logistic regression: the least number of labels, ⌈s/W(1/e)⌉;
* K classes: the bound ⌈s/W((K-1)/e)⌉, and how many hard labels the construction takes (up to ``--construct`` users);

with fitted exponents.  Theory: s grows like N² (an equality in the limit, C14), so the numbers of points do too, and
the least answer, 2√s, grows like N.  Every dataset that is small enough is made, and the distance of the exact ρ* to
the target is reported: as the solver finds it, and as the certificate bounds it.

A second experiment compares ways to poison K-class regression for one N: honest-looking answers of θ♠ (Lemma 14),
labels of queries near its indifference subspace (Appendix L), and the exact data: distance of ρ* by number of points.

A map shows the defender's view in two dimensions (logistic regression, 6 honest users): the models that one and two
attackers can force under ℓ2 and smooth-ℓ2, and how many labels it takes to force each, there and under ℓ2².

An interrupted run goes on where it stopped when the same command is given again.

**Files** in ``--out``: ``poisoning_cost.png`` and ``reach.png`` (both also ``.svg``), ``cells.jsonl`` (finished cells),
and ``results.json`` with ``config``, ``rows`` (``loss``, ``N``, ``work``, ``points``, ``bound``, ``answer``,
``distance``, ``distance_bound``; null where no data were made), ``fits`` (``slope`` and ``theory_slope``),
``comparison`` (``method``, ``points``, ``distance``), ``timing``, ``environment``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _figures, _harness, _sweep, cga_convergence
from benchmarks._harness import ResumeLog
from benchmarks.cga_convergence import finite
from solvers import honest_gradient, minimize, poison, poison_by_sampling
from solvers.chain import with_data
from solvers.trajectory import honest_sums
from theory import (
    L2,
    Demand,
    GaussianQueries,
    LeastSquares,
    Logistic,
    Loss,
    Multinomial,
    Problem,
    Regularizer,
    SmoothL2,
    SquaredL2,
    UserDataset,
    honest_dataset,
    indifference_queries,
    is_reachable,
    least_answer,
    least_points,
    reported_model_from_gradient,
)
from theory.arrays import Array, as_count, as_positive
from theory.regularizers import norms

NAME = "poisoning_cost"
LOSSES = ("linear", "logistic", "classes")
REGULARIZERS: dict[str, type[SquaredL2] | type[L2] | type[SmoothL2]] = {
    "squared_l2": SquaredL2,
    "l2": L2,
    "smooth_l2": SmoothL2,
}
METHODS = ("answers of θ♠ (Lemma 14)", "indifferent queries (App. L)")


@dataclass(frozen=True)
class Config:
    """What one run computes."""

    users: tuple[int, ...]
    dim: int
    n_classes: int
    n_data: int
    lam: float
    nu: float
    max_answer: float
    construct: int
    max_points: int
    sizes: tuple[int, ...]
    replicates: int
    side: int
    seed: int

    def __post_init__(self) -> None:
        for n in self.users:
            as_count(n, "--users", 2)
        as_count(self.dim, "--dim", 1)
        as_count(self.n_classes, "--classes", 2)
        as_count(self.side, "--side", 2)
        as_positive(self.lam, "--lam", "def_regularization")
        as_positive(self.nu, "--nu", "eq5_local_loss")
        as_positive(self.max_answer, "--max-answer", "linear_bounded_answers")


# What of the configuration is in the list of cells, and in none of them.
_OF_TASKS = ("users", "sizes", "replicates")


@dataclass(frozen=True, eq=False)
class Results:
    """The rows of the costs and of the comparison, and the maps by regularizer."""

    costs: list[dict[str, Any]]
    comparison: list[dict[str, Any]]
    maps: dict[str, dict[str, Any]]


def loss_of(config: Config, name: str) -> Loss:
    """Return the loss with this name."""
    losses: dict[str, Loss] = {
        "linear": LeastSquares(),
        "logistic": Logistic(),
        "classes": Multinomial(config.n_classes),
    }
    return losses[name]


def problem_of(config: Config, name: str, n_users: int) -> tuple[Problem, Array]:
    """Return the problem, whose user 0 attacks, and the target; users of a smaller N are among those of a larger."""
    loss = loss_of(config, name)
    size = loss.n_outputs * config.dim
    preferred = _harness.generator(config.seed, 1, LOSSES.index(name)).standard_normal(size)
    if loss.n_outputs > 1:
        preferred = (preferred.reshape(loss.n_outputs, -1) - preferred.reshape(loss.n_outputs, -1).mean(axis=0)).ravel()
    preferred /= norms(preferred)
    users = [UserDataset.empty(config.dim)]
    for n in range(1, n_users):
        rng = _harness.generator(config.seed, 2, LOSSES.index(name), n)
        own = preferred + 0.1 * rng.standard_normal(size)
        users.append(honest_dataset(GaussianQueries(config.dim), own, config.n_data, loss, rng, noise=0.1))
    return Problem(users, loss, SquaredL2(config.lam), config.nu), -preferred


def demand_of(problem: Problem, target: Array) -> Demand:
    """Return w and θ♠ of user 0."""
    F = honest_gradient(problem, 0, target)
    return Demand.of(F, reported_model_from_gradient(target, -F, problem.reg), problem.nu)


def cost(config: Config, name: str, n_users: int) -> dict[str, Any]:
    """Return one row."""
    problem, target = problem_of(config, name, n_users)
    demand, loss = demand_of(problem, target), problem.loss
    bounds = {"max_answer": config.max_answer} if name == "linear" else {}
    bound = least_points(demand, loss, **bounds)
    row: dict[str, Any] = {
        "loss": name,
        "N": n_users,
        "work": demand.work,
        "bound": bound,
        "points": bound if name != "classes" else None,
        "answer": least_answer(demand) if name == "linear" else None,
        "distance": None,
        "distance_bound": None,
    }
    if bound <= config.max_points and (name != "classes" or n_users <= config.construct):
        attack = poison(problem, 0, target, max_answer=bounds.get("max_answer"), max_points=config.max_points)
        row["points"] = attack.n_points
        row["distance"], row["distance_bound"] = attack.distance_to_target, attack.distance_bound
    return row


def compare(config: Config, method: int, n_points: int, replicate: int) -> dict[str, Any]:
    """Return the distance of ρ* to the target for one way to make ``n_points`` points (K classes)."""
    problem, target = problem_of(config, "classes", min(config.users))
    rng = _harness.generator(config.seed, 3, method, n_points, replicate)
    queries = GaussianQueries(config.dim)
    if method == 0:
        distance = poison_by_sampling(problem, 0, target, n_points, queries=queries, rng=rng).distance_to_target
    else:
        model = demand_of(problem, target).reported_model
        scale = 1.0 / max(float(norms(model)), 1e-300)
        Q, p = indifference_queries(model, config.n_classes, n_points, rng, queries=queries, noise=scale)
        labels = (rng.random((n_points, 1)) >= np.cumsum(p, axis=1)[:, :-1]).sum(axis=1).astype(float)
        rho = minimize(with_data(problem, 0, UserDataset(Q, labels))).rho
        distance = float(norms(rho - target))
    return {"method": METHODS[method], "points": n_points, "replicate": replicate, "distance": distance}


def cell(config: Config, kind: str, *arguments: Any) -> dict[str, Any]:
    """Return one cell: a cost, a comparison or a map."""
    functions: dict[str, Any] = {"cost": cost, "compare": compare, "reach": reach_map}
    row = {key: finite(value) for key, value in functions[kind](config, *arguments).items()}
    return {"kind": kind, **row}


def tasks_of(config: Config) -> list[tuple[Any, ...]]:
    """Return the cells, in the order of the rows."""
    tasks: list[tuple[Any, ...]] = [("cost", name, n) for name in LOSSES for n in config.users]
    tasks += [
        ("compare", method, size, replicate)
        for method in range(len(METHODS))
        for size in config.sizes
        for replicate in range(config.replicates)
    ]
    return tasks + [("reach", name) for name in REGULARIZERS]


def run(config: Config, out: Path, *, jobs: int = 1, fresh: bool = False, progress: bool = False) -> Results:
    """Compute every cell that the log in ``out`` does not have yet, and return all of them."""
    # A cell of costs or maps depends on none of these; the comparison is for the least of ``users``.
    setting = {name: value for name, value in dataclasses.asdict(config).items() if name not in _OF_TASKS}
    setting["fewest_users"] = min(config.users)
    log = ResumeLog(out / _harness.LOG, _sweep.sweep_key(NAME, setting, __file__, _harness, _sweep, cga_convergence))
    if fresh:
        log.clear()
    function = functools.partial(cell, config)
    cells = _sweep.sweep(function, tasks_of(config), log, name=NAME, jobs=jobs, progress=progress)
    rows = {kind: [_plain(row) for row in cells if row["kind"] == kind] for kind in ("cost", "compare", "reach")}
    return Results(rows["cost"], rows["compare"], {row["reg"]: row for row in rows["reach"]})


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("task", "kind")}


def fits(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the slopes of s and of the answer in log N, over the larger half of the sizes."""
    found = []
    for name in LOSSES:
        own = [row for row in rows if row["loss"] == name and row["work"] > 0]
        own = own[len(own) // 2 :] if len(own) >= 4 else own
        for quantity, theory in (("work", 2.0), ("answer", 1.0)):
            values = [row[quantity] for row in own]
            if len(own) >= 2 and all(value is not None and value > 0 for value in values):
                slope = np.polyfit(np.log([row["N"] for row in own]), np.log(values), 1)[0]
                found.append({"loss": name, "quantity": quantity, "slope": float(slope), "theory_slope": theory})
    return found


def table(rows: list[dict[str, Any]], slopes: list[dict[str, Any]]) -> str:
    """Return both as text."""
    lines = [
        [
            row["loss"],
            str(row["N"]),
            f"{row['work']:.4g}",
            f"{row['bound']:,}",
            "-" if row["points"] is None else f"{row['points']:,}",
            "-" if row["answer"] is None else f"{row['answer']:.4g}",
            "-" if row["distance"] is None else f"{row['distance']:.1e}",
            "-" if row["distance_bound"] is None else f"{row['distance_bound']:.1e}",
        ]
        for row in rows
    ]
    headers = ["loss", "N", "s", "least points", "points", "least answer", "distance", "certified"]
    slope_lines = [
        [fit["loss"], fit["quantity"], f"{fit['slope']:.3f}", f"{fit['theory_slope']:g} (equality in the limit)"]
        for fit in slopes
    ]
    return (
        _harness.format_table(headers, lines)
        + "\n\n"
        + _harness.format_table(["loss", "quantity", "slope in log N", "theory"], slope_lines)
    )


def figure(config: Config, rows: list[dict[str, Any]], compared: list[dict[str, Any]]) -> Any:
    """Return the figure: points against N, least answer against N, ways to poison."""
    from matplotlib.figure import Figure

    colors = {name: _figures.OKABE_ITO[c] for name, c in zip(LOSSES, ("blue", "vermillion", "green"), strict=True)}
    labels = {
        "linear": f"linear, |A| ≤ {config.max_answer:g}",
        "logistic": "logistic",
        "classes": f"{config.n_classes} classes: bound",
    }
    fig = Figure(figsize=(7.2, 2.9), layout="constrained")
    left, middle, right = fig.subplots(1, 3)
    for name in LOSSES:
        own = [row for row in rows if row["loss"] == name]
        left.loglog([row["N"] for row in own], [row["bound"] for row in own], color=colors[name], label=labels[name])
        made = [row for row in own if row["distance"] is not None]
        left.loglog([row["N"] for row in made], [row["points"] for row in made], "o", ms=3.5, color=colors[name])
    N = np.array(config.users, dtype=float)
    top = max(row["bound"] for row in rows)
    left.loglog(N, 3.0 * top * (N / N[-1]) ** 2, color=_figures.REFERENCE, dashes=(3, 2), lw=0.9, label="slope 2")
    left.plot([], [], "o", ms=3.5, color=_figures.REFERENCE, label="made, and exact")
    # Room for the legend above the lines.
    left.set(title="points for a target", xlabel="users N", ylabel="poison points", ylim=(None, 300.0 * top))
    left.legend(fontsize=6.5)
    own = [row for row in rows if row["loss"] == "linear"]
    answers = np.array([row["answer"] for row in own], dtype=float)
    middle.loglog(N, answers, "o-", ms=3.5, color=colors["linear"], label="one point, least |A|")
    middle.loglog(N, 2.0 * answers[-1] * N / N[-1], color=_figures.REFERENCE, dashes=(3, 2), lw=0.9, label="slope 1")
    middle.set(title="answer of one point", xlabel="users N", ylabel="|A|")
    middle.legend(fontsize=6.5)
    for method, color in zip(METHODS, ("orange", "purple"), strict=True):
        points = sorted({row["points"] for row in compared if row["method"] == method})
        medians = [
            float(np.median([r["distance"] for r in compared if r["method"] == method and r["points"] == size]))
            for size in points
        ]
        right.loglog(points, medians, "o-", ms=3.5, color=_figures.OKABE_ITO[color], label=method)
    exact = next((r for r in rows if r["loss"] == "classes" and r["distance"] is not None), None)
    if exact is not None:
        right.loglog(
            exact["points"], max(exact["distance"], 1e-16), "*", ms=9, color=colors["classes"], label="exact data"
        )
    right.set(title=f"{config.n_classes} classes, N = {min(config.users)}", xlabel="poison points", ylabel="‖ρ* - θ†‖")
    right.legend(fontsize=5.8)
    return fig


def reach_map(config: Config, name: str) -> dict[str, Any]:
    """Return, on a grid of models, ‖F‖/λ and the least number of labels (None where no data do it)."""
    rng = _harness.generator(config.seed, 4)
    preferred = np.array([0.5, 0.0]) + 0.7 * rng.standard_normal((6, 2))
    queries = GaussianQueries(2)
    users = [UserDataset.empty(2)]
    users += [honest_dataset(queries, model, 40, Logistic(), rng) for model in preferred]
    reg = REGULARIZERS[name](config.lam)
    problem = Problem(users, Logistic(), reg, config.nu)
    sums = honest_sums(problem.without(0), "exact", np.zeros(2))
    axes = [np.linspace(center - 1.7, center + 1.7, config.side) for center in preferred.mean(axis=0)]
    force: list[list[float]] = []
    points: list[list[int | None]] = []
    for y in axes[1]:
        F = [sums(np.array([x, y]), 0.0) for x in axes[0]]
        force.append([float(norms(f)) / config.lam for f in F])
        points.append([_labels(np.array([x, y]), f, reg, config.nu) for x, f in zip(axes[0], F, strict=True)])
    honest = minimize(problem.without(0))
    return {
        "reg": name,
        "axes": [axis.tolist() for axis in axes],
        "force": force,
        "points": points,
        "rho": honest.rho.tolist(),
        "models": honest.thetas.tolist(),
    }


def _labels(rho: Array, F: Array, reg: Regularizer, nu: float) -> int | None:
    """The least number of labels that force ρ against the honest sum F; None if none do."""
    if not is_reachable(float(norms(F)), reg):
        return None
    return least_points(Demand.of(F, reported_model_from_gradient(rho, -F, reg), nu), Logistic())


def reach_figure(maps: dict[str, dict[str, Any]]) -> Any:
    """Return the map: the boundary of what one and two attackers force, and the labels that it takes."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7.2, 2.7), layout="constrained")
    titles = {"l2": "ℓ2 (white: out of reach)", "smooth_l2": "smooth-ℓ2", "squared_l2": "ℓ2²: no limit"}
    axes = fig.subplots(1, 3, sharex=True, sharey=True)
    shades: Any = None
    for panel, (name, title) in zip(axes, titles.items(), strict=True):
        own = maps[name]
        labels = np.maximum(np.array(own["points"], dtype=float), 1.0)
        shades = panel.pcolormesh(*own["axes"], labels, norm=LogNorm(1, 3000), cmap="cividis", rasterized=True)
        if name != "squared_l2":
            look: Any = {"linestyles": ["-", "--"], "linewidths": 1.2, "colors": [_figures.OKABE_ITO["vermillion"]]}
            panel.contour(*own["axes"], own["force"], levels=[1.0, 2.0], **look)
            for label, dashes in (("1 attacker", ()), ("2 attackers", (3, 1.5))):
                panel.plot([], [], color=_figures.OKABE_ITO["vermillion"], lw=1.2, dashes=dashes, label=label)
        dots = {"ms": 3.5, "color": _figures.OKABE_ITO["black"], "label": "honest models"}
        panel.plot(*np.transpose(own["models"]), "o", **dots)
        panel.plot(*own["rho"], "*", ms=9, color=_figures.OKABE_ITO["sky_blue"], mec="k", mew=0.5, label="honest ρ*")
        panel.set(title=title, xlabel="first coordinate of ρ", aspect="equal")
        panel.grid(False)
    axes[0].set_ylabel("second coordinate of ρ")
    axes[0].legend(fontsize=6.5, loc="lower right")
    fig.colorbar(shades, ax=axes, label="least number of labels", shrink=0.9)
    return fig


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = _harness.Parser(prog=f"python -m benchmarks.{NAME}", description="What a target costs in data.")
    options.add_argument("--users", help="numbers of users, separated by commas (3 to 1000; 3 to 100 with --quick)")
    options.add_argument("--dim", type=int, default=4, help="d (%(default)s)")
    options.add_argument("--classes", type=int, default=3, help="K (%(default)s)")
    options.add_argument("--data-per-user", type=int, default=20, help="data of each honest user (%(default)s)")
    options.add_argument("--lam", type=float, default=1.0, help="λ > 0 (%(default)s)")
    options.add_argument("--nu", type=float, default=0.1, help="ν > 0 (%(default)s)")
    options.add_argument("--max-answer", type=float, default=3.0, help="bound on |answers|, linear (%(default)s)")
    options.add_argument("--construct", type=int, default=30, help="make K-class data up to this N (%(default)s)")
    options.add_argument("--max-points", type=int, default=100_000, help="make data up to this size (%(default)s)")
    options.add_argument("--side", type=int, help="models along each side of the maps (161; 81 with --quick)")
    _harness.add_run_options(options, NAME, quick="fewer users, sizes and repetitions", jobs=1)
    return options


@_harness.command_line
def main(argv: list[str] | None = None) -> int:
    """Run the program; return 0, 2 for bad input, 130 if interrupted."""
    options = parser().parse_args(argv)
    usual = (3, 5, 10, 20, 50, 100) if options.quick else (3, 5, 10, 20, 50, 100, 200, 500, 1000)
    config = Config(
        users=usual if options.users is None else _harness.parse_integers(options.users, "--users"),
        dim=options.dim,
        n_classes=options.classes,
        n_data=options.data_per_user,
        lam=options.lam,
        nu=options.nu,
        max_answer=options.max_answer,
        construct=options.construct,
        max_points=options.max_points,
        sizes=(30, 300, 3000) if options.quick else (30, 100, 300, 1000, 3000, 10_000, 30_000),
        replicates=3 if options.quick else 10,
        side=options.side if options.side is not None else 81 if options.quick else 161,
        seed=options.seed,
    )
    jobs = _harness.jobs_of(options)
    out = _harness.make_folder(options.out)
    start = time.perf_counter()
    with _harness.resumable(out):
        results = run(config, out, jobs=jobs, fresh=options.fresh, progress=True)
    slopes = fits(results.costs)
    print(f"\n{table(results.costs, slopes)}\n")
    with _figures.style():
        paths = list(_figures.save(figure(config, results.costs, results.comparison), out, NAME))
        paths += _figures.save(reach_figure(results.maps), out, "reach")
    content = {"rows": results.costs, "fits": slopes, "comparison": results.comparison}
    written = _harness.write_results(out, NAME, config, time.perf_counter() - start, **content)
    print("wrote " + ", ".join(str(path) for path in (*paths, written)))
    return _harness.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
