"""The recorded environment: commit, command and versions."""

import subprocess
from pathlib import Path

import jax
import pytest

from research.runs import environment
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
