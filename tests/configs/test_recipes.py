"""The recipes against what the papers and their authors' code print; and what each does differently, as it says."""

import dataclasses
import fnmatch
from typing import Any

import numpy as np
import pytest

from configs import albert, bert, distilbert, finetune
from experiments import distillation, papers
from research import costs
from research.data.masking import count_predictions
from research.data.mixture import mixture
from research.data.settings import Stage, stages
from research.experiment import Experiment
from research.models.architecture import Architecture
from research.study.config_files import choose_deviations
from research.surgery import inherit
from research.validation import validate, validate_without_start
from research.wire import from_wire, override, value

RECIPES = {module.__name__.split('.')[-1]: module for module in (bert, albert, distilbert, finetune)}
ALL = [(name, size) for name, module in RECIPES.items() for size in module.SIZES]


def load(name: str, size: str) -> Experiment:
    return from_wire(RECIPES[name].get_config(size))


@pytest.mark.parametrize('name', RECIPES)
def test_each_deviation_is_true_of_its_recipe_and_gone_once_the_published_value_is_given(name: str) -> None:
    """`choose_deviations` refuses a key that does not exist, and leaves out a line whose value is not the recipe's."""
    module = RECIPES[name]
    assert set(module.DEVIATIONS) == set(module.SIZES)
    for size, lines in module.DEVIATIONS.items():
        x = load(name, size)
        assert choose_deviations({'*': lines}, 'run', x) == list(lines), size
        assert len(set(lines)) == len(lines) and all(len(line.partition(': ')[2]) > 20 for line in lines)
        for line in lines:
            key = line.partition('=')[0]
            other = {bool: lambda old: not old, int: lambda old: old + 1, float: lambda old: old + 1, str: lambda old: f'{old}x'}
            old = value(x, key)
            new = other[type(old)](old) if type(old) in other else (*old, *(old[-1:] or ('a',)))
            assert line not in choose_deviations({'*': lines}, 'run', override(x, {key: new}))


def test_every_pretraining_recipe_says_what_its_corpus_is() -> None:
    for name in ('bert', 'albert', 'distilbert'):
        for size in RECIPES[name].SIZES:
            said = {line.partition('=')[0] for line in RECIPES[name].DEVIATIONS[size]}
            assert {'data.source', 'data.held_out', 'data.masking.policy'} <= said


def test_the_corpus_is_mixed_by_words() -> None:
    """2,500 M words of Wikipedia and 800 M of BooksCorpus (Devlin et al. 2019, §3.1)."""
    shares = {source.partition(':')[0]: share for share, source in mixture(papers.CORPUS)}
    assert shares == {'tfds': pytest.approx(0.7576, abs=1e-4), 'text': pytest.approx(0.2424, abs=1e-4)}


@pytest.mark.parametrize('size', ['base', 'large'])
def test_bert_reads_short_sequences_for_nine_tenths_of_its_steps(size: str) -> None:
    """Devlin et al. 2019, §A.2: length 128 for 90 % of the steps, 512 for the rest; 256 sequences, a million steps."""
    x = load('bert', size)
    first, last = stages(x.data)
    assert (first.length, first.share, last.length, last.share) == (128, 0.9, 512, pytest.approx(0.1))
    assert (x.run.steps, x.run.batch, x.optimizer.lr, x.optimizer.warmup * x.run.steps) == (1_000_000, 256, 1e-4, 10_000)
    one = override(x, {'data.first_length': 0})
    assert stages(one.data) == (Stage(512, 1.0, x.data.masking),)
    validate(x)
    validate(one)


@pytest.mark.parametrize('size', ['tiny', 'mini', 'small', 'medium'])
def test_a_small_bert_may_have_any_length(size: str) -> None:
    validate(override(load('bert', size), {'data.length': 64}))


def test_albert_predicts_what_its_released_code_does_or_what_bert_does() -> None:
    """max_predictions_per_seq=20 at 512 pieces (flags of google-research/albert); 15 % with predictions=0."""
    for size in set(albert.SIZES) - {'budget'}:
        x = load('albert', size)
        full = np.array(510)
        assert (x.data.length, x.data.masking.policy, x.data.masking.rate) == (512, 'ngram', 0.15)
        assert count_predictions(x.data.masking, full) == 20
        assert count_predictions(override(x, {'data.masking.predictions': 0}).data.masking, full) == 76
        assert (x.run.batch, x.run.steps, x.optimizer.lr) == (4096, 125_000, 1.76e-3)
        assert x.optimizer.warmup * x.run.steps == 3125


# Lan et al. 2020, Table 14: learning rate, batch, dropout, steps, warm-up, length; the dropout of the classifier is always 0.1.
TABLE_14 = """
    cola 1e-5 16 0 5336 320 512 / stsb 2e-5 16 0 3598 214 512 / sst2 1e-5 32 0 20935 1256 512 / mnli 3e-5 128 0 10000 1000 512
    qnli 1e-5 32 0 33112 1986 512 / qqp 5e-5 128 0.1 14000 1000 512 / rte 3e-5 32 0.1 800 200 512 / mrpc 2e-5 32 0 800 200 512
    wnli 2e-5 16 0.1 2000 250 512 / squad 5e-5 48 0 3649 365 384 / squad2 3e-5 48 0 8144 814 512 / race 2e-5 32 0.1 12000 1000 512
"""


def read_settings(x: Experiment) -> tuple[float, ...]:
    assert x.model.dropout == x.model.attention_dropout and x.model.head_dropout == 0.1
    return (x.optimizer.lr, x.run.batch, x.model.dropout, x.run.steps, x.optimizer.warmup, x.data.length)


@pytest.mark.parametrize('family', ['albert', 'albert-code'])
def test_both_recipes_of_albert_are_table_14_and_keep_the_best_on_dev(family: str) -> None:
    """Lan et al. 2020, §4.2.2; the released code's AdamW (optimization.py) and its best checkpoint (run_classifier.py)."""
    rows = [line.split() for line in TABLE_14.replace('\n', ' / ').split(' / ') if line.strip()]
    assert len(rows) == 12
    for task, *numbers in rows:
        x = load('finetune', f'{family}-{task}')
        assert read_settings(x) == tuple(map(float, numbers)), task
        assert (x.data.task, x.data.select, x.run.patience, x.optimizer.name) == (task, 'dev', 0, 'adamw')
        assert x.run.evaluate_every == {'qnli': 200, 'squad': 1000, 'squad2': 1000}.get(task, 100)
        code = family == 'albert-code'
        assert (x.optimizer.bias_correction, x.optimizer.decay_from_start) == (not code, code)


@pytest.mark.parametrize('family', ['albert', 'albert-code'])
def test_race_has_a_recipe_for_version_2(family: str) -> None:
    """README of google-research/albert: a rate of 1e-5 and no dropout; the rest, and every other task, as before."""
    old, new = (load('finetune', f'{family}-race{version}') for version in ('', '-v2'))
    changed = {'name': new.name, 'optimizer.lr': 1e-5, 'model.dropout': 0.0, 'model.attention_dropout': 0.0}
    assert override(old, changed) == new and (old.optimizer.lr, old.model.dropout) == (2e-5, 0.1)


def test_the_recipes_of_bert_select_on_a_part_of_train() -> None:
    for size in finetune.SIZES:
        assert load('finetune', size).data.select == ('dev' if size.startswith('albert') else 'train')


TEACHERS = {
    'bert': Architecture(),
    'an exact GELU': Architecture(activation='gelu'),
    'albert': Architecture(embedding=128, sharing='all', projection=True),
    'distilbert': Architecture(types=0, pooler=False, position_kind='sinusoidal'),
}


@pytest.mark.parametrize('name', TEACHERS)
def test_half_is_a_distilbert_of_any_teacher(name: str) -> None:
    """Sanh et al. 2019, §3: no token types, no pooler, half the layers."""
    x, teacher = load('distilbert', 'half'), TEACHERS[name]
    validate_without_start(dataclasses.replace(x, teacher='runs/teacher'))
    student = inherit(x.surgery, x.model, teacher)
    assert (student.types, student.pooler, student.layers) == (0, False, 6)
    same = {'types': 0, 'pooler': False, 'layers': 6, 'head_dropout': 0.2, 'span_dropout': 0.1}
    assert student == dataclasses.replace(teacher, **same)
    if name == 'bert':
        assert costs.summarize_parameters(student, ())['encoder'] == 66_362_880
    for without, expected in (
        ('', (teacher.types, teacher.pooler)),
        ('types', (0, teacher.pooler)),
        ('pooler', (teacher.types, False)),
    ):
        surgery = override(x, {'surgery.without': without}).surgery
        found = inherit(surgery, x.model, teacher)
        assert (found.types, found.pooler) == expected


def find_losses(study: Any) -> set[tuple[float, float, float, str, str]]:
    """(soft, mlm, cosine, where the two compare) of the runs with a teacher's loss."""
    taught = [x.losses for x in study.runs.values() if x.losses.soft.weight]
    return {(x.soft.weight, x.mlm.weight, x.cosine.weight, x.soft.at, x.cosine.at) for x in taught}


def test_distilbert_matches_its_teacher_at_every_attended_position() -> None:
    """The authors' code: --restrict_ce_to_mask is off by default; weights 5, 2 and 1 (its README)."""
    published = (5.0, 2.0, 1.0, 'attended', 'attended')
    for size in distilbert.SIZES:
        x = load('distilbert', size).losses
        assert (x.soft.weight, x.mlm.weight, x.cosine.weight, x.soft.at, x.cosine.at) == published
    assert find_losses(distillation.get_study('tiny')) == {published}


def test_the_deviations_of_a_study_are_true_of_the_runs_that_they_name() -> None:
    for size in distillation.SIZES:
        runs = distillation.get_study(size).runs
        for glob, lines in distillation.DEVIATIONS[size].items():
            named = fnmatch.filter(runs, glob)
            assert lines and named
            assert all(choose_deviations({glob: lines}, run, runs[run]) == list(lines) for run in named)
