"""Sizes of a training that follow from its videos: the values of `auto`."""

from torch import Tensor

from um.params import AUTO, Train

LONGEST = 750  # the official code's T, for THUMOS14
SHORTEST = 16
STEPS_PER_VIDEO = 8  # 128 passes with a batch of 16
FEWEST, MOST = 300, 10_000  # steps; the official code's for THUMOS14 is the most
EVALUATIONS, RAREST = 4, 500


def resolved(settings: Train, length_V: Tensor) -> Train:
    """The settings with a number for every `auto`.

    - num_segments: twice the median length, so that most videos keep all their snippets.
    - iterations: eight per video. More overfit, and fewer leave the average of the weights behind (docs/ours.md).
    - eval_every: a quarter of the iterations.

    Args:
        settings: of the training.
        length_V: snippets per training video.
    """
    T = settings.num_segments or min(LONGEST, max(SHORTEST, 2 * int(length_V.median())))
    iterations = settings.iterations or min(MOST, max(FEWEST, STEPS_PER_VIDEO * len(length_V)))
    eval_every = settings.eval_every or min(RAREST, -(-iterations // EVALUATIONS))
    return settings.model_copy(update={"num_segments": T, "iterations": iterations, "eval_every": eval_every})


def chosen(settings: Train, numbers: Train, length_V: Tensor) -> str:
    """One line about the numbers that were chosen; empty if none was."""
    names = [name for name in ("num_segments", "iterations", "eval_every") if getattr(settings, name) == AUTO]
    if not names:
        return ""
    values = ", ".join(f"{name} {getattr(numbers, name):,}" for name in names)
    return f"auto, from {len(length_V):,} training videos of {int(length_V.median())} snippets (median): {values}"
