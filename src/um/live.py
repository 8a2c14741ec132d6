"""Losses of a running training in TensorBoard: `um train --tensorboard DIR`, the extra `tensorboard`."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from um.errors import BadInput

Losses = Callable[[str, int, dict[str, float]], None]  # model, iteration, mean losses since the last evaluation


@contextmanager
def tensorboard(folder: Path | None, out: Path) -> Iterator[Losses]:
    """Yield a function that writes the losses of a model, `last` or `selected`, for TensorBoard.

    Args:
        folder: of all runs; this one gets a subfolder with the last two names of `out`. None: write nothing.
        out: folder of the models.

    Raises:
        BadInput: TensorBoard is not installed, or the folder cannot be made.
    """
    if not folder:
        yield lambda *_: None
        return
    if not find_spec("tensorboard"):
        hint = f"{shlex.quote(sys.executable)} -m pip install tensorboard"
        raise BadInput("--tensorboard", "no package tensorboard", "it to be installed", hint)
    if folder.exists() and not folder.is_dir():
        raise BadInput(folder, "a file", "a folder for TensorBoard's runs", "choose another --tensorboard")
    from torch.utils.tensorboard import SummaryWriter  # imported late: it takes seconds

    writers: dict[str, SummaryWriter] = {}

    def write(model: str, iteration: int, losses: dict[str, float]) -> None:
        if model not in writers:  # purge_step: points of an earlier run from here on are hidden
            place = folder.joinpath(*out.resolve().parts[-2:], model)
            writers[model] = SummaryWriter(str(place), purge_step=iteration)
        for name, value in losses.items():
            writers[model].add_scalar(f"loss/{name}", value, iteration)
        writers[model].flush()

    try:
        yield write
    finally:
        for writer in writers.values():
            writer.close()
