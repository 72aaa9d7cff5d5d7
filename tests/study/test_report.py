"""Reports: the numbers in the cells, what is bold, what is missing, what is claimed."""

import dataclasses
import json
import statistics
import struct

import pytest

from research.errors import UserError
from research.study import figure
from research.study.cells import Cell, best, look_up
from research.study.graph import COLUMNS, FORMATS, Claim
from research.study.ledger import enter, states
from research.study.report import cell_text, duration, judge, report


def table(folder):
    """Row title -> cells, of the first table in report.md."""
    lines = (folder / 'report.md').read_text().split('\n\n')[2].splitlines()
    split = [[cell.strip() for cell in line.strip('|').split(' | ')] for line in lines]
    assert split[1] == [':---'] + ['---:'] * 8
    return {line[0]: dict(zip(split[0][1:], line[1:], strict=True)) for line in split[2:]}


def claimed(study, folder, left, right):
    return judge(Claim('{a} is below {b}', left, right), study, folder, states(study, folder))


def test_the_table_has_the_numbers_their_spread_and_the_best_in_bold(study, finished):
    assert report(study, finished) == finished / 'report.md'
    found = table(finished)
    assert found['Teacher'] == {
        'Parameters (M) ↓': '4.40',
        'Checkpoint (MB) ↓': '17.6',
        'FLOPs a token (M) ↓': '8.80',
        'MLM loss (nats) ↓': '**2.500**',
        'MLM accuracy (%) ↑': '42.0',
        'Task accuracy (%) ↑': f'**92.0 ± {100 * statistics.stdev([0.91, 0.93]):.1f}** (n=2)',
        'Training (tokens/s) ↑': '12,346',
        'Latency (ms) ↓': '2.34',
    }
    assert found['Student']['Parameters (M) ↓'] == found['Scratch']['Parameters (M) ↓'] == '**2.30**'
    assert found['Student']['MLM loss (nats) ↓'] == '2.701'
    assert found['Scratch']['Task accuracy (%) ↑'] == '85.5 ± 0.8 (n=2)'


def test_the_report_says_how_its_numbers_came_about(study, finished):
    report(study, finished)
    text = (finished / 'report.md').read_text()
    assert text.startswith('# Distillation | one table\n\nWhat a teacher is worth.\n\n|')
    assert 'Task accuracy (%): on the test split; always giving the commonest label scores 52.3.' in text
    assert '1 MB is 1e6 bytes' in text
    assert '±: the sample standard deviation over n seeds.' in text
    assert '| `student` | done | teacher | beef | 0 | 1,500 | 1 h 02 min |' in text
    assert '| `student-task-1` | done | student | f00d | 1 | 1,500 | 3 min 20 s |' in text
    assert '- Command: `launch.py --config=experiments/distillation.py`\n' in text
    assert '- Devices: `platform cpu, count 1`\n' in text
    assert '- Versions: `jax 0.10.2`\n' in text
    assert '- Python: `not recorded`' in text
    assert '- Uncommitted changes: `no`' in text
    assert '![' in text
    assert '\u2014 for' not in text


def test_environments_that_differ_are_told_apart(study, finished):
    path = finished / 'student' / 'environment.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'commit': 'ffff'}))
    report(study, finished)
    text = (finished / 'report.md').read_text()
    assert '- Commit: `ffff` (of student)' in text
    assert '- Commit: `abc1234` (of teacher, scratch,' in text


def test_missing_numbers_are_marked_with_their_reason_and_never_the_best(study, finished):
    (finished / 'teacher' / 'result.json').write_text('{"half')
    (finished / 'teacher-task-0' / 'result.json').unlink()
    (finished / 'student-task-0' / 'failure.json').write_text('{"reason": "no memory", "attempts": 1}')
    (finished / 'student-task-0' / 'result.json').unlink()
    (finished / 'student-task-1' / 'result.json').write_text('{"metrics": {}}')
    report(study, finished)
    found, text = table(finished), (finished / 'report.md').read_text()
    assert found['Teacher']['MLM loss (nats) ↓'] == '—'
    assert found['Student']['MLM loss (nats) ↓'] == '**2.701**'
    assert found['Teacher']['Task accuracy (%) ↑'] == '93.0 (n=1 of 2)'
    assert found['Student']['Task accuracy (%) ↑'] == '—'
    assert found['Scratch']['Task accuracy (%) ↑'] == '85.5 ± 0.8 (n=2)'
    assert '- — for `teacher`: unfinished: its result.json is half-written.\n' in text
    assert '- — for `teacher-task-0`: unfinished.\n' in text
    assert '- — for `student-task-0`: failed: no memory.\n' in text
    assert "- — for `student-task-1`: its result has no number 'metrics:test/accuracy'.\n" in text


def test_a_study_without_results_is_reported_without_a_figure(study, tmp_path):
    enter(study, tmp_path)
    (tmp_path / 'report.png').write_bytes(b'of yesterday')
    report(study, tmp_path)
    assert {cell for row in table(tmp_path).values() for cell in row.values()} == {'—'}
    assert not (tmp_path / 'report.png').exists()
    assert '## Figure' not in (tmp_path / 'report.md').read_text()


def test_runs_outside_the_table_are_not_forgotten(study, tmp_path):
    enter(study, tmp_path)
    report(dataclasses.replace(study, table=dataclasses.replace(study.table, rows=study.table.rows[:1])), tmp_path)
    assert 'Not done either: `student` (waiting), `scratch` (waiting),' in (tmp_path / 'report.md').read_text()


def test_a_score_of_chance_is_said(study, finished, finish):
    finish(finished, study, 'scratch-task-0', 0.523)
    report(study, finished)
    text = (finished / 'report.md').read_text()
    assert '`scratch-task-0` scores no better than the commonest label' in text
    assert text.count('no better than') == 1


def test_a_loss_that_frequencies_alone_reach_is_said(study, finished, finish):
    finish(finished, study, 'scratch', 6.21)
    report(study, finished)
    text = (finished / 'report.md').read_text()
    assert '`scratch` has a held-out MLM loss of 6.210, not below the unigram entropy of 6.210' in text
    assert text.count('not below the unigram') == 1


def test_the_report_of_another_study_is_refused(study, finished, tmp_path_factory):
    with pytest.raises(UserError, match="holds study 'distillation'"):
        report(dataclasses.replace(study, name='other'), finished)
    with pytest.raises(UserError, match="holds no study .*run study 'distillation' there first"):
        report(study, tmp_path_factory.mktemp('empty'))


def test_the_terminal_table_is_plain_where_there_is_no_terminal(study, finished, capsys, monkeypatch):
    monkeypatch.setenv('FORCE_COLOR', '1')
    report(study, finished)
    said = capsys.readouterr().out
    assert '\x1b' not in said
    assert '**' not in said
    assert '92.0 ± 1.4 (n=2)' in said
    assert 'holds — held-out MLM loss of Student is below that of Scratch: 2.701 against 2.900' in said


def test_one_seed_is_said_to_have_no_spread(study, finished):
    left, right = ('student', 'metrics:dev/mlm'), ('scratch', 'metrics:dev/mlm')
    found = claimed(study, finished, left, right)
    assert found.startswith('**holds** — Student is below Scratch: 2.701 against 2.900 (one seed on a side: no spread')
    assert claimed(study, finished, right, left) == '**does not hold** — Scratch is below Student: 2.900 against 2.701'
    assert claimed(study, finished, left, left).startswith('**does not hold**')


def test_a_claim_names_rows_by_title_and_other_runs_by_name(study, finished):
    key = 'metrics:test/accuracy'
    found = claimed(study, finished, ('scratch-task-0', key), (('teacher-task-0', 'teacher-task-1'), key))
    assert '— scratch-task-0 is below Teacher: 85.0 against 92.0 ± 1.4 (n=2) (one seed on a side' in found


def test_claims_over_seeds_must_stand_out_of_the_spread(study, finished, finish):
    key = 'metrics:test/accuracy'
    left, right = (('scratch-task-0', 'scratch-task-1'), key), (('student-task-0', 'student-task-1'), key)
    found = claimed(study, finished, left, right)
    assert found.startswith('**does not hold** — Scratch is below Student: 85.5 ± 0.8 (n=2)')
    assert 'within the spread of seeds' in found
    finish(finished, study, 'scratch-task-0', 0.6)
    finish(finished, study, 'scratch-task-1', 0.61)
    found = claimed(study, finished, left, right)
    assert found.startswith('**holds**')
    assert "(Welch's one-sided t-test, p = 0.00" in found
    for name, score in {'scratch': 0.6, 'student': 0.7}.items():
        for seed in (0, 1):
            finish(finished, study, f'{name}-task-{seed}', score)
    assert claimed(study, finished, left, right).endswith('(no spread over seeds)')


def test_nothing_is_claimed_of_missing_or_broken_numbers(study, finished, finish):
    left, right = ('student', 'metrics:dev/mlm'), ('scratch', 'metrics:dev/mlm')
    finish(finished, study, 'student', float('nan'))
    assert claimed(study, finished, left, right) == '**does not hold** — Student is below Scratch: nan against 2.900'
    (finished / 'student' / 'result.json').unlink()
    assert claimed(study, finished, left, right) == '**not known** — Student is below Scratch: student has no number (unfinished)'


def test_best_compares_what_is_printed():
    form = FORMATS['percent']
    cells = [
        Cell((0.9001,), {}),
        Cell((0.9002,), {}),
        Cell((0.8,), {}),
        Cell((0.99,), {'b': 'waiting'}),
        Cell((), {'a': 'waiting'}),
    ]
    assert best(cells, 'max', form) == [True, True, False, False, False]
    assert best(cells, 'min', form) == [False, False, True, False, False]
    assert best(cells, '', form) == [False] * 5
    assert best(cells[:2], 'max', form) == [False, False]
    assert best([Cell((float('nan'),), {}), *cells[1:3]], 'max', form) == [False, True, False]


def test_exact_numbers_that_agree_show_no_spread():
    assert cell_text(Cell((4.4e6, 4.4e6), {}), FORMATS['millions'], bold=True) == ('**4.40**', '')
    assert cell_text(Cell((4.4e6, 4.6e6), {}), FORMATS['millions'], bold=False) == ('4.50 ± 0.14', ' (n=2)')
    assert cell_text(Cell((0.5, 0.5), {}), FORMATS['percent'], bold=False) == ('50.0 ± 0.0', ' (n=2)')
    assert cell_text(Cell((0.5, float('nan')), {}), FORMATS['percent'], bold=False) == ('nan ± nan', ' (n=2)')


def test_keys_are_paths_with_colons():
    result = {'metrics': {'dev/mlm': 2, 'flag': True}, 'steps': None}
    assert look_up(result, 'metrics:dev/mlm') == 2.0
    assert [look_up(result, key) for key in ('metrics', 'metrics:flag', 'metrics:dev', 'steps', 'metrics:dev/mlm:x')] == [None] * 5


def test_durations_are_readable():
    assert [duration(seconds) for seconds in (12.4, 200, 3725)] == ['12 s', '3 min 20 s', '1 h 02 min']


def test_a_curve_survives_a_kill_and_a_continuation(tmp_path):
    lines = [
        '{"step": 200, "dev/mlm": 5.0}',
        '{"step": 100, "dev/mlm": 6.0}',
        '{"step": 200, "dev/mlm": 4.0}',
        '{"step": 150, "train/mlm": 1.0}',
        '{"step": 300, "dev/mlm": NaN}',
        '{"step": 400, "dev/m',
    ]
    (tmp_path / 'metrics.jsonl').write_text('\n'.join(lines))
    assert figure.read_curve(tmp_path / 'metrics.jsonl', 'dev/mlm') == ([100, 200], [6.0, 4.0])
    assert figure.read_curve(tmp_path / 'none.jsonl', 'dev/mlm') == ([], [])


def size(path):
    """(width, height) of a PNG."""
    return struct.unpack('>II', path.read_bytes()[16:24])


def test_the_figure_has_the_panels_that_there_are_numbers_for(study, finished):
    report(study, finished)
    both = size(finished / 'report.png')
    columns = tuple(column for column in COLUMNS.values() if column.role == 'pretrain')
    report(dataclasses.replace(study, table=dataclasses.replace(study.table, columns=columns)), finished)
    assert size(finished / 'report.png') == (both[0] // 2, both[1])


def test_the_figure_is_the_same_for_the_same_numbers_and_another_for_others(study, finished, finish):
    first = figure.draw(study, finished, states(study, finished))
    assert first == figure.draw(study, finished, states(study, finished))
    finish(finished, study, 'student', 2.6)
    assert first != figure.draw(study, finished, states(study, finished))


def test_a_figure_of_far_sizes_and_scores_near_chance_is_drawn_without_a_warning(study, finished, finish):
    finish(finished, study, 'scratch', 2.9, parameters={'encoder': 80_000_000})
    far = figure.draw(study, finished, states(study, finished))
    for seed in (0, 1):
        finish(finished, study, f'scratch-task-{seed}', 0.53 + seed / 100)
    assert far != figure.draw(study, finished, states(study, finished))
