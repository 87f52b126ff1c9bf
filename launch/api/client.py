"""The client without asyncio: the same calls, carried out by an event loop on a thread of its own."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, Unpack, overload

from mpcnet.errors import MpcError
from mpcnet.launch.api.aclient import AsyncClient
from mpcnet.launch.api.batches import Item
from mpcnet.launch.api.call import How, OnError
from mpcnet.launch.api.loop import LoopThread
from mpcnet.launch.api.questions import Questions
from mpcnet.launch.api.results import Classification, Usage, Vectors
from mpcnet.launch.api.sources import Source, elsewhere, here
from mpcnet.launch.party.answer import Answer
from mpcnet.models.families.config import AnswerKind, Embedding
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.tokens import Tokens


class Client(Questions):
    """Private inference. Make one with :func:`mpcnet.connect` or :func:`mpcnet.local`; close it, or use `with`.

    It is open when you have it. Any thread may use it, and several at once; a notebook too. Ctrl-C cancels a call, and
    the servers forget it.
    """

    _client: AsyncClient

    def __init__(
        self, source: Source, *, timeout: float | None = None, attempts: int = 1, audit: bool = True,
        progress: bool = True, on_thread: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Use :func:`mpcnet.connect` or :func:`mpcnet.local`. `on_thread` prepares the thread that connects."""
        self._client = AsyncClient(source, timeout=timeout, attempts=attempts, audit=audit, progress=progress)
        self._loop = LoopThread(on_thread)
        weakref.finalize(self, self._loop.stop)
        try:
            self._loop.call(self._client.open())
        except BaseException:
            self.close()
            raise

    @classmethod
    def connect(
        cls,
        path: str | Path,
        *,
        model: str | Path | None = None,
        timeout: float | None = None,
        attempts: int = 1,
        audit: bool = True,
        progress: bool = True,
    ) -> Self:
        """A client of a deployment that runs already: `path` is its `client/party.toml`.

        `model` names the owner's model if the program leaves the embedding table to clients. `timeout` is the longest
        that a call may take, in seconds, unless it says otherwise; None: as long as the servers show signs of life.
        `attempts`: ask a request so often, if a party is restarted in the midst. With `audit` the servers check that
        all values keep to the ranges which the program was planned for. `progress` shows what takes over two seconds,
        on a terminal or in a notebook.

        :raises LocalConfigError: a file of the folder is missing or damaged, or is another role's.
        :raises ChannelTimeout: a server cannot be reached within the `timeout_s` of party.toml.
        :raises RemoteMismatchError: the servers run another program.
        """
        return cls(elsewhere(path, model), timeout=timeout, attempts=attempts, audit=audit, progress=progress)

    @classmethod
    def local(
        cls,
        model: str | Path = "demo",
        *,
        suite: str = "fast",
        softmax: Softmax | None = None,
        embedding: Embedding = "private",
        net: str = "none",
        threads: int = 1,
        streams: int = 1,
        device: str = "cpu",
        calibration: str | Path | None = None,
        keep: str | Path | None = None,
        timeout: float | None = None,
        attempts: int = 1,
        audit: bool = True,
        progress: bool = True,
    ) -> Self:
        """A client with servers of its own: server0, server1, dealer and owner as processes of this machine, over TLS.

        `model` is a built-in name, a directory or a hub name, as for `mpcnet simulate`, whose options these are; those
        that :meth:`connect` has too mean the same. `keep` keeps keys, settings and logs in that new folder. The
        processes end with :meth:`close`, and with this process in any case.

        :raises LocalConfigError: there is no such model, suite, calibration, link or device.
        :raises PartyFailed: a process ended early; its own last line says why.
        """
        source = here(model, suite, softmax, embedding, net, threads, streams, device, calibration, keep)
        return cls(source, timeout=timeout, attempts=attempts, audit=audit, progress=progress)

    def __repr__(self) -> str:
        return repr(self._client).replace("AsyncClient", type(self).__name__, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Part from the servers; a local client's processes end. Closing again does nothing."""
        if self._loop.running:
            self._loop.call(self._client.close())
            self._loop.close()

    @property
    def last(self) -> Usage:
        """What the call cost that returned last."""
        return self._client.last

    @overload
    def embed(
        self, texts: Iterable[Item], *, dim: int = 0, on_error: Literal["raise"] = "raise", **how: Unpack[How]
    ) -> Vectors: ...  # fmt: skip

    @overload
    def embed(
        self, texts: Iterable[Item], *, dim: int = 0, on_error: Literal["return"], **how: Unpack[How]
    ) -> list[Vectors | MpcError]: ...  # fmt: skip

    def embed(
        self, texts: Iterable[Item], *, dim: int = 0, on_error: OnError = "raise", **how: Unpack[How]
    ) -> Vectors | list[Vectors | MpcError]:  # fmt: skip
        """Embeddings, float32 [n, dim], in the order of the texts; each a str, or a pair of them.

        A model of images takes images in their place: each a path, or an image of Pillow's.

        Requests are cut by length, at most `batch_size` texts each (32; 256 at most). With `on_error="raise"` a text
        that cannot be asked is refused before anything is sent; with "return" the result is a list that has an error
        in its place, and the vectors [dim] of the others. A text on which a value left its range has no answer, unless
        `accept_out_of_range`; then its place is in `last.out_of_range`. `timeout` (seconds) is of the whole call.
        `dim`: the first columns alone, of length 1 again where the model normalises; servers compute and send no more.

        :raises LocalInputError: a text cannot be asked, or the model is a classifier.
        :raises LocalRangeError: a value left its range.
        :raises ChannelTimeout: not all was answered in time.
        :raises MpcError: a server is gone or refused, or the client is closed.
        """
        return self._loop.call(self._client.embed(texts, dim=dim, on_error=on_error, **how))

    @overload
    def classify(
        self, texts: Iterable[Item], *, on_error: Literal["raise"] = "raise", **how: Unpack[How]
    ) -> list[Classification]: ...  # fmt: skip

    @overload
    def classify(
        self, texts: Iterable[Item], *, on_error: Literal["return"], **how: Unpack[How]
    ) -> list[Classification | MpcError]: ...  # fmt: skip

    def classify(
        self, texts: Iterable[Item], *, on_error: OnError = "raise", **how: Unpack[How]
    ) -> list[Classification] | list[Classification | MpcError]:  # fmt: skip
        """A classifier's answers in the order of the texts, or of images. Arguments as of `embed`.

        What is accepted out of range is marked: `out_of_range`.

        :raises LocalInputError: a text cannot be asked, or the model is none of classes.
        :raises MpcError: as `embed`.
        """
        return self._loop.call(self._client.classify(texts, on_error=on_error, **how))

    @overload
    def labels(
        self, texts: Iterable[Item], *, on_error: Literal["raise"] = "raise", **how: Unpack[How]
    ) -> list[str]: ...  # fmt: skip

    @overload
    def labels(
        self, texts: Iterable[Item], *, on_error: Literal["return"], **how: Unpack[How]
    ) -> list[str | MpcError]: ...  # fmt: skip

    def labels(
        self, texts: Iterable[Item], *, on_error: OnError = "raise", **how: Unpack[How]
    ) -> list[str] | list[str | MpcError]:  # fmt: skip
        """The likeliest label and nothing more: not even this client learns a logit. Arguments as of `embed`.

        :raises LocalInputError: a text cannot be asked, or the model has no labels to choose one from.
        :raises MpcError: as `embed`.
        """
        return self._loop.call(self._client.labels(texts, on_error=on_error, **how))

    def ask_tokens(self, tokens: Tokens, answer: AnswerKind = "logits", audit: bool = True, extent: int = 0) -> Answer:
        """See :meth:`mpcnet.launch.api.aclient.AsyncClient.ask_tokens`."""
        return self._loop.call(self._client.ask_tokens(tokens, answer, audit, extent))
