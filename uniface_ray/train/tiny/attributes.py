"""What is sure about a face: estimates and pixel readings become attributes, and doubtful ones become None."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from uniface_ray.train.tiny.appearance import HAIR_COLORS, Appearance
from uniface_ray.train.tiny.faces import Estimates

# Years, with wide gaps between the groups: the age net errs by several years. A group of teenagers, narrower than that
# error, could not be told from its neighbours.
_AGE_RANGES = {
    "child": (0.0, 11.0),
    "young adult": (18.0, 31.0),
    "middle-aged": (41.0, 52.0),
    "older": (57.0, 120.0),
}
# Grey hair on the young is nearly always a hat, a wig or ash blond under a dull sky.
YOUNGEST_GREY = 42.0
_YOUNGEST_BALD = 25.0
# White hair under warm light looks blond to a median of pixels.
OLDEST_BLOND = 55.0

# Every attribute with its values, in the order of a classifier's classes.
VALUES: dict[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "age_group": tuple(_AGE_RANGES),
    "smile": ("no", "yes"),
    "hair_color": HAIR_COLORS,
    "hair_length": ("short", "long"),
    "bald": ("no", "yes"),
    "skin": ("fair", "medium", "dark"),
    "lighting": ("even", "side"),
    "background": ("dark", "light", "grey", "green", "blue", "warm"),
    "expression": ("neutral", "happy", "sad", "angry", "fearful", "surprised"),
}


@dataclass(frozen=True)
class Attributes:
    """The sure attributes of one face, each one of VALUES or None; `grown_up` chooses between man and boy."""

    gender: str | None = None
    age_group: str | None = None
    smile: str | None = None
    hair_color: str | None = None
    hair_length: str | None = None
    bald: str | None = None
    skin: str | None = None
    lighting: str | None = None
    background: str | None = None
    expression: str | None = None
    grown_up: bool = True

    def value(self, name: str) -> str | None:
        """Value of an attribute by its name in VALUES."""
        result: str | None = getattr(self, name)
        return result

    def only(self, names: Iterable[str]) -> "Attributes":
        """The same face with no more known of it than the named attributes."""
        hidden: dict[str, Any] = dict.fromkeys(set(VALUES).difference(names))
        return replace(self, **hidden)

    def with_value(self, name: str, value: str) -> "Attributes":
        """The same face with another value of one attribute."""
        changed: dict[str, Any] = {name: value}
        return replace(self, **changed)

    def class_index(self, name: str) -> int:
        """Place of the value in VALUES[name]; -1 where it is unsure."""
        value = self.value(name)
        return -1 if value is None else VALUES[name].index(value)


def age_group(age: float) -> str | None:
    """Group of an age in years; None near a border."""
    return next((name for name, (low, high) in _AGE_RANGES.items() if low <= age < high), None)


def nearest_age_group(age: float) -> str:
    """Group of an age in years; near a border, the one whose range is nearer."""
    return min(_AGE_RANGES, key=lambda name: max(_AGE_RANGES[name][0] - age, age - _AGE_RANGES[name][1], 0.0))


def gender(p_male: float) -> str | None:
    """ "male" above 0.9, "female" below 0.1."""
    return "male" if p_male > 0.9 else "female" if p_male < 0.1 else None


def smile(expression: dict[str, float]) -> str | None:
    """ "yes" where the net is sure of a happy face, "no" where it is sure of another one."""
    happy = expression["happy"]
    if happy > 0.9:
        return "yes"
    # The net's "disgusted" is mostly a squint or a grin: such faces are left out.
    other = max(expression[name] for name in ("neutral", "sad", "angry", "fearful", "surprised"))
    return "no" if happy < 0.1 and other > 0.6 else None


def expression_name(expression: dict[str, float]) -> str | None:
    """The one expression the net is sure of; None for "disgusted", which is mostly wrong."""
    name = max(expression, key=lambda key: expression[key])
    return name if name != "disgusted" and expression[name] > 0.9 else None


def decide(estimates: Estimates, appearance: Appearance) -> Attributes:
    """Join what the nets and the pixels say of one face."""
    age = estimates.age
    hair = appearance.hair_color
    if (hair == "grey" and age < YOUNGEST_GREY) or (hair == "blond" and age > OLDEST_BLOND):
        hair = None
    sex = gender(estimates.p_male)
    bald: str | None = "no" if appearance.bald is False else None
    if appearance.bald:
        bald = "yes" if sex == "male" and age > _YOUNGEST_BALD else None
    # Dim light and dark skin look alike to a median of pixels; black hair tells most of them apart.
    dim = appearance.skin == "dark" and hair not in ("black", None)
    return Attributes(
        gender=sex,
        age_group=age_group(age),
        smile=smile(estimates.expression),
        hair_color=hair,
        hair_length=appearance.hair_length,
        bald=bald,
        skin=None if dim else appearance.skin,
        lighting=appearance.lighting,
        background=appearance.background,
        expression=expression_name(estimates.expression),
        grown_up=age >= 18.0,
    )
