"""`um localize`: predictions for videos, features or a dataset, with pictures and files for other programs."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from um.datasets import clock as clocks
from um.datasets.annotations import Annotations, Video, load, video_id
from um.datasets.folder import Folder
from um.datasets.subset import load_subset
from um.errors import BadInput, some
from um.evaluation.submission import BEGINNING
from um.files import check_ours, write_json
from um.infer import Array, Inputs, Model, Predictions, chosen_for, load_model, localized, refusal, resolve
from um.journal import Journal
from um.method.predict import segments
from um.params import Localize
from um.progress import progress
from um.report import export

log = logging.getLogger(__name__)

SUBSETS = ("train", "test")


class Files(NamedTuple):
    """Files of `um localize`.

    Attributes:
        out: JSON file to write; pictures go to `<its name without suffix>-timelines/<id>.png` beside it, and exports
            to `<its name without suffix>-export/`, and pages to `<its name without suffix>-view/<id>.html`.
        timelines: write the pictures.
        annotations: true segments to show in the pictures and pages.
        exports: of `um.report.export.FORMS`.
        pseudo_labels: write annotations to train another model on, instead of predictions.
        view: write a page for every video.
    """

    out: Path
    timelines: bool = True
    annotations: Path | None = None
    exports: Sequence[str] = ()
    pseudo_labels: bool = False
    view: bool = False

    def beside(self, ending: str) -> Journal:
        """The journal of a folder beside `out`."""
        folder = self.out.with_name(f"{self.out.stem}-{ending}")
        return Journal(folder, folder / ".um.jsonl", "um localize").read()


class Choice(NamedTuple):
    """What is localised, and which of the segments are kept.

    Attributes:
        paths: videos, or folders of features.
        data: a dataset's folder, instead of paths.
        subset: of the dataset: train or test.
        min_score: least score of a segment.
        top: most segments of a video.
    """

    paths: Sequence[Path] = ()
    data: Path | None = None
    subset: str = "test"
    min_score: float | None = None
    top: int | None = None


def run(
    choice: Choice,
    model_file: Path,
    files: Files,
    weights: Mapping[str, Path],
    device: torch.device,
    settings: Mapping[str, Any],
    precision: str = "auto",
) -> None:
    """Write the predicted segments, their pictures and exports, and print the best.

    Args:
        choice: of inputs and segments.
        model_file: written by `um train`.
        files: to write.
        weights, settings, precision: as for `um.infer.localize`.
        device: where the networks run.
    """
    _check(choice, files)
    model = load_model(model_file)
    out = files.out
    check_ours(out, export.PSEUDO if files.pseudo_labels else BEGINNING)
    if out.name == "predictions.json" and os.path.lexists(out.with_name("metrics.json")):
        found = "predictions of um test, with their metrics.json beside them"
        raise BadInput(out, found, "a path not in use", "choose another --out")
    inputs, truth = _inputs(choice, files, model)
    places = {**inputs.videos, **{name: where for name, (where, _) in inputs.features.items()}}
    _check_inputs(files, inputs, places, truth)
    pictures, exports, pages = (files.beside(ending) for ending in ("timelines", "export", "view"))
    drawn = files.timelines and not files.pseudo_labels and (out.is_file() or not out.exists())  # not beside /dev/null
    if drawn:
        pictures.refuse(f"{name}.png" for name in places)
    exports.refuse(_exported(files, places))
    if files.view:
        pages.refuse(f"{name}.html" for name in inputs.videos)
    predictions = localized(inputs, model, device, weights, settings, precision)
    if truth and files.pseudo_labels:
        predictions = _of_labels(predictions, truth, chosen_for(model, settings))
    predictions = predictions.best(choice.min_score, choice.top)
    rows = predictions.to_frame()
    if truth and files.pseudo_labels:
        write_json(out, export.pseudo_labels(_without_unseen(truth, predictions), rows, predictions.curves))
    else:
        write_json(out, predictions.submission())
    export.show(rows)
    print(f"{out}: {len(rows):,} segments of {len(predictions.curves):,} video{'s' * (len(predictions.curves) != 1)}")
    if drawn:
        _draw(predictions, pictures, truth)
        print(f"{pictures.root}/: a timeline of each video")
    if files.exports:
        _export(predictions, exports, files)
        print(f"{exports.root}/: {', '.join(files.exports)}")
    if files.view:
        _view(predictions, pages, inputs.videos, truth)
        print(f"{pages.root}/: a page for each video, to open in a browser")
    if predictions.left_out:
        raise refusal(predictions.left_out, len(places), f"{out} contains the others")


def _check_inputs(files: Files, inputs: Inputs, places: Mapping[str, Path], truth: Annotations | None) -> None:
    """Every input is annotated, and there are videos to view, if that is asked for."""
    for name, where in places.items():
        if truth and video_id(name) not in truth.videos:
            expected, hint = f"one for {where}", "annotate it, or leave out --annotations"
            raise BadInput(truth.path, f"no video {name}", expected, hint)
    if files.view and not inputs.videos:
        hint = "use `um view VIDEO --predictions` for videos whose features you localise"
        raise BadInput("command line", "--view without a video", "video files among the inputs", hint)


def _check(choice: Choice, files: Files) -> None:
    """Refuse options that do not go together."""
    if files.annotations and not (files.timelines or files.view):
        raise BadInput("command line", "--annotations with --no-timelines", "one of them", "only pictures show them")
    if bool(choice.paths) == bool(choice.data):
        found = "both inputs and a dataset" if choice.data else "neither inputs nor a dataset"
        raise BadInput("command line", found, "one of them", "give videos, folders of features, or --dataset")
    if unknown := [form for form in files.exports if form not in export.FORMS]:
        raise BadInput("command line", f"--export {unknown[0]}", f"one of {', '.join(export.FORMS)}", "see --help")
    if choice.subset not in SUBSETS:
        raise BadInput("command line", f"--subset {choice.subset}", f"one of {', '.join(SUBSETS)}", "see --help")
    if files.pseudo_labels and not choice.data:
        hint = "pseudo-labels are made for the videos of a dataset"
        raise BadInput("command line", "--pseudo-labels without a dataset", "--dataset or --data-dir", hint)
    if files.pseudo_labels and choice.subset != "train":
        found, hint = f"--pseudo-labels of the subset {choice.subset}", "test videos keep their true segments"
        raise BadInput("command line", found, "--subset train", hint)


def _inputs(choice: Choice, files: Files, model: Model) -> tuple[Inputs, Annotations | None]:
    """What to localise, and the true segments if known."""
    truth = load(files.annotations) if files.annotations else None
    if not choice.data:
        return resolve(choice.paths, model), truth
    folder = Folder(choice.data, ",".join(model.header.streams), "drop")
    clocks.agree(folder.features, folder.pace, model.header.pace, model.path)
    subset = load_subset(folder, choice.subset)

    def read(position: int) -> Array:
        return np.asarray(subset.features(position).numpy())

    named: dict[str, tuple[Path, Callable[[], Array]]] = {
        video.id: (folder.features, partial(read, i)) for i, video in enumerate(subset.videos)
    }
    durations = {video.id: video.duration for video in subset.videos}
    return Inputs({}, named, folder.simulated, durations), truth or folder.annotations


def _of_labels(predictions: Predictions, truth: Annotations, how: Localize) -> Predictions:
    """The same videos localised for the classes that each is annotated with, as if the model had predicted these."""
    rows = [predictions.to_frame()[:0]]
    for name, video in predictions.curves.items():
        labelled_C = np.isin(predictions.classes, truth.videos[video_id(name)].labels)
        if labelled_C.any():
            score_C = np.where(labelled_C, video.score_C.clip(min=how.class_threshold), -1.0)
            scored, span = video._replace(score_C=score_C), predictions.spans[name]
            rows.append(segments(name, scored, span, predictions.classes, how))
    return predictions.with_rows(pd.concat(rows, ignore_index=True))


def _without_unseen(truth: Annotations, predictions: Predictions) -> dict[str, Video]:
    """All videos but training videos without features: a student must not see their true segments."""
    seen = {video_id(name) for name in predictions.curves}
    unseen = sorted(video.id for video in truth.subset("train") if video.id not in seen)
    if unseen:
        log.warning("%s: left out, without features: %s", truth.path, some(unseen))
    return {name: video for name, video in truth.videos.items() if name not in unseen}


def _exported(files: Files, names: Iterable[str]) -> dict[str, tuple[str, str | None]]:
    """Files of the exports → form, and the video of subtitles."""
    subtitles = [form for form in files.exports if form in export.SUBTITLES]
    made = {f"{name}.{form}": (form, name) for name, form in product(names, subtitles)}
    return made | ({"segments.csv": ("csv", None)} if "csv" in files.exports else {})


def _export(predictions: Predictions, exports: Journal, files: Files) -> None:
    rows = predictions.to_frame()
    for path, (form, name) in _exported(files, predictions.curves).items():
        text = export.SUBTITLES[form](rows[rows["video"] == name]) if name else export.csv(rows)
        with exports.write(path) as temporary:
            temporary.write_text(text, "utf-8")
    exports.settle(exports.entries)


def _draw(predictions: Predictions, pictures: Journal, truth: Annotations | None) -> None:
    from um.report.figures import timeline  # imported late: matplotlib takes a second

    rows_of = dict(list(predictions.to_frame().groupby("video")))
    nothing = predictions.to_frame()[:0]
    with progress("timelines", len(predictions.curves)) as step:
        for name, curves in predictions.curves.items():
            instances = truth.videos[video_id(name)].instances if truth else ()
            (start, seconds), segments = predictions.spans[name], rows_of.get(name, nothing)
            found = timeline.Found(name, segments, curves, predictions.classes, start + seconds, instances, start)
            with pictures.write(f"{name}.png") as path:
                timeline.draw(path, found)
            step(name)
    pictures.settle(pictures.entries)


def _view(predictions: Predictions, pages: Journal, videos: Mapping[str, Path], truth: Annotations | None) -> None:
    from um.view import page, view

    rows = predictions.to_frame()
    for name, video in videos.items():
        if name not in predictions.curves:  # left out
            continue
        span, spanned = predictions.spans[name], predictions.durations[name]
        traced = page.Traced(predictions.curves[name], predictions.classes, span.seconds, span.start)
        instances = truth.videos[video_id(name)].instances if truth else None
        shown = view.described(video, pages.root / f"{name}.html", rows[rows["video"] == name], instances, spanned)
        with pages.write(f"{name}.html") as path:
            path.write_text(page.render(shown._replace(name=name, traced=traced)), "utf-8")
    pages.settle(pages.entries)
