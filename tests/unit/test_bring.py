"""A dataset of sources.yaml on its way to data/: annotations, published features, and videos."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import yaml
from helpers.forking import launchers
from helpers.hostile import Entry, zipped
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
    mirror,
    video,
    video_zip,
)
from helpers.serving import Answer, Server, nginx, noise, serving

from um import dataset
from um.datasets import annotations
from um.download import missing
from um.download.http import Patience
from um.download.obtain import Fetcher, Machine, mirrors
from um.download.sources import File, Lock
from um.errors import BadInput
from um.features.imported import bring as import_features
from um.files import held, sha256, write_json
from um.journal import Journal
from um.params import Download
from um.shard import Shard

ROOT = Path(__file__).parents[2]
OUT = Path("data/thumos14")
HASTY = Patience(silence=2, tries=2, first_wait=0.01, window=1)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project with the preset of THUMOS14 as it is committed, and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UM_MIRROR", raising=False)
    monkeypatch.delenv("UM_FEATURES", raising=False)
    shutil.copytree(ROOT / "datasets/thumos14", tmp_path / "datasets/thumos14")
    return tmp_path


def machine(*places: str | Path, shard: str | None = None, **others: object) -> Machine:
    given, share = mirrors([str(place) for place in places]), Shard.parse(shard) if shard else None
    return Machine(given, date="2026-11-26", shard=share, patience=HASTY, **others)


def table(name: str, **values: object) -> None:
    """Another dataset of sources.yaml."""
    folder = Path("datasets") / name
    folder.mkdir(parents=True)
    (folder / "dataset.yaml").write_text("provider: sources\n")
    (folder / "sources.yaml").write_text(yaml.safe_dump({"train": "train", "test": "val"} | values))


def version(name: str, *files: dict[str, object]) -> dict[str, object]:
    return {"name": name, "about": "of this test", "terms": "none", "files": list(files)}


def test_videos_of_the_preset_from_a_lab_s_copy(project):
    copy = mirror(project / "lab")
    out = download(machine(copy), what="videos")
    assert sorted(dataset.downloaded(out)) == sorted(f"{'test' if '_test_' in i else 'val'}/{i}" for i in COUNTED)
    read = annotations.load(out / "annotations.json")
    assert sorted(read.videos) == sorted(COUNTED)
    assert [v.id for v in read.subset("train")] == ids(VALIDATION)
    given = index(out / "annotations.json")
    assert given["version"] == "official"
    assert sorted(given["sources"]) == [f"TH14_Temporal_annotations_{part}.zip" for part in ("test", "validation")]
    assert not list(out.glob("downloads/packed/*/*")), "archives go when they are unpacked"
    assert (copy / "thumos14/TH14_Test_set_mp4.zip").is_file(), "but not those of the mirror"
    listed = index(out / "videos/index.json")
    assert "missing" not in listed
    assert len(missing.read(project / "datasets/thumos14/missing.tsv")) == 0


def test_the_first_file_is_pinned_and_another_is_refused(project):
    copy = mirror(project / "lab")
    download(machine(copy), what="videos")
    pinned = index(project / "datasets/thumos14/sources.lock.json")["files"]
    of_archives = [f"TH14_Test_set_mp4.zip/{i}.mp4" for i in COUNTED if "_test_" in i]
    of_archives += [f"TH14_validation_set_mp4.zip/{i}.mp4" for i in ids(VALIDATION)]
    archives = [f"TH14_Temporal_annotations_{part}.zip" for part in ("test", "validation")]
    assert sorted(pinned) == sorted([*archives, *of_archives])
    shutil.rmtree("data")
    whole = video(project / "any.mp4") + (16).to_bytes(4) + b"free" + bytes(8)
    video_zip(copy / "thumos14/TH14_Test_set_mp4.zip", "TH14_test_set_mp4", dict.fromkeys(ids(TEST), whole))
    Path("datasets/thumos14/sources.yaml").write_text(without_links())
    with pytest.raises(BadInput, match=r"video_test_0000004: found sha256 .*; expected sha256 .*sources\.lock\.json"):
        download(machine(copy), what="videos")
    (copy / "thumos14/videos").mkdir()
    (copy / "thumos14/videos/video_test_0000006.mp4").write_bytes(whole)  # nor one by one
    with pytest.raises(
        BadInput, match=r"TH14_Test_set_mp4\.zip, video_test_0000006\) that could not be fetched; .*sha"
    ):
        download(machine(copy), what="videos")
    assert not list(OUT.glob("videos/test/*"))
    assert not (OUT / "videos/index.json").exists()
    assert index(project / "datasets/thumos14/sources.lock.json")["files"] == pinned


def without_links() -> str:
    """The preset's table with the outside world left out."""
    values = yaml.safe_load((ROOT / "datasets/thumos14/sources.yaml").read_text())
    for kind in ("annotations", "features", "videos"):
        for given in values[kind]:
            for file in given["files"]:
                file["urls"] = []
    return yaml.safe_dump(values)


def test_a_second_run_changes_nothing_and_needs_no_archive(project):
    copy = mirror(project / "lab")
    download(machine(copy), what="videos")
    before = {path: path.stat().st_mtime_ns for path in OUT.rglob("*") if path.is_file()}
    (copy / "thumos14/TH14_Test_set_mp4.zip").unlink()
    (copy / "thumos14/TH14_validation_set_mp4.zip").unlink()
    download(machine(copy), what="videos")
    assert {path: path.stat().st_mtime_ns for path in OUT.rglob("*") if path.is_file()} == before


def test_absent_cut_and_short_videos_are_missing(project):
    whole = video(project / "any.mp4")
    videos = dict.fromkeys([*ids(VALIDATION), *ids(TEST)], whole)
    videos["video_validation_0000051"] = whole[:200]  # no index of frames
    videos["video_validation_0000052"] = video(project / "short.mp4", 0.16)
    copy = mirror(project / "lab", videos, without=["video_test_0000006"])
    annotation = dict(VALIDATION) | {"Diving": [("video_validation_0000051", 0, 1), ("video_validation_0000052", 5, 9)]}
    annotation_zip(copy / "thumos14/TH14_Temporal_annotations_validation.zip", annotation, "val")
    out = download(machine(copy), what="videos")
    rows = missing.read(project / "datasets/thumos14/missing.tsv")
    assert sorted(rows) == ["video_test_0000006", "video_validation_0000051", "video_validation_0000052"]
    assert rows["video_test_0000006"].reason == "not in TH14_Test_set_mp4.zip"
    assert "cannot be decoded" in rows["video_validation_0000051"].reason
    assert rows["video_validation_0000052"].reason.startswith("too short: 0.2 s of 8.0 s")
    assert {row.date for row in rows.values()} == {"2026-11-26"}
    listed = index(out / "videos/index.json")
    assert sorted(listed["missing"]) == [
        "test/video_test_0000006",
        "val/video_validation_0000051",
        "val/video_validation_0000052",
    ]
    assert dataset.not_downloaded(out) == listed["missing"]
    assert sorted(path.stem for path in out.glob("videos/*/*")) == sorted(set(COUNTED) - set(rows))


def test_an_interrupted_archive_is_no_missing_video(project):
    """What may pass is an error, and the next run goes on from there."""
    copy = mirror(project / "lab")
    Path("datasets/thumos14/sources.yaml").write_text(without_links())
    (copy / "thumos14/TH14_Test_set_mp4.zip").rename(project / "elsewhere.zip")
    with pytest.raises(BadInput, match=r"TH14_Test_set_mp4\.zip: found no such file"):
        download(machine(copy), what="videos")
    assert len(list(OUT.glob("videos/val/*.mp4"))) == 4
    assert not (OUT / "videos/index.json").exists()
    (project / "elsewhere.zip").rename(copy / "thumos14/TH14_Test_set_mp4.zip")
    assert len(dataset.downloaded(download(machine(copy), what="videos"))) == 6


def test_another_checkout_s_data_is_a_mirror_by_folder_and_by_server(project):
    download(machine(mirror(project / "lab")), what="videos")
    first = index(OUT / "videos/index.json")
    shutil.copytree("data", "other")
    with nginx(project / "other", project / "nginx") as server:
        for place in (project / "other", server.url):
            shutil.rmtree("data")
            (project / "lab2/thumos14").mkdir(parents=True, exist_ok=True)
            for part in ("validation", "test"):
                name = f"TH14_Temporal_annotations_{part}.zip"
                shutil.copy(project / "lab/thumos14" / name, project / "lab2/thumos14" / name)
            assert index(download(machine(place, project / "lab2"), what="videos") / "videos/index.json") == first
        assert {request.status for request in server.log("/thumos14/videos/val/video_validation_0000051.mp4")} == {200}


def test_of_a_server_s_archive_the_annotated_videos_alone_are_fetched(project):
    copy = mirror(project / "lab", {i: video(project / "any.mp4") for i in [*ids(VALIDATION), *ids(TEST)]})
    with zipfile.ZipFile(copy / "thumos14/TH14_validation_set_mp4.zip", "a") as archive:
        for number in range(20):
            archive.writestr(f"validation/video_validation_001000{number}.mp4", noise(100_000, number))
    with nginx(copy, project / "nginx") as server:
        out = download(machine(server.url), what="videos")
        sent = sum(r.sent for r in server.log("/thumos14/TH14_validation_set_mp4.zip"))
    assert len(dataset.downloaded(out)) == 6
    assert sent < 0.1 * (copy / "thumos14/TH14_validation_set_mp4.zip").stat().st_size
    assert not list(out.glob("downloads/packed/*/*"))
    pinned = index(project / "datasets/thumos14/sources.lock.json")["files"]
    assert "TH14_validation_set_mp4.zip" not in pinned, "nobody has seen all of it"

    name = "TH14_validation_set_mp4.zip/video_validation_0000051.mp4"
    said = "video_validation_0000051: found sha256 .*another version"
    assert pinned[name]["sha256"] == sha256(out / "videos/val/video_validation_0000051.mp4")
    pinned[name]["sha256"] = "0" * 64
    write_json(project / "datasets/thumos14/sources.lock.json", {"files": pinned})
    shutil.rmtree("data")
    Path("datasets/thumos14/sources.yaml").write_text(without_links())
    with (
        nginx(copy, project / "nginx2") as server,
        pytest.raises(BadInput, match=said),
    ):
        download(machine(server.url), what="videos")
    assert not (OUT / "videos/val/video_validation_0000051.mp4").exists()


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_files(project):
    """All of it: videos that come in parts of an archive, one by one, and what is written about them."""
    whole = video(project / "any.mp4")
    videos = {
        name: whole + (300_008).to_bytes(4) + b"free" + noise(300_000, seed)  # a box that players skip
        for seed, name in enumerate([*ids(VALIDATION), *ids(TEST)])
    }
    copy = mirror(project / "lab", videos)
    listed = download(machine(copy), what="videos") / "videos/index.json"
    expected = listed.read_bytes()
    shutil.rmtree("data")
    command = [
        f"{launchers()}/um",
        "download",
        "--dataset",
        "thumos14",
        "--what",
        "videos",
        "--date",
        "-",
    ]
    kills, draw = 0, random.Random(0)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    with nginx(copy, project / "nginx", rate="400k") as server:
        environment = os.environ | {"UM_MIRROR": f"{server.url}/slow"}
        while True:
            process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
            try:
                _, told = process.communicate(timeout=draw.uniform(0.8, 1.6) if kills < 8 else 60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                continue
            assert process.returncode == 0, told.decode()
            break
        sent = sum(request.sent for request in server.log() if "_set_mp4" in request.path)
    assert kills >= 3
    assert listed.read_bytes() == expected
    assert sent < 1.5 * 6 * len(whole + noise(300_000))


def test_shards_share_the_archives_and_the_last_run_finds_everything(project):
    copy = mirror(project / "lab", without=["video_test_0000006"])
    for number in (1, 2):
        download(machine(copy, shard=f"{number}-of-2"), what="videos")
        assert not (OUT / "videos/index.json").exists()
        assert not (OUT / "annotations.json").exists()
    for archive in copy.glob("thumos14/*_set_mp4.zip"):
        archive.unlink()  # nobody looks into it again
    out = download(machine(copy), what="videos")
    assert len(dataset.downloaded(out)) == 5
    assert not list(out.glob("videos/shards/*"))
    assert list(missing.read(project / "datasets/thumos14/missing.tsv")) == ["video_test_0000006"]


def test_published_features_train_without_videos(project):
    copy = mirror(project / "lab")
    features_zip(copy / "thumos14/thumos14-i3d.zip", COUNTED)
    values = yaml.safe_load(without_links())
    values["features"] = [version("um", {"file": "thumos14-i3d.zip"})]
    Path("datasets/thumos14/sources.yaml").write_text(yaml.safe_dump(values))
    out = download(machine(copy), what="features")
    assert index(out / "videos/index.json") == {"files": {}, "features": "um"}
    folder = dataset.features_of("thumos14", out)
    assert folder == out / "downloads/features/um/THUMOS14"
    import_features(folder, out / "features", annotated=annotations.load(out / "annotations.json"))
    files = sorted(path.relative_to(out / "features").as_posix() for path in out.glob("features/*/*/*.npy"))
    expected = [f"{'test' if '_test_' in i else 'val'}/{s}/{i}.npy" for i in COUNTED for s in ("rgb", "flow")]
    assert files == sorted(expected)
    assert np.load(out / "features/val/rgb/video_validation_0000053.npy")[0, 0] == COUNTED.index(
        "video_validation_0000053"
    )
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}
    (copy / "thumos14/thumos14-i3d.zip").unlink()
    download(machine(copy), what="features")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def own_features(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of features that UM_FEATURES leads to, with the annotations that have been downloaded."""
    mine = project / "mine/thumos14"
    mine.mkdir(parents=True)
    features_zip(project / "f.zip", COUNTED)
    shutil.unpack_archive(project / "f.zip", project / "x")
    shutil.move(project / "x/THUMOS14/features", mine / "features")
    shutil.copy(OUT / "annotations.json", mine / "annotations.json")
    monkeypatch.setenv("UM_FEATURES", str(project / "mine"))
    return mine


def test_features_of_one_s_own_go_before(project, monkeypatch):
    copy = mirror(project / "lab")
    download(machine(copy), what="annotations")
    mine = own_features(project, monkeypatch)
    out = download(machine(), what="features")
    assert dataset.features_of("thumos14", out) == mine
    found = index(out / "videos/index.json")
    assert (found.pop("origin"), found)[1] == {"files": {}, "features": "$source"}
    assert not dataset.comes_as_videos("thumos14", Download(what="features"))
    assert dataset.comes_as_videos("thumos14", Download(what="videos"))


def test_annotations_alone(project):
    out = download(machine(mirror(project / "lab")), what="annotations")
    assert sorted(path.name for path in out.iterdir()) == ["annotations.json", "downloads", "videos"]
    assert [path.name for path in (out / "videos").iterdir()] == ["journal.jsonl"]


@pytest.fixture
def web():
    with serving() as server:
        yield server


def each_from(web: Server, project: Path, durations: dict[str, float]) -> None:
    """A dataset like ActivityNet: a link per video."""
    annotated(project / "lab/net/net.json", **durations)
    table(
        "net",
        annotations=[version("official", {"file": "net.json"})],
        videos=[version("web", {"file": "{id}.mp4", "urls": [f"{web.url}/{{subset}}/{{id}}.mp4"]})],
    )


def test_links_of_their_own_and_what_becomes_of_each(project, web):
    each_from(web, project, {"t1": 1.6, "t2": 1.6, "t3": 60.0, "v1": 1.6, "v2": 1.6})
    whole = video(project / "any.mp4")
    for name in ("train/t1", "train/t3", "val/v1"):
        web.serve(f"/{name}.mp4", Answer(whole))
    web.serve("/val/v2.mp4", Answer(status=503), Answer(whole))
    out = download(machine(project / "lab"), "net", what="videos")
    assert sorted(dataset.downloaded(out)) == ["train/t1", "val/v1", "val/v2"]
    rows = missing.read(Path("datasets/net/missing.tsv"))
    assert sorted(rows) == ["t2", "t3"]
    assert "404" in rows["t2"].reason
    assert rows["t2"].source == f"{web.url}/train/t2.mp4"
    assert rows["t3"].reason == "too short: 1.6 s of 58.0 s"


def test_missing_videos_are_not_asked_for_again_unless_that_is_wanted(project, web):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    web.serve("/val/v1.mp4", Answer(video(project / "any.mp4")))
    download(machine(project / "lab"), "net", what="videos")
    text = Path("datasets/net/missing.tsv").read_bytes()
    download(machine(project / "lab"), "net", what="videos")
    assert len(web.asked("/train/t1.mp4")) == 1
    assert Path("datasets/net/missing.tsv").read_bytes() == text
    web.serve("/train/t1.mp4", Answer(video(project / "any.mp4")))
    out = download(machine(project / "lab", retry=True), "net", what="videos")
    assert sorted(dataset.downloaded(out)) == ["train/t1", "val/v1"]
    assert missing.read(Path("datasets/net/missing.tsv")) == {}


def test_those_that_others_report_are_tried_and_stay_listed_if_they_come(project, web):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    known = {"v1": missing.Row("features are shorter than the video", "-", "an issue")}
    missing.write(Path("datasets/net/missing.tsv"), known)
    for name in ("train/t1", "val/v1"):
        web.serve(f"/{name}.mp4", Answer(video(project / "any.mp4")))
    out = download(machine(project / "lab"), "net", what="videos")
    assert sorted(dataset.downloaded(out)) == ["train/t1", "val/v1"]
    assert missing.read(Path("datasets/net/missing.tsv")) == known


def test_a_server_that_refuses_everybody_is_left_alone(project, web):
    each_from(web, project, {f"t{n:02}": 1.6 for n in range(40)} | {"v1": 1.6})
    for n in range(40):
        web.serve(f"/train/t{n:02}.mp4", Answer(status=403))
    with pytest.raises(BadInput, match=r"41 files \(t00, .*that could not be fetched; t\d\d: HTTP 403"):
        download(machine(project / "lab", connections=2), "net", what="videos")
    assert len(web.log) < 20
    assert not Path("data/net/videos/index.json").exists()
    assert not Path("datasets/net/missing.tsv").exists()
    with pytest.raises(BadInput, match=r"skipped after|HTTP 403"):  # nobody gives up what was skipped
        download(machine(project / "lab", connections=1, give_up=True), "net", what="videos")


def test_what_others_switch_to_features_keeps_the_videos(project, monkeypatch):
    copy = mirror(project / "lab")
    download(machine(copy), what="videos")
    own_features(project, monkeypatch)
    download(machine(), what="features")
    assert len(list(OUT.glob("videos/*/*.mp4"))) == 6


def test_a_video_counts_when_it_has_been_checked_and_not_before(project):
    """Of an archive with a cut video and a damaged one, a repaired copy brings both."""
    whole = video(project / "any.mp4")
    good = dict.fromkeys([*ids(VALIDATION), *ids(TEST)], whole)
    copy = mirror(project / "lab", good)
    Path("datasets/thumos14/sources.yaml").write_text(without_links())
    packed = copy / "thumos14/TH14_validation_set_mp4.zip"
    repaired = packed.read_bytes()
    cut = {"video_validation_0000051": whole[:200]}
    video_zip(packed, "validation", {name: content for name, content in (good | cut).items() if "_test_" not in name})
    damaged = packed.read_bytes()
    at = damaged.rfind(whole)  # of the last member
    packed.write_bytes(damaged[: at + 99] + b"\0\1\2\3" + damaged[at + 103 :])
    with pytest.raises(BadInput, match="unreadable"):
        download(machine(copy), what="videos")
    assert not list(OUT.glob("videos/val/*"))
    assert "TH14_validation_set_mp4.zip" not in index(Path("datasets/thumos14/sources.lock.json"))["files"]
    packed.write_bytes(repaired)
    assert len(dataset.downloaded(download(machine(copy), what="videos"))) == 6
    assert missing.read(Path("datasets/thumos14/missing.tsv")) == {}


def test_a_half_copied_archive_is_not_what_is_expected_from_then_on(project):
    copy = mirror(project / "lab")
    Path("datasets/thumos14/sources.yaml").write_text(without_links())
    name = "TH14_Temporal_annotations_test.zip"
    whole = (copy / "thumos14" / name).read_bytes()
    (copy / "thumos14" / name).write_bytes(whole[:-30])
    with pytest.raises(BadInput):
        download(machine(copy), what="annotations")
    (copy / "thumos14" / name).write_bytes(whole)
    download(machine(copy), what="annotations")
    assert len(index(Path("datasets/thumos14/sources.lock.json"))["files"]) == 2


def test_annotations_are_those_that_were_taken_first(project, web, caplog):
    """Another version would be another population: it is taken only if somebody says so."""
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    annotated(project / "lab/net/other.json", t1=1.6, v2=1.6)
    values = yaml.safe_load(Path("datasets/net/sources.yaml").read_text())
    values["annotations"].append(version("second", {"file": "other.json"}))
    Path("datasets/net/sources.yaml").write_text(yaml.safe_dump(values))
    for name in ("train/t1", "val/v1", "val/v2"):
        web.serve(f"/{name}.mp4", Answer(video(project / "any.mp4")))
    download(machine(project / "lab"), "net", what="videos")
    (project / "lab/net/net.json").rename(project / "away.json")
    Path("data/net/downloads/annotations/official/net.json").unlink()
    with pytest.raises(BadInput, match=r"net\.json: found no such file.*--what annotations --source NAME: second"):
        download(machine(project / "lab"), "net", what="videos")
    download(machine(project / "lab"), "net", what="annotations", source="second")
    out = download(machine(project / "lab"), "net", what="videos")
    assert sorted(dataset.downloaded(out)) == ["train/t1", "val/v2"]
    assert (out / "videos/val/v1.mp4").is_file(), "nothing is thrown away"
    assert "1 file (val/v1.mp4) that are not annotated stay as they are" in caplog.text


def test_what_is_only_linked_into_the_data_stays_as_it_is(project):
    copy = mirror(project / "lab")
    theirs = project / "theirs"
    theirs.mkdir()
    for name in [*ids(VALIDATION), "video_validation_0000888"]:
        (theirs / f"{name}.mp4").write_bytes(video(project / "any.mp4"))
    (OUT / "videos").mkdir(parents=True)
    (OUT / "videos/val").symlink_to(theirs)
    assert len(dataset.downloaded(download(machine(copy), what="videos"))) == 6
    assert len(list(theirs.iterdir())) == 5


def test_a_bad_copy_in_a_mirror_does_not_hide_a_good_one_elsewhere(project, web):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    for name in ("train/t1", "val/v1"):
        web.serve(f"/{name}.mp4", Answer(video(project / "any.mp4")))
    (project / "lab/net/videos").mkdir()
    (project / "lab/net/videos/v_t1.mp4").write_bytes(b"cut")
    out = download(machine(project / "lab"), "net", what="videos")
    assert sorted(dataset.downloaded(out)) == ["train/t1", "val/v1"]


def test_a_copy_that_comes_later_is_taken_without_being_asked_for(project, web):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    web.serve("/val/v1.mp4", Answer(video(project / "any.mp4")))
    download(machine(project / "lab"), "net", what="videos")
    assert list(missing.read(Path("datasets/net/missing.tsv"))) == ["t1"]
    (project / "lab/net/videos").mkdir()
    (project / "lab/net/videos/t1.mp4").write_bytes(video(project / "any.mp4"))
    assert len(dataset.downloaded(download(machine(project / "lab"), "net", what="videos"))) == 2
    assert missing.read(Path("datasets/net/missing.tsv")) == {}


def test_a_failure_in_one_place_and_a_no_in_another_decide_nothing(project, web):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    values = yaml.safe_load(Path("datasets/net/sources.yaml").read_text())
    values["videos"].append(version("b", {"file": "b-{id}.mp4", "urls": [f"{web.url}/b/{{id}}.mp4"]}))
    Path("datasets/net/sources.yaml").write_text(yaml.safe_dump(values))
    web.serve("/val/v1.mp4", Answer(video(project / "any.mp4")))
    web.serve("/train/t1.mp4", Answer(status=503))
    for shard in ("1-of-2", "2-of-2"):
        with suppress(BadInput):
            download(machine(project / "lab", shard=shard), "net", what="videos")
    with pytest.raises(BadInput, match="HTTP 503"):
        download(machine(project / "lab"), "net", what="videos")
    assert not Path("datasets/net/missing.tsv").exists()
    out = download(machine(project / "lab", give_up=True), "net", what="videos")
    assert sorted(dataset.downloaded(out)) == ["val/v1"]
    assert "HTTP 503" in missing.read(Path("datasets/net/missing.tsv"))["t1"].reason


def test_what_two_archives_share_is_missing_when_both_have_been_seen(project):
    annotated(project / "lab/net/net.json", t1=1.6, t2=1.6, v1=1.6)
    whole = video(project / "any.mp4")
    video_zip(project / "lab/net/p1.zip", "x", {"t1": whole})
    video_zip(project / "lab/net/p2.zip", "x", {"v1": whole})
    table(
        "net",
        annotations=[version("official", {"file": "net.json"})],
        videos=[version("zips", {"file": "p1.zip"}, {"file": "p2.zip"})],
    )
    for shard in ("1-of-2", "2-of-2"):
        download(machine(project / "lab", shard=shard), "net", what="videos")
    assert len(dataset.downloaded(download(machine(project / "lab"), "net", what="videos"))) == 2
    assert list(missing.read(Path("datasets/net/missing.tsv"))) == ["t2"]


def test_nothing_of_an_encrypted_archive_is_fetched_without_its_password(project, monkeypatch):
    copy = mirror(project / "lab")
    whole = video(project / "any.mp4") + (40_008).to_bytes(4) + b"free" + noise(40_000)
    packed = copy / "thumos14/TH14_Test_set_mp4.zip"
    entries = [Entry(f"TH14_test_set_mp4/{name}.mp4", whole, password=b"secret") for name in ids(TEST)]
    packed.write_bytes(zipped(*entries))
    Path("datasets/thumos14/sources.yaml").write_text(without_links())
    with nginx(copy, project / "nginx") as server:
        with pytest.raises(BadInput, match="no password; expected the password in the environment variable UM_ARCH"):
            download(machine(server.url), what="videos")
        assert sum(r.sent for r in server.log("/thumos14/TH14_Test_set_mp4.zip")) < 90_000
        monkeypatch.setenv("UM_ARCHIVE_PASSWORD", "wrong")
        with pytest.raises(BadInput, match="check UM_ARCHIVE_PASSWORD"):
            download(machine(server.url), what="videos")
        monkeypatch.setenv("UM_ARCHIVE_PASSWORD", "secret")
        sent = sum(r.sent for r in server.log("/thumos14/TH14_Test_set_mp4.zip"))
        assert len(dataset.downloaded(download(machine(server.url), what="videos"))) == 6
        assert sum(r.sent for r in server.log("/thumos14/TH14_Test_set_mp4.zip")) == sent, "it had come already"


def test_a_mirror_that_is_down_is_passed_over(project, web, caplog):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    for name in ("train/t1", "val/v1"):
        web.serve(f"/{name}.mp4", Answer(video(project / "any.mp4")))
    with serving() as gone:
        pass
    web.serve("/odd/net/videos/index.json", Answer(b"[1, 2]"))
    places = gone.url, f"{web.url}/odd", project / "lab"
    out = download(machine(*places), "net", what="videos")
    assert len(dataset.downloaded(out)) == 2
    assert "nobody answers there" in caplog.text
    assert "no index of videos" in caplog.text
    with pytest.raises(BadInput, match="nowhere: found no such folder; expected a mirror"):
        machine(project / "nowhere")


def test_a_mirror_s_password_and_place_stay_out_of_the_committed_list(project, web):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    web.serve("/val/v1.mp4", Answer(video(project / "any.mp4")))
    (project / "lab/net/videos").mkdir()
    (project / "lab/net/videos/t1.mp4").write_bytes(b"cut")
    values = Path("datasets/net/sources.yaml")
    values.write_text(values.read_text().replace("http://", "http://me:secret@"))
    download(machine(project / "lab"), "net", what="videos")
    text = Path("datasets/net/missing.tsv").read_text()
    assert "t1\t" in text
    assert "secret" not in text
    assert str(project) not in text.split("\t")[-1]


def test_an_interrupt_ends_it_at_once(project, web):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    for name in ("train/t1", "val/v1"):
        web.serve(f"/{name}.mp4", Answer(noise(4_000_000), rate=100_000))
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    command = [f"{launchers()}/um", "download", "--dataset", "net", "--what", "videos"]
    process = subprocess.Popen([*command, "--mirrors", str(project / "lab")], stderr=subprocess.PIPE)
    while not list(Path("data/net/downloads/coming").glob("*/.*.partial")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=15)  # the download would take 40
    assert (process.returncode, b"stopped; what has been downloaded is kept" in told) == (130, True)


def test_shards_at_the_same_time_share_the_links_to_a_mirror(project):
    copy = mirror(project / "lab")
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    command = [f"{launchers()}/um", "download", "--dataset", "thumos14", "--what", "videos"]
    command += ["--mirrors", str(copy), "--shard"]
    Path("datasets/thumos14/sources.yaml").write_text(without_links())
    shards = [subprocess.Popen([*command, f"{n}-of-4"], stderr=subprocess.PIPE) for n in range(1, 5)]
    assert [shard.communicate()[1].count(b"um: ") + shard.returncode for shard in shards] == [0] * 4
    assert len(dataset.downloaded(download(machine(copy), what="videos"))) == 6


def test_a_link_that_another_shard_has_just_made_is_taken(project):
    class Late(Journal):
        def link(self, source: Path, target: Path) -> None:
            target.symlink_to(other if target.name == "b.zip" else source)
            super().link(source, target)

    other = project / "other"
    other.write_bytes(b"other")
    for name in ("a.zip", "b.zip"):
        (project / "lab/net").mkdir(parents=True, exist_ok=True)
        (project / f"lab/net/{name}").write_bytes(b"same")
    kept = Late(OUT, OUT / "downloads/shards/1-of-2.jsonl", "um download")
    fetcher = Fetcher("net", Lock(project / "lock.json"), machine(project / "lab"), kept)
    fetcher.file(File(file="a.zip"), OUT / "downloads/a.zip", "", lambda *_: None)
    assert (OUT / "downloads/a.zip").readlink() == project / "lab/net/a.zip"
    with pytest.raises(BadInput, match=r"a link .* that `um download` did not write"):
        fetcher.file(File(file="b.zip"), OUT / "downloads/b.zip", "", lambda *_: None)
    assert (OUT / "downloads/b.zip").readlink() == other


def test_a_folder_s_hidden_files_are_nobody_s(project):
    annotated(project / "lab/net/net.json", t1=1.6, v1=1.6)
    folder = project / "lab/net/shared"
    folder.mkdir()
    for name in ("t1", "v1"):
        np.save(folder / f"{name}.npy", np.ones((3, 8), np.float32))
    (folder / ".DS_Store").write_bytes(b"x")
    table(
        "net",
        annotations=[version("official", {"file": "net.json"})],
        features=[version("folder", {"file": "shared"})],
    )
    out = download(machine(project / "lab"), "net", what="features")
    pinned = index(Path("datasets/net/sources.lock.json"))["files"]
    assert sorted(pinned) == ["net.json", "shared/t1.npy", "shared/v1.npy"]
    assert {path.name for path in (out / "downloads/features/folder").iterdir()} == {"t1.npy", "v1.npy"}
    np.save(folder / "v2.npy", np.ones((3, 8), np.float32))
    out = download(machine(project / "lab"), "net", what="features")
    assert (out / "downloads/features/folder/v2.npy").is_file(), "a mirror's folder may get more"
    shutil.rmtree(out / "downloads")
    with pytest.raises(BadInput, match="expected features fetched by um download"):
        dataset.features_of("net", out)


def test_a_pinned_feature_file_is_not_the_video_of_its_name(project, web):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    for name in ("train/t1", "val/v1"):
        web.serve(f"/{name}.mp4", Answer(video(project / "any.mp4")))
    pinned = {"shared/t1.npy": {"sha256": "0" * 64, "bytes": 1}}
    write_json(Path("datasets/net/sources.lock.json"), {"files": pinned})
    assert len(dataset.downloaded(download(machine(project / "lab"), "net", what="videos"))) == 2


def test_shards_of_videos_tell_the_last_run_what_is_gone(project, web):
    each_from(web, project, {"t1": 1.6, "t2": 1.6, "v1": 1.6, "v2": 1.6})
    for name in ("train/t1", "val/v1"):
        web.serve(f"/{name}.mp4", Answer(video(project / "any.mp4")))
    for number in (1, 2, 3):
        download(machine(project / "lab", shard=f"{number}-of-3"), "net", what="videos")
    out = download(machine(project / "lab"), "net", what="videos")
    assert sorted(dataset.downloaded(out)) == ["train/t1", "val/v1"]
    assert all(len(web.asked(f"/{name}.mp4")) == 1 for name in ("train/t1", "train/t2", "val/v1", "val/v2"))
    assert sorted(missing.read(Path("datasets/net/missing.tsv"))) == ["t2", "v2"]


def test_the_next_version_is_taken_where_the_first_is_not_to_be_had(project, web, caplog):
    annotated(project / "lab/net/second.json", t1=1.6, v1=1.6)
    table(
        "net",
        annotations=[
            version("first", {"file": "first.json", "urls": [f"{web.url}/first.json"]}),
            version("second", {"file": "second.json"}),
        ],
    )
    assert (
        index(download(machine(project / "lab"), "net", what="annotations") / "annotations.json")["version"] == "second"
    )
    assert "net annotations of first: " in caplog.text
    with pytest.raises(BadInput, match=r"net/first\.json: found .*404"):
        download(machine(project / "lab"), "net", what="annotations", source="first")
    with pytest.raises(BadInput, match="no annotations called third; expected one of auto, first, second"):
        download(machine(project / "lab"), "net", what="annotations", source="third")


def test_what_only_a_person_can_fetch_says_where_and_how(project):
    table("net", annotations=[version("box", {"file": "a.json", "pages": ["https://box.example/s/1"]})])
    with pytest.raises(
        BadInput, match=r"by hand from https://box.example/s/1, as FOLDER/net/a.json, and set UM_MIRROR"
    ):
        download(machine(), "net", what="annotations")
    assert not Path("data/net/annotations.json").exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "invalid YAML"),
        ("train: val\ntest: test\nvideo: []\n", "unknown key video"),
        ("train: val\n", "no test"),
        ("train: a\ntest: b\nvideos: [{name: x, about: a, terms: t, files: []}]\n", "files = "),
        ("train: a\ntest: b\nvideos: [{name: x, about: a, terms: t, files: [{file: ../x}]}]\n", "file = '../x'"),
        ("train: a\ntest: b\nvideos: [{name: x, about: a, terms: t, files: [{file: x, sha256: 12}]}]\n", "sha256 = "),
    ],
)
def test_a_wrong_table(project, text, found):
    Path("datasets/thumos14/sources.yaml").write_text(text)
    with pytest.raises(BadInput, match=found):
        download(machine(), what="annotations")
    assert not OUT.exists()


def test_the_whole_way_by_the_command_line(project, um):
    """Videos by the preset, from one command to what it says of them."""
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    copy = mirror(project / "lab", without=["video_test_0000006"])
    code, _, told = um("download", "--dataset", "thumos14", "--what", "videos", "--mirrors", f"{project} {copy}")
    assert code == 0, told
    code, said, _ = um("data", "status", "--dataset", "thumos14")
    assert code == 0
    assert "annotations  annotations.json: test 2, val 4 videos, 6 instances, 2 classes" in said
    assert "videos       5 of 6, 1 missing" in said
    assert "1 missing: not in TH14_Test_set_mp4.zip" in said
    assert "4 to train on, 2 to test on: no published split; the nearest is STPN" in said
    assert "source       videos official: TH14_Test_set_mp4.zip, 1 of its files pinned in sources.lock.json" in said
    code, said, _ = um("data", "check", "thumos14")
    assert (code, "note   without a duration: 6 videos" in said) == (0, True)
    entry = index(OUT / "annotations.json")
    entry["database"]["video_test_0000004"]["annotations"][0]["label"] = "Typo"
    write_json(OUT / "annotations.json", entry)
    code, said, _ = um("data", "check", "thumos14")
    assert (code, "error  unknown labels: 1 label (Typo)" in said) == (1, True)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--what", "everything"], "what = 'everything'; expected 'videos', 'features' or 'annotations'"),
        (["--source", "nobody"], "no features called nobody; expected one of auto, um, w-talc, p-mil"),
        (["--what", "videos", "--shard", "3-of-2"], "--shard: found '3-of-2'"),
        (["--connections", "0"], "--connections"),
        (["--cookies", "none.txt", "--what", "videos", "--dataset", "net"], "file 'none.txt' does not exist"),
    ],
)
def test_a_wrong_command_is_one_line(project, um, words, found):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    annotated(project / "lab/net/net.json", t1=1.6, v1=1.6)
    table(
        "net",
        annotations=[version("official", {"file": "net.json"})],
        videos=[version("web", {"file": "{id}.mp4", "urls": ["https://www.youtube.com/watch?v={id}"]})],
    )
    places = f"{mirror(project / 'lab2')} {project / 'lab'}"
    given = [] if "--dataset" in words else ["--dataset", "thumos14"]
    code, _, told = um("download", *given, *words, "--mirrors", places)
    assert code == 2, told
    lines = [line for line in told.splitlines() if line.startswith("um: ")]
    assert len(lines) == 1
    assert found in lines[0]
    assert not list(project.glob("data/*/videos/index.json"))


# --- nothing of a user's is lost


def lost(before: dict[Path, bytes]) -> list[Path]:
    return [path for path, content in before.items() if not path.is_file() or path.read_bytes() != content]


def test_what_a_user_has_in_the_folder_stays(project, caplog):
    copy = mirror(project / "lab")
    mine = [
        "notes.txt", "videos/val/mine.mp4", "videos/2019/holiday.mp4", "videos/notes.txt", "downloads/notes.txt",
        "downloads/coming/mine.mp4", "downloads/coming/val/mine.mp4", "downloads/packed/mine.zip",
        "downloads/packed/official/mine.zip", "downloads/annotations/official/mine.zip", "downloads/shards/1-of-2",
        "downloads/shards/notes.txt", "downloads/features/mine/x.npy", "downloads/unlisted/val/x.mp4",
    ]  # fmt: skip
    for name in mine:
        (OUT / name).parent.mkdir(parents=True, exist_ok=True)
        (OUT / name).write_text("mine")
    linked = project / "linked"
    linked.mkdir()
    (linked / "a.mp4").write_text("mine")
    (OUT / "downloads/coming/linked").symlink_to(linked)
    (OUT / "downloads/packed/linked").symlink_to(linked)
    before = {path: path.read_bytes() for path in [*(OUT / name for name in mine), linked / "a.mp4"]}
    for what in ("videos", "annotations", "videos"):
        download(machine(copy), what=what)
        assert lost(before) == []
    assert (OUT / "downloads/coming/linked").is_symlink()
    assert "2 files (2019/holiday.mp4, val/mine.mp4) that are not annotated stay as they are" in caplog.text


@pytest.mark.parametrize("kind", ["file", "link"])
def test_an_archive_that_somebody_put_there_is_used_and_stays(project, web, kind):
    """The hint of an error says to fetch it by hand; some put it where they see ours."""
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    values = yaml.safe_load(Path("datasets/net/sources.yaml").read_text())
    values["videos"] = [version("zips", {"file": "all.zip", "urls": [f"{web.url}/all.zip"]})]
    Path("datasets/net/sources.yaml").write_text(yaml.safe_dump(values))
    packed, hand = Path("data/net/downloads/packed/zips/all.zip"), project / "all.zip"
    packed.parent.mkdir(parents=True)
    video_zip(hand, "x", dict.fromkeys(["t1", "v1"], video(project / "any.mp4")))
    content = hand.read_bytes()
    hand.rename(packed) if kind == "file" else packed.symlink_to(hand)
    assert len(dataset.downloaded(download(machine(project / "lab"), "net", what="videos"))) == 2
    assert packed.read_bytes() == content
    assert packed.is_symlink() == (kind == "link")


def test_a_folder_that_is_its_own_mirror_is_used_in_place(project):
    download(machine(mirror(project / "lab"), keep=True), what="annotations")
    folder = OUT / "downloads/annotations/official"
    for path in folder.iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    download(machine(project / "data"), what="annotations")
    assert lost(before) == []
    assert not any(path.is_symlink() for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder"])
@pytest.mark.parametrize("place", ["videos/val/v1.mp4", "downloads/coming/val/v1.mp4"])
def test_a_video_is_not_put_over_what_is_there(project, web, kind, place):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    whole = video(project / "any.mp4")
    for name in ("train/t1", "val/v1"):
        web.serve(f"/{name}.mp4", Answer(whole))
    path, mine = Path("data/net") / place, project / "mine"
    path.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    {
        "file": lambda: path.write_bytes(b"mine"),
        "link": lambda: path.symlink_to(mine),
        "dangling": lambda: path.symlink_to(project / "absent"),
        "folder": path.mkdir,
    }[kind]()
    with suppress(BadInput):
        download(machine(project / "lab"), "net", what="videos")
    assert path.is_symlink() == (kind in ("link", "dangling"))
    assert path.is_dir() == (kind == "folder")
    assert mine.read_bytes() == b"mine"
    assert kind != "file" or path.read_bytes() == b"mine"
    assert not (project / "absent").exists()


def test_annotations_of_one_s_own_stay(project):
    copy = mirror(project / "lab")
    OUT.mkdir(parents=True)
    (OUT / "annotations.json").write_text('{"database": {}}')
    with pytest.raises(BadInput, match=r"annotations\.json: found a file that `um download` did not write"):
        download(machine(copy), what="annotations")
    assert (OUT / "annotations.json").read_text() == '{"database": {}}'
    (OUT / "annotations.json").rename(project / "away.json")
    download(machine(copy), what="annotations")


@pytest.mark.parametrize("linked", ["videos", "downloads"])
def test_a_link_to_another_dataset_s_folder_is_refused(project, linked):
    copy = mirror(project / "lab")
    download(machine(copy), what="videos")
    other = Path("data/other")
    OUT.rename(other)
    OUT.mkdir()
    (OUT / linked).symlink_to((other / linked).resolve())
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match=rf"{linked}: found a link; .*; hint: link data/thumos14 as a whole"):
        download(machine(copy), what="videos")
    assert lost(before) == []
    (OUT / linked).unlink()
    OUT.rmdir()
    OUT.symlink_to(other.resolve())  # the hint
    assert len(dataset.downloaded(download(machine(copy), what="videos"))) == 6


def test_features_of_one_s_own_are_not_written_over(project):
    copy = mirror(project / "lab")
    features_zip(copy / "thumos14/thumos14-i3d.zip", COUNTED)
    values = yaml.safe_load(without_links())
    values["features"] = [version("um", {"file": "thumos14-i3d.zip"})]
    Path("datasets/thumos14/sources.yaml").write_text(yaml.safe_dump(values))
    out = download(machine(copy), what="features")
    changed = next((out / "downloads/features/um").rglob("*.npy"))
    changed.write_bytes(b"mine")
    with pytest.raises(BadInput, match=r"found another file; .*; hint: move it away, then run again"):
        download(machine(copy), what="features")
    assert changed.read_bytes() == b"mine"
    changed.unlink()
    download(machine(copy), what="features")
    assert changed.stat().st_size > 4


def test_two_downloads_at_once_and_a_shard_beside_a_whole_one(project):
    copy = mirror(project / "lab")
    with held(OUT, "um download --dataset thumos14"):
        for shard in (None, "1-of-2"):
            with pytest.raises(BadInput, match=r"`um download --dataset thumos14` .process .* running in it"):
                download(machine(copy, shard=shard), what="videos")
    with held(OUT, "um download --dataset thumos14 --shard 2-of-2", shared=True):
        download(machine(copy, shard="1-of-2"), what="videos")
        with pytest.raises(BadInput, match="running in it"):
            download(machine(copy), what="videos")


# --- names and forms

ODD = ["漢" * 80, "a b#1?%20", "e\u0301", "'\"&;$", "a" * 251]


@pytest.mark.parametrize("where", ["folder", "server", "link", "archive"])
def test_odd_names_come_from_everywhere(project, web, where):
    each_from(web, project, {"t" + name[1:]: 1.6 for name in ODD} | {"v1": 1.6})
    names = ["t" + name[1:] for name in ODD] + ["v1"]
    whole = video(project / "any.mp4")
    files = {f"{'val' if name == 'v1' else 'train'}/{name}.mp4": whole for name in names}
    if where == "folder":
        for name in files:
            (project / "lab/net/videos" / name).parent.mkdir(parents=True, exist_ok=True)
            (project / "lab/net/videos" / name).write_bytes(whole)
    elif where == "archive":
        values = yaml.safe_load(Path("datasets/net/sources.yaml").read_text())
        values["videos"] = [version("zips", {"file": "all.zip"})]
        Path("datasets/net/sources.yaml").write_text(yaml.safe_dump(values))
        video_zip(project / "lab/net/all.zip", "x", dict.fromkeys(names, whole))
    else:
        prefix = "/mirror/net/videos" if where == "server" else ""
        listed = {name: {"sha256": hashlib.sha256(whole).hexdigest()} for name in files}
        web.serve("/mirror/net/videos/index.json", Answer(json.dumps({"files": listed}).encode()))
        for name in files:
            web.serve(f"{prefix}/{quote(name, safe='/')}", Answer(whole))
    places = [f"{web.url}/mirror"] * (where == "server")
    out = download(machine(project / "lab", *places), "net", what="videos")
    assert {path.relative_to(out / "videos").as_posix() for path in dataset.downloaded(out).values()} == set(files)


@pytest.mark.parametrize("name", ["../../x", "a\nb", "/etc/x", "a" * 300, ".x", "\u202e"])
def test_ids_that_are_no_file_names_are_one_line(project, name):
    path = annotated(project / "lab/net/net.json", t1=1.6, v1=1.6)
    values = json.loads(path.read_text())
    values["database"][name] = values["database"]["t1"]
    path.write_text(json.dumps(values))
    table("net", annotations=[version("official", {"file": "net.json"})])
    with pytest.raises(BadInput, match="expected a name without slashes and control characters"):
        download(machine(project / "lab"), "net", what="annotations")
    assert not Path("data/net/annotations.json").exists()


NAMES = [
    "datasets/net/sources.lock.json",
    "datasets/net/missing.tsv",
    "datasets/net/sources.yaml",
    "data/net/videos/index.json",
    "data/net/videos/journal.jsonl",
    "data/net/downloads/journal.jsonl",
    "data/net/downloads/features/folder.json",
]
BAD = [
    b"", b"{", b"[]", b"null", b"[" * 100_000, b"1" * 6000, b"\xff\xfe", b'{"files": NaN}', b'{"files": {"x": null}}',
    b'{"files": {"x": {"sha256": 1}}}', b'{"versions": {"features": 3}, "x": {"../x": {"a": -1}}}',
    b'{"x": {"a": "1"}}',
]  # fmt: skip


@pytest.mark.parametrize("content", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_files_of_wrong_form_are_one_line(project, name, content):
    annotated(project / "lab/net/net.json", t1=1.6, v1=1.6)
    (project / "lab/net/shared").mkdir()
    for video_name in ("t1", "v1"):
        np.save(project / f"lab/net/shared/{video_name}.npy", np.ones((3, 8), np.float32))
    table(
        "net",
        annotations=[version("official", {"file": "net.json"})],
        features=[version("folder", {"file": "shared"})],
        videos=[version("zips", {"file": "all.zip"})],
    )
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content)
    began = time.monotonic()
    with suppress(BadInput):
        download(machine(project / "lab"), "net", what="features")
    with suppress(BadInput):
        download(machine(project / "lab"), "net", what="videos")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("name", NAMES)
def test_pipes_are_one_line(project, name):
    test_files_of_wrong_form_are_one_line(project, "aside/x", b"")
    shutil.rmtree("data")
    Path(name).unlink(missing_ok=True)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(name)
    what = "videos" if name.endswith("tsv") else "features"
    with pytest.raises(BadInput, match=Path(name).name):
        download(machine(project / "lab"), "net", what=what)


def test_an_index_of_a_mirror_that_leads_out_is_passed_over(project, web, caplog):
    each_from(web, project, {"t1": 1.6, "v1": 1.6})
    for name in ("train/t1", "val/v1"):
        web.serve(f"/{name}.mp4", Answer(video(project / "any.mp4")))
    listed = {"../../../t1.mp4": {"sha256": "0" * 64}}
    web.serve("/odd/net/videos/index.json", Answer(json.dumps({"files": listed}).encode()))
    assert len(dataset.downloaded(download(machine(f"{web.url}/odd", project / "lab"), "net", what="videos"))) == 2
    assert "a path below the file's folder" in caplog.text
