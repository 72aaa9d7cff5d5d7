"""Counted sizes: equal to the published counts and to real models."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from research import costs, parallel, train
from research.data.settings import Data
from research.models import paths
from research.models.architecture import REMATS, Architecture
from research.models.heads import HEADS, Model, encode, initialise
from research.models.sharing import SHARING
from research.muon import is_hidden
from research.objectives.losses import Losses, Match, Mlm, Plain, Soft
from research.optim import Optimizer
from research.sharding import Grid


def bert(layers: int = 12, width: int = 768, inner: int = 0, **changes: Any) -> Architecture:
    return Architecture(layers=layers, width=width, heads=1, inner=inner or 4 * width, embedding=width, **changes)


def albert(layers: int = 12, width: int = 768, embedding: int = 128, sharing: str = 'all', **changes: Any) -> Architecture:
    return Architecture(
        vocabulary=30_000, layers=layers, width=width, heads=1, inner=4 * width, embedding=embedding, sharing=sharing, **changes
    )


DISTILBERT = bert(6, types=0, pooler=False)
PRETRAINING = (('mlm', 30_522), ('pair', 2))
ALBERT_PRETRAINING = (('mlm', 30_000), ('pair', 2))
NAMES = ('base', 'large', 'xlarge', 'xxlarge')
ALBERTS = {
    name: albert(layers, width) for name, layers, width in zip(NAMES, (12, 24, 24, 12), (768, 1024, 2048, 4096), strict=True)
}


# Devlin et al. 2019, Sanh et al. 2019, Lan et al. 2020, Table 1: (architecture, with pooler, without, heads, MLM without pooler).
@pytest.mark.parametrize(
    ('a', 'pooled', 'bare', 'pretraining', 'mlm'),
    [
        pytest.param(bert(), 109_482_240, 108_891_648, 110_106_428, 109_514_298, id='BERT-base'),
        pytest.param(bert(24, 1024), 335_141_888, 334_092_288, 336_226_108, 335_174_458, id='BERT-large'),
        pytest.param(ALBERTS['base'], 11_683_584, 11_092_992, 11_813_810, 11_221_680, id='ALBERT-base'),
        pytest.param(ALBERTS['large'], 17_683_968, 16_634_368, 17_847_474, 16_795_824, id='ALBERT-large'),
        pytest.param(ALBERTS['xlarge'], 58_724_864, 54_528_512, 59_021_490, 54_821_040, id='ALBERT-xlarge'),
        pytest.param(ALBERTS['xxlarge'], 222_595_584, 205_814_272, 223_158_450, 206_368_944, id='ALBERT-xxlarge'),
    ],
)
def test_the_published_encoders_have_their_published_counts(
    a: Architecture, pooled: int, bare: int, pretraining: int, mlm: int
) -> None:
    heads = (('mlm', a.vocabulary), ('pair', 2))
    counted = costs.summarize_parameters(a, heads)
    assert (counted['encoder'], counted['encoder_without_pooler'], counted['total']) == (pooled, bare, pretraining)
    assert costs.summarize_parameters(dataclasses.replace(a, pooler=False), heads[:1])['total'] == mlm


def test_distilbert_has_its_published_counts() -> None:
    assert costs.summarize_parameters(DISTILBERT)['encoder'] == 66_362_880
    assert costs.summarize_parameters(DISTILBERT, PRETRAINING[:1])['total'] == 66_985_530
    assert costs.summarize_parameters(DISTILBERT, (('label', 2),))['total'] == 66_955_010
    assert costs.summarize_parameters(DISTILBERT, (('span', 2),))['total'] == 66_364_418


@pytest.mark.parametrize(
    ('a', 'label', 'span'),
    [
        pytest.param(bert(), 109_483_778, 108_893_186, id='BERT-base'),
        pytest.param(bert(24, 1024), 335_143_938, 334_094_338, id='BERT-large'),
        pytest.param(ALBERTS['base'], 11_685_122, 11_094_530, id='ALBERT-base'),
        pytest.param(ALBERTS['large'], 17_686_018, 16_636_418, id='ALBERT-large'),
        pytest.param(ALBERTS['xlarge'], 58_728_962, 54_532_610, id='ALBERT-xlarge'),
        pytest.param(ALBERTS['xxlarge'], 222_603_778, 205_822_466, id='ALBERT-xxlarge'),
    ],
)
def test_the_published_task_models_have_their_published_counts(a: Architecture, label: int, span: int) -> None:
    assert costs.summarize_parameters(a, (('label', 2),))['total'] == label
    assert costs.summarize_parameters(dataclasses.replace(a, pooler=False), (('span', 2),))['total'] == span


@pytest.mark.parametrize(
    ('groups', 'count'),
    [(1, 11_683_584), (2, 18_771_456), (3, 25_859_328), (4, 32_947_200), (6, 47_122_944), (12, 89_650_176)],
)
def test_albert_base_grows_with_its_groups(groups: int, count: int) -> None:
    assert costs.summarize_parameters(albert(sharing='groups', groups=groups))['encoder'] == count
    assert costs.summarize_parameters(albert(sharing='cycle', groups=groups))['encoder'] == count


# Lan et al. 2020, Tables 3 and 4.
@pytest.mark.parametrize(
    ('embedding', 'sharing', 'pooled', 'bare'),
    [
        (64, 'none', 87_648_000, 87_057_408),
        (128, 'none', 89_650_176, 89_059_584),
        (256, 'none', 93_654_528, 93_063_936),
        (768, 'none', 109_081_344, 108_490_752),
        (64, 'all', 9_681_408, 9_090_816),
        (128, 'all', 11_683_584, 11_092_992),
        (256, 'all', 15_687_936, 15_097_344),
        (768, 'all', 31_114_752, 30_524_160),
        (768, 'attention', 83_078_400, 82_487_808),
        (768, 'ffn', 57_117_696, 56_527_104),
        (128, 'attention', 63_647_232, 63_056_640),
        (128, 'ffn', 37_686_528, 37_095_936),
    ],
)
def test_embedding_size_and_sharing_have_the_counts_of_alberts_tables(embedding: int, sharing: str, pooled: int, bare: int) -> None:
    counted = costs.summarize_parameters(albert(embedding=embedding, sharing=sharing))
    assert (counted['encoder'], counted['encoder_without_pooler']) == (pooled, bare)


def test_a_projection_of_equal_sizes_counts_as_in_hugging_faces_albert() -> None:
    assert costs.summarize_parameters(albert(embedding=768, sharing='none', projection=True))['encoder'] == 109_671_936
    assert costs.summarize_parameters(albert(embedding=768, sharing='all', projection=True))['encoder'] == 31_705_344


def test_bert_with_alberts_vocabulary() -> None:
    for a, pooled, bare in (
        (bert(vocabulary=30_000), 109_081_344, 108_490_752),
        (bert(24, 1024, vocabulary=30_000), 334_607_360, 333_557_760),
    ):
        counted = costs.summarize_parameters(a)
        assert (counted['encoder'], counted['encoder_without_pooler']) == (pooled, bare)


@pytest.mark.parametrize(('width', 'count'), [(1024, 17_683_968), (2048, 58_724_864), (4096, 222_595_584), (6144, 495_518_208)])
def test_alberts_widths_count_the_same_at_any_depth(width: int, count: int) -> None:
    for layers in (1, 3, 12, 48):
        assert costs.summarize_parameters(albert(layers, width))['encoder'] == count


@pytest.mark.parametrize(
    ('a', 'count'),
    [
        pytest.param(bert(4, 312, 1200), 14_350_248, id='TinyBERT4'),
        pytest.param(bert(6), 66_955_008, id='TinyBERT6'),
        pytest.param(bert(12, 384), 33_360_000, id='MiniLM-L12'),
        pytest.param(bert(6, 384), 22_713_216, id='MiniLM-L6'),
        pytest.param(bert(2, 128), 4_385_920, id='BERT-tiny'),
        pytest.param(bert(4, 256), 11_170_560, id='BERT-mini'),
        pytest.param(bert(4, 512), 28_763_648, id='BERT-small'),
        pytest.param(bert(8, 512), 41_373_184, id='BERT-medium'),
    ],
)
def test_the_small_published_encoders_have_their_published_counts(a: Architecture, count: int) -> None:
    assert costs.summarize_parameters(a)['encoder'] == count


@pytest.mark.parametrize(
    ('width', 'attention', 'feed_forward'),
    [(768, 2_363_904, 4_723_968), (1024, 4_200_448, 8_395_776), (2048, 16_789_504, 33_568_768), (4096, 67_133_440, 134_246_400)],
)
def test_blocks_count_their_layer_norms(width: int, attention: int, feed_forward: int) -> None:
    counted = costs.count_parameters(albert(1, width))
    assert (counted['attention'], counted['feed_forward']) == (attention, feed_forward)


def test_no_head_has_the_name_of_a_part_of_the_encoder() -> None:
    assert not set(HEADS) & set(costs.count_parameters(Architecture()))


TABLE = ((0, 0), (1, 0), (0, 1), (2, 1))
CLASSES = {'mlm': 64, 'pair': 2, 'label': 3, 'span': 2, 'answer': 1, 'choice': 1}
VARIANTS = (
    {},
    {'pooler': False, 'types': 0},
    {'embedding': 8, 'position_kind': 'sinusoidal'},
    {'projection': True, 'positions': 24},
    {'norm': 'pre', 'position_kind': 'rotary', 'embedding': 8},
    {'norm': 'deepnorm'},
)


def sizes(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('sharing', SHARING)
def test_the_count_is_the_size_of_the_model(small: Architecture, sharing: str) -> None:
    """Over every strategy, kind of embedding and pair of heads, by module."""
    for changes, heads in itertools.product(VARIANTS, [(), *itertools.combinations(HEADS, 2)]):
        a = dataclasses.replace(small, layers=4, sharing=sharing, groups=2, table=TABLE, **changes)
        if not a.pooler and 'pair' in heads:
            continue
        asked = tuple((name, CLASSES[name]) for name in heads)
        params = jax.eval_shape(lambda a=a, asked=asked: initialise(Model(a, asked), jax.random.key(0)))
        counted = costs.summarize_parameters(a, asked)
        assert sizes(params) == counted['total'] == sum(counted['modules'].values())
        assert sizes(params['encoder']) == counted['encoder']
        for module in ('attention', 'feed_forward'):
            assert sizes(params['encoder'][module]) == counted['modules'][module]
        for head in heads:
            assert sizes(params[head]) == counted['modules'][head]


def test_every_multiply_add_of_matrix_products_is_two_flops() -> None:
    a = Architecture(vocabulary=50, layers=3, width=4, heads=2, inner=6, embedding=4, pooler=False)
    t = 5
    layer = 2 * t * (4 * 4 * 4) + 2 * t * (2 * 4 * 6) + 2 * t * t * 4 + 2 * t * t * 4
    assert costs.count_forward_flops(a, t) == 3 * layer
    assert costs.count_forward_flops(dataclasses.replace(a, sharing='all'), t) == 3 * layer
    assert costs.count_forward_flops(dataclasses.replace(a, pooler=True), t) == 3 * layer + 2 * 4 * 4
    assert costs.count_forward_flops(dataclasses.replace(a, embedding=2), t) == 3 * layer + 2 * t * 2 * 4
    assert costs.count_forward_flops(a, t, logits=2) == 3 * layer + 2 * 2 * (4 * 4 + 4 * 50)


@pytest.mark.parametrize('changes', [{}, {'norm': 'pre', 'position_kind': 'rotary'}, {'norm': 'deepnorm'}])
def test_flops_agree_with_the_count_of_the_compiler(small: Architecture, changes: dict[str, Any]) -> None:
    a = dataclasses.replace(small, width=64, inner=256, embedding=64, unroll=0, **changes)
    model = Model(a)
    params = jax.eval_shape(lambda: initialise(model, jax.random.key(0)))
    ids = jax.ShapeDtypeStruct((1, 16), 'int32')
    compiled = jax.jit(lambda params, ids: encode(model, params, {'ids': ids, 'types': ids, 'mask': ids})).lower(params, ids)
    analysis: Any = compiled.cost_analysis()
    counted = analysis['flops']  # the compiler counts sums, norms and activations too
    assert 1 <= counted / costs.count_forward_flops(a, 16) < 1.15


def test_vocabulary_positions_are_those_that_active_losses_need() -> None:
    assert costs.count_vocabulary_positions(Losses(), 100, 15) == 15
    assert costs.count_vocabulary_positions(Losses(soft=Soft(1.0, at='masked')), 100, 15) == 15
    assert costs.count_vocabulary_positions(Losses(soft=Soft(1.0)), 100, 15) == 115
    assert costs.count_vocabulary_positions(Losses(soft=Soft(1.0)), 100, 15, teacher=True) == 100
    assert costs.count_vocabulary_positions(Losses(mlm=Mlm(0.0), cosine=Match(1.0)), 100, 15) == 0
    assert costs.count_vocabulary_positions(Losses(mlm=Mlm(0.0), label=Plain(1.0)), 100, 15) == 0


def test_a_step_costs_three_passes_and_one_of_a_needed_teacher(small: Architecture) -> None:
    teacher = dataclasses.replace(small, layers=4)
    one, other = costs.count_forward_flops(small, 16, 3), costs.count_forward_flops(teacher, 16)
    assert costs.count_step_flops(small, None, Losses(), 8, 16, 3) == 8 * 3 * one
    assert costs.count_step_flops(small, teacher, Losses(), 8, 16, 3) == 8 * 3 * one
    assert costs.count_step_flops(small, teacher, Losses(cosine=Match(1.0)), 8, 16, 3) == 8 * (3 * one + other)


@pytest.mark.parametrize('layers', [4, 5, 6])
@pytest.mark.parametrize('remat', REMATS)
def test_the_flops_of_a_step_follow_what_it_recomputes(small: Architecture, make_batch: Callable, layers: int, remat: str) -> None:
    a = dataclasses.replace(small, layers=layers, width=64, inner=256, embedding=64, unroll=0, remat=remat)
    model = Model(a, (('mlm', 64),))
    state = jax.eval_shape(lambda: train.initial_state(model, Optimizer(), 0))
    step = train.make_step(model, None, Losses(), Optimizer(), 10)
    compiled = jax.jit(lambda state, batch: step(state, {}, batch, None)).lower(state, make_batch()).compile()
    analysis: Any = compiled.cost_analysis()
    plain = costs.count_step_flops(dataclasses.replace(a, remat='none'), None, Losses(), 16, 16, 3)
    predicted = costs.count_step_flops(a, None, Losses(), 16, 16, 3)
    assert (predicted > plain) == (remat != 'none')
    assert 1 <= analysis['flops'] / predicted < 1.1


@pytest.mark.parametrize(('name', 'copies'), [('adamw', 2), ('lamb', 2), ('muon', 2), ('sgd', 0)])
def test_memory_counts_the_copies_of_the_optimizer(small: Architecture, name: str, copies: int) -> None:
    heads = (('mlm', 64),)
    size, teacher = (4 * costs.summarize_parameters(small, each)['total'] for each in (heads, ()))
    params = jax.eval_shape(lambda: initialise(Model(small, heads), jax.random.key(0)))
    once = 4 * sum(
        leaf.size for keys, leaf in jax.tree_util.tree_leaves_with_path(params) if is_hidden(paths.join(keys)) and name == 'muon'
    )  # of Muon's matrices there is one momentum and no second moment
    assert (once > 0) == (name == 'muon')
    for ema in (0.0, 0.9):
        kept = {'parameters': size, 'gradients': size, 'optimizer': size * copies - once}
        kept |= {'average': size if ema else 0, 'teacher': teacher}
        found = costs.estimate_state(small, heads, Optimizer(name=name, ema=ema), Grid(), (small, ()))
        assert found == {**kept, 'total': sum(kept.values())}


def test_each_candidate_of_a_choice_is_a_sequence(small: Architecture) -> None:
    losses = Losses(mlm=Mlm(0.0), choice=Plain(1.0))
    found = costs.count_flops(small, None, losses, Data(task='race', length=16), 8)
    assert found['per_step'] == 8 * 4 * 16 * 3 * found['per_token']


@pytest.mark.parametrize(
    ('kind', 'model', 'devices'), [('jit', 1, 8), ('jit', 2, 8), ('fsdp', 1, 8), ('fsdp', 2, 8), ('fsdp', 1, 4)]
)
def test_the_bytes_of_state_on_a_device_are_those_predicted(small: Architecture, kind: str, model: int, devices: int) -> None:
    a = dataclasses.replace(small, width=32, inner=96, embedding=24, types=0)  # 8 devices do not divide every side
    heads, optimizer = (('mlm', 64), ('pair', 2)), Optimizer(ema=0.9)
    plan = parallel.PARALLEL[kind].plan(jax.devices()[:devices], model)
    state = plan.put_state(train.initial_state(Model(a, heads), optimizer, 0))
    teacher = plan.put_state(train.initial_state(Model(small, heads), optimizer, 1).params)
    measured: dict[Any, int] = {}
    for leaf in jax.tree.leaves((state, teacher)):
        for shard in leaf.addressable_shards:
            measured[shard.device] = measured.setdefault(shard.device, 0) + shard.data.nbytes
    grid = parallel.make_grid(kind, devices, model)
    predicted = costs.estimate_state(a, heads, optimizer, grid, (small, heads))
    kept = predicted['total'] - predicted['gradients']
    assert len(measured) == devices and max(measured.values()) == pytest.approx(kept, rel=0.05)
    whole = costs.estimate_state(a, heads, optimizer, Grid(), (small, heads))
    assert (whole['parameters'], whole['teacher']) == (4 * sizes(state.params), 4 * sizes(teacher))
    shares = {('jit', 1): 1.0, ('jit', 2): 0.75, ('fsdp', 1): 0.4, ('fsdp', 2): 0.4}
    assert all(predicted[name] <= shares[kind, model] * whole[name] for name in whole)
