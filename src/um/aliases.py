"""The option names of the repository that this project started from, for `um train` and `um test`.

They are written with underscores (`--data_name activitynet1.2 --num_segments 50`), ours with dashes.
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
OURS = {  # its name → ours; what it sampled to holds for training and test
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
OF_DATA = ("data_name", "data_path", "save_path")  # what they mean depends on each other
SNIPPET = {"fps": "16", "sampling_frames": "25"}  # its names are swapped: frames of a snippet, and their rate
SEED = "0"  # in place of -1, its "no seed": a run without one could not be repeated


def translate(words: Sequence[str]) -> list[str]:
    """The words of a command line with the other repository's options replaced by ours; other words are kept.

    Raises:
        BadInput: an option without its value, or with one that it cannot have here.
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
                continue  # that repository's README has a first --model_file without its value
            if not rest:
                raise BadInput("command line", word, "a value after it", "see --help")
            value = rest.pop(0)
        if name in OF_DATA:
            given[name] = value
        elif not _has_no_effect(words[0], name, value):
            ours = OURS.get(name, (name.replace("_", "-"),))
            used = [option for option in ours if words[0] == "test" or option.replace("-", "_") not in OF_TEST]
            if not used:
                log.warning("--%s has no effect in training: give it to um test", name)
            for option in used:
                result += [f"--{option}", _value(name, value)]
    return [*result, *_data(given, result)] if given else result


def _has_no_effect(verb: str, name: str, value: str) -> bool:
    """Whether an option changes nothing here, which is then said.

    Raises:
        BadInput: it would have to change the times of all predictions.
    """
    if name in SNIPPET:
        if value != SNIPPET[name]:
            expected = f"{SNIPPET[name]}: its --fps are the frames of a snippet, its --sampling_frames their rate"
            raise BadInput("command line", f"--{name} {value}", expected, "other features have them in a spec.json")
        log.warning("--%s has no effect: features know the length of their snippets", name)
    elif name == "num_workers":
        log.warning("--num_workers has no effect: features are held in memory, nothing is loaded")
    elif name == "seed" and verb == "test":
        log.warning("--seed has no effect: a test draws nothing")
    else:
        return False
    return True


def _value(name: str, value: str) -> str:
    if name in ("seg_th", "mag_th"):
        return _range(name, value)
    if name == "model_file":
        return _model(Path(value))
    if (name, value) == ("seed", "-1"):
        log.warning("--seed -1 is seed %s here: every run can be repeated", SEED)
        return SEED
    return value


def _model(path: Path) -> str:
    """A model of its train.py, `<folder>/<data_name>_model.pth`, or what `um train` leaves in its place."""
    ours = path.parent / path.name.removesuffix("_model.pth") / "last.safetensors"
    if path.exists() or not path.name.endswith("_model.pth") or not ours.exists():
        return str(path)
    log.warning("%s is not there: taking %s, the model of um train after its last iteration", path, ours)
    return str(ours)


def _data(given: dict[str, str], result: Sequence[str]) -> list[str]:
    """Whose settings, where the data lie, and where the results go: below a folder per dataset, as its file names."""
    name = given.get("data_name", DATA_NAMES[0])
    if name not in DATA_NAMES:
        raise BadInput("command line", f"--data_name {name}", f"one of {', '.join(DATA_NAMES)}", "see --data-dir")
    from um.dataset import DATA  # not above: most commands need no data

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
    """`np.arange(0.0, 0.25, 0.025)` → `0:0.225:0.025`, whose stop is included; ours as it is."""
    number = r"\s*([\d.eE+-]+)\s*"
    if not (found := re.fullmatch(rf"np\.arange\({number},{number},{number}\)", value)):
        return value
    try:
        start, stop, step = (float(part) for part in found.groups())
        last = np.arange(start, stop, step)[-1]
    except (ValueError, IndexError, ZeroDivisionError):
        hint = "ours is start:stop:step, the stop included"
        raise BadInput("command line", f"--{name} {value}", "np.arange(start, stop, step)", hint) from None
    return f"{start:g}:{last:g}:{step:g}"
