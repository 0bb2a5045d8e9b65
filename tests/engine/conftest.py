"""One small random model for all tests of engines."""

from pathlib import Path

import pytest

from tests.tiny import save_random_model
from uniface_ray.model import UniFaceForConditionalGeneration


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("random") / "model")


@pytest.fixture(scope="session")
def model(folder: Path) -> UniFaceForConditionalGeneration:
    return UniFaceForConditionalGeneration.from_pretrained(folder).eval()
