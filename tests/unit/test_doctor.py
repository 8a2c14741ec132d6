"""What `um doctor` says of the machine and of a remote; its advice is run as it stands."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    ("system", "machine", "state"),
    [
        ("Linux", "x86_64", "ok"),
        ("Linux", "aarch64", "note"),
        ("Linux", "riscv64", "note"),
        ("Darwin", "arm64", "note"),
        ("Darwin", "x86_64", "missing"),
        ("Windows", "AMD64", "missing"),
    ],
)
def test_the_state_of_every_platform_is_told(system, machine, state, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert doctor._platform()[1] == state


def test_missing_packages_come_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda name: ["pytest>=8", "no-such-package<2,>=1", "x; extra == 'dev'"])
    ((_, state, text),) = doctor._packages()
    assert state == "missing"
    assert shlex.split(text.strip("`"))[:4] == [sys.executable, "-m", "pip", "install"]
    assert shlex.split(text.strip("`"))[-1] == "no-such-package<2,>=1"


def test_libraries_that_opencv_lacks_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    _, state, text = doctor._opencv()
    assert state == "missing"
    assert f"`apt-get install {doctor.LIBRARIES}`" in text
    assert doctor.LIBRARIES in (Path(__file__).parents[2] / "containers/install.sh").read_text()


def test_a_gpu_that_pytorch_does_not_find_is_told(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert doctor._device()[1] == "ok"
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert doctor._device()[1] == "note"


@pytest.mark.skipif(not os.environ.get("UM_FAULTS"), reason="`make faults` runs it")
def test_mmaction2_is_installed_by_the_command_that_doctor_prints(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    monkeypatch.setenv("UM_CACHE", str(tmp_path))
    _, state, text = doctor._mmaction2()
    assert state == "not yet"
    subprocess.run([*shlex.split(text.split("`")[1]), "--quiet", "--target", tmp_path / "site"], check=True)
    assert {path.name for path in (tmp_path / "site").iterdir()} == {"mmaction", "mmaction2-1.1.0.dist-info"}
