"""Feature extraction: one feature file per video and stream; resumable, with a record of how it was made.

Beside the features: `spec.json` (everything their values depend on), `index.json` (sha256 of every file and of its
video; written last), `missing.tsv` (unreadable videos and reasons; absent if none) and `journal.jsonl` (the index so
far). Several processes (shards) can share the work. After all shards, one run without a shard writes the files that
describe the whole folder.
"""

# N snippets of a batch, T snippets of a video, D features

import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from um.errors import BadInput
from um.features import backbones
from um.features.ledger import VERB, Ledger, at_work, begun, says
from um.features.prefetch import prefetch
from um.files import held, sha256
from um.forms import check_file
from um.journal import check_name
from um.params import Features, Precision
from um.progress import progress
from um.shard import Shard

if TYPE_CHECKING:
    from torch import Tensor

    from um.features.network import Network

log = logging.getLogger(__name__)

QUEUED_BATCHES = 2
"""Decoded batches waiting for the network: enough to keep it busy, few enough to limit memory."""

Frames = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]
Snippet = dict[str, Frames]  # stream → (T, H, W, channels), its network's input
Networks = Mapping[str, "Network"]  # by stream
Decoded = tuple[str, Snippet | BadInput | None]  # a video's key and a snippet, its error, or None at its end
Forwarded = tuple[str, dict[str, Rows] | BadInput | None]  # likewise, with the networks' rows (D,) by stream


class Machine(NamedTuple):
    """How one process runs an extraction, without effect on the features.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1`, or `auto` (a GPU if available).
        decoders: videos decoded in parallel; 0: one on a CPU, because the network needs the cores, up to eight with a
            GPU.
        strict: fail on a video that cannot be decoded, instead of listing it in `missing.tsv`; None: do not fail even
            if no video can be decoded.
        shard: the share of the videos to process, in parallel with other shards. After all shards, a run without one
            writes `index.json`.
        missing: `<subset>/<id>` → reason, for videos that could not be downloaded; also listed in `missing.tsv`.
    """

    device: str = "auto"
    decoders: int = 0
    strict: bool | None = False
    shard: Shard | None = None
    missing: Mapping[str, str] | None = None


def extract(
    videos: Mapping[str, Path],
    out: Path,
    settings: Features,
    weights: Mapping[str, Path],
    machine: Machine = Machine(),  # noqa: B008  immutable
) -> dict[str, BadInput]:
    """Extract every video's features; keep files that are still valid.

    Args:
        videos: `<subset>/<id>` or `<id>` → video file. Writes `out/<subset>/<stream>/<id>.npy` or
            `out/<stream>/<id>.npy` as float32 (T, D): the last feature map averaged over each snippet.
        out: folder of the features; files of unlisted videos are deleted.
        settings: the `features` section of params.yaml.
        weights: stream → the backbone's pretrained weights.
        machine: device, decoders, strictness, shard and missing videos.

    Returns:
        The videos that cannot be decoded, with their errors.

    Raises:
        BadInput: unusable settings, weights or names; no decodable video; with `strict`, any video that cannot be
            decoded (raised after all others, without index.json; the next run resumes); another command using the
            folder; or files of other origin in the way.
    """
    settings = backbones.sized(settings)
    streams, shard = settings.streams.split(","), machine.shard
    paths = {key: [relative_path(key, stream) for stream in streams] for key in sorted(videos)}
    if shard:
        paths = {key: paths[key] for key in shard.of(paths)}
    spec = specification(settings, weights)
    networks = cache(lambda: _networks(settings, weights, machine.device))
    with held(out, f"{VERB} --shard {shard}" if shard else VERB, shared=shard is not None):
        if settings.precision == "auto":
            spec["precision"] = _precision(out, spec, machine.device)
            settings = settings.model_copy(update={"precision": spec["precision"]})
        made = os.path.lexists(out / "spec.json")
        # load the networks before features of other settings are deleted
        if not says(out / "spec.json", spec) if made else not os.path.lexists(out / "shards"):
            networks()
        if made and videos and not any(video.is_file() for video in videos.values()):
            _source_sha256(next(iter(videos.values())))
        ledger = Ledger(out, spec, {path for files in paths.values() for path in files}, shard)
        with at_work(ledger):
            todo, failures = _plan(ledger, videos, paths)
            if todo:
                failures |= _fill(ledger, todo, paths, _run(todo, settings, networks(), machine.decoders))
            _conclude(ledger, failures, machine, nothing=len(failures) == len(videos))
    return failures


def _precision(out: Path, spec: dict[str, Any], device: str) -> Precision:
    """The value of `auto`: that of the features already in the folder, which may come from another machine."""
    from um.device import choose_device, choose_precision

    faster = choose_precision("auto", choose_device(device))
    known: list[Precision] = ["fp32", "bf16"]
    kept = begun(out, (spec | {"precision": each} for each in known))
    if kept and kept["precision"] != faster:
        found = kept["precision"]
        log.info("%s: continues in %s; --precision %s is faster here, but starts over", out, found, faster)
    used: Precision = kept["precision"] if kept else faster
    if used == "bf16":
        log.info("%s: extracts in bf16", out)
    return used


def _plan(
    ledger: Ledger, videos: Mapping[str, Path], paths: Mapping[str, list[str]]
) -> tuple[dict[str, tuple[Path, str]], dict[str, BadInput]]:
    """The videos left to do (key → path and sha256), and earlier failures; delete outdated files."""
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
    replaced = [path for key in todo for path in paths[key]]
    ledger.drop([*replaced, *(path for key in failures for path in paths[key])], replaced)
    log.info("extracting %d of %d videos", len(todo), len(paths))
    return todo, failures


def _fill(
    ledger: Ledger,
    todo: Mapping[str, tuple[Path, str]],
    paths: Mapping[str, list[str]],
    results: Iterator[tuple[str, dict[str, Rows] | BadInput]],
) -> dict[str, BadInput]:
    """Save the results as they come; return the failures."""
    failures: dict[str, BadInput] = {}
    for key, result in results:
        source = todo[key][1]
        if isinstance(result, BadInput):
            failures[key] = result
            ledger.fail(key, source, result)
            continue
        for path, rows_TD in zip(paths[key], result.values(), strict=True):
            ledger.save(path, rows_TD, source)
    return failures


def _conclude(ledger: Ledger, failures: Mapping[str, BadInput], machine: Machine, nothing: bool) -> None:
    """Report failures; write the index, unless they are fatal or this is a shard."""
    fatal = failures and (machine.strict or (machine.strict is not None and nothing and not machine.shard))
    first, *others = sorted(failures) or [""]
    for key in others if fatal else sorted(failures):  # the error reports the first
        log.warning("%s left out: %s", key, failures[key])
    if fatal:
        error = failures[first]
        more = f" (and {len(others)} more failures)" if others else ""
        raise BadInput(error.where, error.found + more, error.expected, error.hint)
    if not machine.shard:
        unread = {key: error.found for key, error in failures.items()}
        ledger.close(dict(sorted({**(machine.missing or {}), **unread}.items())))


def _networks(settings: Features, weights: Mapping[str, Path], device: str) -> Networks:
    from um.features.network import Network

    return {stream: Network(settings, weights[stream], device, stream) for stream in settings.streams.split(",")}


def relative_path(key: str, stream: str = "rgb") -> str:
    """`<subset>/<id>` → `<subset>/rgb/<id>.npy`; `<id>` → `rgb/<id>.npy`."""
    *subset, name = key.split("/")
    if len(subset) > 1:
        raise BadInput("videos", repr(key), "<subset>/<id> or <id>", "ids must not contain slashes")
    for part in (*subset, name, f"{name}.npy"):
        check_name("videos", part)
    return "/".join([*subset, stream, f"{name}.npy"])


def specification(settings: Features, weights: Mapping[str, Path]) -> dict[str, Any]:
    """Everything that determines the features, except videos, device and number of threads."""
    from importlib.metadata import version

    streams = settings.streams.split(",")
    for stream in streams:
        if stream not in weights:
            raise BadInput("weights", f"none for {stream}", "a file per stream", f"give --{stream}-weights")
        if not weights[stream].is_file():
            expected, hint = "pretrained weights", "`um weights` fetches those of i3d-inception for rgb"
            raise BadInput(weights[stream], "no such file", expected, hint)
    clips = {stream: backbones.clip_of(settings.backbone, stream, settings.window) for stream in streams}
    spec: dict[str, Any] = {
        "extractor": "um",
        "format": 6,
        "backbone": settings.backbone,
        "streams": settings.streams,
        "weights_sha256": {stream: sha256(weights[stream]) for stream in streams},
        "clip": {stream: clip._asdict() for stream, clip in clips.items()},
        "fps": settings.fps,
        "window": settings.window,
        "stride": settings.stride or settings.window,
        "short_side": settings.short_side,
        "crop": settings.crop,
        "precision": settings.precision,
        "clips": settings.clips,
        "decoder": "pyav",
        "versions": {name: version(name).split("+")[0] for name in ("av", "mmaction2", "torch")},
    }
    if backbones.own(settings.backbone):
        spec["config_sha256"] = {stream: backbones.digest(settings.backbone, stream) for stream in streams}
    if "flow" in streams:
        spec["flow"] = settings.flow
        if settings.flow == "opencv":
            spec["versions"]["opencv"] = version("opencv-contrib-python")
    return spec


def _source_sha256(video: Path) -> str:
    check_file(video, "a video file")
    return sha256(video)


def _decoded(key: str, video: Path, settings: Features, device: str) -> Iterator[Decoded]:
    """Yield (key, snippet) for every snippet of a video, then (key, None); or (key, error) if decoding fails."""
    from um.video.decode import centre, snippets

    streams = settings.streams.split(",")
    clips = {stream: backbones.clip_of(settings.backbone, stream, settings.window) for stream in streams}
    around = {stream: clip.around(settings.window) for stream, clip in clips.items()}
    before, after = (max(sizes) for sizes in zip(*around.values(), strict=True))
    after = max(after, int("flow" in streams))  # the flow of the last frame needs the next one
    try:
        cut = settings.fps, settings.window, settings.short_side, before, after, settings.stride
        for frames in snippets(video, *cut):
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


def _run(
    todo: Mapping[str, tuple[Path, str]], settings: Features, networks: Networks, decoders: int
) -> Iterator[tuple[str, dict[str, Rows] | BadInput]]:
    """Yield (key, features (T, D) by stream) or (key, error) per video; threads decode ahead of the networks."""
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


def _forwarded(items: Iterator[Decoded], networks: Networks, clips: int) -> Iterator[Forwarded]:
    """The items in order, snippets replaced by the networks' rows.

    The queue has two slots: while the device works on one batch, the next is assembled and launched.
    """
    launched: deque[tuple[list[Decoded], dict[str, Tensor]]] = deque()
    for batch in _batches(items, clips):
        launched.append((batch, _launch(batch, networks, clips)))
        if len(launched) == 2:
            yield from _collect(*launched.popleft())
    while launched:
        yield from _collect(*launched.popleft())


def _batches(items: Iterator[Decoded], clips: int) -> Iterator[list[Decoded]]:
    """The items in lists with `clips` snippets each; the last list may have fewer, or none."""
    batch: list[Decoded] = []
    size = 0
    for key, item in items:
        batch.append((key, item))
        size += isinstance(item, dict)
        if size == clips:
            yield batch
            batch, size = [], 0
    yield batch


def _launch(batch: list[Decoded], networks: Networks, clips: int) -> "dict[str, Tensor]":
    """Features (clips, D) by stream, possibly still being computed.

    A short batch is padded, because the last digits of a row depend on the batch size (but not on the other rows).
    """
    snippets = [item for _, item in batch if isinstance(item, dict)]
    if not snippets:
        return {}
    filled = snippets + snippets[-1:] * (clips - len(snippets))
    return {
        stream: network.launch(np.stack([snippet[stream] for snippet in filled]))
        for stream, network in networks.items()
    }


def _collect(batch: list[Decoded], features: "Mapping[str, Tensor]") -> Iterator[Forwarded]:
    """The items of a launched batch; waits for the device."""
    rows = iter(zip(*(features_ND.cpu().numpy() for features_ND in features.values()), strict=True))
    for key, item in batch:
        yield key, dict(zip(features, next(rows), strict=True)) if isinstance(item, dict) else item
