"""What all binaries share: flags for gin, one clear line for an error, exit codes."""

import os
import sys
import tokenize
from collections.abc import Callable, Sequence
from pathlib import Path

import gin
from absl import app, flags, logging

from flood_distill import object_store
from flood_distill.errors import UserError

# Before TensorFlow is imported: its start-up notices are not the user's business.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def define_gin_flags() -> None:
    """Defines ``--gin_file`` and ``--gin_param``, both repeatable."""
    flags.DEFINE_multi_string(
        "gin_file", [], "Gin file: a path, or the name of an installed one such as base.gin. Repeatable."
    )
    flags.DEFINE_multi_string(
        "gin_param", [], "Gin binding that overrides the files, such as train.num_steps=100. Repeatable."
    )


def find_gin_file(name: str) -> str:
    """Returns the path of a gin file given by path or by the name of an installed one.

    Raises:
        UserError: if there is no such file; lists the installed ones.
    """
    import gin_configs

    installed = Path(gin_configs.__file__).parent
    for candidate in (Path(name), installed / name):
        if candidate.is_file():
            return str(candidate)
    names = ", ".join(sorted(path.name for path in installed.glob("*.gin")))
    raise UserError(f"--gin_file={name}: no such file; give a path or one of {names}")


def parse_gin(gin_files: Sequence[str], gin_params: Sequence[str], skip_unknown: bool = False) -> None:
    """Parses gin files, then bindings that override them, into a cleared configuration.

    Bindings of `reproduce` are skipped by the commands that it starts.

    Args:
        gin_files: paths or names of installed files.
        gin_params: bindings.
        skip_unknown: skip bindings of everything that is not imported; the commands started later check them.

    Raises:
        UserError: for a file that is not there, an unknown name or a value that does not parse.
    """
    import gin_configs

    gin.clear_config()
    gin.add_config_file_search_path(str(Path(gin_configs.__file__).parent))
    paths = [find_gin_file(name) for name in gin_files]
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)  # gin reports an error for every folder that an include is not in
    try:
        gin.parse_config_files_and_bindings(paths, list(gin_params), skip_unknown=skip_unknown or ["reproduce"])
    except (ValueError, SyntaxError, OSError, tokenize.TokenError) as error:
        raise UserError(f"gin configuration: {' '.join(str(error).split())}") from error
    finally:
        logging.set_verbosity(verbosity)


def run(main: Callable[[list[str]], int | None], commands: Sequence[str] = ()) -> None:
    """Runs a binary's `main` under absl; a `UserError` becomes one line on stderr and exit code 1.

    The traceback is shown with ``--verbosity=1``.

    Args:
        main: gets the binary's name and, if it has commands, one of them.
        commands: words of which the binary takes exactly one, such as ``import``; none for most.
    """

    def guarded(argv: list[str]) -> int:
        if commands and (len(argv) == 1 or argv[1] not in commands):
            print(f"error: say what to do: one of {', '.join(commands)}; see --help", file=sys.stderr)
            return 1
        unexpected = argv[2 if commands else 1 :]
        if unexpected:
            print(f"error: unexpected argument {unexpected[0]!r}; see --help", file=sys.stderr)
            return 1
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # libraries report every shard and every saved file
        try:
            return main(argv) or 0
        except UserError as error:
            if logging.get_verbosity() >= logging.DEBUG:
                raise
            print(f"error: {_without_gin_notes(str(error))}", file=sys.stderr)
            return 1

    try:
        app.run(guarded)
    except BaseException as end:  # app.run always ends in SystemExit
        if object_store.loaded():
            object_store.leave(_exit_code(end))
        raise


def _exit_code(end: BaseException) -> int:
    """Returns the exit code with which Python would end; shows the traceback as it would."""
    if isinstance(end, SystemExit):
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.excepthook(type(end), end, end.__traceback__)
    return 1


def _without_gin_notes(message: str) -> str:
    """Drops the lines that gin appends to any exception that passes through a configurable."""
    return "\n".join(line for line in message.splitlines() if not line.startswith("  In call to configurable"))
