"""report.html of a training: curves, numbers, and what the model says and draws of held-out faces."""

import base64
import json
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

from uniface_ray.core.markup import el
from uniface_ray.core.report_charts import Curve, curves_chart
from uniface_ray.core.report_parts import page
from uniface_ray.core.run_facts import redacted, versions
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.model.prompts import CAPTION_QUESTION
from uniface_ray.train.validation import Example

_CHARTS = {
    "Loss": ("loss/total", "held_out/total"),
    "Text loss": ("loss/text", "held_out/text"),
    "Mask loss": ("loss/mask", "held_out/mask"),
    "Score loss": ("loss/score", "held_out/score"),
    "Balance of experts": ("loss/balance",),
    "Learning rate": ("learning_rate",),
    "Gradient norm": ("gradient_norm",),
    "Tokens a second": ("tokens_per_s",),
}


def render_training(config: TrainConfig, records: Sequence[dict[str, Any]], examples: Sequence[Example]) -> str:
    """The page: HTML with styles, charts and pictures inside, no scripts, nothing loaded from elsewhere.

    Args:
        config: of the run.
        records: of its journal.
        examples: of the last look at held-out rows.
    """
    title = f"Training of {config.model.name}"
    steps = config.stages.each()[-1].end
    step = records[-1]["step"] if records else 0
    header = el(
        "header",
        el("p", f"train · {config.model.name}", class_="eyebrow"),
        el("h1", title, " ", el("span", f"step {step:,} of {steps:,}", class_="badge")),
        el(
            "p",
            el("span", config.data.path, class_="path"),
            el("span", " → ", class_="arrow"),
            el("span", config.sink.path, class_="path"),
        ),
    )
    sections = [_numbers(records), _charts(records), _faces(config, examples), _details(config)]
    return page(title, header, el("main", *sections, id="main"))


def _numbers(records: Sequence[dict[str, Any]]) -> Element:
    last = {name: value for record in records for name, value in record.items()}
    wanted = {
        "held-out loss": ("held_out/total", "{:.4f}"),
        "loss": ("loss/total", "{:.4f}"),
        "tokens/s": ("tokens_per_s", "{:,.0f}"),
        "seconds/step": ("seconds_per_step", "{:.3f}"),
        "memory, GB": ("memory_gb", "{:.2f}"),
        "FLOPs used": ("flops_utilisation", "{:.1%}"),
    }
    cells = [(label, form.format(last[name])) for label, (name, form) in wanted.items() if name in last]
    numbers = el("dl", *(el("div", el("dt", label), el("dd", value)) for label, value in cells), class_="numbers")
    return el("section", numbers, aria_label="Numbers")


def _charts(records: Sequence[dict[str, Any]]) -> Element:
    cards = []
    for title, names in _CHARTS.items():
        curves = [Curve(name, [(one["step"], one[name]) for one in records if name in one]) for name in names]
        if any(len(curve.points) > 1 for curve in curves):
            cards.append(el("figure", el("figcaption", title), curves_chart(title, curves, "step")))
    return el("section", el("h2", "Curves"), el("div", *cards, class_="charts"), id="curves", aria_label="Curves")


def _faces(config: TrainConfig, examples: Sequence[Example]) -> Element:
    note = "Each held-out image as its codes have it, what the model says of it, and what the data says."
    if any(one.drawn for one in examples):
        note += " Beside it, what the model draws from the data's caption."
    sheet = el("ul", *(_card(one, config.report.images) for one in examples), class_="sheet")
    return el("section", el("h2", "Held-out faces"), el("p", note, class_="muted"), sheet, id="faces")


def _card(example: Example, images: bool) -> Element:
    pictures = [_picture(jpeg) for jpeg in (example.image, example.drawn) if jpeg] if images else []
    texts = [el("p", example.said, dir="auto", class_="answer"), el("p", example.wanted, class_="details")]
    if example.asked != CAPTION_QUESTION:
        texts.insert(0, el("p", example.asked, dir="auto", class_="details"))
    shown = [el("div", *pictures, class_="pair")] if pictures else []
    return el("li", el("figure", *shown, el("figcaption", *texts, el("small", f"row {example.row_id}"))))


def _picture(jpeg: bytes) -> Element:
    data = base64.b64encode(jpeg).decode()
    return el("img", src=f"data:image/jpeg;base64,{data}", alt="", width=176, height=176, loading="lazy")


def _details(config: TrainConfig) -> Element:
    rows = (el("tr", el("th", name, scope="row"), el("td", text)) for name, text in versions().items())
    settings = el("pre", json.dumps(redacted(config), indent=2, ensure_ascii=False), tabindex="0")
    table = el("table", el("caption", "Versions"), *rows, class_="versions")
    return el("section", el("h2", "Details"), table, el("details", el("summary", "Configuration"), settings))
