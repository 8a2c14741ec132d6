import os
from pathlib import Path

import pytest

RECORDS = ("test_faults.py", "test_provenance.py")
FIRST = ("records", "e2e", "workflow")


def _group(item: pytest.Item) -> str:
    folder = item.path.parent.name
    if folder == "workflow" and item.path.name in RECORDS:
        return "records"
    return folder if folder in FIRST else str(item.path)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the tests: those of a file stay together, and those of workflow/ in two halves.

    The longest come first: one process builds the demo while the other runs e2e/, and takes that demo then.
    """
    items.sort(key=lambda item: FIRST.index(_group(item)) if _group(item) in FIRST else len(FIRST))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


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
