"""prepare: the source that params.yaml names -> data/prepared/{train,val,test}.npy, labels, manifest.json."""

from pathlib import Path

from latentmill.config import load_params
from latentmill.data import dataset, sources
from latentmill.data.splits import split
from latentmill.errors import one_line_errors
from latentmill.files import replacing_folder

PREPARED = Path("data/prepared")


def main() -> None:
    """Load, split, write; then say in one line what there is."""
    config = load_params().data
    source = sources.load(config)
    splits = split(source, config)
    with replacing_folder(PREPARED) as folder:
        manifest = dataset.write(folder, splits, config.source, source.description)
    counts = ", ".join(f"{count} {name}" for name, count in manifest["counts"].items())
    dropped = sum(manifest["duplicates_dropped"].values())
    print(f"{PREPARED}: {source.description}; {counts}; {dropped} duplicates dropped; {manifest['digest'][:12]}")


if __name__ == "__main__":
    with one_line_errors():
        main()
