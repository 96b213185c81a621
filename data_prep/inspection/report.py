"""What a survey found, as one structure (inspect.json) and as Markdown."""

import dataclasses
from collections.abc import Iterable, Sequence

from data_prep.inspection.ground import Overlap
from data_prep.inspection.survey import Survey
from flood_distill import contract
from flood_distill.records import Records

_LISTED = 20  # lines of a list in Markdown; inspect.json has all
_METADATA = (contract.OUTSIDE_SHARE, contract.CUT_SHARE, contract.LEFT_OUT, contract.EXCLUDED)


def as_dict(records: Records, found: Survey, overlaps: Sequence[Overlap]) -> dict:
    """Returns everything that was found, ready for JSON."""
    imagery = records.imagery
    events: dict[str, dict[str, dict]] = {}
    for (split, event), tally in sorted(found.tallies.items()):
        events.setdefault(split, {})[event] = tally.summary()
    return {
        "dataset": records.name,
        "path": records.path,
        "source": records.source,
        "target": imagery.target,
        "tile_size_px": imagery.tile_size_px,
        "bands": {name: [dataclasses.asdict(band) for band in some] for name, some in imagery.feature_bands.items()},
        "splits": {split: tally.summary() for split, tally in found.by_split().items()},
        "events": events,
        "leaks": [dataclasses.asdict(overlap) for overlap in overlaps],
        "duplicates": found.images.duplicates(),
        "same_chip_id": _same_chip_id(found.images.tiles),
        "faults": found.faults.as_list(),
        "damaged_splits": found.damaged,
        "num_without_place": len(found.images.tiles) - sum(len(some.names) for some in found.outlines.values()),
        "conversion": {key: records.metadata[key] for key in _METADATA if key in records.metadata},
    }


def as_markdown(report: dict, pictures: Sequence[str]) -> str:
    """Returns the report as Markdown.

    Args:
        report: from `as_dict`.
        pictures: names of the PNGs beside it.
    """
    sections = [
        _head(report),
        _table("Splits", report["splits"], report),
        *(_table(f"Events of {split}", some, report) for split, some in report["events"].items() if len(some) > 1),
        _bands(report),
        _leaks(report),
        _duplicates(report),
        _faults(report),
        _conversion(report),
        [f"![{name}]({name})" for name in pictures],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def summary(report: dict) -> str:
    """Returns what was found, in a few lines for a terminal; `report` as of `as_dict`."""
    counts = ", ".join(f"{split} {group['num_tiles']}" for split, group in report["splits"].items())
    across = sum(group["across_splits"] for group in report["duplicates"])
    return "\n".join(
        [
            f"{report['source']} dataset {report['path']}: {counts}",
            f"  ground shared by different splits: {len(report['leaks'])} pairs of tiles",
            f"  images that are the same: {len(report['duplicates'])} groups, {across} across splits",
            f"  faults and oddities: {sum(fault['num_tiles'] for fault in report['faults'])}",
        ]
    )


def _same_chip_id(tiles: Iterable[str]) -> list[str]:
    """Chip ids that are in more than one split."""
    seen, twice = set(), set()
    for tile in tiles:
        chip_id = tile.split("/", 1)[1]
        (twice if chip_id in seen else seen).add(chip_id)
    return sorted(twice)


def _head(report: dict) -> list[str]:
    synthetic = " **Synthetic data.**" if report["source"] == contract.SOURCE_SYNTHETIC else ""
    num_tiles = sum(split["num_tiles"] for split in report["splits"].values())
    lines = [
        f"# {report['dataset']}",
        "",
        f"{num_tiles} tiles of {report['tile_size_px']} x {report['tile_size_px']} pixels in `{report['path']}`."
        f"{synthetic} Shares are of all pixels unless they say of what.",
    ]
    return lines + [
        f"\n**Not read to the end: split {split}.** {reason}" for split, reason in report["damaged_splits"].items()
    ]


def _table(title: str, groups: dict[str, dict], report: dict) -> list[str]:
    target, features = report["target"], list(report["bands"])
    columns = ["", "tiles", "with S2", target, "dry", "no label", f"{target} of labelled", "scored"]
    columns += [f"{feature} no data" for feature in features]
    lines = [f"## {title}", "", _row(columns), _row(["---"] * len(columns))]
    for name, group in groups.items():
        shares = ["share_water", "share_dry", "share_unlabelled", "share_water_of_labelled", "share_scored"]
        cells = [name, str(group["num_tiles"]), str(group["num_with_s2"]), *(_percent(group[key]) for key in shares)]
        lines.append(_row(cells + [_percent(group["share_no_data"][feature]) for feature in features]))
    return lines


def _bands(report: dict) -> list[str]:
    limits = {f"{name} {band['name']}": band for name, some in report["bands"].items() for band in some}
    columns = ["band", "split", "limits", "min", "p1", "median", "mean", "p99", "max", "clipped low", "clipped high"]
    lines = ["## Bands", "", "Limits are those of the normalisation; what lies beyond is clipped.", ""]
    lines += [_row(columns), _row(["---"] * len(columns))]
    for label, band in limits.items():
        for split, group in report["splits"].items():
            found = group["bands"][label]
            numbers = [_number(found[key]) for key in ("min", "p01", "median", "mean", "p99", "max")]
            clipped = [_percent(found[f"share_clipped_{side}"]) for side in ("low", "high")]
            limit = f"{band['low']:g} to {band['high']:g} {band['unit']}"
            lines.append(_row([label, split, limit, *numbers, *clipped]))
    return lines


def _leaks(report: dict) -> list[str]:
    lines = ["## Ground shared by different splits", ""]
    if without := report["num_without_place"]:
        lines.append(f"{without} tiles have no place and were not compared.")
    if not report["leaks"]:
        return [*lines, "None found."]
    lines += [f"**{len(report['leaks'])} pairs of tiles: a leak.** Shares are of the smaller tile.", ""]
    pairs = [f"* {leak['first']} and {leak['second']}: {leak['share']:.1%}" for leak in report["leaks"]]
    return lines + _shortened(pairs)


def _duplicates(report: dict) -> list[str]:
    groups, lines = report["duplicates"], ["## Images that are the same", ""]
    if report["same_chip_id"]:
        lines += [f"**In several splits by name: {', '.join(report['same_chip_id'][:_LISTED])}.**", ""]
    if not groups:
        return [*lines, "None found, bit for bit."]
    leaks = sum(group["across_splits"] for group in groups)
    lines += [f"{len(groups)} groups, {leaks} of them across splits{': a leak' * (leaks > 0)}.", ""]
    return lines + _shortened(
        f"* {group['feature']}: {', '.join(group['tiles'][:_LISTED])}{' **(across splits)**' * group['across_splits']}"
        for group in groups
    )


def _faults(report: dict) -> list[str]:
    lines = ["## Faults and oddities of tiles", ""]
    if not report["faults"]:
        return [*lines, "None found."]
    return lines + [
        f"* {fault['fault']}: {fault['num_tiles']} ({', '.join(fault['tiles'][:_LISTED])}"
        f"{', ...' * (fault['num_tiles'] > _LISTED)})"
        for fault in report["faults"]
    ]


def _conversion(report: dict) -> list[str]:
    metadata = report["conversion"]
    lines = ["## From the conversion", ""]
    for key, meaning in (
        (contract.OUTSIDE_SHARE, "tile pixels outside the source"),
        (contract.CUT_SHARE, "source pixels outside the tile"),
    ):
        shares = ", ".join(f"{split} {_percent(share)}" for split, share in metadata.get(key, {}).items())
        lines.append(f"* {meaning}: {shares or 'not recorded'}")
    for reason, chip_ids in metadata.get(contract.EXCLUDED, {}).items():
        lines.append(f"* excluded, {reason}: {len(chip_ids)}")
    left_out = metadata.get(contract.LEFT_OUT, [])
    return [*lines, f"* left out as faulty: {len(left_out)} files", *_shortened(f"  * {line}" for line in left_out)]


def _shortened(lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    more = len(lines) - _LISTED
    return lines[:_LISTED] + ([f"* and {more} more, all in inspect.json"] if more > 0 else [])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{share:.2%}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
