"""Compiled programs: kept in the user's own folder, for one kind of machine, and the same bits with and without."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from research import compiled
from research.checkpoint import read_params
from research.experiment import Experiment
from research.wire import to_wire


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled programs of all machines, which is not there yet."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'small-berts' / 'compiled'


def test_they_lie_in_the_users_own_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / compiled.fingerprint_machine()
    assert compiled.find_compiled() == folder
    assert home.stat().st_mode & 0o777 == folder.stat().st_mode & 0o777 == 0o700
    for each in (folder, home):
        each.chmod(0o777)
        assert compiled.find_compiled() is None, 'anybody could put a program there'
        each.chmod(0o700)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert compiled.find_compiled() is None
    folder.unlink()
    home.rmdir()
    home.symlink_to(tmp_path)
    assert compiled.find_compiled() is None
    monkeypatch.setenv('XDG_CACHE_HOME', '/proc/nowhere')
    assert compiled.find_compiled() is None, 'a home that cannot be written'


@pytest.mark.parametrize('what', ['processor', 'features', 'cores'])
def test_another_machine_has_another_folder(what: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, 'read_processor', lambda: ('one', frozenset(('avx2', 'fma'))))
    mine = compiled.find_compiled()
    assert mine is not None and compiled.find_compiled() == mine
    if what == 'processor':
        monkeypatch.setattr(compiled, 'read_processor', lambda: ('another', frozenset(('avx2', 'fma'))))
    elif what == 'features':
        monkeypatch.setattr(compiled, 'read_processor', lambda: ('one', frozenset(('avx2', 'fma', 'avx512f'))))
    else:
        monkeypatch.setattr(compiled, 'cores', lambda: 1000)
    assert compiled.find_compiled() not in (None, mine)


def test_the_users_choice_of_a_folder_stays(home: Path) -> None:
    before = jax.config.values['jax_compilation_cache_dir']
    assert before is not None, 'conftest.py has chosen one'
    compiled.use_compiled()
    assert jax.config.values['jax_compilation_cache_dir'] == before and not home.exists()


def test_a_run_by_kept_programs_has_the_same_bits_and_takes_none_from_its_own_folder(
    home: Path, tiny: Callable[..., Experiment], tmp_path: Path, root: Path
) -> None:
    """With dropout and donated buffers. A folder of programs in the run's own, which may come from a stranger, is not touched."""
    wire: dict[str, Any] = to_wire(tiny('bert', {'run.steps': 6, 'run.evaluate_every': 3})).to_dict()
    settings = {name: value for name, value in os.environ.items() if name != 'JAX_COMPILATION_CACHE_DIR'}
    said, kept = [], []
    for name in ('first', 'second'):
        (tmp_path / name / '.compiled').mkdir(parents=True)
        (tmp_path / name / 'experiment.json').write_text(json.dumps(wire))
        command = [sys.executable, str(root / 'launch.py'), f'--workdir={tmp_path / name}']
        ended = subprocess.run(
            command, env={**settings, 'JAX_NUM_CPU_DEVICES': '1'}, capture_output=True, text=True, check=False, timeout=300
        )
        assert ended.returncode == 0, ended.stderr
        said.append(ended.stdout)
        kept.append(sorted(path.name for path in home.rglob('jit_step-*-cache')))
        assert not list((tmp_path / name / '.compiled').iterdir())
    assert len(kept[0]) == 1 and kept[0] == kept[1], 'the second run compiled the step again'
    assert '(kept from before)' not in said[0] and said[1].count('(kept from before)') >= 2
    one, two = (read_params(tmp_path / name / 'checkpoints', 'run') for name in ('first', 'second'))
    jax.tree.map(np.testing.assert_array_equal, one[1], two[1])
    results = [json.loads((tmp_path / name / 'result.json').read_text()) for name in ('first', 'second')]
    assert results[0]['metrics'] == results[1]['metrics'] and results[0]['fingerprint'] == results[1]['fingerprint']
