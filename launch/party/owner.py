"""The model owner: shares the weights between the servers, anew for each of their sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor

from mpcnet.aio.backoff import Backoff
from mpcnet.aio.tasks import together
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import ChannelError, LocalConfigError, RemoteError, RemoteProtocolError
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.control_frames import OTHERS, READY, WANT, WEIGHTS
from mpcnet.launch.party.expiry import tell_expiry
from mpcnet.launch.party.node import Node, end
from mpcnet.launch.party.service import unless
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.private.commitment import check_weights
from mpcnet.models.private.matching import mismatches, overflows
from mpcnet.models.private.parameters import encode, parameters
from mpcnet.models.private.prepare import other_softmax, with_activation
from mpcnet.rounds import Part
from mpcnet.runtime.record import digest
from mpcnet.transport.handshake import Peer
from mpcnet.transport.rendezvous import SERVERS


async def main(node: Node, checkpoint: Checkpoint, *, once: bool) -> int:
    """Serve a checkpoint's weights until asked to stop; with `once`, until the servers have them for one session.

    :raises LocalConfigError: the model does not fit the program: its shape, its texts, its weights, or their sizes.
    """
    if node.role != "owner":
        raise LocalConfigError(f"serve-model: want role owner, got {node.role}")
    _refuse(mismatches(node.config, checkpoint))
    if text := other_softmax(checkpoint, node.config):
        node.say(text, "warning")
    if (used := node.config.shape.activation) != checkpoint.shape.activation:
        node.say(f"these weights were trained with {checkpoint.shape.activation}, and are run with {used}", "warning")
    if text := check_weights(node.config, checkpoint.sha256, node.settings.folder):
        node.say(text, "warning")
    words = await asyncio.to_thread(_encoded, node, checkpoint)
    del checkpoint  # its ring words are all that is asked for from here on
    return await together(_serve(node, words, once), tell_expiry(node))


def _encoded(node: Node, checkpoint: Checkpoint) -> dict[str, Tensor]:
    folded = fold(with_activation(checkpoint, node.config.suite))
    _refuse(overflows(node.config, folded))
    return encode(node.config, folded)


def _refuse(reasons: Iterable[str]) -> None:
    if found := "; ".join(reasons):
        raise LocalConfigError(f"owner: this model does not fit the program: {found}; run mpcnet init again with it")


async def _serve(node: Node, words: Mapping[str, Tensor], once: bool) -> int:
    backoff = Backoff()
    while not node.stopping.is_set():
        try:
            shared = await unless(node.stopping, _connected(node, words, once))
            if shared:
                return 0
        except (ChannelError, RemoteError) as error:
            node.waiting("the servers", str(error))
        await unless(node.stopping, backoff.take())
    return 0


async def _connected(node: Node, words: Mapping[str, Tensor], once: bool) -> bool:
    """Share the weights whenever both servers want them for the same session; True if once was enough."""
    peers = await asyncio.gather(*(node.dial(name, float("inf")) for name in SERVERS))
    try:
        while True:
            await _share(node, peers, words)
            if once:
                await asyncio.gather(*(peer.channel.close() for peer in peers))
                return True
    except BaseException as error:
        await end(peers, node.role, error)
        raise


async def _share(node: Node, peers: list[Peer], words: Mapping[str, Tensor]) -> None:
    """One session's weights, as fresh shares.

    :raises MpcError: a server is gone, or they want different things.
    """
    session = await _agreed(node, peers)
    parts = sharing.weight_parts(parameters(node.config))
    shares = await asyncio.to_thread(sharing.split, [(part, words[part.label]) for part in parts], WEIGHTS)
    uploads = [_upload(shares, party) for party in range(len(peers))]
    digests = await asyncio.to_thread(lambda: [digest([raw for _, raw in upload]) for upload in uploads])
    handing = [_hand_over(*row, session) for row in zip(peers, uploads, reversed(digests), strict=True)]
    await asyncio.gather(*handing)
    count = sum(word.numel() for word in words.values())
    node.ready()
    node.say(f"shared {count / 1e6:.1f} M weights between server0 and server1", weights=count)


async def _agreed(node: Node, peers: list[Peer]) -> bytes:
    """The session for which both servers want the weights; one may be an old session's word, then another follows."""
    wanted = list(await asyncio.gather(*map(_wanted, peers)))
    while wanted[0] != wanted[1]:
        newer = [asyncio.ensure_future(_wanted(peer)) for peer in peers]
        try:
            await asyncio.wait(newer, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in newer:
                task.cancel()
            found = await asyncio.gather(*newer, return_exceptions=True)
        for party, word in enumerate(found):
            if isinstance(word, bytes):
                wanted[party] = word
            elif not isinstance(word, asyncio.CancelledError):
                raise word
    return wanted[0]


async def _wanted(peer: Peer) -> bytes:
    header = await frames.receive_bare(peer, WANT, patient=True)
    value = header.fields.get("id")
    if not isinstance(value, bytes) or len(value) != 16:
        raise RemoteProtocolError(f"{peer.name}: want the id of a session, got something else")
    return value


def _upload(shares: sharing.Split, party: int) -> list[tuple[Part, Bytes]]:
    """What a server gets: its seed, and its explicit shares."""
    return [(sharing.SEED, np.frombuffer(shares.seeds[party], np.uint8)), *shares.explicit[party]]


async def _hand_over(peer: Peer, upload: Sequence[tuple[Part, Bytes]], others: bytes, session: bytes) -> None:
    """One frame a parameter, so that neither side holds all of them twice.

    `others` is the digest of what the other server gets: that server's replica compares.
    """
    seed, *rest = upload
    await frames.send(peer, WEIGHTS, [seed], id=session, **{OTHERS: others})
    for part, raw in rest:
        await frames.send(peer, WEIGHTS, [(Part(part.bits, part.shape), raw)])
    await frames.receive_bare(peer, READY)
