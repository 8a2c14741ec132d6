"""What a container says of its video, without decoding it."""

from pathlib import Path

import av

from um.errors import BadInput
from um.video.damage import REFETCH


def seconds(path: Path) -> float | None:
    """Length of the pictures as the container declares it; None where it does not.

    Raises:
        BadInput: not a video, or one without pictures.
    """
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
            if not streams:
                raise BadInput(path, "no video stream", "a file with moving pictures", "is this a sound file?")
            if streams[0].duration and streams[0].time_base:
                return float(streams[0].duration * streams[0].time_base)
            return container.duration / av.time_base if container.duration else None
    except av.error.FFmpegError as error:
        raise BadInput(path, f"a file that cannot be read ({error.strerror or error})", "a video", REFETCH) from None
