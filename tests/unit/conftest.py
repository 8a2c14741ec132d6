import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny import make_dataset
from hypothesis import settings

FULL = "UM_FAULTS" in os.environ
settings.register_profile("um", deadline=None, derandomize=not FULL, max_examples=500 if FULL else 30)
settings.load_profile("um")


@pytest.fixture
def dataset(tmp_path) -> Path:
    return make_dataset(tmp_path / "dataset")


@pytest.fixture
def um(tmp_path, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in an empty folder: exit code, standard output, standard error."""
    from um.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["um", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return (code if isinstance(code, int) else int(code is not None)), *capfd.readouterr()

    return run
