"""Public bucket -> folder of tiles: ``python -m data_prep.download --dataset=sen1floods11 --output_dir=D``.

D holds ``v1.1`` afterwards, what `data_prep.convert` reads with ``--input_dir=D``. The same command goes on where a
run was broken off, and brings what has changed.
"""

from collections import Counter

from absl import flags

from data_prep import downloads
from data_prep.bucket.mirror import readable
from data_prep.downloads import Download
from data_prep.sen1floods11 import bucket
from flood_distill import cli
from flood_distill.errors import UserError

_DATASET = flags.DEFINE_enum("dataset", None, [bucket.BUCKET], "Which dataset.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where v1.1 appears; needs up to 37 GB.", required=True)
_LAYERS = flags.DEFINE_list(
    "layers",
    [],
    f"Layers to fetch: {', '.join(bucket.LAYERS)}; hand and weak mean what the configs of these names are converted "
    "from. Default: everything.",
)
_EVENTS = flags.DEFINE_list("events", [], "Events to fetch, such as Bolivia,Sri-Lanka. Default: all.")
_BASE_URL = flags.DEFINE_string("base_url", bucket.BASE_URL, "The server, or a mirror of the same API.")
_NUM_WORKERS = flags.DEFINE_integer("num_workers", 16, "Transfers at a time.", lower_bound=1, upper_bound=128)
_VERIFY = flags.DEFINE_bool("verify", False, "Compute the checksums of all files that are there.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Only list what is selected, with sizes.")

_LISTED = 20  # lines on the terminal; the folder's file of what is missing has all


def summary(result: Download) -> str:
    """Returns what was selected, by layer, and what came of it."""
    counts, sizes = Counter(), Counter()
    for one in result.wanted:
        layer = bucket.layer_of(one.name) or "other files"
        counts[layer] += 1
        sizes[layer] += one.size
    lines = [f"{bucket.BUCKET} in {result.folder}: {counts.total()} files, {readable(sizes.total())}"]
    lines += [f"  {layer}: {count} files, {readable(sizes[layer])}" for layer, count in counts.items()]
    return "\n".join(lines + _done(result))


def _done(result: Download) -> list[str]:
    outcome = result.outcome
    if outcome is None:
        return ["dry run: nothing was fetched"]
    fetched = sum(entry.size for entry in outcome.fetched)
    lines = [f"there already: {len(outcome.there)}; fetched: {len(outcome.fetched)} ({readable(fetched)})"]
    if unchecked := sum(not one.identity for one in result.wanted):
        lines.append(f"only the size checked, the server has no checksum: {unchecked}")
    if outcome.missing:  # what failed comes before what the server never listed
        lines.append(f"missing: {len(outcome.missing)}")
        lines += [f"  {name}: {reason}" for name, reason in list(outcome.missing.items())[:_LISTED]]
    if len(outcome.missing) > _LISTED:
        lines.append(f"  and {len(outcome.missing) - _LISTED} more, all in {result.folder / downloads.MISSING}")
    return lines


def main(argv: list[str]) -> int:
    """Downloads and prints what is there."""
    del argv
    try:
        result = downloads.download(
            _OUTPUT_DIR.value,
            layers=_LAYERS.value,
            events=_EVENTS.value,
            base_url=_BASE_URL.value,
            num_workers=_NUM_WORKERS.value,
            verify=_VERIFY.value,
            dry_run=_DRY_RUN.value,
        )
    except KeyboardInterrupt:
        raise UserError("stopped; the same command goes on from here") from None
    print(summary(result))
    if result.outcome is not None and result.outcome.missing:
        missing = len(result.outcome.missing)
        wanted = len({one.name for one in result.wanted} | set(result.outcome.missing))
        raise UserError(f"{result.folder}: {missing} of {wanted} files are missing; the same command tries them again")
    return 0


def entry_point() -> None:
    """The console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
