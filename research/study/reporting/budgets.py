"""What the rows of a table share: tokens, steps, FLOPs, seconds, parameters, latency."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from research.experiment import Experiment
from research.runs.folder import Result
from research.study.reporting.cells import Evidence
from research.study.reporting.published import count_pieces
from research.study.study import Study
from research.study.terminal import format_duration

EQUAL = 0.01  # share by which budgets that rows share may differ


class Budget(NamedTuple):
    """One budget of a run."""

    name: str
    read: Callable[[Result, Experiment], float | None]
    write: Callable[[float], str]
    of_model: bool = False  # not of its training


BUDGETS = (
    Budget('tokens', lambda result, x: None if x.data.task else count_pieces(x, result.steps), lambda value: f'{value:,.3g}'),
    Budget('steps', lambda result, x: float(result.steps), lambda value: f'{value:,.0f}'),
    Budget('training FLOPs', lambda result, x: result.flops_per_step * result.steps, lambda value: f'{value:,.3g}'),
    Budget('training time', lambda result, x: result.train_seconds, format_duration),
    Budget('parameters', lambda result, x: float(result.parameters.encoder), lambda value: f'{value:,.0f}', True),
    Budget('latency', lambda result, x: result.latency_seconds, lambda value: f'{value * 1e3:,.3g} ms', True),
)


def describe_budgets(study: Study, evidence: Mapping[str, Evidence]) -> str:
    """'Rows share …; differ in …' of the runs in the first role, pretraining where there is one; '' for fewer than two rows.

    A run that takes no step has no budget of training.
    """
    roles = [role for row in study.table.rows for role in row.runs]
    rows = [row.runs[roles[0]] for row in study.table.rows if roles[0] in row.runs] if roles else []
    if len(rows) < 2:
        return ''
    shared, different = [], []
    for budget in BUDGETS:
        found = [
            value
            for names in rows
            for name in names
            if (result := evidence[name].result) is not None
            and (result.steps or budget.of_model)
            and (value := budget.read(result, study.runs[name])) is not None
            and 0 <= value < float('inf')
        ]
        if len(found) < 2:
            continue
        low, high = min(found), max(found)
        if high - low <= EQUAL * high:
            shared.append(f'{budget.name} ({budget.write(high)})')
        else:
            different.append(f'{budget.name} ({budget.write(low)} to {budget.write(high)})')
    if not shared + different:
        return ''
    words = [f'share {", ".join(shared)}'] if shared else ['share no budget']
    words += [f'differ in {", ".join(different)}'] if different else []
    return f'Budgets: rows {"; ".join(words)}. FLOPs: a run’s own, with its teacher’s forward pass, without its start’s.'
