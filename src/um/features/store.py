"""A feature file: float (T, D), one row per snippet."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from um.errors import BadInput
from um.files import atomic
from um.forms import read_json

Features = npt.NDArray[np.floating]

EXPECTED = "floats (T, D)"
HINT = "extract the video again"


def made(folder: Path) -> dict[str, Any]:
    """What a folder of features says of their making in its `spec.json`; nothing, where there is none."""
    spec = folder / "spec.json"
    known = read_json(spec) if spec.is_file() else {}
    return known if isinstance(known, dict) else {}


def read(path: Path) -> Features:
    """Load one video's features.

    Returns:
        (T, D) floats as stored, T >= 1 snippets, all finite.

    Raises:
        BadInput: there is no such file, or it holds anything else.
    """
    return check(path, load(path))


def load(path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, unchecked; anything else is BadInput."""
    expected = f"a .npy file of {EXPECTED}"
    try:
        with path.open("rb") as file:
            features: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(path, "no such file", expected, "extract the video first") from None
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise BadInput(path, f"no readable array ({error})", expected, HINT) from None
    return features


def check(where: str | Path, features: npt.NDArray[Any]) -> Features:
    """The same array when it is (T, D) floats, T >= 1 and all finite; otherwise BadInput."""
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise BadInput(where, f"{features.dtype} {features.shape}", EXPECTED, HINT)
    if not features.size:
        raise BadInput(where, f"an empty array {features.shape}", EXPECTED + " with T >= 1", HINT)
    if bad := features.size - int(np.isfinite(features).sum()):
        raise BadInput(where, f"{bad} of {features.size} values NaN or infinite", "finite values", HINT)
    return np.asarray(features)


def write(path: Path, features_TD: Features, dtype: npt.DTypeLike = np.float32) -> None:
    """Save (T, D) features under `path`, whole or not at all."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(features_TD, dtype=dtype), allow_pickle=False)
