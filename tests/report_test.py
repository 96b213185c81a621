"""Tables and plots from kept results whose numbers can be read off."""

import dataclasses
import json
from pathlib import Path

import pytest

from flood_distill import calibration, cases, contract, ombria_table, report_page, results, rows, table1, tables
from flood_distill.errors import UserError
from flood_distill.tables import Method

CHIPS = ("a_1", "a_2", "b_1", "b_2")
HEAD = "chip_id,event,scored_pixels,tp,fp,fn,tn,iou,without_s2"
MORE = ",".join(f"{kind}_{name}" for kind in ("boundary", "flood") for name in ("tp", "fp", "fn", "tn"))


def _kept(run, found, settings="", threshold=0.5):
    """A run that finds so many of the 100 water pixels of each of four chips, and nothing else."""
    lines = [f"{HEAD},{MORE}"]
    for chip_id, tp in zip(CHIPS, found, strict=True):
        counts = f"{tp},0,{100 - tp},900"
        lines.append(f"{chip_id},{chip_id[0]},1000,{counts},{tp / 100},0,{counts},0,0,0,0")
    pooled = sum(found) / 400
    scores = dict.fromkeys(("iou_pooled", "iou_per_chip", "precision", "recall", "f1", "boundary_iou", "ece"), pooled)
    split = scores | {
        "threshold": threshold,
        "source": "real",
        "unscorable_chips": [],
        "share_without_s2": 0.0,
        "chips": lines,
    }
    split["reliability"] = calibration.empty().as_json()
    return results.Kept(run, settings, {}, {"test": split})


def _write(folder, table, found):
    folder.mkdir(exist_ok=True)
    (folder / "plan.json").write_text(json.dumps({"rows": [dataclasses.asdict(row) for row in table]}))
    for run, counts in found.items():
        (folder / f"{run}.json").write_text(json.dumps(dataclasses.asdict(_kept(run, counts))))


OMBRIA = ombria_table.chosen([(contract.OMBRIA_AFTER, 20, (0,)), (contract.OMBRIA_AFTER, 40, (0, 1))])
FOUND = {
    "after_otsu": (30, 30, 30, 30),
    "after_all_labels_seed0": (80, 80, 80, 80),
    "after_hand_20_seed0": (40, 40, 40, 40),
    "after_distilled_20_seed0": (60, 60, 60, 60),
    "after_teacher_20_seed0": (90, 90, 90, 90),
    "after_hand_40_seed0": (50, 50, 50, 50),
    "after_hand_40_seed1": (54, 54, 54, 54),
    "after_distilled_40_seed0": (70, 74, 72, 72),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    _write(folder / "results", OMBRIA, FOUND)
    return report_page.write_report(folder / "results", folder / "out")


def test_labels_and_the_gap_that_distillation_closes(written):
    text = written.read_text()
    assert (
        "| ombria/after | 20 | Hand label student | 40.00 | 60.00 | +20.00 | 20.00 to 20.00 | 50 % | more than 2.0 |"
        in text
    )  # (60 - 40) / (80 - 40)
    assert (
        "| ombria/after | 40 | Hand label student | 52.00 | 72.00 | +20.00 | 18.50 to 21.50 | 71 % | more than 1.0 |"
        in text
    )  # (72 - 52) / (80 - 52)
    # Chips gain 18, 20, 20, 22: of 4 drawn, all 18 comes up in 1 / 256, three of 18 and one of 20 in 8 / 256.
    assert (written.parent / "report_label_efficiency.png").read_bytes().startswith(b"\x89PNG")


def test_scores_stand_with_deviation_over_seeds_and_interval_over_chips(written):
    text = written.read_text()
    assert "| Hand label student, 40 labels | 2 | **52.00 ± 2.83** | 52.00 to 52.00 |" in text  # |54 - 50| / sqrt 2
    assert "| Otsu | - | **30.00** | 30.00 to 30.00 |" in text
    assert "Flood IoU in percent on the test split" in text
    assert "4000 pixels of 4 test chips" in text
    assert "runs are not finished and left out" in text


def test_differences_are_between_rows_that_can_be_compared(written):
    text = written.read_text()
    assert "| Distilled student, 20 labels - Hand label student, 20 labels | +20.00 | 20.00 to 20.00 |" in text
    assert "Distilled student, 20 labels - Hand label student, 40 labels" not in text
    assert "| Hand label student, 20 labels - Otsu | +10.00 |" in text
    assert "| Distilled student, 40 labels - Student on all training labels | -8.00 |" in text


def test_events_have_rows_of_their_own(written):
    line = next(line for line in written.read_text().splitlines() if line.startswith("| a | 2 |"))
    assert "72.00 (70.00 to 74.00)" in line  # two chips


def test_dataset_without_labelled_rows_yet_has_no_panel(tmp_path):
    table = ombria_table.chosen([(contract.OMBRIA_AFTER, 20, (0,)), (contract.OMBRIA_BEFORE_AFTER, 20, (0,))])
    _write(tmp_path, table, {"after_hand_20_seed0": (40, 40, 40, 40), "before_after_otsu": (30, 30, 30, 30)})
    text = report_page.write_report(tmp_path, tmp_path / "out").read_text()
    assert "report_label_efficiency.png" in text
    assert "## Scores on ombria/before_after" in text


def test_no_result_and_foreign_results_are_named(tmp_path):
    _write(tmp_path, OMBRIA, {})
    with pytest.raises(UserError, match="no kept result in it"):
        report_page.write_report(tmp_path, tmp_path / "out")
    (tmp_path / "after_otsu.json").write_text("{}")
    with pytest.raises(UserError, match="after_otsu.json: is no kept result"):
        report_page.write_report(tmp_path, tmp_path / "out")


def test_kept_result_is_used_only_for_the_same_settings(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(dataclasses.asdict(_kept("run", (1, 2, 3, 4), "one"))))
    assert results.is_kept(tmp_path, "run", "one")
    assert not results.is_kept(tmp_path, "other", "one")
    with pytest.raises(UserError, match="of a run with other settings"):
        results.is_kept(tmp_path, "run", "two")


def test_rows_without_a_value_in_the_paper_have_none():
    pool = Method(table1.STUDENT_WEAK_POOL, [_kept("student_distill_weak_pool_seed0", (50, 50, 50, 50))])
    hand = Method(table1.HAND, [_kept("supervised_hand_seed0", (40, 40, 40, 40))])
    lines = tables.scores([hand, pool], "test").splitlines()
    assert lines[2].startswith("| Hand labeled supervised | 67.63 ± 0.45 | 1 | **40.00** |")
    assert "(ours) | - | 1 | **50.00** |" in lines[3]


def test_extremes_are_the_chips_that_distillation_changed_most():
    hand = Method(table1.HAND, [_kept("h", (50, 50, 50, 50))])
    distilled = Method(table1.STUDENT, [_kept("d0", (80, 50, 40, 50)), _kept("d1", (90, 52, 30, 50))])
    assert cases.extreme_chips([hand, distilled], "test", 1) == {"a_1": "best: +35.0", "b_1": "worst: -15.0"}
    assert cases.extreme_chips([hand], "test", 1) == {}
    random = cases.random_chips(hand.runs[0].chips("test"), 2)
    assert len(random) == 2
    assert random == cases.random_chips(hand.runs[0].chips("test")[::-1], 2)
    of_ombria = {rows.ALL_LABELS, rows.HAND_SMALL_CROPS}
    assert {row.role for row in table1.ALL_ROWS} == {rows.OTSU, *rows.TRAINING_ORDER} - of_ombria


def test_thresholds_stand_in_the_table_where_they_were_chosen():
    row = OMBRIA[0], next(row for row in OMBRIA if row.key == "after_hand_40")
    otsu = Method(row[0], [_kept("after_otsu", (30, 30, 30, 30))])
    runs = [_kept(f"after_hand_40_seed{seed}", (50, 50, 50, 50), threshold=0.3 + seed / 4) for seed in (0, 1)]
    lines = tables.scores([otsu, Method(row[1], runs)], "test").splitlines()
    assert lines[0].endswith("| Recall | Thresholds |")
    assert lines[2].endswith("| - |")
    assert lines[3].endswith("| 0.30, 0.55 |")
    assert "Thresholds" not in tables.scores([otsu], "test")


def test_labels_needed_are_read_off_the_curve():
    curve = [(20, 0.3), (40, 0.4), (80, 0.35), (160, 0.5)]
    assert tables.labels_needed(curve, 0.2) == 20
    assert tables.labels_needed(curve, 0.35) == pytest.approx(20 * 2**0.5)  # halfway, in the logarithm
    assert tables.labels_needed(curve, 0.4) == 40
    assert tables.labels_needed(curve, 0.45) == pytest.approx(80 * 2 ** (2 / 3))  # from 0.35 to 0.5
    assert tables.labels_needed(curve, 0.6) == float("inf")


@pytest.mark.parametrize(("work", "data_dir"), [("/a/o_work", "/a/o"), ("/a", "/a/data")])
def test_kept_commands_name_no_place(work, data_dir):
    command = f"--data_dir={data_dir} --model_dir={work}/models/one"
    assert results._without_places(command, Path(work), data_dir) == "--data_dir=R --model_dir=W/models/one"
