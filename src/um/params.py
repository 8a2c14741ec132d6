"""Every scientific choice, typed and validated; `params.yaml` holds the values."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, PlainSerializer, ValidationInfo, WithJsonSchema, field_validator, model_validator
from pydantic.functional_validators import AfterValidator, BeforeValidator

from um.errors import BadInput
from um.evaluation.thresholds import threshold_range
from um.forms import Section, read_yaml, validate

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)  # names become folders and words of command lines
NAMED = "a name of letters, digits and . _ - (at most 100) that starts with a letter, a digit or _"
SEEDS = 2**32  # NumPy's limit
PRESETS = Path(__file__).with_name("presets")  # params.yaml, datasets/ and versions.txt of the project
FILE = Path("params.yaml")
AUTO = 0  # a size that follows from the training videos (um.method.sizes) or the backbone (um.features.backbones)


def _check_range(text: str) -> str:
    threshold_range(text)
    return text


def _check_text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError('expected start:stop:step, such as "0.1:0.7:0.1"')
    return value


def _check_odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("expected an odd number of snippets")
    return value


def _check_size(value: Any) -> Any:
    if value == "auto":
        return AUTO
    if value == AUTO:  # it stands for `auto` here, and is no size
        raise ValueError("expected auto, or a number above 0")
    return value


def _check_pixels(value: int) -> int:
    if value != AUTO and not 32 <= value <= 4096:
        raise ValueError("expected auto, or 32 to 4096 pixels")
    return value


def _words(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


def _check_name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected {NAMED}, in quotes if YAML could read it as a number, a date or true")
    if not NAME.fullmatch(value):
        raise ValueError(f"expected {NAMED}")
    return value


T = TypeVar("T")


def _check_once(values: list[T]) -> list[T]:
    if twice := [value for value in values if values.count(value) > 1]:
        raise ValueError(f"expected no duplicates, got {twice[0]} twice")
    return values


def check_name(name: Any, where: str) -> str:
    """The name of a dataset or variant, if valid.

    Raises:
        BadInput: not a valid name: `../x`, `/x`, `-x`, `a b`, `$(x)`.
    """
    try:
        return _check_name(name)
    except ValueError as error:
        expected = str(error).removeprefix("expected ")
        hint = "see docs/datasets.md to add a dataset; params.yaml lists variants"
        raise BadInput(where, repr(name), expected, hint) from None


def check_seed(text: str, where: str) -> int:
    """Parse a seed.

    Raises:
        BadInput: not a whole number from 0 to 2**32 - 1.
    """
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or int(text) >= SEEDS:
        raise BadInput(where, repr(text), f"a whole number from 0 to {SEEDS - 1}", "seeds are listed in params.yaml")
    return int(text)


def check_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, if its datasets, variants and seeds are valid.

    Raises:
        BadInput: an invalid name or seed.
    """
    checks = {"--dataset": check_name, "--variant": check_name, "--seed": check_seed}
    end = list(words).index("--") if "--" in words else len(words)
    for word, following in zip(words[:end], [*words[1:end], None], strict=True):
        option, equals, value = word.partition("=")
        given = value if equals else following
        if option in checks and given is not None:
            checks[option](given, f"command line: {option}")
    return list(words)


Name = Annotated[str, BeforeValidator(_check_name)]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Mirrors = Annotated[list[str], BeforeValidator(_words)]  # one option on the command line
Odd = Annotated[int, AfterValidator(_check_odd)]
_AUTO = BeforeValidator(_check_size), PlainSerializer(lambda size: size or "auto")
Size = Annotated[
    int,
    Field(ge=0, le=1_000_000_000),
    *_AUTO,
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}),
]
Pixels = Annotated[
    int,
    AfterValidator(_check_pixels),
    *_AUTO,
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 32, "maximum": 4096}, {"const": "auto"}]}),
]
Rate = Annotated[
    float,
    Field(ge=0, le=1e3),
    *_AUTO,
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "auto"}]}),
]
Range = Annotated[str, BeforeValidator(_check_text), AfterValidator(_check_range)]
Streams = Literal["rgb", "flow", "rgb,flow"]
Precision = Literal["auto", "fp32", "bf16"]


class Download(Section):
    """What to download of a dataset, and how to render the demo."""

    what: Literal["videos", "features", "annotations"] = Field(
        "videos",
        description="what to download: videos to extract features from, published features, or annotations alone",
    )
    source: str = Field("auto", description="name of one version in sources.yaml; auto: the first that is available")
    mirrors: Mirrors = Field(
        [], description="folders or URLs of copies, separated by blanks, tried before the links of sources.yaml"
    )
    render_seed: Seed = Field(0, description="seed of the rendered demo")
    train_videos: int = Field(36, ge=1, le=100_000, description="rendered training videos")
    test_videos: int = Field(18, ge=1, le=100_000, description="rendered test videos")


class Features(Section):
    """Feature extraction: from a video to one row per snippet."""

    backbone: str = Field("i3d-inception", description="config in src/um/features/configs, without the stream suffix")
    streams: Streams = Field("rgb", description="streams to extract")
    flow: Literal["torch", "opencv"] = Field("torch", description="implementation of TV-L1 optical flow")
    fps: float = Field(25.0, gt=0, le=1000, description="frame rate to resample videos to, by time stamps")
    window: int = Field(16, ge=1, le=10_000, description="frames per snippet")
    stride: int | None = Field(
        None, ge=1, le=10_000, description="frames from one snippet to the next; null: the window, without overlap"
    )
    short_side: Pixels = Field(AUTO, description="pixels of the shorter side after resizing; auto: as the backbone")
    crop: Pixels = Field(AUTO, description="pixels of the centre crop; auto: as the backbone")
    precision: Precision = Field(
        "auto", description="arithmetic of the network; auto: bf16 on hardware that is faster in it, else fp32"
    )
    clips: int = Field(4, ge=1, le=10_000, description="snippets per forward pass")

    @model_validator(mode="after")
    def _check_crop(self) -> "Features":
        if self.crop > self.short_side > AUTO:
            raise ValueError(f"expected crop ({self.crop}) to be at most short_side ({self.short_side})")
        return self


class Train(Section):
    """UM's model, losses and optimiser; the defaults are `ours`."""

    streams: Literal["auto", "rgb", "flow", "rgb,flow"] = Field(
        "auto", description="feature streams, concatenated in this order; auto: all that exist"
    )
    method: Literal["um", "cola"] = Field(
        "um", description="network and losses: UM, or CoLA, which has no margin, beta, uncertainty and background"
    )
    num_segments: Size = Field(AUTO, description="T, snippets sampled per training video; auto: from their lengths")
    embedding_dim: Size = Field(AUTO, description="D, channels of the embedding; auto: from the number of videos")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the features, before the embedding")
    dropout: float = Field(0.7, ge=0, lt=1, description="dropout of the classifier's input and of the snippet mask")
    smoothing: Odd = Field(
        1, ge=1, le=1_000_001, description="snippets in the moving average of CAS logits and magnitudes; 1: none"
    )
    r_act: float = Field(9.0, ge=0.001, description="k_act = max(1, T // r_act) pseudo-action snippets")
    r_bkg: float = Field(4.0, ge=0.001, description="k_bkg = max(1, T // r_bkg) pseudo-background snippets")
    background: Literal["reversed", "masked"] = Field(
        "reversed",
        description="pseudo-background: the smallest magnitudes among the snippets the mask keeps, "
        "or (seed code) among all, where the masked ones are smallest",
    )
    loss: Literal["mean_bce", "summed_ce"] = Field(
        "mean_bce", description="classification terms: the official code's mean BCE, or the paper's cross-entropy"
    )
    loss_scale: float = Field(
        1.0, gt=0, le=1e6, description="weight of L_cls and L_be; C / 20 keeps THUMOS14's balance"
    )
    uncertainty: Literal["snippets", "channels"] = Field(
        "snippets", description="mean in L_um: over the selected snippets, or (seed code) over the channels"
    )
    margin: float = Field(100.0, gt=0, le=1e6, description="m of the uncertainty loss")
    alpha: float = Field(5e-4, ge=0, le=1e6, description="weight of the uncertainty loss L_um, or of CoLA's contrast")
    beta: float = Field(1.0, ge=0, le=1e6, description="weight of the background-entropy loss L_be")
    lr: Rate = Field(AUTO, description="Adam's learning rate; auto: from embedding_dim")
    weight_decay: float = Field(5e-4, ge=0, le=1e3, description="Adam's coupled L2 weight decay")
    min_snippets: int = Field(1, ge=1, le=1_000_000_000, description="leave out shorter training videos")
    batch_size: int = Field(16, ge=1, le=1_000_000, description="B, videos per step")
    iterations: Size = Field(AUTO, description="optimiser steps; auto: from the number of training videos")
    eval_every: Size = Field(AUTO, description="steps between evaluations; each leaves a checkpoint; auto: a quarter")
    ema: float = Field(
        0.98, ge=0, lt=1, description="decay of the moving average of the weights, which is the model; 0: none"
    )
    held_out: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training videos held out to choose `selected` by their labels; 0: none",
    )
    resident: Literal["float32", "float16"] = Field("float32", description="type of features in memory during training")
    precision: Precision = Field(
        "auto",
        description="arithmetic of the network in training; auto: bf16 on hardware that is faster in it, else fp32",
    )


class Localize(Section):
    """Localisation: from the network's output to scored segments; the defaults are `ours`."""

    max_segments: int = Field(750, ge=1, le=1_000_000, description="sample longer videos evenly to this many snippets")
    class_threshold: float = Field(0.2, ge=0, le=1, description="video-level score at which a class is predicted")
    cas_thresholds: Range = Field("0.05:0.35:0.05", description="thresholds on the fused curve")
    magnitude_thresholds: Range = Field("0.1:0.9:0.05", description="thresholds on the normalised magnitude")
    fusion: bool = Field(True, description="weight the CAS by the magnitude; false: CAS and its thresholds only")
    foreground: Literal["saturating", "minmax", "margin"] = Field(
        "saturating",
        description="magnitude to probability: |f| / (|f| + m), relative to its maximum in the video; "
        "the official code's min-max; or the paper's min(m, |f|) / m",
    )
    upscale: int = Field(1, ge=1, le=1000, description="linear interpolation factor over time; 1: none")
    outer_ratio: float = Field(
        0.25, gt=0, le=1000, description="lambda: length of the outer part per side, relative to the segment"
    )
    gamma: float = Field(0.2, ge=0, le=1e6, description="weight of the video-level class score")
    nms: Literal["soft", "hard"] = Field("soft", description="lower scores of overlaps (Gaussian), or drop them")
    nms_iou: float = Field(0.6, gt=0, le=1, description="hard: overlap at which the lower-scored segment is dropped")
    nms_sigma: float = Field(0.3, gt=0, le=1e6, description="soft: scores decay by exp(-overlap^2 / sigma)")
    nms_plus_one: bool = Field(False, description="add 1 s to every length and overlap in NMS, like the official code")
    whole_video: bool = Field(True, description="give a video without segments one over its full length")


class Evaluate(Section):
    """Scoring of predictions."""

    protocol: Literal["activitynet", "thumos14"] = Field(
        "activitynet", description="scoring: ActivityNet's ANETdetection, or the official THUMOS'14 kit"
    )
    tiou: Range = Field("0.1:0.7:0.1", description="temporal IoU thresholds")
    missing: Literal["error", "drop", "miss"] = Field(
        "error", description="annotated videos without features: an error, left out, or (test videos) counted as misses"
    )

    @field_validator("tiou")
    @classmethod
    def _check_hits(cls, tiou: str, info: ValidationInfo) -> str:
        """Refuse thresholds at which every segment of a video (IoU >= 0) or none (IoU > 1) would be a hit."""
        thresholds = threshold_range(tiou)
        if info.data.get("protocol") == "activitynet" and thresholds[0] == 0:
            raise ValueError(
                "expected thresholds above 0 under activitynet, where an IoU equal to the threshold is a hit"
            )
        if info.data.get("protocol") == "thumos14" and thresholds[-1] == 1:
            raise ValueError("expected thresholds below 1 under thumos14, where a hit needs an IoU above the threshold")
        return tiou


class Settings(Section):
    """The settings of one dataset."""

    download: Download = Download()
    features: Features = Features()
    train: Train = Train()
    localize: Localize = Localize()
    evaluate: Evaluate = Evaluate()

    def digest(self, stage: str) -> str:
        """A hash of all settings that the stage's outputs depend on; a plan and its jobs compare it."""
        values = {key: value_at(self.model_dump(), key) for key in USES[stage]}
        values.get("download", {}).pop("mirrors", None)  # mirrors do not change the outputs
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


STAGES = tuple(Settings.model_fields)
USES = {  # stage → sections or keys, as in dvc.yaml
    "download": ("download",),
    "features": ("features",),
    "train": ("train", "evaluate.missing"),
    "evaluate": ("localize", "evaluate"),
    "rows": ("train", "evaluate"),
    "report": ("train", "localize", "evaluate"),  # no stage of dvc.yaml
}


def value_at(values: Any, key: str) -> Any:
    """`a.b.c` of nested mappings, whose names may hold dots."""
    if not isinstance(values, dict):
        return None
    if key in values:
        return values[key]
    parts = key.split(".")
    for number in range(len(parts) - 1, 0, -1):
        if (head := ".".join(parts[:number])) in values:
            return value_at(values[head], ".".join(parts[number:]))
    return None


SELECTIONS = {  # how a model was chosen → folder in results/<run>/seed<k>, file in models/<run>/seed<k>
    "last": ("", "last.safetensors"),
    "selected": ("selected", "selected.safetensors"),
    "best_on_test": ("best_on_test", "checkpoints/index.json"),
}
OURS = "ours"  # name of a dataset's settings without a variant
RESERVED = {OURS, "ablation", "videos", "features"}  # results/<dataset>-<…>/ of the workflow itself


Changes = dict[str, dict[str, Any]]  # stage → name → value
SIMULATED = "-simulated"  # end of the names of simulated datasets, which have the settings of the real ones


class Variation(Section):
    """A variant of the method."""

    base: Name | None = Field(None, description="variant whose values apply where this one has none")
    train: dict[str, Any] = Field({}, description="values")
    localize: dict[str, Any] = Field({}, description="values")


class Params(Settings):
    """`params.yaml`: settings by dataset and variant; its common sections apply where a dataset has no value."""

    datasets: Annotated[list[Name], AfterValidator(_check_once)] = Field(
        default=["demo"], min_length=1, description="datasets built by default"
    )
    shared: list[Name] = Field(
        default=[], description="those of `datasets` whose videos DVC stores, and `dvc push` uploads"
    )
    unshared: list[Name] = Field(default=[], description="the others: DVC records only the hashes of their videos")
    seeds: Annotated[list[Seed], AfterValidator(_check_once)] = Field(
        default=[0, 1, 2], min_length=1, description="training seeds"
    )
    compare: Annotated[list[Name], AfterValidator(_check_once)] = Field(
        default=[], description="variants in the benchmark table, beside `ours`; each with its own values, no `base`"
    )
    variants: dict[Name, Variation] = Field(
        default={}, description="variant → stage → values, on top of any dataset's; `ours` is the dataset unchanged"
    )
    overrides: dict[Name, Changes] = Field(default={}, description="dataset → stage → values; complete for `datasets`")

    def of(self, dataset: str, variant: str = OURS) -> Settings:
        """The settings of one dataset: defaults, common sections if any, its overrides, then the variant."""
        merged: dict[str, Any] = {stage: getattr(self, stage).model_dump() for stage in STAGES}
        named = self._named(dataset)
        changes = {f"overrides.{named}.": self.overrides.get(named, {})}
        for name in self._line(variant):
            changes[f"variants.{name}."] = self.variants[name].model_dump(exclude={"base"})
        for prefix, stages in changes.items():
            for stage, values in stages.items():
                merged[stage] = merged.get(stage, {}) | values
            settings = validate(Settings, merged, Path("params.yaml"), prefix)
        return settings

    def has(self, dataset: str) -> bool:
        """Whether a dataset has settings of its own."""
        return self._named(dataset) in self.overrides

    def _named(self, dataset: str) -> str:
        return dataset if dataset in self.overrides else dataset.removesuffix(SIMULATED)

    def _line(self, variant: str) -> list[str]:
        """A variant, after the variants that it is based on; empty for `ours`."""
        line: list[str] = []
        while variant != OURS:
            if variant not in self.variants:
                found, known = f"no variant {variant!r}", ", ".join([OURS, *self.variants])
                raise BadInput(Path("params.yaml"), found, f"one of {known}", "add it to `variants`")
            if variant in line:
                found, hint = f"variant {variant!r}, based on itself", "correct `base` in `variants`"
                raise BadInput(Path("params.yaml"), found, "another base", hint)
            line.insert(0, variant)
            variant = self.variants[variant].base or OURS
        return line

    def compared(self, variant: str = OURS) -> list[str]:
        """The variants in one benchmark table: `ours` beside those of `compare`, any other alone."""
        return [OURS, *self.compare] if variant == OURS else [variant]

    def runs(self) -> list[str]:
        """The runs that are built by default."""
        return [run_name(dataset, variant) for dataset in self.datasets for variant in self.compared()]


def run_name(dataset: str, variant: str = OURS) -> str:
    """Name of a variant's folder in models/ and results/."""
    return dataset if variant == OURS else f"{dataset}-{variant}"


def check_runs(datasets: Iterable[str], variants: Iterable[str], where: str | Path) -> None:
    """Refuse names whose runs would share a folder: dataset `a-b`, and variant `b` of dataset `a`.

    Raises:
        BadInput: a shared folder, or a reserved name.
    """
    runs: dict[str, str] = {}
    variants = list(variants)
    for variant in variants:
        if variant in RESERVED or re.fullmatch(r"seed\d+", variant):
            raise BadInput(where, f"a variant {variant}", "a name that is not reserved", "rename it")
    for dataset in dict.fromkeys(datasets):
        if dataset == "all" or dataset.startswith("benchmark."):
            raise BadInput(where, f"a dataset {dataset}", "a name that is not reserved", "rename it")
        for variant in [OURS, *variants]:
            run, text = run_name(dataset, variant), f"variant {variant} of dataset {dataset}"
            if run in runs:
                found = f"{text} and {runs[run]}, both in models/{run}"
                raise BadInput(where, found, "separate folders", "rename the dataset or the variant")
            runs[run] = text


def file() -> Path:
    """params.yaml of the working directory, else the presets that come with this package."""
    return FILE if os.path.lexists(FILE) else PRESETS / FILE


def load(path: Path | None = None) -> Params:
    """Read and validate a params file, with all overrides and variants; by default `file`.

    Raises:
        BadInput: the file is missing or not YAML, or has an unknown key, a wrong value, a duplicate name, or names
            whose runs would share a folder.
    """
    if path is None:
        return load(FILE) if file() == FILE else _presets()
    values = read_yaml(path, "the project's params.yaml, which holds the presets")
    params = validate(Params, values, path)
    check_runs([*params.datasets, *params.overrides], params.variants, path)
    for variant in params.compare:
        if (listed := params.variants.get(variant)) is None or not (listed.train and listed.localize) or listed.base:
            found, hint = f"compare: {variant}", "DVC compares both sections: write out its values, as for `official`"
            raise BadInput(path, found, "a variant with `train` and `localize`, and no `base`", hint)
    for dataset in [*params.overrides, *params.datasets]:
        for variant in [OURS, *params.variants]:
            params.of(dataset, variant)
    for dataset in params.datasets if "datasets" in values else []:
        _check_complete(path, dataset, params.overrides.get(dataset, {}))
    return params


@cache
def _presets() -> Params:
    return load(PRESETS / FILE)


def _check_complete(path: Path, dataset: str, overrides: Changes) -> None:
    """DVC compares `overrides.<dataset>.<stage>`, so that must list every setting of the stage."""
    for stage in STAGES:
        known = Settings.model_fields[stage].annotation.model_fields  # type: ignore[union-attr]
        if missing := [name for name in known if name not in overrides.get(stage, {})]:
            found = f"overrides.{dataset}.{stage} without {', '.join(missing[:3])}{', …' if missing[3:] else ''}"
            expected = "every key of the stage, for each of `datasets`"
            raise BadInput(path, found, expected, f"`um data settings --dataset {dataset}` prints them")


def chosen(dataset: str | None, changed: Changes, variant: str = OURS) -> Settings:
    """Settings of params.yaml for a dataset, or the common ones, with `changed` (stage → name → value) on top."""
    settings = load().of(dataset or "", variant)
    merged = {stage: section | changed.get(stage, {}) for stage, section in settings.model_dump().items()}
    return validate(Settings, merged, Path("command line"))


def written(dataset: str) -> str:
    """All settings of a dataset as YAML, for `overrides` in params.yaml; 0:1:0.1 is quoted, as YAML 1.1 needs it."""
    values = validate(Params, read_yaml(file()), file()).of(dataset).model_dump()
    return yaml.safe_dump({"overrides": {dataset: values}}, sort_keys=False, allow_unicode=True)


def check_planned(planned: str | None, stage: str, *settings: Settings) -> None:
    """Refuse a planned job whose settings differ from the plan's.

    Raises:
        BadInput: params.yaml was edited since planning.
    """
    if planned is not None and planned != digests(stage, settings):
        found = f"settings of stage {stage} that changed after this run was planned"
        raise BadInput(Path("params.yaml"), found, "no edits during a run", "run snakemake again")


def digests(stage: str, settings: Iterable[Settings]) -> str:
    """`Settings.digest` of several runs."""
    return "-".join(each.digest(stage) for each in settings)


def schema() -> str:
    """JSON schema of params.yaml, for editors, saved as `workflow/schemas/params.schema.json`."""
    return json.dumps(Params.model_json_schema(), indent=1, ensure_ascii=False) + "\n"
