"""Labelled images from a file: ``.npz``, the standard IDX files, OpenML, or scikit-learn's bundled digits."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from theory import ShapeError

_PARTS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, eq=False)
class Images:
    """Pixels as bytes (n, d) with their largest possible value, and labels 0..K-1."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    white: float

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.y_train.max()) + 1

    def queries(self, part: str) -> np.ndarray:
        """Return pixels in [0, 1] and a column of ones, for ``part`` "train" or "test"."""
        pixels = self.x_train if part == "train" else self.x_test
        return np.hstack([pixels / self.white, np.ones((len(pixels), 1))])


def load_images(path: str | None) -> Images:
    """Load ``path``: an ``.npz`` file, a folder with the four IDX files, "openml", or None for the digits.

    Raises
    ------
    ShapeError
        Naming the file, what was expected in it and what was found.
    """
    if path is None:
        return _digits()
    if path == "openml":
        return _openml()
    file = Path(path)
    if not file.exists():
        raise ShapeError("--data", "an .npz file or a folder with IDX files", f"no such path {path}")
    return _idx(file) if file.is_dir() else _npz(file)


def _digits() -> Images:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y, cut = x[order].astype(np.uint8), y[order], 1500
    return _checked("digits", x[:cut], y[:cut], x[cut:], y[cut:], 16.0)


def _openml() -> Images:
    from sklearn.datasets import fetch_openml

    data = fetch_openml("mnist_784", version=1, as_frame=False)
    x, y = data.data.astype(np.uint8), data.target.astype(int)
    return _checked("mnist (OpenML)", x[:60_000], y[:60_000], x[60_000:], y[60_000:], 255.0)


def _npz(file: Path) -> Images:
    try:
        with np.load(file) as data:
            missing = [part for part in _PARTS if part not in data]
            if missing:
                raise ShapeError(str(file), f"arrays {', '.join(_PARTS)}", f"no {', '.join(missing)}")
            x_train, y_train, x_test, y_test = (data[part] for part in _PARTS)
    except (OSError, ValueError) as error:
        if isinstance(error, ShapeError):
            raise
        raise ShapeError(str(file), "an .npz file", str(error)) from None
    return _checked(file.stem, x_train, y_train, x_test, y_test, 255.0)


def _idx(folder: Path) -> Images:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    x_train, y_train, x_test, y_test = (_read_idx(folder, name) for name in names)
    return _checked(folder.name, x_train, y_train, x_test, y_test, 255.0)


def _read_idx(folder: Path, name: str) -> np.ndarray:
    for file in (folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx")):
        if file.exists():
            raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            break
    else:
        raise ShapeError("--data", f"the IDX file {name}[.gz] in {folder}", "no such file")
    magic = raw[:4]
    if len(magic) < 4 or magic[:3] != b"\x00\x00\x08":
        raise ShapeError(str(file), "an IDX file of bytes (magic number 00 00 08)", magic.hex(" "))
    shape = struct.unpack(f">{magic[3]}I", raw[4 : 4 + 4 * magic[3]])
    data = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * magic[3])
    if data.size != int(np.prod(shape)):
        raise ShapeError(str(file), f"{int(np.prod(shape))} bytes of data", f"{data.size}")
    return data.reshape(shape)


def _checked(name: str, x_train: Any, y_train: Any, x_test: Any, y_test: Any, white: float) -> Images:
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or len(x) == 0:
            raise ShapeError(f"{name}: x_{part}, y_{part}", "as many images as labels", f"{x.shape} and {y.shape}")
        if x.dtype != np.uint8 or y.dtype.kind not in "iu":
            raise ShapeError(f"{name}: x_{part}, y_{part}", "bytes and integers", f"{x.dtype} and {y.dtype}")
    flat = [x.reshape(len(x), -1) for x in (x_train, x_test)]
    return Images(name, flat[0], y_train, flat[1], y_test, white)
