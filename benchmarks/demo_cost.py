"""Time and memory of the demo: runs `flood_distill.reproduce` and watches it and all that it starts.

    python -m benchmarks.demo_cost --work_dir=runs/demo_cost

Prints a table and one line of JSON: wall time, seconds of each stage, and the peak of the resident memory summed over
all processes (shared pages counted once for each process, so the true peak is lower).
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
from absl import app, flags

flags.DEFINE_string("work_dir", None, "An empty folder to run in.", required=True)
flags.DEFINE_string("gin_file", "demo.gin", "Configuration of the run.")
FLAGS = flags.FLAGS

_SAMPLE_S = 0.5
_GIB = 2**30


def watch(process: subprocess.Popen) -> int:
    """Returns the peak resident memory of `process` and its children in bytes; returns when it has ended."""
    parent, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        resident = 0
        for one in [parent, *parent.children(recursive=True)]:
            try:
                resident += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        peak = max(peak, resident)
        time.sleep(_SAMPLE_S)
    return peak


def main(_: list[str]) -> int:
    """Runs the demo and prints what it cost."""
    work_dir = Path(FLAGS.work_dir)
    command = ["flood_distill.reproduce", f"--gin_file={FLAGS.gin_file}", f"--work_dir={work_dir}"]
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", *command])
    peak = watch(process)
    seconds = time.monotonic() - started
    stages = {
        path.stem: json.loads(path.read_text())["seconds"] for path in sorted((work_dir / "stages").glob("*.json"))
    }
    print(f"\n{'stage':<40} seconds")
    for name, took in stages.items():
        print(f"{name:<40} {took:7.1f}")
    print(f"{'wall time':<40} {seconds:7.1f}\npeak resident memory: {peak / _GIB:.2f} GiB")
    print(json.dumps({"seconds": round(seconds, 1), "peak_resident_gib": round(peak / _GIB, 2), "stages": stages}))
    return process.returncode


if __name__ == "__main__":
    app.run(main)
