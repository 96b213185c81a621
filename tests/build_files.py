"""Derives every BUILD file from the imports of the sources: one target a file, deps equal to the imports.

python tests/build_files.py     # writes the BUILD files; tests/build_files_test.py checks them
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("flood_distill", "data_prep", "gin_configs", "tests", "benchmarks")
PIP_NAMES = {"absl": "absl_py", "ee": "earthengine_api", "gin": "gin_config", "skimage": "scikit_image"}
LOAD = 'load("@rules_python//python:defs.bzl", {rules})\n'
TOP = """# Bazel targets of the project's top level; those of the packages are in their folders.
# Made by tests/build_files.py.
exports_files([
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "setup.py",
])
"""


def build_files() -> dict[Path, str]:
    """Returns the text of every BUILD file by its path relative to the project's root."""
    folders = sorted({path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")})
    files = {folder.relative_to(ROOT) / "BUILD": _build_file(folder) for folder in folders}
    return {Path("BUILD"): TOP, **files}


def _build_file(folder: Path) -> str:
    targets = [_target(path) for path in sorted(folder.glob("*.py"), key=_order)]
    rules = ", ".join(f'"{rule}"' for rule in sorted({rule for rule, _ in targets}))
    visible_in = "//tests" if folder.is_relative_to(ROOT / "tests") else "//"
    visibility = f'package(default_visibility = ["{visible_in}:__subpackages__"])\n'
    return "\n".join([LOAD.format(rules=rules), visibility, *(text for _, text in targets)])


def _order(path: Path) -> tuple[str, bool]:
    """Sorts alphabetically, a test right after what it tests."""
    return path.stem.removesuffix("_test"), path.stem.endswith("_test")


def _target(path: Path) -> tuple[str, str]:
    rule = _rule(path)
    lines = [f'    name = "{_name(path)}",', f'    srcs = ["{path.name}"],']
    if rule == "py_test":
        lines.insert(1, f'    size = "{"large" if path.parent.name in ("slow", "long") else "small"}",')
    if path == ROOT / "gin_configs" / "__init__.py":
        lines.append('    data = glob(["*.gin"]),')
    deps = sorted(_deps(path))
    if deps:
        lines += ["    deps = [", *(f'        "{dep}",' for dep in deps), "    ],"]
    return rule, f"{rule}(\n" + "\n".join(lines) + "\n)\n"


def _rule(path: Path) -> str:
    if path.stem.endswith("_test"):
        return "py_test"
    return "py_binary" if '__name__ == "__main__"' in path.read_text() else "py_library"


def _name(path: Path) -> str:
    return path.parent.name if path.stem == "__init__" else path.stem


def _deps(path: Path) -> set[str]:
    deps = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            deps |= {_label(path, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            deps |= {_label(path, f"{node.module}.{alias.name}") for alias in node.names}
    return deps - {None}


def _label(importer: Path, module: str) -> str | None:
    """Label of the file that `module` (perhaps with a name in it at the end) lives in; None if it is no dependency."""
    parts = module.split(".")
    for base in (ROOT, importer.parent, ROOT / "tests"):  # pytest puts the folder of conftest.py on the path
        for end in range(len(parts), 0, -1):
            file = base.joinpath(*parts[:end])
            for candidate in (file.with_suffix(".py"), file / "__init__.py"):
                if candidate.is_file():
                    return _label_of_file(importer, candidate)
    if parts[0] in sys.stdlib_module_names:
        return None
    return f"@pip//{PIP_NAMES.get(parts[0], parts[0])}"


def _label_of_file(importer: Path, file: Path) -> str | None:
    if file == importer:
        return None
    if file.parent == importer.parent:
        return f":{_name(file)}"
    return f"//{file.parent.relative_to(ROOT).as_posix()}:{_name(file)}"


if __name__ == "__main__":
    for build_path, build_text in build_files().items():
        (ROOT / build_path).write_text(build_text)
