"""The log of an attempt: written to stderr at once; its end is stored."""

import io
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from workloads.untrusted import printable

TAIL_CHARACTERS = 200_000
CUT = "[earlier lines are cut]\n"


class PrintableFormatter(logging.Formatter):
    """Removes escape sequences, because messages quote models and other trainers."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class AttemptLog(logging.Handler):
    """Keeps the last TAIL_CHARACTERS of the log, from any thread. Add it to loggers that do not propagate."""

    def __init__(self) -> None:
        super().__init__()
        self._text = io.StringIO()
        self.lines = 0
        """The number of logged lines. If it is unchanged, the tail is too."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._text.write(self.format(record) + "\n")
        except Exception:  # a message whose arguments do not fit: logging's own error report
            self.handleError(record)
        self.lines += 1
        if self._text.tell() > 2 * TAIL_CHARACTERS:
            kept = _last(self._text.getvalue())
            self._text = io.StringIO()
            self._text.write(kept)

    def tail(self) -> bytes:
        """Returns whole lines in UTF-8."""
        self.acquire()
        try:
            return _last(self._text.getvalue()).encode(errors="replace")
        finally:
            self.release()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The root logger writes to stderr and to this object, from INFO on, in UTC; warnings are logged too."""
        form = PrintableFormatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        form.converter = time.gmtime
        screen = logging.StreamHandler(sys.stderr)
        root = logging.getLogger()
        level = root.level
        for handler in (screen, self):
            handler.setFormatter(form)
            root.addHandler(handler)
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.setLevel(level)
            for handler in (screen, self):
                root.removeHandler(handler)


def _last(text: str) -> str:
    if len(text) <= TAIL_CHARACTERS:
        return text
    return CUT + text[-TAIL_CHARACTERS:].partition("\n")[2]
