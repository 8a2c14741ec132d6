"""Pickles of arrays, and object arrays in .npy files, read without running any code in them.

numpy's own unpickling functions trust the stream, which can declare plain bytes to be objects, i.e. pointers. Stand-ins
replace all of them: they record the stream's description of an array, and build it from its bytes.
"""

import io
import mmap
import pickle
import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from um.datasets import store
from um.errors import BadInput
from um.forms import check_file, check_fits

MOST_OPERATIONS = 3_000_000  # per pickle; ActivityNet's segments need 300,000
MOST_VALUES = 500_000  # in expanded lists; ActivityNet's segments have 100,000
WIDTHS = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}  # bytes of a length; else 4
OPERATIONS = {operation.code: operation for operation in pickletools.opcodes}
MEMOS = {"PUT", "BINPUT", "LONG_BINPUT"}


class _DType:
    """A number type, a text type or `O`; no structured types."""

    def __init__(self, name: bytes | str, *_: object) -> None:
        self.name = name.decode("ascii") if isinstance(name, bytes) else str(name)
        if not re.fullmatch(r"[biufSU]\d+|O\d?", self.name):
            raise pickle.UnpicklingError(f"an array of {self.name}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order in ("<", ">"):
            self.name = order + self.name


class _Array:
    """An array of plain values, or a list of objects."""

    values: NDArray[Any] | list[Any]
    shape: tuple[int, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, dtype, fortran, content = state
        if not isinstance(dtype, _DType):
            raise pickle.UnpicklingError("an array without a type")
        if not store.possible(self.shape):
            raise pickle.UnpicklingError("an impossible shape")
        if dtype.name.startswith("O"):
            if not isinstance(content, list):
                raise pickle.UnpicklingError("bytes for an array of objects")
            self.values = content
        else:
            flat = np.frombuffer(content, dtype.name)
            self.values = flat.reshape(self.shape, order="F" if fortran else "C")

    def plain(self, left: Iterator[int]) -> Any:
        """The values, objects as (nested) lists."""
        if isinstance(self.values, np.ndarray):
            return self.values
        values = np.empty(len(self.values), object)
        for position, value in enumerate(self.values):
            values[position] = _plain(value, left)
        return values.reshape(self.shape).tolist()


def _plain(value: Any, left: Iterator[int]) -> Any:
    """The value with object arrays as lists; shared lists are copied to each place."""
    if next(left, None) is None:
        raise pickle.UnpicklingError(f"lists that expand to more than {MOST_VALUES:,} values")
    if isinstance(value, _Array):
        return value.plain(left)
    if isinstance(value, dict):
        return {name: _plain(item, left) for name, item in value.items()}
    return [_plain(item, left) for item in value] if isinstance(value, list | tuple) else value


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: _DType, content: bytes) -> Any:
    return np.frombuffer(content, dtype.name)[0]


def _encode(text: str, encoding: str | bytes) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"an encoding {encoding!r}")
    return text.encode("latin1")


STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,  # Python 3's bytes in Python 2's protocol
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        key = (module.replace("numpy._core", "numpy.core"), name)  # numpy 2 renamed it
        if key not in STAND_INS:
            raise pickle.UnpicklingError(f"{module}.{name} in a file of arrays")
        return STAND_INS[key]


def _check_claims(stream: memoryview) -> None:
    """Check the lengths and memo indices of a pickle, for which memory is allocated before the data are read.

    Raises:
        UnpicklingError: a payload longer than the rest of the file, a memo index too large, or no end.
    """
    at, size = 0, len(stream)
    for count in range(MOST_OPERATIONS):
        operation = OPERATIONS.get(chr(stream[at]) if at < size else "")
        if operation is None:
            raise pickle.UnpicklingError("not a pickle")
        if operation.name == "STOP":
            return
        start = at = at + 1
        if operation.arg is not None:
            if operation.arg.n == pickletools.UP_TO_NEWLINE:
                for _ in range(2 if operation.arg.name == "stringnl_noescape_pair" else 1):
                    at = _line_end(stream, at)
            elif operation.arg.n >= 0:
                at += operation.arg.n
            else:
                width = WIDTHS.get(operation.arg.n, 4)
                at += width + int.from_bytes(stream[at : at + width], "little")
        if at > size:
            raise pickle.UnpicklingError(f"{operation.name} longer than the file")
        if operation.name in MEMOS:
            argument = bytes(stream[start:at])
            place = int(argument) if operation.name == "PUT" else int.from_bytes(argument, "little")
            if not 0 <= place <= count:
                raise pickle.UnpicklingError("a memo index out of range")
        if operation.name == "FRAME" and int.from_bytes(stream[start:at], "little") > size - at:
            raise pickle.UnpicklingError("a frame longer than the file")
    raise pickle.UnpicklingError(f"more than {MOST_OPERATIONS:,} operations")


def _line_end(stream: memoryview, at: int) -> int:
    step = 4096
    while at < len(stream):
        found = bytes(stream[at : at + step]).find(b"\n")
        if found >= 0:
            return at + found + 1
        at, step = at + step, 2 * step
    return len(stream) + 1


def unpickle(content: bytes) -> Any:
    """The content of a pickle of NumPy arrays and plain values.

    Raises:
        Exception: of any kind, for a stream that is damaged or contains anything else.
    """
    _check_claims(memoryview(content))
    return _plain(_Unpickler(io.BytesIO(content), encoding="bytes").load(), iter(range(MOST_VALUES)))


def read_objects(path: Path) -> list[Any]:
    """The elements of an array along its first axis: a plain array, or an object array from Python 2 or 3.

    Returns:
        Arrays, numbers, texts, bytes (Python 2's texts) and lists of them.

    Raises:
        BadInput: no such file, another format, or a pickle of anything else.
    """
    expected, hint = "an array of arrays and plain values", "use the files as published"
    check_file(path, expected, hint)
    size = path.stat().st_size
    check_fits(path, size, "an array", hint)
    with path.open("rb") as file:
        head = store.header(path, file, store.NUMBERS + store.TEXTS + "O", expected, hint)
        if head.dtype.kind != "O":
            return list(store.values(path, file, head)) if head.shape else []
        try:
            with (
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
                memoryview(content) as whole,
                whole[head.first :] as stream,
            ):
                _check_claims(stream)
            file.seek(head.first)
            array = _Unpickler(file, encoding="bytes").load()
            if isinstance(array, _Array) and array.shape == head.shape and head.shape:
                return list(array.plain(iter(range(MOST_VALUES))))
        except Exception as error:  # a hostile or damaged stream can fail anywhere
            raise BadInput(path, f"unreadable array ({error!r})", expected, hint) from None
    raise BadInput(path, f"unreadable array ({type(array).__name__})", expected, hint)
