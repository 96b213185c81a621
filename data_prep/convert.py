"""Tiles -> TFDS dataset: ``python -m data_prep.convert --dataset=sen1floods11/hand --input_dir=D --data_dir=R``.

D is the folder of tiles that `data_prep.download`, `data_prep.earth_engine` or `data_prep.synthesize` wrote; the
dataset appears in ``R/sen1floods11/hand/1.0.0`` when it is whole and loads with ``tfds.builder_from_directory``.
"""

from absl import flags

from data_prep import conversion, tiles
from data_prep.conversion import Conversion
from flood_distill import cli, contract
from flood_distill.beam_settings import Beam
from flood_distill.errors import UserError

_DATASET = flags.DEFINE_string("dataset", None, "NAME/CONFIG, such as sen1floods11/hand.", required=True)
_INPUT_DIR = flags.DEFINE_string("input_dir", None, "Folder of tiles.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of converted datasets.", required=True)
_ALLOW_MISSING = flags.DEFINE_bool("allow_missing", False, "Leave incomplete and damaged chips out and list them.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Convert again although the dataset is there.")
_SEN1FLOODS11_DIR = flags.DEFINE_string(
    "sen1floods11_dir", None, "For external/events: tiles of Sen1Floods11, whose evaluation ground is left out."
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", None, "Processes that read and warp tiles; 0 for none. Default: one a core.", lower_bound=0
)
_BEAM_RUNNER = flags.DEFINE_string(
    "beam_runner", None, "Convert in an Apache Beam pipeline: DirectRunner, DataflowRunner, ... (docs/beam.md)."
)
_BEAM_OPTIONS = flags.DEFINE_multi_string("beam_options", [], "Option of that pipeline, NAME=VALUE. Repeatable.")
_BEAM_INPUT_DIR = flags.DEFINE_string("beam_input_dir", None, "Where the workers find the tiles of --input_dir.")
_BEAM_STAGING_DIR = flags.DEFINE_string(
    "beam_staging_dir", None, "Folder that the workers can write to, if they do not share --data_dir."
)

_LISTED = 20  # lines on the terminal; the dataset's metadata.json has all


def summary(conversion_: Conversion) -> str:
    """Returns what was converted, in a few lines."""
    metadata = conversion_.metadata
    lines = [f"{conversion_.source} dataset {conversion_.path}"]
    for split, count in conversion_.num_examples.items():
        lines.append(
            f"  {split}: {count} tiles, {metadata[contract.NUM_WITH_S2][split]} with Sentinel-2; outside the source "
            f"{metadata[contract.OUTSIDE_SHARE][split]:.1%} of the tiles' pixels, "
            f"cut {metadata[contract.CUT_SHARE][split]:.1%} of the source's"
        )
    for reason, chip_ids in metadata[contract.EXCLUDED].items():
        lines.append(f"  excluded, {reason}: {len(chip_ids)}")
    if unknown := metadata[contract.EXCLUSION_UNKNOWN]:
        lines.append(f"  not compared, footprint unknown: {len(unknown)} evaluation chips")
    lines += [f"  note: {note}" for note in conversion_.notes]
    return "\n".join(lines + _left_out(metadata[contract.LEFT_OUT]))


def _left_out(faults: list[str]) -> list[str]:
    if not faults:
        return []
    faults = sorted(faults, key=lambda fault: fault.endswith(tiles.MISSING))  # what is there but damaged comes first
    more = len(faults) - _LISTED
    tail = [f"    and {more} more, all in metadata.json"] if more > 0 else []
    return ["  left out:"] + [f"    {fault}" for fault in faults[:_LISTED]] + tail


def main(argv: list[str]) -> int:
    """Converts and prints what was done."""
    del argv
    result = conversion.convert(
        _DATASET.value,
        _INPUT_DIR.value,
        _DATA_DIR.value,
        allow_missing=_ALLOW_MISSING.value,
        overwrite=_OVERWRITE.value,
        sen1floods11_dir=_SEN1FLOODS11_DIR.value,
        num_workers=_NUM_WORKERS.value,
        beam=_beam(),
    )
    if not result.done:
        print("already converted; --overwrite converts again")
    print(summary(result))
    return 0


def _beam() -> Beam | None:
    if _BEAM_RUNNER.value is None:
        if without := [flag.name for flag in (_BEAM_OPTIONS, _BEAM_INPUT_DIR, _BEAM_STAGING_DIR) if flag.value]:
            raise UserError(f"--{without[0]}: needs --beam_runner, such as --beam_runner=DirectRunner")
        return None
    options = tuple(_BEAM_OPTIONS.value)
    return Beam(_BEAM_RUNNER.value, options, _BEAM_INPUT_DIR.value, _BEAM_STAGING_DIR.value)


def entry_point() -> None:
    """The console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
