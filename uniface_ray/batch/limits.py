"""When a run that goes wrong stops itself."""

from collections import Counter
from dataclasses import dataclass, field

from uniface_ray.core.errors import StoppedError

_KINDS_TOLD = 3


@dataclass(slots=True)
class RejectLimit:
    """Too many rejected rows, among those that this run has done: earlier ones may have been before a mend.

    Attributes:
        most: share of the rows; None is no limit.
        least_rows: that must be done before it counts.
    """

    most: float | None = None
    least_rows: int = 0
    _rows: int = field(default=0, init=False)
    _rejects: Counter[str] = field(default_factory=Counter, init=False)

    def count(self, rows: int, rejects: Counter[str]) -> None:
        """So many rows are done, `rejects` among them by kind.

        Raises:
            StoppedError: it was one too many.
        """
        self._rows += rows
        self._rejects += rejects
        rejected = self._rejects.total()
        if self.most is None or self._rows < self.least_rows or rejected <= self.most * self._rows:
            return
        kinds = ", ".join(f"{rows:,} {kind}" for kind, rows in self._rejects.most_common(_KINDS_TOLD))
        raise StoppedError(
            f"run.max_reject_fraction is {self.most:g}, but {rejected:,} of {self._rows:,} rows of this run were "
            f"rejected: {kinds}. Mend what is wrong, or raise the limit: the same command goes on with the rest, and "
            "`uniface replay-rejects` does rejected rows again"
        )
