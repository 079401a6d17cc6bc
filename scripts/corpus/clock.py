"""A session's own time: it starts somewhere in two years and moves a little with every record."""

import random
from datetime import datetime, timedelta, timezone

EPOCH = datetime(2025, 1, 1, tzinfo=timezone.utc)
SPAN_SECONDS = 500 * 86_400


class Clock:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = EPOCH + timedelta(seconds=rng.randrange(SPAN_SECONDS))

    def tick(self) -> str:
        """Move on and return the new time."""
        self.now += timedelta(milliseconds=self.rng.randrange(200, 20_000))
        return self.stamp()

    def stamp(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{self.now.microsecond // 1000:03d}Z"
