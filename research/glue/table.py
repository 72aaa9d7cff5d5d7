"""A table of finished runs of tasks, with GLUE's one number by two conventions."""

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.experiment import Experiment
from research.files import read_record
from research.runs.folder import read
from research.wire import setting

# ---- GLUE ---------------------------------------------------------------------------------------------------------------------

# How papers make one number of GLUE: the mean of these metrics of these runs' tasks.
GLUE_SCORES: dict[str, tuple[tuple[str, str], ...]] = {
    # Sanh et al. 2019, Table 1: nine tasks with WNLI, MNLI matched, tasks with two metrics by their mean.
    'distilbert': tuple((name, 'dev/score') for name in ('cola', 'mnli', 'mrpc', 'qnli', 'qqp', 'rte', 'sst2', 'stsb', 'wnli')),
    # Devlin et al. 2019, Table 1: nine numbers without WNLI, both of MNLI, F1 for MRPC and QQP, Spearman for STS-B.
    'bert': (
        ('mnli', 'dev/accuracy'),
        ('mnli', 'dev_mismatched/accuracy'),
        ('qqp', 'dev/f1'),
        ('qnli', 'dev/accuracy'),
        ('sst2', 'dev/accuracy'),
        ('cola', 'dev/matthews'),
        ('stsb', 'dev/spearman'),
        ('mrpc', 'dev/f1'),
        ('rte', 'dev/accuracy'),
    ),
}


def glue_score(convention: str, metrics: Mapping[str, Mapping[str, float]]) -> float:
    """GLUE's one number by a row of GLUE_SCORES, of the metrics of each task. Raises UserError for what is missing."""
    wanted = GLUE_SCORES[convention]
    missing = [f'{task} {name}' for task, name in wanted if task not in metrics or name not in metrics[task]]
    if missing:
        raise UserError(f"the GLUE score of '{convention}' needs {', '.join(missing)} as well")
    return math.fsum(metrics[task][name] for task, name in wanted) / len(wanted)


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
    for convention in GLUE_SCORES:
        try:
            lines.append(f'GLUE by the convention of {convention}, of medians: {100 * glue_score(convention, medians):.1f}')
        except UserError as error:
            lines.append(str(error))
    return lines
