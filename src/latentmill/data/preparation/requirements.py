"""What a collection must be like to be used: it has room on the disk, and most of it can be read."""

import shutil
from collections import Counter
from pathlib import Path

from latentmill.data.collection import Collection
from latentmill.data.preparation.intake import Intake
from latentmill.data.preparation.summary import kinds
from latentmill.errors import InputError


def require_room(folder: Path, size: int) -> None:
    """Raises: InputError: the disk has no room for so many bytes; a mapped file that outgrows it is fatal."""
    free = shutil.disk_usage(folder).free
    if size > free:
        got = f"there are {free / 1e9:.3g} on the disk of {folder.parent}: see data.size and data.limit"
        raise InputError(f"images need {size / 1e9:.3g} GB, while they are prepared, but {got}")


def count_unusable(intake: Intake, listed: Collection) -> tuple[float, int]:
    """Of how many that should be images, how many can't be used.

    Of a limited number, those that can't be decoded stand for as large a share of all that are `listed`.
    """
    before = sum(each.counts for each in listed.dropped)
    later = sum(each.counts for each in intake.dropped) - before
    tried = len(intake.items) + len(intake.dropped) - len(listed.dropped)
    return before + later * len(listed.items) / max(tried, 1), before + len(listed.items)


def require_readable(intake: Intake, description: str, unusable: float, total: int, most: float) -> None:
    """Raises: InputError: a larger share of what should be images than `most` can't be used, or there are none."""
    counted = [each for each in intake.dropped if each.counts]
    if not intake.items and not counted:
        first = "".join(f"; {each.name}: {each.reason}" for each in intake.dropped[:1])
        raise InputError(f"{description} must hold images, but of {len(intake.dropped)} files none is one{first}")
    if unusable > most * total or not intake.items:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in Counter(kinds(counted)).most_common(3))
        share = f"{unusable:.0f} of {total} images ({unusable / max(total, 1):.1%})"
        rule = f"at most {most:.1%} of the images may be unreadable (data.max_dropped)"
        first = f"; the first is {counted[0].name}" if counted else ""
        raise InputError(f"{rule}, but {share} are: {reasons}{first}")
