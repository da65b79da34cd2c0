"""Where code that a model wrote may run: bubblewrap, or anything else with the one method of `Sandbox`."""

import contextlib
import errno
import functools
import logging
import os
import re
import select
import shutil
import signal
import site
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from platform import machine
from typing import IO, Protocol

logger = logging.getLogger(__name__)

DISK = 16 * 2**20  # bytes of /tmp inside, which is memory outside
OLDEST = (0, 7)  # the first bubblewrap that can limit the size of /tmp

# Nothing of the caller's; one order of sets in every run, and no address space, which is limited, for each thread.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1", "PATH": "/usr/local/bin:/usr/bin:/bin"}


class SandboxError(RuntimeError):
    """There is no sandbox here; the message is one sentence that says what to do."""


class Sandbox(Protocol):
    """What a sandbox has to be: a way to start a command where it can do no harm.

    Another than bubblewrap, a container for one, is an object with this method. It must bound what the command may do
    to the machine and the network; time, memory and output of the command itself are bounded by who starts it.
    """

    def start(self, command: list[str], stdin: int | IO[bytes]) -> contextlib.AbstractContextManager[subprocess.Popen]:
        """Start `command` and yield it, running: nothing of it is left when the context is left.

        Args:
            command (`list[str]`): a program and its arguments; the program is `python`, any of version 3.11 or newer
                without packages will do, or a path.
            stdin (`int` or file): as for `subprocess.Popen`: `subprocess.PIPE`, or a file.

        Yields:
            `subprocess.Popen` or the like of it: `stdout` is a pipe of bytes, what it writes to stderr is lost, and
                `kill()` ends every process that it has started.

        Raises:
            `SandboxError`: it cannot be started here.
        """


class Bubblewrap:
    """A sandbox of Linux name spaces, by bubblewrap (https://github.com/containers/bubblewrap).

    No network; a read-only system without home, /etc, /proc and installed Python packages; a /tmp of 16 MB that is
    empty at the start and gone at the end; no environment; process, user, host and message name spaces of its own; it
    ends with its parent. A filter of system calls forbids new processes, sockets and memory that no limit counts.
    Threads are allowed, but not where the caller is root, whose threads the kernel does not limit.

    Args:
        processes (`bool`): allow new processes and threads without a limit. For compilers, not for a model's code.

    Raises:
        `SandboxError`: bubblewrap is missing, too old, or not permitted to make name spaces here.
    """

    def __init__(self, processes: bool = False):
        self.processes = processes
        _check_exit_codes()
        _check_bubblewrap()

    @contextlib.contextmanager
    def start(self, command: list[str], stdin: int | IO[bytes]) -> Iterator[subprocess.Popen]:
        _check_exit_codes()
        wrapped = [*_arguments(), *_with_python(command)]
        with contextlib.ExitStack() as files:
            passed = []
            if not self.processes:
                passed = [files.enter_context(_readable(_filter(threads=os.geteuid() != 0)))]
                wrapped[1:1] = ["--seccomp", str(passed[0])]
            process = _Group(wrapped, stdin=stdin, stdout=subprocess.PIPE, env={}, pass_fds=passed)
        with _ended(process):
            yield process


class Unsandboxed:
    """No sandbox: a process with a clean environment in an empty folder, and whatever limits it sets itself.

    It can read and write what the user can, and reach the network: for code that is trusted, or within a container.
    """

    @contextlib.contextmanager
    def start(self, command: list[str], stdin: int | IO[bytes]) -> Iterator[subprocess.Popen]:
        _check_exit_codes()
        with tempfile.TemporaryDirectory(prefix="unsandboxed_", ignore_cleanup_errors=True) as folder:
            process = _Session(_with_python(command), stdin=stdin, env=ENVIRONMENT, cwd=folder)
            with _ended(process):
                yield process


class _Group(subprocess.Popen):
    """A process that is killed together with those that it has started: bubblewrap's first steps are such ones."""

    def __init__(self, command: list[str], **options):
        super().__init__(command, stderr=subprocess.DEVNULL, start_new_session=True, **options)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class _Session(_Group):
    """Such a process, whose stdout a process that has left the group cannot keep open."""

    def __init__(self, command: list[str], **options):
        self.reading, writing = socket.socketpair()
        with writing:
            super().__init__(command, stdout=writing, **options)
        self.stdout = self.reading.makefile("rb")
        self.reading.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        super().kill()
        with contextlib.suppress(OSError):
            self.reading.shutdown(socket.SHUT_RD)
            self.reading.close()


def _check_exit_codes() -> None:
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        raise SandboxError(
            "This process ignores SIGCHLD, so it never hears how code has ended: undo that by "
            "signal.signal(signal.SIGCHLD, signal.SIG_DFL)."
        )


def find_sandbox(allow_unsandboxed: bool = False) -> Sandbox:
    """Bubblewrap; where it is missing or cannot work, `Unsandboxed` with one warning, but only if that is allowed.

    Raises:
        `SandboxError`: there is none, and `allow_unsandboxed` is not set.
    """
    try:
        return Bubblewrap()
    except SandboxError as error:
        if not allow_unsandboxed:
            raise
        _warn_once(str(error).partition(": ")[0])
        return Unsandboxed()


@functools.cache
def _warn_once(reason: str) -> None:
    logger.warning("Code runs without a sandbox, with the rights of this user: %s", reason)


@contextlib.contextmanager
def _ended(process: subprocess.Popen) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()
        # bubblewrap's own process ends first: the last of those inside is gone when nobody can write to stdout.
        waiting = select.poll()
        waiting.register(process.stdout, select.POLLIN)
        while waiting.poll(1000) and os.read(process.stdout.fileno(), 2**16):
            pass
        for pipe in filter(None, (process.stdin, process.stdout)):
            with contextlib.suppress(BrokenPipeError):  # what it no longer reads
                pipe.close()


@functools.cache
def _check_bubblewrap() -> None:
    """Raise a `SandboxError` that says what to do, unless Python runs in the sandbox here."""
    other = "give another `sandbox`, or use get_code_reward(allow_unsandboxed=True) where all code may be trusted"
    if not sys.platform.startswith("linux") or machine() not in _MACHINES:
        raise SandboxError(f"Code runs in bubblewrap, which needs Linux on x86_64 or aarch64: {other}.")
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError(
            "Code runs in bubblewrap, and there is no bwrap on the PATH: install it (Debian, Ubuntu: apt install "
            f"bubblewrap; Fedora: dnf install bubblewrap), {other}."
        )
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise SandboxError(f"{version.strip() or 'This bwrap'} is too old: install version 0.7 or newer, {other}.")
    with _readable(_filter(threads=False)) as passed:
        attempt = [program, "--seccomp", str(passed), *_arguments()[1:], _python(), "-I", "-S", "-c", "print(6 * 7)"]
        attempt = subprocess.run(attempt, capture_output=True, text=True, env={}, pass_fds=[passed], timeout=60)
    if attempt.stdout != "42\n":
        said = attempt.stderr.removeprefix("bwrap: ").strip().splitlines()
        reason = said[-1] if said else f"exit code {attempt.returncode}"
        raise SandboxError(
            f"bubblewrap cannot make its name spaces here ({reason}): allow it to (Ubuntu 24.04: sudo "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for bwrap; Docker: "
            f"--security-opt seccomp=unconfined --security-opt apparmor=unconfined --cap-add SYS_ADMIN), {other}."
        )


@functools.cache
def _python() -> str:
    """The interpreter itself: that of a virtual environment is a link in somebody's home."""
    return os.path.realpath(sys.executable)


def _with_python(command: list[str]) -> list[str]:
    """The command with this interpreter where it says `python`."""
    return [_python(), *command[1:]] if command[0] == "python" else command


@functools.cache
def _arguments() -> tuple[str, ...]:
    """bubblewrap's command line up to the command."""
    arguments = [shutil.which("bwrap"), "--unshare-user", "--unshare-all", "--die-with-parent", "--new-session"]
    arguments += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--cap-drop", "ALL", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        arguments += ["--setenv", name, value]
    arguments += ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    arguments += ["--ro-bind-try", "/etc/alternatives", "/etc/alternatives"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        if os.path.islink(f"/{name}"):
            arguments += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            arguments += ["--ro-bind", f"/{name}", f"/{name}"]
    library = os.path.realpath(sys.base_prefix) + "/lib"
    for path in (_python(), library):
        if not path.startswith("/usr/"):
            arguments += ["--ro-bind", path, path]
    # Installed packages are hidden, and where images have their own sources: a task's tests may be among them.
    roots = {"/usr/lib", "/usr/local/lib", library}
    packages = {str(path) for root in roots for path in Path(root).glob("python3*/*-packages")}
    sources = {"/usr/src", "/usr/local/src", "/usr/local/share", *({sys.prefix} - {sys.base_prefix})}
    hidden = {path for path in sources if path.startswith("/usr/")} | packages
    for path in sorted(hidden | {*site.getsitepackages([sys.base_prefix])}):
        if os.path.isdir(path) and os.listdir(path):
            arguments += ["--tmpfs", path, "--remount-ro", path]
    for device in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"):
        arguments += ["--dev-bind", device, device]
    return (*arguments, "--size", str(DISK), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp")


@contextlib.contextmanager
def _readable(content: bytes) -> Iterator[int]:
    """A pipe's end from which `content` can be read, which must be less than a pipe holds."""
    import fcntl  # not on Windows, where the library is imported, too

    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as end:
            end.write(content)
        passed = fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, 3)  # the first three are the process's own
    finally:
        os.close(reading)
    try:
        yield passed
    finally:
        os.close(passed)


# The kernel's name of the machine, and the numbers of the system calls that are refused: what makes processes and
# sockets, memory that no limit counts, what a whole user shares (keys, watches, queues), and changes of the owner, mode
# or attributes of a file, for /dev/null is the machine's own.
_MACHINES = {
    "x86_64": (
        0xC000003E,
        {"clone": 56, "fork": 57, "vfork": 58, "clone3": 435, "socket": 41, "ptrace": 101, "memfd_create": 319}
        | {
            "memfd_secret": 447,
            "shmget": 29,
            "msgget": 68,
            "semget": 64,
            "mq_open": 240,
            "vmsplice": 278,
            "sync": 162,
            "syncfs": 306,
        }
        | {"unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161}
        | {"process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "pidfd_getfd": 438, "personality": 135}
        | {"add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323}
        | {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "io_setup": 206, "syslog": 103}
        | {"inotify_init": 253, "inotify_init1": 294, "fanotify_init": 300, "open_by_handle_at": 304}
        | {"chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "chown": 92, "fchown": 93, "lchown": 94}
        | {"fchownat": 260, "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280, "setxattr": 188}
        | {"lsetxattr": 189, "fsetxattr": 190, "setxattrat": 463, "removexattr": 197, "lremovexattr": 198}
        | {"fremovexattr": 199, "removexattrat": 466, "modify_ldt": 154},
    ),
    "aarch64": (
        0xC00000B7,
        {"clone": 220, "clone3": 435, "socket": 198, "ptrace": 117, "memfd_create": 279, "memfd_secret": 447}
        | {
            "shmget": 194,
            "msgget": 186,
            "semget": 190,
            "mq_open": 180,
            "vmsplice": 75,
            "unshare": 97,
            "setns": 268,
            "sync": 81,
        }
        | {"mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "process_vm_readv": 270}
        | {"process_vm_writev": 271, "kcmp": 272, "pidfd_getfd": 438, "personality": 92, "add_key": 217}
        | {"request_key": 218, "keyctl": 219, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282}
        | {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "io_setup": 0, "syslog": 116}
        | {"inotify_init1": 26, "fanotify_init": 262, "open_by_handle_at": 265, "fchmod": 52, "fchmodat": 53}
        | {"fchmodat2": 452, "fchownat": 54, "fchown": 55, "utimensat": 88, "setxattr": 5, "lsetxattr": 6}
        | {"fsetxattr": 7, "setxattrat": 463, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16}
        | {"removexattrat": 466, "sync": 81, "syncfs": 267},
    ),
}
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000  # x86_64's second set of numbers begins here
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000  # the last one with an error number


@functools.cache
def _filter(threads: bool) -> bytes:
    """A seccomp program (Linux, seccomp_filter.rst): no new process, and no thread unless `threads`."""
    name, calls = _MACHINES[machine()]
    calls = dict(calls)
    clone, clone3 = calls.pop("clone"), calls.pop("clone3")
    refuse = (_RETURN, 0, 0, _FAIL | errno.EPERM)
    program = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_IF_EQUAL, 1, 0, name),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
        (_IF_AT_LEAST, 0, 1, _X32),
        refuse,
        # Its flags cannot be seen from here; told that there is no clone3, the C library takes clone.
        (_IF_EQUAL, 0, 1, clone3),
        (_RETURN, 0, 0, _FAIL | errno.ENOSYS),
    ]
    for number in calls.values():
        program += [(_IF_EQUAL, 0, 1, number), refuse]
    program += [
        (_IF_EQUAL, 0, 3, clone),
        (_LOAD, 0, 0, 16),  # the low half of seccomp_data.args[0], the flags
        (_IF_BITS, 1, 0, _CLONE_THREAD if threads else 0),
        refuse,
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in program)
