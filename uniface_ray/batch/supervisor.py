"""A stage in a child process: rows that crash or hang it are found, and cost no other row.

When the child ends in the middle of a chunk, a new one does the chunk's halves, and so on down to the row that ends a
child on its own: that row is rejected. A stage that tells of every row (`beat`) needs no halving: the row is known.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uniface_ray.batch.gate import Gate
from uniface_ray.batch.pieces import cut, join, rejected, units_in
from uniface_ray.core.child import Child, EndedError, Handler
from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.records import Reject, RejectKind

_START_S = 1800.0  # large weights come from far
_STARTS = 3
_TRIES = 2  # of a row that ends the child
# Rows in a row that end the child, with none in between that does not, before the question is whether it is the rows: a
# row that worked once is tried again then. A stage that has never done a row gets less of a chance.
_CULPRITS_AT_FIRST = 3
_CULPRITS = 10
# After a hang, parts of the chunk get this many times what the slowest whole chunk took, rather than `timeout_s` at
# each halving.
_HASTE = 3
_LEAST_S = 15.0


@dataclass(slots=True)
class Supervisor:
    """Answers chunks in a child process, from any thread. The child starts with the first chunk, or by `start`.

    Attributes:
        stage: for rejects.
        factory: makes the handler in the child (see `core.child`).
        arguments: of it.
        timeout_s: seconds without a sign of progress after which it counts as hanging.
        tells: the handler beats once for every row it has done.
        calls: chunks in the child at a time.
        idle_s: seconds without a chunk after which the child ends, until the next chunk; None: it stays.
    """

    stage: str
    factory: Callable[..., Handler]
    arguments: tuple[Any, ...]
    timeout_s: float
    tells: bool = False
    calls: int = 1
    idle_s: float | None = None
    most_rows: int | None = field(default=None, init=False)
    """What fitted into memory, once more did not."""
    _child: Child | None = field(default=None, init=False)
    _starting: threading.Lock = field(default_factory=threading.Lock, init=False)
    _gate: Gate = field(default_factory=Gate, init=False)
    _slowest_s: float | None = field(default=None, init=False)
    _culprits: int = field(default=0, init=False)
    _good: bytes | None = field(default=None, init=False)
    _one_at_a_time: bool = field(default=False, init=False)
    _rest: threading.Timer | None = field(default=None, init=False)

    def start(self) -> Child:
        """The child, ready.

        Raises:
            UniFaceError: it cannot start.
        """
        with self._starting:
            self._child = self._child or self._started()
            return self._child

    def _started(self) -> Child:
        for attempt in range(_STARTS):
            try:
                return Child(self.factory, self.arguments, _START_S, self.calls)
            except EndedError as error:
                if attempt == _STARTS - 1:
                    raise UniFaceError(
                        f"the process of the {self.stage} stage cannot start, {_STARTS} times in a row: {error}. "
                        "Is there enough memory for it? The worker's log tells more"
                    ) from error
                time.sleep(1)
            except UniFaceError:
                raise
            except Exception as error:
                raise UniFaceError(
                    f"the process of the {self.stage} stage cannot start: {type(error).__name__}: {error}"
                ) from error
        raise AssertionError

    def answer(self, payload: Any) -> bytes:
        """What the handler makes of a chunk, all rows in their order.

        Raises:
            UniFaceError: the child cannot start, or rows are not what ends it.
            Exception: what the handler raised.
        """
        self._stay()
        try:
            return self._supervised(payload)
        finally:
            if self.idle_s is not None:
                self._stay()
                self._rest = threading.Timer(self.idle_s, self._end_idle)
                self._rest.daemon = True
                self._rest.start()

    def _stay(self) -> None:
        if self._rest:
            self._rest.cancel()

    def _end_idle(self) -> None:
        with self._gate.alone():  # a chunk that has come meanwhile is done first
            self.close()

    def _supervised(self, payload: Any) -> bytes:
        if self._one_at_a_time or self._too_large(payload):
            with self._gate.alone():
                return self._answer(payload, ended=0)
        with self._gate.together() as visit:
            try:
                return self._call(payload, self.timeout_s)
            except EndedError as error:
                why = error
        with self._gate.alone():
            if not visit.crowded:
                return self._again(payload, why, ended=1)
            self._one_at_a_time |= why.out_of_memory
            return self._answer(payload, ended=0)

    def close(self) -> None:
        """End the child."""
        if self._child:
            self._child.close()
            self._child = None

    def _too_large(self, payload: Any) -> bool:
        return self.most_rows is not None and units_in(payload) > self.most_rows

    def _call(self, payload: Any, patience_s: float) -> bytes:
        child, began_s = self.start(), time.monotonic()
        try:
            answer = child.call(payload, patience_s)
        except EndedError:
            if self._child is child:  # another thread may have started a new one by now
                self._child = None
            raise
        self._slowest_s = max(self._slowest_s or 0.0, time.monotonic() - began_s)
        self._culprits = 0
        if self._good is None and (rows := units_in(payload)):
            self._good = cut(payload, [1] if rows > 1 else [])[0]
        return answer

    def _answer(self, payload: Any, ended: int) -> bytes:
        """Alone in the child. Args: rows, and how often they were in a child that ended because of them."""
        if self._too_large(payload):
            assert self.most_rows
            return self._answer_pieces(payload, range(self.most_rows, units_in(payload), self.most_rows), ended)
        try:
            return self._call(payload, self._patience_s())
        except EndedError as error:
            return self._again(payload, error, ended + 1)

    def _again(self, payload: Any, error: EndedError, ended: int) -> bytes:
        """Go on with rows that were in a child when it ended."""
        rows = units_in(payload)
        if error.out_of_memory and rows > 1:
            self.most_rows = rows // 2
        if rows > 1:
            return self._answer_pieces(payload, self._cuts(rows, error), ended)
        if ended < _TRIES:
            return self._answer(payload, ended)
        return self._reject(payload, error, ended)

    def _answer_pieces(self, payload: Any, cuts: "range | list[int]", ended: int) -> bytes:
        return join([self._answer(piece, ended) for piece in cut(payload, cuts)])

    def _cuts(self, rows: int, error: EndedError) -> list[int]:
        if self.tells and error.beats < rows:
            return sorted({error.beats, error.beats + 1} - {0, rows})
        return [rows // 2]

    def _reject(self, payload: Any, error: EndedError, attempts: int) -> bytes:
        self._culprits += 1
        most = _CULPRITS if self._good else _CULPRITS_AT_FIRST
        if self._culprits >= most and not self._does(self._good):
            raise UniFaceError(
                f"the process of the {self.stage} stage ended with each of {most} rows one after the other, "
                f"so it is not the rows: {error}"
            )
        kind = RejectKind.TIMEOUT if error.late else RejectKind.CRASHED
        kind = RejectKind.OUT_OF_MEMORY if error.out_of_memory else kind
        return self._passed_on(rejected(payload, Reject(kind, str(error), self.stage, attempts)))

    def _does(self, good: bytes | None) -> bool:
        """Whether a row that worked once still does: then it is the others."""
        if good is None:
            return False
        try:
            self.start().call(good, self.timeout_s)
        except EndedError:
            self._child = None
            return False
        self._culprits = 0
        return True

    def _passed_on(self, payload: bytes) -> bytes:
        """A rejected row in its output's form: the child does nothing to it, but may be killed just then."""
        for _ in range(_STARTS):
            try:
                return self.start().call(payload, _START_S)
            except EndedError as error:
                self._child, last = None, error
        raise UniFaceError(f"the process of the {self.stage} stage ends whatever it does: {last}") from last

    def _patience_s(self) -> float:
        """Of chunks that are done again."""
        if self._slowest_s is None:
            return self.timeout_s
        return min(self.timeout_s, max(_LEAST_S, _HASTE * self._slowest_s))
