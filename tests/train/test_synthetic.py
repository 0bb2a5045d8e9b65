"""Making synthetic faces: the files of other people's weights, the wavelet step, and which styles are chosen.

Whole faces are made only where the weights are, see `_weights`; they are no part of the project.
"""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from uniface_ray.train.synthetic import generator
from uniface_ray.train.synthetic.estimators import Estimators, _padded, _read_weights
from uniface_ray.train.synthetic.graph import Graph
from uniface_ray.train.synthetic.make_faces import main
from uniface_ray.train.synthetic.rare import StyleReader

GRAPH = """<?xml version="1.0"?>
<net name="two" version="10">
  <layers>
    <layer id="0" name="style" type="Parameter"/>
    <layer id="1" name="weight" type="Const"><data element_type="f32" shape="2,3" offset="0" size="24"/></layer>
    <layer id="2" name="gain" type="Const"><data element_type="f16" shape="" offset="24" size="2"/></layer>
    <layer id="3" name="product" type="MatMul"/>
    <layer id="4" name="scaled" type="Multiply"/>
  </layers>
  <edges>
    <edge from-layer="1" to-layer="3" to-port="1"/>
    <edge from-layer="0" to-layer="3" to-port="0"/>
    <edge from-layer="3" to-layer="4" to-port="0"/>
    <edge from-layer="2" to-layer="4" to-port="1"/>
  </edges>
</net>
"""


def test_a_graph_gives_its_constants_in_their_types_and_what_feeds_what(tmp_path: Path) -> None:
    weight = np.arange(6, dtype="<f4")
    (tmp_path / "net.xml").write_text(GRAPH)
    (tmp_path / "net.bin").write_bytes(weight.tobytes() + np.array(0.5, dtype="<f2").tobytes())
    graph = Graph(tmp_path / "net.xml")
    assert graph.of_type("MatMul", "Multiply") == ["3", "4"]
    assert graph.constants("3")[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert graph.constants("4")[0].item() == 0.5
    assert graph.constants("4")[0].dtype == torch.float32
    assert graph.inputs("3") == ["0"]
    assert graph.users("3") == ["4"]


def test_the_wavelet_step_undoes_haar_s_transform() -> None:
    picture = torch.randn(6, 8, 5, generator=torch.Generator().manual_seed(0))
    a, b, c, d = picture[::2, ::2], picture[::2, 1::2], picture[1::2, ::2], picture[1::2, 1::2]
    bands = [a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d]
    torch.testing.assert_close(generator._inverse_haar(torch.cat(bands, dim=2) / 4), picture)


def test_bands_lie_one_after_the_other_after_reordering() -> None:
    # The low band, then for each of its channels the three high ones: 0 1 | 0d 0a 0b 1d 1a 1b.
    assert generator._wavelet_order(8).tolist() == [0, 1, 2, 5, 3, 6, 4, 7]


def _write_net(folder: Path, name: str, weights: dict[str, np.ndarray], quantised: str) -> None:
    entries, content = [], b""
    for key, values in weights.items():
        entry: dict[str, object] = {"name": key, "shape": list(values.shape), "dtype": "float32"}
        if key == quantised:
            entry["quantization"] = {"dtype": "uint8", "scale": 0.5, "min": -1.0}
            content += values.astype(np.uint8).tobytes()
        else:
            content += values.astype("<f4").tobytes()
        entries.append(entry)
    (folder / f"{name}-weights_manifest.json").write_text(json.dumps([{"weights": entries}]))
    (folder / f"{name}.bin").write_bytes(content)


def test_weights_of_the_estimators_are_read_with_their_quantised_ones(tmp_path: Path) -> None:
    weights = {"fc/weights": np.array([[1.0, 2.0]]), "fc/bias": np.array([3, 4])}
    _write_net(tmp_path, "net", weights, quantised="fc/bias")
    read = _read_weights(tmp_path, "net")
    assert read["fc/weights"].tolist() == [[1.0, 2.0]]
    assert read["fc/bias"].tolist() == [0.5, 1.0]
    (tmp_path / "net.bin").write_bytes((tmp_path / "net.bin").read_bytes() + b"?")
    with pytest.raises(ValueError, match=r"net\.bin has 11 bytes, but its manifest names 10"):
        _read_weights(tmp_path, "net")


@pytest.mark.parametrize(("side", "stride", "made"), [(112, 2, 113), (113, 2, 115), (56, 1, 58)])
def test_padding_is_tensorflow_s_with_the_odd_one_at_the_end(side: int, stride: int, made: int) -> None:
    ones = torch.ones(1, 1, side, side)
    padded = _padded(ones, 3, stride)
    assert padded.shape == (1, 1, made, made)
    assert padded[..., -1].sum() == 0
    assert (padded[0, 0, 1, 0] == 0) == ((made - side) % 2 == 0)


def test_rare_styles_are_those_that_promise_old_young_and_serious_faces() -> None:
    draws = torch.Generator().manual_seed(0)
    truth = torch.randn(512, 3, generator=draws) / 512**0.5 * torch.tensor([12.0, 0.3, 0.3])
    styles = torch.randn(4000, 512, generator=draws)
    estimates = styles @ truth + torch.tensor([30.0, 0.5, 0.7])
    reader = StyleReader.fitted(styles, estimates)
    others = torch.randn(1000, 512, generator=draws)
    age, male, happy = (others @ truth + torch.tensor([30.0, 0.5, 0.7])).unbind(1)
    chosen = reader.rare(others, 64)
    assert len(chosen) == 64
    ages, _, smiles = (chosen @ truth + torch.tensor([30.0, 0.5, 0.7])).unbind(1)
    assert ages[:16].min() > age.quantile(0.95)  # older ones
    assert ages[28:42].max() < age.quantile(0.05)  # children
    assert smiles[42:54].mean() < happy.mean() - happy.std()
    assert male.std() > 0


def test_a_folder_without_the_weights_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [f"--{name}={tmp_path}" for name in ("generator", "estimators", "out")]
    monkeypatch.setattr("sys.argv", ["make_faces", *command, "--count=1", "--seed=1"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    assert f"--generator is {tmp_path}, where there is no MappingNetwork.xml" in told


def _weights(name: str) -> Path:
    """The folder that an environment variable names."""
    folder = os.environ.get(name)
    if not folder:
        pytest.skip(f"{name} is not set: give the folder of the weights, see uniface_ray.train.synthetic.make_faces")
    return Path(folder)


def test_a_made_face_is_a_face_and_the_same_in_float32() -> None:
    folder = _weights("UNIFACE_GENERATOR")
    numbers = torch.from_numpy(np.random.default_rng([7, 0]).standard_normal((1, 512)).astype(np.float32))
    exact, quick = generator.FaceGenerator(folder, torch.float32), generator.FaceGenerator(folder)
    style = exact.truncated(exact.styles(numbers), 0.7)[0]
    face = exact.face(style)
    assert face.shape == (3, 512, 512)
    assert (quick.face(style) - face).abs().mean() < 0.01
    estimates = Estimators(_weights("UNIFACE_ESTIMATORS"))
    middle = torch.nn.functional.interpolate(face[None, :, 96:416, 96:416], size=112, mode="bilinear", antialias=True)
    found = estimates((middle[0] + 1) * 127.5)
    assert 0 < found.age < 90
    assert sum(found.expression.values()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.slow
def test_shards_are_made_once_and_rare_ones_after_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [f"--generator={_weights('UNIFACE_GENERATOR')}", f"--estimators={_weights('UNIFACE_ESTIMATORS')}"]
    command = ["make_faces", *weights, "--count=6", "--seed=3", f"--out={tmp_path / 'made'}"]
    monkeypatch.setattr("sys.argv", command)
    main()
    (shard,) = (tmp_path / "made").glob("*.parquet")
    before = shard.stat().st_mtime_ns
    rows = pq.read_table(shard).to_pylist()
    assert [row["id"] for row in rows] == [f"0003-{index:06d}" for index in range(6)]
    main()
    assert shard.stat().st_mtime_ns == before
    monkeypatch.setattr("sys.argv", [*command[:-2], "--seed=4", f"--out={tmp_path}", f"--rarer-than={shard.parent}"])
    main()
    assert pq.read_table(tmp_path / "faces-0004-000.parquet").num_rows == 6
