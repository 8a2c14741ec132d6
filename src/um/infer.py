"""Using a model on anything: videos, or features (`um localize`)."""

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from um.dataset import by_id
from um.datasets.annotations import Annotations, load, video_id
from um.datasets.folder import loose_features
from um.errors import BadInput, some
from um.evaluation.submission import BEGINNING, submission
from um.features import backbones
from um.features.extract import extract
from um.files import check_ours, write_json
from um.forms import validate
from um.journal import Journal
from um.method import checkpoint
from um.method.localize import Curves
from um.method.predict import predict
from um.params import Features, Localize, Train
from um.progress import progress

log = logging.getLogger(__name__)


def localize(
    inputs: Sequence[Path],
    model_file: Path,
    out: Path,
    changed: dict[str, Any],
    weights: Callable[[Features], dict[str, Path]],
    device: torch.device,
    *,
    timelines: bool = True,
    annotations: Path | None = None,
) -> None:
    """Write the segments of videos or of extracted features in the submission form, and a picture of each video.

    Args:
        inputs: video files, or folders that `um extract` wrote.
        model_file: of ours, as its header names the classes.
        out: JSON file; pictures go to `<its name without suffix>-timelines/<id>.png` beside it.
        changed: localisation settings that differ from the model's own.
        weights: gives the backbone's weights by stream when a video needs them.
        device: where the networks run.
        timelines: write the pictures.
        annotations: file of the true segments, which the pictures then show.
    """
    if annotations and not timelines:
        raise BadInput("command line", "--annotations with --no-timelines", "one of them", "only pictures show them")
    truth = load(annotations) if annotations else None
    model, header = checkpoint.read(model_file, Train())
    if header is None:
        raise BadInput(model_file, "a checkpoint without class names", "a model of um train", "use um test --data-dir")
    check_ours(out, BEGINNING)
    if out.name == "predictions.json" and os.path.lexists(out.with_name("metrics.json")):
        found, hint = "predictions of um test, with their metrics.json beside them", "choose another --out"
        raise BadInput(out, found, "a file of its own", hint)
    timelines = timelines and (out.is_file() or not out.exists())  # not beside /dev/null
    settings = validate(Localize, header.localize.model_dump() | changed, Path("command line"))
    model = model.to(device)

    for path in inputs:
        if not path.exists():
            raise BadInput(path, "no such file or folder", "a video, or a folder of um extract", "check the path")
    videos = by_id(path for path in inputs if not path.is_dir())
    if videos:  # before the long work
        spec = header.features
        width = sum(backbones.width(spec.backbone, stream) for stream in header.streams)
        checkpoint.check_width(f"features.backbone {spec.backbone}", width, model, model_file)
    made = [(path, loose_features(path, header.streams, header.snippet_seconds)) for path in inputs if path.is_dir()]
    places = [*((name, path) for name, path in videos.items()), *((name, path) for path, own in made for name in own)]
    counts = Counter(name for name, _ in places)
    for name, where in places:
        if counts[name] > 1:
            raise BadInput(where, f"the id {name} again", "every video once", "rename one of the two, or leave it out")
        _check_annotated(where, name, truth)
    pictures = Journal(folder := out.with_name(f"{out.stem}-timelines"), folder / ".um.jsonl", "um localize").read()
    if timelines:
        pictures.refuse(f"{name}.png" for name, _ in places)

    named: dict[str, Tensor] = {}
    failures: dict[str, BadInput] = {}

    def take(where: Path, features: dict[str, Callable[[], NDArray[np.float32]]]) -> None:
        for name, read in features.items():
            try:
                array = read()
                checkpoint.check_width(where, array.shape[1], model, model_file)
            except BadInput as error:
                failures[name] = error
                log.warning("%s left out: %s", name, error)
            else:
                named[name] = torch.from_numpy(array).to(device)

    for place, features in made:
        take(place, features)
    if videos:
        with tempfile.TemporaryDirectory() as scratch:
            rows = Path(scratch)
            unread = extract(videos, rows, spec, weights(spec), str(device), strict=None)
            failures |= unread
            if len(unread) < len(videos):
                take(rows, loose_features(rows, header.streams))
    if not named:
        raise _left_out(failures, len(places), "no predictions were written")
    seen: dict[str, Curves] = {}
    look = seen.__setitem__ if timelines else None
    predictions, _ = predict(model, named.items(), header.classes, settings, header.snippet_seconds, look)
    write_json(out, submission(predictions, named, header.model, header.simulated))
    if timelines:
        from um.report import timeline  # not above: matplotlib takes a second, and um test has no use for it

        rows_of = dict(list(predictions.groupby("video")))
        with progress("timelines", len(seen)) as step:
            for name, video in seen.items():
                duration = len(named[name]) * header.snippet_seconds
                instances = truth.videos[video_id(name)].instances if truth else ()
                segments = rows_of.get(name, predictions[:0])
                with pictures.write(f"{name}.png") as path:
                    timeline.draw(path, name, segments, video, header.classes, duration, instances)
                step(name)
        pictures.settle(pictures.entries)
    if failures:
        raise _left_out(failures, len(places), f"{out} has the others")


def _left_out(failures: dict[str, BadInput], total: int, rest: str) -> BadInput:
    """The one error of inputs that could not be used."""
    first = failures[min(failures)]
    if total == 1:
        return first
    found = f"{some(sorted(failures))} of {total} that cannot be used; {Path(first.where).name}: {first.found}"
    return BadInput(first.where, found, first.expected, f"{rest}; {first.hint}")


def _check_annotated(where: Path, name: str, truth: Annotations | None) -> None:
    if truth and video_id(name) not in truth.videos:
        raise BadInput(truth.path, f"no video {name}", f"one for {where}", "annotate it, or leave --annotations out")
