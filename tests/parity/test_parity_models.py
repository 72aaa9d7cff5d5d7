"""Every model type and head against transformers: hidden states, logits, exports and round trips."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from research.interchange import reading, writing
from research.models.architecture import Architecture
from research.models.heads import Model, initialise
from research.surgery import Donor
from tests.parity.peers import ALBERT, BASES, DISTIL, SHAPE, assert_same, inputs, load, same_bytes, their_model, torch

pytestmark = pytest.mark.filterwarnings('default')

HEADS = ('Model', 'ForMaskedLM', 'ForPreTraining', 'ForSequenceClassification', 'ForQuestionAnswering', 'ForMultipleChoice')

CASES = [
    *(('Bert', head, SHAPE) for head in HEADS),
    *(('DistilBert', head, DISTIL) for head in HEADS if head != 'ForPreTraining'),
    *(('Albert', head, ALBERT) for head in HEADS),
    *(('MegatronBert', head, SHAPE) for head in HEADS),
    *(('RoFormer', head, SHAPE) for head in ('Model', 'ForMaskedLM', 'ForQuestionAnswering')),
    ('Bert', 'ForNextSentencePrediction', SHAPE),
    ('MegatronBert', 'ForNextSentencePrediction', SHAPE | {'hidden_act': 'gelu_new', 'layer_norm_eps': 1e-5}),
    ('MegatronBert', 'ForMaskedLM', SHAPE | {'num_hidden_layers': 12, 'hidden_size': 64, 'intermediate_size': 256}),
    ('RoFormer', 'ForMaskedLM', ALBERT | {'hidden_act': 'relu', 'max_position_embeddings': 96, 'num_hidden_layers': 3}),
    ('Bert', 'ForMaskedLM', SHAPE | {'hidden_act': 'gelu_new', 'layer_norm_eps': 1e-5, 'type_vocab_size': 5}),
    ('Bert', 'ForMaskedLM', SHAPE | {'hidden_act': 'relu', 'num_hidden_layers': 1, 'type_vocab_size': 1}),
    ('Bert', 'ForPreTraining', SHAPE | {'num_hidden_layers': 12, 'hidden_size': 64, 'intermediate_size': 256}),
    ('Bert', 'ForSequenceClassification', SHAPE | {'num_labels': 5, 'classifier_dropout': 0.3, 'num_hidden_layers': 3}),
    ('Bert', 'ForSequenceClassification', SHAPE | {'num_labels': 1}),
    ('DistilBert', 'ForMaskedLM', DISTIL | {'sinusoidal_pos_embds': True, 'activation': 'relu'}),
    ('DistilBert', 'ForSequenceClassification', DISTIL | {'n_layers': 12, 'num_labels': 3, 'activation': 'gelu_new'}),
    ('Albert', 'ForPreTraining', ALBERT | {'num_hidden_layers': 12, 'hidden_size': 64, 'intermediate_size': 256}),
    ('Albert', 'ForMaskedLM', ALBERT | {'hidden_act': 'gelu', 'embedding_size': 32}),
    ('Albert', 'ForMaskedLM', ALBERT | {'num_hidden_layers': 4, 'num_hidden_groups': 2}),
    ('Albert', 'ForMaskedLM', ALBERT | {'num_hidden_layers': 5, 'num_hidden_groups': 3}),
    ('Albert', 'ForPreTraining', ALBERT | {'num_hidden_layers': 4, 'num_hidden_groups': 4, 'hidden_act': 'relu'}),
    ('Albert', 'ForPreTraining', ALBERT | {'num_hidden_layers': 2, 'inner_group_num': 2}),
    (
        'Albert',
        'ForMaskedLM',
        ALBERT | {'num_hidden_layers': 4, 'num_hidden_groups': 2, 'inner_group_num': 2, 'embedding_size': 32},
    ),
    ('Albert', 'Model', ALBERT | {'num_hidden_layers': 1, 'inner_group_num': 2, 'layer_norm_eps': 1e-6}),
    ('Albert', 'ForSequenceClassification', ALBERT | {'num_hidden_layers': 6, 'num_hidden_groups': 4, 'inner_group_num': 2}),
]


def name_of(case):
    """A readable id."""
    prefix, head, config = case
    base = BASES[prefix]
    return '-'.join([prefix + head, *(f'{key}={value}' for key, value in config.items() if key not in base or base[key] != value)])


@pytest.mark.parametrize('case', CASES, ids=name_of)
def test_parity_export_and_round_trip(case, tmp_path):
    prefix, head, config = case
    model = their_model(prefix, head, config)
    model.save_pretrained(tmp_path / 'theirs')
    donor, report = reading.open_folder(tmp_path / 'theirs', 'theirs')
    assert all(row.status == 'loaded' or 'sinusoids' in row.what for row in report)
    choices = head == 'ForMultipleChoice'
    tolerance = 2e-5 if donor.architecture.layers >= 12 else 1e-5
    given = inputs(96, donor.architecture.types)
    assert_same(model, donor, given, tolerance, choices)

    exported = writing.export_model(donor, tmp_path / 'run', tmp_path / 'export', None, 'unknown')
    assert exported.class_name == prefix + head
    assert not exported.notes
    again = load(prefix + head, tmp_path / 'export')
    if exported.albert[2] == getattr(model.config, 'inner_group_num', 1):
        assert all(torch.equal(x, again.state_dict()[name]) for name, x in model.state_dict().items())
    assert_same(again, donor, given, tolerance, choices)
    back, _ = reading.open_folder(tmp_path / 'export', 'export')
    assert back.heads == donor.heads
    assert same_bytes(donor.params, back.params)
    assert dataclasses.replace(back.architecture, sharing='', groups=0, table=()) == dataclasses.replace(
        donor.architecture, sharing='', groups=0, table=()
    )


@pytest.mark.parametrize(
    ('prefix', 'config'),
    [
        ('Bert', SHAPE),
        ('DistilBert', DISTIL),
        ('Albert', ALBERT | {'num_hidden_layers': 3}),
        ('MegatronBert', SHAPE),
        ('RoFormer', SHAPE),
    ],
)
def test_full_length(prefix, config, tmp_path):
    model = their_model(prefix, 'ForMaskedLM', config)
    model.save_pretrained(tmp_path)
    donor, _ = reading.open_folder(tmp_path, 'theirs')
    assert_same(model, donor, inputs(96, donor.architecture.types, length=512, rows=2), 1e-5)


@pytest.mark.parametrize('prefix', BASES)
@pytest.mark.parametrize(
    'form', ['bin', 'legacy bin', 'shards', 'sharded bin', 'bare', 'old names', 'tied twice', 'half', 'bfloat16']
)
def test_every_form_of_file(prefix, form, tmp_path):
    config = BASES[prefix]
    model = their_model(prefix, 'ForMaskedLM', config)
    tolerance = 1e-5
    if form in ('half', 'bfloat16'):
        model = model.to(torch.float16 if form == 'half' else torch.bfloat16)
    if form in ('shards', 'half', 'bfloat16'):
        model.save_pretrained(tmp_path, max_shard_size='16KB' if form == 'shards' else '5GB')
        assert (tmp_path / 'model.safetensors.index.json').exists() == (form == 'shards')
    else:
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(tmp_path)
        state = model.state_dict()
        base = model.base_model_prefix
        if form == 'bare':
            state = {name.removeprefix(f'{base}.'): x for name, x in state.items()}
        if form == 'old names':
            for new, old in (('LayerNorm.weight', 'LayerNorm.gamma'), ('LayerNorm.bias', 'LayerNorm.beta')):
                state = {name.replace(new, old): x for name, x in state.items()}
            state[f'{base}.embeddings.position_ids'] = torch.arange(512)[None]
        if form != 'tied twice':
            tied = ('decoder.weight', 'decoder.bias', 'vocab_projector.weight')
            state = {name: x for name, x in state.items() if not name.endswith(tied)}
        if form in ('bare', 'old names', 'tied twice'):
            from safetensors.torch import save_file

            save_file({name: x.clone() for name, x in state.items()}, tmp_path / 'model.safetensors')
        elif form == 'sharded bin':
            names = list(state)
            for i in range(2):
                torch.save({name: state[name] for name in names[i::2]}, tmp_path / f'pytorch_model-0000{i + 1}-of-00002.bin')
            index = {name: f'pytorch_model-0000{n % 2 + 1}-of-00002.bin' for n, name in enumerate(names)}
            (tmp_path / 'pytorch_model.bin.index.json').write_text(json.dumps({'weight_map': index}))
        else:
            torch.save(state, tmp_path / 'pytorch_model.bin', _use_new_zipfile_serialization=form == 'bin')
    donor, report = reading.open_folder(tmp_path, 'theirs')
    assert {row.status for row in report} == {'loaded', 'ignored'} if form in ('old names', 'tied twice') else {'loaded'}
    model = model.float()
    if prefix == 'RoFormer':  # its angles are constants: ours are exact, whatever the file holds
        table = model.roformer.encoder.embed_positions
        table.weight.data.copy_(table.create_weight())
    assert_same(model, donor, inputs(96, donor.architecture.types), tolerance)


def tiny(**fields):
    """A small Architecture."""
    small = Architecture(vocabulary=96, layers=4, width=32, heads=4, inner=48, embedding=32, positions=64)
    return dataclasses.replace(small, **fields)


def random_donor(a, heads=(), seed=0):
    """A model of ours whose parameters are all random."""
    params = initialise(Model(a, heads), jax.random.key(seed))
    generator = np.random.default_rng(seed)
    noisy = jax.tree.map(lambda x: np.asarray(x) + generator.normal(0, 0.05, x.shape).astype(np.float32), params)
    return Donor('mine', a, heads, noisy, None)


@pytest.mark.parametrize(
    ('fields', 'heads', 'class_name', 'groups'),
    [
        ({'sharing': 'attention'}, ('mlm', 'pair'), 'AlbertForPreTraining', (4, 4, 1)),
        ({'sharing': 'ffn'}, ('label',), 'AlbertForSequenceClassification', (4, 4, 1)),
        ({'sharing': 'cycle', 'groups': 2}, ('mlm',), 'AlbertForMaskedLM', (2, 1, 2)),
        ({'sharing': 'cycle', 'groups': 3}, ('mlm',), 'AlbertForMaskedLM', (4, 4, 1)),
        ({'sharing': 'groups', 'groups': 2}, ('mlm', 'pair'), 'AlbertForPreTraining', (4, 2, 1)),
        ({'sharing': 'all', 'embedding': 16}, ('span',), 'AlbertForQuestionAnswering', (4, 1, 1)),
        ({'sharing': 'table', 'table': ((0, 0), (1, 0), (0, 0), (1, 1))}, ('mlm',), 'AlbertForMaskedLM', (4, 4, 1)),
        ({'sharing': 'table', 'table': ((0, 0), (0, 0), (1, 1), (1, 1))}, ('mlm', 'pair'), 'AlbertForPreTraining', (4, 2, 1)),
        ({'embedding': 16}, ('choice',), 'AlbertForMultipleChoice', (4, 4, 1)),
        ({}, ('mlm', 'pair'), 'BertForPreTraining', None),
        ({}, ('mlm',), 'BertForMaskedLM', None),
        ({'types': 0}, ('mlm', 'pair'), 'BertForPreTraining', None),
        ({'position_kind': 'sinusoidal', 'types': 0, 'embedding': 16}, ('mlm',), 'AlbertForMaskedLM', (4, 4, 1)),
        ({'types': 0, 'pooler': False}, ('label',), 'DistilBertForSequenceClassification', None),
        ({'types': 0, 'pooler': False, 'position_kind': 'sinusoidal'}, ('mlm',), 'DistilBertForMaskedLM', None),
        ({'norm': 'pre'}, ('mlm', 'pair'), 'MegatronBertForPreTraining', None),
        ({'norm': 'pre', 'position_kind': 'sinusoidal', 'types': 0}, ('label',), 'MegatronBertForSequenceClassification', None),
        ({'norm': 'pre', 'sharing': 'attention'}, ('choice',), 'MegatronBertForMultipleChoice', None),
        ({'norm': 'pre', 'sharing': 'all'}, ('span',), 'MegatronBertForQuestionAnswering', None),
        ({'norm': 'deepnorm'}, ('mlm', 'pair'), 'BertForPreTraining', None),
        ({'norm': 'deepnorm', 'types': 0, 'pooler': False}, ('label',), 'DistilBertForSequenceClassification', None),
        ({'norm': 'deepnorm', 'sharing': 'all', 'embedding': 16}, ('mlm', 'pair'), 'AlbertForPreTraining', (4, 1, 1)),
        ({'position_kind': 'rotary'}, ('mlm',), 'RoFormerForMaskedLM', None),
        ({'position_kind': 'rotary', 'norm': 'deepnorm', 'embedding': 16}, ('mlm',), 'RoFormerForMaskedLM', None),
        ({'position_kind': 'rotary', 'types': 0, 'sharing': 'ffn'}, ('span',), 'RoFormerForQuestionAnswering', None),
    ],
)
def test_our_models_in_their_classes(fields, heads, class_name, groups, tmp_path):
    a = tiny(**fields)
    classes = {'mlm': a.vocabulary, 'pair': 2, 'label': 3, 'span': 2, 'choice': 1}
    donor = random_donor(a, tuple((head, classes[head]) for head in heads))
    exported = writing.export_model(donor, tmp_path / 'run', tmp_path / 'export', None, 'unknown')
    assert exported.class_name == class_name
    assert groups is None or exported.albert == groups
    model = load(class_name, tmp_path / 'export')
    assert_same(model, donor, inputs(96, a.types), 1e-5, choices='choice' in heads)
