"""What all pictures share: looks of curves that colour-blind readers can distinguish, legends beside the axes, plain
numbers on them."""

from collections.abc import Iterable
from io import BytesIO
from itertools import cycle
from typing import Any

# Okabe and Ito's palette; yellow is too light for a line on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
GREY = "#777777"
"""Of lines that only help to read the others."""
MOST_COLUMNS = 4
"""Of a legend."""


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """By name, in their order: label, colour, marker and dashes, as matplotlib's `plot` takes them. No two of the first
    twelve share more than one of the last three."""
    cycled = zip(names, cycle(PALETTE), cycle(MARKERS), cycle(DASHES), strict=False)
    return {
        name: {"label": name, "color": colour, "marker": marker, "linestyle": dashes}
        for name, colour, marker, dashes in cycled
    }


def new_figure(width: float, height: float) -> Any:
    """A figure that belongs to no window and no global state; sides in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend_below(figure: Any) -> None:
    """One legend below all panels, since any of them may lack a curve. As many columns as fit, up to MOST_COLUMNS."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found |= {label: handle for handle, label in zip(handles, labels, strict=True)}
    for columns in range(MOST_COLUMNS if found else 0, 0, -1):
        style = {"loc": "outside lower center", "ncols": columns, "fontsize": 9}
        legend = figure.legend(list(found.values()), list(found), **style)
        if columns == 1 or legend.get_window_extent(figure.canvas.get_renderer()).width <= figure.bbox.width:
            return
        legend.remove()


def plain_numbers(*axes: Any) -> None:
    """Label the ticks of both axes with numbers such as 10,000 and 0.01, never as powers of ten.

    Args:
        axes: panels whose scales are set and whose ticks are numbers.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for axis in (side for one in axes for side in (one.xaxis, one.yaxis)):
        axis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x)))
        axis.set_minor_formatter(NullFormatter())


def _plain(x: float) -> str:
    """Up to nine decimals; adding 0 takes the sign off a negative zero."""
    return f"{round(x, 9) + 0.0:,.9f}".rstrip("0").rstrip(".")


def png(figure: Any, dpi: int) -> bytes:
    """The figure as a PNG file."""
    image = BytesIO()
    figure.savefig(image, format="png", dpi=dpi)
    return image.getvalue()
