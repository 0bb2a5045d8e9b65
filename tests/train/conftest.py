"""One toy model and its data for all tests of training."""

from pathlib import Path

import pytest

from tests.train.tokens import save_toy, tokenized


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory, toy: Path, portraits: list[bytes]) -> Path:
    return tokenized(tmp_path_factory.mktemp("tokens"), toy, portraits, rows=60)
