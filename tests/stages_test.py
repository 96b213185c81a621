"""Stages run once, in the order that their needs allow, and survive a kill."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flood_distill import stages
from flood_distill.errors import UserError


@pytest.fixture(autouse=True)
def _modules_of_the_test_can_be_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))


def _writer(folder, name, text, needs=(), settings=""):
    """A stage that appends `text` to a common file."""
    (folder / f"{name}_stage.py").write_text(f"open({str(folder / 'trace')!r}, 'a').write({text!r})")
    return stages.Stage(name, (f"{name}_stage",), needs, settings)


def test_needs_come_first_and_nothing_runs_twice(tmp_path):
    chain = [_writer(tmp_path, "b", "b", ("a",)), _writer(tmp_path, "a", "a"), _writer(tmp_path, "c", "c", ("b",))]
    seconds = stages.run_stages(chain, tmp_path / "work", num_parallel=2)
    assert (tmp_path / "trace").read_text() == "abc"
    assert set(seconds) == {"a", "b", "c"}
    stages.run_stages(chain, tmp_path / "work", num_parallel=2)
    assert (tmp_path / "trace").read_text() == "abc"


def test_failure_names_stage_and_shows_its_log(tmp_path):
    (tmp_path / "bad_stage.py").write_text("raise SystemExit('the reason')")
    after = _writer(tmp_path, "after", "x", ("bad",))
    with pytest.raises(UserError, match=r"stage bad failed with exit code 1(.|\n)*the reason"):
        stages.run_stages([stages.Stage("bad", ("bad_stage",)), after], tmp_path / "work", 1)
    assert not (tmp_path / "trace").exists()


def test_failed_stage_runs_again_once_mended(tmp_path):
    (tmp_path / "a_stage.py").write_text("raise SystemExit(3)")
    stage = stages.Stage("a", ("a_stage",))
    with pytest.raises(UserError):
        stages.run_stages([stage], tmp_path / "work", 1)
    _writer(tmp_path, "a", "mended")
    stages.run_stages([stage], tmp_path / "work", 1)
    assert (tmp_path / "trace").read_text() == "mended"


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    stages.run_stages([_writer(tmp_path, "a", "a", settings="lr=1")], tmp_path / "work", 1)
    with pytest.raises(UserError, match="other settings"):
        stages.run_stages([_writer(tmp_path, "a", "a", settings="lr=2")], tmp_path / "work", 1)


@pytest.mark.skipif(sys.platform != "linux", reason="children die with their parent on Linux only")
def test_killed_run_leaves_no_children_and_is_restarted(tmp_path):
    slow = tmp_path / "slow_stage.py"
    slow.write_text(f"import time; open({str(tmp_path / 'started')!r}, 'w').close(); time.sleep(60)")
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import pathlib\nfrom flood_distill import stages\n"
        "stage = stages.Stage('slow', ('slow_stage',))\n"
        f"stages.run_stages([stage], pathlib.Path({str(tmp_path / 'work')!r}), 1)\n"
    )
    process = subprocess.Popen([sys.executable, str(driver)], stderr=subprocess.DEVNULL)
    _wait_for(lambda: (tmp_path / "started").exists())
    with pytest.raises(UserError, match="another reproduce run"):
        stages.run_stages([stages.Stage("slow", ("slow_stage",))], tmp_path / "work", 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    slow.write_text(f"open({str(tmp_path / 'trace')!r}, 'w').write('second try')")
    _wait_for(lambda: _lock_is_free(tmp_path / "work" / "lock"))  # the child is gone, though it would sleep 60 s
    stages.run_stages([stages.Stage("slow", ("slow_stage",))], tmp_path / "work", 1)
    assert (tmp_path / "trace").read_text() == "second try"


def _wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _lock_is_free(path):
    import fcntl

    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
