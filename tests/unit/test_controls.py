"""Control rows of the benchmark table."""

import pandas as pd

from um.datasets.annotations import Instance, Video
from um.report.table import controls

VIDEOS = [
    Video("one", "test", 10.0, (Instance("a", 1.0, 3.0), Instance("b", 5.0, 6.0))),
    Video("two", "test", None, (Instance("a", 2.0, 4.0),)),
    Video("empty", "test", 10.0, ()),
]


def rows_of(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["video", "label", "score", "start", "end"])


def listed(frame: pd.DataFrame) -> list[tuple]:
    return sorted(frame.itertuples(index=False, name=None))


def test_random_segments_lie_in_their_videos_and_are_always_the_same():
    frame = controls.random_segments(VIDEOS)
    assert frame.equals(controls.random_segments(VIDEOS))
    assert frame.groupby("video").size().to_dict() == dict.fromkeys(("one", "two", "empty"), controls.EACH)
    assert ((frame["start"] >= 0) & (frame["start"] <= frame["end"])).all()
    assert frame[frame["video"] == "two"]["end"].max() <= 4
    assert set(frame["label"]) == {"a", "b"}


def test_true_segments_have_every_predicted_class_and_its_best_score():
    found = rows_of(
        ("one", "a", 0.2, 0, 1), ("one", "a", 0.7, 2, 9), ("one", "c", 0.1, 0, 1), ("other", "a", 0.9, 0, 1)
    )
    spans = ((1.0, 3.0), (5.0, 6.0))
    expected = [("one", label, score, *span) for label, score in (("a", 0.7), ("c", 0.1)) for span in spans]
    assert listed(controls.true_segments(VIDEOS, found)) == expected


def test_true_classes_stay_and_missed_ones_get_the_best_wrong_segments():
    found = rows_of(
        ("one", "a", 0.2, 0, 1), ("one", "c", 0.3, 4, 5), ("one", "c", 0.1, 6, 7), ("one", "d", 0.2, 8, 9),
        ("two", "a", 0.4, 0, 1), ("two", "c", 0.9, 0, 1),
    )  # fmt: skip
    assert listed(controls.true_classes(VIDEOS, found)) == [
        ("one", "a", 0.2, 0, 1),
        ("one", "b", 0.1, 6, 7),
        ("one", "b", 0.3, 4, 5),
        ("two", "a", 0.4, 0, 1),
    ]
    assert controls.true_classes(VIDEOS, found[:0]).empty
    assert controls.true_segments(VIDEOS, found[:0]).empty
