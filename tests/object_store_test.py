"""Object stores without one: what a scheme needs, order of uploads, and the way out of a process.

``ram://``, TensorFlow's file system in memory, stands in for a store; tests/io goes to a local S3 server.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from etils import epath

from data_prep import conversion, publish, testing
from data_prep.testing import chip_grid
from flood_distill import exit_codes, export_model, files, model_info, object_store, predictor, records
from flood_distill.errors import UserError

HAND, WEAK = "sen1floods11/hand", "sen1floods11/weak"
PROJECT = Path(__file__).resolve().parent.parent

without_extra = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_io") is not None, reason="the extra io is installed"
)


@pytest.fixture
def store(tmp_path):
    """A root in the store that no other test uses."""
    return f"ram://bucket{tmp_path}"


@pytest.fixture
def tiles(tmp_path):
    root = tmp_path / "tiles/v1.1"
    testing.write_splits(root, {"train": ["Ghana_1"], "test": ["Spain_2"]})
    for number, chip_id in enumerate(("Ghana_1", "Spain_2")):
        testing.write_hand_chip(root, chip_id, chip_grid(float(number), 10.0))
    return tmp_path / "tiles"


@pytest.fixture
def uploads(monkeypatch):
    """Names of the files in the order in which they were put into a store."""
    names = []
    put = object_store.put
    monkeypatch.setattr(object_store, "put", lambda source, target: names.append(source.name) or put(source, target))
    return names


@pytest.mark.parametrize(
    ("path", "scheme", "remote"),
    [("s3://b/x", "s3", True), ("hdfs:///x", "hdfs", True), ("/x/s3:/y", "", False), ("runs/demo", "", False)],
)
def test_scheme(path, scheme, remote):
    assert object_store.scheme(path) == scheme
    assert object_store.is_remote(path) == remote


@without_extra
@pytest.mark.parametrize("path", ["s3://bucket/data", "az://account/container/data", "hdfs://host/data"])
def test_missing_extra_is_named(path):
    expected = rf"^{object_store.scheme(path)}:// needs tensorflow-io: pip install 'flood_distill\[io\]'.*2\.17\.1$"
    for use in (
        lambda: records.load(path, HAND),
        lambda: predictor.load_predictor(path),
        lambda: export_model.export(path, "export"),
        lambda: conversion.convert(HAND, PROJECT, path),
    ):
        with pytest.raises(UserError, match=expected):
            use()


@without_extra
def test_missing_extra_is_one_line_of_a_command():
    command = ["flood_distill.evaluate", "--model=otsu", "--data_dir=s3://bucket/data", "--output_dir=o"]
    done = subprocess.run([sys.executable, "-m", *command], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "tensorflow-io" in line] == [
        "error: s3:// needs tensorflow-io: pip install 'flood_distill[io]' into an environment of its own, "
        "because it brings TensorFlow 2.17.1"
    ]
    assert "Traceback" not in done.stderr


def test_what_tensorflow_knows_itself_is_not_refused():
    object_store.connect("gs://bucket/data", "ram://bucket/data", "/tmp/data", "data")


def test_other_schemes_are_refused_with_the_known_ones():
    with pytest.raises(UserError, match="ftp:// is not among .*use az://, gs://, hdfs://, s3:// or a local folder"):
        object_store.connect("ftp://host/data")


def test_commands_that_write_to_disks_only_refuse_a_store():
    with pytest.raises(UserError, match=r"^--output_dir=s3://bucket/maps: is not a local folder"):
        object_store.local_only("--output_dir", "s3://bucket/maps")
    object_store.local_only("--output_dir", "maps")


@pytest.mark.parametrize(
    ("path", "text"), [("hdfs://host:8020/a", "hdfs://host:8020/a"), ("hdfs:///a", "hdfs://default/a")]
)
def test_epath_of_hdfs(path, text):
    found = epath.Path(path)
    assert str(found) == os.fspath(found) == text
    assert str(found / "b" / "c") == f"{text}/b/c"
    assert (found / "b").parent == found
    assert (found / "b").name == "b"
    assert str(epath.Path(found / "b")) == f"{text}/b"


def test_whole_file_appears_at_the_end_or_not_at_all(store):
    path = epath.Path(store) / "folder/numbers.csv"
    with files.whole_file(path) as temporary:
        temporary.write_text("1,2\n")
        assert temporary.suffix == ".csv"
        assert not path.exists()
    assert path.read_text() == "1,2\n"
    with pytest.raises(ZeroDivisionError):
        _fail_within(path)
    assert path.read_text() == "1,2\n"
    files.write_text(path, "4\n")
    assert path.read_text() == "4\n"
    assert [child.name for child in path.parent.iterdir()] == ["numbers.csv"]


def _fail_within(path):
    with files.whole_file(path) as temporary:
        temporary.write_text(f"{1 // 0}")


def test_a_file_that_the_store_cut_off_is_an_error(store, tmp_path, monkeypatch):
    (tmp_path / "source").write_bytes(b"x" * 100)
    stat = type(epath.Path(store)).stat
    monkeypatch.setattr(type(epath.Path(store)), "stat", lambda path: FakeStat(stat(path).length - 1))
    with pytest.raises(UserError, match=r"target: the store did not take it whole"):
        object_store.put(tmp_path / "source", f"{store}/target")


def test_a_store_that_refuses_a_file_is_one_line(store, monkeypatch):
    def refuse(path, mode):
        raise tf.errors.PermissionDeniedError(None, None, "AccessDenied:\n no")

    monkeypatch.setattr(type(epath.Path(store)), "open", refuse)
    with pytest.raises(UserError, match=r"file.txt: cannot be written \(PermissionDeniedError: AccessDenied: no\)$"):
        files.write_text(f"{store}/file.txt", "x")


@without_extra
def test_writing_alone_names_the_missing_extra():
    with pytest.raises(UserError, match="s3:// needs tensorflow-io"):
        files.write_text("s3://bucket/report.md", "x")


class FakeStat:
    def __init__(self, length):
        self.length = length


def test_converted_dataset_is_read_back(store, tiles, tmp_path, uploads):
    local = conversion.convert(HAND, tiles, tmp_path / "local")
    result = conversion.convert(HAND, tiles, store)
    assert (str(result.path), result.done) == (f"{store}/{HAND}/1.0.0", True)
    assert result.num_examples == local.num_examples
    assert uploads.count("dataset_info.json") == 1
    assert uploads[-1] == "dataset_info.json"
    found = records.load(store, HAND)
    found.verify()
    ids = [example["chip_id"].decode() for example in found.dataset("train").as_numpy_iterator()]
    assert ids == ["Ghana_1"]
    again = conversion.convert(HAND, tiles, store)
    assert (again.done, again.num_examples) == (False, local.num_examples)
    assert sum(".tfrecord" in name for name in uploads) == 2  # nothing was sent twice


def test_overwriting_sends_everything_again(store, tiles, uploads):
    conversion.convert(HAND, tiles, store)
    first = list(uploads)
    stale = epath.Path(f"{store}/{HAND}/1.0.0/sen1floods11-train.tfrecord-00001-of-00002")
    stale.write_text("of an earlier dataset with more shards")
    assert conversion.convert(HAND, tiles, store, overwrite=True).done
    assert uploads == first * 2
    assert not stale.exists()


def _put_until(name, put, source, target):
    if source.name == name:
        raise KeyboardInterrupt
    put(source, target)


def test_interrupted_upload_is_no_dataset_and_goes_on(store, tiles, monkeypatch, uploads):
    counted = object_store.put
    monkeypatch.setattr(object_store, "put", functools.partial(_put_until, "dataset_info.json", counted))
    with pytest.raises(KeyboardInterrupt):
        conversion.convert(HAND, tiles, store)
    shards = {name for name in uploads if ".tfrecord" in name}
    assert len(shards) == 2
    assert not publish.is_whole(epath.Path(store) / HAND / "1.0.0")
    with pytest.raises(UserError, match="convert"):
        records.load(store, HAND)
    monkeypatch.setattr(object_store, "put", counted)
    uploads.clear()
    assert conversion.convert(HAND, tiles, store).done
    assert not shards & set(uploads)  # they were there already
    records.load(store, HAND).verify()


def test_interrupted_upload_of_another_dataset_is_replaced(store, tiles, monkeypatch, uploads):
    counted = object_store.put
    monkeypatch.setattr(object_store, "put", functools.partial(_put_until, "dataset_info.json", counted))
    with pytest.raises(KeyboardInterrupt):
        conversion.convert(HAND, tiles, store)
    testing.write_hand_chip(tiles / "v1.1", "Ghana_1", chip_grid(3.0, 20.0))
    monkeypatch.setattr(object_store, "put", counted)
    uploads.clear()
    conversion.convert(HAND, tiles, store)
    assert sum(".tfrecord" in name for name in uploads) == 2
    records.load(store, HAND).verify()


def test_synthetic_and_real_never_overwrite_each_other(store, tiles):
    conversion.convert(HAND, tiles, store)
    testing.mark_synthetic(tiles)
    with pytest.raises(UserError, match="holds a real dataset and the tiles are synthetic"):
        conversion.convert(HAND, tiles, store, overwrite=True)


def test_evaluation_ground_is_known_from_the_store(store, tiles, tmp_path):
    """A tile where Spain_2 (test) lies is left out, although only the store knows where that is."""
    conversion.convert(HAND, tiles, store)
    with publish.staging(epath.Path(store), WEAK) as local_root:
        metadata = json.loads((local_root / HAND / "1.0.0/metadata.json").read_text())
        assert list(metadata["footprints"]["test"]) == ["Spain_2"]
    assert not local_root.exists()


def test_folders_of_killed_conversions_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = tmp_path / "flood_distill_convert_killed"
    killed.mkdir()
    (killed / "shard").write_text("x")
    with publish.staging(epath.Path("ram://bucket/none"), HAND) as running:
        assert killed.exists()  # younger than a minute: it may be about to be locked
        for folder in (killed, running):
            os.utime(folder, (0, 0))
        with publish.staging(epath.Path("ram://bucket/none"), HAND):
            assert not killed.exists()
            assert running.exists()  # its process lives
    assert list(tmp_path.iterdir()) == []


def test_export_puts_what_makes_it_a_model_last(store, monkeypatch, uploads):
    def save(network, info, folder):
        for name in ("saved_model.pb", "variables/variables.index", "assets.extra/model.json"):
            files.write_text(folder / name, name)

    info = model_info.ModelInfo("tiny", "supervised", "s1", {}, [HAND], HAND, "real", 0)
    monkeypatch.setattr(export_model.model_files, "load_best", lambda model_dir: (None, info))
    monkeypatch.setattr(export_model, "save", save)
    monkeypatch.setattr(export_model, "verify", lambda network, info, folder: 0.0)
    root = epath.Path(store) / "export"
    assert export_model.export("m", str(root)) == f"{root}/1"
    cards = ["model_card.json", "model_card.md"]
    assert uploads == ["model.json", *cards, "variables.index", "saved_model.pb"]
    (root / "2/variables").mkdir(parents=True)
    (root / "2/variables/variables.data-00000-of-00001").write_text("of an export that was killed")
    assert predictor.find_saved_model(root).name == "1"
    assert export_model.export("m", str(root)) == f"{root}/2"
    assert [child.name for child in (root / "2/variables").iterdir()] == ["variables.index"]
    assert predictor.find_saved_model(root).name == "2"


WAY_OUT = """
import atexit, os, sys, types
from flood_distill import cli
from flood_distill.errors import UserError
if sys.argv.pop(1) == "loaded":
    sys.modules["tensorflow_io"] = types.ModuleType("tensorflow_io")
    atexit.register(os.abort)  # what its threads do
how = sys.argv.pop(1)
def main(argv):
    print("done", end="")
    if how == "user error":
        raise UserError("one line")
    if how == "error":
        raise ZeroDivisionError("a fault of ours")
    return int(how)
cli.run(main)
"""


@pytest.mark.parametrize("loaded", ["loaded", "not loaded"])
@pytest.mark.parametrize(("how", "code", "message"), [("0", 0, ""), ("3", 3, ""), ("user error", 1, "error: one line")])
def test_exit_code_and_output_survive_tensorflow_io(loaded, how, code, message):
    command = [sys.executable, "-c", WAY_OUT, loaded, how]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (code, "done", message)


def test_traceback_survives_tensorflow_io():
    command = [sys.executable, "-c", WAY_OUT, "loaded", "error"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == exit_codes.CRASH
    assert done.stderr.count("ZeroDivisionError: a fault of ours") == 1
