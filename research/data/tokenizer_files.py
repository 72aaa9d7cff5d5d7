"""Reads a tokenizer as transformers does: a tokenizer.json, vocab.txt or spiece.model, with the rules in the files beside it."""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from research import records
from research.data.added_tokens import FLAGS
from research.data.sentencepiece import CONTROL, SIZE, USER_DEFINED, read_sentencepiece
from research.data.tokenizer_json import ADDED, PIECES, SPECIAL, from_json, read_id, refuse_broken
from research.errors import UserError
from research.records import show

FILES = ('tokenizer.json', 'vocab.txt', 'spiece.model')
# Key of tokenizer_config.json -> attribute of a BertNormalizer.
BERT_RULES = {'do_lower_case': 'lowercase', 'strip_accents': 'strip_accents', 'tokenize_chinese_chars': 'handle_chinese_chars'}
# The classes of transformers, without 'Tokenizer' or 'TokenizerFast', whose rules are BERT's or ALBERT's.
CLASSES = ('Bert', 'DistilBert', 'Albert', 'Electra', 'MobileBert', 'SqueezeBert', 'ConvBert', 'RetriBert', 'Lxmert', 'LayoutLM')
# And those whose rules are all in a tokenizer.json, if there is one.
WHOLE = ('PreTrained', 'DebertaV2', 'BigBird', 'FNet', 'RemBert', 'Splinter')
# Keys of tokenizer_config.json that choose another way to cut -> the only supported value.
ONLY = {'word_tokenizer_type': 'basic', 'subword_tokenizer_type': 'wordpiece'}


def find_tokenizer(path: Path) -> Path | None:
    """The file of a tokenizer: `path`, or one of FILES in this folder or in its `tokenizer/`, as in a run folder."""
    if path.is_file():
        return path
    return next((file for place in (path, path / 'tokenizer') for name in FILES if (file := place / name).is_file()), None)


def read_tokenizer(path: Path, lowercase: bool = True) -> Tokenizer | None:
    """The tokenizer of a file or a folder, with the same rules as in transformers; None if there is none.

    lowercase: for a vocab.txt whose folder has no `do_lower_case` in a tokenizer_config.json.
    Raises UserError if a file cannot be read, the rules are not supported, or the vocabulary lacks a role's piece.
    """
    file = find_tokenizer(path)
    if file is None:
        return None
    rules = read_rules(file.parent)
    refuse_other_kinds(file, rules)
    with refuse_broken(f"'{file}' makes no tokenizer"):
        if file.suffix == '.json':
            tokenizer = from_json(file)
        elif file.suffix == '.model':
            tokenizer = from_sentencepiece(file, rules)
        else:
            tokenizer = as_bert(from_vocabulary(file), lowercase)
        if isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
            for given, name in BERT_RULES.items():
                if given in rules:
                    setattr(tokenizer.normalizer, name, rules[given])
        add_tokens(tokenizer, list_added(file.parent, rules), file)
        missing = [names for names in SPECIAL.values() if all(tokenizer.token_to_id(name) is None for name in names)]
        if missing:
            raise UserError(f"the vocabulary '{file}' lacks {', '.join(' or '.join(names) for names in missing)}")
        tokenizer.encode('A text, with 東 é \U0001f600', add_special_tokens=False)  # what cannot be read is found here
    return tokenizer


# ---- The files beside the vocabulary --------------------------------------------------------------------------------------------


def read_beside(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of a folder; {} if there is none."""
    file = folder / name
    return records.read_object(file, f"'{file}'", SIZE) if file.is_file() else {}


def read_rules(folder: Path) -> dict[str, Any]:
    """The tokenizer_config.json of a folder; {} if there is none. Raises UserError for values of the wrong type."""
    rules = read_beside(folder, 'tokenizer_config.json')
    for name in (*BERT_RULES, 'keep_accents'):
        if name in rules and not isinstance(rules[name], bool) and (name, rules[name]) != ('strip_accents', None):
            raise UserError(f"'{folder / 'tokenizer_config.json'}' has {name}={show(rules[name])}; it must be true or false")
    return rules


def refuse_other_kinds(file: Path, rules: dict[str, Any]) -> None:
    """Raises UserError if tokenizer_config.json or config.json names a tokenizer that cuts by other rules than the file holds."""
    supported = f'(supported: those of {", ".join(CLASSES)}, and any that is saved as a tokenizer.json)'
    configs = {'tokenizer_config.json': rules, 'config.json': read_beside(file.parent, 'config.json')}
    for name, given in configs.items():
        for key, only in ONLY.items():
            if key in given and given[key] not in (only, None):
                raise UserError(
                    f"'{file.parent / name}' has {key}={show(given[key])}, a tokenizer that is not supported {supported}; "
                    'choose another with --config.data.tokenizer, or split your texts into words by it yourself and give a copy of '
                    f'the folder without {key} and tokenizer_class'
                )
    for name, given in configs.items():
        kind = given['tokenizer_class'] if 'tokenizer_class' in given else None
        if kind is None:
            continue
        stem = kind.removesuffix('Fast').removesuffix('Tokenizer') if isinstance(kind, str) else ''
        complete = file.suffix == '.json' and (stem in WHOLE or kind == 'TokenizersBackend' or str(kind).endswith('Fast'))
        if stem not in CLASSES and not complete:
            raise UserError(
                f"'{file.parent / name}' has tokenizer_class={show(kind)}, a tokenizer that is not supported {supported}; "
                'save it as a tokenizer.json, or choose another with --config.data.tokenizer'
            )
        return  # as in transformers, the class in config.json counts only if tokenizer_config.json names none


def list_added(folder: Path, rules: dict[str, Any]) -> list[tuple[int | None, AddedToken]]:
    """(id, token) of each token that the files of a folder add to its vocabulary, by increasing id; id: None for the next free one.

    They are in tokenizer_config.json (`added_tokens_decoder`), in added_tokens.json, and in either config as special tokens
    without an id. Raises UserError for entries of any other form.
    """
    found: list[tuple[int | None, AddedToken]] = []
    special: list[AddedToken] = []
    configs = {'tokenizer_config.json': rules, 'special_tokens_map.json': read_beside(folder, 'special_tokens_map.json')}
    for name, given in configs.items():
        for key in ('additional_special_tokens', 'extra_special_tokens'):
            listed = given[key] if key in given else None
            listed = list(listed.values()) if isinstance(listed, dict) else listed or []
            if not isinstance(listed, list):
                raise UserError(f"'{folder / name}' has {key}={show(listed)}; it must be a list of tokens")
            special += [read_token(each, True, f"'{folder / name}' {key}") for each in listed]
    decoder = rules['added_tokens_decoder'] if 'added_tokens_decoder' in rules else {}
    where = f"'{folder / 'tokenizer_config.json'}' added_tokens_decoder"
    if not isinstance(decoder, dict):
        raise UserError(f'{where} must be an object of ids and tokens')
    found += [(read_id(id, where), read_token(token, False, where)) for id, token in decoder.items()]
    where = f"'{folder / 'added_tokens.json'}'"
    names = {token.content for token in special}
    for name, id in read_beside(folder, 'added_tokens.json').items():
        found.append((read_id(id, where), read_token(name, name in names, where)))
    found.sort(key=lambda each: each[0] or 0)
    return found + [(None, token) for token in special]


def read_token(token: Any, special: bool, where: str) -> AddedToken:
    """An added token: its text, or an object with its text and its FLAGS; special: that flag, if it is not given."""
    given = {'content': token} if isinstance(token, str) else token
    if not isinstance(given, dict) or 'content' not in given or not isinstance(given['content'], str) or not given['content']:
        raise UserError(f'{where} has the token {show(token)}; it must be a text, or an object with "content"')
    chosen = {flag: given[flag] for flag in FLAGS if flag in given}
    if not all(isinstance(value, bool) for value in chosen.values()):
        raise UserError(f'{where} has the token {show(token)}, whose {", ".join(chosen)} must be true or false')
    return AddedToken(given['content'], **{'special': special, 'normalized': not special, **chosen})


def add_tokens(tokenizer: Tokenizer, added: list[tuple[int | None, AddedToken]], file: Path) -> None:
    """Adds those tokens that are not added yet. Raises UserError if one would get another id than the file gives it."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    new: dict[str, tuple[int | None, AddedToken]] = {}
    for id, token in added:
        if token.content not in known:
            new.setdefault(token.content, (id, token))
    if len(new) > ADDED:
        raise UserError(f"'{file.parent}' adds {len(new):,} tokens to its vocabulary; at most {ADDED:,} are supported")
    tokenizer.add_tokens([token for _, token in new.values()])
    for name, (id, _) in new.items():
        if id is not None and tokenizer.token_to_id(name) != id:
            raise UserError(
                f"'{file.parent}' gives the added token {show(name)} the id {id}, but '{file.name}' leads to "
                f'{tokenizer.token_to_id(name)}: the two do not belong together'
            )


# ---- vocab.txt and spiece.model -------------------------------------------------------------------------------------------------


def as_bert(model: Any, lowercase: bool) -> Tokenizer:
    """A tokenizer that normalises and splits text as BERT does, around a WordPiece model."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def from_vocabulary(file: Path) -> models.WordPiece:
    """The WordPiece model of a vocab.txt: one piece a line; its id is the number of lines before it."""
    text = records.read_text(file, f"the vocabulary '{file}'", SIZE).replace('\r\n', '\n').replace('\r', '\n')
    if text.count('\n') > PIECES:
        raise UserError(f"the vocabulary '{file}' has more than {PIECES:,} lines")
    ids: dict[str, int] = {}
    for id, piece in enumerate(text.rstrip('\n').split('\n')):
        if piece in ids:
            raise UserError(f"the vocabulary '{file}' names the piece '{piece}' twice, in lines {ids[piece] + 1} and {id + 1}")
        ids[piece] = id
    return models.WordPiece(ids, unk_token=next((name for name in SPECIAL['unknown'] if name in ids), '[UNK]'))


def from_sentencepiece(file: Path, rules: dict[str, Any]) -> Tokenizer:
    """The tokenizer for the unigram model of a spiece.model, with the rules of transformers' AlbertTokenizer."""
    found = read_sentencepiece(file)
    model = models.Unigram([(piece, score) for piece, score, _ in found.pieces], unk_id=found.unknown, byte_fallback=False)
    tokenizer = Tokenizer(model)
    steps: list[Any] = [normalizers.Replace('``', '"'), normalizers.Replace("''", '"')]
    if not ('keep_accents' in rules and rules['keep_accents']):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if not ('do_lower_case' in rules and not rules['do_lower_case']):
        steps.append(normalizers.Lowercase())
    if found.charsmap:
        steps.append(normalizers.Precompiled(found.charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    # As in transformers, control and user-defined pieces become added tokens.
    added = [(piece, kind == CONTROL) for piece, _, kind in found.pieces if kind in (CONTROL, USER_DEFINED)]
    if len(added) > ADDED:
        raise UserError(f"'{file}' has {len(added):,} control and user-defined pieces; at most {ADDED:,} are supported")
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=special) for piece, special in added])
    return tokenizer
