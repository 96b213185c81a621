"""The download against a server with faults: real sockets, the storage API's listing."""

import csv
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_bucket
import numpy as np
import pytest
from fake_bucket import Fault

from data_prep import downloads
from data_prep.bucket.client import Client, Retries
from data_prep.bucket.objects import list_objects
from data_prep.bucket.transfer import Transfer
from data_prep.sen1floods11 import bucket, layout
from flood_distill import contract, files
from flood_distill.errors import UserError

QUICK = Retries(attempts=4, first_wait_s=0.001)
CHIPS = {
    "flood_train_data.csv": "Sri-Lanka_11",
    "flood_valid_data.csv": "Ghana_22",
    "flood_test_data.csv": "Ghana_33",
    "flood_bolivia_data.csv": "Bolivia_44",
}
HAND = f"v1.1/{layout.HAND_FOLDER}"
WEAK = f"v1.1/{layout.WEAK_FOLDER}"
S1 = f"{HAND}/S1Hand/Ghana_22_S1Hand.tif"
STRAY = f"{WEAK}/.DS_Store"


def noise(seed, size):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


@pytest.fixture
def server():
    """A bucket of four hand-labelled chips in five layers, two weak ones in four, and what lies beside them."""
    with fake_bucket.serve() as server:
        names = [
            f"{HAND}/{layer}/{chip}_{layer}.tif"
            for layer in (*bucket.HAND, "S1OtsuLabelHand")
            for chip in CHIPS.values()
        ]
        names += [
            f"{WEAK}/{layer}/{chip}_{layer}.tif"
            for layer in (*bucket.WEAK, "S1OtsuLabelWeak")
            for chip in ("Ghana_5", "Colombia_6")
        ]
        names += [
            "v1.1/catalog/collection.json",
            "v1.1/Sen1Floods11_Metadata.geojson",
            "v1.1/empty.txt",
            STRAY,
            f"{WEAK}/",
        ]
        for seed, name in enumerate(names):
            server.put(name, noise(seed, 0 if name.endswith(("empty.txt", "/")) else 1000 + seed))
        server.put(S1, noise(99, 200_000))
        for name, chip in CHIPS.items():
            server.put(f"v1.1/splits/flood_handlabeled/{name}", f"{chip}_S1Hand.tif,{chip}_LabelHand.tif\r\n".encode())
        yield server


def download(server, output_dir, **arguments):
    return downloads.download(output_dir, base_url=server.url, retries=QUICK, num_workers=4, **arguments)


def download_s1(server, output_dir, **arguments):
    return download(server, output_dir, layers=["S1Hand"], events=["Ghana"], **arguments)


def stored(server):
    return {name: one.data for name, one in server.objects.items() if name != STRAY and not name.endswith("/")}


def on_disk(output_dir):
    own = (downloads.MANIFEST, downloads.MISSING)
    paths = [path for path in output_dir.rglob("*") if path.is_file() and path.name not in own]
    return {str(path.relative_to(output_dir)): path.read_bytes() for path in paths}


def manifest(output_dir):
    with (output_dir / "v1.1" / downloads.MANIFEST).open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


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
    assert on_disk(tmp_path) == stored(server)
    hand = layout.hand_chips(layout.find_root(tmp_path))
    assert [chip.chip_id for chips in hand.values() for chip in chips] == list(CHIPS.values())
    assert all(len(chip.files) == 4 and all(map(Path.is_file, chip.files.values())) for (chip,) in hand.values())
    # 20 hand, 8 weak, 4 splits, 3 others and 2 strays are listed in pages of 3: 37 / 3 -> 13.
    assert [name for name, _ in server.requests].count("list") == 13


def test_manifest_has_sizes_and_checksums(server, tmp_path):
    download(server, tmp_path)
    rows = manifest(tmp_path)
    assert list(rows) == sorted(stored(server))
    for name, data in stored(server).items():
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
    splits = {f"v1.1/splits/flood_handlabeled/{name}" for name in CHIPS}
    assert set(on_disk(tmp_path)) == expected | splits | {"v1.1/Sen1Floods11_Metadata.geojson"}


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
        downloads.download(tmp_path / "D", retries=QUICK, **{"base_url": server.url} | arguments)
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
    assert len(result.outcome.there) == len(stored(server))
    assert list(manifest(tmp_path)) == sorted(stored(server))


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


def test_cut_connection_goes_on_where_it_was(server, tmp_path):
    server.faults[S1] = [Fault(cut_after=150_000), Fault(cut_after=20_000)]
    download_s1(server, tmp_path)
    ranges = [asked for name, asked in server.media() if name == S1]
    starts = [int(asked.removeprefix("bytes=").removesuffix("-") or 0) for asked in ranges]
    assert len(starts) == 3
    assert 100_000 <= starts[1] <= 150_000  # at most one piece of 64 kB is lost
    assert starts[1] <= starts[2] <= starts[1] + 20_000
    assert on_disk(tmp_path)[S1] == server.objects[S1].data


@pytest.mark.parametrize("fault", [Fault(429), Fault(500), Fault(503), Fault(408), Fault(cut_after=0)])
def test_passing_faults_of_objects_and_listing_pass(server, tmp_path, fault):
    server.faults[S1] = [fault] * 3  # the fourth attempt is the last
    server.faults["list"] = [Fault(), fault, fault]
    assert download_s1(server, tmp_path).outcome.missing == {}
    assert [name for name, _ in server.media()].count(S1) == 4


def test_the_server_says_how_long_to_wait(server, tmp_path):
    server.faults[S1] = [Fault(429, {"Retry-After": "1"})]
    started = time.monotonic()
    download_s1(server, tmp_path)
    assert time.monotonic() - started >= 1.0


def test_waits_double_up_to_a_limit_and_are_never_the_same():
    retries = Retries(attempts=8, first_wait_s=1.0, longest_wait_s=64.0, longest_retry_after_s=600.0)
    for failures, most in [(1, 1.0), (2, 2.0), (4, 8.0), (7, 64.0), (8, 64.0)]:
        waits = {retries.wait_s(failures, None) for _ in range(50)}
        assert len(waits) > 1
        assert most / 2 <= min(waits) < max(waits) <= most
    assert retries.wait_s(1, 30.0) == 30.0
    assert retries.wait_s(1, 86400.0) == 600.0


def test_wrong_bytes_are_fetched_anew(server, tmp_path):
    server.faults[S1] = [Fault(cut_after=150_000, flip=True), Fault()]  # shows only when the whole is there
    download_s1(server, tmp_path)
    assert on_disk(tmp_path)[S1] == server.objects[S1].data
    assert server.media()[-1] == (S1, "")  # from the start


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault(flip=True), "checksum"), (Fault(404), "404"), (Fault(403), "403"), (Fault(503), "503.*4 attempts")],
)
def test_what_cannot_be_had_is_missing_and_the_rest_is_there(server, tmp_path, fault, reason):
    server.faults[S1] = [fault] * 10
    outcome = download_s1(server, tmp_path).outcome
    assert list(outcome.missing) == [S1]
    assert re.search(reason, outcome.missing[S1])
    assert S1 not in manifest(tmp_path)
    assert not (tmp_path / S1).exists()
    assert f"{HAND}/S1Hand/Ghana_33_S1Hand.tif" in on_disk(tmp_path)
    assert (tmp_path / "v1.1" / downloads.MISSING).read_text().startswith(f"{S1}: ")
    server.faults.clear()
    assert download_s1(server, tmp_path).outcome.missing == {}
    assert not (tmp_path / "v1.1" / downloads.MISSING).exists()


@pytest.mark.parametrize("says_generation", [True, False])
@pytest.mark.parametrize("first", [[], [Fault(cut_after=150_000)]])
def test_object_that_changes_after_the_listing_is_fetched_as_it_is_now(server, tmp_path, says_generation, first):
    new = noise(7, 200_000)  # of the same size
    server.says_generation = says_generation
    server.faults[S1] = [*first, Fault(before=lambda: server.put(S1, new))]
    download_s1(server, tmp_path)
    assert on_disk(tmp_path)[S1] == new  # and no mixture of two
    assert manifest(tmp_path)[S1]["md5"] == hashlib.md5(new).hexdigest()
    server.requests.clear()
    assert len(download_s1(server, tmp_path).outcome.there) == 7  # 2 chips, 4 lists, 1 table
    assert server.media() == []


def test_object_that_shrinks_and_object_that_goes(server, tmp_path):
    server.faults[S1] = [Fault(cut_after=150_000), Fault(before=lambda: server.put(S1, b"short"))]
    other = f"{HAND}/S1Hand/Ghana_33_S1Hand.tif"
    server.faults[other] = [Fault(before=lambda: server.objects.pop(other))]
    assert download_s1(server, tmp_path).outcome.missing == {other: "404 Not Found"}
    assert on_disk(tmp_path)[S1] == b"short"


def test_changed_object_replaces_the_file_of_an_earlier_run(server, tmp_path):
    download_s1(server, tmp_path)
    server.put(S1, noise(8, 200_000))
    server.requests.clear()
    download_s1(server, tmp_path)
    assert server.media() == [(S1, "")]
    assert on_disk(tmp_path)[S1] == server.objects[S1].data


def test_server_without_ranges_sends_everything_again(server, tmp_path):
    server.faults[S1] = [Fault(cut_after=150_000), Fault(ignore_range=True)]
    download_s1(server, tmp_path)
    assert on_disk(tmp_path)[S1] == server.objects[S1].data


def test_part_of_another_version_is_never_used(server, tmp_path):
    (tmp_path / S1).parent.mkdir(parents=True)
    parts = [Path(f"{tmp_path / S1}.{identity}.part") for identity in ("0" * 32, "0" * 8)]
    for part in parts:
        part.write_bytes(b"old" * 1000)
    other = Path(f"{tmp_path / S1}.note.part")
    other.write_text("not ours")
    download_s1(server, tmp_path)
    assert (S1, "") in server.media()
    assert not any(part.exists() for part in parts)
    assert other.exists()


def test_complete_or_too_long_part_of_this_version(server, tmp_path):
    data = server.objects[S1].data
    part = Path(f"{tmp_path / S1}.{hashlib.md5(data).hexdigest()}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(data)  # killed before it got its name
    download_s1(server, tmp_path)
    assert S1 not in dict(server.media())
    assert on_disk(tmp_path)[S1] == data
    (tmp_path / S1).unlink()
    part.write_bytes(data + b"more")
    download_s1(server, tmp_path)
    assert on_disk(tmp_path)[S1] == data
    assert not part.exists()


@pytest.mark.parametrize("hashes", [("crc32c",), ()])
def test_objects_without_md5(server, tmp_path, hashes):
    data = noise(5, 200_000)
    server.put(S1, data, hashes=hashes)
    server.faults[S1] = [Fault(cut_after=150_000), Fault(flip=True)]
    download_s1(server, tmp_path)
    last = [asked for name, asked in server.media() if name == S1]
    if hashes:  # resumed, found wrong by its CRC32C, fetched anew
        assert on_disk(tmp_path)[S1] == data
        assert [bool(asked) for asked in last] == [False, True, False]
    else:  # nothing to tell right from wrong by, so at least nothing is glued
        assert len(on_disk(tmp_path)[S1]) == len(data)
        assert last == ["", ""]
        assert manifest(tmp_path)[S1]["md5"] == hashlib.md5(on_disk(tmp_path)[S1]).hexdigest()
    server.requests.clear()
    download_s1(server, tmp_path)
    assert server.media() == []


def test_bytes_reported_are_the_bytes_that_are_there(server, tmp_path):
    server.faults[S1] = [Fault(cut_after=150_000), Fault(ignore_range=True, flip=True), Fault(cut_after=70_000)]
    client = Client(server.url, QUICK)
    (wanted,) = list_objects(client, bucket.BUCKET, S1)
    reports = []
    Transfer(client, bucket.BUCKET, wanted, tmp_path, reports.append).run()
    assert sum(reports) == 200_000
    assert min(reports) < 0  # what was thrown away


def test_gives_up_when_the_server_is_gone(server, tmp_path):
    for name in server.objects:
        server.faults[name] = [Fault(500)] * 10
    outcome = downloads.download(tmp_path, base_url=server.url, retries=QUICK, num_workers=1).outcome
    reasons = list(outcome.missing.values())
    assert len(reasons) == len(stored(server)) == 35
    tried = sum("4 attempts" in reason for reason in reasons)
    assert 20 <= tried <= 22  # one or two may be under way when the twentieth fails
    assert sum("not tried" in reason for reason in reasons) == 35 - tried
    assert len(server.media()) <= 23 * 4


def test_what_the_splits_name_and_the_server_does_not_list_is_missing(server, tmp_path):
    del server.objects[S1]
    outcome = download(server, tmp_path, layers=["hand"]).outcome
    assert outcome.missing == {S1: "in the official splits but not on the server"}
    lists = f"v1.1/splits/flood_handlabeled/{next(iter(CHIPS))}"
    del server.objects[lists]
    assert list(download(server, tmp_path / "E", layers=["hand"]).outcome.missing) == [lists]


@pytest.mark.parametrize("name", ["v1.1/../../up.tif", "v1.1/a\\..\\b.tif", "v1.1/a\nb.tif"])
def test_names_that_lead_out_of_the_folder_are_refused(server, tmp_path, name):
    server.put(name, b"bad")
    with pytest.raises(UserError, match="not of the API's form"):
        download(server, tmp_path / "a" / "D")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [b"<html>log in</html>", b"[]", b'{"items": [{"name": "v1.1/a"}]}'])
def test_server_of_another_kind(server, tmp_path, answer, monkeypatch):
    monkeypatch.setattr(server, "page", lambda query: answer)
    with pytest.raises(UserError, match="no listing of the bucket"):
        download(server, tmp_path)


def test_pages_that_go_in_a_circle(server, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "page", lambda query: {"nextPageToken": "1"})
    with pytest.raises(UserError, match="circle"):
        download(server, tmp_path)


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


def test_killed_run_goes_on_where_it_was(server, tmp_path):
    server.put(S1, noise(98, 500_000))
    server.pause_s = 0.02  # S1 takes a second
    process = call(f"--output_dir={tmp_path}", f"--base_url={server.url}", "--layers=S1Hand", "--num_workers=2")
    part = Path(f"{tmp_path / S1}.{hashlib.md5(server.objects[S1].data).hexdigest()}.part")
    wait_for(lambda: part.exists() and part.stat().st_size > 100_000)
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
    server.put(S1, noise(98, 5_000_000))
    server.pause_s = 0.02
    process = call(f"--output_dir={tmp_path}", f"--base_url={server.url}", "--layers=S1Hand")
    wait_for(lambda: any(path.stat().st_size > 100_000 for path in tmp_path.rglob("*.part")))
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=10)[1]
    assert process.returncode == 1
    assert error_line(stderr) == "error: stopped; the same command goes on from here"
    assert list(tmp_path.rglob("*.part"))


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
