import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import typer.main
from _pytest.assertion import assertstate_key, rewrite
from helpers import forking

typer.main.get_command = cache(typer.main.get_command)  # else every call of `um` builds all commands, in 50 ms
FIRST = ("test_provenance.py", "e2e", "test_damage.py", "workflow")


def pytest_configure(config: pytest.Config) -> None:
    """One server of processes for all that run tests; nowhere more threads than in CI."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name, logger in list(logging.root.manager.loggerDict.items()):  # pytest attends to each six times a test
        if not getattr(logger, "propagate", True):  # PyTorch's
            del logging.root.manager.loggerDict[name]
    if not hasattr(config, "workerinput"):
        os.environ[forking.PARENT] = str(os.getpid())
        folder = os.environ[forking.FOLDER] = tempfile.mkdtemp(prefix="um-server-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        if config.option.tx:  # xdist's workers
            with ThreadPoolExecutor() as pool:
                started = pool.submit(forking.launchers)
                rewrite_asserts(config)
            config.option.tx = [f"popen//python={started.result()}/{forking.SCRIPT}"] * len(config.option.tx)


def rewrite_asserts(config: pytest.Config) -> None:
    """Fill pytest's cache; else every worker rewrites all tests."""
    for path in Path(__file__).parent.rglob("test_*.py"):
        cache = rewrite.get_cache_dir(path)
        cached = cache / (path.stem + rewrite.PYC_TAIL)
        if not sys.dont_write_bytecode and rewrite._read_pyc(path, cached) is None:
            cache.mkdir(exist_ok=True)
            read, code = rewrite._rewrite_test(path, config)
            rewrite._write_pyc(config.stash[assertstate_key], code, read, cached)


def _rank(item: pytest.Item) -> int:
    return next((i for i, name in enumerate(FIRST) if name in (item.path.name, item.path.parent.name)), len(FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file stay together in one of the processes.

    The longest files come first; while one process builds the demo for all of workflow/, others run e2e/ and damage.
    """
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (_rank(item), -tests[item.path]))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(scope="session")
def reference_data() -> Path:
    path = os.environ.get("UM_REFERENCE_DATA")
    if not path:
        pytest.skip("UM_REFERENCE_DATA is not set")
    return Path(path)


os.environ["UM_CACHE"] = str(Path(__file__).parents[1] / "data/cache")  # never the user's own


@pytest.fixture(scope="session")
def kinetics_weights() -> Path:
    """The Kinetics-400 Inception-I3D, fetched once and kept in the tests' own cache: `make run` knows nothing of it."""
    from um.features.weights import cached, fetch

    return fetch(cached())
