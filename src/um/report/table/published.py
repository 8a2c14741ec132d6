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

PRINTED = list(dict.fromkeys(row.method for rows in PUBLISHED.values() for row in rows))  # the order of rows

# Later methods with video-level labels: averages on THUMOS14, ActivityNet 1.2 and 1.3.
LATER_SOURCE = "github.com/Pilhyeon/Awesome-Weakly-Supervised-Temporal-Action-Localization, and the methods' READMEs"
LATER: list[tuple[str, int, float | None, float | None, float | None]] = [
    ("BaS-Net", 2020, 35.3, 24.3, 22.2),
    ("A2CL-PT", 2020, 37.8, None, 22.5),
    ("HAM-Net", 2021, 41.1, 25.1, None),
    ("CoLA", 2021, 40.9, 26.1, None),
    ("TS-PCA", 2021, 42.6, None, 23.7),
    ("FAC-Net", 2021, 42.2, None, 24.0),
    ("UGCT", 2021, 43.6, 25.8, 23.8),
    ("CO2-Net", 2021, 44.6, 26.4, None),
    ("FTCL", 2022, 43.6, None, 24.8),
    ("RSKP", 2022, 45.1, None, 25.0),
    ("ASM-Loc", 2022, 45.1, None, 25.1),
    ("DELU", 2022, 46.4, 26.9, None),
    ("TFE-DCN", 2023, 46.9, None, 25.3),
    ("AICL", 2023, 46.4, 29.9, 27.6),
    ("Boosting-WTAL", 2023, None, None, 26.0),
    ("P-MIL", 2023, 47.0, 26.5, 25.5),
    ("DDG-Net", 2023, 47.3, 27.0, None),
    ("CASE", 2023, 46.2, 27.9, 26.8),
    ("GauFuse", 2023, 48.3, None, 28.8),
    ("PivoTAL", 2023, 49.6, None, 28.1),
    ("ACRNet", 2023, 47.5, 28.4, 25.7),
    ("ProCL", 2024, 48.6, None, 26.1),
    ("FuSTAL", 2024, 50.8, None, None),
]

FIELD = {"thumos14": "THUMOS14", "activitynet1.2": "ActivityNet 1.2", "activitynet1.3": "ActivityNet 1.3"}

# The paper's ablation, THUMOS14 (poster): variant of params.yaml → row.
ABLATION = {
    "softmax": Published("Softmax", THUMOS, _thumos(42.3, 35.1, 27.7, 21.7, 16.4, 10.5, 4.6), 22.6, POSTER),
    "fusion": Published("Fusion", THUMOS, _thumos(58.8, 50.0, 40.5, 31.7, 23.6, 15.5, 7.2), 32.5, POSTER),
    "fusion_um": Published("Fusion, L_um", THUMOS, _thumos(65.3, 59.2, 50.8, 42.3, 32.4, 21.1, 10.4), 40.2, POSTER),
    "official": PUBLISHED["thumos14"][0]._replace(method="Fusion, L_um, L_be"),
}


def rows_of(dataset: str, with_later: bool = False) -> list[Published]:
    """The published rows of a dataset; of later methods, the averages alone."""
    rows = list(PUBLISHED.get(dataset, []))
    if with_later and dataset in FIELD:
        column = 2 + list(FIELD).index(dataset)
        known = [(f"{row[0]} ({row[1]})", row[column]) for row in LATER]
        averages = [(name, float(average)) for name, average in known if average is not None]
        rows += [Published(name, rows[0].tiou, {}, average, LATER_SOURCE) for name, average in averages]
    return rows
