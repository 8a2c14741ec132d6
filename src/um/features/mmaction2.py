"""MMAction2, without decord: 1.1.0 requires it, but nothing here imports it, and it has no wheel for ARM.

So the package does not list MMAction2, which pip would install with decord. `make` installs it alone; elsewhere its
wheel comes from the package index when it is first needed. The package lists its other requirements.
"""

import importlib
import logging
import shlex
import sys
import tempfile
import zipfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from um.features.packages import cache, fetch_package
from um.files import make_folder

log = logging.getLogger(__name__)

PACKAGE = "mmaction2==1.1.0"  # the 1.2.0 wheel lacks a module
SHA256 = "9c96a8b6a790691e28d79c070006d40d4a36363610f00fbac62f0e5d4a58e6ff"


def folder() -> Path:
    """Where the cache has, or will have, the unpacked wheel."""
    return cache() / f"{PACKAGE}-{SHA256[:12]}"


def command() -> str:
    """The command that installs it into this environment."""
    return f"{shlex.quote(sys.executable)} -m pip install --no-deps {PACKAGE}"


def provide() -> None:
    """Make `mmaction` importable: as installed, else from its wheel, unpacked once in the user's cache.

    Raises:
        BadInput: it is not installed, and the package index is not available or has another file.
    """
    if find_spec("mmaction"):
        return
    kept = folder()
    if not kept.is_dir():
        log.info("fetching %s to %s", PACKAGE, kept)
        make_folder(kept.parent)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            wheel = fetch_package(PACKAGE, SHA256, Path(scratch), f"allow access to the package index, or: {command()}")
            unpacked = Path(scratch, "unpacked")
            with zipfile.ZipFile(wheel) as file:
                file.extractall(unpacked)
            with suppress(OSError):  # another process was faster
                unpacked.rename(kept)
    sys.path.append(str(kept))
    importlib.invalidate_caches()
