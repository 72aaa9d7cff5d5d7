"""Evaluations: official numbers of gathered answers, and the files that hold them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from research.data import encoding
from research.data.settings import Answers, Data
from research.data.tokenizers import as_bert, finish_tokenizer, vocabulary_of
from research.errors import UserError
from research.evaluation import metrics, scoring

WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'tower', 'is', 'high', 'how', 'red', '.', 'who']


@pytest.fixture
def tokenizer() -> Tokenizer:
    found = as_bert(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token='[UNK]'), True)
    found.add_special_tokens(WORDS[:5])
    return finish_tokenizer(found)


@pytest.fixture
def read(tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., dict[str, encoding.Encoded]]:
    return lambda data: encoding.read(data, str(tmp_path), tokenizer, vocabulary_of(tokenizer))[0]


def table(path: Path, lines: list[str]) -> str:
    path.write_text('\n'.join(lines) + '\n')
    return str(path)


def custom(tmp_path: Path, **more: Any) -> Data:
    rows = [f'the tower {"is " * i}\t{"yx"[i % 2]}' for i in range(8)]
    path = table(tmp_path / 'train.tsv', ['sentence\tlabel', *rows])
    return Data(task='custom', train=path, dev=path, length=32, select='last', **more)


def test_labels(read: Callable, tmp_path: Path) -> None:
    data = custom(tmp_path)
    encoded = read(data)['dev']
    logits = [np.array([1.0, 0.0]) if i < 6 else np.array([0.0, 3.0]) for i in range(8)]
    evaluation = scoring.score_split(data, encoded, logits, 0.0)
    gold = np.array([1, 0] * 4)
    assert evaluation.metrics == metrics.measure(('accuracy',), gold, np.array([0] * 6 + [1] * 2)) and not evaluation.collapsed
    assert scoring.score_baselines(data, encoded)['majority']['accuracy'] == 0.5
    first = evaluation.predictions[0]
    assert first['id'] == '0' and (first['label'], first['prediction']) == ('y', 'x')
    assert first['probabilities'] == {'x': pytest.approx(0.731059), 'y': pytest.approx(0.268941)}
    Path(data.train).unlink()  # what the labels are is not looked up again
    flat = scoring.score_split(data, encoded, [np.array([2.0, 0.0])] * 8, 0.0)
    assert flat.collapsed and flat.metrics['accuracy'] == 0.5


def test_f1_counts_the_same_label_in_any_order_of_labels(read: Callable, tmp_path: Path) -> None:
    (tmp_path / 'MRPC').mkdir()
    lines = ['Quality\t#1 String\t#2 String', *(f'{int(i < 6)}\tthe tower\tis high' for i in range(8))]
    for split in ('train', 'dev'):
        table(tmp_path / 'MRPC' / f'{split}.tsv', lines)
    data = Data(task='mrpc', folder=str(tmp_path), length=32, select='last')
    turned = replace(data, labels=('equivalent', 'not_equivalent'))
    logits = [np.array([0.0, 1.0])] * 7 + [np.array([1.0, 0.0])]
    ours, theirs = read(data)['dev'], read(turned)['dev']
    one = scoring.score_split(data, ours, logits, 0.0)
    other = scoring.score_split(turned, theirs, [each[::-1] for each in logits], 0.0)
    assert one.metrics == other.metrics and one.metrics['f1'] == pytest.approx(12 / 13)
    # Accuracy, F1 and their mean, always: a paper's table says which stands beside its number.
    assert one.metrics['score'] == pytest.approx((7 / 8 + 12 / 13) / 2) and one.metrics['accuracy'] == 7 / 8
    assert scoring.score_baselines(data, ours) == scoring.score_baselines(turned, theirs)
    assert one.predictions[0]['prediction'] == other.predictions[0]['prediction']


def test_scores(read: Callable, tmp_path: Path) -> None:
    path = table(tmp_path / 'a.tsv', ['sentence\tscore', *(f'the tower\t{i}' for i in range(5))])
    data = Data(task='custom', train=path, dev=path, score='score', length=32, select='last')
    evaluation = scoring.score_split(data, read(data)['dev'], [np.array([float(i * i)]) for i in range(5)], 0.0)
    assert evaluation.metrics['spearman'] == pytest.approx(1) and evaluation.metrics['pearson'] < 1
    assert evaluation.predictions[3] == {'id': '3', 'score': 3.0, 'prediction': 9.0}


def test_a_split_without_labels_has_only_predictions(read: Callable, tmp_path: Path) -> None:
    data = replace(custom(tmp_path), test=table(tmp_path / 'test.tsv', ['sentence', 'the tower']))
    evaluation = scoring.score_split(data, read(data)['test'], [np.array([0.0, 1.0])], 0.0)
    assert evaluation.metrics == {}
    assert 'label' not in evaluation.predictions[0] and evaluation.predictions[0]['prediction'] == 'y'


def test_parts_of_a_split_have_metrics_of_their_own(read: Callable, tmp_path: Path) -> None:
    for part, answer in (('middle', 'A'), ('high', 'B')):
        passage = {'article': 'the', 'questions': ['who'], 'options': [list('abcd')], 'answers': [answer], 'id': part}
        for split in ('train', 'dev'):
            (tmp_path / f'{split}_{part}.jsonl').write_text(json.dumps(passage) + '\n')
    data = Data(task='race', folder=str(tmp_path), length=32, select='last')
    evaluation = scoring.score_split(data, read(data)['dev'], [np.array([1.0, 0, 0, 0])] * 2, 0.0)
    assert {key: evaluation.metrics[key] for key in ('accuracy', 'accuracy_middle', 'accuracy_high')} == {
        'accuracy': 0.5,
        'accuracy_middle': 1.0,
        'accuracy_high': 0.0,
    }


# ---- SQuAD ----------------------------------------------------------------------------------------------------------------------

CONTEXT = 'The tower is high . the tower is red .'
QUESTIONS = [('0', [(4, 'tower')]), ('1', []), ('2', [(13, 'high'), (33, 'red')]), ('3', [(10, 'is')])]


@pytest.fixture
def squad(tmp_path: Path) -> Callable[..., Data]:
    def make(task: str) -> Data:
        asked = [
            {
                'id': id,
                'question': 'how',
                'is_impossible': not golds,
                'answers': [{'answer_start': start, 'text': text} for start, text in golds],
            }
            for id, golds in QUESTIONS
            if golds or task == 'squad2'
        ]
        for split in ('train', 'dev'):
            content = {'data': [{'paragraphs': [{'context': CONTEXT, 'qas': asked}]}]}
            (tmp_path / f'{split}.json').write_text(json.dumps(content))
        return Data(task=task, folder=str(tmp_path), length=12, select='last', answers=Answers(stride=3))

    return make


def pointing(encoded: encoding.Encoded, spans: dict[str, tuple[int, int, float]]) -> list[np.ndarray]:
    """Logits that give each question one span of its context, in each window that holds it; [CLS] has 1 in all."""
    found = []
    for owner, window in zip(encoded.owner, encoded.windows, strict=True):
        logits = np.full((12, 2), -9.0, np.float32)
        logits[0] = 1.0
        start, end, height = spans[encoded.members[owner].id]
        place = window.place(start, CONTEXT[start:end])
        if place is not None:
            logits[place[0], 0] = logits[place[1], 1] = height
        found.append(logits)
    return found


def test_answers_over_windows(read: Callable, squad: Callable[..., Data], tmp_path: Path) -> None:
    data = squad('squad')
    encoded = read(data)['dev']
    assert encoded.rows > len(encoded.members)
    spans = {'0': (4, 9, 5.0), '2': (33, 36, 5.0), '3': (10, 17, 5.0)}
    evaluation = scoring.score_split(data, encoded, pointing(encoded, spans), 0.0)
    assert [line['prediction'] for line in evaluation.predictions] == ['tower', 'red', 'is high']
    assert all(CONTEXT[each['start'] : each['end']] == each['text'] for line in evaluation.predictions for each in line['best'])
    assert evaluation.metrics['exact'] == pytest.approx(2 / 3) and evaluation.metrics['f1'] == pytest.approx((2 + 2 / 3) / 3)
    scoring.write_predictions(tmp_path / 'dev', evaluation)
    assert json.loads((tmp_path / 'dev' / 'predictions.json').read_text()) == {'0': 'tower', '2': 'red', '3': 'is high'}
    assert not (tmp_path / 'dev' / 'na_probs.json').exists() and not list((tmp_path / 'dev').glob('*.part'))


def test_no_answer_is_predicted_if_it_leads_by_more_than_the_threshold(
    read: Callable, squad: Callable[..., Data], tmp_path: Path
) -> None:
    data = squad('squad2')
    encoded = read(data)['dev']
    # Sums of logits: 10, 3, 10 and 1, where no answer has 2.
    spans = {'0': (4, 9, 5.0), '1': (4, 9, 1.5), '2': (13, 17, 5.0), '3': (10, 12, 0.5)}
    logits = pointing(encoded, spans)
    evaluation = scoring.score_split(data, encoded, logits, 0.0)
    assert [line['prediction'] for line in evaluation.predictions] == ['tower', 'tower', 'high', '']
    assert evaluation.metrics['HasAns_exact'] == pytest.approx(2 / 3) and evaluation.metrics['NoAns_exact'] == 0.0
    sure = evaluation.files['na_probs.json']
    assert sure['0'] == pytest.approx(1 / (1 + np.exp(8))) and sure['3'] == pytest.approx(1 / (1 + np.exp(-1)))
    strict = scoring.score_split(data, encoded, logits, -2.0)
    assert [line['prediction'] for line in strict.predictions] == ['tower', '', 'high', '']
    assert strict.metrics['exact'] == 0.75
    # The threshold of the best F1 lies between the leads of what should be answered, −8, and of what should not, −1.
    assert evaluation.threshold is not None and evaluation.threshold == pytest.approx(-8)
    assert scoring.score_split(data, encoded, logits, evaluation.threshold).metrics['exact'] == 0.75
    assert evaluation.files['scores.json'] == metrics.score_squad2(
        {id: [text for _, text in golds] for id, golds in QUESTIONS}, evaluation.files['predictions.json'], sure
    )
    assert scoring.score_baselines(data, encoded)['majority']['exact'] == 0.25
    silent = scoring.score_split(data, encoded, [each * 0 + np.array([[3.0, 3.0]] + [[0.0, 0.0]] * 11) for each in logits], 0.0)
    assert silent.collapsed
    assert not strict.collapsed


def test_the_class_of_alberts_head_decides_whether_there_is_an_answer(read: Callable, squad: Callable[..., Data]) -> None:
    """Its logit alone, the smallest over the windows of a question (google-research/albert, `accumulate_predictions_v2`)."""
    data = squad('squad2')
    encoded = read(data)['dev']
    spans = {'0': (4, 9), '1': (4, 9), '2': (33, 36), '3': (10, 12)}
    classes = {'0': -3.0, '1': 2.0, '2': -1.0, '3': 1.0}
    beams = []
    for owner, window in zip(encoded.owner, encoded.windows, strict=True):
        id = encoded.members[owner].id
        place = window.place(spans[id][0], CONTEXT[slice(*spans[id])])
        tried = [[*place, -0.1, -0.2]] if place else []
        beams.append(np.array([[classes[id] + (9 if not place else 0), 0, 0, 0], [0, 0, -0.05, -0.05], *tried], np.float32))
    found = scoring.score_split(data, encoded, beams, 0.0, 'answer')
    assert [line['prediction'] for line in found.predictions] == ['tower', '', 'red', '']
    assert found.metrics['exact'] == 0.75 and found.files['na_probs.json']['1'] == pytest.approx(1 / (1 + np.exp(-2)))
    assert found.threshold == pytest.approx(1.0)  # of the best F1: question 3 is answered, too, and question 1 is not
    assert scoring.score_split(data, encoded, beams, 1.0, 'answer').metrics['exact'] == 1.0
    none = scoring.score_split(data, encoded, [each[:2] for each in beams], 0.0, 'answer')  # [CLS] alone was tried
    assert {line['prediction'] for line in none.predictions} == {''} and not none.predictions[0]['best']


def test_one_answer_to_all_questions_is_a_collapse_unless_it_is_right(read: Callable, squad: Callable[..., Data]) -> None:
    data = squad('squad')
    encoded = read(data)['dev']
    same = scoring.score_split(data, encoded, pointing(encoded, dict.fromkeys('023', (14, 17, 5.0))), 0.0)
    assert same.collapsed  # one answer of all
    one = replace(encoded, members=encoded.members[:1], owner=np.zeros(1, int), windows=encoded.windows[:1])
    assert not scoring.score_split(data, one, [np.zeros((12, 2), np.float32)], 0.0).collapsed


@pytest.mark.parametrize('broken', [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(read: Callable, tmp_path: Path, broken: float) -> None:
    data = custom(tmp_path)
    logits = [np.array([1.0, broken]), *[np.array([1.0, 0.0])] * 7]
    with pytest.raises(UserError, match='the logits of 1 of 8 rows are not finite: the parameters of the model are broken'):
        scoring.score_split(data, read(data)['dev'], logits, 0.0)


def test_if_no_answer_is_always_best_the_threshold_is_below_all() -> None:
    golds = {'0': (), '1': ('tower',)}
    leads = {'0': -3.0, '1': 2.0}
    assert scoring.tune_threshold(golds, {'0': 'a', '1': 'b'}, leads) == -4.0
