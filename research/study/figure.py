"""How figures are drawn: colours, panels, labels beside points, and the two formats that they are written in."""

import dataclasses
from collections.abc import Iterable
from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from research.study.cells import Cell

# Okabe and Ito's colours, told apart by colour-blind readers; without their yellow, too pale for a line.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
LINES = ('solid', (0, (6, 2)), (0, (4, 1.5, 1, 1.5)), (0, (2, 1)))
GREY = '#767676'
LOGARITHMIC = 5.0  # sizes further apart than this factor are drawn on a logarithmic axis
PLACES = tuple(
    (7 * x, 8 * y, ('right', 'center', 'left')[x + 1], ('top', 'center', 'bottom')[y + 1])
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
)  # of a label around its point: offsets in typographic points, alignments; the first that is free is taken


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure: the name of its files, what it shows, and both files."""

    name: str
    title: str
    png: bytes
    pdf: bytes


@dataclasses.dataclass(frozen=True)
class Point:
    """One row in a panel: what it costs, or what shape it has, and its score, scaled as the table prints them."""

    title: str
    place: int  # of the row in the table
    size: float
    score: Cell


def style(place: int) -> dict[str, Any]:
    return {'color': COLOURS[place % len(COLOURS)], 'linestyle': LINES[place // len(COLOURS) % len(LINES)]}


ABREAST = 3  # panels


def panels(number: int) -> tuple[Figure, list[Axes]]:
    """A figure of some panels, at most ABREAST of them beside one another."""
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


def legend(figure: Figure, entries: Iterable[tuple[str, int]]) -> None:
    """Below the panels: the line of each (title, place of its row)."""
    lines = {title: Line2D([], [], linewidth=1.5, **style(place)) for title, place in sorted(entries, key=lambda entry: entry[1])}
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


def panel_legend(axes: Axes, entries: Iterable[tuple[str, int]]) -> None:
    """Below a panel: the line of each (name, number of its style)."""
    lines = {name: Line2D([], [], linewidth=1.5, **style(number)) for name, number in entries}
    below: dict[str, Any] = {'loc': 'upper center', 'bbox_to_anchor': (0.5, -0.16)}
    axes.legend(list(lines.values()), list(lines), ncols=2, frameon=False, fontsize=7, handlelength=2.5, **below)


def save(figure: Figure, name: str, title: str) -> Drawn:
    """The figure in both formats, the same bytes for the same numbers."""
    png, pdf = BytesIO(), BytesIO()
    figure.savefig(png, format='png', metadata={'Software': None})
    figure.savefig(pdf, format='pdf', metadata={'CreationDate': None, 'Creator': None, 'Producer': None})
    return Drawn(name, title, png.getvalue(), pdf.getvalue())


def remark(axes: Axes, text: str, height: float) -> None:
    """Write `text` at the right end of a horizontal line."""
    place: dict[str, Any] = {'xycoords': ('axes fraction', 'data'), 'textcoords': 'offset points'}
    axes.annotate(text, (1, height), (-2, 3), ha='right', va='bottom', fontsize=8, color=GREY, **place)


def draw_point(axes: Axes, point: Point) -> None:
    """A dot, with a bar of one deviation where there are seeds."""
    spread = point.score.deviation if len(point.score.values) > 1 else None
    colour = style(point.place)['color']
    axes.errorbar(point.size, point.score.mean, yerr=spread, fmt='o', markersize=6, capsize=3, elinewidth=1, color=colour)


def spread_axis(axes: Axes, sizes: list[float]) -> None:
    """A logarithmic axis where sizes are far apart, and plain numbers at its ticks."""
    if min(sizes) > 0 and max(sizes) / min(sizes) > LOGARITHMIC:
        axes.set_xscale('log')
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.margins(x=0.2, y=0.2)


def label_points(figure: Figure, axes: Axes, points: list[Point]) -> None:
    """Write each point's title beside it, at the place where it covers least and stays inside the panel."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    frame = axes.get_window_extent(renderer)
    taken = []
    for point in points:
        spread = point.score.deviation if len(point.score.values) > 1 else 0.0
        ends = [(point.size, point.score.mean - spread), (point.size, point.score.mean + spread)]
        taken.append(Bbox(axes.transData.transform(ends)).padded(10))  # pixels: half a marker and a little air
    taken += [text.get_window_extent(renderer) for text in axes.texts]
    for point in points:
        tried = []
        for x, y, horizontal, vertical in PLACES:
            label = axes.annotate(
                point.title,
                (point.size, point.score.mean),
                (x, y),
                textcoords='offset points',
                ha=horizontal,
                va=vertical,
                fontsize=8,
                color=style(point.place)['color'],
            )
            box = label.get_window_extent(renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            tried.append((sum(box.overlaps(other) for other in taken) + (0 if inside else 2), label, box))
            label.set_visible(False)
        _, label, box = min(tried, key=lambda attempt: attempt[0])
        label.set_visible(True)
        taken.append(box)
