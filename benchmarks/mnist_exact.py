r"""``python -m benchmarks.mnist_exact``: the paper's MNIST problem, solved exactly and certified.

N users share the training images equally (drawn without replacement), K-class logistic regression with λ = 1 and ℓ2²,
or, with ``--reg``, ℓ2 or smooth-ℓ2 (section 5.1, Appendix I).  The paper has no weight ν; with ν = 0 the minimum does
not exist as soon as some pixel is never active in some class, and this program says so with the pixel and the classes.
For ν > 0 it solves to rounding, certifies the point, and prints the accuracy of the global model on the test images.

The ν of ``--nu`` are solved each for itself, those of ``--path`` each from the minimum for the one before, which is how
small ν are reached; the time of a path is that of all its problems so far.

``--data`` takes an .npz file (x_train, y_train, x_test, y_test), a folder with the IDX files, or ``openml``; without it
scikit-learn's bundled digits are used.  ``--peer SECONDS`` also runs L-BFGS-B, on the same compiled evaluations (ℓ2²).
``results.json`` holds ``config``, ``environment``, ``rows``, ``peer``, ``first_call_seconds`` and ``peak_memory_gib``.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize

from benchmarks._figures import OKABE_ITO, save, style
from benchmarks._harness import (
    EXIT_OK,
    Parser,
    command_line,
    environment,
    format_table,
    generator,
    make_folder,
    write_json,
)
from benchmarks._images import Images, load_images
from benchmarks._pac_cells import REGULARIZERS
from solvers import Solution, Status, certify, minimize
from solvers._parallel import n_threads
from solvers.data_terms import data_terms
from solvers.optimality import gradient_at_zero
from theory import Multinomial, Problem, Regularizer, ShapeError, SolverError, SquaredL2, UserDataset
from theory.arrays import as_nonnegative, as_positive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The relative gradients whose times are kept of the peer.
_MILESTONES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8)


def make_problem(images: Images, n_users: int, reg: Regularizer, nu: float, seed: int) -> Problem:
    """Share the training images among ``n_users`` users at random."""
    Q = images.queries("train")
    shares = np.array_split(generator(seed).permutation(len(Q)), n_users)
    users = [UserDataset(Q[rows], images.y_train[rows].astype(np.float64)) for rows in shares]
    return Problem(users, Multinomial(images.n_classes), reg, nu)


def accuracy(rho: np.ndarray, images: Images) -> float:
    """Return the share of test images that the model ``rho`` labels correctly."""
    scores = images.queries("test") @ rho.reshape(images.n_classes, -1).T
    return float(np.mean(np.argmax(scores, axis=1) == images.y_test))


def explain_no_minimum(solution: Solution, problem: Problem, images: Images) -> dict[str, Any]:
    """Return why there is no minimum, checked against the data and not taken from the solver.

    Along a direction that moves all models alike, no regularizer changes.  The loss of an image never increases if the
    score of its label gains at least as much as any other's, and decreases if it gains more.

    Raises
    ------
    SolverError
        If the direction of the solution is not such a one.
    """
    if solution.direction is None:
        raise SolverError("no direction was returned")
    moved = solution.direction.rho.reshape(images.n_classes, -1)
    gains = problem.stack.Q @ moved.T
    labels = problem.stack.labels
    margins = np.where(labels > 0, np.inf, np.sum(gains * labels, axis=1, keepdims=True) - gains)
    if np.any(solution.direction.thetas != solution.direction.rho) or not margins.min() >= -1e-9 < margins.max():
        raise SolverError("the direction returned is none along which the loss decreases for ever")
    features = np.flatnonzero(np.abs(moved).max(axis=0))
    n_pixels = images.x_train.shape[1]
    if features.size > 1 or features[0] == n_pixels:  # the last feature is the intercept
        n_better = int((margins.min(axis=1) > 1e-9).sum())
        return {"n_better": n_better, "reason": "the labels are separable along a direction"}
    pixel = int(features[0])
    active = sorted({int(k) for k in images.y_train[images.x_train[:, pixel] > 0]})
    raised = [int(k) for k in np.flatnonzero(moved[:, pixel] == moved[:, pixel].max())]
    if not set(active) <= set(raised) or len(raised) == images.n_classes:
        raise SolverError(f"pixel {pixel} is active in the classes {active}, not only in {raised}, which it raises")
    absent = [k for k in range(images.n_classes) if k not in active]
    reason = (
        f"pixel {pixel} is active in no image of the classes {absent}: with its coefficients for the classes {raised} "
        "the loss of every image in which it is active decreases for ever, and nothing else changes"
    )
    return {"pixel": pixel, "classes_in_which_it_is_active": active, "classes_raised": raised, "reason": reason}


def lbfgs(problem: Problem, seconds: float) -> dict[str, Any]:
    """Run SciPy's L-BFGS-B on Θ (ρ eliminated) for at most ``seconds``; return the accuracy over time."""
    lam, nu, shape = problem.reg.lam, problem.nu, (problem.n_users, problem.dim)  # type: ignore[attr-defined]
    scale, start, evaluations = gradient_at_zero(problem), time.perf_counter(), 0
    best, reached = np.inf, dict[str, float]()

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best, evaluations
        now = time.perf_counter() - start
        if now > seconds:
            raise TimeoutError
        thetas = np.ascontiguousarray(x.reshape(shape))
        terms = data_terms(problem, thetas, order=1)
        away = thetas - thetas.mean(axis=0)
        gradient = terms.gradients + 2.0 * lam * away
        best, evaluations = min(best, float(np.linalg.norm(gradient)) / scale), evaluations + 1
        for milestone in _MILESTONES:
            if best <= milestone:
                reached.setdefault(f"{milestone:g}", time.perf_counter() - start)
        return terms.value + nu * float(np.sum(thetas**2)) + lam * float(np.sum(away**2)), gradient.ravel()

    try:
        scipy.optimize.minimize(
            value_and_gradient, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B",
            options={"maxiter": 10**6, "maxfun": 10**6, "maxcor": 20, "ftol": 0.0, "gtol": 0.0},
        )  # fmt: skip
        ended = "stopped by itself"
    except TimeoutError:
        ended = "time was up"
    return {
        "seconds": time.perf_counter() - start, "evaluations": evaluations, "best_residual": best,
        "seconds_to_residual": reached, "ended": ended,
    }  # fmt: skip


def first_call(images: Images) -> float:
    """Return the time of a first, tiny solve: compiling, or loading what was compiled before."""
    began = time.perf_counter()
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.flatnonzero(images.y_train == k)[:3] for k in range(images.n_classes)])
    Q = rng.standard_normal((len(rows), images.x_train.shape[1] + 1))
    user = UserDataset(Q, images.y_train[rows].astype(np.float64))
    problem = Problem([user, user], Multinomial(images.n_classes), SquaredL2(1.0), 10.0)
    certify(problem, *(lambda s: (s.rho, s.thetas))(minimize(problem, throw=False)))
    return time.perf_counter() - began


def solve(problem: Problem, images: Images, start: Solution | None, runs: int = 1) -> tuple[dict[str, Any], Solution]:
    """Solve one problem; return the row of the table and the solution."""
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        solution = minimize(problem, throw=False, start=None if start is None else (start.rho, start.thetas))
        seconds.append(time.perf_counter() - began)
    row: dict[str, Any] = {
        "nu": problem.nu, "seconds": float(np.median(seconds)), "spread": [min(seconds), max(seconds)], "runs": runs,
        "status": solution.status.name,
    }  # fmt: skip
    if solution.status is Status.NO_MINIMUM:
        return {**row, "certificate": explain_no_minimum(solution, problem, images)}, solution
    began = time.perf_counter()
    certificate = certify(problem, solution.rho, solution.thetas)
    row |= {
        "relative_residual": solution.stats["relative_residual"],
        "iterations": solution.stats["iterations"],
        "n_tied": solution.stats["n_tied"],
        "loss": problem.value(solution.rho, solution.thetas),
        "distance_bound": _finite(certificate.distance_bound),
        "gap_bound": _finite(certificate.gap_bound),
        "certify_seconds": time.perf_counter() - began,
        "norm": float(np.linalg.norm(solution.thetas)),
        "test_accuracy": accuracy(solution.rho, images),
    }
    return row, solution


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def solve_all(data: Problem, images: Images, alone: list[float], path: list[float], runs: int) -> list[dict[str, Any]]:
    """Solve each ν for itself, then the path, each from the minimum before; ``path_seconds`` is the time so far."""
    rows = []
    for nu in alone:
        print(f"solving ν = {nu:g} ...", file=sys.stderr)
        rows.append(solve(data.with_regularizer(data.reg, nu), images, None, runs)[0])
    start: Solution | None = None
    spent = 0.0
    for nu in path:
        print(f"solving ν = {nu:g} from the one before ...", file=sys.stderr)
        row, solution = solve(data.with_regularizer(data.reg, nu), images, start)
        spent += row["seconds"]
        rows.append({**row, "path_seconds": spent})
        start = solution if solution.status.is_minimum else None
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table for the screen."""
    lines = []
    for row in rows:
        low, high = row["spread"]
        spread = f"{low:.2f}-{high:.2f}" if row["runs"] > 1 else ""
        start = [f"{row['nu']:g}", f"{row['seconds']:.2f}", spread]
        start.append(f"{row['path_seconds']:.2f}" if "path_seconds" in row else "")
        if "loss" not in row:
            lines.append([*start, row["status"], "", "", "", "", "", "", ""])
            continue
        bound = "unknown" if row["distance_bound"] is None else f"{row['distance_bound']:.1e}"
        lines.append(
            [*start, f"{row['relative_residual']:.1e}", str(row["iterations"]), f"{row['loss']:.10f}", bound,
             f"{row['certify_seconds']:.2f}", f"{row['norm']:.1f}", str(row["n_tied"]),
             f"{100 * row['test_accuracy']:.2f} %"]
        )  # fmt: skip
    headers = ("ν", "seconds", "min-max", "path so far", "relative gradient", "steps", "loss", "distance ≤",
               "certified in", "‖Θ‖", "tied", "test accuracy of ρ*")  # fmt: skip
    return format_table(headers, lines)


def draw(rows: list[dict[str, Any]], images: Images) -> Figure:
    """Draw accuracy and norm against ν, and in how many classes each pixel is ever active."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.0), layout="constrained", width_ratios=[1.5, 1.0])
    found = sorted({row["nu"]: row for row in rows if "loss" in row}.values(), key=lambda row: row["nu"])
    nus = [row["nu"] for row in found]
    left.plot(nus, [100 * row["test_accuracy"] for row in found], "o-", color=OKABE_ITO["blue"])
    left.set(xscale="log", xlabel="ν")
    left.margins(y=0.5)
    left.set_ylabel("test accuracy of ρ*, %", color=OKABE_ITO["blue"])
    norm = left.twinx()
    norm.plot(nus, [row["norm"] for row in found], "s--", color=OKABE_ITO["vermillion"])
    norm.set(yscale="log")
    norm.set_ylabel("‖Θ*‖", color=OKABE_ITO["vermillion"])
    norm.spines["right"].set_visible(True)
    norm.grid(False)
    active = np.stack([(images.x_train[images.y_train == k] > 0).any(axis=0) for k in range(images.n_classes)])
    side = round(active.shape[1] ** 0.5)
    if side * side == active.shape[1]:
        shown = right.imshow(active.sum(axis=0).reshape(side, side), cmap="cividis", vmin=0, vmax=images.n_classes)
        figure.colorbar(shown, ax=right, label="classes in which it is ever active", shrink=0.8)
        for row in rows:
            pixel = row.get("certificate", {}).get("pixel", active.shape[1])
            if pixel < active.shape[1]:
                right.plot(pixel % side, pixel // side, "x", color=OKABE_ITO["vermillion"], ms=8, mew=1.6)
                right.set_title(f"× pixel {pixel}: no minimum with ν = 0", fontsize=8.5)
    right.set_axis_off()
    return figure


def _parse_nu(text: str, option: str) -> list[float]:
    try:
        return [as_nonnegative(float(part), option, "eq5_local_loss") for part in text.split(",") if text.strip()]
    except ValueError as error:
        raise ShapeError(option, "numbers >= 0 separated by commas", f"{text!r} ({error})") from None


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    options = Parser(prog="python -m benchmarks.mnist_exact", description=__doc__)
    options.add_argument("--data", help="an .npz file, a folder with IDX files, or openml (default: bundled digits)")
    options.add_argument("--users", type=int, default=10)
    options.add_argument("--reg", choices=REGULARIZERS, default="squared_l2", help="the regularizer (%(default)s)")
    options.add_argument("--lam", type=float, default=1.0)
    options.add_argument("--nu", default="0,1e-3", help="numbers >= 0; each is solved for itself")
    options.add_argument(
        "--path", default="1e-2,1e-3,1e-4,1e-5,1e-6", help="numbers >= 0, each solved from the one before; may be empty"
    )
    options.add_argument("--repetitions", type=int, default=1, help="timed runs of each problem of --nu")
    options.add_argument("--seed", type=int, default=999, help="of the split among users")
    options.add_argument("--peer", type=float, default=0.0, metavar="SECONDS", help="also run L-BFGS-B this long")
    options.add_argument("--quick", action="store_true", help="the bundled digits, whatever --data says")
    options.add_argument("--jobs", type=int, default=0, help="has no effect: set EQUIPOISE_NUM_THREADS")
    options.add_argument("--out", type=Path, default=Path("results/mnist_exact"))
    return options


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    options = parser().parse_args(argv)
    lam = as_positive(options.lam, "--lam", "def_regularization")
    alone, path = _parse_nu(options.nu, "--nu"), _parse_nu(options.path, "--path")
    if options.peer > 0 and options.reg != "squared_l2":
        raise ShapeError("--peer", "0 for any regularizer but squared_l2", f"{options.peer:g} with {options.reg}")
    if options.repetitions < 1:
        raise ShapeError("--repetitions", "an integer >= 1", str(options.repetitions))
    out = make_folder(options.out)
    images = load_images(None if options.quick else options.data)
    if not 1 <= options.users <= len(images.y_train):
        raise ShapeError("--users", f"1 to {len(images.y_train)}", str(options.users))
    print(
        f"{images.name}: {len(images.y_train)} images, {options.users} users, K = {images.n_classes}, "
        f"{options.reg} with λ = {lam:g}"
    )
    first = first_call(images)
    data = make_problem(images, options.users, REGULARIZERS[options.reg](lam), 1.0, options.seed)
    rows = solve_all(data, images, alone, path, options.repetitions)
    print(table(rows))
    print(f"first call (compiling, or loading what was compiled): {first:.1f} s, not counted above")
    for row in rows:
        if "certificate" in row:
            print(f"ν = {row['nu']:g}: no minimum exists, because {row['certificate']['reason']}.")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (30 if sys.platform == "darwin" else 20)
    print(f"peak memory {memory:.2f} GiB")
    peer = None
    if options.peer > 0 and any(nu > 0 for nu in alone + path):
        nu = next(nu for nu in alone + path if nu > 0)
        peer = {"nu": nu, **lbfgs(data.with_regularizer(data.reg, nu), options.peer)}
        reached = ", ".join(f"{level} in {seconds:.1f} s" for level, seconds in peer["seconds_to_residual"].items())
        print(f"L-BFGS-B, ν = {nu:g}: relative gradient {peer['best_residual']:.1e} in {peer['seconds']:.0f} s "
              f"({peer['ended']}; {reached})")  # fmt: skip
    config = {
        "data": images.name, "users": options.users, "reg": options.reg, "lam": lam, "nu": alone, "path": path,
        "seed": options.seed,
    }  # fmt: skip
    record = {**environment(), "threads": n_threads()}
    record.pop("threads_per_worker")
    write_json(
        out / "results.json",
        {"config": config, "environment": record, "rows": rows, "peer": peer, "first_call_seconds": first,
         "peak_memory_gib": memory},
    )  # fmt: skip
    with style():
        paths = save(draw(rows, images), out, "mnist_exact")
    print("wrote " + ", ".join(str(file) for file in (out / "results.json", *paths)))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
