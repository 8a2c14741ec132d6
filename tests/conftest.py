import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference_data() -> Path:
    path = os.environ.get("UM_REFERENCE_DATA")
    if not path:
        pytest.skip("UM_REFERENCE_DATA is not set")
    return Path(path)


@pytest.fixture(scope="session")
def kinetics_weights() -> Path:
    """The Kinetics-400 Inception-I3D, fetched once and kept where `um` itself looks for it."""
    from um.features.weights import fetch

    return fetch(Path(__file__).parents[1] / "data/weights/i3d-inception-rgb.safetensors")
