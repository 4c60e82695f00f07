"""What can go wrong, as types: each says what, shows the value, names the remedy and knows its exit code."""

from __future__ import annotations

from typing import Any, ClassVar

from cubekit.redact import redact

__all__ = [
    "AccessDeniedError",
    "CatalogError",
    "CommitError",
    "CubekitError",
    "CubekitWarning",
    "HolesError",
    "InputError",
    "NothingFoundError",
    "ReadError",
    "RecipeError",
    "ScienceWarning",
    "TargetExistsError",
    "UpstreamChangedError",
]


class CubekitError(Exception):
    """Base of all errors that cubekit raises on purpose.

    Parameters
    ----------
    message
        What was wrong, with the offending value in it.
    remedy
        What the user can do about it; printed after the message.
    **context
        Where it happened (``item_id``, ``band``, ``href``, ``path``, ...); kept in ``context``, free of secrets.

    Attributes
    ----------
    exit_code : int
        Exit status of the command line: 1 internal, 2 usage, 3 a site failed, 4 nothing found, 5 access denied.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "", **context: Any) -> None:
        self.message = redact(message)
        self.remedy = redact(remedy)
        self.context = {key: redact(value) if isinstance(value, str) else value for key, value in context.items()}
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.remedy, self.context)


def _rebuild(cls: type[CubekitError], message: str, remedy: str, context: dict[str, Any]) -> CubekitError:
    return cls(message, remedy=remedy, **context)


class InputError(CubekitError, ValueError):
    """An argument, file or option that cannot be meant as given; raised before any I/O where possible."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe that does not fit the schema; ``context`` has ``path`` (file) and ``key`` (dotted key path)."""


class CatalogError(CubekitError):
    """A catalogue that does not answer, or answers what is no STAC."""

    exit_code = 3


class NothingFoundError(CubekitError, LookupError):
    """A valid question with an empty answer."""

    exit_code = 4


class AccessDeniedError(CubekitError, PermissionError):
    """A catalogue or store that refuses the credentials in use, or wants some."""

    exit_code = 5


class ReadError(CubekitError, OSError):
    """Pixels or metadata that could not be read; ``context`` has ``href`` and, where known, ``item_id`` and ``band``."""

    exit_code = 3


class UpstreamChangedError(ReadError):
    """A file or item that is not what a lock says it was."""


class HolesError(ReadError):
    """More assets missing, denied or corrupt than ``max_holes`` allows."""


class CommitError(CubekitError, OSError):
    """A store that exists already, is being written by another process, or cannot be committed."""

    exit_code = 3


class TargetExistsError(CommitError, InputError):
    """A store that is there already, where none may be replaced."""

    exit_code = 2


class CubekitWarning(UserWarning):
    """Base of all warnings of cubekit."""


class ScienceWarning(CubekitWarning):
    """The result is made as asked, but an assumption of its method does not hold."""
