"""Slots: the cores and GPUs of this machine, divided among the runs of a study."""

import os
from pathlib import Path

import pytest

from research.study.execution import slots


def test_the_machine_is_divided_among_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 1, 2, 3, 4})
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert slots.make_slots(0) == [slots.Slot({}, (0, 1, 2, 3, 4))]
    assert [slot.cores for slot in slots.make_slots(2)] == [(0, 1), (2, 3, 4)]
    assert [slot.cores for slot in slots.make_slots(7)][:3] == [(0,), (0,), (1,)]
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2,5')
    assert [slot.settings for slot in slots.make_slots(0)] == [{'CUDA_VISIBLE_DEVICES': '2'}, {'CUDA_VISIBLE_DEVICES': '5'}]
    fractions = [slot.settings.get('XLA_PYTHON_CLIENT_MEM_FRACTION') for slot in slots.make_slots(3)]
    assert fractions == ['0.450', None, '0.450']


def test_without_affinity_the_number_of_cores_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, 'sched_getaffinity')
    monkeypatch.setattr(os, 'cpu_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert slots.make_slots(1) == [slots.Slot({}, (0, 1))]


def test_gpus_are_counted_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert slots.find_gpus() == []
    (tmp_path / 'nvidia-smi').write_text('#!/bin/sh\necho "GPU 0: H200 (UUID: x)"\necho "GPU 1: H200 (UUID: y)"\n')
    (tmp_path / 'nvidia-smi').chmod(0o755)
    assert slots.find_gpus() == ['0', '1']
