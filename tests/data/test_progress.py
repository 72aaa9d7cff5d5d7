"""The progress of a preparation under way."""

import pytest

from research.data import progress as module
from research.data.progress import Moment, describe, progress


@pytest.mark.parametrize(
    ('begin', 'now', 'words'),
    [
        (Moment(0, 0, 0.0), Moment(10, 500, 0.25), '500 documents, 50 documents/s, 25%, 0:00:30 left'),
        (Moment(5, 1000, 0.5), Moment(105, 2000, 0.51), '2,000 documents, 10 documents/s, 51%, 1:21:40 left'),
        (Moment(0, 0, 0.0), Moment(10, 500, 0.0), '500 documents, 50 documents/s'),
        (Moment(1, 7, 0.1), Moment(1, 7, 0.1), '7 documents'),
    ],
)
def test_words(begin, now, words):
    assert describe(begin, now) == words


def test_plain_lines_come_at_their_time(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, 'monotonic', lambda: clock[0])
    with progress('books') as report:
        for seconds in range(0, 40, 4):
            clock[0] = seconds
            report(100 * seconds, seconds / 100)
    assert capsys.readouterr().err.splitlines() == [
        'books: 1,200 documents, 100 documents/s, 12%, 0:01:28 left',
        'books: 2,400 documents, 100 documents/s, 24%, 0:01:16 left',
        'books: 3,600 documents, 100 documents/s, 36%, 0:01:04 left',
    ]


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(module.sys.stderr, 'isatty', lambda: True)
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', '120')
    monkeypatch.setenv('FORCE_COLOR', '1')
    with progress('books') as report:
        report(5, 0.0)
        report(10, 0.5)
    shown = capsys.readouterr().err
    assert 'books' in shown and '10 documents' in shown
