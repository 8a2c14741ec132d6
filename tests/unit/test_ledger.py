"""Shards share a features folder: nobody loses, mixes up or deletes what another one made."""

from pathlib import Path

import numpy as np
import pytest

from um.features import ledger as module
from um.features.ledger import Ledger
from um.features.shard import Shard

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
    with first.journal.open("a") as file:
        file.write('["train/rgb/b.npy", {"sha')  # a kill
    Ledger(tmp_path, A, set(FILES[:1]), Shard(1, 2))  # with fewer videos
    other = Ledger(tmp_path, A, {FILES[0], FILES[3]}, Shard(2, 3))
    assert held(other) == FILES[:1]
    save(other, FILES[3], 3)
    (tmp_path / FILES[2]).write_bytes(b"a file that a kill left unsaid is noted before it is written")
    other._note(FILES[2], None)
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

    def killed(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        Ledger(whole, B, set(FILES))
    monkeypatch.undo()
    assert held(Ledger(whole, following, set(FILES))) == expected
