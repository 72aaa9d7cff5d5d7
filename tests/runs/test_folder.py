"""The records of a run folder: what is written reads back, and nothing else does."""

import dataclasses
import json
import shutil
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.errors import UserError
from research.interchange import __main__ as interchange
from research.interchange import card
from research.records import read_record, write_record
from research.runs import run as runs
from research.runs import sources
from research.runs.definition import begin_folder, read_definition
from research.runs.folder import (
    Environment,
    Parameters,
    Result,
    read_environment,
    read_metrics,
    read_result,
    seconds_so_far,
    to_json,
    wall_so_far,
    write_environment,
    write_result,
)
from research.runs.log import rewind
from research.runs.reopening import read_run
from research.version import VERSION

KEYS = (
    'name steps metrics selected parameters flops_per_token flops_per_step checkpoint_bytes train_seconds wall_seconds '
    'tokens_per_second peak_memory_bytes latency_seconds smoothness unigram_entropy labels baseline reported score collapsed '
    'fingerprint contextless'
)


def test_the_records_of_a_run_read_back_as_they_were_written(teacher: Path, tmp_path: Path) -> None:
    result, environment = read_result(teacher), read_environment(teacher)
    assert result is not None and environment is not None
    write_result(tmp_path, result)
    write_environment(tmp_path, environment)
    assert read_record(tmp_path / 'result.json') == read_record(teacher / 'result.json')
    assert read_record(tmp_path / 'environment.json') == read_record(teacher / 'environment.json')
    assert (read_result(tmp_path), read_environment(tmp_path)) == (result, environment)
    assert list(to_json(result)) == KEYS.split()
    assert list(to_json(result)['parameters']) == ['total', 'encoder', 'encoder_without_pooler', 'modules']
    assert environment.version == VERSION and environment.steps == result.steps


def test_an_import_writes_the_same_record(teacher: Path, tmp_path: Path) -> None:
    result = interchange.make_result(sources.open_donor(str(teacher), tmp_path / 'run', 'start'), 'mine')
    assert isinstance(result, Result) and list(to_json(result)) == KEYS.split()
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result


@pytest.mark.parametrize('text', ['', '{"name": "a', '[]', '{}', '{"steps": 1}', '{"name": "other", "result": 3}'])
def test_what_is_no_record_is_none(tmp_path: Path, text: str) -> None:
    assert read_result(tmp_path) is None and read_environment(tmp_path) is None
    for name in ('result.json', 'environment.json'):
        (tmp_path / name).write_text(text)
    assert read_result(tmp_path) is None and read_environment(tmp_path) is None


@pytest.mark.parametrize(
    'changes',
    [
        {'steps': '2'},
        {'steps': 2.5},
        {'steps': True},
        {'metrics': [1.0]},
        {'metrics': {'dev/mlm': 'low'}},
        {'parameters': {'total': 1}},
        {'labels': 'ab'},
        {'selected': {'step': 1}},
        {'name': None},
    ],
)
def test_a_value_of_another_type_makes_it_none(teacher: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    record = json.loads((teacher / 'result.json').read_text())
    write_record(tmp_path / 'result.json', record | {'of a later version': 1})
    assert read_result(tmp_path) == read_result(teacher)
    write_record(tmp_path / 'result.json', record | changes)
    assert read_result(tmp_path) is None


def test_an_environment_of_before_the_version_was_recorded_reads_and_writes_back(teacher: Path, tmp_path: Path) -> None:
    record = json.loads((teacher / 'environment.json').read_text())
    del record['version']
    session = {key: value for key, value in record.items() if key != 'steps'} | {'cores': 99}
    write_record(tmp_path / 'environment.json', record | {'sessions': [session]})
    environment = read_environment(tmp_path)
    assert environment is not None and environment.version == '' and environment.steps == record['steps']
    assert [each.cores for each in environment.all_sessions()] == [record['cores'], 99]
    assert all(isinstance(each, Environment) for each in environment.sessions)
    write_environment(tmp_path, environment)
    assert read_record(tmp_path / 'environment.json') == record | {'sessions': [session]}


def test_a_run_with_an_unreadable_environment_is_not_continued(tiny, teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / 'run')
    (tmp_path / 'run' / 'result.json').unlink()
    (tmp_path / 'run' / 'environment.json').write_text('{"commit"')
    with pytest.raises(UserError, match='environment.json is half-written or from another version .*; give another --workdir'):
        runs.run(tiny('bert'), tmp_path / 'run')


def test_the_card_of_a_run_reads_the_records(teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / 'run')
    environment = read_environment(teacher)
    assert environment is not None
    write_environment(tmp_path / 'run', dataclasses.replace(environment, commit='abc', command=('launch.py', 'a b')))
    found = card.describe_origin(tmp_path / 'run')
    assert found['Commit of the code'] == 'abc' and found['Command'] == "`python launch.py 'a b'`"
    assert found['Data fingerprint'] == environment.data['fingerprint'] and found['Tokenizer fingerprint']
    assert set(card.describe_origin(tmp_path / 'nowhere').values()) == {None}


STRANGE = ('{}', '[1]', '{"step": "1"}', '{"step": 1.5}', '{"step": true}', '{"step": -1}', '{"wall": 9}', '{"seconds": 9}')


def test_lines_of_metrics_without_a_step_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / 'metrics.jsonl'
    whole = '{"step": 3, "wall": 2.5, "seconds": 1.5, "train/loss": NaN}\n'
    path.write_text('\n'.join(STRANGE) + '\n' + whole + '{"step": 4, "wall": "9", "seconds": Infinity, "a": [1]}\n{"step": 5}\n')
    first, second, third = read_metrics(tmp_path)
    assert set(first) == {'step', 'wall', 'seconds', 'train/loss'} and set(second) == {'step', 'seconds'} and third == {'step': 5}
    assert (wall_so_far(tmp_path), seconds_so_far(tmp_path)) == (2.5, 1.5)
    rewind(tmp_path, 3)
    assert path.read_text() == whole


NO_COUNTS = (0, 1025, 2.0, '4', None)


def test_the_devices_of_a_run_are_validated_before_they_are_simulated(teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / 'run')
    _, environment = read_run(tmp_path / 'run')
    for devices in ({}, {'count': 1}, *({'platform': 'cpu', 'count': count} for count in NO_COUNTS)):
        write_environment(tmp_path / 'run', dataclasses.replace(environment, devices=devices))
        with pytest.raises(
            UserError, match=r'environment\.json: devices lacks the platform or a count from 1 to 1,024: the folder'
        ):
            read_run(tmp_path / 'run')


def test_parameters_of_another_model_are_refused(teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / 'run')
    record = read_record(tmp_path / 'run' / 'experiment.json') or pytest.fail('no experiment')
    record['model']['inner'] *= 2
    write_record(tmp_path / 'run' / 'experiment.json', record)
    with pytest.raises(UserError, match='run.: the parameters of step .* do not have the shapes of its experiment.json: restore'):
        sources.open_donor(str(tmp_path / 'run'), tmp_path / 'x', 'start')
    other = {'label': {'output': {'bias': np.zeros((2, 2))}}, 'span': 3 * np.ones(2), 'mlm': {'output': {'bias': np.ones(7)}}}
    assert sources.find_heads(other) == (('mlm', 7),)


def test_a_run_whose_data_have_no_fingerprint_is_not_continued(teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / 'run')
    environment = read_environment(tmp_path / 'run') or pytest.fail('no environment')
    write_environment(tmp_path / 'run', dataclasses.replace(environment, data={}))
    feed: Any = types.SimpleNamespace(facts=Parameters(1, 1, 1, {}))
    with pytest.raises(UserError, match='environment.json is half-written or from another version of this code'):
        begin_folder(read_definition(tmp_path / 'run'), tmp_path / 'run', feed, 1)
