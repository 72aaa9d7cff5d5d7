"""Text in, documents out, and one line for each way that text can be bad."""

import gzip
import json
import lzma

import pytest

from research.data import sources
from research.data.settings import Data
from research.data.sources import documents, stamp
from research.errors import UserError


def test_text_documents_are_separated_by_blank_lines(tmp_path):
    (tmp_path / 'b.txt').write_text('Third  document.\n', encoding='utf-8')
    (tmp_path / 'a.txt').write_bytes('\ufeffOne.\r\nTwo.\r\n \t\r\n\r\nSecond é.'.encode())
    found = list(documents(f'text:{tmp_path}/*.txt'))
    assert found == [['One.', 'Two.'], ['Second é.'], ['Third document.']]


@pytest.mark.parametrize(('name', 'opener'), [('a.jsonl', open), ('a.jsonl.gz', gzip.open), ('a.jsonl.xz', lzma.open)])
def test_json_lines_plain_and_compressed(tmp_path, name, opener):
    with opener(tmp_path / name, 'wt', encoding='utf-8') as file:
        file.write(
            json.dumps({'body': 'One.\n\nTwo.'}) + '\n\n' + json.dumps({'body': ' '}) + '\n' + json.dumps({'body': 'Three.'})
        )
    assert list(documents(f'jsonl:{tmp_path}/a*', Data(field='body'))) == [['One.', 'Two.'], ['Three.']]


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.txt', b'\n \n', 'holds no text'),
        ('a.txt', b'good\nb\xe9d\n', r"a.txt' is not UTF-8 at byte 6 \(line 2\)"),
        ('a.txt.gz', gzip.compress(b'good\nb\xe9d\n'), 'at byte 6 of its decompressed text'),
        ('a.txt.gz', b'not gzip', "a.txt.gz' is corrupt: Not a gzipped file"),
        ('a.txt.gz', gzip.compress(b'good\n' * 1000)[:-9], 'is corrupt: Compressed file ended before'),
        ('a.txt.xz', lzma.compress(bytes(range(97, 123)) * 100)[:-20], 'is corrupt'),
        ('a.txt.xz', b'not xz', 'is corrupt: Input format not supported by decoder'),
        ('a.jsonl', b'{"text": "a"}\n{"text": \n', "a.jsonl' line 2 is not JSON: Expecting value at character"),
        ('a.jsonl', b'{"text": "a"}\n["b"]\n', 'line 2 is not a JSON object but'),
        ('a.jsonl', b'{"txt": "a", "id": 3}\n', "line 1 has no field 'text' .data.field.; did you mean 'txt'.; it has txt, id"),
        ('a.jsonl', b'{}\n', 'it has none'),
        ('a.jsonl', b'{"text": 3}\n', "line 1: field 'text' is not a text but 3"),
        ('a.jsonl', rb'{"text": "\ud800"}', 'half a surrogate pair'),
    ],
)
def test_bad_text_is_told_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    kind = 'jsonl' if '.jsonl' in name else 'text'
    with pytest.raises(UserError, match=message) as caught:
        list(documents(f'{kind}:{path}'))
    assert '\n' not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('txt:a', "no data.source named 'txt'; did you mean 'text'"),
        ('text', 'lacks what comes after the colon; for example text:corpus/'),
        ('text:/nowhere/*.txt', "no file matches '/nowhere/\\*.txt'"),
    ],
)
def test_bad_sources(source, message):
    with pytest.raises(UserError, match=message):
        list(documents(source))


def test_a_file_that_vanished(tmp_path):
    with pytest.raises(UserError, match='cannot be read: No such file'):
        list(sources.lines(tmp_path / 'gone.txt'))


def test_stamp_changes_with_size_time_and_field(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('One.')
    stamps = [
        stamp(f'text:{path}', Data()),
        stamp(f'text:{path}', Data(field='other')),
        stamp(f'text:{path}', Data(documents='files')),
    ]
    path.write_text('Other.')
    stamps.append(stamp(f'text:{path}', Data()))
    assert len({json.dumps(each) for each in stamps}) == 4
