"""Model clients: OpenAI, Azure OpenAI and Anthropic, guarded where they send.

Every request of these clients leaves through one method of their HTTP client, ``send``:
create, parse, streams, raw and streaming responses, and each attempt of a retry. A
wrapped client has an HTTP client whose ``send`` takes the request to Guardbook's
gateway, which judges it, sends it on to the provider, and judges the answer. No
provider's format is read here.

The clients' HTTP library is httpx or httpx2, by version; whichever it is, it is used
through what both have in common, and never imported by us first.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import scope
from .decision import read_decision
from .errors import GuardBlocked, GuardError, GuardUnavailable
from .wire import Target, Unreachable

if TYPE_CHECKING:
    from .guard import Guard

__all__ = ["TOOL_CALLS", "asks_about_calls", "is_model_client", "wrap_model_client"]

#: The header by which a request says who asks about the tool calls of its answer: ``asked``,
#: the client, before it runs each; ``withheld``, nobody, whatever the client was told.
TOOL_CALLS = "X-Guardbook-Tool-Calls"

#: Classes by name, and the gateway's path for their protocol.
_PROTOCOLS = {
    "OpenAI": "openai",
    "AsyncOpenAI": "openai",
    "AzureOpenAI": "azure",
    "AsyncAzureOpenAI": "azure",
    "Anthropic": "anthropic",
    "AsyncAnthropic": "anthropic",
}
#: Subclasses of those that do not speak their protocol to a base URL.
_OTHERS = ("Bedrock", "Vertex", "Foundry", "AWS", "GoogleCloud")

#: Members of a request that give the model tools, or that may.
_OFFERS_TOOLS = ("tools", "functions", "mcp_servers", "prompt", "assistant_id")

_COMMENT = b": guardbook "
_ERROR_LIMIT = 4 << 20


def protocol_of(client: object) -> str | None:
    """The gateway's path for a client's protocol; None when it is no such client."""
    for cls in type(client).__mro__:
        root = cls.__module__.partition(".")[0]
        if root not in ("openai", "anthropic"):
            continue
        if any(other in cls.__name__ for other in _OTHERS):
            return None
        if cls.__name__ in _PROTOCOLS:
            return _PROTOCOLS[cls.__name__]
    return None


def is_model_client(client: object) -> bool:
    """Whether ``wrap_model_client`` takes it."""
    return protocol_of(client) is not None


def wrap_model_client(guard: Guard, client: Any, tool_calls: str | None = None) -> Any:
    """A client of the same type, whose requests are guarded. The one that was given
    stays as it is; both share its connections to the provider.

    ``tool_calls="asked"``: whoever runs the tools asks about each call, so those in
    answers are recorded and not withheld.
    """
    if tool_calls not in (None, "asked"):
        raise ValueError(f'tool_calls must be "asked", or left out, not {tool_calls!r}')
    protocol = protocol_of(client)
    if protocol is None:
        raise TypeError(f"{type(client).__name__} is no client of OpenAI or Anthropic")
    if getattr(client, "_provider_runtime", None) is not None:
        raise GuardError(
            "this OpenAI client talks to another provider's cloud (provider=...), which Guardbook does not read yet"
        )
    inner = client._client
    if isinstance(inner, _Guarded):
        inner = inner._guardbook.inner  # guarded by this guard, then, and once
    http = _guarded(inner, _Gate(guard, inner, protocol, str(client.base_url), asked=tool_calls is not None))
    if protocol == "anthropic":
        return client.copy(http_client=http)
    # The one thing that such a client does not send through its HTTP client.
    return (
        client.copy(http_client=http, websocket_base_url=_NoWebSocket())
        if hasattr(client, "websocket_base_url")
        else client.copy(http_client=http)
    )


def asks_about_calls(client: object) -> bool:
    """Whether a client was wrapped with ``tool_calls="asked"``."""
    http = getattr(client, "_client", None)
    return isinstance(http, _Guarded) and http._guardbook.asked


class _NoWebSocket(str):
    """The address for WebSockets of a guarded client: whoever reads it gets an error.

    All of the client's WebSocket connections (Realtime, Responses, Live) are made to
    this address, and copies of the client keep it.
    """

    def __new__(cls) -> _NoWebSocket:
        # An address that cannot be connected to, should it be used unread.
        return super().__new__(cls, "guardbook-refuses-websockets:")

    def _refuse(self) -> GuardError:
        return GuardError(
            "Guardbook does not read WebSocket connections (Realtime, Responses over WebSocket), so a guarded client "
            "opens none. Use the API over HTTP, or an unguarded client if policy allows that."
        )

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        raise self._refuse()

    def __str__(self) -> str:
        raise self._refuse()

    def encode(self, *_: Any, **__: Any) -> bytes:
        raise self._refuse()


class _Gate:
    """How requests of one wrapped client go to the gateway."""

    def __init__(self, guard: Guard, inner: Any, protocol: str, base_url: str, asked: bool = False) -> None:
        self.guard = guard
        #: Whether tool calls are asked about before they run.
        self.asked = asked
        self.inner = inner
        self.protocol = protocol
        self._base = base_url.rstrip("/")
        self.family = importlib.import_module(_family(inner))
        self._client: Any = None
        self._owner: tuple[int, Target] | None = None
        self._by_loop: weakref.WeakKeyDictionary[Any, tuple[Target, Any]] = weakref.WeakKeyDictionary()

    # The connections to the gateway are not the user's: those may go through a proxy,
    # which must not see what goes to this machine.

    def client(self, target: Target) -> Any:
        """The HTTP client for the gateway, for threads."""
        owner = (os.getpid(), target)
        if self._owner != owner:  # also in a forked child
            self._client, self._owner = self._make("Client", target), owner
        return self._client

    def aclient(self, target: Target) -> Any:
        """The HTTP client for the gateway, for the running event loop: connections
        belong to the loop that made them."""
        try:
            loop: Any = asyncio.get_running_loop()
        except RuntimeError:  # trio
            loop = self
        had = self._by_loop.get(loop)
        if had is None or had[0] != target:
            had = self._by_loop[loop] = (target, self._make("AsyncClient", target))
        return had[1]

    def _make(self, name: str, target: Target) -> Any:
        inner = self.inner
        return getattr(self.family, name)(
            trust_env=not target.loopback,
            verify=target.secure,
            limits=self.family.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=30),
            event_hooks=inner.event_hooks,
            auth=inner.auth,
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    async def aclose(self) -> None:
        try:
            had = self._by_loop.get(asyncio.get_running_loop())
        except RuntimeError:
            had = self._by_loop.get(self)
        if had is not None:
            await had[1].aclose()

    def raising(self, request: Any, error: Exception) -> Any:
        """An answer that raises the error where the SDK looks at it: raised from here it
        would be taken for a failed connection, and tried again."""
        response = self.family.Response(503, headers={"x-should-retry": "false"}, content=b"", request=request)
        return _raising(response, error)

    def route(self, url: str) -> tuple[str, str]:
        """The path at the gateway, and the upstream it stands for.

        The upstream is the API's address without ``/v1``; one that ends in a slash
        stands in the place of ``/v1``.
        """
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        path = parts.path
        query = f"?{parts.query}" if parts.query else ""
        if self.protocol == "azure":
            before, found, after = path.partition("/openai/")
            if found:
                return f"/azure/openai/{after}{query}", origin + before
        base = urlsplit(self._base)
        if url.startswith(self._base + "/") and self.protocol == "openai":
            after = path[len(base.path) :]
            if base.path.endswith("/v1"):
                return f"/openai/v1{after}{query}", origin + base.path[: -len("/v1")]
            return f"/openai/v1{after}{query}", f"{origin}{base.path}/"
        before, found, after = path.partition("/v1/")
        if found and self.protocol != "azure":
            return f"/{self.protocol}/v1/{after}{query}", origin + before
        raise GuardError(
            f"a request to {origin}{path} is none of the API that Guardbook reads here ({self.protocol}), so it is "
            "not sent. Wrap a client of its own for another base URL."
        )


class _Trip:
    """One request on its way: what it becomes, and what becomes of its answer."""

    def __init__(self, gate: _Gate, request: Any) -> None:
        self.gate = gate
        self.guard = gate.guard
        self.request = request
        self.path, self.upstream = gate.route(str(request.url))
        self.closed = not self.guard.fails_open("tool_call" if _offers_tools(request) else "input")
        session = request.headers.get("X-Guardbook-Session")
        self.row: dict[str, Any] = {
            "via": f"python/{gate.protocol}",
            "session": self.guard.session_id(session),
            "client_seq": self.guard._next_number(),
        }

    def rewritten(self, target: Target) -> Any:
        """The request as it goes to the gateway."""
        request, guard, here = self.request, self.guard, scope.current()
        own = {
            "x-guardbook-key": target.key,
            "x-guardbook-client": guard.client_id,
            "x-guardbook-client-seq": str(self.row["client_seq"]),
            "x-guardbook-upstream": self.upstream,
            "x-guardbook-block": guard.settings.block,
            "x-guardbook-session": self.row["session"],
            # What is watched for the guard's word must not be compressed.
            "accept-encoding": "identity",
            "host": urlsplit(target.url).netloc,
        }
        for name, value in (("x-guardbook-user", here.user), ("x-guardbook-parent", here.parent)):
            if value and name not in request.headers:
                own[name] = value
        calls = request.headers.get(TOOL_CALLS, "asked" if self.gate.asked else "withheld")
        not_theirs = {*own, TOOL_CALLS.lower()}
        if calls != "withheld":
            own[TOOL_CALLS] = calls
        headers = [(k, v) for k, v in request.headers.raw if k.lower().decode("latin-1") not in not_theirs]
        headers += [(k.encode(), v.encode("utf-8")) for k, v in own.items()]
        extensions = dict(request.extensions)
        timeout = dict(extensions.get("timeout") or {})
        connect = timeout.get("connect")
        budget = guard.settings.budget
        timeout["connect"] = budget if connect is None else min(connect, budget)
        extensions["timeout"] = timeout
        return self.gate.family.Request(
            request.method, target.url + self.path, headers=headers, stream=request.stream, extensions=extensions
        )

    def unreachable(self, err: BaseException) -> str | None:
        """Why the gateway was not reached; None when it was, and failed later."""
        family = self.gate.family
        if isinstance(err, Unreachable):
            return err.reason
        if isinstance(err, family.ConnectTimeout):
            return "no connection in time"
        if isinstance(err, family.ConnectError):
            return "connection refused" if "refused" in str(err) or "attempts failed" in str(err) else "no connection"
        return None

    def without(self, reason: str) -> bool:
        """Records that the gateway could not be asked; says whether the request goes
        straight to the provider."""
        self.guard._failed(reason)
        self.guard._tell("refused" if self.closed else "unguarded", [self.row], reason)
        for name in [n for n in self.request.headers if n.lower().startswith("x-guardbook-")]:
            del self.request.headers[name]  # which were for us
        return not self.closed

    def cannot(self, err: GuardError) -> None:
        """Records that the guard is not set up, so that nothing was sent."""
        self.guard._tell("refused", [self.row], str(err)[:200])

    def given_up(self, err: BaseException) -> None:
        """Records that no answer was had to what may have been sent."""
        self.guard._tell("unanswered", [self.row], f"given up: {type(err).__name__}")

    def refusal(self, reason: str) -> Any:
        """An answer that raises GuardUnavailable where the SDK looks at it."""
        what = "request to a model that offers it tools" if _offers_tools(self.request) else "request to a model"
        error = GuardUnavailable(
            f"Guardbook could not be reached ({reason}), and this {what} may not pass without it. Try again later."
        )
        return self.gate.raising(self.request, error)

    def is_error(self, response: Any) -> bool:
        """Whether the answer must be read before it is handed on."""
        response.request = self.request  # ours holds the key
        if response.status_code not in (403, 503):
            self.guard._answered()
            return False
        return "json" in response.headers.get("content-type", "")

    def judged(self, response: Any) -> Any:
        """An error's answer that has been read: a block is raised where the SDK looks
        at it; None when the guard itself could not do its work."""
        try:
            error = json.loads(response.content)["error"]
            verdict = error.get("guardbook")
            code = error.get("code") or error.get("type")
        except (ValueError, KeyError, TypeError, AttributeError):
            return response
        if response.status_code == 503:
            if code == "not_durable" and "x-guardbook-decision" not in response.headers:
                return None
            self.guard._answered()
            return response
        self.guard._answered()
        if isinstance(verdict, Mapping) and self.guard.settings.block == "raise":
            return _raising(response, GuardBlocked(_decision(verdict, self.row["client_seq"])))
        return response

    def watches(self, response: Any) -> bool:
        """Whether a block may come in the middle of the answer."""
        return (
            self.guard.settings.block == "raise"
            and "text/event-stream" in response.headers.get("content-type", "")
            and not response.is_closed
        )


class Watch:
    """Looks for the guard's word in a stream: a comment line at the start of a line.

    Nothing is held back but what may be the beginning of such a line.
    """

    def __init__(self, seq: int) -> None:
        self._seq = seq
        self._held = b""
        self._at_start = True

    def feed(self, chunk: bytes) -> tuple[bytes, GuardBlocked | None]:
        """The bytes that pass, and the block if it has come."""
        data = self._held + chunk
        self._held = b""
        if not data:
            return b"", None
        at = 0 if self._at_start and data.startswith(_COMMENT) else data.find(b"\n" + _COMMENT) + 1
        if at > 0 or (self._at_start and data.startswith(_COMMENT)):
            end = data.find(b"\n", at)
            if end < 0:
                self._held, data = data[at:], data[:at]
                self._at_start = True
                return data, None
            return data[:at], GuardBlocked(self._read(data[at + len(_COMMENT) : end]))
        last = data.rfind(b"\n") + 1
        if (last > 0 or self._at_start) and len(data) > last and _COMMENT.startswith(data[last:]):
            self._held, data = data[last:], data[:last]
            self._at_start = True
            return data, None
        self._at_start = data.endswith(b"\n")
        return data, None

    def rest(self) -> bytes:
        """What was held back when the stream ends."""
        held, self._held = self._held, b""
        return held

    def _read(self, line: bytes) -> Any:
        try:
            verdict = json.loads(line)
        except ValueError:
            verdict = {}
        return _decision(verdict if isinstance(verdict, dict) else {}, self._seq)


def _decision(verdict: Mapping[str, Any], seq: int) -> Any:
    return read_decision({"decision": "block", **verdict}, seq)


class _Guarded:
    """What the HTTP clients of wrapped model clients have in common. Each is an object
    of the user's own HTTP client's type, and shares its state."""

    __slots__ = ()
    _guardbook: _Gate

    def __del__(self) -> None:
        """The original closes itself; it is held by the gate for as long."""


class _GuardedClient(_Guarded):
    __slots__ = ()

    @property
    def send(self) -> Any:
        """``send``, guarded. It is a property so that it cannot be hidden by what
        somebody has set on the original."""
        return self._guardbook_send

    def _guardbook_send(self, request: Any, *, stream: bool = False, **kwargs: Any) -> Any:
        gate = self._guardbook
        try:
            trip = _Trip(gate, request)
        except (GuardError, ValueError) as err:
            return gate.raising(request, err)
        kwargs.pop("follow_redirects", None)
        try:
            target = gate.guard._ready().target
            gate.guard._allowance()
            response = gate.client(target).send(trip.rewritten(target), stream=stream, follow_redirects=False, **kwargs)
            if trip.is_error(response):
                response.read()
                response = trip.judged(response)
        except GuardError as err:
            trip.cannot(err)
            return gate.raising(request, err)
        except BaseException as err:
            reason = trip.unreachable(err)
            if reason is None:
                trip.given_up(err)
                raise
        else:
            reason = None if response is not None else "the server answered 503"
        if reason is not None:
            if not trip.without(reason):
                return trip.refusal(reason)
            return gate.inner.send(request, stream=stream, **kwargs)
        if trip.watches(response):
            response.stream = _watched(gate.family, response.stream, Watch(trip.row["client_seq"]))
        return response

    def close(self) -> None:
        """Closes the original, as the clients of one HTTP client do."""
        self._guardbook.close()
        self._guardbook.inner.close()


class _GuardedAsyncClient(_Guarded):
    __slots__ = ()

    @property
    def send(self) -> Any:
        """See above."""
        return self._guardbook_send

    async def _guardbook_send(self, request: Any, *, stream: bool = False, **kwargs: Any) -> Any:
        gate = self._guardbook
        try:
            trip = _Trip(gate, request)
        except (GuardError, ValueError) as err:
            return gate.raising(request, err)
        kwargs.pop("follow_redirects", None)
        try:
            target = (await gate.guard._aline_ready()).target
            gate.guard._allowance()
            response = await gate.aclient(target).send(
                trip.rewritten(target), stream=stream, follow_redirects=False, **kwargs
            )
            if trip.is_error(response):
                await response.aread()
                response = trip.judged(response)
        except GuardError as err:
            trip.cannot(err)
            return gate.raising(request, err)
        except BaseException as err:
            reason = trip.unreachable(err)
            if reason is None:
                trip.given_up(err)
                raise
        else:
            reason = None if response is not None else "the server answered 503"
        if reason is not None:
            if not trip.without(reason):
                return trip.refusal(reason)
            return await gate.inner.send(request, stream=stream, **kwargs)
        if trip.watches(response):
            response.stream = _awatched(gate.family, response.stream, Watch(trip.row["client_seq"]))
        return response

    async def aclose(self) -> None:
        """Closes the original, as the clients of one HTTP client do."""
        await self._guardbook.aclose()
        await self._guardbook.inner.aclose()


def _guarded(inner: Any, gate: _Gate) -> Any:
    """An HTTP client of inner's type and state, whose ``send`` is guarded."""
    base = _GuardedAsyncClient if isinstance(inner, gate.family.AsyncClient) else _GuardedClient
    cls = type("Guarded" + type(inner).__name__, (base, type(inner)), {"__slots__": ("_guardbook",)})
    http: Any = object.__new__(cls)
    http.__dict__ = inner.__dict__
    http._guardbook = gate
    return http


def _family(http: Any) -> str:
    """The HTTP library of a client: ``httpx`` or ``httpx2``."""
    for cls in type(http).__mro__:
        root = str(cls.__module__).partition(".")[0]
        if root in ("httpx", "httpx2") and cls.__name__ in ("Client", "AsyncClient"):
            return root
    raise TypeError(f"the HTTP client {type(http).__name__} is none of httpx or httpx2")


def _raising(response: Any, error: Exception) -> Any:
    """The response, made to raise where an SDK asks whether it is a success. There,
    and only there, does an error leave every SDK as itself and without a retry."""

    def fail(_: Any) -> Any:
        raise error

    cls = type(response)
    response.__class__ = type(cls.__name__, (cls,), {"raise_for_status": fail, "is_success": property(fail)})
    return response


def _watched(family: Any, stream: Any, watch: Watch) -> Any:
    class Watched(family.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            for chunk in stream:
                passed, block = watch.feed(chunk)
                if passed:
                    yield passed
                if block is not None:
                    raise block
            rest = watch.rest()
            if rest:
                yield rest

        def close(self) -> None:
            stream.close()

    return Watched()


def _awatched(family: Any, stream: Any, watch: Watch) -> Any:
    class Watched(family.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in stream:
                passed, block = watch.feed(chunk)
                if passed:
                    yield passed
                if block is not None:
                    raise block
            rest = watch.rest()
            if rest:
                yield rest

        async def aclose(self) -> None:
            await stream.aclose()

    return Watched()


def _offers_tools(request: Any) -> bool:
    """Whether a request gives the model tools; also when that cannot be seen."""
    if request.method in ("GET", "HEAD", "DELETE"):
        return False
    if request.headers.get("content-type", "").startswith("multipart/"):
        return False
    if request.url.path.endswith("/batches"):
        return True  # its requests are in a file
    try:
        content = request.content
    except Exception:  # a stream: each family has its own error for it
        return True
    if not content:
        return False
    try:
        body = json.loads(content)
    except ValueError:
        return True
    return not isinstance(body, dict) or any(body.get(name) for name in _OFFERS_TOOLS)
