"""What every benchmark shares: a command line, workers, a log that a run resumes from, and records of a run.

A program is a frozen ``Config``, a ``run`` that turns it into rows, and three ways to show the rows: a table on the
screen, JSON, and a figure.  This module holds what does not depend on the experiment:

* :func:`generator`          -- the one way to make a random generator: a seed, and a key that names the stream;
* :class:`ResumeLog`         -- finished rows, one a line, so that an interruption loses none;
* :func:`run_tasks`          -- single-threaded worker processes, whose number cannot change a result;
* :func:`environment`        -- versions, revision, processor, BLAS: what a reader needs to repeat the run;
* :func:`command_line`       -- errors of the package become one line and exit code 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from theory import EquipoiseError, ShapeError, SolverError
from theory.arrays import as_count

#: Exit codes of every program.
EXIT_OK, EXIT_REFUSED, EXIT_INTERRUPTED = 0, 2, 130

#: The file of finished rows in the folder of a run.
LOG = "cells.jsonl"

#: The packages whose version can change a number or a picture.
PACKAGES = ("equipoise", "numpy", "scipy", "numba", "llvmlite", "matplotlib", "scikit-learn", "pyarrow")

#: One thread for each worker: workers are the parallelism, and a sum that is split among threads may round otherwise.
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
SINGLE_THREAD = dict.fromkeys(THREAD_VARIABLES, "1")


# ---------------------------------------------------------------------------------------------------------- randomness


def generator(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of the stream ``key`` of ``seed``.

    Streams with different keys are independent, and each depends on its own key alone: a further replicate, or
    another order of work, changes no number that was drawn before.

    Examples
    --------
    >>> bool(generator(0, 1, 2).random() == generator(0, 1, 2).random())
    True
    >>> bool(generator(0, 1, 2).random() == generator(0, 2, 1).random())
    False
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


# -------------------------------------------------------------------------------------------------------- command line


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are errors of this package, so that they read like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise EquipoiseError(f"{message} (--help explains the options)")


class Main(Protocol):
    """The ``main`` of a program."""

    def __call__(self, argv: list[str] | None = None) -> int:
        """Run the program on ``argv`` (by default, on the arguments of the process) and return its exit code."""
        ...


def command_line(main: Main) -> Main:
    """Wrap the ``main`` of a program: an :class:`EquipoiseError` becomes one line on stderr and exit code 2."""

    @functools.wraps(main)
    def guarded(argv: list[str] | None = None) -> int:
        try:
            return main(argv)
        except EquipoiseError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return EXIT_REFUSED
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED

    return guarded


def add_run_options(
    options: argparse.ArgumentParser,
    name: str,
    *,
    quick: str,
    seed: str = "seed of all random numbers",
    jobs: int | None,
) -> None:
    """Add what every program that resumes takes: ``--seed --quick --out --jobs --fresh``.

    ``quick`` and ``seed`` are their helps; ``jobs = None`` is as many workers as :func:`jobs_of` gives.
    """
    workers = "2, or 1 on one processor" if jobs is None else "%(default)s"
    options.add_argument("--seed", type=int, default=0, help=f"{seed} (%(default)s)")
    options.add_argument("--quick", action="store_true", help=quick)
    options.add_argument("--out", type=Path, default=Path("results") / name, help="folder to write to (%(default)s)")
    options.add_argument("--jobs", type=int, default=jobs, help=f"worker processes ({workers})")
    options.add_argument("--fresh", action="store_true", help="forget the log in the folder, and start anew")


def jobs_of(options: argparse.Namespace) -> int:
    """Return the number of workers that ``--jobs`` asks for, or the usual one."""
    return min(2, available_processors()) if options.jobs is None else as_count(options.jobs, "--jobs", 1)


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Say, if the block is interrupted, where its finished rows are; :func:`command_line` ends the program."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted: what was finished is in {out / LOG}, and the same command goes on from there")
        raise


def parse_names(text: str, known: Sequence[str], option: str) -> tuple[str, ...]:
    """Return the comma-separated names in ``text``, in the order of ``known``, each once.

    Examples
    --------
    >>> parse_names("logistic,linear", ("linear", "logistic"), "--loss")
    ('linear', 'logistic')
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ShapeError(option, f"names among {', '.join(known)}, separated by commas", repr(name))
    return tuple(name for name in known if name in names)


def parse_integers(text: str, option: str) -> tuple[int, ...]:
    """Return the comma-separated integers in ``text``.

    Examples
    --------
    >>> parse_integers("10, 100", "--sizes")
    (10, 100)
    """
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ShapeError(option, "integers separated by commas", repr(text)) from None


def format_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a plain-text table: the columns are as wide as they must be, with a rule under the headers.

    Examples
    --------
    >>> print(format_table(["a", "b"], [["1", "long"]]))
    a  b
    -  ----
    1  long
    """
    lines = [list(headers), *[list(row) for row in rows]]
    widths = [max(len(line[j]) for line in lines) for j in range(len(headers))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


# ------------------------------------------------------------------------------------------------------------- records


def content_key(content: Any) -> str:
    """Return a hash of JSON-like ``content``; equal contents have equal keys.

    Examples
    --------
    >>> content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def code_key(*roots: Path) -> str:
    """Return a hash of all Python files in ``roots`` (files or folders): changed code must not reuse old numbers."""
    digest = hashlib.sha256()
    for root in roots:
        files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
        for file in files:
            digest.update(file.relative_to(root.parent).as_posix().encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the version of each of :data:`PACKAGES` that is installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def environment() -> dict[str, Any]:
    """Return what a reader needs to know of the machine and the software to repeat a run."""
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return {
        "python": platform.python_version(),
        "packages": versions(),
        "git_revision": git_revision(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors_available": available_processors(),
        "blas": {name: blas.get(name, "unknown") for name in ("name", "version")},
        "threads_per_worker": 1,
        "numba_jit": os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0"),
    }


def available_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def git_revision() -> str | None:
    """Return the revision of the repository that this file is tracked in, with ``+changes`` if it is modified."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)

    try:
        # An installed copy may lie inside somebody else's repository, whose revision says nothing about it.
        if git("ls-files", "--error-unmatch", here.name).returncode != 0:
            return None
        revision = git("rev-parse", "HEAD").stdout.strip()
        return revision + ("+changes" if git("status", "--porcelain", "--untracked-files=no").stdout.strip() else "")
    except (OSError, subprocess.TimeoutExpired):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def make_folder(out: Path) -> Path:
    """Make the folder before the work: that it cannot be made should not be found out after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ShapeError("--out", "a folder that can be made", f"{out} ({error.strerror})") from None
    return out


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` to ``path``: either the whole file is there afterwards, or the old one still is."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def write_results(out: Path, name: str, config: Any, wall_seconds: float, **content: Any) -> Path:
    """Write ``results.json``: the rows of a run with all that is needed to repeat it; return its path."""
    path = out / "results.json"
    head = {"program": name, "config": dataclasses.asdict(config)}
    tail = {"timing": {"wall_seconds": wall_seconds}, "environment": environment()}
    write_json(path, {**head, **content, **tail})
    return path


class ResumeLog:
    """Finished rows of a run, one JSON object a line, only ever appended to.

    Each row carries the ``key`` of the configuration (and code) that made it, and only rows with this log's key are
    read back, so a changed configuration never reuses old rows.  A line that an interruption tore apart cannot be
    read, is left out and counted, and its row is computed again.

    Parameters
    ----------
    path : Path
    key : str
        As :func:`content_key` makes it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "rows.jsonl"
    ...     ResumeLog(path, "k1").append({"x": 0.1})
    ...     ResumeLog(path, "k1").rows(), ResumeLog(path, "k2").rows()
    ([{'x': 0.1}], [])
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key
        self.n_unreadable = 0

    def clear(self) -> None:
        """Forget every row, of every key."""
        self.path.unlink(missing_ok=True)

    def append(self, row: dict[str, Any]) -> None:
        """Add one row; it is on disk when this returns."""
        line = json.dumps({"key": self.key, **row}, allow_nan=False)
        with self.path.open("ab+") as file:
            # After a torn line the new row must start on a line of its own.
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write((line + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows with this log's key, in the order in which they were written."""
        self.n_unreadable = 0
        found = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else ():
            try:
                row = json.loads(line)
                key = row.pop("key")
            except (ValueError, KeyError, AttributeError, TypeError):
                self.n_unreadable += bool(line.strip())
                continue
            if key == self.key:
                found.append(row)
        return found


# ------------------------------------------------------------------------------------------------------------- workers


def run_tasks(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    *,
    jobs: int,
    on_result: Callable[[Any], None],
    setup: Callable[..., None] | None = None,
    setup_arguments: tuple[Any, ...] = (),
) -> None:
    """Call ``function(*task)`` for each task in ``jobs`` worker processes, and ``on_result`` with each value.

    Values arrive in the order in which they are finished.  The workers are fresh processes with one thread each, also
    for ``jobs = 1``, so the number of jobs and the threads of the caller cannot change a result.  If the caller is
    interrupted, or a task is refused, the tasks under way are finished and handed over before the error goes on.

    Parameters
    ----------
    function : callable
        Importable by name; arguments and value can be pickled.
    tasks : sequence of argument tuples
    jobs : int, >= 1
    on_result : callable
        Called in this process.
    setup, setup_arguments
        Called once in each worker before its first task.

    Raises
    ------
    EquipoiseError
        What a task raised, or :class:`SolverError` if a worker died.
    """
    if not tasks:
        return
    executor = ProcessPoolExecutor(
        max_workers=min(jobs, len(tasks)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(setup, setup_arguments),
    )
    pending: set[Future[Any]] = set()
    try:
        # Workers are started by `submit`, and read these variables when they start.
        with _environment_variables(SINGLE_THREAD):
            pending.update(executor.submit(_guarded, function, task) for task in tasks)
        for future in as_completed(tuple(pending)):
            pending.discard(future)
            on_result(_unwrap(future))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            print("\ninterrupted: what is under way is finished first", file=sys.stderr)
        executor.shutdown(wait=True, cancel_futures=True)
        for future in pending:
            if future.done() and not future.cancelled() and future.exception() is None and future.result()[0]:
                on_result(future.result()[1])
        raise
    finally:
        executor.shutdown(wait=True)


def _start_worker(setup: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    # An interrupt reaches the whole process group; the parent decides what becomes of the tasks under way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if setup is not None:
        setup(*arguments)


def _guarded(function: Callable[..., Any], task: tuple[Any, ...]) -> tuple[bool, Any]:
    """Return (True, value), or (False, message): the errors of this package do not survive pickling."""
    try:
        return True, function(*task)
    except EquipoiseError as error:
        return False, str(error)
    except MemoryError as error:
        return False, f"a task {task} needs more memory than there is ({error})"


def _unwrap(future: Future[Any]) -> Any:
    try:
        succeeded, value = future.result()
    except BrokenProcessPool:
        raise SolverError(
            "a worker process died (most often for want of memory: fewer --jobs need less); what it finished is kept"
        ) from None
    if not succeeded:
        raise SolverError(value)
    return value


@contextmanager
def _environment_variables(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def stopwatch(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall time of the block to ``seconds[name]``."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
