"""What a run logs when it opens."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from research.data.tokenizers import load_tokenizer, vocabulary_of
from research.runs import opening


@pytest.mark.parametrize('lowercase', [True, False])
def test_capitals_that_are_never_used_are_logged(lowercase: bool, tiny: Callable, tmp_path: Path) -> None:
    (tmp_path / 'vocab.txt').write_text('[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nThe\n')
    tokenizer = load_tokenizer(tmp_path, lowercase)
    lines: list[str] = []
    facts = SimpleNamespace(unigram_entropy=None)
    parts: Any = SimpleNamespace(
        x=tiny('bert'),
        model=SimpleNamespace(heads=()),
        plan=SimpleNamespace(devices=1),
        feed=SimpleNamespace(tokenizer=tokenizer, pieces=vocabulary_of(tokenizer), facts=facts, examples=3),
        log=SimpleNamespace(line=lines.append),
    )
    opening.introduce(parts, ['a note'])
    assert lines[-1] == 'a note'
    assert any('1 of 7 pieces have capitals (The)' in line for line in lines) == lowercase
