"""Shards share a features folder: nobody loses, mixes up or deletes what another one made."""

import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from um.errors import BadInput
from um.features.ledger import Ledger, at_work
from um.files import sha256, write_json
from um.journal import Journal
from um.shard import Shard

A, B = {"fps": 25.0}, {"fps": 12.5}
FILES = [f"train/rgb/{name}.npy" for name in "abcd"]
SOURCE = "0" * 64


def save(ledger: Ledger, path: str, value: float) -> None:
    ledger.save(path, np.full((2, 3), value, np.float32), SOURCE)


def held(ledger: Ledger) -> list[str]:
    return [path for path in FILES if ledger.holds(path, SOURCE)]


def there(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A complete folder of specification A."""
    folder = tmp_path / "features"
    ledger = Ledger(folder, A, set(FILES))
    for number, path in enumerate(FILES):
        save(ledger, path, number)
    ledger.close()
    return folder


def test_shards_take_every_video_once() -> None:
    keys = [f"{subset}/{number}" for subset in ("train", "val") for number in range(5)]
    shares = [Shard(number, 3).of(reversed(keys)) for number in (1, 2, 3)]
    assert sorted(key for share in shares for key in share) == keys
    assert [len(share) for share in shares] == [4, 3, 3]
    assert all({key[0] for key in share} == {"t", "v"} for share in shares)
    assert Shard(4, 4).of(["a"]) == []


def test_a_shard_finds_what_is_there_and_deletes_nothing(whole: Path) -> None:
    before = there(whole)
    assert held(Ledger(whole, A, {FILES[0]}, Shard(1, 4))) == FILES[:1]
    assert set(before) - set(there(whole)) == {"index.json"}  # it is no longer certain that all is there
    (whole / "shards/notes.txt").write_text("the user's")
    rest = Ledger(whole, A, set(FILES[:3]))
    assert held(rest) == FILES[:3]
    rest.close()
    assert there(whole) == sorted({*before, "shards/notes.txt"} - {FILES[3]})


def test_any_number_of_shards_goes_on(tmp_path: Path) -> None:
    first = Ledger(tmp_path, A, set(FILES[:2]), Shard(1, 2))
    save(first, FILES[0], 0)
    with first.journal.file.open("a") as file:
        file.write('["train/rgb/b.npy", {"sha')  # a kill
    Ledger(tmp_path, A, set(FILES[:1]), Shard(1, 2))  # with fewer videos
    other = Ledger(tmp_path, A, {FILES[0], FILES[3]}, Shard(2, 3))
    assert held(other) == FILES[:1]
    save(other, FILES[3], 3)
    (tmp_path / "train/rgb/.um-01234567-1.part.npy").write_bytes(b"torn")
    other.journal.append([FILES[2], {"sha256": SOURCE}])  # a kill before it got its name
    ledger = Ledger(tmp_path, A, set(FILES))
    assert held(ledger) == [FILES[0], FILES[3]]
    ledger.close()
    assert there(tmp_path) == sorted(["index.json", "journal.jsonl", "spec.json", FILES[0], FILES[3]])


def test_another_specification_is_never_mixed_in(whole: Path) -> None:
    shard = Ledger(whole, B, set(FILES[:2]), Shard(1, 2))
    assert held(shard) == []
    save(shard, FILES[0], 10)
    again = Ledger(whole, A, set(FILES[:2]), Shard(1, 2))  # back again, before all shards were done
    assert held(again) == FILES[1:2]
    ledger = Ledger(whole, B, set(FILES))
    assert held(ledger) == FILES[:1]  # what is left of A is gone
    assert not any((whole / path).exists() for path in FILES[1:])
    assert held(Ledger(whole, A, set(FILES))) == []


def test_back_to_the_old_specification_after_shards_of_a_new_one(whole: Path) -> None:
    first = (whole / FILES[0]).read_bytes()
    save(Ledger(whole, B, set(FILES[:2]), Shard(1, 2)), FILES[0], 10)
    ledger = Ledger(whole, A, set(FILES))
    assert held(ledger) == FILES[1:]
    save(ledger, FILES[0], 0)
    ledger.close()
    assert (whole / FILES[0]).read_bytes() == first


@pytest.mark.parametrize(("following", "expected"), [(B, FILES[:1]), (A, [])])
def test_a_kill_while_the_shards_are_taken_over(
    whole: Path, monkeypatch: pytest.MonkeyPatch, following: dict[str, float], expected: list[str]
) -> None:
    """There is no moment at which the old stamp stands over what shards of the new specification made."""
    save(Ledger(whole, B, set(FILES[:2]), Shard(1, 2)), FILES[0], 10)

    write = Journal.write

    def killed(self: Journal, path: str, **facts: object) -> AbstractContextManager[Path]:
        if path == "spec.json":
            raise KeyboardInterrupt
        return write(self, path, **facts)

    monkeypatch.setattr(Journal, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        Ledger(whole, B, set(FILES))
    monkeypatch.undo()
    assert held(Ledger(whole, following, set(FILES))) == expected


def state(folder: Path) -> dict[str, bytes | str]:
    """Every file and link of a folder, so that nothing can go unnoticed."""
    found = sorted(folder.rglob("*"))
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in found
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("name", [FILES[0], "spec.json", "index.json", "missing.tsv", "journal.jsonl"])
@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder"])
@pytest.mark.parametrize("spec", [A, B])
@pytest.mark.parametrize("shard", [None, Shard(1, 1)])
def test_what_somebody_else_has_there_is_refused_and_stays(
    tmp_path: Path, name: str, kind: str, spec: dict[str, float], shard: Shard | None
) -> None:
    mine, folder = tmp_path / "mine", tmp_path / "features"
    mine.write_text("the user's")
    path = folder / name
    path.parent.mkdir(parents=True)
    {
        "file": lambda: path.write_text('{"mine": 1}'),
        "link": lambda: path.symlink_to(mine),
        "dangling": lambda: path.symlink_to(tmp_path / "absent"),
        "folder": lambda: (path / "deep").mkdir(parents=True),
    }[kind]()
    before = state(tmp_path)
    with pytest.raises(BadInput, match=rf"{Path(name).name}: found .*; hint: (move it away, then|link .*)"):
        Ledger(folder, spec, set(FILES), shard).drop([FILES[0]], [FILES[0]])
    assert before.items() <= state(tmp_path).items()
    assert path.is_dir() == (kind == "folder")


def test_hints_for_what_is_in_the_way_lead_on(whole: Path, tmp_path: Path) -> None:
    (whole / FILES[0]).write_bytes(b"damaged")
    with pytest.raises(BadInput, match="move it away, then run again"):
        Ledger(whole, A, set(FILES)).drop(FILES[:1], FILES[:1])
    (whole / FILES[0]).rename(tmp_path / "away")
    ledger = Ledger(whole, A, set(FILES))
    ledger.drop(FILES[:1], FILES[:1])
    save(ledger, FILES[0], 0)
    ledger.close()
    assert held(Ledger(whole, A, set(FILES))) == FILES


@pytest.mark.parametrize("linked", ["train", "train/rgb"])
@pytest.mark.parametrize("spec", [A, B])
def test_a_link_to_another_dataset_is_not_followed(whole: Path, linked: str, spec: dict[str, float]) -> None:
    other = whole.with_name("other")
    shutil.copytree(whole, other)
    shutil.rmtree(other / linked)
    (other / linked).symlink_to(whole / linked)
    before = state(whole)
    with pytest.raises(BadInput, match=f"{Path(linked).name}: found a link; expected a real folder"):
        Ledger(other, spec, set(FILES))
    ledger = Ledger(other, spec, {"test/rgb/z.npy"})  # what the journal names there is reached by the link
    save(ledger, "test/rgb/z.npy", 1)
    ledger.close()
    assert state(whole) == before


def test_a_linked_feature_file_is_neither_deleted_nor_written_through(whole: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.npy"
    (whole / FILES[0]).rename(mine)
    (whole / FILES[0]).symlink_to(mine)
    content = mine.read_bytes()
    Ledger(whole, B, set(FILES[1:])).close()
    assert (whole / FILES[0]).is_symlink()
    assert mine.read_bytes() == content
    with pytest.raises(BadInput, match="a link"):
        Ledger(whole, A, set(FILES)).drop(FILES[:1], FILES[:1])
    assert mine.read_bytes() == content


def test_the_whole_folder_may_be_a_link(whole: Path) -> None:
    link = whole.with_name("link")
    link.symlink_to(whole)
    assert held(Ledger(link, A, set(FILES))) == FILES
    Ledger(link, B, set()).close()
    assert there(whole) == ["index.json", "journal.jsonl", "spec.json"]


def test_what_was_changed_since_stays_with_one_warning(whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    (whole / FILES[0]).write_bytes(b"edited")
    (whole / FILES[1]).write_bytes(b"edited")
    Ledger(whole, A, set(FILES[2:])).close()
    assert [(whole / path).exists() for path in FILES] == [True] * 4
    (said,) = [record.getMessage() for record in caplog.records]
    assert "2 files (train/rgb/a.npy, train/rgb/b.npy) changed since" in said


@pytest.mark.parametrize("whole_journal", [True, False])
def test_folders_of_earlier_versions_go_on(whole: Path, whole_journal: bool) -> None:
    """Their journals had no lines of spec.json and index.json, and at first there were none."""
    lines = [line for line in (whole / "journal.jsonl").read_text().splitlines() if line.startswith('["train')]
    (whole / "journal.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if not whole_journal:
        (whole / "journal.jsonl").unlink()
    (whole / "missing.tsv").write_text("id\treason\nx\tgone\n")
    assert held(Ledger(whole, A, {FILES[0]}, Shard(1, 2))) == FILES[:1]
    ledger = Ledger(whole, B, set(FILES))
    assert held(ledger) == []
    assert there(whole) == ["journal.jsonl", "missing.tsv", "shards/1-of-2.jsonl", "spec.json"]
    ledger.close()
    assert there(whole) == ["index.json", "journal.jsonl", "spec.json"]


def test_a_file_that_equals_ours_is_used_and_stays_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / "train/rgb").mkdir(parents=True)
    array = np.full((2, 3), 1, np.float32)
    with (tmp_path / FILES[0]).open("wb") as file:
        np.save(file, array)
    ledger = Ledger(tmp_path, A, set(FILES[:1]))
    save(ledger, FILES[0], 1)
    ledger.close()
    ledger = Ledger(tmp_path, A, set(FILES[:1]))
    assert held(ledger) == FILES[:1]
    ledger.close()
    Ledger(tmp_path, B, set()).close()
    assert (tmp_path / FILES[0]).is_file()


@pytest.mark.parametrize(
    "text", ['{"files": {"../../mine": {"sha256": "%s"}}}', '{"files": {"%s": {}}}', "[]", "null", "{"]
)
def test_a_hostile_index_deletes_nothing(tmp_path: Path, text: str) -> None:
    folder, mine = tmp_path / "a/features", tmp_path / "mine"
    folder.mkdir(parents=True)
    mine.write_text("the user's")
    (folder / "index.json").write_text(text.replace("%s", sha256(mine)))
    with pytest.raises(BadInput, match=r"index\.json: found"):
        Ledger(folder, A, set(FILES))
    assert mine.read_text() == "the user's"


def test_an_index_of_elsewhere_beside_a_journal_is_no_journal(whole: Path) -> None:
    mine = whole / "train/rgb/mine.npy"
    mine.write_bytes(b"the user's")
    index = json.loads((whole / "index.json").read_text())
    entry = {"sha256": sha256(mine), "snippets": 1, "source_sha256": SOURCE}
    write_json(whole / "index.json", index | {"files": {"train/rgb/mine.npy": entry}})
    with pytest.raises(BadInput, match=r"index\.json: found a file that `um extract` did not write"):
        Ledger(whole, B, set())
    assert mine.read_bytes() == b"the user's"


@pytest.mark.parametrize(
    "name",
    [
        "../x.npy",
        "rgb/../../x.npy",
        "/etc/rgb/x.npy",
        "train/rgb/.x.npy",
        "rgb/a\nb.npy",
        "rgb/a\0.npy",
        "rgb/\udc80.npy",
        "rgb/" + "漢" * 84 + ".npy",
        "val/rgb/a\u202eb.npy",
        "other/a.npy",
    ],
)
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="found"):
        Ledger(tmp_path / "out", A, {name})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["漢" * 80, "a" * 251, "a b", "e\u0301", "\u00e9", "#%'\"$&;", "\u00a0\u3000", "-x"])
def test_names_that_can_be(tmp_path: Path, name: str) -> None:
    path = f"val/rgb/{name}.npy"
    ledger = Ledger(tmp_path, A, {path})
    save(ledger, path, 1)
    ledger.close({f"val/{name}": "gone"})
    assert Ledger(tmp_path, A, {path}).holds(path, SOURCE)


def test_shards_of_other_settings_or_twice_at_the_same_time_are_refused(tmp_path: Path) -> None:
    one = Ledger(tmp_path, A, set(FILES[:2]), Shard(1, 2))
    with at_work(one):
        with (
            pytest.raises(BadInput, match="shard 1-of-2 running with other settings"),
            at_work(Ledger(tmp_path, B, set(FILES[2:]), Shard(2, 2))),
        ):
            pass
        with (
            pytest.raises(BadInput, match="shard 1-of-2 running"),
            at_work(Ledger(tmp_path, A, set(FILES[:2]), Shard(1, 2))),
        ):
            pass
        with at_work(Ledger(tmp_path, A, set(FILES[2:]), Shard(2, 2))):
            pass
    with at_work(Ledger(tmp_path, B, set(FILES[2:]), Shard(2, 2))):  # the others have ended
        pass
