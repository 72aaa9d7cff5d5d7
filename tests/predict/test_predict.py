"""Predictions: what each kind tells, in what order, and what a mistake in the input is told as."""

import dataclasses
import gzip
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from research.command import run_command
from research.data import json_lines
from research.data.settings import Answers, Data
from research.data.tokenizers import load_tokenizer, vocabulary_of, with_mask
from research.errors import UserError
from research.interchange import reading
from research.models.heads import Model, initialise
from research.predict import __main__, batching, inputs, kinds
from tests.interchange.conftest import model

__all__ = ['model']  # the fixture: a copy of a tiny model of transformers


def ask(source: Path, kind: str, lines: list[Any], output: str = 'out.jsonl') -> list[Any]:
    """What research.predict says of `lines`."""
    folder = source.parent
    (folder / 'in.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    arguments = [str(source), f'--kind={kind}', f'--input={folder / "in.jsonl"}', f'--output={folder / output}']
    assert run_command(__main__.main, arguments) == 0
    return [json.loads(line) for line in (folder / output).read_text().splitlines()] if output.endswith('l') else []


def read(folder: Path, room: int, data: Data | None = None) -> inputs.Reader:
    """The Reader of a model's tokenizer."""
    tokenizer = load_tokenizer(folder)
    return inputs.Reader(*with_mask(tokenizer, vocabulary_of(tokenizer)), room, True, data or Data())


TEXTS = ['the old king', 'a', '', 'the new sailor lost a map of the garden . . . .', 'the old king lost a clock', 'un clocks é']


def test_predictions_come_in_the_order_of_the_input_whatever_their_lengths(model: Callable) -> None:
    folder = model('BertLabel')
    together = ask(folder, 'embed', [{'text': text} for text in TEXTS])
    alone = [ask(folder, 'embed', [{'text': text}])[0] for text in TEXTS]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one['embedding'], other['embedding'], rtol=0, atol=1e-6)
    assert together == ask(folder, 'embed', [{'text': text} for text in TEXTS])


def test_an_embedding_is_the_mean_of_the_last_hidden_states(model: Callable) -> None:
    folder = model('BertModel')
    told = ask(folder, 'embed', [{'text': text} for text in TEXTS])
    ask(folder, 'hidden', [{'text': text} for text in TEXTS], 'out.npz')
    tokenizer = load_tokenizer(folder)
    with np.load(folder.parent / 'out.npz') as arrays:
        assert list(arrays) == [f'{i}/hidden_{layer}' for i in range(len(TEXTS)) for layer in range(2)]
        for i, text in enumerate(TEXTS):
            assert arrays[f'{i}/hidden_1'].shape == (len(tokenizer.encode(text).ids), 8)
            np.testing.assert_allclose(told[i]['embedding'], arrays[f'{i}/hidden_1'].mean(0), rtol=0, atol=1e-6)


def test_fill_mask_tells_the_best_pieces_of_each_mask(model: Callable) -> None:
    folder = model()
    one, two = ask(folder, 'fill-mask', [{'text': 'the [MASK] king'}, {'text': '[MASK] old', 'pair': 'a [MASK] .'}])
    assert len(one['masks']) == 1
    assert len(two['masks']) == 2
    for filled in (*one['masks'], *two['masks']):
        probabilities = [each['probability'] for each in filled]
        assert len(filled) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) < 1
        assert len({each['piece'] for each in filled}) == 5


def test_of_special_pieces_the_mask_alone_is_one_in_a_text(model: Callable) -> None:
    reader = read(model(), 30)
    ((one,),) = inputs.read_masked(reader, [inputs.Input('line 1', {'text': 'the [SEP] [MASK] king [MASK][CLS]'})])
    ((other,),) = inputs.read_text(reader, [inputs.Input('line 1', {'text': 'the [SEP] king [CLS]'})])
    assert [one.ids[position] for position in one.positions] == [reader.pieces.mask] * 2
    assert [id for id in one.ids if id != reader.pieces.mask] == other.ids


def test_a_pair_is_read_as_two_segments(model: Callable) -> None:
    folder = model('BertLabel')
    paired, other, single = ask(
        folder, 'classify', [{'text': 'the king', 'pair': 'lost'}, {'text': 'the', 'pair': 'king lost'}, {'text': 'the king lost'}]
    )
    assert paired != other
    assert paired != single
    assert list(paired['probabilities']) == ['bad', 'fine', 'good']
    assert sum(paired['probabilities'].values()) == pytest.approx(1)
    assert paired['label'] == max(paired['probabilities'], key=paired['probabilities'].__getitem__)


def test_a_long_pair_is_cut_where_it_is_longer(model: Callable) -> None:
    tokenizer = load_tokenizer(model())
    reader = inputs.Reader(tokenizer, vocabulary_of(tokenizer), 10, True, Data())
    cls, sep = reader.pieces.cls, reader.pieces.sep
    a, b = np.full(20, 5, np.int32), np.full(20, 6, np.int32)
    assert reader.sequence(a) == ([cls, *[5] * 8, sep], [0] * 10)
    assert reader.sequence(a, b[:2]) == ([cls, *[5] * 5, sep, 6, 6, sep], [0] * 7 + [1] * 3)
    assert reader.sequence(a, b) == ([cls, *[5] * 4, sep, *[6] * 3, sep], [0] * 6 + [1] * 4)
    assert reader.sequence(a[:2], b) == ([cls, 5, 5, sep, *[6] * 5, sep], [0] * 4 + [1] * 6)


def test_an_answer_is_a_part_of_its_context(model: Callable) -> None:
    folder = model('BertSpan')
    context = 'The old  king, lost a MAP of the clock.'
    for told in ask(folder, 'answer', [{'question': 'the sailor', 'context': text} for text in (context, 'é', '')]):
        assert 0 <= told['score'] <= 1
        assert set(told) == {'answer', 'start', 'end', 'score', 'no_answer'}
        if told['answer']:
            assert told['answer'] in (context[told['start'] : told['end']], 'é')
    assert told['answer'] == ''


def test_windows_over_a_long_context_cover_all_of_it(model: Callable) -> None:
    tokenizer = load_tokenizer(model())
    reader = inputs.Reader(tokenizer, vocabulary_of(tokenizer), 300, True, Data())
    context = ' '.join(['king', 'map', 'clock'] * 200)
    (windows,) = inputs.read_question(reader, [inputs.Input('line 1', {'question': 'the ' * 100, 'context': context})])
    assert len(windows) > 3
    assert all(len(window.ids) <= 300 for window in windows)
    assert [window.ids[1 : window.first - 1] for window in windows] == [[5] * 64] * len(windows)
    starts = [window.offsets[0][0] for window in windows]
    pieces = {offset: i for i, offset in enumerate(tokenizer.encode(context, add_special_tokens=False).offsets)}
    assert [pieces[window.offsets[0]] for window in windows] == [128 * i for i in range(len(windows))]
    assert starts[0] == 0
    assert windows[-1].offsets[-1][1] == len(context)


def test_answers_are_looked_for_as_in_training(model: Callable) -> None:
    tokenizer = load_tokenizer(model())
    data = Data(answers=Answers(stride=5, question=2))
    reader = inputs.Reader(tokenizer, vocabulary_of(tokenizer), 20, True, data)
    (windows,) = inputs.read_question(reader, [inputs.Input('line 1', {'question': 'the ' * 9, 'context': 'king map clock ' * 9})])
    assert [window.first for window in windows] == [4] * len(windows)
    assert [window.offsets[0] for window in windows[:2]] == [(0, 4), (24, 29)]


@pytest.mark.parametrize(
    ('task', 'threshold', 'answer'), [('squad', 0.0, 'king'), ('squad2', 0.0, ''), ('squad2', 3.0, 'king'), ('', 0.0, 'king')]
)
def test_no_answer_is_told_where_it_leads(task: str, threshold: float, answer: str) -> None:
    one = inputs.Sequence([], [], offsets=((0, 4), (5, 8)), first=3, starts=np.ones(2, bool))
    donor: Any = SimpleNamespace(heads=(('span', 2),))
    logits = np.full((6, 2), -9.0, np.float32)
    logits[0], logits[3] = 2.0, 1.0
    anything: Any = None
    reader = inputs.Reader(anything, anything, 6, True, Data(task=task, answers=Answers(threshold=threshold)))
    asked = inputs.Input('line 1', {'question': 'who', 'context': 'king map'})
    told = kinds.describe_answer(donor, reader, asked, [(one, logits)])
    assert (told['answer'], told['end']) == (answer, len(answer))


def test_the_best_window_answers(model: Callable) -> None:
    folder = model('BertSpan')
    donor, _ = reading.open_folder(folder, 'model')
    kind = kinds.KINDS['answer']
    context = ' '.join(['king', 'map', 'clock', 'garden', 'old'] * 5)
    asked = inputs.Input('line 1', {'question': 'a', 'context': context})
    (told,) = batching.predict(donor, kind, Data(length=10), [asked])
    assert told['answer'] == context[told['start'] : told['end']]
    tokenizer = load_tokenizer(folder)
    reader = inputs.Reader(tokenizer, vocabulary_of(tokenizer), 10, True, Data())
    (windows,) = inputs.read_question(reader, [asked])
    scores = []
    for window in windows:
        part = context[window.offsets[0][0] : window.offsets[-1][1]]
        (one,) = batching.predict(donor, kind, Data(length=10), [inputs.Input('line 1', {'question': 'a', 'context': part})])
        scores.append((one['score'], one['start'] + window.offsets[0][0], one['end'] + window.offsets[0][0]))
    assert (told['start'], told['end']) == max(scores)[1:]
    assert told['score'] == pytest.approx(max(scores)[0], abs=1e-6)


def test_alberts_head_answers_by_its_tried_spans_and_its_class(model: Callable) -> None:
    """The same kind reads either head: without a type embedding, too, the context is known."""
    folder = model('BertSpan')
    donor, _ = reading.open_folder(folder, 'model')
    network = Model(donor.architecture, (('answer', 1),))
    params = {**donor.params, 'answer': jax.device_get(initialise(network, jax.random.key(0)))['answer']}
    donor = dataclasses.replace(donor, heads=network.heads, params={name: params[name] for name in ('encoder', 'answer')})
    context = 'king map clock garden old'
    asked = inputs.Input('line 1', {'question': 'a', 'context': context})
    data = Data(task='squad2', length=16, answers=Answers(starts=9, ends=9))
    kind = batching.require(donor, 'answer')
    ((told,), (silent,)) = (list(batching.predict(donor, kind, data, [asked], no_answer=lead)) for lead in (99.0, -99.0))
    assert told['answer'] == context[told['start'] : told['end']] != '' and 0 < told['score'] < 1
    assert silent['answer'] == '' and silent['no_answer'] == told['no_answer'] and abs(told['no_answer']) < 99


def test_few_shapes_are_compiled(model: Callable) -> None:
    tokenizer = load_tokenizer(model())
    reader = inputs.Reader(tokenizer, vocabulary_of(tokenizer), 512, True, Data())
    draw = np.random.default_rng(0)
    sizes: dict[int, int] = {}
    shapes = set()
    for _ in range(5):
        rows = [inputs.Sequence([2] * int(n), [0] * int(n)) for n in draw.integers(2, 513, 400)]
        seen = []
        for members, batch in batching.batches(rows, reader, sizes):
            shapes.add(batch['ids'].shape)
            seen += members
            for place, i in enumerate(members):
                assert batch['mask'][place].sum() == len(rows[i].ids)
            assert (batch['mask'].sum(1) > 0).all()
        assert sorted(seen) == list(range(400))
    assert {length for _, length in shapes} == {16, 32, 64, 128, 256, 512}
    assert all(rows * length <= batching.TOKENS for rows, length in shapes)
    assert len(shapes) <= 10


def test_inputs_come_from_the_standard_input_and_go_to_the_output(model: Callable, monkeypatch, capsys) -> None:
    folder = model('BertLabel')
    content = b'\xef\xbb\xbf{"text": "the king"}\n\n{"text": "a map"}\n'  # with a byte-order mark
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        monkeypatch.setattr('sys.stdin', pipe)
        assert run_command(__main__.main, [str(folder), '--kind=classify']) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)['label'] in ('bad', 'fine', 'good') for line in captured.out.splitlines()] == [True, True]
    assert re.search(r'^2 inputs, \d+\.\d s$', captured.err, re.MULTILINE)


def test_a_run_reads_as_much_as_it_was_trained_with(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / 'in.jsonl').write_text(json.dumps({'text': 'word ' * 100}) + '\n')
    arguments = [str(teacher), '--kind=hidden', f'--input={tmp_path / "in.jsonl"}', f'--output={tmp_path / "out.npz"}']
    assert run_command(__main__.main, arguments) == 0
    with np.load(tmp_path / 'out.npz') as arrays:
        assert arrays['0/hidden_0'].shape == (32, 32)


@pytest.mark.parametrize(
    ('kind', 'line', 'told'),
    [
        ('embed', '{"text": "a"', "in.jsonl' line 2 is not JSON (Expecting"),
        ('embed', '["a"]', 'in.jsonl\' line 2 is not a JSON object but ["a"]'),
        ('embed', '{"txt": "a"}', "in.jsonl' line 2 has no column 'text'; did you mean 'txt'?; it has txt"),
        ('embed', '{"text": 3}', "in.jsonl' line 2: column 'text' is not a text but 3"),
        ('embed', '{"text": "a", "pair": null}', "in.jsonl' line 2: column 'pair' is not a text but None"),
        ('embed', '{"text": "a \\ud83d"}', "in.jsonl' line 2: column 'text' holds half a surrogate pair"),
        ('embed', '{"text": ' + '9' * 5000 + '}', "in.jsonl' line 2 is not JSON"),
        ('embed', '[' * 100_000, "in.jsonl' line 2 is not JSON that can be read"),
        ('fill-mask', '{"text": "the king"}', 'line 2 has no [MASK] for fill-mask to fill: "the king"'),
        ('fill-mask', json.dumps({'text': 'a ' * 20 + '[MASK]'}), 'line 2 is longer than the 16 pieces that are read'),
    ],
)
def test_a_line_that_cannot_be_read_is_told_by_its_number(kind, line, told, model, capsys) -> None:
    folder = model()
    (folder.parent / 'in.jsonl').write_text('{"text": "a [MASK]"}\n' + line + '\n')
    output = folder.parent / 'out.jsonl'
    assert (
        run_command(__main__.main, [str(folder), f'--kind={kind}', f'--input={folder.parent / "in.jsonl"}', f'--output={output}'])
        == 2
    )
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('error: ')
    assert told in error
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, 'in.jsonl'}  # nothing half-written


def test_text_that_is_no_utf8_is_refused(model: Callable, monkeypatch, capsys) -> None:
    folder = model()
    file = folder.parent / 'in.jsonl'
    file.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    assert run_command(__main__.main, [str(folder), '--kind=embed', f'--input={file}']) == 2
    mend = 'is not UTF-8 at byte 24 (line 2); if it is WINDOWS-1252, convert it: iconv -f WINDOWS-1252 -t UTF-8'
    assert f"'{file}' {mend} {file} > NEW" in capsys.readouterr().err
    monkeypatch.setattr('sys.stdin', io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert run_command(__main__.main, [str(folder), '--kind=embed']) == 2
    assert f"'standard input' {mend} FILE > NEW" in capsys.readouterr().err


def test_a_line_that_is_too_long_is_refused(model: Callable, monkeypatch, capsys) -> None:
    folder = model()
    monkeypatch.setattr(json_lines, 'RECORD', 20)
    (folder.parent / 'in.jsonl').write_text('{"text": "a"}\n{"text": "a king and a map"}\n')
    assert run_command(__main__.main, [str(folder), '--kind=embed', f'--input={folder.parent / "in.jsonl"}']) == 2
    assert "in.jsonl' line 2 has more than 20 characters" in capsys.readouterr().err


def test_a_byte_order_mark_before_the_lines_is_no_text(model: Callable) -> None:
    folder = model()
    plain = ask(folder, 'embed', [{'text': 'a king'}])
    (folder.parent / 'in.jsonl').write_bytes(b'\xef\xbb\xbf' + (folder.parent / 'in.jsonl').read_bytes().replace(b'\n', b'\r'))
    arguments = [str(folder), '--kind=embed', f'--input={folder.parent / "in.jsonl"}', f'--output={folder.parent / "2.jsonl"}']
    assert run_command(__main__.main, arguments) == 0
    assert [json.loads(line) for line in (folder.parent / '2.jsonl').read_text().splitlines()] == plain
    (folder.parent / 'in.jsonl.gz').write_bytes(gzip.compress((folder.parent / 'in.jsonl').read_bytes()))
    assert run_command(__main__.main, [*arguments[:2], f'--input={folder.parent / "in.jsonl.gz"}', arguments[3]]) == 0
    assert [json.loads(line) for line in (folder.parent / '2.jsonl').read_text().splitlines()] == plain


@pytest.mark.parametrize('name', kinds.KINDS)
def test_a_mask_in_a_text_is_the_mask_for_every_kind(name: str, model: Callable) -> None:
    kind, reader = kinds.KINDS[name], read(model(), 30)
    texts = {'text': 'the [MASK] king', 'pair': 'a[MASK]', 'question': '[MASK] king', 'context': 'the [MASK] map'}
    fields = {field: texts[field] for field in (*kind.fields, *(['pair'] if kind.fields == ('text',) else []))}
    ((one,),) = kind.read(reader, [inputs.Input('line 1', fields)])
    assert one.ids.count(reader.pieces.mask) == 2
    if one.offsets:
        assert one.offsets[one.ids.index(reader.pieces.mask, one.first) - one.first] == (4, 10)  # without the space before it


def test_inputs_that_are_cut_are_counted(model: Callable, capsys) -> None:
    folder = model('BertLabel')
    ask(folder, 'classify', [{'text': 'king ' * 14}, {'text': 'king ' * 15}, {'text': 'king ' * 9, 'pair': 'map ' * 9}])
    room = reading.inspect(folder).architecture.positions
    assert f'2 of 3 inputs are longer than is read of them (at most {room} pieces) and were cut' in capsys.readouterr().err
    ask(folder, 'classify', [{'text': 'king'}])
    assert 'were cut' not in capsys.readouterr().err
    short = read(model('BertSpan'), 20, Data(answers=Answers(question=3)))
    asked = [inputs.Input('', {'question': 'king ' * n, 'context': 'a map'}) for n in (3, 4)]
    assert [[one.cut for one in each] for each in inputs.read_question(short, asked)] == [[False], [True]]


def test_an_id_without_a_piece_is_never_predicted(model: Callable) -> None:
    folder = model()
    donor, _ = reading.open_folder(folder, 'model')
    pieces = (folder / 'vocab.txt').read_text().splitlines()
    (folder / 'vocab.txt').write_text('\n'.join(pieces[:9]) + '\n')
    donor = dataclasses.replace(donor, tokenizer=folder)
    (told,) = batching.predict(donor, kinds.KINDS['fill-mask'], Data(length=16), [inputs.Input('', {'text': '[MASK] the [MASK]'})])
    for filled in told['masks']:
        assert len(filled) == 5
        assert all(each['piece'] in pieces[:9] for each in filled)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_model_with_a_weight_that_is_no_number_is_refused(bad: float, model: Callable) -> None:
    donor, _ = reading.open_folder(model(), 'mine')
    donor.params['encoder']['word'][3, 1] = bad
    with pytest.raises(UserError, match='mine is broken: its parameter encoder/word holds NaN or infinity'):
        batching.require(donor, 'embed')


def test_a_number_that_is_not_finite_is_never_written(model: Callable) -> None:
    donor, _ = reading.open_folder(model(), 'mine')
    donor.params['encoder']['word'][:] = 3e38  # finite, and too large for a norm
    batching.require(donor, 'embed')
    with pytest.raises(UserError, match='line 7: mine computes NaN or infinity for it'):
        list(batching.predict(donor, kinds.KINDS['embed'], Data(length=16), [inputs.Input('line 7', {'text': 'a king'})]))


def test_predict_can_say_that_there_is_no_answer(model: Callable, capsys) -> None:
    folder = model('BertSpan')
    asked = [{'question': 'the sailor', 'context': 'The old king lost a map'}]
    (told,) = ask(folder, 'answer', asked)
    assert told['answer']
    lead = told['no_answer']
    arguments = [str(folder), '--kind=answer', f'--input={folder.parent / "in.jsonl"}']
    assert run_command(__main__.main, [*arguments, f'--no-answer={lead - 0.01}']) == 0
    none = {'answer': '', 'start': 0, 'end': 0, 'score': 0.0, 'no_answer': lead}
    assert json.loads(capsys.readouterr().out) == none
    assert run_command(__main__.main, [*arguments, f'--no-answer={lead + 0.01}']) == 0
    assert json.loads(capsys.readouterr().out) == told
    assert ask(folder, 'answer', [{'question': 'a', 'context': ' \n'}]) == [{**none, 'no_answer': None}]


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['--kind=fill'], "no kind of prediction named 'fill'; did you mean 'fill-mask'? (there are: fill-mask, classify"),
        (['--kind=hidden'], '--kind=hidden writes arrays: give --output=FILE.npz'),
        (['--kind=embed', '--input=nowhere.jsonl'], '--input=nowhere.jsonl is not there: give a file of JSON lines'),
        (['--kind=embed', '--input=.'], '--input=. is a folder: give a file of JSON lines'),
        (['--kind=embed', '--output=.'], '--output=. is a folder: give a file in one'),
        (['--kind=embed', '--output=nowhere/out.jsonl'], '--output=nowhere/out.jsonl is in no folder: give a file in one'),
        (['--kind=embed', '--no-answer=0'], '--no-answer=0.0 must be a finite number, and is for --kind=answer'),
        (['--kind=answer', '--no-answer=nan'], '--no-answer=nan must be a finite number'),
        (['--kind=classify'], "kind 'classify' needs the label head, which"),
        ([], 'the following arguments are required: --kind'),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_refused(arguments, told, model, capsys) -> None:
    assert run_command(__main__.main, [str(model()), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count('\n') == 1


def test_a_model_without_a_tokenizer_is_refused(model: Callable, capsys) -> None:
    folder = model()
    (folder / 'vocab.txt').unlink()
    assert run_command(__main__.main, [str(folder), '--kind=embed']) == 2
    assert 'has no tokenizer' in capsys.readouterr().err


def test_a_scale_is_told_as_a_score() -> None:
    row = (inputs.Sequence([], []), np.array([0.75], np.float32))
    donor: Any = type('Donor', (), {'labels': ('LABEL_0',)})
    reader: Any = None
    assert kinds.describe_label(donor, reader, inputs.Input('line 1', {}), [row]) == {'label': 'LABEL_0', 'score': 0.75}
