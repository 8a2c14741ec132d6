"""Published scores of UM, as printed, in percent."""

from typing import NamedTuple


class Published(NamedTuple):
    """One published row.

    Attributes:
        method: row name in the table.
        tiou: thresholds of the average.
        mAP: tIoU → percent, for the thresholds in the source.
        average: percent.
        source: publication or web page.
    """

    method: str
    tiou: str
    mAP: dict[str, float]
    average: float
    source: str


PAPER, OFFICIAL, SEED = "Paper", "Official code", "Seed"

POSTER = "Lee et al., AAAI 2021 (poster; best of all iterations on the test subset)"
USER_RUN = "github.com/Pilhyeon/WTAL-Uncertainty-Modeling issue 11, a user's run of the official code"
SEED_README = "README of github.com/leftthomas/UM"

THUMOS, ACTIVITYNET = "0.1:0.7:0.1", "0.5:0.95:0.05"


def _thumos(*percent: float) -> dict[str, float]:
    return dict(zip(("0.10", "0.20", "0.30", "0.40", "0.50", "0.60", "0.70"), percent, strict=True))


def _activitynet(*percent: float) -> dict[str, float]:
    return dict(zip(("0.50", "0.75", "0.95"), percent, strict=True))


PUBLISHED: dict[str, list[Published]] = {
    "thumos14": [
        Published(PAPER, THUMOS, _thumos(67.5, 61.2, 52.3, 43.4, 33.7, 22.9, 12.1), 41.9, POSTER),
        Published(OFFICIAL, THUMOS, _thumos(65.5, 58.4, 50.5, 41.6, 32.5, 22.7, 11.6), 40.4, USER_RUN),
        Published(SEED, THUMOS, _thumos(60.3, 54.3, 45.7, 37.2, 27.8, 18.2, 9.2), 36.1, SEED_README),
    ],
    "activitynet1.2": [
        Published(PAPER, ACTIVITYNET, _activitynet(41.2, 25.6, 6.0), 25.9, POSTER),
        Published(SEED, ACTIVITYNET, _activitynet(1.7, 0.5, 0.0), 0.7, SEED_README),
    ],
    "activitynet1.3": [
        Published(PAPER, ACTIVITYNET, _activitynet(37.0, 23.9, 5.7), 23.7, POSTER),
        Published(SEED, ACTIVITYNET, _activitynet(0.1, 0.1, 0.0), 0.1, SEED_README),
    ],
}

FIELD = {"thumos14": "THUMOS14", "activitynet1.2": "ActivityNet 1.2", "activitynet1.3": "ActivityNet 1.3"}

# The paper's ablation, THUMOS14 (poster): variant of params.yaml → row.
ABLATION = {
    "softmax": Published("Softmax", THUMOS, _thumos(42.3, 35.1, 27.7, 21.7, 16.4, 10.5, 4.6), 22.6, POSTER),
    "fusion": Published("Fusion", THUMOS, _thumos(58.8, 50.0, 40.5, 31.7, 23.6, 15.5, 7.2), 32.5, POSTER),
    "fusion_um": Published("Fusion, L_um", THUMOS, _thumos(65.3, 59.2, 50.8, 42.3, 32.4, 21.1, 10.4), 40.2, POSTER),
    "official": PUBLISHED["thumos14"][0]._replace(method="Fusion, L_um, L_be"),
}
