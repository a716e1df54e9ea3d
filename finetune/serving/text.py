"""From token ids to text, piece by piece: no broken characters, and nothing of a stop string.

Both classes hold back what the next token may still change, so the joined pieces are the whole text whatever
the tokens were cut like.
"""

from collections.abc import Callable, Sequence

_BROKEN = "\ufffd"
#: A character has at most four bytes, so at most three of them can be waiting for the rest.
_WAITING = 3
#: After this many tokens without a whole character, what can be put away of them is.
_PATIENCE = 8


class Detokeniser:
    """Turns ids into text as they come. `decode` maps a list of ids to text, lossily (U+FFFD for broken bytes)."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        # The tokens before: decoders treat the leading space of the very first token in their own way.
        self._context: list[int] = []
        self._pending: list[int] = []
        # What of the pending tokens' text has been handed out already.
        self._sent = ""

    def push(self, token: int) -> str:
        """The text that is certain now and has not been handed out; often empty."""
        self._pending.append(token)
        text = self._pending_text()
        if not text.startswith(self._sent):
            # A byte-level run decodes as broken until it is whole: what was sent shows again when it is.
            return self.flush() if len(self._pending) > _PATIENCE else ""
        if not text.endswith(_BROKEN):
            return self._settle(text)
        ready = text[: len(text) - min(_WAITING, len(text) - len(text.rstrip(_BROKEN)))]
        piece = ready[len(self._sent) :]
        self._sent += piece
        if len(self._pending) > _PATIENCE:
            piece += self._shorten(text)
        return piece

    def flush(self) -> str:
        """What was held back, broken or not. After this the object can go on as if new."""
        return self._settle(self._pending_text())

    def _settle(self, text: str) -> str:
        piece = text[len(self._sent) :]
        # Cut nowhere but here, between characters: half a character in front would break those that follow.
        self._context = self._pending if piece else self._context + self._pending
        self._pending = []
        self._sent = ""
        return piece

    def _shorten(self, text: str) -> str:
        """Put the broken part away that nothing can complete any more, else each token costs more than the last."""
        for kept in range(1, _WAITING + 1):
            front, end = self._pending[:-kept], self._pending[-kept:]
            done = text[: len(text) - len(self._decode(end))]
            # Where a character is cut, its two halves make more broken ones than it makes whole.
            if self._decode(front) + self._decode(end) == self._decode(self._pending):
                piece, self._sent = done[len(self._sent) :], self._sent[len(done) :]
                self._context, self._pending = front, end
                return piece
        return ""

    def _pending_text(self) -> str:
        before = self._decode(self._context)
        whole = self._decode(self._context + self._pending)
        # Some decoders break a whole run of bytes for one bad byte in it, also what had been handed out.
        return whole[len(before) :] if whole.startswith(before) else self._decode(self._pending)


def detokenise(ids: Sequence[int], decode: Callable[[list[int]], str]) -> str:
    """The text that a `Detokeniser` makes of all ids."""
    made = Detokeniser(decode)
    return "".join([*(made.push(token) for token in ids), made.flush()])


class StopFilter:
    """Lets text through up to the first of the stop strings; holds back what may be the start of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        #: True once a stop string was seen: nothing more comes out.
        self.hit = False

    def push(self, text: str) -> str:
        """The part of the text that belongs to the answer for certain."""
        if self.hit:
            return ""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.hit = True
            return self._take(min(found))
        return self._take(len(self._held) - self._undecided())

    def flush(self) -> str:
        """What was held back: at the end of an answer half a stop string is text. Empty after a hit."""
        return "" if self.hit else self._take(len(self._held))

    def _take(self, length: int) -> str:
        piece, self._held = self._held[:length], self._held[length:]
        return piece

    def _undecided(self) -> int:
        """Length of the longest end of the held text that a stop string starts with."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0
