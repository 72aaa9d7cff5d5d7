"""A small study, and run folders as a training run would leave them, without training."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from research.experiment import Experiment
from research.objectives.losses import Losses, Mlm, Plain
from research.optim import Optimizer
from research.study.columns import COLUMNS
from research.study.ledger import enter
from research.study.study import Claim, Row, Study, Table
from research.wire import to_wire


def _experiment(name: str, seed: int = 0, start: str = '', teacher: str = '', tokenizer: str = 'wordpiece') -> Experiment:
    plain = Experiment(name=name, seed=seed, start=start, teacher=teacher, optimizer=Optimizer(warmup=0.1))
    task = 'packages' if name == 'task' else ''
    losses = Losses(mlm=Mlm(0.0), label=Plain(1.0)) if task else Losses()
    return dataclasses.replace(plain, data=dataclasses.replace(plain.data, tokenizer=tokenizer, task=task), losses=losses)


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """experiment(name, seed, start, teacher, tokenizer) -> an Experiment."""
    return _experiment


@pytest.fixture(scope='session')
def study() -> Study:
    """A teacher, its student and a model without a teacher, each fine-tuned with two seeds."""
    runs = {
        'teacher': _experiment('teacher'),
        'student': _experiment('student', teacher='@teacher', tokenizer='@teacher'),
        'scratch': _experiment('scratch', tokenizer='@teacher'),
    }
    rows = []
    for name in tuple(runs):
        seeds = tuple(f'{name}-task-{seed}' for seed in (0, 1))
        runs |= {task: _experiment('task', int(task[-1]), start=f'@{name}') for task in seeds}
        rows.append(Row(name.capitalize(), {'pretrain': (name,), 'task': seeds}))
    claims = (
        Claim(
            'held-out MLM loss of {a} is below that of {b}',
            ('student', 'metrics:dev/mlm'),
            ('scratch', 'metrics:dev/mlm'),
        ),
    )
    columns = tuple(column for key, column in COLUMNS.items() if key != 'gain')  # as runs of earlier versions
    table = Table('Distillation | one table', tuple(rows), columns, score='Task accuracy (%)')
    return Study('distillation', runs, table, 'What a teacher is worth.', claims)


def _result(name: str, number: float, task: bool) -> dict[str, Any]:
    size = 4_400_000 if 'teacher' in name else 2_300_000
    metrics = {'test/accuracy': number} if task else {'dev/mlm': number, 'dev/mlm_accuracy': 0.42}
    return {
        'name': name,
        'steps': 1500,
        'metrics': metrics,
        'selected': None,
        'parameters': {
            'total': size + 500,
            'encoder': size,
            'encoder_without_pooler': size - 100,
            'modules': {'embeddings': size - 100, 'pooler': 100, 'mlm': 500},
        },
        'flops_per_token': 2 * size,
        'checkpoint_bytes': 4 * size,
        'train_seconds': 200 if task else 3725,
        'wall_seconds': 260.0 if task else 3800.0,
        'peak_memory_bytes': 512_000_000,
        'flops_per_step': 7_000_000,
        'smoothness': None if task else {'l2': [3.0, 2.0, 1.0], 'degrees': [40.0, 20.0, 10.0]},
        'tokens_per_second': 12345.6,
        'latency_seconds': 0.00234,
        'unigram_entropy': None if task else 6.21,
        'labels': ['a', 'b'] if task else None,
        'baseline': {'majority': {'dev/accuracy': 0.5, 'test/accuracy': 0.523}, 'random': {'test/accuracy': 0.5}} if task else None,
        'reported': 'test' if task else None,
        'score': number if task else None,
        'collapsed': {'test': 0, 'reported': 0} if task else None,
    }


@pytest.fixture(scope='session')
def result_json() -> dict[str, Any]:
    """The content of a result.json."""
    return _result('run', 2.5, task=False)


def _finish(folder: Path, study: Study, name: str, number: float, **changes: Any) -> None:
    """Leave a finished run: `number` is its MLM loss when it pretrains, its test accuracy otherwise."""
    workdir, experiment = folder / name, study.runs[name]
    workdir.mkdir(parents=True, exist_ok=True)
    task = bool(experiment.start)
    environment = {
        'commit': 'abc1234',
        'uncommitted_changes': False,
        'command': ['launch.py', '--config=experiments/distillation.py'],
        'python': '3.11.2',
        'machine': 'Linux x86_64',
        'versions': {'jax': '0.10.2'},
        'devices': {'platform': 'cpu', 'count': 1},
        'cores': 2,
        'data': {'fingerprint': 'f00d' if task else 'beef'},
        'steps': 1500,
    }
    (workdir / 'result.json').write_text(json.dumps(_result(name, number, task) | changes))
    (workdir / 'environment.json').write_text(json.dumps(environment))
    (workdir / 'experiment.json').write_text(json.dumps(to_wire(experiment).to_dict()))
    lines: list[dict[str, float]] = [{'step': 10, 'wall': 1.5, 'seconds': 1.0, 'train/loss': 9.0}]
    if not task:
        lines += [
            {'step': step, 'wall': step / 2, 'seconds': step / 3, 'dev/mlm': number + 5 * math.exp(-step / 200)}
            for step in range(100, 1501, 100)
        ]
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


@pytest.fixture
def finish() -> Callable[..., None]:
    """finish(folder, study, name, number, **changes) leaves a finished run; `changes` are of its result.json."""
    return _finish


NUMBERS = {
    'teacher': (2.5, 0.91, 0.93),
    'student': (2.701, 0.88, 0.9),
    'scratch': (2.9, 0.85, 0.861),
}


def _finish_all(study: Study, folder: Path) -> None:
    enter(study, folder)
    for name, (loss, *scores) in NUMBERS.items():
        _finish(folder, study, name, loss)
        for seed, score in enumerate(scores):
            _finish(folder, study, f'{name}-task-{seed}', score)


@pytest.fixture(scope='session')
def finish_all() -> Callable[[Study, Path], None]:
    """finish_all(study, folder) makes `folder` that of the study with every run done."""
    return _finish_all


@pytest.fixture
def finished(study: Study, tmp_path: Path) -> Path:
    """The folder of the study with every run done."""
    _finish_all(study, tmp_path)
    return tmp_path
