"""The tiny models of transformers in references/, and a vocabulary for them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REFERENCES = Path(__file__).parent / 'references'
PIECES = (
    '[PAD] [UNK] [CLS] [SEP] [MASK] the old new king sailor lost found a map clock ##s of . , good bad un ##un é 東 '
    'was in garden b c d e'
)


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    """model(name, **config) -> a copy of references/name with a vocabulary of 32 pieces and changed fields in config.json."""

    def copy(name: str = 'BertPretraining', **config: Any) -> Path:
        folder = tmp_path / name
        shutil.copytree(REFERENCES / name, folder)
        (folder / 'vocab.txt').write_text('\n'.join(PIECES.split()) + '\n')
        written = json.loads((folder / 'config.json').read_text()) | config
        (folder / 'config.json').write_text(json.dumps(written))
        return folder

    return copy
