"""yt-dlp itself, against pages on this machine, and against YouTube as far as yt-dlp asks it without JavaScript."""

import json
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import av
import pytest
from helpers.internet import Internet, Reply, file, in_turn, page, redirect, refusal, value
from helpers.internet import youtube as imitated
from helpers.rendering import constant

from um.download import http, youtube
from um.errors import BadInput, Gone
from um.files import lasting_name

HIDDEN = lasting_name(Path("v_1"), ".download")

HASTY = http.Patience(connect=2, silence=5, tries=3, first_wait=0.01, longest_wait=0.05)
SITE = "https://videos.example"
WATCH = "https://www.youtube.com/watch?v="
ID = "abcDEF-_123"
BYTES = random.Random(7).randbytes(200_000)
NETSCAPE = "# Netscape HTTP Cookie File\n.videos.example\tTRUE\t/\tTRUE\t2147483647\tfriend\tyes\n"


@pytest.fixture
def internet(monkeypatch, tmp_path, capfd):
    """Nothing may be printed, or left in the home folder; no JavaScript runtime is installed."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with Internet() as internet:
        internet.plug_in(monkeypatch)
        yield internet
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "home").exists()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "videos"


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[int, bytes]:
    """Different videos, by the number of lines that they shall pass for."""
    root = tmp_path_factory.mktemp("clips")
    return {lines: constant(root / f"{lines}.mp4", 4 + lines // 40).read_bytes() for lines in (240, 360, 480)}


def fetch(url: str, folder: Path, *, report=http.ORDER.report, **options) -> Path:
    return youtube.fetch(url, folder, "v_1", http.Order(None, HASTY, report), **{"sleep": (0, 0), **options})


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def shown(internet: Internet, clips: dict[int, bytes], label: str = "{}p") -> str:
    """A page that shows one video in several sizes."""
    sources = "".join(f'<source src="/{n}.mp4" type="video/mp4" label="{label.format(n)}">' for n in clips)
    for lines, content in clips.items():
        internet.at(f"{SITE}/{lines}.mp4", file(content, "video/mp4"))
    return internet.at(f"{SITE}/watch", page(f"<html><title>A clip</title><video>{sources}</video></html>"))


@pytest.mark.parametrize(("height", "chosen"), [(360, 360), (400, 360), (300, 240), (144, 240), (1080, 480)])
def test_the_largest_that_is_small_enough_is_chosen(internet, folder, clips, height, chosen):
    path = fetch(shown(internet, clips), folder, height=height)
    assert path == folder / "v_1.mp4"
    assert path.read_bytes() == clips[chosen]
    assert names(folder) == ["v_1.mp4"]
    assert internet.paths("videos.example") == ["/watch", f"/{chosen}.mp4"]


def test_a_page_that_does_not_say_how_large_its_video_is(internet, folder, clips):
    assert fetch(shown(internet, {480: clips[480]}, label="hd"), folder).read_bytes() == clips[480]


def test_a_plain_link(internet, folder, clips):
    internet.at(f"{SITE}/dir/some%20clip.webm", file(clips[240], "video/webm"))
    assert fetch(f"{SITE}/dir/some%20clip.webm?key=1", folder) == folder / "v_1.webm"
    assert (folder / "v_1.webm").read_bytes() == clips[240]


def test_a_link_that_leads_to_another(internet, folder, clips):
    internet.at(f"{SITE}/short", redirect(shown(internet, clips)))
    assert fetch(f"{SITE}/short", folder).read_bytes() == clips[360]


def test_a_playlist_of_segments_needs_no_ffmpeg(internet, folder, tmp_path):
    segments = [constant(tmp_path / f"{i}.ts", 12 * (i + 1)).read_bytes() for i in range(2)]
    for i, content in enumerate(segments):
        internet.at(f"{SITE}/{i}.ts", in_turn(page("busy", 503), file(content, "video/mp2t")))
    listed = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n0.ts\n#EXTINF:1,\n1.ts\n#EXT-X-ENDLIST\n"
    url = internet.at(f"{SITE}/list.m3u8", file(listed.encode(), "application/vnd.apple.mpegurl"))
    path = fetch(url, folder)
    assert path.read_bytes() == b"".join(segments)
    with av.open(str(path)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 36
    assert names(folder) == ["v_1.mp4"]


def test_a_missing_segment_is_no_video(internet, folder):
    listed = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n0.ts\n#EXTINF:1,\n1.ts\n#EXT-X-ENDLIST\n"
    url = internet.at(f"{SITE}/list.m3u8", file(listed.encode(), "application/vnd.apple.mpegurl"))
    internet.at(f"{SITE}/0.ts", file(BYTES, "video/mp2t"))
    with pytest.raises(BadInput, match="404"):
        fetch(url, folder)
    assert not list(folder.glob("v_1*"))


def test_a_cut_download_goes_on(internet, folder):
    url = internet.at(f"{SITE}/a.mp4", in_turn(*[file(BYTES, "video/mp4", cut=30_000)] * 4, file(BYTES, "video/mp4")))
    assert fetch(url, folder).read_bytes() == BYTES
    starts = [int(request.headers.get("Range", "bytes=0-")[6:-1]) for request in internet.requests[1:]]
    assert len(starts) == 4
    assert all(30_000 - youtube.BLOCK <= later - earlier <= 30_000 for earlier, later in pairwise(starts))


def test_it_goes_on_after_it_has_given_up(internet, folder):
    url = internet.at(f"{SITE}/a.mp4", file(BYTES, "video/mp4", cut=20_000))
    with pytest.raises(BadInput, match="Giving up after 3 retries") as caught:
        fetch(url, folder)
    assert not isinstance(caught.value, Gone)
    assert names(folder) == [f"{HIDDEN}/mp4.mp4.part"]
    had = (folder / names(folder)[0]).stat().st_size
    before = len(internet.requests)
    internet.at(url, file(BYTES, "video/mp4"))
    assert fetch(url, folder).read_bytes() == BYTES
    assert [request.headers.get("Range") for request in internet.requests[before:]] == [None, f"bytes={had}-"]
    assert names(folder) == ["v_1.mp4"]


@pytest.mark.parametrize("had", [1, 100_000, len(BYTES) - 1, len(BYTES), len(BYTES) + 1])
def test_what_a_kill_leaves_behind_is_used_if_it_can_be(internet, folder, had):
    url = internet.at(f"{SITE}/a.mp4", file(BYTES, "video/mp4"))
    part = folder / f"{HIDDEN}/mp4.mp4.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((BYTES + b"?")[:had])
    assert fetch(url, folder).read_bytes() == BYTES
    assert names(folder) == ["v_1.mp4"]
    assert internet.requests[1].headers["Range"] == f"bytes={had}-"
    assert len(internet.requests) == (2 if had < len(BYTES) else 5)  # else: refused twice, begun again


def test_progress_is_reported(internet, folder):
    seen: list[tuple[int, int | None]] = []
    url = internet.at(f"{SITE}/a.mp4", file(BYTES, "video/mp4"))
    fetch(url, folder, report=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(BYTES), len(BYTES))
    assert seen == sorted(seen)


def test_it_sleeps_before_it_begins(internet, folder):
    url = internet.at(f"{SITE}/a.mp4", file(BYTES, "video/mp4"))
    started = time.monotonic()
    fetch(url, folder, sleep=(0.4, 0.5))
    assert time.monotonic() - started >= 0.4


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(internet, folder, clips, status):
    url = shown(internet, clips)
    answers = (page("busy", status), page("busy", status))
    internet.at(url, in_turn(*answers, page('<video src="/360.mp4"></video>')))
    assert fetch(url, folder).read_bytes() == clips[360]
    internet.at(f"{SITE}/b.mp4", in_turn(file(BYTES, "video/mp4"), *answers, file(BYTES, "video/mp4")))
    assert fetch(f"{SITE}/b.mp4", folder).read_bytes() == BYTES


def test_the_number_of_tries_is_not_multiplied(internet, folder):
    url = internet.at(f"{SITE}/a.mp4", in_turn(file(BYTES, "video/mp4"), page("busy", 503)))
    with pytest.raises(BadInput, match="503"):
        fetch(url, folder)
    assert len(internet.requests) == 1 + 1 + HASTY.tries


@pytest.mark.parametrize(
    ("handler", "kind", "found"),
    [
        (page("x", 404), Gone, "found HTTP 404"),
        (page("x", 410), Gone, "found HTTP 410"),
        (page("x", 403), BadInput, "HTTP Error 403"),
        (page("x", 429), BadInput, "HTTP Error 429"),
        (page("x", 503), BadInput, "HTTP Error 503"),
        (page("<html><title>News</title>nothing to see</html>"), BadInput, "Unsupported URL"),
        (page('<video src="/a.mp4"></video><video src="/b.mp4"></video>'), BadInput, "a list of videos"),
        (page('<video src="/nowhere.mp4"></video>'), Gone, "found HTTP 404"),
        (redirect(f"{SITE}/round"), BadInput, "redirect"),
        (redirect("https://other.example/"), BadInput, "502 no such host"),
    ],
)
def test_pages_without_one_video(internet, folder, handler, kind, found):
    for link in ("/page", "/round"):
        internet.at(f"{SITE}{link}", handler)
    internet.at(f"{SITE}/a.mp4", file(BYTES, "video/mp4"))
    internet.at(f"{SITE}/b.mp4", file(BYTES, "video/mp4"))
    with pytest.raises(BadInput, match=found) as caught:
        fetch(f"{SITE}/page", folder)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert "report this issue" not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_cookies_are_sent_and_never_written(internet, folder, tmp_path):
    cookies = tmp_path / "cookies.txt"
    cookies.write_text(NETSCAPE)
    cookies.chmod(0o400)
    before = cookies.stat()
    answer = Reply(b'<video src="/a.mp4"></video>', 200, {"Content-Type": "text/html", "Set-Cookie": "seen=1"})
    url = internet.at(f"{SITE}/page", in_turn(page("busy", 429), page("busy", 429), lambda request: answer))
    internet.at(f"{SITE}/a.mp4", file(BYTES, "video/mp4"))
    fetch(url, folder, cookies=cookies)
    assert [request.headers["Cookie"] for request in internet.requests] == ["friend=yes"] * 3 + ["friend=yes; seen=1"]
    assert cookies.read_text() == NETSCAPE
    assert cookies.stat().st_mtime_ns == before.st_mtime_ns
    assert not list(tmp_path.glob("cookies*~"))


def test_wrong_cookies(internet, folder, tmp_path):
    (tmp_path / "not.txt").write_text('{"cookies": []}')
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, found in (
        ("none", "no such file"),
        ("not.txt", "something else"),
        ("binary", "damaged UTF-16"),
        ("", "a folder"),
    ):
        with pytest.raises(BadInput, match=found) as caught:
            fetch(f"{SITE}/page", folder, cookies=tmp_path / name)
        assert "in Netscape's format" in caught.value.expected
    assert internet.requests == []


def test_nobody_elses_plugins_or_settings(internet, folder, tmp_path):
    home = tmp_path / "elsewhere"
    plugin = home / ".config/yt-dlp/plugins/mine/yt_dlp_plugins/extractor/mine.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (home / ".config/yt-dlp/config").write_text("--output elsewhere.mp4\n")
    internet.at(f"{SITE}/a.mp4", file(BYTES, "video/mp4"))
    program = (
        "from pathlib import Path; from um.download import youtube;"
        f"youtube.fetch('{SITE}/a.mp4', Path('v'), 'x', sleep=(0, 0))"
    )
    environment = {**internet.environment(), "HOME": str(home), "PATH": ""}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env=environment)
    assert names(tmp_path / "v") == ["x.mp4"]
    assert not (tmp_path / "ran").exists()
    assert not (home / ".cache").exists()


def test_what_is_youtube():
    for host in ("www.youtube.com", "youtube.com", "m.youtube.com", "youtu.be", "www.youtube-nocookie.com"):
        assert youtube.is_youtube(f"https://{host}/x")
    for url in ("https://youtube.com.example.org/x", "https://notyoutube.com/x", "youtube.com", ""):
        assert not youtube.is_youtube(url)


@pytest.mark.parametrize("url", [WATCH + ID, f"https://youtu.be/{ID}", f"{WATCH}{ID}&list=PLabcdefghijklmnop&index=2"])
def test_a_video_of_youtube(internet, folder, clips, url):
    imitated(internet, {ID: {lines: file(content, "video/mp4") for lines, content in clips.items()}})
    assert fetch(url, folder) == folder / "v_1.mp4"
    assert (folder / "v_1.mp4").read_bytes() == clips[360]
    assert names(folder) == ["v_1.mp4"]
    assert internet.requests[-1].query["itag"] == "134"  # H.264, not VP9 or AV1


def test_a_video_of_youtube_goes_on_after_a_cut(internet, folder):
    imitated(internet, {ID: {240: file(BYTES, "video/mp4", cut=20_000)}})
    with pytest.raises(BadInput, match="Giving up"):
        fetch(WATCH + ID, folder)
    assert names(folder) == [f"{HIDDEN}/133.mp4.part"]
    imitated(internet, {ID: {240: file(BYTES, "video/mp4")}})
    assert fetch(WATCH + ID, folder).read_bytes() == BYTES
    assert int(internet.requests[-1].headers["Range"].split("=")[1].split("-")[0]) >= 60_000


UNAVAILABLE = "Video unavailable"
INAPPROPRIATE = "This video may be inappropriate for some users."
TERMINATED = "This video is no longer available because the YouTube account associated with this video has been "
# (headline, detail) of YouTube's player → reason, or none: as quoted in yt-dlp's source (2026.10.26), in its issues
# and in those of other programs that read them
SAYINGS = [
    ("Private video", "Sign in if you've been granted access to this video", "private"),
    (UNAVAILABLE, "This video is private", "private"),
    ("This video is private", "", "private"),
    (UNAVAILABLE, "This video has been removed by the uploader", "removed"),
    (UNAVAILABLE, "This video has been removed by the user.", "removed"),
    ("This video has been removed for violating YouTube's Terms of Service", "", "removed"),
    ("This video has been removed for violating YouTube's policy on hate speech.", "", "removed"),
    ("This video has been removed because it violates YouTube's Community Guidelines.", "", "removed"),
    (UNAVAILABLE, TERMINATED + "terminated.", "terminated account"),
    (UNAVAILABLE, TERMINATED + "closed.", "terminated account"),
    (
        UNAVAILABLE,
        TERMINATED + "terminated due to multiple third-party notifications of copyright infringement.",
        "terminated account",
    ),
    (UNAVAILABLE, "This video is no longer available due to a copyright claim by A Company, Inc.", "copyright"),
    (UNAVAILABLE, "This video contains content from SME, who has blocked it on copyright grounds.", "copyright"),
    (
        UNAVAILABLE,
        "This video contains content from SME, who has blocked it in your country on copyright grounds.",
        "not in this country",
    ),
    (UNAVAILABLE, "The uploader has not made this video available in your country", "not in this country"),
    (UNAVAILABLE, "This video is not available in your country", "not in this country"),
    (
        "Join this channel to get access to members-only content like this video, and other exclusive perks.",
        "",
        "members only",
    ),
    ("This video is available to this channel's members on level: Friends (or any higher level).", "", "members only"),
    ("This video is only available to Music Premium members", "", "members only"),
    ("This video requires payment to watch", "", "paid"),
    (UNAVAILABLE, "This live stream recording is not available.", "live"),
    (UNAVAILABLE, "This video isn't available anymore", "unavailable"),
    # what passes
    ("Sign in to confirm you’re not a bot", "This helps protect our community. Learn more", None),
    ("Sign in to confirm you're not a bot", "", None),
    (UNAVAILABLE, "This content isn't available, try again later.", None),
    (UNAVAILABLE, "This content isn’t available.", None),
    ("The following content is not available on this app.", "Watch on the latest version of YouTube.", None),
    ("This live event will begin in 2 days.", "", None),
    ("Premieres in 6 hours", "", None),
    ("Premiere will begin shortly", "", None),
    ("Please sign in", "", None),
    ("Some sentence that nobody has seen yet", "", None),
]


@pytest.fixture
def runtime(tmp_path) -> None:
    """A JavaScript runtime, as far as yt-dlp looks at it before it has formats to choose from."""
    deno = tmp_path / "bin/deno"
    deno.parent.mkdir()
    deno.write_text("#!/bin/sh\necho 'deno 2.5.6 (stable, release, x86_64-unknown-linux-gnu)'\n")
    deno.chmod(0o755)


def refused(internet: Internet, folder: Path, answer: dict, **options) -> BadInput:
    imitated(internet, {ID: answer})
    with pytest.raises(BadInput) as caught:
        fetch(WATCH + ID, folder, **options)
    assert list(folder.iterdir()) == []
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


@pytest.mark.parametrize(("headline", "detail", "reason"), SAYINGS)
def test_what_youtube_says(internet, folder, runtime, headline, detail, reason):
    error = refused(internet, folder, refusal(headline, detail, "ERROR" if reason else "LOGIN_REQUIRED"))
    if reason:
        assert (type(error), error.found) == (Gone, reason)
        assert (detail or headline).rstrip(".") in error.hint
    else:
        assert type(error) is BadInput
        assert headline.replace("’", "'").rstrip(".") in error.found
        assert "cookies" in error.hint


def test_every_reason_has_been_heard():
    heard = {reason for _, _, reason in SAYINGS} - {None}
    assert heard | {"age-restricted"} == set(youtube.REASONS)


@pytest.mark.parametrize("detail", ["", "This video is not available", "This video is unavailable"])
def test_unavailable_counts_only_if_javascript_ran(internet, folder, request, detail):
    error = refused(internet, folder, refusal(UNAVAILABLE, detail))
    assert type(error) is BadInput
    assert "install deno" in error.hint
    request.getfixturevalue("runtime")
    error = refused(internet, folder, refusal(UNAVAILABLE, detail))
    assert (type(error), error.found) == (Gone, "unavailable")


@pytest.mark.parametrize(("headline", "detail"), [("Sign in to confirm your age", INAPPROPRIATE), (INAPPROPRIATE, "")])
def test_an_age_limit_counts_only_with_cookies(internet, folder, tmp_path, runtime, headline, detail):
    answer = refusal(headline, detail, "LOGIN_REQUIRED")
    client = {"INNERTUBE_CONTEXT": {"client": {"clientName": "WEB_EMBEDDED_PLAYER", "clientVersion": "1.2025"}}}
    internet.at(f"https://www.youtube.com/embed/{ID}", page(f"<script>ytcfg.set({json.dumps(client)});</script>"))
    error = refused(internet, folder, answer)
    assert type(error) is BadInput
    assert "inappropriate" in error.found
    assert "cookies" in error.hint
    (tmp_path / "cookies.txt").write_text(NETSCAPE)
    error = refused(internet, folder, answer, cookies=tmp_path / "cookies.txt")
    assert (type(error), error.found) == (Gone, "age-restricted")


def test_youtube_that_turns_everybody_away(internet, folder):
    imitated(internet, {})
    internet.at("https://www.youtube.com/youtubei/v1/player", page("slow down", 429))
    with pytest.raises(BadInput, match="Failed to extract any player response") as caught:
        fetch(WATCH + ID, folder)
    assert type(caught.value) is BadInput


def test_the_part_of_a_video_that_has_gone_meanwhile_goes_too(internet, folder):
    imitated(internet, {ID: {240: file(BYTES, "video/mp4", cut=20_000)}})
    with pytest.raises(BadInput, match="Giving up"):
        fetch(WATCH + ID, folder)
    assert names(folder)
    refused(internet, folder, refusal("This video is private"))


def test_a_broadcast_that_still_runs(internet, folder):
    imitated(internet, {ID: {360: file(BYTES, "video/mp4")}})
    details = {"videoId": ID, "title": "now", "isLive": True}
    streams = {"adaptiveFormats": [{"itag": 134, "url": f"{SITE}/x", "mimeType": 'video/mp4; codecs="avc1.4d401e"'}]}
    answer = {"videoDetails": details, "playabilityStatus": {"status": "OK"}, "streamingData": streams}
    internet.at("https://www.youtube.com/youtubei/v1/player", value(answer))
    with pytest.raises(BadInput, match="a broadcast that has not ended") as caught:
        fetch(WATCH + ID, folder)
    assert type(caught.value) is BadInput


def test_a_list_of_youtube(internet, folder):
    imitated(internet, {ID: {360: file(BYTES, "video/mp4")}})
    video = {"playlistVideoRenderer": {"videoId": ID, "title": {"simpleText": "one"}}}
    section = {"itemSectionRenderer": {"contents": [{"playlistVideoListRenderer": {"contents": [video] * 3}}]}}
    tab = {"tabRenderer": {"selected": True, "content": {"sectionListRenderer": {"contents": [section]}}}}
    data = {"contents": {"twoColumnBrowseResultsRenderer": {"tabs": [tab]}}}
    url = internet.at(
        "https://www.youtube.com/playlist", page(f"<script>var ytInitialData = {json.dumps(data)};</script>")
    )
    with pytest.raises(BadInput, match="a list of videos"):
        fetch(f"{url}?list=PLabcdefghijklmnopqrst", folder)
    assert "/videoplayback" not in "".join(request.path for request in internet.requests)
