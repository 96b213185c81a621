"""The download against a server that fails: connections cut and stalled, busy, wrong bytes, objects that change."""

import hashlib
import re
import time
from pathlib import Path

import bucket_world
import fake_bucket
import pytest
from bucket_world import OTHER_S1, QUICK, S1, download, download_s1, manifest, noise, on_disk, wanted
from fake_bucket import Fault

from data_prep import downloads
from data_prep.bucket.client import Client
from data_prep.bucket.objects import list_objects
from data_prep.bucket.transfer import Transfer
from data_prep.patience import Refused, Retries
from data_prep.sen1floods11 import bucket
from flood_distill.errors import UserError


@pytest.fixture
def server():
    with fake_bucket.serve() as server:
        bucket_world.fill(server)
        yield server


def test_cut_connection_goes_on_where_it_was(server, tmp_path):
    server.faults[S1] = [Fault(cut_after=150_000), Fault(cut_after=20_000)]
    download_s1(server, tmp_path)
    ranges = [asked for name, asked in server.media() if name == S1]
    starts = [int(asked.removeprefix("bytes=").removesuffix("-") or 0) for asked in ranges]
    assert len(starts) == 3
    assert 100_000 <= starts[1] <= 150_000  # at most one piece of 64 kB is lost
    assert starts[1] <= starts[2] <= starts[1] + 20_000
    assert on_disk(tmp_path)[S1] == server.objects[S1].data


def test_attempts_are_counted_without_progress(server, tmp_path):
    server.put(S1, noise(1, 700_000))
    server.faults[S1] = [Fault(cut_after=70_000)] * 9  # each brings a piece of 64 kB at least: 9 > 4 attempts
    server.faults[OTHER_S1] = [Fault(cut_after=100)] * 9  # the same 100 bytes at most each time
    assert list(download_s1(server, tmp_path).outcome.missing) == [OTHER_S1]
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
    assert OTHER_S1 in on_disk(tmp_path)
    assert (tmp_path / "v1.1" / downloads.MISSING).read_text().startswith(f"{S1}: ")
    server.faults.clear()
    assert download_s1(server, tmp_path).outcome.missing == {}
    assert not (tmp_path / "v1.1" / downloads.MISSING).exists()


@pytest.mark.parametrize("hashes", [("md5Hash", "crc32c"), ("crc32c",), ()])
@pytest.mark.parametrize("first", [[], [Fault(cut_after=150_000)]])
def test_object_that_changes_after_the_listing_is_fetched_as_it_is_now(server, tmp_path, hashes, first):
    new = noise(7, 200_000)  # of the same size
    server.put(S1, noise(6, 200_000), hashes=hashes)
    server.faults[S1] = [*first, Fault(before=lambda: server.put(S1, new))]
    download_s1(server, tmp_path)
    assert on_disk(tmp_path)[S1] == new  # and no mixture of two
    assert manifest(tmp_path)[S1]["md5"] == hashlib.md5(new).hexdigest()
    server.requests.clear()
    assert len(download_s1(server, tmp_path).outcome.there) == 7  # 2 chips, 4 lists, 1 table
    assert server.media() == []


def test_object_that_shrinks_and_object_that_goes(server, tmp_path):
    server.faults[S1] = [Fault(cut_after=150_000), Fault(before=lambda: server.put(S1, b"short"))]
    other = OTHER_S1
    server.faults[other] = [Fault(before=lambda: server.objects.pop(other))]
    assert download_s1(server, tmp_path).outcome.missing == {other: "404 Not Found"}
    assert on_disk(tmp_path)[S1] == b"short"


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


def test_connection_that_hangs_is_given_up_and_goes_on(server, tmp_path):
    server.faults[S1] = [Fault(cut_after=150_000, stall_s=3.0)]
    client = Client(server.url, QUICK, timeout_s=(1.0, 0.2))
    (wanted,) = list_objects(client, bucket.BUCKET, S1)
    started = time.monotonic()
    Transfer(client, bucket.BUCKET, wanted, tmp_path, lambda num_bytes: None).run()
    assert time.monotonic() - started < 2.5
    assert on_disk(tmp_path)[S1] == server.objects[S1].data
    assert server.media()[-1][1].startswith("bytes=")


def test_server_that_never_answers_is_not_waited_for_long():
    client = Client("http://127.0.0.1:9", Retries(attempts=8, first_wait_s=0.001))
    with pytest.raises(Refused, match=r"refused \(3 attempts\)"):
        client.get_json("x", {})


def test_full_disk_is_one_error(server, tmp_path):
    part = Path(f"{tmp_path / S1}.{hashlib.md5(server.objects[S1].data).hexdigest()}.part")
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left on device"):
        download_s1(server, tmp_path)


def test_gives_up_when_the_server_is_gone(server, tmp_path):
    for name in server.objects:
        server.faults[name] = [Fault(500)] * 10
    outcome = download(server, tmp_path, num_workers=1).outcome
    reasons = list(outcome.missing.values())
    assert len(reasons) == len(wanted(server)) == 35
    tried = sum("4 attempts" in reason for reason in reasons)
    assert 20 <= tried <= 22  # one or two may be under way when the twentieth fails
    assert sum("not tried" in reason for reason in reasons) == 35 - tried
    assert len(server.media()) <= 23 * 4


def test_goes_on_while_some_come(server, tmp_path):
    del server.objects["v1.1/empty.txt"]  # needs no request
    names = sorted(wanted(server))
    for name in [*names[:17], *names[18:]]:  # 17 in a row and 16 in a row
        server.faults[name] = [Fault(500)] * 10
    outcome = download(server, tmp_path, num_workers=1).outcome
    assert [entry.name for entry in outcome.fetched] == [names[17]]
    assert not [reason for reason in outcome.missing.values() if "not tried" in reason]


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
