"""Words that begin with a dash: texts where they cannot be options, and options that nobody has are refused."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from mpcnet.launch.dashes import TextCommand

app = typer.Typer()


@app.command("say", cls=TextCommand)
def say(
    texts: Annotated[list[str] | None, typer.Argument()] = None,
    loud: Annotated[bool, typer.Option("--loud")] = False,
    file: str = "",
) -> None:
    print(texts, loud, file)


@app.command("other")
def other() -> None: ...


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (["-5 degrees", "warm"], "['-5 degrees', 'warm'] False "),
        (["-5"], "['-5'] False "),
        (["- a point", "--loud", "--file", "-"], "['- a point'] True -"),
        (["-> see --loud"], "['-> see --loud'] False "),
        (["---"], "['---'] False "),
        (["--", "--loud", "-x"], "['--loud', '-x'] False "),
        (["a", "--file=b c", "--", "-5"], "['a', '-5'] False b c"),
    ],
)
def test_texts(line: list[str], shown: str) -> None:
    done = CliRunner().invoke(app, ["say", *line], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, f"{shown}\n")


@pytest.mark.parametrize("word", ["--laud", "-loud", "--fil=x", "-x", "--file x", "--loud please"])
def test_mistyped_options(word: str) -> None:
    done = CliRunner().invoke(app, ["say", word, "text"], env={"COLUMNS": "400", "TERM": "dumb"})
    assert done.exit_code == 2 and f"no such option: {word.partition('=')[0]}" in done.output
    assert "stands behind --, or in a file, with --file" in done.output
