"""The error that ends a verb with one readable line and exit code 2."""

import re
from collections.abc import Sequence
from pathlib import Path

# control characters, lone surrogates and direction marks
HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST = 300  # characters quoted from a file


def printable(text: str) -> str:
    """Text with unprintable characters escaped: control characters, lone surrogates, direction marks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def plain(text: str, longest: int = LONGEST) -> str:
    """One printable line: white space folded, unprintable characters escaped, the middle of long text cut."""
    if len(text) > 4 * longest:
        text = f"{text[: 2 * longest]}{text[-2 * longest :]}"
    text = printable(" ".join(text.split()))
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


class BadInput(Exception):
    """Unusable input: where it is, what was found, what was expected, what to do next."""

    def __init__(self, where: str | Path, found: str, expected: str, hint: str) -> None:
        self.where, self.found, self.expected, self.hint = str(where), found, expected, hint
        line = f"{plain(self.where, 4096)}: found {plain(found)}; expected {plain(expected)}"
        super().__init__(f"{line}; hint: {plain(hint, 4096)}")

    def __reduce__(self) -> tuple[type["BadInput"], tuple[str, ...]]:
        return type(self), (self.where, self.found, self.expected, self.hint)  # for other processes


class Gone(BadInput):
    """Permanently unavailable: deleted, private, or never published; retrying cannot help."""


def some(names: Sequence[str], one: str = "video", more: str = "videos") -> str:
    """`5 videos (a, b, c, …)`: a count and the first names, for messages."""
    listed = ", ".join(plain(name, 80) for name in names[:3])
    return f"{len(names)} {one if len(names) == 1 else more} ({listed}{', …' if len(names) > 3 else ''})"
