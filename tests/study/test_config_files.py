"""Config files: what is found, and mistakes in them."""

import re
from pathlib import Path

import pytest

from research.errors import UserError
from research.experiment import Experiment
from research.study.config_files import choose_deviations, load, read_deviations


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('def get_config(:\n', 'mine.py line 1: invalid syntax'),
        ('\nimport nothing_of_this_name\n', "mine.py line 2: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ('from research.experiment import to_wire\n', "what was 'to_wire' is in research.wire now"),
        ('from research.study import papers\n', "cannot import name 'papers'"),
        ('import research.study.papers\n', "what was 'research.study.papers' is in experiments.papers now"),
        (
            'from research.data.settings import Data\ndef get_config():\n    return Data(prefetch=3)\n',
            "mine.py line 3: TypeError: Data.__init__() got an unexpected keyword argument 'prefetch'; "
            "what was 'prefetch' is in research.machine.Machine now",
        ),
        ('x = 3\n', 'defines neither get_config nor get_study'),
    ],
)
def test_a_mistake_in_a_config_file_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / 'mine.py').write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        load(str(tmp_path / 'mine.py'))


MINE = """
from research.experiment import Experiment
from research.wire import to_wire
SIZES = ('one', 'two', 'three')
LINES = ('seed=0: the paper draws anew', 'data.held_out=0.05: the paper trains on all')
DEVIATIONS = {'one': LINES, 'three': {'student-*': LINES}}
def get_config(size='one'):
    return to_wire(Experiment())
"""


def test_deviations_are_those_of_the_size_and_hold_while_the_key_has_that_value(tmp_path: Path) -> None:
    config = tmp_path / 'mine.py'
    config.write_text(MINE)
    one = ('seed=0: the paper draws anew', 'data.held_out=0.05: the paper trains on all')
    assert read_deviations(f'{config}:one') == read_deviations(str(config)) == {'*': one}
    assert not read_deviations(f'{config}:two') and not read_deviations('experiments/glue.py')
    found = read_deviations(f'{config}:three')
    assert choose_deviations({'*': one}, 'run', Experiment()) == list(one)
    assert choose_deviations({'*': one}, 'run', Experiment(seed=3)) == [one[1]]
    assert [choose_deviations(found, run, Experiment()) for run in ('student-1', 'teacher')] == [list(one), []]


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('seed=x: nonsense', "seed=x: 'x' is no int"),
        ('sed=0: it is', "no config key 'sed'; did you mean 'seed'?"),
        ('the seed is 0', "DEVIATIONS: 'the seed is 0' must be KEY=VALUE: TEXT"),
        ('seed=0', "DEVIATIONS: 'seed=0' must be KEY=VALUE: TEXT, such as data.held_out=0.05: the paper trains on all"),
    ],
)
def test_a_deviation_that_names_no_value_of_a_key_is_refused(line: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        choose_deviations({'*': [line]}, 'run', Experiment())


def test_a_fault_of_other_code_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text('import json\ndef get_config():\n    return json.loads("{")\n')
    with pytest.raises(ValueError, match='Expecting'):
        load(str(tmp_path / 'mine.py'))


def test_the_recipes_are_found_and_named_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(load('configs/bert.py:tiny'), Experiment)
    with pytest.raises(
        UserError, match=r"no config file 'configs/brt.py'; did you mean 'configs/bert.py'\? \(there are: configs/albert.py"
    ):
        load('configs/brt.py')
