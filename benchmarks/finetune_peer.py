"""The same fine-tuning in PyTorch transformers: what configs/finetune.py is compared with (benchmarks/RESULTS.md).

    .venv-parity/bin/python benchmarks/finetune_peer.py --task=sst2 --start=HF_FOLDER --folder=…/glue --seeds=0,1,2 --steps=800

Same data, loss, optimizer (AdamW without decay of biases and LayerNorm, ε 1e-6, gradients clipped at 1), schedule, dropout and
batches of like length; the order of the data and every random number are its own.
"""

import argparse
import importlib
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from research.data import tasks
from research.data.settings import Data
from research.evaluation import metrics
from research.machine import Machine

torch: Any = importlib.import_module('torch')  # only in the environment of its own
transformers: Any = importlib.import_module('transformers')

POOL = 64  # batches whose examples are sorted by length together


def pools(lengths: list[int], batch: int, draw: random.Random) -> list[list[int]]:
    """One epoch of batches of like length."""
    order = list(range(len(lengths)))
    draw.shuffle(order)
    found = []
    for begin in range(0, len(order), POOL * batch):
        part = sorted(order[begin : begin + POOL * batch], key=lambda i: lengths[i])
        batches = [part[at : at + batch] for at in range(0, len(part), batch)]
        draw.shuffle(batches)
        found += batches
    return found


def finetune(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One run: what dev scores after the last step."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    data = Data(task=given.task, folder=given.folder)
    row, names, splits = tasks.task(data), tasks.classes(data), tasks.examples(data, Machine.cache)
    tokenizer = transformers.AutoTokenizer.from_pretrained(given.start)
    model = transformers.BertForSequenceClassification.from_pretrained(
        given.start, num_labels=len(names), problem_type='regression' if row.kind == 'score' else 'single_label_classification'
    )
    cut: dict[str, list[tuple[list[int], list[int]]]] = {}
    for split in ('train', 'dev'):
        texts = [x.text for x in splits[split]]
        pairs = [x.pair for x in splits[split]] if splits[split][0].pair else None
        encoded: Any = tokenizer(texts, pairs, truncation='longest_first', max_length=given.length)
        cut[split] = list(zip(encoded['input_ids'], encoded['token_type_ids'], strict=True))

    def gold(split: str) -> np.ndarray:
        members = splits[split]
        if row.kind == 'score':
            return np.array([x.score for x in members], np.float32)
        return np.array([names.index(x.label) for x in members])

    def batch_of(split: str, rows: list[int]) -> dict[str, Any]:
        length = max(len(cut[split][i][0]) for i in rows)
        padded = torch.zeros(3, len(rows), length, dtype=torch.long)
        for place, i in enumerate(rows):
            ids, types = cut[split][i]
            padded[0, place, : len(ids)] = torch.tensor(ids)
            padded[1, place, : len(ids)] = torch.tensor(types)
            padded[2, place, : len(ids)] = 1
        return dict(zip(('input_ids', 'token_type_ids', 'attention_mask'), padded, strict=True))

    plain = [p for name, p in model.named_parameters() if name.endswith('bias') or 'LayerNorm' in name]
    others = [p for name, p in model.named_parameters() if not (name.endswith('bias') or 'LayerNorm' in name)]
    groups = [{'params': others, 'weight_decay': 0.01}, {'params': plain, 'weight_decay': 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=given.lr, eps=1e-6)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, round(0.1 * given.steps), given.steps)
    targets = {split: gold(split) for split in cut}
    begin, step = time.monotonic(), 0
    model.train()
    while step < given.steps:
        for rows in pools([len(each[0]) for each in cut['train']], given.batch, draw):
            if step == given.steps:
                break
            loss = model(**batch_of('train', rows), labels=torch.tensor(targets['train'][rows])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
    model.eval()
    told = np.zeros((len(cut['dev']), len(names)), np.float32)
    order = sorted(range(len(cut['dev'])), key=lambda i: len(cut['dev'][i][0]))
    with torch.no_grad():
        for at in range(0, len(order), 32):
            rows = order[at : at + 32]
            told[rows] = model(**batch_of('dev', rows)).logits.numpy()
    answers = told[:, 0] if row.kind == 'score' else told.argmax(1)
    found = metrics.measure(row.metrics, targets['dev'], answers)
    return {'task': given.task, 'seed': seed, 'steps': step, 'seconds': round(time.monotonic() - begin, 1), **found}


def main() -> None:
    """Prints a JSON line for each seed and one for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--task', required=True)
    parser.add_argument('--start', required=True)
    parser.add_argument('--folder', required=True)
    parser.add_argument('--seeds', default='0,1,2')
    parser.add_argument('--steps', type=int, required=True)
    parser.add_argument('--lr', type=float, default=5e-5)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--length', type=int, default=128)
    parser.add_argument('--threads', type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    runs = []
    for seed in given.seeds.split(','):
        runs.append(finetune(given, int(seed)))
        print(json.dumps(runs[-1]), flush=True)
    scores = [run['score'] for run in runs]
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    print(json.dumps({'task': given.task, 'n': len(scores), 'mean': statistics.fmean(scores), 'sd': spread}))


if __name__ == '__main__':
    main()
