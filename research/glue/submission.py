"""The files of a submission to GLUE's server."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from research.data import json_lines
from research.data.tasks import files
from research.data.tasks.glue import GLUE, SCALE
from research.errors import UserError, choose
from research.runs.definition import read_definition

# File of a submission -> (task, split) whose predictions it holds.
FILES: dict[str, tuple[tuple[str, str], ...]] = {
    'CoLA.tsv': (('cola', 'test'),),
    'SST-2.tsv': (('sst2', 'test'),),
    'MRPC.tsv': (('mrpc', 'test'),),
    'STS-B.tsv': (('stsb', 'test'),),
    'QQP.tsv': (('qqp', 'test'),),
    'MNLI-m.tsv': (('mnli', 'test'),),
    'MNLI-mm.tsv': (('mnli', 'test_mismatched'),),
    'QNLI.tsv': (('qnli', 'test'),),
    'RTE.tsv': (('rte', 'test'),),
    'WNLI.tsv': (('wnli', 'test'),),
    'AX.tsv': (('ax', 'test'), ('mnli', 'ax')),
}


def spell_prediction(task: str, prediction: Any, where: str) -> str:
    """A prediction as the server spells it: the files' own label, or a score within the scale.

    Raises UserError for what is neither a label of the task nor a number.
    """
    row = GLUE[task]
    if row.names:
        return row.raw[row.names.index(choose(f'label of {task} in {where}', str(prediction), row.names))]
    return f'{min(max(files.number(prediction, "prediction", where, -math.inf, math.inf), SCALE[0]), SCALE[1]):.3f}'


def read_rows(task: str, path: Path) -> Iterator[tuple[str, str]]:
    """(id, prediction as the server spells it) of each line of a predictions.jsonl. Raises UserError for a line that is damaged."""
    for number, record in json_lines.records(path):
        where = f"'{path}' line {number}"
        missing = [name for name in ('id', 'prediction') if name not in record]
        if missing:
            raise UserError(f'{where} has no {missing[0]}')
        id = files.identifier(record, where)
        if set(id) & set('\t\r\n'):
            raise UserError(f'{where}: the id {id!r:.40} holds a tab or a newline, which separate the rows of a submission')
        yield id, spell_prediction(task, record['prediction'], where)


def make_submission(runs: Iterable[Path], fill: bool) -> tuple[dict[str, str], list[str]]:
    """(file -> its text, for all eleven files; the files filled with one label, whose tasks have no run).

    Raises UserError for a run of no GLUE task, two runs of one task and, unless `fill`, tasks without a run.
    """
    places: dict[tuple[str, str], Path] = {}
    for run in runs:
        task = read_definition(run).data.task
        if task not in GLUE:
            raise UserError(f"{run} is a run of '{task}', which is no task of GLUE (there are: {', '.join(GLUE)})")
        for path in sorted(run.glob('*/predictions.jsonl')):
            if (task, path.parent.name) in places:
                raise UserError(f'{run} and {places[task, path.parent.name].parent.parent} are both runs of {task}: give one')
            places[task, path.parent.name] = path
    texts, filled = {}, []
    for name, sources in FILES.items():
        source = next((source for source in sources if source in places), None)
        if source is None:
            task, split = sources[0]
            filled.append(name)
            answer = GLUE[task].raw[0] if GLUE[task].raw else f'{sum(SCALE) / 2:.3f}'
            rows = [(str(number), answer) for number in range(GLUE[task].sizes[split])]
        else:
            rows = list(read_rows(source[0], places[source]))
        texts[name] = ''.join(f'{index}\t{prediction}\n' for index, prediction in [('index', 'prediction'), *rows])
    if filled and not fill:
        raise UserError(
            f'there are no predictions for {", ".join(filled)}: give the runs of these tasks, with their test files, '
            'or --fill to write one label throughout in their place'
        )
    return texts, filled


def find_wrong_sizes(texts: Mapping[str, str]) -> list[str]:
    """A line for each file of a submission that has another number of rows than the server asks for."""
    lines = []
    for name, text in texts.items():
        task, split = FILES[name][0]
        count, asked = text.count('\n') - 1, GLUE[task].sizes[split]
        if count != asked:
            lines.append(f'{name} has {count:,} predictions, but the server asks for {asked:,}')
    return lines
