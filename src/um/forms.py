"""Parsing of all files from outside: text, JSON and YAML become typed, bounded forms, or a one-line error."""

import codecs
import gc
import json
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.functional_validators import AfterValidator

from um.errors import BadInput

MARKS = {  # longest first: UTF-32's starts with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
LONGEST_YAML = 500_000  # bytes; the largest committed file has a few thousand
DEEPEST_YAML = 100  # nested brackets
MOST_NODES = 1_000_000  # in a YAML file with aliases expanded
DISPUTED = re.compile(r"[^\n -~]|[!?]|[|>][-+\d]*#")  # what PyYAML and libyaml may read differently
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def check_fits(where: str | Path, needed: int, what: str, hint: str) -> None:
    """Check, before allocating, that work fits into memory.

    Args:
        where: file or option, for the error.
        needed: bytes.
        what: name of the work, for the error.
        hint: for the error.

    Raises:
        BadInput: it does not fit.
    """
    there = memory()
    if needed > there:
        found, expected = f"{what} of {needed / 1e9:,.1f} GB", f"at most this machine's {there / 1e9:,.1f} GB"
        raise BadInput(where, found, expected, hint)


def memory() -> int:
    """Bytes of memory available to this process: the machine's, or its control group's limit."""
    import psutil

    there: int = psutil.virtual_memory().total
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text("ascii").strip() if limit.is_file() else ""
    return min(there, int(text)) if text.isdecimal() else there


def check_file(path: Path, expected: str, hint: str = "check the path") -> None:
    """Check that a path is a regular file, not a folder, pipe or device (which may never end).

    Raises:
        BadInput: it is not.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(path, "no such file", expected, hint) from None
    except PermissionError:
        raise
    except (OSError, ValueError) as error:  # circular links, a name that is too long or contains NUL
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(path, f"a path that cannot be opened ({reason})", expected, hint) from None
    if stat.S_ISDIR(mode):
        raise BadInput(path, "a folder", expected, "give the file inside it")
    if not stat.S_ISREG(mode):
        raise BadInput(path, "a pipe or a device", expected, "copy its content to a file")


def read_text(path: Path, expected: str = "a text file", hint: str = "check the path") -> str:
    r"""The text of a file in UTF-8 or, if marked by its first bytes, UTF-16 or UTF-32; lines end with \n.

    Raises:
        BadInput: no such file, or another encoding.
    """
    check_file(path, expected, hint)
    content = path.read_bytes()
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            at = f"damaged {encoding.upper()} at byte {error.start}"
            raise BadInput(path, at, expected, "save it again") from None
        found, hint = _guess(content)
        raise BadInput(path, f"byte {error.start} is not UTF-8 ({found})", f"{expected} in UTF-8", hint) from None
    if encoding == "utf-8" and "\0" in text[:4096]:
        found, hint = _guess(content)
        raise BadInput(path, f"zero bytes ({found})", f"{expected} in UTF-8", hint)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _guess(content: bytes) -> tuple[str, str]:
    """The likely encoding of bytes that are not UTF-8, and a hint."""
    save = "save it as UTF-8: iconv -f {} -t UTF-8 OLD > NEW"
    sample = content[:4096]
    odd, even = sample[1::2].count(0), sample[::2].count(0)
    if max(odd, even) > len(sample) // 5:
        name = "UTF-16LE" if odd > even else "UTF-16BE"
        return f"it looks like {name}", save.format(name)
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in sample):
        return "it is not text", "is this the right file?"
    return "it looks like Latin-1", save.format("LATIN1")


def read_json(path: Path, expected: str = "a JSON file") -> Any:
    """Parse a JSON file.

    Raises:
        BadInput: no such file, invalid JSON, a duplicate key, nesting too deep, a number of thousands of digits, or
            half of a surrogate pair.
    """
    text = read_text(path, expected)
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        raise BadInput(path, f"{error.msg} at line {error.lineno}", expected, "is the file complete?") from None
    except _DuplicateKey as error:
        raise BadInput(path, f"{error.args[0]!r} twice", "unique keys", "remove one of the two") from None
    except RecursionError:
        raise BadInput(path, "brackets nested too deep", expected, "is this the right file?") from None
    except UnicodeEncodeError:
        raise BadInput(path, "half of a surrogate pair in a text", expected, "write whole characters") from None
    except ValueError:
        raise BadInput(path, "a number with thousands of digits", expected, "is this the right file?") from None


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; raises ValueError, RecursionError and the like."""
    with no_cycles():
        value = json.loads(text, object_pairs_hook=_unique_keys)
    if isinstance(text, str) and SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


@contextmanager
def no_cycles() -> Iterator[None]:
    """Turn garbage collection off: parsing makes no cycles, and searching for them can take longer than parsing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _DuplicateKey(Exception):
    pass


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        raise _DuplicateKey(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return result


class _Twice(yaml.MarkedYAMLError):
    pass


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, for which YAML would silently use the last value."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise _Twice(problem=f"key {key.value} twice", problem_mark=key.start_mark)
                keys.add(key.value)
        return node


class _Quick(_Loader):
    """The same, parsed by libyaml: four times as fast."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        parser = yaml.CSafeLoader(text)
        for name in ("check_event", "get_event", "peek_event"):
            setattr(self, name, getattr(parser, name))


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """A number as in YAML 1.2, which DVC reads and writes: 0:1:0.1 is a text, not in base 60."""
    if ":" in node.value:
        return node.value
    kind = "float" if node.tag.endswith("float") else "int"
    return getattr(loader, f"construct_yaml_{kind}")(node)


_Loader.add_implicit_resolver(  # 1e-05, as DVC writes it; YAML 1.1 needs a point and a sign
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$", re.ASCII), list("-+.0123456789")
)
for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)


def read_yaml(path: Path, expected: str = "a YAML mapping", hint: str = "check the path") -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        BadInput: no such file, invalid YAML, a duplicate key, no mapping, or aliases that expand to millions of values.
    """
    text = read_text(path, expected, hint)
    if len(text) > LONGEST_YAML:
        raise BadInput(path, f"{len(text):,} characters", f"at most {LONGEST_YAML:,}", "is this the right file?")
    try:
        if _depth(text) > DEEPEST_YAML:  # PyYAML would take seconds
            raise RecursionError
        return parse_yaml(text, path, expected)
    except yaml.YAMLError as error:
        line = getattr(error, "problem_mark", None)
        at = f" at line {line.line + 1}" if line else ""
        what = getattr(error, "problem", None) if isinstance(error, _Twice) else "invalid YAML"
        raise BadInput(path, f"{what}{at}", expected, "check indentation, quotes and keys") from None
    except RecursionError:
        raise BadInput(path, "brackets nested too deep", expected, "is this the right file?") from None
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError):  # invalid dates, numbers and tags
        raise BadInput(path, "a value that does not fit its tag", expected, "quote texts") from None


def _depth(text: str) -> int:
    """The deepest nesting of brackets, including those in quotes."""
    return max(accumulate((1 if sign in "[{" else -1 for sign in re.findall(r"[][{}]", text)), initial=0))


def parse_yaml(text: str, path: Path, expected: str) -> dict[str, Any]:
    """The mapping in a YAML text read from `path`; errors are PyYAML's."""
    if yaml.__with_libyaml__ and not DISPUTED.search(text):
        with suppress(yaml.YAMLError):  # PyYAML words it
            return _mapping(_Quick(text), path, expected)
    return _mapping(_Loader(text), path, expected)


def _mapping(loader: _Loader, path: Path, expected: str) -> dict[str, Any]:
    try:
        node = loader.get_single_node()
        if node is not None and _unfolded(node, {}) > MOST_NODES:
            raise BadInput(path, "aliases that expand to millions of values", expected, "write them out")
        value = loader.construct_document(node) if node is not None else None
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise BadInput(path, found, expected, "compare it with the project's own files")
    return value


def _unfolded(node: yaml.Node, sizes: dict[int, float]) -> float:
    """Number of nodes with aliases expanded; infinite for a node that contains itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if (known := sizes.get(id(node))) is not None:
        return known
    sizes[id(node)] = float("inf")
    inner = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
    sizes[id(node)] = 1 + sum(_unfolded(part, sizes) for part in inner)
    return sizes[id(node)]


F = TypeVar("F", bound=BaseModel)
WORDS = {  # pydantic's error types → expected
    "missing": "all required keys",
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "a text",
    "invalid_key": "texts as keys",
    "too_short": "at least one entry",
    "too_long": "fewer entries",
}


class Form(BaseModel):
    """The typed, bounded content of a file; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())
    hint: ClassVar[str] = "is this the right file?"


class Section(Form):
    """A form written by users: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")
    hint: ClassVar[str] = "workflow/schemas/params.schema.json describes every key"


def validate(form: type[F], values: Any, where: str | Path, prefix: str = "") -> F:
    """Build a form, or raise `BadInput` with the key, its value and what was expected."""
    try:
        return form.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = prefix + ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _known_keys(form, first["loc"])
            raise BadInput(where, f"unknown key {key}", f"one of {', '.join(known)}", "check the spelling") from None
        said = re.sub("^(Value error, )?(Input should be |expected )?", "", first["msg"])
        expected = WORDS.get(first["type"], said)
        found = f"no {key}" if first["type"] == "missing" else f"{key} = {quoted(first['input'])}"
        hint = getattr(form, "hint", Form.hint)
        raise BadInput(where, found.removeprefix(" = "), expected, hint) from None
    except (RecursionError, OverflowError):
        raise BadInput(where, "values out of range", form.__name__, getattr(form, "hint", Form.hint)) from None


def quoted(value: Any) -> str:
    """A value for messages; of containers, which may be large, only the type."""
    if isinstance(value, str | bytes):
        return repr(value[:200])
    if isinstance(value, int) and abs(value) > 10**100:
        return "a number with more than a hundred digits"
    return repr(value) if isinstance(value, int | float | bool | None) else f"a {type(value).__name__}"


def _known_keys(form: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location[:-1]:
        field = form.model_fields.get(str(part))
        inner: Any = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ["those in docs/datasets.md"]
        form = inner
    return list(form.model_fields)


def load(form: type[F], path: Path) -> F:
    """Read a JSON file as a form.

    Raises:
        BadInput: no such file, or invalid content.
    """
    return validate(form, read_json(path), path)


def is_inside(name: str) -> bool:
    """Whether a name is a normal path below its folder."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or str(path) != name or name == ".")


def _check_inside(name: str) -> str:
    if not is_inside(name):
        raise ValueError("expected a path below the file's folder")
    return name


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Inside = Annotated[str, AfterValidator(_check_inside)]


class Listed(Form):
    """A file in an index."""

    sha256: Sha256
    bytes: int | None = Field(None, ge=0)
    snippets: int | None = Field(None, ge=1)
    source_sha256: Sha256 | None = None


class Index(Form):
    """`index.json`: the files in its folder.

    Attributes:
        files: path below the folder → sha256, and other facts if known.
        missing: `<subset>/<id>` → why the file is missing.
        spec: sha256 of the folder's spec.json.
        features: version of published features used instead of videos.
        origin: sha256 of the features in the user's own folder.
    """

    hint: ClassVar[str] = "run the command that wrote it again"

    files: dict[Inside, Listed]
    missing: dict[str, str] = {}
    spec: Sha256 | None = None
    features: str | None = None


class Span(NamedTuple):
    """The time that the rows of a video cover, side by side, in seconds."""

    start: float
    seconds: float


class Pace(NamedTuple):
    """Where the rows of features lie on the timeline.

    Attributes:
        step: seconds from one row to the next; None: the rows of each video share its duration.
        start: seconds at which the first row begins, half a step before the middle of its frames.
    """

    step: float | None
    start: float = 0.0

    def __str__(self) -> str:
        if self.step is None:
            return "rows rescaled to each video's duration"
        return f"{self.step:.4g} s per row" + (f", the first from {self.start:.4g} s" if self.start else "")

    def span(self, rows: int, duration: float | None, where: str | Path) -> Span:
        """The time covered by the rows of a video of `duration` seconds, which only rescaled rows need.

        Raises:
            BadInput: rescaled rows, and no duration.
        """
        if self.step is not None:
            return Span(self.start, rows * self.step)
        if not duration:
            found, hint = "rescaled features of a video of unknown duration", "annotate it, and use --data-dir"
            raise BadInput(where, found, "a duration in the annotations", hint)
        return Span(0.0, duration)

    def agrees(self, other: "Pace") -> bool:
        """Whether two statements differ by no more than rounding."""
        if self.step is None or other.step is None:
            return self.step == other.step
        return max(abs(self.step - other.step), abs(self.start - other.start)) <= 1e-3 * other.step


class Spec(Form):
    """`spec.json` beside features: how they were made. `um extract` writes further keys."""

    model_config = ConfigDict(extra="allow")
    hint: ClassVar[str] = "docs/features.md explains spec.json"

    fps: float = Field(gt=0, le=1000, description="frames per second of the features' input")
    window: int = Field(ge=1, le=100_000, description="frames per snippet")
    stride: int | None = Field(None, ge=1, le=100_000, description="frames between snippets; default: the window")
    centre: float | None = Field(
        None, ge=-100_000, le=100_000, description="frame in the middle of the first snippet; default: half the window"
    )
    rows: int | None = Field(None, ge=1, le=1_000_000, description="rows of every video, if rescaled to one number")

    @model_validator(mode="before")
    @classmethod
    def _of_rescaled(cls, values: Any) -> Any:
        """The rows of rescaled features have no frame rate."""
        return {"fps": 25, "window": 16} | values if isinstance(values, dict) and "rows" in values else values

    @property
    def snippet_seconds(self) -> float:
        """Seconds per feature row, unless rescaled."""
        return (self.stride or self.window) / self.fps

    @property
    def middle(self) -> float:
        """Frames from the start of the video to the middle of its first snippet."""
        return self.window / 2 if self.centre is None else self.centre

    @property
    def pace(self) -> Pace:
        """Where the rows lie on the timeline."""
        if self.rows:
            return Pace(None)
        return Pace(self.snippet_seconds, (self.middle - (self.stride or self.window) / 2) / self.fps)
