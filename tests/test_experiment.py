"""Experiments: validation, the wire, overrides, squeezing."""

import dataclasses
import json
import re
from typing import Any

import pytest

from research.data.masking import Masking
from research.data.settings import Data
from research.errors import UserError
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Losses, Match, Mlm, Soft
from research.optim import Optimizer
from research.surgery import Surgery
from research.validation import validate
from research.wire import differences, from_stored, from_wire, keys, override, override_sibling, setting, to_wire, value
from tests.squeezing import squeeze

# Every kind of field is away from its default.
RICH = Experiment(
    name='rich',
    seed=3,
    model=Architecture(layers=2, sharing='table', table=((0, 0), (0, 1)), pooler=False),
    data=Data(labels=('a', 'b'), lowercase=False, masking=Masking(rate=0.2)),
    losses=Losses(soft=Soft(1.5, at='masked', temperature=4.0)),
    teacher='@bert',
    surgery=Surgery(layers=(0, 5), drop=('label', 'encoder/position')),
    optimizer=Optimizer(lr=3e-4),
)


def test_the_wire_brings_everything_back() -> None:
    assert from_wire(to_wire(RICH)) == RICH
    assert from_wire(json.loads(json.dumps(to_wire(RICH).to_dict()))) == RICH
    assert to_wire(RICH).is_locked
    assert from_wire({}) == Experiment()


@pytest.mark.parametrize(
    ('wire', 'message'),
    [
        ({'modle': {}}, "no config key 'modle'; did you mean 'model'? (there are: name, seed, model"),
        ({'model': {'layrs': 3}}, "no config key 'model.layrs'; did you mean 'layers'?"),
        ({'model': 3}, 'model must hold vocabulary, layers'),
        ([], 'the experiment must hold name, seed'),
        ({'seed': 1.5}, 'seed=1.5 must be of type int'),
        ({'seed': True}, 'seed=True must be of type int'),
        ({'model': {'pooler': 1}}, 'model.pooler=1 must be of type bool'),
        ({'surgery': {'layers': 3}}, 'surgery.layers=3 must be a tuple'),
        ({'surgery': {'layers': ['a']}}, "surgery.layers='a' must be of type int"),
        ({'optimizer': {'lr': float('nan')}}, 'optimizer.lr=nan must be finite'),
        ({'optimizer': {'lr': 'fast'}}, "optimizer.lr='fast' must be of type float"),
    ],
)
def test_a_wire_that_is_no_experiment_is_refused(wire: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        from_wire(wire)


@pytest.mark.parametrize(
    ('key', 'text', 'expected'),
    [
        ('name', 'a=b', 'a=b'),
        ('seed', '7', 7),
        ('model.layers', 3, 3),
        ('optimizer.lr', '3e-4', 3e-4),
        ('optimizer.lr', '1', 1.0),
        ('optimizer.lr', 1, 1.0),
        ('model.pooler', 'false', False),
        ('model.pooler', 'True', True),
        ('model.pooler', '0', False),
        ('surgery.layers', '0,2,4', (0, 2, 4)),
        ('surgery.layers', '5', (5,)),
        ('surgery.layers', '(1, 2)', (1, 2)),
        ('surgery.layers', '[]', ()),
        ('surgery.layers', [1, 2], (1, 2)),
        ('surgery.drop', 'label,encoder/position', ('label', 'encoder/position')),
        ('surgery.drop', "('label',)", ('label',)),
        ('surgery.drop', '', ()),
        ('model.table', '(0,0),(0,1)', ((0, 0), (0, 1))),
        ('model.table', '((0,0),(0,1))', ((0, 0), (0, 1))),
        ('losses.soft.at', 'masked', 'masked'),
        ('data.masking.rate', '0.3', 0.3),
        ('model.remat', 'products', 'products'),
        ('model.remat', 'true', 'block'),  # as earlier versions spelled it
        ('model.remat', False, 'none'),
    ],
)
def test_an_override_reads_a_value_or_its_text(key: str, text: Any, expected: Any) -> None:
    assert value(override(RICH, {key: text}), key) == expected


@pytest.mark.parametrize(
    ('key', 'text', 'message'),
    [
        ('modl.layers', '3', "no config key 'modl.layers'; did you mean 'model.layers'?"),
        ('model.layer', '3', "no config key 'model.layer'; did you mean 'model.layers'?"),
        ('model.layers.x', '3', "no config key 'model.layers.x': 'layers' is a value, without keys of its own"),
        ('model', '3', "'model' is not one value: give one of model.vocabulary, model.layers"),
        ('model.layers', '3.5', "model.layers=3.5: '3.5' is no int"),
        ('model.layers', 'three', "model.layers=three: 'three' is no int"),
        ('model.layers', 3.0, 'model.layers=3.0 must be of type int'),
        ('optimizer.lr', 'fast', "optimizer.lr=fast: 'fast' is no float"),
        ('run.epochs', 'inf', 'run.epochs=inf must be finite'),
        ('losses.mlm.weight', 'nan', 'losses.mlm.weight=nan must be finite'),
        ('model.pooler', 'maybe', 'model.pooler=maybe: give true or false'),
        ('surgery.layers', 'a,b', "surgery.layers=a,b: 'a,b' is no tuple, such as 0,2,4"),
        ('surgery.layers', '(5)', "surgery.layers=(5): '(5)' is no tuple, such as 0,2,4"),
        ('surgery.layers', '1,2.5', 'surgery.layers=2.5 must be of type int'),
        ('model.table', '0,1', 'model.table=0 must be a tuple'),
        ('name', 3, 'name=3 must be of type str'),
    ],
)
def test_an_override_that_does_not_fit_is_refused(key: str, text: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        override(Experiment(), {key: text})


def test_keys_are_all_the_dotted_names() -> None:
    found = keys(Experiment)
    assert {'name', 'model.layers', 'data.masking.policy', 'losses.soft.temperature', 'run.batch'} <= set(found)
    assert len(found) == len(set(found))
    for key in found:
        value(RICH, key)


def test_patience_goes_to_the_runs_of_a_study_that_have_a_score() -> None:
    changes = {'run.patience': 3, 'run.batch': 4}
    pretraining, task = Experiment(), Experiment(data=Data(task='packages'), run=Run(evaluate_every=5))
    assert override_sibling(pretraining, changes).run == Run(batch=4)
    assert override_sibling(task, changes).run == Run(batch=4, evaluate_every=5, patience=3)
    last = override_sibling(task, {**changes, 'data.select': 'last'})
    assert last.run.patience == 0 and last.data.select == 'last'


def test_differences_name_keys_and_both_values() -> None:
    other = override(RICH, {'model.dropout': 0.3, 'seed': 9})
    assert differences(RICH, RICH) == []
    assert differences(RICH, other) == ['seed: 3 -> 9', 'model.dropout: 0.1 -> 0.3']
    faster = override(RICH, {'machine.workers': 3, 'machine.prefetch': 1})
    assert differences(RICH, faster) == [] and setting(RICH) == setting(faster)


@pytest.mark.parametrize('sharing', ['none', 'groups', 'cycle', 'table'])
def test_a_squeezed_experiment_is_valid_and_tiny(sharing: str) -> None:
    table = tuple((layer // 3, layer) for layer in range(12))
    model = Architecture(sharing=sharing, groups=4, table=table if sharing == 'table' else (), embedding=128)
    x = Experiment(
        model=model,
        data=Data(length=512),
        surgery=Surgery(layers=(0, 5)),
        optimizer=Optimizer(warmup=10_000.0),
        run=Run(steps=1000, epochs=3.0, batch=4096, accumulate=64, evaluate_every=10),
    )
    tiny = squeeze(x)
    validate(tiny)
    assert tiny.run.steps == 2 and not tiny.run.epochs and tiny.run.batch % (8 * tiny.run.accumulate) == 0
    assert tiny.run.accumulate == 2 and tiny.model.embedding != tiny.model.width and tiny.model.sharing == sharing
    assert squeeze(tiny) == tiny


@pytest.mark.parametrize(('old', 'new'), [(True, 'block'), (False, 'none'), ('products', 'products')])
def test_remat_of_an_earlier_version_is_read(old: Any, new: str) -> None:
    stored = to_wire(RICH).to_dict()
    stored['model']['remat'] = old
    assert from_stored(stored).model.remat == from_wire(stored).model.remat == new


def test_a_run_may_go_on_on_another_mesh() -> None:
    assert not differences(RICH, override(RICH, {'run.model_devices': 4}))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'data': Data(length=1024)}, 'data.length=1024 is longer than model.positions=512'),
        (
            {'data': Data(pairs='sop'), 'model': Architecture(types=1)},
            "data.pairs='sop' tells segments apart by token types, but model.types=1; give 2, or 0 for none",
        ),
        *(
            ({'run': dataclasses.replace(Run(), **{field: 0})}, f'run.{field}=0 must be at least 1')
            for field in ('batch', 'accumulate', 'model_devices', 'log_every', 'keep')
        ),
        *(
            ({'run': dataclasses.replace(Run(), **{field: -1})}, f'run.{field}=-1 must not be negative')
            for field in ('epochs', 'evaluate_every', 'evaluate_batches', 'checkpoint_every')
        ),
        ({'run': Run(parallel='pmap', model_devices=2)}, "does not work with run.parallel='pmap': give 'jit' or 'fsdp'"),
        (
            {'run': Run(model_devices=8)},
            'run.model_devices=8 does not divide model.heads=12: give --config.run.model_devices=1 or 2',
        ),
        (
            {'run': Run(model_devices=12), 'model': Architecture(inner=1000)},
            'run.model_devices=12 does not divide model.inner=1000: give --config.run.model_devices=1 or 2 or 4',
        ),
        ({'run': Run(patience=2)}, 'run.patience=2 needs a score while training'),
        (
            {'run': Run(patience=2), 'data': Data(task='packages')},
            'give data.task, data.select=train or dev, and run.evaluate_every',
        ),
        ({'run': Run(patience=2, evaluate_every=9), 'data': Data(task='packages', select='last')}, 'run.patience=2'),
        ({'run': Run(steps=-1), 'optimizer': Optimizer(warmup=0.0)}, 'run.steps=-1'),
        ({'start': 'teacher'}, "start='teacher' needs a teacher: give --config.teacher=RUN"),
        ({'optimizer': Optimizer(warmup=2000.0)}, 'optimizer.warmup=2000.0 is longer than the 1000 steps of the run'),
        ({'losses': Losses(mlm=Mlm(0.0))}, 'every loss has weight 0'),
        ({'losses': Losses(cosine=Match(1.0))}, "loss 'cosine' needs a teacher"),
        ({'model': Architecture(width=100)}, 'model.width=100 is not a multiple of model.heads=12'),
        ({'model': Architecture(sharing='groups', groups=13)}, 'model.groups=13 with model.layers=12'),
        ({'optimizer': Optimizer(name='lomb')}, "no optimizer (optimizer.name) named 'lomb'; did you mean 'lamb'?"),
        (
            {
                'model': Architecture(mlm_bias='frequencies'),
                'data': Data(task='packages'),
                'losses': Losses(mlm=Mlm(0.0), soft=Soft(1.0)),
                'teacher': '/nowhere',
            },
            "model.mlm_bias='frequencies' needs the counts of a corpus, which data.task='packages' has not",
        ),
        ({'data': Data(task='package')}, "no data.task named 'package'; did you mean 'packages'?"),
    ],
)
def test_an_impossible_experiment_is_refused(changes: dict[str, Any], message: str) -> None:
    validate(Experiment())
    with pytest.raises(UserError, match=re.escape(message)):
        validate(dataclasses.replace(Experiment(), **changes))
