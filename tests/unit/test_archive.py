"""Archives are unpacked whole, or refused before anything is written."""

import os
import random
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.hostile import CORPUS, MEMBERS, Case, Entry, noise, tar_of, tarred, zipped
from hypothesis import given
from hypothesis import strategies as st

from um.download import archive
from um.errors import BadInput
from um.files import temporary_name
from um.journal import Journal

PASSWORD = "THUMOS14 pässword"  # noqa: S105
LAYOUTS = {
    "TH14_validation_set_mp4": [f"validation/video_validation_{number:07}.mp4" for number in (51, 52, 990)],
    "TH14_Test_set_mp4": [f"TH14_test_set_mp4/video_test_{number:07}.mp4" for number in (4, 6, 1574)],
    "TH14_Temporal_annotations_test": [f"annotation/{name}_test.txt" for name in ("Ambiguous", "BaseballPitch")],
    "thumos_features": [
        f"features/{subset}/{stream}/{name}.npy"
        for subset, name in (("train", "video_validation_0000051"), ("test", "video_test_0000004"))
        for stream in ("rgb", "flow")
    ],
    "one file": ["Thumos14reduced-I3D-JOINTFeatures.npy"],
    "hdf5": ["anet/tsn/features.h5"],
    "unicode": ["vidéo/日本語 видео.mp4", "a b\u3000c.mp4", "🎾.mp4", "-rf", "v_--0edUL8zmA.mp4", ".hidden"],
    "dots": ["./a/./b.mp4", ".//c.mp4"],
}


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def contents(names: list[str]) -> dict[str, bytes]:
    """Some bytes for every name: none, few, and more than two blocks."""
    sizes = (0, 1, 1000, 2 * archive.BLOCK + 5)
    return {name: noise(sizes[number % len(sizes)]) for number, name in enumerate(names)}


def found(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if not path.is_dir()}


def names(path: Path) -> list[str]:
    with archive.opened(path) as (_, members):
        return [member.name for member in members]


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def clean(files: dict[str, bytes]) -> dict[str, bytes]:
    return {str(Path(name)): content for name, content in files.items()}


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_hostile_and_damaged_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    monkeypatch.setattr(archive, "MEMBERS", MEMBERS)
    path = save(tmp_path / "archive", case.build())
    for folder in ("outside", "inside"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "canary").write_bytes(b"alive")
    before = found(tmp_path)
    with pytest.raises(BadInput, match=case.words) as error:
        archive.extract(path, tmp_path / "inside/new")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    assert str(path if "free on the disk" not in str(error.value) else tmp_path / "inside") in str(error.value)
    assert found(tmp_path) == before
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_the_corpus_is_large_and_named_apart() -> None:
    assert len({case.name for case in CORPUS}) == len(CORPUS) >= 100


FORMS = ["stored", "deflated", "tar", "gz", "bz2", "xz"]
ENCRYPTED = [(layout, "encrypted") for layout in ("TH14_Test_set_mp4", "unicode")]  # each starts processes


@pytest.mark.parametrize(("layout", "form"), [*((layout, form) for form in FORMS for layout in LAYOUTS), *ENCRYPTED])
def test_real_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, form: str) -> None:
    monkeypatch.setattr(archive, "BLOCK", 2**14)
    files = contents(LAYOUTS[layout])
    if form == "encrypted":
        files = {name: content[:3000] for name, content in files.items()}  # the encryption here is slow
    packed = build(files, form)
    path = save(tmp_path / "archive", packed)
    reported: list[str] = []
    assert archive.is_archive(path)
    assert names(path) == list(clean(files))
    placed = archive.extract(path, tmp_path / "all", password=PASSWORD, report=reported.append)
    assert placed == {name: tmp_path / "all" / name for name in clean(files)}
    assert reported == list(clean(files))
    assert found(tmp_path / "all") == clean(files)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("*")}  # of folders, too
    assert archive.extract(path, tmp_path / "all", password=PASSWORD) == placed
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("*")}


def build(files: dict[str, bytes], form: str) -> bytes:
    if form in ("tar", "gz", "bz2", "xz"):
        return tar_of(files, form.removeprefix("tar"))
    key = PASSWORD.encode() if form == "encrypted" else None
    return zipped(*(Entry(*file, method=0 if form == "stored" else 8, password=key) for file in files.items()))


def test_what_the_libraries_write_is_read(tmp_path: Path) -> None:
    """Folders as members, data descriptors, zip64 fields that were not needed, a comment, the v7 and GNU forms."""
    files = contents(["b/" + "long" * 20 + "/" + "name" * 20 + ".mp4", "b/c/d.mp4", "e.mp4", "f.mp4"])
    source = tmp_path / "source"
    for name, content in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    with (tmp_path / "a.zip").open("wb") as out, zipfile.ZipFile(Unseekable(out), "w") as file:
        file.comment = b"of the authors"
        for path in [source / "b", *(source / name for name in files)]:
            if path.is_dir():
                file.write(path, path.relative_to(source))
            else:
                with file.open(str(path.relative_to(source)), "w", force_zip64=True) as member:
                    member.write(path.read_bytes())
    for number, form in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        with tarfile.open(tmp_path / f"{number}.tar", "w", format=form) as file:
            file.add(source, ".")
    subprocess.run(["tar", "-C", source, "--format=v7", "-cf", tmp_path / "v7.tar", "b/c", "e.mp4"], check=True)
    for name in ("a.zip", "0.tar", "1.tar", "2.tar"):
        archive.extract(tmp_path / name, tmp_path / f"of {name}")
        assert found(tmp_path / f"of {name}") == files
    assert names(tmp_path / "v7.tar") == ["b/c/d.mp4", "e.mp4"]


class Unseekable:
    """A pipe, as it were: zipfile then writes sizes and checksums after the data."""

    def __init__(self, file) -> None:
        self.write, self.flush = file.write, file.flush


def test_members_beyond_4_gib(tmp_path: Path) -> None:
    """A zip64 file of 5 GiB, almost all of it a hole: only what is wanted is read and must fit the disk."""
    path, hole = tmp_path / "a.zip", 5 * 2**30
    local = b"PK\3\4" + struct.pack("<HHHHHIIIHH", 45, 0, 0, 0, 33, 0, 2**32 - 1, 2**32 - 1, 7, 20) + b"big.mp4"
    local += struct.pack("<HHQQ", 1, 16, hole, hole)
    small = zipped(Entry("small.mp4", b"small"))
    with path.open("wb") as file:
        file.write(local)
        file.seek(hole, os.SEEK_CUR)
        start = file.tell()
        body = small[: small.index(b"PK\1\2")]
        file.write(body)
        sizes = struct.pack("<HHQQ", 1, 16, hole, hole)
        listed = b"PK\1\2" + struct.pack("<HHHHHHIIIHHHHHII", 45, 45, 0, 0, 0, 33, 0, 2**32 - 1, 2**32 - 1, 7, 20,
                                        0, 0, 0, 0, 0) + b"big.mp4" + sizes  # fmt: skip
        entry = small[len(body) : small.index(b"PK\5\6")]
        position = entry.index(b"small.mp4")
        entry = entry[:30] + struct.pack("<H", 12) + entry[32 : position - 4] + b"\xff" * 4 + b"small.mp4"
        listed += entry + struct.pack("<HHQ", 1, 8, start)
        at = file.tell()
        file.write(listed + b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 2, 2, len(listed), at))
        file.write(b"PK\6\7" + struct.pack("<IQI", 0, at + len(listed), 1))
        file.write(b"PK\5\6" + b"\0" * 4 + b"\xff" * 12 + b"\0\0")
    assert names(path) == ["big.mp4", "small.mp4"]
    wanted = {"small.mp4": tmp_path / "out/small.mp4"}
    assert archive.extract(path, wanted.get) == wanted
    assert found(tmp_path / "out") == {"small.mp4": b"small"}


def test_only_what_is_wanted_comes_and_where_it_is_wanted(tmp_path: Path) -> None:
    files = contents(LAYOUTS["TH14_Test_set_mp4"])
    path = save(tmp_path / "a.zip", zipped(*(Entry(*file) for file in files.items())))
    name = "TH14_test_set_mp4/video_test_0000006.mp4"
    placed = archive.extract(path, lambda given: tmp_path / "test/6.mp4" if given == name else None)
    assert placed == {name: tmp_path / "test/6.mp4"}
    assert found(tmp_path / "test") == {"6.mp4": files[name]}


def test_two_members_may_not_be_sent_to_one_place(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zip", zipped(Entry("train/a.npy"), Entry("test/a.npy")))
    with pytest.raises(BadInput, match=r"'test/a.npy', in the place of 'train/a.npy'"):
        archive.extract(path, lambda name: tmp_path / "out" / Path(name).name)
    assert not (tmp_path / "out").exists()


def test_bad_members_that_nobody_wants_count_if_they_are_dangerous(tmp_path: Path) -> None:
    wanted = {"good.mp4": tmp_path / "out/good.mp4"}
    path = save(tmp_path / "a.zip", zipped(Entry("good.mp4"), Entry("../a")))
    with pytest.raises(BadInput, match="leaves its folder"):
        archive.extract(path, wanted.get)
    assert not (tmp_path / "out").exists()
    path.write_bytes(zipped(Entry("good.mp4"), Entry("a", method=99, flags=1), Entry("b", size=2**60, crc=9)))
    assert archive.extract(path, wanted.get) == wanted


def test_more_tar_members_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MEMBERS", 10)
    assert len(names(save(tmp_path / "10.tar", tarred(*map(str, range(10)))))) == 10
    with pytest.raises(BadInput, match="found more than 10 members"):
        names(save(tmp_path / "11.tar", tarred(*map(str, range(11)))))


@pytest.mark.parametrize("form", ["stored", "tar"])
def test_links_that_are_there_already(tmp_path: Path, form: str) -> None:
    """Out of the folder: refused; inside it, or of the folder itself: followed; a file that is a link: refused."""
    outside = tmp_path / "outside"
    outside.mkdir()
    canary = save(outside / "canary", b"alive")
    path = save(tmp_path / "archive", build({"a/b/canary": b"dead!", "c": b"c"}, form))
    inside = tmp_path / "inside"
    inside.mkdir()
    for target in (outside, tmp_path / "not there"):
        (inside / "a").symlink_to(target)
        with pytest.raises(BadInput, match=r"'a/b/canary', whose folder .*inside/a/b is a link out of"):
            archive.extract(path, inside)
        assert listed(inside) == ["a"]
        (inside / "a").unlink()
    (inside / "x").mkdir()
    (inside / "a").symlink_to("x")
    (inside / "x/b").mkdir()
    (inside / "x/b/canary").symlink_to(canary)
    (tmp_path / "disk").symlink_to(inside)
    with pytest.raises(BadInput, match="canary: found another file; expected none"):
        archive.extract(path, tmp_path / "disk")
    assert (inside / "x/b/canary").is_symlink()
    (inside / "x/b/canary").unlink()
    archive.extract(path, tmp_path / "disk")
    assert (inside / "x/b/canary").read_bytes() == b"dead!"
    assert canary.read_bytes() == b"alive"
    assert listed(outside) == ["canary"]


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zip", zipped(Entry("0.mp4"), Entry("a/b.mp4")))
    for blocker in ("a", "a/b.mp4/c"):
        folder = tmp_path / blocker[-1]
        (folder / blocker).parent.mkdir(parents=True)
        save(folder / blocker, b"mine")
        with pytest.raises(BadInput, match="a folder, or a file instead of a folder"):
            archive.extract(path, folder)
        assert found(folder) == {blocker: b"mine"}


def test_the_disk_must_hold_what_is_missing(tmp_path: Path) -> None:
    files = {f"{number}.mp4": noise(3000) for number in range(5)}
    for form in ("stored", "tar"):
        path, folder = save(tmp_path / "archive", build(files, form)), tmp_path / form
        words = r"GB free on the disk; expected .* GB for the content of archive and 1000000\.000 GB to spare; hint"
        with pytest.raises(BadInput, match=words):
            archive.extract(path, folder, margin=10**15)
        assert not folder.exists()
        archive.extract(path, folder)
        archive.extract(path, folder, margin=10**15)  # nothing is missing


@pytest.mark.parametrize("form", ["stored", "tar", "gz"])
def test_a_file_of_other_content_is_refused_and_one_of_ours_is_replaced(tmp_path: Path, form: str) -> None:
    files = {f"{number}.npy": noise(2 * archive.BLOCK + 9) for number in range(3)}
    path = save(tmp_path / "archive", build(files, form))
    for change in (0, archive.BLOCK, 2 * archive.BLOCK + 8):
        content = bytearray(files["1.npy"])
        content[change] ^= 1
        archive.extract(path, tmp_path / "out")
        save(tmp_path / "out/1.npy", bytes(content))
        save(tmp_path / "out/2.npy", b"short")
        kept = (tmp_path / "out/0.npy").stat().st_mtime_ns
        with pytest.raises(BadInput, match=r"1\.npy: found another file; .*; hint: move it away, then run again"):
            archive.extract(path, tmp_path / "out")
        assert (tmp_path / "out/1.npy").read_bytes() == bytes(content)
        (tmp_path / "out/1.npy").unlink()
        ours = Journal(tmp_path, tmp_path / "journal.jsonl", "um download")
        ours.note(tmp_path / "out/2.npy")
        archive.extract(path, lambda name: tmp_path / "out" / name, kept=ours)
        assert found(tmp_path / "out") == files
        assert (tmp_path / "out/0.npy").stat().st_mtime_ns == kept
        assert ours.owns("out/2.npy")


@pytest.mark.parametrize("processes", [1, 2])
def test_passwords(tmp_path: Path, processes: int) -> None:
    files = {f"{number}.mp4": noise(2000) for number in range(4)}
    path = save(tmp_path / "a.zip", build(files, "encrypted"))

    def unpack(password: str | None) -> dict[str, Path]:
        return archive.extract(path, lambda name: tmp_path / "out" / name, password=password, processes=processes)

    assert names(path) == list(files)
    for missing in (None, ""):
        with pytest.raises(BadInput, match=r"an encrypted archive .*environment variable UM_ARCHIVE_PASSWORD"):
            unpack(missing)
    for number in range(50):
        with pytest.raises(BadInput, match=r"unreadable .*; expected the right password"):
            unpack(f"wrong {number}")
    assert not (tmp_path / "out").exists()
    unpack(PASSWORD)
    assert found(tmp_path / "out") == files
    unpack(None)  # nothing is left to be decrypted


@pytest.mark.parametrize("processes", [1, 2])
def test_a_password_that_passes_for_right(tmp_path: Path, processes: int) -> None:
    """One wrong password in 256 agrees with the byte that tells wrong ones; the checksum tells those."""
    path = save(tmp_path / "a.zip", build({"0.mp4": noise(2000)}, "encrypted"))
    refusals = set()
    for number in range(300):
        with pytest.raises(BadInput, match="expected the right password") as error:
            archive.extract(path, lambda name: tmp_path / "out" / name, password=f"{number}", processes=processes)
        refusals.add(str(error.value).split("(")[1][:9])
    assert len(refusals) > 1
    assert not found(tmp_path / "out")


def test_damage_found_by_a_process_of_the_pool(tmp_path: Path) -> None:
    key = PASSWORD.encode()
    entries = [Entry(f"{number}.mp4", noise(2000), password=key) for number in range(6)]
    entries[3] = Entry("3.mp4", noise(2000), crc=7, password=key)
    path = save(tmp_path / "a.zip", zipped(*entries))
    with pytest.raises(archive.Locked, match=r"'3.mp4' unreadable \(Bad CRC.*check UM_ARCHIVE_PASSWORD"):
        archive.extract(path, lambda name: tmp_path / "out" / name, password=PASSWORD, processes=2)
    assert (
        {"0.mp4", "1.mp4", "2.mp4"} <= set(found(tmp_path / "out")) <= {f"{number}.mp4" for number in (0, 1, 2, 4, 5)}
    )


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.zip", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(BadInput, match=words):
            names(path)


CHILD = """
import sys
from pathlib import Path
from um.download import archive
path, folder, password = sys.argv[1:]
tell = lambda name: print(name, flush=True)
archive.extract(Path(path), Path(folder), password=password, report=tell, processes=2)
"""


@pytest.mark.parametrize(("form", "trials"), [("stored", 3), ("tar", 3), ("gz", 2), ("encrypted", 2)])
def test_a_killed_extraction_goes_on(tmp_path: Path, form: str, trials: int) -> None:
    size, count = (10_000, 24) if form == "encrypted" else (200_000, 60)
    files = {f"videos/{number:02}.mp4": noise(size + number) for number in range(count)}
    path = save(tmp_path / "archive", build(files, form))
    chance = random.Random(form)
    interrupted = within = 0
    for trial in range(trials):
        folder = tmp_path / f"{trial}"
        command = [sys.executable, "-c", CHILD, path, folder, PASSWORD]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout
        for _ in range(chance.randrange(1, count // 2)):
            child.stdout.readline()
        time.sleep(chance.random() * 0.004)
        child.kill()
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        left = quiet(folder) if form == "encrypted" else found(folder)
        whole = {name: content for name, content in left.items() if name in files}
        assert whole.items() <= files.items()
        assert len(whole) > 0
        interrupted += len(whole) < count
        within += len(whole) < len(left)
        before = {name: (folder / name).stat().st_mtime_ns for name in whole}
        archive.extract(path, folder, password=PASSWORD)
        assert found(folder) == files
        assert before == {name: (folder / name).stat().st_mtime_ns for name in whole}
    assert interrupted > 0
    print(f"{form}: {within} of {trials} killed within a member")


def quiet(folder: Path) -> dict[str, bytes]:
    """What is in a folder once the processes of a killed pool are gone, too."""
    while True:
        try:
            before = found(folder)
            time.sleep(0.3)
            if before == (after := found(folder)):
                return after
        except FileNotFoundError:
            continue


def test_leftovers_of_these_files_only_are_swept(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zip", zipped(Entry("v/a.mp4", b"1"), Entry("v/b", b"2")))
    (tmp_path / "out/v").mkdir(parents=True)
    ours, others = (temporary_name(tmp_path / "out/v" / name) for name in ("a.mp4", "c.mp4"))
    for name in (ours, temporary_name(tmp_path / "b"), others, ".a.mp4.part.mp4"):
        save(tmp_path / "out/v" / name, b"half")
    archive.extract(path, tmp_path / "out")
    assert listed(tmp_path / "out/v") == sorted([".a.mp4.part.mp4", others, "a.mp4", "b"])


NAME = st.lists(
    st.sampled_from([*"/.\\ aAäÄé:\0\n~", "..", "../", "a/", "\u0301", "C:", "\udcff", "ﬁ", "x" * 90]), max_size=6
)


@given(st.lists(NAME.map("".join), min_size=1, max_size=5), st.booleans())
def test_any_name_lands_inside_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], tar: bool
) -> None:
    root = tmp_path_factory.mktemp("names")
    if tar:
        path = save(root / "archive", tar_of({name: name.encode("utf-8", "replace") for name in names}))
    else:
        entries = [Entry(name.encode("utf-8", "surrogatepass"), name.encode("utf-8", "replace")) for name in names]
        path = save(root / "archive", zipped(*entries))
    before = found(root)
    try:
        placed = archive.extract(path, root / "deep/er")
    except BadInput:
        assert found(root) == before
        return
    assert {str(file.relative_to(root)) for file in placed.values()} | set(before) == set(found(root))
    assert all(file.resolve().is_relative_to(root / "deep/er") for file in placed.values())


@given(st.sampled_from(["stored", "deflated", "tar", "gz", "bz2", "xz"]), st.data())
def test_any_damage_is_told_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, form: str, data: st.DataObject
) -> None:
    files = {"a/1.npy": noise(700), "a/2.npy": b"2" * 3000, "b": b""}
    content = bytearray(build(files, form))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.sampled_from([0, 1, 0x80, 0xFF, 0x37]))
    content = content[: data.draw(st.sampled_from([len(content), len(content) * 2 // 3]))]
    root = tmp_path_factory.mktemp("damage")
    save(root / "canary", b"alive")
    path = save(root / "archive", bytes(content))
    with suppress(BadInput):
        archive.extract(path, root / "out")
    outside = {name: content for name, content in found(root).items() if not name.startswith("out/")}
    assert outside == {"canary": b"alive", "archive": bytes(content)}
    assert not [name for name in found(root) if ".part" in name]
