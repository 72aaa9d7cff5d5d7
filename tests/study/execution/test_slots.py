"""Slots: the cores, GPUs and TPU chips of this machine, divided among the runs of a study."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from research.errors import UserError
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


# ---- TPU chips ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """host(chips, files) makes a stand-in of /sys and /dev: so many TPU chips on PCI, and these device files."""

    def make(chips: int, files: Sequence[str]) -> None:
        # A network card of Google, a device of another vendor, and one that cannot be read.
        others = [('0x1ae0', '0x0042'), ('0x10de', '0x0063')]
        for number, (vendor, device) in enumerate([*[('0x1ae0', '0x006f')] * chips, *others]):
            folder = tmp_path / 'pci' / f'0000:00:{number:02}.0'
            folder.mkdir(parents=True)
            (folder / 'vendor').write_text(f'{vendor}\n')
            (folder / 'device').write_text(f'{device}\n')
        (tmp_path / 'pci' / 'broken').mkdir()
        for name in files:
            (tmp_path / 'dev' / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / 'dev' / name).touch()

    monkeypatch.setattr(slots, 'PCI', tmp_path / 'pci')
    monkeypatch.setattr(slots, 'FILES', tmp_path / 'dev')
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 1, 2, 3})
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    for name in ('TPU_VISIBLE_CHIPS', 'TPU_VISIBLE_DEVICES', 'JAX_PLATFORMS'):
        monkeypatch.delenv(name, raising=False)
    return make


@pytest.mark.parametrize(
    ('chips', 'files', 'found'),
    [
        pytest.param(4, ['accel0', 'accel1', 'accel2', 'accel3', 'accelerated'], 4, id='TPU v4'),
        pytest.param(8, ['vfio/vfio', *(f'vfio/{i}' for i in range(8))], 8, id='TPU v6e'),
        pytest.param(8, ['vfio/vfio', 'vfio/0'], 1, id='a container with one chip of eight'),
        pytest.param(0, ['vfio/vfio', 'vfio/0'], 0, id='another device that a virtual machine owns'),
        pytest.param(0, [], 0, id='no TPU'),
    ],
)
def test_tpu_chips_are_counted_by_pci_and_device_files(host: Callable[..., None], chips: int, files: list[str], found: int) -> None:
    host(chips, files)
    assert slots.find_tpus() == [str(number) for number in range(found)]


def test_the_environment_says_which_tpu_chips_are_meant(host: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    host(4, [f'accel{i}' for i in range(4)])
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    assert slots.find_tpus() == [] and slots.make_slots(0) == [slots.Slot({}, (0, 1, 2, 3))]
    monkeypatch.setenv('JAX_PLATFORMS', 'tpu,cpu')
    assert slots.find_tpus() == ['0', '1', '2', '3']
    monkeypatch.setenv('TPU_VISIBLE_DEVICES', '0,1')
    assert slots.find_tpus() == ['0', '1']
    monkeypatch.setenv('TPU_VISIBLE_CHIPS', '2,3')
    assert slots.find_tpus() == ['2', '3']


def test_each_run_has_a_tpu_chip_of_its_own(host: Callable[..., None]) -> None:
    host(4, [f'accel{i}' for i in range(4)])
    found = slots.make_slots(0)
    assert [slot.cores for slot in found] == [(0,), (1,), (2,), (3,)]
    told = [shown_by_a_process(slot) for slot in found]
    assert [each['TPU_VISIBLE_CHIPS'] for each in told] == ['0', '1', '2', '3']
    assert len({each['TPU_PROCESS_PORT'] for each in told}) == len({each['TPU_PROCESS_ADDRESSES'] for each in told}) == 4
    for each in told:
        assert each['TPU_CHIPS_PER_PROCESS_BOUNDS'] == each['TPU_PROCESS_BOUNDS'] == '1,1,1'
        assert each['TPU_PROCESS_ADDRESSES'] == f'localhost:{each["TPU_PROCESS_PORT"]}'
        assert each['ALLOW_MULTIPLE_LIBTPU_LOAD'] == '1'
    assert [slot.settings['TPU_VISIBLE_CHIPS'] for slot in slots.make_slots(2)] == ['0', '1']


def shown_by_a_process(slot: slots.Slot) -> dict[str, str]:
    """What a process of a slot finds in its environment."""
    shown = subprocess.run(['env'], env={**os.environ, **slot.settings}, capture_output=True, text=True, check=True).stdout
    parts = [line.partition('=') for line in shown.splitlines() if 'TPU' in line]
    return {name: value for name, _, value in parts}


def test_one_job_has_all_tpu_chips(host: Callable[..., None]) -> None:
    host(4, [f'accel{i}' for i in range(4)])
    assert slots.make_slots(1) == [slots.Slot({}, (0, 1, 2, 3))]


def test_a_tpu_chip_serves_one_process(host: Callable[..., None]) -> None:
    host(4, [f'accel{i}' for i in range(4)])
    with pytest.raises(UserError, match=r'--jobs=5: this machine has 4 TPU chip\(s\), .* give --jobs=4'):
        slots.make_slots(5)
