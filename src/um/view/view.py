"""`um view`: a page for a video with its predictions, written beside it or served."""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from um.datasets.annotations import Instance, load, video_id
from um.errors import BadInput, plain, some
from um.evaluation.submission import read_submission
from um.files import atomic, check_ours
from um.forms import check_file
from um.video import probe
from um.video.container import opened, pictures
from um.view import page, server

log = logging.getLogger(__name__)

PLAYED = {".mp4", ".m4v", ".mov", ".webm", ".ogg", ".ogv"}  # by all browsers, with the codecs below
CODECS = {"h264", "vp8", "vp9", "av1", "theora"}


def view(video: Path, predictions: Path, annotations: Path | None, out: Path | None, port: int | None) -> None:
    """Write the page of a video, or serve it.

    Args:
        video: file whose name without suffix is its id.
        predictions: ActivityNet submission.
        annotations: file that lists the video.
        out: page to write; default: named after the video, in the working directory.
        port: to serve it at, instead; 0: any.

    Raises:
        BadInput: an unreadable file, a file that does not list the video, or another file in the place of the page.
    """
    out = out or Path(f"{video.stem}.html")
    if port is None:
        check_ours(out, page.BEGINNING)
    check_file(video, "a video file")
    name, found = video_id(video.stem), read_submission(predictions)
    hint = "name the video file after its id"
    if name not in found.videos:
        raise BadInput(predictions, f"no video {name}, but {some(found.videos)}", f"one for {video}", hint)
    truth: Sequence[Instance] | None = None
    length = None
    if annotations:
        listed = load(annotations).videos
        if name not in listed:
            raise BadInput(annotations, f"no video {name}, but {some(list(listed))}", f"one for {video}", hint)
        truth, length = listed[name].instances, listed[name].duration
    rows = found.predictions[found.predictions["video"] == name]
    content = described(video, out, rows, truth, length)
    if port is None:
        with atomic(out) as temporary:
            temporary.write_text(page.render(content), "utf-8")
        print(f"{out}: {len(rows):,} segments")
    else:
        server.serve(page.render(content._replace(source=server.source(video))), video, port)


def described(
    video: Path, out: Path, segments: pd.DataFrame, truth: Sequence[Instance] | None, length: float | None
) -> page.Page:
    """The page of a video.

    Args:
        video: file.
        out: file of the page.
        segments: columns label, score, start and end.
        truth: annotated instances, if known.
        length: seconds of the video, if its container declares none.
    """
    declared = measured(video)
    last = max([*segments["end"], *(instance.end for instance in truth or ()), 0.0])
    convert = conversion(Path(video.name))
    seconds = declared or length or last or 1.0
    return page.Page(video_id(video.stem), page.address(video, out), video.name, convert, seconds, segments, truth)


def measured(video: Path) -> float | None:
    """Seconds of a video, if its container declares them; warns if browsers may not play it.

    Raises:
        BadInput: not a video file.
    """
    with opened(video) as container:
        codec = pictures(container, video).codec_context.name
    if video.suffix.lower() not in PLAYED or codec not in CODECS:
        what = plain(f"{codec} in {video.suffix or 'a file without suffix'}")
        log.warning("%s: browsers may not play %s; to convert it: %s", plain(str(video), 4096), what, conversion(video))
    return probe.seconds(video)


def conversion(video: Path) -> str:
    """A command that makes a file of the same name that all browsers play."""
    made = video.with_suffix(".mp4")
    before = ""
    if made == video:
        made = video.parent / "converted" / video.name
        before = f"mkdir -p {shlex.quote(str(made.parent))} && "
    into = shlex.quote(str(made))
    return f"{before}ffmpeg -i {shlex.quote(str(video))} -c:v libx264 -pix_fmt yuv420p {into}"
