"""Models of transformers, read here, compute the same as in transformers."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from research.interchange import reading, writing
from research.interchange.tensor_names import flatten
from research.models.architecture import Architecture
from research.models.heads import Model
from research.surgery import Donor
from tests.interchange.conftest import REFERENCES

NAMES = sorted(folder.name for folder in REFERENCES.iterdir())


@functools.cache
def program(architecture: Architecture, heads: tuple[tuple[str, int], ...]) -> Callable:
    """(params, ids, types, mask) -> hidden states, pooled positions and logits, compiled."""
    network = Model(dataclasses.replace(architecture, unroll=1), heads)

    def forward(params, *given):
        out: Any = network.apply({'params': params}, *given, frozenset({'layers'}))
        logits = {name: network.apply({'params': params}, name, out, method='logits') for name, _ in heads}
        return {'hidden': out.layers, 'pooled': out.pooled} | logits

    return jax.jit(forward)


def outputs(donor: Donor, params: Any, expected: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of the donor's model with `params` on the input of the reference."""
    found = program(donor.architecture, donor.heads)(params, *(expected[name] for name in ('ids', 'types', 'mask')))
    return {name: np.asarray(x) for name, x in found.items() if x is not None}


@pytest.mark.parametrize('name', NAMES)
def test_outputs_are_those_of_transformers(name):
    donor, report = reading.open_folder(REFERENCES / name, name)
    assert all(row.status == 'loaded' or 'sinusoids' in row.what for row in report)
    with np.load(REFERENCES / name / 'expected.npz') as arrays:
        expected = dict(arrays)
    found = outputs(donor, donor.params, expected)
    names = set(expected) - {'ids', 'types', 'mask'}
    assert names >= {'hidden', *(head for head, _ in donor.heads)}
    for key in names:
        np.testing.assert_allclose(found[key], expected[key], rtol=0, atol=1e-5, err_msg=key)


@pytest.mark.parametrize('name', ['BertPretraining', 'AlbertPretraining', 'AlbertInner', 'DistilBertMlm'])
def test_the_comparison_notices_every_changed_weight(name):
    """A change of any kind of weight would fail the comparison above."""
    with np.load(REFERENCES / name / 'expected.npz') as arrays:
        expected = dict(arrays)
    donor, _ = reading.open_folder(REFERENCES / name, name)
    for path in flatten(donor.params):
        if path[-2:] == ('key', 'bias'):  # adds the same to all scores of a query, so softmax does not change
            continue
        damaged = jax.tree.map(np.array, donor.params)
        leaf = flatten(damaged)[path]
        leaf += np.linspace(0.01, 0.02, leaf.size, dtype=np.float32).reshape(leaf.shape)
        found = outputs(donor, damaged, expected)
        assert any(np.abs(found[key] - expected[key]).max() > 1e-5 for key in set(expected) & set(found)), path


@pytest.mark.parametrize('name', NAMES)
def test_import_export_import_keeps_every_byte(name, tmp_path):
    donor, _ = reading.open_folder(REFERENCES / name, name)
    exported = writing.export_model(donor, tmp_path / 'run', tmp_path / 'export', None, 'unknown')
    again, report = reading.open_folder(tmp_path / 'export', 'export')
    assert not exported.notes
    assert again.heads == donor.heads
    assert again.labels == donor.labels
    assert dataclasses.replace(again.architecture, sharing='', groups=0) == dataclasses.replace(
        donor.architecture, sharing='', groups=0
    )
    before, after = flatten(donor.params), flatten(again.params)
    assert before.keys() == after.keys()
    assert all(before[path].tobytes() == after[path].tobytes() for path in before)
    assert all(row.status == 'loaded' or 'sinusoids' in row.what for row in report)
