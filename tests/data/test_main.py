"""`python -m research.data prepare`: what it prints, what it prepares, what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from research.command import run_command
from research.data import __main__ as door
from research.data.masking import Masking
from research.data.settings import Data
from research.errors import UserError
from research.experiment import Experiment, Run
from research.machine import Machine


@pytest.fixture(scope='module')
def arguments(story_data, tmp_path_factory) -> list[str]:
    """The command that prepares the stories."""
    cache = tmp_path_factory.mktemp('[b]prepared')
    changes = {'data.source': story_data.source, 'machine.cache': str(cache), 'data.held_out': '0.2', 'model.vocabulary': '200'}
    return ['prepare', '--config=configs/bert.py:tiny', *(f'--config.{key}={value}' for key, value in changes.items())]


def test_a_corpus_is_prepared_and_told(arguments, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    door.main(arguments)
    first = capsys.readouterr()
    assert 'preparing' in first.err and f' MB in {arguments[3].partition("=")[2]}/corpus-' in first.out
    assert 'documents and' in first.out and 'tokens to train on' in first.out and 'most frequent' not in first.out
    door.main([*arguments, '--stats', '--config.data.length', '64', '--config.data.pairs=sop', '--config.data.masking.rate=0.3'])
    again = capsys.readouterr()
    assert 'preparing' not in again.err  # neither length, nor pairs, nor masks belong to a corpus
    assert again.out.startswith(first.out.rstrip('\n'))
    facts = json.loads(next(Path(arguments[3].partition('=')[2]).glob('corpus-*/facts.json')).read_text())
    assert f'{facts["documents"]:,} documents and {facts["tokens"]:,} tokens' in first.out
    assert 'most frequent pieces' in again.out and 'lengths' in again.out and ' the ' in again.out


def test_pieces_and_names_of_strangers_are_printed_as_letters(capsys):
    facts = SimpleNamespace(**dict.fromkeys(('documents', 'tokens', 'held_out_documents', 'held_out_tokens', 'duplicates'), 1))
    facts.source, facts.unknown_rate = 'text:\x1b[31m[/x]', 0.0
    corpus: Any = SimpleNamespace(counts=np.array([3, 2, 1]), facts=facts, folder=Path(__file__).parent, weight=1.0)
    Console(width=120).print(door.frequent(corpus, ['\\[/x]', 'a\x1b]0;b\x07', '[bold]']))
    shown = capsys.readouterr().out + door.summary(corpus)
    assert '\x1b' not in shown and '\x07' not in shown
    for text in ('\\[/x]', r'a\x1b]0;b\x07', '[bold]', r'text:\x1b[31m[/x]'):
        assert text in shown


@pytest.mark.parametrize(
    ('changes', 'count'),
    [
        ({'fill': 'documents', 'pack': False, 'first_length': 64, 'first_share': 0.5, 'short': 0.3, 'length': 64}, 1),
        ({'pairs': 'sop', 'masking': Masking('ngram'), 'changed': 'refuse', 'buckets': (), 'dev_share': 0.5}, 1),
        ({'held_out': 0.1}, 2),
        ({'cleaners': ('wikitext',)}, 2),
        ({'deduplicate': True}, 2),
        ({'lowercase': False}, 2),
        ({'source': 'text:a.txt'}, 2),
        ({'documents': 'files'}, 2),
        ({'field': 'body'}, 2),
    ],
)
def test_corpora_differ_by_what_they_depend_on_alone(changes, count):
    one = Experiment(data=Data(source='jsonl:a'))
    other = replace(one, data=replace(one.data, **changes), run=Run(steps=7), machine=Machine(workers=2))
    assert len(door.distinct([one, other])) == count


def test_another_cache_or_size_is_another_corpus():
    one = Experiment(data=Data(source='jsonl:a'))
    assert len(door.distinct([one, replace(one, machine=Machine('elsewhere'))])) == 2
    larger = replace(one, model=replace(one.model, vocabulary=999))
    assert len(door.distinct([one, larger])) == 2
    loaded = [replace(x, data=replace(x.data, tokenizer='vocab.txt')) for x in (one, larger)]
    assert len(door.distinct(loaded)) == 1
    with pytest.raises(UserError, match='data.held_out=2.0'):
        door.distinct([replace(one, data=replace(one.data, held_out=2.0))])


@pytest.mark.parametrize('key', ['start', 'teacher'])
def test_the_tokenizer_of_a_folder_is_read_by_its_rules(key, shared_data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    wild = shared_data / 'wild' / 'cased'
    command = ['prepare', '--config=configs/bert.py:tiny', '--stats', f'--config.data.source=text:{wild / "corpus.txt"}']
    command += [f'--config.machine.cache={tmp_path}', '--config.data.held_out=0.1']
    door.main([*command, f'--config.data.tokenizer={key}', f'--config.{key}={wild / "with_config"}'])
    first = capsys.readouterr()
    assert '│ Paris' in first.out and 'capitals' not in first.out
    door.main([*command, f'--config.data.tokenizer={wild / "with_config"}'])
    assert 'preparing' not in capsys.readouterr().err  # the same corpus, however its tokenizer is named
    door.main([*command, f'--config.data.tokenizer={wild / "model"}'])
    lowered = capsys.readouterr()
    assert '56 of 182 pieces have capitals' in ' '.join(lowered.out.split()) and '│ paris' in lowered.out


def test_a_study_prepares_what_its_runs_need(arguments, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    door.main(['prepare', '--config=experiments/quickstart.py:tiny', *arguments[2:]])
    assert capsys.readouterr().out.count('tokens to train on') == 1


@pytest.mark.parametrize(
    ('rest', 'message'),
    [
        (['prepare', '--config=configs/brt.py'], "no config file 'configs/brt.py'; did you mean 'configs/bert.py'"),
        (
            ['prepare', '--config=configs/bert.py', '--config.data.sorce=a'],
            "no config key 'data.sorce'; did you mean 'data.source'",
        ),
        (['prepare', '--config=configs/bert.py', '--staats'], "unknown argument '--staats'; did you mean 'stats'"),
        (['prepare'], 'the following arguments are required: --config'),
        (['prepare', '--config=configs/finetune.py:custom'], 'fine-tunes on a task'),
        (
            ['prepare', '--config=configs/distilbert.py', '--config.data.tokenizer=start', '--config.start='],
            'there is no start: give',
        ),
        (
            ['prepare', '--config=configs/bert.py', '--config.data.tokenizer=@teacher'],
            "tokenizer of '@teacher' does not exist before that run",
        ),
    ],
)
def test_mistakes(rest, message, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(UserError, match=message):
        door.main(rest)


def test_bad_text_ends_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(Path(__file__).parents[2])
    (tmp_path / 'a.jsonl').write_bytes(b'{"text": "fine"}\n{"text": "b\xe9d"}\n')
    command = ['prepare', '--config=configs/bert.py:tiny']
    command += [f'--config.data.source=jsonl:{tmp_path}/a.jsonl', f'--config.machine.cache={tmp_path}/cache']
    assert run_command(door.main, command) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        f"error: '{tmp_path}/a.jsonl' is not UTF-8 at byte 28 (line 2); if it is WINDOWS-1252, convert it: iconv"
    )
    assert list((tmp_path / 'cache').iterdir()) == []


def test_the_status_of_a_mistake(capsys):
    assert run_command(door.main, ['prepare', '--config=nowhere.py']) == 2
    assert capsys.readouterr().err.startswith('error: no config file')
