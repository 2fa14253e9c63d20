"""A page in headless Chromium, by its DevTools protocol: what it looks like, what it says, what it loads."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_START_S = 60.0
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


def browser_here() -> str:
    """The browser's path; skips the test where there is none, or no client for its protocol."""
    pytest.importorskip("websockets", reason="the page is looked at over a web socket")
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return found


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """One tab of a browser that keeps its files in ``folder``."""
    from websockets.sync.client import connect

    path = browser_here()
    flags = [*_FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([path, *flags], env={**os.environ, "HOME": str(folder)}, **quiet)
    try:
        port, root = _address(folder / "DevToolsActivePort", process)
        # no pings: what the page tells meanwhile waits unread while a test does other things
        with connect(f"ws://127.0.0.1:{port}{root}", max_size=None, ping_interval=None) as socket:
            browser = Page(socket)
            target = browser.call("Target.getTargets")["targetInfos"]
            tab = next(one["targetId"] for one in target if one["type"] == "page")
            session = browser.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
            yield Page(socket, session)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _address(file: Path, process: subprocess.Popen[bytes]) -> tuple[str, str]:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        if file.exists() and len(lines := file.read_text().split()) == 2:
            return lines[0], lines[1]
        time.sleep(0.05)
    raise AssertionError(f"the browser did not start within {_START_S:g} s (exit code {process.poll()})")


class Page:
    """A tab: ``events`` are all that it told of so far."""

    def __init__(self, socket: Any, session: str | None = None) -> None:
        self._socket, self._session, self._number = socket, session, 0
        self.events: list[dict[str, Any]] = []
        if session:
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            found = json.loads(self._socket.recv(timeout=60))
            if found.get("id") == self._number:
                assert "error" not in found, (method, found)
                result: dict[str, Any] = found["result"]
                return result
            self.events.append(found)

    def open(self, place: Path | str, width: int, *, dark: bool = False, touch: bool = False) -> None:
        """Show a file or an address in a window of this width; waits until it is drawn."""
        url = place.resolve().as_uri() if isinstance(place, Path) else place
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=touch
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        self.call("Page.navigate", url=url)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.evaluate("location.protocol !== 'about:' && document.readyState") == "complete":
                break
        else:
            raise AssertionError(f"{url} was not shown")
        # two frames: observers of sizes have run
        self.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
        )

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression of the page holds."""
        end = time.monotonic() + _START_S
        while not self._holds(condition):
            assert time.monotonic() < end, f"the page never came to: {condition}"
            time.sleep(0.05)

    def _holds(self, condition: str) -> bool:
        try:
            return bool(self.evaluate(condition))
        except AssertionError as error:
            if "navigated" in str(error) or "Cannot find context" in str(error):
                return False  # the page loads itself anew
            raise

    def write(self, selector: str, text: str) -> None:
        """Put a text into an input, in place of what it holds, as a person does."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{field}.focus(), {field}.select()")
        self.call("Input.insertText", text=text)

    def give_file(self, selector: str, file: Path) -> None:
        """Choose a file in an input, as a person does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve())])

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Keep what is shown as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        file.write_bytes(base64.b64decode(found["data"]))

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def tap(self, x: float, y: float) -> None:
        """Touch a place in the window."""
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.evaluate(
            "new Promise((done) => setTimeout(() => done(1), 400))"
        )  # a tap is a click once it was none longer

    def press(self, key: str) -> None:
        """A key, as it is named by the web: ``Tab``, ``ArrowRight``."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key]
            )

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and everything that was asked of a network."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"].get("text")))
            if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(str(params["args"]))
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(str(params["entry"]["text"]))
            if method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:", "blob:")):  # a page's own
                    found.append(f"asked for {url}")
        return found
