"""What a table of results is made of: rows, each a method, run once for every seed."""

import dataclasses

from flood_distill import contract

# What a row is in the comparison; tables compare roles.
OTSU = "otsu"
HAND = "hand"
HAND_SMALL_CROPS = "hand_small_crops"  # OMBRIA: hand labels, the other setting that was tried
WEAK = "weak"
DISTILLED = "distilled"
TEACHER = "teacher"
ALL_LABELS = "all_labels"
# Teachers first, then what waits for none, so that several machines always have something to do.
TRAINING_ORDER = (TEACHER, HAND, DISTILLED, WEAK, ALL_LABELS, HAND_SMALL_CROPS)
# What the paper claims, as (better, than what).
COMPARISONS = (
    (HAND, OTSU),
    (DISTILLED, OTSU),
    (DISTILLED, HAND),
    (DISTILLED, HAND_SMALL_CROPS),
    (DISTILLED, WEAK),
    (TEACHER, DISTILLED),
    (DISTILLED, ALL_LABELS),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        key: unique short name; names its runs.
        title: name in tables.
        role: one of the roles above.
        gin_file: what its training is configured by; empty where nothing is trained.
        bindings: gin bindings beside the file.
        teacher: key of the row that teaches it, seed by seed; empty for all but distilled ones.
        dataset: what it is scored on.
        splits: of that dataset; the first is the table's.
        seeds: one run for each; where nothing is trained there is one run without a seed.
        paper_iou: water IoU on the Sen1Floods11 test split in percent; None for rows that are not in the paper.
        paper_std: its standard deviation over 5 runs; None for Otsu.
        num_labels: number of hand-labelled chips behind it; None where that is not varied.
    """

    key: str
    title: str
    role: str
    gin_file: str = ""
    bindings: tuple[str, ...] = ()
    teacher: str = ""
    dataset: str = contract.HAND
    splits: tuple[str, ...] = (contract.TEST_SPLIT,)
    seeds: tuple[int, ...] = (0,)
    paper_iou: float | None = None
    paper_std: float | None = None
    num_labels: int | None = None

    @property
    def trained(self) -> bool:
        """Whether there is a network to train."""
        return bool(self.gin_file)

    def run_names(self) -> list[str]:
        """Returns the names of its runs."""
        return [self.run_name(seed) for seed in self.seeds] if self.trained else [self.key]

    def run_name(self, seed: int) -> str:
        """Returns the name of a run; the row's key alone where nothing is trained."""
        return f"{self.key}_seed{seed}" if self.trained else self.key


def from_json(written: dict) -> Row:
    """Reads what `dataclasses.asdict` and JSON made of a row."""
    return Row(**{name: tuple(value) if isinstance(value, list) else value for name, value in written.items()})


def comparable(first: Row, second: Row) -> bool:
    """Whether two rows are scored on the same chips and have as many hand labels, or one of them does not vary them."""
    same_labels = first.num_labels == second.num_labels or None in (first.num_labels, second.num_labels)
    return first.dataset == second.dataset and first.splits == second.splits and same_labels
