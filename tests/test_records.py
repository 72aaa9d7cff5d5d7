"""JSON from strangers: one line for all that is not a value that can be used."""

import json
import os
from pathlib import Path

import pytest

from research.errors import UserError
from research.records import (
    LINE,
    parse_json,
    parse_record,
    read_json,
    read_lines,
    read_object,
    read_record,
    read_text,
    write_record,
)


def test_a_text_of_too_many_small_values_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(UserError, match='^this is not JSON that can be read: it has over 3,000,000 brackets and commas$'):
        parse_json('[' + '{},' * 2**21 + '{}]', 'this')
    assert len(parse_json('[' + '"a, b",' * 2**16 + '1]', 'this')) == 2**16 + 1


@pytest.mark.parametrize(
    'text',
    [
        '{',
        '[' * 100_000 + ']' * 100_000,
        '[' * 200 + ']' * 200,
        '9' * 5000,
        '9' * 401,
        '1e999',
        'NaN',
        '[-Infinity]',
        r'"\ud800"',
        r'{"\uDfff": 1}',
        '',
        '1 2',
    ],
)
def test_what_is_no_json_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match='^the file is not JSON') as caught:
        parse_json(text, 'the file')
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize('value', [None, 1.5, 'a\\ud', '😀', [[[]]], {'a': [1, {'b': -(10**300)}]}])
def test_json_is_read(value: object) -> None:
    assert parse_json(json.dumps(value), '') == value
    assert parse_json('\ufeff' + json.dumps(value, ensure_ascii=False), '') == value


def test_a_file_is_bounded_and_utf8(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_object(path) == {'a': 1} and read_text(path) == '{"a": 1}'
    with pytest.raises(UserError, match='larger than 5 bytes'):
        read_json(path, size=5)
    path.write_bytes(b'["\xe9"]')
    with pytest.raises(UserError, match=r'not UTF-8 at byte 2; if it is WINDOWS-1252, convert it: iconv .*a.json > NEW$'):
        read_json(path)
    path.write_text('[1]')
    with pytest.raises(UserError, match='not a JSON object'):
        read_object(path)


def test_lines_of_a_power_loss_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / 'metrics.jsonl'
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + bytes(4000))
    assert read_lines(path) == [{'step': 1}, {'step': 2}]


def test_a_record_is_always_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='JSON'):
        write_record(tmp_path / 'a.json', {'loss': float('nan')})
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'result.json')
    assert read_record(tmp_path / 'result.json') is None
    for read in (read_json, read_lines):
        with pytest.raises(UserError, match=r'result\.json is a pipe or a device: give a regular file'):
            read(tmp_path / 'result.json')


def test_a_lenient_reader_lets_pass_what_python_writes() -> None:
    found = parse_json('\ufeff{"a": NaN, "b": -Infinity, "c": "\\ud800"}', '', lenient=True)
    assert found['a'] != found['a'] and found['b'] == float('-inf') and found['c'] == '\ud800'
    for text in ('[' * 200 + ']' * 200, '9' * 401, '9' * 5000, '{'):
        with pytest.raises(UserError, match='^the file is not JSON'):
            parse_json(text, 'the file', lenient=True)


def test_records_hold_mappings_and_lists_of_one_type() -> None:
    assert parse_record(dict[str, list[int]], {'a': [1]}) == {'a': [1]}
    for value in ({'a': 1}, {'a': ['1']}, [1]):
        with pytest.raises(ValueError, match='is no'):
            parse_record(dict[str, list[int]], value)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe would wait for a writer, and /dev/zero never ends."""
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'endless').symlink_to('/dev/zero')
    for path in (tmp_path / 'pipe', tmp_path / 'endless'):
        for read in (read_text, read_lines):
            with pytest.raises(UserError, match=f'{path} is a pipe or a device: give a regular file'):
                read(path)
        assert read_record(path) is None
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path)


def test_a_line_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / 'metrics.jsonl'
    path.write_text('{"step": 1}\n{"note": "' + 'a' * LINE + '", "step": 2}\n{"step": 3}\n')
    assert read_lines(path) == [{'step': 1}, {'step': 3}]
