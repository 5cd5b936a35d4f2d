"""`LineWords`: what several replicas say of the lines behind them, heard as one word.

A line is up as long as one replica says so: a replica that sees less than another must not take a line away, and two
that say the same must not count twice. When the link to a replica is lost, its words go with it.
"""

from __future__ import annotations

from raytrade.core.events import RETIRED, LineDown
from raytrade.core.message import Kind, Message, decode


def is_retired(message: Message) -> bool:
    """Tell whether this is the last word of a line that is not wanted any more."""
    if message.kind is not Kind.LINE_DOWN:
        return False
    event = decode(message)
    return isinstance(event, LineDown) and event.cause == RETIRED


class LineWords:
    """The last word of each replica on each line."""

    def __init__(self) -> None:
        self._words: dict[str, dict[str, Message]] = {}

    def hear(self, replica: str, message: Message) -> Message | None:
        """Take a word on a line; gives what is to be passed on, if it is news."""
        words = self._words.setdefault(message.line, {})
        before = _verdict(words)
        if is_retired(message):
            words.pop(replica, None)
            if not words:
                del self._words[message.line]
                return message if before is not None else None
        else:
            words[replica] = message
        return _news(words, before, message)

    def lose(self, replica: str) -> list[Message]:
        """The link to a replica is lost: its words count no more where others have spoken."""
        news = []
        for words in self._words.values():
            if replica in words and len(words) > 1:
                before = _verdict(words)
                message = words.pop(replica)
                news.append(_news(words, before, message))
        return [message for message in news if message is not None]


def _verdict(words: dict[str, Message]) -> bool | None:
    return any(word.kind is Kind.LINE_UP for word in words.values()) if words else None


def _news(words: dict[str, Message], before: bool | None, message: Message) -> Message | None:
    """Give a word that says what holds now, if it is not what held before."""
    after = _verdict(words)
    if after is before:
        return None
    return next((word for word in (message, *words.values()) if (word.kind is Kind.LINE_UP) is after), None)
