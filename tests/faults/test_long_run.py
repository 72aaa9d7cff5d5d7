"""A long run: memory, open files and threads stay flat over 12,000 steps that also evaluate and save, and the log is bounded."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from research.experiment import Experiment
from research.records import read_lines
from tests.faults.forks import begin, logged

STEPS, EVERY = 12_000, 250
WARM = 5_000  # steps until all that is kept for ever has been made
BETWEEN = 500  # steps from one measurement to the next


def measure(process: int) -> tuple[float, int, int]:
    """(megabytes in memory that no file backs, open files, threads) of a process."""
    status = dict(line.split(':', 1) for line in Path(f'/proc/{process}/status').read_text().splitlines() if ':' in line)
    return int(status['RssAnon'].split()[0]) / 1024, len(os.listdir(f'/proc/{process}/fd')), int(status['Threads'])


@pytest.mark.slow
def test_12000_steps_grow_by_less_than_a_megabyte_per_thousand(root: Path, tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    small = {'model.width': 16, 'model.inner': 16, 'model.layers': 1, 'model.embedding': 16, 'data.length': 16, 'run.batch': 2}
    often = {'run.checkpoint_every': EVERY, 'run.evaluate_every': EVERY, 'run.evaluate_batches': 2, 'run.log_every': 50}
    x = tiny('bert', {**small, **often, 'run.steps': STEPS})
    workdir = tmp_path / 'run'
    settings = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1'}
    with (tmp_path / 'output.txt').open('wb') as output:
        process = subprocess.Popen(
            [sys.executable, str(root / 'launch.py'), begin(workdir, x)], env=settings, stdout=output, stderr=output
        )
        found: dict[int, tuple[float, int, int]] = {}
        while process.poll() is None:
            step = logged(workdir)
            if step // BETWEEN * BETWEEN > max(found, default=0):
                found[step] = measure(process.pid)
            time.sleep(0.1)
    assert process.returncode == 0, (tmp_path / 'output.txt').read_text()[-2000:]
    steps = np.array([step for step in found if step >= WARM])
    assert len(steps) >= 10, found
    memory, files, threads = (np.array([found[step][part] for step in steps]) for part in range(3))
    growth = np.polyfit(steps / 1000, memory, 1)[0]
    print(found, f'{growth:.3f} MB per 1,000 steps')
    assert growth < 1, found
    half = len(steps) // 2  # a checkpoint that is being written has files and threads of its own, so single numbers differ
    assert files[half:].max() <= files[:half].max() + 5 and threads[half:].max() <= threads[:half].max() + 3, found
    lines = STEPS // 50 + 2 * STEPS // EVERY + 50
    assert len((workdir / 'log.txt').read_text().splitlines()) < lines
    assert len(read_lines(workdir / 'metrics.jsonl')) < lines
