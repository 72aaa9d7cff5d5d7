"""Reads the tokenizer of a Hugging Face folder (tokenizer.json, vocab.txt or spiece.model) and writes one (tokenizer.json)."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from research.data.tokenizers import SPECIAL, from_json, from_vocabulary, vocabulary_of
from research.errors import UserError

FILES = ('tokenizer.json', 'vocab.txt', 'spiece.model')
# Key of tokenizer_config.json -> attribute of a BertNormalizer.
BERT_RULES = {'do_lower_case': 'lowercase', 'strip_accents': 'strip_accents', 'tokenize_chinese_chars': 'handle_chinese_chars'}


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a Hugging Face folder, with the same rules as in transformers; None if there is none.

    Raises UserError if a file cannot be read, or the vocabulary lacks a special piece.
    """
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        return None
    tokenizer = build_tokenizer(folder, file)
    missing = [names for names in SPECIAL.values() if all(tokenizer.token_to_id(name) is None for name in names)]
    if missing:
        raise UserError(f"the vocabulary '{file}' lacks {', '.join(' or '.join(names) for names in missing)}")
    return tokenizer


def build_tokenizer(folder: Path, file: Path) -> Tokenizer:
    """The tokenizer of `file`, one of FILES, with the rules of the folder's tokenizer_config.json."""
    rules = read_rules(folder)
    if file.name == 'spiece.model':
        return from_sentencepiece(file, rules)
    if file.name == 'vocab.txt':
        if (folder / 'added_tokens.json').is_file():
            raise UserError(
                f"'{folder}' has added_tokens.json beside vocab.txt, which is not supported; save its tokenizer as tokenizer.json"
            )
        tokenizer = Tokenizer(from_vocabulary(file))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    else:
        tokenizer = from_json(file)
    if isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        for given, name in BERT_RULES.items():
            if given in rules:
                setattr(tokenizer.normalizer, name, rules[given])
    return tokenizer


def read_rules(folder: Path) -> dict[str, Any]:
    """The tokenizer_config.json of a folder; {} if there is none."""
    file = folder / 'tokenizer_config.json'
    try:
        rules = json.loads(file.read_text('utf-8')) if file.is_file() else {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"'{file}' is not JSON ({error})") from None
    if not isinstance(rules, dict):
        raise UserError(f"'{file}' holds no JSON object")
    for name in (*BERT_RULES, 'keep_accents'):
        if name in rules and not isinstance(rules[name], bool) and (name, rules[name]) != ('strip_accents', None):
            raise UserError(f"'{file}' has {name}={json.dumps(rules[name])}; it must be true or false")
    return rules


# ---- SentencePiece ------------------------------------------------------------------------------------------------------------


def from_sentencepiece(file: Path, rules: dict[str, Any]) -> Tokenizer:
    """The tokenizer for the unigram model of a spiece.model, with the rules of transformers' AlbertTokenizer."""
    pieces, kind, unknown, charsmap = read_sentencepiece(file)
    if kind != 1:
        raise UserError(f"'{file}' is no unigram model; ALBERT's tokenizer needs one")
    tokenizer = Tokenizer(models.Unigram([(piece, score) for piece, score, _ in pieces], unk_id=unknown, byte_fallback=False))
    steps: list[Any] = [normalizers.Replace('``', '"'), normalizers.Replace("''", '"')]
    if not ('keep_accents' in rules and rules['keep_accents']):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if not ('do_lower_case' in rules and not rules['do_lower_case']):
        steps.append(normalizers.Lowercase())
    if charsmap:
        steps.append(normalizers.Precompiled(charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    # Kinds of pieces: 3 control, 4 user-defined. As in transformers, both become added tokens.
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=kind == 3) for piece, _, kind in pieces if kind in (3, 4)])
    return tokenizer


def read_sentencepiece(file: Path) -> tuple[list[tuple[str, float, int]], int, int, bytes]:
    """(pieces as (piece, score, kind), kind of the model, id of the unknown piece, map of characters) of a spiece.model.

    The field numbers are those of sentencepiece_model.proto: 1 pieces, 2 trainer_spec and 3 normalizer_spec of ModelProto.
    """
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Any] = {3: 1, 40: 0}
    charsmap = b''
    try:
        for number, value in parse_fields(file.read_bytes()):
            if number == 1:
                piece = dict(parse_fields(value))
                score = struct.unpack('<f', piece[2])[0] if 2 in piece else 0.0
                pieces.append((piece[1].decode('utf-8'), score, piece[3] if 3 in piece else 1))
            elif number == 2:
                trainer |= dict(parse_fields(value))
            elif number == 3:
                normalizer = dict(parse_fields(value))
                charsmap = normalizer[2] if 2 in normalizer else b''
    except (IndexError, struct.error, KeyError, UnicodeDecodeError, ValueError, TypeError, AttributeError):
        raise UserError(f"'{file}' is truncated or no SentencePiece model") from None
    if not pieces:
        raise UserError(f"'{file}' is no SentencePiece model: it has no pieces")
    return pieces, trainer[3], trainer[40], charsmap


def parse_fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a protocol buffer; the value is an int, or bytes if fixed-size or length-delimited."""

    def read_varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    at = 0
    while at < len(message):
        key = read_varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, read_varint()
            continue
        size = read_varint() if kind == 2 else {1: 8, 5: 4}[kind]
        if at + size > len(message):
            raise IndexError(at)
        yield key >> 3, message[at : at + size]
        at += size


# ---- Writing ------------------------------------------------------------------------------------------------------------------


def write_tokenizer(tokenizer: Tokenizer, folder: Path, positions: int, types: bool = True) -> None:
    """Writes tokenizer.json and the tokenizer_config.json with which transformers' AutoTokenizer gives the same ids.

    types: whether the model has token types.
    """
    tokenizer.save(str(folder / 'tokenizer.json'))
    roles = {'pad': 'pad_token', 'unknown': 'unk_token', 'cls': 'cls_token', 'sep': 'sep_token', 'mask': 'mask_token'}
    pieces = vocabulary_of(tokenizer)
    config: dict[str, Any] = {name: tokenizer.id_to_token(getattr(pieces, role)) for role, name in roles.items()}
    config |= {'model_max_length': positions, 'padding_side': 'right', 'clean_up_tokenization_spaces': False}
    config['model_input_names'] = ['input_ids', *(['token_type_ids'] if types else []), 'attention_mask']
    rules = json.loads(tokenizer.to_str())
    normalizer = rules['normalizer']
    if rules['model']['type'] == 'WordPiece' and normalizer is not None and normalizer['type'] == 'BertNormalizer':
        config |= {given: normalizer[name] for given, name in BERT_RULES.items()}
        config['tokenizer_class'] = 'BertTokenizer'
    else:
        config['tokenizer_class'] = 'PreTrainedTokenizerFast'
    (folder / 'tokenizer_config.json').write_text(json.dumps(config, indent=2, ensure_ascii=False) + '\n', 'utf-8')
    special = {name: config[name] for name in roles.values()}
    (folder / 'special_tokens_map.json').write_text(json.dumps(special, indent=2) + '\n', 'utf-8')
