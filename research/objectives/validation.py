"""What is refused of losses: impossible options, data or models that do not fit, keys that would change nothing."""

import dataclasses
from typing import Any

from research.errors import UserError, choose
from research.models.architecture import Architecture
from research.models.heads import HEADS
from research.objectives.losses import LOSSES, REMEDIES, Losses, Mlm, Soft, active
from research.objectives.supervised import Answer


def validate(losses: Losses, student: Architecture, offered: frozenset[str], teacher: str) -> None:
    """Raises UserError for losses that cannot be computed with this student, these data and this teacher ('' = none).

    `offered` holds what the data offer: rows of REMEDIES.
    """
    for name in LOSSES:
        _validate_options(name, getattr(losses, name))
    found = active(losses)
    if not found:
        raise UserError('every loss has weight 0: give one, such as --config.losses.mlm.weight=1')
    for name, options in found.items():
        row = LOSSES[name]
        if row.teacher and not teacher:
            raise UserError(f"loss '{name}' needs a teacher: give --config.teacher=RUN, or --config.losses.{name}.weight=0")
        if row.needs(options) not in offered | {''}:
            remedy = REMEDIES[row.needs(options)]
            raise UserError(
                f"loss '{name}' cannot be computed from these data: it needs {remedy}, or --config.losses.{name}.weight=0"
            )
        needy = [head for head in row.heads(options) if HEADS[head].reads_pooled and not HEADS[head].own_pooler]
        if needy and not student.pooler:
            raise UserError(f"loss '{name}' reads the pooled position: give --config.model.pooler=true")


def _validate_options(name: str, options: Any) -> None:
    """Raises UserError for values that are impossible even for a loss that is off."""
    row = LOSSES[name]
    if options.weight < 0:
        raise UserError(f'losses.{name}.weight={options.weight} must not be negative')
    if row.places:
        choose(f'losses.{name}.at', options.at, row.places)
    if isinstance(options, Mlm) and options.z < 0:
        raise UserError(f'losses.{name}.z={options.z} must not be negative')
    if isinstance(options, Answer) and options.none < 0:
        raise UserError(f'losses.{name}.none={options.none} must not be negative')
    if isinstance(options, Soft) and options.temperature <= 0:
        raise UserError(f'losses.{name}.temperature={options.temperature} must be above 0')


def validate_teacher(losses: Losses, student: Architecture, teacher: Architecture) -> None:
    """Raises UserError for an active loss that cannot compare this student with this teacher."""
    for name, options in active(losses).items():
        why = LOSSES[name].fits(options, student, teacher)
        if why:
            raise UserError(f"loss '{name}' does not fit: {why}; give --config.losses.{name}.weight=0")


def unused(losses: Losses) -> dict[str, str]:
    """Each key of a loss that is off, its weight aside -> why a change of it does nothing."""
    found = {}
    for name in LOSSES:
        options = getattr(losses, name)
        if not options.weight:
            others = [field.name for field in dataclasses.fields(options) if field.name != 'weight']
            found |= {f'losses.{name}.{field}': f'losses.{name}.weight=0 turns this loss off' for field in others}
    return found
