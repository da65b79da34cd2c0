"""The workers: a bound on every check, the same verdict everywhere, and no trace of them after the end."""

import asyncio
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from rewards import correctness_reward, symbolic, worker

ENDLESS = (r"\sum_{n=1}^{10^{9}}\sin(n)", r"\sqrt{2}+x")
# Cheap questions with both answers: a mix-up of two of them shows.
QUESTIONS = {
    (rf"\sqrt{{{one}}}+\sqrt{{7}}", rf"\sqrt{{7}}+\sqrt{{{other}}}"): one == other
    for one in (2, 3, 5)
    for other in (2, 3)
}
SLACK = 4  # seconds, for a machine that others use too
PROVE = f"""
import os, signal, sys, threading, time
from rewards import correctness_reward, is_equivalent, symbolic
ENDLESS = {ENDLESS!r}
def prove():
    assert is_equivalent(r"\\sqrt{{2}}+\\sqrt{{3}}", r"\\sqrt{{3}}+\\sqrt{{2}}") is True
    begin = time.monotonic()
    assert symbolic.check([ENDLESS], 0.2) == [False]
    assert 0.2 <= time.monotonic() - begin
    assert is_equivalent(r"\\sqrt{{2}}+\\sqrt{{3}}", r"\\sqrt{{3}}+\\sqrt{{5}}") is False
    assert time.monotonic() - begin < {SLACK}
"""


@pytest.fixture
def script(tmp_path):
    """Runs a script that knows `prove`, as a user would; the parameters are those of `subprocess.Popen`."""

    def run(source: str, *flags: str, seconds: float = 30, **options) -> subprocess.CompletedProcess:
        path = tmp_path / "script.py"
        path.write_text(PROVE + source)
        command = [sys.executable, *flags, str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, **options)

    return run


@pytest.fixture(autouse=True)
def started():
    assert symbolic.check([(r"\sqrt{2}", r"\sqrt{2}")], 10) == [True]


def prove():
    for question, verdict in QUESTIONS.items():
        assert symbolic.check([question], 5) == [verdict]


def group(leader: int) -> list[psutil.Process]:
    """The processes of a session that are still running."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found


def workers() -> list[psutil.Process]:
    """Those that calculate, which their memory's limit tells from their parent and from what waits for our end."""
    found = []
    for process in group(symbolic._pool.process.pid):
        try:
            if process.rlimit(psutil.RLIMIT_AS)[0] == worker.MEMORY:
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def wait_until(condition, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


def seconds_of(work) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


# The bound.


@pytest.mark.parametrize("timeout", [0.05, 0.5])
def test_a_check_ends_at_its_deadline(timeout):
    begin = time.monotonic()
    assert symbolic.check([ENDLESS], timeout) == [False]
    assert timeout <= time.monotonic() - begin < timeout + SLACK


def test_the_honest_of_a_batch_do_not_wait_for_the_hostile():
    pairs = list(QUESTIONS)
    batch = [ENDLESS if row % 8 == 0 else pairs[row % len(pairs)] for row in range(64)]
    begin = time.monotonic()
    verdicts = symbolic.check(batch, 1.0)
    assert time.monotonic() - begin < 2 + SLACK
    assert verdicts == [QUESTIONS.get(pair, False) for pair in batch]


def test_a_gold_that_cannot_be_read_is_no_verdict():
    assert symbolic.check([(r"\sqrt{2}", r"\frac{")], 5) == [None]


def test_the_memory_of_a_worker_is_bounded():
    assert len(workers()) == symbolic.WORKERS


def test_a_worker_is_replaced_after_its_share_of_checks():
    mine, theirs = socket.socketpair()
    program = f"from rewards import worker; worker.RECYCLE = 2; worker.main([{theirs.fileno()}])"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, pass_fds=[theirs.fileno()], start_new_session=True
    )
    with process:
        theirs.close()
        channel = symbolic._Channel(mine)
        seen = set()
        for _ in range(2):
            for question, verdict in QUESTIONS.items():
                assert channel.ask(*question, 5) is verdict
                seen |= {child.pid for child in psutil.Process(process.pid).children()}
        assert len(seen) >= 5
        process.kill()


# Answers never mix.


def test_a_late_answer_is_not_taken_for_that_of_the_next_question():
    questions = list(QUESTIONS.items())

    def work(seed):
        choose = random.Random(seed)
        for _ in range(12):
            if choose.random() < 0.2:
                assert symbolic.check([ENDLESS], choose.uniform(0.001, 0.05)) == [False]
            question, verdict = choose.choice(questions)
            assert symbolic.check([question], 10) == [verdict]

    with ThreadPoolExecutor(24) as threads:
        list(threads.map(work, range(24)))


def test_workers_that_die_idle_leave_no_answer_behind():
    for _ in range(4):
        for process in workers():
            process.kill()
        assert wait_until(lambda: len(workers()) == symbolic.WORKERS)
    for _ in range(3):
        prove()


def test_checks_survive_whatever_is_killed_meanwhile():
    stop, errors = threading.Event(), []

    def work():
        while not stop.is_set():
            try:
                prove()
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for victims in ("one", "all", "all but their parent", "parent", "everything"):
            leader = symbolic._pool.process.pid
            found = {
                "one": workers()[:1],
                "all": workers(),
                "all but their parent": [process for process in group(leader) if process.pid != leader],
                "parent": [psutil.Process(leader)],
                "everything": group(leader),
            }[victims]
            for process in found:
                process.kill()
            time.sleep(0.3)
            assert symbolic.check([next(iter(QUESTIONS))], 10) == [True]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors


def test_a_worker_killed_in_the_middle_of_a_check_does_not_prolong_it():
    def kill():
        while not stop.wait(0.3):
            for process in workers():
                process.kill()

    stop = threading.Event()
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        assert seconds_of(lambda: symbolic.check([ENDLESS], 1.0)) < 1 + SLACK
    finally:
        stop.set()
        thread.join()
    prove()


def test_a_pool_that_is_closed_while_others_ask_is_started_anew():
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(prove) for _ in range(8)]
        for _ in range(2):
            time.sleep(0.05)
            symbolic.close()
        for future in asked:
            future.result(timeout=60)


def test_a_pool_that_is_never_left_alone_gives_no_error():
    """Every attempt of a check ends with its workers: the answer counts as wrong, the training goes on."""
    pool = symbolic._pool
    pool.close()
    assert not pool.is_alive()
    pool.close()
    with pytest.raises(ConnectionError):
        pool.ask(*ENDLESS, 1)
    prove()


def test_many_restarts_leave_no_descriptor_and_no_process():
    symbolic.close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        prove()
        leader = symbolic._pool.process.pid
        symbolic.close()
        assert wait_until(lambda leader=leader: not group(leader))
    assert len(os.listdir("/proc/self/fd")) == before
    assert leader not in [child.pid for child in psutil.Process().children()]


def test_the_callers_own_alarm_is_not_swallowed():
    def ring(*_):
        raise TimeoutError("the caller's")

    handler = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TimeoutError, match="the caller's"):
            symbolic.check([ENDLESS], 1)  # the next check waits for the worker that is busy with it
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    prove()


# The same everywhere.


def in_a_thread():
    with ThreadPoolExecutor(1) as threads:
        threads.submit(prove).result()


def in_an_event_loop():
    async def cell():
        prove()

    asyncio.run(cell())


def in_a_thread_of_an_event_loop():
    async def cell():
        await asyncio.to_thread(prove)

    asyncio.run(cell())


@pytest.mark.parametrize("place", [in_a_thread, in_an_event_loop, in_a_thread_of_an_event_loop])
def test_the_place_does_not_matter(place):
    place()


def test_processes_of_every_kind_have_workers_of_their_own(script):
    done = script(
        """
import multiprocessing
def child(expected):
    assert symbolic._pool is None
    prove()
    symbolic.close()
    os._exit(expected) if expected else None
if __name__ == "__main__":
    prove()
    processes = [
        multiprocessing.get_context("spawn").Process(target=child, args=[0]),
        multiprocessing.get_context("fork").Process(target=child, args=[7], daemon=True),
    ]
    for process in processes:
        process.start()
    pid = os.fork()
    if pid == 0:
        child(5)
    for process in processes:
        process.join()
    prove()
    print([process.exitcode for process in processes], os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    assert (done.stdout, done.stderr) == ("[0, 7] 5\n", "")


def test_a_fork_finds_no_lock_held(script):
    done = script(
        """
stop = False
def work():
    while not stop:
        symbolic._running_pool(threading.Event())
        symbolic.close()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        symbolic.close()
        os._exit(0 if symbolic._lock.acquire(timeout=5) and symbolic._pool is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    time.sleep(0.03)
stop = True
for thread in threads:
    thread.join()
prove()
print("done")
"""
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_script_without_a_guard_is_not_run_anew(script):
    done = script("print('once', flush=True)\nprove()")
    assert (done.stdout, done.stderr, done.returncode) == ("once\n", "", 0)


@pytest.mark.parametrize(
    ("source", "flags", "environment"),
    [
        (
            "import warnings; warnings.simplefilter('error')",
            ["-X", "dev", "-W", "error"],
            {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
        ),
        ("os.chdir('/proc')", [], {"HOME": "/proc", "TMPDIR": "/proc"}),
        ("os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')", [], {"PYTHONINSPECT": "", "HOME": ""}),
        ("sys.stdin.close(); sys.stdout.close(); sys.stderr.close(); os.close(0); os.close(1); os.close(2)", [], {}),
        ("os.close(1); os.close(2)", [], {}),
        (
            "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGCHLD})\n"
            "signal.signal(signal.SIGCHLD, signal.SIG_IGN); signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
            "prove(); pool = symbolic._pool; pool.close(); import contextlib\n"
            "with contextlib.suppress(ConnectionError): pool.channels[0]._send(b'')",
            [],
            {},
        ),
        ("import pathlib; sys.path.insert(0, pathlib.Path('.')); sys.path.append('\\'\\udcff')", [], {}),
    ],
    ids=[
        "warnings are errors",
        "nothing can be written",
        "the folder is gone",
        "0, 1, 2 are closed",
        "1, 2 are closed",
        "signals",
        "path",
    ],
)
def test_the_surroundings_do_not_matter(script, source, flags, environment):
    done = script(f"{source}\nprove()\nos._exit(41)", *flags, env={**os.environ, **environment})
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 41)


# Nothing starts early, and what cannot start says so.


def test_numbers_and_polynomials_start_no_worker():
    symbolic.close()
    completions = ["#### 42", r"\boxed{\frac43}", r"\boxed{(x+1)^2}", r"\boxed{\{2, 1\}}"]
    answers = ["42", "4/3", "x^2+2x+1", r"\{1,2\}"]
    assert correctness_reward(completions=completions, answer=answers) == [1.0] * 4
    assert symbolic._pool is None


def test_a_start_that_fails_is_one_clear_error(tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text("raise ImportError('math_verify is not installed')")
    symbolic.close()
    monkeypatch.syspath_prepend(str(tmp_path))
    for pairs in [ENDLESS], list(QUESTIONS):
        with pytest.raises(RuntimeError, match=r"could not start: ImportError: math_verify is not installed$"):
            symbolic.check(pairs, 1)
    monkeypatch.undo()
    prove()


def test_a_start_without_descriptors_is_one_clear_error():
    symbolic.close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, hard))
    try:
        with pytest.raises(RuntimeError, match=r"could not start: .*Too many open files"):
            symbolic.check([ENDLESS], 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    prove()


# Nothing stays.


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("raise SystemExit(3)", 3),
        ("threading.Thread(target=sys.exit).start()", 0),
        ("threading.Thread(target=symbolic.check, args=([ENDLESS], 600), daemon=True).start(); time.sleep(.3)", 0),
        ("threading.Thread(target=symbolic.check, args=([ENDLESS] * 64, 600), daemon=True).start(); time.sleep(.3)", 0),
        ("os._exit(4)", 4),
        (
            "threading.Thread(target=symbolic.check, args=([ENDLESS] * 9, 600)).start(); time.sleep(.5)\n"
            "os.kill(os.getpid(), signal.SIGKILL)",
            -9,
        ),
        (
            "import subprocess; pid = os.fork()\n"
            "time.sleep(60) if pid == 0 else None\nchild = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
            "os.kill(os.getpid(), signal.SIGKILL)",
            -9,
        ),
    ],
    ids=[
        "an error",
        "an exit in a thread",
        "a check in a daemon",
        "a batch in a daemon",
        "a hard exit",
        "killed while all are busy",
        "killed, with children",
    ],
)
def test_the_workers_end_with_their_caller(tmp_path, source, code):
    (tmp_path / "script.py").write_text(
        f"{PROVE}\nsymbolic.check([ENDLESS], 0.01)\nprint(symbolic._pool.process.pid, flush=True)\n{source}"
    )
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "script.py"],
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "stderr").open("w"),
        text=True,
        start_new_session=True,
    )
    with process:
        leader = int(process.stdout.readline())
        assert process.wait(20) == code
        assert wait_until(lambda: not group(leader))
        try:
            os.killpg(process.pid, signal.SIGKILL)  # its children
        except ProcessLookupError:
            pass
    assert (tmp_path / "stderr").read_text() == ""


def test_an_interrupt_ends_a_check_and_the_next_one_is_right(script):
    done = script(
        f"""
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
easy = (r"\\sqrt{{2}}", r"\\sqrt{{3}}")
for batch in [ENDLESS], [ENDLESS] * 20, [ENDLESS] * (symbolic.WORKERS - 1) + [easy]:
    symbolic.check([easy], 30)
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    begin = time.monotonic()
    try:
        symbolic.check(batch, 60)
    except KeyboardInterrupt:
        assert time.monotonic() - begin < {SLACK}
        assert symbolic._pool is None or not symbolic._pool.is_alive()  # no worker goes on
        print("interrupted")
prove()
""",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted\n" * 3, "", 0)


def test_nothing_can_be_evaluated_in_a_worker(script):
    done = script(
        """
from sympy.parsing.sympy_parser import parse_expr as kept_by_somebody
from rewards import worker
worker.forbid_evaluation()
import sympy
from sympy.parsing.latex import parse_latex
from sympy.parsing import parse_expr
text = "__import__('os').write(1, b'evaluated')"
for evaluate in (kept_by_somebody, parse_expr, sympy.parse_expr, sympy.sympify, sympy.S, sympy.Rational, worker.read):
    try:
        found = evaluate(text)
        print(evaluate, found) if evaluate is not worker.read else None
    except (sympy.SympifyError, TypeError, ValueError):
        pass
print(worker.compare(text, text))
"""
    )
    assert "evaluated" not in done.stdout
    assert len(done.stdout.splitlines()) == 1
