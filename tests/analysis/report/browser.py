"""A real browser without a library: headless Chromium, driven over its debugging pipe."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess

from tests.polling import until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ),
    *("--disable-sync", "--no-first-run", "--window-size=1280,1000", "--remote-debugging-pipe"),
)


class Browser:
    """One page of one Chromium. `events` holds what it said unasked, in order: (method, params)."""

    def __init__(self, profile):
        assert CHROMIUM is not None
        ours, theirs = os.pipe(), os.pipe()  # (what it reads, we write), (what we read, it writes)
        self._write, self._read = ours[1], theirs[0]
        command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}"]
        moved = f'exec 3<&{ours[0]} 4>&{theirs[1]}; exec "$@"'  # it speaks on descriptors 3 and 4
        self._process = subprocess.Popen(
            ["bash", "-c", moved, "bash", *command],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._ids, self._held, self.events, self._session = itertools.count(1), b"", [], None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url):
        """Load a page and wait until it says that it is ready."""
        self._call("Page.navigate", url=url)
        self.wait("document.body && document.body.classList.contains('ready')")

    @contextlib.contextmanager
    def screen(self, width, height):
        """A screen of another size, such as a phone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        yield
        self._call("Emulation.clearDeviceMetricsOverride")

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression, seconds=30):
        """Wait until an expression is true."""
        until(lambda: self.evaluate(f"Boolean({expression})"), self._process, seconds)

    def click(self, selector):
        """Click with the mouse on the middle of the first element that matches."""
        place = dict(zip("xy", self.middle(selector), strict=True))
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def middle(self, selector):
        """Where the middle of the first element that matches is, scrolled into view: [x, y]."""
        chosen = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{chosen}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.evaluate(f"{chosen}.getBoundingClientRect().toJSON()")
        return [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]

    def hover(self, x, y):
        """Move the mouse there."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def close(self):
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def _call(self, method, **params):
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]
            self.events.append((said.get("method"), said.get("params", {})))

    def _next(self):
        while b"\0" not in self._held:
            assert select.select([self._read], [], [], 60)[0], "Chromium says nothing"
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium has ended"
            self._held += part
        message, _, self._held = self._held.partition(b"\0")
        return json.loads(message)
