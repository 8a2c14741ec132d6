"""Import of features from any public layout, with unchanged values."""

import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from um.datasets import store
from um.datasets.annotations import SUBSETS, Annotations
from um.datasets.clock import PUBLIC
from um.datasets.folder import Folder
from um.errors import some
from um.features.ledger import VERB, Ledger
from um.files import held, sha256
from um.journal import check_apart

log = logging.getLogger(__name__)


def bring(
    source: Path,
    out: Path,
    report: Callable[[str], None] = lambda _: None,
    annotated: Annotations | None = None,
) -> None:
    """Copy the features of the train and test videos; keep files that are still valid.

    Args:
        source: folder in a public layout, or written by `um simulate`.
        out: folder of the features: `<subset>/{rgb,flow}/<id>.npy`, in half precision if they were.
        report: called with the id of every finished video.
        annotated: the videos to import; default: the folder's own annotations.

    Raises:
        BadInput: no such layout, or features that do not fit the annotations (see `um features inspect`).
    """
    folder = Folder(source, missing="drop", annotated=annotated)  # the evaluation decides about missing videos
    videos = [video for role in ("train", "test") for video in folder.check(role)[0]]
    if missing := [video.id for role in ("train", "test") for video in folder.without_features(role)]:
        log.warning("%s: no features of %s; importing the others", folder.features, some(missing))
    paths = {
        (video.id, stream): f"{SUBSETS.get(video.subset, video.subset)}/{stream}/{video.id}.npy"
        for video in videos
        for stream in folder.streams
    }
    check_apart(source, folder.features, out, "choose another --out")
    with held(out, VERB):
        ledger = Ledger(out, specification(folder), set(paths.values()))
        digest = lru_cache(sha256)
        origins = {path: digest(folder.files[stream][name].file) for (name, stream), path in paths.items()}
        todo = {path for path, origin in origins.items() if not ledger.holds(path, origin)}
        ledger.drop(todo, todo)
        for video in videos:
            arrays: dict[str, store.Features] = {}  # so that a file with both streams is read once
            for stream in folder.streams:
                path, stored = paths[video.id, stream], folder.files[stream][video.id]
                if path not in todo:
                    continue
                if stored.where not in arrays:
                    arrays[stored.where] = stored.read()
                features_TD = stored.columns(arrays[stored.where], stream)
                half = features_TD.dtype == np.float16
                ledger.save(path, features_TD, origins[path], np.float16 if half else np.float32)
            report(video.id)
        ledger.close()


def specification(folder: Folder) -> dict[str, Any]:
    """The known facts about the features: their layout, and the content of their spec.json."""
    made: dict[str, Any] = {"fps": float(PUBLIC.fps), "window": PUBLIC.window}
    for spec in folder.specs:  # beside all features, or beside each subset's
        made |= store.made(spec.parent)
    return made | {"imported": folder.layout, "streams": ",".join(folder.streams)}
