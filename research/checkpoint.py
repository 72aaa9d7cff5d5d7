"""Checkpoints: training states on disk. The only file that imports orbax.

A checkpoint holds two items: 'params', and 'training', the rest of the State. A reader of the model does not read the optimizer's
state. Saving is asynchronous; a checkpoint whose writing was interrupted is ignored and removed later. A checkpoint appears
together with the SHA-256 of its files, by which damage that came later is found.
"""

import contextlib
import dataclasses
import logging
import re
import sys
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from research import processes
from research.checkpoint_files import (
    ITEMS,
    SUMS,
    find_damage,
    hash_files,
    is_planned,
    list_steps,
    locate,
    set_aside,
    validate_chunks,
    validate_growth,
)
from research.errors import UserError
from research.records import write_record
from research.train import State, evaluated

# Orbax logs every file it writes, warns about each checkpoint without a score, and logs each error that it raises.
logging.getLogger('absl').addFilter(lambda record: record.levelno >= logging.ERROR and 'orbax' not in record.pathname)

# Where an array cannot be read, orbax raises, and leaves coroutines behind that warn.
warnings.filterwarnings('ignore', 'coroutine .*_read_array_index_and_device_put', RuntimeWarning)

UNFINISHED = '.orbax-checkpoint-tmp'  # ends the name of a checkpoint that is being written


class Checkpoints:
    """The checkpoints of one run; `Policy` says which stay. `unplanned`: the steps of those that a signal asked for.

    What cannot be written raises UserError: at once, or at the next call, since saving goes on beside the training.
    """

    def __init__(self, folder: Path, keep: int = 1, read_only: bool = False) -> None:
        validate_path(folder)
        self._hook = sys.excepthook
        self._folder = Path(folder).absolute()
        self._place = None  # of the folder on its disk, once it is known
        self.unplanned = {step for step in list_steps(self._folder) if not is_planned(self._folder / str(step))}
        with self._explained():
            self._manager = ocp.CheckpointManager(
                self._folder,
                item_names=ITEMS,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=Policy(keep, self.unplanned),
                    best_fn=lambda metrics: metrics['score'],
                    cleanup_tmp_directories=not read_only,  # a reader must not remove what the run is writing
                    read_only=read_only,
                    create=not read_only,
                    multiprocessing_options=apart() if read_only else ocp.options.MultiprocessingOptions(),
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._sign),
                ),
            )
        self._place = locate(self._folder)
        sys.excepthook = self._report

    def save(self, state: State, score: float | None = None, planned: bool = True) -> None:
        """Starts saving `state` under its step; a state with a `score` (higher is better) can become the best.

        planned: whether a run without signals would save it too.
        """
        training = {'step': state.step, 'key': state.key, 'moments': state.moments}
        if state.average is not None:  # readers of the model get the average; training continues from these
            training['params'] = state.params
        if state.losses is not None:
            training['losses'] = state.losses
        step = int(state.step)
        with self._explained(f'the checkpoint of step {step}'):
            if self._place is not None and locate(self._folder) != self._place:  # orbax would begin a folder of its own there
                raise UserError(
                    f'{self._folder.parent} was removed or moved while the run was writing there: step {step} is not saved. '
                    'Give the folder its name again; the same command continues from its last checkpoint'
                )
            if step in self._manager.all_steps():  # saved without its score when a signal came
                self._manager.delete(step)
            if not planned:
                self.unplanned.add(step)
            self._manager.save(
                step,
                args=ocp.args.Composite(params=ocp.args.StandardSave(evaluated(state)), training=ocp.args.StandardSave(training)),
                metrics=None if score is None else {'score': score},
            )

    def latest(self) -> int | None:
        """The newest step on disk; None if there is none."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the best score, the earliest of equals; None if none has a score."""
        scores = {step: metrics['score'] for step in self._manager.all_steps() if (metrics := self._manager.metrics(step))}
        return find_best(scores)

    def restore(self, step: int, like: State) -> State:
        """The State of `step`, with the shapes and devices of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        training = {'step': abstract.step, 'key': abstract.key, 'moments': abstract.moments}
        if abstract.average is not None:
            training['params'] = abstract.params
        if abstract.losses is not None:
            training['losses'] = abstract.losses
        for item in ITEMS:  # orbax compares the shapes with those of `like` before it reads, but not the chunks
            validate_chunks(read_leaves(self._folder / str(step) / item))
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(params=ocp.args.StandardRestore(abstract.params), training=ocp.args.StandardRestore(training)),
        )
        if like.average is None:
            return State(params=found['params'], **found['training'])
        return State(average=found['params'], **found['training'])

    def resume(self, like: State) -> tuple[int, State, list[str]]:
        """The newest step that can be restored and its State; 0 and `like` itself if there is none. Also lines for the log.

        A checkpoint of an earlier version, without checksums, is set aside if orbax cannot read it. Raises UserError if one with
        checksums has other arrays than `like`.
        """
        notes: list[str] = []
        while (step := self.latest()) is not None:
            try:
                restored = self.restore(step, like)
                unsigned = '' if (self._folder / str(step) / SUMS).exists() else f', which has no {SUMS}: damage would not be found'
                return step, restored, [*notes, f'continues from the checkpoint of step {step}{unsigned}']
            except Exception as error:
                if (self._folder / str(step) / SUMS).exists():
                    if not isinstance(error, ValueError | KeyError | TypeError):
                        raise
                    reason = str(error).partition('\n')[0]
                    raise UserError(
                        f'{self._folder / str(step)} does not fit the run ({reason}): give another --workdir'
                    ) from error
                notes.append(set_aside(self._folder, step, str(error).partition('\n')[0]))
                self._manager.reload()
        return 0, like, notes

    def params(self, step: int) -> Any:
        """The parameters of `step`, without the optimizer's state, as a tree of numpy arrays.

        Raises ValueError if they would take far more memory than their files do.
        """
        item = Path(self._manager.directory) / str(step) / 'params'
        leaves = read_leaves(item)
        validate_chunks(leaves)
        validate_growth(leaves, item)
        with open_reader() as reader:
            metadata: Any = reader.metadata(item).item_metadata
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree)
            return reader.restore(item, ocp.args.PyTreeRestore(restore_args=as_numpy))

    def wait(self) -> None:
        """Waits until every started save is on disk."""
        with self._explained():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the saves and closes the folder."""
        with self._explained():
            try:
                self._manager.close()
            finally:
                sys.excepthook = self._hook

    def _report(self, kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        """Reports an error that nobody caught, but for those of tensorstore's threads after a write has failed."""
        if str(error) != 'Event loop is closed':
            self._hook(kind, error, trace)

    def _sign(self) -> None:
        """Adds its checksums to the checkpoint that has just been written, before orbax gives it its name."""
        if processes.is_chief():
            for written in self._folder.glob(f'*{UNFINISHED}'):
                planned = int(written.name.partition('.')[0]) not in self.unplanned
                write_record(written / SUMS, {'sha256': hash_files(written), 'planned': planned})

    @contextlib.contextmanager
    def _explained(self, what: str = 'a checkpoint') -> Iterator[None]:
        """Turns the many errors of a disk that cannot be written into one line."""
        try:
            yield
        except Exception as error:
            found = NO_WRITING.search(str(error))
            if found is None:
                raise
            raise UserError(
                f'{self._folder}: {what} cannot be written ({found[0].lower()}). Make room or mend the disk; '
                'the same command continues from the last checkpoint'
            ) from error


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which checkpoints stay: the newest, the best by score, and the newest `keep` that are not `unplanned`.

    So those that a signal asked for push none out, and a run that was stopped has all that it would have without the signal.
    """

    keep: int
    unplanned: Set[int]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: object) -> Sequence[bool]:
        """For each checkpoint, oldest first, whether it stays; orbax calls this after each save."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = find_best({checkpoint.step: checkpoint.metrics['score'] for checkpoint in checkpoints if checkpoint.metrics})
        stay = {*steps[-1:], best, *[step for step in steps if step not in self.unplanned][-self.keep :]}
        return [step in stay for step in steps]


def apart() -> ocp.options.MultiprocessingOptions:
    """Of several processes each reads for itself, when it likes: without these options orbax waits for the others."""
    process = processes.get_process()
    return ocp.options.MultiprocessingOptions(process, {process}, f'process {process}')


def open_reader() -> ocp.Checkpointer:
    """A reader of any tree of arrays."""
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(multiprocessing_options=apart()), multiprocessing_options=apart())


def find_best(scores: Mapping[int, float]) -> int | None:
    """The step with the highest score, the earliest of equals; None if there is none."""
    return max(scores, key=lambda step: (scores[step], -step)) if scores else None


# How the file systems' refusals read, through Python, tensorstore and orbax.
NO_WRITING = re.compile(
    'No space left on device|Disk quota exceeded|Read-only file system|Permission denied|Input/output error|File too large'
)


def read_leaves(item: Path) -> list[Any]:
    """What is known of each array of an item of a checkpoint: its name, shape, type and chunks."""
    with open_reader() as reader:
        metadata: Any = reader.metadata(item).item_metadata
        return jax.tree.leaves(metadata.tree)


def validate_path(folder: Path) -> None:
    """Raises UserError for a path that orbax takes for a pattern of paths: what it writes there could not be read again."""
    if set('[*?') & set(str(folder.absolute())):
        raise UserError(f'{folder}: checkpoints cannot be kept below a folder with [, * or ? in its name: give another')


def read_params(folder: Path, label: str) -> tuple[int, Any]:
    """The step and the parameters of the selected checkpoint: the best by score, or the newest if none has a score.

    `label` names the run in messages. Raises UserError if the folder holds no checkpoint, or one that cannot be read.
    """
    try:
        return _read_selected(folder, label)
    except UserError:
        raise
    except Exception as error:  # Orbax and TensorStore raise what they like for bytes that are not theirs
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f'{label}: its checkpoints cannot be read ({folder}: {reason}). Restore them from a copy') from error


def _read_selected(folder: Path, label: str) -> tuple[int, Any]:
    if not folder.is_dir():
        raise UserError(f'{label} holds no checkpoints: train it first, or name another run')
    for step in list_steps(folder):
        _refuse_damaged(folder / str(step), 'metrics', label)  # the scores of all decide which is selected
    checkpoints = Checkpoints(folder, read_only=True)
    try:
        best = checkpoints.best()
        step = best if best is not None else checkpoints.latest()
        if step is None:
            raise UserError(f'{label} holds no checkpoints: train it first, or name another run')
        _refuse_damaged(folder / str(step), 'params', label)
        return step, checkpoints.params(step)
    finally:
        checkpoints.close()


def _refuse_damaged(checkpoint: Path, item: str, label: str) -> None:
    reason = find_damage(checkpoint, item)
    if reason:
        raise UserError(
            f'{label}: the checkpoint of step {checkpoint.name} is damaged ({checkpoint}: {reason}). Restore it from a copy, or '
            'remove it and result.json and run the same command again'
        )
