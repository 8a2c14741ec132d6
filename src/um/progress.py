"""Progress reports: a bar on a terminal, occasional lines in a log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

TENTHS = 10  # log lines per long file
LONG_FILE = 100_000_000  # bytes


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Yield `step(text, done=None)`; call it after every unit of work.

    Args:
        title: of the work.
        total: number of units, if known; a log then gets about twenty lines.
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
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(title, total=total)

        def step(text: str, done: int | None = None) -> None:
            bars.update(task, description=f"{title} {text}", completed=done, advance=1 if done is None else None)

        yield step


Bytes = Callable[[int, int | None], None]  # bytes done, total


@contextmanager
def transfers(title: str, total: int) -> Iterator[Callable[[str], AbstractContextManager[Bytes]]]:
    """Yield `begin(name)`, a context that yields `report(bytes, total)` for one file; several may run at once.

    Args:
        title: of the transfer.
        total: number of files.
    """
    console, count = Console(file=sys.stderr), 0
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        whole = bars.add_task(title, total=total, state=f"0/{total}")

        @contextmanager
        def begin(name: str) -> Iterator[Bytes]:
            nonlocal count
            task, told = bars.add_task(f"  {name}", total=None, state=""), 0

            def report(done: int, size: int | None) -> None:
                nonlocal told
                state = f"{done / 1e6:,.1f}{f'/{size / 1e6:,.1f}' if size else ''} MB"
                bars.update(task, completed=done, total=size, state=state)
                if not console.is_terminal and size and size >= LONG_FILE and done * TENTHS // size > told:
                    told = done * TENTHS // size
                    print(f"{title}: {name} {state}", file=sys.stderr, flush=True)

            try:
                yield report
            finally:
                bars.remove_task(task)
            count += 1
            bars.update(whole, completed=count, state=f"{count}/{total}")
            if not console.is_terminal and (count % max(1, total // 20) == 0 or count == total):
                print(f"{title}: {count}/{total} {name}", file=sys.stderr, flush=True)

        yield begin
