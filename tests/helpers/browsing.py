"""Debian's headless Chromium, driven over pipes by the Chrome DevTools Protocol."""

import base64
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.debian import installed

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 30  # seconds
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, " ": 32, "Enter": 13, "Tab": 9, "Escape": 27}
SHIFT = 8


class Tab:
    """A page in the browser.

    Attributes:
        complaints: errors and warnings of the console, and exceptions, since the page was opened.
    """

    def __init__(self, into: int, out: int) -> None:
        self.into, self.out, self.buffer, self.number = into, out, b"", 0
        self.session: str | None = None
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol and wait for its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.into, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            answer = self._next(end)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            assert select.select([self.out], [], [], max(0, end - time.monotonic()))[0], "the browser does not answer"
            piece = os.read(self.out, 1 << 20)
            assert piece, "the browser is gone"
            self.buffer += piece
        text, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(text)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.complaints.append(str(parameters["entry"]))
        return message

    def open(self, url: str, width: int = 1200, height: int = 900) -> None:
        """Load a page in a window of this size, and wait until its scripts have run."""
        self.complaints.clear()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        assert "errorText" not in (went := self.send("Page.navigate", url=url)), went
        self.wait("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)
        return value

    def box(self, selector: str) -> dict[str, float]:
        """Where an element is in the window, scrolled there first."""
        here = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{here}.scrollIntoView({{block: 'center'}})")
        return self.run(f"{here}.getBoundingClientRect().toJSON()")

    def point(self, x: float, y: float) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        self.point(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, modifiers: int = 0) -> None:
        code = {"windowsVirtualKeyCode": KEYS.get(key) or ord(key.upper()), "modifiers": modifiers}
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, **code)

    def picture(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


@contextmanager
def browser(work: Path) -> Iterator[Tab]:
    """A running browser that keeps its files in `work`, and its only tab."""
    import fcntl

    command = [installed(PROGRAMS[0], *PROGRAMS), *OPTIONS, f"--user-data-dir={work}", "about:blank"]
    here, into = os.pipe()
    out, there = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (here, there)]  # not among those that they become

    def place() -> None:
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, pass_fds=(3, 4), preexec_fn=place, start_new_session=True, **streams)
    for end in (here, there, *high):
        os.close(end)
    try:
        tab = Tab(into, out)
        yield tab
        tab.session = None
        tab.send("Browser.close")
        process.wait(10)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        os.close(into)
        os.close(out)
