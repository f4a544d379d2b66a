"""How fast an endpoint may be asked: a window of calls under way that adapts, token buckets, and pauses that it asks for."""

import random
from dataclasses import dataclass

_FIRST_SHARE = 0.75
_SHRINK = 0.5
_SLOWER = 3.0
"""Answers that take so many times the usual best mean that the endpoint is full: the window no longer grows."""


@dataclass
class Bucket:
    """Refilled at a constant rate, holding a few seconds' worth; may be overdrawn by one draft."""

    per_minute: float | None
    level: float = 0.0
    seen: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until something may be drawn."""
        if self.per_minute is None:
            return 0.0
        rate = self.per_minute / 60
        self.level = min(max(1.0, 2 * rate), self.level + (now - self.seen) * rate)
        self.seen = now
        return 0.0 if self.level >= 0 else -self.level / rate

    def draw(self, amount: float) -> None:
        """Take out so much; what was not used in the end is given back as a negative amount."""
        if self.per_minute is not None:
            self.level -= amount


class Pace:
    """Additive growth, multiplicative shrinking.

    The window starts at three quarters of `most`, grows by one for each answer (it doubles in a round trip) until there is
    trouble or answers become slow, then by one in a round trip; a 429 or 503 halves it, once in a round trip.

    Args:
        most: calls under way at any time.
        requests_per_minute, tokens_per_minute: limits that the endpoint has told us beforehand (None: none).
        now: the clock's reading.
    """

    def __init__(self, most: int, requests_per_minute: float | None, tokens_per_minute: float | None, now: float) -> None:
        self.most = most
        self.window = max(min(most, 8.0), most * _FIRST_SHARE)
        self.under_way = 0
        self.requests, self.tokens = Bucket(requests_per_minute, seen=now), Bucket(tokens_per_minute, seen=now)
        self.paused_until = now
        self._calm = True
        self._fastest = float("inf")
        self._shrunk_at = float("-inf")

    def wait(self, now: float) -> float | None:
        """Seconds until the next call may start: 0 is now, None is when another has ended."""
        if self.under_way >= int(self.window):
            return None
        return max(0.0, self.paused_until - now, self.requests.wait(now), self.tokens.wait(now))

    def start(self, tokens: int) -> None:
        """A call starts, which may take so many tokens."""
        self.under_way += 1
        self.requests.draw(1)
        self.tokens.draw(tokens)

    def end(self, reserved: int, used: int) -> None:
        """A call has ended, having used so many of the tokens that were set aside for it."""
        self.under_way -= 1
        self.tokens.draw(used - reserved)

    def answered(self, seconds: float) -> None:
        """An answer came after so long."""
        self._fastest = min(self._fastest * 1.001, seconds)
        if seconds > _SLOWER * self._fastest and seconds > 1.0:
            return
        self.window = min(self.most, self.window + (1.0 if self._calm else 1.0 / self.window))

    def busy(self, now: float, sent_at: float, after: float | None) -> None:
        """A call that was sent at `sent_at` met a rate limit or an overloaded server, which asks to wait `after` seconds."""
        self._calm = False
        if sent_at >= self._shrunk_at:  # the others of the same round trip tell nothing new
            self.window = max(1.0, self.window * _SHRINK)
            self._shrunk_at = now
        if after:
            self.pause(now, after)

    def pause(self, now: float, seconds: float) -> None:
        """Start nothing for so long."""
        self.paused_until = max(self.paused_until, now + seconds)


def backoff(attempts: int, after: float | None) -> float:
    """Seconds before a call is tried again after so many attempts: doubling up to a minute, spread by half either way."""
    return max(min(60.0, 0.5 * 2 ** (attempts - 1)) * random.uniform(0.5, 1.5), after or 0.0)
