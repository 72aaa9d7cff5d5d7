"""The names and shapes of Hugging Face's tensors for our parameters: a table for each model type."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from research.errors import UserError
from research.models import paths

# Our module -> the stem of its tensors' names. The stem of the block, or the model's prefix, comes before it.
BERT = {
    'encoder/word': 'embeddings.word_embeddings',
    'encoder/position': 'embeddings.position_embeddings',
    'encoder/type': 'embeddings.token_type_embeddings',
    'encoder/norm': 'embeddings.LayerNorm',
    'encoder/attention/query': 'attention.self.query',
    'encoder/attention/key': 'attention.self.key',
    'encoder/attention/value': 'attention.self.value',
    'encoder/attention/output': 'attention.output.dense',
    'encoder/attention/norm': 'attention.output.LayerNorm',
    'encoder/feed_forward/inner': 'intermediate.dense',
    'encoder/feed_forward/output': 'output.dense',
    'encoder/feed_forward/norm': 'output.LayerNorm',
    'encoder/pooler': 'pooler.dense',
    'mlm/dense': 'cls.predictions.transform.dense',
    'mlm/norm': 'cls.predictions.transform.LayerNorm',
    'mlm/output': 'cls.predictions',
    'pair/output': 'cls.seq_relationship',
    'label/output': 'classifier',
    'span/output': 'qa_outputs',
    'choice/output': 'classifier',
}
DISTILBERT = {
    'encoder/word': 'embeddings.word_embeddings',
    'encoder/position': 'embeddings.position_embeddings',
    'encoder/norm': 'embeddings.LayerNorm',
    'encoder/attention/query': 'attention.q_lin',
    'encoder/attention/key': 'attention.k_lin',
    'encoder/attention/value': 'attention.v_lin',
    'encoder/attention/output': 'attention.out_lin',
    'encoder/attention/norm': 'sa_layer_norm',
    'encoder/feed_forward/inner': 'ffn.lin1',
    'encoder/feed_forward/output': 'ffn.lin2',
    'encoder/feed_forward/norm': 'output_layer_norm',
    'mlm/dense': 'vocab_transform',
    'mlm/norm': 'vocab_layer_norm',
    'mlm/output': 'vocab_projector',
    'label/dense': 'pre_classifier',
    'label/output': 'classifier',
    'span/output': 'qa_outputs',
    'choice/dense': 'pre_classifier',
    'choice/output': 'classifier',
}
ALBERT = {
    'encoder/word': 'embeddings.word_embeddings',
    'encoder/position': 'embeddings.position_embeddings',
    'encoder/type': 'embeddings.token_type_embeddings',
    'encoder/norm': 'embeddings.LayerNorm',
    'encoder/projection': 'encoder.embedding_hidden_mapping_in',
    'encoder/attention/query': 'attention.query',
    'encoder/attention/key': 'attention.key',
    'encoder/attention/value': 'attention.value',
    'encoder/attention/output': 'attention.dense',
    'encoder/attention/norm': 'attention.LayerNorm',
    'encoder/feed_forward/inner': 'ffn',
    'encoder/feed_forward/output': 'ffn_output',
    'encoder/feed_forward/norm': 'full_layer_layer_norm',
    'encoder/pooler': 'pooler',
    'mlm/dense': 'predictions.dense',
    'mlm/norm': 'predictions.LayerNorm',
    'mlm/output': 'predictions',
    'pair/output': 'sop_classifier.classifier',
    'label/output': 'classifier',
    'span/output': 'qa_outputs',
    'choice/output': 'classifier',
}
MEGATRON = {module: stem for module, stem in BERT.items() if module != 'encoder/norm'} | {
    'encoder/attention/norm': 'attention.ln',
    'encoder/feed_forward/norm': 'ln',
    'encoder/final_norm': 'encoder.ln',
}
# RoFormer has no pooler, and its classifiers are other functions than ours.
WITHOUT = ('encoder/position', 'encoder/pooler', 'pair/output', 'label/output', 'choice/output')
ROFORMER = {module: stem for module, stem in BERT.items() if module not in WITHOUT} | {'encoder/projection': 'embeddings_project'}
STEMS = {'bert': BERT, 'distilbert': DISTILBERT, 'albert': ALBERT, 'megatron-bert': MEGATRON, 'roformer': ROFORMER}
# How the names of the encoder's tensors begin in a model with heads.
PREFIXES = {kind: f'{kind}.' for kind in STEMS} | {'megatron-bert': 'bert.'}
LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}
# The output layer of the MLM head, and its bias. Its weight is tied to the word embeddings, so a file may lack it or hold a copy.
TIED = {
    'bert': ('cls.predictions.decoder', 'cls.predictions.bias'),
    'distilbert': ('vocab_projector', 'vocab_projector.bias'),
    'albert': ('predictions.decoder', 'predictions.bias'),
    'megatron-bert': ('cls.predictions.decoder', 'cls.predictions.bias'),
    'roformer': ('cls.predictions.decoder', 'cls.predictions.bias'),
}
WORD = 'embeddings.word_embeddings.weight'  # the name that every model has, after its prefix
ROTATIONS = 'roformer.encoder.embed_positions.weight'  # the table of `rotary.make_table`, a constant
BUFFERS = ('embeddings.position_ids', 'embeddings.token_type_ids')  # constants that older versions of transformers saved


class Slot(NamedTuple):
    """A tensor of a Hugging Face file and the parameter that holds it here."""

    name: str
    path: tuple[str, ...]
    group: int | None  # its index on the first axis of a stack; None if the parameter is no stack


class Block(NamedTuple):
    """An attention block and a feed-forward block of a Hugging Face model."""

    stem: str  # of its tensors' names
    groups: tuple[int, int]  # our attention group and feed-forward group


def flatten(tree: Any) -> dict[tuple[str, ...], Any]:
    """{path: leaf} of a nested dict."""
    leaves: Any = flatten_dict(tree)
    return leaves


def find_wrapper(names: Iterable[str]) -> str:
    """What a wrapper put before the name of every tensor: 'module.', '_orig_mod.', 'model.' (Lightning), '0.auto_model.' …

    It is what stands before the word embeddings. Raises UserError if two models are in one file.
    """
    stems = {name.removesuffix(WORD) for name in names if name == WORD or name.endswith(f'.{WORD}')}
    found = set()
    for stem in stems:
        prefix = next((prefix for prefix in PREFIXES.values() if stem == prefix or stem.endswith(f'.{prefix}')), '')
        found.add(stem.removesuffix(prefix))
    if len(found) > 1 and '' not in found:
        first, second = sorted(found)[:2]
        raise UserError(f"the weights hold {len(found)} models, '{first}…' and '{second}…': save one of them alone")
    return '' if '' in found or not found else found.pop()


def name_block(kind: str, group: int, inner: int = 0) -> str:
    """The stem of the tensors of block `inner` in layer or group `group`."""
    if kind == 'albert':
        return f'encoder.albert_layer_groups.{group}.albert_layers.{inner}.'
    return f'transformer.layer.{group}.' if kind == 'distilbert' else f'encoder.layer.{group}.'


def list_slots(kind: str, blocks: list[Block], params: Any) -> Iterator[Slot]:
    """The Slots of all tensors for a tree of parameters or shapes; a stacked parameter has one for each block."""
    for path in flatten(params):
        module = path if '/'.join(path) in STEMS[kind] else path[:-1]
        stem = STEMS[kind]['/'.join(module)]
        leaf = LEAVES[path[-1]] if module != path else 'weight'
        prefix = PREFIXES[kind] if path[0] == 'encoder' else ''
        stack = paths.stack_of('/'.join(path))
        if stack is None:
            yield Slot(f'{prefix}{stem}.{leaf}', path, None)
        else:
            for block in blocks:
                yield Slot(f'{prefix}{block.stem}{stem}.{leaf}', path, block.groups[stack])


def _count_inputs(path: tuple[str, ...]) -> int:
    """The number of first axes of a kernel that are its inputs."""
    return 2 if path[1:3] == ('attention', 'output') else 1


def to_their_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the tensor for our parameter of `shape` (one group): torch stores matrices as [outputs, inputs]."""
    if path[-1] == 'kernel':
        n = _count_inputs(path)
        return int(np.prod(shape[n:])), int(np.prod(shape[:n]))
    return (int(np.prod(shape)),) if path[-1] in LEAVES else shape


def to_ours(path: tuple[str, ...], shape: tuple[int, ...], tensor: np.ndarray) -> np.ndarray:
    """A tensor converted to our parameter of `shape`."""
    return (tensor.T if path[-1] == 'kernel' else tensor).reshape(shape)


def to_theirs(path: tuple[str, ...], param: np.ndarray) -> np.ndarray:
    """Our parameter (one group) converted to a tensor."""
    shape = to_their_shape(path, param.shape)
    return np.ascontiguousarray(param.reshape(shape[::-1]).T if path[-1] == 'kernel' else param.reshape(shape))
