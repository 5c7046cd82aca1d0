"""A run, from its sizes to its record: presets, tasks, jobs, progress, results."""

from emlib.runs.presets import PRESETS, Preset, preset
from emlib.runs.progress import watch
from emlib.runs.record import read_result, write_result
from emlib.runs.task import Task, make_task

__all__ = [
    "PRESETS",
    "Preset",
    "Task",
    "make_task",
    "preset",
    "read_result",
    "watch",
    "write_result",
]
