"""The download as a whole, against a server on real sockets: what is fetched, what is left alone, what is said."""

import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import bucket_world
import fake_bucket
import pytest
from bucket_world import (
    CHIPS,
    HAND,
    OTHER_S1,
    S1,
    SPLITS,
    TABLE,
    WEAK,
    download,
    download_s1,
    manifest,
    noise,
    on_disk,
    wanted,
)
from fake_bucket import Fault

from data_prep import downloads
from data_prep.sen1floods11 import bucket, layout
from flood_distill import contract, files
from flood_distill.errors import UserError


@pytest.fixture
def server():
    with fake_bucket.serve() as server:
        bucket_world.fill(server)
        yield server


def call(*arguments, **options):
    command = [sys.executable, "-m", "data_prep.download", "--dataset=sen1floods11", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def error_line(stderr):
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in stderr
    return line


def test_whole_bucket_arrives_where_conversion_reads_it(server, tmp_path):
    result = download(server, tmp_path)
    assert result.outcome.missing == {}
    assert on_disk(tmp_path) == wanted(server)
    hand = layout.hand_chips(layout.find_root(tmp_path))
    assert [chip.chip_id for chips in hand.values() for chip in chips] == list(CHIPS.values())
    assert all(len(chip.files) == 4 and all(map(Path.is_file, chip.files.values())) for (chip,) in hand.values())
    # 20 hand, 8 weak, 4 splits, 3 others and 2 strays are listed in pages of 3: 37 / 3 -> 13.
    assert [name for name, _ in server.requests].count("list") == 13


def test_manifest_has_sizes_and_checksums(server, tmp_path):
    download(server, tmp_path)
    rows = manifest(tmp_path)
    assert list(rows) == sorted(wanted(server))
    for name, data in wanted(server).items():
        assert rows[name]["size"] == str(len(data))
        assert rows[name]["md5"] == hashlib.md5(data).hexdigest()
        assert rows[name]["mtime_ns"] == str((tmp_path / name).stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("layers", "events", "expected"),
    [
        (["S1Hand"], [], {f"{HAND}/S1Hand/{chip}_S1Hand.tif" for chip in CHIPS.values()}),
        (["LabelHand", "S1Hand"], ["Sri-Lanka"], {f"{HAND}/{n}/Sri-Lanka_11_{n}.tif" for n in ("LabelHand", "S1Hand")}),
        (["weak"], ["Colombia"], {f"{WEAK}/{name}/Colombia_6_{name}.tif" for name in bucket.WEAK}),
        ([], ["Bolivia"], {f"{HAND}/{n}/Bolivia_44_{n}.tif" for n in (*bucket.HAND, "S1OtsuLabelHand")}),
    ],
)
def test_layers_and_events_are_chosen(server, tmp_path, layers, events, expected):
    assert download(server, tmp_path, layers=layers, events=events).outcome.missing == {}
    splits = {f"{SPLITS}/{name}" for name in CHIPS}
    assert set(on_disk(tmp_path)) == expected | splits | {TABLE}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["S1Hnd"]}, "--layers=S1Hnd: not one of .*S1Hand.*hand, weak"),
        ({"layers": ["S1Perm"]}, "--layers=S1Perm: the server has no file in v1.1/data/perm_water/S1Perm"),
        ({"events": ["Bolvia"]}, "--events=Bolvia: not one of Bolivia, Colombia, Ghana, Sri-Lanka"),
        ({"base_url": "storage.example"}, "--base_url=storage.example: give the address"),
        ({"base_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9: no listing of the bucket.*refused.*--base_url"),
    ],
)
def test_wrong_settings_are_one_error_and_leave_nothing(server, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        download(server, tmp_path / "D", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_dry_run_fetches_nothing(server, tmp_path):
    result = download(server, tmp_path / "D", layers=["weak"], dry_run=True)
    assert len(result.wanted) == 3 * 2 + 4 + 1
    assert server.media() == []
    assert list(tmp_path.iterdir()) == []


def test_good_files_are_not_fetched_again(server, tmp_path):
    download(server, tmp_path)
    server.requests.clear()
    os.utime(tmp_path / S1)  # touched, so its checksum is computed; it is right
    (tmp_path / "v1.1" / downloads.MANIFEST).unlink()  # came without this program
    result = download(server, tmp_path)
    assert server.media() == []
    assert len(result.outcome.there) == len(wanted(server))
    assert list(manifest(tmp_path)) == sorted(wanted(server))


@pytest.mark.parametrize("damage", ["touched", "shorter", "unnoticed", "gone"])
def test_damaged_files_are_replaced(server, tmp_path, damage):
    download_s1(server, tmp_path)
    server.requests.clear()
    path, good = tmp_path / S1, (tmp_path / S1).read_bytes()
    stat = path.stat()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(good[:-1] if damage == "shorter" else good[:-1] + bytes([good[-1] ^ 1]))
    if damage == "unnoticed":  # the disk's fault: size and time are as they were
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        download_s1(server, tmp_path)
        assert server.media() == []  # that is what --verify is for
    download_s1(server, tmp_path, verify=damage == "unnoticed")
    assert server.media() == [(S1, "")]
    assert path.read_bytes() == good


def test_file_found_bad_is_not_trusted_again(server, tmp_path):
    download_s1(server, tmp_path)
    path, stat = tmp_path / S1, (tmp_path / S1).stat()
    path.write_bytes(bytes(200_000))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    server.faults[S1] = [Fault(404)]
    assert list(download_s1(server, tmp_path, verify=True).outcome.missing) == [S1]
    assert S1 not in manifest(tmp_path)
    download_s1(server, tmp_path)
    assert path.read_bytes() == server.objects[S1].data


def test_manifest_leaves_out_what_was_removed(server, tmp_path):
    download_s1(server, tmp_path)
    (tmp_path / S1).unlink()
    download(server, tmp_path, layers=["LabelHand"])
    assert S1 not in manifest(tmp_path)
    assert OTHER_S1 in manifest(tmp_path)


def test_changed_object_replaces_the_file_of_an_earlier_run(server, tmp_path):
    download_s1(server, tmp_path)
    server.put(S1, noise(8, 200_000))
    server.requests.clear()
    download_s1(server, tmp_path)
    assert server.media() == [(S1, "")]
    assert on_disk(tmp_path)[S1] == server.objects[S1].data


def test_what_the_splits_name_and_the_server_does_not_list_is_missing(server, tmp_path):
    del server.objects[S1]
    outcome = download(server, tmp_path, layers=["hand"]).outcome
    assert outcome.missing == {S1: "in the official splits but not on the server"}
    lists = f"{SPLITS}/{next(iter(CHIPS))}"
    del server.objects[lists]
    assert list(download(server, tmp_path / "E", layers=["hand"]).outcome.missing) == [lists]


def test_disk_is_checked_before_the_start(server, tmp_path, monkeypatch):
    free = 2 * 4096 + 200_000  # S1 and another file fit but for the other's bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - free, free))
    with pytest.raises(UserError, match=r"--output_dir=.*to come and 208kB are free; make room for .* fewer --layers"):
        download_s1(server, tmp_path)
    assert server.media() == []


def test_synthetic_folders_and_folders_in_use_are_refused(server, tmp_path):
    (tmp_path / contract.SYNTHETIC_MARKER).write_text("{}")
    with pytest.raises(UserError, match="synthetic"):
        download(server, tmp_path)
    with pytest.raises(UserError, match="not a local folder"):
        download(server, "gs://bucket/D")
    folder = tmp_path / "real" / "away" / "D" / "v1.1"
    folder.mkdir(parents=True)
    with files.only_one(folder, "mine"), pytest.raises(UserError, match="another download to this folder"):
        download(server, folder.parent)


def test_manifest_survives_a_half_written_line_and_refuses_another_file(server, tmp_path):
    download_s1(server, tmp_path)
    path = tmp_path / "v1.1" / downloads.MANIFEST
    whole = path.read_text()
    path.write_text(whole + f"{HAND}/S1Hand/Bolivia_44_S1Hand.tif,10")
    download_s1(server, tmp_path)
    assert path.read_text() == whole
    path.write_text("chip,iou\na,0.5\n")
    with pytest.raises(UserError, match="is no manifest of this program"):
        download_s1(server, tmp_path)


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def part_way(server, tmp_path, *arguments, **options):
    """Returns a running download and the file it has begun: 10 of the 500 pieces of 0.02 s each, or more."""
    server.put(S1, noise(98, 5_000_000))
    server.pause_s = 0.02
    process = call(f"--output_dir={tmp_path}", f"--base_url={server.url}", "--layers=S1Hand", *arguments, **options)
    # This file by its name: the small ones beside it are renamed between being listed and being looked at.
    part = Path(f"{tmp_path / S1}.{hashlib.md5(server.objects[S1].data).hexdigest()}.part")
    wait_for(lambda: part.exists() and part.stat().st_size > 100_000)
    return process, part


def test_killed_run_goes_on_where_it_was(server, tmp_path):
    process, part = part_way(server, tmp_path, "--num_workers=2")
    process.kill()
    process.communicate()
    server.pause_s = 0.0
    left = part.stat().st_size
    before = {name for name in on_disk(tmp_path) if not name.endswith(".part")}
    server.requests.clear()
    download(server, tmp_path, layers=["S1Hand"])
    assert (S1, f"bytes={left}-") in server.media()
    assert not before & {name for name, _ in server.media()}
    assert on_disk(tmp_path)[S1] == server.objects[S1].data
    assert not list(tmp_path.rglob("*.part"))


def test_ctrl_c_is_one_line(server, tmp_path):
    # A shell's background jobs, and so their children, ignore Ctrl-C; a person's do not.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process, part = part_way(server, tmp_path, preexec_fn=heard)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert error_line(stderr) == "error: stopped; the same command goes on from here"
    assert part.exists()


def test_command_sums_up_and_fails_if_something_is_missing(server, tmp_path):
    arguments = [f"--output_dir={tmp_path}", f"--base_url={server.url}", "--layers=hand", "--events=Ghana"]
    server.faults[S1] = [Fault(404)]
    process = call(*arguments)
    stdout, stderr = process.communicate()
    assert process.returncode == 1
    assert error_line(stderr) == f"error: {tmp_path}/v1.1: 1 of 13 files are missing; the same command tries them again"
    assert f"  {S1}: 404 " in stdout
    process = call(*arguments)
    stdout, stderr = process.communicate()
    assert process.returncode == 0
    assert "13 files" in stdout  # 2 chips in 4 layers, 4 lists, 1 table
    assert "there already: 12; fetched: 1 (200kB)" in stdout
    assert "  S1Hand: 2 files, 201kB" in stdout
