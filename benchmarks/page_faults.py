"""What keeping freed memory saves a training run: ``python -m benchmarks.page_faults --data_dir=R``.

Trains the demo's hand-label baseline for a few steps twice, on one thread: with malloc as it is, and as it is in
`flood_distill.train` (`allocator.keep_freed_memory`). Prints page faults, processor time and peak memory of each
process, start and validation included, as a table and one line of JSON. R holds converted datasets, such as
runs/demo/data after ``make demo``.
"""

import json
import os
import subprocess
import sys
import tempfile

from absl import app, flags

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the converted datasets.", required=True)
_NUM_STEPS = flags.DEFINE_integer("num_steps", 40, "Optimizer steps of each run.")

# Any MALLOC_* setting of the user switches ours off; this one repeats the default on 64 bits.
_CASES = {"as it is": {"MALLOC_ARENA_TEST": "8"}, "kept": {}}
_KIB = 2**10


def main(argv: list[str]) -> None:
    """Trains with both settings; prints the table."""
    del argv
    rows = {case: train(settings) for case, settings in _CASES.items()}
    columns = list(rows["kept"])
    print(f"| freed memory | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for case, row in rows.items():
        print(f"| {case} | {' | '.join(f'{row[column]:,.0f}' for column in columns)} |")
    print(json.dumps({"benchmark": "page_faults", "num_steps": _NUM_STEPS.value, "results": rows}))


def train(settings: dict[str, str]) -> dict[str, float]:
    """Returns what one training run of `--num_steps` steps cost under such environment variables."""
    with tempfile.TemporaryDirectory() as model_dir:
        bindings = (f"num_steps={_NUM_STEPS.value}", f"validate_every={_NUM_STEPS.value}")
        command = [sys.executable, "-m", "flood_distill.train", "--gin_file=supervised_hand.gin", "--gin_file=demo.gin"]
        command += [f"--gin_param=train.{binding}" for binding in bindings]
        command += ["--threads=1", f"--data_dir={_DATA_DIR.value}", f"--model_dir={model_dir}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **settings})
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {' '.join(command)}")
    return {
        "page faults, 1000": usage.ru_minflt / 1000,
        "user s": usage.ru_utime,
        "system s": usage.ru_stime,
        "peak MiB": usage.ru_maxrss / _KIB,
    }


if __name__ == "__main__":
    app.run(main)
