"""Which weights decay, which learn, and the learning rate of each step."""

import pytest

from tests.model.toys import toy_config, toy_model
from uniface_ray.core.errors import UserError
from uniface_ray.core.stages_config import StagesConfig
from uniface_ray.core.train_config import LoraConfig, OptimizerConfig
from uniface_ray.model.presets import parameters
from uniface_ray.train.lora import adapt, check_lora
from uniface_ray.train.meter import flops_per_token
from uniface_ray.train.optimizer import build_optimizer, learning_rate
from uniface_ray.train.trained import check_trained, freeze, saved_names


def test_matrices_decay_and_vectors_and_tables_do_not() -> None:
    model = toy_model()
    (stage,) = StagesConfig().each()
    freeze(model, stage)
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0.1), stage)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, others = ({names[id(one)] for one in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert {"showo.lm_head.weight", "showo.model.layers.0.mlp.routed.up_proj"} < decayed
    assert {"showo.model.layers.1.self_attn.q_proj.weight", "encoders.resamplers.noise.input.weight"} < decayed
    assert {"showo.model.embed_tokens.weight", "showo.model.layers.0.input_layernorm.weight"} < others
    assert {"showo.model.layers.0.mlp.shared.up_proj_bias", "encoders.resamplers.identity.queries"} < others
    assert not any(one.startswith(("magvit", "encoders.semantic", "encoders.identity")) for one in decayed | others)
    assert len(decayed) + len(others) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("trained", "learns", "does_not"),
    [
        ("experts", "showo.model.layers.0.mlp.router", "showo.lm_head.weight"),
        ("everything", "encoders.semantic.model.post_layernorm.weight", "magvit.quantize"),
        (r"\.layers\.1\.", "showo.model.layers.1.mlp.router", "showo.model.layers.0.mlp.router"),
    ],
)
def test_a_stage_trains_what_it_names(trained: str, learns: str, does_not: str) -> None:
    model = toy_model()
    (stage,) = StagesConfig(trained=(trained,)).each()
    freeze(model, stage)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns in names
    assert does_not not in names
    assert not any(name.startswith("magvit") for name in names)
    assert sorted(names) == sorted(saved_names(model, [stage]))


def test_operations_are_counted_by_what_learns() -> None:
    model = toy_model()
    (stage,) = StagesConfig().each()
    freeze(model, stage)
    embeddings = model.get_input_embeddings().weight.numel()
    passed = parameters(model)["active"] - embeddings
    assert flops_per_token(model) == 6 * passed
    (stage,) = StagesConfig(trained=("lm_head.weight",)).each()
    freeze(model, stage)
    assert flops_per_token(model) == 4 * passed + 2 * model.showo.lm_head.weight.numel()
    (stage,) = StagesConfig(trained=("experts",)).each()
    freeze(model, stage)
    assert 4 * passed < flops_per_token(model) < 6 * passed


def test_adapters_leave_the_image_encoders_alone() -> None:
    model = toy_model()
    assert any(name.endswith("q_proj.weight") for name, _ in model.encoders.named_parameters())
    adapt(model, LoraConfig(rank=2), seed=0)
    adapters = {name.partition(".lora_")[0] for name, _ in model.named_parameters() if "lora_" in name}
    assert not any(name.startswith(("encoders.", "magvit.")) for name in adapters)
    assert {f"showo.model.layers.1.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "dense")} < adapters


def test_what_trains_nothing_is_told() -> None:
    dense = toy_model(token_experts=None, sequence_experts=None)
    (stage,) = StagesConfig(trained=("experts",)).each()
    with pytest.raises(UserError, match=r"stages.trained is 'experts' in stage 0, but this model has no such"):
        check_trained(dense.config, [stage], has_pixels=True)
    (stage,) = StagesConfig(trained=("everything",)).each()
    check_trained(dense.config, [stage], has_pixels=False)
    check_trained(toy_config(), [stage], has_pixels=True)
    with pytest.raises(UserError, match=r"lora.targets is \['nothing'\], which peft refuses: .*not found"):
        adapt(dense, LoraConfig(rank=2, targets=("nothing",)), seed=0)
    with pytest.raises(UserError, match=r"with lora.rank=2 the adapters alone learn: leave stages.trained at all"):
        check_lora(LoraConfig(rank=2), StagesConfig(trained=("experts",)))


def test_the_rate_rises_and_falls_in_each_stage() -> None:
    stages = StagesConfig(steps=(10, 20), learning_rate=(1.0, 0.5), warmup_steps=(4,)).each()

    def rates(number: int, **settings: object) -> list[float]:
        stage = stages[number]
        config = OptimizerConfig(**settings)
        return [learning_rate(config, stage, step) for step in range(stage.first, stage.end + 1)]

    cosine = rates(0, floor=0.1)
    assert cosine[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert cosine[7] == pytest.approx(0.55)
    assert cosine[10] == pytest.approx(0.1)
    assert rates(1, floor=0.0, decay="linear")[12] == pytest.approx(0.25)
    assert set(rates(1, decay="constant")[3:]) == {0.5}
