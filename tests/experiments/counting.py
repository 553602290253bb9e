"""Counting calls: what a command costs, on any machine."""

from collections import Counter
from typing import Any

import pytest


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Counter[str]:
    """Count, under its name, the calls of a function of `owner` from here on."""
    calls: Counter[str] = Counter()
    function = getattr(owner, name)

    def counting(*arguments: Any, **keywords: Any) -> Any:
        calls[name] += 1
        return function(*arguments, **keywords)

    monkeypatch.setattr(owner, name, counting)
    return calls
