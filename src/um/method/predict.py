"""Predictions of a model for a set of videos."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from um.errors import BadInput
from um.evaluation.submission import COLUMNS
from um.forms import Span
from um.method.localize import Curves, curves, localize
from um.method.model import Network
from um.params import Localize


def predict(
    model: Network,
    videos: Iterable[tuple[str, Tensor, Span]],
    classes: Sequence[str],
    settings: Localize,
    look: Callable[[str, Curves], None] | None = None,
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Localise every video.

    Args:
        model: in evaluation mode.
        videos: (id, features (T, F) on the model's device, the time that they cover).
        classes: names of the network's outputs.
        settings: of the localisation.
        look: called with the id and the curves of every video.

    Returns:
        Rows of video, label, score, start, end; and video → labels whose score reaches the class threshold.
    """
    rows, labels = [], {}
    for name, features_TF, span in videos:
        video = curves(model, features_TF, settings)
        if not all(np.isfinite(curve).all() for curve in video):
            hint = "check the range of its features with `um features inspect`"
            raise BadInput(name, "scores that are NaN or infinite", "finite scores", hint)
        if look:
            look(name, video)
        labels[name] = np.array(classes)[video.score_C >= settings.class_threshold].tolist()
        rows.append(segments(name, video, span, classes, settings))
    return pd.concat(rows, ignore_index=True), labels


def segments(name: str, video: Curves, span: Span, classes: Sequence[str], settings: Localize) -> pd.DataFrame:
    """Rows of video, label, score, start, end for one video whose curves cover a span of time."""
    found = localize(video, span.seconds, settings)
    start, end = np.maximum(found.start + span.start, 0), found.end + span.start
    columns = (name, np.array(classes)[found.label], found.score, start, end)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
