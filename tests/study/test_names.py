"""Names of studies and runs, which become folders and lines of a batch script."""

import dataclasses

import pytest

from research.errors import UserError
from research.study.execution.settings import Cluster, Execution, validate_execution
from research.study.study import Study, Table

BAD = ('', ' a', 'a ', '.a', 'a/b', 'a\\b', 'a\nb', 'a\x7f', 'a\u2028b', 'a\u202eb', 'a\ud800', 'a\x1b[31m', 'a' * 201)


@pytest.mark.parametrize('name', BAD)
def test_a_study_has_the_name_of_a_folder_and_so_has_a_run(name: str, study: Study) -> None:
    with pytest.raises(UserError, match='name of the study=.* must be the name of a folder: not empty'):
        Study(name, {}, Table('', (), ()))
    with pytest.raises(UserError, match='a run cannot be named'):
        Study('good', {name: study.runs['teacher']}, Table('', (), ()))


@pytest.mark.parametrize('name', ['figures', 'study.json', '=a', '@a', '-a'])
def test_a_run_is_not_called_as_a_file_of_the_study(name: str, study: Study) -> None:
    with pytest.raises(UserError, match=f"a run cannot be named '{name}', which would be its folder's name: begin with a letter"):
        Study('good', {name: study.runs['teacher']}, Table('', (), ()))


def test_names_of_before_are_names() -> None:
    for name in ('albert_sharing-small', 'x-sweep', 'Größe (1) [a] + b', 'a' * 200):
        assert Study(name, {}, Table('', (), ())).name == name


TEXTS = [field.name for field in dataclasses.fields(Cluster) if field.type in ('str', str) and field.name != 'time']


@pytest.mark.parametrize('field', TEXTS)
@pytest.mark.parametrize('text', ['a\n#SBATCH --wrap=x', 'a\rb', 'a\x00', 'a\u2028'])
def test_a_value_for_slurm_is_one_line(field: str, text: str) -> None:
    with pytest.raises(UserError, match=f'--{field}=.*: control characters and line breaks have no place in an option of sbatch'):
        validate_execution(Execution(cluster=dataclasses.replace(Cluster(), **{field: text})))
    with pytest.raises(UserError, match='--sbatch=.*: control characters and line breaks have no place'):
        validate_execution(Execution(cluster=Cluster(extra=(f'comment={text}',))))


@pytest.mark.parametrize('extra', ['a b=c', '=c', '-x', 'a\\=b', ''])
def test_another_option_of_sbatch_has_a_name(extra: str) -> None:
    with pytest.raises(UserError, match="--sbatch=.*: give 'option=value', such as --sbatch=mail-type=END"):
        validate_execution(Execution(cluster=Cluster(extra=(extra,))))
    validate_execution(Execution(cluster=Cluster(extra=('export=ALL,A=b c', 'exclusive', 'mail-type=END'))))
