"""The encoder that ships with this code: small, described, and a model of language."""

import dataclasses
from pathlib import Path

import pytest

from configs import bert
from research.data.settings import Data
from research.experiment import Run
from research.machine import Machine
from research.runs import sources
from research.runs.run import run
from research.surgery import Surgery


def test_the_shipped_encoder_is_small_described_and_of_its_recipe(tmp_path: Path) -> None:
    assert sum(path.stat().st_size for path in bert.TEACHER.iterdir()) < 12e6
    card = (bert.TEACHER / 'README.md').read_text()
    assert all(word in card for word in ('make teacher', 'Seed 0', 'license: apache-2.0', 'gain'))
    donor = sources.open_donor(str(bert.TEACHER), tmp_path / 'run', 'teacher')
    assert donor.heads == (('mlm', 4096),) and donor.tokenizer is not None
    recipe = dataclasses.replace(bert.shipped().model, pooler=False)  # a masked language model of Hugging Face has none
    fields = ('vocabulary', 'layers', 'width', 'heads', 'inner', 'embedding', 'positions', 'activation', 'norm', 'sharing')
    assert all(getattr(donor.architecture, field) == getattr(recipe, field) for field in fields)


@pytest.mark.slow
def test_the_shipped_encoder_knows_more_than_frequencies_of_docstrings_it_has_not_seen(cache: str, tmp_path: Path) -> None:
    x = dataclasses.replace(
        bert.shipped(),
        start=str(bert.TEACHER),
        surgery=Surgery(inherit=True),
        data=Data(length=128, tokenizer='start'),
        run=Run(steps=0),
        machine=Machine(cache),
    )
    result = run(x, tmp_path / 'run')
    assert result['metrics']['dev/gain'] > 2.5 and result['metrics']['dev/gain_error'] < 0.1
