"""The page of `dvc plots show`, with Vega within it: by default DVC's loads it from a network."""

from pathlib import Path

import vl_convert

from latentmill.errors import InputError
from latentmill.files import write_text
from latentmill.project.programs import DVC, run

PAGE = Path(".latentmill/plots.html")
# DVC replaces what is in braces.
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Plots</title>
{refresh_tag}
<script>%s</script>
<style>
body { font-family: system-ui, sans-serif; margin: 2rem }
table { border-spacing: 15px }
</style>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def offline_plots(folder: Path = Path()) -> None:
    """Write the page, and have DVC in `folder` use it, on this machine only.

    Raises:
        InputError: it can't be written, or DVC refuses.
    """
    page = folder / PAGE
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_text(page, TEMPLATE.replace("%s", vl_convert.javascript_bundle()))  # type: ignore[call-arg]  # its stub lacks the default
    except OSError as error:
        raise InputError(f"{page} must be a file that can be written, but: {error.strerror}") from None
    run(folder, *DVC, "config", "--local", "plots.html_template", f"../{PAGE}")  # from .dvc on
