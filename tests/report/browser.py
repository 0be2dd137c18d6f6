"""A real headless Chromium, driven through its debugging port."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "--remote-allow-origins=*",
         "--window-size=1280,9000")  # fmt: skip
DEADLINE_SECONDS = 120.0


class Page:
    """An open page. `errors` collects console messages and violations of the page's policy."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=DEADLINE_SECONDS)
        self._number = 0
        self.errors: list[str] = []
        for domain in ("Runtime", "Log", "Page"):
            self._call(f"{domain}.enable")
        self._call("Performance.enable", timeDomain="threadTicks")

    def open(self, where: Path | str) -> None:
        """Opens a file or an address.

        Returns after it is loaded: before that, queries may still reach the previous page.
        """
        self.ask("(window.isFormerPage = true)")
        self._call("Page.navigate", url=where if isinstance(where, str) else where.as_uri())
        self.until("!window.isFormerPage && document.readyState === 'complete'")

    def looks(self, width: int, height: int, scheme: str) -> None:
        """Sets a screen of this size that prefers light or dark; below 760 px it is a phone's."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 760
        )
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def busy_seconds(self) -> float:
        """Returns the CPU time of the page's main thread since it was opened, independent of the machine's load."""
        metrics = {item["name"]: item["value"] for item in self._call("Performance.getMetrics")["metrics"]}
        return float(metrics["TaskDuration"])

    def picture(self, top: int, height: int) -> bytes:
        """Returns a PNG of the page from `top` on, as wide as the screen."""
        width = self.ask("innerWidth")
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        answer = self._call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def ask(self, expression: str) -> Any:
        return self._call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self.ask(expression):
            assert time.monotonic() < deadline, f"{expression} has not come true; the page said {self.errors}"
            time.sleep(0.05)

    def _call(self, method: str, **params: object) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.errors.append(json.dumps(answer["params"])[:500])
            if answer.get("id") == self._number:
                return dict(answer["result"])


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.DEVNULL
    )
    try:
        yield Page(_address(profile / "DevToolsActivePort"))
    finally:
        process.terminate()
        process.wait(30)


def _address(port_file: Path) -> str:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (port_file.is_file() and port_file.read_text().count("\n")):
        assert time.monotonic() < deadline, "Chromium opened no debugging port"
        time.sleep(0.05)
    port = int(port_file.read_text().split("\n")[0])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
        pages = json.load(answer)
    return str(next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"))
