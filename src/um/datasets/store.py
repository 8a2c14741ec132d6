"""A feature file: float (T, D), one row per snippet."""

import hashlib
import io
import math
import os
import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from um.errors import BadInput
from um.files import atomic
from um.forms import check_file, check_fits, read_json

Features = npt.NDArray[np.floating]

EXPECTED = "floats (T, D)"
HINT = "extract the video again"
RESTORE = "um extract restores it; without index.json and journal.jsonl beside them, features are used unchecked"
MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 10_000  # bytes; numpy's own limit
EMPTY = 1_000_000  # largest product of the other axes of an empty array
NUMBERS, TEXTS = "biufc", "SU"  # NumPy's type kinds
CHUNK = 1 << 20  # bytes; small enough to be hashed from the CPU cache


class Header(NamedTuple):
    """The header of an .npy file, checked against its size."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    first: int  # offset of the values


def made(folder: Path) -> dict[str, Any]:
    """The content of `spec.json`, which describes how features were made; empty without one."""
    spec = folder / "spec.json"
    known = read_json(spec) if os.path.lexists(spec) else {}
    return known if isinstance(known, dict) else {}


def read(path: Path) -> Features:
    """Load one video's features.

    Returns:
        (T, D) floats as stored, T >= 1 snippets, all finite.

    Raises:
        BadInput: no such file, or invalid content.
    """
    return check(path, load(path))


def shape(path: Path) -> tuple[int, int]:
    """(T, D) of a feature file from its header; values are not read.

    Raises:
        BadInput: as for `read`, except for values that are not finite.
    """
    with _open(path) as file:
        head = header(path, file, NUMBERS)
    return check_shape(path, head.dtype, head.shape)


def load(path: Path, sha256: str | None = None) -> npt.NDArray[Any]:
    """The array of numbers in a .npy file, in any shape.

    Raises:
        BadInput: no such file, invalid content, or another sha256 than given.
    """
    with _open(path) as file:
        head = header(path, file, NUMBERS)
        return values(path, file, head, sha256)


def _open(path: Path) -> IO[bytes]:
    check_file(path, f"a .npy file of {EXPECTED}", "extract the video first")
    return path.open("rb")


def header(
    path: Path, file: IO[bytes], kinds: str, expected: str = f"a .npy file of {EXPECTED}", hint: str = HINT
) -> Header:
    """Read the header of an open .npy file with a type of `kinds` (as in `np.dtype.kind`).

    Raises:
        BadInput: no header, a size that does not match it, or another type.
    """
    start = file.read(len(MAGIC) + 6 + LONGEST_HEADER)
    version = tuple(start[len(MAGIC) :][:2])
    known = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if not start.startswith(MAGIC) or version not in known:
        found = "a zip archive, such as .npz" if start.startswith(b"PK\3\4") else "no NumPy header"
        hint = "save the array alone, with np.save" if start.startswith(b"PK\3\4") else hint
        raise BadInput(path, f"unreadable array ({found})", expected, hint)
    try:
        (length,) = struct.unpack_from("<H" if version == (1, 0) else "<I", start, len(MAGIC) + 2)
        if length > LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        content = io.BytesIO(start)
        content.seek(len(MAGIC) + 2)
        declared, fortran, dtype = known[version](content)
    except Exception as error:  # numpy's parser of Python literals can fail anywhere
        raise BadInput(path, f"unreadable array ({error or type(error).__name__})", expected, hint) from None
    if dtype.kind not in kinds:
        what = "objects" if dtype.kind == "O" else str(dtype)
        raise BadInput(path, f"an array of {what}", expected, "save plain floats, with np.save")
    there = os.fstat(file.fileno()).st_size - content.tell()
    if dtype.kind == "O" and possible(declared):  # a pickle of any length
        return Header(dtype, declared, fortran, content.tell())
    if not possible(declared) or math.prod(declared) * dtype.itemsize != there:
        found = f"{there:,} bytes of values for {dtype} {_short(declared)}"
        needed = f"{math.prod(declared) * dtype.itemsize:,}" if possible(declared) else "a possible shape"
        raise BadInput(path, found, f"{needed}, as in its header", f"the file is truncated or damaged: {hint}")
    return Header(dtype, declared, fortran, content.tell())


def values(path: Path, file: IO[bytes], head: Header, sha256: str | None = None) -> npt.NDArray[Any]:
    """The values of an open .npy file, whose hash must equal `sha256` if given."""
    size = os.fstat(file.fileno()).st_size
    check_fits(path, size, "an array", "split it")
    content, digest, at = np.empty(size, np.uint8), hashlib.sha256(), 0
    file.seek(0)
    while count := file.readinto(content.data[at : at + CHUNK]):  # type: ignore[attr-defined]
        if sha256 is not None:
            digest.update(content.data[at : at + count])
        at += count
    if at < size:
        raise BadInput(path, f"{at:,} bytes", f"{size:,}, as a moment ago", "is another program writing it?")
    if sha256 is not None and digest.hexdigest() != sha256:
        found = f"a file that does not match index.json (sha256 {digest.hexdigest()[:12]}…)"
        raise BadInput(path, found, f"sha256 {sha256[:12]}…", RESTORE)
    flat = np.frombuffer(content, head.dtype, math.prod(head.shape), head.first)
    return flat.reshape(head.shape, order="F" if head.fortran else "C")


def possible(declared: tuple[int, ...]) -> bool:
    """Whether an array of this shape could fit into memory; the other axes of empty arrays are limited, too."""
    cells = math.prod(max(1, int(n)) for n in declared)
    return all(n >= 0 for n in declared) and cells < 2**48 and (cells <= EMPTY or 0 not in declared)


def _short(declared: tuple[int, ...]) -> str:
    named = [str(n) if abs(n) < 10**18 else "a huge number" for n in declared[:8]]
    return f"({', '.join(named)}{',' if len(named) == 1 else ''})"


def check_shape(where: str | Path, dtype: np.dtype[Any], declared: tuple[int, ...]) -> tuple[int, int]:
    """(T, D) of an array of floats, which may be stored as (T, D, 1, 1) or (T, 1, 1, D).

    Raises:
        BadInput: another shape or type, or no values.
    """
    maps = len(declared) == 4 and sorted(declared[1:])[:2] == [1, 1]  # a 1 x 1 feature map, as networks output
    kept = (declared[0], max(declared[1:])) if maps else declared
    if len(kept) != 2 or not np.issubdtype(dtype, np.floating):
        hint = "save one row per snippet: select or average the other axes" if len(kept) > 2 else HINT
        raise BadInput(where, f"{dtype} {_short(declared)}", EXPECTED, hint)
    if 0 in kept:
        raise BadInput(where, f"an empty array {_short(declared)}", EXPECTED + " with T >= 1", HINT)
    return kept[0], kept[1]


def check(where: str | Path, features: npt.NDArray[Any]) -> Features:
    """The array as (T, D) floats, T >= 1, all finite; raises BadInput otherwise."""
    features = features.reshape(check_shape(where, features.dtype, features.shape))
    if bad := features.size - int(np.isfinite(features).sum()):
        raise BadInput(where, f"{bad} of {features.size} values NaN or infinite", "finite values", HINT)
    if features.dtype.itemsize > 4 and float(np.abs(features).max()) > float(np.finfo(np.float32).max):
        raise BadInput(where, f"values up to {np.abs(features).max():.3g}", "the range of single precision", HINT)
    return features


def write(path: Path, features_TD: Features, dtype: npt.DTypeLike = np.float32) -> None:
    """Save (T, D) features to `path` atomically."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(features_TD, dtype=dtype), allow_pickle=False)
