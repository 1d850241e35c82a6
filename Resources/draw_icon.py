"""Draws the extension's icon: a slice, its copy, and the strip that tells which slices are copies.

``python Resources/draw_icon.py`` writes the two icons that are committed. Needs Pillow.
"""

from pathlib import Path

from PIL import Image, ImageDraw

SIZE, SCALE = 128, 8  # drawn eight times as large, then reduced: smooth edges
BACKGROUND, SCAN, COPY, CELL = "#1f2933", "#9fb3c8", "#ffb000", "#52606d"
ROOT = Path(__file__).resolve().parent.parent


def box(*values: float) -> list[float]:
    """Coordinates of the icon in those of the large drawing."""
    return [value * SCALE for value in values]


def draw_slice(draw: ImageDraw.ImageDraw, x: float, y: float, color: str) -> None:
    """A head in an axial slice around ``(x, y)``: outline, cleft and ventricles."""
    draw.ellipse(box(x - 25, y - 31, x + 25, y + 31), fill=BACKGROUND, outline=color, width=5 * SCALE)
    draw.line(box(x, y - 22, x, y - 8), fill=color, width=3 * SCALE)
    draw.line(box(x, y + 10, x, y + 22), fill=color, width=3 * SCALE)
    draw.ellipse(box(x - 10, y - 7, x - 3, y + 9), fill=color)
    draw.ellipse(box(x + 3, y - 7, x + 10, y + 9), fill=color)


def draw_icon() -> Image.Image:
    """The icon, 128 × 128 pixels with transparent corners."""
    image = Image.new("RGBA", (SIZE * SCALE, SIZE * SCALE), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle(box(2, 2, 126, 126), radius=20 * SCALE, fill=BACKGROUND)
    draw_slice(draw, 45, 47, SCAN)
    draw_slice(draw, 83, 61, COPY)
    for cell in range(9):
        left = 16 + cell * 10.8
        draw.rectangle(box(left, 103, left + 8.5, 113), fill=COPY if cell in (4, 5, 6) else CELL)
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    icon = draw_icon()
    icon.save(ROOT / "Resources" / "MemorizationIndex.png", optimize=True)
    icon.save(ROOT / "MemorizationIndex" / "Resources" / "Icons" / "MemorizationIndex.png", optimize=True)
