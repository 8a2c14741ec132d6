"""Files of packages on the package index, by their sha256, without installing them; and the cache that keeps them."""

import os
import subprocess
import sys
from pathlib import Path

import platformdirs

from um.errors import BadInput


def cache() -> Path:
    """The user's download cache, shared by all projects: UM_CACHE, or `um` in the system's cache folder."""
    given = os.environ.get("UM_CACHE")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("um")


def fetch_package(package: str, digest: str, folder: Path, hint: str, kind: str = "--only-binary") -> Path:
    """Fetch the wheel (`--only-binary`) or source (`--no-binary`) of `NAME==VERSION` into `folder`.

    Raises:
        BadInput: pip fails, e.g. without a network, or the file has another sha256; `hint` is that of the error.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package} --hash=sha256:{digest}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [kind, ":all:", "--require-hashes", "--dest", str(folder), "-r", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True)
    files = [path for path in folder.iterdir() if path != requirements]
    if result.returncode or not files:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()] or ["no file"]
        errors = [line for line in lines if line.startswith("ERROR:")]
        found = f"pip: {(errors or lines)[-1]}"
        raise BadInput(package, found, f"a file with sha256 {digest[:12]}…", hint)
    return files[0]
