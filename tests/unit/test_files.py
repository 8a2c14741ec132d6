"""Half-written files, which nodes of a cluster put into shared folders, and folders that are held."""

import platform

import pytest

from um.files import atomic, held, sweep, temporary_name


def test_two_hosts_do_not_share_a_temporary_name(tmp_path, monkeypatch):
    names = set()
    for host in ("node1", "node2.example.org"):
        monkeypatch.setattr(platform, "node", lambda host=host: host)
        names.add(temporary_name(tmp_path / "a.json"))
    assert len(names) == 2


def test_leftovers_of_any_host_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "another")
    with atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("whole")
        left = temporary.with_name(temporary.name.replace(".json", ".npy"))
        left.write_text("torn")
    earlier = tmp_path / ".um-01234567-89.part.npy"  # without a host, as this project once wrote
    earlier.write_text("torn")
    sweep(tmp_path.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_an_error_inside_a_held_folder_is_its_own(tmp_path):
    folder = tmp_path / "new"
    with pytest.raises(FileNotFoundError, match="gone"), held(folder, "um x"):
        (folder / "gone").read_text()
    assert not folder.exists()
