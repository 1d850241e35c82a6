"""Random weights of a SAM-shaped vision transformer, to make checkpoints of any size and fault."""

import torch
from memorization_index.encoders.checkpoints import Shape, expected_shapes


def random_weights(width=32, depth=4, hidden=64, patch=16, grid=15, seed=0, layer_scale=False):
    """All backbone tensors by name, class token not included."""
    generator = torch.Generator().manual_seed(seed)
    shapes = expected_shapes(Shape(width, depth, hidden, patch), layer_scale)
    shapes["pos_embed"] = (1, grid, grid, width)
    weights = {name: torch.randn(size, generator=generator) * size[-1] ** -0.5 for name, size in shapes.items()}
    return {name: values + ("norm" in name and "weight" in name) for name, values in weights.items()}
