"""Small real texts, and one cache for the whole session, so that the embedded corpus is extracted once."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.data import docstrings
from research.data.feed import Feed, load
from research.data.pretraining import Batch
from research.data.settings import Data
from research.machine import Machine
from tests.conftest import ENDS, OBJECTS, SUBJECTS, VERBS


def original(batch: Batch) -> np.ndarray:
    """The ids before masking."""
    ids = batch['ids'].copy()
    rows, slots = np.nonzero(batch['masked_weights'])
    ids[rows, batch['masked_positions'][rows, slots]] = batch['masked_labels'][rows, slots]
    return ids


@pytest.fixture(scope='session')
def cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """A cache folder that the tests of a session share, with the embedded corpus of an earlier session if nothing changed it.

    Extracting that corpus takes twenty seconds or more; its folder is named after the rules and the packages' versions.
    """
    assert request.config.cache is not None
    kept = request.config.cache.mkdir('docstrings')
    list(docstrings.passages(kept))
    folder = tmp_path_factory.mktemp('cache')
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    return str(folder)


@pytest.fixture(scope='session')
def feed(cache: str) -> Callable[..., Feed]:
    """feed(data, …) -> the Feed of small batches; `machine` may change how they are made."""

    def feed(data: Data, batch: int = 8, seed: int = 1, vocabulary: int = 200, machine: Any = None, **length: Any) -> Feed:
        return load(data, machine or Machine(cache), batch=batch, seed=seed, vocabulary=vocabulary, **length)

    return feed


@pytest.fixture(scope='session')
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty documents of plain sentences, separated by blank lines; some are a single word."""
    draw = random.Random(0)
    documents = []
    for number in range(40):
        size = 1 if number % 10 == 0 else draw.randint(3, 30)
        lines = [' '.join(draw.choice(part) for part in (SUBJECTS, VERBS, OBJECTS, ENDS)) + '.' for _ in range(size)]
        documents.append('\n'.join(lines) if number % 10 else f'Chapter{number}')
    path = tmp_path_factory.mktemp('text') / 'stories.txt'
    path.write_text('\n\n'.join(documents) + '\n', encoding='utf-8')
    return path


@pytest.fixture(scope='session')
def story_data(stories: Path) -> Data:
    """Settings that pretrain on the stories with short sequences."""
    return Data(source=f'text:{stories}', length=32, held_out=0.2)
