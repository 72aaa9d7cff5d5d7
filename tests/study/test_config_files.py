"""Config files: what is found, and mistakes in them."""

import re
from pathlib import Path

import pytest

from research.errors import UserError
from research.experiment import Experiment
from research.study.config_files import load


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
