"""Command lines: parser, exit status and --config.KEY=VALUE."""

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
