"""Where a dataset's videos come from: the local provider (the demo has its own tests)."""

import json
from pathlib import Path

import pytest

from um.datasets import source
from um.errors import BadInput
from um.params import Download


@pytest.fixture
def local(tmp_path, monkeypatch) -> Path:
    """A project with one dataset, whose source folder is returned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_VIDEOS", str(tmp_path / "mine"))
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    database = {}
    for number, subset in enumerate(("training", "training", "validation")):
        segment = [{"label": "run", "segment": [0, 1]}]
        database[f"clip {number}"] = {"subset": subset, "annotations": segment}
        (folder / ("deep" if number else ".") / f"clip {number}.MP4").write_bytes(bytes([number]))
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    described = tmp_path / "datasets/own"
    described.mkdir(parents=True)
    (described / "dataset.yaml").write_text("provider: local\nsource: $MY_VIDEOS\n")
    return folder


OUT = Path("data/own")


def test_videos_come_by_id_under_their_subset(local):
    source.download("own", Download(), OUT)
    named = source.downloaded(OUT)
    assert sorted(named) == ["train/clip 0", "train/clip 1", "val/clip 2"]
    assert [path.read_bytes() for _, path in sorted(named.items())] == [b"\0", b"\1", b"\2"]
    assert (OUT / "annotations.json").read_bytes() == (local / "annotations.json").read_bytes()


def test_a_second_download_copies_nothing_and_drops_what_is_no_longer_listed(local):
    source.download("own", Download(), OUT)
    kept = OUT / "videos/train/clip 0.mp4"
    before = kept.stat().st_mtime_ns, (OUT / "videos/index.json").read_bytes()
    source.download("own", Download(), OUT)
    assert before == (kept.stat().st_mtime_ns, (OUT / "videos/index.json").read_bytes())
    listed = json.loads((local / "annotations.json").read_text())
    listed["database"].pop("clip 1")
    (local / "annotations.json").write_text(json.dumps(listed))
    (local / "deep/clip 1.MP4").unlink()
    source.download("own", Download(), OUT)
    assert sorted(path.name for path in OUT.glob("videos/*/*")) == ["clip 0.mp4", "clip 2.mp4"]


def test_a_changed_video_is_copied_again(local):
    source.download("own", Download(), OUT)
    (local / "clip 0.MP4").write_bytes(b"new")
    source.download("own", Download(), OUT)
    assert (OUT / "videos/train/clip 0.mp4").read_bytes() == b"new"


def test_an_annotated_video_without_file(local):
    (local / "clip 0.MP4").unlink()
    with pytest.raises(BadInput, match=r"no file for 1 video \(clip 0\)"):
        source.download("own", Download(), OUT)
    assert not OUT.exists()


def test_a_file_without_annotation(local):
    (local / "other.mkv").write_bytes(b"")
    with pytest.raises(BadInput, match=r"1 video \(other\) without annotation"):
        source.download("own", Download(), OUT)


def test_an_id_twice(local):
    (local / "deep/clip 0.avi").write_bytes(b"")
    with pytest.raises(BadInput, match="video clip 0 again"):
        source.download("own", Download(), OUT)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("provider: local", "source = None"),
        ("provider: local\nsource: $NOT_SET/x", "NOT_SET"),
        ("provider: elsewhere", "provider = 'elsewhere'"),
        ("title: x", "provider"),
        ("{", "YAML"),
        ("", r"dataset\.yaml"),
        ("provider: demo\nurl: x", "unknown key url"),
        ("provider: local\nsource: /nowhere/at/all", "/nowhere/at/all"),
    ],
)
def test_a_wrong_description(local, text, found):
    Path("datasets/own/dataset.yaml").write_text(text)
    with pytest.raises(BadInput, match=found):
        source.download("own", Download(), OUT)
    assert not OUT.exists()


def test_an_unknown_dataset_names_the_known_ones(local):
    with pytest.raises(BadInput, match="among: own"):
        source.describe("other")


def test_loose_videos_go_by_their_name():
    assert source.by_id([Path("a/x.mp4"), Path("y.avi")]) == {"x": Path("a/x.mp4"), "y": Path("y.avi")}
    with pytest.raises(BadInput, match="the id x again"):
        source.by_id([Path("a/x.mp4"), Path("x.avi")])
