"""The later training of the decoder: codes stay fixed, and pictures become more like the faces."""

from pathlib import Path

import torch

from uniface_ray.model.expert_config import IdentityConfig
from uniface_ray.model.identity import IRResNet
from uniface_ray.model.magvit import MagvitV2
from uniface_ray.model.magvit_config import MagvitV2Config
from uniface_ray.train.tiny.decoder import DecoderRecipe, likeness_loss, train_decoder

SMALL = {
    "image_size": 32,
    "base_channels": 4,
    "encoder_multipliers": [1, 1, 2],
    "encoder_blocks": [0, 1, 1],
    "decoder_multipliers": [1, 1, 2],
    "decoder_blocks": [0, 1, 1],
    "latent_bits": 5,
    "norm_groups": 2,
}


def parts() -> tuple[MagvitV2, IRResNet, torch.Tensor]:
    torch.manual_seed(0)
    magvit = MagvitV2(MagvitV2Config(**SMALL))
    seer = IRResNet(IdentityConfig(image_size=32, widths=[8, 8, 16], blocks=[1, 1], embedding_size=8)).eval()
    return magvit, seer, torch.randint(256, (8, 3, 40, 40), dtype=torch.uint8)


def trained(out: Path, *stops: int) -> dict[str, torch.Tensor]:
    """State of the tokenizer after a training that was broken off at `stops`, the last of them its end."""
    out.mkdir()
    for steps in stops:
        magvit, seer, faces = parts()
        train_decoder(magvit, seer, faces, DecoderRecipe(steps=steps, batch=4, learning_rate=1e-3), out)
    return magvit.state_dict()


def test_the_decoder_learns_and_the_codes_stay(tmp_path: Path) -> None:
    before = parts()[0].state_dict()
    after = trained(tmp_path / "whole", 2)
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"decoder"}


def test_a_resumed_training_goes_on(tmp_path: Path) -> None:
    whole, broken = trained(tmp_path / "whole", 3), trained(tmp_path / "broken", 1, 3)
    for name, value in whole.items():
        # The rate of the first step hangs on the number of steps; 50 of them are a warm-up, which does not.
        torch.testing.assert_close(broken[name], value, atol=1e-5, rtol=1e-4)


def test_likeness_of_a_picture_to_itself_is_whole() -> None:
    _, seer, _ = parts()
    picture = torch.rand(2, 3, 32, 32)
    assert likeness_loss(seer, picture, picture).item() == 0
    assert likeness_loss(seer, picture, 1 - picture) > 0.1
