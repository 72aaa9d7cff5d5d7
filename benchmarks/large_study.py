"""The memory of a study's launcher, and the time of its status and its report: 500 runs, finished but for the last few.

    taskset -c 0 python benchmarks/large_study.py [--runs 500] [--steps 50000]

The runs have metrics.jsonl as long as those of `--steps` steps. What the launcher starts for the last runs is a small process that
copies the result of the first, so that the numbers are the launcher's alone.
"""

import argparse
import dataclasses
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from research.experiment import Experiment
from research.files import write_whole
from research.optim import Optimizer
from research.records import write_record
from research.study.columns import COLUMNS
from research.study.ledger import enter
from research.study.study import Row, Study, Table
from research.wire import to_wire

ROOT = Path(__file__).parent.parent
SEEDS = 5
COPY = 'import sys; from pathlib import Path; folder = Path(sys.argv[1]) / sys.argv[2]; folder.mkdir(exist_ok=True)\n'
COPY += 'import shutil; shutil.copy(Path(sys.argv[1]) / "run-000" / "result.json", folder)\n'
LAUNCH = """
import sys
sys.path.insert(0, {root!r})
import launch
from research.study.execution import local
local.COMMAND = (sys.executable, '-c', {copy!r})
local.TICK = 0.05
status = launch.main(['launch.py', '--workdir={folder}', '--jobs=2'])
peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))
print('peak', int(peak.split()[1]) * 1024, 'jax', 'jax' in sys.modules, flush=True)
sys.exit(status)
"""


def make_metrics(steps: int) -> str:
    """The metrics.jsonl of a run that logs every 20 steps and evaluates every 1000."""
    lines = []
    for step in range(20, steps + 1, 20):
        loss = 9 * math.exp(-step / 18_000) + 1
        line = {'step': step, 'wall': step / 6, 'seconds': step / 7, 'train/loss': loss, 'train/mlm': loss}
        line |= {'train/gradient_norm': 1.23456789, 'train/learning_rate': 1e-4, 'train/tokens_per_second': 12345.6789}
        lines.append(line)
        if step % 1000 == 0:
            lines.append({'step': step, 'wall': step / 6, 'seconds': step / 7, 'dev/mlm': loss + 0.1, 'dev/mlm_accuracy': 0.4})
    return ''.join(json.dumps(line) + '\n' for line in lines)


def make_result(name: str, loss: float, steps: int) -> dict[str, Any]:
    """The result.json of a pretraining run."""
    modules = {'embeddings': 2_299_900, 'pooler': 100, 'mlm': 500}
    parameters = {'total': 2_300_500, 'encoder': 2_300_000, 'encoder_without_pooler': 2_299_900, 'modules': modules}
    found = {'name': name, 'steps': steps, 'metrics': {'dev/mlm': loss, 'dev/mlm_accuracy': 0.42}, 'parameters': parameters}
    found |= {'flops_per_token': 4_600_000, 'flops_per_step': 7_000_000_000, 'checkpoint_bytes': 9_200_000}
    found |= {'train_seconds': 3725.0, 'wall_seconds': 3800.0, 'tokens_per_second': 12345.6, 'peak_memory_bytes': 512_000_000}
    empty = ('selected', 'smoothness', 'labels', 'baseline', 'reported', 'score', 'collapsed')
    return found | {'latency_seconds': 0.00234, 'unigram_entropy': 6.21} | dict.fromkeys(empty)


def build(folder: Path, number: int, steps: int, left: int) -> Study:
    """Makes `folder` that of a study of `number` runs, of which the last `left` are not done."""
    plain = Experiment()
    runs = {
        f'run-{place:03d}': dataclasses.replace(
            plain, name=f'run-{place:03d}', seed=place % SEEDS, optimizer=Optimizer(lr=1e-4 * (1 + place // SEEDS), warmup=0.1)
        )
        for place in range(number)
    }
    names = list(runs)
    rows = tuple(Row(f'row {place}', {'pretrain': tuple(names[place : place + SEEDS])}) for place in range(0, number, SEEDS))
    columns = tuple(column for column in COLUMNS.values() if column.role == 'pretrain')
    study = Study('large', runs, Table('A large study', rows, columns, score=COLUMNS['mlm'].title))
    enter(study, folder)
    text = make_metrics(steps).encode()
    environment = {'commit': 'abc1234', 'uncommitted_changes': False, 'command': ['launch.py'], 'python': '3.11', 'cores': 2}
    environment |= {'machine': 'Linux', 'versions': {'jax': '0.10'}, 'devices': {'count': 1}, 'data': {'fingerprint': 'f00d'}}
    for place, name in enumerate(names[: number - left]):
        write_whole(folder / name / 'metrics.jsonl', text)
        write_record(folder / name / 'result.json', make_result(name, 2.5 + place / 1000, steps))
        write_record(folder / name / 'environment.json', {**environment, 'steps': steps})
        write_record(folder / name / 'experiment.json', to_wire(runs[name]).to_dict())
    return study


def launch(folder: Path) -> dict[str, object]:
    """Continues the study of `folder` and returns what the launcher took, without the processes that it started."""
    script = LAUNCH.format(root=str(ROOT), copy=COPY, folder=folder)
    begin = time.monotonic()
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr)
    peak = next(line for line in done.stdout.splitlines() if line.startswith('peak ')).split()
    return {'launcher_peak_memory_bytes': int(peak[1]), 'launcher_seconds': round(time.monotonic() - begin, 1)}


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--runs', type=int, default=500)
    parser.add_argument('--steps', type=int, default=50_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / 'study'
        build(folder, given.runs, given.steps, left=min(10, given.runs - 1))
        found: dict[str, object] = {'runs': given.runs, 'metrics_bytes': (folder / 'run-000' / 'metrics.jsonl').stat().st_size}
        for command in ('status', 'report'):
            begin = time.monotonic()
            asked = [sys.executable, '-m', 'research.study', command, str(folder)]
            subprocess.run(asked, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            found[f'{command}_seconds'] = round(time.monotonic() - begin, 2)
        print(json.dumps(found | launch(folder)))


if __name__ == '__main__':
    main()
