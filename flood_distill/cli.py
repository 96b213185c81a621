"""What all binaries share: flags for gin, one clear line for an error, exit codes."""

import errno
import os
import sys
import tokenize
from collections.abc import Callable, Sequence
from pathlib import Path

import gin
from absl import app, flags, logging

from flood_distill import exit_codes, object_store
from flood_distill.errors import UserError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Before TensorFlow is imported: its start-up notices are not the user's business.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Before TensorFlow is imported: it leaves oneDNN off on processors without AVX512-VNNI, where it gains too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


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

    Bindings of `reproduce` and `sweep` are skipped by the commands that these start.

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
        gin.parse_config_files_and_bindings(
            paths, list(gin_params), skip_unknown=skip_unknown or ["reproduce", "sweep"]
        )
    except (ValueError, SyntaxError, OSError, tokenize.TokenError) as error:
        raise UserError(f"gin configuration: {' '.join(str(error).split())}") from error
    finally:
        logging.set_verbosity(verbosity)


def run(main: Callable[[list[str]], int | None], commands: Sequence[str] = (), takes_arguments: bool = False) -> None:
    """Runs a binary's `main` under absl; a `UserError` or a full disk becomes one line on stderr and exit code 1.

    The traceback is shown with ``--verbosity=1``. Any other error shows its traceback and ends with another code.

    Args:
        main: gets the binary's name and, if it has commands, one of them.
        commands: words of which the binary takes exactly one, such as ``import``; none for most.
        takes_arguments: `main` gets whatever follows the flags.
    """

    def guarded(argv: list[str]) -> int:
        if commands and (len(argv) == 1 or argv[1] not in commands):
            print(f"error: say what to do: one of {', '.join(commands)}; see --help", file=sys.stderr)
            return exit_codes.USER_ERROR
        unexpected = argv[2 if commands else 1 :]
        if unexpected and not takes_arguments:
            print(f"error: unexpected argument {unexpected[0]!r}; see --help", file=sys.stderr)
            return exit_codes.USER_ERROR
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # libraries report every shard and every saved file
        try:
            return main(argv) or exit_codes.DONE
        except (UserError, OSError) as error:
            if logging.get_verbosity() >= logging.DEBUG or not _mendable(error):
                raise
            print(f"error: {_without_gin_notes(str(error))}", file=sys.stderr)
            return exit_codes.USER_ERROR

    try:
        app.run(guarded)
    except BaseException as end:  # app.run always ends in SystemExit
        if not object_store.loaded() and not isinstance(end, Exception):
            raise
        code = _exit_code(end)
        if object_store.loaded():
            object_store.leave(code)
        sys.exit(code)


def _mendable(error: Exception) -> bool:
    return isinstance(error, UserError) or error.errno in _DISK_FULL


def _exit_code(end: BaseException) -> int:
    """Returns the exit code; shows the traceback as Python would."""
    if isinstance(end, SystemExit):
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.excepthook(type(end), end, end.__traceback__)
    return exit_codes.USER_ERROR if isinstance(end, UserError) else exit_codes.CRASH


def _without_gin_notes(message: str) -> str:
    """Drops the lines that gin appends to any exception that passes through a configurable."""
    return "\n".join(line for line in message.splitlines() if not line.startswith("  In call to configurable"))
