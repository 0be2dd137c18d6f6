"""The candidate's process: runs the program on each input and writes the results. Its output is not trusted.

Frames on the pipe: `L` locked (before a line of the program has run), `S` compiled and loaded, `T` a test returned, `V`
its value, `X` an exception, `D` all done; V and X have a 4-byte length and UTF-8 text. Execution is evalplus's: a new
module namespace `{}`, inputs one after another.
"""

import _signal  # type: ignore[import-not-found]
import json
import os
import random
import signal
import struct
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from workloads.sandbox.order import Order
from workloads.typed_json import decode, encode


def serve(order: Order, pipe: int) -> None:
    """Runs the order and writes its frames. Any exception of the program becomes an X frame."""
    random.seed(0)
    if NUMPY_RANDOM in sys.modules:
        _seed(sys.modules[NUMPY_RANDOM])
    else:
        sys.meta_path.insert(0, SeedsNumpy())
    sys.stdin, sys.stdout, sys.stderr = (open(fd, mode, closefd=False) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
    try:
        _run(order, pipe)
    except BaseException as e:
        error = e
        try:  # The function in C: in `signal`'s wrapper a handler could raise before signals are blocked.
            _signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
        except BaseException as raised:
            error = raised
        _write(pipe, b"X", _description(error))


ALL_SIGNALS = signal.valid_signals()


def _run(order: Order, pipe: int) -> None:
    function = _load(order.program, order.entry_point)
    _write(pipe, b"S")
    for text in order.arguments:
        value = function(*decode(text))
        _write(pipe, b"T")
        encoded = encode(value)
        _write(pipe, b"V", encoded)
        del value
    _write(pipe, b"D")


NUMPY_RANDOM = "numpy.random"


class SeedsNumpy:
    """Seeds numpy's random when a program imports it. Other programs do not load numpy."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != NUMPY_RANDOM or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_seed(module: ModuleType) -> None:
                load(module)
                _seed(module)

            spec.loader.exec_module = load_and_seed  # type: ignore[method-assign]
        return spec


def _seed(numpy_random: Any) -> None:
    """Seeds the global generator, and those that are made without a seed (`default_rng()`)."""
    numpy_random.seed(0)
    numpy_random.bit_generator.randbits = random.Random(0).getrandbits  # noqa: S311 - the same for every run


class MissingFunction(Exception):
    """The program does not define the tested function."""


def _load(program: str, entry_point: str) -> Any:
    namespace: dict[str, Any] = {}
    exec(compile(program, "<candidate>", "exec"), namespace)  # noqa: S102 - this is what the sandbox is for
    if entry_point not in namespace:
        raise MissingFunction(entry_point)
    return namespace[entry_point]


def _description(error: BaseException) -> str:
    try:
        message = str(error)[:500]
    except BaseException:
        message = ""
    return json.dumps([type(error).__name__[:100], message])


def _write(pipe: int, kind: bytes, text: str | None = None) -> None:
    data = kind
    if text is not None:
        payload = text.encode()
        data += struct.pack(">I", len(payload)) + payload
    while data:
        data = data[os.write(pipe, data) :]
