"""JSON as the server takes it: strict, whatever an agent puts into it."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["dumps", "loads", "plain"]

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DEPTH = 64  # of values that JSON has no word for; deeper ones are written as text


def dumps(value: Any) -> bytes:
    """Writes it as strict JSON. Half a surrogate pair, which no text can hold, becomes
    a question mark; what JSON has no word for becomes text."""
    try:
        text = _encoder.encode(value)
    except (TypeError, ValueError, RecursionError):
        text = _encoder.encode(plain(value))
    return text.encode("utf-8", "replace")


def loads(data: bytes) -> Any:
    """Reads JSON."""
    return json.loads(data)


def plain(value: Any, depth: int = 0) -> Any:
    """The value in JSON's own words: dict, list, str, int, float, bool, None."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= _DEPTH:
        return _text(value)
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else _text(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v, depth + 1) for v in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(raw).decode()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump):  # pydantic, without importing it
        try:
            return plain(dump(mode="json"), depth + 1)
        except Exception:  # it is the agent's object, and may do anything
            return _text(value)
    return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # as above
        return f"<{type(value).__name__}>"
