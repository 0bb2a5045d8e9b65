"""What measured rows say together, counted in one pass: sums, confusions, features, the best and the worst."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from uniface_ray.core.records import row_id_of
from uniface_ray.data.uris import is_image
from uniface_ray.evaluate import texts
from uniface_ray.evaluate.distances import Cloud
from uniface_ray.evaluate.intervals import Estimate, Floats, Ids, Resampled, share, uniform, wilson

_ANSWERS = ("yes", "no", "yes_right", "no_right", "right", "yes_no", "said_yes", "unclear", "free", "exact", "overlap")
_ODD_KEPT = 5


@dataclass(slots=True)
class Extremes:
    """The rows of the highest and of the lowest scores; equal ones are chosen by chance, the same chance each time."""

    most: int
    best: list[tuple[float, float, int, dict[str, Any]]] = field(default_factory=list)
    worst: list[tuple[float, float, int, dict[str, Any]]] = field(default_factory=list)

    def add(self, score: float, chance: float, row: dict[str, Any]) -> None:
        """Count a row in."""
        for heap, key in ((self.best, score), (self.worst, -score)):
            heapq.heappush(heap, (key, chance, row["run_row"], row))
            if len(heap) > self.most:
                heapq.heappop(heap)

    def rows(self, heap: Sequence[tuple[float, float, int, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Of one of the two, the most extreme first."""
        return [row for *_, row in sorted(heap, key=lambda one: one[:3], reverse=True)]


class Summary:
    """Counts the rows that `measures` gave. Memory grows by eight bytes a row, which tell who shares what.

    Args:
        kind: of the rows.
        attributes: that are compared.
        resamples: of the bootstrap.
        kernel_images: see `Cloud`.
        samples: of the best and of the worst rows.
        seed: of the run.
        by_prompt: rows of one prompt belong together; else those of one image, by its address.
    """

    def __init__(
        self,
        kind: str,
        attributes: Sequence[str],
        resamples: int = 1000,
        kernel_images: int = 5000,
        samples: int = 12,
        seed: int = 0,
        by_prompt: bool = False,
    ) -> None:
        self.kind, self.by_prompt = kind, by_prompt
        self.attributes = tuple(attributes)
        self.seed = seed
        columns = [f"{name}_{part}" for name in attributes for part in ("known", "claimed", "agreed")]
        columns += {"captions": list(texts.COLUMNS), "answers": list(_ANSWERS)}.get(kind, ["own_score", "own_scored"])
        self.sums = Resampled(["rows", *columns], resamples, seed)
        self._seen_keys: list[Ids] = []
        self.confusion: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in attributes}
        self.cloud = Cloud(kernel_images, seed)
        self.extremes = Extremes(samples)
        self.own_scores: Counter[int] = Counter()
        """Rows by the twentieth that their own score lies in."""
        self.odd = 0
        self.odd_labels: list[str] = []

    def add(self, table: pa.Table) -> None:
        """Count in the rows of an output file of the measurement; `chunk` in them says which file of the run."""
        if not table.num_rows:
            return
        faces = self.kind == "faces"
        keys = table["row_id"].to_numpy().astype(np.int64) if faces else self._keys_of(table)
        if "features" in table.column_names:
            features = table["features"].combine_chunks()
            there = np.asarray(features.is_valid())
            if there.any():
                seen = np.stack([one.as_py() for one in features if one.is_valid])
                self.cloud.add(keys[there], seen)
            table = table.drop_columns(["features"])
        if faces:
            return
        rows = table.to_pylist()
        self._seen_keys.append(keys)
        self.sums.add(keys, np.array([self._values(row) for row in rows]))
        ids = np.array([row["run_row"] for row in rows], np.int64)
        for row, chance in zip(rows, uniform(ids, self.seed), strict=True):
            self._note(row, float(chance))

    def _values(self, row: Mapping[str, Any]) -> list[float]:
        """In the order of the sums' names."""
        values = [1.0]
        for name in self.attributes:
            known, claimed = row[f"{name}_known"], row[f"{name}_claimed"]
            values += [known is not None, known is not None and claimed is not None, bool(known) and known == claimed]
        match self.kind:
            case "captions":
                values += row["compared"] or [0.0] * len(texts.COLUMNS)
            case "answers":
                values += _answer_values(row)
            case _:
                own = row["own_score"]
                values += [own or 0.0, own is not None]
        return [float(value) for value in values]

    def _note(self, row: dict[str, Any], chance: float) -> None:
        for name in self.attributes:
            if row[f"{name}_known"]:
                self.confusion[name][row[f"{name}_known"], row[f"{name}_claimed"] or "nothing"] += 1
        if self.kind == "answers" and row["known_yes_no"]:
            counts = self.confusion.setdefault("yes_no", Counter())
            counts[row["known_yes_no"], row["said_yes_no"] or "neither"] += 1
        odd = row.get("odd_labels") or []
        self.odd += len(odd)
        self.odd_labels += odd[: _ODD_KEPT - len(self.odd_labels)]
        if row.get("own_score") is not None:
            self.own_scores[min(19, int(row["own_score"] * 20))] += 1
        if row["score"] is not None and self.extremes.most:
            self.extremes.add(row["score"], chance, row)

    def _keys_of(self, table: pa.Table) -> Ids:
        """The same for rows that share an image or a prompt, whether one row of the source gave them or several."""
        if self.by_prompt:
            return np.array([row_id_of(prompt, 0) for prompt in table["text"].to_pylist()], np.int64)
        given = zip(table["run_key"].to_pylist(), table["run_uri"].to_pylist(), strict=True)
        # Of an image inside a table or an archive, the address is that of the file around it.
        return np.array([row_id_of(uri, 0) if is_image(uri) else key for key, uri in given], np.int64)

    @property
    def keys(self) -> int:
        """How many different ones there are."""
        return len(np.unique(np.concatenate(self._seen_keys))) if self._seen_keys else 0

    @property
    def alone(self) -> bool:
        """Every row has a key of its own."""
        return self.keys >= self.sums.rows

    def known(self, column: str) -> int:
        """Rows that a column of the sums counts."""
        return round(self.sums.sum(column))

    def share(self, hits: str, trials: str) -> Estimate:
        """One count over another.

        Wilson's interval where every row stands alone, else the bootstrap's; one of nothing but hits, or of none, has
        no width, and there it is Wilson's of as many trials as there are keys among them on average.
        """
        keys = self.keys
        if keys >= self.sums.rows:
            return share(self.known(hits), self.known(trials))
        found = self.sums.mean(hits, trials, self.known(trials))
        if found.low < found.high or not found.known:
            return found
        low, high = wilson(found.value * (trials_alone := found.known * keys / self.sums.rows), trials_alone)
        return Estimate(found.value, low, high, found.known, "wilson")

    def balanced(self) -> Estimate:
        """Balanced accuracy of the yes-or-no answers: the mean of what is right among yes and among no."""

        def mean(yes_right: Floats, yes: Floats, no_right: Floats, no: Floats) -> Floats:
            return (yes_right / yes + no_right / no) / 2

        return self.sums.estimate(mean, ("yes_right", "yes", "no_right", "no"), self.known("yes_no"))


def _answer_values(row: Mapping[str, Any]) -> list[float]:
    known, said, right = row["known_yes_no"], row["said_yes_no"], row["exact"]
    yes_no, free = known is not None, known is None
    return [
        known == "yes",
        known == "no",
        known == "yes" and right,
        known == "no" and right,
        yes_no and right,
        yes_no,
        yes_no and said == "yes",
        yes_no and said is None,
        free,
        free and right,
        row["overlap"] or 0.0,
    ]


__all__ = ["Extremes", "Summary"]
