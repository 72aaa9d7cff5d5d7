"""Tasks as a whole: a table of finished runs, with GLUE's one number by two conventions, and the folder that its server takes.

python -m research.glue table FOLDER                  FOLDER holds runs of any tasks, such as a study's
python -m research.glue submit OUT RUN [RUN …]        writes CoLA.tsv … AX.tsv from the runs' predictions for test
"""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from research import metrics
from research.data.tasks.glue import GLUE
from research.errors import Parser, UserError, run_command
from research.experiment import Experiment, read, setting
from research.records import read_record

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


# ---- The table ----------------------------------------------------------------------------------------------------------------


def groups(folder: Path) -> dict[str, list[list[tuple[Experiment, Mapping[str, Any]]]]]:
    """Task -> its settings -> the (experiment, result) of each seed, of the finished runs in `folder`."""
    found: dict[str, dict[Experiment, list[Any]]] = {}
    for path in sorted(folder.glob('*/result.json')):
        x, result = read(path.parent), read_record(path)
        if x.data.task and result is not None and result['score'] is not None:
            found.setdefault(x.data.task, {}).setdefault(setting(x), []).append((x, result))
    if not found:
        raise UserError(f'{folder} holds no finished runs of tasks')
    return {task: list(each.values()) for task, each in found.items()}


def selecting(result: Mapping[str, Any]) -> float:
    """The number that settings are chosen by: that of the split that selected, and only without one that which is reported."""
    by = result['selected']['by'] if result['selected'] else ''
    return result['metrics'][by] if by in result['metrics'] else result['score']


def summary(runs: list[tuple[Experiment, Mapping[str, Any]]]) -> dict[str, Any]:
    """The spread of one task's score over seeds."""
    scores = [result['score'] for _, result in runs]
    x, result = runs[0]
    return {
        'lr': x.optimizer.lr,
        'mean': statistics.fmean(scores),
        'sd': statistics.stdev(scores) if len(scores) > 1 else None,
        'median': statistics.median(scores),
        'best': max(scores),
        'n': len(scores),
        'collapsed': sum(result['collapsed']['reported'] for _, result in runs),
        'majority': result['baseline']['majority']['score'],
        'random': result['baseline']['random']['score'],
        'selected': result['selected']['how'] if result['selected'] else 'the last checkpoint',
    }


def table(folder: Path) -> list[str]:
    """The lines of the table: every setting's spread, the one chosen of each task, and GLUE's one number of these."""
    lines = [
        '| task | lr | mean ± sd | median | best | n | collapsed | majority | random | |',
        '|:--|--:|--:|--:|--:|--:|--:|--:|--:|:--|',
    ]
    medians: dict[str, dict[str, float]] = {}
    for task, each in groups(folder).items():
        chosen = max(each, key=lambda runs: statistics.fmean(selecting(result) for _, result in runs))
        for runs in each:
            row = summary(runs)
            spread = f' ± {100 * row["sd"]:.1f}' if row['sd'] is not None else ''
            numbers = ' | '.join(f'{100 * row[name]:.1f}' for name in ('median', 'best'))
            chance = ' | '.join(f'{100 * row[name]:.1f}' for name in ('majority', 'random'))
            mark = f'chosen; {row["selected"]}' if runs is chosen and len(each) > 1 else row['selected']
            lines.append(
                f'| {task} | {row["lr"]:g} | {100 * row["mean"]:.1f}{spread} | {numbers} | {row["n"]} | {row["collapsed"]} '
                f'| {chance} | {mark} |'
            )
        names = set.intersection(*(set(result['metrics']) for _, result in chosen))
        medians[task] = {name: statistics.median(result['metrics'][name] for _, result in chosen) for name in names}
    lines.append('')
    for convention in metrics.GLUE_SCORES:
        try:
            lines.append(f'GLUE by the convention of {convention}, of medians: {100 * metrics.glue_score(convention, medians):.1f}')
        except UserError as error:
            lines.append(str(error))
    return lines


# ---- The submission -------------------------------------------------------------------------------------------------------------


def spelled(task: str, prediction: Any) -> str:
    """A prediction as the server spells it: the files' own label, or a score within the scale."""
    row = GLUE[task]
    return row.raw[row.names.index(prediction)] if row.names else f'{min(max(float(prediction), 0.0), 5.0):.3f}'


def submission(runs: Iterable[Path], fill: bool) -> tuple[dict[str, str], list[str]]:
    """File -> its text, for all eleven files; and which were filled with one label, for no run told of them.

    Raises UserError for a run of no GLUE task, two of one task, and, unless `fill`, for tasks without a run.
    """
    places: dict[tuple[str, str], Path] = {}
    for run in runs:
        task = read(run).data.task
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
            answer = GLUE[task].raw[0] if GLUE[task].raw else '2.500'
            rows = [(str(number), answer) for number in range(GLUE[task].sizes[split])]
        else:
            told = [json.loads(line) for line in places[source].read_text('utf-8').splitlines()]
            rows = [(each['id'], spelled(source[0], each['prediction'])) for each in told]
        texts[name] = ''.join(f'{index}\t{prediction}\n' for index, prediction in [('index', 'prediction'), *rows])
    if filled and not fill:
        raise UserError(
            f'there are no predictions for {", ".join(filled)}: give the runs of these tasks, with their test files, '
            'or --fill to write one label throughout in their place'
        )
    return texts, filled


def sizes(texts: Mapping[str, str]) -> list[str]:
    """What to tell of the files of a submission that have another number of rows than the server asks for."""
    told = []
    for name, text in texts.items():
        task, split = FILES[name][0]
        count, asked = text.count('\n') - 1, GLUE[task].sizes[split]
        if count != asked:
            told.append(f'{name} has {count:,} predictions, but the server asks for {asked:,}')
    return told


def main(arguments: list[str]) -> None:
    """Runs one command line."""
    parser = Parser(prog='python -m research.glue', description='A table of GLUE runs, and a folder for its server.')
    commands = parser.add_subparsers(dest='command', required=True)
    shown = commands.add_parser('table')
    shown.add_argument('folder', type=Path)
    sent = commands.add_parser('submit')
    sent.add_argument('out', type=Path)
    sent.add_argument('runs', type=Path, nargs='+')
    sent.add_argument('--fill', action='store_true', help='one label throughout for tasks without a run')
    given = parser.parse_args(arguments)
    if given.command == 'table':
        print('\n'.join(table(given.folder)))
        return
    texts, filled = submission(given.runs, given.fill)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (given.out / name).write_text(text, encoding='utf-8')
    for line in sizes(texts):
        print(f'warning: {line}', file=sys.stderr)
    print(f'{given.out}: {len(texts)} files' + (f'; one label throughout in {", ".join(filled)}' if filled else ''))


if __name__ == '__main__':
    sys.exit(run_command(main, sys.argv[1:]))
