"""Progress of long work: a bar on a terminal, a line now and then in a log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Yield `step(text, done=None)`, to be called after every unit of work.

    Args:
        title: of the work.
        total: units in all, if known; a log then gets about twenty lines.
    """
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        count = 0
        every = max(1, (total or 0) // 20)

        def line(text: str, done: int | None = None) -> None:
            nonlocal count
            count = count + 1 if done is None else done
            if count % every == 0 or count == total:
                print(f"{title}: {count}{f'/{total}' if total else ''} {text}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(title, total=total)

        def step(text: str, done: int | None = None) -> None:
            bars.update(task, description=f"{title} {text}", completed=done, advance=1 if done is None else None)

        yield step
