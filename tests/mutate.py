r"""Mutation testing: change one place of the code, and see whether a test notices.

The mathematics (about half an hour on two processors; ``--sample 700`` takes five minutes and gives an exact interval
for the share) and the exact verifier, all mutants of both:

    python tests/mutate.py theory --write tests/mutation_theory.md
    python tests/mutate.py proofs_checks/exact.py --tests tests/test_checks.py proofs_checks/exact.py \
        --skip the_claim_holds --at-least 100 --write tests/mutation_verifier.md

Both print the counts and the survivors, and write them down.

The tests are imported and collected once.  Each mutant lives in a process forked from there: the code objects of the
functions are replaced in place, so that every name under which a function was imported sees the mutant, decorated or
not; where the change is in a default or in a constant of a module, the mutated module is executed aside and its values
are grafted in.  Only the tests that run the changed lines are run, until one fails: first those that are fast
and have killed before.  Numba is off (``NUMBA_DISABLE_JIT=1``).

What is mutated:  + - * / ** // % @ & \| << >>;  comparisons (boundary and negation);  numbers (+1, -1, double) and
truth values;  and, or, not, the conditions of if, while, conditional expressions and comprehensions;  signs;  pairs
such as min and max, any and all, floor and ceil; sqrt and abs left out;  returned values (None, negated);  statements
left out (raise, calls for their effect, assignments to elements, augmented assignments), break and continue.
What is not: docstrings, annotations, decorators, strings, the text of errors, ``__repr__``, ``__all__``.

A mutant is killed if a test fails, or runs ten times as long as it should.  A change that leaves the bytecode as it is
makes no mutant.  ``tests/mutants.toml`` holds those that are shown to be equivalent, each with its reason; an entry
that fits no survivor is an error.  Tests that take longer than ``--longest`` seconds and those of ``LEFT_OUT`` are not
run, so the share of killed mutants is a lower bound.

Verdicts are kept in ``results/mutation`` and are good for as long as the mutated file, the test that killed and, for a
survivor, all tests that reach it are the same; ``--fresh`` forgets them.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import hashlib
import json
import marshal
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    "tests/test_theory_*.py", "tests/test_pac*.py", "tests/test_attacks.py", "tests/test_poisoning.py",
    "tests/test_reach.py", "tests/test_sequential.py", "tests/test_impossibility.py", "tests/test_bad_input.py",
    "theory",
)  # fmt: skip
#: Three run a whole check of the ledger again, as ``test_the_claim_holds`` does; one starts processes.
LEFT_OUT = (
    "the_falsehood_is_refuted",
    "the_printed_claim_fails",
    "a_tenth_too_strong",
    "test_pac_scaling.py",
)
EQUIVALENT = Path("tests/mutants.toml")


# ---- Mutants ----------------------------------------------------------------------------------------------------

_BINARY: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_COMPARE: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
_PAIRS = [
    ("min", "max"), ("minimum", "maximum"), ("argmin", "argmax"), ("any", "all"), ("floor", "ceil"), ("sum", "mean"),
    ("zeros", "ones"), ("zeros_like", "ones_like"), ("exp", "expm1"), ("log", "log1p"), ("fmin", "fmax"),
]  # fmt: skip
_CALLS = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
_LEFT_OUT_CALLS = {"sqrt", "abs", "absolute"}
_NUMERIC = {"Array", "float", "int", "Fraction", "np.ndarray", "Vector", "NDArray[np.float64]"}
_SKIPPED_FUNCTIONS = {"__repr__", "__str__"}
_LARGE = 16


@dataclass(frozen=True)
class Mutant:
    """One change of one file: where, what, and the tree to compile."""

    file: str
    line: int
    function: str
    operator: str
    original: str
    mutated: str
    lines: frozenset[int]
    patches: bool  # the code of ``function`` is replaced; otherwise the values of the module are grafted
    site: tuple[Any, str, int | None, ast.AST] = field(repr=False, compare=False)
    tree: ast.Module = field(repr=False, compare=False)

    def compiled(self) -> CodeType:
        """Return the code of the mutated module."""
        parent, name, index, replacement = self.site
        held = getattr(parent, name)
        before = held if index is None else held[index]
        _put(parent, name, index, replacement)
        try:
            return compile(ast.fix_missing_locations(self.tree), str(ROOT / self.file), "exec")
        finally:
            _put(parent, name, index, before)

    @property
    def name(self) -> str:
        """What is changed, where, without line numbers."""
        return f"{self.file} | {self.function} | {self.original} | {self.mutated}"


def _put(parent: Any, name: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[index] = node


def _changed(node: Any, **values: Any) -> Any:
    new = copy.copy(node)
    for name, value in values.items():
        setattr(new, name, value)
    return new


def _same_place(new: Any, node: ast.AST) -> Any:
    return ast.copy_location(new, node)


def _not(node: Any) -> Any:
    return _same_place(ast.UnaryOp(ast.Not(), node), node)


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1] if abs(value) <= _LARGE else [2 * value]
    if isinstance(value, float):
        return [2 * value if value else -1.0, value + 1]
    return []


def _variants(node: Any, parent: Any, name: str, returns: str) -> Iterator[tuple[str, Any]]:
    """Yield the operator's name and the node that replaces ``node``."""
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _BINARY:
        texts = (ast.List, ast.Tuple, ast.JoinedStr, ast.Set)
        sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
        if not any(isinstance(side, texts) or isinstance(getattr(side, "value", 0), str) for side in sides):
            yield "arithmetic", _changed(node, op=_BINARY[type(node.op)]())
    if isinstance(node, ast.Compare):
        for k, op in enumerate(node.ops):
            for other in _COMPARE[type(op)]:
                yield "comparison", _changed(node, ops=[*node.ops[:k], other(), *node.ops[k + 1 :]])
    if isinstance(node, ast.Constant):
        for value in _numbers(node.value):
            yield "constant", _changed(node, value=value)
    if isinstance(node, ast.BoolOp):
        yield "boolean", _changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        yield "unary", node.operand
    if isinstance(node, ast.Call):
        called = node.func
        known = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if known in _CALLS:
            swapped = _changed(called, **{"attr" if isinstance(called, ast.Attribute) else "id": _CALLS[known]})
            yield "call", _changed(node, func=swapped)
        if known in _LEFT_OUT_CALLS and len(node.args) == 1:
            yield "call", node.args[0]
    is_condition = (name == "test" and isinstance(parent, (ast.If, ast.While, ast.IfExp))) or name == "ifs"
    single = isinstance(node, ast.Compare) and len(node.ops) == 1
    if is_condition and not single and not (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
        yield "condition", _not(node)
    if isinstance(node, ast.Return) and node.value is not None and getattr(node.value, "value", 0) is not None:
        yield "return", _changed(node, value=_same_place(ast.Constant(None), node.value))
        if returns in _NUMERIC and not isinstance(node.value, (ast.Constant, ast.UnaryOp)):
            yield "return", _changed(node, value=_same_place(ast.UnaryOp(ast.USub(), node.value), node.value))
        elif returns == "bool" and not (isinstance(node.value, (ast.Compare, ast.Constant, ast.UnaryOp))):
            yield "return", _changed(node, value=_not(node.value))
    yield from _statements(node)


def _statements(node: Any) -> Iterator[tuple[str, Any]]:
    is_effect = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    is_stored = isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript))
    if is_effect or is_stored or isinstance(node, (ast.Raise, ast.AugAssign, ast.Delete)):
        # Never run, but still there: what is free or local in the function stays so.
        yield "statement", _same_place(ast.If(_same_place(ast.Constant(False), node), [node], []), node)
    if isinstance(node, ast.Break):
        yield "statement", _same_place(ast.Continue(), node)
    if isinstance(node, ast.Continue):
        yield "statement", _same_place(ast.Break(), node)


class _Walk:
    """The mutants of one file, in the order of its text."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.tree = ast.parse(text)
        self.compiled = marshal.dumps(compile(self.tree, str(ROOT / file), "exec"))
        self.found: list[Mutant] = []
        self.seen: set[tuple[int, str, str, str]] = set()

    def all(self) -> list[Mutant]:
        self._body(self.tree, "", (), None, "")
        return self.found

    def _body(self, node: Any, function: str, names: tuple[str, ...], owner: Any, returns: str) -> None:
        for name, value in ast.iter_fields(node):
            for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.AST):
                    self._child(node, name, index, child, function, names, owner, returns)

    def _child(
        self, parent: Any, name: str, index: int | None, node: Any,
        function: str, names: tuple[str, ...], owner: Any, returns: str,
    ) -> None:  # fmt: skip
        """``owner`` is the innermost statement, or the function whose defaults are meant."""
        if name in ("annotation", "returns", "decorator_list") or isinstance(node, (ast.JoinedStr, ast.expr_context)):
            return
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and "__all__" in ast.unparse(node)[:7]:
            return
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and function):
            # A function inside a function goes with it.
            self._body(node, function, names if function else (*names, node.name), node, returns)
            return
        if isinstance(node, ast.FunctionDef):
            if node.name in _SKIPPED_FUNCTIONS:
                return
            inside = (*names, node.name)
            given = ast.unparse(node.returns) if node.returns else ""
            self._body(node.args, "", inside, node, given)
            for k, child in enumerate(node.body):
                self._child(node, "body", k, child, ".".join(inside), inside, node, given)
            return
        if isinstance(node, ast.stmt):
            owner = node
        for operator, new in _variants(node, parent, name, returns):
            self._add(parent, name, index, node, new, operator, function, names, owner)
        if not isinstance(node, ast.Raise):
            self._body(node, function, names, owner, returns)

    def _add(
        self, parent: Any, name: str, index: int | None, node: Any, new: Any,
        operator: str, function: str, names: tuple[str, ...], owner: Any,
    ) -> None:  # fmt: skip
        original = _head(owner)
        _put(parent, name, index, new)
        # A statement that is left out takes its own place; anything else is shown inside its statement.
        mutated = _head(new if owner is node else owner)
        _put(parent, name, index, node)
        mutant = Mutant(
            self.file, node.lineno, ".".join(names), operator, original, mutated, _lines(owner), bool(function),
            (parent, name, index, new), self.tree,
        )  # fmt: skip
        key = (node.lineno, mutant.function, original, mutated)
        if key in self.seen or marshal.dumps(mutant.compiled()) == self.compiled:
            return
        self.seen.add(key)
        self.found.append(mutant)


def _head(node: Any) -> str:
    """Return the statement in one line, without the statements inside it."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Constant) and node.test.value is False:
        return "pass"
    shown = copy.copy(node)
    for name in ("body", "orelse", "finalbody", "handlers"):
        if isinstance(getattr(node, name, None), list):
            setattr(shown, name, [ast.Expr(ast.Constant(...))] if name == "body" else [])
    if hasattr(shown, "decorator_list"):
        shown.decorator_list = []
    return " ".join(ast.unparse(shown).removesuffix("...").split()).removesuffix(":")


def _lines(node: Any) -> frozenset[int]:
    """Return the lines that run where ``node`` does; of a statement with a body, those of its head."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Try)):
        return frozenset(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    body = getattr(node, "body", None)
    last = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno
    return frozenset(range(node.lineno, max(last, node.lineno) + 1))


def mutants(file: str, text: str) -> list[Mutant]:
    """Return all mutants of a file.

    Examples
    --------
    >>> text = '''def half(x: float) -> float:
    ...     "Return x / 2."
    ...     if not x >= 0:
    ...         raise ValueError(f"{x} < 0")
    ...     return x / 2'''
    >>> for mutant in mutants("half.py", text):
    ...     print(mutant.line, mutant.mutated)
    3 if x >= 0
    3 if not x > 0
    3 if not x < 0
    3 if not x >= 1
    3 if not x >= -1
    4 pass
    5 return None
    5 return -(x / 2)
    5 return x * 2
    5 return x / 3
    5 return x / 1
    """
    return _Walk(file, text).all()


# ---- In the forked process --------------------------------------------------------------------------------------


def _functions(code: CodeType) -> dict[str, CodeType]:
    """Return the functions of a module and of its classes by their qualified names."""
    found = {}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found[const.co_qualname] = const
            # A class body is code too; what is nested in a function goes with the function.
            if "<locals>" not in const.co_qualname:
                found |= _functions(const)
    return found


Place = tuple[str, str, int]


def places(files: Sequence[str]) -> dict[Place, list[FunctionType]]:
    """Return all functions of ``files`` that exist in this process by file, qualified name and line."""
    found: dict[Place, list[FunctionType]] = defaultdict(list)
    paths = {str(ROOT / file) for file in files}
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and function.__code__.co_filename in paths:
            found[_place(function.__code__)].append(function)
    return dict(found)


def _place(code: CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def plant(mutant: Mutant, functions: dict[Place, list[FunctionType]]) -> None:
    """Replace, in this process, what ``mutant`` changes."""
    code = mutant.compiled()
    path = str(ROOT / mutant.file)
    if mutant.patches:
        new = _functions(code)[mutant.function]
        for function in functions[_place(new)]:
            function.__code__ = new
        return
    module = next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == path)
    fresh = ModuleType(module.__name__)
    fresh.__file__ = path
    exec(code, fresh.__dict__)
    _graft(module, fresh)


def _graft(module: ModuleType, fresh: ModuleType) -> None:
    ours = [m for m in list(sys.modules.values()) if str(getattr(m, "__file__", "")).startswith(str(ROOT))]
    for name, new in list(vars(fresh).items()):
        old = vars(module).get(name)
        if name.startswith("__") or old is new:
            continue
        if isinstance(old, FunctionType) and isinstance(new, FunctionType):
            _graft_function(old, new)
        elif isinstance(old, type) and isinstance(new, type):
            for key, value in list(vars(new).items()):
                held = vars(old).get(key)
                mine, theirs = (getattr(v, "__func__", getattr(v, "fget", v)) for v in (held, value))
                if isinstance(mine, FunctionType) and isinstance(theirs, FunctionType):
                    _graft_function(mine, theirs)
                elif isinstance(value, (int, float, tuple, str)) and not key.startswith("__"):
                    setattr(old, key, value)
        else:
            for m in ours:
                if vars(m).get(name) is old:
                    setattr(m, name, new)


def _graft_function(old: FunctionType, new: FunctionType) -> None:
    if old.__code__.co_freevars == new.__code__.co_freevars:
        old.__code__ = new.__code__
    old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__


class _Reports:
    """Notes whether a test failed."""

    failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed


class _Tracer:
    """The lines of the mutated files that run.

    A function is watched until all its lines have run, or for so many calls without a new line that what is missed can
    only cost kills: a test is not thought to reach a line that it first runs after that.
    """

    patience = 200

    def __init__(self, paths: Sequence[str]) -> None:
        self.lines: dict[str, set[int]] = {path: set() for path in paths}
        self.watched: dict[int, tuple[set[int], set[int]]] = {}
        self.calls: Counter[int] = Counter()

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        code = frame.f_code
        if code.co_filename not in self.lines:
            return None
        if id(code) not in self.watched:
            self.watched[id(code)] = ({line for _, _, line in code.co_lines() if line}, self.lines[code.co_filename])
        waiting, seen = self.watched[id(code)]
        self.calls[id(code)] += 1
        if not waiting or self.calls[id(code)] > self.patience:
            return None

        def local(frame: FrameType, event: str, arg: Any) -> Any:
            line = frame.f_lineno
            if line in waiting:
                waiting.discard(line)
                seen.add(line)
                self.calls[id(code)] = 0
            return local

        return local(frame, event, arg)


def _run_test(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Run one test of the collected session; return whether it passed."""
    reports = _Reports()
    item.config.pluginmanager.register(reports)
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    item.config.pluginmanager.unregister(reports)
    return not reports.failed


@dataclass
class _Job:
    """What a forked process does, and what to do with its answer."""

    work: Callable[[Path], None]
    done: Callable[[Any, int], None]


def _forked(jobs: Iterator[_Job], count: int, config: pytest.Config) -> None:
    """Run each job in a process of its own, ``count`` at a time; ``done`` gets its answer and its wait status."""
    running: dict[int, tuple[_Job, tempfile.TemporaryDirectory[str]]] = {}
    exhausted = False
    while running or not exhausted:
        while len(running) < count and not exhausted:
            job = next(jobs, None)
            if job is None:
                exhausted = True
                break
            folder = tempfile.TemporaryDirectory(prefix="mutant-")
            pid = os.fork()
            if pid == 0:
                _child(job, Path(folder.name), config)
            running[pid] = (job, folder)
        if running:
            pid, status = os.wait()
            job, folder = running.pop(pid)
            answer = Path(folder.name, "answer.json")
            job.done(json.loads(answer.read_text()) if answer.exists() else None, status)
            folder.cleanup()


def _child(job: _Job, folder: Path, config: pytest.Config) -> None:
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
        # A mutant may ask for any amount of memory.
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        config.pluginmanager.unregister(name="terminalreporter")
        job.work(folder)
    except BaseException as error:
        (folder / "answer.json").write_text(json.dumps({"error": repr(error)}))
    finally:
        os._exit(0)


def _alarm(seconds: float) -> None:
    # Processor time, so that a busy machine kills no mutant; the other clock is for one that waits for ever.  The
    # default action of either signal ends the process, even inside a library.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 60 * seconds)


# ---- The run ----------------------------------------------------------------------------------------------------


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]


def digests_of_tests(text: str) -> Callable[[str], str]:
    """Return the digest of a test, given its name: its own text and that of its file but for the other tests.

    Examples
    --------
    >>> old = digests_of_tests("x = 1\\ndef test_a(): assert x\\ndef test_b(): assert x")
    >>> new = digests_of_tests("x = 1\\ndef test_a(): assert x\\ndef test_b(): assert x == 1\\ndef test_c(): pass")
    >>> old("test_a[case]") == new("test_a[case]"), old("test_b") == new("test_b")
    (True, False)
    """
    own, shared = {}, []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            own[node.name] = ast.dump(node)
        else:
            shared.append(ast.dump(node))
    rest = _digest(*shared)
    return lambda name: _digest(rest, own.get(name.split("[")[0], ""))


@dataclass
class Store:
    """A JSON Lines file of records by key; the last of a key counts."""

    path: Path
    records: dict[str, Any] = field(default_factory=dict)

    def load(self, fresh: bool) -> None:
        """Read the file, or forget it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            self.path.unlink(missing_ok=True)
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                # A line that was cut off by an interruption is run again.
                if line.endswith("}"):
                    record = json.loads(line)
                    self.records[record["key"]] = record

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record."""
        self.records[record["key"]] = record
        with self.path.open("a") as stream:
            stream.write(json.dumps(record) + "\n")


class Runner:
    """A pytest plugin that runs mutants in place of tests."""

    def __init__(self, options: argparse.Namespace, files: dict[str, str], chosen: list[Mutant]) -> None:
        self.options = options
        self.files = files
        self.chosen = chosen
        self.verdicts: dict[str, dict[str, Any]] = {}
        self.coverage: dict[str, dict[str, Any]] = {}
        self.kills: dict[str, Counter[str]] = defaultdict(Counter)
        self.items: dict[str, pytest.Item] = {}
        self.tests: dict[str, str] = {}
        self.order: dict[str, int] = {}
        self.functions: dict[Place, list[FunctionType]] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Trace the tests, then run the mutants."""
        changed = [file for file, text in self.files.items() if (ROOT / file).read_text() != text]
        if changed:
            raise pytest.UsageError(f"changed while it was imported: {', '.join(changed)}")
        left_out = (*LEFT_OUT, *self.options.skip)
        self.items = {i.nodeid: i for i in session.items if not any(name in i.nodeid for name in left_out)}
        self.order = {name: k for k, name in enumerate(self.items)}
        texts: dict[str, Callable[[str], str]] = {}
        for name in self.items:
            path, _, test = name.partition("::")
            if path not in texts:
                texts[path] = digests_of_tests((ROOT / path).read_text())
            self.tests[name] = texts[path](test)
        self.functions = places(list(self.files))
        gc.freeze()  # a collection in a forked process copies no page of what was there before
        self._trace(session.config)
        try:
            self._mutate(session.config)
        except KeyboardInterrupt:
            tqdm.write("interrupted: what follows is about the mutants that were run")
        return True

    def _trace(self, config: pytest.Config) -> None:
        """Which lines each test runs, and how long it takes; each in a process of its own, where no cache is warm."""
        store = Store(self.options.results / "coverage.jsonl")
        store.load(self.options.fresh)
        # What another selection of files recorded says nothing about the lines of these.
        keys = {name: _digest(name, self.tests[name], *sorted(self.files)) for name in self.items}
        texts = {file: _digest(text) for file, text in self.files.items()}

        def is_good(record: dict[str, Any] | None) -> bool:
            # What a test does not run cannot change what it runs.
            return record is not None and all(texts.get(file) == text for file, text in record["texts"].items())

        missing = [name for name in self.items if not is_good(store.records.get(keys[name]))]
        bar = tqdm(total=len(missing), desc="tests", disable=not missing)

        def job(name: str) -> _Job:
            def work(folder: Path) -> None:
                tracer = _Tracer([str(ROOT / file) for file in self.files])
                _alarm(6 * self.options.longest)
                threading.settrace(tracer)
                sys.settrace(tracer)
                start = time.process_time()
                passed = _run_test(self.items[name], None)
                seconds = time.process_time() - start
                sys.settrace(None)
                lines = {file: sorted(tracer.lines[str(ROOT / file)]) for file in self.files}
                (folder / "answer.json").write_text(json.dumps({"ok": passed, "seconds": seconds, "lines": lines}))

            def done(answer: Any, status: int) -> None:
                answer = answer if answer and "ok" in answer else {"ok": False, "seconds": 1e9, "lines": {}}
                ran = {file: texts[file] for file in self.files if answer["lines"].get(file) or not answer["ok"]}
                store.add({"key": keys[name], "test": name, "texts": ran, **answer})
                bar.update()

            return _Job(work, done)

        _forked((job(name) for name in missing), self.options.jobs, config)
        bar.close()
        for name, key in keys.items():
            record = store.records[key]
            if record["ok"] and record["seconds"] <= self.options.longest:
                record["lines"] = {file: frozenset(lines) for file, lines in record["lines"].items()}
                self.coverage[name] = record
            elif self.options.verbose:
                tqdm.write(f"not run: {name} ({'fails alone' if record['seconds'] < 1e8 else 'too long'})")

    def _reaching(self, mutant: Mutant) -> list[str]:
        """The tests that run the changed lines; first what has killed most mutants of the function in least time."""
        kills = self.kills[f"{mutant.file}::{mutant.function}"]
        lines = mutant.lines
        reach = [n for n, r in self.coverage.items() if not lines.isdisjoint(r["lines"].get(mutant.file, ()))]
        if not mutant.patches and not reach:
            # Constants of a module or a class run at import; what uses them is somewhere in the file.
            reach = [n for n, r in self.coverage.items() if r["lines"].get(mutant.file)]
        return sorted(reach, key=lambda n: ((self.coverage[n]["seconds"] + 0.02) / (kills[n] + 0.2), self.order[n]))

    def _basis(self, reach: list[str]) -> str:
        return _digest(*sorted(name + self.tests[name] for name in reach))

    def _mutate(self, config: pytest.Config) -> None:
        store = Store(self.options.results / "verdicts.jsonl")
        store.load(self.options.fresh)
        bar = tqdm(total=len(self.chosen), desc="mutants")
        counts: Counter[str] = Counter()

        def finish(mutant: Mutant, record: dict[str, Any]) -> None:
            self.verdicts[mutant.name + str(mutant.line)] = record
            counts[record["verdict"]] += 1
            if record["verdict"] in ("killed", "timeout"):
                self.kills[f"{mutant.file}::{mutant.function}"][record["by"]] += 1
            bar.update()
            bar.set_postfix({k: v for k, v in counts.items() if k != "killed"}, refresh=False)

        def jobs() -> Iterator[_Job]:
            for mutant in self.chosen:
                key = _digest(self.files[mutant.file], mutant.name, str(mutant.line))
                reach = self._reaching(mutant)
                old = store.records.get(key)
                if old is not None and self._still_good(old, reach):
                    finish(mutant, old)
                elif not reach:
                    finish(mutant, {"key": key, "verdict": "not reached", "by": "", "seconds": 0.0})
                else:
                    yield self._job(mutant, key, reach, store, finish)

        _forked(jobs(), self.options.jobs, config)
        bar.close()

    def _still_good(self, record: dict[str, Any], reach: list[str]) -> bool:
        if record["verdict"] == "error":
            return False
        if record["verdict"] in ("killed", "timeout"):
            return record["by"] in self.coverage and record["basis"] == self.tests[record["by"]]
        return record["basis"] == self._basis(reach)

    def _job(
        self, mutant: Mutant, key: str, reach: list[str], store: Store, finish: Callable[[Mutant, dict[str, Any]], None]
    ) -> _Job:
        start = time.perf_counter()

        def work(folder: Path) -> None:
            (folder / "at").write_text("import")
            _alarm(60)
            try:
                plant(mutant, self.functions)
            except Exception as error:
                (folder / "answer.json").write_text(json.dumps({"by": reach[0], "planted": repr(error)}))
                return
            for name, following in zip(reach, [*reach[1:], None], strict=True):
                (folder / "answer.json").write_text(json.dumps({"by": name, "failed": False}))
                _alarm(self.options.grace + 10 * self.coverage[name]["seconds"])
                passed = _run_test(self.items[name], self.items[following] if following else None)
                if not passed:
                    (folder / "answer.json").write_text(json.dumps({"by": name, "failed": True}))
                    return
            (folder / "answer.json").write_text(json.dumps({"by": ""}))

        def done(answer: Any, status: int) -> None:
            by = answer.get("by", "") if answer else ""
            # What cannot be planted is our own limit; a module that cannot be imported is noticed by every test.
            if answer and ("error" in answer or ("planted" in answer and mutant.patches)):
                verdict = "error"
            elif os.WIFSIGNALED(status):
                verdict = "timeout"
            else:
                verdict = "killed" if by else "survived"
            killed = verdict in ("killed", "timeout") and by
            record = {
                "key": key, "verdict": verdict, "by": by, "seconds": round(time.perf_counter() - start, 3),
                "basis": self.tests[by] if killed else self._basis(reach),
                "mutant": f"{mutant.file}:{mutant.line} {mutant.mutated}", "answer": answer,
            }  # fmt: skip
            store.add(record)
            finish(mutant, record)

        return _Job(work, done)


# ---- The report -------------------------------------------------------------------------------------------------


def interval(killed: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) interval of a share.

    Examples
    --------
    >>> [round(end, 4) for end in interval(580, 600)]
    [0.949, 0.9795]
    """
    tail = (1 - level) / 2
    low = 0.0 if killed == 0 else float(beta.ppf(tail, killed, total - killed + 1))
    high = 1.0 if killed == total else float(beta.ppf(1 - tail, killed + 1, total - killed))
    return low, high


def equivalents(path: Path) -> dict[str, str]:
    """Return the reasons by the names of the mutants that are shown to be equivalent."""
    if not path.exists():
        return {}
    entries = tomllib.loads(path.read_text())["equivalent"]
    return {f"{e['file']} | {e['function']} | {e['original']} | {e['mutant']}": e["because"] for e in entries}


@dataclass
class Summary:
    """The counts of a run and its survivors."""

    counts: dict[str, Counter[str]]
    survivors: list[tuple[Mutant, str, str]]
    stale: list[str]
    made: int
    sampled: bool

    def table(self) -> str:
        """Return the counts as a Markdown table."""
        rows = ["| file | mutants | killed | survived | equivalent | share killed |", "|---|" + "--:|" * 5]
        whole: Counter[str] = Counter()
        for file, count in sorted(self.counts.items()):
            whole.update(count)
            rows.append(_row(f"`{file}`", count))
        return "\n".join([*rows, _row("all", whole)])

    def share(self) -> tuple[int, int]:
        """Return the killed and the mutants that are not equivalent."""
        whole: Counter[str] = Counter()
        for count in self.counts.values():
            whole.update(count)
        return whole["killed"], whole["killed"] + whole["survived"]

    def text(self, command: str) -> str:
        """Return the page of survivors."""
        killed, total = self.share()
        low, high = interval(killed, total)
        sampled = f" They are a random sample of the {self.made} mutants; 95 % interval {low:.1%} to {high:.1%}."
        lines = [
            "# Mutants that no test kills", "",
            f"Written by `{command}`; what is mutated and how is said at the top of `tests/mutate.py`.",
            f"{killed} of {total} mutants that are not equivalent are killed: {killed / total:.2%}."
            + (sampled if self.sampled else ""),
            "", self.table(), "",
        ]  # fmt: skip
        for title, wanted in (("Equivalent", True), ("Not killed", False)):
            part = [(m, reason) for m, reason, _ in self.survivors if bool(reason) is wanted]
            lines += [f"## {title} ({len(part)})", ""]
            for mutant, reason in part:
                lines.append(f"* `{mutant.file}:{mutant.line}`, in `{mutant.function or 'the module'}`:")
                why = f". Equivalent because {reason}" if reason else ""
                lines.append(f"  `{mutant.original}` → `{mutant.mutated}`{why}")
            lines.append("")
        return "\n".join(lines)


def _row(name: str, count: Counter[str]) -> str:
    total = count["killed"] + count["survived"]
    share = f"{count['killed'] / total:.1%}" if total else "-"
    made = total + count["equivalent"]
    return f"| {name} | {made} | {count['killed']} | {count['survived']} | {count['equivalent']} | {share} |"


def summarize(runner: Runner, made: int) -> Summary:
    """Join the verdicts with the reasons of ``tests/mutants.toml``."""
    reasons = equivalents(ROOT / EQUIVALENT)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    open_names = set()
    done = [mutant for mutant in runner.chosen if mutant.name + str(mutant.line) in runner.verdicts]
    known = {mutant.name for mutant in done}
    for mutant in sorted(done, key=lambda mutant: (mutant.file, mutant.line)):
        record = runner.verdicts[mutant.name + str(mutant.line)]
        if record["verdict"] in ("killed", "timeout"):
            counts[mutant.file]["killed"] += 1
            continue
        open_names.add(mutant.name)
        reason = reasons.get(mutant.name, "")
        counts[mutant.file]["equivalent" if reason else "survived"] += 1
        survivors.append((mutant, reason, record["verdict"]))
    sampled = len(done) < made
    files = set(runner.files)
    stale = [n for n in reasons if n.split(" | ")[0] in files and n not in open_names and (n in known or not sampled)]
    return Summary(dict(counts), survivors, stale, made, sampled)


def _shown(arguments: Sequence[str]) -> str:
    """Return the command without what does not change its result."""
    pairs = zip(("", *arguments), arguments, strict=False)
    private = ("--results", "--jobs", "--write")
    return " ".join(
        word for before, word in pairs if word not in (*private, "--verbose", "--fresh") and before not in private
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if fewer mutants are killed than asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("targets", nargs="+", help="files and folders to mutate")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants, at random")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which mutants are taken (default 0)")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files and folders of tests, as patterns")
    parser.add_argument("--skip", nargs="+", default=(), metavar="TEXT", help="leave out tests with TEXT in their ids")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the mutants with TEXT in 'file | function'")
    parser.add_argument("--longest", type=float, default=1.0, help="leave out tests that take more seconds than this")
    parser.add_argument("--grace", type=float, default=10.0, help="more seconds than ten times its own for each test")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all processors)")
    parser.add_argument("--at-least", type=float, default=95.0, metavar="PERCENT", help="mutants that must be killed")
    parser.add_argument("--results", type=Path, default=ROOT / "results/mutation", help="where verdicts are kept")
    parser.add_argument("--fresh", action="store_true", help="forget the verdicts of earlier runs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the counts and the survivors")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--verbose", action="store_true", help="name the tests that are not run")
    options = parser.parse_args(argv)
    paths = sorted(p for t in options.targets for p in ([ROOT / t] if t.endswith(".py") else (ROOT / t).rglob("*.py")))
    files = {str(path.relative_to(ROOT)): path.read_text() for path in paths}
    made = [mutant for file, text in files.items() for mutant in mutants(file, text)]
    made = [mutant for mutant in made if options.only in f"{mutant.file} | {mutant.function}"]
    if options.list:
        for mutant in made:
            tqdm.write(f"{mutant.file}:{mutant.line} [{mutant.operator}] {mutant.original}  ->  {mutant.mutated}")
        tqdm.write(f"{len(made)} mutants", file=sys.stderr)
        return 0
    # In random order: what is done is a random sample at any time, and a smaller sample is part of a larger one.
    order = np.random.default_rng(options.seed).permutation(len(made))
    chosen = [made[k] for k in order[: options.sample]]
    os.chdir(ROOT)
    os.environ |= {"NUMBA_DISABLE_JIT": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    tqdm.monitor_interval = 0  # no thread while processes are forked
    runner = Runner(options, files, chosen)
    where = [str(p.relative_to(ROOT)) for pattern in options.tests for p in sorted(ROOT.glob(pattern))]
    code = pytest.main(["-qq", "-s", "-p", "no:cacheprovider", *where], plugins=[runner])
    if code != pytest.ExitCode.OK:
        return int(code)
    summary = summarize(runner, len(made))
    text = summary.text("python tests/mutate.py " + _shown(sys.argv[1:] if argv is None else argv))
    tqdm.write(text)
    for mutant, _, verdict in summary.survivors:
        if verdict in ("not reached", "error"):
            tqdm.write(f"{verdict}: {mutant.file}:{mutant.line} {mutant.mutated}")
    for name in summary.stale:
        tqdm.write(f"{EQUIVALENT} names a mutant that is killed or does not exist: {name}")
    if options.write is not None:
        options.write.write_text(text)
    killed, total = summary.share()
    return int(100 * killed < options.at_least * total or bool(summary.stale))


if __name__ == "__main__":
    sys.exit(main())
