"""Every Python block of the README runs, and its commands name what exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(text: str, root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run all Python blocks of a text as one program, in a process of its own with warnings as errors."""
    program = folder / "readme.py"
    program.write_text("\n".join(blocks(text, "python")), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run(readme: str, root: Path, tmp_path: Path) -> None:
    found = blocks(readme, "python")
    assert len(found) >= 2
    assert len(found[0].splitlines()) == 12
    result = run(readme, root, tmp_path)
    assert result.returncode == 0, result.stderr
    # The certificate is printed, and is as small as the text promises.
    rho, bound, moved, many = result.stdout.splitlines()
    assert "the minimum was found" in rho
    assert 0.0 < float(bound) <= 1e-9
    assert float(moved) > 0.1
    # Averages over users who prefer (1, 0), (0.8, 0.5) and (-3, 2) equally often: Monte Carlo and 2,000 streamed users.
    first, last, *rest = many.replace("[", " ").replace("]", " ").split()
    assert 0.0 < float(first) < float(last)  # a large λ draws the first user's model away from what it prefers
    assert [float(number) for number in rest] == [-0.4, 0.8, 2000, -0.4, 0.8]


@pytest.mark.parametrize(
    "planted",
    [
        "minimize(problem, no_such_option=1)",
        "solution.certificate.require(distance=0.0)",
        "import warnings; warnings.warn('x')",
    ],
)
def test_a_broken_block_is_caught(planted: str, readme: str, root: Path, tmp_path: Path) -> None:
    assert run(f"{readme}\n```python\n{planted}\n```\n", root, tmp_path).returncode != 0


def test_every_fence_is_closed_and_known(readme: str) -> None:
    fences = re.findall(r"^```(.*)$", readme, flags=re.MULTILINE)
    assert fences[::2] == ["console", "console", "console", "python", "python", "python"]
    assert set(fences[1::2]) == {""}


def test_commands_name_what_exists(readme: str, root: Path) -> None:
    commands = [line.removeprefix("$ ") for block in blocks(readme, "console") for line in block.splitlines()]
    assert commands == [
        "python3 -m venv .venv && . .venv/bin/activate",
        'pip install -e ".[dev]"',
        "python -m benchmarks.pac_scaling",
        "pytest",
    ]
    metadata = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert any(requirement.startswith("pytest") for requirement in metadata["project"]["optional-dependencies"]["dev"])
    assert (root / "benchmarks" / "pac_scaling.py").exists()
    # The script of the continuous integration runs the same two.
    script = (root / ".ci" / "run").read_text(encoding="utf-8")
    assert "python -m benchmarks.pac_scaling" in script
    assert "pytest" in script


def test_folders_of_the_layout_exist(readme: str, root: Path) -> None:
    folders = re.findall(r"^\| `(\w+)/` \|", readme, flags=re.MULTILINE)
    assert folders == ["theory", "solvers", "proofs_checks", "benchmarks", "tests"]
    assert all((root / folder).is_dir() for folder in folders)


def test_versions_agree(root: Path) -> None:
    metadata = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    version = metadata["project"]["version"]
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    lock = tomllib.loads((root / "uv.lock").read_text(encoding="utf-8"))
    assert f"\nversion: {version}\n" in citation
    assert [package["version"] for package in lock["package"] if package["name"] == "equipoise"] == [version]
