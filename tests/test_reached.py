"""The law that every line that makes a UserError is reached by a test."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from research.errors import UserError, choose
from tests import reached

SAMPLE = """
class Held(UserError):
    pass

class Taken(errors.Held):
    pass

def make_error(name) -> UserError:
    return UserError(
        f'{name}'
    )

def find(name):
    if name:
        raise make_error(name) from None
    if not name:
        raise Taken('x')
    raise KeyError(name)
"""


@pytest.fixture
def sample(tmp_path: Path) -> list[reached.Site]:
    (tmp_path / 'sample.py').write_text(SAMPLE)
    return reached.sites([tmp_path])


def test_a_site_makes_an_error_of_a_user_or_passes_one_on(sample: list[reached.Site]) -> None:
    assert [(site.first, site.last) for site in sample] == [(9, 11), (15, 15), (17, 17)]
    assert sample[0].text == "return UserError( f'{name}'"


def test_a_site_is_missed_until_one_of_its_lines_is_seen(sample: list[reached.Site]) -> None:
    file = sample[0].file
    assert reached.missed([], sample) == sample
    assert reached.missed([(file, 10), (file, 17), ('other.py', 15)], sample) == sample[1:2]


def test_the_tests_record_the_line_of_each_error() -> None:
    (site,) = [site for site in reached.sites() if site.file == 'research/errors.py']
    reached.reached -= {(site.file, line) for line in range(site.first, site.last + 1)}
    with pytest.raises(UserError):
        choose('colour', 'bleu', ['red'])
    assert not reached.missed(among=[site])


def test_there_are_hundreds_of_sites() -> None:
    found = reached.sites()
    assert len(found) > 300 and {site.file.partition('/')[0] for site in found} >= {'research', 'launch.py'}


@pytest.mark.parametrize(
    ('asked', 'whole'), [({}, True), ({'keyword': 'nearest'}, False), ({'deselect': ['a']}, False), ({'markexpr': 'slow'}, False)]
)
def test_a_part_of_the_tests_is_not_asked(asked: dict[str, Any], whole: bool) -> None:
    every = {'keyword': '', 'deselect': None, 'ignore': None, 'ignore_glob': None, 'collectonly': False, 'markexpr': 'not slow'}
    option, found = SimpleNamespace(**{**every, **asked}), pytest.Config.ArgsSource
    assert reached.is_whole(cast(Any, SimpleNamespace(option=option, args_source=found.TESTPATHS))) == whole
    assert not reached.is_whole(cast(Any, SimpleNamespace(option=option, args_source=found.ARGS)))


def test_all_tests_together_fail_if_an_error_is_not_reached(root: Path) -> None:
    """As if tests/test_errors.py were all tests there are, in a worker."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith('PYTEST_')}
    command = [sys.executable, '-m', 'pytest', '-q', '-n', '1', '-p', 'no:cacheprovider', '-o', 'testpaths=tests/test_errors.py']
    environment = {**inherited, 'RESEARCH_DATA': str(root)}  # any folder
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    listed = [line for line in ended.stdout.splitlines() if line.startswith(('launch.py:', 'research/'))]
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert len(listed) > 300 and not any(line.startswith('research/errors.py') for line in listed)
    assert ' passed' in ended.stdout and ' failed' not in ended.stdout
