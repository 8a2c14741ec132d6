"""The videos of one subset in memory, their features packed into one tensor.

Separate from `um.datasets.folder`, so that planning the workflow does not import PyTorch.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from um.datasets.annotations import Video
from um.datasets.folder import Folder
from um.device import send
from um.errors import BadInput, some
from um.forms import check_fits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subset:
    """Videos with their features.

    Attributes:
        videos: V entries, sorted by id.
        packed_NF: features of all snippets, video by video, in single or half precision.
        offset_V: first row of each video.
        length_V: snippets of each video, at least 1.
        featureless: annotated videos without features, sorted by id.
        misses: whether these count as videos without a prediction.
    """

    videos: list[Video]
    packed_NF: Tensor
    offset_V: Tensor
    length_V: Tensor
    featureless: tuple[Video, ...] = ()
    misses: bool = False

    @property
    def population(self) -> list[Video]:
        """The videos counted by an evaluation, sorted by id."""
        return sorted([*self.videos, *self._counted], key=lambda video: video.id)

    @property
    def _counted(self) -> tuple[Video, ...]:
        return self.featureless if self.misses else ()

    def to(self, device: torch.device) -> "Subset":
        """A copy with the features on a device; indices stay on the CPU for sampling."""
        return replace(self, packed_NF=self.packed_NF.to(device))

    def where(self, keep_V: Tensor) -> "Subset":
        """The videos of a boolean mask; the packed features are shared, not copied."""
        videos = [video for video, keep in zip(self.videos, keep_V.tolist(), strict=True) if keep]
        return replace(self, videos=videos, offset_V=self.offset_V[keep_V], length_V=self.length_V[keep_V])

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of ids, labels and features: equal for equal data in any layout."""
        digest = hashlib.sha256(repr([(video.id, video.labels) for video in [*self.videos, *self._counted]]).encode())
        digest.update(self.length_V.numpy().data)
        digest.update(self.packed_NF.cpu().numpy().data)
        return digest.hexdigest()

    def batch(self, video_B: Tensor, snippet_BT: Tensor, out_NF: Tensor) -> Tensor:
        """The features (B, T, F) of a batch of snippet indices, written to the first B x T rows of `out_NF`."""
        row_N = send((self.offset_V[video_B, None] + snippet_BT).flatten(), self.packed_NF.device)
        torch.index_select(self.packed_NF, 0, row_N, out=out_NF[: len(row_N)])
        return out_NF[: len(row_N)].view(*snippet_BT.shape, -1)

    def features(self, position: int) -> Tensor:
        """All snippets (T, F) of one video, in single precision."""
        first = int(self.offset_V[position])
        return self.packed_NF[first : first + int(self.length_V[position])].float()

    def labels(self, classes: Sequence[str]) -> Tensor:
        """Multi-hot video-level labels (V, C); labels outside the classes are ignored."""
        rows = [[float(name in video.labels) for name in classes] for video in self.videos]
        return torch.tensor(rows, dtype=torch.float32)


def load_subset(folder: Folder, role: str, dtype: torch.dtype = torch.float32) -> Subset:
    """Read the `train` or `test` subset of a folder into one tensor.

    Args:
        folder: the dataset.
        role: `train` or `test`.
        dtype: of the features in memory; torch.float16 halves their size.

    Raises:
        BadInput: as for `Folder.check`; features that are not finite floats or exceed the range of `dtype`; more
            features, including those of the other subset if already read, than fit into memory.
    """
    videos, lengths, width = folder.check(role)
    length_V = torch.tensor(lengths)
    offset_V = length_V.cumsum(0) - length_V
    folder.held[role] = sum(lengths) * width * dtype.itemsize
    hint = "use fewer videos, or one stream with --streams"
    if dtype == torch.float32 and "train" in folder.held:
        hint = "--resident float16 halves it; or use fewer videos, or one stream with --streams"
    check_fits(folder.features, sum(folder.held.values()), "features in memory", hint)
    packed_NF = torch.empty(sum(lengths), width, dtype=dtype)
    blank = []
    for video, first, length in zip(videos, offset_V.tolist(), lengths, strict=True):
        rows_TF = packed_NF[first : first + length]
        folder.read_into(rows_TF.numpy(), video.id)
        if dtype == torch.float16 and not rows_TF.isfinite().all():
            found, expected = f"{video.id} with values above 65504", "the range of half precision"
            raise BadInput(folder.features, found, expected, "keep the features in single precision")
        if not rows_TF[length // 2].any() and not rows_TF.any():
            blank.append(video.id)
    if blank:
        log.warning("%s: only zeros in the features of %s", folder.features, some(blank))
    featureless, misses = folder.without_features(role), (role, folder.missing) == ("test", "miss")
    if featureless:
        become = "count as misses" if misses else "are left out"
        named = some([video.id for video in featureless])
        log.warning("%s: no features of %s annotated for %s, which %s", folder.features, named, role, become)
    return Subset(videos, packed_NF, offset_V, length_V, tuple(featureless), misses)
