"""`um compare` in words: the same tables on a terminal, and as a Markdown comment for a pull request."""

import html
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from um.errors import printable, some
from um.report.table.render import ABSENT, SIMULATED, print_table

MOST, FILES = 20, 3  # classes and files shown; JSON has all
CHANCE = (
    "differ: the interval excludes 0. On THUMOS14 (docs/results.md), chance alone does that for 1 class in 10, and for "
    "1 in 4 of those with fewer than 5 videos."
)
ACTIVE = re.compile(r"[^\w ./-]|_|(?<=www)\.", re.IGNORECASE)  # may have a meaning in Markdown, or make a link

WORDS = {  # facts whose name does not tell all
    "version": "version (no commit is recorded)",
    "data": "training data (sha256)",
    "simulated": "simulated features",
    "trained_on_simulated": "trained on simulated features",
}


class Foreign(str):
    """Text from files, which may look like Markdown."""

    __slots__ = ()


Line = list[str]  # in parts, some of which are `Foreign`


class Section(NamedTuple):
    """A table, and lines below it."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    lines: list[Line]
    texts: int = 1  # columns aligned to the left


def show(found: dict[str, Any]) -> None:
    """Print a comparison as tables that fit into 80 columns, but for long names."""
    _print(_about(found))
    for section in _sections(found):
        if section.rows:
            print_table(section.title, section.heads, section.rows, section.texts)
        _print(section.lines)


def _print(lines: Sequence[Line]) -> None:
    console = Console()
    for line in lines:
        console.print(Text(printable("".join(line))), soft_wrap=not console.is_terminal)


def markdown(found: dict[str, Any]) -> str:
    """A comparison in GitHub's Markdown; text from files becomes code, so that nothing in it has an effect."""
    blocks = ["### um compare", _bullets(_about(found))]
    for section in _sections(found):
        blocks.append(f"**{_own(section.title)}**")
        if section.rows:
            rules = [":--" if column < section.texts else "--:" for column in range(len(section.heads))]
            rows = [map(_own, section.heads), rules, *(map(_cell, row) for row in section.rows)]
            blocks.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
        if section.lines:
            blocks.append(_bullets(section.lines))
    return "\n\n".join(blocks) + "\n"


def _bullets(lines: Sequence[Line]) -> str:
    return "\n".join(f"- {''.join(map(_cell, line))}" for line in lines)


def _cell(text: str) -> str:
    if not isinstance(text, Foreign):
        return _own(text)
    return f"<code>{ACTIVE.sub(lambda found: f'&#{ord(found[0])};', printable(text))}</code>"


def _own(text: str) -> str:
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", html.escape(text, quote=False))


def _about(found: dict[str, Any]) -> list[Line]:
    lines: list[Line] = []
    for name in ("a", "b"):
        system = found[name]
        count = len(system["predictions"])
        line = [f"{name.upper()}: ", Foreign(system["path"]), f", {count} run{'' if count == 1 else 's'}, selection "]
        line.append(Foreign(" and ".join(system["selection"])))
        lines.append([*line, *([f", {SIMULATED}"] if system["simulated"] else [])])
    counts = f": {found['num_videos']} videos, {found['num_instances']} instances; {found['protocol']}"
    lines.append([Foreign(found["subset"]), counts])
    if found["num_missing"]:
        lines.append([f"{found['num_missing']} without an entry, left out"])
    return lines


def _sections(found: dict[str, Any]) -> Iterator[Section]:
    yield _score(found)
    yield _differing(found["what_differs"])
    if found["what_differs"]["params"] is not None:
        yield _today(found["what_differs"]["params"])
    yield _classes(found)
    yield _kinds(found["kinds"])


def _score(found: dict[str, Any]) -> Section:
    bounds, heads = _bounds(found["low"], found["high"]), ["", "%", _level(found), "p"]
    rows = [[name.upper(), _percent(found[name]["average_mAP"]), "", ""] for name in ("a", "b")]
    rows.append(["A − B", _signed(found["difference"]), bounds, f"{found['p_value']:.3g}"])
    verdict = "differ significantly" if found["differ"] else "do not differ significantly"
    line = f"A and B {verdict} (p {'<' if found['differ'] else '>='} {1 - found['level']:.2g})."
    return Section("Average mAP", heads, rows, [[line]])


def _differing(differs: dict[str, Any]) -> Section:
    rows = [[_named(entry["name"]), *_pair(entry)] for entry in [*differs["results"], *(differs["models"] or [])]]
    lines: list[Line] = [["Both are predictions of the same models."]] if differs["same_models"] else []
    if not rows:
        lines.append(["Their files state no difference."])
    if equal := differs["equal"]:
        parts = [part for name, values in equal.items() for part in ("; ", f"{_named(name)} ", _value(name, values))]
        lines.append(["Equal: ", *parts[1:], "."])
    reasons: dict[str, list[tuple[str, list[str]]]] = {}
    for entry in differs["unknown"]:
        reasons.setdefault(entry["reason"], []).append((entry["system"].upper(), entry["files"]))
    for reason, told in reasons.items():
        files = [file for _, each in told for file in each]
        start = f"{' and '.join(name for name, _ in told)}: {reason}: "
        more = f" and {len(files) - FILES} more" if len(files) > FILES else ""
        lines.append([start, Foreign(", ".join(files[:FILES])), more])
    return Section("What differs", ["", "A", "B"], rows, lines, texts=3)


def _today(params: list[dict[str, Any]]) -> Section:
    rows = [[entry["name"], *_pair(entry)] for entry in params]
    line = "These are today's values: predictions do not record theirs."
    if not rows:
        line = "localize and evaluate are the same in params.yaml today; predictions do not record theirs."
    return Section("localize and evaluate in params.yaml", ["", "A", "B"], rows, [[line]], texts=3)


def _named(fact: str) -> str:
    return WORDS.get(fact, fact.replace("_", " ") if "." not in fact else fact)


def _pair(entry: dict[str, Any]) -> list[str]:
    cells = [_value(entry["name"], entry[name]) for name in ("a", "b")]
    if entry["name"] != "classes":
        return cells
    a, b = ({label for labels in entry[name] for label in labels} for name in ("a", "b"))
    return [_with(cell, sorted(only)) for cell, only in zip(cells, (a - b, b - a), strict=True)]


def _with(cell: str, only: list[str]) -> str:
    """A number of classes, with those that the other system lacks."""
    return Foreign(f"{cell}, other lacks {some(only, 'class', 'classes')}") if only else cell


def _value(name: str, values: list[Any]) -> str:
    """The distinct values of a system."""
    if name == "classes":
        return ", ".join(str(len(labels)) for labels in values)
    if name == "data":
        return ", ".join(digest[:12] for digest in values)
    texts = [", ".join(value) if isinstance(value, list) else value for value in values]
    told = ", ".join(ABSENT if text is None else text if isinstance(text, str) else json.dumps(text) for text in texts)
    return Foreign(told) if any(isinstance(text, str) for text in texts) else told


def _classes(found: dict[str, Any]) -> Section:
    shown = found["classes"][:MOST]
    rows = [
        [
            Foreign(entry["label"]),
            str(entry["num_videos"]),
            _percent(entry["a"]),
            _percent(entry["b"]),
            _signed(entry["difference"]),
            _bounds(entry["low"], entry["high"]),
            "yes" if entry["differ"] else "",
        ]
        for entry in shown
    ]
    lines: list[Line] = [[CHANCE]]
    if more := len(found["classes"]) - len(shown):
        lines.append([f"{more} more classes moved less; --json lists them."])
    heads = ["class", "videos", "A", "B", "A − B", _level(found), "differ"]
    return Section("AP of classes, %, largest moves first", heads, rows, lines)


def _kinds(kinds: list[dict[str, Any]]) -> Section:
    rows = [
        [
            entry["kind"],
            *(f"{entry[name]['count']:.1f}" for name in ("a", "b")),
            f"{_no_minus(entry['difference']['count']):+.1f}",
            *(_percent(entry[name]["gain"]) for name in ("a", "b")),
            _signed(entry["difference"]["gain"]),
        ]
        for entry in kinds
    ]
    heads = ["", "count A", "count B", "A − B", "gain A", "gain B", "A − B"]
    line = "Means over tIoU and runs. Gain: increase of the average mAP without these false positives, in points."
    return Section("Errors", heads, rows, [[line]])


def _level(found: dict[str, Any]) -> str:
    return f"{100 * found['level']:.0f} % interval"


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{_no_minus(100 * value):+.1f}"


def _no_minus(value: float) -> float:
    """Without the sign of what rounds to zero."""
    return 0.0 if abs(value) < 0.05 else value
