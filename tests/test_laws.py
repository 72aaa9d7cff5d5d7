"""The laws of the design page: the direction of imports, the wire, exactness over devices, kills, prices and numbers."""

import ast
import dataclasses
import functools
import json
import re
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import parallel, train, wire
from research.checkpoint import read_params
from research.experiment import Experiment
from research.models.architecture import Architecture
from research.models.heads import Model
from research.objectives.losses import Losses, Match, Mlm, Plain, Soft, terms
from research.objectives.view import View
from research.optim import Optimizer
from research.runs import ending
from research.runs import folder as run_folder
from research.runs import run as runs
from research.study import config_files
from research.study.graph import order
from research.wire import from_wire, override, setting, to_wire
from tests.faults.forks import Forker, begin, describe_run
from tests.squeezing import squeeze

ROOT = Path(__file__).parent.parent
RESEARCH = sorted((ROOT / 'research').rglob('*.py'))


def code() -> list[Path]:
    """Every Python file of ours."""
    folders = ('research', 'configs', 'experiments', 'benchmarks', 'tests')
    return [ROOT / 'launch.py', *(path for folder in folders for path in sorted((ROOT / folder).rglob('*.py')))]


CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
# papers.py is what the studies of papers' tables have in common, and no study itself.
STUDIES = sorted(path for path in (ROOT / 'experiments').glob('*.py') if 'def get_study' in path.read_text())


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it; `from a import b` as 'a.b' where that is a module of ours."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f'{path}: relative import'
            package = (ROOT / node.module.replace('.', '/')).is_dir()
            found |= {f'{node.module}.{alias.name}' if package else node.module for alias in node.names}
    return found


def foreign(path: Path) -> set[str]:
    """The third-party packages that a file imports."""
    tops = {name.partition('.')[0] for name in imports(path)}
    return tops - set(sys.stdlib_module_names) - {'research', 'launch', 'configs', 'experiments', '__future__'}


def own(path: Path) -> set[str]:
    return {name for name in imports(path) if name.partition('.')[0] == 'research'}


def within(names: set[str], allowed: tuple[str, ...]) -> set[str]:
    """The names that lie outside of all allowed modules."""
    return {name for name in names if not any(name == each or name.startswith(each + '.') for each in allowed)}


def files(*places: str) -> list[Path]:
    found = []
    for place in places:
        path = ROOT / 'research' / place
        found += sorted(path.rglob('*.py')) if path.is_dir() else [path]
    assert all(path.is_file() for path in found)
    return found


# ---- 1. The direction of imports ----------------------------------------------------------------------------------------------


def floors() -> list[str]:
    """Every file of research/ that CONTRIBUTING.md lists, doors aside, the highest first."""
    listed = re.search(r'^```floors\n(.*?)^```', (ROOT / 'CONTRIBUTING.md').read_text(), re.MULTILINE | re.DOTALL)
    assert listed
    found = []
    for line in listed[1].splitlines():
        place, *names = line.split()
        found += [f'{"" if place == "." else place}{name}.py' for name in names]
    return found


def doors_aside() -> list[Path]:
    """Every file of research/ that holds code and is no door."""
    return [path for path in RESEARCH if path.name != '__main__.py' and path.read_text().strip()]


def file_of(module: str) -> str:
    """The file of one of our modules, from research/ on."""
    path = module.removeprefix('research.').replace('.', '/')
    return f'{path}/__init__.py' if (ROOT / 'research' / path).is_dir() else f'{path}.py'


def test_every_file_stands_on_a_floor() -> None:
    listed = floors()
    assert len(listed) == len(set(listed))
    assert set(listed) == {path.relative_to(ROOT / 'research').as_posix() for path in doors_aside()}


def test_a_file_imports_only_from_floors_below_its_own() -> None:
    height = {name: place for place, name in enumerate(floors())}
    for path in doors_aside():
        name = path.relative_to(ROOT / 'research').as_posix()
        wrong = [module for module in own(path) if file_of(module) not in height or height[file_of(module)] <= height[name]]
        assert not wrong, f'{name} imports {wrong}'


BESIDES = {  # what more is forbidden: who may import which of our modules
    'models': ('research.models', 'research.sharding', 'research.errors', 'research.terms'),
    'objectives': ('research.objectives', 'research.models', 'research.sharding', 'research.errors', 'research.terms'),
    'data': ('research.data', 'research.errors', 'research.escape', 'research.files', 'research.machine', 'research.records'),
    'optim.py': ('research.models', 'research.muon', 'research.errors'),
    'muon.py': ('research.models.paths', 'research.errors'),
    'parallel.py': ('research.models.paths', 'research.processes', 'research.sharding', 'research.errors'),
    'sharding.py': ('research.models.paths', 'research.errors'),
    'processes.py': ('research.peers', 'research.command', 'research.errors'),
    'train.py': ('research.models', 'research.objectives', 'research.optim', 'research.terms', 'research.errors'),
}


@pytest.mark.parametrize('place', BESIDES)
def test_the_step_and_the_data_know_nothing_of_one_another(place: str) -> None:
    for path in files(place):
        if path.name != '__main__.py':
            assert not within(own(path), BESIDES[place]), f'{path.name} imports {within(own(path), BESIDES[place])}'


def test_a_file_has_one_job_and_a_function_fits_a_page() -> None:
    for path in [*RESEARCH, ROOT / 'launch.py', *CONFIGS, *sorted((ROOT / 'experiments').glob('*.py'))]:
        assert len(path.read_text().splitlines()) <= 310, f'{path} is long'
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f'{path}:{node.lineno} {node.name} is long'


def test_research_knows_neither_recipes_nor_questions() -> None:
    for path in RESEARCH:
        assert not {name.partition('.')[0] for name in imports(path)} & {
            'launch',
            'configs',
            'experiments',
            'benchmarks',
            'tests',
        }, path


@pytest.mark.parametrize(
    'place',
    [
        'models',
        'objectives',
        'optim.py',
        'muon.py',
        'parallel.py',
        'processes.py',
        'sharding.py',
        'train.py',
        'terms.py',
        'evaluation/measures.py',
        'surgery.py',
    ],
)
def test_the_step_needs_nothing_but_jax_flax_optax_and_numpy(place: str) -> None:
    for path in files(place):
        assert foreign(path) <= {'jax', 'flax', 'optax', 'numpy'}, path


def test_data_is_prepared_without_jax() -> None:
    for path in files('data'):
        assert not foreign(path) & {'jax', 'flax', 'optax', 'jaxlib', 'tensorflow'}, path


@pytest.mark.parametrize(('package', 'home'), [('absl', 'launch.py'), ('orbax', 'research/checkpoint.py')])
def test_one_file_alone_knows(package: str, home: str) -> None:
    who = {str(path.relative_to(ROOT)) for path in code() if package in foreign(path) and path.parts[len(ROOT.parts)] != 'tests'}
    assert who == {home}


def test_only_parallel_names_devices() -> None:
    names = {'devices', 'local_devices', 'device_count', 'local_device_count', 'pmap', 'shard_map', 'make_mesh', 'Mesh'}
    names |= {'default_backend'}
    for path in [*RESEARCH, ROOT / 'launch.py', *CONFIGS, *STUDIES]:
        used = {
            node.attr
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == 'jax'
        }
        assert path.name == 'parallel.py' or not used & names, f'{path}: jax.{used & names}'


def test_no_file_is_called_utils() -> None:
    assert not [path for path in code() if path.stem in ('util', 'utils', 'helpers', 'common', 'misc')]


def test_nothing_is_suppressed() -> None:
    pattern = re.compile('#.*(' + '|'.join(('no' + 'qa', 'type: ' + 'ignore', 'pyright' + ':', 'fmt: ' + 'off')) + ')')
    for path in code():
        assert not pattern.search(path.read_text()), path


def test_every_config_field_is_read() -> None:
    read = set()
    for path in RESEARCH:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
    # Fields that are read by `getattr` over a tuple of their names.
    listed = {
        constant.value
        for path in RESEARCH
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.For | ast.comprehension)
        for constant in ast.walk(node.iter)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }
    fields = {key.rpartition('.')[2] for key in wire.keys(Experiment)}
    assert len(fields) > 60
    assert not fields - read - listed


def test_no_config_is_asked_with_a_default() -> None:
    fields = {part for key in wire.keys(Experiment) for part in key.split('.')}
    holders = {'x', 'wire', 'config', 'experiment', 'self', *fields}
    for path in [*RESEARCH, ROOT / 'launch.py', *CONFIGS, *STUDIES]:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == 'get' and node.args:
                key, holder = node.args[0], node.func.value
                literal = isinstance(key, ast.Constant) and key.value in fields
                config = isinstance(holder, ast.Name) and holder.id in holders
                assert not (literal or config), f'{path}:{node.lineno}: .get on a config'
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'getattr':
                assert len(node.args) == 2, f'{path}:{node.lineno}: getattr with a default'


# ---- 2. Every config, every study ---------------------------------------------------------------------------------------------


@functools.cache
def loaded(path: Path) -> types.ModuleType:
    return config_files.module(str(path))


def sizes(path: Path) -> list[str]:
    return list(loaded(path).SIZES)


@pytest.mark.parametrize(('path', 'size'), [pytest.param(p, s, id=f'{p.stem}:{s}') for p in CONFIGS for s in sizes(p)])
def test_a_config_comes_back_from_the_wire_unchanged(path: Path, size: str) -> None:
    wire = loaded(path).get_config(size)
    x = from_wire(wire)
    assert wire.is_locked
    assert to_wire(x) == wire
    assert from_wire(json.loads(json.dumps(to_wire(x).to_dict()))) == x
    assert from_wire(to_wire(squeeze(x))) == squeeze(x)
    for axis in [name for name in vars(loaded(path)) if name.startswith('sweep_')]:
        for point in getattr(loaded(path), axis)():
            assert from_wire(to_wire(override(x, point))) == override(x, point)


@pytest.mark.parametrize(('path', 'size'), [pytest.param(p, s, id=f'{p.stem}:{s}') for p in STUDIES for s in sizes(p)])
def test_the_runs_of_a_study_come_back_from_the_wire_unchanged(path: Path, size: str) -> None:
    for x in {setting(x): x for x in loaded(path).get_study(size).runs.values()}.values():
        assert from_wire(json.loads(json.dumps(to_wire(x).to_dict()))) == x


def learned(workdir: Path, steps: int) -> dict[str, Any]:
    """The result of a run that took real steps: finite numbers, a gradient and a rate above zero, and a checkpoint."""
    result = json.loads((workdir / 'result.json').read_text())
    assert result['steps'] == steps
    assert all(np.isfinite(value) for value in result['metrics'].values()) and result['metrics']
    last = [line for line in run_folder.read_metrics(workdir) if 'train/loss' in line][-1]
    assert last['step'] == steps and last['train/gradient_norm'] > 0 and last['train/learning_rate'] > 0
    assert read_params(workdir / 'checkpoints', 'the run')[0] == steps
    return result


MEASURES = {
    *(f'dev/{name}' for name in ('mlm', 'mlm_accuracy', 'mlm_masked', 'mlm_kept', 'mlm_random')),
    *(f'dev/{name}' for name in ('frequencies', 'gain', 'gain_error')),
}


def test_the_bert_recipe_takes_real_steps(teacher: Path) -> None:
    result = learned(teacher, 2)
    assert set(result['metrics']) == MEASURES | {'dev/nsp', 'dev/nsp_accuracy'}


@pytest.mark.usefixtures('one_device')
def test_the_albert_recipe_takes_real_steps(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    runs.run(tiny('albert'), tmp_path / 'run')
    result = learned(tmp_path / 'run', 2)
    assert set(result['metrics']) == MEASURES | {'dev/sop', 'dev/sop_accuracy'}


@pytest.mark.usefixtures('one_device')
def test_the_distilbert_recipe_takes_real_steps(tiny: Callable[..., Experiment], teacher: Path, tmp_path: Path) -> None:
    runs.run(tiny('distilbert', {'teacher': str(teacher)}), tmp_path / 'run')
    learned(tmp_path / 'run', 2)
    last = [line for line in run_folder.read_metrics(tmp_path / 'run') if 'train/loss' in line][-1]
    weighted = 5 * last['train/soft'] + 2 * last['train/mlm'] + last['train/cosine']
    assert last['train/loss'] == pytest.approx(weighted, rel=1e-5)


@pytest.fixture(scope='module')
def tuned(
    tiny: Callable[..., Experiment], examples: dict[str, Any], teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a model that was fine-tuned on the examples."""
    workdir, first = tmp_path_factory.mktemp('runs') / 'tuned', jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, 'devices', lambda: first)
        runs.run(tiny('finetune', {**examples, 'start': str(teacher)}), workdir)
    return workdir


def test_the_finetuning_recipe_takes_real_steps(tuned: Path) -> None:
    result = learned(tuned, 2)
    assert result['labels'] == ['a', 'b', 'c'] and result['selected']['by'] == 'dev/accuracy'


def test_every_recipe_has_a_test_of_its_steps() -> None:
    assert {path.stem for path in CONFIGS} == {'albert', 'bert', 'distilbert', 'finetune'}


def firsts() -> dict[Experiment, list[str]]:
    """The first run of every study, squeezed, and the studies that begin with it."""
    found: dict[Experiment, list[str]] = {}
    for path in STUDIES:
        study = loaded(path).get_study()
        found.setdefault(setting(squeeze(study.runs[order(study.needs)[0]])), []).append(path.stem)
    return found


@pytest.mark.usefixtures('one_device')
@pytest.mark.parametrize('x', [pytest.param(x, id='+'.join(studies)) for x, studies in firsts().items()])
def test_the_first_run_of_a_study_takes_real_steps(
    x: Experiment, text: dict[str, Any], examples: dict[str, Any], tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ('measure_latency', 'measure_smoothness'):  # they are no steps, and are compiled in the tests of recipes
        monkeypatch.setattr(ending, program, lambda *_: None)
    x = override(x, {**text, 'name': 'first'})
    if x.data.task:  # a study of tasks begins with a model that is there already
        x = override(x, {**examples, 'teacher' if x.teacher else 'start': str(tuned)})
        if x.losses.regression.weight:  # the examples have labels
            x = override(x, {'losses.regression.weight': 0.0, 'losses.label.weight': 1.0})
    runs.run(x, tmp_path / 'first')
    learned(tmp_path / 'first', 2)


# ---- 3. jit, pmap and accumulation ---------------------------------------------------------------------------------------------

# The rate is 1 at every step and the direction is the gradient: parameters differ by exactly what gradients differ.
PLAIN = Optimizer(name='sgd', lr=1.0, warmup=0.0, power=0.0, weight_decay=0.0, clip=0.0)
TAUGHT = Losses(mlm=Mlm(2.0), sop=Plain(1.0), soft=Soft(5.0, temperature=2.0), cosine=Match(1.0, at='masked'))
HEADS = (('mlm', 64), ('pair', 2))
STEPS = 3


@pytest.fixture(scope='module')
def pupil(small: Architecture) -> Model:
    """With dropout: its masks depend on a row's number in the whole batch alone."""
    return Model(dataclasses.replace(small, dropout=0.1, attention_dropout=0.1, head_dropout=0.1), HEADS)


@pytest.fixture(scope='module')
def beginning(pupil: Model) -> train.State:
    return train.initial_state(pupil, PLAIN, 0)


@pytest.fixture(scope='module')
def master(pupil: Model) -> dict[str, Any]:
    return {'teacher': train.initial_state(pupil, PLAIN, 1).params}


@pytest.fixture(scope='module')
def walk(
    pupil: Model, beginning: train.State, master: dict[str, Any], make_batch: Callable
) -> Callable[..., tuple[Any, dict[str, float]]]:
    """walk(parallel, devices, accumulate, model) -> the parameters after some steps, and the last step's numbers.

    model: the number of devices that share the matrices of a row.
    """

    def walk(kind: str, devices: int, accumulate: int, model: int = 1) -> tuple[Any, dict[str, float]]:
        plan = parallel.PARALLEL[kind].plan(jax.devices()[:devices], model)
        step = plan.compile(train.make_step(pupil, pupil, TAUGHT, PLAIN, STEPS, accumulate))
        state, frozen, metrics = plan.put_state(beginning), plan.put_state(master), {}
        for number in range(STEPS):
            state, metrics = step(state, frozen, plan.put_batch(make_batch(seed=number)))
            if not number:  # a row of one device makes the loss NaN: all of them leave the step out
                batch = make_batch(seed=STEPS)
                batch['masked_weights'][5] = np.nan
                before = jax.device_get(state.params)
                state, metrics = step(state, frozen, plan.put_batch(batch))
                assert float(metrics['skipped']) == 1 and furthest(before, state.params) == 0
        return jax.device_get(state.params), {name: float(term.mean()) for name, term in metrics.items()}

    return walk


@pytest.fixture(scope='module')
def alone(walk: Callable) -> tuple[Any, dict[str, float]]:
    """One device, one batch: what every other way must agree with."""
    return walk('jit', 1, 1)


TOLERANCE = 4e-6


def furthest(a: Any, b: Any) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(np.asarray(x) - np.asarray(y)).max()), a, b)))


WAYS = [
    ('jit', 8, 1, 1),
    ('pmap', 8, 1, 1),
    ('fsdp', 8, 1, 1),
    ('jit', 1, 4, 1),
    ('jit', 8, 2, 1),
    ('pmap', 8, 2, 1),
    ('fsdp', 8, 2, 1),
    ('pmap', 1, 1, 1),
    ('fsdp', 1, 1, 1),
    ('jit', 8, 1, 2),
    ('fsdp', 8, 1, 2),
    ('fsdp', 4, 2, 2),
]


@pytest.mark.parametrize('way', WAYS)
def test_every_way_to_be_parallel_computes_one_update(
    walk: Callable, alone: tuple[Any, dict[str, float]], beginning: train.State, way: tuple[str, int, int, int]
) -> None:
    params, metrics = walk(*way)
    assert furthest(params, beginning.params) > 0.1
    assert furthest(params, alone[0]) < TOLERANCE
    assert metrics == pytest.approx(alone[1], rel=1e-5)


def test_every_row_of_parallel_is_compared() -> None:
    assert {(kind, devices) for kind, devices, _, _ in WAYS} >= {(kind, 8) for kind in parallel.PARALLEL}
    shared = {kind for kind, row in parallel.PARALLEL.items() if row.splits_matrices}
    assert {kind for kind, _, _, model in WAYS if model > 1} == shared


def test_the_mean_of_means_is_another_update(
    pupil: Model, beginning: train.State, master: dict[str, Any], make_batch: Callable
) -> None:
    weights = {name: getattr(TAUGHT, name).weight for name in ('mlm', 'sop', 'soft', 'cosine')}

    def local(params: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        found = terms(TAUGHT, View(pupil, params, batch), View(pupil, master['teacher'], batch), batch)
        return jnp.sum(jnp.stack([weights[name] * term.mean() for name, term in found.items()]))

    def gradients(batch: Any) -> Any:
        each = jax.vmap(jax.grad(local), in_axes=(None, 0))(beginning.params, batch)
        return jax.tree.map(lambda g: g.mean(0), each)

    batch = jax.tree.map(jnp.asarray, make_batch())
    compiled = jax.jit(gradients)
    exact = compiled(jax.tree.map(lambda x: x[None], batch))
    naive = compiled(jax.tree.map(lambda x: x.reshape(8, -1, *x.shape[1:]), batch))
    assert furthest(exact, naive) > 1000 * TOLERANCE


# ---- 4. Kills -------------------------------------------------------------------------------------------------------------------


def test_a_killed_run_continues_bit_for_bit(tiny: Callable[..., Experiment], teacher: Path, tmp_path: Path) -> None:
    """Dropout, masking, a teacher and two lengths, on one device; the kill falls where it falls, between the first checkpoint and
    the second length as a rule."""
    asked = {'teacher': str(teacher), 'run.steps': 24, 'run.checkpoint_every': 3, 'run.evaluate_every': 10}
    asked |= {'data.first_length': 16, 'data.first_share': 0.6}
    x = tiny('distilbert', asked)
    assert x.model.dropout > 0 and x.losses.soft.weight > 0

    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    forker = Forker(tmp_path / 'forks')  # processes alike: how many threads share a product decides how its sum is rounded
    try:
        assert forker.run(begin(whole, x)) == 0, forker.said()
        argument = begin(killed, x)

        def saved() -> bool:
            return any(path.name.isdigit() for path in killed.glob('checkpoints/*'))

        assert forker.kill_when(saved, signal.SIGKILL, argument) == -signal.SIGKILL, forker.said()
        assert not (killed / 'result.json').exists()
        assert forker.run(argument) == 0, forker.said()
    finally:
        forker.close()
    assert 'continues from the checkpoint of step' in (killed / 'log.txt').read_text()
    one, two = describe_run(whole), describe_run(killed)
    assert one['step'] == 24 and {part for part in one if one[part] != two[part]} == set()


# ---- 6. Numbers -----------------------------------------------------------------------------------------------------------------

LEARN = Optimizer(lr=1e-2, warmup=0.0, power=0.0)
DISTIL = Losses(mlm=Mlm(2.0), soft=Soft(5.0, temperature=2.0), cosine=Match(1.0))
# One row a step: loss, gradient norm, mlm, soft, cosine. They change when the mathematics does: see what changed them before
# they are printed anew.
PINNED = (
    (11.500996, 4.281968, 4.083145, 0.454739, 1.061011),
    (11.737788, 4.395423, 4.364706, 0.397905, 1.018851),
    (11.680250, 3.444811, 4.447574, 0.359544, 0.987380),
)


@pytest.fixture(scope='module')
def numbers(small: Architecture, make_batch: Callable) -> Callable[..., list[list[float]]]:
    """numbers(temperature, shift) -> loss, gradient norm and each term of the first three steps of a distillation with dropout.

    `shift` is added to one weight of the model before the first step.
    """
    student = Model(dataclasses.replace(small, layers=1, dropout=0.1, attention_dropout=0.1), (('mlm', 64),))
    teacher = Model(small, (('mlm', 64),))
    first = train.initial_state(student, LEARN, 0)
    frozen = {'teacher': train.initial_state(teacher, LEARN, 1).params}
    compiled: dict[float, Any] = {}

    def numbers(temperature: float = 2.0, shift: float = 0.0) -> list[list[float]]:
        losses = dataclasses.replace(DISTIL, soft=dataclasses.replace(DISTIL.soft, temperature=temperature))
        if temperature not in compiled:
            step = train.make_step(student, teacher, losses, LEARN, 3)
            compiled[temperature] = jax.jit(lambda state, batch: step(state, frozen, batch, None))
        params = jax.tree.map(lambda x: x, first.params)
        params['encoder']['attention']['value']['kernel'] = (
            params['encoder']['attention']['value']['kernel'].at[0, 0, 0, 0].add(shift)
        )
        state, told = train.with_params(first, params, LEARN), []
        for number in range(3):
            state, metrics = compiled[temperature](state, make_batch(seed=number))
            told.append([float(metrics[name].mean()) for name in ('loss', 'gradient_norm', 'mlm', 'soft', 'cosine')])
        return told

    return numbers


def test_the_first_steps_have_the_pinned_numbers(numbers: Callable[..., list[list[float]]]) -> None:
    np.testing.assert_allclose(numbers(), PINNED, rtol=1e-4)


@pytest.mark.parametrize('mutant', [{'temperature': 2.02}, {'shift': 0.02}])
def test_a_planted_mutant_misses_the_pinned_numbers(numbers: Callable[..., list[list[float]]], mutant: dict[str, float]) -> None:
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(numbers(**mutant), PINNED, rtol=1e-4)


# ---- 7. Prices ------------------------------------------------------------------------------------------------------------------


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a jaxpr, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, 'eqns') or hasattr(x, 'jaxpr')):
            if hasattr(inner, 'jaxpr'):
                yield from equations(inner.jaxpr)
            elif hasattr(inner, 'eqns'):
                yield from equations(inner)


def program(losses: Losses, small: Architecture, batch: Any, taught: bool) -> tuple[Any, Any, Any]:
    """(jaxpr, shapes of the teacher's parameters, lowered program) of a step, with a teacher at hand or without."""
    student, teacher = Model(small, HEADS), Model(dataclasses.replace(small, inner=40), HEADS)
    state = jax.eval_shape(lambda: train.initial_state(student, LEARN, 0))
    frozen = {'teacher': jax.eval_shape(lambda: train.initial_state(teacher, LEARN, 0)).params} if taught else {}
    step = train.make_step(student, teacher if taught else None, losses, LEARN, 10)

    def whole(state: train.State, frozen: Any, batch: Any) -> Any:
        return step(state, frozen, batch, None)

    return jax.make_jaxpr(whole)(state, frozen, batch), frozen, jax.jit(whole).lower(state, frozen, batch)


UNTAUGHT = Losses(mlm=Mlm(1.0), sop=Plain(1.0))


def test_a_loss_of_weight_zero_costs_nothing(small: Architecture, make_batch: Callable) -> None:
    batch = make_batch()
    with_zero = dataclasses.replace(UNTAUGHT, soft=Soft(0.0), cosine=Match(0.0), mse=Match(0.0))
    plain, _, lowered = program(UNTAUGHT, small, batch, taught=False)
    zero, frozen, lowered_zero = program(with_zero, small, batch, taught=True)
    paid, _, lowered_paid = program(dataclasses.replace(UNTAUGHT, soft=Soft(1.0)), small, batch, taught=True)

    assert [str(e.primitive) for e in equations(zero.jaxpr)] == [str(e.primitive) for e in equations(plain.jaxpr)]
    flops = [one.cost_analysis()['flops'] for one in (lowered, lowered_zero, lowered_paid)]
    assert flops[0] == flops[1] < 0.7 * flops[2]

    def used(closed: Any) -> int:
        inputs = set(closed.jaxpr.invars)
        return len({v for e in closed.jaxpr.eqns for v in e.invars if not hasattr(v, 'val') and v in inputs})

    assert used(zero) == used(plain) == len(zero.jaxpr.invars) - len(jax.tree.leaves(frozen)) - unread(plain)
    assert used(paid) > used(plain)


def unread(closed: Any) -> int:
    """How many inputs of a program no equation reads (labels of other losses, say)."""
    read = {v for e in closed.jaxpr.eqns for v in e.invars if not hasattr(v, 'val')}
    return len([v for v in closed.jaxpr.invars if v not in read])


@pytest.mark.parametrize(
    ('losses', 'everywhere'),
    [
        (UNTAUGHT, False),
        (Losses(soft=Soft(1.0, at='masked'), cosine=Match(1.0)), False),
        (Losses(mse=Match(1.0, at='masked')), False),
        (Losses(soft=Soft(1.0, at='attended')), True),
    ],
)
def test_the_vocabulary_is_scored_only_where_a_loss_asks(
    small: Architecture, make_batch: Callable, losses: Losses, everywhere: bool
) -> None:
    batch = make_batch()
    found, _, _ = program(losses, small, batch, taught=True)
    shapes = {tuple(out.aval.shape) for e in equations(found.jaxpr) for out in e.outvars}
    assert (16, 3, 64) in shapes
    assert ((16, 16, 64) in shapes) == everywhere
