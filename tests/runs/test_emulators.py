"""A run in a bucket, against servers that speak the protocols of Google's and Amazon's stores: killed, and continued elsewhere.

pip install gcsfs s3fs 'moto[server]' gcp-storage-emulator
"""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from research.records import read_json

NEEDED = {'gs': ('gcsfs', 'gcp_storage_emulator'), 's3': ('s3fs', 'moto')}
SERVERS = {
    'gs': (
        'from gcp_storage_emulator.server import create_server; '
        "create_server('127.0.0.1', {port}, in_memory=True, default_bucket='bucket').run()"
    ),
    's3': "import sys; from moto.server import main; sys.exit(main(['-H', '127.0.0.1', '-p', '{port}']))",
}
RUN = (
    'import sys; from research.runs import mirror; mirror.EVERY = 0.2; '
    "import launch; sys.exit(launch.main(['launch.py', *sys.argv[1:]]))"
)
TINY = (
    'model.vocabulary=120',
    'data.length=32',
    'run.batch=8',
    'data.held_out=0.1',
    'optimizer.warmup=5',
    'run.checkpoint_every=10',
)


@pytest.fixture(params=NEEDED)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The scheme of a store that runs on this machine, with an empty bucket."""
    scheme = request.param
    for package in NEEDED[scheme]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'{package} is not installed')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, '-c', SERVERS[scheme].format(port=port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as client:
                if client.connect_ex(('127.0.0.1', port)) == 0:
                    break
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.2)
        address = f'http://127.0.0.1:{port}'
        settings = {'AWS_ENDPOINT_URL': address, 'AWS_ACCESS_KEY_ID': 'a', 'AWS_SECRET_ACCESS_KEY': 'b'}
        for name, value in (settings | {'AWS_DEFAULT_REGION': 'us-east-1', 'STORAGE_EMULATOR_HOST': address}).items():
            monkeypatch.setenv(name, value)
        if scheme == 's3':
            subprocess.run([sys.executable, '-c', "import s3fs; s3fs.S3FileSystem().mkdir('bucket')"], check=True)
        yield scheme
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_killed_run_goes_on_on_another_machine_as_if_it_had_not_been_killed(server: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / 'text.txt').write_text('\n\n'.join(f'The old sailor carried {i} silver coins.\nIt rained.' for i in range(300)))
    keys = (
        *TINY,
        f'data.source=text:{tmp_path}/text.txt',
        f'machine.cache={tmp_path}/prepared',
        'run.steps=200',
        'run.log_every=10',
    )
    whole = (f'--config={root}/configs/bert.py:tiny', *(f'--config.{key}' for key in keys))
    place = f'{server}://bucket/runs/x'

    def start(machine: str, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path / machine)}
        return subprocess.Popen(
            [sys.executable, '-c', RUN, *arguments], cwd=root, env=environment, stdout=subprocess.PIPE, text=True
        )

    first = start('first', *whole, f'--workdir={place}')
    assert first.stdout is not None
    for line in first.stdout:
        if 'step 100/' in line:
            break
    first.kill()
    first.communicate()
    second = start('second', f'--workdir={place}')
    said, _ = second.communicate(timeout=600)
    assert second.returncode == 0 and 'continues from the checkpoint of step' in said and f'all files are in {place}' in said, said
    third = start('third', *whole, f'--workdir={tmp_path}/x')
    third.communicate(timeout=600)
    (found,) = (tmp_path / 'second').glob('small-berts/buckets/run-*/x/result.json')
    assert read_json(found)['fingerprint'] == read_json(tmp_path / 'x' / 'result.json')['fingerprint']
