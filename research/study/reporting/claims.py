"""Whether a study's numbers support its claims: one test of each, corrected for how many there are."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from research.evaluation import statistics
from research.evaluation.statistics import Comparison
from research.study.columns import FORMATS, Format
from research.study.reporting.cells import Cell, Evidence, read_cell
from research.study.reporting.items import make_runs, pair_items, read_items
from research.study.reporting.marks import quote
from research.study.reporting.numbers import format_cell, show_number
from research.study.study import Claim, Study
from research.study.units import KINDS, find_unit, is_constant, share_seeds

EXACT = ('parameters:', 'flops_per_token', 'flops_per_step', 'checkpoint_bytes')  # keys of numbers that follow from the definition


@dataclasses.dataclass(frozen=True)
class Tested:
    """The result of one claim: a verdict, if it needs no test, or a p that is not corrected yet."""

    verdict: str = ''  # '' until p is corrected
    why: str = ''
    p: float = 1.0  # two-sided
    difference: float = 0.0  # left minus right; of McNemar's test its sign
    outcome: str = ''  # what 'not decided' names
    exact: bool = False  # of counts that chance does not change: not in Holm's family


def name_runs(names: tuple[str, ...], study: Study) -> str:
    """The name of some runs in a claim: the title of the row that has exactly these in one role, else their own names."""
    for row in study.table.rows:
        if names in row.runs.values():
            return row.title
    return ', '.join(names)


def judge_all(study: Study, evidence: Mapping[str, Evidence]) -> list[str]:
    """A line for each claim, in order: its verdict, the sentence, both numbers, and how they were compared.

    'supported' or 'refuted': p is below 0.05 after Holm's correction over all claims of the study except those of exact counts, and
    the difference has the claim's sign or the opposite one. 'not decided': p is not below 0.05. 'not tested': fewer than two seeds,
    or a missing number; such a claim counts in the correction, because all claims are named beforehand.
    """
    tested = [compare_sides(claim, study, evidence) for claim in study.claims]
    family = [place for place, each in enumerate(tested) if not each.exact]
    adjusted = dict(zip(family, statistics.holm([tested[place].p for place in family]), strict=True))
    lines = []
    for place, (claim, each) in enumerate(zip(study.claims, tested, strict=True)):
        verdict, why = each.verdict, each.why
        if not verdict:
            p = adjusted[place]
            why += f', p = {each.p:.2g}' + (f', {p:.2g} after Holm over {len(family)} claims' if len(family) > 1 else '')
            verdict = 'not decided' if p >= statistics.SIGNIFICANCE else 'supported' if each.difference < 0 else 'refuted'
            verdict += f' ({each.outcome})' if verdict == 'not decided' else ''
        lines.append(write_claim(claim, study, evidence, verdict, why))
    return lines


def write_claim(claim: Claim, study: Study, evidence: Mapping[str, Evidence], verdict: str, why: str) -> str:
    """The line of a claim."""
    cells, form = read_sides(claim, study, evidence)
    texts = [' '.join(''.join(format_cell(cell, each)).split()) for cell, each in zip(cells, form, strict=True)]
    subjects = [quote(name_runs(names, study)) for names, _ in claim.sides()]
    text = claim.text.replace('{a}', subjects[0]).replace('{b}', subjects[1])
    missing = {name: reason for cell in cells for name, reason in cell.missing.items()}
    asides = [why] if why else []
    asides += [
        quote(f'so far: {name} has no number ({reason})') for name, reason in missing.items() if all(c.values for c in cells)
    ]
    asides += [f'mixed {what}' for what in dict.fromkeys(what for cell in cells for what in cell.mixed)]
    return f'**{verdict}** — {text}: {texts[0]} against {texts[1]}' + (f' ({"; ".join(asides)})' if asides else '')


def read_sides(claim: Claim, study: Study, evidence: Mapping[str, Evidence]) -> tuple[list[Cell], list[Format]]:
    """(the cells of both sides, how each is written)."""
    formats = {column.key: FORMATS[column.format] for column in study.table.columns}
    sides = claim.sides()
    forms = [formats[key] if key in formats else FORMATS['plain'] for _, key in sides]
    return [read_cell(study, names, key, evidence) for names, key in sides], forms


def compare_sides(claim: Claim, study: Study, evidence: Mapping[str, Evidence]) -> Tested:
    """What the numbers of a claim give."""
    cells, forms = read_sides(claim, study, evidence)
    missing = {name: why for cell in cells for name, why in cell.missing.items()}
    if not all(cell.values for cell in cells):
        return Tested('not tested', '; '.join(quote(f'{name} has no number ({why})') for name, why in missing.items()))
    finished = [tuple(name for name in names if name not in missing) for names, _ in claim.sides()]
    counted = [pair for names, cell in zip(finished, cells, strict=True) for pair in zip(names, cell.values, strict=True)]
    broken = [quote(name) for name, value in counted if not math.isfinite(value)]
    if broken:
        return Tested('not tested', f'{", ".join(broken)} is not finite')
    exact = all(key.startswith(EXACT) and len(set(cell.values)) == 1 for (_, key), cell in zip(claim.sides(), cells, strict=True))
    if exact:
        return Tested('supported' if cells[0].center < cells[1].center else 'refuted', 'exact counts', exact=True)
    seeds = share_seeds(finished, study.runs)
    kinds = dict.fromkeys(find_unit(name, study.runs).kind for names in finished for name in names)
    words = ' and '.join(KINDS[kind] for kind in kinds)
    if claim.test == 'mcnemar':
        return apply_mcnemar(claim, study, evidence, finished, seeds, words)
    if len(seeds) < 2:
        alone = ' of one pretraining' if any(len(cell.values) > 1 for cell in cells) and 'pretraining' in kinds else ''
        within = compare_documents(claim, study, evidence, finished, seeds, forms[0])
        return Tested('not tested', f'one seed{alone}: nothing tells the difference from chance{within}')
    return apply_bootstrap(claim, study, evidence, finished, seeds, words, forms[0])


def place_seeds(names: Sequence[str], study: Study, seeds: Sequence[int]) -> list[tuple[str, int]]:
    """(run, seed) of the runs of a side with one of `seeds`; a run that trains nothing has all."""
    if is_constant(names, study.runs):
        return [(names[0], seed) for seed in seeds]
    return [(name, unit.seed) for name in names if (unit := find_unit(name, study.runs)).seed in seeds]


def apply_bootstrap(
    claim: Claim,
    study: Study,
    evidence: Mapping[str, Evidence],
    finished: Sequence[tuple[str, ...]],
    seeds: Sequence[int],
    words: str,
    form: Format,
) -> Tested:
    """The paired multi-bootstrap, over seeds alone where the runs left nothing that can be paired."""
    found, items = resample(claim, study, evidence, finished, seeds)
    over = f'{found.seeds} {words}' + (f' × {found.documents:,} {items}' if found.documents else '')
    interval = spell_interval(found, form)
    return Tested('', f'difference {interval}, paired over {over}', found.p, found.difference, f'n={found.seeds}, {interval}')


def compare_documents(
    claim: Claim,
    study: Study,
    evidence: Mapping[str, Evidence],
    finished: Sequence[tuple[str, ...]],
    seeds: Sequence[int],
    form: Format,
) -> str:
    """The difference of one seed's models and its interval over documents or examples alone; '' if these cannot be paired."""
    if not seeds:
        return ''
    found, items = resample(claim, study, evidence, finished, seeds)
    over = f'over {found.documents:,} {items} is of these models alone'
    return f'; difference {spell_interval(found, form)} {over}' if found.documents else ''


def resample(
    claim: Claim, study: Study, evidence: Mapping[str, Evidence], finished: Sequence[tuple[str, ...]], seeds: Sequence[int]
) -> tuple[Comparison, str]:
    """(the multi-bootstrap of both sides at `seeds`, what it resamples besides: 'examples' or 'documents')."""
    sides = [place_seeds(names, study, seeds) for names in finished]
    keys = [key for _, key in claim.sides()]
    items = pair_items([[read_items(evidence[name], key) for name, _ in side] for side, key in zip(sides, keys, strict=True)])
    rows = []
    for place, (side, key) in enumerate(zip(sides, keys, strict=True)):
        own = [seed for _, seed in side]
        if items is not None:
            rows.append(make_runs(items[place], own))
        else:
            values = [read_cell(study, (name,), key, evidence).values[0] for name, _ in side]
            rows.append(statistics.make_number_runs(values, [seeds.index(seed) for seed in own]))
    supervised = any(study.runs[name].data.task for side in sides for name, _ in side)
    return statistics.multi_bootstrap(*rows), 'examples' if supervised else 'documents'


def spell_interval(found: Comparison, form: Format) -> str:
    """'−0.091 [−0.152, −0.020]'."""
    numbers = [show_number(each, form).replace('-', '−') for each in (found.difference, found.low, found.high)]
    return f'{numbers[0]} [{numbers[1]}, {numbers[2]}]'


def apply_mcnemar(
    claim: Claim,
    study: Study,
    evidence: Mapping[str, Evidence],
    finished: Sequence[tuple[str, ...]],
    seeds: Sequence[int],
    words: str,
) -> Tested:
    """McNemar's exact test of each seed's first runs, whose p-values are combined: twice their median.

    It says whether these models differ on examples such as these; one seed's models are no evidence on how they were trained.
    """
    sides = [dict(reversed([(seed, name) for name, seed in place_seeds(names, study, seeds)])) for names in finished]
    found, wins = [], np.zeros(2, int)
    for seed in seeds:
        runs = [(evidence[side[seed]], key) for side, (_, key) in zip(sides, claim.sides(), strict=True)]
        items = pair_items([[read_items(run, key)] for run, key in runs])
        if items is None:
            return Tested('not tested', 'the runs left no predictions of the same examples')
        left, right = (each[0].sums[:, 0] > 0 for each in items)
        *counts, p = statistics.mcnemar(left, right)
        wins += counts
        found.append((*counts, p))
    counts = f'{wins[0]:,} examples are right on the first side alone and {wins[1]:,} on the second alone'
    if len(seeds) < 2:
        return Tested('not tested', f"one seed: {counts}; McNemar's exact p = {found[0][2]:.2g} is of these two models alone")
    p, first = statistics.combine([each[:2] for each in found])
    why = f"McNemar's exact test of each of {len(seeds)} {words}: {counts} in all; twice the median p"
    return Tested('', why, p, 1.0 if first else -1.0, f'n={len(seeds)}, {wins[0]:,} against {wins[1]:,} examples')
