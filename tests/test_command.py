"""Command lines: parser, exit status and --config.KEY=VALUE."""

import subprocess
import sys
from pathlib import Path

import pytest

from research.command import Parser, parse_changes, run_command
from research.errors import UserError


def test_a_parser_raises_user_errors() -> None:
    parser = Parser(prog='measure')
    parser.add_argument('--rows', type=int)
    assert parser.parse_args(['--rows=3']).rows == 3
    with pytest.raises(UserError, match=r"argument --rows: invalid int value: 'x' \(usage: measure"):
        parser.parse_args(['--rows=x'])


@pytest.mark.parametrize(
    ('raised', 'status', 'message'),
    [
        (None, 0, ''),
        (UserError('no such row'), 2, 'error: no such row\n'),
        (PermissionError(13, 'Permission denied', '/x'), 2, 'error: Permission denied: /x\n'),
        (OSError('disk'), 2, 'error: disk\n'),
        (BrokenPipeError(32, 'Broken pipe'), 2, 'error: Broken pipe\n'),  # of another pipe than the standard output
        (
            ModuleNotFoundError("No module named 'jax'", name='jax'),
            2,
            "error: No module named 'jax': install what this project needs with `make quickstart` or `pip install -e .`\n",
        ),
        (
            UnicodeEncodeError('ascii', 'é', 0, 1, 'ordinal not in range(128)'),
            2,
            "error: the standard output cannot show every character ('ascii' codec can't encode character '\\xe9' in position 0: "
            'ordinal not in range(128)): set PYTHONIOENCODING=utf-8\n',
        ),
        (
            MemoryError(),
            1,
            'error: out of memory: make run.batch or data.length smaller, or run.accumulate larger '
            '(--dry estimates what a run takes)\n',
        ),
        (KeyboardInterrupt(), 130, 'interrupted\n'),
    ],
)
def test_a_command_ends_with_a_status_and_a_line(
    capsys: pytest.CaptureFixture[str], raised: BaseException | None, status: int, message: str
) -> None:
    def command(arguments: list[str]) -> None:
        assert arguments == ['a']
        if raised is not None:
            raise raised

    assert run_command(command, ['a']) == status
    assert capsys.readouterr().err == message


def test_memory_that_xla_lacks_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import jax
    import jax.numpy as jnp

    def command(arguments: list[str]) -> None:
        jax.jit(lambda: jnp.zeros((1 << 46,), jnp.int8))().block_until_ready()

    assert run_command(command, []) == 2
    said = capsys.readouterr().err
    assert said.startswith('error: out of memory (RESOURCE_EXHAUSTED: ') and said.count('\n') == 1


@pytest.mark.parametrize('flag', ['--debug', '--debug=true'])
def test_debug_shows_the_traceback_too_with_nothing_that_moves_the_cursor(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    def command(arguments: list[str]) -> None:
        raise UserError('no such \x1b[2Jrow')

    assert run_command(command, ['a', flag]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == 'Traceback (most recent call last):' and any('in command' in line for line in lines)
    assert lines[-2:] == [r'research.errors.UserError: no such \x1b[2Jrow', r'error: no such \x1b[2Jrow']


def test_a_bug_shows_its_traceback_and_says_that_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    def command(arguments: list[str]) -> None:
        raise KeyError('row')

    assert run_command(command, []) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == 'Traceback (most recent call last):'
    assert lines[-1].startswith('error: this is a bug, not a mistake of yours: please report the lines above')
    assert lines[-1].endswith("(KeyError: 'row')")


PRINTING = """
import sys
from research.command import run_command
sys.exit(run_command(lambda arguments: print('x' * 100_000) or 0, []))
"""


def test_output_that_nobody_reads_ends_quietly(root: Path) -> None:
    process = subprocess.Popen([sys.executable, '-c', PRINTING], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    assert process.stdout.read(1) == b'x'
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (141, b'')
    process.stderr.close()


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='only Linux has a device that is always full')
def test_output_that_cannot_be_written_is_one_line(root: Path) -> None:
    with open('/dev/full', 'w') as full:
        ended = subprocess.run([sys.executable, '-c', PRINTING], cwd=root, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (2, b'error: No space left on device\n')


def test_every_parser_knows_debug(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog='measure')
    parser.add_subparsers(dest='command').add_parser('rows')
    for given in (['--debug', 'rows'], ['rows', '--debug'], ['rows']):
        assert parser.parse_args(given).command == 'rows'
    assert '--debug' in parser.format_help()


def test_changes_may_have_an_equals_sign_or_a_space() -> None:
    given = ['--config.run.steps=5', '--config.data.source', 'text:a=b.txt', '--config.name=', '--config.a=-1']
    assert parse_changes(given, ['config'], '--config') == {
        'run.steps': '5',
        'data.source': 'text:a=b.txt',
        'name': '',
        'a': '-1',
    }
    assert given[0] == '--config.run.steps=5', 'the list of the caller is not changed'


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (['--confg=x'], r"unknown argument '--confg=x'; did you mean 'config'\? \(flags: --config, --jobs\)"),
        (['--config.a=1', 'configs/bert.py'], r"unknown argument 'configs/bert.py' \(flags"),
        (['--config.run.steps'], r'--config.run.steps has no value: give --config.run.steps=VALUE'),
        (['--config.run.steps', '--config.a=1'], r'--config.run.steps has no value'),
    ],
)
def test_other_arguments_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_changes(given, ['config', 'jobs'], '--config, --jobs')
