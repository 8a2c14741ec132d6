"""The public annotations against each other, and what is known to be wrong with them, counted.

THUMOS14's official text files of the test subset are at hand, and the gt.json of the official code; ActivityNet's 1.2
without the videos that were gone, and 1.3 as durations with a csv of subsets.
"""

import csv
import json
from collections import Counter

import pytest

from um.datasets import annotations
from um.datasets.annotations import AMBIGUOUS, SUBSETS
from um.inspection import annotations as check

FRAMES = {30.0: 379, 29.97: 18, 25.0: 11, 24.0: 2}  # frames per second → videos of gt.json


@pytest.fixture(scope="module")
def gt(reference_data):
    return annotations.load(reference_data / "data/thumos14/gt.json")


@pytest.fixture(scope="module")
def official(reference_data):
    return annotations.load(reference_data / "data/thumos14/official_test")


@pytest.fixture(scope="module")
def activitynet13(reference_data, tmp_path_factory):
    """The 1.3 annotations in ActivityNet's own form."""
    folder = reference_data / "data/activitynet"
    with (folder / "anet1.3_video_info.csv").open(encoding="utf-8", newline="") as file:
        subsets = {row["video"]: row["subset"] for row in csv.DictReader(file)}
    durations = json.loads((folder / "anet1.3_durations.json").read_text("utf-8"))
    assert set(durations) == set(subsets)
    database = {
        name: {"subset": subsets[name], "duration": entry["duration_second"], "annotations": entry["annotations"]}
        for name, entry in durations.items()
    }
    path = tmp_path_factory.mktemp("activitynet1.3") / "annotations.json"
    path.write_text(json.dumps({"database": database}))
    return path


def segments(videos):
    """Instances with repetition: gt.json and the text files list them in other orders."""
    return Counter((video.id, i.label, i.start, i.end) for video in videos for i in video.instances)


def in_order(video):
    return sorted(video.instances, key=lambda i: (round(i.start, 3), i.end))


def findings(path):
    """what → (occurrences, videos), of errors and of notes."""
    told = check.examine(*check.read(path))
    by_kind = {True: {}, False: {}}
    for finding in told:
        by_kind[finding.error][finding.what] = (len(finding.where), len(set(finding.where)))
    return by_kind[True], by_kind[False]


def by_subset(path, what):
    """In which subsets a finding is."""
    entries, classes = check.read(path)
    subsets = {entry.video.id: SUBSETS[entry.video.subset] for entry in entries}
    found = next(finding for finding in check.examine(entries, classes) if finding.what == what)
    return dict(Counter(subsets[name] for name in found.where))


def test_the_official_test_files_are_gt_json_but_for_three_videos(gt, official):
    theirs = {video.id: video for video in gt.subset("test")}
    assert len(theirs) == 210
    assert sum(len(video.instances) for video in theirs.values()) == 3_311
    assert sum(len(video.instances) for video in official.videos.values()) == 3_358
    more = {
        name: Counter(i.label for i in video.instances) for name, video in official.videos.items() if name not in theirs
    }
    assert more == {
        "video_test_0000270": {"HammerThrow": 29},
        "video_test_0001292": {},
        "video_test_0001496": {"CricketShot": 18},
    }
    assert {name: len(official.videos[name].ambiguous) for name in more} == {
        "video_test_0000270": 0,
        "video_test_0001292": 3,
        "video_test_0001496": 9,
    }
    assert not set(theirs) - set(official.videos)
    assert segments(theirs.values()) == segments(official.videos[name] for name in theirs)
    assert {label for video in theirs.values() for label in video.labels} == check.THUMOS14
    assert {label for video in official.videos.values() for label in video.labels} == check.THUMOS14


def test_gt_json_leaves_out_what_is_ambiguous(gt, official):
    assert not any(video.ambiguous for video in gt.videos.values())
    assert sum(len(video.ambiguous) for video in official.videos.values()) == 99
    doubtful = {video.id for video in official.videos.values() if video.ambiguous}
    assert len(doubtful) == 37
    assert doubtful - set(gt.videos) == {"video_test_0001292", "video_test_0001496"}


def test_the_validation_part_survives_the_official_form(gt, tmp_path):
    """The official text files of this subset are not at hand: written from gt.json, they are read as it."""
    validation = gt.subset("train")
    lines = {}
    for video in validation:
        for i in video.instances:
            lines.setdefault(f"{i.label}_val.txt", []).append(f"{video.id}  {i.start:.1f} {i.end:.1f}\n")
    assert len(lines) == len(check.THUMOS14)
    for name, text in lines.items():
        (tmp_path / name).write_text("".join(text))
    (tmp_path / f"{AMBIGUOUS}_val.txt").write_text(f"{validation[0].id}  0.0 0.4\n")
    back = annotations.load(tmp_path)
    assert set(back.videos) == {video.id for video in validation}
    assert segments(back.videos.values()) == segments(validation)
    assert sum(segments(validation).values()) == 3_007
    assert [video.id for video in back.videos.values() if video.ambiguous] == [validation[0].id]
    assert [video.id for video in back.subset("train")] == sorted(video.id for video in validation)


def test_thumos14_is_annotated_to_a_tenth_of_a_second(gt, reference_data):
    """So the text files need no frame rate to be read; it is needed where a method counts in a video's own frames.

    At 30 frames per second a tenth is three frames, and every bound is on one. At other rates bounds lie anywhere
    between two frames (a quarter of a frame from the nearest, on average, as random ones do): the annotators did not
    work in frames. Half a frame is the furthest, 0.021 s at the slowest rate; a tenth's own rounding is 0.05 s.
    """
    rates = json.loads((reference_data / "data/thumos14/fps.json").read_text())
    assert Counter(round(rates[name], 2) for name in gt.videos) == FRAMES
    off = {rate: [] for rate in FRAMES}
    for video in gt.videos.values():
        for second in (bound for i in video.instances for bound in (i.start, i.end)):
            assert second == round(second, 1)
            frames = second * rates[video.id]
            off[round(rates[video.id], 2)].append(abs(frames - round(frames)))
    assert max(off[30.0]) < 0.02  # fps.json has some of them as 30.00003
    for rate in (29.97, 25.0, 24.0):
        assert 0.18 < sum(off[rate]) / len(off[rate]) < 0.26
        assert max(off[rate]) / rate <= 0.5 / 24
    assert sum(len(values) for values in off.values()) == 2 * (3_007 + 3_311)


@pytest.mark.parametrize(("file", "videos"), [("gt.json", 410), ("official_test", 213)])
def test_thumos14_has_no_errors(reference_data, file, videos):
    errors, notes = findings(reference_data / "data/thumos14" / file)
    assert errors == {}
    bare = {} if file == "gt.json" else {"without a label elsewhere": (1, 1)}  # 1292
    assert notes == {"without a duration": (videos, videos)} | bare


def test_activitynet12(reference_data):
    path = reference_data / "data/activitynet/activity_net.v1-2.missing-removed.json"
    errors, notes = findings(path)
    assert errors == {}
    assert notes == {
        "past the end by 1 s or less": (172, 172),
        "of zero length": (9, 9),
        "duplicate instances": (31, 19),
        "without a label elsewhere": (2_268, 2_268),
    }
    assert by_subset(path, "of zero length") == {"train": 6, "val": 3}
    assert by_subset(path, "duplicate instances") == {"train": 26, "val": 5}
    assert by_subset(path, "without a label elsewhere") == {"test": 2_268}  # withheld
    entries, classes = check.read(path)
    assert len(classes) == 100  # leaves of 151 nodes: what is above them is no label
    assert Counter(SUBSETS[entry.video.subset] for entry in entries) == {"train": 4_441, "val": 2_198, "test": 2_268}


def test_activitynet13(activitynet13):
    errors, notes = findings(activitynet13)
    assert errors == {}
    assert notes == {
        "past the end by 1 s or less": (215, 215),
        "of zero length": (12, 12),
        "duplicate instances": (45, 22),
        "without a label elsewhere": (4_851, 4_851),
    }
    assert by_subset(activitynet13, "of zero length") == {"train": 9, "val": 3}
    assert by_subset(activitynet13, "duplicate instances") == {"train": 28, "val": 17}
    entries, _ = check.read(activitynet13)
    assert Counter(SUBSETS[entry.video.subset] for entry in entries) == {"train": 9_649, "val": 4_728, "test": 4_851}


def test_ends_past_the_end_are_known_no_further_than_the_slack(activitynet13, reference_data):
    """The slack of 1 s is that of these files: 0.85 s is the furthest in 1.3."""
    paths = (activitynet13, reference_data / "data/activitynet/activity_net.v1-2.missing-removed.json")
    over = [max(map(annotations.past_end, annotations.load(path).videos.values())) for path in paths]
    assert max(over) < annotations.SLACK
    assert over[0] == pytest.approx(0.85, abs=0.005)


def test_activitynet12_is_within_13_but_for_eight_videos_and_one_name(activitynet13, reference_data):
    """Each without videos that were gone when its file was made. What both have is labelled alike, to a millisecond."""
    old = annotations.load(reference_data / "data/activitynet/activity_net.v1-2.missing-removed.json").videos
    new = annotations.load(activitynet13).videos
    assert len(set(old) - set(new)) == 8
    shared = [name for name in old if name in new]
    assert all(old[name].subset == new[name].subset for name in shared)
    assert all(old[name].duration == new[name].duration for name in shared)
    more = {name for name in shared if len(old[name].instances) != len(new[name].instances)}
    assert more == {"N-LaOcSqZaM", "kUlwaBYvyBI"}  # one more in 1.3, of a class that is new there
    renamed = Counter()
    for name in set(shared) - more:
        for before, after in zip(in_order(old[name]), in_order(new[name]), strict=True):
            assert abs(before.start - after.start) < 1e-3
            assert abs(before.end - after.end) < 1e-3
            if before.label != after.label:
                renamed[before.label, after.label] += 1
    assert renamed == {("Playing volleyball", "Volleyball"): 88}
