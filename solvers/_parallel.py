"""Share the users of a call among threads.

Kernels release the interpreter lock, so plain threads suffice, and none of the stalls of a spinning parallel
runtime occur: small calls run in the calling thread, and BLAS is limited to one thread while kernels run (the
user's own setting is restored afterwards).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise

import numpy as np
from threadpoolctl import ThreadpoolController

# Below this many flops a call costs less than waking a thread (about 50 µs).
_SERIAL_FLOPS = 2e6


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads(), thread_name_prefix="equipoise")


def n_threads() -> int:
    """Return the number of threads for kernels: EQUIPOISE_NUM_THREADS or NUMBA_NUM_THREADS, or all processors."""
    for name in ("EQUIPOISE_NUM_THREADS", "NUMBA_NUM_THREADS"):
        wanted = os.environ.get(name, "")
        if wanted.isdigit() and int(wanted) > 0:
            return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# One call at a time: overlapping limits of BLAS would leave the last one's single thread behind as the user's setting.
_TURN = threading.RLock()
_LIMITED = threading.local()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread, and restore the user's own setting at the end.

    Calls from several Python threads take turns; each uses all processors anyway.  Inside another limit of the same
    thread there is nothing to do: asking and setting all BLAS libraries takes some 30 µs, as long as a small kernel.
    """
    if getattr(_LIMITED, "here", False):
        yield
        return
    with _TURN, _controller().limit(limits=1, user_api="blas"):
        _LIMITED.here = True
        try:
            yield
        finally:
            _LIMITED.here = False


def cut(weights: np.ndarray, parts: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Cut users into at most ``parts`` contiguous ranges of about equal weight that start at multiples of ``multiple``.

    Examples
    --------
    >>> cut(np.array([5.0, 1.0, 1.0, 3.0]), 2)
    [(0, 1), (1, 4)]
    """
    total = np.cumsum(weights)
    bounds = np.searchsorted(total, total[-1] * np.arange(1, parts) / parts, side="left") + 1
    bounds = np.minimum(-(-bounds // multiple) * multiple, len(weights))
    edges = np.unique(np.concatenate([[0], bounds, [len(weights)]]))
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def over_users(task: Callable[[int, int, int], int], flops: np.ndarray, multiple: int = 1) -> int:
    """Run ``task(part, first, last)`` over all users; return the first status that is not 0.

    Parameters
    ----------
    task : callable
        ``part`` numbers the ranges, for tasks that keep partial sums; at most :func:`n_threads` parts.
    flops : (N,) array
        The cost of each user.
    multiple : int
        Ranges start at multiples of this.
    """
    if len(flops) == 0:
        return 0
    with one_blas_thread():
        threads = n_threads()
        if threads == 1 or float(np.sum(flops)) < _SERIAL_FLOPS:
            return task(0, 0, len(flops))
        ranges = cut(flops, threads, multiple)
        jobs = [_pool().submit(task, part, a, b) for part, (a, b) in enumerate(ranges[1:], start=1)]
        statuses = [task(0, *ranges[0]), *(job.result() for job in jobs)]
    return next((status for status in statuses if status != 0), 0)


def over_items(task: Callable[[int], None], n: int) -> None:
    """Run ``task(i)`` for i < n in threads, BLAS limited to one thread each."""
    with one_blas_thread():
        if n_threads() == 1:
            for i in range(n):
                task(i)
        else:
            list(_pool().map(task, range(n)))
