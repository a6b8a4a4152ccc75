"""The guard, as an agent's code sees it."""

from __future__ import annotations

import atexit
import importlib
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

from . import encode, scope
from .breaker import Breaker
from .decision import Content, Decision, Interaction, Kind, Tool, read_decision
from .errors import GuardBlocked, GuardError, GuardUnavailable
from .line import Line
from .recorder import Recorder, now, uuid7
from .settings import Settings, load
from .spool import Origin
from .wire import Answer, Target, Unreachable

__all__ = ["Guard"]

_log = logging.getLogger("guardbook")
_BATCH = 256
_BUDGET_BYTES = 256 << 10  # what one budget is for
_AT_EXIT = 2.0  # seconds for what is still to be told
_T = TypeVar("_T")


class Guard:
    """Asks Guardbook before things happen, and obeys.

    >>> guard = Guard(agent="billing-bot")
    >>> client = guard.wrap(OpenAI())

    Nothing is started or connected before the first use. Without ``url`` (or
    ``GUARDBOOK_URL``) this user's own local server is used, and started when there is
    none; with one, ``key`` (or ``GUARDBOOK_KEY``) is the agent's key for it.

    A guard may be shared by threads, by asyncio tasks and by event loops. A forked
    process gets an identity and connections of its own.
    """

    def __init__(
        self,
        agent: str | None = None,
        *,
        url: str | None = None,
        key: str | None = None,
        on_unavailable: str | None = None,
        on_unavailable_tools: str | None = None,
        block: str | None = None,
        budget: float | None = None,
        session: str | None = None,
        data: str | os.PathLike[str] | None = None,
    ) -> None:
        """
        :param agent: the agent's name (``GUARDBOOK_AGENT``).
        :param url: the server's address (``GUARDBOOK_URL``).
        :param key: the agent's key (``GUARDBOOK_KEY``).
        :param on_unavailable: ``allow`` (the default) or ``block``: texts, when no
            decision can be had (``GUARDBOOK_ON_UNAVAILABLE``).
        :param on_unavailable_tools: ``block`` (the default) or ``allow``: tool calls,
            and requests to a model that offer tools, when no decision can be had
            (``GUARDBOOK_ON_UNAVAILABLE_TOOLS``).
        :param block: ``raise`` (the default) or ``respond``: whether a wrapped model
            client raises ``GuardBlocked``, or gets the refusal as the model's answer
            (``GUARDBOOK_BLOCK``).
        :param budget: seconds that a decision may take, for every 256 KiB that are asked
            about (``GUARDBOOK_BUDGET``; 0.25).
        :param session: the session's id where nothing else names one; one is made.
        :param data: folder of the local server and of the spool (``GUARDBOOK_DATA``).
        """
        self._settings = load(
            agent=agent,
            url=url,
            key=key,
            on_unavailable=on_unavailable,
            on_unavailable_tools=on_unavailable_tools,
            block=block,
            budget=budget,
            data=data,
        )
        self._session = scope.checked("session", session) if session is not None else f"s-{uuid7()}"
        self._closed = False
        self._begin()
        _all_guards().add(self)

    def _begin(self) -> None:
        """The part of a guard that a process does not share with its parent."""
        self._client = uuid7()
        self._numbers = itertools.count(1)
        self._breaker = Breaker()
        self._starting = threading.Lock()
        self._line: Line | None = None
        self._aline: Any = None  # an AsyncLine, when asyncio is used
        self._degraded = threading.Lock()
        self._missed = 0
        self._missed_from = ""
        self._recorder = Recorder(self._settings.data / "spool", self._origin, self._reach, self._answered)
        if self._settings.url:
            self._line = Line(Target(self._settings.url, self._settings.key))

    # Settings

    @property
    def settings(self) -> Settings:
        """The settings that are in force."""
        return self._settings

    @property
    def agent(self) -> str:
        """The agent's name, as far as it is known here."""
        return self._settings.agent

    @property
    def client_id(self) -> str:
        """This process's id; the book has it beside every ``client_seq``."""
        return self._client

    # Who is speaking

    def session(
        self,
        session: str | None = None,
        *,
        user: str | None = None,
        parent: str | None = None,
        context: str | None = None,
    ) -> AbstractContextManager[scope.Scope]:
        """Names the session (and the user, the delegating agent, the task) of the code
        inside the ``with``, in this thread or asyncio task and what it starts::

            with guard.session("s-17", user="u-3", context="Answer billing questions."):
                agent.invoke(...)

        ``context`` is what the agent was asked to do; tool results are judged against it.
        """
        return scope.entered(session, user, parent, context)

    def session_id(self, session: str | None = None, thread: object = None) -> str:
        """The session's id: the one given, else that of ``with guard.session()``, else
        the framework's own thread or conversation id, else this guard's."""
        if session is not None:
            return scope.checked("session", session)
        named = scope.current().session
        if named is not None:
            return named
        return self._session if thread is None else scope.named(thread)

    # Decisions

    def decide(
        self,
        kind: Kind,
        content: Content | None = None,
        *,
        tool: Tool | None = None,
        role: str = "",
        context: str | None = None,
        session: str | None = None,
        thread: str | None = None,
        user: str | None = None,
        parent: str | None = None,
        via: str = "python",
    ) -> Decision:
        """Asks about one interaction, and tells what was decided, whatever it is.

        :param kind: what it is: ``input``, ``output``, ``tool_call``, ...
        :param content: its text, or parts; a ``tool_call`` has none.
        :param tool: the tool; needed for a ``tool_call``.
        :param role: of an input: ``system``, ``user`` or ``assistant``.
        :param context: the task: system prompt and the user's request.
        :param session: the session's id; see ``session_id``.
        :param thread: the framework's own thread or conversation id.
        :param via: the way by which it came, for the book: ``python/langchain``.
        :raises GuardUnavailable: no decision could be had, and none is needed to refuse.
        :raises GuardError: the server refuses the question itself.
        """
        one = Interaction(kind, content, tool, role, context, session, thread, user, parent)
        return self._decide([one], via)[0]

    async def adecide(
        self,
        kind: Kind,
        content: Content | None = None,
        *,
        tool: Tool | None = None,
        role: str = "",
        context: str | None = None,
        session: str | None = None,
        thread: str | None = None,
        user: str | None = None,
        parent: str | None = None,
        via: str = "python",
    ) -> Decision:
        """``decide`` for asyncio."""
        one = Interaction(kind, content, tool, role, context, session, thread, user, parent)
        return (await self._adecide([one], via))[0]

    def decide_batch(self, interactions: Iterable[Interaction], *, via: str = "python") -> list[Decision]:
        """Asks about several interactions at once; the decisions are in their order.

        :raises GuardUnavailable: no decision could be had, and one of them needs it.
        """
        waiting = list(interactions)
        return [d for i in range(0, len(waiting), _BATCH) for d in self._decide(waiting[i : i + _BATCH], via)]

    async def adecide_batch(self, interactions: Iterable[Interaction], *, via: str = "python") -> list[Decision]:
        """``decide_batch`` for asyncio."""
        waiting = list(interactions)
        decisions: list[Decision] = []
        for i in range(0, len(waiting), _BATCH):
            decisions += await self._adecide(waiting[i : i + _BATCH], via)
        return decisions

    def inspect(self, kind: Kind, content: Content | None = None, **about: Any) -> Decision:
        """``decide``, and obeys: a block is raised.

        The decision that comes back lets the interaction pass; when it is ``redacted``,
        use its ``content`` or ``arguments`` in the place of the original.

        :raises GuardBlocked: the guard said no.
        :raises GuardUnavailable: see ``decide``.
        """
        return _obey(self.decide(kind, content, **about))

    async def ainspect(self, kind: Kind, content: Content | None = None, **about: Any) -> Decision:
        """``inspect`` for asyncio."""
        return _obey(await self.adecide(kind, content, **about))

    # Whole clients, sessions and frameworks

    def wrap(self, x: _T, **about: Any) -> _T:
        """Guards an object, and gives back one that is used in its place.

        - clients of OpenAI, Azure OpenAI and Anthropic, for threads and asyncio: a new
          client of the same type, whose every request goes through the guard;
        - a LangChain chat model; an MCP client session (``server=`` is the name by which
          you know it); an agent of the OpenAI Agents SDK;
          a CrewAI model.

        ``tool_calls="asked"``, for clients and models: whoever runs the tools asks about
        each call before it runs (``guard.inspect("tool_call", ...)``, or a framework's
        hooks). The calls in answers are then decided and recorded as ``deferred``, and not
        withheld, so that a denied one does not end the run.

        :raises TypeError: nothing is known about such an object.
        """
        from .wrap import wrap

        wrapped: _T = wrap(self, x, about)
        return wrapped

    def langchain(self, **options: Any) -> Any:
        """Middleware for LangChain's ``create_agent``; put it last in the list."""
        return _framework("langchain").GuardMiddleware(self, **options)

    def crewai(self, **options: Any) -> Any:
        """Hooks for CrewAI; call it before ``Crew(...)``."""
        return _framework("crewai").guard_crew(self, **options)

    def openai_agents(self, agent: _T, **options: Any) -> _T:
        """Guards an agent of the OpenAI Agents SDK, its tools and what it hands over to."""
        guarded: _T = _framework("openai_agents").guard_agent(self, agent, **options)
        return guarded

    def claude(self, options: Any = None, **more: Any) -> Any:
        """Options with hooks for the Claude Agent SDK."""
        return _framework("claude").guard_options(self, options, **more)

    def fails_open(self, kind: str) -> bool:
        """Whether an interaction of this kind passes when no decision can be had."""
        if kind == "tool_call":
            return self._settings.on_unavailable_tools == "allow"
        return self._settings.on_unavailable == "allow"

    # The end

    def flush(self, timeout: float = _AT_EXIT) -> bool:
        """Tries to tell the server now what could not be told yet, and says whether
        nothing is left."""
        return self._recorder.flush(timeout)

    def close(self, timeout: float = _AT_EXIT) -> None:
        """Tells what is left, for at most timeout seconds, and closes connections. What
        cannot be told stays on disk for the next process. It is called at exit."""
        if self._closed:
            return
        self._closed = True
        self._close_interval()
        self._recorder.close(timeout)
        if self._line is not None:
            self._line.close()
        if self._aline is not None:
            self._aline.close()

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    # Asking

    def _decide(self, ones: Sequence[Interaction], via: str) -> list[Decision]:
        rows = [self._row(one, via) for one in ones]
        if not rows:
            return []
        path, body = _question(rows)
        try:
            answer = self._ready().ask(path, body, self._allowance(len(body)))
        except Unreachable as err:
            return self._without(rows, err)
        except BaseException as err:
            self._tell("unanswered", rows, f"given up: {type(err).__name__}")
            raise
        return self._read(rows, answer)

    async def _adecide(self, ones: Sequence[Interaction], via: str) -> list[Decision]:
        rows = [self._row(one, via) for one in ones]
        if not rows:
            return []
        path, body = _question(rows)
        try:
            line = await self._aline_ready()
            answer = await line.ask(path, body, self._allowance(len(body)))
        except Unreachable as err:
            return self._without(rows, err)
        except BaseException as err:
            self._tell("unanswered", rows, f"given up: {type(err).__name__}")
            raise
        return self._read(rows, answer)

    def _row(self, one: Interaction, via: str) -> dict[str, Any]:
        """An interaction as the API takes it, with its number."""
        here = scope.current()
        row: dict[str, Any] = {"kind": one.kind, "session": self.session_id(one.session, one.thread)}
        if one.content is not None:
            row["content"] = one.content
        tool = one.tool
        if tool is not None:
            row["tool"] = {"name": tool.name}
            if tool.server:
                row["tool"]["server"] = tool.server
            if tool.call_id:
                row["tool"]["call_id"] = tool.call_id
            if tool.arguments is not None:
                row["tool"]["arguments"] = tool.arguments
        if one.role:
            row["role"] = one.role
        for name, value in (
            ("user", one.user if one.user is not None else here.user),
            ("parent", one.parent if one.parent is not None else here.parent),
            ("context", one.context if one.context is not None else here.context),
        ):
            if value:
                row[name] = value
        row["via"] = via
        row["client"] = self._client
        row["client_seq"] = next(self._numbers)
        return row

    def _allowance(self, size: int = 0) -> float:
        """The budget of the next question; raises when the breaker is open.

        It grows with what is asked about: who makes a text long must not get it past
        the guard for want of time.
        """
        if not self._breaker.enter():
            raise Unreachable(self._breaker.reason)
        return self._settings.budget * max(1.0, size / _BUDGET_BYTES)

    def _read(self, rows: list[dict[str, Any]], answer: Answer) -> list[Decision]:
        if answer.status >= 500 or answer.status in (408, 429):
            return self._without(rows, Unreachable(f"the server answered {answer.status}"))
        try:
            told = encode.loads(answer.body)
            if answer.status == 200:
                answers = told["decisions"] if len(rows) > 1 else [told]
                decisions = [read_decision(a, r["client_seq"]) for a, r in zip(answers, rows, strict=True)]
            else:
                message = str(told["error"]["message"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return self._without(rows, Unreachable(f"the server answered {answer.status} with something else"))
        self._answered()
        if answer.status == 200:
            self._recorder.look()
            return decisions
        self._tell("refused", rows, f"the server refused the question ({answer.status})")
        raise GuardError(f"the Guardbook server refuses the question: {message}")

    # Doing without an answer

    def _without(self, rows: list[dict[str, Any]], err: Unreachable) -> list[Decision]:
        """What happens to interactions that no decision was had about."""
        self._failed(err.reason)
        closed = [row["kind"] for row in rows if not self.fails_open(row["kind"])]
        self._tell("refused" if closed else "unguarded", rows, err.reason)
        if closed:
            raise unavailable(closed[0], err.reason)
        return [
            Decision(
                decision="allow",
                message=f"Guardbook could not be asked ({err.reason}); passed without a decision.",
                guarded=False,
                client_seq=row["client_seq"],
            )
            for row in rows
        ]

    def _failed(self, reason: str) -> None:
        self._breaker.failed(reason)
        with self._degraded:
            if not self._missed:
                self._missed_from = now()
                _log.warning("Guardbook: the server cannot be asked (%s)", reason)

    def _answered(self) -> None:
        """The server is there."""
        self._breaker.succeeded()
        if self._missed and self._close_interval():
            _log.warning("Guardbook: the server answers again")

    def _close_interval(self) -> bool:
        with self._degraded:
            count, since, self._missed = self._missed, self._missed_from, 0
        if not count:
            return False
        end = now()
        self._recorder.add(
            {
                "id": uuid7(),
                "ts": end,
                "event": "degraded",
                "via": "python",
                "from": since,
                "to": end,
                "count": count,
                "reason": self._breaker.reason,
            }
        )
        return True

    def _tell(self, event: str, rows: Iterable[Mapping[str, Any]], reason: str) -> None:
        """Records interactions that have no decision."""
        for row in rows:
            told: dict[str, Any] = {
                "id": uuid7(),
                "seq": row["client_seq"],
                "ts": now(),
                "event": event,
                "via": row["via"],
                "session": row["session"],
                "reason": reason,
            }
            if row.get("kind"):
                told["kind"] = row["kind"]
            if "tool" in row:
                told["tool"] = {k: v for k, v in row["tool"].items() if k in ("server", "name")}
            if event in ("unguarded", "refused", "unanswered"):
                with self._degraded:
                    self._missed += 1
            self._recorder.add(told)

    # The server

    def _ready(self) -> Line:
        """The connections to the server, which is started when it is a local one."""
        line = self._line
        if line is None:
            with self._starting:
                if self._line is None:
                    self._line = Line(self._find_local())
                line = self._line
        return line

    async def _aline_ready(self) -> Any:
        line, aline = self._line, self._aline
        if line is not None and aline is not None and aline.target is line.target:
            return aline
        if line is None:
            line = await _in_thread(self._ready)
        if self._aline is None or self._aline.target is not line.target:
            from .aline import AsyncLine

            self._aline = AsyncLine(line.target)
        return self._aline

    def _next_number(self) -> int:
        return next(self._numbers)

    def _find_local(self) -> Target:
        from .local import run_local

        server = run_local(self._settings.agent, self._settings.data)
        if server.started:
            # Something was started on the user's machine: that is worth a line.
            _log.warning("Guardbook: started a local server; dashboard: %s", server.dashboard)
        else:
            _log.info("Guardbook: using the local server; dashboard: %s", server.dashboard)
        return server.target

    def _reach(self) -> Target:
        """For the recorder: where the server is now. A local one that has gone is
        started again, here, where nobody waits for it."""
        line = self._line
        if not self._settings.local:
            assert line is not None
            return line.target
        if line is None:
            raise Unreachable("no server was used yet")
        if self._closed or not self._breaker.suspicious:
            return line.target
        try:
            target = self._find_local()
        except GuardError as err:
            raise Unreachable(str(err)) from None
        if line.target != target:
            self._line = Line(target)
        return target

    def _origin(self) -> Origin:
        import hashlib

        s = self._settings
        # SDKs of other languages keep their spools in the same folder, and lock them in
        # ways of their own: each takes over only its own.
        server = "python:" + (s.url or f"local:{s.data}")
        return Origin(self._client, server, s.agent, hashlib.sha256(s.key.encode()).hexdigest()[:16])

    def _after_fork(self) -> None:
        self._recorder.abandon()
        self._begin()


def unavailable(kind: str, reason: str) -> GuardUnavailable:
    """The error for an interaction that may not pass without a decision."""
    what = "tool call" if kind == "tool_call" else kind.replace("_", " ")
    return GuardUnavailable(
        f"Guardbook could not be asked ({reason}), and this {what} may not pass without a decision. Try again later."
    )


def _framework(name: str) -> Any:
    return importlib.import_module(f"{__package__}.frameworks.{name}")


def _obey(decision: Decision) -> Decision:
    if decision.blocked:
        raise GuardBlocked(decision)
    return decision


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Runs it in a thread, so that the event loop goes on."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:  # trio: it waits, this once
        return work()
    return await asyncio.to_thread(work)


def _question(rows: list[dict[str, Any]]) -> tuple[str, bytes]:
    if len(rows) == 1:
        return "/v1/inspect", encode.dumps(rows[0])
    return "/v1/inspect/batch", encode.dumps({"interactions": rows})


_guards: weakref.WeakSet[Guard] | None = None


def _all_guards() -> weakref.WeakSet[Guard]:
    """The guards of this process: what a fork and the end of the process concern.

    The interpreter's hooks can be set but not taken back, so they are set once, and not
    before there is a guard.
    """
    global _guards
    if _guards is None:
        _guards = weakref.WeakSet()
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_in_child)
    return _guards


def _at_exit() -> None:
    for guard in list(_guards or ()):
        guard.close()


def _in_child() -> None:
    for guard in list(_guards or ()):
        guard._after_fork()
