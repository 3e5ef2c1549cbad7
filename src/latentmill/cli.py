"""The command `latentmill`. Each subcommand imports what it needs when it runs, so that sampling starts fast."""

import argparse
import os
import sys
from pathlib import Path

from latentmill.errors import InputError, one_line_errors
from latentmill.judging.arguments import add_arguments
from latentmill.project.commands import Commands, add_commands
from latentmill.runtime.text import print_anything


def main(arguments: list[str] | None = None) -> None:
    """Run the subcommand that the arguments name; the exit status is 0, 1 on bad input, 2 on bad usage.

    Of `judge` it is 0 for pass, 1 for fail, and 2 for inconclusive, or on bad input.
    """
    print_anything()
    chosen = _parser().parse_args(arguments)
    judges = chosen.run is _judge
    status = 2 if judges else 1
    with one_line_errors(status):
        try:
            chosen.run(chosen)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads the output, `head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(status)
        except ModuleNotFoundError as error:
            raise _without_extra(error, "judge" if judges else "pipeline") from None


def _without_extra(error: ModuleNotFoundError, extra: str) -> Exception:
    """Of a package that only an `extra` asks for, what to install; a module of our own that is missing is a fault."""
    if error.name is None or error.name.partition(".")[0] == "latentmill":
        return error
    rule = f"this command must have what `pip install 'latentmill[{extra}]'` adds"
    return InputError(f"{rule}, but {error.name} is missing")


class _Version(argparse.Action):
    """Looks the version up only where it is asked for, as commands start fast."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        from importlib.metadata import version

        print(f"latentmill {version('latentmill')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "latentmill",
        description="Train generative models of images; use what is exported of them; judge samples.",
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print the version and exit"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_sample,
        _add_reconstruct,
        _add_interpolate,
        _add_traverse,
        _add_inspect,
        _add_verify,
        _add_bench,
        _add_serve,
        _add_judge,
    ):
        add(commands)
    add_commands(commands)
    return parser


def _add(commands: Commands, name: str, what: str, out: str | None = None) -> argparse.ArgumentParser:
    """A command that uses an export; `out` is the default of its output, if it has one."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what)
    parser.set_defaults(run=_use, command=name)
    parser.add_argument("model", type=Path, help="the folder of an export, such as exports/vae")
    if out:
        kinds = ".png (a grid), .npy, .npz, or a folder for PNGs"
        parser.add_argument("--out", type=Path, default=Path(out), help=f"{kinds} (default: {out})")
    return parser


def _add_label(parser: argparse.ArgumentParser, otherwise: str = "required") -> None:
    parser.add_argument("--label", help=f"a class, for a conditional model ({otherwise})")


def _add_sample(commands: Commands) -> None:
    parser = _add(commands, "sample", "draw images", "samples.png")
    _add_label(parser, otherwise="drawn by frequency")
    parser.add_argument("--guidance", type=float, default=1.0, help="how strongly a guided model follows the label (1)")
    parser.add_argument("--n", type=int, default=64, help="number of images (64)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--temperature", type=float, default=1.0, help="factor of the noise (1)")
    parser.add_argument("--truncation", type=float, help="largest absolute value of the noise (no limit)")


def _add_reconstruct(commands: Commands) -> None:
    parser = _add(commands, "reconstruct", "encode and decode images", "reconstructions.png")
    parser.add_argument("images", type=Path, help="an .npy file, or an .npz with `images`")
    _add_label(parser)


def _add_interpolate(commands: Commands) -> None:
    parser = _add(commands, "interpolate", "interpolate between drawn images", "interpolations.png")
    parser.add_argument("--rows", type=int, default=8, help="number of paths (8)")
    parser.add_argument("--steps", type=int, default=12, help="images on each path (12)")
    parser.add_argument("--path", choices=("linear", "slerp"), default="linear", help="straight, or on the sphere")
    _add_label(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")


def _add_traverse(commands: Commands) -> None:
    parser = _add(commands, "traverse", "change a drawn image along directions", "traversals.png")
    parser.add_argument("--direction", action="append", help='such as "toward Flags"; repeat it for more (all)')
    parser.add_argument("--steps", type=int, default=9, help="images along each direction (9)")
    _add_label(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")


def _add_inspect(commands: Commands) -> None:
    _add(commands, "inspect", "print what an exported model is, its verdicts and its files")


def _add_verify(commands: Commands) -> None:
    _add(commands, "verify", "check every file of an export against its manifest, and the graphs against one another")


def _add_bench(commands: Commands) -> None:
    parser = _add(commands, "bench", "measure the speed of an export on this machine")
    parser.add_argument("--threads", type=int, help="for one call (all cores)")


def _add_serve(commands: Commands) -> None:
    parser = _add(commands, "serve", "show an export in a browser, with sliders")
    parser.set_defaults(run=_serve)
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="of the address, 0 for any free one (8000)")
    parser.add_argument("--to", type=Path, help="write the page to this folder instead, for any web server")


def _add_judge(commands: Commands) -> None:
    what = "judge samples of any generator by both rules; exits with 0 pass, 1 fail, 2 inconclusive or bad input"
    parser: argparse.ArgumentParser = commands.add_parser("judge", help=what, description=what)
    parser.set_defaults(run=_judge)
    add_arguments(parser)


def _use(chosen: argparse.Namespace) -> None:
    """Run the subcommand with its arguments."""
    from latentmill.runtime import commands
    from latentmill.runtime.interrupts import ended_by_interrupt

    arguments = {name: value for name, value in vars(chosen).items() if name not in ("run", "command")}
    with ended_by_interrupt():
        getattr(commands, chosen.command)(**arguments)


def _judge(chosen: argparse.Namespace) -> None:
    from latentmill.judging.command import run

    arguments = {name: value for name, value in vars(chosen).items() if name != "run"}
    sys.exit(run(**arguments))


def _serve(chosen: argparse.Namespace) -> None:
    from latentmill.browser.serve import serve

    serve(chosen.model, chosen.host, chosen.port, chosen.to)
