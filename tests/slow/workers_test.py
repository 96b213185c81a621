"""The same run in one process and in two that talk over loopback."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import strategy_run

from flood_distill.training import strategies


def test_two_workers_are_one(tmp_path):
    workers = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    processes = [_start(workers, index, tmp_path / f"{index}.npz") for index in range(2)]
    for process in processes:
        _, said = process.communicate(timeout=500)
        assert process.returncode == 0, said
    results = [dict(np.load(tmp_path / f"{index}.npz")) for index in range(2)]
    alone = strategy_run.run(strategies.make_strategy("cpu"))
    for result in results:
        strategy_run.assert_same_run(result, alone)
    np.testing.assert_array_equal(results[0]["weights"], results[1]["weights"])
    assert [bool(result["chief"]) for result in results] == [True, False]
    assert [bool(result["wrote_model_dir"]) for result in results] == [True, False]


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _start(workers, index, result):
    config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    program = Path(strategy_run.__file__)
    return subprocess.Popen(
        [sys.executable, str(program), str(result)],
        env={
            **os.environ,
            "TF_CONFIG": json.dumps(config),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join([str(program.parent.parent), str(program.parent)]),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
