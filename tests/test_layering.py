"""The packages keep to their layers, and each rule is seen to catch its violation.

The rules read the syntax tree of every file, so that an import inside a function counts as one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("theory", "solvers", "proofs_checks", "benchmarks")

# Imports go one way.
MAY_IMPORT = {
    "theory": {"theory"},
    "solvers": {"theory", "solvers"},
    "proofs_checks": {"theory", "solvers", "proofs_checks"},
    "benchmarks": {"theory", "solvers", "benchmarks"},
}
# What each package may import from other distributions: modules, or whole distributions.
THIRD_PARTY = {
    "theory": {"numpy", "scipy.special"},
    "solvers": {"numpy", "scipy", "threadpoolctl"},
    "proofs_checks": {"numpy", "scipy", "sympy", "mpmath", "flint", "hypothesis", "tqdm", "threadpoolctl"},
    "benchmarks": {"numpy", "scipy", "matplotlib", "sklearn", "pyarrow", "tqdm", "threadpoolctl"},
}
# What one file may import beyond its package's rule.
EXCEPTIONS = {
    "solvers/oracles.py": {"cvxpy"},
    "solvers/certificate.py": {"flint"},
    "solvers/_points.py": {"flint"},
    "solvers/_enclosures.py": {"flint"},
    "solvers/_kernels.py": {"numba", "llvmlite"},
    "solvers/streaming.py": {"pyarrow"},
}
# Numba does not see that another file changed, so a cached kernel must not use a symbol of another file.
KERNELS = "solvers/_kernels.py"
GENERATOR_API = {"Generator", "default_rng", "SeedSequence", "BitGenerator", "PCG64", "Philox"}


def python_files(root: Path) -> Iterator[tuple[str, str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            yield package, path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(tree: ast.Module, file: str) -> Iterator[tuple[int, str]]:
    folder = file.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [] if node.level == 0 else folder[: len(folder) - node.level + 1]
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from scipy import special` imports scipy.special.
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and name_of(node.func).split(".")[-1] in {"import_module", "__import__"}:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def covers(allowed: set[str], module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def import_violations(package: str, file: str, tree: ast.Module) -> Iterator[str]:
    for line, module in imported_modules(tree, file):
        top = module.split(".")[0]
        if top in PACKAGES or top == "tests":
            if top not in MAY_IMPORT[package]:
                yield f"{file}:{line} {package} imports {top}"
            elif file == KERNELS:
                yield f"{file}:{line} a kernel uses another file, {module}"
        elif top == "random":
            yield f"{file}:{line} imports the global generator {module}"
        elif top not in sys.stdlib_module_names and not covers(
            THIRD_PARTY[package] | EXCEPTIONS.get(file, set()), module
        ):
            yield f"{file}:{line} imports {module}"


def statement_violations(package: str, file: str, tree: ast.Module) -> Iterator[str]:
    is_command_line = package == "benchmarks" or file.endswith("__main__.py")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"{file}:{node.lineno} asserts"
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        if name in {"print", "sys.stdout.write", "sys.stderr.write"} and not is_command_line:
            yield f"{file}:{node.lineno} prints"
        if name in {"warnings.warn", "warn"}:
            yield f"{file}:{node.lineno} warns"
        head, _, tail = name.rpartition(".")
        if head in {"np.random", "numpy.random"} and tail not in GENERATOR_API:
            yield f"{file}:{node.lineno} uses the global generator {name}"
        if tail == "default_rng" and not node.args and not node.keywords:
            yield f"{file}:{node.lineno} draws a seed from the machine"


def violations(root: Path) -> list[str]:
    found = []
    for package, file, tree in python_files(root):
        found += import_violations(package, file, tree)
        found += statement_violations(package, file, tree)
    return found


def test_the_repository_keeps_to_its_layers(root: Path) -> None:
    files = [file for _, file, _ in python_files(root)]
    # An empty walk would find nothing to complain of.
    assert {"theory/problem.py", "solvers/oracles.py", "proofs_checks/generators.py"} <= set(files)
    assert violations(root) == []


PLANTED = {
    "theory imports solvers": ("theory/problem.py", "import solvers"),
    "theory imports solvers in a function": ("theory/data.py", "def f():\n    from solvers.joint import minimize"),
    "theory imports proofs_checks": ("theory/problem.py", "from proofs_checks import registry"),
    "theory imports benchmarks": ("theory/problem.py", "import benchmarks.pac_scaling as b"),
    "solvers imports proofs_checks": ("solvers/result.py", "from proofs_checks.registry import check"),
    "solvers imports benchmarks": ("solvers/result.py", "import benchmarks"),
    "proofs_checks imports benchmarks": ("proofs_checks/generators.py", "from benchmarks import pac_scaling"),
    "benchmarks imports tests": ("benchmarks/program.py", "import tests.conftest"),
    "relative import upwards": ("theory/problem.py", "from ..solvers import minimize"),
    "dynamic import": ("theory/problem.py", "import importlib\nimportlib.import_module('solvers.joint')"),
    "scipy beyond special in theory": ("theory/losses.py", "import scipy.optimize"),
    "scipy from-import in theory": ("theory/losses.py", "from scipy import linalg"),
    "cvxpy outside the oracles": ("solvers/result.py", "import cvxpy as cp"),
    "cvxpy in a benchmark": ("benchmarks/program.py", "import cvxpy"),
    "numba outside the kernels": ("solvers/result.py", "from numba import njit"),
    "numba in theory": ("theory/losses.py", "import numba"),
    "flint in another solver": ("solvers/result.py", "import flint"),
    "sympy in a solver": ("solvers/result.py", "import sympy"),
    "hypothesis in a solver": ("solvers/result.py", "from hypothesis import given"),
    "pyarrow in another solver": ("solvers/result.py", "import pyarrow"),
    "matplotlib in a solver": ("solvers/result.py", "import matplotlib.pyplot as plt"),
    "a kernel that uses another file": (KERNELS, "from theory.losses import margins"),
    "an assert": ("solvers/result.py", "def f(x):\n    assert x > 0"),
    "a print": ("theory/losses.py", "print('hello')"),
    "a write to the screen": ("solvers/result.py", "import sys\nsys.stdout.write('hello')"),
    "a warning": ("solvers/result.py", "import warnings\nwarnings.warn('slow')"),
    "the global generator of NumPy": ("theory/data.py", "import numpy as np\nnp.random.seed(0)"),
    "the global generator of Python": ("proofs_checks/generators.py", "import random"),
    "a seed from the machine": ("theory/data.py", "import numpy as np\nrng = np.random.default_rng()"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_violation_is_caught(planted: str, root: Path, tmp_path: Path) -> None:
    file, code = PLANTED[planted]
    original = (root / file).read_text(encoding="utf-8") if (root / file).exists() else ""
    target = tmp_path / file
    target.parent.mkdir(parents=True)
    target.write_text(original, encoding="utf-8")
    assert violations(tmp_path) == []
    target.write_text(f"{original}\n{code}\n", encoding="utf-8")
    caught = violations(tmp_path)
    assert len(caught) == 1, caught
    # It is the planted line that is named, in the part that was added.
    assert caught[0].startswith(f"{file}:")
    assert int(caught[0].split(":")[1].split()[0]) > original.count("\n")


def test_allowed_imports_are_not_violations(tmp_path: Path) -> None:
    # The rules are about names, so a package of the same prefix or a comment must not be caught.
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "theory" / "a.py").write_text(
        "import math\nimport numpy as np\nfrom scipy.special import expit\nfrom theory import b\n# import cvxpy\n"
        "rng = np.random.default_rng(3)\n"
    )
    (tmp_path / "solvers" / "oracles.py").write_text("import cvxpy as cp\nfrom scipy import sparse\n")
    (tmp_path / "benchmarks" / "a.py").write_text("from solvers import minimize\nprint('table')\n")
    assert violations(tmp_path) == []
