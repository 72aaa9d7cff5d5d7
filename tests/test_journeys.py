"""One place for each new row: a copy of the repository gets rows, each in one file, and `python launch.py` uses them at once.

A journey is what a researcher writes to add something. Its length is the number of files that it touches. Rows of several journeys
are used by one training where they can.
"""

import dataclasses
import filecmp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

LAST_LOSS = "    'mse': Loss("
LAST_OPTION = '    mse: Match = Match()\n'
LAST_HEAD = "    'choice': Head("


@dataclasses.dataclass(frozen=True)
class Journey:
    """What is written, and the changes to a small run that use it."""

    edits: Mapping[str, tuple[tuple[str, str], ...]]  # file -> (text that stands there, text to put before it)
    changes: Mapping[str, Any]
    shown: str  # a key of metrics.jsonl that must be a positive number
    refused: str = ''  # a change that the new row makes impossible …
    message: str = ''  # … and what it is told


JOURNEYS = {
    'sharing': Journey(
        {
            'research/models/sharing.py': (
                ("    'table': Sharing(", "    'mirror': Sharing(lambda layer, a: (min(layer, a.layers - 1 - layer),) * 2),\n"),
            )
        },
        {'model.sharing': 'mirror', 'model.layers': 4},
        'train/mlm',
        'model.groups=2',
        "model.sharing='mirror' does not read it",
    ),
    'loss on logits': Journey(
        {
            'research/objectives/losses.py': (
                (LAST_OPTION, '    huber: Match = Match()\n'),
                (
                    'def mse(',
                    'def huber(x: Match, student: View, teacher: View | None, batch: Batch) -> jax.Array:\n'
                    '    """The Huber distance of the logits, an item."""\n'
                    '    a, b = (each.logits(AT[x.at], x.at) for each in (student, _of(teacher)))\n'
                    '    return optax.huber_loss(a, b).mean(-1)\n\n\n',
                ),
                (
                    LAST_LOSS,
                    "    'huber': Loss(huber, lambda x: x.at, lambda x: (AT[x.at],), _matched, True, ('attended', 'masked')),\n",
                ),
            )
        },
        {'losses.huber.weight': 1.0, 'losses.huber.at': 'masked', 'teacher': 'TEACHER'},
        'train/huber',
        'losses.huber.at=label',
        'losses.huber.at',
    ),
    'loss on hidden states': Journey(
        {
            'research/objectives/losses.py': (
                (LAST_OPTION, '    all_layers: Match = Match()\n'),
                (
                    'def mse(',
                    'def all_layers(x: Match, student: View, teacher: View | None, batch: Batch) -> jax.Array:\n'
                    '    """The squared distance of the states of all layers, a position [B, T]."""\n'
                    '    return jnp.square(student.layers() - _of(teacher).layers()).mean((0, -1))\n\n\n',
                ),
                (
                    LAST_LOSS,
                    "    'all_layers': Loss(\n"
                    "        all_layers, lambda x: 'attended', lambda x: (), _matched, True, ('attended',),\n"
                    "        wants=lambda x: frozenset({'layers'}), fits=_same_width,\n"
                    '    ),\n',
                ),
            )
        },
        {'losses.all_layers.weight': 1.0, 'teacher': 'TEACHER'},
        'train/all_layers',
        'model.width=16',
        "loss 'all_layers' does not fit: it compares hidden states, but the teacher's are 32 wide and the student's 16",
    ),
    'head, and the loss that reads it': Journey(
        {
            # A learned projection of a narrow student's hidden states to the width of its teacher.
            'research/models/heads.py': (
                (
                    '# ---- The table',
                    'class WidenedHead(nn.Module):\n'
                    '    """The hidden states, as wide as the teacher\'s."""\n\n'
                    '    architecture: Architecture\n'
                    '    classes: int\n\n'
                    '    def setup(self) -> None:\n'
                    '        a = self.architecture\n'
                    "        self.output = self.param('output', initialise_dense, a, (a.width, self.classes), (self.classes,))\n\n"
                    '    def __call__(self, outputs: Outputs, positions: Any, word: Any, noise: Noise | None) -> jax.Array:\n'
                    '        """Float32 [B, T, classes]."""\n'
                    '        return dense(self.output, outputs.hidden).astype(jnp.float32)\n\n\n',
                ),
                (
                    LAST_HEAD,
                    "    'widened': Head(\n"
                    '        WidenedHead,\n'
                    '        lambda sizes: sizes.teacher.width if sizes.teacher else sizes.model.width,\n'
                    '        lambda a, classes: (a.width + 1) * classes,\n'
                    '    ),\n',
                ),
            ),
            'research/objectives/losses.py': (
                (LAST_OPTION, '    projected: Match = Match()\n'),
                (
                    'def mse(',
                    'def projected(x: Match, student: View, teacher: View | None, batch: Batch) -> jax.Array:\n'
                    '    """The squared distance of the projected states from the teacher\'s, a position [B, T]."""\n'
                    "    return jnp.square(student.logits('widened') - _of(teacher).hidden(x.at)).mean(-1)\n\n\n",
                ),
                (
                    LAST_LOSS,
                    "    'projected': Loss(\n"
                    "        projected, lambda x: 'attended', lambda x: ('widened',), _matched, True, ('attended',),\n"
                    '        teacher_heads=lambda x: (),\n'
                    '    ),\n',
                ),
            ),
        },
        {'losses.projected.weight': 1.0, 'teacher': 'TEACHER', 'model.width': 16, 'model.inner': 32},
        'train/projected',
    ),
    'task': Journey(
        {
            'research/data/tasks/parity.py': (
                (
                    '',
                    '"""Does a number of words end in an even one?"""\n\n'
                    'from research.data.settings import Data\n'
                    'from research.data.tasks.example import Example, Task\n\n\n'
                    'def splits(data: Data, cache: str) -> dict[str, list[Example]]:\n'
                    '    """A few made sentences."""\n'
                    "    made = [Example(f'the number {n}', label=('even', 'odd')[n % 2]) for n in range(100)]\n"
                    "    return {'train': made[:80], 'dev': made[80:]}\n\n\n"
                    "PARITY = Task('label', labels=lambda data: ('even', 'odd'), splits=splits)\n",
                ),
            ),
            'research/data/tasks/__init__.py': (
                ('from research.data.tasks.example import', 'from research.data.tasks import parity\n'),
                ("    'custom': ", "    'parity': parity.PARITY,\n"),
            ),
        },
        {
            'data.task': 'parity',
            'losses.mlm.weight': 0.0,
            'losses.nsp.weight': 0.0,
            'losses.label.weight': 1.0,
            'data.select': 'dev',
        },
        'train/label',
        'data.train=a.tsv',
        'data.train',
    ),
    'optimizer': Journey(
        {
            'research/optim.py': (
                (
                    "    'sgd': Rule(",
                    "    'lion': Rule(\n"
                    '        lambda x: optax.chain(optax.scale_by_lion(x.beta1, x.beta2), weight_decay(x)),\n'
                    "        ('beta1', 'beta2'),\n"
                    '    ),\n',
                ),
            )
        },
        {'optimizer.name': 'lion'},
        'train/mlm',
        'optimizer.epsilon=1e-3',
        "optimizer.name='lion' does not read it",
    ),
    'masking policy': Journey(
        {
            'research/data/masking.py': (
                ('    smoothing: float = 0.7', '    leave: int = 0  # policy `first`: candidates of each row that stay\n'),
                (
                    'MASKING = {\n',
                    'def first(masking: Masking, text: Text, generator: np.random.Generator) -> Flags:\n'
                    '    """The first candidates of each row."""\n'
                    '    del generator\n'
                    '    rank = np.cumsum(text.candidates, axis=1)\n'
                    '    most = text.candidates.sum(axis=1, keepdims=True)\n'
                    '    start = np.minimum(masking.leave, most - text.count[:, None])\n'
                    '    return text.candidates & (rank > start) & (rank <= start + text.count[:, None])\n\n\n',
                ),
                ("    'whole_word': Policy(", "    'first': Policy(first, options=('leave',)),\n"),
            )
        },
        {'data.masking.policy': 'first', 'data.masking.leave': 2},
        'train/mlm',
        'data.masking.policy=token',
        "data.masking.leave would change nothing: only data.masking.policy='first' reads it",
    ),
}


SMALL: dict[str, Any] = {
    'model.vocabulary': 512,
    'model.layers': 2,
    'model.width': 32,
    'model.heads': 2,
    'model.inner': 48,
    'model.embedding': 32,
    'model.positions': 32,
    'data.length': 32,
    'run.steps': 2,
    'run.batch': 8,
    'run.log_every': 1,
    'run.evaluate_every': 0,
}


def write(copy: Path, edits: Mapping[str, tuple[tuple[str, str], ...]]) -> None:
    """Makes the edits; a text that they stand before must be there exactly once."""
    for name, additions in edits.items():
        path = copy / name
        text = path.read_text() if path.exists() else ''
        for before, added in additions:
            assert not before or text.count(before) == 1, f'{name} has {text.count(before)} times {before!r}'
            text = text.replace(before, added + before) if before else added
        path.write_text(text)


TRAININGS = {
    'taught': ('loss on logits', 'loss on hidden states', 'optimizer', 'masking policy'),
    'taught, narrow': ('sharing', 'head, and the loss that reads it'),
    'of a task': ('task',),
}
# Command lines, one JSON array of them, to (status, what it said on stderr) of each.
SEVERAL = """
import contextlib, io, json, sys
import launch
found = []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = launch.main(['launch.py', *arguments])
    found.append((status, said.getvalue()))
print(json.dumps(found))
"""


def run(copy: Path, *arguments: str, given: str = '') -> subprocess.CompletedProcess[str]:
    """`python …` in the copy, on one device."""
    settings = {**os.environ, 'XLA_FLAGS': ''}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, env=settings, input=given, capture_output=True, text=True, check=False)


@pytest.fixture(scope='module')
def copy(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the rows of all journeys."""
    copy = tmp_path_factory.mktemp('journeys') / 'copy'
    for name in ('research', 'configs'):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(root / 'launch.py', copy)
    for journey in JOURNEYS.values():
        write(copy, journey.edits)
    changed = filecmp.dircmp(root / 'research', copy / 'research')
    assert touched(changed, 'research') == {file for journey in JOURNEYS.values() for file in journey.edits}
    return copy


@pytest.fixture
def ask(text: dict[str, Any], teacher: Path) -> Callable[..., list[str]]:
    """ask(workdir, names, change) -> the arguments of launch.py for a small run that uses the rows of some journeys."""

    def ask(workdir: str, names: Collection[str], *change: str) -> list[str]:
        changes = {key: value for name in names for key, value in JOURNEYS[name].changes.items()}
        small = {**SMALL, **text, 'run.evaluate_batches': 1}
        if 'data.task' in changes:
            del small['data.held_out'], small['run.evaluate_batches']  # of pretraining
        if 'teacher' in changes:
            changes['teacher'] = teacher
        flags = [f'--config.{key}={value}' for key, value in {**small, **changes}.items()]
        return ['--config=configs/bert.py:tiny', f'--workdir={workdir}', *flags, *(f'--config.{each}' for each in change)]

    return ask


@pytest.mark.slow
@pytest.mark.parametrize('kind', TRAININGS)
def test_new_rows_are_used_end_to_end_from_the_place_where_they_stand(kind: str, copy: Path, ask: Callable[..., list[str]]) -> None:
    ended = run(copy, 'launch.py', *ask(kind, TRAININGS[kind]))
    assert ended.returncode == 0, ended.stderr
    first = json.loads((copy / kind / 'metrics.jsonl').read_text().splitlines()[0])
    assert all(first[JOURNEYS[name].shown] > 0 for name in TRAININGS[kind]), first


@pytest.mark.slow
def test_what_a_new_row_makes_impossible_is_refused(copy: Path, ask: Callable[..., list[str]]) -> None:
    journeys = {name: journey for name, journey in JOURNEYS.items() if journey.refused}
    ended = run(copy, '-c', SEVERAL, given=json.dumps([ask('never', [name], each.refused) for name, each in journeys.items()]))
    assert ended.returncode == 0, ended.stderr
    for (name, journey), (status, said) in zip(journeys.items(), json.loads(ended.stdout), strict=True):
        assert status == 2 and journey.message in said, (name, said)
    assert not (copy / 'never').exists()


def test_every_journey_is_trained_with() -> None:
    assert sorted(name for names in TRAININGS.values() for name in names) == sorted(JOURNEYS)


def touched(found: 'filecmp.dircmp[str]', prefix: str) -> set[str]:
    """The files that differ, or are new on the right."""
    names = {f'{prefix}/{each}' for each in [*found.diff_files, *found.right_only] if each != '__pycache__'}
    return names.union(*(touched(inner, f'{prefix}/{name}') for name, inner in found.subdirs.items()))
