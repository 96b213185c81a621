"""The supervisor on programs of a few lines: what it starts again, what it passes on, what it ends with."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flood_distill import exit_codes, supervision
from flood_distill.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
LIMITS = supervision.Limits(max_restarts=2, startup_deadline_s=60, grace_s=30, restart_delay_s=0)
PROGRAM = """
import json, os, pathlib, signal, sys, time
index = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
folder = pathlib.Path(sys.argv[1])
start = len(list(folder.glob(f"start_{index}_*")))
(folder / f"start_{index}_{start}").write_text(os.environ.get("TF_CONFIG", ""))
def started():
    pathlib.Path(os.environ["FLOOD_DISTILL_STARTED_FILE"]).touch()
def wait():
    time.sleep(300)
"""


def _supervise(tmp_path, program, num_workers=1, **limits):
    """Runs PROGRAM and `program`; returns the exit code and how often each worker was started."""
    (tmp_path / "starts").mkdir()
    (tmp_path / "logs").mkdir()
    command = [sys.executable, "-c", PROGRAM + program, str(tmp_path / "starts")]
    with_limits = supervision.Limits(**(vars(LIMITS) | limits))
    code = supervision.supervise(command, num_workers, with_limits, tmp_path / "logs")
    names = [path.name for path in (tmp_path / "starts").iterdir()]
    return code, [sum(name.startswith(f"start_{index}_") for name in names) for index in range(num_workers)]


@pytest.mark.parametrize(
    ("program", "code", "starts"),
    [
        ("started()", exit_codes.DONE, 1),
        ("sys.exit(1)", exit_codes.USER_ERROR, 1),
        ("sys.exit(85)", exit_codes.STOPPED, 1),
        ("sys.exit(70)", exit_codes.CRASH, 3),
        ("sys.exit(0 if start else 75)", exit_codes.DONE, 2),
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL, 3),
        ("start or os.kill(os.getpid(), signal.SIGSEGV)", exit_codes.DONE, 2),
    ],
)
def test_only_what_can_change_is_started_again(tmp_path, program, code, starts):
    assert _supervise(tmp_path, program) == (code, [starts])


def test_all_workers_start_again_when_one_dies_and_meet_at_new_addresses(tmp_path, capsys):
    program = "if start == 0: (index == 1 and os.kill(os.getpid(), signal.SIGKILL)) or wait()"
    assert _supervise(tmp_path, program, num_workers=2) == (exit_codes.DONE, [2, 2])
    assert "worker 1 was killed by SIGKILL" in capsys.readouterr().err
    configs = {path.name: json.loads(path.read_text()) for path in (tmp_path / "starts").iterdir()}
    assert {name: config["task"] for name, config in configs.items()} == {
        f"start_{index}_{start}": {"type": "worker", "index": index} for index in range(2) for start in range(2)
    }
    clusters = [configs[f"start_{index}_1"]["cluster"]["worker"] for index in range(2)]
    assert clusters[0] == clusters[1]
    assert len(set(clusters[0])) == 2


def test_error_of_one_worker_ends_the_others_and_is_shown(tmp_path, capsys):
    program = "index or wait(); print('error: no such folder'); sys.exit(1)"
    assert _supervise(tmp_path, program, num_workers=2) == (exit_codes.USER_ERROR, [1, 1])
    assert "error: no such folder" in capsys.readouterr().err


def test_start_that_does_not_get_going_is_given_up(tmp_path, capsys):
    program = "if start or index == 0: started()\nif not start: wait()"
    code, starts = _supervise(tmp_path, program, num_workers=2, startup_deadline_s=2, max_restarts=20)
    assert code == exit_codes.DONE
    assert starts[0] == starts[1] >= 2
    assert "not at the first step after 2 s" in capsys.readouterr().err


def test_unknown_command_is_one_line(tmp_path):
    with pytest.raises(UserError, match="nowhere: cannot be started"):
        supervision.supervise(["nowhere"], 1, LIMITS, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_passed_on_and_nothing_started_again(tmp_path, number):
    program = """
def save(*_):
    (folder / f"saved_{index}").touch()
    sys.exit(85)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
(folder / f"ready_{index}").touch()
wait()
"""
    command = [sys.executable, "-m", "flood_distill.supervise"]
    command += ["--num_workers=2", f"--worker_log_dir={tmp_path / 'logs'}", "--"]
    command += [sys.executable, "-c", PROGRAM + program, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as supervisor:
        _wait_for(supervisor, tmp_path / "ready_0", tmp_path / "ready_1")
        supervisor.send_signal(number)
        assert supervisor.wait(60) == exit_codes.STOPPED, supervisor.stderr.read()
    made = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert made == {f"{what}_{index}" for what in ("ready", "saved") for index in range(2)} | {"start_0_0", "start_1_0"}


def test_workers_do_not_outlive_their_supervisor(tmp_path):
    command = [sys.executable, "-m", "flood_distill.supervise", "--", sys.executable, "-c"]
    program = '(folder / "pid.part").write_text(str(os.getpid())); (folder / "pid.part").rename(folder / "pid"); wait()'
    with subprocess.Popen([*command, PROGRAM + program, str(tmp_path)], cwd=ROOT) as supervisor:
        _wait_for(supervisor, tmp_path / "pid")
        worker = os.pidfd_open(int((tmp_path / "pid").read_text()))
        supervisor.kill()
    assert select.select([worker], [], [], 60)[0]  # readable: it has ended
    os.close(worker)


def test_no_command_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "flood_distill.supervise"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "error: no command; give it after --, see --help\n")


def _wait_for(process, *paths):
    for _ in range(600):
        assert process.poll() is None
        if all(path.exists() for path in paths):
            return
        time.sleep(0.1)
    raise TimeoutError(paths)
