"""A feature file: float (T, D), one row per snippet."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from um.errors import BadInput
from um.files import atomic

Features = npt.NDArray[np.floating]

HINT = "extract the video again"


def read(path: Path) -> Features:
    """Load one video's features.

    Returns:
        (T, D) floats as stored, T >= 1 snippets, all finite.

    Raises:
        BadInput: there is no such file, or it holds anything else.
    """
    expected = "a .npy file of floats (T, D)"
    try:
        with path.open("rb") as file:
            features = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(path, "no such file", expected, "extract the video first") from None
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise BadInput(path, f"no readable array ({error})", expected, HINT) from None
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise BadInput(path, f"{features.dtype} {features.shape}", expected, HINT)
    if not features.size:
        raise BadInput(path, f"an empty array {features.shape}", expected + " with T >= 1", HINT)
    if bad := features.size - int(np.isfinite(features).sum()):
        raise BadInput(path, f"{bad} of {features.size} values NaN or infinite", "finite values", HINT)
    return np.asarray(features)


def write(path: Path, features_TD: Features, dtype: npt.DTypeLike = np.float32) -> None:
    """Save (T, D) features under `path`, whole or not at all."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(features_TD, dtype=dtype), allow_pickle=False)
