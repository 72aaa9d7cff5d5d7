"""A study of 500 runs: the memory of its launcher, and how little its status reads."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import large_study
from research.study.states import run_states


@pytest.mark.slow
def test_the_launcher_of_500_runs_keeps_under_300_mb(tmp_path: Path) -> None:
    study = large_study.build(tmp_path / 'study', 500, 200, left=10)
    found = large_study.launch(tmp_path / 'study')
    peak = found['launcher_peak_memory_bytes']
    assert isinstance(peak, int) and peak < 300e6, f'{peak:,}'
    assert {state.state for state in run_states(study.needs, tmp_path / 'study').values()} == {'done'}
    assert (tmp_path / 'study' / 'report.md').exists(), 'the report is written by a process of its own'


TRACED = """
import sys
opened = {}
def watch(event, arguments):
    if event == 'open' and isinstance(arguments[0], str) and arguments[1]:  # os.open, of an opener, has no mode
        opened[arguments[0]] = opened.get(arguments[0], 0) + 1
sys.addaudithook(watch)
from research.study.__main__ import main
status = main(['status', sys.argv[1]])
ours = {path: times for path, times in opened.items() if path.startswith(sys.argv[1])}
print('again:', [path for path, times in ours.items() if times > 1])
print('heavy:', [name for name in ('jax', 'numpy', 'ml_collections', 'matplotlib') if name in sys.modules])
print('read:', sum(int(line.split()[1]) for line in open('/proc/self/io') if line.startswith('rchar')))
sys.exit(status)
"""


def test_status_reads_ends_of_metrics_each_file_once_and_loads_nothing_heavy(root: Path, tmp_path: Path) -> None:
    large_study.build(tmp_path / 'study', 20, 100_000, left=1)
    size = sum(path.stat().st_size for path in (tmp_path / 'study').rglob('metrics.jsonl'))
    command = [sys.executable, '-c', TRACED, str(tmp_path / 'study')]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
    assert 'large: 19 done, 1 waiting' in out and 'again: []' in out and 'heavy: []' in out
    read = re.search(r'^read: (\d+)$', out, re.MULTILINE)
    assert read and size > 20e6 and int(read[1]) < size / 2, 'the metrics are not read whole'
