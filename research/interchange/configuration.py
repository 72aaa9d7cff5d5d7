"""Converts config.json to an Architecture and back, and refuses what is not supported."""

from collections import Counter
from pathlib import Path
from shlex import quote
from typing import Any

from research.errors import UserError
from research.interchange.classes import ACTIVATIONS, CLASSES, FIELDS, ONLY, SYNONYMS, THEIR_ACTIVATIONS
from research.models.architecture import Architecture, validate
from research.models.sharing import layout
from research.records import read_object, show

MAX_LAYERS = 1024
MAX_SIZE = 2**20  # of a width, and all else that is a number of rows or columns but the vocabulary
MAX_PIECES = 2**24


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a Hugging Face folder, with a model type of FIELDS.

    Raises UserError if there is none, it is no JSON object, or its model type is not supported.
    """
    file = folder / 'config.json'
    if not file.is_file():
        refuse_other_formats(folder)
        raise UserError(f"'{folder}' has neither config.json nor experiment.json: it is no model folder")
    config = read_object(file, f"'{file}'")
    if 'model_type' not in config:
        raise UserError(
            f'\'{file}\' has no model_type: add one of {", ".join(FIELDS)} to it, such as "model_type": "{guess_kind(config)}"'
        )
    kind = config['model_type']
    if not isinstance(kind, str) or kind not in FIELDS:
        raise UserError(f"'{file}' has model_type {show(kind)}; the supported types are {', '.join(FIELDS)}")
    return config


def guess_kind(config: dict[str, Any]) -> str:
    """The model type whose fields a config.json has the most of; BERT if they tie."""
    return max(FIELDS, key=lambda kind: (sum(name in config for name, _ in FIELDS[kind].values()), kind == 'bert'))


def is_other_format(folder: Path) -> bool:
    """Whether a folder without config.json holds a checkpoint of TensorFlow, as Google's."""
    return not (folder / 'config.json').is_file() and any(folder.glob('*.ckpt*.index'))


def refuse_other_formats(folder: Path) -> None:
    """Raises UserError, with the command that converts it, for a checkpoint of TensorFlow."""
    if is_other_format(folder):
        index = min(folder.glob('*.ckpt*.index'))
        kind = 'albert' if 'albert' in f'{folder.name} {[path.name for path in folder.glob("*.json")]}' else 'bert'
        settings = min((path.name for path in folder.glob(f'*{kind}*config*.json')), default=f'{kind}_config.json')
        command = (
            f'transformers-cli convert --model_type {kind} --tf_checkpoint {quote(index.name.removesuffix(".index"))} '
            f'--config {quote(settings)} --pytorch_dump_output pytorch_model.bin'
        )
        raise UserError(
            f"'{folder}' is a checkpoint of TensorFlow ({index.name}), which is not read: convert it where transformers < 5, torch "
            f'and tensorflow are installed: {command}; then copy {quote(settings)} to config.json'
        )


def read_value(config: dict[str, Any], name: str, default: Any) -> Any:
    """The value of a field, or `default` if the field is missing.

    Raises UserError if its type is not that of `default`.
    """
    found = config[name] if name in config else default
    if isinstance(default, float) and type(found) is int:
        found = float(found)
    if type(found) is not type(default):
        raise UserError(f'config.json has {name}={show(found)}; it must be of type {type(default).__name__}')
    return found


def refuse_unsupported(config: dict[str, Any]) -> None:
    """Raises UserError for a field whose value changes the result and is not supported."""
    for name, only in ONLY.items():
        if name in config and config[name] not in (only, None):
            raise UserError(f'config.json has {name}={show(config[name])}, which is not supported (only {show(only)})')


def read_architecture(config: dict[str, Any], pooler: bool) -> Architecture:
    """The Architecture that a config.json describes.

    Raises UserError for an unsupported field, and for an architecture that cannot be built.
    """
    refuse_unsupported(config)
    kind = config['model_type']
    config = {name: value for name, value in config.items() if name != 'embedding_size' or value is not None}  # null: the width
    synonyms = SYNONYMS[kind] if kind in SYNONYMS else {}
    found = {}
    for field, (name, default) in FIELDS[kind].items():
        given = synonyms[name] if name in synonyms and name not in config else name
        found[field] = read_value(config, given, default)
    for field, (name, default) in FIELDS[kind].items():
        most = {'layers': MAX_LAYERS, 'vocabulary': MAX_PIECES}[field] if field in ('layers', 'vocabulary') else MAX_SIZE
        if type(default) is int and found[field] > most:
            raise UserError(f'config.json has {name}={show(found[field])}; at most {most:,} is supported')
    if found['activation'] not in ACTIVATIONS:
        name = FIELDS[kind]['activation'][0]
        raise UserError(
            f"config.json has {name}='{found['activation']}', which is not supported (there are: {', '.join(ACTIVATIONS)})"
        )
    found['activation'] = ACTIVATIONS[found['activation']]
    if kind == 'bert':
        own = config['classifier_dropout'] if 'classifier_dropout' in config else None
        found['head_dropout'] = found['dropout'] if own is None else read_value(config, 'classifier_dropout', 0.0)
    if kind == 'megatron-bert':
        found |= {'norm': 'pre', 'head_dropout': found['dropout']}
    if kind == 'distilbert':
        sinusoidal = read_value(config, 'sinusoidal_pos_embds', False)
        found |= {'types': 0, 'epsilon': 1e-12, 'position_kind': 'sinusoidal' if sinusoidal else 'learned'}
    if kind == 'albert':
        found |= {'projection': True, **read_sharing(config, found['layers'])}
    elif kind == 'roformer':
        found |= {'embedding': found['embedding'] or found['width'], 'position_kind': 'rotary'}
    else:
        found |= {'embedding': found['width'], 'projection': False}
    a = Architecture(**found, pooler=pooler)
    try:
        validate(a)
    except UserError as error:
        reason = str(error).split(';')[0]  # the advice after ';' is about our config keys
        raise UserError(f'config.json describes a model that cannot be built: {reason}') from None
    return a


def read_sharing(config: dict[str, Any], layers: int) -> dict[str, Any]:
    """The fields of an Architecture for the sharing of an ALBERT's blocks.

    Layer i runs all `inner_group_num` blocks of group ⌊i / (layers / groups)⌋ in order (transformers' AlbertTransformer); each of
    these blocks is a layer of ours. Raises UserError if there are more groups than layers.
    """
    groups, inner = read_value(config, 'num_hidden_groups', 1), read_value(config, 'inner_group_num', 1)
    if not (1 <= groups <= layers and 1 <= inner <= MAX_LAYERS // layers):
        raise UserError(
            f'config.json has num_hidden_groups={show(groups)} and inner_group_num={show(inner)} with num_hidden_layers={layers}: '
            f'there must be 1 to {layers} groups of 1 to {MAX_LAYERS // max(layers, 1):,} blocks'
        )
    order = order_blocks(layers, groups, inner)
    for sharing, number in (('all', 1), ('none', 1), ('groups', groups), ('cycle', inner)):
        form = {'sharing': sharing, 'groups': number, 'layers': len(order)}
        if [pair[0] for pair in layout(Architecture(**form))] == order:
            return form
    return {'sharing': 'table', 'table': tuple((block, block) for block in order), 'layers': len(order)}


def order_blocks(layers: int, groups: int, inner: int) -> list[int]:
    """The block of each of the `layers` × `inner` steps of an ALBERT; block `inner` · g + k is block k of group g."""
    order = [int(layer / (layers / groups)) for layer in range(layers)]
    return [group * inner + k for group in order for k in range(inner)]


def read_labels(config: dict[str, Any]) -> tuple[str, ...] | None:
    """The names of the labels in order; None if config.json has none.

    Raises UserError if their numbers are not 0, 1, …, or a name is no text.
    """
    if 'id2label' not in config or not config['id2label']:
        return None
    given = config['id2label']
    numbers = {str(number): number for number in range(len(given))} if isinstance(given, dict) else {}
    if not isinstance(given, dict) or given.keys() != numbers.keys():
        raise UserError(f'config.json has id2label={show(given)}; it must number the labels 0, 1, …')
    names = tuple(given[number] for number in numbers)
    if not all(type(name) in (str, int, float) for name in names):
        raise UserError(f'config.json has id2label={show(given)}; the name of a label must be a text')
    return tuple(map(str, names))


def find_label_faults(config: dict[str, Any], labels: int) -> str:
    """Why a label head of `labels` classes cannot be read; '' if it can. Whatever else the model has is of use without it."""
    problem = config['problem_type'] if 'problem_type' in config else None
    if problem == 'multi_label_classification':
        return 'config.json has problem_type="multi_label_classification", which is not supported: an input has one label'
    if problem == 'regression' and labels > 1:
        return f'config.json has problem_type="regression" with {labels} scores, which is not supported: an input has one'
    names = read_labels(config) or ()
    twice = next((name for name, number in Counter(names).items() if number > 1), None)
    if twice is not None:
        first = names.index(twice)
        second = names.index(twice, first + 1)
        return f'config.json has id2label with {show(twice)} as {first} and as {second}: give each label a name of its own there'
    return ''


def make_config(kind: str, a: Architecture, heads: tuple[str, ...], albert: tuple[int, int, int]) -> dict[str, Any]:
    """The config.json for an Architecture as a model of type `kind`; albert: the numbers of layers, groups and inner blocks."""
    config: dict[str, Any] = {'architectures': [CLASSES[kind][heads]], 'model_type': kind}
    config |= {name: getattr(a, field) for field, (name, _) in FIELDS[kind].items()}
    config[FIELDS[kind]['activation'][0]] = THEIR_ACTIVATIONS[a.activation]
    if kind == 'bert':
        config |= {'classifier_dropout': a.head_dropout, 'position_embedding_type': 'absolute'}
    if kind == 'distilbert':
        config['sinusoidal_pos_embds'] = a.position_kind == 'sinusoidal'
    if kind == 'albert':
        config |= dict(zip(('num_hidden_layers', 'num_hidden_groups', 'inner_group_num'), albert, strict=True))
    return {**config, 'tie_word_embeddings': True, 'dtype': 'float32'}
