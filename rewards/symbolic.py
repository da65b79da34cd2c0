"""The computer algebra behind worker processes that are killed at a deadline.

Math-Verify's own time limit needs the main thread and cannot stop a long calculation in C. Python's multiprocessing
would import the user's training script anew in each worker. So the workers are programs of their own
(rewards/worker.py): they never share memory or a CUDA context with the caller, and each arms the kernel's alarm.
"""

import atexit
import contextlib
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time

WORKERS = 8  # forked, so they share their memory; more than cores, so that the hostile do not hold up the honest
# A deadline is by the clock. But on a busy machine a worker that has had less than this share of it may go on for so
# many deadlines more, or the verdict would depend on what else is running.
_SHARE, _PATIENCE = 0.2, 5
_GRACE = 0.3  # seconds after its deadline that a worker's end may take to be heard of
_START = 60.0  # seconds that the first worker may take to start, on a busy machine
_ATTEMPTS = 3
# What a user may have set to look into Python would make the workers talk, or stop at a warning.
_NOT_INHERITED = ("PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONVERBOSE", "PYTHONINSPECT", "PYTHONPROFILEIMPORTTIME")

_lock = threading.RLock()  # held while the pool is started or replaced, and during a fork
_pool = None


class _Pool:
    """The workers' parent process, and a socket to each worker."""

    def __init__(self):
        self.has_answered, self.errors = False, ""
        self.closing, self.is_closed = threading.Lock(), False
        self.idle = queue.LifoQueue()
        # Where the caller has closed 0, 1 or 2, no socket may take that number.
        reserved = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
        try:
            pairs = [socket.socketpair() for _ in range(WORKERS)]
            self.channels = [_Channel(mine) for mine, _ in pairs]
            self.process = _start([their for _, their in pairs])
        finally:
            for descriptor in reserved:
                os.close(descriptor)
        for channel in reversed(self.channels):
            self.idle.put(channel)

    def ask(self, candidate: str, gold: str, timeout: float) -> bool | None:
        """One verdict; a `ConnectionError` where something has ended the workers."""
        channel = self.idle.get()
        try:
            verdict = channel.ask(candidate, gold, timeout)
            self.has_answered = True
            return verdict
        except ConnectionError:
            self.close()
            raise
        finally:
            self.idle.put(channel)

    def is_alive(self) -> bool:
        return not self.is_closed and self.process.poll() is None

    def close(self) -> None:
        with self.closing:
            if self.is_closed:
                return
            self.is_closed = True
            for channel in self.channels:
                channel.shut()
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except OSError:
                pass  # they have ended
            self.process.wait()
            with self.process.stdin, self.process.stderr as stream:
                if self.process.returncode > 0:  # not killed: it says why
                    self.errors = stream.read(10_000).decode(errors="replace").strip()

    def forget(self) -> None:
        """In a fork of the process that owns the workers: they must not take it for their owner."""
        for channel in self.channels:
            channel.connection.close()
        self.process.stdin.close()
        self.process.stderr.close()
        self.process.returncode = 0  # not ours to wait for


def _start(sockets: list[socket.socket]) -> subprocess.Popen:
    descriptors = [end.fileno() for end in sockets]
    paths = [path for path in sys.path if isinstance(path, str)]  # Python reads past a Path there
    program = f"import sys; sys.path[:] = {paths!r}; from rewards.worker import main; main({descriptors!r})"
    try:
        return subprocess.Popen(
            [sys.executable, "-c", program],
            bufsize=0,
            pass_fds=descriptors,
            stdin=subprocess.PIPE,  # nothing is written: it closes when this process ends, however it ends
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the training, which then ends the workers itself
            env={name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
            | {"PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""},
        )
    finally:
        for end in sockets:
            end.close()


def _seconds_used(process: int) -> float | None:
    """The seconds of a core that a process has used, `None` where the system does not say."""
    try:
        with open(f"/proc/{process}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Channel:
    """The socket to one worker. Questions are numbered: a late answer is never taken for that of the next question."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.arrivals = select.poll()
        self.arrivals.register(connection, select.POLLIN)
        self.unread = b""
        self.number = 0

    def __del__(self):
        self.connection.close()  # not before the last thread has let go of it: its number may be given away again

    def ask(self, candidate: str, gold: str, timeout: float) -> bool | None:
        while self._line(0) is not None:
            pass  # of a question that was given up, or of a worker that died idle
        alarm = timeout * _PATIENCE if _seconds_used(os.getpid()) is not None else timeout
        until = None
        for _ in range(_ATTEMPTS):
            self.number += 1
            question = {"number": self.number, "candidate": candidate, "gold": gold, "alarm": alarm}
            self._send(json.dumps(question).encode())
            line = self._line(_START)
            while line not in ("died", None) and not line.startswith(f"taken {self.number} "):
                line = self._line(_START)
            if line is None:
                raise ConnectionError("the workers do not answer")
            if line == "died":  # before it took the question, or with it
                continue
            until = until or time.monotonic() + timeout
            line = self._verdict(int(line.split()[2]), until, timeout)
            if line in ("late", None):
                return False
            if line != "died":
                return json.loads(line)
            if time.monotonic() >= until:
                break
        return False  # it ends whatever worker looks at it

    def _verdict(self, worker: int, until: float, timeout: float) -> str | None:
        """The line that answers the question; at its deadline a worker that has had its share of a core is ended."""
        before = _seconds_used(worker)
        line = self._line(until - time.monotonic())
        while line is None:
            used = _seconds_used(worker)
            if used is None or before is None or used - before >= _SHARE * timeout:
                break
            line = self._line(0.05)
        if line is None and before is not None:
            with contextlib.suppress(OSError):
                os.kill(worker, signal.SIGALRM)
        return line or self._line(_GRACE)

    def _send(self, question: bytes) -> None:
        # Without SIGPIPE, which ends a program that has set it to its default.
        self.connection.sendall(len(question).to_bytes(4) + question, getattr(socket, "MSG_NOSIGNAL", 0))

    def _line(self, seconds: float) -> str | None:
        """The next line of the worker, `None` where there is none in time."""
        until = time.monotonic() + seconds
        while b"\n" not in self.unread:
            # Not by the socket's own timeout: a TimeoutError can only be the caller's then, from its own alarm.
            if not self.arrivals.poll(1000 * max(0.0, until - time.monotonic())):
                return None
            received = self.connection.recv(4096)
            if not received:
                raise ConnectionError("the workers have ended")
            self.unread += received
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()

    def shut(self) -> None:
        try:
            self.connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits on it
        except OSError:
            pass


def check(pairs: list[tuple[str, str]], timeout: float) -> list[bool | None]:
    """Whether each (candidate, gold) is equal; `None` for a gold that cannot be read, `False` at the deadline."""
    verdicts, errors, given_up = [None] * len(pairs), [], threading.Event()
    rows = list(reversed(range(len(pairs))))

    def work():
        while not given_up.is_set():
            try:
                row = rows.pop()
            except IndexError:
                return
            try:
                verdicts[row] = _check(pairs[row], timeout, given_up)
            except Exception as error:
                errors.append(error)
                given_up.set()

    # Daemons, and no executor: the interpreter would wait for an executor's threads before it exits.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(WORKERS, len(pairs)) - 1)]
    try:
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C: nobody waits for the rest, and no worker shall be busy with it
        given_up.set()
        close()
        raise
    if errors:  # the caller's own alarm, for one: a worker may still be busy
        close()
        raise errors[0]
    return verdicts


def _check(pair: tuple[str, str], timeout: float, given_up: threading.Event) -> bool | None:
    for _ in range(_ATTEMPTS):
        pool = _running_pool(given_up)
        if pool is None:
            return False
        try:
            return pool.ask(*pair, timeout)
        except ConnectionError:  # something has ended the workers: once more, with new ones
            if not pool.has_answered and pool.errors:
                break
    if not pool.has_answered:
        reason = pool.errors.splitlines()[-1] if pool.errors else "it is killed, or makes no progress"
        raise RuntimeError(f"The process that compares expressions could not start: {reason}") from None
    return False


def _running_pool(given_up: threading.Event) -> _Pool | None:
    """The pool, started where there is none; `None` once the check has been given up."""
    global _pool
    with _lock:
        if given_up.is_set():
            return None
        if _pool is None or not _pool.is_alive():
            if _pool is not None:
                _pool.close()
            try:
                _pool = _Pool()
            except OSError as error:
                raise RuntimeError(f"The process that compares expressions could not start: {error}") from error
        return _pool


def close() -> None:
    """End the workers; the next check starts new ones."""
    global _pool
    with _lock:
        if _pool is not None:
            _pool.close()
        _pool = None


def _forget_in_fork() -> None:
    global _lock, _pool
    if _pool is not None:
        _pool.forget()
    _lock, _pool = threading.RLock(), None


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _lock.acquire(), after_in_parent=lambda: _lock.release(), after_in_child=_forget_in_fork
    )
