"""A face recogniser in ONNX, such as AntelopeV2's glintr100, through onnxruntime (extra `identity`)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniface_ray.core.errors import UserError
from uniface_ray.model.expert_config import IdentityConfig


class OnnxIdentity(nn.Module):
    """Runs the file on the CPU, frozen; it holds no weights, so a checkpoint does not either."""

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config
        self._session: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None}  # a session cannot be pickled or copied

    @torch.no_grad()
    def forward(self, faces: Tensor) -> Tensor:
        """Faces (B, 3, S, S), prepared -> embeddings of unit length (B, 1, embedding)."""
        session = self._open()
        given = {session.get_inputs()[0].name: faces.float().cpu().numpy()}
        embedding = torch.from_numpy(session.run(None, given)[0]).to(faces.device)
        if embedding.shape != (len(faces), self.config.embedding_size):
            raise UserError(
                f"identity_config.onnx_path is {self.config.onnx_path!r}, which gives {tuple(embedding.shape)} for "
                f"{len(faces)} faces, but identity_config.embedding_size says {self.config.embedding_size}"
            )
        return F.normalize(embedding, dim=-1)[:, None]

    def _open(self) -> Any:
        if self._session is None:
            try:
                import onnxruntime
            except ImportError as error:
                raise UserError(
                    "identity_config.onnx_path needs onnxruntime: pip install 'uniface-ray[identity]'"
                ) from error
            try:
                self._session = onnxruntime.InferenceSession(self.config.onnx_path, providers=["CPUExecutionProvider"])
            except Exception as error:
                raise UserError(
                    f"identity_config.onnx_path is {self.config.onnx_path!r}, which onnxruntime cannot open: {error}"
                ) from error
        return self._session


__all__ = ["OnnxIdentity"]
