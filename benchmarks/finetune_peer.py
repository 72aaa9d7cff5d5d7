"""The same fine-tuning in PyTorch transformers, for comparison with configs/finetune.py (benchmarks/RESULTS.md).

    .venv-parity/bin/python benchmarks/finetune_peer.py --task=sst2 --start=HF_FOLDER --folder=…/glue --seeds=0,1,2 --steps=800

It has the same data, loss, optimizer (AdamW without decay of biases and LayerNorm, ε 1e-6, gradients clipped at 1), schedule,
dropout and batches of similar length, but another order of the data and other random numbers.
"""

import argparse
import dataclasses
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
from research.data.tasks.example import Example
from research.evaluation import metrics
from research.machine import Machine

torch: Any = importlib.import_module('torch')  # installed only in .venv-parity
transformers: Any = importlib.import_module('transformers')

POOL = 64  # batches whose examples are sorted by length together


def draw_batches(lengths: list[int], batch: int, draw: random.Random) -> list[list[int]]:
    """The batches of one epoch, as lists of example numbers; each batch has examples of similar length."""
    order = list(range(len(lengths)))
    draw.shuffle(order)
    found = []
    for begin in range(0, len(order), POOL * batch):
        part = sorted(order[begin : begin + POOL * batch], key=lambda i: lengths[i])
        batches = [part[at : at + batch] for at in range(0, len(part), batch)]
        draw.shuffle(batches)
        found += batches
    return found


@dataclasses.dataclass(frozen=True)
class Split:
    """A split as pieces: (ids, types) of each example, and the gold labels (numbers) or scores."""

    encoded: list[tuple[list[int], list[int]]]
    gold: np.ndarray

    def lengths(self) -> list[int]:
        """The number of pieces of each example."""
        return [len(ids) for ids, _ in self.encoded]

    def make_batch(self, rows: list[int]) -> dict[str, Any]:
        """The model's inputs for some examples, padded to the longest of them."""
        length = max(len(self.encoded[i][0]) for i in rows)
        padded = torch.zeros(3, len(rows), length, dtype=torch.long)
        for place, i in enumerate(rows):
            ids, types = self.encoded[i]
            padded[0, place, : len(ids)] = torch.tensor(ids)
            padded[1, place, : len(ids)] = torch.tensor(types)
            padded[2, place, : len(ids)] = 1
        return dict(zip(('input_ids', 'token_type_ids', 'attention_mask'), padded, strict=True))


def encode(members: list[Example], names: tuple[str, ...], is_score: bool, tokenizer: Any, length: int) -> Split:
    """The examples of a split as pieces, cut to `length`."""
    texts = [x.text for x in members]
    pairs = [x.pair for x in members] if members[0].pair else None
    found: Any = tokenizer(texts, pairs, truncation='longest_first', max_length=length)
    encoded = list(zip(found['input_ids'], found['token_type_ids'], strict=True))
    if is_score:
        return Split(encoded, np.array([x.score for x in members], np.float32))
    return Split(encoded, np.array([names.index(x.label) for x in members]))


def train(model: Any, split: Split, given: argparse.Namespace, draw: random.Random) -> int:
    """Trains the model on a split. Returns the number of steps."""
    plain = [p for name, p in model.named_parameters() if name.endswith('bias') or 'LayerNorm' in name]
    others = [p for name, p in model.named_parameters() if not (name.endswith('bias') or 'LayerNorm' in name)]
    groups = [{'params': others, 'weight_decay': 0.01}, {'params': plain, 'weight_decay': 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=given.lr, eps=1e-6)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, round(0.1 * given.steps), given.steps)
    step = 0
    model.train()
    while step < given.steps:
        for rows in draw_batches(split.lengths(), given.batch, draw):
            if step == given.steps:
                break
            loss = model(**split.make_batch(rows), labels=torch.tensor(split.gold[rows])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
    return step


def predict(model: Any, split: Split, classes: int) -> np.ndarray:
    """The logits of each example, [N, classes]."""
    model.eval()
    found = np.zeros((len(split.encoded), classes), np.float32)
    lengths = split.lengths()
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    with torch.no_grad():
        for at in range(0, len(order), 32):
            rows = order[at : at + 32]
            found[rows] = model(**split.make_batch(rows)).logits.numpy()
    return found


def finetune(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Trains with one seed. Returns the metrics of dev after the last step."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    data = Data(task=given.task, folder=given.folder)
    row, names, members = tasks.task(data), tasks.classes(data), tasks.examples(data, Machine.cache)
    is_score = row.kind == 'score'
    tokenizer = transformers.AutoTokenizer.from_pretrained(given.start)
    model = transformers.BertForSequenceClassification.from_pretrained(
        given.start, num_labels=len(names), problem_type='regression' if is_score else 'single_label_classification'
    )
    splits = {name: encode(members[name], names, is_score, tokenizer, given.length) for name in ('train', 'dev')}
    begin = time.monotonic()
    step = train(model, splits['train'], given, draw)
    logits = predict(model, splits['dev'], len(names))
    found = metrics.measure(row.metrics, splits['dev'].gold, logits[:, 0] if is_score else logits.argmax(1))
    return {'task': given.task, 'seed': seed, 'steps': step, 'seconds': round(time.monotonic() - begin, 1), **found}


def main() -> None:
    """Prints a JSON line for each seed, and one for all seeds."""
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
