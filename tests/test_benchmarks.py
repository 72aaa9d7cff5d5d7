"""The parts of the benchmarks that need no PyTorch, and each command's --small path where it takes seconds."""

import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu_checks, gpu_table, inference, train_step
from benchmarks.harness import encoders, ours, peers, report
from benchmarks.harness.cases import CASES, make_batch, shrink
from benchmarks.harness.turns import Turns, compare, take_turns
from research import costs
from research.errors import UserError
from research.models.heads import Model, initialise
from tests.turning import breaking, sleeping


def test_contenders_take_turns_and_one_that_fails_does_not_stop_the_others() -> None:
    contenders: dict[str, Any] = {
        'fast': (sleeping, (0.01,), {}),
        'slow': (sleeping, (0.04,), {}),
        'broken': (breaking, (), {}),
    }
    found, failed = take_turns(contenders, rounds=3, seconds=0.1, at_once=True)
    assert set(found) == {'fast', 'slow'}
    assert failed == {'broken': 'RuntimeError: no device'}
    assert [len(turns.seconds) for turns in found.values()] == [3, 3]
    assert found['fast'].peak == 5
    ratio, least, most = compare(found['fast'], found['slow'])
    assert least <= ratio <= most
    assert ratio > 1


def test_a_contender_is_not_waited_for_forever() -> None:
    assert take_turns({'endless': (sleeping, (600.0,), {})}, rounds=3, seconds=0.1, limit=2) == ({}, {'endless': 'its time was up'})


def test_a_ratio_is_the_median_of_the_ratios_of_rounds() -> None:
    a, b = Turns((1.0, 2.0, 4.0), 3.5, None), Turns((2.0, 2.0, 2.0), 2.0, None)
    assert compare(a, b) == (1.0, 0.5, 2.0)
    assert (a.median, a.compilation, b.compilation) == (2.0, 1.5, 0.0)


@pytest.mark.parametrize('name', CASES)
def test_batches_of_a_case_are_those_of_a_feed(name: str) -> None:
    case = shrink(CASES[name])
    batch, other = make_batch(case, 0), make_batch(case, 1)
    assert all(not np.array_equal(batch[key], other[key]) for key in ('ids', *(('masked_positions',) if case.room else ('label',))))
    assert {array.dtype.name for array in batch.values()} <= {'int32', 'float32'}
    assert batch['ids'].shape == batch['types'].shape == batch['mask'].shape == (case.batch, case.length)
    assert batch['mask'].all() == (case.shortest == 1)
    assert (batch['mask'].sum(1) >= case.shortest * case.length - 1).all()
    if case.room:
        assert batch['masked_positions'].shape == (case.batch, case.room)
        assert all(len(set(row)) == case.room for row in batch['masked_positions'].tolist())


@pytest.mark.parametrize('name', CASES)
def test_a_case_is_a_real_model_and_peers_need_no_fewer_flops(name: str) -> None:
    case = CASES[name]
    mine, theirs = train_step.count_flops(case, 'jit'), train_step.count_flops(case, 'eager')
    assert mine <= theirs or case.teacher  # ours adds the masked positions to all positions
    small = shrink(case)
    params = initialise(Model(small.model, small.heads), importlib.import_module('jax').random.key(0))
    size = sum(leaf.size for leaf in importlib.import_module('jax').tree.leaves(params))
    assert size == sum(costs.count_parameters(small.model, small.heads).values())


@pytest.mark.parametrize('name', ['distilbert-teacher-128', 'label-32'])
def test_our_steps_run(name: str) -> None:
    contender = ours.step(dataclasses.replace(shrink(CASES[name]), batch=8), 'jit')  # tests have 8 devices
    contender.run(2)
    assert (contender.read_peak() or 0) > 0


def test_our_encoder_runs() -> None:
    shape = inference.SHAPES['minilm-1x32']
    model = dataclasses.replace(shape.model, vocabulary=512, layers=1, width=32, heads=2, inner=64, embedding=32)
    encoders.ours(dataclasses.replace(shape, model=model)).run(2)


def test_cases_are_chosen_by_patterns() -> None:
    chosen = train_step.choose_cases('bert-base-*,label-32', False, 0, 'bfloat16', on_gpu=True)
    assert list(chosen) == ['bert-base-128', 'bert-base-512', 'label-32']
    assert {case.model.dtype for case in chosen.values()} == {'bfloat16'}
    assert chosen['bert-base-512'].batch == CASES['bert-base-512'].large
    with pytest.raises(UserError, match=r"no case named 'bert-base-51'; did you mean 'bert-base-512'\?"):
        train_step.choose_cases('bert-base-51', False, 0, 'float32', on_gpu=False)


def test_peers_compute_logits_everywhere_but_in_the_case_of_equal_work() -> None:
    assert peers.count_logits(CASES['bert-base-128']) == (128, 0)
    assert peers.count_logits(CASES['distilbert-teacher-128']) == (128, 128)
    assert peers.count_logits(CASES['equal-64']) == (CASES['equal-64'].room, 0)
    assert peers.count_logits(CASES['label-32']) == (0, 0)


def row(case: str, contender: str, **changes: Any) -> dict[str, Any]:
    """A row of train_step's JSON."""
    values = {'batch': 2, 'length': 8, 'milliseconds': 1.0, 'tokens_per_second': 16.0, 'ratio': None, 'share': 0.6}
    return {'case': case, 'contender': contender, 'peak_bytes': 10**9, 'compile_seconds': 1.0} | values | changes


def test_the_table_of_a_gpu_judges_goals_and_names_what_is_missing(tmp_path: Path, capsys, monkeypatch) -> None:
    rows = [
        row('bert-base-512', 'jit'),
        row('bert-base-512', 'compile', ratio=(1.2, 1.1, 1.4)),
        row('bert-large-512', 'jit', share=0.5),
        {'case': 'albert-base-128', 'contender': 'compile', 'failed': 'OutOfMemoryError: too large'},
    ]
    found = {'header': report.describe(), 'dtype': 'bfloat16', 'rows': rows}
    found['ceiling'] = {'size': 8192, 'before': {'jax': 7e14}, 'after': {'jax': 8e14}}
    (tmp_path / 'train.json').write_text(json.dumps(found))
    monkeypatch.setattr(sys, 'argv', ['gpu_table.py', str(tmp_path)])
    gpu_table.main()
    printed = capsys.readouterr().out
    for text in (' 800 TFLOP/s', 'reaches 55%', 'misses 1.3', 'misses 60%', 'OutOfMemoryError', '1.20 (1.10–1.40)'):
        assert text in printed
    assert 'inference: left no result; see' in printed


def test_the_loop_of_steps_neither_waits_nor_transfers() -> None:
    found = {each['check']: each for each in gpu_checks.check_loop(dataclasses.replace(shrink(CASES['small-128']), batch=8), 3)}
    assert found["steps under jax.transfer_guard('disallow')"]['holds'] is True
    assert len(found) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ('command', 'printed'),
    [
        ('train_step.py --small --peers=none --ways=jit,pmap --cases=small-128 --rounds=1', '| small-128, 4 × 32'),
        ('inference.py --small --peers=none --cases=minilm-1x32 --rounds=1', '| minilm-1x32'),
        ('gpu_checks.py --small --rounds=1 --case=small-128', 'price of run.deterministic'),
    ],
)
def test_each_command_prints_a_table_and_writes_json(root: Path, tmp_path: Path, command: str, printed: str) -> None:
    name, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, f'benchmarks/{name}', *arguments, f'--json={tmp_path / "found.json"}'],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
    rows = json.loads((tmp_path / 'found.json').read_text())['rows']
    assert rows
    assert not [each for each in rows if 'failed' in each]
