"""The weights that an extraction uses: those given, or the default ones."""

from collections.abc import Mapping
from pathlib import Path

from um.errors import BadInput
from um.features import backbones
from um.features.weights import WEIGHTS, default, fetch
from um.params import Features


def weights_of(settings: Features, given: Mapping[str, Path] | None = None) -> dict[str, Path]:
    """The weights of every stream: those given, and the default ones for rgb, fetched if needed.

    Raises:
        BadInput: another backbone than that of the default weights, and no file given.
    """
    files = {"rgb": WEIGHTS, **(given or {})}
    if "rgb" in settings.streams and files["rgb"] == WEIGHTS:
        if settings.backbone != backbones.DEFAULT and not backbones.own(settings.backbone):
            found = f"none for {settings.backbone}"
            published = backbones.source(settings.backbone)
            hint = f"download {published}" if published else "`um weights` fetches those of i3d-inception alone"
            raise BadInput("--weights", found, "the backbone's checkpoint", hint)
        files["rgb"] = fetch(default())
    return files
