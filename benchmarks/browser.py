"""The exported decoder in Chromium, on the page of `latentmill serve`: milliseconds an image, after warm-up."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

from benchmarks.target import Result, Target
from latentmill.browser.serve import HERE, ORT, page_server

MODEL, CHROMIUM = Path("exports/vae"), shutil.which("chromium")
FRAMES = {threads: Target(f"browser, one image, {threads} thread(s)", "ms", at_most=16) for threads in (1, 2)}
MEDIAN = """async () => {
    const [page, z, times] = [window.latentmill, await window.latentmill.code(), []];
    for (let frame = 0; frame < 500; frame++) {
        const started = performance.now();
        await page.decode(z);
        if (frame >= 100) times.push(performance.now() - started);
    }
    return times.sort((a, b) => a - b)[200];
}"""


def measure() -> Iterator[Result]:
    """Of the default VAE."""
    needed = [MODEL / "manifest.json", *(HERE / name for name in ORT), Path(CHROMIUM or "chromium")]
    if missing := [path for path in needed if not path.exists()]:
        yield from (target.not_measured(str(missing[0])) for target in FRAMES.values())
        return
    from playwright.sync_api import sync_playwright

    with page_server(MODEL, "127.0.0.1", 0) as server, sync_playwright() as playwright:
        Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for threads, target in FRAMES.items():
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/?threads={threads}")
            yield target.result(page.evaluate(MEDIAN))
        browser.close()
        server.shutdown()
