"""One table of what benchmarks/gpu.sh measured, with the goals beside it.

python benchmarks/gpu_table.py runs/benchmarks/gpu
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import gpu_checks, inference, train_step
from benchmarks.harness import report

# Case -> the share of the product ceiling that ours must reach.
SHARES = {'bert-base-512': 0.55, 'bert-base-128': 0.45, 'bert-large-512': 0.60}
RATIO = 1.3  # times as fast as torch.compile, in training
COLUMNS = ('what', 'contender', 'ms', 'a second', 'ours ÷ it', 'of ceiling', 'memory', 'compile', 'goal')


def judge(row: dict[str, Any]) -> str:
    """The goal of a row, and whether it is reached; '' if it has none."""
    if 'failed' in row:
        return ''
    if row['contender'] == 'jit' and row['case'] in SHARES:
        goal = SHARES[row['case']]
        return f'{"reaches" if row["share"] >= goal else "misses"} {goal:.0%}'
    if row['contender'] == 'compile' and row['ratio']:
        return f'{"reaches" if row["ratio"][0] >= RATIO else "misses"} {RATIO}'
    return ''


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """The JSON of a part; None if it left none."""
    path = folder / f'{name}.json'
    return json.loads(path.read_text()) if path.is_file() else None


def main() -> None:
    """Prints the table."""
    folder = Path(sys.argv[1])
    parts = {name: read(folder, name) for name in ('train', 'inference', 'checks')}
    for name, found in parts.items():
        if found is None:
            print(f'{name}: left no result; see {folder / name}.log')
    header = next((found['header'] for found in parts.values() if found), None)
    if header is None:
        sys.exit(1)
    report.write_header({**header, 'command': 'benchmarks/gpu.sh'})
    rows = []
    if train := parts['train']:
        fastest = max([*train['ceiling']['before'].values(), *train['ceiling']['after'].values()])
        print(f'product ceiling, {train["dtype"]}: {fastest / 1e12:,.4g} TFLOP/s')
        rows += [(*train_step.format_row(row), judge(row)) for row in train['rows']]
    if found := parts['inference']:
        for row in found['rows']:
            case, contender, time, speed, ratio, _, memory, first = inference.format_row(row)
            rows.append((f'inference {case}', contender, time, speed, ratio, '', memory, first, ''))
    if rows:
        print(report.format_table(COLUMNS, rows))
    if checks := parts['checks']:
        print(report.format_table(gpu_checks.COLUMNS, [gpu_checks.format_row(row) for row in checks['rows']]))


if __name__ == '__main__':
    main()
