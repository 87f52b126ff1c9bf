"""A server's shares of answers as they leave, and their tags."""

from dataclasses import replace

import pytest
import torch
from parties import SHAPE

from mpcnet.errors import RemoteProtocolError
from mpcnet.launch.party import outputs
from mpcnet.models.private.inference import Response
from mpcnet.models.private.program import Size
from mpcnet.protocols.share import Bits, Shared

SEED = bytes(range(32))


def result(values: torch.Tensor) -> Response:
    return Response(Shared(values, 64, 16, 0), Bits.of(torch.ones(len(values), 40, dtype=torch.uint8), 0))


def test_rows_go_to_the_requests_in_order_and_spare_ones_to_nobody() -> None:
    first, second = torch.arange(6).reshape(2, 3), torch.arange(6, 12).reshape(2, 3)
    cut = outputs.responses(SHAPE, [result(first), result(second)], [Size(1, 5), Size(2, 4)])
    assert [response.values.value.tolist() for response in cut] == [[[0, 1, 2]], [[3, 4, 5], [6, 7, 8]]]
    assert [response.out_of_range.shape for response in cut if response.out_of_range] == [(1, 40), (2, 40)]


def test_of_answers_for_tokens_a_request_gets_its_own() -> None:
    shape = replace(SHAPE, head="token-classification", pooling="none", labels=3)
    assert shape.tells_tokens
    values = torch.arange(2 * 4 * 3).reshape(2, 4, 3)
    long, short = outputs.responses(shape, [result(values)], [Size(1, 4), Size(1, 2)])
    assert long.values.value.equal(values[:1]) and short.values.value.equal(values[1:, :2])
    assert short.values.value.is_contiguous()


def test_a_tag_is_of_one_share_under_one_seed() -> None:
    response = result(torch.arange(6).reshape(2, 3))
    pieces = [raw for _, raw in outputs.arrays(response)]
    good = outputs.tag(SEED, pieces)
    outputs.check_tag("server0", SEED, pieces, good)
    outputs.check_tag("server0", SEED, pieces, b"")  # no replica looks at it
    other = [raw.copy() for raw in pieces]
    for index in range(len(other)):
        other[index][-1] ^= 1
        with pytest.raises(
            RemoteProtocolError, match="server0: want the share of the answer that its replica computed"
        ):
            outputs.check_tag("server0", SEED, other, good)
        other[index][-1] ^= 1
    with pytest.raises(RemoteProtocolError, match="do not trust this server"):
        outputs.check_tag("server0", bytes(32), pieces, good)
