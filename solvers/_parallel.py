"""Share the users of a call among threads.

Kernels release the interpreter lock, so plain threads suffice, and none of the stalls of a spinning parallel
runtime occur: small calls run in the calling thread, and BLAS is limited to one thread while kernels run (the
user's own setting is restored afterwards).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

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
    """Return the number of threads for kernels: EQUIPOISE_NUM_THREADS, or the processors of this process."""
    wanted = os.environ.get("EQUIPOISE_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    return [(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


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
    with _controller().limit(limits=1, user_api="blas"):
        threads = n_threads()
        if threads == 1 or float(np.sum(flops)) < _SERIAL_FLOPS:
            return task(0, 0, len(flops))
        ranges = cut(flops, threads, multiple)
        jobs = [_pool().submit(task, part, a, b) for part, (a, b) in enumerate(ranges[1:], start=1)]
        statuses = [task(0, *ranges[0]), *(job.result() for job in jobs)]
    return next((status for status in statuses if status != 0), 0)


def over_items(task: Callable[[int], None], n: int) -> None:
    """Run ``task(i)`` for i < n in threads, BLAS limited to one thread each."""
    with _controller().limit(limits=1, user_api="blas"):
        if n_threads() == 1:
            for i in range(n):
                task(i)
        else:
            list(_pool().map(task, range(n)))
