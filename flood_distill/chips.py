"""The chips of a split to look at, and what a panel shows of them."""

from collections.abc import Sequence

from flood_distill import contract, panels, statistics
from flood_distill.records import Records, stacked

_FEATURES = (contract.S1, contract.S2, contract.LABEL, contract.HAS_S2, contract.CHIP_ID)


def telling_chips(results: Sequence[statistics.ChipResult], num_chips: int) -> list[str]:
    """Returns the chips to look at: event by event in turn, in each the chips with most of both water and dry land.

    What a model predicted plays no part, so that all models are shown on the same chips.
    """
    by_event: dict[str, list[tuple[int, str]]] = {}
    for result in results:
        counts = result.counts
        if counts.scored_pixels:
            both = min(counts.tp + counts.fn, counts.fp + counts.tn)
            by_event.setdefault(result.event, []).append((-both, result.chip_id))
    ranked = [
        (rank, event, chip_id) for event, chips in by_event.items() for rank, (_, chip_id) in enumerate(sorted(chips))
    ]
    return [chip_id for _, _, chip_id in sorted(ranked)[:num_chips]]


def read_chips(records: Records, split: str, chip_ids: Sequence[str]) -> list[panels.Chip]:
    """Returns chips for `panels.comparison_panel`, in the order of `chip_ids`."""
    found = {}
    for example in stacked(records, split, _FEATURES).as_numpy_iterator():
        chip_id = example[contract.CHIP_ID].decode()
        if chip_id in chip_ids:
            s2 = example[contract.S2] if example[contract.HAS_S2] else None
            found[chip_id] = panels.Chip(chip_id, example[contract.S1], s2, example[contract.LABEL], records.imagery)
    return [found[chip_id] for chip_id in chip_ids]
