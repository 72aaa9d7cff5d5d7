"""The log of a run: what its progress line shows."""

import os
import resource
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto import event_pb2

from research.experiment import Experiment
from research.runs import run as runs
from research.runs.log import Log


def test_a_loss_is_shown_by_its_whole_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(tmp_path, steps=10, first=0, began=0.0)
    log.progress(4, {'loss': 3.0, 'hidden_states': 1.25, 'mlm': 1.75}, 1234.5)
    log.close()
    assert 'step 4/10 loss 3.0000 hidden_states 1.2500 mlm 1.7500 · 1,234 tokens/s' in capsys.readouterr().out


@pytest.mark.parametrize('forced', ['', '1'])  # elsewhere than on a terminal, and on one
def test_names_from_files_cannot_write_to_the_terminal(
    forced: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('FORCE_COLOR', forced)
    log = Log(tmp_path / r'run\[/x]', steps=10, first=0, began=0.0)
    log.line('label \x1b]0;mine\x07 \u202e \\[/x]\nmore')
    log.progress(4, {'loss\x1b]0;mine': 3.0}, None)
    log.close()
    written, shown = (tmp_path / r'run\[/x]' / 'log.txt').read_text(), capsys.readouterr().out
    assert r'label \x1b]0;mine\x07 \x202e \[/x]\x0amore' in written
    assert r'loss\x1b]0;mine 3.0000' in written
    for text in (written, shown):
        assert '\x1b]' not in text and '\u202e' not in text
    assert r'mine\x07 \x202e \[/x]\x0amore' in shown


def test_the_progress_line_has_every_active_loss_and_no_other_number(
    tiny: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[dict[str, float]] = []
    monkeypatch.setattr(Log, 'progress', lambda self, step, losses, speed: shown.append(dict(losses)))
    runs.run(tiny('bert'), tmp_path / 'run')
    assert [list(losses) for losses in shown] == [['loss', 'mlm', 'nsp']] * 2


def read_events(path: Path) -> list[Any]:
    """The events in a file of TensorBoard's: each between its length and two checksums."""
    content, place, found = path.read_bytes(), 0, []
    kind: Any = event_pb2
    while place < len(content):
        (size,) = struct.unpack_from('Q', content, place)
        found.append(kind.Event.FromString(content[place + 12 : place + 12 + size]))
        place += 16 + size
    return found


def test_tensorboard_has_the_same_numbers_and_drops_those_of_lost_steps(tmp_path: Path) -> None:
    for first, step in ((0, 1), (2, 3)):
        log = Log(tmp_path, 4, first, 0.0)
        log.numbers(step, {'train/loss': 2.5, 'train/mlm': 1.25})
        log.close()
    files = sorted((read_events(path) for path in (tmp_path / 'tensorboard').iterdir()), key=lambda events: events[-1].step)
    for events, first in zip(files, (1, 3), strict=True):
        assert events[1].session_log.status == 1 and events[1].step == first
        shown = [(event.step, value.tag, value.simple_value) for event in events[2:] for value in event.summary.value]
        assert shown == [(first, 'train/loss', 2.5), (first, 'train/mlm', 1.25)]


def test_a_full_disk_ends_the_run_with_the_name_of_the_file(tmp_path: Path) -> None:
    log = Log(tmp_path, 10, 0, 0.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        with pytest.raises(OSError, match='too large') as caught:
            for step in range(1000):
                log.numbers(step, {'train/loss': 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
        log.close()
    assert caught.value.filename and Path(os.fsdecode(caught.value.filename)).parent in (tmp_path, tmp_path / 'tensorboard')
