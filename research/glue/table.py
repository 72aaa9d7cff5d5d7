"""A table of finished runs of tasks, with the GLUE score by two conventions."""

import math
import statistics
from collections.abc import Mapping
from pathlib import Path

from research.errors import UserError
from research.experiment import Experiment
from research.runs.definition import read_definition
from research.runs.folder import Result, read_result
from research.wire import setting

# ---- GLUE ---------------------------------------------------------------------------------------------------------------------

# Convention -> the (task, metric) pairs whose mean is the GLUE score.
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
    """The GLUE score by a row of GLUE_SCORES. metrics: task -> its metrics. Raises UserError if some are missing."""
    wanted = GLUE_SCORES[convention]
    missing = [f'{task} {name}' for task, name in wanted if task not in metrics or name not in metrics[task]]
    if missing:
        raise UserError(f"the GLUE score of '{convention}' needs {', '.join(missing)} as well")
    return math.fsum(metrics[task][name] for task, name in wanted) / len(wanted)


# ---- The table ----------------------------------------------------------------------------------------------------------------


Seeds = list[tuple[Experiment, Result]]  # of one setting


def group_runs(folder: Path) -> dict[str, list[Seeds]]:
    """Task -> the Seeds of each of its settings, of the finished runs in `folder`. Raises UserError if there are none."""
    found: dict[str, dict[Experiment, Seeds]] = {}
    for path in sorted(folder.glob('*/result.json')):
        x, result = read_definition(path.parent), read_result(path.parent)
        if x.data.task and result is not None and result.score is not None:
            complete = result.baseline is not None and {'score'} <= set(result.baseline.majority) & set(result.baseline.random)
            if not complete or (result.collapsed is not None and 'reported' not in result.collapsed):
                raise UserError(f'{path} is of another version of this code, or damaged: it lacks a baseline, or what collapsed')
            found.setdefault(x.data.task, {}).setdefault(setting(x), []).append((x, result))
    if not found:
        raise UserError(f'{folder} holds no finished runs of tasks')
    return {task: list(each.values()) for task, each in found.items()}


def reported_score(result: Result) -> float:
    """The score of the reported split; only for a run that has one."""
    assert result.score is not None, 'group_runs leaves out runs without a score'
    return result.score


def selecting_score(result: Result) -> float:
    """The number that a setting is chosen by: the metric that selected the checkpoint, or the reported score if none did."""
    by = result.selected.by if result.selected is not None else ''
    return result.metrics[by] if by in result.metrics else reported_score(result)


def format_row(task: str, runs: Seeds, chosen: bool) -> str:
    """A line of the table: the spread of the score over the seeds of a setting."""
    x, first = runs[0]
    scores = [reported_score(result) for _, result in runs]
    spread = f' ± {100 * statistics.stdev(scores):.1f}' if len(scores) > 1 else ''
    assert first.baseline is not None, 'every task has one'
    chance = [guess['score'] for guess in (first.baseline.majority, first.baseline.random)]
    collapsed = sum(result.collapsed['reported'] for _, result in runs if result.collapsed is not None)
    selected = first.selected.how if first.selected is not None else 'the last checkpoint'
    cells = [
        task,
        f'{x.optimizer.lr:g}',
        f'{100 * statistics.fmean(scores):.1f}{spread}',
        *(f'{100 * each:.1f}' for each in (statistics.median(scores), max(scores))),
        str(len(scores)),
        str(collapsed),
        *(f'{100 * each:.1f}' for each in chance),
        f'chosen; {selected}' if chosen else selected,
    ]
    return f'| {" | ".join(cells)} |'


def make_table(folder: Path) -> list[str]:
    """The lines of the table: every setting's spread, which setting is chosen for each task, and the GLUE scores of these."""
    lines = [
        '| task | lr | mean ± sd | median | best | n | collapsed | majority | random | |',
        '|:--|--:|--:|--:|--:|--:|--:|--:|--:|:--|',
    ]
    medians: dict[str, dict[str, float]] = {}
    for task, settings in group_runs(folder).items():
        best = max(settings, key=lambda runs: statistics.fmean(selecting_score(result) for _, result in runs))
        lines += [format_row(task, runs, chosen=runs is best and len(settings) > 1) for runs in settings]
        names = set.intersection(*(set(result.metrics) for _, result in best))
        medians[task] = {name: statistics.median(result.metrics[name] for _, result in best) for name in names}
    lines.append('')
    for convention in GLUE_SCORES:
        try:
            lines.append(f'GLUE by the convention of {convention}, of medians: {100 * glue_score(convention, medians):.1f}')
        except UserError as error:
            lines.append(str(error))
    return lines
