"""How fast MRI-CORE's encoder is: ``python Testing/benchmarks/encoder.py [--batch 8] [--threads 1] [--out FILE]``.

ViT-B with random weights, against the literal encoder and Hugging Face's SAM of the same shape (which normalizes before
it pads, so its numbers differ, not its work). Rounds are interleaved, and a ratio is the median over rounds of what was
timed next to each other. The peak is a product of two square matrices by the faster of PyTorch's two libraries (see
``encoders/packing.py``), timed in the same rounds. As batch sizes suit encoders differently, ``best batches`` compares
each at its own best one.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex"), str(ROOT / "Testing/library")]

from literal_encoder import literal_blocks  # noqa: E402
from machine import processor  # noqa: E402
from memorization_index.encoders import packing  # noqa: E402
from memorization_index.encoders.base import default_blocks  # noqa: E402
from memorization_index.encoders.checkpoints import Shape  # noqa: E402
from memorization_index.encoders.precision import bfloat16_speedup  # noqa: E402
from memorization_index.encoders.transformer import VisionTransformer  # noqa: E402
from vit_weights import random_weights  # noqa: E402

SHAPE, HEADS, PATCH, WINDOW = Shape(768, 12, 3072, 16), 12, 16, 14
#: Side of the square matrices whose product gives the peak.
SIDE = 2048
LITERAL, UNPACKED, HALF, PEAK = "literal 240", "ours 224, BLAS", "ours 224, bfloat16", "matrix product"


def multiplications(grid: int, padded: bool) -> float:
    """Multiply-adds of one image: linear maps of every token, and attention within windows and in four blocks."""
    width = SHAPE.width
    sides = [min(WINDOW, grid - start) for start in range(0, grid, WINDOW)]
    if padded:
        sides = [WINDOW] * len(sides)
    windows = [h * w for h in sides for w in sides]
    # Padding is one more key; for the literal encoder it is tokens.
    pairs = sum(t * (t + (t < WINDOW**2)) for t in windows)
    windowed = sum(windows) * 4 * width**2 + 2 * width * pairs
    everywhere = grid**2 * 4 * width**2 + 2 * width * grid**4
    perceptron = grid**2 * 8 * width**2
    patches = grid**2 * width * PATCH**2 * (3 if padded else 1)
    return float(8 * windowed + 4 * everywhere + 12 * perceptron + patches)


def encoder(weights: dict[str, Tensor], grid: int, packed: bool = True) -> VisionTransformer:
    """Ours, as it is used in float32; or with PyTorch's own linear maps."""
    with torch.device("meta"):
        model = VisionTransformer(SHAPE, HEADS, grid, False)
    model.load_state_dict({**weights, "pos_embed": weights["pos_embed"][:, :grid, :grid]}, assign=True)
    model.requires_grad_(False)
    if packed and packing.is_worthwhile():
        packing.pack(model)
    return model


def hugging_face_sam(image_size: int) -> torch.nn.Module:
    from transformers import SamVisionConfig, SamVisionModel

    config = SamVisionConfig(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, mlp_dim=3072, image_size=image_size,
        window_size=WINDOW, use_rel_pos=False, global_attn_indexes=[2, 5, 8, 11],
    )  # fmt: skip
    return SamVisionModel(config).eval().requires_grad_(False)


def now() -> float:
    """Processor time where one thread works, which other programs on the machine disturb less; else time."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds(work: Callable[[], object]) -> float:
    start = now()
    work()
    return now() - start


def measure(batch: int, rounds: int) -> dict[str, Any]:
    weights = random_weights(SHAPE.width, SHAPE.depth, SHAPE.hidden, PATCH, 15)
    wanted = default_blocks(SHAPE.depth)
    fast, native, sam = encoder(weights, 15), encoder(weights, 14), hugging_face_sam(240)
    plain = encoder(weights, 14, packed=False)
    gray, small = torch.rand(batch, 1, 240, 240), torch.rand(batch, 1, 224, 224)
    colors, (left, right, product) = gray.expand(-1, 3, -1, -1).contiguous(), torch.rand(3, SIDE, SIDE)
    square = packing.PackedLinear(torch.nn.Linear(SIDE, SIDE, bias=False).requires_grad_(False))

    def multiply() -> Tensor:
        return square(left) if packing.is_worthwhile() else torch.mm(left, right, out=product)

    works: dict[str, Callable[[], object]] = {
        LITERAL: lambda: literal_blocks(weights, colors, HEADS, wanted),
        "transformers SAM 240": lambda: sam(pixel_values=colors),
        "ours 240": lambda: fast(gray, wanted),
        "ours 224": lambda: native(small, wanted),
        UNPACKED: lambda: plain(small, wanted),
        HALF: lambda: in_bfloat16(plain, small, wanted),
        PEAK: lambda: [multiply() for _ in range(batch)],
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    with torch.inference_mode():
        one, other, single, half = (
            works[name]()[wanted[-1]].float().mean((1, 2)).double()  # type: ignore[index]
            for name in (LITERAL, "ours 240", "ours 224", HALF)
        )
        for number in range(rounds + 1):
            for name, work in works.items():
                taken = seconds(work)
                if number:  # the first round warms up
                    times[name].append(taken / batch)
    gmac = {LITERAL: multiplications(15, True), "ours 240": multiplications(15, False)}
    gmac["ours 224"] = gmac[UNPACKED] = multiplications(14, False)
    gmac[PEAK] = float(SIDE**3)
    rates = {name: [2 * gmac[name] / t / 1e9 for t in times[name]] for name in gmac}

    def ratio(slow: list[float], quick: list[float]) -> float:
        return round(statistics.median(a / b for a, b in zip(slow, quick, strict=True)), 3)

    return {
        "seconds_per_slice": {name: round(statistics.median(t), 4) for name, t in times.items()},
        "gmac_per_slice": {name: round(value / 1e9, 2) for name, value in gmac.items()},
        "gflops": {name: round(statistics.median(r), 1) for name, r in rates.items()},
        "speedup_over_literal_240": {name: ratio(times[LITERAL], times[name]) for name in list(works)[1:-1]},
        "fraction_of_peak": {name: ratio(rates[name], rates[PEAK]) for name in gmac if name != PEAK},
        "least_pooled_cosine": float(F.cosine_similarity(one, other).min()),
        "greatest_pooled_difference": float((one - other).abs().max()),
        "least_pooled_cosine_of_bfloat16": float(F.cosine_similarity(single, half).min()),
        "bfloat16_matrix_product_speedup": round(bfloat16_speedup(), 3),
    }


def in_bfloat16(model: VisionTransformer, images: Tensor, wanted: tuple[int, ...]) -> dict[int, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        return model(images, wanted)


def variants(batch: int, rounds: int) -> dict[str, Any]:
    """Other ways to compute our encoder at 224 px, each beside PyTorch's own linear maps."""
    weights = random_weights(SHAPE.width, SHAPE.depth, SHAPE.hidden, PATCH, 15)
    wanted = default_blocks(SHAPE.depth)
    model, images = encoder(weights, 14, packed=False), torch.rand(batch, 1, 224, 224)
    compiled = torch.compile(model)

    def without_onednn() -> dict[int, Tensor]:
        with torch.backends.mkldnn.flags(enabled=False):
            return model(images, wanted)

    works: dict[str, Callable[[], dict[int, Tensor]]] = {
        "BLAS": lambda: model(images, wanted),
        "torch.compile": lambda: compiled(images, wanted),
        "without oneDNN": without_onednn,
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    pooled: dict[str, Tensor] = {}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, work in works.items():
                start = now()
                pooled[name] = work()[wanted[-1]].float().mean((1, 2))
                if number:  # the first round warms up, and compiles
                    times[name].append((now() - start) / batch)
    used = times["BLAS"]
    return {
        "seconds_per_slice": {name: round(statistics.median(t), 4) for name, t in times.items()},
        "speedup_over_BLAS": {
            name: round(statistics.median(a / b for a, b in zip(used, t, strict=True)), 3) for name, t in times.items()
        },
        "least_pooled_cosine": {
            name: float(F.cosine_similarity(pooled["BLAS"].double(), values.double()).min())
            for name, values in pooled.items()
        },
    }


def best(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The least time of each encoder over all batch sizes, and the literal encoder's over it."""
    times = [found["seconds_per_slice"] for found in results.values()]
    least = {name: min(t[name] for t in times) for name in times[0] if name != PEAK}
    return {
        "seconds_per_slice": least,
        "speedup_over_literal_240": {name: round(least[LITERAL] / least[name], 3) for name in least if name != LITERAL},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--variants", action="store_true", help="other ways to compute our encoder, instead")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    measured = variants if options.variants else measure
    results = {f"batch {batch}": measured(batch, options.rounds) for batch in options.batch}
    about = {"processor": processor(), "torch": torch.__version__, "threads": options.threads, "dtype": "float32"}
    if not options.variants:
        results["best batches"] = best(results)
    text = json.dumps({**about, "rounds": options.rounds, **results}, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
