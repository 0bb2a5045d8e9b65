"""Answers under way: prefill of those who enter, one token a step for those who run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from uniface_ray.core.records import Pixels
from uniface_ray.engine.guided import Guide, mask_logits
from uniface_ray.engine.pictures import read_pictures
from uniface_ray.engine.recorded import RecordedSteps
from uniface_ray.engine.sampling import Sampling, choose, uniforms
from uniface_ray.engine.slots import SlotCache
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.features import ImageFeatures
from uniface_ray.model.routing import Layout
from uniface_ray.model.transfer import sent

# Prompts go through the model with others whose length is the same up to this many tokens.
_BUCKET = 16


@dataclass(slots=True, eq=False)
class TextSequence:
    """One answer, from its prompt to its last token.

    Attributes:
        id: of the request.
        image: names the picture: sequences about the same one have the same name and share its keys and values.
        picture: uint8 (3, size, size) RGB, or image codes (N,) int64.
        prompt: token ids after the picture, `<bos>` first.
        max_new_tokens: most tokens of the answer.
        stop_ids: a token of these ends the answer and is not part of it.
        sampling: how tokens are chosen.
        seed: of the random numbers, where there are some.
        watched: as of the request.
        guide: of its form; None where it is free.
        tokens: of the answer so far.
        done: nothing comes any more.
    """

    id: int
    image: bytes
    picture: Pixels | Tensor
    prompt: list[int]
    max_new_tokens: int
    stop_ids: frozenset[int]
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    watched: bool = False
    guide: Guide | None = None
    tokens: list[int] = field(default_factory=list)
    done: bool = False
    _uniforms: Tensor | None = None

    @property
    def origin(self) -> bytes:
        """Questions about one picture may fail together."""
        return self.image

    @property
    def uniform(self) -> float:
        """The random number of the next token."""
        if self._uniforms is None:
            self._uniforms = uniforms(self.seed, self.max_new_tokens)
        return float(self._uniforms[len(self.tokens)])

    def take(self, token: int) -> None:
        """Add the next token, or stop there."""
        if token in self.stop_ids:
            self.done = True
        else:
            self.tokens.append(token)
            complete = self.guide is not None and self.guide.take(token)
            self.done = complete or len(self.tokens) == self.max_new_tokens


class TextRunner:
    """Slots of answers over one model. Letters in shapes: B rows, L positions of a prompt, N image tokens."""

    def __init__(self, model: UniFaceForConditionalGeneration, slots: int, recorded: bool = False) -> None:
        """Make empty slots.

        Args:
            model: in eval mode.
            slots: how many.
            recorded: decode by CUDA graphs (see `recorded`).
        """
        self.model = model
        self.cache = SlotCache(model.config.backbone_config, slots, model.dtype, model.device)
        # What each slot's prefix shows, also after its answer has left: a question about it need not compute it again.
        self.images: list[bytes | None] = [None] * slots
        self.prefix = model.config.num_image_tokens + 3  # <|mmu|> <|soi|> image <|eoi|>
        self._chosen: list[tuple[Sequence[TextSequence], Tensor]] = []
        self.recorded = RecordedSteps(self._step, slots, model.device) if recorded else None

    @staticmethod
    def order(one: TextSequence) -> int:
        """Prompts of like length next to each other: they need little padding."""
        return len(one.prompt)

    def most_entering(self, waiting: Iterable[TextSequence], positions: int) -> int:
        """How many of `waiting` may enter together, so that no more than `positions` are computed; at least one.

        A picture that a slot shows already, or that several ask about, is computed once.
        """
        shown, count = set(self.images), 0
        for one in waiting:
            positions -= len(one.prompt) - 1 + (0 if one.image in shown else self.prefix)
            if positions < 0:
                break
            shown.add(one.image)
            count += 1
        return max(1, count)

    def enter(self, entering: Sequence[TextSequence], first: int) -> None:
        """Compute the prompts of new sequences but for their last token, with which their first step begins.

        Args:
            entering: who they are, in the order of `order`.
            first: slot of the first of them; the others follow.
        """
        # One position more than there are, for recorded steps: see there.
        longest = self.prefix + max(len(one.prompt) + one.max_new_tokens for one in entering) + 1
        self.cache.reserve(longest, empty=not first)
        self._place_images(entering, first)
        for length, bucket in groupby(entering, key=lambda one: -(-(len(one.prompt) - 1) // _BUCKET)):
            group = list(bucket)
            if length:
                self._prefill([one.prompt[:-1] for one in group], slice(first, first + len(group)))
            first += len(group)

    def advance(self, running: Sequence[TextSequence], first: int) -> None:
        """Choose one more token of the sequences in the slots from `first` on."""
        last = [(one.tokens or one.prompt)[-1] for one in running]
        lengths = [self.prefix + len(one.prompt) + len(one.tokens) for one in running]
        self._chosen.append((running, self.choose(running, self.logits_after(last, lengths, first))))

    def logits_after(self, tokens: Sequence[int], lengths: Sequence[int], first: int) -> Tensor:
        """Text logits (B, V) float32 after one more token of each of the slots from `first` on.

        Args:
            tokens: B.
            lengths: positions of each slot, the new token's with them.
            first: slot.
        """
        ids, counts = sent(torch.tensor([tokens, lengths]), self.model.device)
        if self.recorded and not first:
            return self.recorded(ids, counts - 1, self.cache.room, self.cache.moves)
        return self._step(ids, counts - 1, first, max(lengths))

    def _step(self, ids: Tensor, positions: Tensor, first: int, end: int) -> Tensor:
        """Text logits (B, V) after `ids` (B,) at `positions` (B,) of the slots from `first` on, all before `end`."""
        visible = torch.arange(end, device=ids.device) <= positions[:, None]
        window = self.cache.one_more(slice(first, first + len(ids)), positions, end)
        hidden = self._hidden(ids[:, None], visible[:, None, None], positions[:, None], window)
        return self.model.text_logits(hidden[:, 0])

    def collect(self) -> None:
        """Give each sequence the token chosen for it: the one time a step waits for the device."""
        chosen, self._chosen = self._chosen, []
        if chosen:
            tokens = torch.cat([tokens for _, tokens in chosen]).tolist()
            for one, token in zip((one for group, _ in chosen for one in group), tokens, strict=True):
                one.take(token)

    def keep(self, slots: Sequence[int]) -> None:
        """Only these slots stay, in this order."""
        moves = [(source, target) for target, source in enumerate(slots) if source != target]
        self.cache.copy(moves, self.cache.room)
        for source, target in moves:
            self.images[target] = self.images[source]

    def _place_images(self, entering: Sequence[TextSequence], first: int) -> None:
        """Fill the image prefixes of new slots: copied where a slot has one, computed once for each other image."""
        held = {image: slot for slot, image in enumerate(self.images) if image is not None}
        copies = [(held[one.image], slot) for slot, one in enumerate(entering, first) if one.image in held]
        self.images[first : first + len(entering)] = [None] * len(entering)
        self.cache.copy(copies, self.prefix)
        fresh: dict[bytes, int] = {}
        again: list[tuple[int, int]] = []
        for slot, one in enumerate(entering, first):
            if one.image not in held:
                again += [(fresh[one.image], slot)] if one.image in fresh else []
                fresh.setdefault(one.image, slot)
        if fresh:
            self._compute_images([entering[slot - first].picture for slot in fresh.values()], list(fresh.values()))
        self.cache.copy(again, self.prefix)
        self.images[first : first + len(entering)] = [one.image for one in entering]

    def _compute_images(self, pictures: Sequence[Pixels | Tensor], slots: Sequence[int]) -> None:
        config, device = self.model.config, self.model.device
        codes, features = read_pictures(self.model, pictures)
        ids = torch.empty((len(codes), self.prefix), dtype=torch.int64, device=device)
        ids[:, 0] = config.special_id("<|mmu|>")
        ids[:, 1] = config.special_id("<|soi|>")
        ids[:, 2:-1] = codes + config.image_token_offset
        ids[:, -1] = config.special_id("<|eoi|>")
        everything = torch.ones((1, 1, self.prefix, self.prefix), dtype=torch.bool, device=device)
        positions = torch.arange(self.prefix, device=device)[None]
        self._hidden(ids, everything, positions, self.cache.at_start(slots), 2, features)

    def _prefill(self, prompts: Sequence[Sequence[int]], rows: slice) -> None:
        """Prompts after the image prefix, padded at the right.

        What padding leaves in the cache is seen by nobody: a row's own tokens are written over it.
        """
        device, longest = self.model.device, max(map(len, prompts))
        padded = [[*prompt, *[self.model.config.pad_id] * (longest - len(prompt))] for prompt in prompts]
        positions = torch.arange(self.prefix, self.prefix + longest, device=device)
        causal = torch.arange(self.prefix + longest, device=device) <= positions[:, None]
        window = self.cache.after(rows, self.prefix, self.prefix + longest)
        self._hidden(sent(torch.tensor(padded), device), causal[None, None], positions[None], window)

    def _hidden(
        self,
        ids: Tensor,
        rule: Tensor,
        positions: Tensor,
        window: SlotCache,
        image: int | None = None,
        features: ImageFeatures | None = None,
    ) -> Tensor:
        return self.model.hidden_states(
            ids,
            attention_mask=rule,
            position_ids=positions,
            past_key_values=window,
            use_cache=True,
            layout=Layout(generation=False, image=image),
            features=features,
        ).last_hidden_state

    @staticmethod
    def choose(group: Sequence[TextSequence], logits: Tensor) -> Tensor:
        """A token for each row of `logits` (B, V)."""
        logits = mask_logits(logits, [one.guide for one in group])
        if any(one.sampling.temperature for one in group):
            numbers = [(one.sampling.temperature, one.sampling.top_p, one.uniform) for one in group]
            return choose(logits, *sent(torch.tensor(numbers), logits.device).unbind(1))
        return logits.argmax(-1)
