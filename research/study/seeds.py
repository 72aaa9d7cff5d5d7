"""Seeds of pretraining: a study repeated with other seeds, and the refusal of one whose rows share none."""

import dataclasses

from research.errors import UserError
from research.experiment import Experiment
from research.study.study import Study
from research.study.units import find_chain


def repeat(study: Study, seeds: int) -> Study:
    """The study with `seeds` copies of each run, whose seeds are the run's own + 0, 1, …; its cells and claims hold all copies.

    A copy starts from, is taught by and has its tokenizer from copies of its own number, so that each seed is a whole study: its
    pretrained models feed its own fine-tunings. In every row, runs of one seed see the same batches with the same masks, where
    their data are the same. The copy with the run's own seed keeps the run's name; the others are NAME-s1, NAME-s2 …
    """
    copies = range(seeds)
    runs = {name_copy(name, copy): copy_run(x, copy) for copy in copies for name, x in study.runs.items()}
    rows = tuple(
        dataclasses.replace(
            row, runs={role: tuple(name_copy(name, copy) for copy in copies for name in names) for role, names in row.runs.items()}
        )
        for row in study.table.rows
    )
    claims = []
    for claim in study.claims:
        left, right = ((tuple(name_copy(name, copy) for copy in copies for name in names), key) for names, key in claim.sides())
        claims.append(dataclasses.replace(claim, left=left, right=right))
    return dataclasses.replace(study, runs=runs, table=dataclasses.replace(study.table, rows=rows), claims=tuple(claims))


def name_copy(name: str, copy: int) -> str:
    """The name of a run's copy, also of one written '@NAME'; another source, such as a folder, has none and stays."""
    return f'{name}-s{copy}' if copy else name


def copy_run(x: Experiment, copy: int) -> Experiment:
    """The copy number `copy` of a run; number 0 is the run itself."""
    start, teacher, tokenizer = (
        name_copy(source, copy) if source.startswith('@') else source for source in (x.start, x.teacher, x.data.tokenizer)
    )
    data = dataclasses.replace(x.data, tokenizer=tokenizer)
    return dataclasses.replace(x, name=name_copy(x.name, copy), seed=x.seed + copy, start=start, teacher=teacher, data=data)


def refuse_unpaired(study: Study) -> None:
    """Raises UserError if two rows of the table share no seed in a role that both have: rows are compared seed by seed.

    A run has the seed of the run that its weights go back to.
    """
    found = {name: study.runs[find_chain(name, study.runs)[-1]].seed for name in study.runs}
    for role in dict.fromkeys(role for row in study.table.rows for role in row.runs):
        holders = [row for row in study.table.rows if role in row.runs and row.runs[role]]
        first, *others = [(row.title, {found[name] for name in row.runs[role]}) for row in holders] or [('', set())]
        for title, seeds in others:
            if not seeds & first[1]:
                listed = [', '.join(map(str, sorted(each))) for each in (first[1], seeds)]
                raise UserError(
                    f"study '{study.name}': rows '{first[0]}' (seed {listed[0]}) and '{title}' (seed {listed[1]}) share no seed "
                    f"in the role '{role}': rows are compared seed by seed; give them a seed in common"
                )
