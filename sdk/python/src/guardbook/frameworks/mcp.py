"""MCP client sessions of the official Python SDK, 1.x and 2.x.

``session = guard.wrap(session, server="crm")``

The session is guarded in place, at the one method through which every request leaves:
whoever holds the session (an adapter, an agent framework) is guarded, too. Wrap it
before ``initialize()``, so that the server's instructions are judged as well.

``server`` is the name under which you know the server; what a server calls itself is
not to be trusted, and is not used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ..decision import Tool
from ..errors import GuardError
from .judge import Judge, Question, Ruling, json_text, parts_of, text_of

__all__ = ["guard_server", "guard_session"]

VIA = "python/mcp"

#: Results that hold what a server wrote and a model reads, besides those of tools.
_READ = {
    "resources/read": ("contents",),
    "prompts/get": ("messages", "description"),
    "completion/complete": ("completion",),
}
#: Lists of names and descriptions, by the member that holds them.
_LISTS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}


def guard_session(guard: Any, session: Any, *, server: str = "") -> Any:
    """Guards a ClientSession, or the session of a connected Client. Returns it."""
    target = session
    if not hasattr(target, "send_request"):
        target = getattr(session, "session", None)
        if not hasattr(target, "send_request"):
            raise GuardError("this MCP client has no session yet: wrap it inside its `async with`")
    if "guardbook_session" not in target.__dict__:
        guarded = _Session(Judge(guard, VIA), target, server)
        target.__dict__["guardbook_session"] = guarded
        target.send_request = guarded.send_request
        guarded.guard_callbacks()
    return session


def guard_server(judge: Judge, server: Any) -> None:
    """Guards an MCP server object of the OpenAI Agents SDK in place, at its methods: it
    opens sessions of its own as it needs them."""
    if "guardbook_server" in server.__dict__:
        return
    from mcp import types

    guarded = _Server(judge, str(server.name))
    server.__dict__["guardbook_server"] = guarded
    call_tool, list_tools = server.call_tool, server.list_tools
    get_prompt, read_resource = server.get_prompt, getattr(server, "read_resource", None)

    async def call(tool_name: str, arguments: Any = None, *args: Any, **kwargs: Any) -> Any:
        return await guarded.call(
            tool_name,
            dict(arguments or {}),
            types.CallToolResult,
            lambda new: call_tool(tool_name, new, *args, **kwargs),
        )

    async def tools(*args: Any, **kwargs: Any) -> Any:
        return await guarded.kept("tools", await list_tools(*args, **kwargs))

    async def prompt(name: str, arguments: Any = None) -> Any:
        await guarded.asks("prompts/get", {"name": name, "arguments": arguments})
        return await guarded.read("prompts/get", await get_prompt(name, arguments), types.GetPromptResult)

    async def resource(uri: str) -> Any:
        assert read_resource is not None
        await guarded.asks("resources/read", {"uri": uri})
        return await guarded.read("resources/read", await read_resource(uri), types.ReadResourceResult)

    server.call_tool, server.list_tools, server.get_prompt = call, tools, prompt
    if read_resource is not None:
        server.read_resource = resource


class _Server:
    """What one server offers and writes, judged."""

    def __init__(self, judge: Judge, server: str) -> None:
        self._judge = judge
        self._server = server
        #: Tools that were left out of the list, with the reason. They are not called either.
        self._refused: dict[str, str] = {}

    def _tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> Tool:
        return Tool(name, arguments=arguments, server=self._server)

    # Tools.

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        result_type: Any,
        send: Callable[[Any], Awaitable[Any]],
        answers: Any = None,
    ) -> Any:
        """Calls a tool if it may be called, and returns what may be read of its result."""
        if name in self._refused:
            return _error(result_type, self._refused[name])
        asked = [Question("tool_call", tool=self._tool(name, arguments))]
        if answers:  # what a person or a model said to the server's questions goes out, too
            asked.append(Question("output", json_text(answers), tool=self._tool(name)))
        rulings = await self._judge.aask(*asked)
        for ruling in rulings:
            if ruling.denied:
                return _error(result_type, ruling.message)
        if len(rulings) > 1 and rulings[1].content is not None:
            return _error(result_type, "The answers hold data that may not go to this server. Do not retry.")
        new = rulings[0].arguments
        return await self._result(name, await send(arguments if new is None else dict(new)), result_type)

    async def _result(self, name: str, result: Any, result_type: Any) -> Any:
        raw = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        blocks = raw.get("content") if isinstance(raw.get("content"), list) else []
        rest = {k: raw[k] for k in ("structuredContent", "inputRequests") if raw.get(k) is not None}
        if "content" not in raw and not rest:  # an extension's own result
            rest = {k: v for k, v in raw.items() if k not in ("_meta", "resultType", "requestState")}
        texts = [_block_parts(blocks)] + [parts_of(json_text(v)) for v in rest.values()]
        rulings = await self._judge.aask(*(Question("tool_result", t, tool=self._tool(name)) for t in texts))
        changed = False
        for ruling in rulings:
            if ruling.denied:
                return _error(result_type, ruling.message)
            changed = changed or ruling.content is not None
        if not changed:
            return result
        if rulings[0].content is not None:
            raw["content"] = _blocks_back(blocks, rulings[0].content)
        for (key, value), ruling in zip(rest.items(), rulings[1:], strict=True):
            if ruling.content is None:
                continue
            new = _same_shape(value, text_of(ruling.content))
            if new is None:  # the client would refuse it, and its tool's schema with it
                return _error(result_type, "The result held data that may not be read here. Do not retry.")
            raw[key] = new
        return _read_as(result_type, raw)

    async def kept(self, member: str, found: Sequence[Any]) -> list[Any]:
        """A list without what may not be known: a poisoned tool is left out."""
        dumped = [t.model_dump(by_alias=True, mode="json", exclude_none=True) for t in found]
        rulings = await self._judge.aask_new(
            *(Question("tool_definition", json_text(d), tool=self._tool(str(d.get("name") or member))) for d in dumped)
        )
        if member == "tools":
            for d, ruling in zip(dumped, rulings, strict=True):
                self._refused.pop(str(d["name"]), None)
                if ruling.denied:
                    self._refused[str(d["name"])] = ruling.message
        return [t for t, r in zip(found, rulings, strict=True) if not r.denied]

    # What servers write besides.

    async def asks(self, method: str, params: Mapping[str, Any]) -> None:
        """Judges what a request tells the server, besides calls of tools."""
        said = {k: v for k, v in params.items() if k != "_meta" and v is not None}
        (await self._judge.aask(Question("output", json_text(said), tool=self._tool(method))))[0].obey()

    async def read(self, method: str, result: Any, result_type: Any) -> Any:
        raw = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        members = [m for m in (*_READ[method], "inputRequests") if raw.get(m)]
        asked = [Question("tool_result", parts_of(json_text(raw[m])), tool=self._tool(method)) for m in members]
        for member, ruling in zip(members, await self._judge.aask(*asked), strict=True):
            if ruling.obey().content is not None:
                new = _same_shape(raw[member], text_of(ruling.content))
                if new is None:
                    raise GuardError(f"the answer to {method} held data that may not be read here")
                raw[member] = new
        return _read_as(result_type, raw)


class _Session(_Server):
    """One guarded session."""

    def __init__(self, judge: Judge, session: Any, server: str) -> None:
        super().__init__(judge, server)
        self._session = session
        self._send = session.send_request
        self._types = sys.modules[type(session).__module__].types

    async def send_request(self, request: Any, result_type: Any, *args: Any, **kwargs: Any) -> Any:
        """Sends a request if it may be sent, and returns what may be read of the result."""
        inner = getattr(request, "root", request)
        method = str(inner.method)
        if method == "tools/call":
            params = inner.params

            async def send(arguments: Any) -> Any:
                changed = inner.model_copy(update={"params": params.model_copy(update={"arguments": arguments})})
                return await self._send(
                    type(request)(changed) if hasattr(request, "root") else changed, result_type, *args, **kwargs
                )

            answers = None
            if getattr(params, "input_responses", None):
                answers = params.model_dump(by_alias=True, mode="json", exclude_none=True)["inputResponses"]
            return await self.call(str(params.name), dict(params.arguments or {}), result_type, send, answers)
        if method in _READ:
            await self.asks(method, inner.params.model_dump(by_alias=True, mode="json", exclude_none=True))
        result = await self._send(request, result_type, *args, **kwargs)
        if method in _LISTS:
            member = _LISTS[method] if hasattr(result, _LISTS[method]) else "resource_templates"
            found = list(getattr(result, member))
            kept = await self.kept(_LISTS[method], found)
            return result if len(kept) == len(found) else result.model_copy(update={member: kept})
        if method in _READ:
            return await self.read(method, result, result_type)
        if method in ("initialize", "server/discover"):
            return await self._greeted(result)
        return result

    async def _greeted(self, result: Any) -> Any:
        text = getattr(result, "instructions", None)
        if not text:
            return result
        ruling = (await self._judge.aask(Question("tool_definition", text, tool=self._tool("instructions"))))[0]
        if ruling.denied or ruling.content is not None:
            return result.model_copy(update={"instructions": None if ruling.denied else text_of(ruling.content)})
        return result

    # What servers ask.

    def guard_callbacks(self) -> None:
        """Judges what the server asks of the client's model and of its user, and what
        they answer. Callbacks that nobody set stay as they are: they refuse."""
        for name, asks in (
            ("_sampling_callback", "sampling/createMessage"),
            ("_elicitation_callback", "elicitation/create"),
        ):
            callback = getattr(self._session, name, None)
            if callback is not None and not getattr(callback, "__module__", "").startswith("mcp.client.session"):
                setattr(self._session, name, self._callback(callback, asks))

    def _callback(self, callback: Any, asks: str) -> Any:
        async def guarded(context: Any, params: Any) -> Any:
            said = params.model_dump(by_alias=True, mode="json", exclude_none=True)
            said.pop("_meta", None)
            ruling = (await self._judge.aask(Question("tool_result", json_text(said), tool=self._tool(asks))))[0]
            if ruling.denied or ruling.content is not None:
                return self._no(ruling)
            answer = await callback(context, params)
            told = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
            ruling = (await self._judge.aask(Question("output", json_text(told), tool=self._tool(asks))))[0]
            return self._no(ruling) if ruling.denied or ruling.content is not None else answer

        return guarded

    def _no(self, ruling: Ruling) -> Any:
        message = ruling.message or "This holds data that may not pass here."
        return self._types.ErrorData(code=-32010, message=message)


def _block_parts(blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return parts_of([_texts_only(b) for b in blocks])


def _texts_only(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """A block without the bytes of a file that it brings along."""
    resource = block.get("resource")
    if isinstance(resource, Mapping) and "blob" in resource:
        return {**block, "resource": {k: v for k, v in resource.items() if k != "blob"}}
    return block


def _blocks_back(blocks: Sequence[Mapping[str, Any]], parts: Any) -> list[Mapping[str, Any]]:
    out: list[Mapping[str, Any]] = []
    for block, old, new in zip(blocks, _block_parts(blocks), parts, strict=True):
        if old == new:
            out.append(block)
        elif block.get("type") == "text":
            out.append({**block, "text": new["text"]})
        else:
            out.append({"type": "text", "text": new["text"]})
    return out


def _same_shape(old: Any, text: str) -> Any:
    """A redacted JSON text as the value it was, or None when it no longer is one."""
    try:
        new = json.loads(text)
    except ValueError:
        return None
    return new if _shape(new) == _shape(old) else None


def _shape(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_shape(v) for v in value]
    return type(value)


def _read_as(result_type: Any, raw: Mapping[str, Any]) -> Any:
    if hasattr(result_type, "model_validate"):
        return result_type.model_validate(raw)
    return result_type.validate_python(raw, by_name=False)


def _error(result_type: Any, message: str) -> Any:
    """A refused call as a result: an error of the protocol would end many an agent."""
    return _read_as(result_type, {"content": [{"type": "text", "text": message}], "isError": True})
