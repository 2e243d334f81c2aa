"""Renew `docs/images/report.png`: `python docs/report_image.py SWEEP_FOLDER` renders a sweep's report with Chromium.

The picture shows the page from its top to the end of its first figure, 1,200 pixels wide. `--height` crops it; look at
the result, because the page's texts vary with the sweep.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from analysis import load_sweep, write_html

IMAGE = Path(__file__).parent / "images" / "report.png"
WIDTH = 1200
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--hide-scrollbars", "--virtual-time-budget=15000"),
)


def main() -> None:
    """Render the page of the sweep that the command line names, and save the cropped picture with 256 colours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path, help="folder of the sweep; it is only read")
    parser.add_argument("--height", type=int, default=2290, help="pixels from the top of the page")
    parser.add_argument("--browser", default="chromium", help="the browser's command")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder) / "report.html", Path(folder) / "page.png"
        write_html([load_sweep(options.sweep, cache=False)], page)
        size = f"--window-size={WIDTH},{options.height}"
        profile = f"--user-data-dir={folder}/profile"
        command = [options.browser, *FLAGS, size, profile, f"--screenshot={picture}", page.as_uri()]
        subprocess.run(command, check=True, timeout=120)
        IMAGE.parent.mkdir(exist_ok=True)
        with Image.open(picture) as image:
            image.convert("RGB").quantize(256).save(IMAGE, optimize=True)


if __name__ == "__main__":
    main()
