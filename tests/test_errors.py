"""What a user is told."""

import pytest

from research.command import Parser, run_command
from research.errors import UserError, choose, nearest


def test_the_nearest_name_is_told_when_one_is_close() -> None:
    assert nearest('layrs', ['layers', 'width']) == "; did you mean 'layers'?"
    assert nearest('zzz', ['layers', 'width']) == ''


def test_a_choice_outside_the_options_lists_them() -> None:
    assert choose('colour', 'red', {'red': 1, 'blue': 2}) == 'red'
    with pytest.raises(UserError, match=r"no colour named 'bleu'; did you mean 'blue'\? \(there are: red, blue\)"):
        choose('colour', 'bleu', ['red', 'blue'])


def test_a_parser_tells_a_mistake_as_any_other() -> None:
    parser = Parser(prog='measure')
    parser.add_argument('--rows', type=int)
    assert parser.parse_args(['--rows=3']).rows == 3
    with pytest.raises(UserError, match=r"argument --rows: invalid int value: 'x' \(usage: measure"):
        parser.parse_args(['--rows=x'])


@pytest.mark.parametrize(
    ('raised', 'status', 'told'),
    [
        (None, 0, ''),
        (UserError('no such row'), 2, 'error: no such row\n'),
        (PermissionError(13, 'Permission denied', '/x'), 2, 'error: Permission denied: /x\n'),
        (OSError('disk'), 2, 'error: disk\n'),
        (KeyboardInterrupt(), 130, 'interrupted\n'),
    ],
)
def test_a_command_ends_with_a_status_and_a_line(
    capsys: pytest.CaptureFixture[str], raised: BaseException | None, status: int, told: str
) -> None:
    def command(arguments: list[str]) -> None:
        assert arguments == ['a']
        if raised is not None:
            raise raised

    assert run_command(command, ['a']) == status
    assert capsys.readouterr().err == told
