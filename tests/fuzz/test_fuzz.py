"""Parsers and files from strangers: what was found stays mended, and a minute of search finds nothing new."""

import os
import random
from pathlib import Path

import pytest

from tests.fuzz.__main__ import FOUND, fuzz_apart, recall
from tests.fuzz.targets import CASES, TARGETS, attempt, is_clear

SECONDS = float(os.environ.get('FUZZ_SECONDS', '60'))  # .ci/run asks for less
KEPT = sorted(FOUND.glob('*/*.json'))


def test_every_case_tries_a_parser() -> None:
    assert sorted(CASES) == sorted(name for names in TARGETS.values() for name in names)


@pytest.mark.parametrize('name', CASES)
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    problem = attempt(name, tmp_path, CASES[name].files())
    assert not problem, problem


@pytest.mark.parametrize('path', KEPT, ids=lambda path: f'{path.parent.name}-{path.stem}')
def test_what_was_found_stays_mended(path: Path, tmp_path: Path) -> None:
    problem = attempt(path.parent.name, tmp_path, recall(path))
    assert is_clear(problem), problem


@pytest.mark.slow
@pytest.mark.parametrize('name', TARGETS)
def test_a_minute_finds_nothing(name: str) -> None:
    problem = fuzz_apart(name, SECONDS, random.SystemRandom().randrange(10**9))
    assert not problem, problem
