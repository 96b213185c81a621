"""Who may import whom, and what a package's `__init__` may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"tensorflow", "keras", "tensorflow_datasets", "matplotlib", "rasterio", "skimage", "scipy", "gin"}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _sources(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py") if not path.stem.endswith("_test"))


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        (
            "flood_distill/models",
            {"keras", "numpy", "flood_distill.models", "flood_distill.contract", "flood_distill.sizes"},
        ),
        ("flood_distill/losses", {"keras", "flood_distill.losses", "flood_distill.contract"}),
        ("flood_distill/metrics", {"keras", "flood_distill.metrics", "flood_distill.contract"}),
        (
            "flood_distill/geo",
            {"numpy", "rasterio", "shapely", "flood_distill.geo", "flood_distill.contract", "flood_distill.errors"},
        ),
    ],
)
def test_room_imports_only_what_it_may(folder, allowed):
    for path in _sources(folder):
        for name in _imports(path):
            parts = name.split(".")
            known = parts[0] in sys.stdlib_module_names or any(
                ".".join(parts[:end]) in allowed for end in range(1, len(parts) + 1)
            )
            assert known, f"{path.relative_to(ROOT)} imports {name}"


def test_nothing_imports_upwards():
    """Training does not know evaluation, nothing but the job of `reproduce` and the benchmarks knows data_prep."""
    for path in _sources("flood_distill"):
        if path.name == "job.py":
            continue
        assert not [name for name in _imports(path) if name.startswith("data_prep")], path
    outputs = ("evaluation", "export_model", "scenes", "predictor", "report", "report_page", "reproduce", "job")
    for path in _sources("flood_distill/training"):
        upwards = [
            name for name in _imports(path) if name.startswith("flood_distill.") and name.split(".")[1] in outputs
        ]
        assert not upwards, path


def test_init_files_import_nothing_heavy():
    for package in ("flood_distill", "data_prep", "gin_configs"):
        for path in (ROOT / package).rglob("__init__.py"):
            assert not {name.split(".")[0] for name in _imports(path)} & HEAVY, path


@pytest.mark.parametrize("module", ["flood_distill.contract", "flood_distill.sizes", "flood_distill.geo.windows"])
def test_pure_logic_loads_no_tensorflow(module):
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
