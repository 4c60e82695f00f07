"""Commands by module: a command's file is imported only when it is called or its own help is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["COMMANDS", "LazyGroup"]

# Name -> (module, help line shown in the overview).
COMMANDS = {
    "build": ("build", "Build the cube of one site and commit it."),
    "plan": ("plan", "Say what a build would take: scenes, requests, bytes, memory."),
    "info": ("info", "Describe a cube."),
    "validate": ("validate", "Check a cube and name what is wrong."),
    "show": ("show", "Draw a cube's contact sheet."),
    "export": ("export", "Write a cube in the layout of a published dataset."),
    "import": ("import_", "Report the defects of a published minicube and describe it."),
    "demo": ("demo", "Build a cube of the simulated world, offline."),
    "batch": ("batch", "Build the cubes of many sites; resume, status, registry."),
    "sites": ("sites", "Check, split, sample and draw site tables."),
    "recipe": ("recipe", "Check recipes and print their schema."),
    "lock": ("lock", "Pin what a cube is to be made of."),
    "diff": ("diff", "Say what differs between two cubes."),
    "events": ("events", "Find, list and draw dry-hot extreme events."),
    "nbar": ("nbar", "Adjust a SAFE folder to nadir view."),
}


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and help line before any of them is imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module: Any = import_module(f"cubekit_cli.{COMMANDS[cmd_name][0]}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
