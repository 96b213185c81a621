"""The rows of the paper's Table 1 and the teacher of section 4, in the order in which reports show them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        key: short name; also the gin file's stem.
        title: name in tables.
        paper_iou: water IoU on the Sen1Floods11 test split in percent (Table 1; the teacher's from section 4).
        paper_std: its standard deviation over 5 runs; None for Otsu.
        trained: whether there is a network to train.
        distilled: whether training needs the teacher.
    """

    key: str
    title: str
    paper_iou: float
    paper_std: float | None
    trained: bool = True
    distilled: bool = False


OTSU = Row("otsu", "Otsu", 54.58, None, trained=False)
HAND = Row("supervised_hand", "Hand labeled supervised", 67.63, 0.45)
WEAK = Row("supervised_weak", "Weak labeled supervised: Sen1Floods11 weak", 67.76, 2.41)
WEAK_EXTERNAL = Row("supervised_weak_external", "Weak labeled supervised: Sen1Floods11 + ED weak", 68.94, 1.11)
STUDENT = Row("student_distill", "Cross modal distillation", 71.91, 0.41, distilled=True)
TEACHER = Row("teacher", "Teacher", 79.25, 1.07)

ROWS = (OTSU, HAND, WEAK, WEAK_EXTERNAL, STUDENT, TEACHER)
