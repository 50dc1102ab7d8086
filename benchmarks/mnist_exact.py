r"""``python -m benchmarks.mnist_exact``: the paper's MNIST problem, solved exactly and certified.

N users share the training images equally (drawn without replacement), K-class logistic regression with ℓ2² and λ = 1
(section 5.1, Appendix I).  The paper has no weight ν; with ν = 0 the minimum does not exist as soon as some pixel is
never active in some class, and this program says so with the pixel and the classes.  For ν > 0 it solves to rounding,
certifies the point, and prints the accuracy of the global model on the test images.

``--data`` takes an .npz file (x_train, y_train, x_test, y_test), a folder with the IDX files, or ``openml``; without it
scikit-learn's bundled digits are used.  ``--peer`` runs L-BFGS-B on the same compiled evaluations for comparison.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize

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
from solvers import Solution, Status, certify, minimize
from solvers.data_terms import data_terms
from solvers.optimality import gradient_at_zero
from theory import Multinomial, Problem, ShapeError, SquaredL2, UserDataset
from theory.arrays import as_nonnegative, as_positive


def make_problem(images: Images, n_users: int, lam: float, nu: float, seed: int) -> Problem:
    """Share the training images among ``n_users`` users at random."""
    Q = images.queries("train")
    shares = np.array_split(generator(seed).permutation(len(Q)), n_users)
    users = [UserDataset(Q[rows], images.y_train[rows].astype(np.float64)) for rows in shares]
    return Problem(users, Multinomial(images.n_classes), SquaredL2(lam), nu)


def accuracy(rho: np.ndarray, images: Images) -> float:
    """Return the share of test images that the model ``rho`` labels correctly."""
    scores = images.queries("test") @ rho.reshape(images.n_classes, -1).T
    return float(np.mean(np.argmax(scores, axis=1) == images.y_test))


def explain_no_minimum(solution: Solution, images: Images) -> dict[str, Any]:
    """Return the pixel and the classes along which the loss decreases for ever, checked against the images."""
    direction = solution.direction.rho.reshape(images.n_classes, -1)  # type: ignore[union-attr]
    pixel = int(np.argmax(np.abs(direction).max(axis=0)))
    classes = np.flatnonzero(np.abs(direction[:, pixel]) > 0)
    is_pixel = pixel < images.x_train.shape[1]  # the last column is the intercept
    active = images.y_train[images.x_train[:, pixel] > 0] if is_pixel else images.y_train
    return {
        "pixel": pixel,
        "classes_raised": [int(k) for k in classes],
        "classes_in_which_it_is_active": sorted({int(k) for k in active}),
        "proof": "every image in which the pixel is active has a raised class as its label, so its loss decreases; "
        "no other loss and no regularizer changes",
    }


def lbfgs(problem: Problem, seconds: float) -> dict[str, Any]:
    """Run SciPy's L-BFGS-B on Θ (ρ eliminated) for at most ``seconds``; return the accuracy over time."""
    lam, nu, shape = problem.reg.lam, problem.nu, (problem.n_users, problem.dim)  # type: ignore[attr-defined]
    scale, start, best = gradient_at_zero(problem), time.perf_counter(), [np.inf]

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        if time.perf_counter() - start > seconds:
            raise TimeoutError
        thetas = np.ascontiguousarray(x.reshape(shape))
        terms = data_terms(problem, thetas, order=1)
        away = thetas - thetas.mean(axis=0)
        gradient = terms.gradients + 2.0 * lam * away
        best[0] = min(best[0], float(np.linalg.norm(gradient)) / scale)
        return terms.value + nu * float(np.sum(thetas**2)) + lam * float(np.sum(away**2)), gradient.ravel()

    try:
        scipy.optimize.minimize(
            value_and_gradient, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B",
            options={"maxiter": 10**6, "maxfun": 10**6, "maxcor": 20, "ftol": 0.0, "gtol": 0.0},
        )  # fmt: skip
        ended = "stopped by itself"
    except TimeoutError:
        ended = "time was up"
    return {"seconds": time.perf_counter() - start, "best_residual": best[0], "ended": ended}


def solve(problem: Problem, images: Images, start: Solution | None) -> tuple[dict[str, Any], Solution]:
    """Solve one problem; return the row of the table and the solution."""
    began = time.perf_counter()
    solution = minimize(problem, throw=False, start=None if start is None else (start.rho, start.thetas))
    seconds = time.perf_counter() - began
    row: dict[str, Any] = {"nu": problem.nu, "seconds": seconds, "status": solution.status.name}
    if solution.status is Status.NO_MINIMUM:
        return {**row, "certificate": explain_no_minimum(solution, images)}, solution
    began = time.perf_counter()
    certificate = certify(problem, solution.rho, solution.thetas)
    row |= {
        "relative_residual": solution.stats["relative_residual"],
        "iterations": solution.stats["iterations"],
        "loss": problem.value(solution.rho, solution.thetas),
        "distance_bound": certificate.distance_bound,
        "gap_bound": certificate.gap_bound,
        "certify_seconds": time.perf_counter() - began,
        "norm": float(np.linalg.norm(solution.thetas)),
        "test_accuracy": accuracy(solution.rho, images),
    }
    return row, solution


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table for the screen."""
    lines = []
    for row in rows:
        if "loss" not in row:
            lines.append([f"{row['nu']:g}", f"{row['seconds']:.2f}", row["status"], "", "", "", ""])
            continue
        lines.append(
            [f"{row['nu']:g}", f"{row['seconds']:.2f}", f"{row['relative_residual']:.1e}", f"{row['loss']:.10f}",
             f"{row['distance_bound']:.1e}", f"{row['norm']:.1f}", f"{100 * row['test_accuracy']:.2f} %"]
        )  # fmt: skip
    headers = ("ν", "seconds", "relative gradient", "loss", "distance at most", "‖Θ‖", "test accuracy of ρ*")
    return format_table(headers, lines)


def _parse_nu(text: str) -> list[float]:
    try:
        return [as_nonnegative(float(part), "--nu", "eq5_local_loss") for part in text.split(",")]
    except ValueError as error:
        raise ShapeError("--nu", "numbers >= 0 separated by commas", f"{text!r} ({error})") from None


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    options = Parser(prog="python -m benchmarks.mnist_exact", description=__doc__)
    options.add_argument("--data", help="an .npz file, a folder with IDX files, or openml (default: bundled digits)")
    options.add_argument("--users", type=int, default=10)
    options.add_argument("--lam", type=float, default=1.0)
    options.add_argument("--nu", default="0,0.001", help="one or more, solved in this order as a path")
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
    lam, weights = as_positive(options.lam, "--lam", "def_regularization"), _parse_nu(options.nu)
    make_folder(options.out)
    images = load_images(None if options.quick else options.data)
    if not 1 <= options.users <= len(images.y_train):
        raise ShapeError("--users", f"1 to {len(images.y_train)}", str(options.users))
    print(f"{images.name}: {len(images.y_train)} images, {options.users} users, K = {images.n_classes}, λ = {lam:g}")
    data = make_problem(images, options.users, lam, 1.0, options.seed)
    rows: list[dict[str, Any]] = []
    start: Solution | None = None
    for nu in weights:
        print(f"solving ν = {nu:g} ...", file=sys.stderr)
        row, solution = solve(data.with_regularizer(data.reg, nu), images, start)
        rows.append(row)
        start = solution if solution.status.is_minimum else None
    print(table(rows))
    for row in rows:
        if "certificate" in row:
            found = row["certificate"]
            print(f"ν = {row['nu']:g}: no minimum exists. Pixel {found['pixel']} is active only in the classes "
                  f"{found['classes_in_which_it_is_active']}; {found['proof']}.")  # fmt: skip
    peer = None
    if options.peer > 0 and any(nu > 0 for nu in weights):
        nu = next(nu for nu in weights if nu > 0)
        peer = {"nu": nu, **lbfgs(data.with_regularizer(data.reg, nu), options.peer)}
        print(f"L-BFGS-B, ν = {nu:g}: relative gradient {peer['best_residual']:.1e} in {peer['seconds']:.0f} s")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {memory:.2f} GiB")
    config = {"data": images.name, "users": options.users, "lam": lam, "nu": weights, "seed": options.seed}
    write_json(
        options.out / "results.json",
        {"config": config, "environment": environment(), "rows": rows, "peer": peer, "peak_memory_gib": memory},
    )
    print(f"wrote {options.out / 'results.json'}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
