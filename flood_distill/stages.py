"""Runs commands that depend on each other, several at a time, each once: killed and restarted without harm.

Several machines that see the same folder share the stages: each claims what it runs (`claims`), and a stage that was
done by one is done for all.
"""

import dataclasses
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Container, Sequence
from pathlib import Path

from tqdm import tqdm

from flood_distill import child_process, claims, files
from flood_distill.errors import UserError

_POLL_S = 0.2
_LOOK_S = 2.0  # between two looks at what other machines have done
_LOG_TAIL_LINES = 15
_LOGS, _MARKERS = "logs", "stages"


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
        return shell_command(self.command)


def shell_command(command: Sequence[str]) -> str:
    """Returns arguments of ``python -m`` as a person types them."""
    return shlex.join(("python", "-m", *command))


def run_stages(stages: Sequence[Stage], work_dir: Path, num_parallel: int) -> dict[str, float]:
    """Runs every stage that is not done yet, at most `num_parallel` at a time, in the order given where needs allow.

    A stage's marker is written when its command has ended well; a stage that was killed runs again, its command
    resumes by itself. Logs are in `work_dir`/logs. Other processes, on this machine or another, may run the same
    stages in the same folder at the same time; returns when all stages are done, whoever did them.

    Returns:
        Seconds that each stage took when it ran.

    Raises:
        UserError: if a stage fails (with the end of its log), or if a done stage had another command or settings.
    """
    _make_folders(work_dir)
    lanes = _Lanes(work_dir, num_parallel)
    seconds = _done(stages, work_dir)
    with tqdm(total=len(stages), initial=len(seconds), unit="stage") as bar:
        try:
            while len(seconds) < len(stages):
                lanes.start_ready([stage for stage in stages if stage.name not in seconds], seconds)
                bar.set_postfix_str("" if lanes.running else "waiting for other machines", refresh=False)
                before = len(seconds)
                seconds |= lanes.wait(_LOOK_S)
                seconds |= _done([stage for stage in stages if stage.name not in seconds], work_dir)
                if len(seconds) > before:  # an update by 0 prints the bar anew
                    bar.update(len(seconds) - before)
        finally:
            lanes.stop()
    return seconds


def run_one(stages: Sequence[Stage], name: str, work_dir: Path) -> None:
    """Runs one stage of several, if it is not done: what a scheduler's job does.

    Raises:
        UserError: if there is no such stage, it needs one that is not done, another process runs it, or it fails.
    """
    _make_folders(work_dir)
    by_name = {stage.name: stage for stage in stages}
    if name not in by_name:
        raise UserError(f"--stage={name}: no such stage; --print_commands lists them")
    stage, done = by_name[name], _done(stages, work_dir)
    if missing := [need for need in stage.needs if need not in done]:
        raise UserError(f"--stage={name}: needs {', '.join(missing)}, not done yet")
    if name in done:
        return
    lanes = _Lanes(work_dir, 1)
    try:
        lanes.start_ready([stage], done)
        if not lanes.running and name not in _done([stage], work_dir):
            holder = claims.holder(work_dir / _MARKERS, name)
            raise UserError(f"--stage={name}: is being run by {holder or 'another process'}")
        while lanes.running:
            lanes.wait(_LOOK_S)
    finally:
        lanes.stop()


@dataclasses.dataclass
class _Running:
    stage: Stage
    process: subprocess.Popen
    claim: claims.Claim
    started: float


class _Lanes:
    """The stages that this process runs now."""

    def __init__(self, work_dir: Path, num_parallel: int):
        self._work_dir = work_dir
        self._num_parallel = num_parallel
        self.running: dict[str, _Running] = {}

    def start_ready(self, waiting: Sequence[Stage], done: Container[str]) -> None:
        """Starts stages whose needs are done and that nobody else runs, as far as there is room."""
        for stage in waiting:
            if len(self.running) >= self._num_parallel:
                return
            if stage.name not in self.running and all(need in done for need in stage.needs):
                self._start(stage)

    def wait(self, longest_s: float) -> dict[str, float]:
        """Returns the seconds of the stages that ended well, as soon as one did or after `longest_s`."""
        deadline = time.monotonic() + longest_s
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            for one in self.running.values():
                if not one.claim.beat():
                    raise UserError(f"stage {one.stage.name}: another machine took it over while this one stood still")
            ended = [name for name, one in self.running.items() if one.process.poll() is not None]
            if ended:
                return {name: self._finish(self.running[name]) for name in ended}
        return {}

    def stop(self) -> None:
        """Ends what still runs and gives up its claims."""
        for one in self.running.values():
            one.process.terminate()
        for one in self.running.values():
            one.process.wait()
            one.claim.release()
        self.running.clear()

    def _start(self, stage: Stage) -> None:
        claim = claims.take(self._work_dir / _MARKERS, stage.name)
        if claim is None:
            return
        if _seconds_if_done(stage, self._work_dir) is not None:  # by another process, since we looked
            claim.release()
            return
        self.running[stage.name] = _Running(stage, _popen(stage, self._work_dir), claim, time.monotonic())

    def _finish(self, one: _Running) -> float:
        log = self._work_dir / _LOGS / f"{one.stage.name}.log"
        if one.process.returncode:
            tail = child_process.tail(log, _LOG_TAIL_LINES)
            raise UserError(
                f"stage {one.stage.name} failed with exit code {one.process.returncode}; {log} ends with:\n{tail}"
            )
        seconds = time.monotonic() - one.started
        done = {"command": one.stage.command, "settings": one.stage.settings, "seconds": round(seconds, 1)}
        files.write_text(marker(one.stage.name, self._work_dir), json.dumps(done, indent=2) + "\n")
        one.claim.release()
        del self.running[one.stage.name]
        tqdm.write(f"{one.stage.name}: done in {seconds:.0f} s", file=sys.stderr)
        return seconds


def marker(name: str, work_dir: Path) -> Path:
    """Returns the file that says that a stage is done."""
    return work_dir / _MARKERS / f"{name}.json"


def _make_folders(work_dir: Path) -> None:
    for name in (_LOGS, _MARKERS):
        (work_dir / name).mkdir(parents=True, exist_ok=True)


def _done(stages: Sequence[Stage], work_dir: Path) -> dict[str, float]:
    return {stage.name: took for stage in stages if (took := _seconds_if_done(stage, work_dir)) is not None}


def _seconds_if_done(stage: Stage, work_dir: Path) -> float | None:
    try:
        done = json.loads(marker(stage.name, work_dir).read_text())
    except FileNotFoundError:
        return None
    if done["command"] != list(stage.command) or done["settings"] != stage.settings:
        raise UserError(f"{work_dir}: stage {stage.name} was done there with other settings; give another --work_dir")
    return done["seconds"]


def _popen(stage: Stage, work_dir: Path) -> subprocess.Popen:
    with open(work_dir / _LOGS / f"{stage.name}.log", "ab") as log:
        return child_process.start(stage.command, log)
