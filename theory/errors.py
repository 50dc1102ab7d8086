"""The exceptions of Equipoise.

Every error names the argument (or the statement of the paper) that is concerned, what was expected and what
was found.  All of them derive from :class:`EquipoiseError`, so ``except EquipoiseError`` catches exactly what
this package refuses and nothing else.
"""

from __future__ import annotations

from typing import Any


class EquipoiseError(Exception):
    """Base class of every error that Equipoise raises on purpose."""


class ShapeError(EquipoiseError, ValueError):
    """An array or a scalar is not what the interface asks for.

    Raised at the boundary for a wrong shape or dtype, NaN or infinite entries and unknown labels.  The message
    reads ``argument: expected ..., found ...``.
    """

    def __init__(self, argument: str, expected: str, found: str) -> None:
        self.argument = argument
        self.expected = expected
        self.found = found
        # The three parts, not the sentence: an exception is pickled as its class and these.
        super().__init__(argument, expected, found)

    def __str__(self) -> str:
        return f"{self.argument}: expected {self.expected}, found {self.found}"


class AssumptionError(EquipoiseError, ValueError):
    """A hypothesis of a statement is violated.

    Carries the id of the statement (as in ``proofs_checks/paper.toml``), the value that violates it and how the
    caller can mend it.
    """

    def __init__(self, statement: str, value: str, mend: str) -> None:
        self.statement = statement
        self.value = value
        self.mend = mend
        super().__init__(statement, value, mend)

    def __str__(self) -> str:
        return f"{self.statement}: found {self.value}; {self.mend}"


class SolverError(EquipoiseError, RuntimeError):
    """No minimum was returned; ``solution`` holds the best point that was reached, with its certificate."""

    def __init__(self, message: str, solution: Any = None) -> None:
        self.solution = solution
        super().__init__(message)


class CertificateError(EquipoiseError, RuntimeError):
    """A certificate was demanded that the data do not support."""
