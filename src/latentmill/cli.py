"""The command `latentmill`. Each subcommand imports what it needs when it runs, so that sampling starts fast."""

import argparse
from pathlib import Path

from latentmill.errors import one_line_errors


def main(arguments: list[str] | None = None) -> None:
    """Run the subcommand that the arguments name; the exit status is 0, 1 on bad input, 2 on bad usage."""
    chosen = _parser().parse_args(arguments)
    with one_line_errors():
        chosen.run(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "latentmill", description="Sample from exported generative models of images; plan and submit their training."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sample = commands.add_parser("sample", help="draw images from an exported model")
    sample.add_argument("model", type=Path, help="an exported folder such as exports/vae, or its generator.onnx")
    sample.add_argument("--n", type=int, default=64, help="how many images (64)")
    sample.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    sample.add_argument(
        "--out", type=Path, default=Path("samples.png"), help=".png, .npy or .npz (default: samples.png)"
    )
    sample.set_defaults(run=_sample)
    plan = commands.add_parser("plan", help="list the trials of params.yaml, and which are trained already")
    plan.set_defaults(run=_plan)
    submit = commands.add_parser("submit", help="run the train stage as a job of a Ray cluster")
    submit.add_argument("--address", required=True, help="of the cluster's dashboard, such as http://head:8265")
    submit.set_defaults(run=_submit)
    return parser


def _sample(chosen: argparse.Namespace) -> None:
    from latentmill.runtime.images import check_suffix, save
    from latentmill.runtime.sampler import Sampler

    check_suffix(chosen.out)  # before the work, not after it
    images = Sampler(chosen.model).sample(chosen.n, chosen.seed)
    save(chosen.out, images)
    shape = "x".join(map(str, images.shape[1:]))
    print(f"{chosen.out}: {len(images)} images of {shape} from {chosen.model}, seed {chosen.seed}")


def _plan(chosen: argparse.Namespace) -> None:
    from latentmill.config import load_params
    from latentmill.data.dataset import read_manifest
    from latentmill.sweep.search import optuna_rounds
    from latentmill.training.plan import Plan, rows
    from latentmill.training.store import TrialStore

    params = load_params()
    store = TrialStore(params.train.storage, note=print)
    plan = Plan(params, read_manifest(Path("data/prepared"))["digest"], store, optuna_rounds)
    for fingerprint, status, label in rows(plan):
        print(f"{fingerprint}  {status:<13}  {label}")
    print(plan.summary())


def _submit(chosen: argparse.Namespace) -> None:
    from latentmill.sweep.submit import submit

    submit(chosen.address, Path.cwd())
    print("trained: `dvc repro` brings the winners home, and trains nothing again")
