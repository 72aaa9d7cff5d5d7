"""python -m tests.faults.repeating FOLDER NAME …: runs, one after the other, whose experiments lie in FOLDER/NAME.json."""

import sys
from pathlib import Path

from research import parallel
from research.records import read_json
from research.runs.run import run
from research.wire import from_stored

if __name__ == '__main__':
    parallel.simulate_devices(8)
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        run(from_stored(read_json(folder / f'{name}.json')), folder / name)
