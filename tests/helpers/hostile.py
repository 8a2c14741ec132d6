"""Archives that mean harm, or came to harm: each of `CORPUS` must be refused with the words beside it.

Zips are put together field by field, as no library writes what these hold.
"""

import binascii
import bz2
import gzip
import io
import lzma
import random
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

TEXT = b"video " * 5000
MEMBERS = 1000  # that tests allow in one archive


@dataclass(frozen=True)
class Entry:
    """A member of a zip; what is None is as it should be."""

    name: bytes | str
    data: bytes = b"x"
    method: int = 8
    flags: int = 0x800  # the name is UTF-8
    mode: int = stat.S_IFREG | 0o644
    size: int | None = None  # as declared
    crc: int | None = None
    packed: int | None = None  # compressed size, as declared
    local_name: bytes | None = None
    offset: int | None = None
    extra: bytes = b""
    password: bytes | None = None


def keys(password: bytes) -> list[int]:
    state = [0x12345678, 0x23456789, 0x34567890]
    for byte in password:
        turn(state, byte)
    return state


def turn(state: list[int], byte: int) -> None:
    state[0] = ~binascii.crc32(bytes([byte]), ~state[0] & 0xFFFFFFFF) & 0xFFFFFFFF
    state[1] = ((state[1] + (state[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
    state[2] = ~binascii.crc32(bytes([state[1] >> 24]), ~state[2] & 0xFFFFFFFF) & 0xFFFFFFFF


def encrypt(data: bytes, password: bytes, check: int) -> bytes:
    """The traditional encryption of zip: APPNOTE.TXT 6.1; the last of 12 leading bytes tells a wrong password."""
    state, result = keys(password), bytearray()
    for byte in bytes(range(11)) + bytes([check]) + data:
        mask = state[2] | 2
        result.append(byte ^ (mask * (mask ^ 1) >> 8 & 0xFF))
        turn(state, byte)
    return bytes(result)


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zipped(*entries: Entry, start: bytes = b"") -> bytes:
    """A zip file, after `start`; sizes of 4 GiB and more go to zip64 fields."""
    body, directory = bytearray(start), bytearray()
    for entry in entries:
        name = entry.name.encode() if isinstance(entry.name, str) else entry.name
        packed = deflate(entry.data) if entry.method == 8 else entry.data
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        flags = entry.flags
        if entry.password:
            packed, flags = encrypt(packed, entry.password, crc >> 24), flags | 1
        size = len(entry.data) if entry.size is None else entry.size
        sizes = (len(packed) if entry.packed is None else entry.packed), size
        extra = entry.extra
        if size >= 2**32:
            extra += struct.pack("<HHQ", 1, 8, size)
            sizes = sizes[0], 2**32 - 1
        offset = len(body) if entry.offset is None else entry.offset
        common = struct.pack("<HHHHHIII", 20, flags, entry.method, 0, 33, crc, *sizes)
        local = entry.local_name or name
        body += b"PK\3\4" + common + struct.pack("<HH", len(local), len(entry.extra)) + local + entry.extra + packed
        directory += b"PK\1\2" + struct.pack("<H", 3 << 8 | 20) + common
        directory += struct.pack("<HHHHHII", len(name), len(extra), 0, 0, 0, entry.mode << 16, offset) + name + extra
    count = min(len(entries), 0xFFFF)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory) + b"PK\5\6" + end


def quoted() -> bytes:
    """A bomb after David Fifield: each member's data are the next one's header, quoted by deflate, and its data."""
    kernel, names = deflate(bytes(10**6)), [b"0", b"1", b"2"]
    local = {}
    tail, size, crc, data = kernel, 10**6, zlib.crc32(bytes(10**6)), bytes(10**6)
    headers = {}
    for name in reversed(names):
        fields = struct.pack("<HHHHHIII", 20, 0, 8, 0, 33, crc, len(tail), size)
        header = b"PK\3\4" + fields + struct.pack("<HH", len(name), 0) + name
        local[name], headers[name] = header, fields
        quote = b"\0" + struct.pack("<HH", len(header), len(header) ^ 0xFFFF) + header
        data = header + data
        tail, size, crc = quote + tail, len(data), zlib.crc32(data)
    body = b"".join(local[name] + b"\0" + struct.pack("<HH", len(local[after]), len(local[after]) ^ 0xFFFF)
                    for name, after in pairwise(names)) + local[names[-1]] + kernel  # fmt: skip
    directory = b"".join(
        b"PK\1\2\x14\0" + headers[name] + struct.pack("<HHHHHII", 1, 0, 0, 0, 0, 0, body.index(local[name])) + name
        for name in names
    )
    return body + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 3, 3, len(directory), len(body), 0)


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 1, **pax: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size, member.pax_headers = kind, link, size, pax
    return member


def tarred(*members: tarfile.TarInfo | str | bytes, end: bytes = bytes(1024)) -> bytes:
    """A tar of members with one byte each; bytes are put in as they are."""
    result = b""
    for given in members:
        if isinstance(given, bytes):
            result += given
            continue
        member = info(given) if isinstance(given, str) else given
        result += member.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
        result += b"x".ljust(512, b"\0") if member.isreg() else b""
    return result + end


def header(kind: bytes, size: int, content: bytes = b"", name: bytes = b"a") -> bytes:
    """A raw tar header of any size, negative ones too, and what follows it."""
    number = (b"\x80" if size >= 0 else b"\xff") + (size % 2**88).to_bytes(11, "big")
    fields = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + number + b"00000000000\0"
    rest = kind + bytes(100) + b"ustar\x0000" + bytes(247)
    checksum = sum(fields) + 8 * 32 + sum(rest)
    return fields + b"%06o\0 " % checksum + rest + content + bytes(-len(content) % 512)


def pax(**records: str) -> bytes:
    """A pax header by itself, which changes the next member."""
    lines = b""
    for key, value in records.items():
        record = f" {key}={value}\n".encode("utf-8", "surrogateescape")
        length = next(n for n in range(1, 10**6) if len(record) + len(str(n)) == n)
        lines += str(length).encode() + record
    return header(tarfile.XHDTYPE, len(lines), lines)


def damaged(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]


def beheaded(archive: bytes) -> bytes:
    """A zip whose last header beside the data is lost."""
    at = archive.rindex(b"PK\3\4")
    return archive[:at] + b"\xff" * 30 + archive[at + 30 :]


def plain(count: int = 20) -> bytes:
    return tarred(*(f"features/{number}.npy" for number in range(count)))


def noise(count: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(0).randbytes(count)


def noisy() -> bytes:
    return tarred(header(tarfile.REGTYPE, 20000, noise(20000)))


class Case(NamedTuple):
    name: str
    build: Callable[[], bytes]
    words: str  # a regular expression


def bad(name: str, words: str, *entries: Entry | str) -> Case:
    made = [Entry(entry) if isinstance(entry, str) else entry for entry in entries]
    return Case(f"zip: {name}", lambda: zipped(*made), words)


def tar(name: str, words: str, *members: tarfile.TarInfo | str | bytes, end: bytes = bytes(1024)) -> Case:
    return Case(f"tar: {name}", lambda: tarred(*members, end=end), words)


LEAVES, ABSOLUTE, PLACE = "leaves its folder", "an absolute path or a Windows path", "in the place of"
CONTROL, DAMAGE, LINK = "control characters", "unreadable", "a link"

CORPUS = [
    bad("absolute", ABSOLUTE, "good.mp4", "/outside/canary"),
    bad("a drive", ABSOLUTE, "good.mp4", "C:\\outside\\canary"),
    bad("a drive with slashes", ABSOLUTE, "good.mp4", "c:/outside/canary"),
    bad("a server", ABSOLUTE, "good.mp4", "\\\\server\\share"),
    bad("backslashes that climb", ABSOLUTE, "good.mp4", "a\\..\\..\\outside\\canary"),
    bad("two slashes", ABSOLUTE, "good.mp4", "//outside/canary"),
    bad("climbs", LEAVES, "good.mp4", "../outside/canary"),
    bad("climbs from inside", LEAVES, "good.mp4", "a/b/../../../outside/canary"),
    bad("climbs and comes back", LEAVES, "good.mp4", "a/../good2.mp4"),
    bad("ends by climbing", LEAVES, "good.mp4", "a/.."),
    bad("a folder that climbs", LEAVES, "good.mp4", "../outside/"),
    bad("no name", "an empty name", "good.mp4", ""),
    bad("a name of dots", "an empty name", "good.mp4", "./."),
    bad("NUL", CONTROL, "good.mp4", "a.mp4\0/../../outside/canary"),
    bad("a line feed", CONTROL, "good.mp4", "a\n.mp4"),
    bad("an escape sequence", CONTROL, "good.mp4", "a\x1b[2J.mp4"),
    bad("a C1 control character", CONTROL, "good.mp4", "a\x9b2J.mp4"),
    bad("a name that is not UTF-8", DAMAGE, "good.mp4", Entry(b"\xff\xfe.mp4")),
    bad("a long name", "too long", "good.mp4", "a" * 256),
    bad("a long suffix", "too long", "good.mp4", "a." + "b" * 254),
    bad("many folders", "too long", "good.mp4", "a/" * 600 + "b"),
    bad("a temporary name", "temporary", "good.mp4", ".um-01234567-1.part.mp4"),
    bad("a link", LINK, "good.mp4", Entry("a", b"../outside", mode=stat.S_IFLNK | 0o777)),
    bad("through a link", LINK, Entry("a", b"../outside", mode=stat.S_IFLNK | 0o777), "a/canary"),
    bad("a device", "a device", "good.mp4", Entry("a", mode=stat.S_IFCHR | 0o666)),
    bad("a pipe", "a device or pipe", "good.mp4", Entry("a", mode=stat.S_IFIFO | 0o666)),
    bad("a socket", "a device or pipe", "good.mp4", Entry("a", mode=stat.S_IFSOCK | 0o666)),
    bad("twice", PLACE, "good.mp4", "a.mp4", "a.mp4"),
    bad("twice with other slashes", PLACE, "good.mp4", "a/b.mp4", "a/.//b.mp4"),
    bad("twice but for case", PLACE, "good.mp4", "a.mp4", "A.mp4"),
    bad("twice but for case, sharp s", PLACE, "good.mp4", "stra\u00dfe.mp4", "STRASSE.mp4"),
    bad("twice but for the form of Unicode", PLACE, "good.mp4", "\u00e9.mp4", "e\u0301.mp4"),
    bad("a file and a folder", "below 'a', which is a file", "good.mp4", "a/b.mp4", "a"),
    bad("a file and a folder but for case", "below 'A', which is a file", "good.mp4", "A", "a/b/c.mp4"),
    bad("other names beside the data", DAMAGE, "good.mp4", Entry("a.mp4", local_name=b"b.mp4")),
    bad("overlap", "overlaps", Entry("a.mp4", local_name=b"a.mp4", packed=60), Entry("b.mp4", TEXT)),
    bad("overlap by a field beside the data", "overlaps",
        Entry("a.mp4", TEXT[:100], method=0, size=130, packed=130, extra=b"\xfe\xca\x28\0" + bytes(40)), "b.mp4"),
    bad("data below the list", "overlaps the list", "good.mp4", Entry("a.mp4", packed=1000)),
    bad("the same data twice", "overlaps|unreadable", "a.mp4", Entry("b.mp4", offset=0)),
    bad("an offset outside", "overlaps|unreadable", "good.mp4", Entry("a.mp4", offset=2**31)),
    Case("zip: quoted overlap", quoted, "overlaps"),
    bad("many bytes more", "Bad CRC", Entry("a.mp4", bytes(10**7), size=100)),
    bad("more bytes than the checksum is of", "Bad CRC", Entry("a.mp4", TEXT, size=9, crc=zlib.crc32(TEXT[:9]))),
    bad("one byte more", "found 'a.mp4' of more bytes; expected the 29999", Entry("a.mp4", TEXT, size=29999)),
    bad("stored, one byte more", "of more bytes; expected the 29999", Entry("a.mp4", TEXT, method=0, size=29999)),
    bad("fewer bytes than declared", "of 30000 bytes; expected the 30001", Entry("a.mp4", TEXT, size=30001)),
    bad("stored, fewer bytes", "of 30000 bytes; expected the 30001", Entry("a.mp4", TEXT, method=0, size=30001)),
    bad("a wrong checksum", "Bad CRC", Entry("a.mp4", TEXT, crc=1)),
    bad("more than the disk holds", "free on the disk; expected", "good.mp4", Entry("a.mp4", size=2**60)),
    bad("all together more than the disk holds", "free on the disk; expected",
        *(Entry(f"{number}.mp4", size=2**44) for number in range(8))),
    bad("4 GiB declared", "of 1 bytes; expected the 4294967296|free on the disk", Entry("a.mp4", size=2**32)),
    bad("AES", "method 99", "good.mp4", Entry("a.mp4", method=99, flags=1)),
    bad("strong encryption", "encrypted by method 8", "good.mp4", Entry("a.mp4", flags=0x41)),
    bad("a hidden list", "encrypted by method 8", "good.mp4", Entry("a.mp4", flags=0x2001)),
    bad("bzip2", "method 12", "good.mp4", Entry("a.mp4", bz2.compress(TEXT), method=12, size=len(TEXT))),
    bad("deflate64", "method 9", "good.mp4", Entry("a.mp4", method=9)),
    Case("zip: too many members", lambda: zipped(*(Entry(b"%d" % n, b"", method=0) for n in range(MEMBERS + 1))),
        f"found {MEMBERS + 1} members"),
    Case("zip: damage where the data start", lambda: damaged(zipped(Entry("a.mp4", TEXT)), 35), DAMAGE),
    Case("zip: damage of a header", lambda: beheaded(zipped(Entry("a.mp4", TEXT), Entry("b.mp4"))), DAMAGE),
    Case("zip: damage in the data", lambda: damaged(zipped(Entry("a.mp4", noise(20000))), 9000), "Bad CRC"),
    Case("zip: a damaged extra field", lambda: zipped(Entry("a.mp4", extra=b"\1\0\xff\xff")), DAMAGE),
    Case("zip: cut in the data", lambda: zipped(Entry("a.mp4", noise(20000)))[:9000], DAMAGE),
    Case("zip: cut in the list", lambda: zipped(*(Entry(f"{n}.mp4") for n in range(50)))[:-500], DAMAGE),
    Case("zip: cut in its last byte", lambda: zipped(Entry("a.mp4"))[:-1], DAMAGE),
    Case("zip: four bytes", lambda: b"PK\3\4", DAMAGE),
    Case("zip: a damaged list", lambda: damaged(zipped(Entry("a.mp4"), Entry("b.mp4")), -73), DAMAGE),
    Case("zip: its start is missing", lambda: b"PK\3\4" + zipped(*map(Entry, "abc"))[70:], "overlaps|unreadable"),
    tar("absolute", ABSOLUTE, "good.npy", "/outside/canary"),
    tar("climbs", LEAVES, "good.npy", "../outside/canary"),
    tar("a folder that climbs", LEAVES, "good.npy", info("../outside", tarfile.DIRTYPE, size=0)),
    tar("backslashes", ABSOLUTE, "good.npy", "..\\outside\\canary"),
    tar("climbs by a pax header", LEAVES, "good.npy", pax(path="a/../../outside/canary") + tarred("a", end=b"")),
    tar("NUL by a pax header", CONTROL, "good.npy", pax(path="a\0b") + tarred("a", end=b"")),
    tar("a name that is not UTF-8", CONTROL, "good.npy", header(b"0", 1, b"x", b"\xff\xfe")),
    tar("no name", "an empty name", "good.npy", header(b"0", 1, b"x", b"")),
    tar("a symbolic link", LINK, "good.npy", info("a", tarfile.SYMTYPE, "../outside", 0)),
    tar("through a symbolic link", LINK, info("a", tarfile.SYMTYPE, "../outside", 0), "a/canary"),
    tar("a link inside", LINK, "good.npy", info("a", tarfile.SYMTYPE, "good.npy", 0)),
    tar("a hard link", LINK, "good.npy", info("a", tarfile.LNKTYPE, "../outside/canary", 0)),
    tar("a character device", "a device", "good.npy", info("a", tarfile.CHRTYPE, size=0)),
    tar("a block device", "a device", "good.npy", info("a", tarfile.BLKTYPE, size=0)),
    tar("a pipe", "special file", "good.npy", info("a", tarfile.FIFOTYPE, size=0)),
    tar("an unknown kind", "special file", "good.npy", header(b"Z", 0)),
    tar("sparse", "special file|unreadable", "good.npy", header(tarfile.GNUTYPE_SPARSE, 0)),
    tar("twice", PLACE, "good.npy", "a.npy", "a.npy"),
    tar("twice but for case", PLACE, "good.npy", "a.npy", "A.NPY"),
    tar("a file and a folder", "which is a file", "good.npy", "a", "a/b"),
    tar("a negative size", "a header of -512 bytes", "good.npy", header(b"0", -512)),
    tar("a negative size by a pax header", "-1024 bytes long", "good.npy", pax(size="-1024") + tarred("a", end=b"")),
    tar("a negative long name", "a header of -1024 bytes", "good.npy", header(tarfile.GNUTYPE_LONGNAME, -1024)),
    tar("a long name of gigabytes", "a header of 8589934592 bytes", "a", header(tarfile.GNUTYPE_LONGNAME, 2**33)),
    tar("a pax header of gigabytes", "a header of 8589934592 bytes", "a", header(tarfile.XHDTYPE, 2**33)),
    tar("headers without end", DAMAGE, "good.npy", pax(comment="x") * 3000 + tarred("a", end=b"")),
    tar("more than it holds", DAMAGE, "good.npy", header(b"0", 10**9, b"x")),
    tar("more than the disk holds", "unreadable|free on the disk", header(b"0", 2**62, b"x")),
    tar("no end", "cut or damaged", "good.npy", "a.npy", end=b""),
    tar("rubbish for an end", "cut or damaged", "good.npy", "a.npy", end=b"rubbish " * 128),
    Case("tar: cut", lambda: noisy()[:9000], DAMAGE),
    Case("tar: a damaged header", lambda: damaged(plain(), 4 * 1024 + 3), "cut or damaged"),
    Case("tar.gz: cut", lambda: gzip.compress(noisy())[:9000], DAMAGE),
    Case("tar.gz: its checksum is missing", lambda: gzip.compress(noisy())[:-8], DAMAGE),
    Case("tar.gz: a wrong checksum", lambda: damaged(gzip.compress(noisy()), -6), DAMAGE),
    Case("tar.gz: damaged", lambda: damaged(gzip.compress(noisy()), 9000), DAMAGE),
    Case("tar.gz: climbs", lambda: gzip.compress(tarred("good.npy", "../outside/canary")), LEAVES),
    Case("tar.bz2: cut", lambda: bz2.compress(noisy() + noise(2 * 10**5), 1)[:-9], DAMAGE),
    Case("tar.bz2: a link", lambda: bz2.compress(tarred("good", info("a", tarfile.SYMTYPE, "..", 0))), LINK),
    Case("tar.xz: cut", lambda: lzma.compress(noisy() + noise(2 * 10**5))[:-9], DAMAGE),
    Case("tar.xz: damaged", lambda: damaged(lzma.compress(noisy() + noise(2 * 10**5)), 2 * 10**5), DAMAGE),
    Case("tar.xz: absolute", lambda: lzma.compress(tarred("good", "/a")), ABSOLUTE),
    Case("rar", lambda: b"Rar!\x1a\x07\1\0" + noise(2000), "a rar archive.*by hand"),
    Case("7z", lambda: b"7z\xbc\xaf\x27\x1c" + noise(2000), "a 7z archive.*by hand"),
    Case("a page", lambda: b"<!DOCTYPE html><title>Virus scan warning</title>" * 40, "another kind of file.*by hand"),
    Case("nothing", lambda: b"", "another kind of file"),
    Case("zeros", lambda: bytes(10240), "another kind of file"),
    Case("gzip of something else", lambda: gzip.compress(TEXT), "another kind of file"),
]  # fmt: skip


def tar_of(files: dict[str, bytes], compression: str = "") -> bytes:
    """A well-made tar; compression: `gz`, `bz2`, `xz` or none."""
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode=f"w:{compression}") as file:
        for name, content in files.items():
            file.addfile(info(name, size=len(content)), io.BytesIO(content))
    return result.getvalue()
