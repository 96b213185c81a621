"""Stages run once, in the order that their needs allow, and survive a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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
    started = str(tmp_path / "started")
    slow.write_text(
        f"import os, time; open({started + '.new'!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({started + '.new'!r}, {started!r}); time.sleep(60)"
    )
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import pathlib\nfrom flood_distill import stages\n"
        "stage = stages.Stage('slow', ('slow_stage',))\n"
        f"stages.run_stages([stage], pathlib.Path({str(tmp_path / 'work')!r}), 1)\n"
    )
    process = subprocess.Popen([sys.executable, str(driver)], stderr=subprocess.DEVNULL)
    _wait_for(lambda: (tmp_path / "started").exists())
    child = int((tmp_path / "started").read_text())
    with pytest.raises(UserError, match=f"is being run by process {process.pid} on"):
        stages.run_one([stages.Stage("slow", ("slow_stage",))], "slow", tmp_path / "work")
    process.send_signal(signal.SIGKILL)
    process.wait()
    slow.write_text(f"open({str(tmp_path / 'trace')!r}, 'w').write('second try')")
    _wait_for(lambda: not _alive(child))  # it is gone, though it would sleep 60 s
    stages.run_stages([stages.Stage("slow", ("slow_stage",))], tmp_path / "work", 1)
    assert (tmp_path / "trace").read_text() == "second try"


def test_two_processes_share_the_stages(tmp_path):
    """Each stage appends one letter; whoever runs it, it is there once, and both processes see all of them done."""
    names = "abcdef"
    for name in names:
        _writer(tmp_path, name, name)
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import pathlib\nfrom flood_distill import stages\n"
        f"todo = [stages.Stage(name, (name + '_stage',)) for name in {names!r}]\n"
        f"print(sorted(stages.run_stages(todo, pathlib.Path({str(tmp_path / 'work')!r}), 1)))\n"
    )
    start = [sys.executable, str(driver)]
    both = [subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=120)[0].strip() == str(list(names))
    assert sorted((tmp_path / "trace").read_text()) == list(names)
    assert not list((tmp_path / "work" / "stages").glob("*.claim.*"))


def test_one_stage_alone_for_a_scheduler(tmp_path):
    chain = [_writer(tmp_path, "a", "a"), _writer(tmp_path, "b", "b", ("a",))]
    with pytest.raises(UserError, match="needs a, not done yet"):
        stages.run_one(chain, "b", tmp_path / "work")
    for name in ("a", "b", "b"):
        stages.run_one(chain, name, tmp_path / "work")
    assert (tmp_path / "trace").read_text() == "ab"
    with pytest.raises(UserError, match="--stage=c: no such stage"):
        stages.run_one(chain, "c", tmp_path / "work")


def _wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
