"""What is wrong with a table, and how its numbers came about."""

import shlex
from collections.abc import Mapping
from typing import Any

from research.data.masking import MASKING
from research.runs.environment import sessions
from research.study.graph import needs
from research.study.reporting.cells import Cell, Evidence, baseline, look_up, read_cell
from research.study.reporting.sheets import Entry, Sheet
from research.study.reporting.table import MISSING
from research.study.study import Study
from research.study.terminal import duration

ENVIRONMENT = {
    'command': 'Command',
    'commit': 'Commit',
    'uncommitted_changes': 'Uncommitted changes',
    'devices': 'Devices',
    'cores': 'Cores',
    'machine': 'Machine',
    'python': 'Python',
    'versions': 'Versions',
}


def remarks(study: Study, cells: list[list[Cell]], evidence: Mapping[str, Evidence]) -> list[str]:
    """What is wrong with the table: runs not done, cells that mix, numbers that a result lacks, models that learnt nothing."""
    missing = dict.fromkeys(pair for line in cells for cell in line for pair in cell.missing.items())
    lines = [f'{MISSING} for `{name}`: {why}.' for name, why in missing]
    told_of = {name for name, _ in missing}
    others = [name for name, found in evidence.items() if found.state.state != 'done' and name not in told_of]
    lines += [f'Not done either: {", ".join(f"`{name}` ({evidence[name].state.state})" for name in others)}.'] if others else []
    for row, line in zip(study.table.rows, cells, strict=True):
        for column, cell in zip(study.table.columns, line, strict=True):
            if cell.mixed:
                names = ', '.join(f'`{name}`' for name in row.runs[column.role]) if column.role in row.runs else row.title
                lines.append(f'† {row.title}, {column.title}: mixed {" and ".join(cell.mixed)} among {names}.')
    for column in study.table.columns:
        for name in [name for row in study.table.rows if column.role in row.runs for name in row.runs[column.role]]:
            chance, cell = baseline(name, column, evidence), read_cell(study, (name,), column.key, evidence)
            if chance is not None and cell.values and cell.mean <= chance:
                lines.append(f'`{name}` scores no better than the commonest label: it has learnt nothing of its task.')
    for name, found in evidence.items():
        entropy, loss = (
            None if found.result is None else look_up(found.result, key) for key in ('unigram_entropy', 'metrics:dev/mlm')
        )
        # A policy that weighs pieces predicts rare ones more often, for which their unigram entropy is no measure.
        rare = MASKING[study.runs[name].data.masking.policy].weighs_pieces
        if entropy is not None and loss is not None and loss >= entropy and not rare:
            lines.append(
                f'`{name}` has a held-out MLM loss of {loss:.3f}, not below the unigram entropy of {entropy:.3f}:'
                ' it has not learnt more than how frequent each piece is.'
            )
    return list(dict.fromkeys(lines))


def told(value: Any) -> str:
    """A value of environment.json in words."""
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {told(item)}' for key, item in value.items())
    if isinstance(value, list):
        return shlex.join(map(str, value))
    return {True: 'yes', False: 'no', None: 'unknown'}[value] if value is None or isinstance(value, bool) else str(value)


def provenance(study: Study, evidence: Mapping[str, Evidence]) -> tuple[Sheet, list[str]]:
    """How the numbers came about: a table of the runs, then what their environments say and where they differ."""
    lines = []
    for name, found in evidence.items():
        data = MISSING if found.environment is None else told(found.environment['data']['fingerprint'])
        seed = MISSING if found.experiment is None else told(found.experiment.seed)
        steps, training, wall = (
            None if found.result is None else look_up(found.result, key) for key in ('steps', 'train_seconds', 'wall_seconds')
        )
        texts = [f'`{name}`', found.state.state, ', '.join(needs(study.runs[name])) or MISSING, data, seed]
        texts.append(MISSING if steps is None else f'{steps:,.0f}')
        texts += [MISSING if seconds is None else duration(seconds) for seconds in (training, wall)]
        lines.append(tuple(map(Entry, texts)))
    titles = ('Run', 'State', 'From', 'Data', 'Seed', 'Steps', 'Training', 'All of it')
    facts = []
    for key, title in ENVIRONMENT.items():
        holders: dict[str, list[str]] = {}
        for name, found in evidence.items():
            for session in sessions(found.environment or {}):
                value = told(session[key]) if key in session else 'not recorded'
                holders.setdefault(value, []).append(name)
        for value, names in holders.items():
            facts.append(f'{title}: `{value}`' + (f' (of {", ".join(dict.fromkeys(names))})' if len(holders) > 1 else ''))
    return Sheet(titles, tuple(lines), left=4), facts
