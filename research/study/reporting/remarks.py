"""Remarks on a table: what is missing or suspect in it, and how its numbers came about."""

import shlex
from collections.abc import Mapping
from typing import Any

from research.data.masking import MASKING
from research.escape import hide_secrets
from research.study.reporting.cells import Cell, Evidence, look_up
from research.study.reporting.floors import find_floor
from research.study.reporting.marks import quote
from research.study.reporting.numbers import MISSING
from research.study.reporting.sheets import Entry, Sheet
from research.study.study import Study
from research.study.terminal import format_duration

ENVIRONMENT = {
    'command': 'Command',
    'commit': 'Commit',
    'uncommitted_changes': 'Uncommitted changes',
    'devices': 'Devices',
    'cores': 'Cores',
    'machine': 'Machine',
    'python': 'Python',
    'version': 'Version of this code',
    'versions': 'Versions',
}


def find_problems(study: Study, cells: list[list[Cell]], evidence: Mapping[str, Evidence]) -> list[str]:
    """Lines on the table's problems: runs not done, missing numbers, cells that mix, models that have learnt nothing."""
    missing = dict.fromkeys(pair for line in cells for cell in line for pair in cell.missing.items())
    lines = [f'{MISSING} for `{quote(name)}`: {quote(why)}.' for name, why in missing]
    named = {name for name, _ in missing}
    others = [name for name, found in evidence.items() if found.state.state != 'done' and name not in named]
    lines += (
        [f'Not done either: {", ".join(f"`{quote(name)}` ({evidence[name].state.state})" for name in others)}.'] if others else []
    )
    for row, line in zip(study.table.rows, cells, strict=True):
        for column, cell in zip(study.table.columns, line, strict=True):
            if cell.mixed:
                names = (
                    ', '.join(f'`{quote(name)}`' for name in row.runs[column.role]) if column.role in row.runs else quote(row.title)
                )
                lines.append(f'† {quote(row.title)}, {quote(column.title)}: mixed {" and ".join(cell.mixed)} among {names}.')
    lines += find_useless(study, evidence)
    lines += [line for name, found in evidence.items() if (line := describe_ignorance(study, name, found))]
    return list(dict.fromkeys(lines))


# Floor -> what is said of a run, and of several, that score no better.
USELESS = {
    'commonest': (
        'scores no better than the commonest label: it has learnt nothing from its task',
        'score no better than the commonest label: they have learnt nothing from their task',
    ),
    'bag_of_words': (
        'scores no better than a bag of words: the order of words has given it nothing',
        'score no better than a bag of words: the order of words has given them nothing',
    ),
}


def find_useless(study: Study, evidence: Mapping[str, Evidence]) -> list[str]:
    """Lines on runs that score no better than a floor of their task: a line for each column and floor."""
    lines = []
    for column in study.table.columns:
        beaten: dict[str, list[str]] = {floor: [] for floor in USELESS}
        for name in [name for row in study.table.rows if column.role in row.runs for name in row.runs[column.role]]:
            result = evidence[name].result
            score = look_up(result, column.key) if result is not None else None
            floors = {floor: find_floor(name, column, floor, evidence) for floor in USELESS}
            below = [floor for floor, share in floors.items() if share is not None and score is not None and score <= share]
            if below:
                beaten[below[0]].append(f'`{quote(name)}`')
        for floor, names in beaten.items():
            lines += [f'{", ".join(names)} {USELESS[floor][len(names) > 1]}.'] if names else []
    return lines


def describe_ignorance(study: Study, name: str, found: Evidence) -> str:
    """The line on a pretrained model that knows no more than how frequent pieces are; '' for others."""
    if found.result is None:
        return ''
    metrics, entropy = found.result.metrics, found.result.unigram_entropy
    if 'dev/gain' in metrics:
        gain, error = (metrics[key] if key in metrics else 0.0 for key in ('dev/gain', 'dev/gain_error'))
        if gain > 2 * error:
            return ''
        return (
            f'`{quote(name)}` gains {gain:.3f} nats over frequencies at [MASK] (standard error {error:.3f}):'
            ' it has learnt no more than how frequent each piece is.'
        )
    # A policy that weighs pieces masks rare ones more often: the entropy does not apply.
    rare = MASKING[study.runs[name].data.masking.policy].weighs_pieces
    if entropy is None or 'dev/mlm' not in metrics or rare or metrics['dev/mlm'] < entropy:
        return ''
    return (
        f'`{quote(name)}` has a held-out MLM loss of {metrics["dev/mlm"]:.3f}, not below the unigram entropy of {entropy:.3f}:'
        ' it has learnt no more than how frequent each piece is.'
    )


def spell_value(value: Any) -> str:
    """A value of environment.json in words."""
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {spell_value(item)}' for key, item in value.items())
    if isinstance(value, list | tuple):
        return shlex.join(map(str, value))
    return {True: 'yes', False: 'no', None: 'unknown'}[value] if value is None or isinstance(value, bool) else str(value)


def _spell_fingerprint(found: Evidence) -> str:
    """The fingerprint of a run's data, if it recorded one."""
    facts = {} if found.environment is None else found.environment.data
    return quote(spell_value(facts['fingerprint'])) if 'fingerprint' in facts else MISSING


def describe_provenance(study: Study, evidence: Mapping[str, Evidence]) -> tuple[Sheet, list[str]]:
    """How the numbers came about: (a table of the runs, lines on their environments, naming the runs if they differ)."""
    lines = []
    for name, found in evidence.items():
        result = found.result
        texts = [f'`{quote(name)}`', found.state.state, quote(', '.join(study.needs[name])) or MISSING]
        texts.append(_spell_fingerprint(found))
        texts.append(MISSING if found.experiment is None else spell_value(found.experiment.seed))
        if result is None:
            texts += [MISSING] * 3
        else:
            texts += [f'{result.steps:,}', format_duration(result.train_seconds), format_duration(result.wall_seconds)]
        lines.append(tuple(map(Entry, texts)))
    titles = ('Run', 'State', 'From', 'Data', 'Seed', 'Steps', 'Training', 'All of it')
    facts = []
    for key, title in ENVIRONMENT.items():
        holders: dict[str, list[str]] = {}
        for name, found in evidence.items():
            for session in found.environment.all_sessions() if found.environment is not None else ():
                value = getattr(session, key)
                value = hide_secrets(value) if key == 'command' else value  # earlier versions recorded them
                holders.setdefault(spell_value(value) or 'not recorded', []).append(name)
        for value, names in holders.items():
            of = f' (of {quote(", ".join(dict.fromkeys(names)))})' if len(holders) > 1 else ''
            facts.append(f'{title}: `{quote(value)}`{of}')
    return Sheet(titles, tuple(lines), left=4), facts
