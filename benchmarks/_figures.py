"""The look of all figures: one colour and one marker for each series, readable in print and by the colour-blind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The palette of Okabe and Ito (2008), which stays distinct for all common kinds of colour blindness.
OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky_blue": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}
REFERENCE = "#555555"


@dataclass(frozen=True)
class Series:
    """How one series is drawn, in every figure; the marker tells series apart without colour."""

    label: str
    color: str
    marker: str
    dashes: tuple[float, ...] = ()
    is_hollow: bool = False

    def line(self) -> dict[str, Any]:
        """Return the arguments of ``Axes.plot``; hollow markers are larger, and show what they coincide with."""
        return {
            "color": self.color,
            "marker": self.marker,
            "dashes": self.dashes,
            "markerfacecolor": "none" if self.is_hollow else self.color,
            "markersize": 6.0 if self.is_hollow else 3.4,
            "markeredgewidth": 1.0 if self.is_hollow else 0.0,
        }


REGULARIZER_SERIES = {
    "squared_l2": Series(r"$\ell_2^2$", OKABE_ITO["blue"], "o"),
    "l2": Series(r"$\ell_2$", OKABE_ITO["vermillion"], "s", (5.0, 1.5), is_hollow=True),
    "smooth_l2": Series(r"smooth-$\ell_2$", OKABE_ITO["green"], "^", (1.5, 1.5)),
}

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.size": 1.8,
    "ytick.minor.size": 1.8,
    "legend.frameon": False,
    "savefig.dpi": 300,
    # Identifiers in the SVG do not change from run to run, and its text stays text.
    "svg.hashsalt": "equipoise",
    "svg.fonttype": "none",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of this package; settings of the caller come back afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``figure`` as ``name.png`` (300 dpi) and ``name.svg`` into ``folder``; return both paths."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    figure.savefig(png)
    figure.savefig(svg, metadata={"Date": None})
    return png, svg
