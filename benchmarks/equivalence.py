r"""Gradient attack, model attack and poisoned data, side by side on real data (Theorem 1, section 5, Figures 1 and 2).

The data are shared out among honest users; one more user attacks.  Its target is the opposite of what the honest users
agree on: minus their common model for linear and logistic regression, and for K classes the model that takes each class
for the next one (0→1→...→K-1→0).  For each data set the program runs

* the counter-gradient attack (gradient attack), round by round;
* the model attack that its last report becomes (Proposition 4), round by round;
* the data attack that this becomes: exact data with hard labels, and their exact ρ*,

and reports distances to the target, the certified error of the data attack, and the number of poison points against the
number below which no data set is exact.  Where that number exceeds ``--max-points`` the data are not made.

``--data`` takes names among ``diabetes`` (linear), ``breast_cancer`` (logistic), ``iris`` and ``digits`` (K classes;
digits averaged over 2 × 2 pixels), all from scikit-learn, or the path of an ``.npz`` file with ``x_train`` and
``y_train`` (MNIST in its usual packaging; ``--honest 10 --nu 1e-3`` gives 10 honest users with 6,000 images each; a few
minutes and 2 GB, with single local gradient steps in the attacks, and the data attack solved and certified in full).

The points of K-class data are few, each there many times; they are not written out, but every one is counted.

An interrupted run goes on where it stopped when the same command is given again.

**Files** in ``--out``: ``equivalence.png`` and ``.svg``, ``cells.jsonl`` (finished parts), and ``results.json`` with
``config``, ``rows`` (one for each data set: sizes, ``bound``, ``points``, ``distinct``, ``distance_gradient``,
``distance_model``, ``distance_data``, ``certified_data``, ``local``, ``reason``), ``curves`` (distances by round),
``timing``, ``environment``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _figures, _harness, _sweep, cga_convergence
from benchmarks._harness import ResumeLog
from benchmarks.cga_convergence import finite
from solvers import federated_descent, minimize, poison, reported_model
from solvers.trajectory import honest_sums
from theory import (
    CounterGradient,
    EquipoiseError,
    LeastSquares,
    Logistic,
    Loss,
    ModelAttack,
    Multinomial,
    Problem,
    ShapeError,
    SquaredL2,
    UserDataset,
    admissible_step,
    reported_model_from_gradient,
    smoothness,
)
from theory.arrays import Array, as_count, as_positive
from theory.dynamics import local_smoothness, regularizer_smoothness
from theory.regularizers import norms

NAME = "equivalence"
BUNDLED = ("diabetes", "breast_cancer", "iris", "digits")
_QUICK, _FULL = ("diabetes", "breast_cancer", "iris"), BUNDLED
PARTS = ("attacks", "data")
TITLES = {"least_squares": "linear regression", "logistic": "logistic regression", "multinomial": "K classes"}
# The largest problem whose local models are optimized fully in each round.
_EXACT = 1000


@dataclass(frozen=True)
class Config:
    """What one run computes."""

    data: tuple[str, ...]
    n_honest: int
    lam: float
    nu: float
    rounds: int
    max_points: int
    seed: int

    def __post_init__(self) -> None:
        as_count(self.n_honest, "--honest", 1)
        as_count(self.rounds, "--rounds", 2)
        as_count(self.max_points, "--max-points")
        as_positive(self.lam, "--lam", "def_regularization")
        as_positive(self.nu, "--nu", "eq5_local_loss")


@dataclass(frozen=True, eq=False)
class DataSet:
    """Queries with an intercept, answers, the loss that goes with them, and how many rows a user gets at most."""

    name: str
    Q: Array
    A: Array
    loss: Loss
    rows_per_user: int


def load(name: str) -> DataSet:
    """Return a bundled data set, or that of an ``.npz`` file."""
    if name in BUNDLED:
        return _bundled(name)
    path = Path(name)
    try:
        with np.load(path) as file:
            X, y = file["x_train"], file["y_train"]
    except (OSError, KeyError, ValueError) as error:
        expected = f"a name among {', '.join(BUNDLED)}, or an .npz file with x_train and y_train"
        raise ShapeError("--data", expected, f"{name!r} ({error})") from None
    pixels = X.reshape(len(X), -1) / 255.0
    classes = int(y.max()) + 1
    return DataSet(path.stem, _with_intercept(pixels), y.astype(float), Multinomial(classes), 6000)


def _bundled(name: str) -> DataSet:
    import sklearn.datasets

    found = getattr(sklearn.datasets, f"load_{name}")()
    X, y = np.asarray(found.data, dtype=float), np.asarray(found.target, dtype=float)
    if name == "digits":
        X = X.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(len(X), -1) / 16.0
    else:
        X = (X - X.mean(axis=0)) / X.std(axis=0)
    if name == "diabetes":
        return DataSet(name, _with_intercept(X), (y - y.mean()) / y.std(), LeastSquares(), len(X))
    if name == "breast_cancer":
        return DataSet(name, _with_intercept(X), 2.0 * y - 1.0, Logistic(), len(X))
    return DataSet(name, _with_intercept(X), y, Multinomial(int(y.max()) + 1), len(X))


def _with_intercept(X: Array) -> Array:
    return np.column_stack([X, np.ones(len(X))])


def problem_of(config: Config, data: DataSet) -> tuple[Problem, Array]:
    """Return the problem, whose user 0 attacks, and the target."""
    rng = _harness.generator(config.seed, 0)
    order = rng.permutation(len(data.Q))[: config.n_honest * data.rows_per_user]
    users = [UserDataset.empty(data.Q.shape[1])]
    users += [UserDataset(data.Q[rows], data.A[rows]) for rows in np.array_split(order, config.n_honest)]
    problem = Problem(users, data.loss, SquaredL2(config.lam), config.nu)
    common = minimize(problem.without(0)).rho
    if data.loss.n_outputs == 1:
        return problem, -common
    # The minimum for relabelled data is the permuted minimum: class k + 1 gets the row of class k.  Its rows sum to 0
    # (ν > 0) but for the error of the solver, which no labels could counter.
    rolled = np.roll(common.reshape(data.loss.n_outputs, -1), 1, axis=0)
    return problem, (rolled - rolled.mean(axis=0)).ravel()


def run_part(config: Config, name: str, part: str) -> dict[str, Any]:
    """Return the distances by round of the two attacks that take rounds ("attacks"), or the data attack ("data")."""
    start = time.perf_counter()
    data = load(name)
    problem, target = problem_of(config, data)
    say = _Stages(data.name, start, is_shown=problem.dim > _EXACT)
    say("target")
    row = _attacks(config, problem, target, say) if part == "attacks" else _data_attack(config, problem, target, say)
    sizes = {
        "data": data.name,
        "loss": data.loss.name,
        "n_users": problem.n_users,
        "n_parameters": problem.dim,
        "n_honest_data": int(sum(user.n_data for user in problem.users)),
        "target_norm": float(norms(target)),
    }
    values = {key: finite(value) for key, value in row.items()}
    return {**sizes, **values, f"seconds_{part}": time.perf_counter() - start}


@dataclass(frozen=True)
class _Stages:
    """Says on stderr what is done of a part that takes minutes."""

    name: str
    start: float
    is_shown: bool

    def __call__(self, stage: str) -> None:
        if self.is_shown:
            seconds = time.perf_counter() - self.start
            print(f"\n{self.name}: {stage} is done ({seconds:.0f} s)", file=sys.stderr, flush=True)


def _attacks(config: Config, problem: Problem, target: Array, say: _Stages) -> dict[str, Any]:
    is_exact = problem.dim <= _EXACT
    # Without fully optimized local models only the data-free constant is at hand.
    L = _smoothness(problem, is_exact)
    local = "exact" if is_exact else "step"
    common: dict[str, Any] = {
        "s": 0,
        "n_rounds": config.rounds,
        "local": local,
        "local_eta": None if is_exact else _local_rate(problem),
    }
    cga = federated_descent(
        problem, eta=0.5 * admissible_step(L), attack=CounterGradient(target, problem.reg), **common
    )
    say("gradient attack")
    # The model attack is made of the last report and the ρ that it answered to, and of nothing else.
    model = reported_model_from_gradient(cga.rho[-2], cga.reports[-2], problem.reg)
    attack = ModelAttack(model, problem.reg)
    descent = federated_descent(problem, eta=1.0 / (L + 2.0 * config.lam), attack=attack, **common)
    say("model attack")
    return {
        "local": local,
        "distance_gradient": float(cga.distance_to(target)[-1]),
        "distance_model": float(descent.distance_to(target)[-1]),
        "curve_gradient": [float(x) for x in cga.distance_to(target)],
        "curve_model": [float(x) for x in descent.distance_to(target)],
    }


def _local_rate(problem: Problem) -> float:
    """A rate at which gradient steps on every local problem converge: 1/(L_n + L_R)."""
    return 1.0 / (float(local_smoothness(problem.without(0)).max()) + regularizer_smoothness(problem.reg))


def _smoothness(problem: Problem, is_exact: bool) -> float:
    if not is_exact:
        return regularizer_smoothness(problem.reg) * (problem.n_users - 1)
    if isinstance(problem.loss, LeastSquares):
        return honest_sums(problem.without(0), "exact", np.zeros(problem.dim)).smoothness()
    return smoothness(problem, 0)


def _data_attack(config: Config, problem: Problem, target: Array, say: _Stages) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(
        ("work", "bound", "points", "distinct", "distance_data", "certified_data", "certified_model")
    )
    counted = isinstance(problem.loss, Multinomial)
    try:
        attack = poison(problem, 0, target, max_points=config.max_points, counted=counted)
    except EquipoiseError as error:
        return {**found, "reason": " ".join(str(error).split())}
    say("data attack")
    # g_s = -F = 2νθ♠ - w, the report that the model attack makes at the target.
    g = 2.0 * problem.nu * attack.reported_model - attack.demand.w
    return {
        "work": attack.demand.work,
        "bound": attack.least_points,
        "points": attack.n_points,
        "distinct": attack.distinct()[0].n_data,
        "distance_data": attack.distance_to_target,
        "certified_data": attack.distance_bound,
        "certified_model": reported_model(problem, 0, target, g).distance_bound,
        "reason": "" if attack.is_least else "the bound needs points whose other classes are equally likely",
    }


def run(config: Config, out: Path, *, jobs: int = 1, fresh: bool = False, progress: bool = False) -> list[_sweep.Row]:
    """Return one row for each data set; parts that the log in ``out`` has are not computed again."""
    # A part does not depend on which other data sets there are.
    setting = {name: value for name, value in dataclasses.asdict(config).items() if name != "data"}
    helpers = (__file__, _harness, _sweep, cga_convergence)
    setting["files"] = {name: _fingerprint(name) for name in config.data if name not in BUNDLED}
    log = ResumeLog(out / _harness.LOG, _sweep.sweep_key(NAME, setting, *helpers))
    if fresh:
        log.clear()
    tasks = [(name, part) for name in config.data for part in PARTS]
    function = functools.partial(run_part, config)
    cells = _sweep.sweep(function, tasks, log, name=NAME, jobs=jobs, progress=progress)
    parts = {tuple(cell["task"]): cell for cell in cells}
    return [{**parts[name, "attacks"], **parts[name, "data"]} for name in config.data]


def _fingerprint(name: str) -> str:
    """Return a hash of a data file: another file of the same name is other data."""
    return hashlib.sha256(Path(name).read_bytes()).hexdigest()


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text, with the reasons below."""
    lines = [
        [
            row["data"],
            row["loss"],
            str(row["n_parameters"]),
            f"{row['n_honest_data']:,}",
            f"{row['distance_gradient']:.1e}",
            f"{row['distance_model']:.1e}",
            _number(row["distance_data"], ".1e"),
            _number(row["certified_data"], ".1e"),
            _number(_relative(row), ".1e"),
            _number(row["points"], ","),
            _number(row["bound"], ","),
        ]
        for row in rows
    ]
    headers = [
        "data", "loss", "P", "honest data", "gradient", "model", "data attack", "certified", "relative", "points",
        "bound",
    ]  # fmt: skip
    notes = [
        "distances to the target: after the last round; of the exact ρ* of the poisoned data as found, as certified, "
        "and as certified relative to max(1, ‖θ†‖)"
    ]
    notes += [f"{row['data']}: {row['reason']}" for row in rows if row["reason"]]
    notes += [
        f"{row['data']}: local models take one gradient step a round, and are still on their way after the last"
        for row in rows
        if row["local"] == "step"
    ]
    return "\n".join([_harness.format_table(headers, lines), *notes])


def _relative(row: dict[str, Any]) -> float | None:
    """The certified distance of the data attack relative to max(1, ‖θ†‖)."""
    return None if row["certified_data"] is None else float(row["certified_data"] / max(1.0, row["target_norm"]))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def figure(rows: list[dict[str, Any]]) -> Any:
    """Return the figure: for each data set the distance to the target by round, and the exact data attack."""
    from matplotlib.figure import Figure

    columns = min(len(rows), 2)
    lines = math.ceil(len(rows) / columns)
    fig = Figure(figsize=(3.6 * columns, 2.7 * lines), layout="constrained")
    axes = np.atleast_1d(fig.subplots(lines, columns)).ravel()
    for axis, row in zip(axes, rows, strict=False):
        scale = max(row["target_norm"], 1.0)
        for key, label, color, dashes in (
            ("curve_gradient", "gradient attack (CGA)", "blue", ()),
            ("curve_model", "model attack", "orange", (5, 1.5)),
        ):
            curve = np.maximum(np.array(row[key]) / scale, 1e-17)
            axis.semilogy(curve, color=_figures.OKABE_ITO[color], dashes=dashes, label=label)
        if row["distance_data"] is not None:
            level = max(row["distance_data"] / scale, 1e-17)
            points = "1 point" if row["points"] == 1 else f"{row['points']:,} points"
            label = f"exact ρ* of {points} (bound {row['bound']:,})"
            axis.axhline(level, color=_figures.OKABE_ITO["vermillion"], dashes=(1.5, 1.5), lw=1.3, label=label)
        axis.set(title=f"{row['data'].replace('_', ' ')} ({TITLES[row['loss']]})", xlabel="round", ylim=(1e-17, 10.0))
        axis.set_ylabel("‖ρ - θ†‖ / max(1, ‖θ†‖)")
        # Where the curves leave most room; the frame keeps it legible where they leave none.
        axis.legend(fontsize=6.5, loc="best", frameon=True, framealpha=0.85, edgecolor="none")
    for axis in axes[len(rows) :]:
        axis.set_axis_off()
    return fig


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    text = "Gradient attack, model attack and poisoned data, side by side on real data."
    options = _harness.Parser(prog=f"python -m benchmarks.{NAME}", description=text)
    options.add_argument("--data", help=f"{', '.join(BUNDLED)}, or .npz files, separated by commas (all bundled)")
    options.add_argument("--honest", type=int, default=4, help="honest users (%(default)s; 10 for MNIST)")
    options.add_argument("--lam", type=float, default=1.0, help="λ > 0 (%(default)s)")
    options.add_argument("--nu", type=float, default=0.1, help="ν > 0 (%(default)s; 1e-3 for MNIST)")
    options.add_argument("--rounds", type=int, help="rounds of the attacks (300; 100 with --quick)")
    options.add_argument("--max-points", type=int, default=2_000_000, help="make no larger data (%(default)s)")
    _harness.add_run_options(options, NAME, quick="without digits, fewer rounds", jobs=1)
    return options


@_harness.command_line
def main(argv: list[str] | None = None) -> int:
    """Run the program; return 0, 2 for bad input, 130 if interrupted."""
    options = parser().parse_args(argv)
    names = (_QUICK if options.quick else _FULL) if options.data is None else options.data.split(",")
    config = Config(
        data=tuple(name.strip() for name in names),
        n_honest=options.honest,
        lam=options.lam,
        nu=options.nu,
        rounds=options.rounds if options.rounds is not None else 100 if options.quick else 300,
        max_points=options.max_points,
        seed=options.seed,
    )
    for name in config.data:
        load(name)
    jobs = _harness.jobs_of(options)
    out = _harness.make_folder(options.out)
    start = time.perf_counter()
    with _harness.resumable(out):
        rows = run(config, out, jobs=jobs, fresh=options.fresh, progress=True)
    print(f"\n{table(rows)}\n")
    with _figures.style():
        paths = _figures.save(figure(rows), out, NAME)
    curves = ("curve_gradient", "curve_model", "task")
    content = {
        "rows": [{key: value for key, value in row.items() if key not in curves} for row in rows],
        "curves": [{"data": row["data"], **{key: row[key] for key in curves[:2]}} for row in rows],
    }
    written = _harness.write_results(out, NAME, config, time.perf_counter() - start, **content)
    print("wrote " + ", ".join(str(path) for path in (*paths, written)))
    return _harness.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
