"""Object arrays in .npy files, which are pickles, read without running what they may hold.

numpy's own functions for unpickling trust the stream: it can declare plain bytes to be objects, that is, pointers. So
none of them is used here. Stand-ins take what the stream says of an array, and build it from its bytes.
"""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from um.errors import BadInput


class _DType:
    """A number type, a text or `O`; nothing that has parts."""

    def __init__(self, name: bytes | str, *_: object) -> None:
        self.name = name.decode("ascii") if isinstance(name, bytes) else str(name)
        if not re.fullmatch(r"[biufSU]\d+|O\d?", self.name):
            raise pickle.UnpicklingError(f"an array of {self.name}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order in ("<", ">"):
            self.name = order + self.name


class _Array:
    """An array: its values when they are plain, a list of objects otherwise."""

    values: NDArray[Any] | list[Any]
    shape: tuple[int, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, dtype, fortran, content = state
        if not isinstance(dtype, _DType):
            raise pickle.UnpicklingError("an array without a type")
        if dtype.name.startswith("O"):
            if not isinstance(content, list):
                raise pickle.UnpicklingError("bytes for an array of objects")
            self.values = content
        else:
            flat = np.frombuffer(content, dtype.name)
            self.values = flat.reshape(self.shape, order="F" if fortran else "C")

    def plain(self) -> Any:
        """The values, objects as (nested) lists."""
        if isinstance(self.values, np.ndarray):
            return self.values
        values = np.empty(len(self.values), object)
        for position, value in enumerate(self.values):
            values[position] = _plain(value)
        return values.reshape(self.shape).tolist()


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.plain()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


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
    ("_codecs", "encode"): _encode,  # how Python 3 writes bytes in Python 2's protocol
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        key = (module.replace("numpy._core", "numpy.core"), name)  # numpy 2 renamed it
        if key not in STAND_INS:
            raise pickle.UnpicklingError(f"{module}.{name} in a file of arrays")
        return STAND_INS[key]


def read_objects(path: Path) -> list[Any]:
    """The elements of an array along its first axis: an object array, of Python 2 or 3, or a plain one.

    Returns:
        Arrays, numbers, texts, bytes (Python 2's texts) and lists of them.

    Raises:
        BadInput: no such file, another form, or a pickle of anything else.
    """
    expected, hint = "an array of arrays and plain values", "take the files as published"
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = header[version](file)
            if not dtype.hasobject:
                file.seek(0)
                return list(np.lib.format.read_array(file, allow_pickle=False))
            array = _Unpickler(file, encoding="bytes").load()
        if isinstance(array, _Array) and array.shape == shape and shape:
            return list(array.plain())
    except FileNotFoundError:
        raise BadInput(path, "no such file", expected, hint) from None
    except Exception as error:  # a hostile or damaged stream can fail anywhere
        raise BadInput(path, f"no readable array ({error!r})", expected, hint) from None
    raise BadInput(path, f"no readable array ({type(array).__name__})", expected, hint)
