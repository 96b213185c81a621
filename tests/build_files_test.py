"""The BUILD files say what the sources say."""

import build_files
import pytest


def test_every_build_file_is_what_the_imports_make_it():
    stale = [
        str(path)
        for path, text in build_files.build_files().items()
        if not (build_files.ROOT / path).is_file() or (build_files.ROOT / path).read_text() != text
    ]
    assert not stale, f"run python tests/build_files.py; stale: {stale}"


def test_no_build_file_without_sources():
    known = set(build_files.build_files())
    found = {
        path.relative_to(build_files.ROOT)
        for package in build_files.PACKAGES
        for path in (build_files.ROOT / package).rglob("BUILD")
    }
    assert found <= known


@pytest.mark.parametrize(
    ("module", "label"),
    [
        ("flood_distill.contract.S1", "//flood_distill:contract"),
        ("flood_distill.models.deeplab", "//flood_distill/models:deeplab"),
        ("flood_distill", "//flood_distill:flood_distill"),
        ("gin", "@pip//gin_config"),
        ("matplotlib.pyplot", "@pip//matplotlib"),
        ("json", None),
    ],
)
def test_labels(module, label):
    assert build_files._label(build_files.ROOT / "tests" / "x.py", module) == label
