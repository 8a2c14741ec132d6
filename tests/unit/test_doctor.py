"""What `um doctor` says of a remote; its advice is run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

from helpers.forking import launchers
from helpers.remotes import UNSET

from um import doctor


def test_a_remote_is_added_and_verified_by_the_commands_that_doctor_prints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", f"{launchers()}/python")  # beside which `um` looks for DVC
    dvc = f"{launchers()}/dvc"
    subprocess.run(["git", "init", "--quiet"], check=True)
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    _, state, text = doctor._remote()
    assert state == "not yet"
    add, verify = text.split("`")[1].split("; ")
    subprocess.run([dvc, *add.replace("/a/folder", str(tmp_path / "remote")).split()[1:]], check=True)
    _, state, text = doctor._remote()
    assert (state, text.split("`")[-2]) == ("note", verify)
    subprocess.run([dvc, *verify.split()[1:]], check=True)
    assert doctor._remote() == ("remote", "ok", f"storage: {tmp_path / 'remote'}")


def test_the_address_that_is_shipped_is_valid_or_tells_how_to_set_one():
    config = (Path(__file__).parents[2] / ".dvc/config").read_text()
    (url,) = re.findall("url = (.+)", config)
    assert doctor._is_placeholder(UNSET)
    assert url == UNSET or not doctor._is_placeholder(url)
    assert "verify = true" in config
