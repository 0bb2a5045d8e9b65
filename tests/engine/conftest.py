"""One small random model for all tests of engines."""

from pathlib import Path

import pytest
import torch

from tests.tiny import save_random_model
from uniface_ray.model import UniFaceForConditionalGeneration

torch.set_num_threads(1)  # models this small gain nothing from more, and lose much where other work runs beside them


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("random") / "model")


@pytest.fixture(scope="session")
def model(folder: Path) -> UniFaceForConditionalGeneration:
    return UniFaceForConditionalGeneration.from_pretrained(folder).eval()
