"""Shares of the videos, so that several processes can work on one folder."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from um.errors import BadInput

NAME = re.compile(r"(\d+)-of-(\d+)")


class Shard(NamedTuple):
    """One of `total` processes; `3-of-40` is the third."""

    number: int  # from 1
    total: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parse a shard's name; raises BadInput if it is invalid."""
        found = NAME.fullmatch(text)
        shard = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.total:
            raise BadInput("--shard", repr(text), "1-of-K to K-of-K", "K processes share the videos")
        return shard

    def __str__(self) -> str:
        return f"{self.number}-of-{self.total}"

    def of(self, keys: Iterable[str]) -> list[str]:
        """Every `total`-th of the sorted ids, so that every shard gets some of each subset."""
        return sorted(keys)[self.number - 1 :: self.total]


def clear(folder: Path, *suffixes: str) -> None:
    """Delete the files of shards with these suffixes, and the workflow's empty marks that shards are done."""
    for file in folder.glob("*-of-*"):
        ours = NAME.fullmatch(file.stem) and file.suffix in ("", *suffixes) and not file.is_symlink()
        if ours and (file.suffix or not file.stat().st_size):
            file.unlink()
    with suppress(OSError):  # not there, or with a user's file in it
        folder.rmdir()
