"""The computer algebra behind worker processes that are killed at a deadline.

Math-Verify's own time limit needs the main thread and cannot stop a long calculation in C. Python's multiprocessing
would import the user's training script anew in each worker. So the workers are programs of their own
(rewards/worker.py): they never share memory or a CUDA context with the caller, and each arms the kernel's alarm.
"""

import atexit
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

WORKERS = 8  # forked, so they share their memory; more than cores, so that the hostile do not hold up the honest
_GRACE = 0.3  # seconds after its deadline that a worker's end may take to be heard of
_START = 60.0  # seconds that the first worker may take to start, on a busy machine
_ATTEMPTS = 3

_lock = threading.Lock()
_pool = None


class _Pool:
    """The workers' parent process, and a socket to each worker."""

    def __init__(self):
        self.owner, self.errors = os.getpid(), ""
        self.idle = queue.LifoQueue()
        pairs = [socket.socketpair() for _ in range(WORKERS)]
        theirs = [their.fileno() for _, their in pairs]
        program = f"import sys; sys.path[:] = {sys.path!r}; from rewards.worker import main; main({theirs!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the training, which then ends the workers itself
            env={**os.environ, "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""},
        )
        self.channels = [_Channel(mine) for mine, _ in pairs]
        for _, their in pairs:
            their.close()
        for channel in reversed(self.channels):
            self.idle.put(channel)

    def ask(self, candidate: str, gold: str, timeout: float) -> bool | str | None:
        """One verdict, or "died" for a worker that something else than its deadline ended."""
        channel = self.idle.get()
        try:
            return channel.ask(candidate, gold, timeout)
        except OSError:
            self.close()
            if not channel.answered:
                reason = (self.errors or "no reason given").strip().splitlines()[-1]
                raise RuntimeError(f"The process that compares expressions could not start: {reason}") from None
            return "died"
        finally:
            self.idle.put(channel)

    def is_alive(self) -> bool:
        return self.owner == os.getpid() and self.process.poll() is None

    def close(self) -> None:
        if self.owner != os.getpid():
            return  # a fork of the process that owns the workers
        for channel in self.channels:
            channel.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (OSError, ProcessLookupError):
            pass
        if self.process.returncode is None:
            self.process.wait()
            with self.process.stderr as stream:
                self.errors = stream.read(10_000).decode(errors="replace")


class _Channel:
    """The socket to one worker: a question and its answer are a line each."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.unread = b""
        self.owed = 1  # lines the worker will still write that answer no question of now; the first says "ready"
        self.answered = False

    def ask(self, candidate: str, gold: str, timeout: float) -> bool | str | None:
        self.connection.settimeout(_START)
        while self.owed:
            self._line()
            self.owed -= 1
        question = {"candidate": candidate, "gold": gold, "timeout": timeout}
        self.connection.settimeout(timeout + _GRACE)
        self.connection.sendall(json.dumps(question).encode() + b"\n")
        try:
            reply = self._line()
        except TimeoutError:  # its alarm has ended it, and the machine is too busy to say so in time
            self.owed += 1
            return False
        return {"late": False, "died": "died"}[reply] if reply in ("late", "died") else json.loads(reply)

    def _line(self) -> str:
        while b"\n" not in self.unread:
            received = self.connection.recv(4096)
            if not received:
                raise ConnectionError("the worker's parent has ended")
            self.unread += received
        self.answered = True
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        try:
            self.connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits on it
        except OSError:
            pass
        self.connection.close()


def check(pairs: list[tuple[str, str]], timeout: float) -> list[bool | None]:
    """Whether each (candidate, gold) is equal; `None` for a gold that cannot be read, `False` at the deadline."""
    if len(pairs) == 1:
        return [_check(pairs[0], timeout)]
    with ThreadPoolExecutor(min(WORKERS, len(pairs))) as threads:
        return list(threads.map(lambda pair: _check(pair, timeout), pairs))


def _check(pair: tuple[str, str], timeout: float) -> bool | None:
    for _ in range(_ATTEMPTS):
        verdict = _running_pool().ask(*pair, timeout)
        if verdict != "died":
            return verdict
    return False  # it ends whatever worker looks at it


def _running_pool() -> _Pool:
    global _pool
    with _lock:
        if _pool is None or not _pool.is_alive():
            if _pool is not None:
                _pool.close()
            _pool = _Pool()
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
    _lock, _pool = threading.Lock(), None  # the workers belong to the process that forked


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_fork)
