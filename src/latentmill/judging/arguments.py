"""The arguments of `latentmill judge`; apart from what they need, so that other commands start fast."""

import argparse

REQUIRED = {"rule1": (1,), "rule2": (2,), "both": (1, 2)}
SOURCES = "a folder or archive of images, a table, .npy or .npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those that `command.run` takes."""
    parser.add_argument("--samples", required=True, help=f"{SOURCES}, or an export such as exports/vae")
    parser.add_argument("--train", required=True, help=f"what it was trained on: {SOURCES}, or data/prepared")
    parser.add_argument("--held-out", help="more such images, on which it was not trained (a fifth of --train)")
    parser.add_argument("--labels", default="auto", help="the column or level of folders of classes, or none (auto)")
    parser.add_argument("--size", type=int, help="the side of all images in pixels (that of the samples)")
    parser.add_argument("--count", type=int, help="samples that are drawn from an export (10000)")
    parser.add_argument("--flip", action="store_true", help="the generator was trained with mirrored images too")
    parser.add_argument("--require", choices=REQUIRED, default="both", help="the rules that must pass (both)")
    parser.add_argument(
        "--limit", action="append", default=[], help="how much damage makes samples fail, such as blur=0.5 (px)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws (0)")
    parser.add_argument("--out", default="judgement", help="a folder apart from those of the images (judgement)")
