"""A model of transformers behind the engine's protocol: a small LLaVA with random weights."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.llava import save_llava
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import UniFaceError, UserError
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.build import build_engine
from uniface_ray.engine.check import check_engine
from uniface_ray.engine.huggingface import TransformersEngine
from uniface_ray.engine.protocol import Ask, Draw, Outcome, Text

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("llava") / "model")


@pytest.fixture
def engine(llava: Path) -> TransformersEngine:
    return TransformersEngine(llava, 32, batch_size=4)


def asks(**settings: Any) -> list[Ask]:
    return [Ask(one, "who is it" * (i % 3), 3 + i, seed=i, **settings) for i, one in enumerate(PIXELS)]


def texts(outcomes: Sequence[Outcome]) -> list[str]:
    assert all(isinstance(one, Text) for one in outcomes), outcomes
    return [one.text for one in outcomes if isinstance(one, Text)]


@torch.inference_mode()
def plain(llava: Path, ask: Ask) -> tuple[str, int]:
    """The answer as the library's own example makes it, and the tokens of the prompt."""
    processor = AutoProcessor.from_pretrained(llava)
    model = AutoModelForImageTextToText.from_pretrained(llava, dtype=torch.float32).eval()
    picture = {"type": "image", "image": Image.fromarray(ask.pixels.transpose(1, 2, 0))}
    chat = [{"role": "user", "content": [picture, {"type": "text", "text": ask.question}]}]
    inputs = processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    length = inputs["input_ids"].shape[1]
    answer = model.generate(**inputs, max_new_tokens=ask.max_new_tokens, do_sample=False)[0, length:]
    return processor.decode(answer, skip_special_tokens=True).strip(), length


def test_answers_are_the_models_own_in_any_batch(llava: Path, engine: TransformersEngine) -> None:
    asked = asks()
    outcomes = engine.run(asked)
    expected = [plain(llava, one) for one in asked]
    assert [(one.text, one.prompt_tokens) for one in outcomes if isinstance(one, Text)] == expected
    assert all(one.tokens <= ask.max_new_tokens for one, ask in zip(outcomes, asked, strict=True))
    assert len(set(texts(outcomes))) > 3


def test_drawn_tokens_depend_on_the_seed_and_not_on_the_batch(llava: Path, engine: TransformersEngine) -> None:
    warm = asks(temperature=1.5, top_p=0.9)
    together = texts(engine.run(warm))
    assert together == texts(TransformersEngine(llava, 32, batch_size=1).run(warm))
    assert together == texts(engine.run(warm[::-1]))[::-1]
    assert together != texts(engine.run(asks()))


def test_forms_are_kept_beside_free_answers(engine: TransformersEngine) -> None:
    free = texts(engine.run(asks()[:2]))
    choice, first, schema, second, bad = engine.run(
        [
            Ask(PIXELS[0], "?", 9, choices=("yes", "no")),
            asks()[0],
            Ask(PIXELS[1], "?", 60, json_schema='{"enum": ["dark", "fair"]}'),
            asks()[1],
            Ask(PIXELS[1], "?", 60, json_schema='{"type": "funny"}'),
        ]
    )
    assert texts([first, second]) == free
    assert texts([choice])[0] in ("yes", "no")
    assert json.loads(texts([schema])[0]) in ("dark", "fair")
    assert isinstance(bad, Reject)
    assert bad.kind == RejectKind.BAD_REQUEST


def test_answers_come_as_they_end_and_can_be_watched_and_cancelled(engine: TransformersEngine) -> None:
    good = texts(engine.run(asks()))
    numbers = [engine.submit(one) for one in asks(watched=True)]
    order: list[int] = []
    outcomes: dict[int, Outcome] = {}
    seen: list[int] = []
    while len(outcomes) < 7:
        for number, outcome in engine.step():
            order.append(number)
            outcomes[number] = outcome
        seen += [number for number, _ in engine.progress()]
        if len(order) == 1:  # one that is under way, one that waits, and no such one
            for number in (numbers[3], numbers[8], 10**6):
                engine.cancel(number)
    assert [number for number in numbers if number not in outcomes] == [numbers[3], numbers[8]]
    assert texts([outcomes[number] for number in numbers if number in outcomes]) == [*good[:3], *good[4:8]]
    assert order[0] == numbers[0]  # the shortest of its batch
    assert set(seen) >= {numbers[1], numbers[5]}


def test_limits_and_other_kinds_of_requests(engine: TransformersEngine) -> None:
    late, drawn, fine = engine.run(
        [Ask(PIXELS[0], "?", 500, time_limit_s=0.0), Draw("p", 0, 1, 0, 1, "cosine"), asks()[0]]
    )
    assert isinstance(late, Reject)
    assert isinstance(drawn, Reject)
    assert (late.kind, drawn.kind) == (RejectKind.TIMEOUT, RejectKind.BAD_REQUEST)
    assert drawn.message == "an image-text model answers questions, and cannot draw"
    texts([fine])


def limited(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, rows: int, error: Exception) -> None:
    forward = engine.chat.model.model.forward

    def fails(*arguments: Any, **named: Any) -> Any:
        if len(named["input_ids"]) > rows:
            raise error
        return forward(*arguments, **named)

    monkeypatch.setattr(engine.chat.model.model, "forward", fails)


def test_a_batch_too_large_for_memory_is_split(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    good = texts(engine.run(asks()))
    limited(engine, monkeypatch, 2, torch.OutOfMemoryError("full"))
    assert texts(engine.run(asks())) == good
    assert engine._most == 2


def test_a_request_that_is_too_large_alone_does_not_make_others_go_one_by_one(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = texts(engine.run(asks()))
    prompts = engine.chat.prompts
    sizes: list[int] = []

    def limited_prompts(pictures: Sequence[Any], questions: Sequence[str]) -> Any:
        sizes.append(len(questions))
        if "large" in questions:
            raise torch.OutOfMemoryError("full")
        return prompts(pictures, questions)

    monkeypatch.setattr(engine.chat, "prompts", limited_prompts)
    asked = asks()
    asked[2] = Ask(PIXELS[2], "large", 3)
    outcomes = engine.run(asked)
    bad = outcomes.pop(2)
    assert isinstance(bad, Reject)
    assert bad.kind == RejectKind.OUT_OF_MEMORY
    assert texts(outcomes) == good[:2] + good[3:]
    assert sizes == [4, 2, 2, 1, 1, 4, 1]


def test_a_request_that_fails_costs_no_other_and_a_broken_model_is_noticed(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = texts(engine.run(asks()))
    prompts = engine.chat.prompts

    def poisoned(pictures: Sequence[Any], questions: Sequence[str]) -> Any:
        if "poison" in questions:
            raise ValueError("poison")
        return prompts(pictures, questions)

    monkeypatch.setattr(engine.chat, "prompts", poisoned)
    asked = asks()
    asked[5] = Ask(PIXELS[5], "poison", 3)
    outcomes = engine.run(asked)
    bad = outcomes.pop(5)
    assert isinstance(bad, Reject)
    assert (bad.kind, bad.message) == (RejectKind.MODEL_ERROR, "ValueError: poison")
    assert texts(outcomes) == good[:5] + good[6:]
    limited(engine, monkeypatch, 0, ValueError("broken"))
    with pytest.raises(UniFaceError, match="answers none of 8 requests one after the other: broken"):
        engine.run(asks())


def config(path: Path | str, command: str = "caption", **engine: Any) -> JobConfig:
    return JobConfig.model_validate(
        {
            "source": {"path": "."},
            "sink": {"path": "out"},
            "task": {"name": command},
            "model": {"name": "llava", "path": str(path)},
            "engine": {"kind": "transformers", **engine},
        }
    )


def test_a_model_is_looked_at_and_built(llava: Path) -> None:
    checked = check_engine(config(llava))
    assert checked.image_size == 32
    larger = check_engine(config(llava, image_size=64))
    assert larger.image_size == 64
    assert larger.fingerprint != checked.fingerprint, "answers of pictures of two sizes do not share a sink"
    (outcome,) = build_engine(config(llava), "cpu", "bfloat16").run(asks()[:1])
    texts([outcome])


def drop_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def make_text_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


def make_uniface(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "uniface"}))


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def drop_processor(folder: Path) -> None:
    (folder / "processor_config.json").unlink()


def spoil_processor(folder: Path) -> None:
    (folder / "processor_config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (drop_template, "which has no chat template"),
        (make_text_model, "model_type 'bert', but engine.kind=transformers runs image-text models"),
        (make_uniface, "use engine.kind=uniface"),
        (cut_weights, "model.safetensors cannot be read"),
        (drop_processor, "there is no processor_config.json in it"),
        (spoil_processor, "whose processor cannot be loaded"),
    ],
)
def test_models_that_cannot_be_run_are_told(
    llava: Path, tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llava, folder)
    spoil(folder)
    with pytest.raises(UserError, match=rf"model\.path is .*{told}"):
        check_engine(config(folder))


def test_a_model_that_the_hub_does_not_have_and_a_task_it_cannot_do_are_told(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot be had from the Hugging Face hub"):
        check_engine(config("hf://nobody/nothing"))
    with pytest.raises(UserError, match="answers questions, but cannot score"):
        check_engine(config(llava, "score"))
