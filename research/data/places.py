"""Where the cache holds what is prepared, by what it depends on."""

import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from research.data import mixture, sources
from research.data.settings import Data
from research.data.tokenizers import KINDS, vocabulary_of
from research.errors import UserError
from research.files import fingerprint

FORMAT = 4  # raise it when the files in the cache's folders change


def corpus_settings(data: Data) -> list[Any]:
    """The settings, apart from the source and the tokenizer, that a corpus depends on."""
    return [data.field, data.documents, data.cleaners, data.deduplicate, data.held_out]


def origins(data: Data) -> list[Any]:
    """The names of the texts that a tokenizer is trained on, with their weights."""
    return [[weight, sources.origin(source, data)] for weight, source in mixture.mixture(data.source)]


def identity(data: Data, size: int) -> str:
    """A name for the corpora and the tokenizer of these settings: two settings with the same name have the same ones."""
    trained = [size] if data.tokenizer in KINDS else []
    return fingerprint([FORMAT, *origins(data), data.tokenizer, data.lowercase, *trained, *corpus_settings(data)])


def place_of(source: str, data: Data, cache: str, tokenizer: Tokenizer) -> Path:
    """The folder of the corpus of one source."""
    pieces = vocabulary_of(tokenizer)
    # A tokenizer that is trained changes with the text: its name and the names of its texts belong to the settings, not its pieces.
    named = [data.tokenizer, data.lowercase, pieces.size, *origins(data)] if data.tokenizer in KINDS else [pieces.fingerprint]
    settings = fingerprint([FORMAT, sources.origin(source, data), named, *corpus_settings(data)])
    content = fingerprint([FORMAT, sources.stamp(source, data), pieces.fingerprint, *corpus_settings(data)])
    return place(data, cache, 'corpus', settings, content)


def place(data: Data, cache: str, kind: str, settings: str, content: str) -> Path:
    """The folder in the cache of this content; one that other settings made of the same content will do.

    Prints a line if there is a folder of the same settings with other content, since the text has changed then; raises
    UserError instead if `data.changed` is 'refuse'.
    """
    folder = Path(cache) / f'{kind}-{settings[:8]}-{content}'
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
            raise UserError(f'{found}, and data.changed=refuse; restore the text, or give --config.data.changed=prepare')
        print(f'{found}; preparing it anew', file=sys.stderr, flush=True)
    return folder
