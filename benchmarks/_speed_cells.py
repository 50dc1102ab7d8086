"""The cells of ``benchmarks.solver_speed``: each measures one thing with all that it is compared to, in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import _peers as peers
from benchmarks._harness import available_processors, generator
from solvers import (
    certify,
    gaussian_statistics,
    minimize,
    minimize_least_squares_batch,
    minimize_logistic_batch,
    minimize_path,
)
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
    SmoothL2,
    SolverError,
    SquaredL2,
    honest_answers,
    honest_dataset,
)
from theory.arrays import Array

Size = tuple[int, int, int]
Row = dict[str, Any]
LOSSES: dict[str, Loss] = {"linear": LeastSquares(), "logistic": Logistic()}
REGULARIZERS = ("squared_l2", "l2", "smooth_l2")
#: The numbers in Q up to which CVXPY (by loss) and ball arithmetic are tried: beyond, one run takes minutes.
CVXPY_ENTRIES = {"linear": 1.1e7, "logistic": 1.1e6}
BALL_ENTRIES = 1.1e6
#: A relative gradient that counts as solved, for us and for peers, if ours is not larger.
SOLVED = 1e-12


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


# ----------------------------------------------------------------------------------------------------------- stopwatch


def timed(calls: Sequence[Callable[[], Any]], runs: int, budget: float = 120.0) -> tuple[list[list[float]], list[Any]]:
    """Return the wall times of the ``calls``, which take turns so that a disturbance meets all, and their last values.

    The first turn is not counted, unless all turns would take longer than ``budget`` seconds: then there are as many as
    the budget allows, and at least one.  Calls of less than a few milliseconds are repeated more often.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    values: list[Any] = [None for _ in calls]

    def turn() -> float:
        for k, call in enumerate(calls):
            start = time.perf_counter()
            values[k] = call()
            seconds[k].append(time.perf_counter() - start)
        return sum(times[-1] for times in seconds)

    spent = first = turn()
    if first * (runs + 1) <= budget:
        for times in seconds:
            times.clear()
    wanted = max(runs, min(10 * runs, int(0.2 / first))) if runs > 1 else runs
    while len(seconds[0]) < wanted and (not seconds[0] or spent + first <= budget):
        spent += turn()
    return seconds, values


# ------------------------------------------------------------------------------------------------------------ problems


def problem_cell(
    n_users: int, dim: int, n_data: int, loss: str, reg: str, runs: int, seed: int, nu: float, peer_seconds: float
) -> Row:
    """Measure one problem: the BLAS limit, our solver, another λ, certificates, and (``peer_seconds`` > 0) peers."""
    size = (n_users, dim, n_data)
    problem = make_problem(size, loss, reg, nu, generator(seed, *size))
    (limit, ours), (_, solution) = timed([peers.blas_limit(problem), lambda: minimize(problem)], runs)
    table = _Table(float(np.median(limit)), float(np.median(ours)), solution.stats["relative_residual"])
    table.add("BLAS limit", limit)
    table.add("equipoise", ours, residual(problem, solution.rho, solution.thetas), solution.stats["iterations"])
    if loss == "linear":
        table.add("equipoise, another λ", *_another_lambda(problem, runs))
    _certificates(table, problem, solution, runs, peer_seconds)
    if peer_seconds > 0:
        _peer_rows(table, problem, runs, peer_seconds)
    return {"kind": "problem", "size": list(size), "loss": loss, "reg": reg, "rows": table.rows}


class _Table:
    """Rows of one problem, with their ratios to the BLAS limit and to our time."""

    def __init__(self, limit: float, ours: float, accuracy: float) -> None:
        self.limit, self.ours = limit, ours
        self.enough = max(SOLVED, 10.0 * accuracy)
        self.rows: list[Row] = []

    def add(
        self,
        method: str,
        seconds: list[float],
        reached: float | None = None,
        iterations: int | None = None,
        note: str = "",
        **more: Any,
    ) -> None:
        median = float(np.median(seconds))
        self.rows.append(
            {
                "method": method,
                "seconds": median,
                "spread": [float(min(seconds)), float(max(seconds))],
                "runs": len(seconds),
                "residual": reached,
                "iterations": iterations,
                "over_limit": median / self.limit,
                "over_ours": median / self.ours,
                "as_accurate": None if reached is None else bool(reached <= self.enough),
                "note": note,
                **more,
            }
        )  # fmt: skip

    def skip(self, method: str, note: str) -> None:
        self.rows.append({"method": method, "note": note})


def _another_lambda(problem: Problem, runs: int) -> tuple[list[float], float]:
    """Return the times of further λ on a path, after the factorization that the first one paid for."""
    reg = problem.reg
    settings = [(type(reg)(reg.lam * (1.0 + 0.1 * k)), problem.nu) for k in range(runs + 2)]  # type: ignore[attr-defined, call-arg]
    path = minimize_path(problem, settings)
    next(path)
    solution, seconds = next(path), []
    for _ in range(runs):
        start = time.perf_counter()
        solution = next(path)
        seconds.append(time.perf_counter() - start)
    return seconds, residual(solution.problem, solution.rho, solution.thetas)


def _certificates(table: _Table, problem: Problem, solution: Any, runs: int, budget: float) -> None:
    for name, rigorous in (("certificate", False), ("certificate, ball arithmetic", True)):
        if rigorous and (problem.stack.Q.size > BALL_ENTRIES or budget <= 0):
            table.skip(name, f"not run: more than {BALL_ENTRIES:.0e} numbers" if budget > 0 else "not run: a peer")
            continue
        call = partial(certify, problem, solution.rho, solution.thetas, rigorous=rigorous)
        (seconds,), (found,) = timed([call], runs, budget if rigorous else 20.0)
        note = f"distance ≤ {found.distance_bound:.0e}" + _fewer(seconds, runs)
        table.add(name, seconds, note=note, distance_bound=_finite(found.distance_bound), argument=found.kind)


def _fewer(seconds: list[float], runs: int) -> str:
    return "" if len(seconds) >= runs else f"; {len(seconds)} of {runs} runs: slow"


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _peer_rows(table: _Table, problem: Problem, runs: int, budget: float) -> None:
    if peers.has_numpy_loop(problem):
        _loop_row(table, problem, runs, budget)
    if isinstance(problem.reg, L2):
        for method in ("L-BFGS-B", "trust-ncg"):
            table.skip(method, "not run: plain ℓ2 has no gradient where models tie")
    else:
        for method in ("L-BFGS-B", "trust-ncg"):
            _scipy_row(table, problem, method, runs, budget)
    _cvxpy_row(table, problem, runs, budget)


def _loop_row(table: _Table, problem: Problem, runs: int, budget: float) -> None:
    """The loop with BLAS as it comes and with one thread, whichever is faster: threads often slow small products."""
    found: dict[str, tuple[list[float], peers.Point]] = {}
    for name, limits in (("all BLAS threads", None), ("one BLAS thread", 1)):
        with threadpool_limits(limits, user_api="blas"):
            (seconds,), (point,) = timed([lambda: peers.numpy_loop(problem)], runs, budget)
        found[name] = seconds, point
    name = min(found, key=lambda key: float(np.median(found[key][0])))
    seconds, point = found[name]
    table.add("NumPy loop", seconds, residual(problem, *point), note=name + _fewer(seconds, runs))


def _scipy_row(table: _Table, problem: Problem, method: str, runs: int, budget: float) -> None:
    limit = max(budget, 10.0 * table.ours)
    began = time.perf_counter()
    found = [peers.scipy_peer(problem, method, table.enough, limit)]
    while len(found) < runs and (time.perf_counter() - began) * (len(found) + 1) / len(found) <= budget:
        found.append(peers.scipy_peer(problem, method, table.enough, limit))
    seconds, last = [one.seconds for one in found], found[-1]
    note = "; ".join(part for part in (last.ended, _fewer(seconds, runs).strip("; ")) if part)
    table.add(method, seconds, residual(problem, *last.point), note=note, milestones=last.reached)


def _cvxpy_row(table: _Table, problem: Problem, runs: int, budget: float) -> None:
    name, most = "CVXPY + Clarabel", CVXPY_ENTRIES["linear" if isinstance(problem.loss, LeastSquares) else "logistic"]
    if problem.stack.Q.size > most:
        table.skip(name, f"not run: more than {most:.0e} numbers, minutes a run")
        return
    try:
        (seconds,), (point,) = timed([lambda: peers.cvxpy_peer(problem)], runs, budget)
    except EquipoiseError as error:
        table.skip(name, f"failed: {str(error)[:200]}")
        return
    table.add(name, seconds, residual(problem, *point), note=_fewer(seconds, runs).strip("; "))


# ------------------------------------------------------------------------------------------------------------- growth

#: What is varied, with the other two fixed, and the exponent of the cost where the term in question dominates:
#: ℐd² for the Gram products, d³ for the factors.
GROWTH: dict[str, tuple[Size, str]] = {
    "N": ((0, 20, 200), "1"),
    "d": ((20, 0, 2000), "2 to 3"),
    "I": ((20, 50, 0), "1"),
}
VALUES: dict[str, tuple[int, ...]] = {
    "N": (250, 500, 1000, 2000, 4000, 8000),
    "d": (8, 16, 32, 64, 128, 256),
    "I": (250, 500, 1000, 2000, 4000, 8000, 16000),
}
QUICK_VALUES: dict[str, tuple[int, ...]] = {
    "N": (100, 200, 400, 800),
    "d": (8, 16, 32, 64),
    "I": (250, 500, 1000, 2000),
}


def growth_cell(axis: str, loss: str, seed: int, nu: float, quick: int) -> Row:
    """Measure time against N, d or ℐ for each regularizer and the BLAS limit; fit exponents to the larger half."""
    base, expected = GROWTH[axis]
    values = (QUICK_VALUES if quick else VALUES)[axis]
    seconds: dict[str, list[float]] = {name: [] for name in ("BLAS limit", *REGULARIZERS)}
    for value in values:
        size: Any = tuple(value if entry == 0 else entry for entry in base)
        for reg in REGULARIZERS:
            problem = make_problem(size, loss, reg, nu, generator(seed, 7))
            calls: list[Callable[[], Any]] = [lambda problem=problem: minimize(problem)]  # type: ignore[misc]
            if reg == REGULARIZERS[0]:
                calls.append(peers.blas_limit(problem))
            times, _ = timed(calls, 3, 10.0)
            seconds[reg].append(float(np.median(times[0])))
            if len(times) == 2:
                seconds["BLAS limit"].append(float(np.median(times[1])))
    fits = {name: fit_exponent(values, times) for name, times in seconds.items()}
    return {"kind": "growth", "axis": axis, "loss": loss, "base": list(base), "values": list(values),
            "seconds": seconds, "fits": fits, "expected": expected}  # fmt: skip


def fit_exponent(values: Sequence[float], seconds: Sequence[float]) -> dict[str, float]:
    """Fit seconds ~ values^p to the larger half of the values; return p, its standard error and where it was fitted.

    Examples
    --------
    >>> fit = fit_exponent([1, 2, 4, 8], [9.0, 4.0, 16.0, 64.0])
    >>> round(fit["exponent"], 12), fit["from"]
    (2.0, 2)
    """
    first = (len(values) - 1) // 2
    x, y = np.log(values[first:]), np.log(seconds[first:])
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y / (x @ x))
    rest = float(np.sum((y - slope * x) ** 2)) / max(len(x) - 2, 1)
    return {"exponent": slope, "error": float(np.sqrt(rest / (x @ x))), "from": int(values[first])}


# ------------------------------------------------------------------------------------------------- many small problems

_USERS, _DIM, _SIZES = 5, 10, (10, 32, 100, 316, 1000)


def batch_cell(which: str, n_problems: int, runs: int, seed: int) -> Row:
    """Measure how many problems a second (d = 10, N = 5) are drawn and solved, and are solved."""
    rng = generator(seed, 9)
    models = [generator(seed, 9, n).standard_normal(_DIM) for n in range(_USERS)]
    if which.startswith("logistic"):
        drawn, solve, count = _logistic_batch(models, n_problems, rng)
    elif which.startswith("nested"):
        sizes = (500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
        drawn, solve, count = _statistics_batch(models, sizes, n_problems, SquaredL2(1.0), rng)
    else:
        reg: Any = SmoothL2(50.0) if which.startswith("smooth") else SquaredL2(1.0)
        drawn, solve, count = _statistics_batch(models, (1000,), n_problems, reg, rng)
    data = drawn()
    solve(data)
    (whole, part, loop), _ = timed([lambda: solve(drawn()), lambda: solve(data), _one_by_one(which)], runs)
    seconds = {"drawn and solved": float(np.median(whole)), "solved": float(np.median(part))}
    return {
        "kind": "batch", "problem": which, "n_problems": count, "runs": len(whole), "seconds": seconds,
        "spread": {"drawn and solved": [min(whole), max(whole)], "solved": [min(part), max(part)]},
        "per_second": {name: count / value for name, value in seconds.items()},
        "minimize_per_second": 20 / float(np.median(loop)),
    }  # fmt: skip


def _one_by_one(which: str) -> Callable[[], Any]:
    """Twenty such problems as calls of ``minimize``, their data ready."""
    loss = "logistic" if which.startswith("logistic") else "linear"
    reg = "smooth_l2" if which.startswith("smooth") else "squared_l2"
    problems = [make_problem((_USERS, _DIM, 316), loss, reg, 0.01, generator(0, 9, k)) for k in range(20)]
    return lambda: [minimize(problem) for problem in problems]


Batch = tuple[Callable[[], Any], Callable[[Any], Any], int]


def _statistics_batch(models: list[Array], sizes: tuple[int, ...], R: int, reg: Any, rng: np.random.Generator) -> Batch:
    """R replicates of nested samples of the ``sizes``, from sufficient statistics."""

    def draw() -> tuple[Array, Array]:
        draws = [gaussian_statistics(sizes, model, R, rng) for model in models]
        gram = np.stack([G.reshape(-1, _DIM, _DIM) for G, _ in draws], axis=1)
        return gram, np.stack([b.reshape(-1, _DIM) for _, b in draws], axis=1)

    return draw, lambda data: minimize_least_squares_batch(data[0], data[1], reg, 0.01), R * len(sizes)


def _logistic_batch(models: list[Array], R: int, rng: np.random.Generator) -> Batch:
    """R replicates of nested samples of 10 to 1,000 points."""
    most = _SIZES[-1]
    first = most * np.arange(R * _USERS).reshape(R, 1, _USERS)
    start = np.broadcast_to(first, (R, len(_SIZES), _USERS)).reshape(-1, _USERS)
    stop = (first + np.array(_SIZES)[:, None]).reshape(-1, _USERS)

    def draw() -> tuple[Array, Array]:
        Q = rng.standard_normal((R, _USERS, most, _DIM))
        A = [honest_answers(Q[:, n].reshape(-1, _DIM), models[n], Logistic(), rng) for n in range(_USERS)]
        return Q.reshape(-1, _DIM), np.stack([a.reshape(R, most) for a in A], axis=1).ravel()

    return (
        draw,
        lambda data: minimize_logistic_batch(data[0], data[1], start, stop, SquaredL2(1.0), 0.01),
        R * len(_SIZES),
    )


# ------------------------------------------------------------------------------------------------------------- streams


def stream_cell(source: str, n_users: int, runs: int, seed: int, folder: str) -> Row:
    """Measure both passes over users that are drawn as they are read, stand ready, or lie in a Parquet file.

    In a new process, whose memory is that of the streams and nothing else.
    """
    path = Path(folder) / f"users_{n_users}_{seed}.parquet"
    call = f"{source!r}, {n_users}, {runs}, {seed}, {str(path)!r}"
    try:
        if source == "Parquet":
            _python(f"from benchmarks import _streams as s; from pathlib import Path; "
                    f"s.Stream({n_users}, seed={seed}).write(Path({str(path)!r}))")  # fmt: skip
        size = path.stat().st_size if source == "Parquet" else 0
        found = json.loads(
            _python(f"import json; from benchmarks import _streams as s; print(json.dumps(s.run({call})))")
        )
        return {"kind": "stream", **found, "file_bytes": size}
    finally:
        path.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------------------------- compilation

_FIRST_CALLS = """
import json, time
start = time.perf_counter()
from benchmarks import _speed_cells as cells
from benchmarks._harness import generator
rows = [{"loss": "", "reg": "import", "seconds": time.perf_counter() - start}]
for loss in cells.LOSSES:
    for reg in cells.REGULARIZERS:
        start = time.perf_counter()
        for size in ((2, 3, 5), (20, 3, 5)):
            cells.minimize(cells.make_problem(size, loss, reg, 0.01, generator(0, 1)))
        rows.append({"loss": loss, "reg": reg, "seconds": time.perf_counter() - start})
print(json.dumps(rows))
"""


def compile_cell(which: str) -> Row:
    """Measure the first calls in a new process, with all code to be ``compiled`` or ``loaded`` from Numba's cache."""
    with tempfile.TemporaryDirectory() as empty:
        cache = {"NUMBA_CACHE_DIR": empty} if which == "compiled" else {}
        if which == "loaded":
            # Once to make sure that it is there.
            _python(_FIRST_CALLS)
        start = time.perf_counter()
        rows = json.loads(_python(_FIRST_CALLS, **cache))
        seconds = time.perf_counter() - start
    return {"kind": "compile", "code": which, "seconds": seconds, "rows": rows}


def _python(code: str, **variables: str) -> str:
    """Run ``code`` in a new process that finds the same packages as this one, and return what it prints."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    environment = {**os.environ, **variables, "PYTHONPATH": path}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SolverError(f"a process of the benchmark ended with {ended.returncode}: {ended.stderr[-500:]}")
    return ended.stdout


# ---------------------------------------------------------------------------------------------------------------- all

CELLS: dict[str, Callable[..., Row]] = {
    "compile": compile_cell,
    "problem": problem_cell,
    "growth": growth_cell,
    "batch": batch_cell,
    "stream": stream_cell,
}


def cell(kind: str, *arguments: Any) -> Row:
    """Measure one cell."""
    return CELLS[kind](*arguments)


def machine() -> dict[str, Any]:
    """Return what times depend on beside code and setting."""
    return {"processors": available_processors(), "threads": os.environ.get("EQUIPOISE_NUM_THREADS", "")}
