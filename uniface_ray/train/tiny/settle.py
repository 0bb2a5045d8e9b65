"""Settles what the estimates left open: the age group by the nearest one, the rest by the encoders where they are sure.

The encoders were trained on the sure faces only. Without this a third of the faces would teach the language model not
to mention the gender, for no reason that can be seen in them.
"""

from dataclasses import replace

import torch
from torch import Tensor

from uniface_ray.train.tiny.attributes import OLDEST_BLOND, VALUES, YOUNGEST_GREY, nearest_age_group
from uniface_ray.train.tiny.augment import random_views
from uniface_ray.train.tiny.encoders import Pupils, read_attributes
from uniface_ray.train.tiny.prepare import Prepared

# Attribute -> probability from which the encoders' word is taken.
SURE_ENOUGH = {"gender": 0.7, "smile": 0.9, "hair_color": 0.8}


def settle(prepared: Prepared, pupils: Pupils) -> Prepared:
    """`prepared` with more attributes decided; what `attributes.decide` holds for impossible stays so."""
    size = pupils.semantic.config.image_size
    plain = [random_views(some, size, torch.Generator(), strength=0.0) for some in prepared.faces.split(64)]
    told = read_attributes(pupils, torch.cat(plain))
    classes = prepared.classes.clone()
    names = list(VALUES)
    for name, sure_enough in SURE_ENOUGH.items():
        column = names.index(name)
        classes[:, column] = _filled(classes[:, column], told[name], sure_enough)
    ages = [VALUES["age_group"].index(nearest_age_group(years)) for years in prepared.years.tolist()]
    column = names.index("age_group")
    classes[:, column] = torch.where(classes[:, column] < 0, torch.tensor(ages), classes[:, column])
    hair, bald = names.index("hair_color"), names.index("bald")
    grey, blond = (VALUES["hair_color"].index(name) for name in ("grey", "blond"))
    odd = (classes[:, hair] == grey) & (prepared.years < YOUNGEST_GREY)
    was_unsure = prepared.classes[:, hair] < 0
    classes[was_unsure & (odd | (classes[:, bald] == 1)), hair] = -1
    # Light hair at that age is white, whatever the light makes of it.
    classes[was_unsure & (classes[:, hair] == blond) & (prepared.years > OLDEST_BLOND), hair] = grey
    return replace(prepared, classes=classes)


def _filled(known: Tensor, probability: Tensor, threshold: float) -> Tensor:
    best, index = probability.max(-1)
    return torch.where((known < 0) & (best > threshold), index, known)
