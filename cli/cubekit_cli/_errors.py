"""Errors become one message and an exit code."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from cubekit.errors import CubekitError
from cubekit.redact import redact

if TYPE_CHECKING:
    import typer

__all__ = ["run"]

INTERRUPTED = 130


def run(app: typer.Typer, arguments: list[str] | None = None) -> int:
    """Run `app` and return the exit code; errors of cubekit are printed as one message, without a traceback."""
    warnings.showwarning = _show_warning
    try:
        app(arguments, standalone_mode=True)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer turns the KeyboardInterrupt into this, silently
            sys.stderr.write("Interrupted: nothing half-written was kept\n")
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except CubekitError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError as error:
        sys.stderr.write(
            f"Error: not enough memory ({redact(str(error))[:200] or 'no details'}). Make the cube smaller; nothing was committed\n"
        )
        return 3
    except Exception as error:  # noqa: BLE001 - the last line before the shell
        return _internal(error)
    return 0


def _internal(error: BaseException) -> int:
    import traceback

    if os.environ.get("CUBEKIT_DEBUG"):
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    sys.stderr.write(redact(f"Internal error: {type(error).__name__}: {str(error)[:500]}\n"))
    sys.stderr.write("Set CUBEKIT_DEBUG=1 for the traceback and report it with the command you ran\n")
    return 1


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if category.__module__.startswith("cubekit"):
        sys.stderr.write(redact(f"Warning: {message}\n"))
