"""Lets the image tokenizer's attribute head settle what the estimates left open, where it is very sure.

It was trained on the sure faces only. Without it a third of the faces would teach the language model not to mention the
gender, for no reason that can be seen in them.
"""

import torch
from torch import Tensor

from uniface_ray.model.magvit import MagvitV2
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.augment import random_views
from uniface_ray.train.tiny.image_tokenizer import AttributeHead
from uniface_ray.train.tiny.prepare import Prepared

# Attribute -> probability from which the head's word is taken.
SURE_ENOUGH = {"gender": 0.9, "smile": 0.9, "hair_color": 0.8}


@torch.no_grad()
def settle(prepared: Prepared, magvit: MagvitV2, head: AttributeHead, views: int = 1) -> Prepared:
    """`prepared` with more attributes decided: the head's mean probability over `views` mild views must be high.

    Bald heads stay without a hair colour, and grey hair is not given to the young.
    """
    total = {name: torch.zeros(len(prepared.faces), len(VALUES[name])) for name in SURE_ENOUGH}
    for view in range(views):
        generator = torch.Generator().manual_seed(view)
        for start in range(0, len(prepared.faces), 64):
            rows = slice(start, start + 64)
            pixels = random_views(prepared.faces[rows], magvit.config.image_size, generator, strength=0.3)
            with torch.autocast("cpu", torch.bfloat16):
                logits, _ = head(magvit.quantize(magvit.encoder(pixels)))
            for name, sums in total.items():
                sums[rows] += logits[name].float().softmax(-1) / views
    classes = prepared.classes.clone()
    for column, name in enumerate(VALUES):
        if name in SURE_ENOUGH:
            classes[:, column] = _filled(classes[:, column], total[name], SURE_ENOUGH[name])
    hair, bald = list(VALUES).index("hair_color"), list(VALUES).index("bald")
    grey = VALUES["hair_color"].index("grey")
    was_unsure = prepared.classes[:, hair] < 0
    impossible = (classes[:, bald] == 1) | ((classes[:, hair] == grey) & (prepared.years < 42))
    classes[was_unsure & impossible, hair] = -1
    return Prepared(faces=prepared.faces, classes=classes, years=prepared.years)


def _filled(known: Tensor, probability: Tensor, threshold: float) -> Tensor:
    best, index = probability.max(-1)
    return torch.where((known < 0) & (best > threshold), index, known)
