"""The embedded corpus is English, each paragraph once, and the task made of it leaks nothing."""

import importlib.metadata
import re
from collections import Counter
from pathlib import Path

import pytest

from research.data import docstrings
from research.data.english import english
from research.data.tasks import packages
from research.data.tasks.packages import LABELS, NAMES
from research.errors import UserError

NUMPY = """Return the sum of array elements over a given axis.

Parameters
----------
a : array_like
    Elements to sum. See :func:`~numpy.add` and `the guide <https://a.b>`_ for *more* of ``this``.
axis : None or int, optional
    Axis along which a sum is performed.

See Also
--------
cumsum : Cumulative sum of the array elements of something else.

Notes
-----
Arithmetic is modular when using integer types [1]_, and no error is raised::

    This literal block is not prose at all, though it ends so.

.. math:: Anything could be written in this directive too.

Examples
--------
>>> np.sum([0.5, 1.5])
2.0

+------+------+
| Cell | Cell |
+------+------+
"""

GOOGLE = """Loads the weights of a model.

Args:
  path: The folder that the weights lie in.
  strict (bool): Whether a missing weight is an error to report.
  n: int

Returns:
  A tree of arrays, one for each of the weights.

```python
This code fence is not prose at all, though it ends so.
```

- The first item of a list is a sentence of its own.
:param name: The name that the weights go by in public.
"""


def test_numpy_style():
    assert list(english(NUMPY)) == [
        'Return the sum of array elements over a given axis.',
        'Elements to sum. See numpy.add and the guide for more of this.',
        'Axis along which a sum is performed.',
        'Arithmetic is modular when using integer types, and no error is raised:',
    ]


def test_google_style():
    assert list(english(GOOGLE)) == [
        'Loads the weights of a model.',
        'The folder that the weights lie in.',
        'Whether a missing weight is an error to report.',
        'A tree of arrays, one for each of the weights.',
        'The first item of a list is a sentence of its own.',
        'The name that the weights go by in public.',
    ]


@pytest.mark.parametrize(
    'text',
    [
        'f(x, y) -> z',
        'Too short.',
        'no capital begins this sentence here.',
        'No stop ends this sentence here',
        'a=1 b=2 c=3 d=4 e=5 f=6.',
    ],
)
def test_what_is_not_english(text):
    assert list(english(text)) == []


@pytest.fixture(scope='module')
def passages(cache):
    return list(docstrings.passages(cache))


def test_the_corpus_is_large_and_has_no_paragraph_twice(passages):
    paragraphs = [paragraph for passage in passages for paragraph in passage.paragraphs]
    assert sum(len(paragraph.split()) for paragraph in paragraphs) > 500_000
    assert max(Counter(paragraph.lower() for paragraph in paragraphs).values()) == 1
    assert not [paragraph for paragraph in paragraphs if '>>>' in paragraph or '  ' in paragraph or '\n' in paragraph]


def test_what_is_read_is_what_the_requirements_install():
    root = Path(__file__).parents[2]
    required = {re.split('[<>=]', line)[0] for line in (root / 'requirements.txt').read_text('utf-8').splitlines()}
    assert {name.replace('_', '-') for name in docstrings.DISTRIBUTIONS} <= required


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(docstrings, 'DISTRIBUTIONS', ('no-such-package',))
    with pytest.raises(UserError, match="'no-such-package', which is not installed; run: pip install"):
        docstrings.stamp()


def test_the_manual_and_every_package_are_in_it(passages):
    assert any(passage.module == 'pydoc_data.topics:assert' for passage in passages)
    assert set(LABELS) <= {passage.package for passage in passages}


def test_documents_are_modules(passages, cache):
    documents = list(docstrings.documents(cache))
    assert len(documents) == len({passage.module for passage in passages})
    assert sum(map(len, documents)) == sum(len(passage.paragraphs) for passage in passages)


def test_no_text_or_module_of_the_task_is_in_two_splits(passages, cache):
    splits = packages.examples(cache)
    texts = [text.lower() for members in splits.values() for text, _ in members]
    assert len(texts) == len(set(texts))
    home: dict[str, set[str]] = {}
    where = {text: split for split, members in splits.items() for text, _ in members}
    for passage in passages:
        text = ' '.join(NAMES.sub('', ' '.join(passage.paragraphs)).split()[: packages.LONGEST])
        if passage.package in LABELS and ':' not in passage.module and text in where:
            home.setdefault(passage.module, set()).add(where[text])
    assert len(home) > 500
    # A text that two modules share, in another case or beyond the cut, lies where one of them does.
    assert sum(len(found) > 1 for found in home.values()) <= 0.01 * len(home)


def test_the_classes_of_the_task_are_nearly_balanced_and_unnamed(cache):
    for split, members in packages.examples(cache).items():
        counts = Counter(label for _, label in members)
        assert set(counts) == set(LABELS)
        assert max(counts.values()) == packages.CAPS[split]
        assert min(counts.values()) > 0.5 * packages.CAPS[split]
        assert not [text for text, label in members if label in text.lower().split()]


def test_the_order_and_the_text_are_fixed(cache, tmp_path, monkeypatch):
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'c.py').write_text('"""One fine day it rained all day."""')
    (tmp_path / 'a.py').write_text('"""One fine day it rained all DAY.\n\nIt was not a fine day."""')
    files = [('b', tmp_path, Path('b/c.py')), ('a', tmp_path, Path('a.py'))]
    monkeypatch.setattr(docstrings, 'topics', list)
    monkeypatch.setattr(docstrings, 'sources', lambda: iter(files))
    found = [(passage.module, passage.paragraphs) for passage in docstrings.passages(tmp_path / 'cache')]
    assert found == [('b.c', ('One fine day it rained all day.',)), ('a', ('It was not a fine day.',))]


def test_the_stamp_names_versions():
    assert docstrings.stamp()['jax'] == importlib.metadata.version('jax')
    assert set(docstrings.stamp()) == {'python', 'rules', *docstrings.DISTRIBUTIONS}


def test_sources_without_docstrings(tmp_path, monkeypatch):
    monkeypatch.setattr(docstrings, 'topics', list)
    monkeypatch.setattr(docstrings, 'sources', lambda: iter([]))
    with pytest.raises(UserError, match='no docstrings found'):
        list(docstrings.passages(tmp_path))


def test_a_file_that_does_not_parse_is_left_out(tmp_path):
    lines = ('Here is a sentence of plain words.', 'And within it there is another one.')
    (tmp_path / 'good.py').write_text(f'"""{lines[0]}"""\nclass A:\n    def f(self):\n        "{lines[1]}"\n')
    (tmp_path / 'bad.py').write_text('def (:')
    (tmp_path / 'test_good.py').write_text(f'"""{lines[0]}"""')
    found = {name: docstrings.module('p', tmp_path, Path(name)) for name in ('bad.py', 'good.py', 'gone.py', 'test_good.py')}
    assert found.pop('good.py') == [docstrings.Passage('p', 'good', (line,)) for line in lines]
    assert not any(found.values())


def test_docstrings_of_compiled_functions(tmp_path):
    (tmp_path / 'm.py').write_text('add_newdoc("m", "f", """\n    It is compiled from another language.\n    """)\n')
    assert docstrings.module('m', tmp_path, Path('m.py')) == [
        docstrings.Passage('m', 'm', ('It is compiled from another language.',))
    ]


@pytest.mark.parametrize('line', ['{"package": "a"', '[' * 10**5, '{"package": 1, "module": "m", "paragraphs": []}', '{}'])
def test_a_damaged_cache_is_named(tmp_path, monkeypatch, line):
    monkeypatch.setattr(docstrings, 'write', lambda folder: (folder / 'passages.jsonl').write_text(line))
    with pytest.raises(UserError, match="passages.jsonl' line 1"):
        list(docstrings.passages(tmp_path))
