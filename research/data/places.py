"""Where the cache holds what is prepared, by what it was prepared from."""

import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from research.data import mixture, sources
from research.data.settings import Data
from research.data.tokenizers import KINDS, vocabulary_of
from research.errors import UserError
from research.files import fingerprint

FORMAT = 4  # raise it when what is written below changes


def wishes(data: Data) -> list[Any]:
    """The settings, the source aside, that decide what a corpus is."""
    return [data.field, data.documents, data.cleaners, data.deduplicate, data.held_out]


def origins(data: Data) -> list[Any]:
    """What a tokenizer is trained on."""
    return [[weight, sources.origin(source, data)] for weight, source in mixture.mixture(data.source)]


def place_of(source: str, data: Data, tokenizer: Tokenizer) -> Path:
    """The folder of the corpus of one source."""
    pieces = vocabulary_of(tokenizer)
    # A tokenizer that is trained changes with the text: its name and what it is trained on belong to the settings, not its pieces.
    named = [data.tokenizer, data.lowercase, pieces.size, *origins(data)] if data.tokenizer in KINDS else [pieces.fingerprint]
    settings = fingerprint([FORMAT, sources.origin(source, data), named, *wishes(data)])
    content = fingerprint([FORMAT, sources.stamp(source, data), pieces.fingerprint, *wishes(data)])
    return place(data, 'corpus', settings, content)


def place(data: Data, kind: str, settings: str, content: str) -> Path:
    """The folder in the cache for what these settings make of this text; one that other settings made the same of will do.

    Says so when there is one of the same settings for another text, which is one that changed since; raises UserError
    instead where `data.changed` is to refuse.
    """
    folder = Path(data.cache) / f'{kind}-{settings[:8]}-{content}'
    same = sorted(folder.parent.glob(f'{kind}-*-{content}'))
    if same and folder not in same:  # a student's corpus, cut by the tokenizer that its teacher trained
        return same[0]
    others = sorted(each for each in folder.parent.glob(f'{kind}-{settings[:8]}-*') if each != folder)
    if others and not folder.is_dir():
        found = (
            f"the text of data.source='{data.source}' has changed since '{others[-1]}' was prepared "
            '(by the names, sizes and times of files, or the versions of packages)'
        )
        if data.changed == 'refuse':
            raise UserError(f'{found}, and data.changed=refuse; bring the text back, or give --config.data.changed=prepare')
        print(f'{found}; preparing it anew', file=sys.stderr, flush=True)
    return folder
