"""Reading Hugging Face folders: every supported form, and every error."""

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from research.errors import UserError
from research.interchange import configuration, reading, weights
from research.interchange.tensor_names import flatten
from research.interchange.weights import open_weights
from research.models.sharing import layout
from research.runs import sources


def change(folder: Path, edit) -> None:
    """Applies `edit` to the dict of a folder's tensors."""
    tensors = load_file(folder / 'model.safetensors')
    edit(tensors)
    save_file(tensors, folder / 'model.safetensors')


def fails(folder: Path, message: str) -> None:
    """The folder is refused with one line that contains `message`."""
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        reading.open_folder(folder, 'model')
    assert '\n' not in str(raised.value)


def same(a, b) -> bool:
    """Whether two donors have the same parameters, bit for bit."""
    left, right = flatten(a.params), flatten(b.params)
    return left.keys() == right.keys() and all(left[path].tobytes() == right[path].tobytes() for path in left)


@pytest.mark.parametrize('name', ['BertPretraining', 'AlbertPretraining', 'DistilBertMlm'])
def test_old_names_missing_prefixes_buffers_and_tied_copies_change_nothing(name, model):
    folder = model(name)
    plain, _ = reading.open_folder(folder, 'plain')
    kind = configuration.read_config(folder)['model_type']

    def old(tensors):
        for given in list(tensors):
            new = (
                given.removeprefix(f'{kind}.')
                .replace('LayerNorm.weight', 'LayerNorm.gamma')
                .replace('LayerNorm.bias', 'LayerNorm.beta')
            )
            tensors[new] = tensors.pop(given)
        tensors['embeddings.position_ids'] = np.arange(16)[None]
        decoder = {'bert': 'cls.predictions.decoder', 'albert': 'predictions.decoder', 'distilbert': 'vocab_projector'}[kind]
        tensors[f'{decoder}.weight'] = tensors['embeddings.word_embeddings.weight']

    change(folder, old)
    found, report = reading.open_folder(folder, 'old')
    assert same(plain, found)
    assert sorted(row.what for row in report if row.status == 'ignored') == sorted(
        [
            'embeddings.position_ids (a constant)',
            {'bert': 'cls.predictions.decoder', 'albert': 'predictions.decoder', 'distilbert': 'vocab_projector'}[kind]
            + '.weight (tied, and equal)',
        ]
    )


def test_a_tied_bias_may_have_its_other_name(model):
    folder = model()
    plain, _ = reading.open_folder(folder, 'plain')
    change(folder, lambda tensors: tensors.update({'cls.predictions.decoder.bias': tensors.pop('cls.predictions.bias')}))
    assert same(plain, reading.open_folder(folder, 'renamed')[0])


def test_shards_are_read_as_one(model):
    folder = model()
    plain, _ = reading.open_folder(folder, 'plain')
    tensors = load_file(folder / 'model.safetensors')
    (folder / 'model.safetensors').unlink()
    names = sorted(tensors)
    parts = {'model-00001-of-00002.safetensors': names[::2], 'model-00002-of-00002.safetensors': names[1::2]}
    for file, members in parts.items():
        save_file({name: tensors[name] for name in members}, folder / file)
    index = {'weight_map': {name: file for file, members in parts.items() for name in members}}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
    assert same(plain, reading.open_folder(folder, 'shards')[0])
    (folder / 'model-00002-of-00002.safetensors').unlink()
    fails(folder, 'lacks model-00002-of-00002.safetensors, one of 2 shards')
    for index, message in (
        ('{}', 'it has no weight_map'),
        ('{"weight_map": 3}', 'it has no weight_map'),
        ('{"weight_map": {"a": 3}}', 'it has no weight_map'),
        ('[' * 100_000, 'it nests deeper than 100'),
        ('{"weight_map": {"a": "../x.safetensors"}}', "the shard '../x.safetensors', which is no .safetensors file beside it"),
        ('{"weight_map": {"a": "x.bin"}}', "the shard 'x.bin', which is no .safetensors file beside it"),
        (
            '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
            'lacks the tensor a, which model.safetensors.index.json',
        ),
    ):
        (folder / 'model.safetensors.index.json').write_text(index)
        fails(folder, message)
    (folder / 'config.json').write_text('{"vocab_size": ' + '9' * 5000 + '}')
    fails(folder, 'is not JSON')


def test_the_shard_that_the_index_names_wins(model):
    folder = model()
    plain, _ = reading.open_folder(folder, 'plain')
    tensors = load_file(folder / 'model.safetensors')
    (folder / 'model.safetensors').rename(folder / 'model-1.safetensors')
    save_file({name: x + 1 for name, x in tensors.items()}, folder / 'model-2.safetensors')
    last = sorted(tensors)[-1]
    index = dict.fromkeys(tensors, 'model-1.safetensors') | {last: 'model-2.safetensors'}
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': index}))
    opened = open_weights(folder)
    for name, x in tensors.items():
        np.testing.assert_array_equal(opened[name].read(), x + 1 if name == last else x)
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': dict.fromkeys(tensors, 'model-1.safetensors')}))
    assert same(plain, reading.open_folder(folder, 'shards')[0])


@pytest.mark.parametrize('wrapper', ['module.', '_orig_mod.', 'model.', 'model._orig_mod.', '0.auto_model.', 'net.bert.'])
@pytest.mark.parametrize('name', ['BertLabel', 'DistilBertSpan'])
def test_what_wrappers_put_before_all_names_is_left_out(wrapper, name, model):
    folder = model(name)
    plain, report = reading.open_folder(folder, 'plain')
    change(folder, lambda tensors: [tensors.update({wrapper + each: tensors.pop(each)}) for each in list(tensors)])
    found, again = reading.open_folder(folder, 'wrapped')
    assert same(plain, found) and again == report


def test_two_models_in_one_file_are_refused(model):
    folder = model()
    change(folder, lambda tensors: tensors.update({f'{side}.{name}': tensors[name] for side in 'ab' for name in list(tensors)}))
    assert reading.open_folder(folder, 'the plain one')[0].heads
    change(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name[:2] not in ('a.', 'b.')])
    fails(folder, "the weights hold 2 models, 'a.…' and 'b.…': save one of them alone")


def test_a_name_that_is_there_is_told_where_none_fits(model):
    folder = model()
    change(folder, lambda tensors: [tensors.update({f'{each}.ours': tensors.pop(each)}) for each in list(tensors)])
    fails(folder, 'its weights hold e.g. bert.embeddings.LayerNorm.bias.ours')


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'architectures': None}, 'one of bert, distilbert, albert, megatron-bert, roformer to it, such as "model_type": "bert"'),
        ({'dim': 8, 'n_layers': 2, 'n_heads': 2, 'hidden_dim': 12}, 'such as "model_type": "distilbert"'),
        ({'embedding_size': 128, 'hidden_size': 8, 'classifier_dropout_prob': 0.1}, 'such as "model_type": "albert"'),
    ],
)
def test_a_config_without_its_model_type_says_what_to_add(given, message, model):
    folder = model()
    (folder / 'config.json').write_text(json.dumps(given))
    fails(folder, message)


def test_a_checkpoint_of_tensorflow_is_refused_with_the_command_that_converts_it(tmp_path):
    for name in ('bert_model.ckpt.index', 'bert_model.ckpt.data-00000-of-00001', 'bert_config.json', 'vocab.txt'):
        (tmp_path / name).write_text('')
    message = 'transformers-cli convert --model_type bert --tf_checkpoint bert_model.ckpt --config bert_config.json --pytorch_dump'
    fails(tmp_path, message)
    for door in (sources.read_experiment, sources.open_donor):
        with pytest.raises(UserError, match=message):
            door(str(tmp_path), tmp_path / 'x', 'start')
    (tmp_path / 'bert_config.json').rename(tmp_path / 'albert_config.json')
    fails(tmp_path, 'convert --model_type albert --tf_checkpoint bert_model.ckpt --config albert_config.json')
    (tmp_path / 'a;$(b).ckpt.index').write_text('')  # the command can be pasted
    fails(tmp_path, "--tf_checkpoint 'a;$(b).ckpt' --config")


def test_missing_fields_have_the_defaults_of_the_class():
    assert configuration.read_architecture({'model_type': 'albert'}, True).width == 4096
    bert = configuration.read_architecture({'model_type': 'bert'}, True)
    assert (bert.layers, bert.activation, bert.head_dropout, bert.span_dropout) == (12, 'gelu', 0.1, 0.0)
    rotary = configuration.read_architecture({'model_type': 'roformer', 'embedding_size': None, 'hidden_dropout_prob': 0.2}, False)
    assert (rotary.embedding, rotary.positions, rotary.position_kind, rotary.norm) == (768, 1536, 'rotary', 'post')
    megatron = configuration.read_architecture({'model_type': 'megatron-bert', 'hidden_dropout_prob': 0.2}, True)
    assert (megatron.width, megatron.norm, megatron.head_dropout, megatron.embedding) == (1024, 'pre', 0.2, 1024)
    distilled = configuration.read_architecture({'model_type': 'distilbert', 'num_hidden_layers': 3}, False)
    assert (distilled.layers, distilled.types, distilled.head_dropout, distilled.span_dropout) == (3, 0, 0.2, 0.1)


def test_every_field_of_a_config_has_its_effect():
    given = {
        'model_type': 'bert',
        'vocab_size': 99,
        'num_hidden_layers': 3,
        'hidden_size': 24,
        'num_attention_heads': 3,
        'intermediate_size': 7,
        'max_position_embeddings': 20,
        'type_vocab_size': 4,
        'hidden_act': 'relu',
        'hidden_dropout_prob': 0.2,
        'attention_probs_dropout_prob': 0.3,
        'classifier_dropout': 0.4,
        'layer_norm_eps': 1e-5,
        'initializer_range': 0.5,
    }
    a = configuration.read_architecture(given, True)
    written = configuration.make_config('bert', a, ('mlm',), (3, 3, 1))
    assert given == {name: written[name] for name in given}
    for name, value in given.items():
        if name != 'model_type':
            assert configuration.read_architecture({key: x for key, x in given.items() if key != name}, True) != a, (name, value)


@pytest.mark.parametrize(
    ('layers', 'groups', 'inner', 'sharing', 'order'),
    [
        (4, 1, 1, 'all', [0, 0, 0, 0]),
        (4, 4, 1, 'none', [0, 1, 2, 3]),
        (4, 2, 1, 'groups', [0, 0, 1, 1]),
        (5, 3, 1, 'groups', [0, 0, 1, 1, 2]),
        (2, 1, 2, 'cycle', [0, 1, 0, 1]),
        (2, 2, 2, 'none', [0, 1, 2, 3]),
        (4, 2, 2, 'table', [0, 1, 0, 1, 2, 3, 2, 3]),
        (1, 1, 1, 'all', [0]),
    ],
)
def test_groups_and_inner_blocks_are_sharing(layers, groups, inner, sharing, order):
    config = {'model_type': 'albert', 'num_hidden_layers': layers, 'num_hidden_groups': groups, 'inner_group_num': inner}
    a = configuration.read_architecture(config, True)
    assert a.sharing == sharing
    assert [pair[0] for pair in layout(a)] == order
    assert [pair[1] for pair in layout(a)] == order


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'model_type': 'bart'}, 'model_type "bart"; the supported types are bert, distilbert, albert, megatron-bert, roformer'),
        ({'model_type': ['bert']}, 'has model_type ["bert"]; the supported types are'),
        (
            {'hidden_size': 10**6},
            '(vocabulary 32, width 1,000,000, inner 12, 16 positions, 2 layers), but the weights hold',
        ),
        ({'hidden_size': 10**9 + 7}, 'has hidden_size=1000000007; at most 1,048,576 is supported'),
        ({'vocab_size': 10**9}, 'has vocab_size=1000000000; at most 16,777,216 is supported'),
        ({'num_hidden_layers': 10**9}, 'has num_hidden_layers=1000000000; at most 1,024 is supported'),
        ({'problem_type': 'x', 'is_decoder': [[]] * 99}, 'is_decoder=[[], [], '),
        ({'layer_norm_eps': -1.0}, 'a model that cannot be built: model.epsilon=-1.0 must be above 0 and below 1'),
        ({'hidden_act': 'silu'}, "hidden_act='silu', which is not supported (there are: gelu"),
        (
            {'position_embedding_type': 'relative_key'},
            'position_embedding_type="relative_key", which is not supported (only "absolute")',
        ),
        ({'is_decoder': True}, 'is_decoder=true, which is not supported'),
        ({'add_cross_attention': True}, 'add_cross_attention=true'),
        ({'pruned_heads': {'0': [1]}}, 'pruned_heads={"0": [1]}'),
        ({'quantization_config': {'bits': 4}}, 'quantization_config={"bits": 4}'),
        ({'hidden_size': '8'}, 'hidden_size="8"; it must be of type int'),
        ({'num_attention_heads': 3}, 'a model that cannot be built: model.width=8 is not a multiple of model.heads=3'),
        ({'intermediate_size': 20}, 'intermediate.dense.bias has shape (12,) in the weights, but config.json asks for (20,)'),
        ({'num_hidden_layers': 3}, 'lacks bert.encoder.layer.2.attention.self.key.bias and 15 more tensors of the encoder'),
        (
            {'vocab_size': 40},
            'bert.embeddings.word_embeddings.weight has shape (32, 8) in the weights, but config.json asks for (40, 8)',
        ),
    ],
)
def test_an_unsupported_config_is_refused(config, message, model):
    fails(model(**config), message)


def test_groups_that_no_layer_uses_are_refused(model):
    fails(model('AlbertPretraining', num_hidden_groups=3), 'num_hidden_groups=3 and inner_group_num=1 with num_hidden_layers=2')


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        ({'0': 'a', '1': 'b'}, 'classifier.weight has shape (3, 8) in the weights, but config.json has 2 labels'),
        ({'0': 'a', '2': 'b'}, 'it must number the labels 0, 1, …'),
        (['a', 'b'], 'it must number the labels 0, 1, …'),
        ({'0': 'a', '1': 'b', '01': 'c'}, 'it must number the labels 0, 1, …'),
        ({'0': 'a', '1': 'b', '2': None}, 'the name of a label must be a text'),
    ],
)
def test_labels_that_contradict_the_weights_are_refused(labels, message, model):
    fails(model('BertLabel', id2label=labels), message)


def test_labels_are_named_or_numbered(model):
    assert reading.open_folder(model('BertLabel'), 'model')[0].labels == ('bad', 'fine', 'good')
    assert reading.open_folder(model('AlbertLabel', id2label=None), 'model')[0].labels == ('LABEL_0', 'LABEL_1', 'LABEL_2')


@pytest.mark.parametrize(
    ('config', 'fault'),
    [
        ({'problem_type': 'multi_label_classification'}, 'an input has one label'),
        ({'problem_type': 'regression'}, 'with 3 scores, which is not supported'),
        (
            {'id2label': {'0': 'other', '1': 'good', '2': 'other'}},
            'has id2label with "other" as 0 and as 2: give each label',
        ),
    ],
)
def test_a_label_head_that_cannot_be_read_is_left_out(config, fault, model):
    donor, report = reading.open_folder(model('BertLabel', **config), 'model')
    assert donor.heads == () and donor.labels == () and fault in donor.faults['label']
    assert ('ignored', 'classifier.weight', 1, 24) in report
    assert any(row.status == 'ignored' and fault in row.what for row in report)


def test_missing_heads_are_random_and_reported(model):
    folder = model()
    change(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith('cls.predictions.transform')])
    donor, report = reading.open_folder(folder, 'model')
    assert donor.heads == (('pair', 2),)
    assert ('random', 'mlm: the file has no cls.predictions.transform.dense.weight', 0, 0) in report
    assert ('ignored', 'cls.predictions.bias', 1, 32) in report


def test_a_head_for_token_classification_is_ignored(model):
    donor, report = reading.open_folder(model('BertLabel', architectures=['BertForTokenClassification']), 'model')
    assert not donor.heads
    assert {row.what for row in report if row.status == 'ignored'} == {'classifier.weight', 'classifier.bias'}


def test_a_part_of_the_encoder_that_is_missing_is_refused(model):
    folder = model()
    change(folder, lambda tensors: tensors.pop('bert.encoder.layer.1.output.dense.bias'))
    fails(folder, 'lacks bert.encoder.layer.1.output.dense.bias of the encoder')


def test_a_classifier_without_its_pooler_is_refused(model):
    folder = model('BertLabel')
    change(folder, lambda tensors: [tensors.pop(f'bert.pooler.dense.{leaf}') for leaf in ('weight', 'bias')])
    fails(folder, 'lack the pooler (pooler.dense.weight) that the label head reads')


def test_an_untied_vocabulary_is_refused(model):
    folder = model(tie_word_embeddings=False)
    fails(folder, 'tie_word_embeddings=false, but the weights have no cls.predictions.decoder.weight')
    change(folder, lambda tensors: tensors.update({'cls.predictions.decoder.weight': np.zeros((32, 8), np.float32)}))
    fails(folder, 'cls.predictions.decoder.weight differs from encoder/word, but must be equal: tie_word_embeddings=false')


def test_two_tensors_of_one_name_are_refused(model):
    folder = model()
    change(folder, lambda tensors: tensors.update({'pooler.dense.bias': np.zeros(8, np.float32)}))
    fails(folder, 'hold bert.pooler.dense.bias twice')


def test_quantised_weights_are_refused(model):
    folder = model()
    change(folder, lambda tensors: tensors.update({'bert.pooler.dense.bias': np.zeros(8, np.int8)}))
    fails(folder, 'bert.pooler.dense.bias holds int8 numbers, which are not supported (only float16, bfloat16, float32, float64)')
    change(folder, lambda tensors: tensors.update({'bert.pooler.dense.bias': np.zeros(8, np.complex64)}))
    fails(folder, 'bert.pooler.dense.bias holds C64 numbers')


@pytest.mark.parametrize(('dtype', 'bytes_of_8'), [('F8_E4M3', 8), ('F8_E5M2', 8), ('F4', 4), ('F6_E2M3', 6)])
def test_small_floats_are_refused_by_name(dtype, bytes_of_8, model):
    folder = model()
    content = (folder / 'model.safetensors').read_bytes()
    size = int.from_bytes(content[:8], 'little')
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    header.pop('bert.pooler.dense.bias')
    header = {name: facts for name, facts in header.items() if name != '__metadata__'}
    packed, at = b'', 0
    for facts in header.values():
        begin, end = facts['data_offsets']
        facts['data_offsets'] = [at, at + end - begin]
        packed, at = packed + body[begin:end], at + end - begin
    header['bert.pooler.dense.bias'] = {'dtype': dtype, 'shape': [8], 'data_offsets': [at, at + bytes_of_8]}
    text = json.dumps(header).encode()
    (folder / 'model.safetensors').write_bytes(struct.pack('<Q', len(text)) + text + packed + bytes(bytes_of_8))
    fails(folder, f'bert.pooler.dense.bias holds {dtype} numbers')


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('name', ['classifier.bias', 'bert.encoder.layer.0.output.dense.weight'])
def test_weights_that_are_not_finite_are_refused_by_name(name, value, model):
    folder = model('BertLabel')
    change(folder, lambda tensors: tensors[name].flat.__setitem__(1, value))
    fails(folder, f'{name} holds {value} in 1 of ')


def test_a_number_beyond_float32_is_refused_and_half_floats_are_read(model):
    folder = model()
    change(folder, lambda tensors: tensors.update({'bert.pooler.dense.bias': np.full(8, 1e300)}))
    fails(folder, 'bert.pooler.dense.bias holds 1e+300 in 8 of 8 places')
    change(folder, lambda tensors: tensors.update({'bert.pooler.dense.bias': np.arange(8, dtype=np.float16)}))
    donor, _ = reading.open_folder(folder, 'model')
    np.testing.assert_array_equal(donor.params['encoder']['pooler']['bias'], np.arange(8))


def test_bfloat16_is_the_upper_half_of_a_float32(model):
    folder = model()
    change(folder, lambda tensors: tensors.update({'bert.pooler.dense.bias': np.array([1.5, -2, 0, 3, 4, 5, 6, 7], 'bfloat16')}))
    donor, _ = reading.open_folder(folder, 'model')
    np.testing.assert_array_equal(donor.params['encoder']['pooler']['bias'], [1.5, -2, 0, 3, 4, 5, 6, 7])


def test_a_label_head_whose_bias_is_no_vector_is_refused(model):
    folder = model('BertLabel')
    change(folder, lambda tensors: tensors.update({'classifier.bias': np.array(1, np.float32)}))
    fails(folder, 'classifier.bias has shape () in the weights; it must have one number for each label')


def test_positions_other_than_sinusoids_are_learned(model):
    folder = model('DistilBertSinusoidal')
    assert reading.inspect(folder).architecture.position_kind == 'sinusoidal'
    change(folder, lambda tensors: tensors['distilbert.embeddings.position_embeddings.weight'].__iadd__(0.1))
    donor, _ = reading.open_folder(folder, 'model')
    assert donor.architecture.position_kind == 'learned'
    assert 'position' in donor.params['encoder']


def test_a_roformer_has_the_rotations_of_the_paper_or_is_refused(model):
    folder = model('RoFormerModel')
    name = 'encoder.embed_positions.weight'
    assert reading.inspect(folder).architecture.position_kind == 'rotary'
    change(folder, lambda tensors: tensors.update({name: tensors[name][:, ::-1].copy()}))
    fails(folder, f'roformer.{name} holds other angles than those of Su et al. 2021, which are not supported')
    change(folder, lambda tensors: tensors.update({name: tensors[name][:, :2].copy()}))
    fails(folder, f'roformer.{name} has shape (16, 2) in the weights, but config.json asks for (16, 4)')
    change(folder, lambda tensors: tensors.pop(name))
    assert reading.open_folder(folder, 'x')[0].architecture.position_kind == 'rotary'
    given = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(given | {'max_position_embeddings': 10**6}))
    fails(folder, '1,000,000 positions, 1 layers), but the weights hold')
    fails(model('RoFormerMlm', rotary_value=True), 'rotary_value=true, which is not supported')


def test_a_table_of_sinusoids_is_no_larger_than_the_file_explains(model):
    name = 'distilbert.embeddings.position_embeddings.weight'
    folder = model('DistilBertSinusoidal', max_position_embeddings=2**20)
    fails(folder, f'{2**20:,} positions')  # the table is there, and smaller
    change(folder, lambda tensors: tensors.pop(name))
    fails(folder, f'{2**20:,} positions')  # it would be computed
    folder = model('DistilBertModel', max_position_embeddings=24, sinusoidal_pos_embds=True)
    fails(folder, 'position')


def test_a_folder_without_its_files_is_refused(model, tmp_path):
    folder = model()
    (folder / 'model.safetensors').unlink()
    fails(folder, 'holds no weights: it has no model.safetensors or pytorch_model.bin')
    (folder / 'config.json').write_text('{')
    fails(folder, "config.json' is not JSON")
    (folder / 'config.json').write_text('[]')
    fails(folder, 'is not a JSON object')
    fails(tmp_path, 'has neither config.json nor experiment.json')


def test_a_truncated_safetensors_file_is_refused(model):
    folder = model()
    content = (folder / 'model.safetensors').read_bytes()
    header = struct.unpack('<Q', content[:8])[0]
    for size in (0, 5, 100, 8 + header + 40, len(content) - 1):
        (folder / 'model.safetensors').write_bytes(content[:size])
        fails(folder, "model.safetensors' is truncated or no safetensors file")


def test_a_tokenizer_with_more_pieces_than_the_model_is_refused(model):
    folder = model()
    with (folder / 'vocab.txt').open('a') as stream:
        stream.write('one\nmore\n')
    fails(folder, 'has 34 pieces, but config.json has vocab_size=32')


def test_a_file_of_too_many_tensors_is_refused(model, monkeypatch):
    monkeypatch.setattr(weights, 'TENSORS', 3)
    fails(model(), "model.safetensors' has 46 tensors; at most 3 are read")
