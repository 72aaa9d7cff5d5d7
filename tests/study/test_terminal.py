"""Printing: durations and the console."""

import pytest

from research.study.terminal import format_duration, make_console


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0, '0 s'),
        (59.4, '59 s'),
        (59.6, '1 min 00 s'),
        (3599, '59 min 59 s'),
        (3599.7, '1 h 00 min'),
        (7500, '2 h 05 min'),
        (100 * 3600 - 1, '99 h 59 min'),
        (100 * 3600, '4 days'),
        (3.6e8, '4,167 days'),
        (float('nan'), 'unknown'),
        (float('inf'), 'unknown'),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_without_a_terminal_the_output_is_wide_and_has_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    make_console().print('[red]' + 'x' * 150 + '[/red] ' + 'y' * 40)
    assert capsys.readouterr().out == 'x' * 150 + ' ' + 'y' * 40 + '\n'
