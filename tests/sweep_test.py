"""Sweeps over a stand-in for training: every point once, whoever runs it, whatever is killed."""

import collections
import csv
import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time

import gin
import pytest

pytest.importorskip("optuna")

from flood_distill import cli
from flood_distill.errors import UserError
from flood_distill.sweeping import report, run, study, trial
from flood_distill.sweeping.folder import SweepFolder, point_name

RATE, DECAY = "poly_schedule.base_learning_rate", "l2_weight_decay.rate"
GRID = {RATE: (0.3, 0.1), DECAY: (1e-3, 1e-4)}
# IoU = 0.5 + rate - 100 decay at step 2, half of it at step 1. It resumes at its last step, writes what it does to
# `trace`, fails for the rates in the file `bad`, and waits before its second step for those in the file `hold`.
FAKE_TRAINING = """
    import json, pathlib, sys, time  # nothing of the package: a process of this takes a tenth of a second

    folder = pathlib.Path(__file__).parent
    flags = [argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:]]
    values = dict(value.split(" = ") for flag, value in flags if flag == "gin_param" and " = " in value)
    rate, decay = float(values["poly_schedule.base_learning_rate"]), float(values["l2_weight_decay.rate"])
    model_dir = pathlib.Path(dict(flags)["model_dir"])
    model_dir.mkdir(exist_ok=True)
    log = model_dir / "training.csv"
    lines = log.read_text().splitlines() if log.exists() else ["step,hours,validation_iou"]

    def trace(text):
        with open(folder / "trace", "a") as file:
            file.write(f"{model_dir.name} {text}\\n")

    def holds(name):
        path = folder / name
        return path.exists() and str(rate) in path.read_text().split()

    trace(f"from {len(lines) - 1}")
    if holds("bad"):
        sys.exit("error: the loss is not finite")
    for step in range(len(lines), 3):
        while step == 2 and holds("hold"):
            time.sleep(0.02)
        iou = (0.5 + rate - 100 * decay) * step / 2
        lines.append(f"{step},{step / 4},{iou}")
        (model_dir / "new").write_text("\\n".join(lines))
        (model_dir / "new").replace(log)
    info = dict(name="fake", task="supervised", inputs="s1", network={}, train_datasets=["d"], seed=0)
    info |= dict(dataset="sen1floods11/hand", source="synthetic", step=2, iou=iou)
    (model_dir / "model.json").write_text(json.dumps(info))
    trace("done")
"""


@pytest.fixture(autouse=True)
def world(tmp_path, monkeypatch):
    (tmp_path / "fake_training.py").write_text(textwrap.dedent(FAKE_TRAINING))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setattr(report, "_draw", lambda *_: None)  # 0.3 s a picture; one test draws
    yield
    gin.clear_config()


def _training(**changes):
    values = {"gin_files": ["teacher.gin"], "gin_params": ["train.num_steps = 2"], "data_dir": "R"}
    return trial.Training(**values | {"module": "fake_training"} | changes)


def _sweep(tmp_path, config="lr", **arguments):
    arguments = {"grid": GRID, **arguments}
    return run.sweep(SweepFolder(tmp_path / "sweep"), _training(), config, **arguments)


def _table(tmp_path):
    with open(tmp_path / "sweep/table.csv", newline="") as file:
        return list(csv.DictReader(file))


def _trace(tmp_path):
    return collections.Counter((tmp_path / "trace").read_text().splitlines())


def _states(results):
    return collections.Counter(one.state for one in results.all_trials)


NAMES = [point_name({RATE: rate, DECAY: decay}) for rate in GRID[RATE] for decay in GRID[DECAY]]


def test_every_point_once_and_the_best_is_picked(tmp_path):
    results = _sweep(tmp_path)
    assert _trace(tmp_path) == {f"{name} {text}": 1 for name in NAMES for text in ("from 0", "done")}
    assert results.best.point == {RATE: 0.3, DECAY: 1e-4}
    assert results.best.iou == pytest.approx(0.5 + 0.3 - 0.01)
    rows = _table(tmp_path)
    ious = [float(row["validation_iou"]) for row in rows]
    assert ious == sorted(ious, reverse=True)
    assert [float(row[RATE]) for row in rows] == [0.3, 0.3, 0.1, 0.1]
    table = (tmp_path / "sweep/table.md").read_text()
    assert "4 done" in table
    assert "Synthetic data" in table
    assert "| 0.3 | 0.0001 | 0.7900 | 2 | **done** | 0.50 | 1 |" in table

    # best.gin is complete: it makes the configuration that the best trial was started with.
    from flood_distill.training import experiment  # noqa: F401  (the names of teacher.gin)

    flags = [argument.removeprefix("--").split("=", 1) for argument in _training().command(results.best.point, "M")[1:]]
    cli.parse_gin([v for f, v in flags if f == "gin_file"], [v for f, v in flags if f == "gin_param"])
    trained = gin.config_str()
    cli.parse_gin([str(tmp_path / "sweep/best.gin")], [])
    assert gin.config_str() == trained
    assert gin.query_parameter(DECAY) == 1e-4
    assert gin.query_parameter("train.num_steps") == 2


def test_heat_map_shows_every_state(tmp_path, monkeypatch):
    monkeypatch.undo()
    states = (study.DONE, study.FAILED, study.PRUNED, study.RUNNING)
    points = [{RATE: rate, DECAY: decay} for rate in (0.3, 0.1) for decay in (1e-3, 1e-4)]
    ious = (0.7, None, 0.4, None)
    trials = [study.Trial(*values) for values in zip(points, states, ious, strict=True)]
    grid = {RATE: (0.3, 0.1), DECAY: (1e-3, 1e-4, 1e-5)}
    monkeypatch.setattr(report, "_synthetic", lambda _: True)
    results = report.SweepResults(SweepFolder(tmp_path), _training(), grid, trials)
    report.write(results)
    assert (tmp_path / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    assert "1 done, 1 failed, 1 pruned, 1 running, 2 not started" in (tmp_path / "table.md").read_text()
    assert report.summary(results).startswith("1 done, 1 failed")
    report.write(dataclasses.replace(results, grid={RATE: (0.3, 0.1)}, trials=[]))  # nothing done, one binding


def test_failed_points_are_kept_shown_and_tried_again_on_demand(tmp_path):
    (tmp_path / "bad").write_text("0.3")
    results = _sweep(tmp_path)
    assert _states(results) == {"failed": 2, "done": 2}
    assert results.best.point == {RATE: 0.1, DECAY: 1e-4}
    assert "the loss is not finite" in (tmp_path / "sweep/table.md").read_text()
    assert _sweep(tmp_path).trials == results.trials  # nothing left
    (tmp_path / "bad").unlink()
    results = _sweep(tmp_path, retry_failed=True)
    assert _states(results) == {"done": 4}
    assert [one.attempt for one in results.all_trials] == [2, 2, 1, 1]


def test_stops_where_every_training_fails(tmp_path):
    (tmp_path / "bad").write_text("0.3 0.1")
    with pytest.raises(UserError, match="first 3 trials failed, the last with: .*not finite.*--retry_failed"):
        _sweep(tmp_path)


def test_trials_below_the_median_are_stopped_early(tmp_path):
    (tmp_path / "bad").write_text("0.1 0.9")
    arguments = {"grid": {RATE: (0.1, 0.3, 0.4, 0.9), DECAY: (1e-4,)}, "prune_from_step": 1, "prune_min_trials": 2}
    assert _states(_sweep(tmp_path, **arguments)) == {"failed": 2, "done": 2}  # two to compare with
    (tmp_path / "bad").unlink()
    (tmp_path / "hold").write_text("0.1")  # would wait forever in step 2
    results = _sweep(tmp_path, retry_failed=True, **arguments)
    assert [(one.point[RATE], one.state) for one in results.all_trials] == [
        (0.9, "done"),
        (0.4, "done"),
        (0.3, "done"),
        (0.1, "pruned"),
    ]
    pruned = results.all_trials[-1]
    assert (pruned.best_step, pruned.iou) == (1, pytest.approx(0.59 / 2))


def test_processes_share_the_points_and_a_killed_one_is_replaced(tmp_path):
    (tmp_path / "hold").write_text("0.3 0.1")
    script = _driver(tmp_path)
    first, second = (subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE) for _ in range(2))
    _wait_for(lambda: len(list(tmp_path.glob("sweep/trials/*/training.csv"))) == 2)  # one each, waiting in step 2
    first.send_signal(signal.SIGKILL)
    first.wait()
    (tmp_path / "hold").unlink()
    assert second.wait(60) == 0, second.stderr.read()
    trace = _trace(tmp_path)
    assert {name: trace[f"{name} done"] for name in NAMES} == dict.fromkeys(NAMES, 1)
    again = [line for line in trace if line.endswith("from 1")]
    assert len(again) == 1  # the killed one's training goes on where it was
    results = _sweep(tmp_path)
    assert _states(results) == {"done": 4}
    assert {point_name(one.point): one.attempt for one in results.trials}[again[0].split()[0]] == 2
    assert sum(one.attempt for one in results.trials) == 5


def test_other_settings_need_another_folder(tmp_path):
    _sweep(tmp_path, num_trials=1)
    with pytest.raises(UserError, match=r"was lr, is wd"):
        _sweep(tmp_path, config="wd")


def test_database_and_limit_of_trials(tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    assert _states(_sweep(tmp_path, storage=url, num_trials=1)) == {"done": 1, "not started": 3}
    assert _states(_sweep(tmp_path, storage=url)) == {"done": 4}
    assert not (tmp_path / "sweep/journal.log").exists()
    with pytest.raises(UserError, match=r"--storage=nonsense://x"):
        _sweep(tmp_path, storage="nonsense://x")


@pytest.mark.parametrize("grid", [{}, {RATE: ()}, {RATE: 0.1}, {RATE: "0.1"}, {RATE: (0.1, 0.1)}, {RATE: ([1],)}])
def test_what_is_no_grid_is_refused(grid):
    with pytest.raises(UserError, match=r"sweep\.grid"):
        run.check_grid(grid)


def _driver(tmp_path, **arguments):
    """Writes a script that runs the sweep in a process of its own."""
    script = tmp_path / "driver.py"
    arguments = {"grid": GRID, **arguments}
    script.write_text(
        "import pathlib\nfrom flood_distill.sweeping import folder, run, trial\n"
        f"place = folder.SweepFolder(pathlib.Path({str(tmp_path / 'sweep')!r}))\n"
        f"run.sweep(place, trial.{_training()!r}, 'lr', **{arguments!r})\n"
    )
    return script


def _wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
