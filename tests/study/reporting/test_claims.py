"""Claims: seeds of pretraining are the unit, verdicts survive Holm's correction, and McNemar's test counts examples."""

import dataclasses
import json

import numpy as np
import pytest

from research.errors import UserError
from research.evaluation.gains import HeldOut, write_held_out
from research.optim import Optimizer
from research.study.columns import COLUMNS, Column
from research.study.ledger import enter, read_study
from research.study.reporting.cells import gather, read_row_cell
from research.study.reporting.claims import judge_all
from research.study.reporting.report import report
from research.study.study import Claim, Quantity, Row, Study, Table
from research.study.units import find_unit

GAIN, SCORE = 'metrics:dev/gain', 'metrics:test/accuracy'
DOCUMENTS = 60
HELD_OUT = np.random.default_rng(0).normal(6, 1, DOCUMENTS)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Figures cost seconds."""
    monkeypatch.setattr('research.study.reporting.report.draw', lambda *_: [])


@pytest.fixture
def seeded(experiment, finish, tmp_path):
    """seeded(gains of each row's seeds, claims, …) -> (a study of these rows, its folder): all pretrained and fine-tuned twice."""

    def make(gains, claims=(), columns=(COLUMNS['gain'],), statistic='mean', settings=None):
        runs, rows = {}, []
        for title, values in gains.items():
            names = tuple(f'{title}-{seed}' for seed in range(len(values)))
            runs |= {name: experiment('x', seed) for seed, name in enumerate(names)}
            tasks = {f'{name}-task-{seed}': experiment('task', seed, start=f'@{name}') for name in names for seed in (0, 1)}
            runs |= tasks
            rows.append(Row(title, {'pretrain': names, 'task': tuple(tasks)}, *((settings or {}).get(title, ()))))
        study = Study('seeded', runs, Table('Seeded', tuple(rows), columns, statistic=statistic), claims=claims)
        enter(study, tmp_path)
        for title, values in gains.items():
            for seed, value in enumerate(values):
                leave(tmp_path, study, f'{title}-{seed}', value)
        return study, tmp_path

    def leave(folder, study, name, gain):
        metrics = {'dev/mlm': 6 - gain, 'dev/mlm_accuracy': 0.4, 'dev/gain': gain, 'dev/gain_error': 0.009}
        finish(folder, study, name, 6 - gain, metrics=metrics)
        count = np.full(DOCUMENTS, 10)
        found = HeldOut(np.arange(DOCUMENTS), count, (HELD_OUT - gain) * count, HELD_OUT * count)
        write_held_out(folder / name, found)
        for seed in (0, 1):
            finish(folder, study, f'{name}-task-{seed}', 0.5 + gain / 4)
            predict(folder / f'{name}-task-{seed}', 0.5 + gain / 4)

    return make


def predict(run, share, labels=('a', 'b'), gold='a'):
    """Leaves predictions of 40 examples, the first `share` of which are right."""
    (run / 'test').mkdir(exist_ok=True)
    right = round(40 * share)
    lines = [{'id': str(n), 'label': gold, 'prediction': gold if n < right else 'c'} for n in range(40)]
    (run / 'test' / 'predictions.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


def sides(left: str, right: str, key: str, seeds: int = 3, suffix: str = '') -> tuple[Quantity, Quantity]:
    """All seeds of both rows at `key`."""
    first, second = (tuple(f'{row}-{seed}{suffix}' for seed in range(seeds)) for row in (left, right))
    return (first, key), (second, key)


def test_seeds_and_documents_decide_a_claim(seeded):
    claims = (
        Claim('the gain of {a} is below that of {b}', *sides('low', 'high', GAIN)),
        Claim('the gain of {a} is below that of {b}', *sides('high', 'low', GAIN)),
        Claim('{a} is below {b}', *sides('low', 'near', GAIN)),
        Claim('{a} is smaller', *sides('low', 'high', 'parameters:encoder')),
    )
    gains = {'low': (0.50, 0.52, 0.51), 'high': (1.0, 1.03, 1.04), 'near': (0.40, 0.52, 0.63)}
    study, folder = seeded(gains, claims)
    assert read_study(folder).claims == claims
    lines = judge_all(study, gather(study, folder))
    assert lines[0].startswith('**supported** — the gain of low is below that of high: 0.510 ± 0.010 (n=3) against 1.023 ± 0.021')
    assert 'paired over 3 pretraining seeds × 60 documents, p = ' in lines[0]
    assert lines[0].endswith('after Holm over 3 claims)'), 'exact counts are no test'
    assert lines[1].startswith('**refuted** — the gain of high is below that of low')
    assert lines[2].startswith('**not decided (n=3, −0.0')
    assert lines[3].startswith('**refuted** — low is smaller') and lines[3].endswith('(exact counts)')


def test_an_untested_claim_counts_in_the_correction(seeded):
    claims = tuple(Claim(f'{{a}} is below {{b}} {n}', *sides('low', 'high', GAIN)) for n in range(2))
    study, folder = seeded({'low': (0.50, 0.52, 0.51), 'high': (1.0, 1.03, 1.04), 'lone': (0.1,)}, claims)
    alone = Claim('{a} is below {b}', ('lone-0', GAIN), ('high-0', GAIN))
    lines = judge_all(dataclasses.replace(study, claims=(*claims, alone)), gather(study, folder))
    assert lines[2].startswith('**not tested** — lone is below high-0: 0.100 against 1.000 (one seed: nothing tells')
    assert 'the difference from chance; difference −0.900 [−0.900, −0.900] over 60 documents is of these models alone' in lines[2]
    assert 'after Holm over 3 claims' in lines[0]


def test_fine_tunings_of_a_pretraining_are_averaged_first(seeded):
    columns = (Column('Task', 'task', SCORE, 'percent', 'max'), Column('Score', 'task', 'score', 'percent'))
    names = {row: tuple(f'{row}-{seed}-task-{again}' for seed in range(3) for again in (0, 1)) for row in ('low', 'high')}
    claims = (Claim('{a} is below {b}', (names['low'], SCORE), (names['high'], SCORE)),)
    study, folder = seeded({'low': (0.2, 0.4, 0.6), 'high': (1.0, 1.2, 1.4)}, claims, columns)
    cell = read_row_cell(study, study.table.rows[0], columns[0], gather(study, folder))
    assert len(cell.values) == 6 and cell.units == pytest.approx((0.55, 0.6, 0.65)) and cell.deviation == pytest.approx(0.05)
    assert [find_unit(name, study.runs) for name in names['low']][::2] == [
        (0, 'pretraining'),
        (1, 'pretraining'),
        (2, 'pretraining'),
    ]
    report(folder)
    text = (folder / 'report.md').read_text()
    assert '| low | 60.0 ± 5.0 (n=3 × 2) |' in text and '| high | **80.0 ± 5.0** (n=3 × 2) |' in text
    assert 'n × m: m fine-tunings of each pretraining, which are averaged first.' in text
    assert '**supported** — low is below high: 60.0 ± 5.0 (n=3 × 2) against 80.0' in text
    assert 'paired over 3 pretraining seeds × 40 examples' in text


def test_without_files_of_documents_seeds_alone_are_resampled(seeded):
    claims = (
        Claim('{a} is below {b}', *sides('low', 'high', GAIN)),
        Claim('{a} is below {b}', *sides('high', 'low', 'train_seconds')),
    )
    study, folder = seeded({'low': (0.5, 0.52, 0.51), 'high': (1.0, 1.03, 1.04)}, claims)
    (folder / 'low-1' / 'held_out.npz').write_bytes(b'half')
    lines = judge_all(study, gather(study, folder))
    assert 'paired over 3 pretraining seeds, p = ' in lines[0] and lines[0].startswith('**supported**')
    assert lines[1].startswith('**not decided (n=3, 0.000 [0.000, 0.000])'), 'the same seconds are no difference'


def test_a_claim_with_some_seeds_is_judged_so_far(seeded):
    claims = (Claim('{a} is below {b}', *sides('low', 'high', GAIN)),)
    study, folder = seeded({'low': (0.5, 0.52, 0.51), 'high': (1.0, 1.03, 1.04)}, claims)
    (folder / 'low-2' / 'result.json').unlink()
    line = judge_all(study, gather(study, folder))[0]
    assert '0.510 ± 0.014 (n=2, 1 missing) against' in line and 'paired over 2 pretraining seeds' in line
    assert line.endswith('so far: low-2 has no number (interrupted))')


def test_a_gain_has_its_error_with_one_seed_and_its_interval_with_several(seeded):
    study, folder = seeded({'one': (0.5,), 'three': (1.0, 1.03, 1.04), 'none': (0.01,)})
    report(folder)
    text = (folder / 'report.md').read_text()
    assert '| one | 0.500 (s.e. 0.009) |' in text
    assert '| three | **1.023 ± 0.021 \\[0.9' in text and 'multi-bootstrap, Sellam et al. 2022' in text
    assert '`none-0` gains 0.010 nats over frequencies at \\[MASK\\] (standard error 0.009): it has learnt no more' in text


def test_a_study_may_ask_for_medians(seeded):
    study, folder = seeded({'low': (0.5, 0.51, 0.9), 'high': (1.0, 1.03, 1.4)}, statistic='median')
    report(folder)
    text = (folder / 'report.md').read_text()
    assert '| low | 0.510 ± 0.228' in text and 'Numbers are medians over n pretraining seeds' in text
    with pytest.raises(UserError, match="statistic of table 'T'"):
        Study('x', {}, Table('T', (), (), statistic='mode'))


# ---- McNemar --------------------------------------------------------------------------------------------------------------------


def test_mcnemar_counts_examples_of_each_seed(seeded):
    claims = (Claim('{a} is below {b}', *sides('low', 'high', SCORE, suffix='-task-0'), test='mcnemar'),)
    study, folder = seeded({'low': (0.2, 0.4, 0.6), 'high': (1.6, 1.8, 2.0)}, claims)
    line = judge_all(study, gather(study, folder))[0]
    assert line.startswith('**supported**'), line
    assert '0 examples are right on the first side alone and 42 on the second alone in all' in line
    predict(folder / 'low-0-task-0', 0.5, gold='b')
    assert '**not tested**' in judge_all(study, gather(study, folder))[0], 'other gold answers are other examples'


def test_mcnemar_of_one_seed_is_of_these_models_alone(seeded):
    claims = (Claim('{a} is below {b}', *sides('low', 'high', SCORE, 1, '-task-0'), test='mcnemar'),)
    study, folder = seeded({'low': (0.2,), 'high': (2.0,)}, claims)
    line = judge_all(study, gather(study, folder))[0]
    assert line.startswith('**not tested**') and "McNemar's exact p = " in line and 'is of these two models alone' in line


# ---- What is refused ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('claim', 'message'),
    [
        (Claim('c', ('a-0', GAIN), ('b-1', GAIN)), "claim 'c': its sides share no seed (0 against 1)"),
        (Claim('c', ('a-0', 'metrics:dev/floor_commonest'), ('a-1', GAIN)), "run 'a-0' has no task, so that no floor"),
        (Claim('c', ('a-0-task', GAIN), ('a-0', GAIN)), "run 'a-0-task' is a run of the task packages, which has no held-out"),
        (Claim('c', ('a-0', GAIN), ('a-0', GAIN), 'mcnemar'), "'metrics:dev/gain' of run 'a-0' is no share of them"),
    ],
)
def test_a_claim_that_no_run_can_answer_is_refused(experiment, claim, message):
    runs = {f'{row}-{seed}': experiment('x', seed) for row in 'ab' for seed in (0, 1)}
    runs['a-0-task'] = experiment('task', start='@a-0')
    with pytest.raises(UserError) as refused:
        Study('x', runs, Table('T', (), ()), claims=(claim,))
    assert message in str(refused.value) and '\n' not in str(refused.value)


def test_a_claim_about_a_metric_or_a_test_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="metric of key 'metrics:dev/gian' .*gain"):
        Claim('c', ('a', 'metrics:dev/gian'), ('b', GAIN))
    with pytest.raises(UserError, match="test of claim 'c'"):
        Claim('c', ('a', GAIN), ('b', GAIN), 'welch')


def test_what_trains_nothing_is_compared_with_every_seed(seeded, experiment):
    study, folder = seeded({'low': (0.5, 0.52, 0.51)})
    cut = dataclasses.replace(experiment('x', start='@low-0'), optimizer=Optimizer())
    runs = {**study.runs, 'cut': dataclasses.replace(cut, run=dataclasses.replace(cut.run, steps=0))}
    claim = Claim('{a} is below {b}', ('cut', 'unigram_entropy'), sides('low', 'low', GAIN)[0])
    more = dataclasses.replace(study, runs=runs, claims=(claim,))
    evidence = gather(study, folder)
    line = judge_all(more, evidence | {'cut': evidence['low-0']})[0]
    assert line.startswith('**refuted**') and 'paired over 3 pretraining seeds' in line
