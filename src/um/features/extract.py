"""Videos in, one feature file per video and stream out; resumable, and stamped with what made it.

Beside the features lie `spec.json` (everything their values depend on), `index.json` (sha256 of every
file and of its video; absent unless complete), `missing.tsv` (videos that could not be read, with the
reason; absent if none) and `journal.jsonl` (the index as far as it got). Several processes may share
the work: each is a shard, and when all are done, one run without a shard writes what belongs to the whole folder.
"""

# N snippets of a batch, T snippets of a video, D features

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from um.errors import BadInput
from um.features.ledger import VERB, Ledger, at_work, says
from um.features.prefetch import prefetch
from um.files import held, sha256
from um.forms import check_file
from um.journal import check_name
from um.params import Features
from um.progress import progress
from um.shard import Shard

if TYPE_CHECKING:
    from torch import Tensor

    from um.features.network import Network

log = logging.getLogger(__name__)

QUEUED_BATCHES = 2
"""Decoded batches that wait for the network: memory stays flat, and decoding costs no time."""

Frames = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]
Snippet = dict[str, Frames]  # stream → (T, H, W, channels), what its network sees


def extract(
    videos: Mapping[str, Path],
    out: Path,
    settings: Features,
    weights: Mapping[str, Path],
    device: str = "auto",
    *,
    strict: bool | None = False,
    decoders: int = 0,
    shard: Shard | None = None,
    missing: Mapping[str, str] | None = None,
) -> dict[str, BadInput]:
    """Extract every video's features; what is there already and still true is kept.

    Args:
        videos: `<subset>/<id>` or `<id>` → video file; written to `out/<subset>/<stream>/<id>.npy` or
            `out/<stream>/<id>.npy` as float32 (T, D): the last feature map averaged over each snippet.
        out: folder of the features; files of videos that are no longer listed are deleted.
        settings: the `features` section of params.yaml.
        weights: stream → the backbone's pretrained weights.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` (a GPU if there is one).
        strict: a video that cannot be decoded is an error, not a line of `missing.tsv`; None: not even if none can.
        decoders: videos that are decoded at the same time; 0 is one on a CPU, as the network needs the
            cores, and up to eight for a GPU.
        shard: do its share of the videos, beside other shards at the same time. There is no index.json until
            they have ended and a run without `shard` has found everything held.
        missing: `<subset>/<id>` → why, of videos that could not be had: they go to `missing.tsv` too.

    Returns:
        The videos that cannot be decoded, and why.

    Raises:
        BadInput: settings, weights or names that cannot be used; no video that can be decoded; or with
            `strict` one that cannot, after all others are done (then there is no index.json, and the
            next run starts from what is done); another command at work in the folder, or files of somebody else's
            where the features go.
    """
    streams = settings.streams.split(",")
    paths = {key: [relative_path(key, stream) for stream in streams] for key in sorted(videos)}
    if shard:
        paths = {key: paths[key] for key in shard.of(paths)}
    wanted = {path for files in paths.values() for path in files}
    spec = specification(settings, weights)
    with held(out, f"{VERB} --shard {shard}" if shard else VERB, shared=shard is not None):
        networks = {}
        made = os.path.lexists(out / "spec.json")
        # features of other settings go: only if these can be made
        if not says(out / "spec.json", spec) if made else not os.path.lexists(out / "shards"):
            networks = _networks(settings, weights, device)
        if videos and not any(video.is_file() for video in videos.values()) and made:
            _source_sha256(next(iter(videos.values())))
        ledger = Ledger(out, spec, wanted, shard)
        with at_work(ledger):
            return _extract(ledger, videos, paths, settings, weights, device, networks, strict, decoders, missing or {})


def _extract(
    ledger: Ledger,
    videos: Mapping[str, Path],
    paths: Mapping[str, list[str]],
    settings: Features,
    weights: Mapping[str, Path],
    device: str,
    networks: "dict[str, Network]",
    strict: bool | None,
    decoders: int,
    missing: Mapping[str, str],
) -> dict[str, BadInput]:
    streams, shard = settings.streams.split(","), ledger.shard
    todo: dict[str, tuple[Path, str]] = {}
    failures: dict[str, BadInput] = {}
    for key, files in paths.items():
        try:
            source = _source_sha256(videos[key])
        except BadInput as error:
            failures[key] = error
            continue
        if all(ledger.holds(path, source) for path in files):
            continue
        if known := ledger.failure(key, source):
            failures[key] = known
        else:
            todo[key] = videos[key], source
    ledger.drop(
        [path for key in [*todo, *failures] for path in paths[key]], [path for key in todo for path in paths[key]]
    )
    log.info("%d of %d videos are to be extracted", len(todo), len(paths))
    if todo:
        for key, result in _run(todo, settings, networks or _networks(settings, weights, device), decoders):
            if isinstance(result, BadInput):
                failures[key] = result
                ledger.fail(key, todo[key][1], result)
                continue
            for path, stream in zip(paths[key], streams, strict=True):
                ledger.save(path, result[stream], todo[key][1])
    fatal = bool(failures) and (strict or (strict is not None and len(failures) == len(videos) and not shard))
    for key in sorted(failures)[int(fatal) :]:  # the first of them is told by the error
        log.warning("%s left out: %s", key, failures[key])
    if fatal:
        first = failures[min(failures)]
        more = f" (and {len(failures) - 1} more like it)" if len(failures) > 1 else ""
        raise BadInput(first.where, first.found + more, first.expected, first.hint)
    if not shard:
        unread = {key: error.found for key, error in failures.items()}
        ledger.close(dict(sorted({**missing, **unread}.items())))
    return failures


def _networks(settings: Features, weights: Mapping[str, Path], device: str) -> "dict[str, Network]":
    from um.features.network import Network

    return {stream: Network(settings, weights[stream], device, stream) for stream in settings.streams.split(",")}


def relative_path(key: str, stream: str = "rgb") -> str:
    """`<subset>/<id>` → `<subset>/rgb/<id>.npy`; `<id>` → `rgb/<id>.npy`."""
    *subset, name = key.split("/")
    if len(subset) > 1:
        raise BadInput("videos", repr(key), "<subset>/<id> or <id>", "ids may not hold slashes")
    for part in (*subset, name, f"{name}.npy"):
        check_name("videos", part)
    return "/".join([*subset, stream, f"{name}.npy"])


def specification(settings: Features, weights: Mapping[str, Path]) -> dict[str, Any]:
    """Everything the features' values depend on, but the videos, the device and its libraries' threads."""
    from importlib.metadata import version

    from um.features.backbones import clip_of

    streams = settings.streams.split(",")
    for stream in streams:
        if stream not in weights:
            raise BadInput("weights", f"none for {stream}", "a file per stream", f"--{stream}-weights names it")
        if not weights[stream].is_file():
            expected, hint = "pretrained weights", "`um weights` fetches those of i3d-inception, rgb"
            raise BadInput(weights[stream], "no such file", expected, hint)
    clips = {stream: clip_of(settings.backbone, stream, settings.window) for stream in streams}
    spec: dict[str, Any] = {
        "extractor": "um",
        "format": 5,
        "backbone": settings.backbone,
        "streams": settings.streams,
        "weights_sha256": {stream: sha256(weights[stream]) for stream in streams},
        "clip": {stream: clip._asdict() for stream, clip in clips.items()},
        "fps": settings.fps,
        "window": settings.window,
        "stride": settings.window,
        "short_side": settings.short_side,
        "crop": settings.crop,
        "precision": settings.precision,
        "clips": settings.clips,
        "decoder": "pyav",
        "versions": {name: version(name).split("+")[0] for name in ("av", "mmaction2", "torch")},
    }
    if "flow" in streams:
        spec["flow"] = settings.flow
        if settings.flow == "opencv":
            spec["versions"]["opencv"] = version("opencv-contrib-python")
    return spec


def _source_sha256(video: Path) -> str:
    check_file(video, "a video file")
    return sha256(video)


def _decoded(key: str, video: Path, settings: Features, device: str) -> Iterator[tuple[str, Snippet | BadInput | None]]:
    """(id, snippet) for every snippet of a video, then (id, None), or (id, error) if it cannot be decoded."""
    from um.features.backbones import clip_of
    from um.video.decode import centre, snippets

    streams = settings.streams.split(",")
    clips = {stream: clip_of(settings.backbone, stream, settings.window) for stream in streams}
    around = {stream: clip.around(settings.window) for stream, clip in clips.items()}
    before, after = (max(sizes) for sizes in zip(*around.values(), strict=True))
    after = max(after, int("flow" in streams))  # the motion of a snippet's last frame is that to the next one
    try:
        for frames in snippets(video, settings.fps, settings.window, settings.short_side, before, after):
            snippet = {}
            for stream, clip in clips.items():
                first = before - around[stream][0]
                seen = slice(first, first + clip.frames * clip.stride, clip.stride)
                pictures = (
                    _motion(frames[first:][: clip.frames + 1], settings, device) if stream == "flow" else frames[seen]
                )
                snippet[stream] = np.ascontiguousarray(centre(pictures, settings.crop))
            yield key, snippet
        yield key, None
    except BadInput as error:
        yield key, error


def _motion(frames_THW3: Frames, settings: Features, device: str) -> Frames:
    """(T - 1, H, W, 2) bytes of the flow between frames."""
    import torch

    from um.video import flow

    grey_THW = flow.grey(torch.from_numpy(frames_THW3).to(device))
    motion_T2HW = flow.flow(grey_THW[:-1], grey_THW[1:], settings.flow)
    motion_THW2: Frames = flow.quantise(motion_T2HW).permute(0, 2, 3, 1).cpu().numpy()
    return motion_THW2


def _forwarded(
    items: Iterator[tuple[str, Snippet | BadInput | None]], networks: "Mapping[str, Network]", clips: int
) -> Iterator[tuple[str, dict[str, Rows] | BadInput | None]]:
    """The same items in the same order, snippets as the networks' rows (D,).

    Batches take snippets of any videos, and the last one is filled up: rows depend on the size of their batch in the
    last digits, but neither on what else is in it nor on their place. While a device works on a batch, the next one is
    put together.
    """
    held: list[tuple[str, Snippet | BadInput | None]] = []  # up to the last snippet of a batch
    waiting: tuple[list[tuple[str, Snippet | BadInput | None]], dict[str, Tensor]] = [], {}

    def launch() -> dict[str, "Tensor"]:
        batch = [item for _, item in held if isinstance(item, dict)]
        filled = batch + batch[-1:] * (clips - len(batch))
        return {
            stream: network.launch(np.stack([snippet[stream] for snippet in filled]))
            for stream, network in networks.items()
            if batch
        }

    def collect() -> Iterator[tuple[str, dict[str, Rows] | BadInput | None]]:
        entries, made = waiting
        rows = iter(zip(*(features_ND.cpu().numpy() for features_ND in made.values()), strict=True))
        for key, item in entries:
            yield key, dict(zip(made, next(rows), strict=True)) if isinstance(item, dict) else item

    size = 0
    for entry in items:
        held.append(entry)
        size += isinstance(entry[1], dict)
        if size == clips:
            launched = held, launch()
            yield from collect()
            waiting, held, size = launched, [], 0
    launched = held, launch()
    yield from collect()
    waiting = launched
    yield from collect()


def _run(
    todo: Mapping[str, tuple[Path, str]], settings: Features, networks: "Mapping[str, Network]", decoders: int
) -> Iterator[tuple[str, dict[str, Rows] | BadInput]]:
    """(id, features (T, D) by stream) or (id, error) per video, while threads decode ahead of the networks."""
    device = next(iter(networks.values())).device
    threads = decoders or (1 if device.type == "cpu" else min(8, os.cpu_count() or 1))
    sources = (_decoded(key, video, settings, str(device)) for key, (video, _) in todo.items())
    rows: dict[str, list[dict[str, Rows]]] = {}
    with (
        progress("videos", len(todo)) as step,
        prefetch(sources, QUEUED_BATCHES * settings.clips, threads) as items,
    ):
        for key, item in _forwarded(items, networks, settings.clips):
            if isinstance(item, dict):
                rows.setdefault(key, []).append(item)
                continue
            made = rows.pop(key, [])
            result = item or {stream: np.stack([row[stream] for row in made]) for stream in networks}
            yield key, result
            step(key if isinstance(result, BadInput) else f"{key}, {len(made)} snippets")
