"""What the workflow builds: the datasets, runs and seeds of params.yaml and `--config`, and their paths."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from um import params
from um.dataset import DATASETS, check_source, comes_as_videos, describe, root
from um.errors import BadInput
from um.forms import validate
from um.params import OURS, Settings
from um.provenance import faults, jobs, pipeline

STAGES = ("weights", "download", "features", "train", "evaluate", "rows", "table")
RULES = {  # of a plan → stage
    "weights": "weights",
    "download_shard": "download",
    "download_dataset": "download",
    "extract_shard": "features",
    "extract_features": "features",
    "train_model": "train",
    "test_model": "evaluate",
    "test_checkpoints": "evaluate",
    "rows_of_run": "rows",
    "table": "table",
}
MODELS = {f"{folder}/".lstrip("/"): model for folder, model in params.SELECTIONS.values()}
ABLATION = (  # rows: the paper's, then ours without one ingredient each
    *("softmax", "fusion", "fusion_um", "official"),
    *(OURS, "no_average", "minmax", "official_thresholds", "interpolation", "hard_nms"),
)


class Asked(NamedTuple):
    """The keys of `--config`."""

    only: str | None = None
    dataset: str | None = None
    seed: str | None = None
    what: str | None = None
    variant: str = OURS

    @classmethod
    def read(cls, config: Mapping[str, Any], words: Iterable[str] = ()) -> "Asked":
        """Read and check the values of `--config`.

        Args:
            config: as parsed by Snakemake.
            words: as typed: Snakemake parses the dataset 2024_05 as the number 202405.

        Raises:
            BadInput: an unknown key or an invalid value.
        """
        entries = [word.partition("=") for word in words]
        given = dict(config) | {key: value.strip("'\"") for key, _, value in entries}
        given = {key: value for key, value in given.items() if value not in (None, "")}
        if unknown := sorted(set(given) - set(cls._fields)):
            expected, hint = "only, dataset, variant, seed or what", "set scientific choices in params.yaml"
            raise BadInput("--config", f"unknown key {unknown[0]}", expected, hint)
        if (only := given.get("only")) and only not in STAGES:
            expected, hint = f"one of {', '.join(STAGES)}", "dvc.yaml lists the stages"
            raise BadInput("--config", f"only = {only!r}", expected, hint)
        for key in {"dataset", "variant"} & set(given):
            params.check_name(given[key], f"--config: {key}")
        if "seed" in given:
            given["seed"] = str(params.check_seed(str(given["seed"]), "--config: seed"))
        if given.get("what") == "annotations":
            hint = "`um download --what annotations` fetches annotations alone"
            raise BadInput("--config", "what=annotations", "videos or features", hint)
        return cls(**given)


class Plan:
    """What one call of Snakemake can build.

    Attributes:
        asked: the keys of `--config`.
        runs: run → its dataset; a run is a dataset, or `<dataset>-<variant>`.
        variants: run → its variant.
        trained: run → the run whose models it scores: itself, or the first that trains with the same settings.
        settings: run or dataset → settings.
        seeds: training seeds.
        built: the runs built by default.
        trained_files: names of a training's outputs.
        stored: datasets whose videos DVC stores.
        selections: result folders of every run and seed; "" is that of `last`.
        table: path of the benchmark table, without suffix.

    Raises:
        BadInput: the request does not match params.yaml, dvc.yaml or datasets/.
    """

    def __init__(self, asked: Asked = Asked()) -> None:  # noqa: B008 (immutable)
        self.asked = asked
        values = params.load()
        self.datasets = [asked.dataset] if asked.dataset else values.datasets
        self.seeds = [seed for seed in values.seeds if asked.seed in (None, str(seed))]
        if not self.seeds:
            raise BadInput("--config", f"seed = {asked.seed}", "a seed of params.yaml", "add it to `seeds`")
        self._check_datasets(values)
        compared = values.compared(asked.variant) if asked.only in (None, "table") else [asked.variant]
        rows = [] if asked.only else [row for row in ABLATION if row in (OURS, *values.variants)]
        self.runs: dict[str, str] = {}
        self.variants: dict[str, str] = {}
        self.settings = {dataset: self._of_what(values.of(dataset)) for dataset in self.datasets}
        for dataset, variant in product(self.datasets, [*compared, *rows]):
            run = params.run_name(dataset, variant)
            self.runs[run], self.variants[run] = dataset, variant
            self.settings[run] = self._of_what(values.of(dataset, variant))
        self.built = [params.run_name(dataset, variant) for dataset, variant in product(self.datasets, compared)]
        self.trained = {run: self._trained(run) for run in self.runs}
        held_out = {self.settings[run].train.held_out > 0 for run in self.built}
        if len(held_out) > 1:
            found = "train.held_out = 0 for some datasets"
            raise BadInput("params.yaml", found, "0 for all or for none", "the table has one row for `selected`")
        selects = held_out.pop()
        self.selections = ["", "best_on_test/", *["selected/"] * selects]
        self.trained_files = ["last.safetensors", "history.csv", "checkpoints/index.json"]
        self.trained_files += ["selected.safetensors", "selected.csv"] * selects
        self.stored = [dataset for dataset in self.datasets if dataset not in values.unshared]

    def check_files(self) -> None:
        """Compare what is there with dvc.lock, and have Snakemake rebuild what was changed by hand.

        Raises:
            BadInput: files that Snakemake could not plan with.
        """
        values = params.load()
        if self.is_main:
            pipeline.check_ledger(values)
        if self.is_main and not self.asked.only and jobs.is_planning():
            lock = pipeline.lock() if pipeline.RECORD.is_file() else pipeline.Lock()
            faults.forgive(values, lock)
            jobs.check_known(values, lock)
            jobs.distrust(faults.changed(values, lock))
        if self.asked.only == "table":
            faults.check_leftovers(values)

    def used(self, stage: str) -> list[str]:
        """Hashes of the settings and code that a stage depends on, as they are now."""
        values = params.load()
        settings = [values.of(self.runs[run], self.variants[run]) for run in self.built] if stage in params.USES else []
        return [params.digests(stage, settings), *(pipeline.code(stage, dataset) for dataset in self.datasets)]

    def _check_datasets(self, values: params.Params) -> None:
        params.check_runs([*values.datasets, *values.overrides, *self.datasets], values.variants, "params.yaml")
        known = sorted(path.parent.name for path in DATASETS.glob("*/dataset.yaml"))
        if unknown := [dataset for dataset in self.datasets if dataset not in known]:
            hint = "see docs/datasets.md to add one"
            raise BadInput("datasets", f"no {unknown[0]}", f"one of {', '.join(known)}", hint)
        for dataset in self.datasets:  # before Snakemake deletes outputs to rebuild them
            check_source(dataset, root(dataset))

    def _of_what(self, settings: Settings) -> Settings:
        """The settings, with `download.what` replaced by `--config what` if given."""
        changed = settings.download.model_dump() | ({"what": self.asked.what} if self.asked.what else {})
        return settings.model_copy(update={"download": validate(params.Download, changed, "--config")})

    def _trained(self, run: str) -> str:
        """Rows of the ablation that only localise differently share their models."""
        if run in self.built:
            return run
        digest = self.settings[run].digest("train")
        return next(
            other
            for other, dataset in self.runs.items()
            if (dataset, self.settings[other].digest("train")) == (self.runs[run], digest)
        )

    @property
    def _part(self) -> list[str]:
        """The requested part, as words of a folder name; empty for everything in params.yaml."""
        only, dataset, seed, what, variant = self.asked
        words = [dataset, None if variant == OURS else variant, f"seed{seed}" if seed and not only else None, what]
        return [word for word in words if word]

    @property
    def is_main(self) -> bool:
        """Whether the ledger records this build."""
        return not self._part

    @property
    def report(self) -> str:
        """Folder of the report, that of the table."""
        return str(Path(self.table).parent)

    @property
    def tables(self) -> str:
        """Folder of the rows; DVC records all of `tables`, so a part has its own."""
        return "tables" if self.asked.only or self.is_main else f"{self.report}/tables"

    @property
    def table(self) -> str:
        """A part gets its own table, so that the main one is not overwritten."""
        part = self._part
        name = "-".join(part if self.asked.dataset else ["all", *part])
        return f"results/{name}/benchmark" if part else "results/benchmark"

    def earlier(self, pattern: str) -> str:
        """The path pattern of an earlier stage's files, which must exist if that stage's rules are left out.

        Raises:
            BadInput: a missing file.
        """
        for dataset, run, seed in product(self.datasets, self.built, self.seeds) if self.asked.only else ():
            path = pattern.format(dataset=dataset, run=run, seed=seed)
            if not Path(path).exists():
                part = [f"dataset={self.asked.dataset}"] * bool(self.asked.dataset)
                part += [f"variant={self.asked.variant}"] * (self.asked.variant != OURS)
                command = " ".join(["snakemake", *(["--config", *part] if part else []), "--", path])
                hint = f"`{command}` builds it; `dvc pull` fetches it"
                raise BadInput(path, "no such file", f"an input of stage {self.asked.only}", hint)
        return pattern

    @cached_property
    def from_videos(self) -> set[str]:
        """Datasets whose features are extracted from videos."""
        return {name for name in self.datasets if comes_as_videos(name, self.settings[name].download)}

    @cached_property
    def shared(self) -> set[str]:
        """Datasets whose download several jobs can share."""
        videos = {name for name in self.datasets if self.settings[name].download.what == "videos"}
        return {name for name in videos if describe(name).provider == "sources"}
