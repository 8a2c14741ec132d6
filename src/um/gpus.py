"""GPUs for jobs that run side by side: each job takes its own, by a lock that ends with its process."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

from um.files import flock, make_folder, no_link

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
LOCKS = Path(tempfile.gettempdir(), f"um-gpus-{getattr(os, 'getuid', int)()}")  # Windows has no getuid
PAUSE = 1.0  # seconds between attempts
_held: list[FileIO] = []  # open, and so locked, until the process ends


def take(wanted: int, count: Callable[[], int] | None = None, locks: Path = LOCKS) -> list[str]:
    """Reserve GPUs for this process and hide all others; waits until enough are free.

    If no more GPUs are visible than wanted, a scheduler such as Slurm has chosen them already, or there is no choice.

    Args:
        wanted: number of GPUs; 0 leaves the choice to the verb.
        count: gives the number of visible GPUs; PyTorch's by default.
        locks: folder of the locks, one per GPU, shared by the jobs of a machine.

    Returns:
        the GPUs that were reserved, by the names that CUDA_VISIBLE_DEVICES lists.
    """
    if not wanted:
        return []
    visible = _visible(count or _count)
    if len(visible) <= wanted:
        return []
    make_folder(locks)
    said = False
    while len(taken := _lock(visible, wanted, locks)) < wanted:
        if not said:
            log.info("waiting for a free GPU of %s", ", ".join(visible))
        said = True
        time.sleep(PAUSE)
    os.environ[VISIBLE] = ",".join(taken)
    log.info("GPU %s", os.environ[VISIBLE])
    return taken


def _visible(count: Callable[[], int]) -> list[str]:
    """Names of the GPUs that CUDA would show to this process."""
    number = count()
    listed = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return listed[:number] or [str(index) for index in range(number)]


def _count() -> int:
    import torch

    return torch.cuda.device_count()  # asks the driver and does not initialise CUDA


def _lock(names: Sequence[str], wanted: int, locks: Path) -> list[str]:
    """Lock as many GPUs as wanted, or none."""
    taken: dict[str, FileIO] = {}
    for name in names:
        file = open(locks / f"{name.replace('/', '-')}.lock", "a+b", buffering=0, opener=no_link)  # noqa: SIM115
        if len(taken) < wanted and flock(file, shared=False):
            taken[name] = file
        else:
            file.close()
    if len(taken) < wanted:
        for file in taken.values():
            file.close()
        return []
    _held.extend(taken.values())
    return list(taken)
