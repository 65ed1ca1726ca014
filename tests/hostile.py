"""Submissions that want points they did not earn, or to do harm; each with the reason it fails.

In a code, RIGHT stands for the honest solution, which defines conv_transpose2d; ROOT, COURSE and
CLASS for the repository, the exercises and the submissions; MARK for a name that no file may get.
"""

from dataclasses import dataclass


@dataclass
class Hostile:
    """A submission, and why it fails."""

    name: str
    why: str
    code: str
    earned: int | str = 0  # the points that its right answers earn; "all"
    needs_lock: bool = False  # it would do harm outside one
    roomy: bool = False  # handed in where a submission may start a few processes

    def written(self, solution, **places):
        """Its file, given the honest solution and the places that it looks for."""
        text = self.code.replace("RIGHT", f"{solution}\nhonest = conv_transpose2d\n")
        for word, place in places.items():
            text = text.replace(word, str(place))
        return f"# conv_transpose2d\n{text}"  # a file that never names it is not even loaded


HOSTILE: list[Hostile] = []


def hostile(name, why, code, **more):
    HOSTILE.append(Hostile(name, why, code.strip("\n") + "\n", **more))


# What most of them fall back on: an answer of the right shape, but of zeros.
ZEROS = """
import numpy as np

def shape_of(x, w, stride, padding):
    sides = [(n - 1) * stride - 2 * padding + k for n, k in zip(x.shape[2:], w.shape[2:])]
    return x.shape[0], w.shape[1], *sides

def conv_transpose2d(x, w, b=None, stride=1, padding=0):
    return np.zeros(shape_of(x, w, stride, padding))

zeros = conv_transpose2d
"""
# An answer frame as the worker writes it, for forgers.
FRAME = """
import os, struct

def frame(number, values=(0.0,), status=0, magic=b"msg1"):
    head = struct.pack("<4sQBBII", magic, number, status, 1, 0, 0)
    return head + struct.pack("<BBQ", 1, 1, len(values)) + struct.pack(f"<{len(values)}d", *values)

def everywhere(data):
    for number in range(64):
        try:
            os.set_blocking(number, False)
            os.write(number, data)
        except (OSError, ValueError):
            pass
"""


# Somebody else's answer


hostile("imports_the_library", "only NumPy is there to import", """
from minseg.functional import conv_transpose2d
""")  # fmt: skip
hostile("imports_the_library_past_the_finder", "the files of minseg are not mounted", """
import sys
sys.meta_path[:] = sys.meta_path[-1:]
sys.path += ["ROOT", "/packages", *[p.replace("numpy", "minseg") for p in sys.path]]
from minseg.functional import conv_transpose2d
""", needs_lock=True)  # fmt: skip
hostile("imports_scipy", "nothing of site-packages but NumPy is mounted", """
import sys
sys.meta_path[:] = sys.meta_path[-1:]
import scipy.signal
""", needs_lock=True)  # fmt: skip
hostile("reads_the_exercise", "the folder of the exercises is not mounted", """
exec(open("COURSE/conv_transpose2d.py").read().partition("### FOR THE TEACHER")[0])
""", needs_lock=True)  # fmt: skip
hostile("reads_other_students", "no folder with submissions is mounted", """
import os
for root, _, files in os.walk("CLASS"):
    for file in files:
        text = open(os.path.join(root, file)).read()
        if "def conv_transpose2d" in text and "hostile" not in root:
            exec(text)
assert callable(conv_transpose2d)
""", needs_lock=True)  # fmt: skip
hostile("searches_the_whole_disk", "the disk it sees holds Python and NumPy only", """
import os
for root, folders, files in os.walk("/"):
    folders[:] = [] if root in ("/proc", "/sys") else folders
    for file in files:
        if file in ("conv.py", "conv_transpose2d.py"):
            text = open(os.path.join(root, file)).read()
            if "def conv_transpose2d" in text:
                exec(text)
assert callable(conv_transpose2d)
""", needs_lock=True)  # fmt: skip
hostile("asks_the_network", "there is no network, so nobody is there to ask", """
import socket
errors = 0
for kind, address in [("AF_INET", ("1.1.1.1", 53)), ("AF_INET", ("127.0.0.1", 22)),
                      ("AF_INET6", ("::1", 22)), ("AF_UNIX", "/run/docker.sock"), ("AF_UNIX", "\\0MARK")]:
    for sort in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            with socket.socket(getattr(socket, kind), sort) as door:
                door.settimeout(0.2)
                door.connect(address)
                door.send(b"what is it?")
                if sort == socket.SOCK_STREAM:
                    exec(door.recv(10**6))
        except OSError:
            errors += 1
assert callable(conv_transpose2d)
""", needs_lock=True)  # fmt: skip


# Values that pretend


hostile("is_equal_to_all", "only plain arrays are sent, and an object is none", """
class Yes:
    def __eq__(self, other): return True
    __le__ = __lt__ = __ge__ = __gt__ = __eq__
    shape = property(lambda self: self)
    def __getattr__(self, name): return self

def conv_transpose2d(*args, **kwargs):
    return Yes()
""")  # fmt: skip
hostile("is_an_array_that_lies",
        "a subclass of ndarray is refused, whatever its methods say", ZEROS + """
class Liar(np.ndarray):
    def __eq__(self, other): return np.ones(self.shape, bool)
    def __array_ufunc__(self, *args, **kwargs): return np.True_
    def __array_function__(self, *args, **kwargs): return True

def conv_transpose2d(*args, **kwargs):
    return zeros(*args, **kwargs).view(Liar)
""")  # fmt: skip
hostile("offers_an_array_interface", "what merely can become an array is refused", ZEROS + """
class Interface:
    def __init__(self, array): self.__array_interface__ = array.__array_interface__
    def __array__(self, *args, **kwargs): return np.zeros(3)

def conv_transpose2d(*args, **kwargs):
    return Interface(zeros(*args, **kwargs))
""")  # fmt: skip
hostile("patches_numpy",
        "the comparison happens in another process, with its own NumPy", ZEROS + """
for name in ("array_equal", "allclose", "isclose", "all", "isfinite", "abs", "array", "asarray"):
    setattr(np, name, lambda *args, **kwargs: np.True_)
np.testing = None
""")  # fmt: skip
hostile("patches_the_worker",
        "the worker gives no verdict: patched, it sends other wrong answers", ZEROS + """
import __main__, builtins, struct
__main__.as_arrays = lambda value: [np.zeros(1)]
__main__.in_words = lambda *args: "passed"
__main__.write_answer.__code__ = (lambda pipe, number, status, arrays, error="", printed="":
    pipe.write(b"passed, 6 points") and pipe.flush()).__code__
""")  # fmt: skip
hostile("walks_the_frames",
        "the frames of its process hold its own inputs, no expected value", ZEROS + """
import sys

def conv_transpose2d(x, w, b=None, stride=1, padding=0):
    found, frame = [], sys._getframe()
    while frame is not None:
        for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
            found += [value] if isinstance(value, np.ndarray) else []
        frame = frame.f_back
    fits = [v for v in found if v.shape == shape_of(x, w, stride, padding) and v is not x]
    return fits[0] if fits else zeros(x, w, b, stride, padding)
""")  # fmt: skip
hostile("collects_the_garbage", "no expected value was ever in its memory", ZEROS + """
import gc

def conv_transpose2d(x, w, b=None, stride=1, padding=0):
    found = [v for v in gc.get_objects() if isinstance(v, np.ndarray)]
    found += [v for o in gc.get_objects() if type(o) is dict for v in o.values() if type(v) is np.ndarray]
    fits = [v for v in found if v.shape == shape_of(x, w, stride, padding) and v is not x]
    return fits[0] if fits else zeros(x, w, b, stride, padding)
""")  # fmt: skip
hostile("looks_for_the_seed", "the seed is in the grader's process only", ZEROS + """
import re

def conv_transpose2d(x, w, b=None, stride=1, padding=0):
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as memory:
        for line in maps:
            first, last = (int(n, 16) for n in line.split()[0].split("-"))
            if "rw" in line and last - first < 1 << 22:
                memory.seek(first)
                for seed in re.findall(rb"seed.{0,8}?([0-9a-f]{32})", memory.read(last - first)):
                    rng = np.random.default_rng(int(seed, 16))
                    return rng.integers(-9, 9, shape_of(x, w, stride, padding)).astype(float)
    return zeros(x, w, b, stride, padding)
""", needs_lock=True)  # fmt: skip
hostile("changes_its_inputs", "the reference computes from the grader's own copies", ZEROS + """
def conv_transpose2d(x, w, b=None, stride=1, padding=0):
    x[...] = 0
    w[...] = 0
    return zeros(x, w, b, stride, padding)
""")  # fmt: skip
hostile("answers_zeros", "no case has zeros for an answer", ZEROS)
hostile("answers_nothing",
        "the shape is compared before the values, and an empty array has another", """
import numpy as np

def conv_transpose2d(*args, **kwargs):
    return np.empty(0)
""")  # fmt: skip
hostile("answers_one_number", "a number is not stretched to the shape that is expected", """
def conv_transpose2d(x, w, b=None, stride=1, padding=0):
    return float(x.flat[0] * w.flat[0])
""")  # fmt: skip
hostile("answers_many", "as many arrays are expected as the reference returns", """RIGHT
def conv_transpose2d(*args, **kwargs):
    return [honest(*args, **kwargs), honest(*args, **kwargs)]
""")  # fmt: skip
hostile("answers_nested_lists", "lists are not turned into arrays", """RIGHT
def conv_transpose2d(*args, **kwargs):
    return honest(*args, **kwargs).tolist()
""")  # fmt: skip
hostile("answers_a_deep_nest", "a list within lists is no array, and nobody walks down into it", """
def conv_transpose2d(*args, **kwargs):
    nest = []
    for _ in range(100_000):
        nest = [nest]
    return nest
""")  # fmt: skip
for kind, why in [
    ("'complex'", "a complex array is refused, not cast, so a wrong imaginary part cannot vanish"),
    ("'U32'", "an array of strings is refused, not read as numbers"),
    ("'object'", "an array of objects is refused; only numbers cross the pipe"),
    ("'longdouble'", "a dtype that another machine lacks is refused"),
    ("'float16'", "a dtype that is not listed is refused"),
    ("[('a', 'f8')]", "a structured array is refused"),
    ("'M8[s]'", "a date is no number"),
]:
    hostile(f"answers_{''.join(filter(str.isalnum, kind))}", why, f"""RIGHT
def conv_transpose2d(*args, **kwargs):
    return honest(*args, **kwargs).astype(np.int64).astype({kind})
""")  # fmt: skip
hostile("answers_bytes_that_wrap", "values are compared as numbers, and 255 is not -1", """RIGHT
def conv_transpose2d(*args, **kwargs):
    return honest(*args, **kwargs).astype(np.int64).astype(np.uint8)
""")  # fmt: skip
hostile("answers_big_endian", "the same numbers in another order of bytes are right", """RIGHT
def conv_transpose2d(*args, **kwargs):
    return honest(*args, **kwargs).astype(">f8")
""", earned="all")  # fmt: skip
hostile("answers_nan",
        "NaN is refused before differences are looked at, which it would pass", """RIGHT
def conv_transpose2d(*args, **kwargs):
    return honest(*args, **kwargs) * np.nan
""")  # fmt: skip
hostile("answers_infinity", "an infinite value is refused where a number is expected", """RIGHT
def conv_transpose2d(*args, **kwargs):
    return honest(*args, **kwargs) * np.inf
""")  # fmt: skip
hostile("answers_bools_that_are_neither",
        "a truth value other than 0 and 1 is no frame of ours", FRAME + """
def conv_transpose2d(*args, **kwargs):
    import sys
    number = sys._getframe(2).f_locals["number"]
    everywhere(struct.pack("<4sQBBII", b"msg1", number, 0, 1, 0, 0) + struct.pack("<BBQ", 5, 1, 1) + b"x")
""")  # fmt: skip
hostile("is_right_on_odd_calls", "a check gives points only if all of its cases are right", """RIGHT
calls = 0

def conv_transpose2d(*args, **kwargs):
    global calls
    calls += 1
    return honest(*args, **kwargs) * (calls % 2)
""")  # fmt: skip
hostile("is_right_three_times", "two right answers earn the first check, and nothing more", """RIGHT
calls = 0

def conv_transpose2d(*args, **kwargs):
    global calls
    calls += 1
    return honest(*args, **kwargs) * (calls <= 3)
""", earned=1)  # fmt: skip


# Exits and errors


hostile("exits_at_import", "the exit status is never read as a verdict", "import os\nos._exit(0)")
hostile("raises_system_exit", "SystemExit is an error like any other", """
def conv_transpose2d(*args, **kwargs):
    raise SystemExit(0)
""")  # fmt: skip
hostile("exits_at_a_call", "a process that is gone has not answered", """
import os

def conv_transpose2d(*args, **kwargs):
    os._exit(0)
""")  # fmt: skip
hostile("leaves_something_for_the_end",
        "killed, a process runs no exit handler; and no file is read", """
import atexit, json

@atexit.register
def forge():
    for name in ("results.json", "/autograder/results/results.json", "CLASS/MARK", "MARK"):
        try:
            with open(name, "w") as file:
                json.dump({"score": 6, "passed": True}, file)
        except OSError:
            pass

def conv_transpose2d(*args, **kwargs):
    raise SystemExit(0)
""", needs_lock=True)  # fmt: skip
hostile("raises_what_cannot_be_told",
        "an error that makes an error ends the process: no answer", """
class Untold(Exception):
    def __str__(self):
        raise Untold

def conv_transpose2d(*args, **kwargs):
    raise Untold
""")  # fmt: skip
hostile("tells_a_long_story", "of an error so many bytes are read, and no more", """
def conv_transpose2d(*args, **kwargs):
    raise ValueError("passed " * 10**7)
""")  # fmt: skip
hostile("recurses", "Python stops it; an error is no answer", """
def conv_transpose2d(*args, **kwargs):
    return conv_transpose2d(*args, **kwargs)
""")  # fmt: skip
hostile(
    "nests_its_source",
    "what cannot be compiled answers nothing",
    "conv_transpose2d = " + "(" * 5000,
)
hostile("reads_from_nowhere", "a segmentation fault ends the worker, and nobody else", """
import ctypes

def conv_transpose2d(*args, **kwargs):
    ctypes.string_at(0)
""")  # fmt: skip
hostile("closes_its_files", "without the pipe there is no answer", """
import os
os.closerange(0, 256)

def conv_transpose2d(*args, **kwargs):
    return 0
""")  # fmt: skip


# Forged answers


hostile("answers_before_it_is_asked",
        "a frame carries an answer and no verdict, and a wrong one", FRAME + """
for n in range(2, 100):
    everywhere(frame(n))

def conv_transpose2d(*args, **kwargs):
    return 0.0
""")  # fmt: skip
hostile("answers_out_of_order", "an answer carries the number of its call", FRAME + """
def conv_transpose2d(*args, **kwargs):
    everywhere(frame(10**6) + frame(3))
""")  # fmt: skip
hostile("answers_twice", "the second answer is the answer to no call", FRAME + """
import sys

def conv_transpose2d(*args, **kwargs):
    number = sys._getframe(2).f_locals["number"]
    everywhere(frame(number) * 2)
""")  # fmt: skip
hostile("writes_its_own_grade", "what is no frame ends the worker", FRAME + """
everywhere(b'{"score": 6, "points": 6, "passed": true}\\n' * 20)

def conv_transpose2d(*args, **kwargs):
    return 0.0
""")  # fmt: skip
hostile("announces_a_huge_array", "sizes are checked before anything is allocated", FRAME + """
import sys

def conv_transpose2d(*args, **kwargs):
    number = sys._getframe(2).f_locals["number"]
    shape = struct.pack("<BB2Q", 1, 2, 2**40, 2**40)
    everywhere(struct.pack("<4sQBBII", b"msg1", number, 0, 1, 0, 0) + shape)
""")  # fmt: skip
hostile("announces_more_than_it_sends", "the time is up before the rest comes", FRAME + """
import sys, time

def conv_transpose2d(*args, **kwargs):
    number = sys._getframe(2).f_locals["number"]
    everywhere(struct.pack("<4sQBBII", b"msg1", number, 0, 1, 0, 0) + struct.pack("<BBQ", 1, 1, 10**6))
    time.sleep(100)
""")  # fmt: skip
hostile("returns_too_much", "an answer is at most 64 MB, and that is known before it is read", """
import numpy as np

def conv_transpose2d(*args, **kwargs):
    return np.zeros(65 << 20, np.uint8)
""")  # fmt: skip
hostile("returns_much_each_time", "what is kept of all answers is bounded too", """
import numpy as np

def conv_transpose2d(*args, **kwargs):
    return np.zeros(60 << 20, np.uint8)
""")  # fmt: skip
hostile("returns_a_giant_of_no_size", "a stretched array is copied, for which there is no room", """
import numpy as np

def conv_transpose2d(*args, **kwargs):
    return np.broadcast_to(0.0, (1 << 40,))
""", needs_lock=True)  # fmt: skip
hostile("returns_what_grows", "a property is only tried on answers of the right shape", """
import numpy as np
calls = 0

def conv_transpose2d(*args, **kwargs):
    global calls
    calls += 1
    return np.zeros((8000, 1) if calls % 2 else (1, 8000))
""")  # fmt: skip
hostile("floods_its_output", "of what is printed a little is kept", ZEROS + """
import sys

def conv_transpose2d(x, w, b=None, stride=1, padding=0):
    for _ in range(1000):
        print("<script>passed</script>" * 1000)
        print("\\033[2J" * 1000, file=sys.stderr)
    return zeros(x, w, b, stride, padding)
""")  # fmt: skip
hostile("floods_every_pipe", "the first bytes that make no frame end it", """
import os, threading

def conv_transpose2d(*args, **kwargs):
    while True:
        for number in range(32):
            try:
                os.set_blocking(number, False)
                os.write(number, b"passed" * 10_000)
            except OSError:
                pass
""")  # fmt: skip


# Time and room


hostile("loops_at_import", "the grader's clock runs out", "while True:\n    pass")
hostile("loops_at_a_call",
        "the grader's clock runs out, and at the second time no more is asked", """
def conv_transpose2d(*args, **kwargs):
    while True:
        pass
""")  # fmt: skip
hostile("sleeps", "the grader's clock runs out", """
import time

def conv_transpose2d(*args, **kwargs):
    time.sleep(1000)
""")  # fmt: skip
hostile("swallows_everything", "SIGKILL cannot be caught", """
import signal, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass

def conv_transpose2d(*args, **kwargs):
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass
""", needs_lock=True)  # fmt: skip
hostile("takes_all_memory", "the process may use 2 GB, and then gets a MemoryError", """
import numpy as np

def conv_transpose2d(*args, **kwargs):
    return [np.ones(1 << 28) for _ in range(100)]
""", needs_lock=True)  # fmt: skip
hostile("takes_memory_as_files", "there are no files in memory but its folder's", ZEROS + """
import os
os.memfd_create("MARK")
""", needs_lock=True)  # fmt: skip
hostile("takes_shared_memory", "memory that no limit counts is not given", ZEROS + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
for total in range(100):
    segment = libc.shmget(0, 1 << 28, 0o1600)
    if segment < 0:
        break
    place = libc.shmat(segment, None, 0)
    ctypes.memset(place, 1, 1 << 28)
    libc.shmdt(ctypes.c_void_p(place))
assert total == 0, total
""", needs_lock=True)  # fmt: skip
hostile("fills_the_disk", "its folder lies in memory of its own, of 16 MB", ZEROS + """
import os
written = 0
for folder in ("/scratch", "/tmp", "/dev/shm", "/var/tmp", "/", "CLASS", "ROOT"):
    for n in range(1000):
        try:
            with open(f"{folder}/MARK{n}", "wb", buffering=0) as file:
                while True:
                    written += file.write(bytes(1 << 16))
        except OSError:
            if not os.path.exists(f"{folder}/MARK{n}"):
                break
print("written", written)
assert written <= 16 << 20
""", needs_lock=True)  # fmt: skip
hostile("starts_processes", "no process can be started where NumPy is all one needs", ZEROS + """
import os
while True:
    os.fork()
""", needs_lock=True)  # fmt: skip
hostile("starts_processes_where_some_may",
        "their number is bounded, and they die with their namespace", ZEROS + """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
""", needs_lock=True, roomy=True)  # fmt: skip
hostile("starts_threads", "threads count as processes", ZEROS + """
import threading, time
try:
    for started in range(10_000):
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
except RuntimeError:
    print("started", started)
assert started < 12
""", needs_lock=True, roomy=True)  # fmt: skip
DAEMON = (
    FRAME
    + ZEROS
    + """
import time

def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            return True
        os._exit(0)
    os.wait()
    return False
"""
)
hostile("leaves_a_daemon_that_writes", "the whole namespace dies with the worker", DAEMON + """
if daemon():
    while True:
        time.sleep(0.2)
        for folder in ("CLASS", "ROOT", "/tmp", "/scratch", "/dev/shm"):
            try:
                open(folder + "/MARK", "w").close()
            except OSError:
                pass
""", needs_lock=True, roomy=True)  # fmt: skip
hostile("leaves_a_daemon_that_answers",
        "what answers after the worker is dead, answers nobody", DAEMON + """
def conv_transpose2d(x, w, b=None, stride=1, padding=0):
    if daemon():
        for n in range(1000):
            time.sleep(0.01)
            everywhere(frame(n))
        os._exit(0)
    os._exit(0)
""", needs_lock=True, roomy=True)  # fmt: skip


# Out of the lock


hostile("starts_a_program", "no shell is there to start", """
import os, subprocess
for program in ("/bin/sh", "/usr/bin/python3", "/usr/bin/env", "/usr/bin/sudo", "/bin/su"):
    assert not os.path.exists(program) or program == "/usr/bin/python3", program
subprocess.run(["sh", "-c", "touch CLASS/MARK"])
""", needs_lock=True)  # fmt: skip
hostile("becomes_another_program", "whatever it becomes, it is in the same lock", """
import os, sys
os.set_inheritable(3, True)
os.set_inheritable(4, True)
os.execv(sys.executable, [sys.executable, "-c", "import os; os.write(4, b'msg1' + bytes(100))"])
""", needs_lock=True)  # fmt: skip
hostile("kills_all_it_can_see",
        "it sees its own namespace, in which it is the first and only process", ZEROS + """
import os, signal

def conv_transpose2d(*args, **kwargs):
    for pid in [os.getppid(), 1, -1, *range(2, 40000)]:
        try:
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    os.killpg(0, signal.SIGKILL)
""", needs_lock=True)  # fmt: skip
hostile("stops_itself_and_its_parent", "a stopped process does not answer, and can be killed", """
import os, signal

def conv_transpose2d(*args, **kwargs):
    os.kill(os.getppid(), signal.SIGSTOP)
    os.kill(0, signal.SIGSTOP)
""", needs_lock=True)  # fmt: skip
hostile("writes_into_its_parent", "it has no parent in its namespace", ZEROS + """
import ctypes, os
libc = ctypes.CDLL(None)
parent = os.getppid()
PTRACE_ATTACH = 16
print("ptrace", libc.ptrace(PTRACE_ATTACH, parent, None, None))
try:
    with open(f"/proc/{parent}/mem", "r+b", buffering=0) as memory:
        memory.write(b"passed")
except OSError:
    pass
""", needs_lock=True)  # fmt: skip
hostile("outlives_its_parent",
        "it cannot cancel the signal, and the grader kills it anyway", ZEROS + """
import ctypes
libc = ctypes.CDLL(None)
print("prctl", libc.prctl(1, 0, 0, 0, 0))  # PR_SET_PDEATHSIG: no signal when the parent dies

def conv_transpose2d(*args, **kwargs):
    while True:
        pass
""", needs_lock=True)  # fmt: skip
hostile("reads_the_environment", "the environment holds nothing of the grader's", ZEROS + """
import os
print(dict(os.environ))
for pid in filter(str.isdigit, os.listdir("/proc")):
    for what in ("environ", "cmdline"):
        try:
            print(open(f"/proc/{pid}/{what}").read()[-300:])
        except OSError:
            pass
""", needs_lock=True)  # fmt: skip
hostile("lifts_its_limits", "a hard limit can only be lowered", ZEROS + """
import resource
for name in ("AS", "NPROC", "FSIZE", "NOFILE"):
    limit = getattr(resource, f"RLIMIT_{name}")
    try:
        resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        continue
    raise AssertionError("lifted")

def conv_transpose2d(*args, **kwargs):
    return [np.ones(1 << 28) for _ in range(100)]
""", needs_lock=True)  # fmt: skip
hostile("makes_a_namespace", "there, too, it is nobody, and nothing else is mounted", """
import ctypes, os
libc = ctypes.CDLL(None)
libc.unshare(0x10000000)  # CLONE_NEWUSER
libc.unshare(0x00020000)  # CLONE_NEWNS
libc.umount2(b"/usr/lib", 2)
libc.mount(b"proc", b"/proc", b"proc", 0, None)
exec(open("COURSE/conv_transpose2d.py").read().partition("### FOR THE TEACHER")[0])
""", needs_lock=True)  # fmt: skip
hostile("poisons_python",
        "what Python loads is read-only, and the grader looks nowhere else", ZEROS + """
import os, sys
evil = "import os; open('/tmp/MARK', 'w')"
places = [*sys.path, "ROOT", "ROOT/minseg/grading", "COURSE", "CLASS", "/etc", "/scratch"]
done = []
for place in places:
    for name in ("sitecustomize.py", "usercustomize.py", "MARK.pth", "numpy.py", "__pycache__/MARK.pyc"):
        try:
            os.makedirs(os.path.dirname(f"{place}/{name}"), exist_ok=True)
            open(f"{place}/{name}", "w").write(evil)
            done.append(place)
        except OSError:
            pass
assert set(done) <= {"/scratch"}, done
""", needs_lock=True)  # fmt: skip
hostile("follows_links", "a link leads nowhere that it could not go without one", """
import os
os.symlink("COURSE/conv_transpose2d.py", "/scratch/solution.py")
os.symlink("CLASS", "/scratch/class")
try:
    open("/scratch/class/MARK", "w").close()
except OSError:
    pass
exec(open("/scratch/solution.py").read().partition("### FOR THE TEACHER")[0])
""", needs_lock=True)  # fmt: skip
hostile("digs_deep", "its folder is gone with it, however deep", ZEROS + """
import os
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
""", needs_lock=True)  # fmt: skip
