"""What differs between two systems besides their scores, from what their files state; nothing is guessed.

- **Results**: predictions.json states um's version, the models' seeds and selection, and simulated features.
- **Models**: the header of a model file states its settings and training data. Only a file with the weights that the
  predictions state counts: `models/<run>/seed<k>/` beside `results/<run>/seed<k>/`, or another run's with that seed,
  because variants that only localise differently share their models.
- **Params**: predictions do not record how they were localised. For runs of a params.yaml, its present values are
  compared.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from um.errors import BadInput
from um.evaluation.submission import BEGINNING, Model, Submission
from um.forms import Form, load, parse_json
from um.params import OURS, SELECTIONS, Settings, Train, run_name
from um.params import load as load_params

UNSTATED = "the predictions do not state their model's weights"
ELSEWHERE = "not in results/<run>/seed<k>, so the model file is unknown"
ABSENT = "no model file (dvc pull fetches recorded ones)"
REPLACED = "the model file has other weights than the predictions state"
UNREADABLE = "not a readable file"
CONTRADICTED = "metrics.json states another model than predictions.json beside it"
UNLISTED = "not a run of a params.yaml, so the settings of localisation are unknown"
TODAY = ("localize", "evaluate")
# of a model file's header
FACTS = {"classes", "data", "dataset", "variant", "streams", "snippet_seconds", "snippet_start"}
SEVERAL = {"seeds", "selection"}  # facts that may vary within a system

Files = Mapping[Path, Submission]


class Unknown(NamedTuple):
    """Why something is not known, and the file that it is about."""

    reason: str
    file: str


class Place(NamedTuple):
    """`<root>/results/<run>/<seed>/[<selection>/]predictions.json`."""

    root: Path
    run: str
    seed: str
    selection: str


class _Metrics(Form):
    """The part of metrics.json that is compared with the predictions."""

    model: Model | None = None


def differences(a: Files, b: Files) -> dict[str, Any]:
    """What differs between two systems.

    Args:
        a: predictions of one system, by file.
        b: of the other.

    Returns:
        Lists of `{"name", "a", "b"}`, where `a` and `b` list the distinct values in the order of the files:

        - `results`: `version` (null: not written by um), `seeds`, `selection`, `simulated` that differ.
        - `models`: `classes`, `data` (sha256 of the training subset), `dataset`, `variant`, `streams`,
          `snippet_seconds`, `snippet_start`, `trained_on_simulated`, `features.*` and `train.*` that differ; null if
          all models of a system are unknown.
        - `params`: `localize.*` and `evaluate.*` of params.yaml that differ today; null if unknown.

        Also `same_models`: whether both state the same weights; null if any file states none. `equal`: facts (not
        settings) that are known and equal, with their distinct values. `unknown`: `{"system", "reason", "files"}`.
    """
    systems = {"a": a, "b": b}
    stated = [{file: _weights(found) for file, found in files.items()} for files in systems.values()]
    found_a, found_b = ([_header(file, found) for file, found in files.items()] for files in systems.values())
    today_a, today_b = _today(a), _today(b)
    results, equal = _compared([_result(*each) for each in a.items()], [_result(*each) for each in b.items()])
    headers_a, headers_b = ([each for each in found if isinstance(each, dict)] for found in (found_a, found_b))
    models, equal_models = _compared(headers_a, headers_b) if headers_a and headers_b else (None, {})
    known = isinstance(today_a, Settings) and isinstance(today_b, Settings)
    params = _compared([_sections(today_a)], [_sections(today_b)])[0] if known else None
    reasons = {
        "a": [*found_a, today_a, *(_contradiction(*each) for each in a.items())],
        "b": [*found_b, today_b, *(_contradiction(*each) for each in b.items())],
    }
    every = [weights for one in stated for weights in one.values()]
    return {
        "results": results,
        "models": models,
        "params": params,
        "same_models": None if None in every else {*stated[0].values()} == {*stated[1].values()},
        "equal": {name: values for name, values in (equal | equal_models).items() if "." not in name},
        "unknown": [entry for name, listed in reasons.items() for entry in _grouped(name, listed)],
    }


def place(file: Path) -> Place | None:
    """The place of a file of predictions among the results of a project; None if it is elsewhere."""
    folders = {inner: selection for selection, (inner, _) in SELECTIONS.items() if inner}
    folder = Path(os.path.normpath(file.absolute())).parent  # links stay: their targets may be elsewhere
    selection = folders.get(folder.name, "last")
    folder = folder if selection == "last" else folder.parent
    results = folder.parent.parent
    if not re.fullmatch(r"seed\d+", folder.name) or results.name != "results" or file.name != "predictions.json":
        return None
    return Place(results.parent, folder.parent.name, folder.name, selection)


def _result(file: Path, found: Submission) -> dict[str, Any]:
    """What a file of predictions states."""
    model = found.model or {}
    return {
        "version": _version(file),
        "seeds": model.get("seed"),
        "selection": model.get("selection"),
        "simulated": found.simulated,
    }


def _version(file: Path) -> str | None:
    """The version of um that wrote a file; None for files of other programs, whose version is that of the form."""
    with file.open("rb") as opened:
        head = opened.read(100).decode("utf-8", "replace")
    told = re.match(re.escape(BEGINNING) + r'([\w.+-]{1,50})",?\n', head)
    return f"um {told[1]}" if told else None


def _weights(found: Submission) -> str | None:
    return (found.model or {}).get("weights")


def _header(file: Path, found: Submission) -> dict[str, Any] | Unknown:
    """Facts of the model file behind predictions, or why they are unknown."""
    stated, where, model = _weights(found), place(file), found.model or {}
    if not stated:
        return Unknown(UNSTATED, str(file))
    if not where:
        return Unknown(ELSEWHERE, str(file))
    name = SELECTIONS[where.selection][1]
    if where.selection == "best_on_test":
        name = str(Path(name).with_name(f"{model.get('iteration') or 0:06d}.safetensors"))
    models = where.root / "models"
    expected = models / where.run / where.seed / name
    for path in [expected, *sorted(models.glob(f"*/{where.seed}/{name}"))]:
        if _weights_in(path) == stated:
            return _facts(path)
    return Unknown(REPLACED if os.path.lexists(expected) else ABSENT, _shown(expected))


def _weights_in(path: Path) -> str | None:
    """The sha256 of the weights that a model file states, without reading them."""
    if not path.is_file():  # opening a pipe would wait
        return None
    try:
        with safe_open(path, "np") as file:
            header = parse_json((file.metadata() or {}).get("um", ""))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return None
    return header.get("weights") if isinstance(header, dict) else None


def _facts(path: Path) -> dict[str, Any] | Unknown:
    """Facts of an intact model file."""
    from um.method import checkpoint  # PyTorch takes seconds

    try:
        _, header = checkpoint.read(path, Train())
    except BadInput as error:
        return Unknown(UNREADABLE, f"{_shown(path)}: {error.found}")
    if header is None:
        return Unknown(UNREADABLE, _shown(path))
    facts = header.model_dump(include=FACTS) | {"trained_on_simulated": header.simulated}
    return facts | _flat(header.model_dump(include={"features", "train"}))


def _today(files: Files) -> Settings | Unknown:
    """The settings that params.yaml has for a run today, or why they are unknown."""
    places = {where and (where.root, where.run) for where in map(place, files)}
    first = next(iter(files))
    if len(places) > 1 or not (found := places.pop()):
        return Unknown(UNLISTED, str(first))
    root, run = found
    path = root / "params.yaml"
    if not path.is_file():
        return Unknown(UNLISTED, str(first))
    try:
        values = load_params(path)
    except BadInput as error:
        return Unknown(UNREADABLE, f"{_shown(path)}: {error.found}")
    for dataset in dict.fromkeys([*values.datasets, *values.overrides]):
        for variant in [OURS, *values.variants]:
            if run_name(dataset, variant) == run:
                return values.of(dataset, variant)
    return Unknown(UNLISTED, str(first))


def _sections(settings: Settings | Unknown) -> dict[str, Any]:
    return _flat(settings.model_dump(include=set(TODAY))) if isinstance(settings, Settings) else {}


def _flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{stage}.{name}": value for stage, section in sections.items() for name, value in section.items()}


def _contradiction(file: Path, found: Submission) -> Unknown | None:
    """Metrics beside predictions that are of a model with other weights."""
    path, stated = file.with_name("metrics.json"), _weights(found)
    if file.name != "predictions.json" or not stated or not path.is_file():
        return None
    try:
        model = load(_Metrics, path).model
    except BadInput as error:
        return Unknown(UNREADABLE, f"{path}: {error.found}")
    return Unknown(CONTRADICTED, str(path)) if model and model.weights != stated else None


def _compared(
    a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, list[Any]]]:
    """Differences, and the values that are known and equal, by name."""
    differing, equal = [], {}
    for name in a[0]:
        of_a, of_b = (_distinct(one[name] for one in system) for system in (a, b))
        alike = sorted(of_a, key=repr) == sorted(of_b, key=repr) if name in SEVERAL else of_a == of_b and len(of_a) == 1
        if not alike:
            differing.append({"name": name, "a": of_a, "b": of_b})
        elif None not in of_a:
            equal[name] = of_a
    return differing, equal


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _grouped(system: str, found: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """One entry per reason."""
    files: dict[str, list[str]] = {}
    for each in found:
        if isinstance(each, Unknown):
            files.setdefault(each.reason, []).append(each.file)
    for reason, names in files.items():
        yield {"system": system, "reason": reason, "files": names}


def _shown(path: Path) -> str:
    """A path as users write it: relative below the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
