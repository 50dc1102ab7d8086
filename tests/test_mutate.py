"""The mutation tester finds what tests miss: planted weak tests leave the survivors that they should, and no others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CODE = '''"""Doc 1."""

LIMIT = 4


def largest(values: list[int], start: int = 0) -> int:
    """Return the largest of values, 2 at least."""
    best = start
    for value in values:
        if value > LIMIT:
            raise ValueError(f"{value} exceeds {LIMIT + 1}")
        if value > best:
            best = value
    return best


class Counter:
    def __init__(self) -> None:
        self.count = 3

    def __repr__(self) -> str:
        return f"{self.count + 1}"

    @property
    def double(self) -> int:
        return 2 * self.count

    def drain(self) -> int:
        while self.count > 0:
            self.count -= 1
        return self.count + 7
'''

STRONG = """
import pytest
from code_under_test import Counter, largest

def test_largest():
    assert largest([1, 3, 2]) == 3
    assert largest([]) == 0
    assert largest([-1]) == 0
    assert largest([4]) == 4
    with pytest.raises(ValueError):
        largest([5])

def test_double():
    assert Counter().double == 6

def test_drain():
    assert Counter().drain() == 7
"""

WEAK = """
from code_under_test import Counter, largest

def test_largest():
    assert largest([1, 3, 2]) == 3

def test_double():
    assert Counter().double

def test_drain():
    assert Counter().drain() == 7
"""


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A project of one file and its tests, with a copy of the tester."""
    (tmp_path / "tests").mkdir()
    shutil.copy(root / "tests/mutate.py", tmp_path / "tests")
    (tmp_path / "code_under_test.py").write_text(CODE)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    return tmp_path


def run(project: Path, tests: str, *options: str) -> tuple[int, str, dict[str, str]]:
    """Return the exit status, the page of survivors, and the verdict of each mutant."""
    (project / "tests/test_code.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "tests/mutate.py", "code_under_test.py", "--tests", "tests/test_code.py", "--grace", "0.5",
         "--jobs", "2", "--write", "survivors.md", *options],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    page = project / "survivors.md"
    assert page.exists(), done.stderr
    records = map(json.loads, (project / "results/mutation/verdicts.jsonl").read_text().splitlines())
    return done.returncode, page.read_text(), {r["mutant"].partition(":")[2]: r["verdict"] for r in records}


@pytest.mark.slow
def test_strong_tests_leave_only_what_is_equivalent(project: Path) -> None:
    status, page, verdicts = run(project, STRONG, "--at-least", "100")
    survived = {mutant for mutant, verdict in verdicts.items() if verdict == "survived"}
    # At equality best = value changes nothing.
    assert survived == {"12 if value >= best"}
    assert status == 1
    assert "code_under_test.py:12" in page
    # Every kind of place was reached: a constant, a default, a property, an endless loop.
    for killed in ("3 LIMIT = 5", "6 def largest(values: list[int], start: int=1) -> int", "26 return 3 * self.count"):
        assert verdicts[killed] == "killed"
    assert verdicts["30 pass"] == "timeout"
    # Texts are not mutated.
    assert not any(mutant.startswith(("1 ", "7 ", "22 ")) or "LIMIT + 2" in mutant for mutant in verdicts)

    reason = '[[equivalent]]\nfile = "code_under_test.py"\nfunction = "largest"\noriginal = "if value > best"\n'
    reason += 'mutant = "if value >= best"\nbecause = "at equality best = value changes nothing."\n'
    (project / "tests/mutants.toml").write_text(reason)
    assert run(project, STRONG, "--at-least", "100")[0] == 0
    # A reason for a mutant that is killed is refused.
    (project / "tests/mutants.toml").write_text(reason.replace(">=", "<="))
    assert run(project, STRONG)[0] == 1


@pytest.mark.slow
def test_what_weak_tests_miss_is_named_and_found_again_when_they_improve(project: Path) -> None:
    status, page, verdicts = run(project, WEAK)
    assert status == 1
    # Nothing raises here, so no test runs the line.
    assert "`raise ValueError(f'{value} exceeds {LIMIT + 1}')` → `pass`" in page
    assert verdicts["26 return 3 * self.count"] == "survived"
    assert verdicts["26 return None"] == "killed"
    # A verdict is kept, but not past the change of a test that it rests on.
    _, _, after = run(project, WEAK.replace("Counter().double", "Counter().double == 6"))
    assert after["26 return 3 * self.count"] == "killed"
    assert len(after) == len(verdicts)


def test_a_sample_states_its_interval(project: Path) -> None:
    _, page, verdicts = run(project, WEAK, "--sample", "12", "--seed", "3")
    assert len(verdicts) <= 12
    assert "95 % interval" in page
