"""Eight simulated devices, strict jax, tiny models, and one trained teacher for the whole session."""

import os

from tests import xla

# Before jax is imported, and for the processes that tests start.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = os.environ[xla.HANDED] = xla.flags(os.environ)
# With any limit jax locks the folder of compiled programs, which the workers and their processes share.
os.environ['JAX_COMPILATION_CACHE_MAX_SIZE'] = str(2**33)
os.environ['HF_HUB_OFFLINE'] = '1'  # no test asks the network
os.environ['SUBMITIT_LOG_LEVEL'] = 'NOCONFIG'  # else its import closes absl's log, which is pytest's captured stderr

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from research import parallel
from research.experiment import Experiment
from research.models.architecture import Architecture
from research.runs import run as runs
from research.study import config_files
from research.wire import from_wire, override
from tests import reached
from tests.squeezing import squeeze

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get('RESEARCH_DATA', ROOT.parent / 'shared' / 'data'))
DEVICES = 8

reached.record()
parallel.simulate_devices(DEVICES)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_debug_key_reuse', True)
jax.config.update('jax_compilation_cache_dir', str(ROOT / '.jax_cache'))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)

SUBJECTS = ('The old sailor', 'A quiet teacher', 'My younger brother', 'The king of the hills', 'Her patient doctor')
VERBS = ('remembered', 'carried', 'painted', 'followed', 'repaired', 'forgot')
OBJECTS = ('the broken clock', 'a letter from Paris', 'seven silver coins', 'the unhappy horse', 'the map')
ENDS = ('before breakfast', 'without a word', 'in the garden', 'at the end of winter', 'because of the rain')


# ---- The law that every error text is reached by a test: see reached.py ----------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """Takes in what a worker of xdist reached."""
    reached.reached |= {tuple(each) for each in node.workeroutput.get('reached', ())} if error is None else set()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands over what it reached. All tests together fail if they pass and an error text was never made."""
    config = session.config
    if (output := vars(config).get('workeroutput')) is not None:
        output['reached'] = sorted(reached.reached)
    elif reached.is_whole(config) and SHARED.is_dir() and session.exitstatus == pytest.ExitCode.OK and reached.missed():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Lists the error texts that no test reached."""
    left = reached.missed() if reached.is_whole(config) else []
    if left:
        without = '' if SHARED.is_dir() else ' (this fails nothing: tests that read the shared data were skipped)'
        terminalreporter.section(f'errors of users that no test reaches{without}')
        for site in left:
            terminalreporter.write_line(f'{site.file}:{site.first}: {site.text}')


@pytest.fixture(scope='session')
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder of shared data: RESEARCH_DATA, or shared/data beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f'no shared data in {SHARED}; RESEARCH_DATA names another folder')
    return SHARED


@pytest.fixture(scope='session')
def text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The changes that make an experiment read a small text file instead of the embedded corpus, and a cache of its own."""
    draw = random.Random(0)
    parts = (SUBJECTS, VERBS, OBJECTS, ENDS)
    documents = [
        '\n'.join(' '.join(draw.choice(part) for part in parts) + '.' for _ in range(draw.randint(5, 15))) for _ in range(40)
    ]
    folder = tmp_path_factory.mktemp('text')
    (folder / 'stories.txt').write_text('\n\n'.join(documents) + '\n')
    return {'data.source': f'text:{folder}/stories.txt', 'machine.cache': str(folder / 'cache'), 'data.held_out': 0.2}


@pytest.fixture(scope='session')
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The changes that make an experiment read a small task of three labels, with dev and test."""
    draw = random.Random(1)
    folder = tmp_path_factory.mktemp('task')
    for split, size in (('train', 48), ('dev', 20), ('test', 12)):
        lines = ['sentence\tlabel']
        for _ in range(size):
            subject = draw.randrange(3)
            lines.append(f'{SUBJECTS[subject]} {draw.choice(VERBS)} {draw.choice(OBJECTS)}.\t{"abc"[subject]}')
        (folder / f'{split}.tsv').write_text('\n'.join(lines) + '\n')
    files = {f'data.{split}': str(folder / f'{split}.tsv') for split in ('train', 'dev', 'test')}
    return {'data.task': 'custom', **files}


@pytest.fixture(scope='session')
def tiny(root: Path, text: dict[str, Any]) -> Callable[..., Experiment]:
    """tiny(recipe, changes) -> a recipe of configs/, squeezed, on the small text, with some keys changed."""

    def tiny(recipe: str, changes: dict[str, Any] | None = None) -> Experiment:
        x = squeeze(from_wire(config_files.module(str(root / 'configs' / f'{recipe}.py')).get_config()))
        return override(x, {**text, 'machine.prefetch': 0, **(changes or {})})

    return tiny


@pytest.fixture
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the machine one of a single device, where a program compiles sooner."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, 'devices', lambda: first)


@pytest.fixture(scope='session')
def teacher(tiny: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: the squeezed BERT, which other runs start from and are taught by."""
    workdir = tmp_path_factory.mktemp('runs') / 'bert'
    runs.run(tiny('bert'), workdir)
    return workdir


@pytest.fixture(scope='session')
def small() -> Architecture:
    """A model of 2 layers and width 16 without dropout, whose weights are large enough for every part to matter."""
    return Architecture(
        vocabulary=64,
        layers=2,
        width=16,
        heads=2,
        inner=24,
        embedding=16,
        positions=16,
        dropout=0.0,
        attention_dropout=0.0,
        head_dropout=0.0,
        deviation=0.2,
        unroll=1,
    )


@pytest.fixture(scope='session')
def make_batch() -> Callable[..., dict[str, np.ndarray]]:
    """make_batch(rows, length, predictions, seed) -> a pretraining batch of 64 pieces whose rows differ much in what counts.

    It also has `pair`, `label` (of 3) and the `start` and `end` of an answer.
    """

    def make(rows: int = 16, length: int = 16, predictions: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
        draw = np.random.default_rng(seed)
        lengths = draw.integers(predictions, length + 1, rows)
        mask = (np.arange(length)[None] < lengths[:, None]).astype(np.int32)
        ids = draw.integers(5, 64, (rows, length)).astype(np.int32) * mask
        counted = (np.arange(predictions)[None] < draw.integers(0, predictions + 1, rows)[:, None]).astype(np.float32)
        return {
            'ids': ids,
            'types': (draw.integers(0, 2, (rows, length)) * mask).astype(np.int32),
            'mask': mask,
            'masked_positions': np.sort(draw.integers(0, lengths[:, None], (rows, predictions)), 1).astype(np.int32),
            'masked_labels': draw.integers(5, 64, (rows, predictions)).astype(np.int32),
            'masked_weights': counted,
            'pair': draw.integers(0, 2, rows).astype(np.int32),
            'label': draw.integers(0, 3, rows).astype(np.int32),
            'start': draw.integers(0, lengths).astype(np.int32),
            'end': draw.integers(0, lengths).astype(np.int32),
            'weight': (draw.random(rows) < 0.8).astype(np.float32),
        }

    return make
