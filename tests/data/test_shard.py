"""Shares of a source's files."""

import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from uniface_ray.core.config import DecodeConfig, SourceConfig, StorageConfig
from uniface_ray.data.sources import open_source


def test_every_file_is_in_one_share_and_stays_there(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")

    def names(shard: str | None) -> list[str]:
        source = open_source(SourceConfig(path=str(tmp_path), shard=shard), StorageConfig(), DecodeConfig())
        return [file.name for file in pickle.loads(pickle.dumps(source)).files()]

    shares = [names(f"{number}/4") for number in range(1, 5)]
    assert sorted(name for share in shares for name in share) == sorted(names(None))
    assert all(5 < len(share) < 25 for share in shares)
    (tmp_path / "new.jpg").write_bytes(b"x")
    assert all(set(share) <= set(names(f"{number}/4")) for number, share in enumerate(shares, 1))


@pytest.mark.parametrize("shard", ["0/4", "5/4", "4", "1/0", "a/b"])
def test_what_is_no_share(shard: str) -> None:
    with pytest.raises(ValidationError, match="k/n with 1 <= k <= n"):
        SourceConfig(path="faces", shard=shard)
