"""Reports: the numbers in the cells, what is bold, what is missing, what is claimed."""

import dataclasses
import json
import shutil
import statistics

import pandas
import pytest

from research.errors import UserError
from research.escape import to_latex as escape_latex
from research.runs.folder import read_result
from research.study import __main__ as command
from research.study.columns import COLUMNS, FORMATS, Column
from research.study.curves import read_curve
from research.study.ledger import enter
from research.study.reporting import figures
from research.study.reporting.cells import Cell, gather, look_up
from research.study.reporting.claims import judge_all
from research.study.reporting.numbers import find_best, format_cell
from research.study.reporting.published import describe_orders
from research.study.reporting.remarks import find_problems
from research.study.reporting.report import report
from research.study.reporting.sheets import Entry, Sheet, to_latex
from research.study.study import Claim, Row, Setting


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Figures cost seconds: they are drawn in one report, and left out of the others."""
    if 'reported' not in request.fixturenames:
        monkeypatch.setattr('research.study.reporting.report.draw', lambda *_: [])


@pytest.fixture(scope='module')
def reported(study, finish_all, tmp_path_factory):
    """The folder of the finished study with its report, figures included; no test changes it."""
    folder = tmp_path_factory.mktemp('reported')
    finish_all(study, folder)
    report(folder)
    return folder


def table(folder):
    """Row title -> cells, of the first table in report.md."""
    lines = (folder / 'report.md').read_text().split('\n\n')[2].splitlines()
    split = [[cell.strip() for cell in line.strip('|').split(' | ')] for line in lines]
    assert split[1] == [':---'] + ['---:'] * 10
    return {line[0]: dict(zip(split[0][1:], line[1:], strict=True)) for line in split[2:]}


def claimed(study, folder, left, right):
    one = dataclasses.replace(study, claims=(Claim('{a} is below {b}', left, right),))
    return judge_all(one, gather(study, folder))[0]


def test_the_table_has_the_numbers_their_spread_and_the_best_in_bold(study, finished):
    assert report(finished) == finished / 'report.md'
    found = table(finished)
    assert found['Teacher'] == {
        'Parameters (M) ↓': '4.40',
        'Checkpoint (MB) ↓': '17.6',
        'FLOPs a token (M) ↓': '8.80',
        'MLM loss (nats) ↓': '**2.500**',
        'MLM accuracy (%) ↑': '42.0',
        'Task accuracy (%) ↑': f'**92.0 ± {100 * statistics.stdev([0.91, 0.93]):.1f}** (n=1 × 2)',
        'Time (min) ↓': '62.1',
        'Memory (MB)': '512',
        'Training (tokens/s) ↑': '12,346',
        'Latency (ms) ↓': '2.34',
    }
    assert found['Student']['Parameters (M) ↓'] == found['Scratch']['Parameters (M) ↓'] == '**2.30**'
    assert found['Student']['MLM loss (nats) ↓'] == '2.701'
    assert found['Scratch']['Task accuracy (%) ↑'] == '85.5 ± 0.8 (n=1 × 2)'


def test_the_report_says_how_its_numbers_came_about(study, finished):
    report(finished)
    text = (finished / 'report.md').read_text()
    assert text.startswith('# Distillation | one table\n\nWhat a teacher is worth.\n\n|')
    assert 'Task accuracy (%): on the test split.' in text
    assert '| floor: commonest answer |  |  |  |  |  | 52.3 |' in text
    assert '1 MB is 1e6 bytes' in text
    assert 'Numbers are means over n pretraining seeds; ±: their sample standard deviation.' in text
    assert 'n=1 × m: one pretraining; ± is over m fine-tunings of it' in text
    assert '| `student` | done | teacher | beef | 0 | 1,500 | 1 h 02 min | 1 h 03 min |' in text
    assert '| `student-task-1` | done | student | f00d | 1 | 1,500 | 3 min 20 s | 4 min 20 s |' in text
    assert '- Command: `launch.py --config=experiments/distillation.py`\n' in text
    assert '- Devices: `platform cpu, count 1`\n' in text
    assert '- Versions: `jax 0.10.2`\n' in text
    assert '- Version of this code: `not recorded`' in text
    assert '- Uncommitted changes: `no`' in text
    assert '\u2014 for' not in text


def test_environments_that_differ_are_told_apart(study, finished):
    path = finished / 'student' / 'environment.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'commit': 'ffff'}))
    report(finished)
    text = (finished / 'report.md').read_text()
    assert '- Commit: `ffff` (of student)' in text
    assert '- Commit: `abc1234` (of teacher, scratch,' in text


def test_missing_numbers_are_marked_with_their_reason_and_never_the_best(study, finished):
    (finished / 'teacher' / 'result.json').write_text('{"half')
    (finished / 'teacher-task-0' / 'result.json').unlink()
    (finished / 'student-task-0' / 'failure.json').write_text('{"reason": "no memory", "attempts": 1, "again": true}')
    (finished / 'student-task-0' / 'result.json').unlink()
    rewrite(finished / 'student-task-1' / 'result.json', metrics={})
    report(finished)
    found, text = table(finished), (finished / 'report.md').read_text()
    assert found['Teacher']['MLM loss (nats) ↓'] == '—'
    assert found['Student']['MLM loss (nats) ↓'] == '**2.701**'
    assert found['Teacher']['Task accuracy (%) ↑'] == '93.0 (n=1, 1 missing)'
    assert found['Student']['Task accuracy (%) ↑'] == '—'
    assert found['Scratch']['Task accuracy (%) ↑'] == '85.5 ± 0.8 (n=1 × 2)'
    assert '- — for `teacher`: interrupted: its result.json is half-written or from another version of this code.\n' in text
    assert '- — for `teacher-task-0`: interrupted.\n' in text
    assert '- — for `student-task-0`: failed: no memory.\n' in text
    assert "- — for `student-task-1`: its result has no number 'metrics:test/accuracy'.\n" in text


def test_a_study_without_results_is_reported_without_a_figure(study, tmp_path):
    enter(study, tmp_path)
    (tmp_path / 'figures').mkdir()
    for name in ('curves', 'mine'):
        (tmp_path / 'figures' / f'{name}.png').write_bytes(b'of yesterday')
    report(tmp_path)
    assert {cell for row in table(tmp_path).values() for cell in row.values()} == {'—'}
    assert [path.name for path in (tmp_path / 'figures').iterdir()] == ['mine.png'], 'what a report never draws is not its own'
    assert '## Figures' not in (tmp_path / 'report.md').read_text()


def test_runs_outside_the_table_are_not_forgotten(study, tmp_path):
    enter(dataclasses.replace(study, table=dataclasses.replace(study.table, rows=study.table.rows[:1])), tmp_path)
    report(tmp_path)
    assert 'Not done either: `student` (waiting), `scratch` (waiting),' in (tmp_path / 'report.md').read_text()


def test_a_score_of_chance_is_said(study, finished, finish):
    finish(finished, study, 'scratch-task-0', 0.523)
    report(finished)
    text = (finished / 'report.md').read_text()
    assert '`scratch-task-0` scores no better than the commonest label' in text
    assert text.count('no better than') == 1


def test_a_loss_that_frequencies_alone_reach_is_said(study, finished, finish):
    finish(finished, study, 'scratch', 6.21)
    report(finished)
    text = (finished / 'report.md').read_text()
    assert '`scratch` has a held-out MLM loss of 6.210, not below the unigram entropy of 6.210' in text
    assert text.count('not below the unigram') == 1
    scratch = study.runs['scratch']
    masking = dataclasses.replace(scratch.data.masking, policy='frequency')
    runs = {**study.runs, 'scratch': dataclasses.replace(scratch, data=dataclasses.replace(scratch.data, masking=masking))}
    cells = [[Cell((), {})] * len(study.table.columns)] * len(study.table.rows)
    problems = find_problems(dataclasses.replace(study, runs=runs), cells, gather(study, finished))
    assert not any('unigram' in line for line in problems)


def test_the_report_of_no_study_is_refused(tmp_path):
    with pytest.raises(UserError, match='holds no study'):
        report(tmp_path)


def test_the_terminal_table_is_plain_where_there_is_no_terminal(study, finished, capsys, monkeypatch):
    monkeypatch.setenv('FORCE_COLOR', '1')
    report(finished)
    said = capsys.readouterr().out
    assert '\x1b' not in said
    assert '**' not in said
    assert '92.0 ± 1.4 (n=1' in said
    assert 'not tested — held-out MLM loss of Student is below that of Scratch: 2.701 against 2.900' in said


def test_a_claim_with_one_seed_is_not_tested(study, finished):
    left, right = ('student', 'metrics:dev/mlm'), ('scratch', 'metrics:dev/mlm')
    why = '(one seed: nothing tells the difference from chance)'
    assert claimed(study, finished, left, right) == f'**not tested** — Student is below Scratch: 2.701 against 2.900 {why}'
    assert claimed(study, finished, right, left).startswith('**not tested** — Scratch is below Student: 2.900 against 2.701')


def test_fine_tunings_of_one_checkpoint_are_one_seed(study, finished):
    key = 'metrics:test/accuracy'
    found = claimed(study, finished, (('scratch-task-0', 'scratch-task-1'), key), (('teacher-task-0', 'teacher-task-1'), key))
    assert found.startswith('**not tested** — Scratch is below Teacher: 85.5 ± 0.8 (n=1 × 2) against 92.0 ± 1.4 (n=1 × 2)')
    assert found.endswith('(one seed of one pretraining: nothing tells the difference from chance)')
    found = claimed(study, finished, ('scratch-task-0', key), (('teacher-task-0', 'teacher-task-1'), key))
    assert '— scratch-task-0 is below Teacher: 85.0 against' in found, 'runs without a row have their own names'


def test_exact_counts_need_no_seeds(study, finished):
    key = 'parameters:encoder'
    found = claimed(study, finished, ('student', key), ('teacher', key))
    assert found == '**supported** — Student is below Teacher: 2.30 against 4.40 (exact counts)'
    assert claimed(study, finished, ('teacher', key), ('student', key)).startswith('**refuted** — Teacher is below Student')


def test_nothing_is_claimed_of_missing_or_broken_numbers(study, finished, finish):
    left, right = ('student', 'metrics:dev/mlm'), ('scratch', 'metrics:dev/mlm')
    evidence = gather(study, finished)
    result = read_result(finished / 'student')
    assert result is not None
    broken = dataclasses.replace(result, metrics={'dev/mlm': float('nan')})
    evidence['student'] = dataclasses.replace(evidence['student'], result=broken)
    found = judge_all(dataclasses.replace(study, claims=(Claim('{a} is below {b}', left, right),)), evidence)
    assert found == ['**not tested** — Student is below Scratch: nan against 2.900 (student is not finite)']
    (finished / 'student' / 'result.json').unlink()
    found = claimed(study, finished, left, right)
    assert found == '**not tested** — Student is below Scratch: — against 2.900 (student has no number (interrupted))'


def test_best_compares_what_is_printed():
    form = FORMATS['percent']
    cells = [
        Cell((0.9001,), {}),
        Cell((0.9002,), {}),
        Cell((0.8,), {}),
        Cell((0.99,), {'b': 'waiting'}),
        Cell((), {'a': 'waiting'}),
    ]
    assert find_best(cells, 'max', form) == [True, True, False, False, False]
    assert find_best(cells, 'min', form) == [False, False, True, False, False]
    assert find_best(cells, '', form) == [False] * 5
    assert find_best(cells[:2], 'max', form) == [False, False]
    assert find_best([Cell((float('nan'),), {}), *cells[1:3]], 'max', form) == [False, True, False]


def test_exact_numbers_that_agree_show_no_spread():
    assert format_cell(Cell((4.4e6, 4.4e6), {}), FORMATS['millions']) == ('4.40', '')
    assert format_cell(Cell((4.4e6, 4.6e6), {}), FORMATS['millions']) == ('4.50 ± 0.14', ' (n=2)')
    assert format_cell(Cell((0.5, 0.5), {}), FORMATS['percent']) == ('50.0 ± 0.0', ' (n=2)')
    assert format_cell(Cell((0.5, float('nan')), {}), FORMATS['percent']) == ('nan ± nan', ' (n=2)')


def test_keys_are_paths_with_colons(study, finished):
    result = read_result(finished / 'teacher')
    assert result is not None
    found = {key: look_up(result, key) for key in ('metrics:dev/mlm', 'parameters:modules:mlm', 'steps', 'unigram_entropy')}
    assert found == {'metrics:dev/mlm': 2.5, 'parameters:modules:mlm': 500.0, 'steps': 1500.0, 'unigram_entropy': 6.21}
    assert [look_up(result, key) for key in ('metrics:dev/nsp', 'baseline:majority:score', 'score')] == [None] * 3


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
    assert read_curve(tmp_path / 'metrics.jsonl', 'dev/mlm') == ([100, 200], [6.0, 4.0])
    assert read_curve(tmp_path / 'none.jsonl', 'dev/mlm') == ([], [])


def drawn(study, folder, name):
    return figures.FIGURES[name](study, gather(study, folder), folder)


def test_every_figure_is_written_as_png_and_pdf(reported):
    assert sorted(path.name for path in (reported / 'figures').iterdir()) == [
        'cost.pdf',
        'cost.png',
        'curves.pdf',
        'curves.png',
        'layers.pdf',
        'layers.png',
    ]
    assert (reported / 'figures' / 'cost.pdf').read_bytes().startswith(b'%PDF')
    text = (reported / 'report.md').read_text()
    assert all(f'](figures/{name}.png)' in text for name in ('curves', 'cost', 'layers'))


def test_figures_are_the_same_for_the_same_numbers_and_others_for_others(study, finished, finish):
    first = drawn(study, finished, 'curves')
    assert first == drawn(study, finished, 'curves')
    finish(finished, study, 'student', 2.6)
    assert first != drawn(study, finished, 'curves')


def test_a_figure_of_far_sizes_and_scores_near_chance_is_drawn_without_a_warning(study, finished, finish):
    finish(finished, study, 'scratch', 2.9, parameters={'encoder': 80_000_000})
    for seed in (0, 1):
        finish(finished, study, f'scratch-task-{seed}', 0.53 + seed / 100)
    assert drawn(study, finished, 'cost') is not None


def test_the_shape_figure_appears_where_rows_differ_in_depth(study, finished):
    assert drawn(study, finished, 'shape') is None
    for name, layers in (('teacher', 12), ('student', 6), ('scratch', 6)):
        path = finished / name / 'experiment.json'
        wire = json.loads(path.read_text())
        wire['model']['layers'] = layers
        path.write_text(json.dumps(wire))
    shape = drawn(study, finished, 'shape')
    assert shape is not None and shape.title == 'Task accuracy (%) against layers'


def test_the_pareto_front_has_what_nothing_cheaper_beats():
    found = [figures.Point(str(size), 0, size, Cell((score,), {})) for size, score in ((1, 5), (2, 4), (3, 7), (3, 6), (4, 7))]
    assert [(each.size, each.score.center) for each in figures.find_front(found, 'max')] == [(1, 5), (3, 7)]
    assert [(each.size, each.score.center) for each in figures.find_front(found, 'min')] == [(1, 5), (2, 4)]


# ---- Mixed cells, published numbers, averages, the other files ------------------------------------------------------------------


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ('file', 'changes', 'what'),
    [
        ('environment', {'commit': 'ffff'}, 'code'),
        ('environment', {'versions': {'jax': '0.9'}}, 'code'),
        ('environment', {'data': {'fingerprint': 'cafe'}}, 'data'),
        ('experiment', {'seed': 7}, 'configs'),
        ('experiment', {'data': None}, 'configs'),
    ],
)
def test_a_cell_that_mixes_is_marked_and_never_the_best(study, finished, file, changes, what):
    path = finished / 'teacher-task-1' / f'{file}.json'
    if changes == {'data': None}:
        changes = {'data': json.loads(path.read_text())['data'] | {'length': 64}}
    rewrite(path, **changes)
    report(finished)
    text = (finished / 'report.md').read_text()
    assert table(finished)['Teacher']['Task accuracy (%) ↑'] == '92.0 ± 1.4 (n=1 × 2) †'
    assert table(finished)['Student']['Task accuracy (%) ↑'].startswith('**89.0')
    assert f'- † Teacher, Task accuracy (%): mixed {what} among `teacher-task-0`, `teacher-task-1`.\n' in text
    assert '†: the runs of the cell differ in more than their seed' in text


def test_seeds_that_start_from_seeds_are_of_one_config(study, finished, finish, experiment):
    runs = {**study.runs, 'teacher-1': dataclasses.replace(study.runs['teacher'], seed=1)}
    runs['teacher-task-1'] = dataclasses.replace(study.runs['teacher-task-1'], start='@teacher-1')
    both = dataclasses.replace(study, runs=runs)
    enter(both, finished / 'both')
    for name in runs:
        finish(finished / 'both', both, name, 0.9)
    report(finished / 'both')
    assert '†' not in (finished / 'both' / 'report.md').read_text()


@pytest.mark.parametrize('content', ['{"seed": 0}', '{"modle": {}}', '{'])
def test_a_run_folder_of_another_version_is_reported(study, finished, content):
    (finished / 'teacher-task-1' / 'experiment.json').write_text(content)
    report(finished)
    assert 'mixed configs among `teacher-task-0`, `teacher-task-1`' in (finished / 'report.md').read_text()


@pytest.mark.parametrize(
    ('changes', 'marked'), [({'devices': {'count': 8}}, False), ({'commit': 'ffff'}, True), ({'versions': {'jax': '0.9'}}, True)]
)
def test_a_run_that_went_on_elsewhere_says_so_and_by_other_code_is_marked(study, finished, changes, marked):
    path = finished / 'teacher' / 'environment.json'
    environment = json.loads(path.read_text())
    rewrite(path, sessions=[environment | changes])
    report(finished)
    text = (finished / 'report.md').read_text()
    assert ('mixed code among `teacher`' in text) == marked
    assert '(of teacher)' in text


def with_published(study):
    columns = (
        COLUMNS['mlm'],
        COLUMNS['task'],
        dataclasses.replace(COLUMNS['task'], title='Relative (%)', relative='Teacher'),
        Column('Mean', '', '', 'percent', 'max', of=('Task accuracy (%)',)),
    )
    numbers = ({'Task accuracy (%)': 90.0}, {'Task accuracy (%)': 91.0}, {'Task accuracy (%)': 80.0})
    rows = tuple(
        dataclasses.replace(row, published=known, facts={'Layers': '6'}, setting=Setting(layers=12))
        for row, known in zip(study.table.rows, numbers, strict=True)
    )
    table = dataclasses.replace(study.table, rows=rows, columns=columns, source='Nobody et al. 2020, Table 1')
    return dataclasses.replace(study, table=table)


def test_published_numbers_stand_beside_the_measured_with_the_difference(study, finished):
    enter(with_published(study), finished)
    report(finished)
    lines = (finished / 'report.md').read_text().split('\n\n')
    titles = '| | Layers | MLM loss (nats) ↓ | Task accuracy (%) ↑ | published | Δ | Relative (%) ↑ | Mean ↑ |'
    assert lines[2].splitlines()[0].replace('|  |', '| |') == titles
    accuracy = '**92.0 ± 1.4** (n=1 × 2)'
    assert f'| Teacher | 6 | **2.500** | {accuracy} | 90.0 | +2.0 | **100.0 ± 1.5** (n=1 × 2) | {accuracy} |' in lines[2]
    assert '| Student | 6 | 2.701 | 89.0 ± 1.4 (n=1 × 2) | 91.0 | −2.0 |' in lines[2]
    assert '| floor: commonest answer |  |  | 52.3 |  |  |  | 52.3 |' in lines[2]
    assert 'Published: Nobody et al. 2020, Table 1; Δ: measured minus published, where size, text and metric compare.' in lines[3]
    order = 'Task accuracy (%): not tested: with one seed no standard error tells which rows differ.'
    assert describe_orders(with_published(study), gather(with_published(study), finished)) == [order]
    found = pandas.read_csv(finished / 'table.csv').set_index('row')
    assert found.loc['Student', 'Task accuracy (%) difference'] == pytest.approx(-2)
    assert found.loc['Teacher', 'Task accuracy (%) sd'] == pytest.approx(100 * statistics.stdev([0.91, 0.93]))
    kinds = ['Layers', 'Task accuracy (%) n', 'Task accuracy (%) runs', 'MLM loss (nats) n', 'Mean missing']
    assert found.loc['Teacher', kinds].tolist() == [6, 1, 2, 1, 0]


def test_a_row_without_runs_holds_what_is_published_alone(study, finished):
    known = with_published(study)
    rows = (*known.table.rows, Row('Of old', {}, {'Task accuracy (%)': 70.0}))
    enter(dataclasses.replace(known, table=dataclasses.replace(known.table, rows=rows)), finished)
    report(finished)
    assert '| Of old |  | — | — | 70.0 | — | — | — |' in (finished / 'report.md').read_text()


def test_an_average_lacks_the_seed_that_one_of_its_columns_lacks(study, finished):
    (finished / 'teacher-task-1' / 'result.json').unlink()
    enter(with_published(study), finished)
    report(finished)
    text = (finished / 'report.md').read_text()
    assert '| Teacher | 6 | **2.500** | 91.0 (n=1, 1 missing) | 90.0 | +1.0 | — | 91.0 (n=1, 1 missing) |' in text


def test_the_web_page_holds_all_and_needs_nothing(reported):
    page = (reported / 'report.html').read_text()
    assert page.count('<img alt=') == page.count('src="data:image/png;base64,') == 3
    assert 'http' not in page and '<script' not in page and 'figures/' not in page
    assert '<td class=n><b>92.0 ± 1.4</b> (n=1 × 2)</td>' in page
    assert '<code>student-task-1</code>' in page and 'Distillation | one table' in page
    assert '<b>not tested</b> — held-out MLM loss of Student is below that of Scratch' in page


def test_latex_is_escaped_and_set_by_booktabs(study, finished):
    sheet = Sheet(('', 'A_1 (%) ↓'), ((Entry('50% & more', '', True), Entry('1.0 ± 0.1', ' (n=2)', True)),), 1)
    text = to_latex(sheet, 'All #1', ['**bold** `x_y`'])
    assert r'\caption{All \#1. bold x\_y}' in text and r'\begin{tabular}{lr}' in text
    assert r' & A\_1 (\%) $\downarrow$ \\' in text
    assert r'\textbf{50\% \& more} & \textbf{1.0 $\pm$ 0.1} (n=2) \\' in text
    assert escape_latex('a\\b~^{}$') == r'a\textbackslash{}b\textasciitilde{}\textasciicircum{}\{\}\$'
    report(finished)
    assert r'\toprule' in (finished / 'table.tex').read_text()


def test_a_report_needs_neither_the_experiments_file_nor_anything_else(reported, tmp_path, capsys):
    copy = tmp_path / 'study'
    shutil.copytree(reported, copy)
    names = ('report.md', 'table.tex', 'table.csv', 'report.html')
    for name in names:
        (copy / name).unlink()
    assert command.main(['report', str(copy)]) == 0
    assert 'not tested — held-out MLM loss of Student' in capsys.readouterr().out
    assert all((copy / name).read_bytes() == (reported / name).read_bytes() for name in names)
