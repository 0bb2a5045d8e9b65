"""The encoders behind the experts: sizes, key names, what they are given, and when they stay still."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.model.toys import pixels, toy_config, toy_model
from uniface_ray.core.errors import UserError
from uniface_ray.model.encoders import Encoders, IdentityEncoder
from uniface_ray.model.expert_config import IdentityConfig
from uniface_ray.model.identity import IRResNet, load_adaface


@pytest.mark.parametrize(("blocks", "parameters"), [((3, 4, 14, 3), 43_585_600), ((3, 13, 30, 3), 65_150_912)])
def test_ir_resnets_have_adafaces_sizes(blocks: tuple[int, ...], parameters: int) -> None:
    with torch.device("meta"):
        network = IRResNet(IdentityConfig(blocks=blocks, output="embedding"))
        faces = torch.empty(2, 3, 112, 112)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
        assert network.input_layer(faces).shape == (2, 64, 112, 112)
        assert network.body(network.input_layer(faces)).shape == (2, 512, 7, 7)
        assert network.eval()(faces).shape == (2, 1, 512)
    keys = network.state_dict().keys()
    assert {"input_layer.2.weight", "output_layer.3.bias", "output_layer.4.running_var"} <= keys
    assert {"body.0.res_layer.1.weight", "body.3.shortcut_layer.0.weight", "body.3.res_layer.5.bias"} <= keys
    assert "body.0.shortcut_layer.0.weight" not in keys  # 64 channels stay 64: a pooling, without weights


@pytest.fixture
def small() -> IdentityConfig:
    return IdentityConfig(image_size=16, widths=(4, 4, 8), blocks=(1, 2), embedding_size=6, output="embedding")


def test_adaface_state_dicts_load_by_key_and_others_are_refused(small: IdentityConfig) -> None:
    torch.manual_seed(0)
    trained = IRResNet(small).eval()
    state = {f"model.{key}": tensor for key, tensor in trained.state_dict().items()}
    state["head.kernel"] = torch.zeros(6, 100)
    network = IRResNet(small).eval()
    load_adaface(network, state)
    faces = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(network(faces), trained(faces))
    torch.testing.assert_close(network(faces).norm(dim=-1), torch.ones(3, 1))
    cells = IRResNet(IdentityConfig(**small.to_diff_dict() | {"output": "map"})).eval()
    load_adaface(cells, state)
    torch.testing.assert_close(cells(faces), trained.body(trained.input_layer(faces)).flatten(2).transpose(1, 2))
    del state["model.body.0.res_layer.1.weight"]
    state["model.body.9.res_layer.1.weight"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"(?s)identity_config.*body\.0\.res_layer\.1\.weight.*body\.9\.res_layer\.1"):
        load_adaface(network, state)


class Seen(torch.nn.Module):
    """Keeps what it is given."""

    def forward(self, faces: Tensor) -> Tensor:
        self.faces = faces
        return torch.zeros(len(faces), 1, 1)


def test_identity_sees_the_middle_in_its_size_and_channel_order() -> None:
    config = toy_config()
    config.identity_config = IdentityConfig(image_size=16, crop=0.5)
    encoder = IdentityEncoder(config)
    encoder.model = Seen()
    image = torch.full((1, 3, 32, 32), -1.0)
    image[0, 0, 8:24, 8:24] = 0.5  # a red middle
    encoder(image)
    torch.testing.assert_close(encoder.model.faces[0, 2], torch.full((16, 16), 0.5))
    torch.testing.assert_close(encoder.model.faces[0, :2], torch.full((2, 16, 16), -1.0))


@pytest.mark.parametrize("kind", ["clip_vision_model", "siglip_vision_model"])
def test_semantic_features_are_patches_of_the_layer_asked_for(kind: str) -> None:
    config = toy_config(
        semantic_config={
            "model_type": kind,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 24,
            "patch_size": 8,
        }
    )
    encoder = Encoders(config).eval().semantic
    given = pixels(2)
    features = encoder(given)
    assert features.shape == (2, 9, 32)
    mean, std = torch.tensor(config.sequence_experts.semantic_mean), torch.tensor(config.sequence_experts.semantic_std)
    small = torch.nn.functional.interpolate(given, size=(24, 24), mode="bicubic", antialias=True).clamp(-1, 1)
    prepared = ((small + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    states = encoder.model(pixel_values=prepared, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(features, states[:, -9:])


def test_features_of_an_image_do_not_depend_on_its_neighbours() -> None:
    model = toy_model()
    together = model.image_features(pixels(3))
    alone = model.image_features(pixels(3)[1:2])
    torch.testing.assert_close(together.semantic[1:2], alone.semantic, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.identity[1:2], alone.identity, atol=1e-5, rtol=1e-4)
    assert together.semantic.shape == (3, 64, 32)


def test_frozen_encoders_stay_in_eval_mode_and_trained_ones_learn() -> None:
    model = toy_model()
    model.encoders.identity.requires_grad_(False)
    model.train()
    assert not model.encoders.identity.model.body[0].res_layer[0].training
    assert model.encoders.semantic.training
    features = model.image_features(pixels(2))
    (features.semantic.sum() + features.identity.square().sum()).backward()
    assert model.encoders.semantic.model.embeddings.patch_embedding.weight.grad is not None
    assert model.encoders.identity.model.input_layer[0].weight.grad is None
    assert model.encoders.resamplers["identity"].queries.grad is not None


def test_the_mask_ratio_is_told_apart_token_by_token() -> None:
    encoders = Encoders(toy_config()).eval()
    ratios = torch.linspace(0, 1, 257)
    seen = encoders.of_mask_ratio(ratios)
    assert seen.shape == (257, 64, 32)
    assert (seen[1:] - seen[:-1]).abs().amax(dim=(1, 2)).min() > 1e-4


def test_an_onnx_recogniser_runs(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="makes the file of the test")
    pytest.importorskip("onnxruntime", reason="runs it: the extra `identity`")
    torch.manual_seed(0)
    weight = torch.randn(6, 3 * 16 * 16)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["faces"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "weight"], ["embedding"], transB=1),
        ],
        "recogniser",
        [onnx.helper.make_tensor_value_info("faces", onnx.TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["batch", 6])],
        [onnx.numpy_helper.from_array(weight.numpy(), "weight")],
    )
    path = tmp_path / "recogniser.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    fields = {"onnx_path": str(path), "image_size": 16, "embedding_size": 6, "bgr": False}
    model = toy_model(identity_config=fields)
    encoder = copy.deepcopy(model.encoders.identity)
    given = pixels(2)
    small = torch.nn.functional.interpolate(given, size=(16, 16), mode="bicubic", antialias=True).clamp(-1, 1)
    expected = torch.nn.functional.normalize(small.flatten(1) @ weight.T, dim=-1)
    torch.testing.assert_close(encoder(given)[:, 0], expected, atol=1e-4, rtol=1e-4)
    assert model.image_features(given).identity.shape == (2, 64, 32)
    assert not [key for key in model.state_dict() if key.startswith("encoders.identity.")]
    with pytest.raises(UserError, match="embedding_size says 7"):
        toy_model(identity_config=fields | {"embedding_size": 7}).image_features(given)
    with pytest.raises(UserError, match=r"none\.onnx.*cannot open"):
        toy_model(identity_config=fields | {"onnx_path": "none.onnx"}).image_features(given)
