"""Settings of a training that follow from its videos: the values of `auto`."""

from torch import Tensor

from um.params import AUTO, Train

LONGEST, SHORTEST = 750, 16  # T; the official code's for THUMOS14 is the most
FEW = 100  # videos
WIDE, NARROW = 2048, 512  # D
STEPS_PER_VIDEO, STEPS_PER_CLASS = 5, 25  # 80 passes with a batch of 16
MOST, FEWEST = 10_000, 300  # steps; likewise
EVALUATIONS, RAREST = 4, 500
AUTOMATIC = ("num_segments", "embedding_dim", "lr", "iterations", "eval_every")


def resolved(settings: Train, length_V: Tensor, C: int) -> Train:
    """The settings with a number for every `auto` (docs/ours.md has the measurements).

    - num_segments: twice the median length, so that most videos keep all their snippets.
    - embedding_dim: 512 for fewer than 100 videos, which learn as well from a quarter of the channels.
    - lr: 4e-4 for fewer than 1024 channels, else the official code's.
    - iterations: five per video and 25 per class, because the mean over classes slows learning. More overfit.
    - eval_every: a quarter of the iterations.

    Args:
        settings: of the training.
        length_V: snippets per training video.
        C: number of classes.
    """
    V, T = len(length_V), 2 * int(length_V.median())
    D = settings.embedding_dim or (NARROW if V < FEW else WIDE)
    iterations = settings.iterations or min(MOST, max(FEWEST, STEPS_PER_VIDEO * V, STEPS_PER_CLASS * C))
    numbers = {
        "num_segments": settings.num_segments or min(LONGEST, max(SHORTEST, T)),
        "embedding_dim": D,
        "lr": settings.lr or (4e-4 if D < 1024 else 1e-4),
        "iterations": iterations,
        "eval_every": settings.eval_every or min(RAREST, -(-iterations // EVALUATIONS)),
    }
    return settings.model_copy(update=numbers)


def told(asked: Train, numbers: Train, length_V: Tensor) -> str:
    """One line about the numbers that stand for `auto`; empty if there is none."""
    names = [name for name in AUTOMATIC if getattr(asked, name) == AUTO]
    if not names:
        return ""
    words = ", ".join(f"{name} {getattr(numbers, name):g}" for name in names)
    return f"auto, from {len(length_V):,} training videos of {int(length_V.median())} snippets (median): {words}"
