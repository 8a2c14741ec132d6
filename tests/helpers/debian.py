"""Programs of Debian's packages, installed first where they are missing."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"


def installed(package: str, *programs: str) -> str:
    """The path of the first program that is there, of several that would do; skips the test where it cannot be had."""
    with FileLock(Path(tempfile.gettempdir(), "um-debian.lock")):  # two test processes must not install at once
        if not (found := _found(programs)):
            if os.geteuid() != 0 or not shutil.which("apt-get"):
                pytest.skip(f"no {programs[0]}, and only root on Debian can install it")
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
                done = subprocess.run(["apt-get", "-qq", *words], env=environment, capture_output=True, text=True)
            if not (found := _found(programs)):
                pytest.skip(f"apt-get brought no {programs[0]}: {done.stderr.strip()[-200:]}")
    return found


def _found(programs: tuple[str, ...]) -> str | None:
    return next((path for program in programs if (path := shutil.which(program, path=PATH))), None)
