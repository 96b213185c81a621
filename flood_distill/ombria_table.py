"""The rows of the benchmark on OMBRIA: how many hand labels a radar-only student needs, with and without a teacher."""

from collections.abc import Sequence

from flood_distill import contract, rows
from flood_distill.errors import UserError
from flood_distill.rows import Row

WEAK_OF = {
    contract.OMBRIA_AFTER: contract.OMBRIA_AFTER_WEAK,
    contract.OMBRIA_BEFORE_AFTER: contract.OMBRIA_BEFORE_AFTER_WEAK,
}

# A student on few labels does better on validation with these, every other row with ombria_benchmark.gin's own
# (docs/results.md): a second row of hand labels, so that distillation is held against the better of the two.
SMALL_CROPS = ("train.crop_size_px=97", "network.input_stride=1")

LabelRun = tuple[str, int, Sequence[int]]  # dataset, number of hand labels, seeds


def chosen(label_runs: Sequence[LabelRun]) -> list[Row]:
    """Returns all rows: for each dataset Otsu, the weak student, hand (twice), distilled and teacher by labels, all
    labels.

    Args:
        label_runs: (dataset, number of hand-labelled chips, seeds); the chips are those of the list ``ombria_N``. Rows
            without such a number take the most seeds of their dataset.

    Raises:
        UserError: for no or a wrong setting.
    """
    if not label_runs:
        raise UserError("reproduce.label_runs is empty: give (dataset, number of hand labels, seeds) for each setting")
    made = []
    for dataset in dict.fromkeys(dataset for dataset, _, _ in label_runs):
        if dataset not in WEAK_OF:
            raise UserError(f"reproduce.label_runs: {dataset!r} is not one of {', '.join(WEAK_OF)}")
        counts = {number: tuple(seeds) for name, number, seeds in label_runs if name == dataset}
        made += _rows_of(dataset, counts)
    return made


def _rows_of(dataset: str, counts: dict[int, tuple[int, ...]]) -> list[Row]:
    name, images = dataset.split("/")[1], f"OMBRIA='{dataset}'"
    most = max(counts.values(), key=len)
    weak = f"OMBRIA_WEAK='{WEAK_OF[dataset]}'"
    made = [
        Row(f"{name}_otsu", "Otsu", rows.OTSU, dataset=dataset),
        Row(
            f"{name}_weak",
            "Weak label student (index of Sentinel-2)",
            rows.WEAK,
            "ombria_supervised_weak.gin",
            (images, weak),
            dataset=dataset,
            seeds=most,
        ),
    ]
    for number, seeds in sorted(counts.items()):
        labelled = (images, f"train.chip_list='ombria_{number}'")
        common = {"dataset": dataset, "seeds": seeds, "num_labels": number}
        teacher = f"{name}_teacher_{number}"
        made += [
            Row(
                f"{name}_hand_{number}",
                "Hand label student",
                rows.HAND,
                "ombria_supervised_hand.gin",
                labelled,
                **common,
            ),
            Row(
                f"{name}_hand_small_{number}",
                "Hand label student, small crops",
                rows.HAND_SMALL_CROPS,
                "ombria_supervised_hand.gin",
                (*labelled, *SMALL_CROPS),
                **common,
            ),
            Row(
                f"{name}_distilled_{number}",
                "Distilled student",
                rows.DISTILLED,
                "ombria_student_distill.gin",
                (images,),
                teacher,
                **common,
            ),
            Row(teacher, "Teacher", rows.TEACHER, "ombria_teacher.gin", labelled, **common),
        ]
    every = "Student on all training labels"
    made.append(
        Row(
            f"{name}_all_labels",
            every,
            rows.ALL_LABELS,
            "ombria_supervised_hand.gin",
            (images,),
            dataset=dataset,
            seeds=most,
        )
    )
    return made
