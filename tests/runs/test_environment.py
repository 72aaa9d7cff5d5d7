"""The recorded environment: commit, command and versions."""

import json
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from research.machine import VECTORS, describe_processor
from research.records import to_json
from research.runs import environment
from research.runs.fingerprints import fingerprint_code, fingerprint_params
from research.runs.folder import Environment, read_environment, write_environment
from research.version import VERSION

GIT = ('git', '-c', 'user.name=a', '-c', 'user.email=a@b', '-c', 'commit.gpgsign=false')


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, in place of that of the code."""
    subprocess.run(['git', 'init', '-q', str(tmp_path)], check=True)
    subprocess.run([*GIT, '-C', str(tmp_path), 'commit', '-q', '--allow-empty', '-m', 'first'], check=True)
    monkeypatch.setattr(environment, 'ROOT', tmp_path)
    return tmp_path


def test_the_commit_and_its_changes_are_recorded(repository: Path) -> None:
    head = subprocess.run(['git', '-C', str(repository), 'rev-parse', 'HEAD'], capture_output=True, text=True, check=True)
    found = environment.describe_environment({})
    assert (found.commit, found.uncommitted_changes) == (head.stdout.strip(), False)
    (repository / 'new.py').touch()
    assert environment.describe_environment({}).uncommitted_changes is True


def test_the_repository_of_another_project_is_not_ours(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / 'site-packages').mkdir()
    monkeypatch.setattr(environment, 'ROOT', repository / 'site-packages')
    found = environment.describe_environment({})
    assert found.commit is None and found.uncommitted_changes is None


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    assert environment.describe_environment({}).commit is None


def test_the_command_is_that_of_the_launcher_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('LAUNCHED_BY', raising=False)
    monkeypatch.setattr('sys.argv', ['launch.py', '--config=a.py'])
    assert environment.describe_environment({}).command == ('launch.py', '--config=a.py')
    monkeypatch.setenv('LAUNCHED_BY', "launch.py '--workdir=a b'")
    found = environment.describe_environment({'source': 'text'})
    assert found.command == ('launch.py', '--workdir=a b')
    assert (found.version, found.versions['jax'], found.data) == (VERSION, jax.__version__, {'source': 'text'})


def test_a_variable_of_another_that_is_no_command_is_recorded_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('LAUNCHED_BY', "it's")
    assert environment.describe_environment({}).command == ("it's",)


def test_tokens_of_the_command_line_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('LAUNCHED_BY', raising=False)
    monkeypatch.setattr('sys.argv', ['launch.py', '--sbatch=export=ALL,HF_TOKEN=abc', '--config.data.tokenizer=wordpiece'])
    command = environment.describe_environment({}).command
    assert command == ('launch.py', '--sbatch=export=…', '--config.data.tokenizer=wordpiece')


# ---- What decides the last bits -------------------------------------------------------------------------------------------------


def test_what_decides_the_last_bits_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('XLA_FLAGS', '--xla_gpu_deterministic_ops=true')
    monkeypatch.setenv('JAX_DEFAULT_MATMUL_PRECISION', 'highest')
    for name in ('JAX_TOKEN', 'JAX_COMPILATION_CACHE_DIR', 'HF_TOKEN', 'WANDB_API_KEY'):
        monkeypatch.setenv(name, 'secret')
    found = environment.describe_environment({})
    assert found.variables['XLA_FLAGS'] == '--xla_gpu_deterministic_ops=true'
    assert found.variables['JAX_DEFAULT_MATMUL_PRECISION'] == 'highest'
    assert 'secret' not in json.dumps(to_json(found))
    assert found.processor and set(found.instructions) <= set(VECTORS) and len(found.code) == 16
    assert found.jax['jax_enable_x64'] is False and found.jax['jax_default_prng_impl'] == 'threefry2x32'
    assert {'scipy', 'ml-dtypes', 'jaxlib'} <= set(found.versions)
    write_environment(tmp_path, found)
    assert read_environment(tmp_path) == found


def test_environments_of_earlier_versions_are_read(tmp_path: Path) -> None:
    found = to_json(environment.describe_environment({}))
    new = ('version', 'code', 'processor', 'instructions', 'variables', 'jax')
    (tmp_path / 'environment.json').write_text(json.dumps({key: found[key] for key in found if key not in new}))
    read = read_environment(tmp_path)
    assert isinstance(read, Environment) and (read.code, read.processor, read.variables, read.cores) == ('', '', {}, found['cores'])


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('model name\t: Some CPU\nflags\t\t: fpu avx2 avx512f\n\nmodel name\t: Other\n', ('Some CPU', ('avx2', 'avx512f'))),
        ('processor\t: 0\nFeatures\t: fp asimd sve\n', (None, ('asimd', 'sve'))),
        ('', (None, ())),
    ],
)
def test_the_processor_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple) -> None:
    (tmp_path / 'cpuinfo').write_text(text)
    monkeypatch.setattr('research.machine.CPUINFO', tmp_path / 'cpuinfo')
    model, sets = describe_processor()
    assert sets == expected[1] and (model == expected[0] if expected[0] else model)


def test_fingerprints_see_every_bit(tmp_path: Path) -> None:
    tree = {'a': {'kernel': np.arange(6, dtype=np.float32).reshape(2, 3)}, 'b': np.float32(1)}
    seen = {fingerprint_params(tree)}
    changed = np.arange(6, dtype=np.float32).reshape(2, 3)
    changed.view(np.uint32)[1, 2] ^= 1
    for other in (
        {**tree, 'a': {'kernel': changed}},
        {**tree, 'a': {'bias': tree['a']['kernel']}},
        {**tree, 'a': {'kernel': tree['a']['kernel'].reshape(3, 2)}},
        {**tree, 'b': np.float16(1)},
    ):
        seen.add(fingerprint_params(other))
    assert len(seen) == 5
    assert fingerprint_params(jax.tree.map(jax.numpy.asarray, tree)) == fingerprint_params(tree)
    (tmp_path / 'research').mkdir()
    codes = {fingerprint_code(tmp_path)}
    for name, text in (('launch.py', ''), ('launch.py', 'a = 1'), ('research/b.py', ''), ('research/c.txt', '')):
        (tmp_path / name).write_text(text)
        codes.add(fingerprint_code(tmp_path))
    assert len(codes) == 4, 'what is no code does not count'
