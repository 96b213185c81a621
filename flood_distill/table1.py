"""The rows of the paper's Table 1 and the teacher of section 4, in the order in which reports show them.

IoU on the Sen1Floods11 test split from Table 1; the teacher's from section 4.
"""

import dataclasses
from collections.abc import Sequence

from flood_distill import contract, rows
from flood_distill.errors import UserError
from flood_distill.rows import Row

_SPLITS = (contract.TEST_SPLIT, contract.BOLIVIA_SPLIT)

OTSU = Row("otsu", "Otsu", rows.OTSU, splits=_SPLITS, paper_iou=54.58)
HAND = Row(
    "supervised_hand",
    "Hand labeled supervised",
    rows.HAND,
    "supervised_hand.gin",
    splits=_SPLITS,
    paper_iou=67.63,
    paper_std=0.45,
)
WEAK = Row(
    "supervised_weak",
    "Weak labeled supervised: Sen1Floods11 weak",
    rows.WEAK,
    "supervised_weak.gin",
    splits=_SPLITS,
    paper_iou=67.76,
    paper_std=2.41,
)
WEAK_EXTERNAL = Row(
    "supervised_weak_external",
    "Weak labeled supervised: Sen1Floods11 + ED weak",
    rows.WEAK,
    "supervised_weak_external.gin",
    splits=_SPLITS,
    paper_iou=68.94,
    paper_std=1.11,
)
TEACHER = Row("teacher", "Teacher", rows.TEACHER, "teacher.gin", splits=_SPLITS, paper_iou=79.25, paper_std=1.07)
STUDENT = Row(
    "student_distill",
    "Cross modal distillation",
    rows.DISTILLED,
    "student_distill.gin",
    teacher=TEACHER.key,
    splits=_SPLITS,
    paper_iou=71.91,
    paper_std=0.41,
)
# Ours: no Earth Engine needed, and not like for like, because the pool shares its events with the test chips.
STUDENT_WEAK_POOL = Row(
    "student_distill_weak_pool",
    "Cross modal distillation, Sen1Floods11 weak pool in place of ED (ours)",
    rows.DISTILLED,
    "student_distill_weak_pool.gin",
    teacher=TEACHER.key,
    splits=_SPLITS,
)

ROWS = (OTSU, HAND, WEAK, WEAK_EXTERNAL, STUDENT, TEACHER)  # the paper's
ALL_ROWS = (OTSU, HAND, WEAK, WEAK_EXTERNAL, STUDENT, STUDENT_WEAK_POOL, TEACHER)


def chosen(keys: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """Returns rows with their seeds, in the order of the table.

    Args:
        keys: of the rows; empty for the paper's. A student brings its teacher.
        seeds: of every row.

    Raises:
        UserError: for a row that is not there.
    """
    by_key = {row.key: row for row in ALL_ROWS}
    if unknown := [key for key in keys if key not in by_key]:
        raise UserError(f"reproduce.rows: {unknown[0]!r} is not one of {', '.join(by_key)}")
    wanted = set(keys or (row.key for row in ROWS))
    wanted |= {by_key[key].teacher for key in wanted} - {""}
    return [
        dataclasses.replace(row, seeds=tuple(seeds if row.trained else seeds[:1]))
        for row in ALL_ROWS
        if row.key in wanted
    ]
