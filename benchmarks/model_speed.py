"""How fast the network is in each form, beside the machine's ceilings and a peer: ``python -m benchmarks.model_speed``.

Every case runs in a process of its own, `--repeats` times in turn, so its peak memory is its own and slow spells of the
machine fall on all. Prints a table and one line of JSON. `--profile=CASE` prints where the time of one case goes.

``share`` is the floating-point operations of the convolutions in a second of processor time (all threads) over those of
the matrix product of the same precision: other load on the machine hardly changes it.

`--peer_command` runs another implementation's own benchmark, in turn with ours. The last line of its output that is
JSON counts: `inference_images_per_s`, `training_images_per_s` (either may be missing), `gflop_per_image` (of a forward
pass, optional; `--peer_gflop_per_image` for one that does not print it).
"""

import dataclasses
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from flood_distill import cli  # noqa: F401  cli sets TensorFlow up as the commands do

_SIZE_PX = flags.DEFINE_integer("size_px", 320, "Side of the images.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images at once.")
_WIDTH_MULTIPLIER = flags.DEFINE_float("width_multiplier", 1.0, "Factor on the network's channels; 1 is Xception-65.")
_NUM_MIDDLE_UNITS = flags.DEFINE_integer("num_middle_units", 16, "Middle-flow units; 16 is Xception-65.")
_DECODER_STRIDES = flags.DEFINE_list("decoder_strides", ["4", "2"], "Strides of the decoder's skips.")
_MATRIX_SIZE = flags.DEFINE_integer("matrix_size", 4096, "Side of the matrices of the matrix product.")
_CASES = flags.DEFINE_list("cases", [], "Beginnings of the names of the cases to run; empty for all.")
_RUNS = flags.DEFINE_integer("runs", 5, "Timed runs in one process, after two that are not timed.")
_REPEATS = flags.DEFINE_integer("repeats", 1, "Processes of each case, in turn; the median of all their runs counts.")
_PEER_COMMAND = flags.DEFINE_string("peer_command", "", "Another implementation's benchmark.")
_PEER_GFLOP = flags.DEFINE_float("peer_gflop_per_image", None, "Operations of the peer's forward pass, in 1e9.")
_PROFILE = flags.DEFINE_string("profile", "", "A case to profile instead; not one of OpenVINO or onnxruntime.")
_ONLY = flags.DEFINE_string("only", "", "For the processes that this one starts: the case to run.")

_PEER = "peer"
_RESULT = "result of the case: "
_KIB = 2**10


def main(argv: list[str]) -> None:
    """Runs what the flags ask for."""
    del argv
    if _ONLY.value:
        print(_RESULT + json.dumps(timed(_ONLY.value)))
    elif _PROFILE.value:
        print_profile(_PROFILE.value)
    else:
        compare()


def compare() -> None:
    """Runs every case and the peer in turn; prints the table."""
    from benchmarks import model_cases

    chosen = tuple(_CASES.value) or ("",)
    names = [name for name, case in model_cases.CASES.items() if name.startswith(chosen) and case.installed]
    ours, peers = {name: [] for name in names}, []
    for _ in range(_REPEATS.value):
        for name in names:
            print(f"... {name}", file=sys.stderr)
            ours[name].append(in_a_process(name))
        if _PEER_COMMAND.value:
            print(f"... {_PEER}", file=sys.stderr)
            peers += run_peer_or_warn(_PEER_COMMAND.value)
    settings = settings_of_flags()
    rows = [_row(name, model_cases.CASES[name], settings, results) for name, results in ours.items()]
    rows += _peer_rows(peers)
    _add_ratios(rows)
    print_table(rows)
    print(json.dumps({"benchmark": "model_speed", **dataclasses.asdict(settings), "results": rows}))


def settings_of_flags():
    """Returns what all cases have in common."""
    from benchmarks import model_cases

    return model_cases.Settings(
        size_px=_SIZE_PX.value,
        batch_size=_BATCH_SIZE.value,
        width_multiplier=_WIDTH_MULTIPLIER.value,
        num_middle_units=_NUM_MIDDLE_UNITS.value,
        decoder_strides=tuple(map(int, _DECODER_STRIDES.value)),
        matrix_size=_MATRIX_SIZE.value,
    )


def timed(name: str) -> dict[str, list[float]]:
    """Runs one case in this process; returns seconds and seconds of processor time of every run."""
    from benchmarks import model_cases

    with tempfile.TemporaryDirectory() as scratch:
        run = model_cases.CASES[name].make(settings_of_flags(), Path(scratch))
        run(), run()
        times = [_timed(run) for _ in range(_RUNS.value)]
    seconds, cpu_seconds = zip(*times, strict=True)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds}


def in_a_process(name: str) -> dict:
    """Returns what `timed` does in a process of its own, and that process's peak memory in MiB."""
    command = [sys.executable, "-m", "benchmarks.model_speed", *sys.argv[1:], f"--only={name}"]
    output, peak = _run(command)
    line = next(line for line in output.splitlines() if line.startswith(_RESULT))
    return {**json.loads(line.removeprefix(_RESULT)), "peak_mib": peak}


def run_peer(command: str) -> dict:
    """Runs a peer's benchmark; returns the last JSON line that it prints, and its peak memory in MiB."""
    output, peak = _run(shlex.split(command))
    return {**peer_numbers(output), "peak_mib": peak}


def run_peer_or_warn(command: str) -> list[dict]:
    """Returns what `run_peer` does, in a list; an empty one, and a warning, where the peer fails: ours still counts."""
    try:
        return [run_peer(command)]
    except (OSError, RuntimeError, ValueError) as error:
        print(f"--peer_command failed, so the table has no peer: {error}", file=sys.stderr)
        return []


def peer_numbers(output: str) -> dict:
    """Returns the last line of a benchmark's output that is a JSON object.

    Raises:
        ValueError: if there is none.
    """
    for line in reversed(output.splitlines()):
        try:
            numbers = json.loads(line)
        except ValueError:
            continue
        if isinstance(numbers, dict):
            return numbers
    raise ValueError(f"--peer_command printed no line of JSON but {output[-200:]!r}")


def _run(command: Sequence[str]) -> tuple[str, float]:
    """Returns a command's output and its peak resident memory in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {shlex.join(command)}")
    return output, usage.ru_maxrss / _KIB  # Linux counts in KiB


def _timed(run) -> tuple[float, float]:
    start, cpu_start = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - cpu_start


def _row(name: str, case, settings, results: list[dict]) -> dict:
    seconds = statistics.median(value for result in results for value in result["seconds"])
    cpu_seconds = statistics.median(value for result in results for value in result["cpu_seconds"])
    return {
        "case": name,
        "kind": case.kind,
        "precision": case.precision,
        "images_per_second": case.num_images(settings) / seconds,
        "gflop_per_second": case.gflop(settings) / seconds,
        "gflop_per_cpu_second": case.gflop(settings) / cpu_seconds,
        "gigabytes_per_second": case.gigabytes() / seconds,
        "peak_mib": max(result["peak_mib"] for result in results),
    }


def _peer_rows(peers: list[dict]) -> list[dict]:
    from benchmarks import model_cases

    rows = []
    for kind, passes in ((model_cases.INFERENCE, 1), (model_cases.TRAINING, model_cases.TRAINING_PASSES)):
        rates = [peer[f"{kind}_images_per_s"] for peer in peers if f"{kind}_images_per_s" in peer]
        if rates:
            rate = statistics.median(rates)
            gflop = peers[0].get("gflop_per_image", _PEER_GFLOP.value) or 0.0
            row = {"case": f"{_PEER}, {kind}", "kind": kind, "precision": "", "images_per_second": rate}
            row |= {"gflop_per_second": rate * passes * gflop, "gflop_per_cpu_second": 0.0}
            rows.append(row | {"gigabytes_per_second": 0.0, "peak_mib": max(peer["peak_mib"] for peer in peers)})
    return rows


def _add_ratios(rows: list[dict]) -> None:
    """Adds the share of the matrix product, and the ratio to the peer and to the first version of the same kind."""
    from benchmarks import model_cases

    ceilings = {row["precision"]: row for row in rows if row["kind"] == model_cases.MATRIX_PRODUCT}
    for row in rows:
        if row["precision"] in ceilings and row["gflop_per_cpu_second"]:
            ceiling = ceilings[row["precision"]]["gflop_per_cpu_second"]
            row["share_of_matrix_product"] = row["gflop_per_cpu_second"] / ceiling
        for column, word in (("times_first_version", "first version"), ("times_peer", _PEER)):
            base = [other for other in rows if other["kind"] == row["kind"] and word in other["case"]]
            if base and row["images_per_second"]:
                row[column] = row["images_per_second"] / base[0]["images_per_second"]


_COLUMNS = (
    ("images/s", "images_per_second", "{:.2f}", 1),
    ("GFLOP/s", "gflop_per_second", "{:.0f}", 1),
    ("GB/s", "gigabytes_per_second", "{:.1f}", 1),
    ("share", "share_of_matrix_product", "{:.0%}", 1),
    ("x first", "times_first_version", "{:.2f}", 1),
    ("x peer", "times_peer", "{:.2f}", 1),
    ("peak GiB", "peak_mib", "{:.2f}", 1 / _KIB),
)


def print_table(rows: list[dict]) -> None:
    """Prints one line a case, as Markdown."""
    print(f"| case | {' | '.join(title for title, *_ in _COLUMNS)} |")
    print("|---|" + "---:|" * len(_COLUMNS))
    for row in rows:
        cells = [form.format(row[key] * factor) if row.get(key) else "" for _, key, form, factor in _COLUMNS]
        print(f"| {row['case']} | {' | '.join(cells)} |")


def print_profile(name: str) -> None:
    """Prints where the time of one case goes, by operation and by group of layers."""
    from benchmarks import model_cases, op_profile

    settings, case = settings_of_flags(), model_cases.CASES[name]
    product = model_cases.CASES[f"{model_cases.MATRIX_PRODUCT} {case.precision}"]
    with tempfile.TemporaryDirectory() as scratch:
        multiply = product.make(settings, Path(scratch))
        multiply()
        matrix_rate = product.gflop(settings) / statistics.median(_timed(multiply)[0] for _ in range(3))
        run = case.make(settings, Path(scratch))
        run(), run()
        operations = op_profile.trace(run)
    print(f"| operation of {name} | time |\n|---|---:|")
    for operation, share in op_profile.by_operation(operations).items():
        print(f"| {operation} | {share:.1%} |")
    print("\n| layers | kind | time | GFLOP/s | of the matrix product |\n|---|---|---:|---:|---:|")
    groups = op_profile.table(operations, model_cases.multiply_adds(settings), case.gflop(settings), matrix_rate)
    for row in groups:
        rate, share = (f"{row['gflop_per_second']:.0f}", f"{row['share_of_matrix_product']:.0%}")
        rate, share = (rate, share) if row["gflop_per_second"] else ("", "")
        print(f"| {row['group']} | {row['kind']} | {row['share_of_time']:.1%} | {rate} | {share} |")
    print(json.dumps({"benchmark": "model_speed", "profile": name, **dataclasses.asdict(settings), "groups": groups}))


if __name__ == "__main__":
    app.run(main)
