"""How figures are drawn: colours and markers, panels, legends, and their two file formats."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform

from research.escape import to_figure
from research.study.reporting.cells import Cell
from research.study.reporting.marks import quote

# Okabe and Ito's colours, which colour-blind readers can tell apart; without their yellow, too pale for a line.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
LINES = ('solid', (0, (6, 2)), (0, (4, 1.5, 1, 1.5)), (0, (2, 1)))
GREY = '#767676'
LOGARITHMIC = 5.0  # sizes further apart than this factor are drawn on a logarithmic axis
ABSURD = 1e15  # and those further apart than this are not: the axis would have no room for its margins
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', 'p')  # one more than colours, so that two rows of a colour differ
APART = 6.0  # typographic points between markers of one size


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure: the name of its files, its title, and both files."""

    name: str
    title: str
    png: bytes
    pdf: bytes


@dataclasses.dataclass(frozen=True)
class Point:
    """One row in a panel: its size (a cost or a dimension) and its score, scaled as the table prints them."""

    title: str
    place: int  # of the row in the table
    size: float
    score: Cell


def line_style(place: int) -> dict[str, Any]:
    """The colour and dashes of the row at a place of the table, for matplotlib."""
    return {'color': COLOURS[place % len(COLOURS)], 'linestyle': LINES[place // len(COLOURS) % len(LINES)], 'linewidth': 1.5}


def marker_style(place: int) -> dict[str, Any]:
    """The colour and marker of the row at a place of the table, for matplotlib."""
    return {'color': COLOURS[place % len(COLOURS)], 'marker': MARKERS[place % len(MARKERS)], 'linestyle': 'none', 'markersize': 6}


ABREAST = 3  # panels in a row


def make_panels(number: int) -> tuple[Figure, list[Axes]]:
    """A figure of `number` panels, at most ABREAST in a row."""
    rows, columns = -(-number // ABREAST), min(number, ABREAST)
    figure = Figure(figsize=(4.6 * columns, 3.6 * rows), dpi=200, layout='constrained')
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    found, spare = places[:number], places[number:]
    for axes in spare:
        axes.remove()
    for axes in found:
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(axis='y', color='#E4E4E4', linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
    return figure, found


def add_legend(figure: Figure, entries: Iterable[tuple[str, int]], style: Callable[[int], dict[str, Any]] = line_style) -> None:
    """Below the panels: the style of each (title, place of its row)."""
    lines = {to_figure(title): Line2D([], [], **style(place)) for title, place in sorted(entries, key=lambda entry: entry[1])}
    if lines:
        columns = 4 if len(lines) <= 16 else 6
        rows = -(-len(lines) // columns)
        figure.legend(
            list(lines.values()),
            list(lines),
            loc='outside lower center',
            ncols=-(-len(lines) // rows),
            frameon=False,
            fontsize=8 if rows < 4 else 6,
            handlelength=2.5,
        )


def add_panel_legend(axes: Axes, entries: Iterable[tuple[str, int]]) -> None:
    """Below a panel: the line and marker of each (name, number of its style)."""
    lines = {to_figure(name): Line2D([], [], **marker_style(number) | line_style(number)) for name, number in entries}
    below: dict[str, Any] = {'loc': 'upper center', 'bbox_to_anchor': (0.5, -0.16)}
    axes.legend(list(lines.values()), list(lines), ncols=2, frameon=False, fontsize=7, handlelength=2.5, **below)


def save(figure: Figure, name: str, title: str) -> Drawn:
    """The figure in both formats: the same bytes for the same numbers."""
    png, pdf = BytesIO(), BytesIO()
    figure.savefig(png, format='png', metadata={'Software': None})
    figure.savefig(pdf, format='pdf', metadata={'CreationDate': None, 'Creator': None, 'Producer': None})
    return Drawn(name, quote(title), png.getvalue(), pdf.getvalue())


def add_remark(axes: Axes, text: str, height: float) -> None:
    """Write `text` at the right end of a horizontal line."""
    place: dict[str, Any] = {'xycoords': ('axes fraction', 'data'), 'textcoords': 'offset points'}
    axes.annotate(to_figure(text), (1, height), (-2, 3), ha='right', va='bottom', fontsize=8, color=GREY, **place)


def move_apart(axes: Axes, sizes: Sequence[float]) -> list[Transform]:
    """Where to draw points of these sizes: points of one size are moved apart, so that none hides another."""
    peers = [[other for other, near in enumerate(sizes) if math.isclose(near, size)] for size in sizes]
    shifts = [APART * (together.index(place) - (len(together) - 1) / 2) for place, together in enumerate(peers)]
    scale = axes.figure.dpi_scale_trans
    return [axes.transData + ScaledTranslation(shift / 72, 0, scale) for shift in shifts]


def draw_points(axes: Axes, points: Sequence[Point], styles: Sequence[dict[str, Any]]) -> None:
    """A marker for each point, with a bar of one standard deviation if it has several seeds."""
    for point, style, place in zip(points, styles, move_apart(axes, [point.size for point in points]), strict=True):
        seeds, mean = len(point.score.values) > 1, point.score.center
        spread = point.score.deviation if seeds else 0.0
        axes.errorbar(point.size, mean, yerr=spread if seeds else None, capsize=3, elinewidth=1, transform=place, **style)
        axes.update_datalim([(point.size, mean - spread), (point.size, mean + spread)])  # axes ignore shifted points


def spread_axis(axes: Axes, sizes: list[float]) -> None:
    """Makes the axis logarithmic if sizes are far apart, with plain numbers at its ticks."""
    if min(sizes) > 0 and LOGARITHMIC < max(sizes) / min(sizes) < ABSURD:
        axes.set_xscale('log')
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.margins(x=0.2, y=0.2)
