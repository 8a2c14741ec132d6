"""`um data status`, and the list of missing videos that it counts."""

import json
from pathlib import Path

import pytest
from helpers.tiny import make_dataset
from hypothesis import given
from hypothesis import strategies as st

from um.download import missing
from um.download.missing import Row
from um.download.sources import Lock, Split, Table
from um.errors import BadInput, printable
from um.files import write_json
from um.inspection.status import Counts, matching, status

SPLITS = [{"name": "everybody", "train": 6, "test": 4}, {"name": "the careful", "train": 5, "test": 4}]
TABLE = Table.model_validate(
    {
        "train": "train",
        "test": "test",
        "annotations": [{"name": "a", "about": "", "terms": "", "files": [{"file": "gt.json", "sha256": "0" * 64}]}],
        "features": [{"name": "f", "about": "", "terms": "", "files": [{"file": "f.zip"}, {"file": "g.zip"}]}],
        "videos": [{"name": "v", "about": "", "terms": "", "files": [{"file": "{id}.mp4"}]}],
        "splits": SPLITS,
    }
)


def told(folder, table=None, lock=None, dataset=None):
    lines = []
    status(dataset, folder, table, lock, lines.append)
    return lines


def test_a_whole_dataset_matches_its_population(tmp_path):
    root = make_dataset(tmp_path / "tiny", streams=("rgb", "flow"))
    assert told(root, TABLE)[:7] == [
        "annotations  annotations.json: test 4, train 6 videos, 10 instances, 3 classes",
        "             6 to train on, 4 to test on: everybody",
        "videos       none",
        "features     rgb: 10 of 10 videos",
        "features     flow: 10 of 10 videos",
        f"             {{rgb,flow}}/<id>.npy in {root}/features",
        "             6 to train on, 4 to test on: everybody",
    ]


def test_features_that_are_not_all_there_match_another_population_or_none(tmp_path):
    root = make_dataset(tmp_path / "tiny", streams=("rgb", "flow"))
    (root / "features/train/flow/video_00.npy").unlink()
    lines = told(root, TABLE)
    assert "features     flow: 9 of 10 videos" in lines
    assert "             5 to train on, 4 to test on: the careful" in lines
    (root / "features/test/rgb/video_06.npy").unlink()
    near = "no published split; the nearest is the careful, 5 / 4"
    assert f"             5 to train on, 3 to test on: {near}" in told(root, TABLE)


def test_features_without_annotation_are_counted_apart(tmp_path):
    root = make_dataset(tmp_path / "tiny")
    path = root / "features/train/rgb/video_00.npy"
    path.with_name("other.npy").write_bytes(path.read_bytes())
    assert "features     rgb: 10 of 10 videos, 1 video (other) not annotated" in told(root)


def test_split_lists_say_which_videos_count(tmp_path):
    root = make_dataset(tmp_path / "tiny", official=True)
    (root / "split_train.txt").write_text("".join(f"video_0{i}\n" for i in range(1, 6)))
    lines = told(root, TABLE)
    assert lines[:2] == [
        "annotations  gt.json: test 4, train 6 videos, 10 instances, 3 classes",
        "             5 to train on, 4 to test on: the careful",
    ]


def test_a_folder_with_annotations_alone(tmp_path):
    make_dataset(tmp_path / "tiny")
    content = json.loads((tmp_path / "tiny/annotations.json").read_text())
    write_json(tmp_path / "only/annotations.json", {"version": "a", "sources": {"gt.json": "ab" * 32}} | content)
    assert told(tmp_path / "only") == [
        "annotations  annotations.json: test 4, train 6 videos, 10 instances, 3 classes",
        f"             from gt.json, sha256 {'ab' * 32}",
        "             6 to train on, 4 to test on",
        "videos       none",
        "features     none in a known layout",
    ]


def test_an_empty_folder_has_nothing(tmp_path):
    assert told(tmp_path) == ["annotations  none", "videos       none", "features     none in a known layout"]


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="no such folder"):
        told(tmp_path / "nowhere")


def test_videos_are_counted_by_their_index(tmp_path):
    root = make_dataset(tmp_path / "tiny")
    names = [f"train/video_0{i}" for i in range(1, 6)] + ["test/video_06", "test/video_07", "test/video_08"]
    files = {f"{name}.mp4": {"sha256": "0" * 64, "bytes": 250_000_000} for name in names}
    gone = {"train/video_00": "private", "test/video_09": "private"}
    write_json(root / "videos/index.json", {"files": files, "missing": gone})
    lines = told(root, TABLE)
    start = lines.index("videos       8 of 10, 2 missing, 2.0 GB")
    assert lines[start + 1 : start + 3] == [
        "             2 missing: private",
        "             5 to train on, 3 to test on: no published split; the nearest is the careful, 5 / 4",
    ]


def test_features_instead_of_videos_are_said(tmp_path):
    write_json(tmp_path / "videos/index.json", {"files": {}, "features": "um"})
    assert told(tmp_path)[1:3] == [
        "videos       none",
        "             features of um are downloaded: um extract imports them",
    ]


def test_files_of_the_table_and_their_checksums(tmp_path):
    came = tmp_path / "f.zip"
    came.write_bytes(b"x")
    lock = Lock(tmp_path / "sources.lock.json")
    lock.pin({TABLE.features[0].files[0].file: came})
    assert told(tmp_path, TABLE, lock)[-4:] == [
        "source       annotations a: gt.json, checksum published",
        "source       features f: f.zip, checksum pinned in sources.lock.json",
        "source       features f: g.zip, checksum unknown",
        "source       videos v: {id}.mp4, one per video",
    ]


def test_rows_of_missing_tsv_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {"a": Row("gone", "2026-11-26", "youtube"), "b": Row("short", "-", "an issue")}
    missing.write(tmp_path / "datasets/tiny/missing.tsv", rows)
    assert "missing.tsv  2 videos, 1 of them tried here" in told(tmp_path, dataset="tiny")
    assert "missing.tsv  0 videos, 0 of them tried here" in told(tmp_path, dataset="other")


def test_two_populations_of_one_size_are_both_named():
    same = [Split(name="a", train=1, test=2), Split(name="b", train=1, test=2)]
    assert matching(Counts(1, 2), same) == ": a and b"
    assert matching(Counts(1, 2), []) == ""
    assert matching(Counts(10_024, 4_900), [Split(name="official", train=10_024, test=4_926)]).endswith(
        "nearest is official, 10,024 / 4,926"
    )


def test_the_official_codes_files_are_the_population_of_um(reference_data):
    from um.download import sources

    table = sources.read(Path(__file__).parents[2] / "datasets/thumos14/sources.yaml")
    lines = told(reference_data / "data/thumos14", table)
    assert "200 to train on, 210 to test on: STPN, BaS-Net, UM" in lines[1]


words = st.text(max_size=12)


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{1,11}", fullmatch=True), st.builds(Row, words, words, words)))
def test_what_is_written_is_read_but_for_white_space_and_the_unprintable(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("missing") / "missing.tsv"
    missing.write(path, rows)
    back = missing.read(path)
    assert back == {name: Row(*(printable(" ".join(value.split())) for value in row)) for name, row in rows.items()}
    assert list(back) == sorted(rows)
    before = path.read_bytes()
    missing.write(path, dict(reversed(back.items())))
    assert path.read_bytes() == before


def test_no_list_is_an_empty_one(tmp_path):
    assert missing.read(tmp_path / "missing.tsv") == {}


def test_the_list_has_a_header_and_tabs(tmp_path):
    missing.write(tmp_path / "missing.tsv", {"b": Row("gone\tfor\ngood", "-", "x"), "a": Row("private", "-", "y")})
    text = "id\treason\tdate\tsource\na\tprivate\t-\ty\nb\tgone for good\t-\tx\n"
    assert (tmp_path / "missing.tsv").read_text() == text


def test_ids_lose_their_prefix(tmp_path):
    (tmp_path / "missing.tsv").write_text("id\treason\tdate\tsource\nv_0dkIbKXXFzI\tshort\t-\tx\n")
    assert list(missing.read(tmp_path / "missing.tsv")) == ["0dkIbKXXFzI"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "missing.tsv: found nothing"),
        ("a\tgone\t-\tx\n", "missing.tsv: found 'a"),
        ("id\treason\tdate\tsource\na\tgone\n", "missing.tsv:2: found 'a"),
        ("id\treason\tdate\tsource\na\tgone\t-\tx\ty\n", "missing.tsv:2: found 'a"),
        ("id\treason\tdate\tsource\n\tgone\t-\tx\n", "missing.tsv:2: found '"),
        ("id\treason\tdate\tsource\na\tgone\t-\tx\na\tgone\t-\tx\n", "missing.tsv:3: found video a twice"),
    ],
)
def test_a_line_that_is_wrong_is_told(tmp_path, text, where):
    (tmp_path / "missing.tsv").write_text(text)
    with pytest.raises(BadInput) as told_:
        missing.read(tmp_path / "missing.tsv")
    assert where in str(told_.value)
