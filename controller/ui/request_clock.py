"""When the page's server had its last request, so that slow work can wait for a pause."""

import time


class RequestClock:
    """When the last request came."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def note(self) -> None:
        self._last = time.monotonic()

    def wait_quiet(self, seconds: float) -> None:
        """Returns when no request has come for `seconds`."""
        while (left := self._last + seconds - time.monotonic()) > 0:
            time.sleep(left)
