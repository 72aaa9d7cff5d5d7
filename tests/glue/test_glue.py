"""GLUE's table over seeds and the folder for its server, from run folders alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from research.data.tasks.glue import GLUE
from research.errors import UserError
from research.glue import __main__, submission, table
from research.runs.folder import Baseline, Parameters, Result, Selected, write_result


def finished(
    folder: Path, task: str, seed: int, score: float, lr: float = 5e-5, collapsed: int = 0, chosen: float | None = None
) -> None:
    folder.mkdir(parents=True)
    x = {'name': folder.name, 'seed': seed, 'start': '', 'data': {'task': task}, 'optimizer': {'lr': lr}}
    result = Result(
        name=folder.name,
        steps=1,
        metrics={'dev/score': score, 'dev/accuracy': score} | ({} if chosen is None else {'selection/accuracy': chosen}),
        selected=None if chosen is None else Selected(1, 'selection/accuracy', 'selected on a part of train'),
        parameters=Parameters(1, 1, 1, {}),
        flops_per_token=1.0,
        flops_per_step=1.0,
        checkpoint_bytes=4,
        train_seconds=1.0,
        wall_seconds=1.0,
        tokens_per_second=None,
        peak_memory_bytes=None,
        latency_seconds=None,
        smoothness=None,
        unigram_entropy=None,
        labels=None,
        baseline=Baseline({'score': 0.5}, {'score': 0.49}),
        reported='dev',
        score=score,
        collapsed={'dev': collapsed, 'reported': collapsed},
    )
    (folder / 'experiment.json').write_text(json.dumps(x))
    write_result(folder, result)


def test_the_table_tells_the_spread_and_counts_collapsed_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for seed, score in enumerate((0.6, 0.7, 0.5)):
        finished(tmp_path / f'rte-{seed}', 'rte', seed, score, collapsed=int(score == 0.5))
    finished(tmp_path / 'sst2-0', 'sst2', 0, 0.9)
    __main__.main(['table', str(tmp_path)])
    text = capsys.readouterr().out
    assert '| rte | 5e-05 | 60.0 ± 10.0 | 60.0 | 70.0 | 3 | 1 | 50.0 | 49.0 | the last checkpoint |' in text
    assert '| sst2 | 5e-05 | 90.0 | 90.0 | 90.0 | 1 | 0 | 50.0 | 49.0 |' in text
    assert "the GLUE score of 'distilbert' needs cola dev/score" in text


def test_a_rate_is_chosen_by_what_selects_and_never_by_what_is_reported(tmp_path: Path) -> None:
    finished(tmp_path / 'a', 'rte', 0, 0.9, lr=1e-5, chosen=0.6)
    finished(tmp_path / 'b', 'rte', 0, 0.7, lr=2e-5, chosen=0.8)
    lines = [line for line in table.make_table(tmp_path) if 'chosen' in line]
    assert len(lines) == 1 and '| rte | 2e-05 | 70.0 |' in lines[0]


def test_the_score_of_all_nine(tmp_path: Path) -> None:
    for task in GLUE:
        if task != 'ax':
            finished(tmp_path / task, task, 0, 0.5)
    assert 'GLUE by the convention of distilbert, of medians: 50.0' in table.make_table(tmp_path)


def told(folder: Path, task: str, split: str, predictions: list[Any]) -> Path:
    (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / 'experiment.json').write_text(json.dumps({'data': {'task': task}}))
    lines = [json.dumps({'id': str(10 + i), 'prediction': each}) for i, each in enumerate(predictions)]
    (folder / split / 'predictions.jsonl').write_text('\n'.join(lines) + '\n')
    return folder


def test_a_submission_has_eleven_files_in_the_servers_format(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = [
        told(tmp_path / task, task, 'test', [row.names[1]] * 2 if row.names else [5.2, 3.14159])
        for task, row in GLUE.items()
        if task != 'ax'
    ]
    told(tmp_path / 'mnli', 'mnli', 'test_mismatched', ['contradiction'])
    told(tmp_path / 'mnli', 'mnli', 'ax', ['neutral'])
    __main__.main(['submit', str(tmp_path / 'out'), *map(str, runs)])
    names = ['AX', 'CoLA', 'MNLI-m', 'MNLI-mm', 'MRPC', 'QNLI', 'QQP', 'RTE', 'SST-2', 'STS-B', 'WNLI']
    assert sorted(path.stem for path in (tmp_path / 'out').glob('*.tsv')) == names
    read = {path.stem: path.read_text() for path in (tmp_path / 'out').glob('*.tsv')}
    assert read['CoLA'] == 'index\tprediction\n10\t1\n11\t1\n'
    assert read['STS-B'] == 'index\tprediction\n10\t5.000\n11\t3.142\n'
    assert read['RTE'] == 'index\tprediction\n10\tnot_entailment\n11\tnot_entailment\n'
    assert read['MNLI-mm'] == 'index\tprediction\n10\tcontradiction\n' and read['AX'].endswith('10\tneutral\n')
    assert 'out: 11 files' in capsys.readouterr().out


def test_what_no_run_tells_is_refused_or_filled(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = told(tmp_path / 'wnli', 'wnli', 'test', ['entailment'] * 146)
    with pytest.raises(UserError, match='there are no predictions for CoLA.tsv, .*, AX.tsv: give the runs'):
        __main__.main(['submit', str(tmp_path / 'out'), str(run)])
    assert not (tmp_path / 'out').exists()
    __main__.main(['submit', str(tmp_path / 'out'), str(run), '--fill'])
    assert len((tmp_path / 'out' / 'AX.tsv').read_text().splitlines()) == 1105
    captured = capsys.readouterr()
    assert 'one label throughout in CoLA.tsv' in captured.out and not captured.err


def test_a_file_of_another_size_than_the_server_asks_for_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = told(tmp_path / 'wnli', 'wnli', 'test', ['entailment'] * 145)
    __main__.main(['submit', str(tmp_path / 'out'), str(run), '--fill'])
    assert capsys.readouterr().err == 'warning: WNLI.tsv has 145 predictions, but the server asks for 146\n'


def test_entry_runs_the_command_line_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(tmp_path / 'rte', 'rte', 0, 0.6)
    for folder, status in ((tmp_path, 0), (tmp_path / 'nowhere', 2)):
        monkeypatch.setattr('sys.argv', ['research-glue', 'table', str(folder)])
        assert __main__.entry() == status


def test_runs_that_cannot_be_submitted(tmp_path: Path) -> None:
    one, two = (told(tmp_path / name, 'rte', 'test', ['entailment']) for name in 'ab')
    with pytest.raises(UserError, match='are both runs of rte: give one'):
        submission.make_submission([one, two], fill=True)
    with pytest.raises(UserError, match="is a run of 'squad', which is no task of GLUE"):
        submission.make_submission([told(tmp_path / 'c', 'squad', 'dev', [])], fill=True)
    with pytest.raises(UserError, match='nowhere is no run folder: it has no experiment.json'):
        submission.make_submission([tmp_path / 'nowhere'], fill=True)
    with pytest.raises(UserError, match='holds no finished runs of tasks'):
        table.make_table(tmp_path / 'nowhere')
    (one / 'experiment.json').write_text('{')
    with pytest.raises(UserError, match='experiment.json is not JSON'):
        submission.make_submission([one], fill=True)


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{"id": "1"', "predictions.jsonl' line 1 is not JSON"),
        ('[' * 10**5, "predictions.jsonl' line 1 is not JSON that can be read"),
        ('{"prediction": "entailment"}', "predictions.jsonl' line 1 has no id"),
        ('{"id": "1"}', "predictions.jsonl' line 1 has no prediction"),
        ('{"id": "1", "prediction": "perhaps"}', "no label of rte in '.*' line 1 named 'perhaps'"),
        ('{"id": "1", "prediction": null}', "no label of rte in '.*' line 1 named 'None'"),
        ('{"id": null, "prediction": "entailment"}', 'line 1: an id must be a text or a whole number, not None'),
        ('{"id": "1\\n2", "prediction": "entailment"}', 'holds a tab or a newline'),
    ],
)
def test_predictions_that_are_damaged(tmp_path: Path, line: str, message: str) -> None:
    run = told(tmp_path / 'a', 'rte', 'test', [])
    (run / 'test' / 'predictions.jsonl').write_text(line + '\n')
    with pytest.raises(UserError, match=message):
        submission.make_submission([run], fill=True)


@pytest.mark.parametrize('prediction', ['much', None, [1], True])
def test_a_score_that_is_no_number_is_not_submitted(tmp_path: Path, prediction: Any) -> None:
    with pytest.raises(UserError, match="line 1: column 'prediction' holds .*, which is no number"):
        submission.make_submission([told(tmp_path / 'a', 'stsb', 'test', [prediction])], fill=True)


@pytest.mark.parametrize('change', [{'baseline': None}, {'baseline': {'majority': {}, 'random': {}}}, {'collapsed': {}}])
def test_a_result_of_another_version_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    finished(tmp_path / 'rte', 'rte', 0, 0.6)
    path = tmp_path / 'rte' / 'result.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r'rte/result.json is of another version of this code, or damaged'):
        table.make_table(tmp_path)
