"""Headless Chromium for tests: pages as a person has them, by the DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_SECONDS = 60.0


class Page:
    """One page: what it logs and asks the network for is kept in ``faults`` and ``requests``."""

    def __init__(self, write: int, read: int) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []
        self._write, self._read, self._rest, self._last = write, read, b"", 0
        self._session: str | None = None
        [target] = [one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        found = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command and its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            answer = self._message(until)
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return dict(answer["result"])
        raise TimeoutError(method)

    def open(self, file: Path, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Open a file at a size, in light or dark."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        self.send("Page.navigate", url=file.resolve().as_uri())

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression holds in the page."""
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            if self.run(condition):
                return
            time.sleep(0.05)
        raise TimeoutError(condition)

    def give_file(self, selector: str, file: Path) -> None:
        """Choose a file in an input, as a person does."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve())])

    def screenshot(self, to: Path) -> None:
        """The whole page as a PNG."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        to.write_bytes(base64.b64decode(found["data"]))

    def _message(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            self._rest += os.read(self._read, 1 << 20)
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.faults.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.faults.append(json.dumps(params["args"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """A page of a browser that reaches nothing; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium, which is not installed")
    to_browser, from_us = os.pipe()
    to_us, from_browser = os.pipe()
    words = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking",
        f"--user-data-dir={profile}",
    ]  # fmt: skip

    def pipes() -> None:  # the browser reads from 3 and writes to 4
        os.dup2(to_browser, 103), os.dup2(from_browser, 104)
        os.dup2(103, 3), os.dup2(104, 4)

    browser = subprocess.Popen(
        [program, *words, "about:blank"],
        preexec_fn=pipes,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser), os.close(from_browser)
    try:
        yield Page(from_us, to_us)
    finally:
        browser.terminate()
        browser.wait(timeout=_SECONDS)
        os.close(from_us), os.close(to_us)
