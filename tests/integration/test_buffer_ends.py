"""Requests whose corrections are more than a buffer holds, and more than the dealer makes ahead besides."""

import asyncio
from pathlib import Path

import pytest
from limits import LIMIT_S, PATIENT_S
from parties import SERVERS, Parties, change, deployed, some_tokens, tiny
from running import COMMANDS, Running, save

from mpcnet.launch.party.answer import Answer
from mpcnet.models.private.program import Plans, Size

pytestmark = pytest.mark.slow

MODEL = tiny(positions=128)
TOKENS = some_tokens([128] * 64)


def over(*buffers_mib: int) -> None:
    """The corrections are more than either server holds."""
    dealt = Plans(MODEL.config()).infer(Size(*TOKENS.ids.shape)).ledger.total().dealt_bytes
    assert all(size > buffer_mib << 20 for size, buffer_mib in zip(dealt, buffers_mib, strict=True))


async def right(asked: asyncio.Task[Answer]) -> None:
    async with asyncio.timeout(LIMIT_S):
        MODEL.check(TOKENS, (await asked).values)


async def test_processes_answer(tmp_path: Path) -> None:
    """server1 is full before its largest segment, and has another in its lane; server0 has room for all till then."""
    over(128, 128)
    save(MODEL.checkpoint, tmp_path / "model")
    with deployed(MODEL.config(), tmp_path / "deployment", timeout_s=PATIENT_S, buffer_mib=128) as made:
        running = Running(made, MODEL, tmp_path / "model")
        for role in COMMANDS:
            running.start(role)
        await right((await running.begun()).ask(TOKENS))


@pytest.mark.parametrize("ahead", [(), ("32x128",)], ids=["", "beside one dealt ahead"])
@pytest.mark.parametrize("buffers_mib", [(64, 1024), (1024, 64)], ids=str)
async def test_servers_with_other_limits(tmp_path: Path, buffers_mib: tuple[int, int], ahead: tuple[str, ...]) -> None:
    """Both begin where the smaller one is full."""
    with deployed(MODEL.config(), tmp_path / "deployment", timeout_s=PATIENT_S, ahead=ahead) as made:
        for role, buffer_mib in zip(SERVERS, buffers_mib, strict=True):
            change(made, role, buffer_mib=buffer_mib)
        parties = Parties(made, MODEL)
        parties.serve()
        await right(parties.ask(TOKENS))
        await parties.stop()
