"""Signals are answered while TensorFlow computes; one run at a time in a folder; exit codes of binaries."""

import errno
import functools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tensorflow as tf

from flood_distill import exit_codes, run_lock
from flood_distill.errors import UserError
from flood_distill.training import lost_workers, stopping

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_answer_comes_inside_a_call_into_tensorflow(number):
    asked = tf.Variable(False, trainable=False)

    @tf.function
    def steps():
        count = tf.zeros([], tf.int64)
        while not asked.read_value():  # ends by the answer only
            count += 1
        return count

    steps.get_concrete_function()
    signal.signal(number, signal.default_int_handler)
    with stopping.on_signals(lambda: asked.assign(True)):
        threading.Timer(0.2, os.kill, [os.getpid(), number]).start()
        assert int(steps()) >= 0
    assert signal.getsignal(number) is signal.SIG_IGN  # it is on its way out


def test_handlers_are_as_before_when_no_signal_came():
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopping.on_signals(lambda: pytest.fail("nobody asked")):
        os.kill(os.getpid(), signal.SIGINT)  # as in a shell's background job
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _python(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    hears = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores Ctrl-C
    return subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, stderr=-1, text=True, preexec_fn=hears)


def test_second_interrupt_ends_at_once():
    program = """
import time
from flood_distill.training import stopping
with stopping.on_signals(lambda: print("saving", flush=True)):
    print("ready", flush=True)
    time.sleep(300)
"""
    with _python(program) as process:
        for line in ("ready", "saving"):
            assert process.stdout.readline() == line + "\n"
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGINT
        assert process.stderr.read() == "stopped at once\n"


def test_second_run_is_refused_until_the_first_is_gone(tmp_path):
    program = """
import sys
from flood_distill import run_lock
with run_lock.only_run(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""
    with _python(program, tmp_path) as first:
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=rf"process {first.pid} on .* trains there; wait for it"):
            run_lock.only_run(str(tmp_path)).__enter__()
        first.kill()
    with run_lock.only_run(str(tmp_path)):  # the system has released it
        pass
    with run_lock.only_run("gs://bucket/run"):  # stores have none
        pass


def test_disk_without_locks_is_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    with run_lock.only_run(str(tmp_path)):
        assert "no lock there (No locks available)" in capsys.readouterr().err


def test_worker_leaves_when_another_one_is_lost(monkeypatch, capsys):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    lost = tf.errors.UnavailableError(None, None, "Collective ops is aborted")
    monkeypatch.setenv("TF_CONFIG", "{}")
    with lost_workers.leave_when_one_is_lost():
        raise lost
    assert codes == [exit_codes.WORKER_LOST]
    assert capsys.readouterr().err.startswith("error: another worker is gone; start all of them again (Collective ops")
    monkeypatch.delenv("TF_CONFIG")
    with pytest.raises(tf.errors.UnavailableError), lost_workers.leave_when_one_is_lost():
        raise lost  # of a store, say


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        ("UserError('mend it')", exit_codes.USER_ERROR, ["error: mend it"]),
        ("OSError(28, 'No space left on device', 'x.csv')", 1, ["error: [Errno 28] No space left on device: 'x.csv'"]),
        ("OSError(5, 'Input/output error')", exit_codes.CRASH, ["Traceback", "OSError: [Errno 5] Input/output error"]),
        ("ZeroDivisionError('why')", exit_codes.CRASH, ["Traceback", "ZeroDivisionError: why"]),
    ],
)
def test_errors_of_the_user_and_crashes_have_codes_of_their_own(error, code, lines):
    program = f"""
from flood_distill import cli
from flood_distill.errors import UserError
def main(_):
    raise {error}
cli.run(main)
"""
    with _python(program) as process:
        said = process.communicate()[1].splitlines()
    assert process.returncode == code
    assert said[0].startswith(lines[0])
    assert said[-1] == lines[-1]
