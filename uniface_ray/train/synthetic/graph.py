"""Reads the constants of a network out of OpenVINO's intermediate representation, without OpenVINO.

A network is an XML file of layers and edges, and a file of the bytes of its constants (OpenVINO documentation, "IR").
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_TYPES = {"f32": "<f4", "f16": "<f2", "i64": "<i8", "i32": "<i4"}


class Graph:
    """The layers of one network by their id, and what each takes in.

    Args:
        path: the XML file; the constants lie beside it in a file that ends in .bin.

    Raises:
        FileNotFoundError: one of the two is not there.
    """

    def __init__(self, path: Path) -> None:
        root = ElementTree.parse(path).getroot()
        self._bytes = path.with_suffix(".bin").read_bytes()
        self._layers = {layer.attrib["id"]: layer for layer in root.iter("layer")}
        self._sources: dict[str, dict[int, str]] = {name: {} for name in self._layers}
        for edge in root.iter("edge"):
            self._sources[edge.attrib["to-layer"]][int(edge.attrib["to-port"])] = edge.attrib["from-layer"]

    def of_type(self, *kinds: str) -> list[str]:
        """Layers of some types, in the order of the file."""
        return [name for name in self._layers if self.type(name) in kinds]

    def type(self, name: str) -> str:
        """Type of a layer, such as "Convolution"."""
        return self._layers[name].attrib["type"]

    def inputs(self, name: str) -> list[str]:
        """Layers that a layer takes in, constants left out."""
        return [source for source in self._ports(name) if self.type(source) != "Const"]

    def users(self, name: str) -> list[str]:
        """Layers that take this one in."""
        return [other for other, sources in self._sources.items() if name in sources.values()]

    def constants(self, name: str) -> list[Tensor]:
        """Constants that a layer takes in: floats as float32."""
        return [self._constant(source) for source in self._ports(name) if self.type(source) == "Const"]

    def _ports(self, name: str) -> list[str]:
        return [source for _, source in sorted(self._sources[name].items())]

    def _constant(self, name: str) -> Tensor:
        data = self._layers[name].find("data")
        assert data is not None
        kind = np.dtype(_TYPES[data.attrib["element_type"]])
        start, size = int(data.attrib["offset"]), int(data.attrib["size"])
        values = np.frombuffer(self._bytes, kind, size // kind.itemsize, start)
        shape = [int(side) for side in data.attrib["shape"].split(",") if side]
        tensor = torch.from_numpy(values.copy()).reshape(shape)
        return tensor.float() if tensor.is_floating_point() else tensor
