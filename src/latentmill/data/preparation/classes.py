"""Labels as they are used: names of classes, in an order, and how many images each has."""

from collections import Counter
from dataclasses import replace

from latentmill.data.collection import Dropped, Item
from latentmill.data.dataset import SPLITS
from latentmill.data.preparation.intake import Intake
from latentmill.data.preparation.sufficiency import RARE


def without_unlabelled(intake: Intake, may_drop: int) -> Intake:
    """Without the images that have no label, where others have one and these are at most `may_drop`."""
    places = [place for place, item in enumerate(intake.items) if item.label is not None]
    lacking = len(intake.items) - len(places)
    if not places or not 0 < lacking <= may_drop:
        return intake
    dropped = [Dropped(item.name, "no label") for item in intake.items if item.label is None]
    items = [intake.items[place] for place in places]
    return replace(intake, rows=intake.rows[places], items=items, dropped=intake.dropped + dropped)


def class_names(items: dict[str, list[Item]]) -> tuple[list[str] | None, list[str]]:
    """The names of the classes in order, None where labels are not to be used, and what there is to say of that."""
    labels = Counter(item.label for each in items.values() for item in each)
    missing = labels.pop(None, 0)
    if not labels:
        return None, []
    if missing:
        share = f"{missing} of {missing + labels.total()} images have no label"
        return None, [f"labels are not used: {share}, more than data.max_dropped lets drop"]
    names = sorted(map(str, labels), key=natural)
    rare = [f"{name} ({labels[name]})" for name in names if labels[name] < RARE]
    if len(names) - len(rare) < 2:
        return None, [f"labels are not used: fewer than 2 of {len(names)} classes have {RARE} images"]
    return names, [f"classes with fewer than {RARE} images: {', '.join(rare)}"] if rare else []


def natural(name: str) -> tuple[bool, int, str]:
    """Numbers by value, before text."""
    is_number = name.removeprefix("-").isdecimal()
    return not is_number, int(name) if is_number else 0, name


def class_counts(classes: list[str], items: dict[str, list[Item]]) -> dict[str, dict[str, int]]:
    """How many images of each class there are in each split."""
    found = {split: Counter(item.label for item in each) for split, each in items.items()}
    return {name: {split: found[split][name] for split in SPLITS} for name in classes}
