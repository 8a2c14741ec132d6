"""An iterator that runs ahead in one background thread."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Item(Generic[T]):
    value: T


@contextmanager
def prefetch(items: Iterator[T], depth: int) -> Iterator[Iterator[T]]:
    """Yield `items` in their order while at most `depth` finished ones wait; errors arrive in their place.

    Leaving the context ends the thread, also when not everything was consumed.
    """
    ready: queue.Queue[_Item[T] | BaseException] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: _Item[T] | BaseException) -> None:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return

    def produce() -> None:
        try:
            for item in items:
                put(_Item(item))
                if stop.is_set():
                    return
            put(StopIteration())
        except BaseException as error:
            put(error)

    def consume() -> Iterator[T]:
        while not isinstance(entry := ready.get(), StopIteration):
            if isinstance(entry, BaseException):
                raise entry
            yield entry.value

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stop.set()
        thread.join()
