"""Videos in, one feature file per video out; resumable, and stamped with what made it.

Beside the features lie `spec.json` (everything their values depend on), `index.json` (sha256 of every
file and of its video; absent unless complete) and `journal.jsonl` (the same as far as it got).
"""

# N snippets of a batch, T snippets of a video, D features

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from um.errors import BadInput
from um.features.ledger import Ledger
from um.features.prefetch import prefetch
from um.files import sha256
from um.params import Features
from um.progress import progress

if TYPE_CHECKING:
    from um.features.network import Network

log = logging.getLogger(__name__)

QUEUED_BATCHES = 2
"""Decoded batches that wait for the network: memory stays flat, and decoding costs no time."""


def extract(videos: Mapping[str, Path], out: Path, settings: Features, weights: Path, device: str = "auto") -> None:
    """Extract every video's features; what is there already and still true is kept.

    Args:
        videos: `<subset>/<id>` or `<id>` → video file; written to `out/<subset>/rgb/<id>.npy` or
            `out/rgb/<id>.npy` as float32 (T, D): the last feature map averaged over each snippet.
        out: folder of the features; files of videos that are no longer listed are deleted.
        settings: the `features` section of params.yaml.
        weights: the backbone's pretrained weights.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` (a GPU if there is one).

    Raises:
        BadInput: settings, weights or names that cannot be used; or videos that cannot be decoded, after
            all others are done (then there is no index.json, and the next run starts from what is done).
    """
    if settings.streams != "rgb":
        expected = "rgb (optical-flow features can be supplied as .npy files)"
        raise BadInput("features.streams", settings.streams, expected, "set features.streams to rgb")
    paths = {key: relative_path(key) for key in sorted(videos)}
    ledger = Ledger(out, specification(settings, weights), set(paths.values()))
    todo: dict[str, tuple[Path, str]] = {}
    failures: list[BadInput] = []
    for key, path in paths.items():
        try:
            source = _source_sha256(videos[key])
        except BadInput as error:
            failures.append(_failed(key, error))
            ledger.drop(path)
            continue
        if not ledger.holds(path, source):
            ledger.drop(path)
            todo[key] = videos[key], source
    log.info("%d of %d videos are to be extracted", len(todo), len(videos))
    if todo:
        from um.features.network import Network

        network = Network(settings, weights, device)
        for key, result in _run(todo, settings, network):
            if isinstance(result, BadInput):
                failures.append(_failed(key, result))
                continue
            ledger.save(paths[key], result, todo[key][1])
    if failures:
        first = min(failures, key=lambda error: error.where)
        more = f" (and {len(failures) - 1} more like it)" if len(failures) > 1 else ""
        raise BadInput(first.where, first.found + more, first.expected, first.hint)
    ledger.close()


def relative_path(key: str, stream: str = "rgb") -> str:
    """`<subset>/<id>` → `<subset>/rgb/<id>.npy`; `<id>` → `rgb/<id>.npy`."""
    *subset, name = key.split("/")
    if len(subset) > 1 or not all(part and not part.startswith(".") for part in (*subset, name)):
        raise BadInput("videos", repr(key), "<subset>/<id> or <id>", "ids may not hold slashes or start with a dot")
    return "/".join([*subset, stream, f"{name}.npy"])


def specification(settings: Features, weights: Path) -> dict[str, Any]:
    """Everything the features' values depend on, but the videos, the device and its libraries' threads."""
    from importlib.metadata import version

    if not weights.is_file():
        raise BadInput(weights, "no such file", "pretrained weights", "`um weights` fetches the default ones")
    inception = settings.backbone == "i3d-inception"
    return {
        "extractor": "um",
        "format": 1,
        "backbone": settings.backbone,
        "streams": settings.streams,
        "weights_sha256": sha256(weights),
        "fps": settings.fps,
        "window": settings.window,
        "stride": settings.window,
        "short_side": settings.short_side,
        "crop": settings.crop,
        "precision": settings.precision,
        "clips": settings.clips,
        "dimension": 1024 if inception else 2048,
        "decoder": "pyav",
        "versions": {name: version(name).split("+")[0] for name in ("av", "mmaction2", "torch")},
    }


def _source_sha256(video: Path) -> str:
    if not video.is_file():
        raise BadInput(video, "a folder" if video.is_dir() else "no such file", "a video file", "check the path")
    return sha256(video)


def _failed(key: str, error: BadInput) -> BadInput:
    log.warning("%s left out: %s", key, error)
    return error


def _batches(video: Path, settings: Features) -> Iterator[npt.NDArray[np.uint8]]:
    """Batches of snippets; a batch never mixes videos, so resuming changes no bits."""
    from um.video.decode import snippets

    batch: list[npt.NDArray[np.uint8]] = []
    for snippet in snippets(video, settings.fps, settings.window, settings.short_side, settings.crop):
        batch.append(snippet)
        if len(batch) == settings.clips:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _decoded(
    todo: Mapping[str, tuple[Path, str]], settings: Features
) -> Iterator[tuple[str, npt.NDArray[np.uint8] | BadInput | None]]:
    """(id, batch) for every batch, (id, None) at a video's end, (id, error) if it cannot be decoded."""
    for key, (video, _) in todo.items():
        try:
            for batch in _batches(video, settings):
                yield key, batch
        except BadInput as error:
            yield key, error
        else:
            yield key, None


def _run(
    todo: Mapping[str, tuple[Path, str]], settings: Features, network: "Network"
) -> Iterator[tuple[str, npt.NDArray[np.float32] | BadInput]]:
    """(id, features (T, D)) or (id, error) per video, while a thread decodes ahead of the network."""
    rows: list[npt.NDArray[np.float32]] = []
    with (
        progress("videos", len(todo)) as step,
        prefetch(_decoded(todo, settings), QUEUED_BATCHES) as items,
    ):
        for key, item in items:
            if isinstance(item, np.ndarray):
                rows.append(network(item))
                continue
            result = np.concatenate(rows) if item is None else item
            rows = []
            yield key, result
            step(key if isinstance(result, BadInput) else f"{key}, {len(result)} snippets")
