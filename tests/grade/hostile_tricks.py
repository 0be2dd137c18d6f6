"""More hostile programs: signals, descriptors, memory, system calls and values. See `hostile_programs`."""

from tests.grade.hostile_programs import Hostile, attack, returns, syscall

FINDS_AN_EARLIER_PROGRAM = Hostile(
    "searches its memory for the order of an earlier program",
    """
import ctypes, os, sys
HEAD, TAIL = b'"key": "hon', b'est after'
def double(x):
    libc, (reader, writer) = ctypes.CDLL(None), os.pipe()
    near = {id(value) >> 20 for module in list(sys.modules.values()) for value in list(vars(module).values())}
    for region in sorted({region + step for region in near for step in (-1, 0, 1)}):
        for page in range(region << 20, region + 1 << 20, 4096):
            length = libc.write(writer, ctypes.c_void_p(page), ctypes.c_size_t(4096))
            if length > 0:
                data = os.read(reader, length)
                at = data.find(HEAD)
                if at >= 0 and data[at + len(HEAD):].startswith(TAIL):
                    return 2 * x
    raise LookupError("nothing of another program")
""",
    "exception",
    "LookupError",
)
"""Through `write`, which refuses addresses that do not exist where a read of them would crash."""

SIGNALS = [
    attack("has the kernel signal its parent", "import fcntl\nfcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())", detail="PermissionError"),
    attack("chooses the signal that the kernel sends", "import fcntl\nfcntl.fcntl(3, 10, 9)", detail="PermissionError"),
    attack("stops itself", "os.kill(os.getpid(), 19)", "timeout", "wall time"),
    *(
        attack(f"ends itself by signal {number}", f"os.kill(os.getpid(), {number})", "crash", detail)
        for number, detail in ((34, "SIGRTMIN"), (35, "signal 35"), (40, "signal 40"), (63, "signal 63"), (64, "SIGRTMAX"))
    ),
    attack("ends itself by a signal without a name while it is loaded", "pass", "crash", "signal 35", setup="os.kill(os.getpid(), 35)"),
    attack("ends itself by a signal without a name from a thread", "\n".join((
        "import signal, threading",
        "thread = threading.Thread(target=lambda: os.kill(os.getpid(), 50))",
        "thread.start()",
        "thread.join()",
    )), "crash", "signal 50"),
    attack("kills itself as a kernel without memory would", "os.kill(os.getpid(), 9)", "memory", "killed"),
    attack("says that its time is over", "import signal\nos.kill(os.getpid(), signal.SIGXCPU)", "timeout", "CPU limit"),
    *(
        attack(f"an alarm every {seconds:f} s that interrupts its end", "\n".join((
            "import signal",
            "def again(*_): raise RuntimeError('again')",
            "signal.signal(signal.SIGALRM, again)",
            f"signal.setitimer(signal.ITIMER_REAL, 0.01, {seconds})",
            "while True: pass",
        )), detail="RuntimeError")
        for seconds in (0.01, 0.0005, 0.00005)
    ),
    attack("queues a signal for its parent", "if ctypes.CDLL(None, use_errno=True).sigqueue(os.getppid(), 9, None): raise OSError(ctypes.get_errno(), 'no')", detail="[Errno 1]"),
    attack("raises its limits", "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", detail="Error"),
    attack("asks for a real-time priority", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))", detail="PermissionError"),
    attack("asks for more of the processor", "os.nice(-5)", detail="PermissionError"),
]  # fmt: skip

DESCRIPTORS = [
    attack("writes outcomes into every descriptor", "\n".join((
        "line = b'{\"key\": \"x\", \"end\": \"finished\", \"values\": [\"2\", \"4\"], \"seconds\": [], \"detail\": \"\", \"cpu_seconds\": 0, \"wall_seconds\": 0}'",
        "found = 0",
        "for fd in range(4, 256):",
        "    try: found += os.write(fd, line + bytes([10]))",
        "    except OSError: pass",
        "if not found: raise LookupError('nothing there')",
    )), detail="LookupError"),
    attack("reads its own channel", "os.read(3, 1)", detail="OSError"),
    attack("opens its parent's descriptors through /proc", "\n".join((
        "found = 0",
        "for fd in range(64):",
        "    try: found += os.open(f'/proc/{os.getppid()}/fd/{fd}', os.O_RDONLY | os.O_NONBLOCK)",
        "    except OSError: pass",
        "if not found: raise LookupError('nothing there')",
    )), detail="LookupError"),
    attack("walks up from a path descriptor", "\n".join((
        "fd = os.open('/', os.O_PATH)",
        "for _ in range(20): fd = os.open('..', os.O_PATH, dir_fd=fd)",
        "os.read(os.open('etc/passwd', os.O_RDONLY, dir_fd=fd), 1)",
    )), detail="Error"),
    attack("symbolic link by its other call", "os.symlink('/etc/passwd', 'x', dir_fd=os.open('.', os.O_PATH))", detail="PermissionError"),
    attack("takes a file of the standard library away", "os.rename(os.__file__, 'x')", detail="Error"),
    attack("opens the machine's memory", "open('/dev/mem', 'rb')", detail="Error"),
    attack("looks for the grader's files", "os.listdir('/tmp')", detail="Error"),
    attack("fills the table of descriptors with pipes", "while True: os.pipe()", detail="OSError: [Errno 24]"),
    attack("prints into the channel", "os.dup2(3, 1)\nprint('D', flush=True)\nos._exit(0)", "unreadable_output", "not the protocol"),
    attack("prints a verdict", "print('{\"passed\": true, \"verdict\": \"right\"}', flush=True)\nprint('pass', file=sys.stderr)\nreturn 0", "failing_test"),
    attack("locks a file of the standard library", "import fcntl\nfcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX)", detail="PermissionError"),
    attack("reads the command line of its server", "if not any(sys.orig_argv + sys.argv): raise LookupError('empty')", detail="LookupError"),
    attack("has no standard output", "os.close(1)\nsys.stdout = None\nprint('x')\nreturn 0", "failing_test"),
    attack("a standard output that leaves", "class Out:\n    def write(self, text): os._exit(0)\nsys.stdout = Out()\nprint('x')", "exit", "by itself with 0"),
]  # fmt: skip

CALLS = [
    attack("a socket of any family and type", "\n".join((
        "libc = ctypes.CDLL(None, use_errno=True)",
        "for family in range(64):",
        "    for kind in (1, 2, 3, 4, 5, 6, 10):",
        "        if libc.socket(family, kind, 0) >= 0: return 2 * x",
        "        if ctypes.get_errno() != 1: raise OSError(ctypes.get_errno(), f'{family} {kind}')",
        "raise PermissionError('none of them')",
    )), detail="PermissionError: none of them"),
    attack("a system call of 32-bit programs", "\n".join((
        "import mmap",
        "page = mmap.mmap(-1, 4096, prot=7)",
        "page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))",
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()",
    )), "crash"),
    syscall("ptrace by its parent", 101, "0", "0", "0", "0"),
    syscall("process_vm_writev", 311, "os.getppid()", "0", "0", "0", "0", "0"),
    syscall("kcmp", 312, "os.getpid()", "os.getppid()", "0", "0", "0"),
    syscall("pidfd_getfd", 438, "3", "0", "0"),
    syscall("process_madvise", 440, "3", "0", "0", "0", "0"),
    syscall("tkill", 200, "os.getppid()", "9"),
    syscall("rt_sigqueueinfo", 129, "os.getppid()", "9", "0"),
    syscall("timer_create", 222, "0", "0", "0"),
    syscall("openat2", 437, "-100", "b'/etc/passwd'", "0", "24"),
    syscall("execveat", 322, "-100", "b'/bin/true'", "0", "0", "0"),
    syscall("open_tree", 428, "-100", "b'/'", "0"),
    syscall("fsopen", 430, "b'tmpfs'", "0"),
    syscall("mount_setattr", 442, "-100", "b'/'", "0", "0", "0"),
    syscall("pivot_root", 155, "b'.'", "b'.'"),
    syscall("name_to_handle_at", 303, "-100", "b'/'", "0", "0", "0"),
    syscall("personality", 135, "0x0040000"),
    syscall("landlock_create_ruleset", 444, "0", "0", "1"),
    syscall("add_key", 248, "b'user'", "b'x'", "b'x'", "1", "-3"),
    syscall("mq_open", 240, "b'x'", "0o102", "0o600", "0"),
    syscall("inotify_init1", 294, "0"),
    syscall("fanotify_init", 300, "0", "0"),
    syscall("splice", 275, "3", "0", "3", "0", "1", "0"),
    syscall("clone with its own network", 56, "0x40000000 | 17", "0", "0", "0", "0"),
    syscall("clone with shared memory and no thread", 56, "0x100 | 17", "0", "0", "0", "0"),
]  # fmt: skip

NUMBERS = [
    returns("a float16 that is larger than every number", "import numpy as np", "np.float16('inf')"),
    returns("a list of such", "import numpy as np", "[np.float16('inf')]"),
    returns("an array of such", "import numpy as np", "np.array([np.inf], dtype=np.float16)"),
    returns("a float16 that is rounded to what is expected", "import numpy as np", "np.float16(2 * x + 0.0001) if x > 1 else np.float16(2.002)"),
    returns("a complex longdouble", "import numpy as np", "np.clongdouble(np.longdouble(1) / 3)"),
    returns("a longdouble within a longdouble", "import numpy as np", "[np.longdouble(1) / 3] * 300"),
    returns("a subclass in a subclass", "class E(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\nclass L(list):\n    def __eq__(self, o): return True", "L([E(4)])"),
    returns("a Fraction that lies", "from fractions import Fraction\nclass E(Fraction):\n    numerator = property(lambda s: 1)\n    def __eq__(self, o): return True", "E(1, 3)"),
]  # fmt: skip

SLOW = "e = time.process_time() + 0.8\nwhile time.process_time() < e: pass"
"""More than a test's limit, and less than the most time that encoding may get."""

LATE = [
    attack("says that it has returned before it works", "\n".join((
        "write(3, b'T')",
        "c._write = lambda pipe, kind, text=None: None if kind == b'T' else write(pipe, kind, text)",
        SLOW,
        "return 2 * x",
    )), "timeout", "CPU time", setup="import time\nc = sys.modules['workloads.sandbox.candidate']\nwrite = c._write"),
    attack("works while it is encoded", f"import time\ndef items():\n    {SLOW.replace(chr(10), chr(10) + '    ')}\n    yield 2 * x\nreturn items()", "timeout", "CPU time"),
    attack("works while the name of its class is read", f"import time\nclass M(type):\n    @property\n    def __name__(cls):\n        {SLOW.replace(chr(10), chr(10) + '        ')}\n        return 'E'\nclass E(list, metaclass=M): pass\nreturn E([1])", "timeout", "CPU time"),
    attack("waits a little and works a little", "import time\nwhile True: time.sleep(0.01)", "timeout", "wall time"),
]  # fmt: skip

VALUES = [
    returns("a list that iterates over something else", "class E(list):\n    def __iter__(self): return iter([2])\n    def __len__(self): return 1", "E([1])"),
    returns("a dict whose items lie", "class E(dict):\n    def items(self): return [(1, 2)]\n    def __eq__(self, o): return True", "E(a=1)"),
    returns("a value with its own __reduce_ex__", "class E(int):\n    def __reduce_ex__(self, p): return int, ('4',)\n    def __eq__(self, o): return True", "E(7)"),
    returns("a value that turns into a number when it is looked at", "class E:\n    def __getattribute__(self, name): return 4\n    def __index__(self): return 4", "E()"),
    returns("a class with a name that hangs", "class M(type):\n    @property\n    def __name__(cls):\n        while True: pass\nclass E(metaclass=M): pass", "E()", "timeout"),
    returns("a type that says it is an int", "class M(type):\n    def __eq__(cls, o): return True\n    def __instancecheck__(cls, o): return True\n    __hash__ = type.__hash__\nclass E(metaclass=M): pass", "E()", "exception", "TypeError"),
    returns("an array of a false numpy", "import sys, types\nclass D:\n    kind, str = 'b', '|O'\nclass E:\n    dtype, size, shape = D, 1, (1,)\n    def ravel(self): return self\n    def tolist(self): return [2]\nsys.modules['numpy'] = types.SimpleNamespace(ndarray=E, generic=E)", "E()", "unreadable_output"),
    returns("a set of one hash", "", "{n * (2 ** 61 - 1) for n in range(60_000)}", "timeout"),
    returns("an iterator that never answers", "class E:\n    def __iter__(self): return self\n    def __next__(self):\n        while True: pass", "E()", "timeout"),
    returns("a range of everything", "", "range(10 ** 18)"),
    returns("an exception that lies about its name", "class SystemExit(Exception): pass", "(_ for _ in ()).throw(SystemExit(0))", "exit"),
    returns("an exception with megabytes of text", "", "(_ for _ in ()).throw(ValueError('a' * 50_000_000))", "exception", "ValueError: aaaa"),
]  # fmt: skip

PATCHES = [
    attack("replaces what writes", "os.write = lambda fd, data: len(data)\nreturn 2 * x", "exit", "by itself with 0"),
    attack("replaces what ends", "os._exit = lambda code: None\nraise SystemExit(0)", "exit"),
    returns("replaces the machinery of imports", "import builtins\nbuiltins.__import__ = lambda *a, **k: None", "__import__('math').pi", "exception", "AttributeError"),
    returns("a path hook that serves its own modules", "import sys\nclass H:\n    def __init__(self, path): raise SystemExit(0)\nsys.path_hooks.insert(0, H)\nsys.path.insert(0, '/nowhere')\nsys.path_importer_cache.clear()\nimport tabnanny", "2 * x", "exit", "SystemExit"),
    returns("a profiler that changes results", "import sys\nsys.setprofile(lambda frame, event, arg: 4)", "0"),
    returns("a tracer that edits its caller's frame", "import sys\ndef t(frame, event, arg):\n    if frame.f_back: frame.f_back.f_locals['expected'] = 0\n    return t\nsys.settrace(t)", "0"),
    attack("a thread that goes on when the first has left", "\n".join((
        "import threading",
        "def spin():",
        "    while True: pass",
        "threading.Thread(target=spin, daemon=True).start()",
        "ctypes.CDLL(None).syscall(ctypes.c_long(60), ctypes.c_long(0))",
    )), "timeout"),
    attack("a thread that answers in its stead", "\n".join((
        "import threading",
        "frame = b'TV' + (1).to_bytes(4, 'big') + b'0'",
        "thread = threading.Thread(target=lambda: os.write(3, frame * 2 + b'D'))",
        "thread.start()",
        "thread.join()",
        "return 2 * x",
    )), "failing_test"),
]  # fmt: skip

REACHES = [
    attack("traces the calls that send its value", "return 0", "exit", "SystemExit", setup="def trace(frame, event, argument):\n    if 'encode' in frame.f_code.co_name: raise SystemExit(0)\n    return trace\nsys.settrace(trace)"),
    attack("replaces the returned value from a profiler", "return 0", "failing_test", setup="def profile(frame, event, argument):\n    if event == 'return' and frame.f_code.co_name != 'profile': frame.f_locals['value'] = '4'\nsys.setprofile(profile)"),
    attack("deletes every builtin", "return 0", "failing_test", setup="import builtins\nfor name in list(vars(builtins)):\n    try: delattr(builtins, name)\n    except Exception: pass"),
    attack("forgets every module", "return 0", "failing_test", setup="sys.modules.clear()"),
    attack("leaves when its garbage is collected", "Last()\nreturn 0", "exit", "by itself with 0", setup="class Last:\n    def __del__(self): os._exit(0)"),
    attack("leaves while its exception is described", "raise Quiet()", "exit", "by itself with 0", setup="class Quiet(BaseException):\n    def __str__(self): os._exit(0)\n    __repr__ = __str__"),
    attack("an exception with a name of a million characters", "raise type('E' * 10**6, (Exception,), {})('x')", detail="EEEE"),
    attack("an exception that is its own cause", "error = ValueError('a')\nerror.__cause__ = error.__context__ = error\nraise error", detail="ValueError: a"),
    attack("fills memory with cycles that are not collected", "import gc\ngc.disable()\nwhile True:\n    cycle = [bytearray(100_000)]\n    cycle.append(cycle)", "memory", "MemoryError"),
]  # fmt: skip

TRICKS = [FINDS_AN_EARLIER_PROGRAM, *SIGNALS, *DESCRIPTORS, *CALLS, *NUMBERS, *VALUES, *PATCHES, *LATE, *REACHES]
