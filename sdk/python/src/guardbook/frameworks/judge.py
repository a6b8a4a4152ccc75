"""What the frameworks' modules share: ask about interactions, and get rulings back.

A ruling never raises by itself: whether a denial becomes an error result, another text
or an exception is the framework's affair.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import scope
from ..decision import Content, Decision, Interaction, Kind, Tool
from ..errors import GuardBlocked, GuardError, GuardUnavailable
from ..models import _Guarded

__all__ = ["Judge", "Question", "Ruling", "json_text", "parts_of", "text_of"]

#: How many interactions one request may hold.
BATCH = 256


@dataclass(frozen=True)
class Question:
    """One interaction to rule on."""

    kind: Kind
    content: Content | None = None
    tool: Tool | None = None
    role: str = ""
    context: str = ""
    #: The framework's own id of the conversation, used when nobody names a session.
    thread: str | None = None
    user: str | None = None
    parent: str | None = None

    def interaction(self) -> Interaction:
        """The question as the core asks it."""
        return Interaction(
            kind=self.kind,
            content=self.content,
            tool=self.tool,
            role=self.role,
            context=self.context or None,
            thread=self.thread,
            user=self.user,
            parent=self.parent,
        )

    def says_something(self) -> bool:
        """Whether there is anything to rule on."""
        if self.kind == "tool_call" or isinstance(self.content, str):
            return self.kind == "tool_call" or bool(self.content)
        return any(p.get("type") != "text" or p.get("text") for p in self.content or ())

    def digest(self, session: str) -> bytes:
        """Names the question: equal digests, equal questions in one session."""
        tool = self.tool
        named = (tool.server, tool.name, tool.arguments) if tool else None
        said = [session, self.user, self.parent, self.kind, self.role, named, self.content]
        return hashlib.sha256(json_text(said).encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class Ruling:
    """What to do with what was asked about."""

    #: Why it must not happen; None: it may.
    error: GuardError | None = None
    #: What takes the place of the content; None: it stays.
    content: Any = None
    #: What takes the place of the arguments; None: they stay.
    arguments: Mapping[str, Any] | None = None

    @property
    def denied(self) -> bool:
        """Whether it must not happen."""
        return self.error is not None

    @property
    def message(self) -> str:
        """Why, for people and for the model."""
        return str(self.error) if self.error is not None else ""

    def obey(self) -> Ruling:
        """The ruling itself, or its error raised."""
        if self.error is not None:
            raise self.error
        return self


def ruled(decision: Decision) -> Ruling:
    """A decision as a ruling."""
    if decision.blocked:
        return Ruling(error=GuardBlocked(decision))
    if decision.redacted:
        return Ruling(content=decision.content, arguments=decision.arguments)
    return Ruling()


class Judge:
    """Asks a guard on behalf of one framework.

    Frameworks show a model the whole conversation with every turn. What was ruled on a
    moment ago is not asked about again: ``known`` rulings are kept for a minute, so that
    a change of policy or a kill reaches old texts, too. Denials are never kept.
    """

    def __init__(
        self, guard: Any, via: str, *, keep: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.guard = guard
        self.via = via
        self._keep = keep
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Ruling]] = OrderedDict()
        self._lock = threading.Lock()

    def conversation(self, thread: str | None) -> contextlib.AbstractContextManager[Any]:
        """Makes the framework's conversation the session of what runs inside, unless
        the application has named one."""
        if not thread or scope.current().session:
            return contextlib.nullcontext()
        return scope.entered(scope.named(thread), None, None, None)

    def ask(self, *questions: Question) -> list[Ruling]:
        """Rules on every question, in order."""
        rulings = [Ruling()] * len(questions)
        for part in _batches(questions):
            asked = [questions[i] for i in part]
            try:
                decisions = self.guard.decide_batch([q.interaction() for q in asked], via=self.via)
                answers = _rule(asked, decisions)
            except Exception as err:
                answers = [_failed(q, err) for q in asked]
            for i, ruling in zip(part, answers, strict=True):
                rulings[i] = ruling
        return rulings

    async def aask(self, *questions: Question) -> list[Ruling]:
        """Rules on every question, in order, without holding the event loop."""
        rulings = [Ruling()] * len(questions)
        for part in _batches(questions):
            asked = [questions[i] for i in part]
            try:
                decisions = await self.guard.adecide_batch([q.interaction() for q in asked], via=self.via)
                answers = _rule(asked, decisions)
            except Exception as err:
                answers = [_failed(q, err) for q in asked]
            for i, ruling in zip(part, answers, strict=True):
                rulings[i] = ruling
        return rulings

    def ask_new(self, *questions: Question, one: bool = False) -> list[Ruling]:
        """As ask, but what is known is not asked about. With ``one``, the last question
        is, if everything is known: no model is called without a decision."""
        rulings, asked = self._split(questions, one)
        return self._merge(questions, rulings, asked, self.ask(*(questions[i] for i in asked)))

    async def aask_new(self, *questions: Question, one: bool = False) -> list[Ruling]:
        """As ask_new, without holding the event loop."""
        rulings, asked = self._split(questions, one)
        return self._merge(questions, rulings, asked, await self.aask(*(questions[i] for i in asked)))

    def learn(self, question: Question, ruling: Ruling) -> None:
        """Remembers a ruling about a content."""
        if ruling.denied:
            return
        learnt = {self._digest(question): ruling}
        if ruling.content is not None:  # what was redacted may be shown again as it now is
            learnt[self._digest(replace(question, content=ruling.content))] = Ruling()
        with self._lock:
            for digest, known in learnt.items():
                self._known[digest] = (self._clock(), known)
                self._known.move_to_end(digest)
            while len(self._known) > 4096:
                self._known.popitem(last=False)

    def _digest(self, question: Question) -> bytes:
        return question.digest(self.guard.session_id(thread=question.thread))

    def _split(self, questions: Sequence[Question], one: bool) -> tuple[dict[int, Ruling], list[int]]:
        known: dict[int, Ruling] = {}
        oldest = self._clock() - self._keep
        with self._lock:
            for i, q in enumerate(questions):
                found = self._known.get(self._digest(q))
                if found is not None and found[0] >= oldest:
                    known[i] = found[1]
        asked = [i for i, q in enumerate(questions) if i not in known and q.says_something()]
        if one and not asked:
            asked = [i for i, q in enumerate(questions) if q.says_something()][-1:]
        return known, asked

    def _merge(
        self, questions: Sequence[Question], known: dict[int, Ruling], asked: Sequence[int], answers: Sequence[Ruling]
    ) -> list[Ruling]:
        rulings = dict(known)
        for i, ruling in zip(asked, answers, strict=True):
            rulings[i] = ruling
            self.learn(questions[i], ruling)
        return [rulings.get(i, Ruling()) for i in range(len(questions))]


def _batches(questions: Sequence[Question]) -> list[list[int]]:
    """Which questions go into one request each. Where nothing was said, there is
    nothing to rule on."""
    asked = [i for i, q in enumerate(questions) if q.says_something()]
    return [asked[start : start + BATCH] for start in range(0, len(asked), BATCH)]


def _rule(asked: Sequence[Question], decisions: Sequence[Decision]) -> list[Ruling]:
    if len(decisions) != len(asked):
        raise GuardUnavailable(f"the guard answered {len(decisions)} of {len(asked)} questions")
    return [ruled(d) for d in decisions]


def _failed(question: Question, err: Exception) -> Ruling:
    """Nobody could say yes. What the settings let pass has come back as a decision, so
    that whatever ends here is denied."""
    if isinstance(err, GuardError):
        return Ruling(error=err)
    failed = GuardUnavailable(
        f"Guardbook could not rule on this {question.kind.replace('_', ' ')} ({type(err).__name__}): it may not pass."
    )
    failed.__cause__ = err
    return Ruling(error=failed)


def is_guarded(client: Any) -> bool:
    """Whether the requests of a model client (of OpenAI, Anthropic) are guarded."""
    return isinstance(getattr(client, "_client", None), _Guarded)


def json_text(value: Any) -> str:
    """Any value as JSON text; what JSON has no word for goes in as its own text."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # keys that are no strings, circles
        return repr(value)


def arguments_of(value: Any) -> dict[str, Any]:
    """Arguments of a tool call as an object: JSON text is read, anything else that is
    no object becomes the member ``input``."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except ValueError:
            return {"input": value}
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    return {} if value is None else {"input": value}


def parts_of(content: Any) -> list[dict[str, Any]]:
    """A message's content as parts: texts as texts, a picture as the mark of one, and
    everything else as its JSON text, so that nothing goes by unread."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, (list, tuple)):
        return [{"type": "text", "text": json_text(content)}]
    return [_part(block) for block in content]


_MEDIA = {"image": "image", "image_url": "image", "input_image": "image", "audio": "audio", "input_audio": "audio"}


def _part(block: Any) -> dict[str, Any]:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if isinstance(block, Mapping):
        kind = str(block.get("type", ""))
        if isinstance(block.get("text"), str) and kind in ("text", "input_text", "output_text", ""):
            return {"type": "text", "text": block["text"]}
        if kind in _MEDIA:
            return {"type": _MEDIA[kind]}
    return {"type": "text", "text": json_text(block)}


def put_back(content: Any, parts: Any, asked: Sequence[Mapping[str, Any]] | None = None) -> Any:
    """The content with the texts of redacted parts in the places where they came from;
    ``asked`` are its parts as they were asked about."""
    if isinstance(parts, str):
        parts = [{"type": "text", "text": parts}]
    if isinstance(content, str) or not isinstance(content, (list, tuple)):
        return text_of(parts)
    if len(parts) != len(content):
        return text_of(parts)
    out: list[Any] = []
    for block, part, was in zip(content, parts, parts_of(content) if asked is None else asked, strict=True):
        if part.get("type") != "text" or part == was:
            out.append(block)
        elif isinstance(block, str):
            out.append(part["text"])
        elif isinstance(block, Mapping) and isinstance(block.get("text"), str):
            out.append({**block, "text": part["text"]})
        else:
            out.append({"type": "text", "text": part["text"]})
    return out


def text_of(parts: Any) -> str:
    """The texts of parts, or of any content, as one."""
    if isinstance(parts, str):
        return parts
    return "\n".join(p["text"] for p in parts_of(parts) if p["type"] == "text")


def task_of(*texts: str) -> str:
    """What the agent works on, for the decision's context: at most 64 KiB."""
    return "\n\n".join(t for t in texts if t)[: 64 << 10]
