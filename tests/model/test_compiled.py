"""Steps of drawing and decoding under torch.compile, whole: `fullgraph` fails at the first graph break."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import StaticCache

from tests.model.toys import drawing_ids, reading_rows, toy_model
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.masks import attention_rule
from uniface_ray.model.prompts import left_pad

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
BACKENDS = ["eager", "inductor"]  # whether it traces, and whether what is made of it is right


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    yield
    torch.compiler.reset()


def one_layer() -> UniFaceForConditionalGeneration:
    backbone = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    return toy_model(backbone_config=backbone)


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_a_drawing_step(backend: str) -> None:
    model = one_layer()
    ids = drawing_ids(model.config, 2)

    def step(ids: Tensor, rule: Tensor, generation: Tensor, ratio: Tensor) -> Tensor:
        states = model.hidden_states(ids, attention_mask=rule, generation=generation, mask_ratio=ratio, use_cache=False)
        return model.image_logits(states.last_hidden_state)

    given = ids, attention_rule(model.config, ids), torch.ones(2, dtype=torch.bool), torch.tensor([0.3, 0.6])
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(*given), step(*given), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_a_decoding_step_on_a_static_cache(backend: str) -> None:
    model = one_layer()
    config = model.config
    rows, features = reading_rows(model, 2)
    ids = left_pad(rows, config.pad_id)
    length, room = ids.shape[1], 4
    cache = StaticCache(config=config.backbone_config, max_cache_len=length + room)
    reads = torch.zeros(2, dtype=torch.bool)
    model.hidden_states(
        ids,
        attention_mask=F.pad(attention_rule(config, ids), (0, room)),
        past_key_values=cache,
        use_cache=True,
        generation=reads,
        features=features,
    )

    def step(token: Tensor, rule: Tensor, position: Tensor) -> Tensor:
        states = model.hidden_states(
            token,
            attention_mask=rule,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
            generation=reads,
        )
        return model.text_logits(states.last_hidden_state)

    token = torch.tensor([[5], [6]])
    visible = F.pad(torch.cat([ids, token], dim=1) != config.pad_id, (0, room - 1))
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    logits = compiled(token, visible[:, None, None], torch.tensor([[length]]))
    whole = model(torch.cat([ids, token], dim=1), features=features).logits[:, -1:, : config.text_vocab_size]
    torch.testing.assert_close(logits, whole, atol=1e-4, rtol=1e-4)
