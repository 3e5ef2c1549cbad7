"""scan: a digest of every file that the images come from -> data/listing.txt. Runs always, to notice changes."""

from latentmill.config import load_params
from latentmill.data import sources
from latentmill.data.listing import CACHE, listing
from latentmill.data.sources.paths import LISTING
from latentmill.files import write_text
from latentmill.progress import Progress
from latentmill.stage import stage_process


def main() -> None:
    config = load_params().data
    LISTING.parent.mkdir(exist_ok=True)
    with Progress("looking for files") as progress:
        found = listing(sources.files(config), CACHE, progress.update)
    write_text(LISTING, found)
    print(f"{LISTING}: {found.count(chr(10)):,} files")


if __name__ == "__main__":
    with stage_process():
        main()
