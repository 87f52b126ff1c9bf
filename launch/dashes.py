"""Commands whose arguments are texts, which may begin with a dash: "-5 degrees", "- a point of a list"."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand

OPTION = re.compile(r"--?[A-Za-z][A-Za-z0-9_-]*(=.*)?", re.DOTALL)  # what somebody may have meant as one


class TextCommand(TyperCommand):
    """Takes a word that begins with a dash as a text where it cannot be an option, mistyped or not.

    What looks like one and is none is refused as ever: behind --, and in a file, everything is a text.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings["context_settings"] = (settings.get("context_settings") or {}) | {"ignore_unknown_options": True}
        super().__init__(*arguments, **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """:raises typer.BadParameter: a word looks like an option, and there is none of that name."""
        known = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        known |= set(self.get_help_option_names(ctx))
        for word in args[: args.index("--")] if "--" in args else args:
            name = word.partition("=")[0]
            begin = next(iter(word.split()), "")
            if (OPTION.fullmatch(word) and name not in known) or (begin in known and begin != word):
                raise typer.BadParameter(
                    f"no such option: {name} (a text that begins with - stands behind --, or in a file, with --file)",
                    ctx=ctx,
                )
        return super().parse_args(ctx, args)
