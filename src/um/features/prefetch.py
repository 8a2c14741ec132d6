"""Iterators that run ahead in background threads."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Item(Generic[T]):
    value: T


@contextmanager
def prefetch(sources: Iterable[Iterator[T]], depth: int, threads: int = 1) -> Iterator[Iterator[T]]:
    """Yield the items of all sources, each source's in order, with at most `depth` items waiting.

    Each thread processes one source after the other; with one thread, all items come in order. Errors are raised in
    their place. Leaving the context ends the threads, even if items are left.
    """
    ready: queue.Queue[_Item[T] | BaseException] = queue.Queue(depth)
    stop, lock, left = threading.Event(), threading.Lock(), iter(sources)

    def put(entry: _Item[T] | BaseException) -> None:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return

    def following() -> Iterator[T] | None:
        with lock:
            return next(left, None)

    def produce() -> None:
        try:
            while (source := following()) is not None:
                for item in source:
                    put(_Item(item))
                    if stop.is_set():
                        return
            put(StopIteration())
        except BaseException as error:
            put(error)

    def consume() -> Iterator[T]:
        working = threads
        while working:
            entry = ready.get()
            if isinstance(entry, StopIteration):
                working -= 1
            elif isinstance(entry, BaseException):
                raise entry
            else:
                yield entry.value

    workers = [threading.Thread(target=produce, name=f"prefetch-{i}", daemon=True) for i in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield consume()
    finally:
        stop.set()
        for worker in workers:
            worker.join()
