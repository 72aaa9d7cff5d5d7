"""What an experiment would be, before any of it is: definition, parameters, sharing, FLOPs, memory."""

from pathlib import Path
from typing import Any

from research import costs, validation, wire
from research.errors import UserError
from research.experiment import Experiment, student_heads
from research.models.sharing import layout
from research.objectives import losses
from research.runs import sources
from research.study.graph import order
from research.study.study import Study


def preview(asked: Experiment | Study, workdir: Path) -> dict[str, Any]:
    """One JSON-able object. Neither data nor devices are touched; donors are looked at only where they exist.

    Raises UserError for what is impossible whatever the data.
    """
    if isinstance(asked, Study):
        return {'study': asked.name, 'runs': {name: preview(asked.runs[name], workdir / name) for name in order(asked)}}
    x, notes = asked, []
    source = sources.source_of_start(x)
    if x.surgery.inherit:
        if sources.locate(source, workdir).is_dir():
            x = sources.resolve(x, workdir)
        else:
            notes.append(f"start='{source}' is not there yet: the model shown is the config's own, not the start's")
    validation.validate(x)
    teacher = None
    if losses.needs_teacher(x.losses):
        if sources.locate(x.teacher, workdir).is_dir():
            teacher = sources.read_experiment(x.teacher, workdir, 'teacher').model
        else:
            notes.append(f"teacher='{x.teacher}' is not there yet: FLOPs per step leave its forward pass out")
    try:
        heads = student_heads(x)
    except UserError as error:
        heads = tuple((name, 2) for name in losses.heads(x.losses))
        notes.append(f'the labels are not known yet ({error}): two are counted')
    summary = costs.summary(x.model, heads)
    return {
        'experiment': wire.to_wire(x).to_dict(),
        'parameters': summary,
        'layers': [
            {'layer': layer, 'attention_group': attention, 'feed_forward_group': feed_forward}
            for layer, (attention, feed_forward) in enumerate(layout(x.model))
        ],
        'flops': costs.costs(x.model, teacher, x.losses, x.data, x.run.batch),
        'memory_bytes': costs.memory(summary['total'], x.optimizer),
        'notes': notes,
    }
