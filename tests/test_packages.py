"""The four packages are those of this repository, and their metadata says what is shipped."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

PACKAGES = ("theory", "solvers", "proofs_checks", "benchmarks")


def is_of_this_repository(module: ModuleType, root: Path) -> bool:
    return Path(str(module.__file__)).resolve().is_relative_to(root)


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_of_this_repository(name: str, root: Path) -> None:
    # The names are generic: another distribution could bring a package of the same name.
    module = importlib.import_module(name)
    assert is_of_this_repository(module, root)
    assert module.__doc__


def test_a_package_from_elsewhere_is_told_apart(root: Path) -> None:
    assert not is_of_this_repository(pytest, root)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_exported_name_exists(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert [missing for missing in exported if not hasattr(module, missing)] == []
    # Sorted as `ruff` sorts them, without duplicates.
    assert len(set(exported)) == len(exported)


def test_only_the_four_packages_are_shipped(root: Path) -> None:
    metadata = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert tuple(metadata["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    assert not (root / "tests" / "__init__.py").exists()
    # The top-level names are too generic for an index, and the classifier keeps them from one.
    assert "Private :: Do Not Upload" in metadata["project"]["classifiers"]


def test_the_lock_names_no_other_index(root: Path) -> None:
    lock = tomllib.loads((root / "uv.lock").read_text(encoding="utf-8"))
    sources = [package["source"] for package in lock["package"]]
    assert {"editable": "."} in sources
    assert [
        source for source in sources if source not in ({"editable": "."}, {"registry": "https://pypi.org/simple"})
    ] == []
    addresses = [
        file["url"]
        for package in lock["package"]
        for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    ]
    assert len(addresses) > 100
    assert [url for url in addresses if not url.startswith("https://files.pythonhosted.org/")] == []
