"""The one error that is meant for people: it becomes one line and exit code 2."""

from collections.abc import Sequence
from pathlib import Path


class BadInput(Exception):
    """Input that cannot be used: where it is, what was found, what was expected, what to do next."""

    def __init__(self, where: str | Path, found: str, expected: str, hint: str) -> None:
        self.where, self.found, self.expected, self.hint = str(where), found, expected, hint
        super().__init__(" ".join(f"{where}: found {found}; expected {expected}; hint: {hint}".split()))


class Gone(BadInput):
    """What is not to be had from there, however often it is tried: deleted, private, or never there."""


def some(names: Sequence[str], one: str = "video", more: str = "videos") -> str:
    """`5 videos (a, b, c, …)`: how errors name many videos, or many of anything else."""
    return f"{len(names)} {one if len(names) == 1 else more} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
