"""Hypothesis profiles and fixtures.

``ci``, the default, is derandomized: the same examples in every run, so that a failure is the change's own.
``thorough`` is randomized and larger: ``HYPOTHESIS_PROFILE=thorough pytest``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

# Deadlines measure the machine, not the code: the first example compiles kernels.  One failure is reported, as the
# AssertionError that it is, and not as a group: tests that plant a falsehood expect just that.
COMMON: dict[str, Any] = {"deadline": None, "print_blob": True, "report_multiple_bugs": False}
settings.register_profile("ci", derandomize=True, max_examples=60, database=None, **COMMON)
settings.register_profile("thorough", max_examples=2000, suppress_health_check=[HealthCheck.too_slow], **COMMON)
# Where a planted falsehood is expected to fail, the smallest failing example is of no interest.
settings.register_profile(
    "planted", derandomize=True, max_examples=200, database=None, phases=[Phase.explicit, Phase.generate], **COMMON
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
settings.load_profile(PROFILE)


@pytest.fixture
def planted() -> Iterator[None]:
    """Attacks made in the test stop at the first failing example; for tests that expect one."""
    settings.load_profile("planted")
    yield
    settings.load_profile(PROFILE)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of random numbers whose seed is the same in every run."""
    return np.random.default_rng(20220717)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent
