"""Studies from strangers: what their titles, names, claims, reasons and facts hold is shown as text, wherever it is shown."""

import csv
import dataclasses
import html.parser
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from research.study import __main__ as command
from research.study.columns import Column
from research.study.curves import read_curve
from research.study.execution.progress import make_table
from research.study.ledger import enter, read_study
from research.study.planning import listing
from research.study.reporting import marks
from research.study.reporting.cells import gather, read_row_cell
from research.study.reporting.claims import judge_all
from research.study.reporting.drawing import Drawn
from research.study.reporting.remarks import describe_provenance, find_problems
from research.study.reporting.report import report
from research.study.reporting.table import main_sheet, write_caption
from research.study.states import record_failure, run_states
from research.study.study import Claim, Row, Study, Table

HOSTILE = (
    '" onload="alert(1)',
    "' onerror='alert(1)",
    '<script>alert(1)</script>',
    '</title><img src=x onerror=alert(1)>',
    'a | b \\| c',
    '[link](javascript:alert(1)) ![x](y)',
    '`code` **bold** ``` ~~x~~ \\',
    '=HYPERLINK("http://x")',
    '@SUM(1)',
    '+1',
    '-1+cmd',
    '[1em] wide',
    '* starred',
    '# heading\n\n- item\n1. one',
    'cost $x_{$ and $y$',
    'α → β ≤ 中文 — café ± 100 % #1 & {x} ~^\\input{/etc/passwd}',
    '\x1b[31mred\x1b]0;title\x07 \u202eevil',
    '[bold red]markup[/bold red] [/foo]',
    '_x_ &lt; &#65; <b>',
    'long ' * 2000,
)
DRAWN = [text for text in HOSTILE if '$' in text or '\x1b' in text or len(text) > 1000]  # what figures could stumble over
NAME = 'r[bold]<b>|`*&$x_{$ =1'  # a run: what no folder's name may hold is left out


class Page(html.parser.HTMLParser):
    """The tags of a page, each with the names of its attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[tuple[str, tuple[str, ...]]] = set()
        self.text = ''
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


PLAIN = ('html', 'head', 'title', 'style', 'body', 'h1', 'h2', 'h3', 'p', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'b', 'code')
TAGS = {
    *((tag, ()) for tag in (*PLAIN, 'ul', 'li')),
    *(('html', ('lang',)), ('meta', ('charset',)), ('div', ('class',)), ('th', ('class',)), ('td', ('class',))),
    ('img', ('alt', 'src')),
}


@pytest.fixture
def hostile(study: Study, finish: Callable[..., None], tmp_path: Path) -> Callable[[str], Path]:
    """hostile(text) -> the folder of a study that holds `text` wherever it can hold one."""

    def make(text: str) -> Path:
        x = study.runs['teacher']
        runs = {
            f'{NAME}-0': x,
            f'{NAME}-1': dataclasses.replace(x, seed=1),
            'failed': dataclasses.replace(x, teacher='@bare'),
            'bare': x,
        }
        columns = (
            Column(text, 'a', 'metrics:dev/mlm', better='min', note=text),
            Column(text + ' 2', 'a', 'parameters:encoder', 'millions'),
            Column(text + ' 3', 'b', 'score', of=(), relative=text),
        )
        row = Row(text, {'a': (f'{NAME}-0', f'{NAME}-1'), 'b': ('bare',)}, {text: 1.0}, {text: text})
        rows = (row, Row('second', {'a': ('failed',)}, {text: 2.0}))
        claims = (Claim(text + ' {a} {b}', (f'{NAME}-0', 'metrics:dev/mlm'), ('failed', 'metrics:dev/mlm')),)
        one = Study('hostile', runs, Table(text, rows, columns, score=text, source=text), text, claims)
        enter(one, tmp_path)
        for name in list(runs)[:2]:
            finish(tmp_path, one, name, 2.5)
            path = tmp_path / name / 'environment.json'
            facts = json.loads(path.read_text())
            facts |= {'command': [text, name], 'commit': text, 'machine': text, 'devices': {text: [text]}, 'versions': {text: text}}
            path.write_text(json.dumps(facts | {'data': {'fingerprint': text}}))
        record_failure(tmp_path / 'failed', text)
        return tmp_path

    return make


@pytest.mark.parametrize('text', HOSTILE)
def test_a_hostile_text_is_text_in_every_file_of_a_report(
    hostile: Callable, text: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text not in DRAWN:  # figures cost seconds
        drawn = [Drawn('curves', marks.quote(text), b'png', b'pdf')]
        monkeypatch.setattr('research.study.reporting.report.draw', lambda *_: drawn)
    folder = hostile(text)
    assert command.main(['report', str(folder)]) == 0
    assert read_study(folder).table.title == text, 'it is cleaned where it is shown, and kept as it is'
    page = Page((folder / 'report.html').read_text())
    assert page.tags <= TAGS, page.tags - TAGS
    validate_markdown((folder / 'report.md').read_text())
    validate_latex((folder / 'table.tex').read_text())
    for line in csv.reader(io.StringIO((folder / 'table.csv').read_text(), newline='')):
        assert not [cell for cell in line if re.match(r'[=@\t\r]|[+-](?!\d+(\.\d+)?(e-?\d+)?$)', cell)], line
    for name in ('report.html', 'report.md', 'table.tex', 'table.csv'):
        assert not re.search('[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]', (folder / name).read_text()), name
    assert (folder / 'figures' / 'cost.pdf').exists() == (text in DRAWN) and (folder / 'figures' / 'curves.png').exists()
    validate_terminal(capsys.readouterr().out)


def validate_markdown(text: str) -> None:
    """Fails if a text of a stranger made markup of its own."""
    prose = re.sub(r'</?code>|(?<!\\)`[^`|\\]*`', '', text)  # in code nothing is markup
    assert '<' not in prose and not re.search(r'(?<!\\)\]\((?!figures/)', prose), prose
    tables = [part for part in text.split('\n\n') if part.startswith('| ')]
    assert len(tables) == 2
    for table in tables:
        widths = {len(re.findall(r'(?<!\\)(?:\\\\)*\|', line)) for line in table.splitlines()}
        assert len(widths) == 1, table
    headings = [line for line in text.splitlines() if line.startswith('#')]
    assert headings[1:] == [
        '## Claims',
        '## Figures',
        '## How these numbers came about',
    ]


def validate_latex(text: str) -> None:
    """Fails if a text of a stranger ends a group, begins a row as an option does, or is a letter that LaTeX lacks."""
    bare = re.sub(r'\\[\\{}$%&#_]', '', text)
    assert bare.count('{') == bare.count('}')
    assert not re.search(r'^\s*[\[*]', text, re.MULTILINE) and '\n\n' not in text
    assert '\\input' not in text and re.sub(r'\\otherletter\{.\}', '', text).isascii()


def validate_terminal(text: str) -> None:
    """Fails if the terminal was told more than text."""
    assert not re.search('[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]', text)


@pytest.mark.parametrize('text', HOSTILE)
def test_a_hostile_text_is_text_on_the_terminal(
    hostile: Callable, text: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, 'measure_speed', lambda: 1e12)
    folder = hostile(text)
    (folder / 'bare').mkdir()
    (folder / 'bare' / 'metrics.jsonl').write_text(json.dumps({'step': 1, 'train/loss': 1.0, text: 2.0, 'wall': text}) + '\n')
    assert command.main(['status', str(folder)]) == 0
    listing.show(read_study(folder), folder, list(read_study(folder).runs))
    out = capsys.readouterr().out
    validate_terminal(out)
    assert NAME in out, 'brackets are no markup'


def test_marks_of_ours_are_marks_and_quoted_ones_are_text() -> None:
    line = f'**not known** — `{marks.quote("a`b")}` {marks.quote("**c**")}'
    assert marks.to_text(line) == 'not known — a`b **c**'
    assert marks.to_html(line) == '<b>not known</b> — <code>a`b</code> **c**'
    assert marks.to_markdown(line) == r'**not known** — <code>a&#96;b</code> \*\*c\*\*'
    assert marks.parse_marks('`open') == [marks.Span('open', code=True)]
    assert marks.to_latex('**a** `b_c`') == r'a b\_c'


# ---- Records of another type -----------------------------------------------------------------------------------------------------

FOREIGN = ('{}', '[1]', 'null', '1', '"x"', '{"step": "x"}', '[' * 2000, '9' * 401, '{"a": ' + '9' * 401 + '}', '\x80', '')


@pytest.mark.parametrize('content', FOREIGN)
@pytest.mark.parametrize('file', ['failure.json', 'environment.json', 'result.json', 'experiment.json', 'metrics.jsonl'])
def test_a_record_of_another_type_is_as_good_as_missing(
    study: Study, finished: Path, file: str, content: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr('research.study.reporting.report.draw', lambda *_: [])
    (finished / 'teacher' / file).write_bytes(content.encode('latin-1'))
    for asked in ('status', 'report'):
        assert command.main([asked, str(finished)]) == 0, capsys.readouterr().err


VALUES = (None, [], {}, 'x', -1, 1e308, 10**300, True, [1], {'a': [None]})
WHOLE = {
    'failure.json': {'reason': 'x', 'attempts': 1, 'again': True},
    'metrics.jsonl': {'step': 1, 'wall': 1.0, 'seconds': 1.0, 'train/loss': 2.0, 'dev/mlm': 2.0},
}


@pytest.mark.parametrize('file', ['environment.json', 'result.json', *WHOLE])
def test_every_field_of_every_record_may_have_another_type(study: Study, finished: Path, file: str) -> None:
    path = finished / 'teacher' / file
    whole = WHOLE[file] if file in WHOLE else json.loads(path.read_text())
    if file == 'failure.json':
        (finished / 'teacher' / 'result.json').unlink()
    for field in whole:
        for value in VALUES:
            path.write_text(json.dumps(whole | {field: value}) + '\n')
            make_table(study.name, finished, run_states(study.needs, finished))
            evidence = gather(study, finished)
            cells = [[read_row_cell(study, row, column, evidence) for column in study.table.columns] for row in study.table.rows]
            assert (
                main_sheet(study, cells, evidence)
                and write_caption(study, cells, evidence)
                and describe_provenance(study, evidence)
            )
            assert isinstance(find_problems(study, cells, evidence), list) and judge_all(study, evidence)
            read_curve(finished / 'teacher' / 'metrics.jsonl', 'dev/mlm')


def test_numbers_that_no_sum_can_hold_are_no_numbers(study: Study, finished: Path, finish: Callable) -> None:
    for number in (1e308, -1e308, 10**300):
        finish(finished, study, 'teacher', number, train_seconds=1e308, wall_seconds=-1e308, latency_seconds=1e-300, steps=10**300)
        finish(finished, study, 'teacher-task-0', number, smoothness={'l2': [1e308], 'degrees': []})
        report(finished)
        assert "its result has no number 'metrics:dev/mlm'" in (finished / 'report.md').read_text()


@pytest.mark.parametrize(
    'changes',
    [
        {'name': None},
        {'name': 'a\nb'},
        {'name': '../x'},
        {'table': []},
        {'table': {'title': None, 'rows': [], 'columns': []}},
        {'table': {'title': 'x', 'rows': [{'title': None, 'runs': {}}], 'columns': []}},
        {'table': {'title': 'x', 'rows': [{'title': 'x', 'runs': {'a': 'teacher'}}], 'columns': []}},
        {'table': {'title': 'x', 'rows': [], 'columns': [{'title': 1}]}},
        {'claims': [1]},
        {'claims': [{'text': None, 'left': ['teacher', 'score'], 'right': ['teacher', 'score']}]},
        {'claims': [{'text': 'x', 'left': [[1], 'score'], 'right': ['teacher', 'score']}]},
        {'note': 1},
        {'runs': []},
        {'runs': {'../x': {'hash': 'a', 'experiment': {}}}},
        {'runs': {'x\ny': {'hash': 'a', 'experiment': {}}}},
        {'runs': {'teacher': {'hash': 'a', 'experiment': []}}},
        {'runs': {'teacher': {'hash': 'a', 'experiment': {'start': 1}}}},
        {'left_out': None},
    ],
)
def test_a_study_json_of_another_type_is_refused_in_one_line(
    finished: Path, changes: dict, capsys: pytest.CaptureFixture, study: Study
) -> None:
    path = finished / 'study.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert command.main(['report', str(finished)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f'error: {path} is from another version of this code (') and err.count('\n') == 1


def test_a_report_over_runs_that_name_two_earlier_ones_takes_no_time(study: Study, tmp_path: Path, finish: Callable) -> None:
    runs = {'r0': study.runs['teacher'], 'r1': study.runs['teacher']}
    for place in range(2, 60):
        runs[f'r{place}'] = dataclasses.replace(study.runs['teacher'], start=f'@r{place - 1}', teacher=f'@r{place - 2}', seed=place)
    one = Study('dense', runs, Table('', (Row('last', {'a': ('r58', 'r59')}),), (Column('loss', 'a', 'metrics:dev/mlm'),)))
    enter(one, tmp_path)
    for name in runs:
        finish(tmp_path, one, name, 0.5)
    report(tmp_path)


def test_a_chain_of_1100_runs_is_ordered(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = {'r0': study.runs['teacher']}
    runs |= {f'r{place}': dataclasses.replace(study.runs['teacher'], start=f'@r{place - 1}') for place in range(1, 1100)}
    enter(Study('chain', dict(reversed(runs.items())), Table('', (), ())), tmp_path)
    assert command.main(['status', str(tmp_path)]) == 0
    assert '1100 waiting' in capsys.readouterr().out
