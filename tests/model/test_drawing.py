"""Drawing: agreement with Show-o's own loop, and images that depend on their own request only."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.toys import toy_config, toy_model
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration
from uniface_ray.model.denoising import Places, advance, guided_logits
from uniface_ray.model.drawing import DrawRequest, DrawSettings, begin, draw, step
from uniface_ray.model.prefix import read_prompts
from uniface_ray.model.prompts import generation_ids, prompt_ids, tokens_cut

# A random number this near to where the choice turns may fall on either side in float32.
NEAR_TIE = 1e-6

REQUESTS = [
    DrawRequest([9, 20, 7], 11, DrawSettings(steps=8, guidance=2.0)),
    DrawRequest([], 12, DrawSettings(steps=5, guidance=0.0)),
    DrawRequest([30, 31, 32, 33, 34, 35, 36], 13, DrawSettings(steps=16, guidance=5.0, schedule="linear")),
    DrawRequest([9, 20, 7], 14, DrawSettings(steps=8, guidance=2.0, temperature=3.0)),
    DrawRequest([5], 15, DrawSettings(steps=1, guidance=0.5, top_k=4)),
    DrawRequest([9, 20, 7], 11, DrawSettings(steps=8, guidance=2.0, top_p=0.8)),
    DrawRequest(
        [8, 8], 17, DrawSettings(steps=3, guidance=1.0), codes=torch.arange(16), unknown=torch.arange(16) % 3 == 0
    ),
]


def restated(
    model: UniFaceForConditionalGeneration, request: DrawRequest, share: Any = lambda t: torch.cos(t * torch.pi * 0.5)
) -> tuple[Tensor, float]:
    """Show-o's t2i_generate (modeling_showo.py:104-181) for one image, with random numbers as `draw` takes them.

    All of the sequence goes through the model in every step. Also gives the smallest distance of a random number from
    where its choice would turn.
    """
    config, settings = model.config, request.settings
    count, offset = config.num_image_tokens, config.image_token_offset
    generator = torch.Generator().manual_seed(request.seed)
    input_ids = generation_ids(config, request.text_ids, request.codes)[None]
    image = slice(-(count + 1), -1)
    if request.unknown is not None:
        input_ids[:, image][request.unknown[None]] = config.mask_token_id
    prefix = generation_ids(config, [])[None, : config.max_text_length + 1]
    known = torch.where(input_ids[:, image] == config.mask_token_id, config.mask_token_id, input_ids[:, image] - offset)
    temperature, margin = settings.temperature, 1.0
    for number in range(settings.steps):
        *uniforms, noise = torch.rand(count, config.magvit_config.latent_bits + 1, generator=generator).unbind(-1)
        unconditional = torch.cat([prefix, input_ids[:, config.max_text_length + 1 :]], dim=1)
        logits = model(torch.cat([input_ids, unconditional])).logits[:, image, offset : config.mask_token_id]
        logits = (1 + settings.guidance) * logits[:1] - settings.guidance * logits[1:]
        probs = logits.softmax(-1)
        unknown = known == config.mask_token_id
        sampled = torch.zeros_like(known)
        for bit, uniform in enumerate(uniforms):
            codes, shift = torch.arange(config.codebook_size), len(uniforms) - bit
            so_far = codes >> shift == sampled[..., None]
            is_zero = so_far & (codes >> (shift - 1) & 1 == 0)
            chance = (probs * is_zero).sum(-1) / (probs * so_far).sum(-1)
            margin = min(margin, float((chance - uniform).abs()[unknown].amin()))
            sampled = 2 * sampled + (uniform >= chance)
        sampled = torch.where(unknown, sampled, known)
        ratio = (number + 1) / settings.steps
        selected = probs.gather(-1, sampled[..., None])[..., 0]
        selected = torch.where(unknown, selected, torch.finfo(selected.dtype).max)
        mask_len = (count * share(torch.tensor(ratio))).floor()[None]
        mask_len = torch.max(torch.tensor([1]), torch.min(unknown.sum(-1, keepdim=True) - 1, mask_len))
        temperature = temperature * (1.0 - ratio)
        gumbel = -torch.log((-torch.log(noise.clamp(min=1e-20))).clamp(min=1e-20))
        confidence = torch.log(selected.clamp(min=1e-20)) + temperature * gumbel
        ordered = confidence.sort(-1).values
        cut = mask_len.long()
        margin = min(margin, float((ordered.gather(1, cut) - ordered.gather(1, cut - 1)).amin()))
        masking = confidence < ordered.gather(1, cut)
        input_ids[:, image] = torch.where(masking, config.mask_token_id, sampled + offset)
        known = torch.where(masking, config.mask_token_id, sampled)
    return sampled[0], margin


def test_text_to_image_logits_over_cached_prompts(
    model: UniFaceForConditionalGeneration, reference: dict[str, Any], numbers: Mapping[str, Tensor]
) -> None:
    prompts = [prompt_ids(model.config, prompt) for prompt in reference["prompts"]]
    assert len({len(prompt) for prompt in prompts}) > 1
    with torch.inference_mode():
        both = read_prompts(model, [*prompts, prompt_ids(model.config, [])])
        nobody, unknown = torch.zeros(0, dtype=torch.int64), numbers["t2i.masked"].bool()
        unguided = Places(torch.arange(unknown.numel()), nobody, nobody), torch.zeros(len(prompts))
        logits = guided_logits(model, numbers["t2i.codes"], unknown, both, both.visible(), *unguided)
    logits = logits.view(*unknown.shape, -1)
    torch.testing.assert_close(logits[..., ::16], numbers["t2i.image_logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("steps", [1, 4, 12, 18])
@pytest.mark.parametrize("guidance", [0.0, 1.75])
def test_the_reference_schedule_draws_what_show_os_loop_draws(
    model: UniFaceForConditionalGeneration, reference: dict[str, Any], steps: int, guidance: float
) -> None:
    settings = DrawSettings(steps, guidance, temperature=1.5, reference=True)
    requests = [DrawRequest(prompt, 40 + index, settings) for index, prompt in enumerate(reference["prompts"])]
    requests.append(DrawRequest(reference["prompts"][0], 50, settings, torch.arange(16) * 3, torch.arange(16) > 9))
    drawn = draw(model, requests)
    with torch.inference_mode():
        expected = [restated(model, request) for request in requests]
    assert sum(margin < NEAR_TIE for _, margin in expected) <= 1, "hardly anything is compared"
    for ours, (theirs, margin) in zip(drawn, expected, strict=True):
        assert torch.equal(ours, theirs) or margin < NEAR_TIE


@pytest.fixture(scope="module")
def experts() -> UniFaceForConditionalGeneration:
    """Experts of both levels over 4 x 4 image tokens."""
    magvit = toy_config().magvit_config.to_dict() | {"image_size": 16}
    return toy_model(magvit_config=magvit, max_text_length=12)


def test_the_loop_draws_the_same_with_experts(experts: UniFaceForConditionalGeneration) -> None:
    settings = DrawSettings(6, 1.75, reference=True)
    requests = [DrawRequest(range(5, 6 + index), index, settings) for index in range(3)]
    with torch.inference_mode():
        expected = [restated(experts, request) for request in requests]
    assert sum(margin < NEAR_TIE for _, margin in expected) <= 1, "hardly anything is compared"
    for ours, (theirs, margin) in zip(draw(experts, requests), expected, strict=True):
        assert torch.equal(ours, theirs) or margin < NEAR_TIE


@pytest.mark.parametrize("name", ["model", "experts"])
def test_an_image_is_the_same_alone_in_a_batch_and_among_others(name: str, request: pytest.FixtureRequest) -> None:
    model: UniFaceForConditionalGeneration = request.getfixturevalue(name)
    together = draw(model, REQUESTS)
    others = [DrawRequest([40] * index, 90 + index, DrawSettings(steps=1 + index)) for index in range(6)]
    for index, asked in enumerate(REQUESTS):
        assert torch.equal(draw(model, [asked])[0], together[index])
        beside = draw(model, [*others[:index], asked, *others[index:]])
        assert torch.equal(beside[index], together[index])
    assert len({tuple(codes.tolist()) for codes in together}) == len(REQUESTS)


def test_rows_enter_and_leave_between_steps(model: UniFaceForConditionalGeneration) -> None:
    expected = draw(model, REQUESTS)
    drawing, waiting, inside, finished = begin(model, REQUESTS[:2]), list(range(2, 7)), [0, 1], {}
    while inside:
        step(model, drawing)
        going = []
        for row, done in enumerate(drawing.done):
            if done:
                finished[inside[row]] = drawing.codes[row]
            else:
                going.append(row)
        drawing, inside = drawing.take(going), [inside[row] for row in going]
        if waiting:
            new = waiting.pop(0)
            drawing, inside = drawing.join(begin(model, [REQUESTS[new]])), [*inside, new]
    assert torch.equal(torch.stack([finished[index] for index in range(7)]), expected)


def test_finished_rows_stay_as_they_are(model: UniFaceForConditionalGeneration) -> None:
    drawing = begin(model, REQUESTS)
    for _ in range(20):
        step(model, drawing)
    assert all(drawing.done)
    assert torch.equal(drawing.codes, draw(model, REQUESTS))


def test_known_tokens_stay_and_the_callers_tensors_too(model: UniFaceForConditionalGeneration) -> None:
    codes, unknown = torch.arange(16) * 7, torch.arange(16) % 2 == 1
    request = DrawRequest([4, 5], 3, DrawSettings(steps=4), codes, unknown)
    drawn = draw(model, [request])[0]
    assert torch.equal(drawn[~unknown], codes[~unknown])
    assert torch.equal(codes, torch.arange(16) * 7)
    assert not torch.equal(drawn, codes)
    everything = DrawRequest([4, 5], 3, codes=codes, unknown=torch.zeros(16, dtype=torch.bool))
    assert torch.equal(draw(model, [everything])[0], codes)


def test_guidance_is_not_computed_where_it_is_zero(model: UniFaceForConditionalGeneration) -> None:
    counts = []
    hook = model.showo.model.layers[0].register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    draw(model, [DrawRequest([3], 1, DrawSettings(steps=1, guidance=w)) for w in (0.0, 2.0, 0.0)])
    hook.remove()
    assert counts == [3, 1, 4]  # the prompts, the empty prompt, three images and one of them without its prompt


def test_guidance_in_an_interval_is_computed_in_its_steps_only(
    model: UniFaceForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    hidden_states = model.hidden_states

    def counted(ids: Tensor, **arguments: Any) -> Any:
        rows.append(len(ids))
        return hidden_states(ids, **arguments)

    monkeypatch.setattr(model, "hidden_states", counted)
    some = [
        DrawRequest([9, 20], 3, DrawSettings(steps=4, guidance=4.0, guidance_interval=(0.25, 0.75))),
        DrawRequest([7], 4, DrawSettings(steps=4, guidance=0.0)),
    ]
    drawing = begin(model, some)
    rows.clear()
    while not all(drawing.done):
        step(model, drawing)
    assert rows == [2, 3, 3, 2]
    assert torch.equal(drawing.codes[0], draw(model, some[:1])[0])


def test_one_code_allowed_is_the_likeliest_code(model: UniFaceForConditionalGeneration) -> None:
    greedy = [DrawRequest([3, 4], seed, DrawSettings(1, 0.0, top_k=1)) for seed in (1, 2)]
    first, second = draw(model, greedy)
    assert torch.equal(first, second)
    with torch.inference_mode():
        logits = model(generation_ids(model.config, [3, 4])[None]).logits[0, -17:-1]
    offset = model.config.image_token_offset
    assert torch.equal(first, logits[:, offset : model.config.mask_token_id].argmax(-1))


@pytest.mark.slow
def test_the_step_compiles_without_a_graph_break(model: UniFaceForConditionalGeneration) -> None:
    torch.compiler.reset()
    compiled = torch.compile(advance, fullgraph=True, backend="eager")
    drawing = begin(model, REQUESTS[:3])
    while not all(drawing.done):
        step(model, drawing, compiled)
    assert torch.equal(drawing.codes, draw(model, REQUESTS[:3]))


def test_what_is_cut_of_a_prompt_is_known(config: UniFaceConfig) -> None:
    room = config.max_text_length - 2
    assert tokens_cut(config, [1] * room) == 0
    assert tokens_cut(config, [1] * (room + 3)) == 3
    assert prompt_ids(config, [1] * (room + 3)) == prompt_ids(config, [1] * room)


def test_codes_that_do_not_fit_are_refused(model: UniFaceForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match=r"\(9,\).*has \(16,\)"):
        draw(model, [DrawRequest([1], 0, codes=torch.zeros(9, dtype=torch.int64))])
    with pytest.raises(ValueError, match="give `codes`"):
        draw(model, [DrawRequest([1], 0, unknown=torch.arange(16) > 3)])
