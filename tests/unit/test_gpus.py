"""Jobs side by side, each on its own GPU; the GPUs are a list of names, the locks and processes are real."""

import os
import subprocess
import sys
import time

import pytest

from um import gpus

HOLD = """
import sys, time
from pathlib import Path
from um import gpus
print(*gpus.take(1, lambda: 2, Path(sys.argv[1])), flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch):
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setattr(gpus, "_held", [])
    monkeypatch.setattr(gpus, "PAUSE", 0.05)
    yield
    for file in gpus._held:
        file.close()


def holding(locks) -> tuple[subprocess.Popen, str]:
    """A process that has reserved a GPU, and its name."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, locks], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def test_two_jobs_get_two_gpus_and_the_third_waits_for_the_first(tmp_path):
    first, of_first = holding(tmp_path)
    second, of_second = holding(tmp_path)
    third = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert (of_first, of_second) == ("0", "1")
        time.sleep(0.5)
        assert third.poll() is None
        first.kill()  # a kill, too, gives its GPU back
        first.wait()
        assert third.stdout.readline().strip() == "0"
    finally:
        for process in (first, second, third):
            process.kill()
            process.wait()


def test_a_user_may_have_named_the_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv(gpus.VISIBLE, "3, GPU-8f6d,5")
    assert gpus.take(2, lambda: 3, tmp_path) == ["3", "GPU-8f6d"]
    assert os.environ[gpus.VISIBLE] == "3,GPU-8f6d"


@pytest.mark.parametrize(("wanted", "visible"), [(0, 4), (1, 1), (1, 0), (2, 1)])
def test_nothing_is_reserved_where_there_is_no_choice(tmp_path, monkeypatch, wanted, visible):
    monkeypatch.setenv(gpus.VISIBLE, "7")  # by Slurm, which numbers the GPUs of every job as it likes
    assert gpus.take(wanted, lambda: visible, tmp_path) == []
    assert os.environ[gpus.VISIBLE] == "7"
    assert not list(tmp_path.iterdir())


def test_jobs_with_two_gpus_do_not_share_one(tmp_path, monkeypatch):
    assert gpus.take(2, lambda: 3, tmp_path) == ["0", "1"]
    monkeypatch.delenv(gpus.VISIBLE)
    assert gpus.take(1, lambda: 3, tmp_path) == ["2"]
