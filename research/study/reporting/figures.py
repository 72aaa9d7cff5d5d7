"""The figures of a study: loss curves, score against cost, score against shape, and the smoothness of layers."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from research.data.masking import MASKING, Masking
from research.escape import to_figure
from research.models.architecture import Architecture
from research.runs.folder import Smoothness
from research.study.columns import FORMATS, Column
from research.study.curves import Curve, read_curve
from research.study.reporting.cells import Cell, Evidence, read_row_cell
from research.study.reporting.drawing import (
    GREY,
    Drawn,
    Point,
    add_legend,
    add_panel_legend,
    add_remark,
    draw_points,
    line_style,
    make_panels,
    marker_style,
    save,
    spread_axis,
)
from research.study.reporting.floors import find_floors
from research.study.study import Study

# The keys of the columns that the score is drawn against.
COSTS = (
    'parameters:encoder',
    'parameters:encoder_without_pooler',
    'parameters:total',
    'flops_per_token',
    'latency_seconds',
)
SHAPES = {'layers': 'Layers', 'embedding': 'Embedding size', 'width': 'Width'}  # fields of the architecture


def find_owners(study: Study) -> dict[str, tuple[str, int]]:
    """Run -> (title, place) of the first row that has it; runs without a row come after all rows, under their own names."""
    found: dict[str, tuple[str, int]] = {}
    for place, row in enumerate(study.table.rows):
        for names in row.runs.values():
            for name in names:
                found.setdefault(name, (row.title, place))
    strangers = [name for name in study.runs if name not in found]
    return found | {name: (name, len(study.table.rows) + place) for place, name in enumerate(strangers)}


def draw_curves(study: Study, evidence: Mapping[str, Evidence], folder: Path) -> Drawn | None:
    """Held-out MLM loss over steps of every run that has it, and training loss of the others.

    A panel holds runs that compare: one way to mask held-out rows, or one task.
    """
    owners = find_owners(study)
    held_out: dict[str, dict[str, Curve]] = {}
    training: dict[str, dict[str, Curve]] = {}
    for name, x in study.runs.items():
        curve = read_curve(folder / name / 'metrics.jsonl', 'dev/mlm')
        if curve[0]:
            masks = x.data.masking.policy if x.data.held_out_masks == 'training' else Masking.policy
            held_out.setdefault(masks, {})[name] = curve
        elif (curve := read_curve(folder / name / 'metrics.jsonl', 'train/loss'))[0]:
            training.setdefault(x.data.task, {})[name] = curve
    drawn = {f'Held-out MLM loss (nats), {policy.replace("_", " ")} masks': found for policy, found in held_out.items()}
    drawn |= {f'Training loss, {task or "pretraining"}': found for task, found in training.items()}
    if not drawn:
        return None
    figure, places = make_panels(len(drawn))
    for axes, (title, found) in zip(places, drawn.items(), strict=True):
        for name, (steps, losses) in found.items():
            marker = 'o' if len(steps) < 3 else None
            axes.plot(steps, losses, marker=marker, markersize=4, alpha=0.8, **line_style(owners[name][1]))
        axes.set_xlabel('Steps', fontsize=9)
        axes.set_ylabel(to_figure(title), fontsize=9)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.0f}'))
    for axes, (policy, found) in zip(places, held_out.items(), strict=False):
        if MASKING[policy].weighs_pieces:  # it masks rare pieces more often, to which the entropy of all pieces does not apply
            continue
        results = [result for name in found if (result := evidence[name].result) is not None]
        floors = {('without context', round(each.contextless, 3)) for each in results if each.contextless is not None}
        older = [each.unigram_entropy for each in results if each.contextless is None and each.unigram_entropy is not None]
        for words, floor in sorted(floors | {('unigram entropy', round(entropy, 3)) for entropy in older}):
            axes.axhline(floor, color=GREY, linewidth=1, linestyle='dashed', zorder=1)
            add_remark(axes, f'{words} {floor:.2f}', floor)
    add_legend(figure, {owners[name] for found in drawn.values() for name in found})
    return save(figure, 'curves', 'Loss over steps, of all runs')


def find_score_column(study: Study) -> Column | None:
    """The column that figures show as the score; None if the table has none."""
    return next((column for column in study.table.columns if column.title == study.table.score), None)


def find_points(study: Study, score: Column, evidence: Mapping[str, Evidence], sizes: Mapping[int, float]) -> list[Point]:
    """The rows that have both a score and a size. sizes: place of a row -> its size."""
    found = []
    for place, row in enumerate(study.table.rows):
        cell = read_row_cell(study, row, score, evidence)
        if place in sizes and cell.values and all(map(math.isfinite, cell.values)):
            found.append(Point(row.title, place, sizes[place], scale_cell(cell, FORMATS[score.format].scale)))
    return found


def scale_cell(cell: Cell, scale: float) -> Cell:
    """The cell in the unit that the table prints."""
    return dataclasses.replace(cell, values=tuple(number * scale for number in cell.values))


def find_front(found: list[Point], better: str) -> list[Point]:
    """The Pareto front: points that no equally cheap or cheaper point beats, by increasing cost."""
    sign = -1 if better == 'max' else 1
    kept: list[Point] = []
    for point in sorted(found, key=lambda point: (point.size, sign * point.score.center)):
        if not kept or sign * point.score.center < sign * kept[-1].score.center:
            kept.append(point)
    return kept


def draw_cost(study: Study, evidence: Mapping[str, Evidence], folder: Path) -> Drawn | None:
    """Score against parameters, FLOPs and latency, with the Pareto front of each."""
    score = find_score_column(study)
    if score is None:
        return None
    drawn: list[tuple[Column, list[Point]]] = []
    for column in study.table.columns:
        if column.key not in COSTS:
            continue
        cells = [read_row_cell(study, row, column, evidence) for row in study.table.rows]
        scale = FORMATS[column.format].scale
        means = {place: cell.center * scale for place, cell in enumerate(cells) if cell.values and not cell.missing}
        if found := find_points(study, score, evidence, means):
            drawn.append((column, found))
    if not drawn:
        return None
    majority = [share * FORMATS[score.format].scale for share in find_floors(study.table.rows, score, 'commonest', evidence)]
    figure, places = make_panels(len(drawn))
    for axes, (column, found) in zip(places, drawn, strict=True):
        best = find_front(found, score.better)
        if score.better and len(best) > 1:
            axes.plot([each.size for each in best], [each.score.center for each in best], color=GREY, linewidth=1, zorder=1)
        draw_points(axes, found, [marker_style(point.place) for point in found])
        mark_majority(axes, found, majority)
        spread_axis(axes, [point.size for point in found])
        axes.set_xlabel(to_figure(column.title), fontsize=9)
        axes.set_ylabel(to_figure(score.title), fontsize=9)
    add_legend(figure, {(point.title, point.place) for _, found in drawn for point in found}, marker_style)
    return save(figure, 'cost', f'{score.title} against cost; the line is the Pareto front')


def mark_majority(axes: Axes, found: list[Point], majority: list[float]) -> None:
    """Marks the score of always giving the commonest label: by a line if it is near the points, else in words above the panel."""
    lowest, highest = min(point.score.center for point in found), max(point.score.center for point in found)
    near = [share for share in majority if lowest - share <= 2 * (highest - lowest)]
    for share in near:
        axes.axhline(share, color=GREY, linewidth=1, linestyle='dashed', zorder=1)
        add_remark(axes, f'majority class {share:.1f}', share)
    far = [share for share in majority if share not in near]  # a line there would press the points together
    if far:
        shares = ' and '.join(f'{share:.1f}' for share in far)
        axes.set_title(f'majority class {shares}, below the panel', fontsize=8, color=GREY, loc='right')


def find_models(study: Study, evidence: Mapping[str, Evidence]) -> dict[int, Architecture]:
    """Place of a row -> the architecture of its first run that has begun."""
    found = {}
    for place, row in enumerate(study.table.rows):
        begun = [x for names in row.runs.values() for name in names if (x := evidence[name].experiment) is not None]
        if begun:
            found[place] = begun[0].model
    return found


def draw_shape(study: Study, evidence: Mapping[str, Evidence], folder: Path) -> Drawn | None:
    """Score against those of depth, embedding size and width in which rows differ; a line joins rows that agree in the others."""
    score, found = find_score_column(study), find_models(study, evidence)
    varied = [field for field in SHAPES if len({getattr(model, field) for model in found.values()}) > 1]
    if score is None or not varied:
        return None
    drawn = []
    for field in varied:
        sizes = {place: getattr(model, field) for place, model in found.items()}
        here = find_points(study, score, evidence, sizes)
        if len({point.size for point in here}) > 1:
            drawn.append((field, here))
    if not drawn:
        return None
    figure, places = make_panels(len(drawn))
    for axes, (field, here) in zip(places, drawn, strict=True):
        others = [each for each in ('sharing', *varied) if each != field]
        joined: dict[str, list[Point]] = {}
        for point in here:
            key = ', '.join(f'{each} {getattr(found[point.place], each)}' for each in others)
            joined.setdefault(key, []).append(point)
        numbered = [(point, number) for number, members in enumerate(joined.values()) for point in members]
        draw_points(axes, [point for point, _ in numbered], [marker_style(number) for _, number in numbered])
        for number, members in enumerate(joined.values()):
            sizes = sorted({point.size for point in members})
            means = [statistics.fmean(point.score.center for point in members if point.size == size) for size in sizes]
            axes.plot(sizes, means, **line_style(number))
        add_panel_legend(axes, zip(joined, itertools.count(), strict=False))
        spread_axis(axes, [point.size for point in here])
        axes.set_xticks(sorted({point.size for point in here}))
        axes.set_xlabel(SHAPES[field], fontsize=9)
        axes.set_ylabel(to_figure(score.title), fontsize=9)
    return save(figure, 'shape', f'{score.title} against {" and ".join(SHAPES[field].lower() for field, _ in drawn)}')


def draw_layers(study: Study, evidence: Mapping[str, Evidence], folder: Path) -> Drawn | None:
    """L2 distance and angle between each layer's input and output, of every pretrained model (Lan et al. 2020, Figure 1)."""
    found: dict[tuple[str, int], list[Smoothness]] = {}
    for name, owner in find_owners(study).items():
        result = evidence[name].result
        if result is not None and result.smoothness is not None:
            found.setdefault(owner, []).append(result.smoothness)
    if not found:
        return None
    figure, places = make_panels(2)
    for axes, (key, title) in zip(places, (('l2', 'L2 distance'), ('degrees', 'Angle (degrees)')), strict=True):
        for (_, place), seeds in found.items():
            # Rows may hold models of several depths: as many layers as all have.
            means = [statistics.fmean(values) for values in zip(*(getattr(seed, key) for seed in seeds), strict=False)]
            axes.plot(range(1, len(means) + 1), means, marker='o', markersize=3, **line_style(place))
        axes.set_xlabel('Layer', fontsize=9)
        axes.set_ylabel(f'{title} between input and output', fontsize=9)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    add_legend(figure, found)
    return save(figure, 'layers', 'Distance and angle between each layer’s input and output (as Lan et al. 2020, Figure 1)')


FIGURES: dict[str, Callable[[Study, Mapping[str, Evidence], Path], Drawn | None]] = {
    'curves': draw_curves,
    'cost': draw_cost,
    'shape': draw_shape,
    'layers': draw_layers,
}


def draw(study: Study, evidence: Mapping[str, Evidence], folder: Path) -> list[Drawn]:
    """The figures for which the study has numbers."""
    return [drawn for row in FIGURES.values() if (drawn := row(study, evidence, folder)) is not None]
