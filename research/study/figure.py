"""The figure of a study: held-out loss over steps, and task score against size."""

import dataclasses
import json
import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from research.study.cells import Cell, baselines, look_up, row_cell
from research.study.graph import FORMATS, Column, Study, Table
from research.study.ledger import RunState, read_record

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
class Point:
    """One row in the right panel: its size and its score, scaled as the table prints them."""

    title: str
    place: int  # of the row in the table
    size: float
    score: Cell


def read_curve(path: Path, key: str) -> tuple[list[int], list[float]]:
    """(steps, values) of `key` in a metrics.jsonl: the last value of a step counts, a half-written line does not."""
    values: dict[int, float] = {}
    for line in path.read_text(encoding='utf-8').splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if key in record and math.isfinite(record[key]):
            values[int(record['step'])] = float(record[key])
    steps = sorted(values)
    return steps, [values[step] for step in steps]


def _style(place: int) -> dict[str, Any]:
    return {'color': COLOURS[place % len(COLOURS)], 'linestyle': LINES[place // len(COLOURS) % len(LINES)]}


def _curves(study: Study, folder: Path) -> dict[str, tuple[str, int, list[int], list[float]]]:
    """Run -> (title, place of its row, steps, held-out MLM losses), for every run that has them."""
    rows = study.table.rows
    owners = {name: place for place, row in reversed(list(enumerate(rows))) for names in row.runs.values() for name in names}
    strangers = [name for name in study.runs if name not in owners]
    found = {}
    for name in study.runs:
        steps, losses = read_curve(folder / name / 'metrics.jsonl', 'dev/mlm')
        if steps:
            title = rows[owners[name]].title if name in owners else name
            place = owners[name] if name in owners else len(rows) + strangers.index(name)
            found[name] = (title, place, steps, losses)
    return found


def _axes_of(table: Table) -> tuple[Column, Column] | None:
    """The columns of size and of score that the right panel draws; None when the table lacks one."""
    sizes = [column for column in table.columns if column.key == table.size]
    scores = [column for column in table.columns if column.key == table.score]
    return (sizes[0], scores[0]) if sizes and scores else None


def _points(table: Table, size: Column, score: Column, folder: Path, stand: Mapping[str, RunState]) -> list[Point]:
    """The rows that have both numbers."""
    found = []
    for place, row in enumerate(table.rows):
        sizes, scores = (row_cell(row, column, folder, stand) for column in (size, score))
        if sizes.comparable and scores.values and all(map(math.isfinite, scores.values)):
            scaled = Cell(tuple(value * FORMATS[score.format].scale for value in scores.values), scores.missing)
            found.append(Point(row.title, place, sizes.mean * FORMATS[size.format].scale, scaled))
    return found


def _remark(axes: Axes, text: str, height: float) -> None:
    """Write `text` at the right end of a horizontal line."""
    place: dict[str, Any] = {'xycoords': ('axes fraction', 'data'), 'textcoords': 'offset points'}
    axes.annotate(text, (1, height), (-2, 3), ha='right', va='bottom', fontsize=8, color=GREY, **place)


def _draw_curves(axes: Axes, curves: Mapping[str, tuple[str, int, list[int], list[float]]], entropies: list[float]) -> None:
    for _, place, steps, losses in curves.values():
        axes.plot(steps, losses, linewidth=1.5, marker='o' if len(steps) < 3 else None, markersize=4, **_style(place))
    for entropy in entropies:
        axes.axhline(entropy, color=GREY, linewidth=1, linestyle='dashed', zorder=1)
        _remark(axes, f'unigram entropy {entropy:.2f}', entropy)
    axes.set_xlabel('Steps', fontsize=9)
    axes.set_ylabel('Held-out MLM loss (nats)', fontsize=9)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.0f}'))


def _draw_points(axes: Axes, points: list[Point], titles: tuple[str, str], majority: list[float]) -> None:
    for point in points:
        spread = point.score.deviation if len(point.score.values) > 1 else None
        axes.errorbar(
            point.size,
            point.score.mean,
            yerr=spread,
            fmt='o',
            markersize=6,
            capsize=3,
            elinewidth=1,
            color=_style(point.place)['color'],
        )
    lowest, highest = min(point.score.mean for point in points), max(point.score.mean for point in points)
    near = [share for share in majority if lowest - share <= 2 * (highest - lowest)]
    for share in near:
        axes.axhline(share, color=GREY, linewidth=1, linestyle='dashed', zorder=1)
        _remark(axes, f'majority class {share:.1f}', share)
    far = [share for share in majority if share not in near]  # drawn, they would press the points together
    if far:
        said = ' and '.join(f'{share:.1f}' for share in far)
        axes.set_title(f'majority class {said}, below the panel', fontsize=8, color=GREY, loc='right')
    sizes = [point.size for point in points]
    if min(sizes) > 0 and max(sizes) / min(sizes) > LOGARITHMIC:
        axes.set_xscale('log')
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.margins(x=0.2, y=0.2)
    axes.set_xlabel(titles[0], fontsize=9)
    axes.set_ylabel(titles[1], fontsize=9)


def _label_points(figure: Figure, axes: Axes, points: list[Point]) -> None:
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
                color=_style(point.place)['color'],
            )
            box = label.get_window_extent(renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            tried.append((sum(box.overlaps(other) for other in taken) + (0 if inside else 2), label, box))
            label.set_visible(False)
        _, label, box = min(tried, key=lambda attempt: attempt[0])
        label.set_visible(True)
        taken.append(box)


def draw(study: Study, folder: Path, stand: Mapping[str, RunState]) -> bytes | None:
    """The figure as PNG; None without numbers.

    Left, held-out MLM loss over steps of every run that has it; right, score against size of every row that has both.
    """
    curves, across, points = _curves(study, folder), _axes_of(study.table), []
    if across is not None:
        points = _points(study.table, *across, folder, stand)
    panels = [panel for panel, there in (('curves', curves), ('points', points)) if there]
    if not panels:
        return None
    figure = Figure(figsize=(4.6 * len(panels), 3.6), dpi=200, layout='constrained')
    results = [record for name in study.runs if (record := read_record(folder / name / 'result.json')) is not None]
    drawn = dict(zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True))
    for axes in drawn.values():
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(axis='y', color='#E4E4E4', linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
    if 'curves' in drawn:
        entropies = sorted({round(value, 3) for record in results if (value := look_up(record, 'unigram_entropy')) is not None})
        _draw_curves(drawn['curves'], curves, entropies)
        entries = {
            title: Line2D([], [], linewidth=1.5, **_style(place))
            for title, place, _, _ in sorted(curves.values(), key=lambda curve: curve[1])
        }
        figure.legend(
            list(entries.values()),
            list(entries),
            loc='outside lower center',
            ncols=math.ceil(len(entries) / math.ceil(len(entries) / 4)),
            frameon=False,
            fontsize=8,
            handlelength=2.5,
        )
    if across is not None and points:
        scale = FORMATS[across[1].format].scale
        majority = [value * scale for value in baselines(study.table.rows, across[1], folder)]
        _draw_points(drawn['points'], points, (across[0].title, across[1].title), majority)
        _label_points(figure, drawn['points'], points)
    content = BytesIO()
    figure.savefig(content, format='png', metadata={'Software': None})
    return content.getvalue()
