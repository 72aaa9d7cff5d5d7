"""The files of a submission to GLUE's server."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from research.data.tasks.glue import GLUE, SCALE
from research.errors import UserError
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


def spell_prediction(task: str, prediction: Any) -> str:
    """A prediction as the server spells it: the files' own label, or a score within the scale."""
    row = GLUE[task]
    return row.raw[row.names.index(prediction)] if row.names else f'{min(max(float(prediction), SCALE[0]), SCALE[1]):.3f}'


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
            predicted = [json.loads(line) for line in places[source].read_text('utf-8').splitlines()]
            rows = [(each['id'], spell_prediction(source[0], each['prediction'])) for each in predicted]
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
