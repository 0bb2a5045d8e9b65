"""Questions about a face and their answers, as far as the answer is sure."""

import random

from uniface_ray.model.prompts import CAPTION_QUESTION
from uniface_ray.train.tiny.attributes import Attributes
from uniface_ray.train.tiny.wording import caption, hair_words, mood_words, person, scene_words

CAPTION_QUESTIONS = (
    CAPTION_QUESTION,
    "Describe this face.",
    "Describe the person in this picture.",
    "What do you see in this image?",
    "Write a caption for this portrait.",
    "Who is in this photo? Describe what you see.",
)


def _one_of(rng: random.Random, *choices: str) -> str:
    return rng.choice(choices)


def _name(attributes: Attributes, rng: random.Random) -> tuple[str, str]:
    """How a user may speak of the face: subject and possessive."""
    who = person(attributes)
    return rng.choice(((who.subject, who.possessive), ("this person", "this person's"), ("the person", "the")))


def question_answers(attributes: Attributes, rng: random.Random) -> list[tuple[str, str]]:
    """One pair of question and answer for every sure attribute, worded at random."""
    who = person(attributes)
    subject, owner = _name(attributes, rng)
    they, their = who.subject.capitalize(), who.possessive.capitalize()
    pairs = []
    if attributes.gender:
        question = _one_of(
            rng,
            "Is this a man or a woman?",
            "Is this person male or female?",
            "What is the gender of this person?",
            "What gender is the person in the photo?",
        )
        pairs.append((question, _one_of(rng, f"This is {who.noun}.", f"{who.noun.capitalize()}.")))
    if attributes.age_group:
        question = _one_of(
            rng,
            f"How old is {subject}?",
            "What is the age group?",
            f"What age is {subject}, roughly?",
            f"Is {subject} young or old?",
        )
        pairs.append((question, _one_of(rng, f"This is {who.noun}.", f"{they} looks like {who.noun}.")))
    mood = mood_words(attributes, rng)
    if mood:
        asks_smile = rng.random() < 0.5
        if asks_smile:
            question = _one_of(rng, f"Is {subject} smiling?", f"Does {subject} smile?", "Is there a smile?")
            mood = f"{'yes' if attributes.smile == 'yes' else 'no'}, {who.subject} {mood}"
        else:
            question = _one_of(
                rng,
                f"What is {owner} expression?",
                f"What is {owner} mood, roughly?",
                f"How does {subject} feel?",
                f"Does {subject} look happy or serious?",
                "What emotion does the face show?",
            )
            mood = f"{who.subject} {mood}"
        pairs.append((question, mood[0].upper() + mood[1:] + "."))
    if attributes.hair_color or attributes.bald == "yes":
        question = _one_of(
            rng,
            f"What color is {owner} hair?",
            f"What colour is {owner} hair?",
            f"What is {owner} hair color?",
            f"What hair does {subject} have?",
        )
        pairs.append((question, f"{they} has {hair_words(attributes)}."))
    if attributes.hair_length and attributes.bald != "yes":
        question = _one_of(rng, f"Is {owner} hair long or short?", f"How long is {owner} hair?")
        pairs.append((question, f"{their} hair is {attributes.hair_length}."))
    if attributes.bald:
        bald = attributes.bald == "yes"
        question = _one_of(rng, f"Is {subject} bald?", f"Does {subject} have hair?")
        answer = "is bald" if bald else "has hair"
        agrees = bald == question.endswith("bald?")
        pairs.append((question, f"{'Yes' if agrees else 'No'}, {who.subject} {answer}."))
    if attributes.skin:
        question = _one_of(rng, f"What is {owner} skin tone?", f"What skin does {subject} have?")
        pairs.append((question, f"{they} has {attributes.skin} skin."))
    if attributes.lighting:
        light = scene_words(Attributes(lighting=attributes.lighting), rng)
        pairs.append((_one_of(rng, "How is the lighting?", "How is the face lit?"), f"The face is in {light}."))
    if attributes.background:
        background = scene_words(Attributes(background=attributes.background), rng)
        question = _one_of(rng, "What is in the background?", "What is the background like?")
        pairs.append((question, f"There is {background}."))
    return pairs


def caption_pair(attributes: Attributes, rng: random.Random) -> tuple[str, str]:
    """A request for a caption, the default one in half of the cases, and a caption."""
    question = CAPTION_QUESTION if rng.random() < 0.5 else rng.choice(CAPTION_QUESTIONS)
    return question, caption(attributes, rng)
