"""Option names of leftthomas/UM, the repository this project started from, for `um train` and `um test`.

They use underscores (`--data_name activitynet1.2 --num_segments 50`), ours dashes.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from um.errors import BadInput
from um.params import Evaluate, Localize

log = logging.getLogger(__name__)

DATA_NAMES = ("thumos14", "activitynet1.2", "activitynet1.3")
OURS = {  # its name → ours; its num_segments applied to training and test
    "num_segments": ("num-segments", "max-segments"),
    "magnitude": ("margin",),
    "act_th": ("class-threshold",),
    "class_th": ("class-threshold",),
    "iou_th": ("nms-iou",),
    "seg_th": ("cas-thresholds",),
    "mag_th": ("magnitude-thresholds",),
    "scale": ("upscale",),
    "decay": ("weight-decay",),
    "num_iter": ("iterations",),
    "num_iters": ("iterations",),
    "eval_iter": ("eval-every",),
}
OF_TEST = {*Localize.model_fields, *Evaluate.model_fields} - {"missing"}
OF_DATA = ("data_name", "data_path", "save_path")  # their meanings depend on each other
SNIPPET = {"fps": "16", "sampling_frames": "25"}  # its names are swapped: frames per snippet, and their rate
SEED = "0"  # for -1, its "no seed", which would not be reproducible


def translate(words: Sequence[str]) -> list[str]:
    """A command line with the other repository's options replaced by ours.

    Raises:
        BadInput: a missing value, or one that is not supported here.
    """
    if not words or words[0] not in ("train", "test"):
        return list(words)
    given: dict[str, str] = {}
    result: list[str] = [words[0]]
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not ("_" in name or name in {*OURS, *SNIPPET, "seed"}):
            result.append(word)
            continue
        if not equals:
            if name == "model_file" and (not rest or rest[0].startswith("--")):
                continue  # its README has a --model_file without a value
            if not rest:
                raise BadInput("command line", f"{word} without a value", "a value", "see --help")
            value = rest.pop(0)
        if name in OF_DATA:
            given[name] = value
        elif not _has_no_effect(words[0], name, value):
            ours = OURS.get(name, (name.replace("_", "-"),))
            used = [option for option in ours if words[0] == "test" or option.replace("-", "_") not in OF_TEST]
            if not used:
                log.warning("--%s has no effect in training: use it with um test", name)
            for option in used:
                result += [f"--{option}", _value(name, value)]
    return [*result, *_data(given, result)] if given else result


def _has_no_effect(verb: str, name: str, value: str) -> bool:
    """Whether an option has no effect here; warn if so.

    Raises:
        BadInput: a value that would change the times of all predictions.
    """
    if name in SNIPPET:
        if value != SNIPPET[name]:
            expected = f"{SNIPPET[name]} (--fps: frames per snippet, --sampling_frames: frame rate)"
            raise BadInput("command line", f"--{name} {value}", expected, "set other values in features/spec.json")
        log.warning("--%s has no effect: features define the length of their snippets", name)
    elif name == "num_workers":
        log.warning("--num_workers has no effect: features are kept in memory")
    elif name == "seed" and verb == "test":
        log.warning("--seed has no effect: testing is deterministic")
    else:
        return False
    return True


def _value(name: str, value: str) -> str:
    if name in ("seg_th", "mag_th"):
        return _range(name, value)
    if name == "model_file":
        return _model(Path(value))
    if (name, value) == ("seed", "-1"):
        log.warning("--seed -1 becomes seed %s: every run is reproducible", SEED)
        return SEED
    return value


def _model(path: Path) -> str:
    """A model of its train.py, `<folder>/<data_name>_model.pth`, or else the one of `um train` for that path."""
    ours = path.parent / path.name.removesuffix("_model.pth") / "last.safetensors"
    if path.exists() or not path.name.endswith("_model.pth") or not ours.exists():
        return str(path)
    log.warning("no %s: using %s, the last model of um train", path, ours)
    return str(ours)


def _data(given: dict[str, str], result: Sequence[str]) -> list[str]:
    """Options for dataset, data folder and output folder, one subfolder per dataset."""
    name = given.get("data_name", DATA_NAMES[0])
    if name not in DATA_NAMES:
        raise BadInput("command line", f"--data_name {name}", f"one of {', '.join(DATA_NAMES)}", "see --data-dir")
    from um.dataset import DATA  # imported late: most commands need no data

    folder = re.sub(r"\d\.\d$", "", name)
    default = DATA if (DATA / folder).is_dir() or (DATA / name).is_dir() else Path("/data")
    options = {word.partition("=")[0] for word in result}
    if given.keys() == {"save_path"} and options & {"--dataset", "--data-dir"}:
        return [] if "--out" in options else ["--out", given["save_path"]]
    values = {
        "--dataset": name,
        "--data-dir": str(Path(given.get("data_path", default)) / name),
        "--out": str(Path(given.get("save_path", "result")) / name),
    }
    return [word for option, value in values.items() if option not in options for word in (option, value)]


def _range(name: str, value: str) -> str:
    """`np.arange(0.0, 0.25, 0.025)` → `0:0.225:0.025` (stop included); other text is kept."""
    number = r"\s*([\d.eE+-]+)\s*"
    if not (found := re.fullmatch(rf"np\.arange\({number},{number},{number}\)", value)):
        return value
    try:
        start, stop, step = (float(part) for part in found.groups())
        last = np.arange(start, stop, step)[-1]
    except (ValueError, IndexError, ZeroDivisionError):
        hint = "or use start:stop:step, stop included"
        raise BadInput("command line", f"--{name} {value}", "np.arange(start, stop, step)", hint) from None
    return f"{start:g}:{last:g}:{step:g}"
