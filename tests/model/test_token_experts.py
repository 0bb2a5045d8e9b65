"""Grouped token-level experts: what they compute, what they cost, and that groups stay apart."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from tests.model.toys import toy_config, toy_model
from uniface_ray.model import UniFaceConfig
from uniface_ray.model.routing import Routing
from uniface_ray.model.token_experts import TokenExperts, balance


def routing(generation: list[bool], length: int) -> Routing:
    rows = torch.tensor(generation)
    return Routing(rows, torch.ones(len(rows), length, dtype=torch.bool), balance=[])


def by_hand(experts: TokenExperts, token: Tensor, group: int) -> Tensor:
    """The equation for one token, straight."""

    def expert(name: str, index: int) -> Tensor:
        part = getattr(experts, name)
        inner = F.gelu(part.up_proj[index] @ token + part.up_proj_bias[index], approximate="tanh")
        return part.down_proj[index] @ inner + part.down_proj_bias[index]

    gates = (experts.router[group] @ token).softmax(-1)
    chosen = gates.argsort(descending=True)[: experts.active]
    total = gates[chosen].sum() if experts.normalize else 1.0
    routed = sum(gates[i] / total * expert("routed", group * len(gates) + int(i)) for i in chosen)
    return expert("shared", group) + routed


@pytest.mark.parametrize("normalize", [False, True])
def test_every_token_gets_the_equation_of_its_own_group(normalize: bool) -> None:
    torch.manual_seed(0)
    config = toy_config(token_experts={"routed": 4, "active": 2, "width": 32, "normalize_gates": normalize})
    experts = TokenExperts(config)
    torch.nn.init.normal_(experts.router)
    x = torch.randn(3, 5, 64)
    mixed = experts(x, routing([False, True, False], 5))
    for row, group in enumerate((0, 1, 0)):
        for position in range(5):
            expected = by_hand(experts, x[row, position], group)
            torch.testing.assert_close(mixed[row, position], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_and_the_plain_loop_agree_forward_and_backward(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    experts = TokenExperts(toy_config()).to(dtype)
    x = torch.randn(4, 6, 64, dtype=dtype)
    found = {}
    for implementation in ("grouped_mm", "eager"):
        experts.shared.config._experts_implementation = experts.routed.config._experts_implementation = implementation
        experts.zero_grad()
        y = experts(x, routing([True, False, True, False], 6))
        (y * torch.linspace(0, 1, 64, dtype=dtype)).sum().backward()
        found[implementation] = [y, *(parameter.grad for parameter in experts.parameters())]
    tolerance = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 5e-2, "rtol": 5e-2}
    for grouped, loop in zip(found["grouped_mm"], found["eager"], strict=True):
        assert grouped.dtype == dtype
        torch.testing.assert_close(grouped, loop, **tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize(("routed", "length"), [(4, 6), (8, 1)])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("group", [0, 1])
@torch.no_grad()
def test_a_call_of_one_group_computes_the_same_without_sorting(
    group: int, normalize: bool, routed: int, length: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    sizes = {"routed": routed, "active": 2, "width": 32, "shared_width": 64, "normalize_gates": normalize}
    experts = TokenExperts(toy_config(token_experts=sizes)).to(dtype)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(4, length, 64, dtype=dtype)
    known = Routing(torch.full((4,), group == 1), torch.ones(4, length, dtype=torch.bool), group)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        found = experts(x, known)
    assert not {event.key for event in seen.key_averages()} & {"aten::sort", "aten::_grouped_mm", "aten::item"}
    known.group = None
    torch.testing.assert_close(found, experts(x, known), atol=tolerance, rtol=tolerance)


def test_routing_of_one_task_never_touches_the_others_experts() -> None:
    experts = TokenExperts(toy_config())
    x = torch.randn(4, 6, 64)
    rows = torch.tensor([False, True, True, False])
    for group in (0, 1):
        experts.zero_grad()
        gates = routing(rows.tolist(), 6)
        y = experts(x, gates)
        (y[rows == bool(group)].square().sum() + gates.balance[0][group]).backward()
        for name, parameter in experts.named_parameters():
            mine, other = parameter.grad.chunk(2)[group], parameter.grad.chunk(2)[1 - group]
            assert torch.count_nonzero(other) == 0, name
            assert torch.count_nonzero(mine) > 0, name


def executed_flops(config: UniFaceConfig, tokens: int) -> int:
    """Floating point operations of the matrix products that really ran."""
    experts = TokenExperts(config)
    x = torch.randn(1, tokens, 64)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], with_flops=True) as seen:
        experts(x, Routing(torch.tensor([True]), torch.ones(1, tokens, dtype=torch.bool)))
    return sum(event.flops for event in seen.key_averages() if event.key in ("aten::mm", "aten::addmm"))


def test_the_cost_follows_the_active_experts() -> None:
    def cost(routed: int, active: int) -> int:
        return executed_flops(
            toy_config(token_experts={"routed": routed, "active": active, "width": 32, "shared_width": 64}), 48
        )

    one_expert = 48 * 2 * (2 * 64 * 32)
    router = 48 * 2 * 64 * 2  # of one more expert in both groups
    usual = cost(8, 4)
    assert usual - cost(8, 2) == 2 * one_expert
    assert cost(16, 4) - usual == 8 * router


def test_balance_is_one_for_uniform_routing_and_more_for_uneven() -> None:
    tokens, experts, active = 24, 6, 2
    group = torch.arange(tokens) % 2
    counted = torch.ones(tokens, dtype=torch.bool)
    even = torch.full((tokens, experts), 1 / experts)
    in_turn = (torch.arange(tokens)[:, None] // 2 * active + torch.arange(active)) % experts
    torch.testing.assert_close(balance(even, in_turn, group, counted), torch.ones(2))
    skewed = torch.tensor([0.4, 0.4, 0.05, 0.05, 0.05, 0.05]).expand(tokens, -1)
    same = torch.tensor([[0, 1]]).expand(tokens, -1)
    torch.testing.assert_close(balance(skewed, same, group, counted), torch.full((2,), 0.8 * experts / active))


def test_balance_leaves_out_padding_and_an_absent_group_is_zero() -> None:
    torch.manual_seed(0)
    scores = torch.rand(10, 4).softmax(-1)
    chosen = scores.topk(2).indices
    counted = torch.arange(10) < 6
    group = torch.zeros(10, dtype=torch.int64)
    padded = balance(scores, chosen, group, counted)
    torch.testing.assert_close(padded, balance(scores[:6], chosen[:6], group[:6], counted[:6]))
    assert padded[1] == 0


def test_balance_is_in_the_models_output_and_loss_and_router_learns_from_it() -> None:
    model = toy_model()
    ids = torch.full((2, 6), 7)
    ids[1, 0] = model.config.special_id("<|t2i|>")
    output = model(ids, labels=ids)
    states = model.hidden_states(ids)
    torch.testing.assert_close(states.balance_loss, output.balance_loss)
    bare = model.loss_function(logits=output.logits, labels=ids, vocab_size=model.config.vocab_size)
    torch.testing.assert_close(output.loss, bare + 0.01 * output.balance_loss.sum())
    output.balance_loss.sum().backward()
    assert all(torch.count_nonzero(layer.mlp.router.grad[g]) for layer in model.showo.model.layers for g in (0, 1))
    with torch.no_grad():
        assert model(ids).balance_loss is None


def test_settings_that_do_not_fit_are_said() -> None:
    with pytest.raises(ValueError, match=r"active is 5.*routed = 4"):
        toy_config(token_experts={"routed": 4, "active": 5})
