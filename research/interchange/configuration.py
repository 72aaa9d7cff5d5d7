"""config.json and Architecture: what each field of one is in the other, and what is refused."""

import json
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.models.architecture import Architecture, validate
from research.models.sharing import layout

# Field of an Architecture -> the field of config.json, and the value that the class has where the file is silent.
FIELDS: dict[str, dict[str, tuple[str, Any]]] = {
    'bert': {
        'vocabulary': ('vocab_size', 30522),
        'layers': ('num_hidden_layers', 12),
        'width': ('hidden_size', 768),
        'heads': ('num_attention_heads', 12),
        'inner': ('intermediate_size', 3072),
        'positions': ('max_position_embeddings', 512),
        'types': ('type_vocab_size', 2),
        'activation': ('hidden_act', 'gelu'),
        'dropout': ('hidden_dropout_prob', 0.1),
        'attention_dropout': ('attention_probs_dropout_prob', 0.1),
        'epsilon': ('layer_norm_eps', 1e-12),
        'deviation': ('initializer_range', 0.02),
    },
    'distilbert': {
        'vocabulary': ('vocab_size', 30522),
        'layers': ('n_layers', 6),
        'width': ('dim', 768),
        'heads': ('n_heads', 12),
        'inner': ('hidden_dim', 3072),
        'positions': ('max_position_embeddings', 512),
        'activation': ('activation', 'gelu'),
        'dropout': ('dropout', 0.1),
        'attention_dropout': ('attention_dropout', 0.1),
        'head_dropout': ('seq_classif_dropout', 0.2),
        'span_dropout': ('qa_dropout', 0.1),
        'deviation': ('initializer_range', 0.02),
    },
    'albert': {
        'vocabulary': ('vocab_size', 30000),
        'layers': ('num_hidden_layers', 12),  # each runs a whole group, so it is `inner_group_num` of ours
        'width': ('hidden_size', 4096),
        'heads': ('num_attention_heads', 64),
        'inner': ('intermediate_size', 16384),
        'embedding': ('embedding_size', 128),
        'positions': ('max_position_embeddings', 512),
        'types': ('type_vocab_size', 2),
        'activation': ('hidden_act', 'gelu_new'),
        'dropout': ('hidden_dropout_prob', 0.0),
        'attention_dropout': ('attention_probs_dropout_prob', 0.0),
        'head_dropout': ('classifier_dropout_prob', 0.1),
        'epsilon': ('layer_norm_eps', 1e-12),
        'deviation': ('initializer_range', 0.02),
    },
}
# Other names that the classes read for a field.
SYNONYMS = {'distilbert': {'dim': 'hidden_size', 'n_heads': 'num_attention_heads', 'n_layers': 'num_hidden_layers'}}
# Fields that change the result -> the only value that is computed here.
ONLY: dict[str, Any] = {
    'position_embedding_type': 'absolute',
    'is_decoder': False,
    'add_cross_attention': False,
    'pruned_heads': {},
    'quantization_config': None,
    'down_scale_factor': 1,
    'gap_size': 0,
    'net_structure_type': 0,
    'num_memory_blocks': 0,
    'layers_to_keep': [],
}
# Their names of activations -> ours. The last three are the tanh form by other kernels.
ACTIVATIONS = {
    'gelu': 'gelu',
    'gelu_python': 'gelu',
    'relu': 'relu',
    'gelu_new': 'gelu_tanh',
    'gelu_pytorch_tanh': 'gelu_tanh',
    'gelu_python_tanh': 'gelu_tanh',
    'gelu_fast': 'gelu_tanh',
}
THEIR_ACTIVATIONS = {'gelu': 'gelu', 'relu': 'relu', 'gelu_tanh': 'gelu_new'}

# The class of a model with these heads.
CLASSES: dict[str, dict[tuple[str, ...], str]] = {
    'bert': {
        (): 'BertModel',
        ('mlm',): 'BertForMaskedLM',
        ('mlm', 'pair'): 'BertForPreTraining',
        ('pair',): 'BertForNextSentencePrediction',
        ('label',): 'BertForSequenceClassification',
        ('span',): 'BertForQuestionAnswering',
        ('choice',): 'BertForMultipleChoice',
    },
    'distilbert': {
        (): 'DistilBertModel',
        ('mlm',): 'DistilBertForMaskedLM',
        ('label',): 'DistilBertForSequenceClassification',
        ('span',): 'DistilBertForQuestionAnswering',
        ('choice',): 'DistilBertForMultipleChoice',
    },
    'albert': {
        (): 'AlbertModel',
        ('mlm',): 'AlbertForMaskedLM',
        ('mlm', 'pair'): 'AlbertForPreTraining',
        ('label',): 'AlbertForSequenceClassification',
        ('span',): 'AlbertForQuestionAnswering',
        ('choice',): 'AlbertForMultipleChoice',
    },
}
DEEPEST = 1024  # layers


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a Hugging Face folder, whose model type is a row of FIELDS.

    Raises UserError where there is none, it is no JSON object, or its model type is not one of ours.
    """
    file = folder / 'config.json'
    if not file.is_file():
        raise UserError(f"'{folder}' holds no config.json (nor an experiment.json): it is no model folder")
    try:
        config = json.loads(file.read_text('utf-8'))
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{file}' is not JSON ({error})") from None
    if not isinstance(config, dict):
        raise UserError(f"'{file}' holds no JSON object")
    kind = config['model_type'] if 'model_type' in config else None
    if not isinstance(kind, str) or kind not in FIELDS:
        raise UserError(f"'{file}' has model_type {json.dumps(kind)}; the supported types are {', '.join(FIELDS)}")
    return config


def value(config: dict[str, Any], name: str, default: Any) -> Any:
    """The value of a field, or `default`, whose type it must have.

    Raises UserError for a value of another type.
    """
    found = config[name] if name in config else default
    if isinstance(default, float) and type(found) is int:
        found = float(found)
    if type(found) is not type(default):
        raise UserError(f'config.json has {name}={json.dumps(found)}; it must be of type {type(default).__name__}')
    return found


def refuse(config: dict[str, Any]) -> None:
    """Raises UserError for a field that changes the result and is not supported, naming it."""
    for name, only in ONLY.items():
        if name in config and config[name] not in (only, None):
            raise UserError(f'config.json has {name}={json.dumps(config[name])}, which is not supported (only {json.dumps(only)})')


def architecture_of(config: dict[str, Any], pooler: bool) -> Architecture:
    """The Architecture that a config.json describes.

    Raises UserError for a field that is not supported, naming it, and for an architecture that cannot be built.
    """
    refuse(config)
    kind = config['model_type']
    synonyms = SYNONYMS[kind] if kind in SYNONYMS else {}
    found = {}
    for field, (name, default) in FIELDS[kind].items():
        given = synonyms[name] if name in synonyms and name not in config else name
        found[field] = value(config, given, default)
    if found['layers'] > DEEPEST:
        name = FIELDS[kind]['layers'][0]
        raise UserError(f'config.json has {name}={found["layers"]}; more than {DEEPEST:,} layers are no model')
    if found['activation'] not in ACTIVATIONS:
        name = FIELDS[kind]['activation'][0]
        raise UserError(
            f"config.json has {name}='{found['activation']}', which is not supported (there are: {', '.join(ACTIVATIONS)})"
        )
    found['activation'] = ACTIVATIONS[found['activation']]
    if kind == 'bert':
        own = config['classifier_dropout'] if 'classifier_dropout' in config else None
        found['head_dropout'] = found['dropout'] if own is None else value(config, 'classifier_dropout', 0.0)
    if kind == 'distilbert':
        sinusoidal = value(config, 'sinusoidal_pos_embds', False)
        found |= {'types': 0, 'epsilon': 1e-12, 'position_kind': 'sinusoidal' if sinusoidal else 'learned'}
    if kind == 'albert':
        found |= {'projection': True, **sharing_of(config, found['layers'])}
    else:
        found |= {'embedding': found['width'], 'projection': False}
    a = Architecture(**found, pooler=pooler)
    try:
        validate(a)
    except UserError as error:
        told = str(error).split(';')[0]  # what would mend our own definition says nothing of a file
        raise UserError(f'config.json describes a model that cannot be built: {told}') from None
    return a


def sharing_of(config: dict[str, Any], layers: int) -> dict[str, Any]:
    """The fields of an Architecture that say which of an ALBERT's blocks are one.

    Layer i runs all `inner_group_num` blocks of group ⌊i / (layers / groups)⌋ in turn (transformers' AlbertTransformer), and
    each of them is a layer of ours. Raises UserError for groups that no layer would use.
    """
    groups, inner = value(config, 'num_hidden_groups', 1), value(config, 'inner_group_num', 1)
    if not (1 <= groups <= layers and 1 <= inner <= DEEPEST):
        raise UserError(
            f'config.json has num_hidden_groups={groups} and inner_group_num={inner} with num_hidden_layers={layers}: '
            f'there must be 1 to {layers} groups of 1 to {DEEPEST:,} blocks'
        )
    order = block_order(layers, groups, inner)
    for sharing, number in (('all', 1), ('none', 1), ('groups', groups), ('cycle', inner)):
        form = {'sharing': sharing, 'groups': number, 'layers': len(order)}
        if [pair[0] for pair in layout(Architecture(**form))] == order:
            return form
    return {'sharing': 'table', 'table': tuple((block, block) for block in order), 'layers': len(order)}


def block_order(layers: int, groups: int, inner: int) -> list[int]:
    """The block that each of an ALBERT's `layers` × `inner` steps runs; block `inner` · g + k is number k of group g."""
    found = [int(layer / (layers / groups)) for layer in range(layers)]
    return [group * inner + k for group in found for k in range(inner)]


def labels_of(config: dict[str, Any]) -> tuple[str, ...] | None:
    """The names of the classes in their order, or None where config.json does not say.

    Raises UserError where it does not number them 0, 1, ….
    """
    if 'id2label' not in config or not config['id2label']:
        return None
    try:
        named = {int(number): str(name) for number, name in config['id2label'].items()}
    except (ValueError, AttributeError):
        named = {}
    if sorted(named) != list(range(len(named))) or not named:
        raise UserError(f'config.json has id2label={json.dumps(config["id2label"])}; it must number the labels 0, 1, …')
    return tuple(named[number] for number in range(len(named)))


def config_of(kind: str, a: Architecture, heads: tuple[str, ...], albert: tuple[int, int, int]) -> dict[str, Any]:
    """The config.json of an Architecture as a model of type `kind`; albert: its layers, groups and inner blocks."""
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
