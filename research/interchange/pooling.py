"""Reads and writes the files of sentence-transformers beside a model: pooling, normalisation and a maximum length."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from research.data.tokenizer_files import read_beside
from research.errors import UserError
from research.records import read_json, read_object, show, write_record
from research.surgery import Pooling

# Key of 1_Pooling/config.json -> row of predict.kinds.POOLINGS, in the order in which sentence-transformers joins their vectors.
MODES = {
    'pooling_mode_cls_token': 'cls',
    'pooling_mode_max_tokens': 'max',
    'pooling_mode_mean_tokens': 'mean',
    'pooling_mode_mean_sqrt_len_tokens': 'mean_sqrt_len',
    'pooling_mode_weightedmean_tokens': 'weightedmean',
    'pooling_mode_lasttoken': 'lasttoken',
}
# In a folder, beside the model.
FILES = ('modules.json', 'sentence_bert_config.json', 'config_sentence_transformers.json', '*_Pooling/config.json')
MODULES = ('Transformer', 'Pooling', 'Normalize')
PACKAGE = 'sentence_transformers.models'
MAX_LENGTH = 2**20


def read_pooling(folder: Path, width: int, tokenizer: Tokenizer | None) -> Pooling:
    """The Pooling of a folder: of its modules.json, or of its 1_Pooling/config.json; the default if it has neither.

    width: of the hidden states. What cannot be read, or is not supported, is its `fault`: it matters to embeddings alone.
    """
    try:
        return parse_pooling(folder, width, tokenizer)
    except UserError as error:
        return Pooling(fault=str(error))


def parse_pooling(folder: Path, width: int, tokenizer: Tokenizer | None) -> Pooling:
    """The Pooling of a folder. Raises UserError if a file cannot be read, or something is not supported."""
    modules = read_modules(folder)
    if modules is None:
        return Pooling()
    kinds = [kind for kind, _ in modules]
    unknown = next((kind for kind in kinds if kind not in MODULES), None)
    if unknown is not None:
        raise UserError(f'modules.json has the module {unknown}, which is not supported (only {", ".join(MODULES)})')
    if kinds not in (list(MODULES[:2]), list(MODULES)):
        raise UserError(f'modules.json has the modules {", ".join(kinds)}; only {", ".join(MODULES)}, in this order, are supported')
    settings = read_beside(folder, 'config_sentence_transformers.json')
    if 'default_prompt_name' in settings and settings['default_prompt_name'] is not None:
        raise UserError(
            'config_sentence_transformers.json has a default_prompt_name, which is not supported: set it to null, and put the '
            'prompt before each text'
        )
    settings = read_beside(folder, 'sentence_bert_config.json')
    if 'do_lower_case' in settings and settings['do_lower_case'] is True and not is_lowercase(tokenizer):
        raise UserError(
            'sentence_bert_config.json has do_lower_case=true, but the tokenizer keeps capitals: set it in tokenizer_config.json'
        )
    modes = read_modes(folder / modules[kinds.index('Pooling')][1] / 'config.json', width)
    return Pooling(modes, 'Normalize' in kinds, read_length(settings))


def is_known(pooling: Pooling) -> bool:
    """Whether the Pooling that a run recorded is valid."""
    return bool(pooling.modes) and set(pooling.modes) <= set(MODES.values()) and 0 <= pooling.length <= MAX_LENGTH


def read_modules(folder: Path) -> list[tuple[str, str]] | None:
    """(type, folder) of each step of a sentence encoder, in order; None for another model."""
    file = folder / 'modules.json'
    if not file.is_file():
        return [('Transformer', ''), ('Pooling', '1_Pooling')] if (folder / '1_Pooling' / 'config.json').is_file() else None
    modules = read_json(file, f"'{file}'")
    wanted = ('type', 'path')
    if not isinstance(modules, list) or not all(
        isinstance(each, dict) and all(key in each and isinstance(each[key], str) for key in wanted) for each in modules
    ):
        raise UserError(f"'{file}' is no list of modules, each with a type and a path")
    for each in modules:
        if each['path'] != Path(each['path']).name:
            raise UserError(f"'{file}' names the folder '{each['path']}', which is none beside it")
    return [(each['type'].rpartition('.')[2], each['path']) for each in modules]


def is_lowercase(tokenizer: Tokenizer | None) -> bool:
    """Whether a tokenizer lower-cases texts; True if there is none, since no text is read then."""
    return tokenizer is None or (tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str('A') == 'a')


def read_length(settings: dict[str, Any]) -> int:
    """The maximum length of a text in pieces; 0 if none is given."""
    length = settings['max_seq_length'] if 'max_seq_length' in settings else None
    if length is None:
        return 0
    if type(length) is not int or not 3 <= length <= MAX_LENGTH:
        raise UserError(
            f'sentence_bert_config.json has max_seq_length={show(length)}; it must be a number of pieces, 3 to {MAX_LENGTH:,}'
        )
    return length


def read_modes(file: Path, width: int) -> tuple[str, ...]:
    """The pooling modes of a 1_Pooling/config.json. Raises UserError for one of another width, and for modes that are not known."""
    if not file.is_file():
        raise UserError(f"'{file}' is missing, but modules.json names it")
    given = read_object(file, f"'{file}'")
    for key in ('word_embedding_dimension', 'embedding_dimension'):
        if key in given and given[key] != width:
            raise UserError(f"'{file}' has {key}={show(given[key])}, but config.json has a width of {width}")
    for key, value in given.items():
        if key.startswith('pooling_mode') and key not in MODES and value is not False:
            raise UserError(f"'{file}' has {key}={show(value)}, which is not supported (there are: {', '.join(MODES)})")
    on = {MODES[key]: value for key, value in ({'pooling_mode_mean_tokens': True} | given).items() if key in MODES}
    if not all(isinstance(value, bool) for value in on.values()) or not any(on.values()):
        raise UserError(f"'{file}' must turn at least one pooling mode on, each by true or false")
    return tuple(mode for mode in MODES.values() if mode in on and on[mode])


# ---- Writing ------------------------------------------------------------------------------------------------------------------


def write_pooling(pooling: Pooling, folder: Path, width: int) -> None:
    """Writes the files with which sentence-transformers makes the same vectors; none for another model."""
    if pooling == Pooling() or pooling.fault:
        return
    steps = [('', 'Transformer'), ('1_Pooling', 'Pooling'), *([('2_Normalize', 'Normalize')] if pooling.normalise else [])]
    modules = [{'idx': i, 'name': str(i), 'path': path, 'type': f'{PACKAGE}.{kind}'} for i, (path, kind) in enumerate(steps)]
    write_record(folder / 'modules.json', modules)
    if pooling.normalise:
        (folder / '2_Normalize').mkdir()  # empty, as sentence-transformers has it
    modes = {key: mode in pooling.modes for key, mode in MODES.items()}
    write_record(folder / '1_Pooling' / 'config.json', {'word_embedding_dimension': width, **modes})
    write_record(folder / 'sentence_bert_config.json', {'max_seq_length': pooling.length or None, 'do_lower_case': False})
