"""Programs that try to be graded right without knowing the answer, or to harm. Each defines `double`, tested twice.

An attack that succeeds returns the right value. So "none passes" means that no attack worked. The cause states how each
is stopped, and not only that it is stopped.
"""

from dataclasses import dataclass

from workloads.api.grades import Cause


@dataclass(frozen=True)
class Hostile:
    name: str
    program: str
    cause: Cause
    detail: str = ""
    """A piece of the evidence's detail."""


def attack(name: str, code: str, cause: Cause = "exception", detail: str = "", setup: str = "") -> Hostile:
    """`code` is the body of double(x). If it reaches its end, the attack has succeeded and the answer is right."""
    body = "\n".join(f"    {line}" for line in code.splitlines())
    return Hostile(name, f"import ctypes, os, sys\n{setup}\ndef double(x):\n{body}\n    return 2 * x\n", cause, detail)


def syscall(name: str, number: int, *arguments: str, detail: str = "PermissionError: [Errno 1]") -> Hostile:
    call = ", ".join([f"ctypes.c_long({number})", *arguments])
    code = f"libc = ctypes.CDLL(None, use_errno=True)\nif libc.syscall({call}) == -1:"
    code += f"\n    raise OSError(ctypes.get_errno(), {name!r})"
    return attack(f"{name} system call", code, detail=detail)


def returns(name: str, setup: str, value: str, cause: Cause = "failing_test", detail: str = "") -> Hostile:
    return Hostile(name, f"{setup}\ndef double(x):\n    return {value}\n", cause, detail)


LIES = [
    returns("an object equal to everything", "class E:\n    def __eq__(self, o): return True\n    __hash__ = None", "E()"),
    returns("an int equal to everything", "class E(int):\n    def __eq__(self, o): return True", "E(7)"),
    returns("a str equal to everything", "class E(str):\n    def __eq__(self, o): return True", "E('a')"),
    returns("a list equal to everything", "class E(list):\n    def __eq__(self, o): return True", "E([1])"),
    returns("a value that lies about its class", "class E:\n    __class__ = int\n    def __int__(self): return 4", "E()"),
    returns(
        "a value that reduces to code",
        "import os\nclass E:\n    def __reduce__(self): return os._exit, (0,)",
        "E()",
    ),
    returns(
        "a metaclass that lies about bases",
        "class M(type):\n    __mro__ = property(lambda s: (int,))\nclass E(metaclass=M): pass",
        "E()",
        "exception",
        "TypeError",
    ),
    returns("a value whose hash hangs", "class E:\n    def __hash__(self):\n        while True: pass", "{E()}", "timeout"),
    returns("an endless iterator", "import itertools", "itertools.count()"),
    returns("a generator that never yields", "def g():\n    while True: pass\n    yield", "g()", "timeout"),
    returns("a list that holds itself", "l = []\nl.append(l)", "l"),
    returns("a list of exponential size", "l = []\nfor _ in range(200): l = [l, l]", "l", "timeout"),
    returns("a number of a million digits", "", "10 ** 1_000_000"),
    returns("a text of 20 MB", "", "'a' * 20_000_000"),
    returns("a NaN", "", "float('nan')"),
    returns("an exception of which the text hangs", "class E(Exception):\n    def __str__(self):\n        while True: pass", "(_ for _ in ()).throw(E())", "timeout"),
]  # fmt: skip

SEARCHES = [
    Hostile(
        "reads expected values from the frames of its callers",
        """
import sys
def double(x):
    frame = sys._getframe()
    while frame is not None:
        for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):
            for inner in (value, getattr(value, "__dict__", None)):
                if isinstance(inner, dict):
                    for key in ("expected", "exp", "gold", "answer"):
                        if key in inner: return inner[key]
            if name in ("expected", "exp", "gold", "answer"): return value
        frame = frame.f_back
    raise LookupError("no expected value in any frame")
""",
        "exception",
        "LookupError",
    ),
    Hostile(
        "searches the heap for expected values",
        """
import gc
def double(x):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and ("expected" in thing or "expected_output" in thing):
            return 2 * x
        if type(thing).__name__ in ("Suite", "CodeTests", "Problem", "Benchmark"):
            return 2 * x
    raise LookupError("no expected value in memory")
""",
        "exception",
        "LookupError",
    ),
    attack("imports the grader's benchmarks", "import workloads.benchmarks", detail="Error"),
    attack("imports math_verify from site-packages", "import math_verify", detail="ModuleNotFoundError"),
    # The test replaces {data!r} by the path of the benchmark's file.
    attack("opens the benchmark's file", "io.open(DATA).close()", detail="Error", setup="import io\nDATA = {data!r}"),
    attack("opens it through a path with dots", "open('/usr/lib/../..' + DATA).close()", detail="Error", setup="DATA = {data!r}"),
    attack("opens its own source tree through the module's path", "open(sys.modules['workloads.typed_json'].__file__).close()", detail="Error"),
    attack("reads /etc/passwd", "open('/etc/passwd').read()", detail="Error"),
    attack("reads its environment in /proc", "open('/proc/self/environ').read()", detail="Error"),
    attack("reads its parent's memory in /proc", "open(f'/proc/{os.getppid()}/mem', 'rb').read(1)", detail="Error"),
    attack("lists the processes", "os.listdir('/proc')", detail="Error"),
    attack("lists the root of the file system", "os.listdir('/')", detail="PermissionError"),
    attack("finds a credential in its environment", "if not any(k for k in os.environ if k != 'LC_CTYPE'): raise LookupError('empty')", detail="LookupError"),
    attack("reads the standard input that it inherits", "if not os.read(0, 1): raise LookupError('nothing there')", detail="LookupError"),
    attack("reads every descriptor that is open", "\n".join((
        "found = b''",
        "for fd in range(4, 256):",
        "    try: found += os.read(fd, 1)",
        "    except OSError: pass",
        "if not found: raise LookupError('nothing there')",
    )), detail="LookupError"),
]  # fmt: skip

ESCAPES = [
    *(
        attack(f"{family} {kind} socket", f"import socket\nsocket.socket(socket.{family}, socket.{kind})", detail="PermissionError")
        for family, kind in (
            ("AF_INET", "SOCK_STREAM"),
            ("AF_INET", "SOCK_DGRAM"),
            ("AF_INET6", "SOCK_STREAM"),
            ("AF_UNIX", "SOCK_STREAM"),
            ("AF_NETLINK", "SOCK_RAW"),
            ("AF_PACKET", "SOCK_RAW"),
            ("AF_ALG", "SOCK_SEQPACKET"),
            ("AF_VSOCK", "SOCK_STREAM"),
        )
    ),
    attack("socket pair", "import socket\nsocket.socketpair()", detail="PermissionError"),
    attack("fetches a URL", "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1/')", detail="Error"),
    attack("fork", "os.fork()", detail="PermissionError"),
    attack("fork bomb", "while True: os.fork()", detail="PermissionError"),
    attack("posix_spawn", "os.posix_spawn('/bin/true', ['true'], {})", detail="Error"),
    attack("exec", "os.execv('/bin/true', ['true'])", detail="Error"),
    attack("a shell", "if os.system('true') != 0: raise OSError('no shell')", detail="OSError"),
    attack("subprocess", "import subprocess\nsubprocess.run(['true'])", detail="Error"),
    attack("multiprocessing", "import multiprocessing\np = multiprocessing.Process(target=print)\np.start()", detail="Error"),
    attack("kills its parent", "os.kill(os.getppid(), 9)", detail="PermissionError"),
    attack("kills everything", "os.kill(-1, 9)", detail="PermissionError"),
    attack("stops its group", "os.killpg(0, 19)", detail="PermissionError"),
    attack("leaves its session", "os.setsid()", detail="PermissionError"),
    attack("becomes root", "os.setuid(0)", detail="PermissionError"),
    attack("pins itself to a processor", "os.sched_setaffinity(0, {0})", detail="PermissionError"),
    attack("symbolic link out", "os.symlink('/etc/passwd', 'x')\nopen('x').read()", detail="PermissionError"),
    attack("hard link out", "os.link(os.__file__, 'x')", detail="PermissionError"),
    attack("makes a device", "os.mknod('x', 0o600)", detail="PermissionError"),
    attack("writes into the standard library", "open(os.__file__, 'a').close()", detail="Error"),
    attack("writes beside its folder", "open('../x', 'w').close()", detail="Error"),
    attack("changes permissions", "os.chmod('.', 0o777)", detail="PermissionError"),
    syscall("ptrace", 101, "16", "os.getppid()", "0", "0"),
    syscall("process_vm_readv", 310, "os.getppid()", "0", "0", "0", "0", "0"),
    syscall("unshare", 272, "0x10000000"),
    syscall("mount", 165, "b'none'", "b'/'", "b'tmpfs'", "0", "0"),
    syscall("chroot", 161, "b'.'"),
    syscall("setns", 308, "0", "0"),
    syscall("memfd_create", 319, "b'x'", "0"),
    syscall("io_uring_setup", 425, "1", "0"),
    syscall("bpf", 321, "0", "0", "0"),
    syscall("perf_event_open", 298, "0", "0", "-1", "-1", "0"),
    syscall("userfaultfd", 323, "0"),
    syscall("shmget", 29, "0", "4096", "0o1777"),
    syscall("msgget", 68, "0", "0o1777"),
    syscall("keyctl", 250, "0", "-3", "0"),
    syscall("pidfd_open", 434, "os.getppid()", "0"),
    syscall("clone without a thread", 56, "17", "0", "0", "0", "0"),
    syscall("vfork", 58),
    syscall("a second seccomp filter", 317, "1", "0", "0"),
    syscall("prctl PR_SET_PDEATHSIG", 157, "1", "0", "0", "0", "0"),
    syscall("socket by its x32 number", 0x40000000 + 41, "2", "1", "0", detail="OSError: [Errno 38]"),
    syscall("open_by_handle_at", 304, "0", "0", "0"),
]  # fmt: skip

EXHAUSTIONS = [
    attack("fills memory", "held = []\nwhile True: held.append(bytearray(1 << 24))", "memory", "MemoryError"),
    attack("asks for too much at once", "bytearray(1 << 40)", "memory", "MemoryError"),
    attack("never ends", "while True: pass", "timeout"),
    attack("never ends, and ignores every signal", "\n".join((
        "import signal",
        "for number in range(1, 65):",
        "    try: signal.signal(number, signal.SIG_IGN)",
        "    except (OSError, ValueError): pass",
        "signal.setitimer(signal.ITIMER_REAL, 0)",
        "while True:",
        "    try:",
        "        while True: pass",
        "    except BaseException: pass",
    )), "timeout"),
    attack("sleeps forever", "import time\ntime.sleep(1e6)", "timeout"),
    attack("never ends in C", "'a' * 40 == __import__('re').match('(a*)*b', 'a' * 40)\n", "timeout"),
    attack("never ends while it is loaded", "pass", "timeout", setup="while True: pass"),
    attack("busy threads", "\n".join((
        "import threading",
        "def spin():",
        "    while True: pass",
        "for _ in range(3): threading.Thread(target=spin, daemon=True).start()",
        "while True: pass",
    )), "timeout"),
    attack("thread bomb", "\n".join((
        "import threading, time",
        "while True: threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()",
    )), "exception", "RuntimeError"),
    attack("recursion", "return double(x)", "exception", "RecursionError"),
    attack("recursion in C", "import json\njson.loads('[' * 10 ** 6)", "exception", "RecursionError"),
    attack("prints forever", "while True: print('a' * 10_000)", "timeout"),
    attack("writes to standard error forever", "while True: os.write(2, b'a' * 10_000)", "timeout"),
    attack("too many open files", "held = [open(os.devnull if os.path.exists(os.devnull) else os.__file__) for _ in range(1000)]", "exception", "Error"),
]  # fmt: skip

DISK = [
    attack("fills the disk", "\n".join((
        "for n in range(10_000):",
        "    with open(str(n), 'wb') as file: file.write(bytes(1 << 20))",
    )), detail="OSError"),
    attack("writes one endless file", "with open('x', 'wb') as file:\n    while True: file.write(bytes(1 << 20))", detail="OSError"),
    attack("makes a million files", "for n in range(10 ** 6): open(str(n), 'w').close()", detail="OSError"),
]  # fmt: skip
"""Only for a sandbox with a private folder: elsewhere the first open is refused."""

# Descriptor 3 is the channel to the grader. T: a test begins; V, length, JSON: its value; D: all tests are done.
PROTOCOL = [
    attack("exits before the tests", "pass", "exit", "by itself with 0", setup="os._exit(0)"),
    attack("exits with status 0 during a test", "os._exit(0)", "exit", "by itself with 0"),
    attack("sys.exit(0)", "sys.exit(0)", "exit", "SystemExit"),
    attack("aborts", "os.abort()", "crash", "SIGABRT"),
    attack("reads address 0", "ctypes.string_at(0)", "crash", "SIGSEGV"),
    attack("says that all is done", "os.write(3, b'D')\nos._exit(0)", "unreadable_output", "not the protocol"),
    attack("answers for tests that it did not run", "\n".join((
        "frame = b'V' + (1).to_bytes(4, 'big') + b'4'",
        "os.write(3, b'T' + frame + b'T' + frame + b'D')",
        "os._exit(0)",
    )), "failing_test"),
    attack("answers too often", "\n".join((
        "frame = b'TV' + (1).to_bytes(4, 'big') + b'2'",
        "os.write(3, frame * 5)",
        "os._exit(0)",
    )), "failing_test"),
    attack("floods the channel", "while True: os.write(3, b'T' * 60_000)", "unreadable_output", "not the protocol"),
    attack("floods with one frame", "os.write(3, b'TV' + (2 ** 32 - 1).to_bytes(4, 'big'))\nwhile True: os.write(3, b'a' * 60_000)", "unreadable_output", "longer than allowed"),
    attack("sends a value that is not a value", "os.write(3, b'TV' + (12).to_bytes(4, 'big') + b'[\"x\", \"oops\"]')\nos._exit(0)", "unreadable_output"),
    attack("sends deep JSON", "os.write(3, b'TV' + (100000).to_bytes(4, 'big') + b'[' * 100000)\nos._exit(0)", "unreadable_output"),
    attack("sends an endless exponent", "os.write(3, b'TV' + (20).to_bytes(4, 'big') + b'[\"D\",\"1e9999999999\"] ')\nos._exit(0)", "failing_test"),
    attack("closes the channel and goes on", "os.close(3)\nwhile True: pass", "exit", "closed its channel"),
    attack("closes every descriptor", "os.closerange(0, 64)\nwhile True: pass", "exit", "closed its channel"),
    attack("a thread that writes done to the channel", "\n".join((
        "import threading, time",
        "threading.Thread(target=lambda: [os.write(3, b'D') for _ in range(100)]).start()",
        "time.sleep(60)",
    )), "unreadable_output", "not the protocol"),
    returns("replaces the encoder", "import sys\nsys.modules['workloads.sandbox.candidate'].encode = lambda v: '[\"pass\"]'", "1", "unreadable_output"),
    returns("replaces the decoder of inputs", "import sys\nsys.modules['workloads.sandbox.candidate'].decode = lambda t: (0,)", "2 * x"),
    returns("replaces json, so that a wrong value could be sent as a right one", "import json\njson.dumps = json.loads = lambda *a, **k: '4'", "1"),
    returns("replaces builtins", "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.type = lambda *a: int\nbuiltins.len = lambda *a: 0", "None", "exit", "by itself"),
    returns("an import hook", "import sys\nclass H:\n    def find_spec(self, *a): raise SystemExit(0)\nsys.meta_path.insert(0, H())\nimport colorsys", "2 * x", "exit", "SystemExit"),
    attack("a thread that outlives the call", "import threading\nthreading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()\nreturn 0", "failing_test"),
    attack("writes done to the channel at exit", "import atexit\natexit.register(lambda: os.write(3, b'D'))\nreturn 0", "failing_test"),
    attack("raises KeyboardInterrupt", "raise KeyboardInterrupt", detail="KeyboardInterrupt"),
    attack("raises GeneratorExit", "raise GeneratorExit", detail="GeneratorExit"),
    Hostile("no such function", "def triple(x): return 3 * x\n", "missing_function"),
    Hostile("not Python", "def double(x) return\n", "syntax_error"),
    Hostile("parentheses without end", "(" * 50_000, "syntax_error"),
]  # fmt: skip

ALL = [*LIES, *SEARCHES, *ESCAPES, *EXHAUSTIONS, *PROTOCOL]
"""The programs for every sandbox. The whole suite also has DISK and `hostile_tricks.TRICKS`."""
