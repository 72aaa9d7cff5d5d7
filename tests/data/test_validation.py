"""Settings that are impossible, and settings that change nothing."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from research.data.masking import MASKING, Masking
from research.data.settings import Answers, Causal, Data
from research.data.tasks import TASKS
from research.data.validation import unused, validate, validate_machine
from research.errors import UserError
from research.machine import Machine

# An impossible value of every field; with what else it needs to be read. A new field fails until it has one, and a check.
IMPOSSIBLE: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    'data.source': [('', {}), ('jsnl:a', {}), ('text:', {}), ('text:a\0b', {}), ('0.5 docstrings + docstrings', {})],
    'data.field': [('', {'source': 'jsonl:a'}), ('a\tb', {})],
    'data.documents': [('lines', {})],
    'data.folder': [('a\nb', {}), ('a\0', {})],
    'data.cleaners': [(('ascii',), {})],
    'data.deduplicate': [('yes', {})],
    'data.changed': [('refuze', {})],
    'data.tokenizer': [('', {}), ('a\0b', {})],
    'data.lowercase': [(1, {})],
    'data.length': [(7, {}), (65_537, {})],
    'data.pairs': [('nps', {})],
    'data.fill': [('piece', {})],
    'data.pack': [(True, {'pairs': 'sop'}), (True, {'fill': 'documents'}), (True, {'task': 'race'}), ('no', {})],
    'data.first_length': [(4, {}), (128, {}), (-1, {})],
    'data.first_share': [(0.0, {}), (1.0, {}), (math.nan, {})],
    'data.short': [(-0.1, {}), (1.1, {}), (math.nan, {})],
    'data.held_out': [(1.0, {}), (-0.1, {}), (math.nan, {})],
    'data.held_out_masks': [('berts', {})],
    'data.masking.policy': [('span', {})],
    'data.masking.rate': [(0.0, {}), (1.0, {}), (math.nan, {})],
    'data.masking.mask': [(-0.1, {}), (0.95, {}), (math.nan, {})],
    'data.masking.random': [(-0.1, {}), (0.25, {}), (math.nan, {})],
    'data.masking.predictions': [(-1, {})],
    'data.masking.ngram': [(0, {})],
    'data.masking.rate_end': [(0.0, {}), (-0.5, {}), (math.nan, {})],
    'data.masking.mask_end': [(1.5, {}), (0.95, {'masking': Masking(random=0.1)})],
    'data.masking.random_end': [(0.3, {}), (math.nan, {})],
    'data.causal.share': [(1.0, {}), (-0.1, {}), (0.5, {'pairs': 'sop'})],
    'data.causal.until': [(1.5, {}), (-0.1, {})],
    'data.masking.smoothing': [(-1.0, {}), (math.nan, {}), (math.inf, {})],
    'data.task': [('package', {})],
    'data.select': [('tset', {})],
    'data.buckets': [((32, 16), {}), ((16, 16), {}), ((4, 16), {})],
    'data.answers.stride': [(0, {})],
    'data.answers.question': [(0, {})],
    'data.answers.longest': [(0, {})],
    'data.answers.best': [(0, {})],
    'data.answers.starts': [(0, {})],
    'data.answers.ends': [(0, {})],
    'data.answers.threshold': [(math.nan, {}), (math.inf, {})],
    'data.train': [('a\0', {})],
    'data.dev': [('a\x1b', {})],
    'data.test': [('a\r', {})],
    'data.text': [('', {'task': 'custom'}), ('a\nb', {})],
    'data.pair': [('a\nb', {})],
    'data.label': [('', {'task': 'custom'}), ('a\nb', {})],
    'data.score': [('a\nb', {})],
    'data.labels': [(('a', 'b', 'a'), {}), (('a\n',), {}), (('a\ud800',), {})],
    'data.unlabelled': [('ignore', {})],
    'data.dev_share': [(0.0, {}), (1.0, {}), (math.nan, {})],
    'machine.cache': [('', {}), ('a\0', {})],
    'machine.prefetch': [(-1, {})],
    'machine.workers': [(-1, {})],
}


def keys() -> list[str]:
    """The dotted name of every field of the records that this package reads."""
    found = [f'data.{each.name}' for each in fields(Data) if each.name not in ('masking', 'causal', 'answers')]
    found += [f'data.masking.{each.name}' for each in fields(Masking)]
    found += [f'data.causal.{each.name}' for each in fields(Causal)]
    found += [f'data.answers.{each.name}' for each in fields(Answers)]
    return found + [f'machine.{each.name}' for each in fields(Machine)]


def change(data: Data, key: str, value: Any) -> Data:
    """The data with the value of one key, 'data.masking.rate' say, changed."""
    _, *inner, name = key.split('.')
    return replace(data, **({inner[0]: replace(getattr(data, inner[0]), **{name: value})} if inner else {name: value}))


def test_every_field_has_an_impossible_value() -> None:
    assert set(IMPOSSIBLE) == set(keys())


@pytest.mark.parametrize(('key', 'value', 'others'), [(key, *each) for key, cases in IMPOSSIBLE.items() for each in cases])
def test_an_impossible_value_is_refused_by_its_name(key: str, value: Any, others: dict[str, Any]) -> None:
    if not key.startswith('machine.'):
        validate(replace(Data(), **{name: each for name, each in others.items() if name != 'task'}))
    with pytest.raises(UserError, match=rf'\b{key}\b') as caught:
        if key.startswith('machine.'):
            validate_machine(replace(Machine(), **{key.partition('.')[2]: value}))
        else:
            validate(change(replace(Data(), **others), key, value))
    assert '\n' not in str(caught.value) and '\0' not in str(caught.value)


def test_what_is_possible_passes() -> None:
    validate_machine(Machine())
    for policy in MASKING:
        validate(Data(masking=Masking(policy)))
    for task in TASKS:
        validate(Data(task=task, train='a.tsv', label='', score='x'))
    for task in ('sst2', 'stsb', 'squad'):
        validate(Data(task=task, pack=True))
    validate(Data(buckets=(), field='', tokenizer='start', answers=Answers(threshold=-3.0)))


ANSWERS = {f'data.answers.{each.name}' for each in fields(Answers)}
CUSTOM = {f'data.{name}' for name in ('train', 'dev', 'test', 'text', 'pair', 'label', 'score', 'unlabelled')}
TASK = {'data.select', 'data.dev_share', 'data.buckets', 'data.labels'} | ANSWERS | CUSTOM
PRETRAINING = {f'data.masking.{each.name}' for each in fields(Masking)}
PRETRAINING |= {f'data.causal.{each.name}' for each in fields(Causal)}
PRETRAINING |= {f'data.{name}' for name in ('pairs', 'fill', 'short', 'first_length', 'first_share', 'held_out_masks')}
CAUSAL = {'data.causal.until'}
POLICIES = {'data.masking.ngram', 'data.masking.smoothing'}


@pytest.mark.parametrize(
    ('data', 'expected'),
    [
        (Data(), TASK | POLICIES | CAUSAL | {'data.short', 'data.first_share'}),
        (Data(pairs='sop', first_length=64), TASK | POLICIES | CAUSAL),
        (Data(held_out=0, causal=Causal(0.5)), TASK | POLICIES | {'data.short', 'data.first_share', 'data.held_out_masks'}),
        (Data(pairs='sop', first_length=64, masking=Masking('ngram')), TASK | CAUSAL | {'data.masking.smoothing'}),
        (Data(pairs='sop', first_length=64, masking=Masking('frequency')), TASK | CAUSAL | {'data.masking.ngram'}),
        (Data(task='sst2'), PRETRAINING | ANSWERS | CUSTOM),
        (Data(task='custom'), PRETRAINING | ANSWERS),
        (Data(task='custom', score='x'), PRETRAINING | ANSWERS | {'data.label'}),
        (Data(task='race'), PRETRAINING | CUSTOM | ANSWERS - {'data.answers.question'}),
        (Data(task='squad'), PRETRAINING | CUSTOM | {'data.answers.threshold'}),
        (Data(task='squad2'), PRETRAINING | CUSTOM),
    ],
)
def test_keys_that_change_nothing(data: Data, expected: set[str]) -> None:
    found = unused(data)
    assert set(found) == expected and set(found) <= set(keys())
    assert all(reason and '\n' not in reason for reason in found.values())
