"""What a run does about broken steps: it leaves out their updates, then goes back past them, then stops.

Everything follows from the steps themselves and from the lines of metrics.jsonl up to the checkpoint that a run continues from, so
that a killed run decides as one that was never stopped.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp

from research.checkpoint_files import list_steps
from research.errors import UserError
from research.runs.folder import read_metrics
from research.runs.opening import Parts
from research.train import State

# Keys of metrics.jsonl.
SKIPPED = 'train/skipped'  # 1 on the line of a skipped step; other lines do not have it
BACK = 'guard/back_to'  # the step of the checkpoint that the run went back to, on a line of the step that it goes on after


def is_due(parts: Parts, step: int, every: int) -> bool:
    """Whether something done every so many steps (0 = at the end only) is due after `step`."""
    return step == parts.steps or bool(every and step % every == 0)


class Guard:
    """Counts the skipped steps of a run, and decides when it goes back and when it stops."""

    def __init__(self, parts: Parts, first: int) -> None:
        lines = [line for line in read_metrics(parts.workdir) if line['step'] <= first]
        skipped = {line['step'] for line in lines if SKIPPED in line}
        self._parts = parts
        self._back = int(max((line['step'] for line in lines if BACK in line), default=0))  # the run went back, and on after this
        self._row = 0  # skipped steps up to now, without a sound one between them
        while first - self._row in skipped and first - self._row > self._back:
            self._row += 1
        self._why = ''

    def accept(self, step: int, values: Mapping[str, float]) -> bool:
        """Whether the run goes on after `step`, whose numbers are `values`; if not, it must `go_back`. Logs a skipped step."""
        if not values['skipped']:
            self._row = 0
            return True
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        limit = self._parts.x.run.max_skipped
        self._row += 1
        self._why = f'{", ".join(broken)} is not finite' if broken else f'the loss is a spike ({values["loss"]:.4f})'
        self._parts.log.line(f'step {step}: {self._why}; skipped, {self._row} in a row (run.max_skipped={limit})')
        return self._row <= limit

    def go_back(self, step: int, state: State) -> tuple[State, int]:
        """(the newest good checkpoint as the state after `step`, its own step): what lies between is not trained on again.

        A checkpoint is good if it is older than the skipped steps. state: any of the run, for shapes and devices. Raises UserError
        if there is no good checkpoint, and if the run went back to this one before.
        """
        parts, first_bad = self._parts, step - self._row + 1
        parts.checkpoints.wait()
        good = [saved for saved in list_steps(parts.workdir / 'checkpoints') if saved < first_bad]
        # A checkpoint that a signal asked for would be another one than in a run without that signal.
        found = max((saved for saved in good if saved not in parts.checkpoints.unplanned), default=0)
        if found <= self._back:
            raise UserError(self._refuse(step))
        parts.log.line(f'goes back to the checkpoint of step {found}, and on after step {step}, without the batches between')
        self._row, self._back = 0, step
        restored = parts.checkpoints.restore(found, state)
        return parts.plan.put_state(dataclasses.replace(restored, step=jnp.asarray(step, jnp.int32))), found

    def _refuse(self, step: int) -> str:
        again = f'again after the run went back, and on after step {self._back}, in'
        where = again if self._back else 'there is no checkpoint from before that in'
        return (
            f'step {step}: {self._why}; {where} {self._parts.workdir} '
            f'({self._row} steps in a row were skipped, run.max_skipped={self._parts.x.run.max_skipped}). '
            'Try a lower --config.optimizer.lr or a longer warm-up in another --workdir'
        )
