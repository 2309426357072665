"""How every figure looks, and how it becomes bytes: the same bytes for the same records, on any day.

No pyplot: figures are objects, so drawing one never touches another's state or a screen. matplotlib is
imported when the first figure is made, since it costs half a second that a run without figures need not
pay.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

WIDTH_INCHES = 7.2  # two columns of a journal; text stays readable at half of it
DPI = 200
PADDING_INCHES = 0.1  # around what is drawn
GROUPED = 1e3  # numbers from here on have their thousands set apart
MANY_DECADES = 1e4  # of a logarithmic axis: more than marks at 1, 2 and 5 leave room for

# What of a figure is written, in inches, once it was.
_crops: WeakKeyDictionary[Figure, Bbox] = WeakKeyDictionary()

# Okabe and Ito's palette: told apart by readers with any kind of colour blindness, and in grey.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PURPLE, BLACK, GREY = "#0072B2", "#D55E00", "#CC79A7", "#000000", "#8C8C8C"
SERIES = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK)  # curves that have no colour of their own

ARM_COLOURS = {"paper": RED, "database": BLUE, "chain": GREEN}
ARM_DASHES: dict[str, Any] = {"paper": "-", "database": "--", "chain": "-"}
ARM_WIDTHS = {
    "paper": 1.8,
    "database": 1.8,
    "chain": 3.4,
}  # the database is drawn over the chain: both must show
KIND_COLOURS = {
    "Request": GREY,
    "PrePrepare": ORANGE,
    "Prepare": BLUE,
    "Commit": GREEN,
    "Reply": PURPLE,
    "Checkpoint": BLACK,
    "ViewChange": RED,
    "NewView": "#7A3E00",
}
FAULT_COLOUR = RED

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same outlines everywhere
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.solid_capstyle": "butt",
    "hatch.linewidth": 0.6,
    "svg.fonttype": "path",
    "figure.dpi": 100,
    "path.simplify": True,
}


@contextmanager
def style(salt: str = "tradebft") -> Iterator[None]:
    """Everything drawn or written inside looks alike, whatever the user's own matplotlib settings are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        parameters: Any = matplotlib.rcParams
        parameters.update({**_STYLE, "svg.hashsalt": salt})
        yield


def new_figure(height_inches: float, width_inches: float = WIDTH_INCHES) -> Figure:
    """An empty figure with a canvas of its own, whose parts find room for their labels by themselves."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def settle(figure: Figure) -> None:
    """Lay the figure out now, once, and on a grid.

    The solver behind the layout gives positions whose last digits differ from one call to the next; rounded, they
    are the same in every run and in every file that is written of the figure.
    """
    from matplotlib.transforms import Bbox

    layout = figure.get_layout_engine()
    if layout is None:
        return
    _group_thousands(figure)
    layout.execute(figure)
    layout.execute(figure)  # the first pass moves labels, which the second then makes room for
    figure.set_layout_engine(None)
    for axes in figure.axes:
        axes.set_position(Bbox(axes.get_position(original=True).get_points().round(4)), which="original")
        axes.apply_aspect()  # which drawing would do; labels may be placed before


def _group_thousands(figure: Figure) -> None:
    """Write 30,000 on a linear axis, as the text does; not 30000, and no power of ten beside the axis."""
    from matplotlib.ticker import ScalarFormatter, StrMethodFormatter

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if (
            isinstance(axis.get_major_formatter(), ScalarFormatter)
            and max(axis.get_view_interval()) >= GROUPED
        ):
            axis.set_major_formatter(StrMethodFormatter("{x:,.12g}"))


def _crop(figure: Figure) -> Bbox:
    """What of it is written: all that is drawn, looked up once. Matplotlib would draw it once more for each file."""
    from matplotlib.transforms import Bbox

    settle(figure)
    if figure not in _crops:
        _crops[figure] = Bbox(figure.get_tightbbox().padded(PADDING_INCHES).get_points().round(2))
    return _crops[figure]


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element, ids prefixed with `name` so that several can stand in one page."""
    text = io.StringIO()
    with style(name):
        figure.savefig(
            text, format="svg", bbox_inches=_crop(figure), metadata={"Date": None, "Creator": "tradebft"}
        )
    element = text.getvalue()
    element = re.sub(r'\bid="', f'id="{name}-', element)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", element)


def png(figure: Figure) -> bytes:
    """The figure as PNG at 200 dots an inch."""
    data = io.BytesIO()
    with style():
        figure.savefig(
            data, format="png", dpi=DPI, bbox_inches=_crop(figure), metadata={"Software": "tradebft"}
        )
    return data.getvalue()


def write(figure: Figure, stem: Path) -> None:
    """The figure as *stem*.svg and *stem*.png. OSError where the disk refuses."""
    stem.with_suffix(".svg").write_text(svg(figure, stem.name), encoding="utf-8")
    stem.with_suffix(".png").write_bytes(png(figure))


def kind_colour(kind: str) -> str:
    """The one colour of a message kind in all figures; kinds of another protocol are grey."""
    return KIND_COLOURS.get(kind, "#666666")


def light_grid(axes: Axes, axis: Any = "x") -> None:
    """A grid that helps to read values and stays behind the data."""
    axes.grid(True, axis=axis)


def logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis of what is drawn already, with plain numbers at 1, 2 and 5 (beyond four decades at 1), and
    nothing written between them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < MANY_DECADES * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, handles: list[Any], columns: int | None = None) -> None:
    """One legend for the whole figure, outside the data."""
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns or len(handles), handlelength=2.2
    )


def legend_beside(axes: Axes, handles: list[Any]) -> None:
    """A legend to the right of one panel, outside the data."""
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.02), handlelength=1.8, labelspacing=0.9
    )
