"""Seeds of pretraining: copies of a study, and rows that share none."""

import dataclasses
from pathlib import Path

import pytest

from research.errors import UserError
from research.study import config_files
from research.study.columns import COLUMNS
from research.study.seeds import refuse_unpaired, repeat
from research.study.study import Row, Study, Table


def test_a_copy_is_a_whole_study_of_its_own_seed(study: Study) -> None:
    found = repeat(study, 3)
    assert set(study.runs) < set(found.runs) and len(found.runs) == 3 * len(study.runs)
    assert {name: found.runs[name] for name in study.runs} == dict(study.runs), 'the first copy keeps names and seeds'
    for copy in (1, 2):
        for name, x in study.runs.items():
            again = found.runs[f'{name}-s{copy}']
            assert again.seed == x.seed + copy
            assert found.needs[f'{name}-s{copy}'] == tuple(f'{each}-s{copy}' for each in study.needs[name])
            # Nothing but the seed and the names of siblings differs, so that equal seeds see equal batches.
            plain = dataclasses.replace(again, name=x.name, seed=x.seed, start=x.start, teacher=x.teacher)
            assert dataclasses.replace(plain, data=dataclasses.replace(plain.data, tokenizer=x.data.tokenizer)) == x


def test_cells_and_claims_hold_all_copies_in_one_order(study: Study) -> None:
    found = repeat(study, 2)
    assert found.table.rows[0].runs['pretrain'] == ('teacher', 'teacher-s1')
    assert found.table.rows[0].runs['task'] == ('teacher-task-0', 'teacher-task-1', 'teacher-task-0-s1', 'teacher-task-1-s1')
    assert [names for names, _ in found.claims[0].sides()] == [('student', 'student-s1'), ('scratch', 'scratch-s1')]


@pytest.mark.parametrize('seeds', [(0, 1), (3, 2)])
def test_rows_that_share_no_seed_are_refused(experiment, seeds: tuple[int, int]) -> None:
    runs = {name: experiment(name, seed) for name, seed in zip('ab', seeds, strict=True)}
    rows = tuple(Row(name.upper(), {'pretrain': (name,)}) for name in runs)
    apart = Study('apart', runs, Table('Apart', rows, (COLUMNS['mlm'],)))
    told = rf"study 'apart': rows 'A' \(seed {seeds[0]}\) and 'B' \(seed {seeds[1]}\) share no seed in the role 'pretrain'"
    with pytest.raises(UserError, match=told):
        refuse_unpaired(apart)
    refuse_unpaired(dataclasses.replace(apart, runs={name: dataclasses.replace(x, seed=5) for name, x in runs.items()}))


def test_a_run_has_the_seed_of_what_its_weights_go_back_to(experiment) -> None:
    runs = {'a': experiment('a'), 'more': experiment('more', 1, start='@a'), 'b': experiment('b')}
    rows = (Row('A', {'pretrain': ('more',)}), Row('B', {'pretrain': ('b',)}), Row('ELMo', {}))
    refuse_unpaired(Study('chain', runs, Table('Chain', rows, (COLUMNS['mlm'],))))


def test_a_file_whose_rows_share_no_seed_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'apart.py'
    path.write_text(
        'from research.experiment import Experiment\n'
        'from research.study.columns import COLUMNS\n'
        'from research.study.study import Row, Study, Table\n'
        'def get_study():\n'
        "    runs = {'a': Experiment(name='a'), 'b': Experiment(name='b', seed=1)}\n"
        "    rows = tuple(Row(name, {'pretrain': (name,)}) for name in runs)\n"
        "    return Study('apart', runs, Table('Apart', rows, (COLUMNS['mlm'],)))\n"
    )
    with pytest.raises(UserError, match='share no seed'):
        config_files.load(str(path))
