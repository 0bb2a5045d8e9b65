"""Words for sure attributes: captions in a few turns of phrase. What is unsure is not mentioned.

The stem of "smile" stands in a caption only where the face smiles: a reader must be able to trust the word.
"""

import random
from dataclasses import dataclass

from uniface_ray.train.tiny.attributes import Attributes

_MOODS = {
    "neutral": ("looks calm and serious", "has a neutral expression", "looks serious"),
    "sad": ("looks sad", "has a sad expression"),
    "angry": ("looks angry", "has an angry expression"),
    "fearful": ("looks worried", "has a worried expression"),
    "surprised": ("looks surprised", "has a surprised expression"),
}
_SMILES = ("is smiling", "is smiling happily", "has a happy smile")
_BACKGROUNDS = {
    "dark": ("a dark background",),
    "light": ("a bright, plain background", "a light background"),
    "grey": ("a grey background",),
    "green": ("a green background", "greenery in the background"),
    "blue": ("a blue background",),
    "warm": ("a reddish brown background", "a warm brown background"),
}
_LIGHTS = {"even": ("even light", "soft, even light"), "side": ("light from the side",)}


@dataclass(frozen=True)
class Person:
    """How to speak of a face: `noun` with its article, and the pronouns that go with it."""

    noun: str
    subject: str
    possessive: str


def person(attributes: Attributes) -> Person:
    """The noun says gender and age as far as they are sure."""
    young = attributes.age_group == "child" or (attributes.age_group is None and not attributes.grown_up)
    if attributes.gender == "male":
        noun, subject, possessive = "boy" if young else "man", "he", "his"
    elif attributes.gender == "female":
        noun, subject, possessive = "girl" if young else "woman", "she", "her"
    else:
        noun, subject, possessive = "person", "the person", "the person's"
    by_age = {
        "child": f"a little {noun}" if attributes.gender else "a child",
        "young adult": f"a young {noun}" if attributes.gender else "a young adult",
        "middle-aged": f"a middle-aged {noun}",
        # Not "an older": a greedy reader decides on the article before it says the age, and "a" begins all other texts.
        "older": f"a senior {noun}",
    }
    article_and_noun = by_age[attributes.age_group] if attributes.age_group else f"a {noun}"
    return Person(article_and_noun, subject, possessive)


def hair_words(attributes: Attributes) -> str | None:
    """Such as "long brown hair"; None where neither colour nor length is sure."""
    if attributes.bald == "yes":
        return "a bald head"
    words = [word for word in (attributes.hair_length, attributes.hair_color) if word]
    return f"{' '.join(words)} hair" if words else None


def mood_words(attributes: Attributes, rng: random.Random) -> str | None:
    """A verb phrase for the expression, such as "is smiling"; None where it is unsure."""
    if attributes.smile == "yes":
        return rng.choice(_SMILES)
    if attributes.smile == "no":
        return rng.choice(_MOODS.get(attributes.expression or "neutral", _MOODS["neutral"]))
    return None


def scene_words(attributes: Attributes, rng: random.Random) -> str | None:
    """Light and background, such as "even light, a green background"."""
    light = rng.choice(_LIGHTS[attributes.lighting]) if attributes.lighting else None
    background = rng.choice(_BACKGROUNDS[attributes.background]) if attributes.background else None
    words = [word for word in (light, background) if word]
    return " and ".join(words) if words else None


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def caption(attributes: Attributes, rng: random.Random) -> str:
    """A caption of one to three sentences: who, expression and hair first, then skin, light and background."""
    who = person(attributes)
    mood, hair = mood_words(attributes, rng), hair_words(attributes)
    skin = f"{attributes.skin} skin" if attributes.skin else None
    scene = scene_words(attributes, rng)
    sentences = []
    turn = rng.choice(("plain", "plain", "this is", "portrait", "who"))
    opening = {"plain": who.noun, "this is": f"this is {who.noun}", "portrait": f"a portrait of {who.noun}"}
    features = " and ".join(word for word in (hair, skin) if word)
    if turn == "who" and mood:
        sentences.append(f"{who.noun} who {mood}")
        if features:
            sentences.append(f"{who.subject} has {features}")
    else:
        with_features = f" with {features}" if features else ""
        sentences.append(opening.get(turn, who.noun) + with_features)
        if mood:
            sentences.append(f"{who.subject} {mood}")
    if scene:
        sentences.append(rng.choice((f"the picture has {scene}", f"there is {scene}")))
    return " ".join(_sentence(sentence) for sentence in sentences)


_PROMPT_OLDER = ("an older", "an elderly", "a senior", "an old")
_PROMPT_SMILES = ("smiling", "with a smile", "happy and smiling")
_PROMPT_SERIOUS = ("serious", "with a serious look", "not smiling")


def short_prompt(attributes: Attributes, rng: random.Random, always: tuple[str, ...] = ()) -> str:
    """A prompt as a user would type it, such as "a smiling young woman with blond hair"; parts may be left out.

    Args:
        attributes: of the face; what is unsure is not mentioned.
        rng: source of the randomness.
        always: attributes that are mentioned in any case, where they are sure.
    """

    def kept(name: str) -> bool:
        return name in always or rng.random() < 0.75

    told = Attributes(
        gender=attributes.gender,
        age_group=attributes.age_group if kept("age_group") else None,
        hair_color=attributes.hair_color if kept("hair_color") else None,
        hair_length=attributes.hair_length if rng.random() < 0.4 else None,
        bald=attributes.bald if kept("hair_color") else None,
        grown_up=attributes.grown_up,
    )
    noun = person(told).noun
    if told.age_group == "older":
        noun = noun.replace("a senior", rng.choice(_PROMPT_OLDER), 1)
    hair = hair_words(told)
    if hair and told.hair_color == "blond" and rng.random() < 0.3:
        hair = hair.replace("blond", "blonde")
    parts = [f"with {hair}"] if hair else []
    if attributes.smile and kept("smile"):
        mood = rng.choice(_PROMPT_SMILES if attributes.smile == "yes" else _PROMPT_SERIOUS)
        if mood in ("smiling", "serious") and rng.random() < 0.5:
            article, rest = noun.split(" ", 1)
            noun = f"a {mood} {rest}" if article in ("a", "an") else f"{article} {mood} {rest}"
        else:
            parts.append(mood)
    if attributes.background and rng.random() < 0.3:
        parts.append(f"in front of {rng.choice(_BACKGROUNDS[attributes.background])}")
    rng.shuffle(parts)
    start = rng.choice(("", "", "", "a photo of ", "a portrait of ", "the face of "))
    text = start + ", ".join([noun, *parts]).replace(", with", rng.choice((" with", ", with")), 1)
    return text if rng.random() < 0.7 else text[0].upper() + text[1:] + "."
