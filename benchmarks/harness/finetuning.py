"""The contenders of epoch.py: fine-tuning on the first batches of an epoch, data included, as users of each code run it."""

import dataclasses
import importlib
import itertools
import random
from pathlib import Path
from typing import Any

from benchmarks.harness import peers
from benchmarks.harness.turns import Contender, read_resident, read_resident_peak
from research.runs.memory import keep_memory


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What is trained: the first `steps` batches of an epoch of a task."""

    task: str
    folder: str  # GLUE
    start: str  # a Hugging Face folder
    steps: int
    batch: int
    length: int  # pieces at most


def ours(epoch: Epoch, buckets: tuple[int, ...], pack: bool) -> Contender:
    """configs/finetune.py's step on our feed: batches padded to one of `buckets`, or packed."""
    keep_memory()
    import jax

    from configs.finetune import bert
    from research import parallel, train
    from research.data import feed as feeds
    from research.experiment import student_heads
    from research.models.heads import Model
    from research.runs import sources
    from research.surgery import inherit, transplant

    plan = parallel.make_plan('jit', epoch.batch, 1)
    x = bert(epoch.task)
    start = sources.open_donor(epoch.start, Path('runs/none'), 'start')
    data = dataclasses.replace(
        x.data, folder=epoch.folder, tokenizer=str(start.tokenizer), length=epoch.length, select='last', buckets=buckets, pack=pack
    )
    architecture = inherit(x.surgery, x.model, start.architecture)
    feed = feeds.load(data, x.machine, batch=epoch.batch, seed=0, vocabulary=architecture.vocabulary)
    before = read_resident()
    model = Model(architecture, student_heads(dataclasses.replace(x, data=data)))
    state = train.initial_state(model, x.optimizer, 0)
    params, _ = transplant(model, state.params, start, x.surgery)
    kept = {'state': plan.put_state(train.with_params(state, params, x.optimizer))}
    compiled = plan.compile(train.make_step(model, None, x.losses, x.optimizer, 10_000), donate=True)

    def run(steps: int) -> None:
        metrics: Any = None
        for _ in range(steps):
            for batch in itertools.islice(feed.stream(0), epoch.steps):
                kept['state'], metrics = compiled(kept['state'], {}, plan.put_batch(batch))
        jax.block_until_ready((kept['state'], metrics))

    def read_peak() -> int:
        used = parallel.read_peak_memory()
        return read_resident_peak() - before if used is None else used

    return Contender(run, read_peak)


def theirs(epoch: Epoch, compiled: bool) -> Contender:
    """transformers' classifier on the same examples: batches of similar length (group_by_length), padded to their longest."""
    torch, transformers, device = peers.load()
    peer: Any = importlib.import_module('benchmarks.finetune_peer')
    from research.data import tasks
    from research.data.settings import Data
    from research.machine import Machine

    data = Data(task=epoch.task, folder=epoch.folder)
    names, members = tasks.classes(data), tasks.examples(data, Machine.cache)['train']
    tokenizer = transformers.AutoTokenizer.from_pretrained(epoch.start)
    split = peer.encode(members, names, False, tokenizer, epoch.length)
    rows = peer.draw_batches(split.lengths(), epoch.batch, random.Random(0))[: epoch.steps]
    before = read_resident()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        epoch.start, num_labels=len(names), attn_implementation='sdpa'
    )
    model = model.to(device).train()
    optimizer = peers.make_optimizer(torch, model)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 1000, 10_000)
    compute = torch.compile(model, dynamic=True) if compiled else model

    def run(steps: int) -> None:
        for _ in range(steps):
            for members in rows:
                inputs = peers.move(split.make_batch(members) | {'labels': torch.tensor(split.gold[members])}, device)
                compute(**inputs).loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        if device == 'cuda':
            torch.cuda.synchronize()

    def read_peak() -> int:
        return torch.cuda.max_memory_allocated() if device == 'cuda' else read_resident_peak() - before

    return Contender(run, read_peak)
