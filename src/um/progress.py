"""Progress reports: a bar on a terminal, occasional lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

TENTHS = 10  # log lines per long file
LONG_FILE = 100_000_000  # bytes
shown = True  # False: no reports at all, for --quiet
LONGEST_SILENCE = 30  # seconds between lines
FIRST = 5  # units after which a log gets a first estimate of the time left


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Yield `step(text, done=None)`; call it after every unit of work.

    Args:
        title: of the work.
        total: number of units, if known; a log then gets about twenty lines and at least one every 30 s, with the
            rate and the time left.
    """
    console = Console(file=sys.stderr)
    if not shown:
        yield lambda *_: None
        return
    if not console.is_terminal:
        count = 0
        every = max(1, (total or 0) // 20)
        began: tuple[float, int] | None = None  # time and count at the first unit, which is slower than the others
        told = time.monotonic()

        def line(text: str, done: int | None = None) -> None:
            nonlocal count, began, told
            count, now = count + 1 if done is None else done, time.monotonic()
            began = began or (now, count)
            new = count - began[1]
            if count % every == 0 or count == total or (total and new == FIRST) or now - told >= LONGEST_SILENCE:
                told, each = now, (now - began[0]) / new if new else 0.0
                left = each * (total - count) if total else 0.0
                speed = f"{1 / each:.3g}/s" if 0 < each < 1 else f"{each:.3g} s each"
                words = [f"{count}{f'/{total}' if total else ''}", text]
                words += [f"({speed}, {duration(left)} left)"] if left > 1 else []
                print(f"{title}: {' '.join(filter(None, words))}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(title, total=total)

        def step(text: str, done: int | None = None) -> None:
            bars.update(task, description=f"{title} {text}", completed=done, advance=1 if done is None else None)

        yield step


def duration(seconds: float) -> str:
    """Rounded, in words: `40 s`, `25 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


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
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bars:
        whole = bars.add_task(title, total=total, state=f"0/{total}")

        @contextmanager
        def begin(name: str) -> Iterator[Bytes]:
            nonlocal count
            task, told = bars.add_task(f"  {name}", total=None, state=""), 0

            def report(done: int, size: int | None) -> None:
                nonlocal told
                state = f"{done / 1e6:,.1f}{f'/{size / 1e6:,.1f}' if size else ''} MB"
                bars.update(task, completed=done, total=size, state=state)
                if shown and not console.is_terminal and size and size >= LONG_FILE and done * TENTHS // size > told:
                    told = done * TENTHS // size
                    print(f"{title}: {name} {state}", file=sys.stderr, flush=True)

            try:
                yield report
            finally:
                bars.remove_task(task)
            count += 1
            bars.update(whole, completed=count, state=f"{count}/{total}")
            if shown and not console.is_terminal and (count % max(1, total // 20) == 0 or count == total):
                print(f"{title}: {count}/{total} {name}", file=sys.stderr, flush=True)

        yield begin
