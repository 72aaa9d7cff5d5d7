"""Tokenizers made for tests: the files of one, with some parts changed."""

import json
from pathlib import Path
from typing import Any

from tokenizers import models

from research.data.tokenizer_files import as_bert

PIECES = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'The', 'king', 'e', '##1', '[', ']', '.', 'é']
MARKERS: list[dict[str, Any]] = [{'content': name, 'special': special} for name, special in (('[E1]', True), ('<new>', False))]
FLAGS = {'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False}


def vocabulary(folder: Path, pieces: list[str] = PIECES, start: bytes = b'') -> Path:
    """A folder with a vocab.txt."""
    folder.mkdir(exist_ok=True)
    (folder / 'vocab.txt').write_bytes(start + '\n'.join(pieces).encode() + b'\n')
    return folder


def rules(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json of BERT's rules, with some parts changed."""
    ids = {piece: id for id, piece in enumerate(PIECES)}
    return json.loads(as_bert(models.WordPiece(ids, unk_token='[UNK]'), True).to_str()) | changes


def write(folder: Path, content: Any, name: str = 'tokenizer.json') -> Path:
    """A folder with one file of JSON."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def unigram(unknown: Any) -> dict[str, Any]:
    """A tokenizer.json of a unigram model."""
    pieces = [[name, 0.0] for name in ('<pad>', '<unk>', '[CLS]', '[SEP]', '[MASK]')] + [['▁', -3.1], ['▁a', -2.3], ['b', -2.7]]
    return rules(
        normalizer=None,
        pre_tokenizer={'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'always', 'split': True},
        model={'type': 'Unigram', 'unk_id': unknown, 'vocab': pieces},
    )


# Maps of characters (precompiled_charsmap) that are broken.
CHARSMAPS = (b'', b'\0\0\0\0', b'\4\0\0\0\xff\xff\xff\xff', b'\4\0\0\0\0\0\0\0\xff', b'\3\0\0\0' + bytes(9))


def charsmap(replacements: bytes) -> bytes:
    """A map of characters that is whole, and replaces none."""
    return b'\0\4\0\0' + bytes(1024) + replacements
