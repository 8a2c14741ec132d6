"""`dvc push` and `dvc pull` with real hosts: a static web server, SSH, S3, and none."""

import getpass
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.remotes import UNSET, s3, sshd
from helpers.serving import Nginx, nginx
from helpers.workspace import Workspace

from um import doctor

from .test_faults import FULL
from .test_provenance import digests

MODEL, ANNOTATIONS = "models/demo/seed0/last.safetensors", "data/demo/annotations.json"
SOME = ("models/demo/seed0", "results/demo/seed0", ANNOTATIONS)  # folders and a file


class Published(NamedTuple):
    """What `dvc push` wrote into a folder, and the web server that shows it."""

    folder: Path
    host: Nginx


@pytest.fixture(scope="module")
def published(built, tmp_path_factory) -> Iterator[Published]:
    """As docs/reruns.md tells: a folder as remote of this checkout only, pushed, and served as it is."""
    work = tmp_path_factory.mktemp("published")
    workspace = built.copy(work / "project")
    workspace.done("dvc", "remote", "add", "--quiet", "--local", "--default", "storage", str(work / "host"))
    workspace.done("dvc", "push")
    assert workspace.done("git", "status", "--porcelain") == ""
    with nginx(work / "host", work / "nginx") as host:
        yield Published(work / "host", host)


def cloned(workspace: Workspace, to: Path, url: str | None = None) -> Workspace:
    """A stranger's clone, with the address of the public host set, or as it is."""
    subprocess.run(["git", "clone", "--quiet", str(workspace.root), str(to)], check=True)
    config = to / ".dvc/config"  # of which one line changes
    config.write_text(config.read_text().replace(UNSET, url or UNSET))
    return Workspace(to)


def stored(folder: Path, file: Path) -> Path:
    """Where DVC keeps the bytes of a file."""
    md5 = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    return folder / "files/md5" / md5[:2] / md5[2:]


def test_a_stranger_pulls_from_a_static_host_and_localises(built, published, tmp_path):
    other = cloned(built, tmp_path / "other", published.host.url)
    other.done("dvc", "pull")
    asked = len(published.host.log())
    other.done("um", "restore")
    assert other.idle()
    assert digests(other) == digests(built)
    video = "data/demo/videos/test/demo_test_0001.mp4"
    other.done("um", "localize", video, "--model-file", MODEL, "--out", "predictions.json")
    assert json.loads((other / "predictions.json").read_text())["results"]["demo_test_0001"]
    assert asked
    assert len(published.host.log()) == asked  # nothing but `dvc pull` asks the host


@pytest.mark.skipif(not FULL, reason="`make faults` runs it")
def test_an_archive_of_the_folder_is_a_remote_where_it_is_unpacked(built, published, tmp_path):
    files = [path for path in published.folder.rglob("*") if path.is_file()]
    assert {path.relative_to(published.folder).parts[:2] for path in files} == {("files", "md5")}
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in files)  # any server may read them
    archive, folder = tmp_path / "um.tar", tmp_path / "unpacked"
    folder.mkdir()
    other = cloned(built, tmp_path / "other")
    other.done("tar", "-C", str(published.folder), "-cf", str(archive), "files")
    other.done("tar", "-C", str(folder), "-xf", str(archive))
    other.done("dvc", "remote", "modify", "--local", "public", "url", str(folder))
    other.done("dvc", "pull", *SOME)
    assert other.done("git", "status", "--porcelain") == ""
    assert digests(other) == some(built)


def some(workspace: Workspace) -> dict[str, str]:
    """Digests of what a clone has after it has pulled SOME."""
    return {path: sha for path, sha in digests(workspace).items() if path.startswith((*SOME, "results/benchmark."))}


def exchange(workspace: Workspace, other: Workspace, **settings: str) -> None:
    """Push to a remote with these settings, and pull in another clone."""
    lines = [f"{name} = {value}" for name, value in {**settings, "verify": "true"}.items()]
    for checkout in (workspace, other):
        text = "\n".join(["[core]", "remote = storage", "['remote \"storage\"']", *lines])
        (checkout / ".dvc/config.local").write_text(text)  # as `dvc remote add --local` does, but at once
    workspace.done("dvc", "push", *SOME)
    other.done("dvc", "pull", *SOME)
    assert digests(other) == some(workspace)


@pytest.mark.skipif(not FULL, reason="`make faults` runs it")
def test_push_and_pull_over_ssh(workspace, tmp_path):
    with sshd(tmp_path / "sshd") as server:
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{server.port}{tmp_path}/folder"
        exchange(workspace, cloned(workspace, tmp_path / "other"), url=url, keyfile=str(server.key))
    assert (tmp_path / "folder/files/md5").is_dir()


@pytest.mark.skipif(not FULL, reason="`make faults` runs it")
def test_push_and_pull_over_s3(workspace, tmp_path):
    other = cloned(workspace, tmp_path / "other")
    for checkout in (workspace, other):
        checkout.environment |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "a"}
    with s3("bucket") as server:
        exchange(workspace, other, url="s3://bucket/folder", endpointurl=server)


def test_damage_on_the_host_stops_the_pull(built, published, tmp_path):
    """DVC names the folder, or the file if it is an output of its own, and leaves nothing that is wrong."""
    other = cloned(built, tmp_path / "other", published.host.url)
    objects = [stored(published.folder, built / name) for name in (MODEL, ANNOTATIONS)]
    sound = [path.read_bytes() for path in objects]
    for path, content in zip(objects, sound, strict=True):
        path.chmod(0o644)
        path.write_bytes(content[:-1] + b"X")
    pulled = other.run("dvc", "pull", *SOME)
    for path, content in zip(objects, sound, strict=True):
        path.write_bytes(content)
    assert pulled.returncode == 1
    said = pulled.stdout.partition("Checkout failed for following targets:")[2].split("\n")
    assert {"models/demo", ANNOTATIONS} <= set(said)
    assert "results/demo/seed0" not in said
    assert not (other / "models/demo/seed0").exists()
    assert not (other / ANNOTATIONS).exists()
    assert not any(stored(other / ".dvc/cache", built / name).exists() for name in (MODEL, ANNOTATIONS))
    other.done("dvc", "pull", *SOME)
    assert (other / MODEL).read_bytes() == (built / MODEL).read_bytes()


def test_a_static_host_is_not_written(workspace, published):
    path = stored(published.folder, workspace / ANNOTATIONS)
    config = workspace / ".dvc/config"
    config.write_text(config.read_text().replace(UNSET, published.host.url))
    hidden = path.rename(path.with_name("hidden"))
    pushed = workspace.run("dvc", "push", ANNOTATIONS)
    arrived = path.exists()
    hidden.rename(path)
    assert pushed.returncode == 1
    assert f"failed to transfer '{path.parent.name}{path.name}' - {published.host.url}" in pushed.stdout
    assert not arrived


@pytest.mark.skipif(not FULL, reason="`make faults` runs it")
def test_what_people_read_without_a_host(built, published, tmp_path, monkeypatch):
    """`um doctor` says what DVC does not; its advice works as it stands."""
    other = cloned(built, tmp_path / "other")
    monkeypatch.chdir(other.root)
    pulled = other.run("dvc", "pull", ANNOTATIONS)
    assert pulled.returncode == 1
    assert f"ERROR: failed to connect to https ({UNSET}/files/md5)" in pulled.stdout
    _, state, text = doctor._remote()
    assert state == "not yet"
    advice = re.search("`(dvc remote modify .+?)`", text)[1]

    def follow(url: str) -> doctor.Finding:
        other.done(*advice.replace(doctor.ADDRESS, url).split())
        return doctor._remote()

    dead = "http://127.0.0.1:9"
    assert follow(dead)[1:] == (
        "note",
        "public: 127.0.0.1:9 cannot be reached (ConnectionError); `dvc pull` only says that cache files are missing",
    )
    pulled = other.run("dvc", "pull", ANNOTATIONS)
    assert pulled.returncode == 1
    assert "Missing cache files" in pulled.stdout
    assert not (other / ANNOTATIONS).exists()
    assert "(HTTP 404)" in follow(f"{published.host.url}/elsewhere").text
    assert follow(published.host.url) == ("remote", "ok", f"public: {published.host.url}")
    other.done("dvc", "pull", ANNOTATIONS)
