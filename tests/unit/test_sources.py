"""The tables of the real datasets: they can be read, and say nothing that can be told to be wrong from here."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from um.dataset import describe
from um.datasets import annotations
from um.datasets.annotations import video_id
from um.download import missing, sources
from um.download.sources import KINDS, Lock
from um.errors import BadInput

DATASETS = Path(__file__).parents[2] / "datasets"
REAL = ("thumos14", "activitynet1.2", "activitynet1.3")
SHARES = ("box.com", "sharepoint.com", "pan.baidu.com", "mega.nz", "docs.google.com")
SITES = ("activity-net.org", "ucf.edu")  # of the datasets


def table(dataset):
    return sources.read(DATASETS / dataset / "sources.yaml")


def files(dataset):
    return [file for kind in KINDS for version in getattr(table(dataset), kind) for file in version.files]


@pytest.mark.parametrize("dataset", REAL)
def test_every_kind_is_to_be_had_and_its_terms_are_said(dataset):
    for kind in KINDS:
        versions = getattr(table(dataset), kind)
        assert versions, kind
        assert all(version.about and version.terms for version in versions)


@pytest.mark.parametrize("dataset", REAL)
def test_every_file_has_one_name_and_a_place(dataset):
    listed = files(dataset)
    names = [file.file for file in listed]
    assert len(names) == len(set(names))  # one place in a mirror, one row in the lock
    for file in listed:
        assert file.urls or file.pages, file.file
        assert all(urlsplit(url).scheme in ("http", "https") and " " not in url for url in [*file.urls, *file.pages])
        assert len(file.urls) == len(set(file.urls))
        assert file.each == any("{id}" in url for url in file.urls)


@pytest.mark.parametrize("dataset", REAL)
def test_links_are_what_a_program_can_fetch_and_pages_what_it_cannot(dataset):
    for file in files(dataset):
        assert not [url for url in file.urls if urlsplit(url).netloc.endswith(SHARES)]
        assert all(urlsplit(page).netloc.endswith(SHARES + SITES) for page in file.pages)


@pytest.mark.parametrize("dataset", REAL)
def test_shared_links_have_an_id_of_google_drives_length(dataset):
    shared = [url for file in files(dataset) for url in file.urls if "drive.google.com" in url]
    assert shared
    for url in shared:
        assert re.fullmatch(r"https://drive\.google\.com/(file/d/[\w-]{33}/view|drive/folders/[\w-]{33})", url), url


def test_the_link_that_was_the_model_by_mistake_is_no_link_to_features():
    text = (DATASETS / "thumos14/sources.yaml").read_text("utf-8")
    assert "1nStGuSenq" not in text


@pytest.mark.parametrize("dataset", REAL)
def test_populations_differ_and_the_largest_is_the_official_one(dataset):
    splits = table(dataset).splits
    assert len({(split.train, split.test) for split in splits}) == len(splits)
    assert "official" in max(splits, key=lambda split: split.train + split.test).name


@pytest.mark.parametrize("dataset", REAL)
def test_known_broken_videos_are_untried_ids_without_prefix(dataset):
    rows = missing.read(DATASETS / dataset / "missing.tsv")
    for name, row in rows.items():
        assert video_id(name) == name
        assert re.fullmatch(r"[\w-]{11}", name)
        assert row.date == "-"
        assert row.reason
        assert row.source
    assert list(rows) == sorted(rows)


def test_known_broken_videos_of_activitynet():
    assert "0dkIbKXXFzI" in missing.read(DATASETS / "activitynet1.2/missing.tsv")
    assert set(missing.read(DATASETS / "activitynet1.3/missing.tsv")) == {"0dkIbKXXFzI", "MvZFYjs80Y4"}


@pytest.mark.parametrize("dataset", REAL)
def test_subsets_are_named_as_the_datasets_folders(dataset):
    found = table(dataset)
    assert (found.train, found.test) == (("val", "test") if dataset == "thumos14" else ("train", "val"))
    assert {file.subset for file in files(dataset)} <= {None, found.train, found.test}


@pytest.mark.parametrize("dataset", REAL)
def test_a_dataset_with_a_table_has_a_description(dataset, monkeypatch):
    monkeypatch.chdir(DATASETS.parent)
    assert describe(dataset).title


def test_published_checksums_are_of_the_annotations_that_everybody_uses(reference_data):
    from um.files import sha256

    published = {file.file: file.sha256 for file in files("thumos14") if file.sha256}
    assert set(published) == {"gt.json", "split_train.txt", "split_test.txt"}
    for name, digest in published.items():
        assert sha256(reference_data / "data/thumos14" / name) == digest


def test_populations_are_those_of_the_files_at_hand(reference_data):
    gt = annotations.load(reference_data / "data/thumos14/gt.json")
    official = annotations.load(reference_data / "data/thumos14/official_test")
    listed = annotations.load(reference_data / "data/activitynet/activity_net.v1-2.missing-removed.json")
    thumos14 = {(split.train, split.test) for split in table("thumos14").splits}
    assert (len(gt.subset("train")), len(gt.subset("test"))) in thumos14
    assert (len(gt.subset("train")), len(official.videos)) in thumos14
    kept = set(official.videos) - set(table("thumos14").exclude)
    assert kept == {video.id for video in gt.subset("test")}
    activitynet = {(split.train, split.test) for split in table("activitynet1.2").splits}
    assert (len(listed.subset("train")), len(listed.subset("test"))) in activitynet


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such file"),
        ("train: [", "invalid YAML"),
        ("train: val", "test"),
        ("{train: a, test: b, splitz: []}", "splitz"),
        ("{train: a, test: b, annotations: [{name: A, about: x, terms: y, files: [{file: f}]}]}", "name"),
        ("{train: a, test: b, annotations: [{name: a, about: x, terms: y, files: []}]}", "files"),
        ("{train: a, test: b, annotations: [{name: a, about: x, terms: y, files: [{file: ../f}]}]}", "file"),
        ("{train: a, test: b, annotations: [{name: a, about: x, terms: y, files: [{file: f, sha256: 1}]}]}", "sha256"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(tmp_path, text, told):
    path = tmp_path / "sources.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=told):
        sources.read(path)


def test_two_versions_of_one_name_are_refused(tmp_path):
    version = "{name: a, about: x, terms: y, files: [{file: f}]}"
    (tmp_path / "sources.yaml").write_text(f"{{train: a, test: b, features: [{version}, {version}]}}")
    with pytest.raises(BadInput, match="names of features that differ"):
        sources.read(tmp_path / "sources.yaml")


def test_the_first_file_to_come_is_the_one_that_is_expected(tmp_path):
    came = tmp_path / "f"
    came.write_bytes(b"first")
    path = tmp_path / "sources.lock.json"
    Lock(path).pin({"f": came})
    pinned = Lock(path).expected("f")
    came.write_bytes(b"second")
    Lock(path).pin({"f": came})
    assert Lock(path).expected("f") == pinned
    assert Lock(path).files["f"].bytes == len(b"first")
    assert Lock(path).expected("g") is None
    assert Lock(path).expected("f", "0" * 64) == "0" * 64, "a published checksum goes before"
