"""The figures of `um report`: names, titles and captions; light, because the workflow plans with them."""

from typing import NamedTuple


class Caption(NamedTuple):
    """The words about one figure.

    Attributes:
        title: two to four words.
        text: what to see, in one sentence.
    """

    title: str
    text: str


CAPTIONS = {
    "map_by_tiou": Caption(
        "mAP by tIoU",
        "Average precision falls as the required overlap (tIoU) grows; the band is the 95 % interval over resampled "
        "test videos and seeds.",
    ),
    "ap_by_class": Caption(
        "AP by class",
        "Classes differ in difficulty: average precision of each class, averaged over the tIoU thresholds; a mark is "
        "the mean of the seeds, small dots are single seeds.",
    ),
    "precision_recall": Caption(
        "Precision and recall",
        "How many of the best-ranked predictions are right, and how many of the true instances they find; a curve that "
        "ends early has missed the others.",
    ),
    "training": Caption(
        "Training",
        "Losses at each evaluation of the training, and the score of each checkpoint on the test subset, which is not "
        "used to train; thin lines are seeds, thick lines their mean.",
    ),
    "magnitudes": Caption(
        "Magnitudes",
        "Training asks for long embeddings of action, up to the margin, and short ones of background: the less the two "
        "histograms overlap, the better.",
    ),
    "examples": Caption(
        "Examples",
        "Curves and segments of test videos, by default those with the best, the median and the worst score: segments "
        "are cut from the fused score, which is the class score times the probability of action.",
    ),
    "false_positives": Caption(
        "False positives",
        "Left: outcomes of each class's best-ranked predictions, in steps of its number of instances; right: what "
        "average mAP would gain without each kind of error.",
    ),
    "missed": Caption(
        "Missed instances",
        "Which instances are not found: by their length, by the share of the video that they cover, and by the number "
        "of instances in the video; averaged over the tIoU thresholds.",
    ),
}
