"""Where a dataset's videos come from: the local provider (the demo has its own tests)."""

import json
import os
import shutil
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest

from um import dataset
from um.datasets.annotations import VIDEO_SUFFIXES
from um.demo import videos
from um.download.provide import provide
from um.errors import BadInput
from um.files import held, sha256, write_json
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
    provide("own", Download(), OUT)
    named = dataset.downloaded(OUT)
    assert sorted(named) == ["train/clip 0", "train/clip 1", "val/clip 2"]
    assert [path.read_bytes() for _, path in sorted(named.items())] == [b"\0", b"\1", b"\2"]
    assert (OUT / "annotations.json").read_bytes() == (local / "annotations.json").read_bytes()


def test_a_second_download_copies_nothing_and_drops_unlisted_videos(local):
    provide("own", Download(), OUT)
    kept = OUT / "videos/train/clip 0.mp4"
    before = kept.stat().st_mtime_ns, (OUT / "videos/index.json").read_bytes()
    provide("own", Download(), OUT)
    assert before == (kept.stat().st_mtime_ns, (OUT / "videos/index.json").read_bytes())
    listed = json.loads((local / "annotations.json").read_text())
    listed["database"].pop("clip 1")
    (local / "annotations.json").write_text(json.dumps(listed))
    (local / "deep/clip 1.MP4").unlink()
    provide("own", Download(), OUT)
    assert sorted(path.name for path in OUT.glob("videos/*/*")) == ["clip 0.mp4", "clip 2.mp4"]


def test_a_changed_video_is_copied_again(local):
    provide("own", Download(), OUT)
    (local / "clip 0.MP4").write_bytes(b"new")
    provide("own", Download(), OUT)
    assert (OUT / "videos/train/clip 0.mp4").read_bytes() == b"new"


def test_an_annotated_video_without_file(local):
    (local / "clip 0.MP4").unlink()
    with pytest.raises(BadInput, match=r"no file for 1 video \(clip 0\)"):
        provide("own", Download(), OUT)
    assert not OUT.exists()


def test_a_file_without_annotation(local):
    (local / "other.mkv").write_bytes(b"")
    with pytest.raises(BadInput, match=r"1 video \(other\) without annotation"):
        provide("own", Download(), OUT)


def test_an_id_twice(local):
    (local / "deep/clip 0.avi").write_bytes(b"")
    with pytest.raises(BadInput, match="video clip 0 again"):
        provide("own", Download(), OUT)


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
        provide("own", Download(), OUT)
    assert not OUT.exists()


def test_an_unknown_dataset_names_the_known_ones(local):
    with pytest.raises(BadInput, match=r"expected one of .*demo, own"):
        dataset.describe("other")


def test_loose_videos_go_by_their_name():
    assert dataset.by_id([Path("a/x.mp4"), Path("y.avi")]) == {"x": Path("a/x.mp4"), "y": Path("y.avi")}
    with pytest.raises(BadInput, match="duplicate id x"):
        dataset.by_id([Path("a/x.mp4"), Path("x.avi")])


# --- nothing of a user's is lost


def state(*folders: Path) -> dict[str, bytes | str]:
    """Every file and link, so that nothing can go unnoticed."""
    found = {path for folder in folders for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    return {str(p): str(p.readlink()) if p.is_symlink() else p.read_bytes() for p in found}


def describe(text: str) -> None:
    Path("datasets/own/dataset.yaml").write_text(text)


def small_demo() -> Download:
    return Download(train_videos=2, test_videos=1)


@pytest.fixture
def drawn(monkeypatch) -> None:
    """A demo whose videos are quickly made."""
    monkeypatch.setattr(
        videos, "render", lambda name, settings, path: path.write_text(f"{name} {settings.render_seed}")
    )


@pytest.mark.parametrize(
    "given",
    [
        "data/own",
        "data/own/videos",
        "data",
        ".",
        "link",
        "data/own/videos/train",
        "data/own/../own/videos",
        "$PWD/data/own",
    ],
)
@pytest.mark.parametrize("provider", ["local", "features"])
def test_a_source_in_the_target_or_around_it_is_refused(local, monkeypatch, given, provider):
    monkeypatch.setenv("PWD", str(Path.cwd()))
    (OUT / "videos").mkdir(parents=True)
    shutil.copytree(local, OUT / "videos", dirs_exist_ok=True)
    shutil.copytree(local, OUT / "videos/train")
    shutil.copy(local / "annotations.json", OUT)
    Path("link").symlink_to(OUT / "videos")
    describe(f"provider: {provider}\nsource: {given}\n")
    before = state(Path.cwd())
    with pytest.raises(
        BadInput, match=r"dataset\.yaml: found .* overlaps with .*; hint: move your files out of data/own"
    ):
        provide("own", Download(), OUT)
    assert state(Path.cwd()) == before


@pytest.mark.parametrize("linked", [OUT, OUT / "videos", OUT / "features"])
def test_a_target_that_is_a_link_to_the_originals_is_refused(local, linked):
    linked.parent.mkdir(parents=True, exist_ok=True)
    linked.symlink_to(local)
    before = state(local)
    with pytest.raises(BadInput, match="overlaps with"):
        provide("own", Download(), OUT)
    assert state(local) == before


def test_the_demo_beside_videos_of_one_s_own(local, drawn, caplog):
    describe("provider: demo\n")
    mine = OUT / "videos/2019/holiday.mp4"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    (OUT / "videos/train").mkdir()
    (OUT / "videos/train/other.mp4").write_bytes(b"mine")
    (OUT / "notes.txt").write_bytes(b"mine")
    linked = local / "2020"
    linked.mkdir()
    (linked / "a.mp4").write_bytes(b"mine")
    (OUT / "videos/2020").symlink_to(linked)
    before = state(OUT, local)
    for _ in range(2):
        caplog.clear()
        provide("own", small_demo(), OUT)
        assert before.items() <= state(OUT, local).items()
        (said,) = [record.getMessage() for record in caplog.records]
        assert "3 files (videos/2019/holiday.mp4, videos/2020/a.mp4, videos/train/other.mp4) that do not belong" in said
    assert len(dataset.downloaded(OUT)) == 3
    provide("own", Download(train_videos=1, test_videos=1), OUT)
    assert before.items() <= state(OUT, local).items()
    assert not (OUT / "videos/train/demo_train_0002.mp4").exists(), "one of ours that is no longer listed"


@pytest.mark.parametrize("name", ["annotations.json", "videos/index.json", "videos/train/demo_train_0001.mp4"])
@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder", "pipe"])
def test_what_is_in_the_way_is_refused_and_the_hint_leads_on(local, drawn, name, kind):
    describe("provider: demo\n")
    path, mine = OUT / name, local / "mine"
    path.parent.mkdir(parents=True)
    mine.write_text("mine")
    {
        "file": lambda: path.write_text("mine"),
        "link": lambda: path.symlink_to(mine),
        "dangling": lambda: path.symlink_to(local / "absent"),
        "folder": lambda: (path / "deep").mkdir(parents=True),
        "pipe": lambda: os.mkfifo(path),
    }[kind]()
    before = state(OUT, local) if kind != "pipe" else {}
    with pytest.raises(BadInput, match=rf"{path.name}: found .*; hint: (move it away|choose another name)"):
        provide("own", small_demo(), OUT)
    assert before.items() <= (state(OUT, local) if before else {}).items()
    path.rename(local / "away")
    provide("own", small_demo(), OUT)
    assert len(dataset.downloaded(OUT)) == 3


def test_several_in_the_way_are_named_together(local):
    for number in (0, 1):
        path = OUT / f"videos/train/clip {number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    with pytest.raises(
        BadInput, match=r"2 files \(videos/train/clip 0\.mp4, videos/train/clip 1\.mp4\) .*: move them away"
    ):
        provide("own", Download(), OUT)
    assert (OUT / "videos/train/clip 1.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize("linked", ["videos", "videos/train"])
def test_links_are_followed_neither_for_deletion_nor_for_overwriting(local, linked):
    """To the folder of another dataset, whose journal and bytes are of our making, too."""
    provide("own", Download(), Path("data/other"))
    OUT.mkdir(parents=True)
    shutil.copytree("data/other", OUT, dirs_exist_ok=True)
    shutil.rmtree(OUT / linked)
    (OUT / linked).symlink_to(Path("data/other").resolve() / linked)
    before = state(Path("data/other"))
    listed = json.loads((local / "annotations.json").read_text())
    listed["database"].pop("clip 1")
    (local / "annotations.json").write_text(json.dumps(listed))
    (local / "deep/clip 1.MP4").unlink()
    (local / "clip 0.MP4").write_bytes(b"changed")
    with pytest.raises(BadInput, match="a link"):
        provide("own", Download(), OUT)
    assert state(Path("data/other")) == before


def test_a_linked_copy_is_used_as_it_is(local):
    target = OUT / "videos/train/clip 0.mp4"
    target.parent.mkdir(parents=True)
    target.symlink_to(local / "clip 0.MP4")
    provide("own", Download(), OUT)
    assert target.is_symlink()
    (local / "clip 0.MP4").rename(local / "clip 0.avi")
    target.unlink()
    target.symlink_to(local / "clip 0.avi")
    provide("own", Download(), OUT)
    assert target.is_symlink(), "it is no longer listed, and not ours"


def test_the_user_s_equal_copy_stays_when_it_is_no_longer_listed(local):
    target = OUT / "videos/train/clip 0.mp4"
    target.parent.mkdir(parents=True)
    shutil.copy(local / "clip 0.MP4", target)
    provide("own", Download(), OUT)
    (local / "clip 0.MP4").rename(local / "clip 0.avi")
    provide("own", Download(), OUT)
    assert target.is_file()


def test_what_was_changed_since_stays(local):
    provide("own", Download(), OUT)
    (OUT / "videos/train/clip 0.mp4").write_bytes(b"trimmed by hand")
    (local / "clip 0.MP4").rename(local / "clip 0.avi")
    provide("own", Download(), OUT)
    assert (OUT / "videos/train/clip 0.mp4").read_bytes() == b"trimmed by hand"
    (OUT / "annotations.json").write_text("{}")
    with pytest.raises(
        BadInput, match=r"annotations\.json: found a file that `um download` did not write, or that changed"
    ):
        provide("own", Download(), OUT)
    assert (OUT / "annotations.json").read_text() == "{}"


@pytest.mark.parametrize("deleted", [["annotations.json", "videos/index.json"], ["videos/journal.jsonl"]])
def test_folders_without_index_or_without_journal(local, deleted):
    provide("own", Download(), OUT)
    whole = state(OUT)
    for name in deleted:
        (OUT / name).unlink()
    provide("own", Download(), OUT)
    if deleted[0].startswith("annotations"):
        assert state(OUT) == whole
    for name in deleted:
        (OUT / name).unlink(missing_ok=True)
    (local / "clip 0.MP4").write_bytes(b"changed")
    if "videos/journal.jsonl" not in deleted:
        provide("own", Download(), OUT)
        assert (OUT / "videos/train/clip 0.mp4").read_bytes() == b"changed"


def test_an_index_of_an_earlier_version_is_a_journal(local):
    provide("own", Download(), OUT)
    (OUT / "videos/journal.jsonl").unlink()
    (local / "clip 0.MP4").write_bytes(b"changed")
    (local / "deep/clip 1.MP4").rename(local / "clip 1.mkv")
    provide("own", Download(), OUT)
    assert (OUT / "videos/train/clip 0.mp4").read_bytes() == b"changed"
    assert not (OUT / "videos/train/clip 1.mp4").exists()


@pytest.mark.parametrize("name", ["../../mine.mp4", "/etc/passwd", "train/../../../mine.mp4"])
def test_a_hostile_index_or_journal_deletes_nothing(local, name):
    mine = local / "mine.txt"
    mine.write_bytes(b"mine")
    (OUT / "videos").mkdir(parents=True)
    entry = {"sha256": sha256(mine)}
    write_json(OUT / "videos/index.json", {"files": {name: entry}})
    with pytest.raises(BadInput, match=r"index\.json: .*hint: move it away"):
        provide("own", Download(), OUT)
    (OUT / "videos/index.json").unlink()
    far = os.path.relpath(mine, OUT)
    for path in (f"videos/../{far}", far, str(mine), f"/{mine}", "videos/train/../../../mine/mine.txt"):
        (OUT / "videos/journal.jsonl").write_text(f"{json.dumps([path, entry])}\n")
        with pytest.raises(BadInput, match=r"journal\.jsonl: found other content.*move it away"):
            provide("own", Download(), OUT)
    assert mine.read_bytes() == b"mine"


def test_a_kill_at_any_moment_leaves_what_the_next_run_knows(local, monkeypatch):
    """An exception stands for the kill: before every rename, and right after it."""
    provide("own", Download(), OUT)
    whole = state(OUT)
    rename = Path.replace
    for number in range(7):
        for late in (False, True):
            shutil.rmtree(OUT)
            provide("own", Download(), OUT)
            (local / "clip 0.MP4").write_bytes(b"new")
            left = [number]

            def killed(self: Path, target: Path, late: bool = late, left: list[int] = left) -> Path:
                left[0] -= 1
                if left[0] >= 0:
                    return rename(self, target)
                if late:
                    rename(self, target)
                raise KeyboardInterrupt

            with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
                patch.setattr(Path, "replace", killed)
                provide("own", Download(), OUT)
            (local / "clip 0.MP4").write_bytes(b"newer")
            provide("own", Download(), OUT)
            assert (OUT / "videos/train/clip 0.mp4").read_bytes() == b"newer"
            (local / "clip 0.MP4").write_bytes(b"\0")
            provide("own", Download(), OUT)
            assert state(OUT) == whole


def test_a_lock_that_is_a_link_is_not_written_through(local):
    OUT.mkdir(parents=True)
    mine = local / "mine"
    mine.write_text("mine")
    (OUT / ".um.lock").symlink_to(mine)
    with pytest.raises(OSError, match="symbolic links"):
        provide("own", Download(), OUT)
    assert mine.read_text() == "mine"


def test_two_at_once(local):
    with (
        held(OUT, "um download --dataset other"),
        pytest.raises(BadInput, match=r"`um download --dataset other` .process"),
    ):
        provide("own", Download(), OUT)


# --- names


def make(local: Path, *names: str, ids: list[str] | None = None) -> None:
    """These video files alone, annotated by their ids."""
    shutil.rmtree(local)
    local.mkdir()
    for name in names:
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    ids = ids or [Path(name).stem for name in names]
    subsets = ["training", *["validation"] * (len(ids) - 1)]
    segment = [{"label": "run", "segment": [0, 1]}]
    database = {i: {"subset": s, "annotations": segment} for i, s in zip(ids, subsets, strict=True)}
    (local / "annotations.json").write_text(json.dumps({"database": database}))


ODD = ["漢" * 80, "a" * 251, "a b", "e\u0301", "#%?'\"$&;*", "x\u202fAM", "-x", "a.b.c", "[x]"]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_work(local, name):
    make(local, f"{name}.mp4", "other.mp4")
    for _ in range(2):
        provide("own", Download(), OUT)
    assert dataset.downloaded(OUT)[f"train/{name}"].read_bytes() == f"{name}.mp4".encode()


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\u202eb"])
def test_names_that_no_table_can_show_are_one_line(local, name):
    make(local, f"{name}.mp4", "other.mp4")
    with pytest.raises(BadInput, match="expected a name without slashes and control characters"):
        provide("own", Download(), OUT)
    assert not OUT.exists()


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_id_in_another_unicode_spelling_is_the_same(local, forms):
    given, on_disk = (unicodedata.normalize(form, "café ガ") for form in forms)
    make(local, f"{on_disk}.mp4", "other.mp4", ids=[given, "other"])
    provide("own", Download(), OUT)
    assert f"train/{given}" in dataset.downloaded(OUT)


def test_one_id_in_two_spellings_is_an_error(local):
    make(local, "é.mp4", "other.mp4", ids=["\u00e9", "e\u0301", "other"])
    with pytest.raises(BadInput, match="in two Unicode spellings"):
        provide("own", Download(), OUT)


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES | {".MTS", ".Ts", ".WMV"}))
def test_every_suffix_in_any_case(local, suffix):
    make(local, f"a{suffix}", "b.mp4")
    provide("own", Download(), OUT)
    assert dataset.downloaded(OUT)["train/a"].name == f"a{suffix.lower()}"


def test_hidden_files_parts_and_folders_are_no_videos(local):
    make(local, "a.mp4", "b.mp4")
    for name in ("._a.mp4", ".b.mp4", "a.mp4.part", ".trash/c.mp4", "__MACOSX/._a.mp4", "d.mp4.crdownload"):
        (local / name).parent.mkdir(exist_ok=True)
        (local / name).write_bytes(b"x")
    (local / "folder.mp4").mkdir()
    os.mkfifo(local / "pipe.mp4")
    provide("own", Download(), OUT)
    assert len(dataset.downloaded(OUT)) == 2


def test_linked_folders_are_looked_through_once(local, tmp_path):
    make(local, "a.mp4", "deep/er/b.mp4")
    (tmp_path / "elsewhere").mkdir()
    (local / "deep").rename(tmp_path / "elsewhere/deep")
    (local / "deep").symlink_to(tmp_path / "elsewhere/deep")
    (tmp_path / "elsewhere/deep/loop").symlink_to(local)
    (local / "self").symlink_to(local)
    provide("own", Download(), OUT)
    assert len(dataset.downloaded(OUT)) == 2


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("~nobody-of-that-name/x", "an existing home"),
        ("$NOT_SET", "variables"),
        ('"a\\0b"', "variables"),
        ("${NO}/x", "variables"),
    ],
)
def test_a_source_that_leads_nowhere(local, given, found):
    describe(f"provider: local\nsource: {given}\n")
    with pytest.raises(BadInput, match=rf"dataset\.yaml: found source = .*{found}"):
        provide("own", Download(), OUT)


def test_a_source_below_the_home(local, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    describe("provider: local\nsource: ~/mine\n")
    provide("own", Download(), OUT)
    shutil.move(local, tmp_path / "5$ and more")
    describe("provider: local\nsource: ~/5$ and more\n")
    provide("own", Download(), OUT)


# --- files of wrong form

WRONG = {
    "empty": b"",
    "list": b"[]",
    "null": b"null",
    "nan": b'{"files": NaN}',
    "deep": b"[" * 100_000,
    "digits": b"1" * 6000,
    "latin": b'{"files": {"caf\xe9": 1}}',
    "twice": b'{"files": {}, "files": {}}',
    "inside": b'{"files": {"../x.mp4": {"sha256": "%s"}}}' % (b"0" * 64),
    "sum": b'{"files": {"train/x.mp4": {"sha256": "no"}}}',
    "entry": b'{"files": {"train/x.mp4": null}}',
    "version": b'{"files": {}, "features": "../../x"}',
    "bytes": b'{"files": {"train/x.mp4": {"sha256": "%s", "bytes": -1}}}' % (b"0" * 64),
}


@pytest.mark.parametrize("name", [*WRONG, "pipe", "folder"])
def test_an_index_of_wrong_form_is_one_line(local, name):
    path = OUT / "videos/index.json"
    path.parent.mkdir(parents=True)
    {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir}.get(name, lambda: path.write_bytes(WRONG[name]))()
    for read in (dataset.downloaded, dataset.not_downloaded):
        with pytest.raises(BadInput, match=r"index\.json"):
            read(OUT)
    with pytest.raises(BadInput, match=r"index\.json.*move it away"):
        provide("own", Download(), OUT)


@pytest.mark.parametrize(
    "text",
    [
        b"a: &a [*a, *a]",
        b"? [x]\n: y",
        b"provider: demo\nprovider: local",
        b"\xff\xfe\x00",
        b"- 1",
        b"provider: .nan",
        b"a: 2024-13-45",
    ],
)
def test_a_description_of_wrong_form_is_one_line(local, text):
    Path("datasets/own/dataset.yaml").write_bytes(text)
    with pytest.raises(BadInput, match=r"dataset\.yaml"):
        provide("own", Download(), OUT)
