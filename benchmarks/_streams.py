"""Users that do not fit in memory: what a pass over a stream costs beside reading it, and the memory along the way."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._harness import generator
from solvers import _kernels as kernels
from solvers import minimize_stream, parquet_users
from solvers._parallel import over_users
from solvers.streaming import Source, _blocks
from theory import SolverError, SquaredL2, UserDataset
from theory.arrays import Array, frozen

# Users that are drawn together, from a random stream of their own.
_DRAWN = 500
_REG, _NU = SquaredL2(1.0), 0.01


@dataclass(frozen=True)
class Stream:
    """N users of d features with 40 to 50 data points each, the same ones in every pass."""

    n_users: int
    dim: int = 20
    seed: int = 0

    def sizes(self, first: int, last: int) -> np.ndarray:
        """Return the numbers of data points of the users ``first`` to ``last``."""
        return 40 + np.arange(first, last) % 11

    def draws(self) -> Iterator[tuple[int, np.ndarray, Array, Array]]:
        """Yield (first user, sizes, Q, A) of a few hundred users at a time."""
        for first in range(0, self.n_users, _DRAWN):
            sizes = self.sizes(first, min(first + _DRAWN, self.n_users))
            rng = generator(self.seed, 8, first)
            Q = rng.standard_normal((int(sizes.sum()), self.dim))
            models = np.repeat(rng.standard_normal((len(sizes), self.dim)), sizes, axis=0)
            A = np.einsum("ij,ij->i", Q, models) + rng.standard_normal(len(Q))
            yield first, sizes, frozen(Q), frozen(A)

    def users(self) -> Iterator[UserDataset]:
        """Yield the users one at a time."""
        for _, sizes, Q, A in self.draws():
            stop = np.cumsum(sizes)
            for a, b in zip(stop - sizes, stop, strict=True):
                yield UserDataset(Q[a:b], A[a:b])

    def ready_users(self) -> Iterator[UserDataset]:
        """Yield the first users again and again, from memory: no cost of drawing that the passes could hide behind."""
        ready = list(Stream(min(_DRAWN, self.n_users), self.dim, self.seed).users())
        for n in range(self.n_users):
            yield ready[n % len(ready)]

    def source(self, path: Path) -> Source:
        """Return the source that reads the users from the file that :meth:`write` wrote."""
        return parquet_users(path, user="user", target="answer")

    def write(self, path: Path) -> None:
        """Write the users to a Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = ["user", "answer", *(f"x{j}" for j in range(self.dim))]
        schema = pa.schema([(name, pa.int64() if name == "user" else pa.float64()) for name in names])
        # Random numbers neither compress nor repeat.
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
            for first, sizes, Q, A in self.draws():
                ids = np.repeat(np.arange(first, first + len(sizes)), sizes)
                writer.write_table(pa.table([ids, A, *Q.T], schema=schema))

    @property
    def bytes(self) -> float:
        """What the users would take in memory all together."""
        return 8.0 * self.n_users * (self.dim + 1) * float(np.mean(self.sizes(0, 11)))


def gram_pass(source: Source) -> int:
    """Read the users and form their Gram products, nothing else, which no method can avoid; return their number."""
    n_users, H, b = 0, np.empty((0, 0, 0)), np.empty((0, 0))
    for block in _blocks(source):
        n, d = len(block.sizes), block.Q.shape[1]
        stop = np.cumsum(block.sizes)
        start = stop - block.sizes
        if len(H) < n:
            H, b = np.empty((n, d, d)), np.empty((n, d))
        _form(block.Q, block.A, start, stop, H, b)
        n_users += n
    return n_users


def _form(Q: Array, A: Array, start: np.ndarray, stop: np.ndarray, H: Array, b: Array) -> None:
    flops = (stop - start) * float(Q.shape[1] ** 2)
    over_users(lambda _, a, z: kernels.least_squares_normal(Q, A, start, stop, H, b, a, z), flops)


def resident() -> float:
    """Return the memory of this process in bytes (where the system tells only its peak, that)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return float(pages * resource.getpagesize())
    except OSError:
        peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return peak if sys.platform == "darwin" else 1024.0 * peak


class Meter:
    """Samples of (users read, resident memory), taken by a thread of its own while the block runs."""

    def __init__(self, source: Callable[[], Iterator[Any]], every: float = 0.005) -> None:
        self._source = source
        self._every = every
        self._read = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
        self.samples: list[tuple[int, float]] = []

    def source(self) -> Iterator[Any]:
        """Return the users of the source, and count them."""
        self._read = 0
        for item in self._source():
            yield item
            self._read += len(item.sizes) if hasattr(item, "sizes") else 1

    def _sample(self) -> None:
        while not self._done.wait(self._every):
            self.samples.append((self._read, resident()))

    def __enter__(self) -> Meter:
        self.samples.append((0, resident()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.samples.append((self._read, resident()))


def _consume(thetas: Iterator[Array]) -> int:
    n = 0
    for _ in thetas:
        n += 1
    return n


def measure(stream: Stream, kind: str, source: Callable[[], Iterator[Any]], runs: int, budget: float) -> dict[str, Any]:
    """Return times and memory of both passes over one stream, beside reading and Gram products alone.

    The three take turns, so that a disturbance meets all of them.
    """
    gram_pass(Stream(600, stream.dim).users)  # compiles, and starts the threads
    solution = minimize_stream(Stream(600, stream.dim).users, _REG, _NU)
    seconds: dict[str, list[float]] = {"read and Gram": [], "first pass: ρ*": [], "second pass: θ*": []}
    processor: dict[str, list[float]] = {name: [] for name in seconds}
    profile: dict[str, list[tuple[int, float]]] = {}
    began = time.perf_counter()
    before = resident()
    for run in range(runs):
        if run and (time.perf_counter() - began) * (run + 1) / run > budget:
            break
        for name, times in seconds.items():
            with Meter(source) as meter:
                start, busy = time.perf_counter(), time.process_time()
                if name == "read and Gram":
                    n_users = gram_pass(meter.source)
                elif name == "first pass: ρ*":
                    solution = minimize_stream(meter.source, _REG, _NU)
                    n_users = solution.n_users
                else:
                    n_users = _consume(replace(solution, source=meter.source).thetas())
                times.append(time.perf_counter() - start)
                processor[name].append(time.process_time() - busy)
            if n_users != stream.n_users:
                raise SolverError(f"{n_users} of {stream.n_users} users were read")
            profile.setdefault(name, _thinned(meter.samples))
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    cpu = {name: float(np.median(times)) for name, times in processor.items()}
    return {
        "source": kind,
        "n_users": stream.n_users,
        "dim": stream.dim,
        "n_data": solution.n_data,
        "runs": len(seconds["read and Gram"]),
        "seconds": medians,
        "spread": {name: [min(times), max(times)] for name, times in seconds.items()},
        "over_reading": {name: value / medians["read and Gram"] for name, value in medians.items()},
        # Of all threads; unlike the wall time, it hardly depends on what else the machine does.
        "processor_seconds": cpu,
        "processor_over_reading": {name: value / cpu["read and Gram"] for name, value in cpu.items()},
        "residual": solution.residual(),
        "resident_before": before,
        "bytes_per_user": _slope(profile["first pass: ρ*"]),
        "peak": max(memory for samples in profile.values() for _, memory in samples),
        "data_bytes": stream.bytes,
        "profile": profile,
    }


def run(kind: str, n_users: int, runs: int, seed: int, path: str) -> dict[str, Any]:
    """Measure one kind of source: "ready", "iterator" or "Parquet" (a file at ``path``)."""
    stream = Stream(n_users, seed=seed)
    sources: dict[str, Callable[[], Any]] = {
        "ready": stream.ready_users, "iterator": stream.users, "Parquet": lambda: stream.source(Path(path))()
    }  # fmt: skip
    return measure(stream, kind, sources[kind], runs, budget=120.0)


def _slope(samples: list[tuple[int, float]]) -> float:
    """Return how memory grows with the users that were read, in bytes a user, after the first quarter."""
    read, memory = np.array([sample for sample in samples if sample[0] >= samples[-1][0] / 4]).T
    return float(np.polyfit(read, memory, 1)[0]) if len(set(read)) > 1 else 0.0


def _thinned(samples: list[tuple[int, float]], most: int = 200) -> list[tuple[int, float]]:
    """Keep at most ``most`` samples: the largest memory of each stretch."""
    length = -(-len(samples) // most)
    return [max(samples[k : k + length], key=lambda s: s[1]) for k in range(0, len(samples), length)]
