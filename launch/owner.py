"""The model owner: shares the weights between the servers, once, and leaves."""

from __future__ import annotations

import asyncio

import numpy as np

from launch import frames, sharing
from launch.node import Node, end
from launch.wire_names import READY, WEIGHTS
from models.parameters import encode, parameters
from models.weights import Checkpoint, fold
from mpcnet.errors import LocalConfigError
from mpcnet.mesh import Peer
from mpcnet.rounds import Part


async def main(node: Node, checkpoint: Checkpoint) -> int:
    """Encode a checkpoint's weights and hand their shares to both servers.

    :raises LocalConfigError: the model is not of the program's shape.
    :raises MpcError: a server is gone or refused.
    """
    if checkpoint.shape != node.config.shape:
        raise LocalConfigError(f"owner: the program is for {node.config.shape}, the model has {checkpoint.shape}")
    words = await asyncio.to_thread(lambda: encode(node.config, fold(checkpoint)))
    peers = await asyncio.gather(node.dial("server0"), node.dial("server1"))
    try:
        parts = sharing.weight_parts(parameters(node.config))
        shares = await asyncio.to_thread(sharing.split, [(part, words[part.label]) for part in parts], WEIGHTS)
        await asyncio.gather(*(_hand_over(peer, shares, party) for party, peer in enumerate(peers)))
    except BaseException as error:
        await end(peers, node.role, error)
        raise
    count = sum(word.numel() for word in words.values())
    node.say(f"shared {count / 1e6:.1f} M weights between server0 and server1")
    await asyncio.gather(*(peer.channel.close() for peer in peers))
    return 0


async def _hand_over(peer: Peer, shares: sharing.Split, party: int) -> None:
    """One frame a parameter, so that neither side holds all of them twice."""
    await frames.send(peer, WEIGHTS, [(sharing.SEED, np.frombuffer(shares.seeds[party], np.uint8))])
    for part, raw in shares.explicit[party]:
        await frames.send(peer, WEIGHTS, [(Part(part.bits, part.shape), raw)])
    await frames.receive(peer, READY, frames.exactly(peer, READY, ()))
