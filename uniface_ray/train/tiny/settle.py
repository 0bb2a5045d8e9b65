"""Lets the judge settle what the estimates left open, where it is sure enough.

It was trained on the sure faces only. Without this a third of the faces would teach the language model not to mention
the gender, for no reason that can be seen in them.
"""

import torch
from torch import Tensor

from uniface_ray.train.tiny.attributes import OLDEST_BLOND, VALUES, YOUNGEST_GREY
from uniface_ray.train.tiny.augment import random_views
from uniface_ray.train.tiny.judge import IMAGE_SIZE, Judge, judge_faces
from uniface_ray.train.tiny.prepare import Prepared

# Attribute -> probability from which the judge's word is taken. An age near a border is called by the likelier group.
SURE_ENOUGH = {"gender": 0.9, "age_group": 0.6, "smile": 0.9, "hair_color": 0.8}


def settle(prepared: Prepared, judge: Judge) -> Prepared:
    """`prepared` with more attributes decided; what `attributes.decide` holds for impossible stays so."""
    plain = [
        random_views(prepared.faces[start : start + 64], IMAGE_SIZE, torch.Generator(), strength=0.0)
        for start in range(0, len(prepared.faces), 64)
    ]
    total = judge_faces(judge, torch.cat(plain))
    classes = prepared.classes.clone()
    for column, name in enumerate(VALUES):
        if name in SURE_ENOUGH:
            classes[:, column] = _filled(classes[:, column], total[name], SURE_ENOUGH[name])
    hair, bald = list(VALUES).index("hair_color"), list(VALUES).index("bald")
    grey, blond = (VALUES["hair_color"].index(name) for name in ("grey", "blond"))
    odd = (classes[:, hair] == grey) & (prepared.years < YOUNGEST_GREY)
    was_unsure = prepared.classes[:, hair] < 0
    classes[was_unsure & (odd | (classes[:, bald] == 1)), hair] = -1
    # Light hair at that age is white, whatever the light makes of it.
    classes[was_unsure & (classes[:, hair] == blond) & (prepared.years > OLDEST_BLOND), hair] = grey
    return Prepared(faces=prepared.faces, classes=classes, years=prepared.years)


def _filled(known: Tensor, probability: Tensor, threshold: float) -> Tensor:
    best, index = probability.max(-1)
    return torch.where((known < 0) & (best > threshold), index, known)
