"""The whole way on a local S3 server, by the commands: convert, train, evaluate, export; killed and gone on with.

Runs where the extras ``io`` and ``iotest`` are installed (`.ci/run` has an environment for them). Every command has a
process of its own: tensorflow-io does not let the one that loaded it end in Python's own way.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep import testing
from data_prep.testing import chip_grid

if importlib.util.find_spec("tensorflow_io") is None or importlib.util.find_spec("moto") is None:
    pytest.skip("needs the extras io and iotest", allow_module_level=True)

PROJECT = Path(__file__).resolve().parents[2]
HAND = "sen1floods11/hand"
BUCKET = "floods"
ROOT = f"s3://{BUCKET}/study"
SPLITS = {"train": ["Ghana_1", "Ghana_2"], "validation": ["Spain_3"], "test": ["Spain_4"]}
TINY = (
    "network.width_multiplier=0.05",
    "network.num_middle_units=1",
    "network.batch_norm_momentum=0.5",
    "train.num_steps=4",
    "train.batch_size=2",
    "train.crop_size_px=97",
    "train.validation_batch_size=1",
    "train.report_every=1",
    "train.validate_every=2",
    "train.checkpoint_every=2",
    "train.max_checkpoints=1",
)

# Runs a command that is killed when it puts the named file into the store, or when the named method has returned.
KILLED = """
import importlib, os, signal, sys
command, module, owner, name, when = (sys.argv.pop(1) for _ in range(5))
holder = importlib.import_module(module)
holder = getattr(holder, owner) if owner else holder
function = getattr(holder, name)
def die(*args):
    if when == "after":
        function(*args)
    if when == "after" or args[0].name == when:
        os.kill(os.getpid(), signal.SIGKILL)
    function(*args)
setattr(holder, name, die)
importlib.import_module(command).entry_point()
"""


class Store:
    """The S3 server, and commands that use it."""

    def __init__(self, port: int):
        import boto3

        self.environment = os.environ | {
            "S3_ENDPOINT": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self.client = boto3.client(
            "s3",
            endpoint_url=self.environment["S3_ENDPOINT"],
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def run(self, command: str, *flags: str, code: int = 0) -> str:
        """Runs a command to its end and returns its output."""
        return self._run([sys.executable, "-m", command, *flags], code)

    def run_killed(self, command: str, where: tuple[str, str, str, str], *flags: str) -> None:
        """Runs a command that is killed in a function: its module, class or '', name; `after`, or the file it puts."""
        self._run([sys.executable, "-c", KILLED, command, *where, *flags], code=-9)

    def _run(self, command: list[str], code: int) -> str:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env=self.environment, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        assert "terminate called" not in done.stderr
        return done.stdout + done.stderr

    def objects(self, folder: str) -> dict[str, str]:
        """Returns the time of the last change of every object under a folder of the root, by name."""
        prefix = f"study/{folder}/"
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {entry["Key"].removeprefix(prefix): str(entry["LastModified"]) for entry in listed}

    def read(self, name: str) -> str:
        """Returns a text object under the root."""
        return self.client.get_object(Bucket=BUCKET, Key=f"study/{name}")["Body"].read().decode()


@pytest.fixture(scope="module")
def store():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, server)
        found = Store(port)
        found.client.create_bucket(Bucket=BUCKET)
        yield found
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen) -> None:
    for _ in range(300):
        assert server.poll() is None, "the S3 server did not start"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError("the S3 server does not answer")


@pytest.fixture(scope="module")
def converted(store, tmp_path_factory):
    """The dataset on S3, after an upload that was killed before the file that makes it one."""
    folder = tmp_path_factory.mktemp("tiles")
    testing.write_splits(folder / "v1.1", SPLITS)
    for number, chip_id in enumerate(sum(SPLITS.values(), [])):
        testing.write_hand_chip(folder / "v1.1", chip_id, chip_grid(float(number), 10.0))
    flags = (f"--dataset={HAND}", f"--input_dir={folder}", f"--data_dir={ROOT}/data")
    put = ("flood_distill.object_store", "", "put", "dataset_info.json")
    store.run_killed("data_prep.convert", put, *flags)
    left = store.objects(f"data/{HAND}/1.0.0")
    assert "dataset_info.json" not in left
    shards = [name for name in left if ".tfrecord" in name]
    assert len(shards) == 3
    evaluate = ("--model=otsu", f"--data_dir={ROOT}/data", f"--output_dir={ROOT}/none")
    assert "is no dataset of data_prep.convert" in store.run("flood_distill.evaluate", *evaluate, code=1)
    output = store.run("data_prep.convert", *flags)
    assert f"dataset {ROOT}/data/{HAND}/1.0.0" in output
    whole = store.objects(f"data/{HAND}/1.0.0")
    assert {name: whole[name] for name in shards} == {name: left[name] for name in shards}  # not sent again
    assert "already converted" in store.run("data_prep.convert", *flags)
    return f"{ROOT}/data"


@pytest.fixture(scope="module")
def model_dir(store, converted):
    """A run on S3 that was killed after its first checkpoint and gone on with."""
    folder = f"{ROOT}/models/student"
    flags = ["--gin_file=supervised_hand.gin", *(f"--gin_param={binding}" for binding in TINY)]
    flags += [f"--data_dir={converted}", f"--model_dir={folder}"]
    save = ("flood_distill.training.checkpoints", "RunState", "save", "after")
    store.run_killed("flood_distill.train", save, *flags)
    names = store.objects("models/student")
    assert "checkpoints/ckpt-2.index" in names
    assert "config.gin" in names
    output = store.run("flood_distill.train", *flags)
    assert f"resumed from {folder}/checkpoints/ckpt-2" in output
    return folder


def test_run_goes_on_from_its_checkpoint(store, model_dir):
    rows = [line.split(",")[0] for line in store.read("models/student/training.csv").splitlines()]
    assert rows == ["step", "1", "2", "3", "4"]
    names = store.objects("models/student")
    assert [name for name in names if name.endswith(".index") and name.startswith("checkpoints")] == [
        "checkpoints/ckpt-4.index"  # max_checkpoints=1
    ]
    assert not [name for name in names if "temp" in name or "partial" in name]
    assert any(name.startswith("tensorboard/") for name in names)


def test_evaluation_and_export(store, converted, model_dir):
    flags = [f"--data_dir={converted}", "--split=test"]
    store.run("flood_distill.evaluate", f"--model={model_dir}", f"--output_dir={ROOT}/evaluation/model", *flags)
    written = store.objects("evaluation/model")
    assert set(written) == {
        "metrics.json",
        "metrics.md",
        "per_chip.csv",
        "predictions.npz",
        "panels.png",
        "reliability.png",
    }
    output = store.run("flood_distill.export", f"--model_dir={model_dir}", f"--export_dir={ROOT}/export")
    assert f"Exported to {ROOT}/export/1" in output
    store.run("flood_distill.evaluate", f"--model={ROOT}/export", f"--output_dir={ROOT}/evaluation/export", *flags)
    metrics = [json.loads(store.read(f"evaluation/{name}/metrics.json")) for name in ("model", "export")]
    assert metrics[0]["num_chips"] == 1
    assert {key: metrics[0][key] for key in ("tp", "fp", "fn", "tn")} == {
        key: metrics[1][key] for key in ("tp", "fp", "fn", "tn")
    }


def test_what_is_not_there_is_one_line(store):
    flags = ("--model=otsu", "--data_dir=s3://nobucket/data", f"--output_dir={ROOT}/none")
    output = store.run("flood_distill.evaluate", *flags, code=1)
    assert "error: s3://nobucket/: not there, or no access (NotFoundError" in output
    assert "Traceback" not in output
