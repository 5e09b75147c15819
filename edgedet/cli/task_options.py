"""Which options mean something to which task: one that means nothing is refused, never ignored."""

from __future__ import annotations

import click
from click.core import ParameterSource

from edgedet.model_spec import Task

__all__ = ["check_options"]

_BOXES: tuple[Task, ...] = ("detect", "instance", "localize")
_TASKS: dict[str, tuple[Task, ...]] = {
    "conf": (*_BOXES, "panoptic"),
    "iou": _BOXES,
    "max_det": _BOXES,
    "classes": (*_BOXES, "panoptic"),
    "class_agnostic": _BOXES,
    "multi_label": _BOXES,
    "coco": _BOXES,
    "maps": ("semantic", "panoptic"),
}
"""Parameter of a command -> the tasks that it has a meaning for; all others have one for every task."""


def check_options(task: Task) -> None:
    """Hold the options that the user gave to the running command against the model's task.

    Raises:
        click.UsageError: for the first one that means nothing to it.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and task not in _TASKS.get(name, (task,)):
            fitting = ", ".join(_TASKS[name])
            raise click.UsageError(
                f"{parameter.opts[-1]} means nothing to a model of the task {task}, only to {fitting}: leave it out"
            )
