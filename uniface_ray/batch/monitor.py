"""What goes on in a run's workers, gathered in one place."""

import time
from collections import Counter

BEAT_S = 5.0
# A replica that is scaled down, killed or lost with its node says nothing of it.
_SILENCE_S = 4 * BEAT_S


class Monitor:
    """Knows which chunks are under way and which replicas are busy. `pipeline` makes it a Ray actor.

    Replicas give a sign of life every `BEAT_S` seconds; one that has not for four times as long is no longer counted.

    The driver can stop a run through it: what is read ahead is dropped (those chunks stay pending), and what a replica
    has begun is finished and committed.
    """

    def __init__(self) -> None:
        self._stopped = False
        self._under_way: set[int] = set()
        self._busy: dict[str, set[int]] = {}  # chunks by replica
        self._heard_s: dict[str, float] = {}
        self._begun: Counter[str] = Counter()  # processes by replica, since any of them answered a chunk
        self._tries: Counter[int] = Counter()  # by chunk that no replica has answered
        self._failed: str | None = None

    def stop(self) -> None:
        """Let no more chunks begin."""
        self._stopped = True

    def is_stopped(self) -> bool:
        """Whether reading ahead is still of use."""
        return self._stopped

    def begins(self, replica: str) -> None:
        """A process of the replica starts: its first one, or one after another that was lost."""
        self._begun[replica] += 1

    def failed(self, why: str) -> None:
        """A replica cannot start."""
        self._failed = why

    def failure(self) -> str | None:
        """Why a replica could not start, the last one that told."""
        return self._failed

    def lost(self) -> int:
        """The most processes that one replica has lost since a chunk was last answered."""
        return max(0, max(self._begun.values(), default=0) - 1)

    def tried(self) -> tuple[int, int]:
        """(chunk, times) of the chunk that replicas have begun most often without an answer; (0, 0) of none."""
        return max(self._tries.items(), key=lambda one: one[1], default=(0, 0))

    def ready(self, replica: str) -> None:
        """The replica is up and has nothing to do."""
        self._busy[replica] = set()
        self.lives(replica)

    def answered(self, replica: str, chunk: int) -> None:
        """The replica is done with the chunk."""
        self._busy.setdefault(replica, set()).discard(chunk)
        self._begun.clear()
        self._tries.pop(chunk, None)
        self.lives(replica)

    def lives(self, replica: str) -> None:
        """A sign of life."""
        self._busy.setdefault(replica, set())
        self._heard_s[replica] = time.monotonic()

    def begin(self, replica: str, chunk: int) -> bool:
        """Whether the replica may begin the chunk; if so, it is at work from now on."""
        if self._stopped:
            return False
        self._under_way.add(chunk)
        self._tries[chunk] += 1
        self._busy.setdefault(replica, set()).add(chunk)
        self.lives(replica)
        return True

    def committed(self, chunk: int) -> None:
        """The chunk's marker is written."""
        self._under_way.discard(chunk)

    def snapshot(self) -> tuple[int, int, int]:
        """(chunks under way, replicas busy, replicas up)."""
        now_s = time.monotonic()
        for replica in [one for one, heard_s in self._heard_s.items() if now_s - heard_s > _SILENCE_S]:
            del self._heard_s[replica], self._busy[replica]
        return len(self._under_way), sum(map(bool, self._busy.values())), len(self._busy)
