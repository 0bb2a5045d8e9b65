"""Making synthetic faces: the files of other people's weights, the wavelet step, and which styles are chosen.

Whole faces are made only where the weights are, see `_weights`; they are no part of the project.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from uniface_ray.core.errors import UserError
from uniface_ray.train.synthetic import generator, make_faces
from uniface_ray.train.synthetic.estimators import Estimators, _padded, _read_weights
from uniface_ray.train.synthetic.graph import Graph
from uniface_ray.train.synthetic.rare import StyleReader
from uniface_ray.train.synthetic.shards import SHARD, MadeWith, fit_reader, missing_shards, shard_path, write_shard

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
    age, _, happy = (others @ truth + torch.tensor([30.0, 0.5, 0.7])).unbind(1)
    chosen = reader.rare(others, 64)
    assert len(chosen.unique(dim=0)) == 64
    kinds = (chosen @ truth + torch.tensor([30.0, 0.5, 0.7])).split([16, 12, 14, 12, 10])
    (older, older_men, children, serious, middle) = kinds
    assert older[:, 0].min() > age.quantile(0.95)
    assert older_men[:, 0].min() > age.quantile(0.8)
    assert older_men[:, 1].min() > 0.45
    assert children[:, 0].max() < age.quantile(0.05)
    assert serious[:, 2].mean() < happy.mean() - happy.std()
    assert serious[:, 1].max() < 0.55
    assert middle[:, 1].max() < 0.55
    assert (middle[:, 0] - 47).abs().max() < 6


MADE = MadeWith(3, 0.7)


def _shard(folder: Path, made: MadeWith = MADE, rows: int = 4, number: int = 0) -> Path:
    path = shard_path(folder, made.seed, number)
    write_shard([{"id": f"{made.seed:04d}-{number * SHARD + row:06d}"} for row in range(rows)], made, path)
    return path


def test_shards_that_are_there_are_not_made_again_and_short_ones_are(tmp_path: Path) -> None:
    assert missing_shards(tmp_path, MADE, SHARD + 4) == [0, 1]
    _shard(tmp_path, rows=SHARD)
    _shard(tmp_path, number=1)
    assert missing_shards(tmp_path, MADE, SHARD + 4) == []
    assert missing_shards(tmp_path, MADE, SHARD + 5) == [1]
    with pytest.raises(UserError, match=r"faces-0003-000\.parquet was made with .*0\.7.* and asked is .*0\.9"):
        missing_shards(tmp_path, replace(MADE, truncation=0.9), 4)
    with pytest.raises(UserError, match="give another --out"):
        missing_shards(tmp_path, replace(MADE, rarer_than=(2,)), 4)


def test_a_reader_is_fitted_to_ordinary_faces_of_other_seeds_only(tmp_path: Path) -> None:
    generator: Any = None  # is not asked before the shards are found good
    path = _shard(tmp_path)
    with pytest.raises(UserError, match="is of --seed 3, whose faces would come again"):
        fit_reader(generator, tmp_path, 3)
    _shard(tmp_path, replace(MADE, rarer_than=(2,)))
    with pytest.raises(UserError, match=f"{path.name} has rare faces itself"):
        fit_reader(generator, tmp_path, 4)
    pq.write_table(pa.table({"id": ["1"]}), path)
    with pytest.raises(UserError, match="does not say what it was made with"):
        fit_reader(generator, tmp_path, 4)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=str(path)):
        fit_reader(generator, tmp_path, 4)


def _folders(tmp_path: Path) -> list[str]:
    """Options with folders whose files have the right names."""
    for name, files in make_faces._FILES.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
    return [f"--{name}={tmp_path / name}" for name in (*make_faces._FILES, "out")]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--count=0", "--count: 0 is not 1 or more"),
        ("--seed=-1", "--seed: -1 is not 0 or more"),
        ("--workers=0", "--workers: 0 is not 1 or more"),
        ("--truncation=nan", "--truncation: nan is not 0 to 1"),
        ("--count=some", "--count: invalid int value: 'some'"),
        ("--rarer-than={out}", "--rarer-than is {out}, where there is no *.parquet"),
        ("--out=/dev/null", "--out is /dev/null, which cannot be a folder"),
        ("--generator={out}", "--generator is {out}, where there is no MappingNetwork.xml"),
        ("--estimators={out}", "--estimators is {out}, where there is no age_gender_model.bin"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str, told: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    command = ["make_faces", *_folders(tmp_path), "--count=1", "--seed=1", option.format(out=tmp_path)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        make_faces.main()
    assert ended.value.code == 2
    assert told.format(out=tmp_path) in capsys.readouterr().err


def test_on_a_cluster_folders_are_shared_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr("sys.argv", ["make_faces", *_folders(tmp_path), "--count=1", "--seed=1", "--out=faces"])
    with pytest.raises(SystemExit):
        make_faces.main()
    assert "--out is faces, but on a cluster it must be absolute" in capsys.readouterr().err


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
    # A laughing child before a bright ground.
    green = torch.nn.functional.adaptive_avg_pool2d(face, 3)[1]
    expected = [[-0.289, 0.204, 0.440], [0.231, 0.048, 0.281], [0.017, -0.057, -0.111]]
    torch.testing.assert_close(green, torch.tensor(expected), atol=0.01, rtol=0)
    assert found.age == pytest.approx(9.2, abs=0.5)
    assert found.p_male == pytest.approx(0.1, abs=0.05)
    assert found.expression["happy"] > 0.99


@pytest.mark.slow
def test_shards_are_made_once_and_rare_ones_after_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [f"--generator={_weights('UNIFACE_GENERATOR')}", f"--estimators={_weights('UNIFACE_ESTIMATORS')}"]
    command = ["make_faces", *weights, "--count=6", "--seed=3", f"--out={tmp_path / 'made'}"]
    monkeypatch.setattr("sys.argv", command)
    make_faces.main()
    (shard,) = (tmp_path / "made").glob("*.parquet")
    before = shard.stat().st_mtime_ns
    rows = pq.read_table(shard).to_pylist()
    assert [row["id"] for row in rows] == [f"0003-{index:06d}" for index in range(6)]
    make_faces.main()
    assert shard.stat().st_mtime_ns == before
    monkeypatch.setattr("sys.argv", [*command[:-2], "--seed=4", f"--out={tmp_path}", f"--rarer-than={shard.parent}"])
    make_faces.main()
    assert len({row["image"] for row in pq.read_table(tmp_path / "faces-0004-000.parquet").to_pylist()}) == 6
