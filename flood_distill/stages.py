"""Runs commands that depend on each other, several at a time, each once: killed and restarted without harm."""

import dataclasses
import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from flood_distill import child_process, files
from flood_distill.errors import UserError

_POLL_S = 0.2
_LOG_TAIL_LINES = 15


@dataclasses.dataclass(frozen=True)
class Stage:
    """A command that is run once.

    Attributes:
        name: unique; names its log and its marker.
        command: arguments of ``python -m``.
        needs: names of the stages that must be done before.
        settings: text that the result depends on beside the command, such as the gin configuration.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    settings: str = ""

    @property
    def shell_command(self) -> str:
        """The command as a person types it."""
        return " ".join(("python -m", *self.command))


def run_stages(stages: Sequence[Stage], work_dir: Path, num_parallel: int) -> dict[str, float]:
    """Runs every stage that is not done yet, at most `num_parallel` at a time, in the order given where needs allow.

    A stage's marker is written when its command has ended well; a stage that was killed runs again, its command
    resumes by itself. Logs are in `work_dir`/logs.

    Returns:
        Seconds that each stage took when it ran.

    Raises:
        UserError: if a stage fails (with the end of its log), if a done stage had another command or other settings,
            or if another run works in the same folder.
    """
    for name in ("logs", "stages"):
        (work_dir / name).mkdir(parents=True, exist_ok=True)
    with open(work_dir / "lock", "w") as lock:
        _take(lock, work_dir)
        seconds = {stage.name: took for stage in stages if (took := _seconds_if_done(stage, work_dir)) is not None}
        waiting = [stage for stage in stages if stage.name not in seconds]
        running: dict[str, _Running] = {}
        with tqdm(total=len(stages), initial=len(seconds), unit="stage", desc="reproduce") as bar:
            try:
                while waiting or running:
                    _start_ready(waiting, running, seconds, work_dir, num_parallel, lock.fileno())
                    time.sleep(_POLL_S)
                    for name in [name for name, one in running.items() if one.process.poll() is not None]:
                        seconds[name] = _finish(running.pop(name), work_dir)
                        bar.update()
                        tqdm.write(f"{name}: done in {seconds[name]:.0f} s", file=sys.stderr)
            finally:
                _stop(running)
    return seconds


@dataclasses.dataclass
class _Running:
    stage: Stage
    process: subprocess.Popen
    started: float


def _take(lock, work_dir: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"{work_dir}: another reproduce run works there; wait for it or give another folder") from error


def _marker(stage: Stage, work_dir: Path) -> Path:
    return work_dir / "stages" / f"{stage.name}.json"


def _seconds_if_done(stage: Stage, work_dir: Path) -> float | None:
    marker = _marker(stage, work_dir)
    if not marker.exists():
        return None
    done = json.loads(marker.read_text())
    if done["command"] != list(stage.command) or done["settings"] != stage.settings:
        raise UserError(f"{work_dir}: stage {stage.name} was done there with other settings; give another --work_dir")
    return done["seconds"]


def _start_ready(
    waiting: list[Stage], running: dict[str, _Running], done: dict[str, float], work_dir: Path, limit: int, lock_fd: int
) -> None:
    for stage in list(waiting):
        if len(running) < limit and all(need in done for need in stage.needs):
            waiting.remove(stage)
            running[stage.name] = _Running(stage, _popen(stage, work_dir, lock_fd), time.monotonic())


def _popen(stage: Stage, work_dir: Path, lock_fd: int) -> subprocess.Popen:
    with open(work_dir / "logs" / f"{stage.name}.log", "ab") as log:
        return child_process.start(stage.command, log, keep_open=[lock_fd])


def _finish(one: _Running, work_dir: Path) -> float:
    log = work_dir / "logs" / f"{one.stage.name}.log"
    if one.process.returncode:
        tail = child_process.tail(log, _LOG_TAIL_LINES)
        raise UserError(
            f"stage {one.stage.name} failed with exit code {one.process.returncode}; {log} ends with:\n{tail}"
        )
    seconds = time.monotonic() - one.started
    done = {"command": one.stage.command, "settings": one.stage.settings, "seconds": round(seconds, 1)}
    files.write_text(_marker(one.stage, work_dir), json.dumps(done, indent=2) + "\n")
    return seconds


def _stop(running: dict[str, _Running]) -> None:
    for one in running.values():
        one.process.terminate()
    for one in running.values():
        one.process.wait()
