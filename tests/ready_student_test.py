"""The student that `predict` takes where no model is named."""

import pytest

from flood_distill import ready_student
from flood_distill.errors import UserError


def test_scores_are_said_whatever_they_are():
    scores = {"iou_pooled": 0.1234, "precision": 0.2, "recall": 0.9}
    card = {
        "training": {"source": "synthetic", "datasets": ["external/events"]},
        "metrics": [{"split": "test", "dataset": "sen1floods11/hand", "source": "real", "num_chips": 6, **scores}],
    }
    first, second = ready_student.describe(card).splitlines()
    assert "synthetic data (external/events)" in first
    assert "12.3 % pooled water IoU on the test split of sen1floods11/hand (real data, 6 chips;" in second
    assert "precision 20 %, recall 90 %" in second


def test_an_installation_without_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(ready_student, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="--model is missing"):
        ready_student.folder()


def test_the_one_in_the_package_is_small_and_says_that_it_saw_no_real_data():
    size = sum(path.stat().st_size for path in ready_student.FOLDER.rglob("*"))
    assert 0 < size <= 15e6
    said = ready_student.figures()
    assert "trained on synthetic data" in said
    assert "real data, 4 chips" in said
