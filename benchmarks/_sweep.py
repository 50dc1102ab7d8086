"""Sweeps over independent cells that can be interrupted: what is finished is in a log, and is never computed twice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import solvers
import theory
from benchmarks import _harness
from benchmarks._harness import ResumeLog

Row = dict[str, Any]


def sweep_key(program: str, setting: dict[str, Any], *helpers: ModuleType | str) -> str:
    """Return the hash of all that a cell's numbers depend on: its setting, versions and code."""
    packages = {name: version for name, version in _harness.versions().items() if name not in ("matplotlib", "pyarrow")}
    folders = [Path(module.__file__).parent for module in (theory, solvers) if module.__file__]
    files = [Path(str(helper if isinstance(helper, str) else helper.__file__)) for helper in helpers]
    code = _harness.code_key(*folders, *files)
    return _harness.content_key({"program": program, "setting": setting, "packages": packages, "code": code})


def sweep(
    function: Callable[..., Row],
    tasks: Sequence[tuple[Any, ...]],
    log: ResumeLog,
    *,
    name: str,
    jobs: int,
    progress: bool,
) -> list[Row]:
    """Return ``function(*task)`` for each task, in the order of the tasks; finished ones come from the log.

    Parameters
    ----------
    function : callable
        Importable by name.  Its rows get the field ``task``, by which they are found again.
    tasks : sequence of tuples of numbers and strings
    log : ResumeLog
    name : str
        What the progress bar says.
    jobs : int, >= 1
    progress : bool
        Show the bar on stderr.
    """
    from tqdm import tqdm

    wanted = {tuple(task) for task in tasks}
    done: dict[tuple[Any, ...], Row] = {}
    for row in log.rows():
        task = tuple(row.get("task", ()))
        if task in wanted:
            done[task] = row
    missing = [task for task in tasks if task not in done]
    with tqdm(
        total=len(tasks), initial=len(done), unit="cell", desc=name, file=sys.stderr, disable=not progress,
        mininterval=0.5,
    ) as bar:  # fmt: skip

        def keep(row: Row) -> None:
            log.append(row)
            done[tuple(row["task"])] = row
            bar.update()

        _harness.run_tasks(_Tagged(function), [(task,) for task in missing], jobs=jobs, on_result=keep)
    return [done[task] for task in tasks]


class _Tagged:
    """A function whose rows carry the task that made them."""

    def __init__(self, function: Callable[..., Row]) -> None:
        self.function = function

    def __call__(self, task: tuple[Any, ...]) -> Row:
        return {"task": list(task), **self.function(*task)}


def sweep_here(
    function: Callable[..., Row],
    tasks: Sequence[tuple[Any, ...]],
    log: ResumeLog,
    *,
    name: str,
    progress: bool,
) -> list[Row]:
    """As :func:`sweep`, in this process and one task after another: for times, which a neighbour would disturb."""
    from tqdm import tqdm

    done = {tuple(row.get("task", ())): row for row in log.rows()}
    n_done = sum(task in done for task in tasks)
    with tqdm(
        total=len(tasks), initial=n_done, unit="cell", desc=name, file=sys.stderr, disable=not progress
    ) as bar:  # fmt: skip
        for task in tasks:
            if task in done:
                continue
            bar.set_postfix_str(" ".join(map(str, task)))
            done[task] = _Tagged(function)(task)
            log.append(done[task])
            bar.update()
    return [done[task] for task in tasks]
