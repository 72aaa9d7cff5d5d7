"""One run: an experiment becomes a folder. It may be killed at any time; the same call continues it."""

import contextlib
import dataclasses
import itertools
import json
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research import accounting, checkpoint, donors, experiment, lock, optim, parallel, scoring, smoothness, train
from research.data import loading, masking, tasks, tokenizers
from research.environment import environment, sessions
from research.errors import UserError
from research.evaluate import evaluate, make_measure
from research.experiment import Experiment
from research.log import Log, rewind
from research.models.heads import Model, encode, score
from research.models.sharing import layout
from research.objectives import losses
from research.parallel import Plan
from research.records import read_lines, read_record, write_record
from research.surgery import Account, Donor, transplant, under
from research.train import State


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a run is made of, once everything has been opened and found to fit."""

    x: Experiment
    workdir: Path
    plan: Plan
    model: Model
    teacher: Donor | None
    feed: loading.Feed
    steps: int
    checkpoints: checkpoint.Checkpoints
    log: Log
    measure: Callable


def run(x: Experiment, workdir: Path) -> dict[str, Any]:
    """Runs `x` in `workdir`, from its last checkpoint where it has one, and returns its result.json.

    Raises UserError for what the user has to mend; a run that was never possible leaves nothing behind. Where several processes
    make one run, each calls this; the first alone writes in `workdir`, and the others' logs lie in its `processes/`.
    """
    began = time.monotonic()
    parallel.keep_memory()
    parallel.join()
    x = donors.resolve(x, workdir)
    experiment.validate(x)
    with lock.hold(workdir) if parallel.chief() else contextlib.nullcontext():
        return perform(x, workdir, began)


def perform(x: Experiment, workdir: Path, began: float) -> dict[str, Any]:
    """Runs `x` in `workdir`, of which no other process makes use."""
    with parallel.chief_first():
        claim(x, workdir)
        done = read_record(workdir / 'result.json')
        if done is not None:
            print(f'{workdir.name}: done before: {workdir / "result.json"}')
            return done
        plan = parallel.plan(x.run.parallel, x.run.batch, x.run.accumulate)
        key = 'teacher' if x.start == 'teacher' else 'start'
        start = donors.open_donor(donors.source_of_start(x), workdir, key) if x.start else None
        teacher = donors.open_donor(x.teacher, workdir, 'teacher') if losses.needs_teacher(x.losses) else None
        feed = load_data(x, workdir, start, teacher)
        check_donors(x, feed, start, teacher)
        steps = number_of_steps(x, feed)
        if steps:
            optim.schedule(x.optimizer, steps)  # refuses a warm-up longer than the run before the folder is begun
        model = Model(x.model, student_heads(x))
        state, account = first_state(model, x, start)
        moved = begin_folder(x, workdir, feed, steps)

    checkpoints = checkpoint.Checkpoints(workdir / 'checkpoints', x.run.keep)
    state = plan.put_state(state)
    first = checkpoints.latest() or 0
    if first:
        state = plan.put_state(checkpoints.restore(first, state))
    said = workdir if parallel.chief() else workdir / 'processes' / str(parallel.process())
    before = wall_so_far(said)
    rewind(said, first)
    log = Log(said, steps, first, began - before)
    measure = plan.compile(make_measure(model, experiment.offered(x)))
    parts = Parts(x, workdir, plan, model, teacher, feed, steps, checkpoints, log, measure)
    try:
        introduce(parts, [*moved, *([f'continues from the checkpoint of step {first}'] if first else account)])
        return finish(parts, *fit(parts, state, first))
    finally:
        checkpoints.close()
        log.close()


def student_heads(x: Experiment) -> tuple[tuple[str, int], ...]:
    """The heads that the losses read, with their numbers of classes."""
    found = losses.heads(x.losses)
    labels = len(tasks.classes(x.data)) if 'label' in found else 0
    classes = {'mlm': x.model.vocabulary, 'pair': 2, 'span': 2, 'choice': 1, 'label': labels}
    return tuple((name, classes[name]) for name in found)


def number_of_steps(x: Experiment, feed: loading.Feed) -> int:
    """How many steps the run takes: `epochs` decides where it is given, unless there are to be none.

    Raises UserError where the task has nothing to train on.
    """
    if not x.run.steps:
        return 0
    if not feed.examples:
        raise UserError(f"the task '{x.data.task}' has no training examples: give --config.run.steps=0 to evaluate a model on it")
    return loading.number_of_steps(x.run.steps, x.run.epochs, feed.examples, x.run.batch)


def claim(x: Experiment, workdir: Path) -> None:
    """Raises UserError where `workdir` belongs to something else, naming the keys that differ."""
    if not (workdir / 'experiment.json').exists():
        if workdir.exists() and (
            not workdir.is_dir() or any(path.name != 'failure.json' and path.suffix != '.part' for path in workdir.iterdir())
        ):
            raise UserError(f'{workdir} is in use, but is no run folder: it has no experiment.json; give another --workdir')
        return
    changed = experiment.differences(experiment.read(workdir, mend='; give another --workdir'), x)
    if changed:
        raise UserError(
            f'{workdir} holds another experiment; it differs in {"; ".join(changed)}. Give another --workdir, or remove the folder'
        )


def load_data(x: Experiment, workdir: Path, start: Donor | None, teacher: Donor | None) -> loading.Feed:
    """The data, cut by the tokenizer that `data.tokenizer` names: 'start' and 'teacher' those donors' own, '@NAME' a sibling's."""
    data = x.data
    for key, donor in (('start', start), ('teacher', teacher)):
        if data.tokenizer == key:
            if donor is None or donor.tokenizer is None:
                raise UserError(
                    f"data.tokenizer='{key}', but there is no {key} with a tokenizer: "
                    f'give --config.{key}=RUN or another --config.data.tokenizer'
                )
            data = dataclasses.replace(data, tokenizer=str(donor.tokenizer))
    if data.tokenizer.startswith('@'):
        data = dataclasses.replace(data, tokenizer=str(donors.locate(data.tokenizer, workdir) / 'tokenizer'))
    return loading.load(data, batch=x.run.batch, seed=x.seed, vocabulary=x.model.vocabulary, steps=x.run.steps, epochs=x.run.epochs)


def check_donors(x: Experiment, feed: loading.Feed, start: Donor | None, teacher: Donor | None) -> None:
    """Raises UserError for a start or a teacher that does not fit the run."""
    mine = feed.vocabulary.fingerprint
    for key, donor in (('start', start), ('teacher', teacher)):
        if donor is None or donor.tokenizer is None or (key == 'start' and {'word', 'encoder/word'} & set(x.surgery.drop)):
            continue
        if tokenizers.vocabulary_of(tokenizers.load_tokenizer(donor.tokenizer)).fingerprint != mine:
            raise UserError(
                f"{key}='{donor.label}' has another vocabulary than this run's tokenizer; give --config.data.tokenizer={key}"
            )
    if start is not None and x.data.task and 'label' not in x.surgery.drop:
        check_labels(x, start, 'begin a new head with --config.surgery.drop=label')
    if teacher is None:
        return
    if x.losses.cosine.weight and teacher.architecture.width != x.model.width:
        raise UserError(
            f"loss 'cosine' compares hidden states, but the teacher's are {teacher.architecture.width} wide, not {x.model.width}; "
            'give --config.losses.cosine.weight=0'
        )
    if teacher.architecture.positions < x.data.length:
        raise UserError(f'data.length={x.data.length}, but the teacher has {teacher.architecture.positions} positions')
    for name, options in losses.active(x.losses).items():
        for head in losses.LOSSES[name].heads(options) if losses.LOSSES[name].teacher else ():
            ours, theirs = dict(student_heads(x)), dict(teacher.heads)
            if theirs.get(head) != ours[head]:
                has = f'{theirs[head]} classes in its {head} head' if head in theirs else f'no {head} head'
                raise UserError(
                    f"loss '{name}' compares the {head} logits ({ours[head]} classes), but the teacher {teacher.label} has {has}"
                )
            if head == 'label':
                check_labels(x, teacher, f'give --config.losses.{name}.weight=0')


def check_labels(x: Experiment, donor: Donor, otherwise: str) -> None:
    """Raises UserError where the label head of a donor tells other labels than the task has, or the same in another order.

    Labels that a Hugging Face model only numbers say nothing, nor does what a score is called. otherwise: what else would mend it.
    """
    heads = dict(donor.heads)
    if 'label' not in dict(student_heads(x)) or 'label' not in heads:
        return
    theirs, mine = donor.labels, tasks.classes(x.data)
    if not theirs or all(name == f'LABEL_{i}' for i, name in enumerate(theirs)) or heads['label'] == len(mine) == 1:
        return
    spelled = {name.lower(): name for name in mine}
    known = [name.lower() for name in theirs]
    if known == list(spelled):
        return
    told = f"the label head of {donor.label} tells {', '.join(theirs)}, but the task '{x.data.task}' has {', '.join(mine)}"
    if sorted(known) == sorted(spelled):
        raise UserError(f'{told}: give --config.data.labels={",".join(spelled[name] for name in known)}')
    raise UserError(f'{told}: give a run of this task, or {otherwise}')


def check_account(x: Experiment, account: Account) -> None:
    """Raises UserError where a task would be learnt or judged with weights that are random and should not be."""
    encoder = [
        path for path in account.random if path.startswith('encoder/') and not any(under(path, name) for name in x.surgery.drop)
    ]
    if encoder:
        raise UserError(
            f'start: the encoder would be random in {", ".join(encoder[:4])}{" …" if len(encoder) > 4 else ""}, which it lacks; '
            f'give --config.surgery.inherit=True, or accept it with --config.surgery.drop={",".join(encoder[:4])}'
        )
    if not x.run.steps and account.random:
        raise UserError(
            f'run.steps=0, but the start lacks {", ".join(account.random)}: train it on what these are for, and start from that run'
        )


def first_state(model: Model, x: Experiment, start: Donor | None) -> tuple[State, list[str]]:
    """The State of step 0, and what the log says of where its parameters come from."""
    state = train.initial_state(model, x.optimizer, x.seed)
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    predicted = accounting.summary(x.model, model.heads)['total']
    if size != predicted:
        raise AssertionError(f'{size} parameters, but {predicted} were predicted')
    if start is None:
        optim.multipliers(x.optimizer, state.params, layout(x.model))
        return state, ['start: all parameters are random']
    params, account = transplant(model, state.params, start, x.surgery)
    if x.data.task:
        check_account(x, account)
    optim.multipliers(x.optimizer, params, layout(x.model))  # refuses the name of a frozen part that is none
    return train.with_params(state, params, x.optimizer), account.lines()


def begin_folder(x: Experiment, workdir: Path, feed: loading.Feed, steps: int) -> list[str]:
    """Writes what a run folder begins with; for a run that continues, where that happens otherwise, and returns what the log says.

    Raises UserError where the data of a run that continues have changed.
    """
    path = workdir / 'environment.json'
    here = environment(feed.facts)
    if path.exists():
        there = json.loads(path.read_text())
        before = there['data']['fingerprint']
        if before != feed.facts['fingerprint']:
            raise UserError(
                f'the data have changed since {workdir} began ({before} -> {feed.facts["fingerprint"]}); give another --workdir'
            )
        first, *others = sessions(there)
        last = [first, *others][-1]
        changed = [key for key in ('commit', 'uncommitted_changes', 'versions', 'devices') if last[key] != here[key]]
        if changed:
            write_record(path, {**first, 'sessions': [*others, here]})
        return [f'continues with other {", ".join(changed)} than before: see {path.name}'] if changed else []
    workdir.mkdir(parents=True, exist_ok=True)
    write_record(workdir / 'experiment.json', experiment.to_wire(x).to_dict())
    tokenizers.save_tokenizer(feed.tokenizer, workdir / 'tokenizer')
    write_record(path, here | {'steps': steps})
    return []


def introduce(parts: Parts, account: list[str]) -> None:
    """Says what is about to run."""
    log, facts = parts.log, parts.feed.facts
    total = accounting.summary(parts.x.model, parts.model.heads)['total']
    log.line(f'{total:,} parameters, {parts.plan.devices} device(s), {parts.feed.examples:,} training examples')
    if facts['unigram_entropy'] is not None:
        log.line(
            f'unigram entropy of the corpus: {facts["unigram_entropy"]:.3f} nats; a model that sees no context and copies what is '
            f'not masked scores about {masking.contextless(parts.x.data.masking, facts["unigram_entropy"]):.3f}'
        )
    if parts.x.data.task:
        for line in facts['notices']:
            log.line(line)
        log.line(f'{facts["selection"]}; reported: {facts["reported"] or "nothing"}')
    for line in account:
        log.line(line)


def fit(parts: Parts, state: State, first: int) -> tuple[State, dict[str, float]]:
    """Trains from step `first` to the last, evaluating and saving on the way, and returns what the last evaluation found too.

    The numbers of step k − 1 are read while k runs. Where no step is left there is no evaluation either.
    """
    x, plan, log = parts.x, parts.plan, parts.log
    watched, scores = watched_split(parts), earlier_scores(parts)
    found: dict[str, float] = {}
    if not parts.steps or exhausted(x.run.patience, scores):
        return state, found
    frozen = {'teacher': plan.put_state(jax.tree.map(jax.numpy.asarray, parts.teacher.params))} if parts.teacher else {}
    teacher = parts.teacher.model if parts.teacher else None
    step_function = train.make_step(parts.model, teacher, x.losses, x.optimizer, parts.steps, x.run.accumulate)
    compiled = plan.compile(step_function, donate=True)
    before = seconds_so_far(parts.workdir)
    begin = window = time.monotonic()
    tokens = 0.0

    def settle(step: int, metrics: Mapping[str, train.Term]) -> None:
        nonlocal tokens, window
        values = {name: float(term.total) / max(float(term.count), 1.0) for name, term in jax.device_get(dict(metrics)).items()}
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            good = parts.checkpoints.latest()
            last = f'the last good checkpoint is that of step {good}' if good else 'there is no checkpoint yet'
            raise UserError(
                f'step {step}: {", ".join(broken)} is not finite; {last} in {parts.workdir}. '
                'Try a lower --config.optimizer.lr or a longer warm-up'
            )
        tokens += values.pop('tokens')
        now = time.monotonic()
        # The first step of a length is mostly compilation: it says nothing of the speed.
        if step in (first + 1, loading.boundary(x.data, parts.steps) + 1):
            tokens, window = 0.0, now
        if step % x.run.log_every == 0 or step == parts.steps:
            if tokens:
                values['tokens_per_second'] = tokens / max(now - window, 1e-9)
            named = {f'train/{name}': value for name, value in values.items()}
            log.numbers(step, {'seconds': before + now - begin, **named})
            log.progress(step, named)
            tokens, window = 0.0, now

    pending = None
    for step, batch in zip(range(first + 1, parts.steps + 1), parts.feed.stream(first), strict=False):
        state, metrics = compiled(state, frozen, plan.put_batch(batch))
        if pending is not None:
            settle(*pending)
        pending = step, metrics
        last = step == parts.steps
        scoring = watched in parts.feed.evaluation and (last or bool(x.run.evaluate_every and step % x.run.evaluate_every == 0))
        if last or scoring or (x.run.checkpoint_every and step % x.run.checkpoint_every == 0):
            settle(*pending)
            pending, pause = None, time.monotonic()
            score = None
            if scoring:
                found, _ = measure_split(parts, train.evaluated(state), watched)
                log.numbers(step, {'seconds': before + pause - begin, **found})
                log.line(f'step {step} ' + ' '.join(f'{name} {value:.4f}' for name, value in found.items()))
                score = found[selected_by(parts)] if selected_by(parts) else None
                scores += [score] if score is not None else []
            parts.checkpoints.save(state, score)
            window += time.monotonic() - pause
            begin += time.monotonic() - pause
            if exhausted(x.run.patience, scores):
                log.line(f'stops at step {step}: no better {selected_by(parts)} in {x.run.patience} evaluations')
                break
    return state, found


def watched_split(parts: Parts) -> str:
    """The split that is evaluated while training: dev of pretraining, of a task the one that selects; '' is none."""
    return parts.feed.facts['selects'] if parts.x.data.task else 'dev'


def selected_by(parts: Parts) -> str:
    """The number that the run's checkpoints are selected by; '' where nothing is selected."""
    x, split = parts.x, watched_split(parts)
    return f'{split}/{tasks.task(x.data).selects}' if x.data.task and split else ''


def earlier_scores(parts: Parts) -> list[float]:
    """The scores that earlier sessions of the run selected by, oldest first."""
    name = selected_by(parts)
    return [line[name] for line in read_metrics(parts.workdir) if name in line] if name else []


def exhausted(patience: int, scores: list[float]) -> bool:
    """Whether none of the last `patience` scores is better than the best before them."""
    return bool(patience) and len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


def measure_split(
    parts: Parts, params: Any, split: str, threshold: float | None = None
) -> tuple[dict[str, float], scoring.Verdict | None]:
    """The numbers of one split, named 'split/loss', and of a task what the model says of each example.

    Of pretraining's dev at most `run.evaluate_batches` are read. threshold: in place of data.answers.threshold.
    """
    x = parts.x
    limit = x.run.evaluate_batches if not x.data.task else 0
    batches = itertools.islice(parts.feed.evaluation[split], limit or None)
    found = evaluate(parts.measure, parts.plan.put_batch, params, batches)
    if not x.data.task:
        return {f'{split}/{name}': value for name, value in found.means.items()}, None
    questions = parts.feed.questions[split]
    verdict = scoring.judge(x.data, questions, found.logits, x.data.answers.threshold if threshold is None else threshold)
    means = found.means if questions.known else {}
    return {f'{split}/{name}': value for name, value in {**means, **verdict.metrics}.items()}, verdict


def seconds_so_far(workdir: Path) -> float:
    """The seconds of training that earlier sessions of the run recorded."""
    return max((line['seconds'] for line in read_metrics(workdir)), default=0.0)


def wall_so_far(folder: Path) -> float:
    """The seconds that earlier sessions of the run took, up to the last that they said: compilation and evaluation included."""
    return max((line['wall'] for line in read_metrics(folder)), default=0.0)


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl."""
    return read_lines(workdir / 'metrics.jsonl')


def finish(parts: Parts, state: State, known: dict[str, float]) -> dict[str, Any]:
    """Measures the model that the run stands for, writes what it says of each split of a task, and result.json.

    The split that is reported is read once, here, by the checkpoint that another one selected. What is `known` of the last
    state is not measured again in pretraining: it is the model there.
    """
    x, feed = parts.x, parts.feed
    parts.checkpoints.wait()
    best = parts.checkpoints.best() if selected_by(parts) else None
    selected, params = None, train.evaluated(state)
    if best is not None:
        selected = {'step': best, 'by': selected_by(parts), 'how': feed.facts['selection']}
        params = parts.plan.put_state(jax.tree.map(jax.numpy.asarray, parts.checkpoints.params(best)))
    metrics: dict[str, float] = {}
    verdicts: dict[str, scoring.Verdict] = {}
    threshold = None
    for split in sorted(feed.evaluation, key=lambda name: name != 'selection'):
        found, verdict = (known, None) if known and not x.data.task else measure_split(parts, params, split, threshold)
        metrics |= found
        if verdict is not None:
            verdicts[split] = verdict
            if parallel.chief():
                scoring.write(parts.workdir / split, verdict)
            if split == 'selection' and verdict.threshold is not None:
                threshold = verdict.threshold
                parts.log.line(f'no answer where its logit leads by {threshold:.3f}, which gives the best F1 of {split}')
    lines = read_metrics(parts.workdir)
    speeds = [line['train/tokens_per_second'] for line in lines if 'train/tokens_per_second' in line]
    a, heads = x.model, parts.model.heads
    teacher = parts.teacher.architecture if parts.teacher else None
    costs = accounting.costs(x.model, teacher, x.losses, x.data, x.run.batch)
    summary = accounting.summary(a, heads)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    result = {
        'name': x.name,
        'steps': int(state.step),
        'metrics': metrics,
        'selected': selected,
        'parameters': summary,
        'flops_per_token': costs['per_token'],
        'flops_per_step': costs['per_step'],
        'checkpoint_bytes': sum(leaf.nbytes for leaf in jax.tree.leaves(params)),
        'train_seconds': seconds_so_far(parts.workdir),
        'wall_seconds': parts.log.wall(),
        'tokens_per_second': statistics.median(speeds) if speeds else None,
        'peak_memory_bytes': parallel.peak_memory() or resident,
        'latency_seconds': latency(parts.model, params, x.data.length),
        'smoothness': None if x.data.task else smooth(parts, params),
        'unigram_entropy': feed.facts['unigram_entropy'],
        'labels': feed.facts['labels'],
        **summarize(parts, metrics, verdicts),
    }
    if parallel.chief():
        write_record(parts.workdir / 'result.json', result)
    parts.log.line(f'done: {parts.workdir / "result.json"}')
    return result


def smooth(parts: Parts, params: Any) -> dict[str, list[float]] | None:
    """How far each layer moves what passes through it, over the first held-out batches; None where nothing is held out."""
    if 'dev' not in parts.feed.evaluation:
        return None
    batches = itertools.islice(parts.feed.evaluation['dev'], smoothness.BATCHES)
    measure = parts.plan.compile(smoothness.make_measure(parts.model))
    return smoothness.by_layer(evaluate(measure, parts.plan.put_batch, params, batches).means, parts.x.model.layers)


def summarize(parts: Parts, metrics: dict[str, float], verdicts: Mapping[str, scoring.Verdict]) -> dict[str, Any]:
    """What result.json says of a task beside its metrics; the same is told, with what habit and chance would score.

    `score` is the number of the reported split that the task is judged by. A `collapsed` split (1) was told one answer all through.
    """
    if not parts.x.data.task:
        return {'baseline': None, 'reported': None, 'score': None, 'collapsed': None}
    facts, log = parts.feed.facts, parts.log
    judged = {split: verdict for split, verdict in verdicts.items() if verdict.metrics}
    chances = {split: scoring.baseline(parts.x.data, parts.feed.questions[split]) for split in judged}
    baseline = {
        name: {f'{split}/{metric}': value for split, chance in chances.items() for metric, value in chance[name].items()}
        for name in ('majority', 'random')
    }
    for split, verdict in judged.items():
        selecting = split == facts['selects'] and parts.steps
        how = f' ({facts["selection"]})' if selecting else ', read once'
        for name in chances[split]['majority']:
            key = f'{split}/{name}'
            chance = f'majority {baseline["majority"][key]:.4f}, random {baseline["random"][key]:.4f}'
            log.line(f'{key} {metrics[key]:.4f} ({chance}){how}')
        if verdict.collapsed:
            log.line(f'{split}: the model has collapsed: it tells (nearly) the same of every example')
    collapses = {split: int(verdict.collapsed) for split, verdict in judged.items()}
    headline = f'{facts["reported"]}/{tasks.task(parts.x.data).selects}'
    if headline in metrics:
        baseline = {name: {**values, 'score': values[headline]} for name, values in baseline.items()}
    return {
        'baseline': baseline,
        'reported': facts['reported'] or None,
        'score': metrics[headline] if headline in metrics else None,
        'collapsed': collapses | ({'reported': collapses[facts['reported']]} if facts['reported'] in collapses else {}),
    }


def latency(model: Model, params: Any, length: int) -> float:
    """Seconds of one forward pass of one sequence of `length`, classifier included, vocabulary logits not: the median of 30."""
    classifiers = [name for name, _ in model.heads if name != 'mlm']

    def forward(params: Any, batch: Any) -> Any:
        outputs = encode(model, params, batch)
        return outputs.hidden, [score(model, params, name, outputs) for name in classifiers]

    compiled = jax.jit(forward)
    ids = np.zeros((1, length), np.int32)
    batch = {'ids': ids, 'types': ids, 'mask': ids + 1}
    times = []
    for _ in range(33):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(params, batch))
        times.append(time.perf_counter() - begin)
    return statistics.median(times[3:])
