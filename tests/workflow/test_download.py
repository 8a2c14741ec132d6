"""The preset of THUMOS14, from archives of videos on a lab's server to the table, in small.

Real clips in the layout of THUMOS14's own archives stand in for it; of the preset, the training alone is made short.
"""

import json
import zipfile
from itertools import takewhile
from pathlib import Path
from typing import Any

import av
import pytest
from helpers.serving import nginx
from helpers.workspace import Workspace

LABELS = ("Archery", "BasketballDunk")
COUNTS = {"training": ("validation", "val", 1), "validation": ("test", "test", 1)}  # ucf6's subset → ours, per label
BEFORE, SECONDS = 0.4, 1.4  # of a clip: until its action begins, and in all: two snippets
TINY = {"num_segments": 8, "embedding_dim": 32, "iterations": 4, "eval_every": 2, "held_out": 0.0}


def clip(source: Path, target: Path, start: float) -> None:
    """A few seconds of a real video, encoded anew."""
    with av.open(str(source)) as given, av.open(str(target), "w") as container:
        stream = given.streams.video[0]
        made = container.add_stream("libx264", rate=stream.average_rate, options={"crf": "18"})
        made.width, made.height, made.pix_fmt = stream.width, stream.height, "yuv420p"
        frames = takewhile(lambda frame: frame.time < start + SECONDS, given.decode(stream))
        for number, frame in enumerate(frame for frame in frames if frame.time >= start):
            picture = frame.reformat(format="yuv420p")
            picture.pts, picture.time_base = number, 1 / stream.average_rate
            container.mux(made.encode(picture))
        container.mux(made.encode(None))


@pytest.fixture(scope="module")
def lab(reference_data, tmp_path_factory) -> Path:
    """A folder `thumos14` with archives as THUMOS14's site has them; one test video is in none of them."""
    folder = tmp_path_factory.mktemp("lab") / "thumos14"
    folder.mkdir()
    database = json.loads((reference_data / "data/ucf6/annotations.json").read_text())["database"]
    for theirs, (name, subset, count) in COUNTS.items():
        lines: dict[str, list[str]] = {}
        archive = {"validation": "TH14_validation_set_mp4", "test": "TH14_Test_set_mp4"}[name]
        with zipfile.ZipFile(folder / f"{archive}.zip", "w") as videos:
            for label in LABELS:
                alone = [i for i, e in sorted(database.items()) if e["subset"] == theirs and only(e, label)]
                for number, chosen in enumerate(alone[:count]):
                    start = max(0.0, database[chosen]["annotations"][0]["segment"][0] - BEFORE)
                    given = f"video_{name}_{LABELS.index(label)}00000{number}"
                    clip(reference_data / f"data/ucf6/videos/{chosen}.mp4", folder / "clip.mp4", start)
                    videos.write(folder / "clip.mp4", f"{archive}/{given}.mp4")
                    lines.setdefault(label, []).append(f"{given}  {BEFORE:.1f} {SECONDS - 0.1:.1f}")
        if name == "test":
            lines[LABELS[0]].append("video_test_0000777  0.1 0.9")
        (folder / "clip.mp4").unlink()
        with zipfile.ZipFile(folder / f"TH14_Temporal_annotations_{name}.zip", "w") as annotations:
            for label, listed in lines.items():
                annotations.writestr(f"annotation/{label}_{subset}.txt", "\n".join(listed) + "\n")
    return folder.parent


def only(entry: dict[str, Any], label: str) -> bool:
    return {annotation["label"] for annotation in entry["annotations"]} == {label}


def test_from_a_mirror_to_the_table_by_the_preset(workspace: Workspace, lab, tmp_path):
    for name, value in TINY.items():
        workspace.change(f"overrides.thumos14.train.{name}", value)
    build = (
        "snakemake",
        "--cores",
        "all",
        "--config",
        "dataset=thumos14",
        "what=videos",
        "seed=0",
        "--set-scatter",
        "downloads=2",
    )
    with nginx(lab, tmp_path / "nginx") as server:
        workspace.environment["UM_MIRROR"] = server.url
        report = workspace.done(*build)
    assert report.count("rule download_shard:") == 2
    table = (workspace / "results/thumos14-seed0-videos/benchmark.md").read_text()
    assert "annotated videos without features, left out: 1" in table
    metrics = json.loads((workspace / "results/thumos14/seed0/metrics.json").read_text())
    assert (metrics["num_videos"], metrics["num_missing"], metrics["missing"]) == (2, 1, ["video_test_0000777"])
    spec = json.loads((workspace / "data/thumos14/features/spec.json").read_text())
    assert (spec["fps"], spec["window"], spec["short_side"], spec["crop"]) == (25.0, 16, 256, 224)

    rows = [line.split("\t") for line in (workspace / "datasets/thumos14/missing.tsv").read_text().splitlines()]
    assert [row[:2] for row in rows[1:]] == [["video_test_0000777", "not in TH14_Test_set_mp4.zip"]]
    lock = json.loads((workspace / "datasets/thumos14/sources.lock.json").read_text())["files"]
    assert sorted({name.partition("/")[0] for name in lock}) == sorted(path.name for path in lab.glob("thumos14/*.zip"))
    assert "Nothing to be done" in workspace.done(*build, "-n"), "what a download found out is no reason to do it again"
