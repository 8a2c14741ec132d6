"""Options that several verbs share, and one option per hyper-parameter of params.yaml."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Optional, get_args

import typer
from pydantic import PlainSerializer

from um.forms import Section

Changed = dict[str, dict[str, Any]]
DatasetName = Annotated[Optional[str], typer.Option("--dataset", help="dataset of params.yaml, in data/<dataset>")]  # noqa: UP045
DataDir = Annotated[Optional[Path], typer.Option(help="a folder in any public layout, instead of data/<dataset>")]  # noqa: UP045
Variant = Annotated[str, typer.Option(help="variant of the method: ours, or one listed in params.yaml")]
Seeds = Annotated[Optional[list[int]], typer.Option(help="default: the seeds of params.yaml")]  # noqa: UP045
Unlisted = Annotated[str, typer.Option(help="predictions for unlisted videos: count (as false positives) or ignore")]
Missing = Annotated[Optional[str], typer.Option(help="videos without features: error, drop or miss")]  # noqa: UP045
Planned = Annotated[Optional[str], typer.Option(hidden=True)]  # noqa: UP045
Out = Annotated[Path, typer.Option(help="output path")]
Device = Annotated[str, typer.Option(help="auto (CUDA, else CPU), cpu, cuda, cuda:1, …")]
Weights = Annotated[Path, typer.Option(help="pretrained weights of the backbone; default: fetched if missing")]
Cookies = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(envvar="UM_COOKIES", exists=True, dir_okay=False, help="a browser's cookies.txt, for YouTube"),
]
FlowWeights = Annotated[Optional[Path], typer.Option(help="weights of the backbone's flow network")]  # noqa: UP045
FeatureFps = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="frame rate of third-party features; default: from their spec.json, or 25"),
]
FeatureWindow = Annotated[Optional[int], typer.Option(help="frames per feature row; default: likewise, or 16")]  # noqa: UP045
FeatureStride = Annotated[Optional[int], typer.Option(help="frames between feature rows; default: the window")]  # noqa: UP045
FeatureRows = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="rows of every video, for features rescaled to one number of rows"),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for scripts")]
SHARD = "process part I of K into a shared folder; when all parts are done, run once without --shard"


def _number_or_auto(kind: type[int] | type[float]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return text if text == "auto" else kind(text)
        except ValueError:
            number = "a whole number" if kind is int else "a number"
            raise typer.BadParameter(f"expected auto or {number}, got {text!r}") from None

    return parse


def _told(default: Any, worded: bool) -> str:
    """The default of a setting, as --help shows it."""
    if default is None:
        return "null"
    return "auto" if worded and not default else str(default).lower() if isinstance(default, bool) else str(default)


def overridable(
    hidden: tuple[str, ...] = (), **sections: type[Section]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add one option per hyper-parameter of the sections to a verb; the options given arrive in `changed`.

    Args:
        hidden: sections that --help leaves out.
        sections: of params.yaml, by name.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = {name: p for name, p in inspect.signature(verb).parameters.items() if name != "changed"}
        options: dict[str, inspect.Parameter] = {}
        stage_of: dict[str, str] = {}
        for stage, section in sections.items():
            for name, field in section.model_fields.items():
                said = get_args(field.annotation)
                stated: Any = said[0] if type(None) in said else field.annotation
                kind: Any = stated if stated in (int, float, bool) else str
                worded = any(isinstance(each, PlainSerializer) for each in field.metadata)  # a number, or `auto`
                words = ["auto", kind.__name__] if worded else [str(word) for word in get_args(stated)]
                option = typer.Option(
                    help=field.description,
                    rich_help_panel=f"{stage} settings, as in params.yaml",
                    parser=_number_or_auto(kind) if worded else None,
                    metavar=f"<{'|'.join(words)}>" if words and kind is not bool else None,
                    show_default=_told(field.default, worded),
                    hidden=stage in hidden,
                )
                annotation = Annotated[Optional[kind], option]  # noqa: UP045
                options[name] = inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
                )
                stage_of[name] = stage

        @wraps(verb)
        def wrapper(**arguments: Any) -> None:
            changed: Changed = {stage: {} for stage in sections}
            for name, stage in stage_of.items():
                if (value := arguments.pop(name)) is not None:
                    changed[stage][name] = value
            verb(changed=changed, **arguments)

        keyword = {name: p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, p in own.items()}
        wrapper.__signature__ = inspect.Signature([*keyword.values(), *options.values()])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {name: p.annotation for name, p in (keyword | options).items()}
        return wrapper

    return decorate
