"""Small random models for tests of engines."""

import copy
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from tests.model.toys import toy_model
from tests.tiny import save, save_random_model
from uniface_ray.model import UniFaceForConditionalGeneration


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("random") / "model")


@pytest.fixture(scope="session")
def with_experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(toy_model(max_text_length=16), tmp_path_factory.mktemp("experts") / "model")


@pytest.fixture(scope="session")
def folder(request: pytest.FixtureRequest, dense: Path) -> Path:
    """The dense model, or the one that a test's parameter names."""
    return request.getfixturevalue(request.param) if hasattr(request, "param") else dense


@pytest.fixture
def on_meta(model: UniFaceForConditionalGeneration, monkeypatch: pytest.MonkeyPatch) -> UniFaceForConditionalGeneration:
    """The model without numbers: who looks at one fails, as on a GPU who looks would wait."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know this device
    return copy.deepcopy(model).to("meta")


@pytest.fixture(scope="session")
def model(folder: Path) -> UniFaceForConditionalGeneration:
    return UniFaceForConditionalGeneration.from_pretrained(folder).eval()
