"""GLUE, SQuAD, RACE and IMDb from their official files: layouts, traps, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from research.data import builders, tasks
from research.data.settings import Data
from research.data.tasks import glue, prepared
from research.data.tasks.glue import GLUE
from research.errors import UserError

ROWS = {
    'CoLA': {'train': ['x\t1\t\tA cat sat.', 'x\t0\t*\tSat cat a "the.'], 'test': ['index\tsentence', '0\tWho?', '1\tMe.']},
    'SST-2': {'train': ['sentence\tlabel', 'a good film \t1', 'bad \t0'], 'test': ['index\tsentence', '0\tso so']},
    'MRPC': {
        'train': ['\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String', '1\t1\t2\tHe said " no .\tNo .', '0\t3\t4\ta\tb'],
        'test': ['index\t#1 ID\t#2 ID\t#1 String\t#2 String', '7\t1\t2\tx\ty'],
    },
    'STS-B': {
        'train': ['index\tgenre\tsentence1\tsentence2\tscore', '0\tm\ta\tb\t5.000', '1\tm\tc\td\t0.25'],
        'test': ['index\tgenre\tsentence1\tsentence2', '0\tm\ta\tb'],
    },
    'QQP': {
        'train': ['id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate', '9\t1\t2\ta?\tb?\t0', '8\t3\t4\tc?\td?\t1'],
        'test': ['id\tquestion1\tquestion2', '0\ta?\tb?'],
    },
    'QNLI': {'train': ['index\tquestion\tsentence\tlabel', '0\tq\ts\tentailment', '1\tq\tt\tnot_entailment']},
    'RTE': {'train': ['index\tsentence1\tsentence2\tlabel', '0\ta\tb\tentailment', '1\tc\td\tnot_entailment']},
    'WNLI': {'train': ['index\tsentence1\tsentence2\tlabel', '0\ta\tb\t1', '1\tc\td\t0']},
    'AX': {'diagnostic': ['index\tsentence1\tsentence2', '0\tThe cat sat.\tIt did not.']},
}
WORDS = ('entailment', 'neutral', 'contradiction')
MNLI = ['index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label', *(f'{i}\tg\tp{i}\th{i}\t{w}\t{w}' for i, w in enumerate(WORDS))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All ten folders of GLUE, with two or three rows each."""
    files = {name: dict(each) for name, each in ROWS.items()}
    unlabelled = ['\t'.join(line.split('\t')[:4]) for line in MNLI]
    files['MNLI'] = {'train': MNLI, 'dev_matched': MNLI, 'dev_mismatched': MNLI[:3], 'test_matched': unlabelled}
    for name, each in files.items():
        (tmp_path / name).mkdir()
        if name not in ('MNLI', 'AX'):
            each['dev'] = each['train']
        for split, lines in each.items():
            (tmp_path / name / f'{split}.tsv').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return tmp_path


@pytest.mark.parametrize('name', GLUE)
def test_every_task_of_glue_is_read(folder: Path, name: str) -> None:
    data = Data(task=name, folder=str(folder))
    found = tasks.examples(data, '')
    row = GLUE[name]
    if name != 'ax':
        assert {'train', 'dev'} <= set(found)
        assert len(found['train']) == (3 if name == 'mnli' else 2)
        if row.names:
            assert {x.label for x in found['train']} == set(row.names) == set(tasks.classes(data))
        else:
            assert [x.score for x in found['train']] == [5.0, 0.25] and tasks.classes(data) == ('score',)
    for split in ('test', 'test_mismatched', 'ax'):
        assert all(not x.label and x.score is None for x in found.get(split, []))
    assert all(bool(x.pair) == (len(row.texts) == 2) for each in found.values() for x in each)
    assert tasks.examples(replace(data, folder=str(folder / row.folder)), '').keys() == found.keys()


def test_labels_are_numbered_as_hugging_face_does(folder: Path) -> None:
    expected = {
        'cola': ['acceptable', 'unacceptable'],
        'wnli': ['entailment', 'not_entailment'],
        'mrpc': ['equivalent', 'not_equivalent'],
        'mnli': ['entailment', 'neutral', 'contradiction'],
    }
    for name, labels in expected.items():
        assert [x.label for x in tasks.examples(Data(task=name, folder=str(folder)), '')['train']] == labels
    assert GLUE['cola'].names[1] == 'acceptable' and GLUE['rte'].names[0] == 'entailment' and GLUE['wnli'].names[1] == 'entailment'


def test_mnli_has_two_devs_and_the_diagnostic_set(folder: Path) -> None:
    found = tasks.examples(Data(task='mnli', folder=str(folder)), '')
    assert {name: len(each) for name, each in found.items()} == {'train': 3, 'dev': 3, 'dev_mismatched': 2, 'test': 3, 'ax': 1}
    assert tasks.selection(Data(task='ax', folder=str(folder)), tasks.examples(Data(task='ax', folder=str(folder)), ''))[1] == ''


def test_ids_are_those_of_the_files(folder: Path) -> None:
    assert [x.id for x in tasks.examples(Data(task='mrpc', folder=str(folder)), '')['test']] == ['7']
    assert [x.id for x in tasks.examples(Data(task='cola', folder=str(folder)), '')['train']] == ['0', '1']
    assert tasks.examples(Data(task='mrpc', folder=str(folder)), '')['train'][0].text == 'He said " no .'


@pytest.mark.parametrize(
    ('task', 'file', 'line', 'message'),
    [
        ('sst2', 'SST-2/dev.tsv', 'fine\t2', r"dev.tsv' line 4: unknown label '2' \(there are: 0, 1\)"),
        ('rte', 'RTE/train.tsv', '5\ta\tb\tmaybe', "line 4: unknown label 'maybe' .there are: entailment, not_entailment"),
        ('sst2', 'SST-2/train.tsv', 'one\ttwo\t1', "train.tsv' line 4 has 3 columns, its header has 2: sentence, label"),
        ('sst2', 'SST-2/train.tsv', ' \t1', "train.tsv' line 4: column 'sentence' holds an empty text"),
        ('stsb', 'STS-B/train.tsv', '2\tm\ta\tb\tfive', "line 4: column 'score' holds 'five', which is no number"),
        ('stsb', 'STS-B/dev.tsv', '2\tm\ta\tb\t5.5', 'line 4: column .score. holds 5.5, which does not lie between 0 and 5'),
        ('qqp', 'QQP/train.tsv', '2\t5\t6\ta?', "train.tsv' line 4 has 4 columns, its header has 6"),
        ('cola', 'CoLA/train.tsv', 'x\t1\tno sentence', "train.tsv' line 3 has 3 columns"),
    ],
)
def test_bad_rows_are_told_by_line(folder: Path, task: str, file: str, line: str, message: str) -> None:
    path = folder / file
    path.write_text(path.read_text('utf-8') + line + '\n', encoding='utf-8')
    with pytest.raises(UserError, match=message) as caught:
        tasks.examples(Data(task=task, folder=str(folder)), '')
    assert '\n' not in str(caught.value)


def test_a_few_broken_rows_of_the_quora_file_are_left_out_and_told_of(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / 'QQP' / 'train.tsv'
    path.write_text(path.read_text() + '2\t5\t6\ta?\n3\t5\t6\t\tb?\t0\n')
    monkeypatch.setattr(glue, 'BROKEN', 0.4)
    assert len(tasks.examples(Data(task='qqp', folder=str(folder)), '')['train']) == 2
    assert '2 of 4 rows lack a column or a question; they are left out' in capsys.readouterr().err
    (folder / 'QQP' / 'test.tsv').write_text('id\tquestion1\tquestion2\n0\ta?\tb?\n1\t\tb?\n')
    assert [x.id for x in tasks.examples(Data(task='qqp', folder=str(folder)), '')['test']] == ['0', '1']  # the server asks for all


def test_missing_splits(folder: Path) -> None:
    (folder / 'RTE' / 'dev.tsv').unlink()
    with pytest.raises(UserError, match=r"the dev split of rte is missing: there is no '.*RTE/dev.tsv'"):
        tasks.examples(Data(task='rte', folder=str(folder)), '')
    with pytest.raises(UserError, match='has no RTE/train.tsv: give the folder that holds RTE'):
        tasks.examples(Data(task='rte', folder=str(folder / 'SST-2')), '')
    (folder / 'QNLI' / 'train.tsv').write_text('index\tquestion\tsentence\tlabel\n')
    with pytest.raises(UserError, match="QNLI/train.tsv' has no examples"):
        tasks.examples(Data(task='qnli', folder=str(folder)), '')


def test_the_real_files_have_their_official_sizes(shared_data: Path) -> None:
    for name in ('cola', 'mrpc', 'stsb', 'rte', 'wnli', 'ax'):
        found = tasks.examples(Data(task=name, folder=str(shared_data / 'glue')), '')
        assert {split: len(each) for split, each in found.items()} == GLUE[name].sizes


# ---- TFDS -----------------------------------------------------------------------------------------------------------------------


def test_records_of_tfds_are_read_as_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def records(name: str, split: str) -> Any:
        asked.append((name, split))
        known = split != 'test'
        return iter(
            [{'sentence1': b'a \xc3\xa9', 'sentence2': b'b', 'label': int(known) * (1 + i) - 1, 'idx': 7 + i} for i in range(2)]
        )

    monkeypatch.setattr(prepared, 'records', records)
    found = tasks.examples(Data(task='mrpc'), '')
    assert asked == [('glue/mrpc', 'train'), ('glue/mrpc', 'validation'), ('glue/mrpc', 'test')]
    assert [(x.text, x.pair, x.label, x.id) for x in found['train']] == [
        ('a é', 'b', 'not_equivalent', '7'),
        ('a é', 'b', 'equivalent', '8'),
    ]
    assert [x.label for x in found['test']] == ['', '']


def test_the_other_tasks_of_tfds(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        'squad/v2.0': {'question': b'q', 'context': b'a b', 'id': b'1', 'answers': {'answer_start': [2], 'text': [b'b']}},
        'imdb_reviews': {'text': b'good', 'label': 1},
        'race/middle': {
            'article': b'p',
            'questions': [b'q'],
            'options': [[b'1', b'2', b'3', b'4']],
            'answers': [b'C'],
            'example_id': b'm1',
        },
    }
    monkeypatch.setattr(prepared, 'records', lambda name, split: iter([rows[name]] if name in rows else []))
    assert tasks.TASKS['squad2'].splits(Data(task='squad2'), '')['dev'][0].answers == ((2, 'b'),)
    assert tasks.TASKS['race'].splits(Data(task='race'), '')['test'][0].options == ('1', '2', '3', '4')
    monkeypatch.setattr('research.data.tasks.imdb.carve', lambda train, data, name: {'train': train})
    assert tasks.TASKS['imdb'].splits(Data(task='imdb'), '')['test'][0].label == 'positive'


def test_a_dataset_that_is_not_prepared_names_the_command_and_the_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builders.builder
    monkeypatch.setattr(builders, 'builder', lambda name, folder: real(name, str(tmp_path)))

    def unknown(host: str, port: int) -> None:
        raise OSError('no such host')

    monkeypatch.setattr(builders.socket, 'getaddrinfo', unknown)
    with pytest.raises(
        UserError, match=r'run: tfds build imdb_reviews .*; or give the official files: --config.data.folder='
    ) as caught:
        next(prepared.records('imdb_reviews', 'train'))
    assert 'no such host' in str(caught.value) and '\n' not in str(caught.value)


def write_squad(path: Path, questions: list[dict[str, Any]], context: str = 'The tower is 300 m high.') -> None:
    paragraphs = [{'context': context, 'qas': questions}]
    path.write_text(json.dumps({'version': 'x', 'data': [{'title': 't', 'paragraphs': paragraphs}]}))


def asked(id: str, *answers: tuple[int, str], **more: Any) -> dict[str, Any]:
    golds = [{'answer_start': start, 'text': text} for start, text in answers]
    return {'id': id, 'question': 'How high?', 'answers': golds, **more}


@pytest.fixture
def squad(tmp_path: Path) -> Callable[..., Data]:
    def make(questions: list[dict[str, Any]], task: str = 'squad', **more: Any) -> Data:
        for split in ('train', 'dev'):
            write_squad(tmp_path / f'{split}-any.json', questions, **more)
        return Data(task=task, folder=str(tmp_path))

    return make


def test_both_versions_of_squad(squad: Callable[..., Data]) -> None:
    (example,) = tasks.examples(squad([asked('1', (13, '300 m'), (13, '300'))]), '')['dev']
    assert (example.id, example.answers) == ('1', ((13, '300 m'), (13, '300')))
    none = asked('2', is_impossible=True, plausible_answers=[{'text': 'tower', 'answer_start': 4}])
    found = tasks.examples(squad([asked('1', (13, '300 m'), is_impossible=False), none], 'squad2'), '')['dev']
    assert [x.answers for x in found] == [((13, '300 m'),), ()]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'dev-any.json. is not JSON .Expecting property name'),
        ('{"data": [{"title": 1}]}', "is not in SQuAD's format: it lacks 'paragraphs'"),
        ('{"data": [7]}', "is not in SQuAD's format: lists and objects are not where they must be"),
        ('[' * 10**5, 'is not JSON that can be read: it nests deeper than 100'),
        ('{"data": ["\\ud800"]}', 'is not JSON that can be read: it holds half of a surrogate pair'),
        ('[]', "is not in SQuAD's format: lists and objects are not where they must be"),
        ('{"data": []}', 'has no questions'),
    ],
)
def test_a_file_that_is_no_squad(squad: Callable[..., Data], content: str, message: str) -> None:
    data = squad([asked('1', (13, '300'))])
    (Path(data.folder) / 'dev-any.json').write_text(content)
    with pytest.raises(UserError, match=message):
        tasks.examples(data, '')


def test_questions_that_cannot_be(squad: Callable[..., Data], tmp_path: Path) -> None:
    with pytest.raises(UserError, match='question 1 has no answer, which SQuAD 1.1 does not allow'):
        tasks.examples(squad([asked('1')]), '')
    with pytest.raises(UserError, match="question 1: column 'context' holds an empty text"):
        tasks.examples(squad([asked('1', (0, 'x'))], context=' '), '')
    with pytest.raises(UserError, match="question 1: answer_start must be a whole number, not 'x'"):
        tasks.examples(squad([asked('1') | {'answers': [{'answer_start': 'x', 'text': '300'}]}]), '')
    with pytest.raises(UserError, match='has 1 ids of more than one question, .1. first; predictions go by id'):
        tasks.examples(squad([asked('1', (13, '300')), asked('1', (4, 'tower'))]), '')
    with pytest.raises(UserError, match='question 1 has is_impossible=true and an answer'):
        tasks.examples(squad([asked('1', (13, '300'), is_impossible=True)], 'squad2'), '')
    with pytest.raises(UserError, match="column 'question' is not a text but 3"):
        tasks.examples(squad([asked('1', (13, '300')) | {'question': 3}]), '')
    for id in (None, True, [1]):
        with pytest.raises(UserError, match='an id must be a text or a whole number, not '):
            tasks.examples(squad([asked('1', (13, '300')) | {'id': id}]), '')
    (tmp_path / 'train-more.json').write_text('{}')
    with pytest.raises(UserError, match='has several train files .train-any.json, train-more.json.; leave one'):
        tasks.examples(squad([asked('1', (0, 'x'))]), '')
    (tmp_path / 'train-more.json').unlink()
    data = squad([asked('1', (13, '300'))])
    (tmp_path / 'dev-any.json').write_bytes(b'\xff')
    with pytest.raises(UserError, match='dev-any.json. is not UTF-8 at byte 0; if it is .*convert it: iconv'):
        tasks.examples(data, '')
    (tmp_path / 'dev-any.json').unlink()
    with pytest.raises(UserError, match='the dev split of squad is missing'):
        tasks.examples(data, '')


@pytest.mark.parametrize(
    ('answers', 'message'),
    [
        ([{'text': None, 'answer_start': 0}], "question 1, answer: column 'text' is not a text but None"),
        ([{'answer_start': 0}], "question 1, answer has no column 'text'"),
        ([{'text': '300'}], 'question 1: answer_start must be a whole number, not None'),
        ([{'text': '300', 'answer_start': True}], 'question 1: answer_start must be a whole number, not True'),
        ([{'text': '300', 'answer_start': '13'}], "question 1: answer_start must be a whole number, not '13'"),
        ({'text': ['300'], 'answer_start': [13]}, 'question 1: its answers must be a list of objects with text and answer_start'),
        ('300', 'question 1: its answers must be a list of objects'),
        (['300'], 'question 1: its answers must be a list of objects'),
        (None, 'question 1: its answers must be a list of objects'),
    ],
)
def test_answers_that_cannot_be(squad: Callable[..., Data], answers: Any, message: str) -> None:
    for task in ('squad', 'squad2'):
        with pytest.raises(UserError, match=message):
            tasks.examples(squad([asked('1') | {'answers': answers}], task), '')


def test_a_flag_that_is_neither_true_nor_false(squad: Callable[..., Data]) -> None:
    for flag in ('false', 0, None):
        with pytest.raises(UserError, match='question 1: is_impossible must be true or false, not '):
            tasks.examples(squad([asked('1', (13, '300'), is_impossible=flag)], 'squad2'), '')


def test_an_empty_text_is_no_answer(squad: Callable[..., Data]) -> None:
    questions = [
        asked('1', (0, '')),
        asked('2', (-1, ' '), is_impossible=True),
        asked('3', (0, ''), (13, '300')),
        {'id': 4, 'question': 'How?', 'is_impossible': True},
    ]
    found = tasks.examples(squad(questions, 'squad2'), '')['dev']
    assert [(x.id, x.answers) for x in found] == [('1', ()), ('2', ()), ('3', ((13, '300'),)), ('4', ())]
    for wrong in questions[:2]:
        with pytest.raises(UserError, match='has no answer, which SQuAD 1.1 does not allow'):
            tasks.examples(squad([wrong]), '')


# file of wild/squad_variants -> (what squad says, what squad2 says); '' is that it is read
VARIANTS = {
    'ok': ('', ''),
    'int_ids': ('', ''),
    'minus_one': ('', ''),
    'answers_dict': ('its answers must be a list', 'its answers must be a list'),
    'empty_context': ("column 'context' holds an empty text", "column 'context' holds an empty text"),
    'farm_impossible': ('question imp has no answer, which SQuAD 1.1', ''),
    'no_flag_empty': ('question imp has no answer, which SQuAD 1.1', ''),
    'no_answers_key': (
        "question m has no 'answers': give a list of them$",
        "question m has no 'answers': .* or is_impossible=true",
    ),
    'string_start': ("answer_start must be a whole number, not '15'", "answer_start must be a whole number, not '15'"),
}


@pytest.mark.parametrize('name', VARIANTS)
def test_squad_from_the_wild(name: str, shared_data: Path) -> None:
    for task, message in zip(('squad', 'squad2'), VARIANTS[name], strict=True):
        data = Data(task=task, folder=str(shared_data / 'wild' / 'squad_variants' / name))
        if not message:
            assert all(text for x in tasks.examples(data, '')['dev'] for _, text in x.answers)
        else:
            with pytest.raises(UserError, match=message) as caught:
                tasks.examples(data, '')
            assert '\n' not in str(caught.value)


# ---- RACE and IMDb --------------------------------------------------------------------------------------------------------------

PASSAGE = {'article': 'Long ago.', 'questions': ['When?', 'Who?'], 'options': [list('wxyz')] * 2, 'answers': ['A', 'D'], 'id': 'p1'}


@pytest.mark.parametrize('layout', ['folders', 'lines'])
def test_race_in_both_layouts(tmp_path: Path, layout: str) -> None:
    for split in ('train', 'dev', 'test'):
        for part in ('middle', 'high'):
            if layout == 'folders':
                (tmp_path / 'RACE' / split / part).mkdir(parents=True)
                (tmp_path / 'RACE' / split / part / '1.txt').write_text(json.dumps(PASSAGE))
            else:
                (tmp_path / f'{split}_{part}.jsonl').write_text(json.dumps(PASSAGE) + '\n')
    data = Data(task='race', folder=str(tmp_path))
    found = tasks.examples(data, '')
    assert {split: len(each) for split, each in found.items()} == {'train': 4, 'dev': 4, 'test': 4}
    assert [(x.label, x.part) for x in found['dev']] == [('A', 'middle'), ('D', 'middle'), ('A', 'high'), ('D', 'high')]
    # Dev stands beside the papers' dev (Lan et al. 2020, Tables 2 to 8), so a part of train selects; test is there beside it.
    assert tasks.reported(data, found) == 'dev' and 'test' in found
    assert len({x.id for x in found['dev']}) == 4


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'answers': ['E', 'A']}, r"line 1: unknown answer 'E' \(there are: A, B, C, D\)"),
        ({'options': [['a', 'b', 'c'], list('wxyz')]}, 'question 0 has 3 options, not 4'),
        ({'answers': ['A']}, 'line 1: there must be as many of each, not 2 questions, 2 options, 1 answers'),
        ({'questions': 'When?'}, "line 1: its 'questions' must be a list"),
        ({'questions': [['When?']]}, "line 1: column 'questions' is not a text but"),
        ({'options': [['w', ['x'], 'y', 'z']]}, "line 1: column 'options' is not a text but"),
        ({'options': ['wxyz', list('wxyz')]}, "line 1: its 'options' must be a list of lists"),
        ({'options': [['w', 'x', 'y', 4], list('wxyz')]}, "line 1: column 'options' is not a text but 4"),
        ({'article': 4}, "column 'article' is not a text but 4"),
        ({'article': ''}, "line 1: column 'article' holds an empty text"),
        ({'id': None}, 'line 1: an id must be a text or a whole number, not None'),
        ({'x': 1}, ''),
    ],
)
def test_passages_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    if not message:
        changes, message = {}, "has no 'questions'"
    record = {key: value for key, value in (PASSAGE | changes).items() if message != "has no 'questions'" or key != 'questions'}
    (tmp_path / 'train_middle.jsonl').write_text(json.dumps(record) + '\n')
    with pytest.raises(UserError, match=message):
        tasks.examples(Data(task='race', folder=str(tmp_path)), '')


def test_race_without_a_split_or_with_a_broken_passage(tmp_path: Path) -> None:
    (tmp_path / 'train_middle.jsonl').write_text(json.dumps(PASSAGE) + '\n')
    with pytest.raises(UserError, match='the dev split of race is missing'):
        tasks.examples(Data(task='race', folder=str(tmp_path)), '')
    (tmp_path / 'train' / 'high').mkdir(parents=True)
    (tmp_path / 'train' / 'high' / '1.txt').write_text('{')
    with pytest.raises(UserError, match='high/1.txt. is not JSON'):
        tasks.examples(Data(task='race', folder=str(tmp_path)), '')
    (tmp_path / 'train' / 'high' / '1.txt').write_bytes(b'"\xff"')
    with pytest.raises(UserError, match='high/1.txt. is not UTF-8'):
        tasks.examples(Data(task='race', folder=str(tmp_path)), '')
    (tmp_path / 'train' / 'high' / '1.txt').write_text('[1]')
    with pytest.raises(UserError, match='is not a passage of RACE: it must be a JSON object'):
        tasks.examples(Data(task='race', folder=str(tmp_path)), '')


@pytest.mark.parametrize('layout', ['folders', 'lines'])
def test_imdb_in_both_layouts(tmp_path: Path, layout: str) -> None:
    for split in ('train', 'test'):
        reviews = [(name, number) for name in ('neg', 'pos') for number in range(20)]
        if layout == 'folders':
            for name, number in reviews:
                (tmp_path / 'aclImdb' / split / name).mkdir(parents=True, exist_ok=True)
                (tmp_path / 'aclImdb' / split / name / f'{number}_1.txt').write_text(f'{name} film {number}')
        else:
            lines = [json.dumps({'text': f'{name} film {number}', 'label': int(name == 'pos')}) for name, number in reviews]
            (tmp_path / f'{split}.jsonl').write_text('\n'.join(lines))
    data = Data(task='imdb', folder=str(tmp_path), dev_share=0.3)
    found = tasks.examples(data, '')
    assert len(found['train']) + len(found['dev']) == 40 == len(found['test']) and found['dev']
    assert all(x.label == ('positive' if x.text.startswith('pos') else 'negative') for each in found.values() for x in each)
    assert tasks.reported(data, found) == 'test'


def test_reviews_of_one_label_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'train' / 'pos').mkdir(parents=True)
    (tmp_path / 'train' / 'pos' / '0_9.txt').write_text('a good film')
    with pytest.raises(UserError, match="train' has only pos: neg is missing"):
        tasks.examples(Data(task='imdb', folder=str(tmp_path)), '')


def test_reviews_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / 'train.jsonl').write_text('{"text": "a", "label": 2}\n')
    with pytest.raises(UserError, match='line 1: unknown label 2'):
        tasks.examples(Data(task='imdb', folder=str(tmp_path)), '')
    (tmp_path / 'train.jsonl').write_text('{"text": "a", "label": [1]}\n')
    with pytest.raises(UserError, match=r'line 1: unknown label \[1\]'):
        tasks.examples(Data(task='imdb', folder=str(tmp_path)), '')
    (tmp_path / 'train.jsonl').write_text('{"text": "a", "label": 1}\n')
    (tmp_path / 'train.jsonl.bak').write_text('no JSON')
    with pytest.raises(UserError, match='the test split of imdb is missing'):
        tasks.examples(Data(task='imdb', folder=str(tmp_path)), '')
    (tmp_path / 'test.jsonl').write_text('{"text": "a", "label": 1}\n')
    (tmp_path / 'train.jsonl.gz').write_bytes(b'')
    with pytest.raises(UserError, match=r'has several files of train.jsonl \(train.jsonl, train.jsonl.gz\); leave one'):
        tasks.examples(Data(task='imdb', folder=str(tmp_path)), '')
