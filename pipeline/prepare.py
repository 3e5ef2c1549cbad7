"""prepare: the images that params.yaml names -> data/prepared/: arrays, labels, manifest, dropped.csv."""

import os
import signal
from typing import Any

from latentmill.config import load_params
from latentmill.data.listing import require_as_listed
from latentmill.data.preparation.prepare import prepare
from latentmill.data.preparation.summary import lines
from latentmill.data.processes import Spread
from latentmill.data.sources.paths import PREPARED
from latentmill.files import replacing_folder
from latentmill.heartbeat import print_line
from latentmill.progress import Progress
from latentmill.stage import stage_process, steady


def main() -> None:
    """Decode, split, write; then say what there is."""
    signal.signal(signal.SIGTERM, _end)
    with steady("prepare"), replacing_folder(PREPARED) as folder, Progress("looking for images") as progress:
        config = load_params().data
        manifest = prepare(config, folder, progress.update, elsewhere=_cluster())
        require_as_listed(config, progress.update)
    lines(manifest, print)
    print(f"{PREPARED}: {manifest['digest'][:12]}")


def _cluster() -> Spread | None:
    """The cluster that RAY_ADDRESS names, if it does."""
    if "RAY_ADDRESS" not in os.environ:
        return None
    from latentmill.cluster.decoding import Distributed  # Ray takes longer to import than all else here

    return Distributed(print_line)


def _end(*signalled: Any) -> None:
    """As an exception, so that what is half written goes, and the processes that decode."""
    raise SystemExit("error: ended by SIGTERM")


if __name__ == "__main__":
    with stage_process():
        main()
