"""One run: an experiment becomes a folder. It may be killed at any time; the same call continues it."""

import contextlib
import time
from pathlib import Path
from typing import Any

from research import checkpoint, experiment, optim, parallel, processes, validation
from research.checkpoint_files import set_aside_damaged
from research.compiled import use_compiled
from research.evaluation.measures import make_measure
from research.experiment import Experiment, student_heads
from research.files import refuse_links
from research.objectives import losses
from research.peers import Peers
from research.records import to_json
from research.runs import compiling, lock, memory, sources
from research.runs.definition import begin_folder
from research.runs.ending import finish
from research.runs.exhaustion import explaining_exhaustion
from research.runs.folder import read_result, wall_so_far
from research.runs.log import Log, rewind
from research.runs.mirror import Mirror, refuse_siblings
from research.runs.opening import Parts, build_models, first_state, introduce, load_data, number_of_steps
from research.runs.training import fit
from research.runs.validation import validate_folder, validate_sources, validate_teacher


def run(x: Experiment, workdir: Path, peers: Peers | None = None, mirror: Mirror | None = None) -> dict[str, Any]:
    """Runs `x` in `workdir`, from its last checkpoint if it has one, and returns its result.json.

    Raises UserError for mistakes of the user; a run that was never possible leaves nothing behind. If several processes
    make one run, each calls this; the first alone writes in `workdir`, and the others' logs lie in its `processes/`. They are
    `peers`, or those of the cluster that this process runs on. mirror: the uploads, if `workdir` is a copy of a folder in a bucket.
    """
    began = time.monotonic()
    memory.keep_memory()
    use_compiled()
    if x.run.deterministic:
        parallel.request_determinism()
    processes.join_processes(peers)
    with contextlib.ExitStack() as held, processes.leaving_together():
        validation.validate_without_start(x)  # what is wrong whatever the start is comes first
        if mirror is not None:
            refuse_siblings(x, mirror.place)
        x = sources.resolve(x, workdir)
        validation.validate(x)
        return _run(x, workdir, mirror, began, held)


def _run(x: Experiment, workdir: Path, mirror: Mirror | None, began: float, held: contextlib.ExitStack) -> dict[str, Any]:
    """Runs `x` in `workdir`, whose lock `held` keeps."""
    begun = held.enter_context(compiling.tally())
    with processes.chief_first():
        if processes.is_chief():
            held.enter_context(lock.hold(workdir))
            refuse_links(workdir)
        mirrored = mirror.join(held, processes.is_chief()) if mirror else []
        validate_folder(x, workdir)
        done = read_result(workdir)
        if done is not None:
            print(f'{workdir.name}: done before: {workdir / "result.json"}')
            return to_json(done)
        promised = [parallel.describe_determinism()] if x.run.deterministic else []
        plan = parallel.make_plan(x.run.parallel, x.run.batch, x.run.accumulate, x.run.model_devices)
        start = sources.open_start(x, workdir)
        teacher = sources.open_donor(x.teacher, workdir, 'teacher') if losses.needs_teacher(x.losses) else None
        if teacher is not None:
            validate_teacher(x, teacher.architecture)
        feed = load_data(x, workdir, start, teacher, plan)
        unnamed = validate_sources(x, feed, start, teacher)
        steps = number_of_steps(x, feed)
        if steps:
            optim.schedule(x.optimizer, steps)  # refuses a warm-up longer than the run before the folder is begun
        heads = student_heads(x, teacher.architecture if teacher else None)
        held.enter_context(explaining_exhaustion(x, heads, teacher.architecture if teacher else None, plan.devices))
        model, teacher, chosen = build_models(x, heads, teacher)
        state, notes = first_state(model, x, start, feed)
        changed = begin_folder(x, workdir, feed, steps)
        damaged = set_aside_damaged(workdir / 'checkpoints') if processes.is_chief() else []

    checkpoints = checkpoint.Checkpoints(workdir / 'checkpoints', x.run.keep)
    first, state, continued = checkpoints.resume(plan.put_state(state))
    if first:
        state, notes = plan.put_state(state), []
    elif damaged:
        continued = [*continued, 'no good checkpoint is left: the run begins anew']
    logged = workdir if processes.is_chief() else workdir / 'processes' / str(processes.get_process())
    before = wall_so_far(logged)
    rewind(logged, first)
    log = Log(logged, steps, first, began - before)
    plan, begun.say = compiling.announce(plan, log.line), log.line
    measure = plan.compile(make_measure(model, experiment.offered(x), (x.data.answers.starts, x.data.answers.ends)))
    parts = Parts(x, plan, model, teacher, feed, steps, measure, workdir, checkpoints, log)
    try:
        introduce(parts, [*promised, *mirrored, *chosen, *unnamed, *changed, *damaged, *notes, *continued])
        if begun.programs:
            log.line(f'compiled for the first state: {begun.describe()}')
        return finish(parts, *fit(parts, state, first))
    finally:
        checkpoints.close()
        log.close()
