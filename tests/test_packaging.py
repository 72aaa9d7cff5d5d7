"""The project as pip installs it: one source of every bound, of the version and of the modules; commands that work from anywhere.

It is built and installed without a network, by the setuptools of this environment.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from research.version import VERSION

FOLDERS = ('research', 'configs', 'experiments')
FILES = ('launch.py', 'pyproject.toml', 'README.md', 'LICENSE')
# The files that each extra takes, beside requirements.txt.
EXTRAS = {
    'cuda': ('requirements-cuda.txt',),
    'tpu': ('requirements-tpu.txt',),
    'gcs': ('requirements-gcs.txt',),
    's3': ('requirements-s3.txt',),
    'dev': ('requirements-dev.txt',),
    'parity': ('requirements-dev.txt', 'requirements-parity.txt'),
}
COMMANDS = {
    'small-berts': 'launch:entry',
    'small-berts-data': 'research.data.__main__:entry',
    'small-berts-glue': 'research.glue.__main__:entry',
    'small-berts-interchange': 'research.interchange.__main__:entry',
    'small-berts-predict': 'research.predict.__main__:entry',
    'small-berts-study': 'research.study.__main__:entry',
}


def required(file: Path) -> list[Requirement]:
    """The requirements of a file. A line that is no requirement, such as `-r`, is an error: setuptools does not follow it."""
    lines = (re.sub(r'(^|\s)#.*', '', line).strip() for line in file.read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def told(project: Distribution, extra: str | None) -> set[str]:
    """What an installed project requires: always, or for an extra beside that."""
    found = set()
    for requirement in map(Requirement, project.requires or ()):
        ours = str(requirement.marker).rpartition('extra == ')[2].strip('"') if 'extra ==' in str(requirement.marker) else None
        if ours == extra:
            requirement.marker = None
            found.add(str(requirement))
    return found


@pytest.fixture(scope='module')
def installed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project installed in it, from a copy of the checkout."""
    source, target = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('installed')
    for folder in FOLDERS:
        shutil.copytree(root / folder, source / folder, ignore=shutil.ignore_patterns('__pycache__'))
    for file in (*(root / name for name in FILES), *root.glob('requirements*.txt')):
        shutil.copy(file, source)
    options = ('--isolated', '--quiet', '--no-index', '--no-deps', '--no-build-isolation', '--disable-pip-version-check')
    command = [sys.executable, '-m', 'pip', 'install', *options, f'--target={target}', str(source)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return target


@pytest.fixture(scope='module')
def project(installed: Path) -> Distribution:
    (found,) = importlib.metadata.distributions(name='small-berts', path=[str(installed)])
    return found


def test_no_bound_stands_twice(root: Path) -> None:
    files = sorted(root.glob('requirements*.txt'))
    bounds = [(requirement.name, file.name) for file in files for requirement in required(file) if requirement.specifier]
    names = [name for name, _ in bounds]
    assert not [bound for bound in bounds if names.count(bound[0]) > 1]
    assert {name for file in files for name in (each.name for each in required(file))} == set(names), 'without any bound'


def test_what_the_project_requires_is_what_the_files_say(root: Path, project: Distribution) -> None:
    assert told(project, None) == set(map(str, required(root / 'requirements.txt')))
    assert set(project.metadata.get_all('Provides-Extra') or ()) == set(EXTRAS)
    for extra, files in EXTRAS.items():
        assert told(project, extra) == {str(each) for file in files for each in required(root / file)}, extra


def test_every_file_of_requirements_belongs_to_the_project(root: Path) -> None:
    assert {file.name for file in root.glob('requirements*.txt')} == {'requirements.txt', *sum(EXTRAS.values(), ())}


def test_what_is_required_is_what_these_tests_run_with(root: Path) -> None:
    for file in ('requirements.txt', 'requirements-dev.txt'):
        for each in required(root / file):
            if each.marker is None or each.marker.evaluate():
                assert each.specifier.contains(importlib.metadata.version(each.name)), f'{each} of {file}'


@pytest.mark.parametrize('extra', ['cuda', 'tpu'])
def test_the_installed_jax_has_the_extra_of_an_accelerator(root: Path, extra: str) -> None:
    (jax,) = required(root / f'requirements-{extra}.txt')
    assert (jax.name, jax.specifier) == ('jax', ''), 'the bound of jax stands in requirements.txt'
    known = importlib.metadata.metadata('jax').get_all('Provides-Extra') or ()
    assert jax.extras and jax.extras <= set(known)


def test_what_builds_the_project_is_what_these_tests_build_it_with(root: Path) -> None:
    build = tomllib.loads((root / 'pyproject.toml').read_text())['build-system']['requires']
    assert [Requirement(each) for each in build] == [
        each for each in required(root / 'requirements-dev.txt') if each.name == 'setuptools'
    ]


def test_the_version_stands_once(root: Path, project: Distribution) -> None:
    assert project.version == VERSION
    assert re.findall(r'^version: (.*)$', (root / 'CITATION.cff').read_text(), re.MULTILINE) == [VERSION]
    newest = re.search(r'^## .*$', (root / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert newest and VERSION in newest.group()


def test_the_licence_is_installed(root: Path, project: Distribution) -> None:
    assert project.metadata['License-Expression'] == 'Apache-2.0'
    assert project.read_text('licenses/LICENSE') == (root / 'LICENSE').read_text()


def test_every_module_is_installed(root: Path, installed: Path) -> None:
    for folder in FOLDERS:
        ours = {path.relative_to(root) for path in (root / folder).rglob('*.py')}
        assert {path.relative_to(installed) for path in (installed / folder).rglob('*.py')} == ours
    assert (installed / 'launch.py').is_file()


def test_the_commands_are_these(project: Distribution) -> None:
    assert {each.name: each.value for each in project.entry_points.select(group='console_scripts')} == COMMANDS


@pytest.mark.parametrize('command', COMMANDS)
def test_a_command_works_from_any_folder(command: str, installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, 'PYTHONPATH': str(installed)}
    ended = subprocess.run(
        [installed / 'bin' / command, '--help'], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()


def make(root: Path, *arguments: str, dry: bool = True) -> subprocess.CompletedProcess[str]:
    """What make would do, or does, by default in an environment that is not there yet."""
    command = ['make', '--no-print-directory', *(['--dry-run', 'VENV=.venv-none'] if dry else []), *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith('MAKE') and name != 'MFLAGS'}
    return subprocess.run(command, cwd=root, env=clean, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not shutil.which('make'), reason='no make')
@pytest.mark.parametrize(
    ('accelerator', 'installs', 'runs'),
    [
        ('cpu', '-r requirements.txt', '--jobs=2'),
        ('cuda', '-r requirements.txt -r requirements-cuda.txt', ''),
        ('tpu', '-r requirements.txt -r requirements-tpu.txt', ''),
    ],
)
def test_the_quick_start_installs_the_jax_for_the_accelerator(root: Path, accelerator: str, installs: str, runs: str) -> None:
    said = make(root, 'quickstart', f'ACCELERATOR={accelerator}').stdout.splitlines()
    assert [line.partition(' -r')[2] for line in said if 'pip install' in line] == [installs.removeprefix('-r')]
    assert said[-1].rpartition('quickstart.py')[2].strip() == runs


@pytest.mark.skipif(not shutil.which('make'), reason='no make')
@pytest.mark.parametrize('accelerator', ['abacus', '', 'cpu cuda'])
def test_an_accelerator_that_is_none_is_told_in_one_line(root: Path, accelerator: str) -> None:
    ended = make(root, 'quickstart', f'ACCELERATOR={accelerator}')
    assert ended.returncode == 2
    assert re.fullmatch(rf'Makefile:\d+: \*\*\* ACCELERATOR={accelerator} is not one of cpu, cuda, tpu\.  Stop\.\n', ended.stderr)
