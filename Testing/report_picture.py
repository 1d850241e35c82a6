"""The picture of a report in README and site: ``python Testing/report_picture.py DEMO docs/images/report.png``.

DEMO is the folder that ``memorization-index demo`` made (heads that nobody has). Rows of the worklist and sections are
left out until one page shows a bit of everything. Needs Chromium and Pillow; it is no part of the tests.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

ROWS = (
    "flip_horizontal_copy_1",
    "rotation_3_copy_1",
    "identity_copy_4",
    "flip_vertical_control_3",
    "rotation_5_control_3",
)
SECTION = "rotation_3_copy_1"
WIDTH, HEIGHT = 1180, 1500


def shortened(page: str) -> str:
    """The report with few rows and one section, up to that section's pictures."""
    head, body, foot = re.split(r"(?<=<tbody>)|(?=</tbody>)", page, maxsplit=2)
    rows = [
        row for row in re.findall(r"<tr>.*?</tr>", body, re.S) if any(name in row.replace("<wbr>", "") for name in ROWS)
    ]
    sections = re.findall(r'<section class="match".*?</section>', foot, re.S)
    [kept] = [section for section in sections if f"<h3>{SECTION}." in section]
    kept = kept[: kept.rindex("</figure>") + len("</figure>")] + "</section>"
    return head + "".join(rows) + foot[: foot.index(sections[0])] + kept + "</main></body></html>"


def main() -> None:
    """Write the picture."""
    demo, out = map(Path, sys.argv[1:])
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "page.html", Path(folder) / "shot.png"
        page.write_text(shortened((demo / "result" / "report.html").read_text(encoding="utf-8")), encoding="utf-8")
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}")
        subprocess.run([browser, *options, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True)
        picture = Image.open(shot).convert("RGB")
    box = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
    picture.crop((0, 0, WIDTH, box[3] + 16)).save(out, optimize=True)


if __name__ == "__main__":
    main()
