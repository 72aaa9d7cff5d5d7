"""Studies of papers' tables beside what the papers define: which split, metric, loss, mixture and row."""

import dataclasses
import math

import pytest

from configs import bert
from experiments import (
    albert_depth,
    albert_embedding_size,
    albert_sentence_loss,
    albert_sharing,
    albert_speed,
    albert_time,
    bert_masks,
    bert_size,
    compare,
    distilbert_ablation,
    distilbert_glue,
    distilbert_timing,
    masking,
)
from experiments.budgets import count_step_flops, count_training_flops
from experiments.papers import CORPUS, SEEDS, scale_down
from research import costs
from research.data.mixture import mixture
from research.study.reporting.published import count_pieces, find_differences
from research.study.study import Study
from research.study.units import find_unit

TABLES = (
    *(albert_depth, albert_embedding_size, albert_sentence_loss, albert_speed, albert_time),
    *(bert_masks, bert_size, compare, distilbert_ablation, distilbert_glue, distilbert_timing),
)


def read_column(study: Study, title: str):
    return next(column for column in study.table.columns if column.title == title)


def test_the_corpus_has_the_shares_of_its_words() -> None:
    assert [share for share, _ in mixture(CORPUS)] == pytest.approx([2500 / 3300, 800 / 3300], abs=0.005)


def test_table_4_of_distilbert_names_what_remains() -> None:
    study = distilbert_ablation.get_study('paper')
    whole = study.runs['distilbert'].losses
    assert (whole.soft.weight, whole.cosine.weight, whole.mlm.weight) == (5.0, 1.0, 2.0)
    remains = {'no-soft': (0, 1, 2), 'no-cosine': (5, 0, 2), 'no-mlm': (5, 1, 0), 'random': (5, 1, 2)}
    changes = {'no-soft': -2.96, 'no-cosine': -1.46, 'no-mlm': -0.31, 'random': -3.69}
    for row in study.table.rows[2:6]:
        name = row.runs['pretrain'][0]
        losses = study.runs[name].losses
        assert (losses.soft.weight, losses.cosine.weight, losses.mlm.weight) == remains[name]
        assert row.published == {'Change': changes[name]}
        assert study.runs[name].start == ('' if name == 'random' else 'teacher')
    change = read_column(study, 'Change')
    assert change.relative == 'all three losses' and change.change and set(change.of) == set(read_column(study, 'Avg').of)


def test_the_ablation_of_the_recipe_leaves_out_one_loss_a_row() -> None:
    from configs import distilbert

    assert list(distilbert.sweep_losses()) == [
        {},
        {'losses.soft.weight': 0.0},
        {'losses.cosine.weight': 0.0},
        {'losses.mlm.weight': 0.0},
        {'start': ''},
    ]


def test_race_beside_alberts_tables_is_dev_and_mrpc_and_qqp_are_the_mean_of_both_metrics() -> None:
    assert read_column(albert_time.get_study('paper'), 'RACE').key == 'metrics:dev/accuracy'
    study = distilbert_glue.get_study('paper')
    assert read_column(study, 'MRPC').key == read_column(study, 'QQP').key == 'score'
    assert 'inferred' in read_column(study, 'QQP').note
    sizes = bert_size.get_study('paper')
    assert read_column(sizes, 'MRPC').key == read_column(sizes, 'MNLI').key == 'metrics:dev/accuracy'
    assert sizes.table.rows[0].published['MLM loss (nats)'] == pytest.approx(math.log(5.84))


@pytest.mark.parametrize('module', TABLES, ids=lambda module: module.__name__.split('.')[-1])
def test_at_paper_rows_have_the_shape_that_their_numbers_are_of(module) -> None:
    study = module.get_study('paper')
    for row in study.table.rows:
        for column in study.table.columns if row.published and row.runs else ():
            if column.title in row.published:
                assert 'size' not in find_differences(study, row, column), (row.title, column.title)
    small = module.get_study('small')
    assert all(
        find_differences(small, row, column)
        for row in small.table.rows
        for column in small.table.columns
        if column.title in row.published and column.role in row.runs
    )


@pytest.mark.parametrize('module', (*TABLES, masking), ids=lambda module: module.__name__.split('.')[-1])
def test_the_seeds_of_rows_are_those_of_pretraining_and_see_the_same_batches(module) -> None:
    study = module.get_study('small')
    for row in study.table.rows:
        for names in row.runs.values():
            assert [find_unit(name, study.runs).seed for name in names] == list(range(SEEDS['small'])), row.title
    lengths = {(x.seed, x.data.length, x.run.batch) for x in study.runs.values() if not x.data.task and x.run.steps}
    assert len(lengths) == (0 if module is distilbert_timing else SEEDS['small'])  # which pretrains nothing


def test_the_controls_of_sentence_losses_read_their_rows_segments() -> None:
    runs = albert_sentence_loss.get_study('small').runs
    for control, row in (('none', 'sop'), ('nsp-off', 'nsp')):
        assert runs[control].data == runs[row].data and runs[control].data.pairs == row
        assert not (runs[control].losses.nsp.weight or runs[control].losses.sop.weight)
        assert runs[control].seed == runs[row].seed and runs[control].run == runs[row].run
    head, probe = runs['none-sop-head'], runs['none-sop-probe']
    assert not head.run.steps and not head.surgery.drop and head.start == '@none' and not head.run.evaluate_batches
    assert probe.run.steps == runs['none'].run.steps // 10 and probe.surgery.drop == ('pair', 'encoder/pooler')
    study = albert_sentence_loss.get_study('paper')
    assert all(column.role == 'sop-head' for column in study.table.columns if column.title == 'SOP accuracy (%)')
    assert not any('probe' in title for row in study.table.rows for title in row.published)


def test_the_control_of_the_largest_embedding_has_a_projection() -> None:
    runs = albert_embedding_size.get_study('paper').runs
    assert runs['all-projected'].model.projection and runs['all-projected'].model.embedding == 768
    assert costs.count_parameters(runs['all-projected'].model)['projection'] == 590_592
    assert costs.count_parameters(runs['all-E768'].model)['projection'] == 0


def test_the_control_of_depth_takes_the_steps_of_the_chain() -> None:
    runs = albert_depth.get_study('small').runs
    chain = [name for name in runs if name.startswith('L') and '-' not in name]
    assert runs['control'].run.steps == sum(runs[name].run.steps for name in chain) and not runs['control'].start
    assert runs['control'].model == runs['L1'].model


def test_equal_time_is_equal_flops_before_training() -> None:
    runs = albert_time.make_models('small')
    costs_of = [count_step_flops(x, {}) * x.run.steps for x in runs.values()]
    assert costs_of[0] == pytest.approx(costs_of[1], rel=0.01)
    assert [x.run.steps for x in albert_time.make_models('paper').values()] == [400_000, 125_000]


@pytest.mark.parametrize('scale', ['small', 'paper'])
def test_each_budget_of_compare_is_equal_in_what_it_names(scale: str) -> None:
    flops = compare.spend_flops(scale)
    spent = [count_training_flops(key, flops) for key in compare.GOALS]
    assert max(spent) <= 1.01 * min(spent)
    assert count_training_flops('distilbert', flops) > 1.9 * count_training_flops('teacher', flops)
    sizes = [compare.count_parameters(compare.spend_parameters(scale)[key].model) for key in compare.GOALS]
    assert max(sizes) <= 1.005 * min(sizes)
    models = compare.spend_latency(scale)
    passes = [costs.count_forward_flops(models[key].model, models['bert'].data.length) for key in compare.GOALS]
    assert max(passes) <= 1.02 * min(passes)


def test_the_floor_is_the_first_architecture_from_random_weights() -> None:
    study = compare.get_study('small')
    x = study.runs['floor-sst2-s1']
    assert (x.start, x.seed, x.data.tokenizer) == ('', 1, '@bert-s1')
    for field in ('layers', 'width', 'heads', 'vocabulary', 'deviation'):
        assert vars(x.model)[field] == vars(study.runs['bert'].model)[field]
    assert find_unit('floor-sst2-s1', study.runs).kind == 'random'


def test_the_rows_of_masks_have_the_shares_that_their_titles_say() -> None:
    study = bert_masks.get_study('paper')
    for row in study.table.rows[:-1]:
        masks = study.runs[row.runs['pretrain'][0]].data.masking
        kept = 1 - masks.mask - masks.random
        assert row.title == f'{masks.mask:.0%} [MASK], {abs(kept):.0%} same, {masks.random:.0%} random'.replace('%', ' %')
    assert [row.published['MNLI'] for row in study.table.rows[:-1]] == [84.2, 84.3, 84.1, 84.4, 83.7, 83.6]


def test_the_timed_shapes_are_the_published_ones() -> None:
    runs = distilbert_timing.get_study('paper').runs
    counts = [costs.summarize_parameters(runs[name].model)['encoder'] for name in ('bert', 'distilbert')]
    assert counts == [109_482_240, 66_362_880]
    assert all(x.run.time_pass and x.data.task == 'stsb' for x in runs.values())


def test_small_pretraining_is_the_budget_recipe_on_eight_million_pieces() -> None:
    """Issue 15, section 4.1: sharing none, attention, ffn and all, three seeds, 8 M pieces or more each, width 128, two tasks."""
    study, recipe = albert_sharing.get_study('small'), bert.budget()
    pretrained = [x for x in study.runs.values() if not x.data.task]
    assert sorted((x.model.sharing, x.seed) for x in pretrained) == [
        (sharing, seed) for sharing in ('all', 'attention', 'ffn', 'none') for seed in range(3)
    ]
    for x in pretrained:
        assert count_pieces(x) >= 8e6 and (x.model.width, x.optimizer, x.data.causal) == (128, recipe.optimizer, recipe.data.causal)
        assert x.data.masking == dataclasses.replace(recipe.data.masking, policy='ngram')
        assert x.data.pairs == 'none' and not x.losses.sop.weight
    assert {x.data.task for x in study.runs.values()} - {''} == {'sst2', 'packages'}


def test_causal_batches_come_first_where_rows_are_single_segments_and_weights_random() -> None:
    pairs = albert_sentence_loss.get_study('small').runs['sop']
    assert pairs.data.pairs == 'sop' and pairs.losses.sop.weight and not pairs.data.causal.share
    assert pairs.optimizer.name == 'muon' and (pairs.data.masking.rate, pairs.data.masking.rate_end) == (0.3, 0.15)
    runs = distilbert_glue.get_study('small').runs
    assert [bool(runs[name].data.causal.share) for name in ('bert', 'distilbert', 'alone')] == [True, False, True]
    published = distilbert_glue.get_study('paper').runs
    assert not any(x.data.causal.share for x in published.values()) and published['bert'].data.pairs == 'nsp'
    assert scale_down(published['bert'], 'tiny').optimizer.name == 'muon'
