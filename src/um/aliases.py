"""The option names of the repository that this project started from, for `um train` and `um test`.

They are written with underscores (`--data_name activitynet1.2 --num_segments 50`), ours with dashes.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from um.errors import BadInput

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
    "save_path": ("out",),
}
WITHOUT = {  # what has no counterpart, and why
    "num_workers": "features are held in memory and need no workers",
    "fps": "the length of a snippet comes with the features",
    "sampling_frames": "the length of a snippet comes with the features",
}


def translate(words: Sequence[str]) -> list[str]:
    """The words of a command line with the other repository's options replaced by ours; other words are kept.

    Raises:
        BadInput: an option without a counterpart, or a value of `--data_name`, `--seg_th` or `--mag_th` that is none.
    """
    if not words or words[0] not in ("train", "test"):
        return list(words)
    given: dict[str, str] = {}
    result: list[str] = [words[0]]
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not ("_" in name or name in {*OURS, *WITHOUT}):
            result.append(word)
            continue
        if name in WITHOUT:
            raise BadInput("command line", word, "an option of this project", WITHOUT[name])
        if not equals:
            if name == "model_file" and (not rest or rest[0].startswith("--")):
                continue  # that repository's README has a first --model_file without its value
            if not rest:
                raise BadInput("command line", word, "a value after it", "see --help")
            value = rest.pop(0)
        if name in ("data_name", "data_path"):
            given[name] = value
            continue
        value = _range(name, value) if name in ("seg_th", "mag_th") else value
        for ours in OURS.get(name, (name.replace("_", "-"),)):
            result += [f"--{ours}", value]
    return [*result, *_data(given, result)] if given else result


def _data(given: dict[str, str], result: Sequence[str]) -> list[str]:
    """Whose settings, where the data lie and where the results go; without params.yaml, ActivityNet's tIoU too."""
    name = given.get("data_name", DATA_NAMES[0])
    if name not in DATA_NAMES:
        raise BadInput("command line", f"--data_name {name}", f"one of {', '.join(DATA_NAMES)}", "see --data-dir")
    here = Path("data")
    folder = re.sub(r"\d\.\d$", "", name)
    default = here if (here / folder).is_dir() or (here / name).is_dir() else Path("/data")
    preset = Path("params.yaml").exists()
    words = ["--dataset", name] if preset else []
    words += ["--data-dir", str(Path(given.get("data_path", default)) / name)]
    options = {word.partition("=")[0] for word in result}
    if "--out" not in options:
        words += ["--out", f"result/{name}"]
    if not preset and "--tiou" not in options and name != "thumos14":
        words += ["--tiou", "0.5:0.95:0.05"]
    return words


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
