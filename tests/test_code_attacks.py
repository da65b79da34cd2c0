"""Attacks on code_reward, in the real sandbox: none is paid, outlives its time, sees or changes anything outside."""

import contextlib
import errno
import inspect
import os
import resource
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from platform import machine

import psutil
import pytest

import rewards
from rewards import code_reward, get_code_reward, sandbox
from rewards.sandbox import Unsandboxed

pytestmark = pytest.mark.needs_sandbox

SLACK = 4  # seconds beyond the time that code may take, for a machine that others use too
MEMORY = 300 + os.getpid() % 200  # MB; it stands in the command lines, by which the processes of this file are known
CODE = Path(rewards.__file__).parent
RIGHT = "def f(x):\n    return x * x"
TESTS = "assert f(2) == 4\nassert f(3) == 9"
PAIRS = {"inputs": ["2\n", "3\n"], "outputs": ["4\n", "9\n"]}
CALLS = {"fn_name": "f", "inputs": [[2], [3]], "outputs": [4, 9]}


def running() -> list[list[str]]:
    """The command lines of all processes on this machine that this file has started in a sandbox."""
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(MEMORY * 2**20) in line]


def soon(condition, seconds: float = 2) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    """After each test no process, and as many threads, open files, and files in the caller's folders as before."""
    folders = (tmp_path / "temporary", tmp_path / "working", CODE)
    for folder in folders[:2]:
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders[0]))
    monkeypatch.chdir(folders[1])

    def state() -> tuple:
        watched = [sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") for folder in folders]
        return watched, threading.active_count(), len(os.listdir("/proc/self/fd"))

    before = state()
    yield
    assert soon(lambda: not running()), running()
    assert soon(lambda: state() == before), (before, state())


def judged(codes: list[str], tests, seconds: float = 2, **options) -> list[float | None]:
    """The scores of a batch, which has the time of each and some seconds more, however few cores there are."""
    reward = get_code_reward(timeout=seconds, memory_mb=MEMORY, **options)
    begin = time.monotonic()
    given = reward(completions=[f"```python\n{code}\n```" for code in codes], tests=[tests] * len(codes))
    assert time.monotonic() - begin < seconds * len(codes) + SLACK
    return given


def score(code: str, tests=TESTS, seconds: float = 2, **options) -> float | None:
    return judged([code], tests, seconds, **options)[0]


# What the system refuses: each of these raises, in the sandbox, the error that it should, and no other

# Of those that Python has no function for; Linux: asm/unistd_64.h and asm-generic/unistd.h.
NEW = {"fsopen": 430, "open_tree": 428}
SYSCALLS = {
    "x86_64": {"clone": 56, "fork": 57, "vfork": 58, "clone3": 435, "ptrace": 101, "memfd_secret": 447, "shmget": 29}
    | {"msgget": 68, "semget": 64, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155}
    | {"chroot": 161, "process_vm_readv": 310, "process_vm_writev": 311, "add_key": 248, "request_key": 249}
    | {"keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425, "socket": 41}
    | {"open_by_handle_at": 304, "memfd_create": 319, "vmsplice": 278, "io_setup": 206, "inotify_init1": 294}
    | {"fanotify_init": 300, "syslog": 103, "sync": 162, "timer_create": 222, "mq_open": 240, "setxattr": 188}
    | {"tgkill": 234}
    | NEW,
    "aarch64": {"clone": 220, "clone3": 435, "ptrace": 117, "memfd_secret": 447, "shmget": 194, "msgget": 186}
    | {"semget": 190, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51}
    | {"process_vm_readv": 270, "process_vm_writev": 271, "add_key": 217, "request_key": 218, "keyctl": 219, "bpf": 280}
    | {"perf_event_open": 241, "userfaultfd": 282, "io_uring_setup": 425, "socket": 198, "open_by_handle_at": 265}
    | {"memfd_create": 279, "vmsplice": 75, "io_setup": 0, "inotify_init1": 26, "fanotify_init": 262, "syslog": 116}
    | {"sync": 81, "timer_create": 107, "mq_open": 180, "setxattr": 5, "tgkill": 131}
    | NEW,
}
HERE = SYSCALLS.get(machine(), {})
ATTACK = f"""
import ctypes, errno, fcntl, mmap, os, resource, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
room = ctypes.create_string_buffer(4096)

def call(name, *arguments):
    ctypes.set_errno(0)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(ctypes.c_long({HERE}.get(name, name)), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), str(name))
    return result
"""


def is_refused(attack: str, errors: str = "OSError") -> bool:
    body = textwrap.indent(attack, " " * 8)
    code = f"{ATTACK}\ndef f():\n    try:\n{body}\n    except ({errors}) as error:\n        return 'refused'\n"
    return score(code, "assert f() == 'refused'") == 1.0


NEW_PROCESSES = {
    "fork": "os.fork() or os._exit(0)",
    "forkpty": "os.forkpty()[0] or os._exit(0)",
    "subprocess": "subprocess.run(['/bin/true'], check=True)",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "system": "if os.system('exit 7') >> 8 != 7: raise OSError",
    "popen": "if os.popen('echo 7').read() != '7\\n': raise OSError",
    "multiprocessing": "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()",
    "multiprocessing by spawn": "import multiprocessing\nmultiprocessing.get_context('spawn').Process().start()",
    "a pool": "from concurrent.futures import ProcessPoolExecutor as Pool\nPool(1).submit(print).result()",
    "fork of the C library": "if libc.fork() < 0: raise OSError\nos._exit(0)",
    "clone": "call('clone', signal.SIGCHLD, 0, 0, 0, 0) or os._exit(0)",
    "clone of name spaces": "call('clone', signal.SIGCHLD | 0x10020000, 0, 0, 0, 0) or os._exit(0)",
    "clone beside the parent": "call('clone', signal.SIGCHLD | 0x8000, 0, 0, 0, 0) or os._exit(0)",
    "clone with high bits": "call('clone', ctypes.c_long(0x100000000 | signal.SIGCHLD), 0, 0, 0, 0) or os._exit(0)",
    "clone3": "call('clone3', (ctypes.c_uint64 * 8)(0, 0, 0, 0, signal.SIGCHLD), 64) or os._exit(0)",
    "fork of x32": "call(0x40000000 | 57) or os._exit(0)",
    "clone of x32": "call(0x40000000 | 56, signal.SIGCHLD, 0, 0, 0, 0) or os._exit(0)",
}
if machine() == "x86_64":
    NEW_PROCESSES["the system call fork"] = "call('fork') or os._exit(0)"


@pytest.mark.parametrize("name", NEW_PROCESSES)
def test_code_starts_no_process(name):
    assert is_refused(NEW_PROCESSES[name])


@pytest.mark.skipif(machine() != "x86_64", reason="machine code of x86_64")
def test_system_calls_by_the_numbers_of_another_machine_end_the_code():
    fork = r"b'\xb8\x02\x00\x00\x00\xcd\x80\xc3'"  # mov eax, 2; int 0x80; ret
    code = f"""{ATTACK}
page = mmap.mmap(-1, 4096, prot=7)
page.write(%s)
run = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
def f():
    return run()
"""
    assert score(code % fork, "assert f() != 0") == 0.0
    assert score(code % r"b'\xb8\x07\x00\x00\x00\xc3'", "assert f() == 7") == 1.0


OUTSIDE = {
    "a socket": "socket.socket()",
    "a socket to listen": "socket.create_server(('127.0.0.1', 0))",
    "a raw socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "a socket of the kernel": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "a socket of a virtual machine": "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
    "a name": "socket.getaddrinfo('example.com', 80)",
    "a download": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
    "tracing the parent": "call('ptrace', 16, 1, 0, 0)",
    "reading the parent": "call('process_vm_readv', 1, room, 1, room, 1, 0)",
    "writing to the parent": "call('process_vm_writev', 1, room, 1, room, 1, 0)",
    "the memory of the parent": "open('/proc/1/mem')",
    "the processes": "os.listdir('/proc')",
    "the kernel's settings": "os.listdir('/sys')",
    "the kernel's messages": "call('syslog', 3, room, 4096)",
    "a terminal": "open('/dev/tty')",
    "a new terminal": "os.openpty()",
    "a disk": "os.listdir('/dev/disk')",
    "a device": "os.mknod('/tmp/kmsg', 0o20666, os.makedev(1, 11))",
    "a mount": "call('mount', b'none', b'/tmp', b'tmpfs', 0, 0)",
    "a mount by handle": "call('fsopen', b'tmpfs', 0)",
    "a tree by handle": "call('open_tree', -100, b'/usr', 1)",
    "an unmounted /usr": "call('umount2', b'/usr', 2)",
    "another root": "os.chroot('/usr')",
    "a name space": "call('unshare', 0x10000000)",
    "another's name space": "call('setns', 0, 0)",
    "a key": "call('add_key', b'user', b'x', b'x', 1, -3)",
    "the session's keys": "call('keyctl', 0, -3, 1)",
    "a BPF program": "call('bpf', 0, room, 100)",
    "counters of the machine": "call('perf_event_open', room, 0, -1, -1, 0)",
    "faults of pages": "call('userfaultfd', 1)",
    "rings of requests": "call('io_uring_setup', 8, room)",
    "a file by handle": "call('open_by_handle_at', -100, room, 0)",
    "passwords": "open('/etc/shadow')",
    "users": "open('/etc/passwd')",
    "another user": "os.setuid(0)",
    "another group": "os.setgroups([0])",
    "a higher priority": "os.nice(-5)",
    "real time": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "another name of the machine": "socket.sethostname('x')",
    "another time": "time.clock_settime(time.CLOCK_REALTIME, 0)",
    "the caller": f"os.kill({os.getpid()}, 0)",
    "a thread of the caller": f"call('tgkill', {os.getpid()}, {os.getpid()}, 0)",
    "a handle of the caller": f"os.pidfd_open({os.getpid()})",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_code_reaches_nothing_outside(name):
    assert is_refused(OUTSIDE[name])


# Counted, or held, for the whole user or the whole machine, so that one completion would take it from others.
SHARED = {
    "memory of a secret file": "call('memfd_secret', 0)",
    "memory of a nameless file": "os.memfd_create('x')",
    "memory of System V": "call('shmget', 0, 4096, 0o1600)",
    "messages of System V": "call('msgget', 0, 0o1600)",
    "semaphores of System V": "call('semget', 0, 1, 0o1600)",
    "shared memory": "from multiprocessing.shared_memory import SharedMemory\nSharedMemory('x', True, 4096)",
    "attributes of files": "open('/tmp/x', 'w').close()\nos.setxattr('/tmp/x', 'user.x', bytes(65_000))",
    "requests of files": "call('io_setup', 60_000, ctypes.byref(ctypes.c_ulong()))",
    "watched files": "call('inotify_init1', 0)",
    "watched file systems": "call('fanotify_init', 0x200, 0)",
    "1,000 timers": "for _ in range(1_000): call('timer_create', 0, 0, room)",
    "queues of messages": "for name in range(60): call('mq_open', b'%d' % name, 0o102, 0o600, 0)",
    "all disks": "call('sync')",
}


@pytest.mark.parametrize("name", SHARED)
def test_code_takes_nothing_from_others(name):
    assert is_refused(SHARED[name])


def test_pages_that_a_pipe_holds_are_no_way_around_the_limit_of_memory():
    pages = "pages = mmap.mmap(-1, 4096)\naddress = ctypes.addressof(ctypes.c_char.from_buffer(pages))\n"
    assert is_refused(pages + "call('vmsplice', os.pipe()[1], (ctypes.c_size_t * 2)(address, 4096), 1, 0)")


# Devices are the machine's own, and root's where the caller is root. What is tried here changes nothing if it works.
DEVICES = {
    "mode": "os.chmod(device, os.stat(device).st_mode & 0o7777)",
    "mode of an open file": "os.fchmod(os.open(device, os.O_RDONLY), os.stat(device).st_mode & 0o7777)",
    "owner": "os.chown(device, os.stat(device).st_uid, os.stat(device).st_gid)",
    "owner of an open file": "os.fchown(os.open(device, os.O_RDONLY), os.stat(device).st_uid, os.stat(device).st_gid)",
    "times": "os.utime(device, ns=(os.stat(device).st_atime_ns, os.stat(device).st_mtime_ns))",
    "attributes": "os.setxattr(device, 'system.posix_acl_access', bytes.fromhex('02000000') + bytes(4))",
    "name": "os.rename(device, device + '_')",
    "existence": "os.remove(device)",
    "another name": "os.link(device, '/tmp/device')",
}


@pytest.mark.parametrize("name", DEVICES)
def test_code_changes_no_device(name):
    for device in ("/dev/null", "/dev/urandom"):
        assert is_refused(f"device = {device!r}\n{DEVICES[name]}")


FOLDERS = [
    "/",
    "/usr",
    "/usr/bin",
    "/usr/local/lib",
    "/lib",
    "/etc",
    "/dev",
    "/dev/shm",
    "/proc",
    "/sys",
    "/run",
    "/var/tmp",
]
FOLDERS += ["/home", "/root", "/opt", "/mnt", str(Path.home()), str(CODE), str(CODE.parent), sys.base_prefix]
FOLDERS += [os.path.dirname(os.path.realpath(path)) for path in (sys.executable, os.__file__, inspect.__cached__)]


@pytest.mark.parametrize("folder", sorted({*FOLDERS}))
def test_code_writes_into_no_folder(folder):
    path = f"{folder}/written_{secrets.token_hex(8)}"
    for attack in ("open({!r}, 'w')", "os.symlink('/tmp', {!r})"):
        assert is_refused(attack.format(path))
    assert not os.path.lexists(path)


def test_code_writes_into_no_folder_of_the_caller(tmp_path):
    (tmp_path / "working" / "mine").write_text("mine")
    assert is_refused(f"open({str(tmp_path / 'working' / 'mine')!r}, 'a')")
    assert is_refused(f"open({str(tmp_path / 'working' / 'other')!r}, 'w')")
    assert is_refused(f"os.remove({str(tmp_path / 'working' / 'mine')!r})")
    assert score("open('other', 'w').write('x')\ndef f(): return 1", "assert f() == 1") == 1.0  # in a /tmp of its own
    assert (tmp_path / "working" / "mine").read_text() == "mine"
    (tmp_path / "working" / "mine").unlink()


def test_what_code_writes_to_tmp_is_seen_by_nobody():
    name = f"/tmp/written_{secrets.token_hex(8)}"
    code = f"import os\nseen = os.listdir('/tmp')\nopen({name!r}, 'w').write('x')\ndef f(): return seen"
    assert judged([code] * 4, "assert f() == []") == [1.0] * 4
    assert not os.path.exists(name)


def test_code_that_deletes_and_kills_what_it_can_does_no_harm(tmp_path):
    code = f"""
import contextlib, os, shutil, signal
def f(x):
    # In no sandbox this would be the end of the machine.
    if os.getpid() > 9 or os.path.exists('/proc') or os.path.exists({str(tmp_path)!r}):
        return 0
    for folder in ('/tmp', '/etc', '/dev', '/usr/bin', '/usr/local'):
        shutil.rmtree(folder, ignore_errors=True)
    for signed in (signal.SIGSTOP, signal.SIGKILL):
        os.kill(1, signed)
        with contextlib.suppress(ProcessLookupError):  # there is no other
            os.kill(-1, signed)
    return x * x
"""
    survivor = tmp_path / "working" / "survivor"
    survivor.touch()
    assert judged([code, RIGHT, code], TESTS) == [1.0] * 3
    survivor.unlink()


# What code can read


def finding(folder: str = "/tmp") -> str:
    """Code whose function `found` returns the secret, wherever it is: in memory, open files, new files of `folder`."""
    return f"""
import gc, os, re, sys, time
PATTERN = re.compile("found-" + "[0-9a-f]{{32}}")

def found(*arguments):
    texts, frame = [repr(sys.argv), repr(sys.orig_argv), repr(dict(os.environ)), repr(vars(sys))], sys._getframe()
    while frame:
        texts.append(repr(frame.f_locals) + repr(frame.f_globals) + repr(frame.f_code.co_consts))
        frame = frame.f_back
    for thing in gc.get_objects():
        if type(thing) in (list, tuple, dict, set, bytes, str):
            texts.append(repr(thing)[:10**6])
    for number in range(64):
        try:
            os.set_blocking(number, False)
            texts.append(repr(os.read(number, 10**7)))
            os.lseek(number, 0, 0)
            texts.append(repr(os.read(number, 10**7)))
        except OSError:
            pass
    for folder, _, files in os.walk({folder!r}):
        for name in files:
            path = os.path.join(folder, name)
            try:
                if os.path.isfile(path) and time.time() - os.stat(path).st_ctime < 3600:
                    texts.append(open(path, errors='replace').read(10**6))
            except OSError:
                pass
    match = PATTERN.search('\\n'.join(texts))
    return match and match[0]
"""


@pytest.fixture
def secret() -> str:
    return "found-" + secrets.token_hex(16)


def test_code_finds_the_tests_nowhere(secret):
    function = finding() + "\ndef f(*given):\n    return found()"
    assert score(function, f"assert f('{secret}') == '{secret}'") == 1.0  # it finds what it is given
    assert score(function, f"assert f() == '{secret}'") == 0.0
    assert score(function, {"fn_name": "f", "inputs": [[1]], "outputs": [secret]}) == 0.0
    assert score(finding() + "\nearly = found()\ndef f(): return early", f"assert f() == '{secret}'") == 0.0
    program = finding() + "\nprint(found())"
    assert score(program, {"inputs": [secret], "outputs": [secret]}) == 1.0
    assert score(program, {"inputs": ["1"], "outputs": [secret]}) == 0.0


def test_code_sees_nothing_of_the_callers_environment_and_files(secret, monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_TOKEN", secret)
    (tmp_path / "working" / "secret").write_text(secret)
    seen = finding("/") + "\ndef f(): return found()"
    assert score(seen, f"SECRET = '{secret}'\nassert f() is None", 30) == 1.0
    names = "import os\ndef f(): return sorted(os.environ)"
    assert score(names, "assert set(f()) <= {'LC_CTYPE', 'MALLOC_ARENA_MAX', 'PATH', 'PWD', 'PYTHONHASHSEED'}") == 1.0
    homes = f"import os\ndef f(): return [*map(os.path.exists, {[str(tmp_path), str(CODE), '/home', '/etc/hosts']!r})]"
    assert score(homes, "assert f() == [False] * 4") == 1.0
    (tmp_path / "working" / "secret").unlink()


def test_code_sees_no_installed_package():
    code = """
import glob, importlib, sys
folders = [f for root in ('/usr/lib', '/usr/lib64', '/usr/local/lib', sys.base_prefix + '/lib')
           for f in glob.glob(root + '/python3*/*-packages')]
sys.path += folders
def f():
    seen = [file for folder in folders for file in glob.glob(folder + '/*')]
    for name in ('rewards', 'recipes', 'psutil', 'numpy', 'torch', 'datasets', 'pip', 'pytest'):
        try:
            importlib.import_module(name)
            seen.append(name)
        except ImportError:
            pass
    return seen
"""
    assert score(code, "assert f() == []") == 1.0


def test_code_reaches_no_server_of_the_machine(tmp_path):
    name = f"attacked_{secrets.token_hex(8)}"
    with contextlib.ExitStack() as opened:
        path = opened.enter_context(tempfile.TemporaryDirectory(dir="/tmp")) + "/socket"  # whose path must be short
        network = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        stream, abstract, in_a_folder = (
            opened.enter_context(socket.socket(socket.AF_UNIX, kind))
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_DGRAM)
        )
        stream.bind(f"\0{name}")
        stream.listen()
        abstract.bind(f"\0{name}_")
        in_a_folder.bind(path)
        for server in (network, stream, abstract, in_a_folder):
            server.setblocking(False)
        assert is_refused(f"socket.create_connection(('127.0.0.1', {network.getsockname()[1]}))")
        pair = "pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"  # the one way to a socket
        for address in (f"\0{name}", f"\0{name}_", path):
            assert is_refused(f"socket.socket(socket.AF_UNIX).connect({address!r})")
            assert is_refused(f"{pair}pair[0].sendto(b'x', {address!r})")
        for listening in (network, stream):
            with pytest.raises(BlockingIOError):
                listening.accept()
        for receiving in (abstract, in_a_folder):
            with pytest.raises(BlockingIOError):
                receiving.recv(1)


def test_two_completions_do_not_see_each_other():
    name = secrets.token_hex(8)
    code = f"""
import os, socket, time
def f():
    mine, other = {{}}, {{}}
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    seen = []
    for place in range(2):
        try:
            pair[0].bind('\\x00{name}%d' % place)
        except OSError:
            continue
        break
    if place:
        seen.append('socket')
    open('/tmp/%d' % time.monotonic_ns(), 'w').close()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        if len(os.listdir('/tmp')) > 1:
            seen.append('file')
        for pid in range(3, 100):
            try:
                os.kill(pid, 0)
                seen.append('process')
            except ProcessLookupError:
                pass
    return seen
"""
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda _: score(code, "assert f() == []", 5), range(3))) == [1.0] * 3


def test_the_input_of_a_program_is_no_file_that_it_can_write_to():
    code = """
import os
writing = {
    'write': lambda: os.write(0, b'x'),
    'truncate': lambda: os.ftruncate(0, 0),
    'grow': lambda: os.posix_fallocate(0, 0, 9),
}
for name, attack in writing.items():
    try:
        attack()
        print(name)
    except OSError:
        pass
print('end')
"""
    assert score(code, {"inputs": ["1"], "outputs": ["end"]}) == 1.0


# Bombs

HELD = {
    "bytes": "held.append(b'x' * 2**22)",
    "lists": "held.append([None] * 2**19)",
    "mappings": "held.append(mmap.mmap(-1, 2**22))\nheld[-1].write(b'x' * 2**22)",
    "private mappings": "held.append(mmap.mmap(-1, 2**22, mmap.MAP_PRIVATE))\nheld[-1].write(b'x' * 2**22)",
    "zeros": "held.append(mmap.mmap(os.open('/dev/zero', os.O_RDWR), 2**22))\nheld[-1].write(b'x' * 2**22)",
}


@pytest.mark.parametrize("name", HELD)
def test_memory_is_bounded(name):
    attack = textwrap.indent(HELD[name], " " * 12)
    code = f"""{ATTACK}
def f():
    held = []
    try:
        while True:
{attack}
    except (OSError, MemoryError, RuntimeError):
        return len(held) * 2**22
"""
    assert score(code, f"assert 0 < f() < {MEMORY * 2**20}", 5) == 1.0


# What each holds, and how often it may at most: 1 MB a time where it is bytes.
MANY = {
    "one file": (
        "file = os.open('/tmp/one', os.O_CREAT | os.O_WRONLY | os.O_APPEND)\nos.write(file, b'x' * 2**20)",
        16,
    ),
    "many files": ("file = os.open('/tmp/%d' % count, os.O_CREAT | os.O_WRONLY)\nos.write(file, b'x' * 2**20)", 16),
    "reserved": ("file = os.open('/tmp/%d' % count, os.O_CREAT | os.O_WRONLY)\nos.posix_fallocate(file, 0, 2**20)", 16),
    "nameless files": ("os.write(os.open('/tmp', os.O_TMPFILE | os.O_WRONLY), b'x' * 2**20)", 16),
    "pipes": ("pipe = os.pipe()\nfcntl.fcntl(pipe[1], 1031, 2**20)\nos.write(pipe[1], bytes(2**20))", 32),
    "open files": ("os.open('/dev/null', 0)", 64),
}


@pytest.mark.parametrize("name", MANY)
def test_files_and_pipes_hold_little(name):
    attack, most = MANY[name]
    code = f"""{ATTACK}
def f():
    count, file = 0, None
    try:
        while count < 1_000:
{textwrap.indent(attack, " " * 12)}
            if file is not None:
                os.close(file)
            count += 1
    except OSError:
        pass
    return count
"""
    assert score(code, f"assert 1 < f() <= {most}", 5) == 1.0


def test_threads_are_few():
    code = """
import threading, time
threading.stack_size(2**16)
def f():
    count = 0
    try:
        while count < 1_000:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            count += 1
    except RuntimeError:
        return count
"""
    assert score(code, "assert f() < 64") == 1.0


ENDLESS = {
    "a loop": "while True: pass",
    "a sleep": "time.sleep(1_000)",
    "a sleep that is signalled in vain": "signal.pthread_sigmask(0, range(1, 65))\ntime.sleep(1_000)",
    "a stop": "os.kill(os.getpid(), signal.SIGSTOP)",
    "a wait": "threading.Event().wait()",
    "an orphan": "libc.prctl(1, 0)\ntime.sleep(1_000)",
    "a sum": "sum(range(10**15))",
    "a power": "9 ** 9 ** 9 ** 9",
    "an expression": "__import__('re').match('(a*)*b', 'a' * 100)",
    "a recursion": "f(x)",
    "a tree of recursions": "def g():\n    try:\n        g()\n    finally:\n        g()\ng()",
    "output": "while True: print(1_000 * str(x))",
    "errors": "while True: sys.stderr.write(1_000 * str(x))",
    "output to every file": "import itertools\nfor number in itertools.cycle(range(1, 20)):\n    try:\n"
    "        os.set_blocking(number, False)\n        os.write(number, bytes(9_999))\n    except OSError:\n        pass",
    "an iterator": "return __import__('itertools').count()",
    "a generator": "return (time.sleep(1) for _ in range(1_000))",
    "an answer of 60 MB": "return b'x' * 60 * 2**20",
    "an answer of 200 MB": "return b'x' * 200 * 2**20",
    "a number of a million digits": "return 10**1_000_000",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_code_that_does_not_end_is_ended(name):
    attack = textwrap.indent(ENDLESS[name], " " * 4)
    tests = "assert f(2) == 4\nassert sorted(f(3)) == [9]"
    assert score(f"{ATTACK}\ndef f(x):\n{attack}", tests, 0.5) == 0.0


PROGRAMS = {
    "a loop": "print(int(input()) ** 2, flush=True)\nwhile True: pass",
    "a sleep": "print(int(input()) ** 2, flush=True)\nimport time\ntime.sleep(60)",
    "nothing is printed any more": "import os, time\nos.close(1)\ntime.sleep(60)",
    "too late": "import time\ntime.sleep(0.7)\nprint(int(input()) ** 2)",
    "a sleep at the end": "import atexit, time\nprint(int(input()) ** 2, flush=True)\natexit.register(time.sleep, 60)",
    "a thread that goes on": "import threading, time\nprint(4, flush=True)\nwhile True: threading.Event().wait(1)",
    "endless output": "while True: print(4)",
    "endless errors": "import sys\nwhile True: sys.stderr.write('4')",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_does_not_end_is_ended(name):
    assert score(PROGRAMS[name], PAIRS, 0.5) == 0.0


DEEP = {
    "a list": "x = []\n    for _ in range(100_000): x = [x]\n    return x",
    "a list within the limit": "sys.setrecursionlimit(10**6)\n    for _ in range(3_000): x = [x]\n    return x",
    "a dict": "for _ in range(100_000): x = {1: x}\n    return x",
    "a list of itself": "x = []\n    x.append(x)\n    return x",
    "the text of a list": "for _ in range(100_000): x = [x]\n    return repr(x)",
    "JSON": "import json\n    return json.loads('[' * 100_000)",
    "JSON that is written": "import json\n    for _ in range(100_000): x = [x]\n    return json.dumps(x)",
    "a pickle": "import pickle\n    for _ in range(100_000): x = [x]\n    return pickle.dumps(x)",
    "a tree": "import ast\n    return ast.parse('-' * 100_000 + '1')",
    "a text that is compiled": "return eval('(' * 10_000 + '4' + ')' * 10_000)",
    "a recursion without a limit": "sys.setrecursionlimit(10**9)\n    return f(x)",
    "a recursion in C": "sys.setrecursionlimit(10**9)\n    for _ in range(10**6): x = (x,)\n    return hash(x)",
    "a null pointer": "ctypes.string_at(0)",
    "a signal to itself": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("name", DEEP)
def test_code_that_crashes_is_wrong(name):
    assert score(f"{ATTACK}\ndef f(x):\n    {DEEP[name]}") == 0.0


SOURCES = {
    "NUL": "def f(x):\n    return x * x\n\0",
    "a surrogate": "def f(x):\n    return x * x  # \ud800",
    "no syntax": "def f(x: return",
    "2 MB of names": "x = " + "y + " * 500_000 + "1",
    "10 MB of brackets": "(" * 10_000_000,
    "2 MB of lines": "x = 1\n" * 400_000 + "raise SystemExit",
    "10 MB of backslashes": "\\" * 10_000_000,
    "nested blocks": "\n".join(" " * n + "if 1:" for n in range(200)),
    "nested functions": "lambda: " * 100_000 + "1",
    "nothing": "pass",
}


@pytest.mark.parametrize("name", SOURCES)
def test_source_that_cannot_run_is_wrong(name):
    assert score(SOURCES[name], TESTS, 1) == 0.0
    assert score(SOURCES[name], PAIRS, 1) == 0.0


# Cheats on the verdict

CHEATS = {
    "no code": "",
    "exit at load": "import sys\nsys.exit(0)",
    "hard exit at load": "import os\nos._exit(0)",
    "exit in the call": "import sys\ndef f(x):\n    sys.exit(0)",
    "hard exit in the call": "import os\ndef f(x):\n    os._exit(0)",
    "quit": "def f(x):\n    quit(0)",
    "SystemExit": "def f(x):\n    raise SystemExit(0)",
    "SystemExit at load": "def f(x): return 5\nraise SystemExit(0)",
    "an exit at the end": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 5",
    "another program": "import os\ndef f(x):\n    os.execv('/bin/true', ['true'])",
    "another Python": "import os, sys\nos.execv(sys.executable, [*sys.orig_argv[:7], 'print(1)'])",
    "an assertion": "def f(x):\n    raise AssertionError",
    "an interrupt": "def f(x):\n    raise KeyboardInterrupt",
    "an end of an iterator": "def f(x):\n    raise StopIteration(4)",
    "an end of a generator": "def f(x):\n    raise GeneratorExit",
    "an import": "def f(x):\n    import missing",
    "a class of errors": "class Error(ImportError): pass\ndef f(x):\n    raise Error",
    "a base of errors": "class Error(BaseException): pass\ndef f(x):\n    raise Error",
    "a group of errors": "def f(x):\n    raise ExceptionGroup('', [AssertionError()])",
    "no function": "f = 4",
    "no function but a text": "f = 'f'",
    "a class": "class f:\n    def __init__(self, x): pass\n    def __eq__(self, other): return True",
    "a function of another name": "def g(x): return x * x",
    "printed verdicts": "print('passed', 'OK', '2 passed', '[1.0]', 'True', flush=True)\ndef f(x):\n    print('1.0')",
    "assert as object": "import builtins\nbuiltins.AssertionError = object\ndef f(x): return 5",
    "assert as exit": "import builtins\nbuiltins.AssertionError = SystemExit\ndef f(x): return 5",
    "patched functions": "import builtins\nfor name in ('abs', 'all', 'any', 'isinstance', 'len', 'print', 'repr', "
    "'sorted', 'str', 'sum', '__import__', '__build_class__'):\n    setattr(builtins, name, lambda *a, **k: 1)\n"
    "def f(x): return 5",
    "patched exec": "import builtins\nbuiltins.exec = builtins.compile = lambda *a: None\ndef f(x): return 5",
    "patched modules": "import json, math, operator, sys\noperator.eq = math.isclose = lambda *a, **k: True\n"
    "json.loads = json.dumps = lambda *a: 4\nsys.stdin = sys.stdout = None\ndef f(x): return 5",
    "no modules": "import sys\nsys.modules.clear()\ndef f(x): return 5",
    "a patched runner": "import sys\nframe = sys._getframe(1)\nfor name in ('same', 'encode', 'decode', '_fulfil'):\n"
    "    frame.f_globals[name] = lambda *a: True\ndef f(x): return 5",
    "names of the tests": "def check(*a): return True\ncandidate = same = test = test_f = check\ndef f(x): return 5",
    "a trace": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef f(x): return 5",
    "an audit": "import sys\nsys.addaudithook(lambda *a: None)\nsys.excepthook = lambda *a: None\ndef f(x): return 5",
    "signals": "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, lambda *a: None)\n"
    "    except OSError: pass\ndef f(x): return 5",
    "a thread": "import os, threading\ntry: threading.Timer(0.1, os._exit, (0,)).start()\n"
    "except RuntimeError: pass\ndef f(x): return 5",
    "None": "def f(x): return None",
    "NotImplemented": "def f(x): return NotImplemented",
    "not a number": "def f(x): return float('nan')",
    "itself": "def f(x): return f",
    "all numbers": "def f(x): return set(range(100))",
    "a mock": "def f(x):\n    from unittest.mock import ANY, MagicMock\n    return ANY",
    "a magic mock": "def f(x):\n    from unittest.mock import MagicMock\n    return MagicMock(__eq__=lambda *a: True)",
}


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_are_not_paid(name):
    for tests in (TESTS, CALLS):
        assert score(CHEATS[name], tests) == 0.0


YES = """
class Yes:
    def agree(self, *others): return True
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __contains__ = __instancecheck__ = agree
    def __hash__(self): return hash(4)
    def __len__(self): return 1
    def __int__(self): return 5
    __index__ = __trunc__ = __round__ = __floor__ = __ceil__ = __length_hint__ = __int__
    def __float__(self): return 5.0
    def __complex__(self): return 5j
    def __iter__(self): return iter([self])
    def __next__(self): return self
    def __getitem__(self, key): return self
    def __getattr__(self, name): return self
    def __call__(self, *args, **kwargs): return self
    def __str__(self): return 'yes'
    __repr__ = __format__ = __str__
    def __abs__(self, *others): return self
    __neg__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __and__ = __or__ = __abs__
    def keys(self): return [self]
    @property
    def __class__(self): return int
"""
AGREEABLE = [
    "f(2) == 4",
    "4 == f(2)",
    "f(2) == 4.0",
    "not f(2) != 4",
    "not 4 != f(2)",
    "f(2) == f(2) == 4",
    "f(2) in (3, 4)",
    "f(2) in {3, 4}",
    "4 in f(2)",
    "4 in [f(2)]",
    "3 < f(2) < 5",
    "f(2) <= 4",
    "max(f(2), 4) == 4",
    "abs(f(2) - 4) < 1e-6",
    "round(f(2), 3) == 4",
    "int(f(2)) == 4",
    "float(f(2)) == 4",
    "math.isclose(f(2), 4)",
    "operator.eq(f(2), 4)",
    "isinstance(f(2), int) and f(2) == 4",
    "type(f(2)) is int and f(2) == 4",
    "isinstance(f(2), (list, tuple))",
    "hash(f(2)) == hash(4)",
    "[f(2)] == [4]",
    "(1, f(2)) == (1, 4)",
    "{'a': f(2)} == {'a': 4}",
    "{f(2)} == {4}",
    "set(f(2)) == {4}",
    "list(f(2)) == [4]",
    "sorted(f(2)) == [4]",
    "tuple(f(2)) == (4,)",
    "dict(f(2)) == {4: 4}",
    "sum(f(2)) == 4",
    "len(f(2)) == 4",
    "all(x == 4 for x in f(2))",
    "f(2)[0] == 4",
    "f(2)['a'] == 4",
    "f(2).x == 4",
    "f(2).x() == 4",
    "str(f(2)) == '4'",
    "repr(f(2)) == '4'",
    "f'{f(2)}' == '4'",
    "'4' in str(f(2))",
    "range(5)[f(2)] == 4",
    "[0, 1, 2, 3, 4][f(2)] == 4",
    "json.dumps(f(2)) == '4'",
    "collections.Counter([f(2)]) == collections.Counter([4])",
    "not {4} - {f(2)}",
]


@pytest.mark.parametrize("test", AGREEABLE)
def test_an_object_that_agrees_with_everything_agrees_with_nothing(test):
    tests = f"import collections, json, math, operator\nassert {test}"
    assert score(YES + "def f(x): return Yes()", tests) == 0.0


def test_an_object_that_agrees_with_everything_is_no_result_of_a_call():
    for expected in (4, 4.0, "4", None, True, [4], [[4]], [], {"4": 4}):
        for result in ("Yes()", "[Yes()]", "{'4': Yes()}"):
            code, calls = f"{YES}def f(x): return {result}", {"fn_name": "f", "inputs": [[2]], "outputs": [expected]}
            assert score(code, calls, tolerance=1e-6) == 0.0, (expected, result)


PLAIN = """
class Int(int): pass
class Float(float): pass
class Str(str): pass
class List(list): pass
class Tuple(tuple): pass
class Dict(dict): pass
class Set(set): pass
for kind in (Int, Float, Str, List, Tuple, Dict, Set):
    kind.__eq__ = lambda self, other: {agrees}
    kind.__ne__ = lambda self, other: not {agrees}
    kind.__hash__ = lambda self: 4
    kind.__repr__ = kind.__str__ = lambda self: '4'
    kind.__bool__ = lambda self: {agrees}
def f(kind, value): return globals()[kind](value)
"""
VALUES = {"Int": 4, "Float": 4.5, "Str": "four", "List": [4], "Tuple": (4, 5), "Dict": {4: 5}, "Set": {4}}
WRONG = {"Int": 5, "Float": 5.5, "Str": "five", "List": [5], "Tuple": (5, 4), "Dict": {4: 4}, "Set": {5}}


def test_an_object_of_a_class_that_is_nearly_plain_is_the_plain_value_that_it_holds():
    for kind in VALUES:
        tests = f"given = f({kind!r}, {VALUES[kind]!r})\nassert given == {VALUES[kind]!r}"
        assert score(PLAIN.format(agrees=False), tests) == 1.0, kind
        tests = f"given = f({kind!r}, {WRONG[kind]!r})\nassert given == {VALUES[kind]!r} or not given"
        assert score(PLAIN.format(agrees=True), tests) == 0.0, kind


# What speaks for the code under test: it has the means to say to the tests whatever it likes.
SAYING = """
import sys
runner = sys._getframe(1)
channel, encode = runner.f_locals['channel'], runner.f_globals['encode']
"""
FORGED = {
    "nothing": b"",
    "a verdict": b"!U2:TS0:",
    "a test that passed": b"=1",
    "many tests that passed": b"=1=1=1=1",
    "a question": b"?U2:S5:namesU0:",
    "rubbish": b"\x00\xff" * 100,
    "no kind": b"U0:",
    "no result": b"U1:S8:returned",
    "too many results": b"U4:S8:returnedTTT",
    "another kind": b"U3:S6:passedTT",
    "a number as a kind": b"U3:I1:1TT",
    "None": b"U3:S8:returnedNN",
    "True": b"U3:S8:returnedTN",
    "4": b"U3:S8:returnedI1:4",
    "a result behind the end": b"U3:S8:returnedI1:5NI1:4",
    "an object": b"U3:S8:returnedH1:0N",
    "an object of a huge number": b"U3:S8:returnedH15:0N",
    "an object below nothing": b"U3:S8:returnedH-1:N",
    "a huge length": b"U3:S8:returnedS99999999999999:N",
    "a length below nothing": b"U3:S8:returnedS-1:N",
    "a length of letters": b"U3:S8:returnedSx:N",
    "a huge list": b"U3:S8:returnedL10:N",
    "no number": b"U3:S8:returnedI2:xxN",
    "no float": b"U3:S8:returnedD2:xxN",
    "no text": b"U3:S8:returnedS1:\xffN",
    "a set of lists": b"U3:S8:returnedE1:L0:N",
    "a dict of lists": b"U3:S8:returnedM1:L0:NN",
    "a set of objects": b"U3:S8:returnedE2:H1:H2:N",
    "a complex text": b"U3:S8:returnedCS1:1S1:1N",
    "lists in lists": b"U3:S8:returned" + b"L1:" * 100_000 + b"N",
    "complex numbers in complex numbers": b"U3:S8:returned" + b"C" * 100_000,
    "lists that are just read": b"U3:S8:returned" + b"L1:" * 300 + b"NN",
    "changes of nothing": b"U3:S8:returnedI1:5M1:I1:9L0:",
    "changes of a name": b"U3:S8:returnedI1:5M1:S1:xL0:",
    "changes that are none": b"U3:S8:returnedI1:5L1:N",
    "an exception": b"U3:S6:raisedL1:S14:AssertionErrorS0:",
    "an exception of no name": b"U3:S6:raisedNN",
    "an exception of all names": b"U3:S6:raisedS9:ExceptionN",
    "an exception without a text": b"U2:S6:raisedL1:S10:ValueError",
    "an exit": b"U3:S6:raisedL1:S10:SystemExitS0:",
    "missing modules": b"U3:S6:raisedL1:S11:ImportErrorS0:",
    "no plain value": b"U3:S6:raisedL2:S8:NotPlainS9:TypeErrorS0:",
    "a function of Python": b"U3:S6:raisedL1:S4:exitS0:",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_replies_are_not_paid(name):
    forged = (
        f"forged = {FORGED[name]!r}" if len(FORGED[name]) < 1_000 else f"forged = bytes.fromhex('{FORGED[name].hex()}')"
    )
    always = f"{SAYING}{forged}\nwhile True:\n    channel.receive()\n    channel.send(forged)"
    then = f"{SAYING}{forged}\ndef f(x):\n    while True:\n        channel.send(forged)\n        channel.receive()"
    early = f"{SAYING}{forged}\nfor _ in range(9): channel.send(forged)\ndef f(x): return 5"
    sorting = "assert not f(2) != 4\nassert sorted(f(3)) == [9]"
    for code, tests in ((always, TESTS), (then, CALLS), (then, sorting), (early, TESTS)):
        assert score(code, tests, 1) == 0.0


def test_forged_lengths_are_not_paid():
    for length in ("ff" * 8, "00" * 4 + "ffffffff", "00" * 4 + "03ffffff", "00" * 8):
        code = f"{SAYING}\ndef f(x):\n    while True:\n        channel.writing.write(bytes.fromhex('{length}'))\n"
        assert score(code + "        channel.writing.flush()", TESTS, 1) == 0.0


def test_bytes_on_every_open_file_are_not_paid():
    code = """
import os
forged = b'!U2:TS0:', b'=1', b'U3:S8:returnedI1:4N', b'U3:S8:returnedTN'
for message in forged:
    for number in range(1, 64):
        try:
            os.write(number, len(message).to_bytes(8, 'big') + message)
        except OSError:
            pass
def f(x): return 5
"""
    for tests in (TESTS, CALLS, PAIRS):
        assert score(code, tests) == 0.0


SHADOWED = [
    "assert abs(f(2) - 4) < 1e-6",
    "assert len(f(2)) == 2",
    "assert all(f(n) == n * n for n in range(3))",
    "assert isinstance(f(2), int) and f(2) == 4",
    "assert sorted(f(2)) == [4]",
    "assert set(f(2)) == {4}",
    "assert round(f(2)) == 4",
    "assert str(f(2)) == '4'",
    "def same(a, b):\n    return a == b\nassert same(f(2), 4)",
    "from math import isclose\nassert isclose(f(2), 4)",
    "import math\nassert math.isclose(f(2), 4)",
    "assert math.isclose(f(2), 4)",
    "def check(candidate):\n    assert candidate(2) == 4\ncheck(f)",
    "def test_f():\n    assert f(2) == 4",
    "try:\n    assert f(2) == 4\nexcept AssertionError:\n    assert False",
    TESTS,
]


@pytest.mark.parametrize("tests", SHADOWED)
def test_forged_names_take_the_place_of_none_of_the_tests_own(tests):
    for result in ("True", "0", "Yes()"):
        code = f"""{YES}{SAYING}
kept = runner.f_locals['kept']
def agree(*args, **kwargs): return {result}
names = 'f abs len all any isinstance sorted set round str same isclose math check test_f print range AssertionError '
names = [*names.split(), '__builtins__', '__name__', 'candidate', 'int', 'False', 'encode', 'channel']
kept += [agree] * len(names)
channel.receive()
channel.send(encode(('returned', dict(zip(names, [agree] * len(names))), None), lambda thing: 0))
"""
        assert score(code, tests) == 0.0
    assert score(code.replace("dict(zip(names, [agree] * len(names)))", "Yes()"), tests) == 0.0


def test_what_a_test_has_passed_to_the_code_does_not_change_what_is_expected():
    cheat = "given = []\ndef f(x):\n    given.append(x)\n    x.clear()\n    return x"
    assert score(cheat, "cases = [([3, 1], [1, 3])]\nfor x, expected in cases:\n    assert f(x) == expected") == 0.0
    assert score(cheat, {"fn_name": "f", "inputs": [[[3, 1]]], "outputs": [[1, 3]]}) == 0.0
    assert score(cheat, "expected = [1, 3]\nassert f(expected[::-1]) == expected") == 0.0


CHEATING_PROGRAMS = {
    "the first line": ("print(1)", "1\n2"),
    "the last line": ("print(2)", "1\n2"),
    "one line too many": ("print(1)\nprint(2)\nprint(3)", "1\n2"),
    "all in one line": ("print(1, 2)", "1\n2"),
    "nothing": ("pass", "1"),
    "the input": ("print(input())", "1"),
    "rubbish at the end": ("print(1)\nprint('x', end='')", "1"),
    "rubbish in front": ("print('x', 1)", "1"),
    "right, and an exit code": ("print(1)\nraise SystemExit(1)", "1"),
    "right, and a text as exit code": ("print(1)\nraise SystemExit('1')", "1"),
    "right, and a hard exit code": ("import os\nprint(1, flush=True)\nos._exit(3)", "1"),
    "right, and an exception": ("print(1)\n1 / 0", "1"),
    "right, and a signal": ("import os\nprint(1, flush=True)\nos.kill(os.getpid(), 15)", "1"),
    "right, and a crash": ("import ctypes\nprint(1, flush=True)\nctypes.string_at(0)", "1"),
    "an exit without output": ("import os\nos._exit(0)", "1"),
    "output after stdout is closed": ("import sys\nsys.stdout.close()\nprint(1)", "1"),
    "output to stderr": ("import sys\nprint(1, file=sys.stderr)", "1"),
    "output into stdin": ("import os\nos.write(0, b'1')", "1"),
    "forged verdicts": ("print('!U2:TS0:')\nprint('passed')", "1"),
    "NUL": ("print('1\\0')", "1"),
    "a carriage return": ("print('2\\r1')", "1"),
    "colours": ("print('\\x1b[31m1\\x1b[0m')", "1"),
    "a step back": ("print('2\\b1')", "1"),
    "a surrogate": ("import sys\nsys.stdout.buffer.write(b'\\xed\\xa0\\x801')", "1"),
    "no UTF-8": ("import sys\nsys.stdout.buffer.write(b'1\\xff')", "1"),
    "no UTF-8 where it is lost": ("import sys\nsys.stdout.buffer.write(b'\\xfe')", "\ufffe"),
    "UTF-16": ("import sys\nsys.stdout.buffer.write('1'.encode('utf-16'))", "1"),
    "spaces without a width": ("print('1\\u200b')", "1"),
    "a surrogate in an exception": ("raise ValueError('\\ud800')", "1"),
    "a replaced stdout": ("import io, sys\nsys.stdout = io.StringIO()\nprint(1)", "1"),
    "a thread's exception": ("import sys\nsys.excepthook = print\n1 / 0", "1"),
}


@pytest.mark.parametrize("name", CHEATING_PROGRAMS)
def test_cheating_programs_are_not_paid(name):
    code, output = CHEATING_PROGRAMS[name]
    for tolerance in (None, 0.1):
        assert score(code, {"inputs": ["7"], "outputs": [output]}, tolerance=tolerance) == 0.0


def test_infinity_is_near_to_no_number():
    calls = {"fn_name": "f", "inputs": [[1]], "outputs": [float("inf")]}
    assert score("def f(x): return 0", calls, tolerance=0.1) == 0.0
    assert score("def f(x): return float('inf')", calls, tolerance=0.1) == 1.0
    assert score("print(0)", {"inputs": ["1"], "outputs": ["1e999"]}, tolerance=0.1) == 0.0


def test_what_is_logged_can_be_printed():
    codes = [
        "class Error(Exception): pass\nError.__name__ = '\\x1b[2J\\ud800'\ndef f(x): raise Error('\\x1b\\0\\ud800')",
        "def f(x): return '\\x1b[2J\\0\\ud800'",
        f"{SAYING}\nwhile True:\n    channel.receive()\n    channel.send(b'U3:S6:raisedL1:S1:\\x1bS1:\\x1b')",
        "raise ValueError('\\x1b[2J\\ud800' * 10**6)",
        "import sys\nsys.exit('\\x1b')",
    ]
    for code in codes:
        logged = {}
        reward = get_code_reward(timeout=2, memory_mb=MEMORY)
        for tests in (TESTS, PAIRS):
            given = reward(completions=[f"```python\n{code}\n```"], tests=[tests], log_extra=logged.__setitem__)
            assert given == [0.0]
            assert logged["code_verdict"][0].isprintable() and len(logged["code_verdict"][0]) < 200


# Completions and tests

ANSWERS = {
    "no block": "def f(x):\n    return x * x",
    "nothing": "",
    "another language": "```c\nint f(int x) { return x * x; }\n```",
    "the right one first": f"```python\n{RIGHT}\n```\n```python\npass\n```",
    "within the thought": f"<think>```python\n{RIGHT}\n```</think>No.",
    "cut off": f"```python\n{RIGHT}",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_without_right_code_is_not_paid(name):
    assert code_reward(completions=[ANSWERS[name]], tests=[TESTS]) == [0.0]


def test_unusable_tests_are_none_whatever_the_code_does(caplog):
    for tests in ("assert f(2) ==", "assert f(2) == 4\0", "(" * 500, "x = 1", "f(2)"):
        for code in (RIGHT, "import os\nos._exit(0)", "while True: pass", CHEATS["a patched runner"]):
            caplog.clear()
            assert judged(["pass", code], tests, 1) == [None, None]
            assert len(caplog.records) == 1 and "of row 0" in caplog.text


# Callers


def test_scores_are_in_order_with_a_crash_in_the_midst():
    crash = "import ctypes\ndef f(x): ctypes.string_at(0)"
    codes = [RIGHT, crash, RIGHT, "import os\nos.kill(os.getpid(), 9)", "def f(x): return 5", RIGHT]
    assert judged(codes, TESTS) == [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]


def test_many_calls_leave_nothing_open():
    codes = [RIGHT, "def f(x): return 5", "import os\nos._exit(0)", "while True: pass", "print(int(input()) ** 2)"]
    for _ in range(10):
        judged(codes[:3], TESTS)
        judged([codes[0], codes[4]], PAIRS)
        judged(codes[3:4], TESTS, 0.05)


def test_threads_judge_apart():
    with ThreadPoolExecutor(4) as threads:
        given = list(threads.map(lambda n: judged([RIGHT, f"def f(x): return {n}"], "assert f(3) == 9"), range(8)))
    assert given == [[1.0, 0.0]] * 8


CALLER = f"""
import os, resource, signal, sys, threading, time
from rewards import code_compiles_reward, get_code_reward
def judge(*codes, tests={TESTS!r}):
    reward = get_code_reward(timeout=float(sys.argv[1]), memory_mb={MEMORY})
    return reward(completions=[f'```python\\n{{code}}\\n```' for code in codes], tests=[tests] * len(codes))
right, wrong, endless = {RIGHT!r}, 'def f(x): return 5', 'while True: pass'
"""


@pytest.fixture
def caller():
    """Starts a Python of its own that judges code; it is ended, if need be, with the test."""
    with contextlib.ExitStack() as started:

        def start(script: str, seconds: float = 2, before: list[str] | None = None) -> subprocess.Popen:
            process = subprocess.Popen(
                [*(before or []), sys.executable, "-c", CALLER + script, str(seconds)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "PYTHONPATH": str(CODE.parent), "TMPDIR": tempfile.gettempdir()},
            )
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start


def said_by(process: subprocess.Popen, seconds: float = 20) -> list[str]:
    return process.communicate(timeout=seconds)[0].strip().split("\n")


@pytest.mark.parametrize("tests", [TESTS, CALLS, PAIRS])
def test_nothing_outlives_a_caller_that_is_killed(caller, tests):
    process = caller(f"judge(endless, endless, tests={tests!r})", 60)
    assert soon(running, 20)
    time.sleep(0.3)
    process.kill()
    process.wait()
    assert soon(lambda: not running())


@pytest.mark.parametrize("when", [0, 0.01, 0.03])
def test_nothing_outlives_a_caller_that_is_killed_while_it_starts(caller, when):
    process = caller("print('ready', flush=True)\njudge(endless, endless)", 60)
    assert process.stdout.readline() == "ready\n"
    time.sleep(when)
    process.kill()
    process.wait()
    time.sleep(0.2)  # what has been started may only now be known by its command line
    assert soon(lambda: not running())


def test_an_interrupt_ends_a_batch_soon(caller):
    process = caller("print('ready', flush=True)\njudge(*[endless] * 100)", 1)
    assert process.stdout.readline() == "ready\n" and soon(running, 20)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert said_by(process)[-1] == "KeyboardInterrupt"
    assert time.monotonic() - begin < 1 + SLACK


def test_a_fork_of_the_caller_and_several_callers_judge_as_well(caller):
    script = """
print(judge(right, wrong), flush=True)
if os.fork() == 0:
    print(judge(right, wrong), flush=True)
    os._exit(0)
os.wait()
"""
    callers = [caller(script) for _ in range(3)]
    assert [said_by(process) for process in callers] == [["[1.0, 0.0]"] * 2] * 3


@pytest.mark.xfail(reason="bubblewrap leaves its child to process 1: README, docker run --init", strict=True)
def test_a_caller_that_is_process_1_of_a_container_is_left_no_zombies(caller):
    """No init is there to collect them, and a container has few process numbers."""
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("no name space of processes can be made here")
    script = f"""
judge(right, wrong, endless)
judge('print(4)', 'print(5)', endless, tests={PAIRS!r})
time.sleep(0.5)
print(os.getpid(), len([name for name in os.listdir('/proc') if name.isdigit()]))
"""
    assert said_by(caller(script, 0.5, before=apart))[-1] == "1 1"


SETTINGS = {
    "few files": "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))",
    "thousands of open files": "files = [os.open('/dev/null', 0) for _ in range(1_500)]",
    "all signals blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
    "a thread": "thread = threading.Thread(target=time.sleep, args=(3,), daemon=True); thread.start()",
    "no stdin": "os.close(0)",
    "another umask": "os.umask(0o777)",
    "a lost folder": "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
    "a clean environment": "os.environ.clear()",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_state_of_the_caller_does_not_matter(caller, name):
    if name == "thousands of open files" and resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2_000:
        pytest.skip("so many open files are not allowed here")
    process = caller(f"{SETTINGS[name]}\nprint(judge(right, wrong), judge('print(int(input())**2)', tests={PAIRS!r}))")
    assert said_by(process)[-1] == "[1.0, 0.0] [1.0]"


@pytest.mark.parametrize("before", ["judge(right)", ""])
def test_a_caller_that_ignores_its_children_is_judged_right_or_told_so(caller, before):
    """Such a caller is never told exit codes; bubblewrap inherits that."""
    right = "print(int(input()) ** 2)"
    script = f"""
{before}
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(judge(right, wrong), judge({right!r}, {right + "; exit(1)"!r}, tests={PAIRS!r}))
"""
    said = said_by(caller(script))[-1]
    assert said == "[1.0, 0.0] [1.0, 0.0]" or ("SandboxError" in said and "SIGCHLD" in said)


ORDINARY = """
import os, threading, time
def threads(stack, most):
    threading.stack_size(stack)
    try:
        for count in range(most):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    except RuntimeError:
        return count
    return most
def forks():
    try:
        os.fork() or os._exit(0)
    except OSError:
        return 0
    return 1
right = {right}
def f(x):
    return x * x if right else 0
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="all other tests are of an ordinary user")
def test_an_ordinary_user_has_the_same_sandbox_and_a_few_threads(tmp_path):
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or "false"
    newer = subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode == 0
    if not newer:
        pytest.skip("no Python 3.11 that every user can run")
    rights = "True", "threads(0, 6) == 6", "0 < threads(2**16, 1_000) < 64", "forks() == 0"
    codes = [ORDINARY.format(right=right) for right in rights] + ["def f(x): return 5", "while True: pass"]
    script = f"""
import sys
sys.path.insert(0, sys.argv[1])
from rewards.code_execution import Bounds, check
from rewards.code_tests import read_tests
from rewards.sandbox import Bubblewrap
for code in {codes!r}:
    print(check(code, read_tests({TESTS!r}), Bubblewrap(), Bounds(1, {MEMORY}), True, None))
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where every user may look
        os.chmod(folder, 0o755)
        (Path(folder) / "rewards").mkdir()
        for name in ("sandbox.py", "in_sandbox.py", "code_execution.py", "code_tests.py"):
            shutil.copy(CODE / name, Path(folder) / "rewards")
        nobody = {"user": 65534, "group": 65534, "extra_groups": [], "env": {"PATH": os.defpath}, "cwd": "/"}
        command = [python, "-B", "-c", script, folder]
        said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **nobody).stdout
    passed = ["passed=2"] * 4 + ["passed=0"] * 2
    assert [line.partition("(")[2].partition(",")[0] for line in said.strip().split("\n")] == passed, said


def test_a_process_that_leaves_its_group_does_not_hold_up_the_caller_without_a_sandbox():
    """Nothing there can end it, but the time of the caller is bounded all the same."""
    leave = "import os\nprint(4, flush=True)\nif os.fork() == 0:\n    os.setsid()\n    os.execv('/bin/{0}', {1})"
    for program, *arguments in (("sleep", "sleep", "9"), ("timeout", "timeout", "9", "yes")):
        code = leave.format(program, arguments)
        assert score(code, PAIRS, 1, sandbox=Unsandboxed()) in (0.0, 1.0)


def test_the_filter_of_the_other_machine_refuses_the_same(monkeypatch):
    """The program of the kernel's filter, run by hand on each call's number."""
    for name in ("x86_64", "aarch64"):
        monkeypatch.setattr(sandbox, "machine", lambda name=name: name)
        for threads in (True, False):
            program = sandbox._filter.__wrapped__(threads)
            lines = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
            arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[name]

            def end(number, flags=0, arch=arch, lines=lines):
                data, at = struct.pack("=IIQQ", number, arch, 0, flags), 0
                while True:
                    code, then, otherwise, value = lines[at]
                    at += 1
                    if code == 0x06:
                        return value
                    if code == 0x20:
                        loaded = struct.unpack_from("=I", data, value)[0]
                    else:
                        holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: loaded & value != 0}[code]
                        at += then if holds else otherwise

            allowed, refused = 0x7FFF0000, {0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS}
            for call, number in SYSCALLS[name].items():
                if call not in ("fsopen", "open_tree", "tgkill", "timer_create"):
                    assert end(number, signal.SIGCHLD) in refused, (name, call)
            assert end(SYSCALLS[name]["clone"], 0x10000) == (allowed if threads else 0x00050000 | errno.EPERM)
            assert end(SYSCALLS[name]["clone3"]) == 0x00050000 | errno.ENOSYS
            if name == "x86_64":
                assert end(0x40000000 | 57) in refused and end(0x40000000 | 520) in refused  # x32
            for read in ({"x86_64": 0, "aarch64": 63}[name], {"x86_64": 1, "aarch64": 64}[name]):
                assert end(read) == allowed
            assert end(0, arch=0x40000003) == 0x80000000


MISSED = {
    "a test that catches whatever comes": (
        "import os\ndef f(x):\n    os._exit(0)",
        "def test():\n    try:\n        f(-1)\n    except:\n        return\n    assert False",
    ),
    "a function that a test expects to raise is not there": (
        "x = 1",
        "def test():\n    try:\n        f(-1)\n    except Exception:\n        return\n    assert False",
    ),
    "a built-in function of the name is there in its place": ("x = 1", "assert pow(2, 3) == 8"),
    "what is sliced has no slices": ("def f(x):\n    return object()", "assert f(5)[:3] == [1, 2, 3]"),
    "an attribute that is set is not kept": (
        "class P:\n    x = 1\n    def __setattr__(self, name, value): pass",
        "p = P()\np.x = 10\nassert p.x == 10",
    ),
}


@pytest.mark.parametrize("name", MISSED)
def test_what_the_tests_do_not_notice_is_no_success(name):
    code, tests = MISSED[name]
    assert score(code, tests) == 0.0
