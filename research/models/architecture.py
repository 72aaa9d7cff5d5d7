"""The settings of an encoder; BERT, DistilBERT and ALBERT are special cases."""

import dataclasses

from research.errors import UserError, choose

ACTIVATIONS = ('gelu', 'gelu_tanh', 'relu')
POSITIONS = ('learned', 'sinusoidal')
MLM_BIASES = ('zeros', 'frequencies')
DTYPES = ('float32', 'bfloat16')
REMATS = ('none', 'products', 'block', 'everything')  # rows of models.remat.POLICIES


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The settings of an encoder. The defaults are BERT-base (Devlin et al. 2019, §3)."""

    vocabulary: int = 30522  # pieces
    layers: int = 12
    width: int = 768  # D: of the hidden states
    heads: int = 12
    inner: int = 3072  # F: of the feed-forward block
    embedding: int = 768  # E: of the embedding tables; projected to the width if the two differ (Lan et al. 2020, §3.1)
    projection: bool = False  # project even if E equals D, as Hugging Face's ALBERT does
    positions: int = 512  # the longest sequence, in pieces
    position_kind: str = 'learned'  # or 'sinusoidal': a fixed table without parameters
    types: int = 2  # token types; 0 = no table of types (DistilBERT)
    pooler: bool = True  # tanh(dense) of the first position (DistilBERT has none)
    activation: str = 'gelu_tanh'  # as in Google's code; 'gelu' is the exact form with erf (Hugging Face's BERT); or 'relu'
    sharing: str = 'none'  # a row of SHARING
    groups: int = 1  # for sharing 'groups' and 'cycle'
    table: tuple[tuple[int, ...], ...] = ()  # for sharing 'table': (attention group, feed-forward group) of each layer
    dropout: float = 0.1  # of hidden states
    attention_dropout: float = 0.1  # of attention probabilities
    head_dropout: float = 0.1  # before a classifier
    span_dropout: float = 0.0  # before the span head (0.1 in DistilBERT, its `qa_dropout`; none in BERT and ALBERT)
    epsilon: float = 1e-12  # of LayerNorm
    deviation: float = 0.02  # standard deviation of the initial weights, a normal distribution truncated at two deviations
    mlm_bias: str = 'zeros'  # of a fresh MLM head's output; or 'frequencies': the log of each piece's share of the training data
    dtype: str = 'float32'  # of activations and matrix products: float32 or bfloat16
    attention: str = 'auto'  # a row of ATTENTION, or 'auto': by the device, the dtype and the losses
    unroll: int = 0  # layers in one iteration of the scan over layers; 1 compiles fastest, 0 (all layers) runs fastest
    remat: str = 'none'  # what layers recompute in the backward pass to save memory: none, products, block or everything


# The largest values of these fields, beyond what any machine holds: what is larger is a slip, and would be counted to.
LARGEST = {'layers': 10_000} | dict.fromkeys(
    ('vocabulary', 'width', 'heads', 'inner', 'embedding', 'positions', 'types', 'groups'), 2**27
)


def refuse_size(a: Architecture) -> None:
    """Raises UserError for a size above LARGEST."""
    for field, largest in LARGEST.items():
        if getattr(a, field) > largest:
            raise UserError(f'model.{field}={getattr(a, field)} must be at most {largest:,}')


def validate(a: Architecture) -> None:
    """Raises UserError for an architecture that cannot be built."""
    for field in ('vocabulary', 'layers', 'width', 'heads', 'inner', 'embedding', 'positions', 'groups'):
        if getattr(a, field) < 1:
            raise UserError(f'model.{field}={getattr(a, field)} must be at least 1')
    refuse_size(a)
    if a.width % a.heads:
        apart = (n for distance in range(a.heads) for n in (a.heads - distance, a.heads + distance))
        nearest = next(n for n in apart if a.width % n == 0)  # 1 at the latest
        raise UserError(
            f'model.width={a.width} is not a multiple of model.heads={a.heads}; --config.model.heads={nearest} would fit'
        )
    for field in ('dropout', 'attention_dropout', 'head_dropout', 'span_dropout'):
        if not 0 <= getattr(a, field) < 1:
            raise UserError(f'model.{field}={getattr(a, field)} must be at least 0 and below 1')
    for field in ('epsilon', 'deviation'):
        if not 0 < getattr(a, field) < 1:
            raise UserError(f'model.{field}={getattr(a, field)} must be above 0 and below 1')
    for field in ('types', 'unroll'):
        if getattr(a, field) < 0:
            raise UserError(f'model.{field}={getattr(a, field)} must not be negative')
    if any(group < 0 for pair in a.table for group in pair):
        raise UserError(f'model.table={a.table!r} must hold group numbers, which start at 0')
    choose('model.activation', a.activation, ACTIVATIONS)
    choose('model.position_kind', a.position_kind, POSITIONS)
    choose('model.mlm_bias', a.mlm_bias, MLM_BIASES)
    choose('model.dtype', a.dtype, DTYPES)
    choose('model.remat', a.remat, REMATS)
