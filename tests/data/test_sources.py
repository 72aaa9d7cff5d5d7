"""Text in, documents out, and one line for each way that text can be bad."""

import gzip
import io
import json
import lzma
import zlib

import pyarrow
import pyarrow.parquet
import pytest

from research.data import sources, text_files
from research.data.mixture import mixture
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
        ('a.txt.gz', gzip.compress(b'good\nb\xe9d\n', mtime=0), 'at byte 6 of its decompressed text'),
        ('a.txt.gz', b'not gzip', "a.txt.gz' is corrupt: Not a gzipped file"),
        ('a.txt.gz', gzip.compress(b'good\n' * 1000, mtime=0)[:-9], 'is corrupt: Compressed file ended before'),
        ('a.txt.xz', lzma.compress(bytes(range(97, 123)) * 100)[:-20], 'is corrupt'),
        ('a.txt.xz', b'not xz', 'is corrupt: Input format not supported by decoder'),
        ('a.txt.xz', lzma.compress(b'one') + lzma.compress(b'two')[:-8], 'is corrupt: it ends within a stream'),
        ('a.txt.xz', lzma.compress(b'one') + b'x' + lzma.compress(b'two'), 'is corrupt: Input format not supported'),
        ('a.txt.xz', b'', 'is corrupt: it has no bytes'),
        ('a.txt.gz', b'', 'is corrupt: it has no bytes'),
        ('a.txt.zst', b'', 'is corrupt: it has no bytes'),
        ('a.jsonl', b'{"text": "a"}\n{"text": \n', "a.jsonl' line 2 is not JSON .Expecting value: "),
        ('a.jsonl', b'{"text": "a"}\n["b"]\n', 'line 2 is not a JSON object but'),
        ('a.jsonl', b'{"txt": "a", "id": 3}\n', "line 1 has no column 'text' .data.field.; did you mean 'txt'.; it has txt, id"),
        ('a.jsonl', b'{}\n', 'it has none'),
        ('a.jsonl', b'{"text": 3}\n', "line 1: column 'text' is not a text but 3"),
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
        ('text:/usr', "no file matches '/usr' .*; it is a folder: name its files, as FOLDER/"),
        ('1' * 400 + ' docstrings', 'each weight must be above 0, and finite'),
    ],
)
def test_bad_sources(source, message):
    with pytest.raises(UserError, match=message):
        [list(documents(each)) for _, each in mixture(source)]


def test_a_link_to_nothing_is_not_passed_over(tmp_path):
    (tmp_path / 'a.txt').write_text('One.')
    (tmp_path / 'b.txt').symlink_to(tmp_path / 'gone')
    with pytest.raises(UserError, match="b.txt' is a link to a file that does not exist"):
        list(documents(f'text:{tmp_path}/*.txt'))


def test_xz_streams_follow_one_another_with_zeros_between(tmp_path):
    path = tmp_path / 'a.txt.xz'
    path.write_bytes(lzma.compress(b'One.\n' * 30_000) + bytes(8) + lzma.compress(b'') + lzma.compress(b'Two.') + bytes(2**17))
    assert [line for _, line in text_files.lines(path)] == ['One.'] * 30_000 + ['Two.']


def test_an_xz_that_asks_for_much_memory_is_refused(tmp_path):
    path = tmp_path / 'a.txt.xz'
    rules = [{'id': lzma.FILTER_LZMA2, 'preset': 9, 'dict_size': 2**26}]
    small = lzma.compress(b'One.', filters=rules)
    path.write_bytes(small)
    assert [line for _, line in text_files.lines(path)] == ['One.']
    head, flags, properties = small[:12], small[12:16], 28  # a dictionary of 2**26 bytes is 28, one of 2**30 is 36
    assert flags == b'\x02\x00\x21\x01' and small[16] == properties
    block = flags + bytes([36]) + bytes(3)
    path.write_bytes(head + block + zlib.crc32(block).to_bytes(4, 'little') + small[24:])
    with pytest.raises(UserError, match=r"a.txt.xz' needs over 268,435,456 bytes to be decompressed: compress it with xz -9$"):
        list(text_files.lines(path))


def test_repeated_texts_of_parquet_are_unpacked_a_few_at_a_time(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({'text': ['a' * 2**20] * 64}), tmp_path / 'a.parquet', compression='zstd')
    assert (tmp_path / 'a.parquet').stat().st_size < 1000
    pyarrow.default_memory_pool().release_unused()
    before = pyarrow.total_allocated_bytes()
    for _, document in sources.read(f'parquet:{tmp_path}/a.parquet', Data(), ''):
        assert len(document[0]) == 2**20 and pyarrow.total_allocated_bytes() - before < 30 * 2**20


def test_a_file_that_vanished(tmp_path):
    with pytest.raises(UserError, match='cannot be read: No such file'):
        list(text_files.lines(tmp_path / 'gone.txt'))


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


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        ('docstrings', [(1.0, 'docstrings')]),
        ('0.7 jsonl:b/*.xz + 0.3 text:w.txt', [(0.7, 'jsonl:b/*.xz'), (0.3, 'text:w.txt')]),
        ('3 text:a b + c.txt + 1 docstrings', None),
        ('3 text:a b.txt  +  1. docstrings', [(0.75, 'text:a b.txt'), (0.25, 'docstrings')]),
        ('text:a+b + text:c + docstrings', [(1 / 3, 'text:a+b'), (1 / 3, 'text:c'), (1 / 3, 'docstrings')]),
    ],
)
def test_mixtures(source, expected):
    if expected is None:
        with pytest.raises(UserError, match='gives only some of its sources a weight'):
            mixture(source)
    else:
        found = mixture(source)
        assert [each for _, each in found] == [each for _, each in expected]
        assert [weight for weight, _ in found] == pytest.approx([weight for weight, _ in expected])


def test_a_weight_of_zero():
    with pytest.raises(UserError, match='each weight must be above 0'):
        mixture('1 text:a + 0 text:b')


def test_a_file_is_a_document_when_asked(tmp_path):
    (tmp_path / 'a.txt').write_text('One.\n\nTwo.\n')
    (tmp_path / 'b.txt').write_text('Three.')
    assert list(documents(f'text:{tmp_path}/*', Data(documents='files'))) == [['One.', 'Two.'], ['Three.']]


def zstandard(text: bytes) -> bytes:
    return pyarrow.compress(text, codec='zstd', asbytes=True)


def test_zstandard_frames(tmp_path):
    frames = zstandard(b'{"text": "One."}\n{"te') + zstandard(b'xt": "Two."}\n')
    (tmp_path / 'a.jsonl.zst').write_bytes(frames)
    assert list(documents(f'jsonl:{tmp_path}/a.jsonl.zst')) == [['One.'], ['Two.']]


@pytest.mark.parametrize('content', [zstandard(bytes(range(97, 123)) * 1000)[:-9], b'no zstd', zstandard(b'b\xe9d')])
def test_bad_zstandard(tmp_path, content):
    (tmp_path / 'a.txt.zst').write_bytes(content)
    with pytest.raises(UserError, match=r"a.txt.zst' is (corrupt: |not UTF-8 at byte 1 of its decompressed text)"):
        list(documents(f'text:{tmp_path}/a.txt.zst'))


def write_table(path, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)


def test_parquet(tmp_path):
    write_table(tmp_path / 'a.parquet', text=['One.\nTwo.', 'Three.', ' ', 'Four.'], id=[1, 2, 3, 4])
    found = list(sources.read(f'parquet:{tmp_path}/*.parquet', Data(), ''))
    assert [document for _, document in found] == [['One.', 'Two.'], ['Three.'], [' '], ['Four.']]
    assert [share for share, _ in found] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ('columns', 'message'),
    [
        ({'txt': ['a'], 'id': [3]}, r"has no column 'text' .data.field.; did you mean 'txt'.; it has txt, id"),
        ({'text': [3]}, "column 'text' is not of texts but of int64"),
        ({'text': ['a', None]}, "row 2: column 'text' holds no text but null"),
        (
            {'text': pyarrow.array([b'a', b'b\xff'], pyarrow.binary()).view(pyarrow.string())},
            "row 2: column 'text' is not UTF-8 at byte 1",
        ),
    ],
)
def test_bad_parquet(tmp_path, columns, message):
    write_table(tmp_path / 'a.parquet', **columns)
    with pytest.raises(UserError, match=message) as caught:
        list(documents(f'parquet:{tmp_path}/a.parquet'))
    assert str(tmp_path / 'a.parquet') in str(caught.value)


@pytest.mark.parametrize('kind', ['no parquet', 'truncated'])
def test_a_corrupt_parquet_file(tmp_path, kind):
    path = tmp_path / 'a.parquet'
    write_table(path, text=['word ' * 1000] * 9)
    path.write_bytes(path.read_bytes()[:-20] if kind == 'truncated' else b'text')
    with pytest.raises(UserError, match="a.parquet' is corrupt, or no Parquet file: "):
        list(documents(f'parquet:{path}'))


def test_a_column_named_twice(tmp_path):
    texts = pyarrow.array(['a'])
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([texts, texts], ['text', 'text']), tmp_path / 'a.parquet')
    with pytest.raises(UserError, match="has 2 columns 'text'"):
        list(documents(f'parquet:{tmp_path}/a.parquet'))


def test_a_parquet_file_that_vanished(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, 'measure_files', lambda pattern: [(tmp_path / 'gone.parquet', 0, 1)])
    with pytest.raises(UserError, match="gone.parquet' cannot be read"):
        list(documents('parquet:gone'))


def test_the_share_that_is_read_rises_to_one(tmp_path):
    (tmp_path / 'a.txt').write_text('One.\n\nTwo.\n\n' * 2000)
    with gzip.open(tmp_path / 'b.txt.gz', 'wt') as file:
        file.write('Three.\n\n' * 100)
    shares = [share for share, _ in sources.read(f'text:{tmp_path}/*', Data(), '')]
    assert shares == sorted(shares) and 0 < shares[0] < 0.01 and shares[-1] == 1


@pytest.mark.parametrize(
    ('name', 'content', 'settings', 'message'),
    [
        ('a.txt', 'word word\n' * 3, {}, "a.txt' line 2: the document has more than 10 characters; separate documents"),
        ('a.jsonl', json.dumps({'text': 'word ' * 3}), {}, "a.jsonl' line 1: the document has more"),
        ('a.txt', '= A =\n\nword\n\nword\n', {'cleaners': ('wikitext',)}, "a document that begins with '= A =' has more"),
    ],
)
def test_a_document_that_does_not_fit_into_memory(tmp_path, monkeypatch, name, content, settings, message):
    monkeypatch.setattr(text_files, 'LONGEST', 10)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        list(documents(f'{name[2:].partition(".")[0].replace("txt", "text")}:{tmp_path / name}', Data(**settings)))


def test_a_source_without_titles_keeps_its_documents(tmp_path):
    path = tmp_path / 'books.jsonl'
    path.write_text('\n'.join(json.dumps({'text': f'First {number}.\nSecond.'}) for number in range(3)), encoding='utf-8')
    found = list(documents(f'jsonl:{path}', Data(cleaners=('wikitext',))))
    assert found == [[f'First {number}.', 'Second.'] for number in range(3)]
    # Nor does a line in the middle make one of all that follow.
    path.write_text('\n'.join(json.dumps({'text': text}) for text in ('One.', '= 5 =\nTwo.', 'Three.')), encoding='utf-8')
    assert list(documents(f'jsonl:{path}', Data(cleaners=('wikitext',)))) == [['One.'], ['Two.'], ['Three.']]
    # As WikiText's rows lie in Parquet: the first is empty.
    path.write_text(
        '\n'.join(json.dumps({'text': text}) for text in ('', ' = A = ', '', 'One.', ' = B = ', 'Two.')), encoding='utf-8'
    )
    assert list(documents(f'jsonl:{path}', Data(cleaners=('wikitext',)))) == [['One.'], ['Two.']]


def test_a_line_that_does_not_fit_into_memory_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, 'LONGEST', 1000)
    path = tmp_path / 'a.txt'
    path.write_text('word ' * 10**6)
    with pytest.raises(UserError, match="a.txt' line 1 has more than 1,000 characters"):
        list(documents(f'text:{path}'))
    for content in (b'word ' * 10**6, b'a\n' + b'word ' * 10**6, b'a\r' + b'word ' * 10**6):
        file = io.BytesIO(content)
        assert max(map(len, text_files.split_lines(file, 4000))) <= 2**21 and file.tell() < 2**22


@pytest.mark.parametrize('ends', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('suffix', ['', '.gz', '.xz', '.zst'])
def test_lines_end_as_any_system_ends_them(tmp_path, ends, suffix):
    pack = {'': bytes, '.gz': gzip.compress, '.xz': lzma.compress, '.zst': zstandard}[suffix]
    path = tmp_path / f'a.txt{suffix}'
    texts = ['\ufeffOne.', 'Two.', '', *(f'number {number}' for number in range(200_000)), 'É']
    for last in ('', ends):
        path.write_bytes(pack((ends.join(texts) + last).encode()))
        assert [line for _, line in text_files.lines(path)] == [texts[0][1:], *texts[1:]]
    assert len(list(documents(f'text:{path}'))) == 2


def test_a_return_within_a_line_stays_in_it(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_bytes(b'One\rstill one.\nTwo.\n')
    assert [line for _, line in text_files.lines(path)] == ['One\rstill one.', 'Two.']


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a b.txt', b'caf\xe9\n', "is WINDOWS-1252, convert it: iconv -f WINDOWS-1252 -t UTF-8 '.*/a b.txt' > NEW"),
        ('a.txt.xz', lzma.compress(b'caf\xe9\n'), 'convert it: xz -dc .*a.txt.xz | iconv -f WINDOWS-1252 -t UTF-8 > NEW'),
        ('a.txt', 'One.\nTwo.\n'.encode('utf-16'), 'as UTF-16 does; if it is UTF-16, convert it: iconv -f UTF-16 -t UTF-8'),
        ('a.txt', 'One.\nTwo.\n'.encode('utf-16-le'), 'is not UTF-8: it holds as many zeros as UTF-16 does'),
        ('a.jsonl', '{"text": "One."}\n'.encode('utf-16-be'), 'is not UTF-8: it holds as many zeros'),
    ],
)
def test_another_encoding_names_the_command_that_converts_it(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        list(documents(f'{"jsonl" if "jsonl" in name else "text"}:{path}'))
    assert '\n' not in str(caught.value)


def test_what_is_not_read_of_a_json_line_may_be_what_python_writes(tmp_path):
    path = tmp_path / 'a.jsonl'
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "One.", "loss": NaN, "title": "\\ud83d", "most": Infinity}\n\xef\xbb\xbf{"text": "Two."}'
    )
    assert list(documents(f'jsonl:{path}')) == [['One.'], ['Two.']]
