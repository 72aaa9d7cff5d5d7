"""Tokenizers, trained or loaded, and facts about their pieces.

Three kinds of pieces are more than letters. The five roles ([PAD], [UNK], [CLS], [SEP] and [MASK]; <pad> and <unk> in ALBERT's)
are themselves only where this code puts them. Typed in a text they are letters or unknown, in training, evaluation and
prediction; except the mask, which in the text of a prediction is the mask (`with_mask`), since prompts need it. Every other added
token, such as [E1] or <user>, is itself wherever it is typed. All other pieces are parts of words.
"""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from research.data.added_tokens import describe_rules, list_markers, with_flags
from research.data.tokenizer_files import FILES, as_bert, read_tokenizer
from research.data.tokenizer_json import SPECIAL, refuse_broken
from research.errors import UserError, choose, nearest
from research.escape import clean
from research.files import write_whole
from research.records import write_record

# The settings of ALBERT's SentencePiece model, from its README.
SYMBOLS = '()"-.–£€'
COVERAGE = 0.99995
RANK_STEP = 1e-4  # between the scores that the unigram trainer gives characters it has no score for


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer's V pieces, and which of them are special."""

    size: int  # V: one more than the largest id
    pad: int
    unknown: int
    cls: int
    sep: int
    mask: int
    word_start: NDArray[np.bool_]  # [V]: the piece begins a word (a special piece or a punctuation mark does)
    special: NDArray[np.bool_]  # [V]: the piece is one of the five special ones, or its id is unused
    fingerprint: str  # of the pieces and of the rules that cut text into them


def train_tokenizer(kind: str, texts: Iterable[str], size: int, lowercase: bool) -> Tokenizer:
    """A tokenizer of at most `size` pieces, learned from texts; the same texts give the same one.

    kind: row of KINDS. Raises UserError if `size` is too small or the texts are empty.
    """
    choose('tokenizer to train', kind, KINDS)
    if size < 64:
        raise UserError(f'a vocabulary of {size} pieces is too small to train a tokenizer: give 64 or more')
    texts = list(texts)
    if not any(texts):
        raise UserError('there is no text to train a tokenizer on')
    return finish_tokenizer(KINDS[kind](texts, size, lowercase))


def wordpiece(texts: list[str], size: int, lowercase: bool) -> Tokenizer:
    """BERT's tokenizer: words and punctuation marks, cut into pieces; all but a word's first begin with '##'.

    Where there are more than `size` / 8 characters, the rarest, 1 - COVERAGE of the text, are unknown, and characters
    never get more than half of the pieces. The trainer numbers the '##' forms of characters in the order of a hash map,
    which decides between equally frequent merges; named beforehand, as special pieces, they make it repeatable.
    """
    tokenizer = as_bert(models.WordPiece({}, unk_token='[UNK]'), lowercase)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenizer.normalizer.normalize_str(text))
    alphabet = sorted(sorted(filter(str.strip, counts)), key=lambda character: -counts[character])
    sums = np.cumsum([0, *(counts[character] for character in alphabet)])
    needed = int(np.searchsorted(sums, COVERAGE * sums[-1]))
    # Each character takes two pieces, one of them with '##'.
    alphabet = alphabet[: max(size // 8, min(needed, (size - len(SPECIAL)) // 4))]
    special = [names[0] for names in SPECIAL.values()]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=special + [f'##{character}' for character in alphabet],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    trained = as_bert(models.WordPiece(tokenizer.get_vocab(), unk_token='[UNK]'), lowercase)
    trained.add_special_tokens([AddedToken(name, special=True) for name in special])
    return trained


def unigram(texts: list[str], size: int, lowercase: bool) -> Tokenizer:
    """ALBERT's tokenizer: a unigram language model of pieces, a word's first marked '▁' (Kudo 2018).

    As in ALBERT's, SYMBOLS are pieces that no other piece contains, and the rarest characters, 1 - COVERAGE of the text,
    have no piece. The trainer adds numbers in the order of a hash map and ranks the rarest characters by it. To make
    training repeatable, scores are rounded, those characters ranked by code point, and pieces numbered by score.
    """
    tokenizer = as_albert(models.Unigram(), lowercase)
    normal = [tokenizer.normalizer.normalize_str(text) for text in texts]
    rare = rare_characters(normal)
    tokenizer.normalizer = normalizers.Sequence([])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex(f'[{re.escape(SYMBOLS)}]'), 'isolated')]
    )
    special = [names[-1] for names in SPECIAL.values()]
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special, unk_token='<unk>', initial_alphabet=list(SYMBOLS), show_progress=False
    )
    try:
        tokenizer.train_from_iterator((rare.sub(' ', text) for text in normal) if rare else normal, trainer)
    except Exception as error:  # the library raises nothing narrower
        if 'not large enough' not in str(error):
            raise
        raise UserError(
            f'a vocabulary of {size} pieces cannot hold all characters of the text (except the rarest, {1 - COVERAGE:.2%} of it); '
            'give a larger --config.model.vocabulary'
        ) from error
    scores = {piece: score for piece, score in describe_rules(tokenizer)['model']['vocab'] if piece not in special}
    rarest = ranked_characters(scores)
    scores |= zip(rarest, sorted((scores[piece] for piece in rarest), reverse=True), strict=True)
    scores |= dict.fromkeys(SYMBOLS, 0.0)  # the best score, which SentencePiece gives to pieces that a user defines
    ranked = sorted(((piece, round(score, 6)) for piece, score in scores.items()), key=lambda item: (-item[1], item[0]))
    trained = as_albert(models.Unigram([(name, 0.0) for name in special] + ranked, unk_id=special.index('<unk>')), lowercase)
    trained.add_special_tokens([AddedToken(name, special=True) for name in special])
    return trained


def ranked_characters(scores: dict[str, float]) -> list[str]:
    """The characters, by code point, whose scores are ranks: whole numbers of RANK_STEP above the lowest score."""
    least = min(scores.values())
    found = []
    for piece, score in scores.items():
        steps = (score - least) / RANK_STEP
        if len(piece) == 1 and abs(steps - round(steps)) < 5e-4:
            found.append(piece)
    return sorted(found)


def rare_characters(texts: list[str]) -> re.Pattern[str] | None:
    """A pattern of the rarest characters of texts, those beyond COVERAGE of their length; None if there are none."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    room = (1 - COVERAGE) * counts.total()
    rare = []
    for character in sorted(counts, key=lambda character: (counts[character], character)):
        room -= counts[character]
        if room < 0:
            break
        rare.append(character)
    return re.compile(f'[{re.escape("".join(rare))}]') if rare else None


KINDS = {'wordpiece': wordpiece, 'unigram': unigram}


def finish_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with [CLS] A [SEP] B [SEP] as its template, without padding or cutting; '[SEP]' in a text is plain text.

    Added special tokens that are no role's are marked as ordinary added tokens, which the library finds in a text, and the template
    keeps their names (`list_markers`).
    """
    pieces, markers = vocabulary_of(tokenizer), list_markers(describe_rules(tokenizer))
    if markers:
        tokenizer = with_flags(tokenizer, {name: {'special': False} for name in markers})
    cls, sep = (tokenizer.id_to_token(id) for id in (pieces.cls, pieces.sep))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f'{cls} $A {sep}',
        pair=f'{cls} $A {sep} $B:1 {sep}:1',
        special_tokens=[(cls, pieces.cls), (sep, pieces.sep), *((name, tokenizer.token_to_id(name)) for name in markers)],
    )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


def with_mask(tokenizer: Tokenizer, pieces: Vocabulary) -> tuple[Tokenizer, Vocabulary]:
    """(a copy of a tokenizer that reads the mask piece in a text as itself, its Vocabulary), for predictions."""
    name = str(tokenizer.id_to_token(pieces.mask))
    special = pieces.special.copy()
    special[pieces.mask] = False
    # White space before the mask belongs to it, as in ALBERT's tokenizer; BERT's ignores white space.
    return with_flags(tokenizer, {name: {'special': False, 'lstrip': True}}), dataclasses.replace(pieces, special=special)


def as_albert(model: Any, lowercase: bool) -> Tokenizer:
    """A tokenizer that normalises and splits text as ALBERT does, around a Unigram model."""
    tokenizer = Tokenizer(model)
    quotes = [normalizers.Replace('``', '"'), normalizers.Replace("''", '"')]
    case = [normalizers.NFKD(), normalizers.StripAccents()] + ([normalizers.Lowercase()] if lowercase else [])
    tokenizer.normalizer = normalizers.Sequence([*quotes, *case, normalizers.Replace(Regex(r'\s+'), ' ')])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def load_tokenizer(path: str | Path, lowercase: bool = True) -> Tokenizer:
    """The tokenizer in a file or a folder as `read_tokenizer` finds it, ready to cut texts.

    lowercase: for a vocab.txt only, if no tokenizer_config.json beside it decides.
    Raises UserError if there is none, it cannot be read, or it lacks a special piece.
    """
    path = Path(path).expanduser()
    tokenizer = read_tokenizer(path, lowercase)
    if tokenizer is None:
        reason = f'holds no {", ".join(FILES[:-1])} or {FILES[-1]}' if path.is_dir() else 'does not exist'
        raise UserError(
            f"data.tokenizer='{path}' {reason}{nearest(str(path), KINDS)} (give {', '.join(KINDS)} to train one, "
            f'or a {", a ".join(FILES)}, or a folder with one of them)'
        )
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True) for names in SPECIAL.values() for name in names if tokenizer.token_to_id(name) is not None]
    )
    with refuse_broken(f"'{path}' makes no tokenizer"):
        return finish_tokenizer(tokenizer)


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Writes tokenizer.json, and beside it facts.json with the size, the special ids and the fingerprint."""
    folder = Path(folder)
    write_whole(folder / 'tokenizer.json', tokenizer.to_str(pretty=True).encode())
    pieces = vocabulary_of(tokenizer)
    write_record(folder / 'facts.json', {name: getattr(pieces, name) for name in ('size', *SPECIAL, 'fingerprint')})


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """The Vocabulary of a tokenizer that has the five special pieces."""
    ids = tokenizer.get_vocab(with_added_tokens=True)
    size = max(ids.values()) + 1
    five = {role: next(ids[name] for name in names if name in ids) for role, names in SPECIAL.items()}
    special = np.ones(size, bool)
    special[list(ids.values())] = False
    special[list(five.values())] = True
    starts = np.ones(size, bool)
    rules = describe_rules(tokenizer)
    markers = list_markers(rules)
    starts[list(ids.values())] = word_starts(list(ids), rules['model']['type'] == 'WordPiece')
    starts[special] = True
    starts[[ids[name] for name in markers]] = True
    content = [ids, rules['normalizer'], rules['pre_tokenizer'], rules['model'], *([markers] if markers else [])]
    return Vocabulary(
        size=size,
        **five,
        word_start=starts,
        special=special,
        fingerprint=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16],
    )


def describe_unreachable(tokenizer: Tokenizer, pieces: Vocabulary) -> str:
    """A line on the pieces with capitals that no text can be cut into, since it is lower-cased first; '' if there are none."""
    if tokenizer.normalizer is None:
        return ''
    lost = []
    for piece, id in tokenizer.get_vocab(with_added_tokens=False).items():
        text = piece.removeprefix('##').lstrip('▁')
        if not pieces.special[id] and text.lower() != text:
            normal = tokenizer.normalizer.normalize_str(text)
            if normal.lower() == normal:
                lost.append(piece)
    if not lost:
        return ''
    shown = ', '.join(clean(piece, 40) for piece in sorted(lost)[:3])
    return (
        f'{len(lost):,} of {pieces.size:,} pieces have capitals ({shown}) and are never used, since the text is lower-cased: for a '
        'cased vocabulary give --config.data.lowercase=false, or {"do_lower_case": false} in its tokenizer_config.json'
    )


def word_starts(pieces: list[str], wordpiece: bool) -> list[bool]:
    """Whether each piece begins a word, by the marks of its kind of tokenizer.

    '##' marks a piece that continues a word (WordPiece); '▁' or 'Ġ' one that begins a word (SentencePiece, byte-level BPE),
    where a punctuation mark is a word of its own (as in ALBERT's n-gram masking). Without any mark every piece is a word.
    """
    if wordpiece:
        return [not piece.startswith('##') for piece in pieces]
    marks = tuple(mark for mark in '▁Ġ' if any(piece.startswith(mark) for piece in pieces))
    return [not marks or piece.startswith(marks) or not any(map(str.isalnum, piece)) for piece in pieces]


def encode(tokenizer: Tokenizer, pieces: Vocabulary, texts: list[str]) -> list[NDArray[np.int32]]:
    """The ids of each text, without special pieces: '<pad>' or '[SEP]' in a text is unknown."""
    cut = [np.array(encoding.ids, np.int32) for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    return [np.where(pieces.special[ids], np.int32(pieces.unknown), ids) for ids in cut]
