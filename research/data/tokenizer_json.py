"""Reads a tokenizer.json, after everything in it that would make the library panic, hang or fill the memory is refused."""

import base64
import binascii
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from research import records
from research.data.sentencepiece import REPLACEMENT, SIZE, validate_charsmap
from research.errors import UserError
from research.records import show

PIECES = 2**20  # of a tokenizer, at most; the largest published ones have a million
ADDED = 100_000  # added tokens, at most
MARK = 16  # characters of what marks the begin or the end of a piece, at most; BERT's is ##
GROWTH = 1000  # times that a normaliser may lengthen a text, at most
WORD = 1000  # characters of a word that is cut into pieces, at most: WordPiece tries every part of it

# The names of each role's piece: BERT's first, then ALBERT's.
SPECIAL = {
    'pad': ('[PAD]', '<pad>'),
    'unknown': ('[UNK]', '<unk>'),
    'cls': ('[CLS]',),
    'sep': ('[SEP]',),
    'mask': ('[MASK]',),
}


def from_json(file: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, whose characters without a piece are the unknown one."""
    label = f"'{file}'"
    text = records.read_text(file, label, SIZE)
    rules = records.parse_json(text, label, unique=True)
    if not isinstance(rules, dict):
        raise UserError(f'{label} is not a tokenizer.json: it is not a JSON object')
    model = rules['model'] if 'model' in rules and isinstance(rules['model'], dict) else {}
    added = rules['added_tokens'] if 'added_tokens' in rules and isinstance(rules['added_tokens'], list) else []
    vocabulary = model['vocab'] if 'vocab' in model else {}
    if not isinstance(vocabulary, dict | list):
        raise UserError(f'{label} has the vocabulary {json.dumps(vocabulary)[:40]}; it must be an object or a list of pieces')
    ids = [token['id'] for token in added if isinstance(token, dict) and 'id' in token]
    ids += list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    if len(added) > ADDED or len(vocabulary) > PIECES:
        raise UserError(f'{label} has too many pieces: at most {PIECES:,}, and {ADDED:,} added ones, are supported')
    for id in ids:
        read_id(id, label)
    if isinstance(vocabulary, list) and _complete_unigram(model, label):
        text = json.dumps(rules)
    _validate_rules(rules, model, label)
    with refuse_broken(f'{label} is not a tokenizer.json'):
        tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()  # they would be used at the first text, whatever their length
    tokenizer.no_truncation()
    wrong = [token['content'] for token in added if tokenizer.token_to_id(token['content']) != token['id']]
    if wrong:
        raise UserError(f'{label} gives the added token {show(wrong[0])} an id that leaves ids before it without a piece')
    return tokenizer


def _complete_unigram(model: dict[str, Any], label: str) -> bool:
    """Names the unknown piece of a unigram model that names none, and returns whether it did.

    Without, the library cannot read a character that has no piece. Raises UserError if the unknown piece is none of the pieces.
    """
    pieces = [each[0] if isinstance(each, list) and each else None for each in model['vocab']]
    if 'unk_id' not in model or model['unk_id'] is None:
        model['unk_id'] = next((pieces.index(name) for name in SPECIAL['unknown'] if name in pieces), None)
        return True
    if type(model['unk_id']) is not int or not 0 <= model['unk_id'] < len(pieces):
        raise UserError(f'{label} has unk_id={show(model["unk_id"])}, but {len(pieces)} pieces: it is the id of one')
    return False


def _list_steps(rules: Any) -> Iterator[dict[str, Any]]:
    """Every object in the rules of a tokenizer.json, whose depth is bounded."""
    if isinstance(rules, dict):
        yield rules
    for each in rules.values() if isinstance(rules, dict) else rules if isinstance(rules, list) else ():
        yield from _list_steps(each)


def _validate_rules(rules: dict[str, Any], model: dict[str, Any], label: str) -> None:
    """Raises UserError for rules that would make the library panic, hang or fill the memory."""
    steps = list(_list_steps([rules[name] for name in ('normalizer', 'pre_tokenizer') if name in rules]))
    for step in steps:
        _validate_step(step, label)
    if sum('type' in step and step['type'] == 'ByteLevel' for step in steps) > 1:
        raise UserError(f'{label} has several ByteLevel steps, each of which doubles a text; one is supported')
    if _growth(rules['normalizer'] if 'normalizer' in rules else None) > GROWTH:
        raise UserError(f'{label} has a normaliser that lengthens a text over {GROWTH:,} times')
    if 'max_input_chars_per_word' in model and (longest := model['max_input_chars_per_word']) not in range(WORD + 1):
        raise UserError(f'{label} has max_input_chars_per_word={show(longest)}; it must be 0 to {WORD:,} (BERT: 100)')
    for name in ('continuing_subword_prefix', 'end_of_word_suffix'):
        if name in model and isinstance(model[name], str) and len(model[name]) > MARK:
            raise UserError(f'{label} has a {name} of {len(model[name]):,} characters; at most {MARK} are supported')


def _validate_step(step: dict[str, Any], label: str) -> None:
    """Raises UserError for a step that would make the library panic or fill the memory."""
    if 'precompiled_charsmap' in step:
        try:
            charsmap = base64.b64decode(step['precompiled_charsmap'], validate=True)
        except (binascii.Error, TypeError, ValueError):
            charsmap = b'broken'
        validate_charsmap(charsmap or b'empty', label)
    if 'type' in step and step['type'] == 'FixedLength' and 'length' in step and not step['length']:
        raise UserError(f'{label} splits text into parts of length 0')


def _growth(normalizer: Any) -> float:
    """How many times longer the steps of a normaliser can make a text, at most."""
    total = 1.0
    for step in _list_steps(normalizer):
        if 'prepend' in step and isinstance(step['prepend'], str):
            total *= len(step['prepend']) + 1.0
        if 'precompiled_charsmap' in step:
            total *= REPLACEMENT
        if 'pattern' in step and 'content' in step and isinstance(step['content'], str) and isinstance(step['pattern'], dict):
            pattern = step['pattern']['String'] if 'String' in step['pattern'] else ''
            longer = len(step['content']) / len(pattern) if isinstance(pattern, str) and pattern else len(step['content']) + 1.0
            total *= max(longer, 1.0)
    return total


def read_id(id: Any, where: str) -> int:
    """The id of a piece, a number or its digits."""
    if isinstance(id, str) and id.isdecimal() and len(id) < 10:
        id = int(id)
    if type(id) is not int or not 0 <= id < PIECES:
        raise UserError(f'{where} has the id {show(id)}; it must be 0 to {PIECES - 1:,}')
    return id


@contextmanager
def refuse_broken(label: str) -> Iterator[None]:
    """Turns an error of the library, or a panic of its Rust code, into a UserError that begins with `label`."""
    try:
        yield
    except BaseException as error:  # the library raises Exception itself, and panics are no Exception; all others are ours
        if type(error) is not Exception and type(error).__name__ != 'PanicException':
            raise
        raise UserError(f'{label}: {(str(error).splitlines() or [type(error).__name__])[0]}') from error
