"""Mistakes of the user."""

import pytest

from research.errors import UserError, choose, nearest


def test_the_nearest_name_is_suggested_if_one_is_close() -> None:
    assert nearest('layrs', ['layers', 'width']) == "; did you mean 'layers'?"
    assert nearest('zzz', ['layers', 'width']) == ''


def test_a_choice_outside_the_options_lists_them() -> None:
    assert choose('colour', 'red', {'red': 1, 'blue': 2}) == 'red'
    with pytest.raises(UserError, match=r"no colour named 'bleu'; did you mean 'blue'\? \(there are: red, blue\)"):
        choose('colour', 'bleu', ['red', 'blue'])
