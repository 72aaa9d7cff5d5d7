"""Checkpoints: training states on disk. The only file that imports orbax.

A checkpoint holds two items: 'params', and 'training', the rest of the State. A reader of the model does not read the optimizer's
state. Saving is asynchronous; a checkpoint whose writing was interrupted is ignored and removed later.
"""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from research.errors import UserError
from research.train import State, evaluated

# Orbax logs every file it writes, and warns about each checkpoint without a score.
logging.getLogger('absl').addFilter(lambda record: record.levelno >= logging.ERROR)

ITEMS = ('params', 'training')


class Checkpoints:
    """The checkpoints of one run: the newest `keep` and the one with the best score."""

    def __init__(self, folder: Path, keep: int = 1, read_only: bool = False) -> None:
        validate_path(folder)
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics['score'], n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        self._manager = ocp.CheckpointManager(
            Path(folder).absolute(),
            item_names=ITEMS,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                best_fn=lambda metrics: metrics['score'],
                cleanup_tmp_directories=not read_only,  # a reader must not remove what the run is writing
                read_only=read_only,
            ),
        )

    def save(self, state: State, score: float | None = None) -> None:
        """Starts saving `state` under its step; a state with a `score` (higher is better) can become the best."""
        training = {'step': state.step, 'key': state.key, 'moments': state.moments}
        if state.average is not None:  # readers of the model get the average; training continues from these
            training['params'] = state.params
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(params=ocp.args.StandardSave(evaluated(state)), training=ocp.args.StandardSave(training)),
            metrics=None if score is None else {'score': score},
        )

    def latest(self) -> int | None:
        """The newest step on disk; None if there is none."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the best score, the earliest of equals; None if none has a score."""
        scores = {step: metrics['score'] for step in self._manager.all_steps() if (metrics := self._manager.metrics(step))}
        return max(scores, key=lambda step: (scores[step], -step)) if scores else None

    def restore(self, step: int, like: State) -> State:
        """The State of `step`, with the shapes and devices of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        training = {'step': abstract.step, 'key': abstract.key, 'moments': abstract.moments}
        if abstract.average is not None:
            training['params'] = abstract.params
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(params=ocp.args.StandardRestore(abstract.params), training=ocp.args.StandardRestore(training)),
        )
        if like.average is None:
            return State(params=found['params'], **found['training'])
        return State(average=found['params'], **found['training'])

    def params(self, step: int) -> Any:
        """The parameters of `step`, without the optimizer's state, as a tree of numpy arrays."""
        item = Path(self._manager.directory) / str(step) / 'params'
        with ocp.PyTreeCheckpointer() as reader:
            metadata: Any = reader.metadata(item).item_metadata
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree)
            return reader.restore(item, ocp.args.PyTreeRestore(restore_args=as_numpy))

    def wait(self) -> None:
        """Waits until every started save is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the saves and closes the folder."""
        self._manager.close()


def validate_path(folder: Path) -> None:
    """Raises UserError for a path that orbax takes for a pattern of paths: what it writes there could not be read again."""
    if set('[*?') & set(str(folder.absolute())):
        raise UserError(f'{folder}: checkpoints cannot be kept below a folder with [, * or ? in its name: give another')


def read_params(folder: Path, label: str) -> tuple[int, Any]:
    """The step and the parameters of the selected checkpoint: the best by score, or the newest if none has a score.

    `label` names the run in messages. Raises UserError if the folder holds no checkpoint.
    """
    if not folder.is_dir():
        raise UserError(f'{label} holds no checkpoints: train it first, or name another run')
    checkpoints = Checkpoints(folder, read_only=True)
    try:
        best = checkpoints.best()
        step = best if best is not None else checkpoints.latest()
        if step is None:
            raise UserError(f'{label} holds no checkpoints: train it first, or name another run')
        return step, checkpoints.params(step)
    finally:
        checkpoints.close()
