"""Options of XLA: those that this version knows, never against XLA_FLAGS."""

import jax
import jax.numpy as jnp
import pytest

from research import xla_options


def test_only_known_options_are_given_and_only_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla_options, 'CPU', {**xla_options.CPU, 'xla_cpu_that_is_not_there': '1'})
    found = xla_options.find_options.__wrapped__('cpu')
    assert found.keys() <= xla_options.CPU.keys() - {'xla_cpu_that_is_not_there'}
    assert xla_options.find_options.__wrapped__('gpu') == {}
    x = jnp.ones((4, 4))
    assert float(jax.jit(lambda x: (x @ x).sum(), compiler_options=found)(x)) == 64


def test_the_users_flags_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_experimental_ynn_fusion_type=')
    assert xla_options.find_options.__wrapped__('cpu') == {}
