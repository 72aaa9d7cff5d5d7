"""The benchmarks' peers are the same models, on the same numbers, as ours."""

import pytest

from benchmarks.harness import peers
from benchmarks.harness.cases import CASES, make_batch, shrink
from research import costs

pytest.importorskip('torch', reason='run with `make parity`, which installs torch and transformers')
pytestmark = pytest.mark.filterwarnings('default')


@pytest.mark.parametrize('name', CASES)
def test_a_peer_has_as_many_parameters_and_a_loss(name: str) -> None:
    torch, transformers, device = peers.load()
    case = shrink(CASES[name])
    model, objective = peers.OBJECTIVES[case.peer](torch, transformers, case, device)
    theirs = sum(parameter.numel() for parameter in model.parameters())
    ours = costs.count_parameters(case.model, case.heads)
    # A masked language model of theirs alone has no pooler.
    assert theirs == sum(ours.values()) - (0 if case.peer in ('pretraining', 'label') else ours['pooler'])
    loss = objective(peers.convert(torch, make_batch(case, 0), case))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
