"""The only place that converts input to arrays and checks shape, dtype and finiteness.

Every public function passes its array arguments through here, so that a bad input is named at the boundary and
never reaches a formula.  The functions return float64, C-contiguous, read-only arrays; they copy unless the
caller's array is already all of that, so nothing that the caller changes later can change a result.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from theory.errors import AssumptionError, ShapeError

Array = NDArray[np.float64]

_SHAPES = {0: "a scalar", 1: "a one-dimensional array", 2: "a two-dimensional array", 3: "a three-dimensional array"}

AnyArray = TypeVar("AnyArray", bound=np.ndarray)


def frozen(array: AnyArray) -> AnyArray:
    """Mark ``array`` read-only and return it."""
    array.flags.writeable = False
    return array


def as_array(value: Any, name: str, ndim: int, shape: tuple[int | None, ...] | None = None) -> Array:
    """Return ``value`` as a finite, read-only float64 array of ``ndim`` dimensions.

    Parameters
    ----------
    value : array_like of real numbers
    name : str
        The argument's name, as the caller knows it.
    ndim : int
        The number of dimensions asked for.
    shape : tuple of int or None, optional
        Sizes asked for; ``None`` leaves a size free.

    Raises
    ------
    ShapeError
        Wrong dimension, size or dtype, or an entry that is NaN, infinite or masked.

    Examples
    --------
    >>> as_array([1, 2], "theta", 1)
    array([1., 2.])
    """
    expected = _describe(ndim, shape)
    try:
        raw = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ShapeError(name, expected, f"an object that is not an array ({error})") from None
    if np.ma.is_masked(value):
        # What lies under the mask is not data, and NumPy would take it for data without a word.
        raise ShapeError(name, f"{expected} without missing entries", "a masked entry")
    if raw.dtype.kind not in "fiub":
        raise ShapeError(name, f"{expected} of real numbers", f"dtype {raw.dtype}")
    if raw.ndim != ndim:
        raise ShapeError(name, expected, f"shape {raw.shape}")
    if shape is not None and any(want not in (None, have) for want, have in zip(shape, raw.shape, strict=True)):
        raise ShapeError(name, expected, f"shape {raw.shape}")
    is_ready = raw.dtype == np.float64 and raw.flags.c_contiguous and _nobody_can_write(raw)
    with np.errstate(over="ignore"):
        # A number beyond the range of float64 becomes infinite here, and is refused below.
        array = raw if is_ready else frozen(np.array(raw, dtype=np.float64, order="C"))
    _refuse_non_finite(array, name)
    return array


def as_vector(value: Any, name: str, size: int | None = None) -> Array:
    """Return ``value`` as a finite, read-only float64 vector of length ``size``."""
    return as_array(value, name, 1, (size,))


def as_matrix(value: Any, name: str, rows: int | None = None, columns: int | None = None) -> Array:
    """Return ``value`` as a finite, read-only float64 matrix of shape ``(rows, columns)``."""
    return as_array(value, name, 2, (rows, columns))


def as_positive(value: Any, name: str, statement: str) -> float:
    """Return ``value`` as a float; it must be finite and > 0."""
    number = _as_real(value, name)
    if not (number > 0 and math.isfinite(number)):
        raise AssumptionError(statement, f"{name} = {number}", f"{name} must be finite and > 0")
    return number


def as_nonnegative(value: Any, name: str, statement: str) -> float:
    """Return ``value`` as a float; it must be finite and >= 0."""
    number = _as_real(value, name)
    if not (number >= 0 and math.isfinite(number)):
        raise AssumptionError(statement, f"{name} = {number}", f"{name} must be finite and >= 0")
    return number


def as_count(value: Any, name: str, minimum: int = 0) -> int:
    """Return ``value`` as an int that is at least ``minimum``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or int(value) < minimum:
        raise ShapeError(name, f"an integer >= {minimum}", repr(value))
    return int(value)


def as_index(value: Any, name: str, size: int) -> int:
    """Return ``value`` as an index in ``0 .. size - 1``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or not 0 <= int(value) < size:
        raise ShapeError(name, f"an integer from 0 to {size - 1}", repr(value))
    return int(value)


def dimensions(value: Any) -> int | None:
    """Return the number of dimensions of ``value``, or None if it is not an array (rows of several lengths, say)."""
    try:
        return np.ndim(value)
    except ValueError:
        return None


def _as_real(value: Any, name: str) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (Real, np.floating, np.integer)):
        raise ShapeError(name, "a real number", repr(value))
    number: Any = value
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _describe(ndim: int, shape: tuple[int | None, ...] | None) -> str:
    text = _SHAPES.get(ndim, f"an array of {ndim} dimensions")
    if shape is None or all(size is None for size in shape):
        return text
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"{text} of shape ({sizes}{',' if ndim == 1 else ''})"


def _nobody_can_write(array: np.ndarray) -> bool:
    """Whether neither ``array`` nor an array that it is a view of is writeable."""
    view: Any = array
    while isinstance(view, np.ndarray) and not view.flags.writeable:
        view = view.base
    return view is None


def _refuse_non_finite(array: Array, name: str) -> None:
    # A sum is NaN or infinite whenever an entry is; it costs one pass and no temporary array.  It may overflow
    # for finite entries, so a bad sum is only a reason to look closer.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not math.isfinite(float(np.sum(array)))
    if not suspicious:
        return
    finite = np.isfinite(array)
    if not finite.all():
        position = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ShapeError(name, "finite entries", f"{array[position]} at index {position}")
