"""Which answers clients may ask for is the owner's choice, and the servers hold to it."""

from pathlib import Path

import pytest
from parties import LABELS, SERVERS, Parties, change, some_tokens, tiny
from uploads import announce, turned_away

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.private import program
from mpcnet.models.private.program import allowing

TOKENS = some_tokens([5, 3])
label_only = pytest.mark.parametrize("parties", [{"labels": LABELS, "answers": ["label"]}], indirect=True)


@label_only
async def test_client_says_so_before_it_dials(parties: Parties) -> None:
    with pytest.raises(
        LocalInputError, match=r"answer: want label of a classifier .*, whose owner allows no other, got 'l"
    ):
        await parties.ask(TOKENS)


@label_only
async def test_labels_are_answered_and_dealt_ahead(parties: Parties) -> None:
    change(parties.made, "server0", ahead=("1x8",))
    parties.serve()
    answer = await parties.ask(TOKENS, kind="label")
    assert answer.values.sum(1).tolist() == [1.0, 1.0]
    await parties.has_said("server0", "buffered: 1")
    await parties.stop()
    assert parties.lost() == []


@label_only
async def test_servers_refuse_at_the_header(parties: Parties) -> None:
    """A client that asks all the same sends a header, and is turned away before it has sent a share."""
    parties.serve()
    for role in SERVERS:
        peer = await parties.node("client").dial(role)
        await announce(peer, answer="logits")
        assert "client, answer: want label of a classifier" in await turned_away(peer)
    assert (await parties.ask(TOKENS, kind="label")).values.shape == (2, LABELS)
    await parties.stop()


@label_only
async def test_both_ends_agree_on_what_is_allowed(parties: Parties) -> None:
    parties.serve()
    path = parties.made.config("client").parent / "program.json"
    program.save(allowing(program.read(path), ["logits"]), path)
    why = await parties.refused(parties.ask(TOKENS))
    assert "answers: ours logits, theirs label" in why


def test_answers_of_a_program(tmp_path: Path) -> None:
    config, path = tiny(LABELS).config(), tmp_path / "program.json"
    program.save(allowing(config, ["label"]), path)
    assert program.read(path).answers == ("label",) and program.answers(program.read(path)) == ("label",)
    for model, wanted in ((tiny(), "label"), (tiny(LABELS), "secrets")):
        with pytest.raises(LocalConfigError, match="answers: want logits"):
            allowing(model.config(), [wanted])
    text = path.read_text()
    for given in ("[]", '["logits", "weights"]', '["label", "logits"]', '"label"', "null"):
        path.write_text(text.replace('[\n  "label"\n ]', given))
        with pytest.raises(LocalConfigError, match="answers: want "):
            program.read(path)
