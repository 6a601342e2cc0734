"""The tasks of `restore volume` by their words.

Called by the command line; a task's file is imported when it is asked for.
"""

from __future__ import annotations

import importlib

from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.pipelines.volume.task import VolumeTask

TASKS = {
    "denoise": "Denoise",
    "deblur": "Deblur",
    "inpaint": "Inpaint",
    "superres": "Superres",
}
"""The file, which bears the word's name, and the class in it."""


def task_class(word: str) -> type[VolumeTask]:
    """The task of a word. Raises ConfigError with the nearest one."""
    if word not in TASKS:
        raise ConfigError(
            f"--task is '{word}'{did_you_mean(word, TASKS)}; there are: {', '.join(TASKS)}"
        )
    module = importlib.import_module(f"restore.pipelines.volume.{word}")
    found: type[VolumeTask] = getattr(module, TASKS[word])
    return found
