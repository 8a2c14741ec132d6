import os
from pathlib import Path

import pytest

RECORDS = ("test_faults.py", "test_provenance.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the tests: those of a file stay together, and those of workflow/ in two halves.

    These come first, as they take longest. Each half builds the demo once.
    """
    items.sort(key=lambda item: item.path.parent.name != "workflow")
    for item in items:
        group = str(item.path)
        if item.path.parent.name == "workflow":
            group = f"{item.path.parent} {item.path.name in RECORDS}"
        item.add_marker(pytest.mark.xdist_group(group))


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
