"""Small solves neither wait nor leave work behind: no outlier in a loop of 1,000 is ours.

The wall time of a call is the processor time of its thread, plus the time that the thread waited of its own will (for a
lock, another thread, a sleep), plus the time that the operating system gave to others.  Only the last is not ours, and
it depends on the machine.  So a loop has no stall of ours if the calling thread never waited, the other threads of the
process had no work, and no call took more than ten times the median of the processor time.  A loop that is disturbed
is repeated: a solver that stalls once in 300 calls passes three loops of 1,000 once in ten tries, and the planted ones
stall more often.
"""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pytest
import threadpoolctl

from benchmarks._speed_cells import make_problem
from solvers import _kernels, _parallel, minimize, minimize_least_squares_batch, minimize_path
from theory import Logistic, Problem, SolverError, SquaredL2, UserDataset

pytestmark = [
    pytest.mark.skipif(not hasattr(resource, "RUSAGE_THREAD"), reason="the system does not count waits of a thread"),
    pytest.mark.skipif(not _kernels._JIT, reason="times compiled code"),
]

SIZE = (10, 20, 100)
Solve = Callable[[], Any]


def small_problem(loss: str, reg: str) -> Problem:
    return make_problem(SIZE, loss, reg, 0.01, np.random.default_rng(0))


@pytest.fixture
def two_blas_threads() -> Iterator[None]:
    """A user whose BLAS has two threads; outside of any limit, which would let nobody else change the setting."""
    controller = threadpoolctl.ThreadpoolController()
    before = controller.limit(limits=2, user_api="blas")
    release = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release()
    yield
    before.restore_original_limits()


# --------------------------------------------------------------------------------------------------------------- stalls


@dataclass(frozen=True)
class Loop:
    """What 1,000 calls cost, each an entry of the arrays: seconds of this thread, of the others, and waits."""

    own: np.ndarray
    others: np.ndarray
    waits: np.ndarray

    def faults(self, *, is_alone: bool) -> list[str]:
        """Return what is wrong; where a user's BLAS threads spin (not ``is_alone``), other threads do not count."""
        found = []
        if self.waits.any():
            found.append(f"waited {int(self.waits.sum())} times")
        if is_alone and not self.others.sum() <= 0.05 * self.own.sum():
            found.append(f"other threads were busy for {self.others.sum() / self.own.sum():.0%} of the time")
        if not self.own.max() <= 10.0 * np.median(self.own):
            found.append(f"a call took {self.own.max() / np.median(self.own):.0f} times the median")
        return found


def run_loop(solve: Solve, between: Solve | None, n: int) -> Loop:
    costs = np.empty((n, 3))
    solve()
    gc.collect()
    gc.disable()  # a collection looks at all objects of the process, most of which are pytest's
    try:
        for k, costs_of_call in enumerate(costs):
            if between is not None and k % 10 == 0:
                between()
            waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
            process, thread = time.process_time(), time.thread_time()
            solve()
            thread, process = time.thread_time() - thread, time.process_time() - process
            waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - waits
            costs_of_call[:] = thread, process - thread, waits
    finally:
        gc.enable()
    return Loop(*costs.T)


def faults(solve: Solve, between: Solve | None = None, n: int = 1000, tries: int = 3) -> list[str]:
    """Return what is wrong with the best of ``tries`` loops."""
    found: list[str] = []
    for _ in range(tries):
        found = run_loop(solve, between, n).faults(is_alone=between is None)
        if not found:
            break
    return found


def users_work() -> Solve:
    """Products that BLAS shares among its threads, which go on spinning for a while."""
    A = np.random.default_rng(1).standard_normal((150, 150))
    return lambda: A @ A


SMALL: dict[str, Callable[[], Solve]] = {
    f"{loss}-{reg}": lambda loss=loss, reg=reg: (lambda problem: lambda: minimize(problem))(small_problem(loss, reg))  # type: ignore[misc]
    for loss in ("linear", "logistic")
    for reg in ("squared_l2", "l2", "smooth_l2")
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in SMALL if name != "linear-squared_l2"]


@pytest.mark.parametrize("name", ["linear-squared_l2", *SLOW])
def test_a_thousand_small_solves_do_not_stall(name: str, two_blas_threads: None) -> None:
    assert faults(SMALL[name]()) == []


@pytest.mark.parametrize("name", ["linear-squared_l2", *SLOW])
def test_nor_between_calls_of_a_users_blas(name: str, two_blas_threads: None) -> None:
    assert faults(SMALL[name](), users_work()) == []


@pytest.mark.slow
def test_nor_do_paths_and_batches(two_blas_threads: None) -> None:
    problem = small_problem("linear", "squared_l2")
    settings = [(SquaredL2(0.5), 0.01), (SquaredL2(2.0), 0.01)]
    assert faults(lambda: list(minimize_path(problem, settings))) == []
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 5, 30, 10))
    gram, moments = X.transpose(0, 1, 3, 2) @ X, rng.standard_normal((20, 5, 10))
    assert faults(lambda: minimize_least_squares_batch(gram, moments, SquaredL2(1.0), 0.01)) == []


# What a careless solver does beside (or instead of) one serial solve.

POOL = ThreadPoolExecutor(1)


def in_a_thread() -> Solve:
    """Hands small work to another thread and waits."""
    solve = SMALL["linear-squared_l2"]()
    return lambda: POOL.submit(solve).result()


def threaded_blas() -> Solve:
    """Calls BLAS without limiting its threads, which are left spinning."""
    solve, product = SMALL["linear-squared_l2"](), users_work()
    return lambda: (product(), solve())


def spinning() -> Solve:
    """Leaves a thread of its own that looks for work all the time."""
    solve, x = SMALL["linear-squared_l2"](), np.ones(2_000_000)
    return lambda: (POOL.submit(x.sum), solve())


def sleeping() -> Solve:
    """Sleeps for a millisecond now and then."""
    solve, calls = SMALL["linear-squared_l2"](), [0]

    def call() -> None:
        calls[0] += 1
        solve()
        if calls[0] % 100 == 0:
            time.sleep(0.001)

    return call


def now_and_then_long() -> Solve:
    """Does twenty times the work in one of 100 calls."""
    solve, calls = SMALL["linear-squared_l2"](), [0]

    def call() -> None:
        calls[0] += 1
        for _ in range(20 if calls[0] % 100 == 0 else 1):
            solve()

    return call


PLANTED: dict[str, tuple[Callable[[], Solve], int, str]] = {
    "another thread": (in_a_thread, 300, "waited"),
    "threaded BLAS": (threaded_blas, 30, "other threads were busy"),
    "a spinning thread": (spinning, 30, "other threads were busy"),
    "a sleep": (sleeping, 300, "waited"),
    "long calls": (now_and_then_long, 300, "times the median"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_solver_that_stalls_is_caught(planted: str, two_blas_threads: None) -> None:
    make, n, expected = PLANTED[planted]
    if planted == "threaded BLAS" and 2 not in blas_threads():
        pytest.skip("no BLAS with threads")
    assert any(expected in fault for fault in faults(make(), n=n))


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["another thread", "a sleep"])
def test_and_between_calls_of_a_users_blas_too(planted: str, two_blas_threads: None) -> None:
    make, n, expected = PLANTED[planted]
    assert any(expected in fault for fault in faults(make(), users_work(), n=n))


@pytest.mark.parametrize("loss", ["linear", "logistic"])
def test_work_that_is_worth_it_is_shared_and_small_work_is_not(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_NUM_THREADS", "2")
    _parallel._pool.cache_clear()
    submitted = []
    pool = _parallel._pool()
    monkeypatch.setattr(_parallel, "_pool", lambda: submitted.append(1) or pool)
    minimize(small_problem(loss, "squared_l2"))
    assert not submitted
    minimize(make_problem((200, 20, 100), loss, "squared_l2", 0.01, np.random.default_rng(0)))
    assert submitted


# ------------------------------------------------------------------------------------------------------------- settings


def blas_threads() -> list[int]:
    return [lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]


def thread_settings() -> dict[str, Any]:
    """Return everything global that decides how many threads a user's own calls get."""
    return {
        "numba": numba.get_num_threads(),  # first, because it loads a library
        "libraries": {lib["filepath"]: lib["num_threads"] for lib in threadpoolctl.threadpool_info()},
        "numba mask": numba.config.NUMBA_NUM_THREADS,
        "environment": {name: value for name, value in os.environ.items() if "THREAD" in name},
        "affinity": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
    }


def refused() -> None:
    """Separable labels without a weight ν: there is no minimum."""
    with pytest.raises(SolverError):
        minimize(Problem([UserDataset([[1.0], [-1.0]], [1.0, -1.0])], Logistic(), SquaredL2(1.0), 0.0))


CALLS: dict[str, Callable[[], Any]] = {
    **{name: lambda name=name: SMALL[name]()() for name in SMALL},  # type: ignore[misc]
    "large": lambda: minimize(make_problem((300, 20, 60), "linear", "l2", 0.01, np.random.default_rng(0))),
    "certificate": lambda: minimize(small_problem("logistic", "smooth_l2")).certificate,
    "an error": refused,
}


@pytest.mark.parametrize("name", CALLS)
def test_no_call_changes_thread_settings(name: str, two_blas_threads: None) -> None:
    before = thread_settings()
    CALLS[name]()
    assert thread_settings() == before


def test_a_call_that_changes_thread_settings_is_caught(two_blas_threads: None) -> None:
    before = thread_settings()
    changed = threadpoolctl.ThreadpoolController().limit(limits=1, user_api="blas")
    try:
        assert max(blas_threads()) == 1
        assert thread_settings() != before or max(before["libraries"].values()) == 1
    finally:
        changed.restore_original_limits()
    assert thread_settings() == before


def test_a_limit_inside_a_limit_asks_blas_for_nothing(two_blas_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, limits = _parallel._controller(), []

    class Counted:
        def limit(self, **arguments: Any) -> Any:
            limits.append(arguments)
            return controller.limit(**arguments)

    monkeypatch.setattr(_parallel, "_controller", Counted)
    before = blas_threads()
    with _parallel.one_blas_thread():
        with _parallel.one_blas_thread():
            assert max(blas_threads()) == 1
        assert max(blas_threads()) == 1  # the inner end restores nothing
    assert blas_threads() == before
    assert len(limits) == 1
    with pytest.raises(ZeroDivisionError), _parallel.one_blas_thread():
        raise ZeroDivisionError
    with _parallel.one_blas_thread():
        assert max(blas_threads()) == 1
    assert len(limits) == 3
