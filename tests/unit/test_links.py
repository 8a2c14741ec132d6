"""The committed presets by their own links, with the outside world played on this machine and nothing else set."""

import shutil
from pathlib import Path

import pytest
from helpers.internet import Internet, Request, file, page, refusal, youtube
from helpers.miniature import (
    COUNTED,
    TEST,
    VALIDATION,
    annotated,
    annotation_zip,
    download,
    features_zip,
    ids,
    index,
    video,
    video_zip,
)

from um import dataset
from um.download import missing
from um.download.http import Patience
from um.download.obtain import Machine

ROOT = Path(__file__).parents[2]
HOW = Machine(patience=Patience(silence=5, tries=2, first_wait=0.01), nap=(0, 0), date="2026-11-26")
SITE = "https://www.crcv.ucf.edu/THUMOS14"
VIDEOS = "https://storage.googleapis.com/thumos14_files"
ANNOTATIONS = "http://ec2-52-25-205-214.us-west-2.compute.amazonaws.com/files/activity_net.v1-3.min.json"
UC, BYTES = "https://drive.google.com/uc", "https://drive.usercontent.google.com/download"


@pytest.fixture
def internet(tmp_path, monkeypatch):
    """A project with the three presets, and the hosts of THUMOS14's annotations."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("UM_MIRROR", "UM_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    for name in ("thumos14", "activitynet1.2", "activitynet1.3"):
        shutil.copytree(ROOT / "datasets" / name, tmp_path / "datasets" / name)
    with Internet() as internet:
        internet.plug_in(monkeypatch)
        for listed, subset, part in ((VALIDATION, "val", "Validation_set"), (TEST, "test", "test_set")):
            name = "TH14_Temporal_annotations_" + ("validation.zip" if subset == "val" else "test.zip")
            annotation_zip(tmp_path / name, listed, subset)
            internet.at(f"{SITE}/{part}/{name}", file((tmp_path / name).read_bytes()))
        yield internet


def test_thumos14_from_its_site_and_its_bucket(internet, tmp_path):
    whole = video(tmp_path / "any.mp4")
    for listed, inside, name in (
        (VALIDATION, "validation", "TH14_validation_set_mp4.zip"),
        (TEST, "TH14_test_set_mp4", "TH14_Test_set_mp4.zip"),
    ):
        video_zip(tmp_path / name, inside, dict.fromkeys(ids(listed), whole))
        internet.at(f"{VIDEOS}/{name}", file((tmp_path / name).read_bytes()))
    out = download(HOW, what="videos")
    assert sorted(dataset.downloaded(out)) == sorted(f"{'test' if '_test_' in i else 'val'}/{i}" for i in COUNTED)


def test_features_of_thumos14_from_the_first_drive_link_that_works(internet, tmp_path):
    """The newest link is used up for today, the next one has the page of the virus scan before it."""
    features_zip(tmp_path / "f.zip", COUNTED)
    form = '<form id="download-form" action="{}" method="get"><input type="hidden" name="id" value="{}"></form>'

    def ask(request: Request):
        name = request.query["id"]
        if name.startswith("19BI"):
            return page("<p>Too many users have viewed or downloaded this file recently.</p>")(request)
        return page(form.format(BYTES, name))(request)

    internet.at(UC, ask)
    internet.at(BYTES, file((tmp_path / "f.zip").read_bytes()))
    out = download(HOW, what="features")
    assert index(out / "videos/index.json")["features"] == "um"
    assert [request.query["id"][:4] for request in internet.requests if request.path.startswith("/uc")] == [
        "19BI",
        "1Nqa",
    ]
    assert len(list(dataset.features_of("thumos14", out).rglob("*.npy"))) == 2 * len(COUNTED)


def test_a_shared_folder_is_a_source_and_each_of_its_files_is_pinned(internet, tmp_path):
    folder = "1LyypoyYNnJIuN6VYM6CeeCFHHf0gmL8O"
    names = {name: f"file{name}" + "x" * 24 for name in ("t0000000001", "v0000000001")}
    rows = "".join(f'<a href="https://drive.google.com/file/d/{i}/view">v_{n}.npy</a>' for n, i in names.items())
    internet.at("https://drive.google.com/embeddedfolderview", page(f"<title>I3D</title>{rows}"))
    features = joint(tmp_path)
    internet.at(UC, lambda request: file(features)(request))
    internet.at(ANNOTATIONS, file(annotated(tmp_path / "a.json", t0000000001=1.6, v0000000001=1.6).read_bytes()))
    out = download(HOW, "activitynet1.3", what="features")
    assert index(out / "videos/index.json")["features"] == "a2cl-pt"
    pinned = index(Path("datasets/activitynet1.3/sources.lock.json"))["files"]
    assert sorted(pinned) == sorted(["activity_net.v1-3.min.json", *(f"a2cl-pt/v_{name}.npy" for name in names)])
    assert [entry["bytes"] for name, entry in pinned.items() if name.startswith("a2cl")] == [len(features)] * 2
    assert {request.query["id"] for request in internet.requests if request.path.startswith("/uc")} == set(
        names.values()
    )
    assert internet.paths("drive.google.com")[0].endswith(folder)


def joint(folder: Path) -> bytes:
    """Features of a video, rgb and flow side by side."""
    import numpy as np

    np.save(folder / "joint.npy", np.ones((3, 8), np.float32))
    return (folder / "joint.npy").read_bytes()


def test_activitynet_from_youtube_and_what_is_gone_from_there(internet, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # a JavaScript runtime would ask for YouTube's player
    durations = dict.fromkeys(("t0000000001", "t0000000002", "t0000000003", "v0000000001", "v0000000002"), 1.6)
    durations["t0000000003"] = 30.0
    internet.at(ANNOTATIONS, file(annotated(tmp_path / "a.json", **durations).read_bytes()))
    clip = file(video(tmp_path / "any.mp4"), "video/mp4")
    youtube(
        internet,
        {
            "t0000000001": {360: clip, 480: clip},
            "t0000000002": refusal("Private video"),
            "t0000000003": {240: clip},
            "v0000000001": {360: clip},
            "v0000000002": refusal("Video unavailable", "This video has been removed by the uploader"),
        },
    )
    out = download(HOW, "activitynet1.3", what="videos")
    assert sorted(dataset.downloaded(out)) == ["train/t0000000001", "val/v0000000001"]
    rows = missing.read(Path("datasets/activitynet1.3/missing.tsv"))
    found = {name: row.reason for name, row in rows.items() if row.date == "2026-11-26"}
    assert found == {
        "t0000000002": "private",
        "t0000000003": "too short: 1.6 s of 28.0 s",
        "v0000000002": "removed",
    }
    assert {name for name, row in rows.items() if row.date == "-"} == {"0dkIbKXXFzI", "MvZFYjs80Y4"}
    asked = [request.query["lines"] for request in internet.requests if request.host.endswith("googlevideo.com")]
    assert set(asked) == {"360", "240"}
