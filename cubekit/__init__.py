"""cubekit: from two coordinates to an analysis-ready Earth System Data Cube."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cubekit._create import create
    from cubekit.api import build, plan
    from cubekit.cube import validate
    from cubekit.store import open_cube as open

__all__ = ["__version__", "build", "create", "open", "plan", "validate"]

__version__ = "0.1.0"

# Where the public names live; loaded when first used, so that `import cubekit` takes milliseconds.
# None may be that of a module here: importing the module would put it in the place of the function.
_LAZY = {
    "build": ("cubekit.api", "build"),
    "create": ("cubekit._create", "create"),
    "open": ("cubekit.store", "open_cube"),
    "plan": ("cubekit.api", "plan"),
    "validate": ("cubekit.cube", "validate"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'cubekit' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
