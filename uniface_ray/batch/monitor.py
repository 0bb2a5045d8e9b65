"""What goes on in a run's workers, gathered in one place."""


class Monitor:
    """Lets chunks in, and knows which are under way and which replicas are busy. `pipeline` makes it a Ray actor.

    The driver can stop a run through it: a chunk that is not let in stays pending, and those under way finish.
    """

    def __init__(self) -> None:
        self._stopped = False
        self._under_way: set[int] = set()
        self._busy: dict[str, bool] = {}

    def admit(self, chunk: int) -> bool:
        """Whether the chunk may begin."""
        if not self._stopped:
            self._under_way.add(chunk)
        return not self._stopped

    def committed(self, chunk: int) -> None:
        """The chunk's marker is written."""
        self._under_way.discard(chunk)

    def replica(self, name: str, busy: bool) -> None:
        """A replica is up, and at work or not."""
        self._busy[name] = busy

    def stop(self) -> None:
        """Let no more chunks in."""
        self._stopped = True

    def snapshot(self) -> tuple[int, int, int]:
        """(chunks under way, replicas busy, replicas up)."""
        return len(self._under_way), sum(self._busy.values()), len(self._busy)
