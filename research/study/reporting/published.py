"""Published numbers beside measured ones: where they compare, and whether rows have the same order."""

import itertools
from collections.abc import Mapping

import numpy as np

from research.data import tasks
from research.data.settings import stages
from research.evaluation import statistics
from research.experiment import Experiment
from research.study.columns import FORMATS, Column
from research.study.reporting.cells import Cell, Evidence, read_row_cell
from research.study.reporting.marks import quote
from research.study.reporting.numbers import MISSING
from research.study.study import Row, Setting, Study
from research.study.units import find_pretraining

NEAR = 0.05  # share by which the pieces of a pretraining may differ from the paper's
SHOWN = 4  # pairs of rows in another order that are named


def has_published(study: Study, column: Column) -> bool:
    """Whether a row has a published number for the column."""
    return any(column.title in row.published for row in study.table.rows)


def count_pieces(x: Experiment, steps: int = 0) -> float:
    """The pieces that a pretraining reads, in the steps of its definition or, of one that counts epochs, in those it took."""
    return sum(stage.share * stage.length for stage in stages(x.data)) * (steps or x.run.steps) * x.run.batch


def find_differences(study: Study, row: Row, column: Column) -> dict[str, str]:
    """Why a row's number does not compare with the published one: 'size', 'metric' … -> how they differ; {} if it does."""
    if row.setting is None:
        return {'setting': 'how the published number came about is not stated'}
    if column.of:
        parts = [each for each in study.table.columns if each.title in column.of]
        return {kind: how for each in parts for kind, how in find_differences(study, row, each).items()}
    if column.role not in row.runs or not row.runs[column.role]:
        return {}
    name = row.runs[column.role][0]
    pretrained = find_pretraining(name, study.runs)
    found = _compare_sizes(row.setting, study.runs[pretrained or name])
    if FORMATS[column.format].exact:
        return found
    found |= _compare_texts(row.setting, study.runs[pretrained] if pretrained else None)
    measured = spell_metric(study.runs[name], column)
    if column.published and column.published != measured:
        found['metric'] = f'{measured}, published {column.published}'
    return found


def _compare_sizes(setting: Setting, x: Experiment) -> dict[str, str]:
    shapes = [(setting.layers, x.model.layers, 'layers'), (setting.width, x.model.width, 'width')]
    different = [f'{what} {here:,}, published {known:,}' for known, here, what in shapes if known and known != here]
    return {'size': ', '.join(different)} if different else {}


def _compare_texts(setting: Setting, x: Experiment | None) -> dict[str, str]:
    if x is None:
        asked = setting.pieces or setting.data
        return {'text': 'the study does not know what its start was pretrained on'} if asked else {}
    found, pieces = {}, count_pieces(x)
    if setting.pieces and abs(pieces - setting.pieces) > NEAR * setting.pieces:
        found['pieces'] = f'{pieces:,.3g} read, published {setting.pieces:,.3g}'
    lacking = [word for word in setting.data if word.lower() not in x.data.source.lower()]
    if lacking:
        found['text'] = f'data.source is {x.data.source}, published {" and ".join(setting.data)}'
    return found


def spell_metric(x: Experiment, column: Column) -> str:
    """The 'SPLIT/METRIC' that a column reads of a run."""
    if column.key != 'score' or not x.data.task:
        return column.key.removeprefix('metrics:')
    row = tasks.task(x.data)
    metric = 'f1' if row.kind == 'span' else row.metrics[0] if len(row.metrics) == 1 else 'score'
    return f'{row.reported}/{metric}'


def write_difference(study: Study, row: Row, column: Column, cell: Cell) -> str:
    """The entry under Δ: measured minus published, or which of size, text … do not compare; '—' without a number."""
    if column.title not in row.published or not cell.values:
        return MISSING
    different = find_differences(study, row, column)
    if different:
        return f'{MISSING} ({", ".join(different)})'
    form = FORMATS[column.format]
    return f'{cell.center * form.scale - row.published[column.title]:+,.{form.digits}f}'.replace('-', '−')


def explain_published(study: Study) -> list[str]:
    """The sentences of a caption on published numbers: their source, what has no Δ and why."""
    lines = [f'Published: {quote(study.table.source)}; Δ: measured minus published, where size, text and metric compare.']
    reasons: dict[str, list[str]] = {}
    for column in study.table.columns:
        for row in study.table.rows:
            if column.title in row.published and any(names for names in row.runs.values()):
                for kind, how in find_differences(study, row, column).items():
                    reasons.setdefault(f'{kind}: {how}', []).append(column.title)
    for reason, titles in reasons.items():
        lines.append(f'No Δ of {quote(", ".join(dict.fromkeys(titles)))} ({quote(reason)}).')
    known = {row.setting.statistic for row in study.table.rows if row.setting is not None and row.setting.statistic}
    if known:
        lines.append(f'Published numbers are {" or ".join(f"{each}s" for each in sorted(known))} over runs.')
    return lines


# ---- Order ----------------------------------------------------------------------------------------------------------------------


def describe_orders(study: Study, evidence: Mapping[str, Evidence]) -> list[str]:
    """A line for each column with published numbers: Kendall's τ-b between these and the measured, and its p."""
    lines = []
    for column in study.table.columns:
        known = [
            (row, cell)
            for row in study.table.rows
            if column.title in row.published and (cell := read_row_cell(study, row, column, evidence)).comparable
        ]
        if len({row.published[column.title] for row, _ in known}) > 1:
            lines.append(f'{quote(column.title)}: {compare_order(column, known, FORMATS[column.format].exact)}.')
    return lines


def compare_order(column: Column, known: list[tuple[Row, Cell]], exact: bool) -> str:
    """How far rows have the published order, in words."""
    if not exact and any(len(cell.units) < 2 for _, cell in known):
        return 'not tested: with one seed no standard error tells which rows differ'
    published = [row.published[column.title] for row, _ in known]
    centers = [cell.center for _, cell in known]
    errors = np.zeros((len(known), len(known)))
    for (a, (_, left)), (b, (_, right)) in itertools.permutations(enumerate(known), 2):
        errors[a, b] = 0 if exact else find_error(left, right)
    found = statistics.compare_orders(published, centers, errors)
    pairs = len(known) * (len(known) - 1) // 2
    if not found.pairs:
        return f'not decided: none of {pairs} pairs of rows is more than two standard errors apart'
    apart = '' if exact else ' that are more than two standard errors apart'
    way = 'exact p' if found.exact else f'p of {statistics.SHUFFLES:,} random orders'
    line = f'Kendall’s τ-b = {found.tau:.2f} ({way} = {found.p:.2g}); {found.agree} of {found.pairs} pairs of rows{apart}'
    wrong = [
        quote(f"'{known[a][0].title}' and '{known[b][0].title}'")
        for a, b in itertools.combinations(range(len(known)), 2)
        if abs(centers[a] - centers[b]) > 2 * errors[a, b] and (published[a] - published[b]) * (centers[a] - centers[b]) < 0
    ]
    more = f'; and {len(wrong) - SHOWN} more' if len(wrong) > SHOWN else ''
    return f'{line} are in the published order' + (f'; not: {"; ".join(wrong[:SHOWN])}{more}' if wrong else '')


def find_error(left: Cell, right: Cell) -> float:
    """The standard error of the difference between two rows: over shared seeds, or of both apart if they share no two."""
    a, b = (dict(zip(dict.fromkeys(cell.seeds or range(len(cell.values))), cell.units, strict=True)) for cell in (left, right))
    paired = [a[seed] - b[seed] for seed in a if seed in b]
    if len(paired) > 1:
        return float(np.std(paired, ddof=1) / len(paired) ** 0.5)
    return float(sum(np.var(list(side.values()), ddof=1) / len(side) for side in (a, b)) ** 0.5)
