"""Start the processes that `accelerate launch --cpu --num_processes N` promises.

On CPUs accelerate starts several processes only through MPI. Without MPI it runs the program once and says nothing,
so a run on "two processes" is a run on one. Here the program notices and starts the others through torchrun.
"""

from __future__ import annotations

import os
import sys

import psutil
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from fewtext.errors import TrainingError

STARTED = ("WORLD_SIZE", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def started_processes() -> bool:
    """Start the missing processes and wait for them; False where none are missing and this one is to do the job.

    Raises:
        TrainingError: a process failed.
    """
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if not on_cpu or "MASTER_ADDR" not in os.environ or any(name in os.environ for name in STARTED):
        return False
    number = _asked_for(psutil.Process().parent())
    if number < 2:
        return False
    main = sys.modules["__main__"]
    program = ["-m", main.__spec__.parent] if main.__spec__ and main.__spec__.parent else [sys.argv[0]]
    try:
        torchrun(["--standalone", f"--nproc-per-node={number}", *program, *sys.argv[1:]])
    except ChildFailedError as error:
        raise TrainingError(
            f"{len(error.failures)} of {number} processes failed; their messages stand above."
        ) from None
    return True


def _asked_for(launcher: psutil.Process | None) -> int:
    """Return the number of processes on the launcher's command line; 1 where it does not say."""
    words = launcher.cmdline() if launcher else []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name in ("--num_processes", "--num-processes"):
            value = value or following
            return int(value) if value.isdigit() else 1
    return 1
