"""Text of strangers on a terminal."""

import pytest

from research.escape import clean


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('naïve 名前 😀', 'naïve 名前 😀'),
        ('a\x1b[31mb', r'a\x1b[31mb'),
        ('a\nb\r\tc', r'a\x0ab\x0d\x09c'),
        ('a\u202eb\u2028', r'a\x202eb\x2028'),
        ('a\ud800', r'a\xd800'),
    ],
)
def test_control_characters_become_numbers(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_long_text_keeps_its_ends() -> None:
    shown = clean('a' * 5000 + 'b' * 5000, 100)
    assert shown.startswith('aaa') and shown.endswith('bbb') and len(shown) <= 100
