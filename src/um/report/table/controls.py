"""Control rows of the benchmark table: what no model should score below, and what none of its parts can exceed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from um.datasets.annotations import Video
from um.evaluation.submission import COLUMNS

EACH = 20  # random segments per video


def random_segments(videos: Sequence[Video]) -> pd.DataFrame:
    """A floor: segments between two random times of a video, with a random class and score; the same in every run."""
    rng = np.random.default_rng(0)
    classes = sorted({label for video in videos for label in video.labels})
    parts = []
    for video in videos:
        length = video.duration or max((instance.end for instance in video.instances), default=0.0)
        times = np.sort(rng.uniform(0, length, (EACH, 2)), axis=1)
        rows = {"video": video.id, "label": rng.choice(classes, EACH), "score": rng.uniform(size=EACH)}
        parts.append(pd.DataFrame(rows | {"start": times[:, 0], "end": times[:, 1]}))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def whole_video(videos: Sequence[Video]) -> pd.DataFrame:
    """A floor: every video's true classes over its full length, all with score 1.

    A video of unknown duration is taken to end with its last instance.
    """
    rows = [
        (video.id, label, 1.0, 0.0, video.duration or max(instance.end for instance in video.instances))
        for video in videos
        for label in video.labels
    ]
    return pd.DataFrame(rows, columns=["video", "label", "score", "start", "end"])


def true_segments(videos: Sequence[Video], predictions: pd.DataFrame) -> pd.DataFrame:
    """A ceiling for the boundaries: every true segment, with each class predicted in its video and its best score."""
    best = predictions.groupby(["video", "label"])["score"].max().reset_index()
    spans = {(video.id, i.start, i.end) for video in videos for i in video.instances}
    truth = pd.DataFrame(sorted(spans), columns=["video", "start", "end"])
    return pd.DataFrame(best.merge(truth, on="video"))[COLUMNS]


def true_classes(videos: Sequence[Video], predictions: pd.DataFrame) -> pd.DataFrame:
    """A ceiling for the classes: segments of a video's true classes only.

    A true class that the model missed gets the segments of the best wrong class in that video.
    """
    labels = {video.id: set(video.labels) for video in videos}
    parts = [predictions[:0]]
    for name, rows in predictions.groupby("video", sort=False):
        true = labels.get(str(name), set())
        right = rows["label"].isin(true)
        parts.append(rows[right])
        missed, wrong = sorted(true - set(rows["label"])), rows[~right]
        if missed and len(wrong):
            instead = wrong[wrong["label"] == wrong["label"].iloc[wrong["score"].argmax()]]
            parts += [instead.assign(label=label) for label in missed]
    return pd.concat(parts, ignore_index=True)[COLUMNS]
