"""`um view`: what is in the page, how it is served, and how it behaves in a real browser."""

import http.client
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from socketserver import BaseServer
from threading import Thread
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
import pytest
from helpers import browsing
from helpers.rendering import SIDE, constant, number

from um.datasets.annotations import Instance
from um.method.localize import Curves
from um.report.export import distinct
from um.view.page import BEGINNING, Page, Traced, address, render
from um.view.server import Server, asked

SECONDS = 10
HOSTILE = "</script><img src=x onerror=\"document.title='hit'\"> -- 'q' & <!-- \u2028 \u202e"
SHOWN = HOSTILE.replace("\u2028", "\\u2028").replace("\u202e", "\\u202e")
FOUND = [  # label, score, start, end; the third and fourth are not distinct
    ("run", 0.9, 2.0, 4.0),
    ("run", 0.6, 6.0, 7.0),
    ("run", 0.5, 2.5, 3.5),
    ("run", 0.2, 8.0, 9.0),
    (HOSTILE, 0.7, 5.0, 8.0),
]
ROWS = pd.DataFrame([("v", *row) for row in FOUND], columns=["video", "label", "score", "start", "end"])
TRUTH = [Instance("run", 2.2, 4.1), Instance("swim", 0.5, 1.0)]
CURVES = Curves(np.array([0.9, 0.1]), np.linspace(0, 1, 40).reshape(20, 2), np.linspace(1, 0, 20))
PAGE = Page("v", "v.mp4", "v.mp4", "ffmpeg", SECONDS, ROWS, TRUTH, Traced(CURVES, ["run", "throw"], 9.6))


def data_of(text: str) -> dict:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_lanes_hold_every_segment_and_mark_the_distinct_ones():
    data = data_of(render(PAGE))
    assert [lane["label"] for lane in data["lanes"]] == ["run", SHOWN, "swim"]
    run, hostile, swim = data["lanes"]
    assert [row[:3] for row in run["found"]] == [[a, b, score] for _, score, a, b in FOUND[:4]]
    assert [row[3] for row in run["found"]] == [1, 1, 0, 0]
    assert sum(row[3] for lane in data["lanes"] for row in lane["found"]) == len(distinct(ROWS))
    assert (run["truth"], hostile["truth"], swim["truth"]) == ([[2.2, 4.1]], [], [[0.5, 1.0]])
    assert run["curve"] == [round(value, 3) for value in CURVES.fused_TC[:, 0]]
    assert (hostile["curve"], len(data["magnitude"]), data["curveSeconds"]) == (None, 20, 9.6)


def test_of_two_equal_segments_one_is_distinct():
    (lane,) = data_of(render(PAGE._replace(segments=pd.concat([ROWS[:1]] * 2), truth=None)))["lanes"]
    assert [row[3] for row in lane["found"]] == [1, 0]


@pytest.mark.parametrize(
    ("scores", "low", "high"), [([0.1, 0.7], 0, 1), ([], 0, 1), ([-3.0, 7.5], -3, 7.5), ([1e-5, 3e-5], 0, 3e-5)]
)
def test_the_slider_spans_the_scores(scores, low, high):
    rows = ROWS[: len(scores)].assign(score=scores)
    data = data_of(render(PAGE._replace(segments=rows, truth=None, traced=None)))
    assert (data["low"], data["high"], data["annotated"], data["magnitude"]) == (low, high, False, None)


def test_equal_content_gives_equal_bytes_without_a_network():
    text = render(PAGE)
    assert text == render(PAGE._replace(segments=ROWS.copy()))
    assert text.startswith(BEGINNING)
    addresses = set(re.findall(r"https?://[^\"' ]*", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not a link
    assert "default-src 'none'" in text


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}


def test_names_and_labels_cannot_become_html():
    hostile = PAGE._replace(name=HOSTILE, file=HOSTILE, convert=HOSTILE, source=address(Path(HOSTILE), Path("a.html")))
    elements, plain = Elements(render(hostile)), Elements(render(PAGE))
    assert elements.names == plain.names
    assert not [name for name in elements.attributes if name.startswith("on")]
    assert "\u202e" not in render(hostile)
    assert "\udcff" not in render(PAGE._replace(name="\udcff"))  # a file name that is not UTF-8


@pytest.mark.parametrize("name", ["a b#c?d%41ä.mp4", "a:b.mp4", "-x.mp4", os.fsdecode(b"\xff.mp4"), '"><b>.mp4'])
def test_the_address_of_a_video_is_relative_and_quoted(name):
    where = address(Path("/films/test") / name, Path("/films/pages/x.html"))
    assert re.fullmatch(r"[\w./%~-]+", where, re.ASCII)
    assert unquote(where, errors="surrogateescape") == f"../test/{name}"
    assert re.match(r"[\w%.-]+", address(Path(name), Path("x.html")), re.ASCII)[0] == address(
        Path(name), Path("x.html")
    )


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """A video in which every frame carries its number, in a folder with a space and a sharp."""
    folder = tmp_path_factory.mktemp("films") / "my #1 films"
    folder.mkdir()
    return constant(folder / "v_abcdefghijk.mp4", 25 * SECONDS)


def inputs(name: str = "abcdefghijk") -> list[str]:
    """Options of `um view`, and the files that they name."""
    entries = [{"label": label, "score": score, "segment": [a, b]} for label, score, a, b in FOUND]
    Path("p.json").write_text(json.dumps({"results": {name: entries, "other": []}}))
    truth = [{"label": i.label, "segment": [i.start, i.end]} for i in TRUTH]
    listed = {"subset": "test", "duration": SECONDS, "annotations": truth}
    Path("a.json").write_text(json.dumps({"database": {name: listed}}))
    return ["--predictions", "p.json", "--annotations", "a.json"]


def test_a_page_in_this_folder_leads_to_the_video(um, film):
    assert um("view", film, *inputs())[:2] == (0, "v_abcdefghijk.html: 5 segments\n")
    once = Path("v_abcdefghijk.html").read_bytes()
    source = re.search(rb'src="([^"]+)"', once)[1].decode()
    assert (Path.cwd() / unquote(source)).samefile(film)
    assert data_of(once.decode())["duration"] == SECONDS
    assert um("view", film, *inputs())[0] == 0
    assert Path("v_abcdefghijk.html").read_bytes() == once
    assert um("view", film, *inputs()[:2], "--out", "deep/page.html")[0] == 0
    assert data_of(Path("deep/page.html").read_text())["annotated"] is False


def refused(outcome: tuple[int, str, str], *said: str) -> None:
    code, _, printed = outcome
    assert (code, printed.count("\n")) == (2, 1), printed
    for word in said:
        assert word in printed


def test_what_is_refused_in_one_line(um, film):
    words = ["view", film, *inputs()]
    theirs = Path("v_abcdefghijk.html")
    theirs.write_text("<!doctype html>\n<p>mine")
    refused(um(*words), "v_abcdefghijk.html: found another file")
    assert theirs.read_text().endswith("mine")
    theirs.unlink()
    refused(um("view", film, *inputs("x")), "p.json", "no video abcdefghijk, but 2 videos (x, other)")
    inputs()
    Path("a.json").write_text(Path("a.json").read_text().replace("abcdefghijk", "y"))
    refused(um(*words), "a.json", "no video abcdefghijk, but 1 video (y)")
    refused(um("view", "nowhere.mp4", *inputs()), "nowhere.mp4: found no such file")
    Path("abcdefghijk.mp4").write_text("no video")
    refused(um("view", "abcdefghijk.mp4", *inputs()), "abcdefghijk.mp4")
    refused(um(*words, "--serve", "--out", "x.html"), "both --out and --serve")
    refused(um(*words, "--port", 8000), "--port without --serve")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(um(*words, "--serve", "--port", port), f"--port {port}: found a port that is in use")
    assert not list(Path().glob("*.html"))


def old_film(path: Path) -> Path:
    """A file that browsers do not play."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = SIDE
        for _ in range(25):
            container.mux(stream.encode(av.VideoFrame(SIDE, SIDE, "yuv420p")))
        container.mux(stream.encode(None))
    return path


def test_a_video_that_browsers_do_not_play_gets_a_page_and_a_warning(um, tmp_path, caplog):
    for suffix, command in (("avi", "ffmpeg -i abcdefghijk.avi "), ("mp4", "mkdir -p converted && ffmpeg -i ")):
        caplog.clear()
        film = old_film(Path(f"abcdefghijk.{suffix}"))
        code, _, _ = um("view", film, *inputs())
        assert code == 0
        assert f"browsers may not play mpeg4 in .{suffix}; to convert it: {command}" in caplog.text
        assert command in Path("abcdefghijk.html").read_text().replace("&amp;", "&")


@pytest.fixture
def served(film) -> Iterator[Server]:
    with Server(render(PAGE._replace(source=film.name)), film) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


@pytest.mark.parametrize(
    ("asking", "first", "last"),
    [
        ("bytes=0-", 0, None),
        ("bytes=100-199", 100, 199),
        ("bytes=5-5", 5, 5),
        ("bytes=-7", -7, None),
        ("Bytes=9-99999999", 9, None),
    ],
)
def test_parts_of_the_video_are_its_bytes(served, film, asking, first, last):
    content = film.read_bytes()
    expected = content[first : None if last is None else last + 1]
    status, headers, body = ask(served, f"/{film.name}", Range=asking)
    start = len(content) + first if first < 0 else first
    assert (status, body) == (206, expected)
    assert headers["Content-Range"] == f"bytes {start}-{start + len(expected) - 1}/{len(content)}"
    status, headers, body = ask(served, f"/{film.name}", "HEAD", Range=asking)
    assert (status, headers["Content-Length"], body) == (206, str(len(expected)), b"")


@pytest.mark.parametrize(
    "asking",
    ["bytes=999999999-", "bytes=5-2", "bytes=-0", "bytes=-", "bytes=x-y", "bytes", "bytes=1" + "0" * 5000 + "-"],
)
def test_parts_that_there_are_not(served, film, asking):
    status, headers, body = ask(served, f"/{film.name}", Range=asking)
    assert (status, headers["Content-Range"], body) == (416, f"bytes */{film.stat().st_size}", b"")


def test_whole_files_and_nothing_else(served, film):
    content = film.read_bytes()
    status, headers, body = ask(served, f"/{film.name}")
    assert (status, body, headers["Accept-Ranges"], headers["Content-Type"]) == (200, content, "bytes", "video/mp4")
    assert ask(served, f"/{film.name}", Range="bytes=0-1,5-6")[::2] == (200, content)  # allowed, and rare
    assert ask(served, f"/{film.name}", Range="rows=0-1")[::2] == (200, content)
    assert ask(served, f"/{film.name}", Range="bytes=0-1", If_Range='"x"')[::2] == (200, content)
    status, headers, body = ask(served, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body.decode() == served.page.decode()
    assert ask(served, "/", "HEAD")[2] == b""
    for path in (
        "/p.json",
        "/../",
        f"/../{quote(film.parent.name)}/{film.name}",
        "/%2e%2e/",
        f"/./{film.name}",
        "/etc/passwd",
    ):
        assert ask(served, path)[::2] == (404, b""), path
    assert ask(served, "/", Host="evil.example")[::2] == (403, b"")
    assert ask(served, f"/{film.name}", Host=f"evil.example:{served.port}")[0] == 403
    assert ask(served, "/", Host=f"localhost:{served.port}")[0] == 200
    assert ask(served, "/", "POST")[0] == 501
    assert served.server_address[0] == "127.0.0.1"


def test_clients_that_hang_up_do_no_harm(served, film, capfd):
    for text in (
        b"",
        b"GET",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        f"GET /{film.name} HTTP/1.1\r\nHost: localhost:{served.port}\r\n\r\n".encode(),
    ):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(text)
    assert ask(served, "/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_ranges_of_an_empty_file():
    assert (asked(None, 0), list(asked("bytes=0-", 0)), list(asked("bytes=-5", 0))) == (None, [], [])


def test_serving_ends_with_ctrl_c(um, film, monkeypatch):
    pages = []

    def interrupted(server: Server) -> None:
        thread = Thread(target=BaseServer.serve_forever, args=(server, 0.02), daemon=True)
        thread.start()
        pages.append((server.url, ask(server, "/")[2].decode()))
        pages.append((film.name, ask(server, f"/{film.name}")[2]))
        server.shutdown()
        thread.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupted)
    code, said, printed = um("view", film, *inputs(), "--serve")
    (url, page), (name, content) = pages
    assert (code, said, printed) == (0, f"{url}  (Ctrl-C ends it)\n", "")
    assert page.startswith(BEGINNING)
    assert (f'src="{name}"' in page, content) == (True, film.read_bytes())
    assert not list(Path().glob("*.html"))


@pytest.fixture(scope="module")
def tab(tmp_path_factory) -> Iterator[browsing.Tab]:
    folder = tmp_path_factory.mktemp("browser")
    with browsing.browser(folder) as opened:
        yield opened
    end = time.monotonic() + 5
    while left := [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(folder).encode() in _read(path)]:
        assert time.monotonic() < end, f"processes of the browser are left: {left}"
        time.sleep(0.05)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has just ended
        return b""


def seen(tab: browsing.Tab) -> list[str]:
    """Labels of the segments that are shown, as a screen reader says them."""
    return tab.run("[...document.querySelectorAll('.segment:not([hidden])')].map((s) => s.ariaLabel)")


def at(tab: browsing.Tab) -> float:
    """The time of the video when it has arrived there."""
    tab.wait("!video.seeking && video.readyState >= 2")
    return tab.run("video.currentTime")


def slide(tab: browsing.Tab, value: int) -> None:
    tab.run(f"threshold.value = {value}; threshold.dispatchEvent(new Event('input'))")


@pytest.fixture
def page(tab, um, film) -> Callable[[int], None]:
    """Opens the page in a window of this width; at the end nothing may have gone wrong in it."""
    assert um("view", film, *inputs(), "--out", "page.html")[0] == 0

    def show(width: int) -> None:
        tab.open(Path("page.html").absolute().as_uri(), width)
        tab.wait("video.readyState >= 2")

    yield show
    assert tab.complaints == []


def test_clicks_and_keys_seek(tab, page):
    page(1200)
    assert tab.run("video.duration") == pytest.approx(SECONDS, abs=0.05)
    track = tab.box(".lane:nth-child(2) .track")
    tab.click(track["x"] + 0.47 * track["width"], track["y"] + track["height"] - 2)
    assert at(tab) == pytest.approx(4.7, abs=0.05)
    for key, modifiers, expected in (
        ("ArrowRight", 0, 5.7),
        ("ArrowLeft", browsing.SHIFT, 0.7),
        ("ArrowLeft", 0, 0.0),
        ("n", 0, 0.5),  # every annotated and distinct segment, by start
        ("n", 0, 2.0),
        ("n", 0, 2.2),
        ("n", 0, 5.0),
        ("n", 0, 6.0),
        ("n", 0, 6.0),
        ("p", 0, 5.0),
    ):
        tab.press(key, modifiers)
        assert at(tab) == pytest.approx(expected, abs=0.02), key
    assert tab.run("document.activeElement.ariaLabel").startswith(SHOWN)
    assert tab.run("tip.textContent") == f"{SHOWN}\npredicted, score 0.70\n5.00 s to 8.00 s"
    assert tab.run("document.getElementById('now').innerText").split("\n")[:2] == [
        "annotated: –",
        f"predicted: {SHOWN} 0.70",
    ]
    bar = tab.box("[aria-label^='run, predicted, score 0.90']")
    tab.click(bar["x"] + 0.8 * bar["width"], bar["y"] + bar["height"] / 2)
    assert at(tab) == pytest.approx(2.0, abs=0.02)
    tab.press(" ")
    tab.wait("!video.paused && video.currentTime > 2.2")
    tab.press(" ")
    tab.wait("video.paused")
    tab.run("next.focus()")
    for _ in range(2):  # the button keeps the focus
        tab.press("Enter")
    assert at(tab) == pytest.approx(6.0, abs=0.02)


def test_hovering_tells_the_score(tab, page):
    page(1200)
    bar = tab.box("[aria-label^='run, predicted, score 0.60']")
    tab.point(bar["x"] + bar["width"] / 2, bar["y"] + 5)
    assert tab.wait("!tip.hidden && tip.textContent") == "run\npredicted, score 0.60\n6.00 s to 7.00 s"


def test_the_slider_hides_lower_scores(tab, page):
    page(1200)
    truth = {"run, annotated, 2.20 s to 4.10 s", "swim, annotated, 0.50 s to 1.00 s"}
    first = "run, predicted, score 0.90, 2.00 s to 4.00 s"
    assert len(seen(tab)) == 5
    slide(tab, 65)
    assert set(seen(tab)) == {*truth, first, f"{SHOWN}, predicted, score 0.70, 5.00 s to 8.00 s"}
    assert "2 of 5" in tab.run("count.textContent")
    slide(tab, 71)
    assert set(seen(tab)) == {*truth, first}
    assert tab.run("[...document.querySelectorAll('.lane b')].filter((b) => b.offsetParent).length") == 2
    slide(tab, 0)
    tab.run("all.click()")
    assert len(seen(tab)) == 7
    slide(tab, 55)
    assert len(seen(tab)) == 5
    slide(tab, 0)
    tab.run("threshold.focus()")
    tab.press("ArrowRight")  # moves the slider, not the video
    assert (tab.run("threshold.value"), tab.run("video.currentTime")) == ("1", 0)


@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_fits_and_labels_are_text(tab, page, width):
    page(width)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert SHOWN in tab.run("[...document.querySelectorAll('.lane b')].map((b) => b.textContent)")
    assert tab.run("document.images.length") == 0
    assert tab.run("document.title") == "abcdefghijk"
    track = tab.box(".lane:nth-child(2) .track")
    tab.click(track["x"] + 0.31 * track["width"], track["y"] + track["height"] - 2)
    assert at(tab) == pytest.approx(3.1, abs=0.05)


def test_the_served_video_shows_the_frame_that_was_clicked(tab, served):
    tab.open(served.url)
    track = tab.box(".lane:nth-child(2) .track")
    tab.click(track["x"] + 0.843 * track["width"], track["y"] + track["height"] - 2)
    assert at(tab) == pytest.approx(8.43, abs=0.02)
    tab.run("window.paint = document.createElement('canvas').getContext('2d'); paint.drawImage(video, 0, 0)")
    pixels = tab.run(f"[...paint.getImageData(0, 0, {SIDE}, {SIDE}).data]")
    shown = number(np.array(pixels).reshape(SIDE, SIDE, 4)[:, :, :3])
    assert shown == pytest.approx(8.43 * 25, abs=1)
    assert tab.complaints == []


def test_without_a_playable_video_the_lanes_still_work(tab, um, tmp_path):
    assert um("view", old_film(Path("abcdefghijk.avi")), *inputs())[0] == 0
    tab.open(Path("abcdefghijk.html").absolute().as_uri())
    tab.wait("!broken.hidden")
    assert "ffmpeg -i abcdefghijk.avi" in tab.run("broken.textContent")
    tab.press("n")
    tab.press("n")
    assert tab.run("time.textContent") == "1.0 s"  # the container says that it lasts one second
    assert len(seen(tab)) == 5
