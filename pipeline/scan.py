"""scan: digests of the files of the images and of earlier models -> data/*.txt. Runs always, to notice changes."""

from latentmill.config import load_params
from latentmill.data import sources
from latentmill.data.listing import CACHE, listing
from latentmill.data.sources.paths import LISTING
from latentmill.files import write_text
from latentmill.progress import Progress
from latentmill.runtime.text import plural
from latentmill.stage import stage_process
from latentmill.trials import earlier


def main() -> None:
    params = load_params()
    config = params.data
    LISTING.parent.mkdir(exist_ok=True)
    with Progress("looking for files") as progress:
        found = listing(sources.files(config), CACHE, progress.update)
    write_text(LISTING, found)
    write_text(earlier.LISTING, earlier.listing(params.train.warm_start))
    print(f"{LISTING}: {plural(found.count(chr(10)), 'file')}")


if __name__ == "__main__":
    with stage_process():
        main()
