"""What a data set is too small for, said before anything is trained."""

RARE = 10  # images of a class, below which its share, its mean and its absence mean nothing
MOST_SLIDERS = 20  # toward classes; with more, no list of sliders is of use
FEWEST_TO_TRAIN = 7  # images: each has 6 nearest others
FEWEST_HELD_OUT = 40  # of a third of train and val: two sets of 20, for controls whose verdict is known
ENOUGH_HELD_OUT = 400  # so many tell a dropped class and 5 % copies from chance, as a rule


def too_small_for(counts: dict[str, int], class_counts: dict[str, dict[str, int]]) -> list[str]:
    """Sentences, most serious first, from the images a split and a class and split."""
    said = []
    held_out = counts["train"] // 3 + counts["val"]
    if counts["train"] < FEWEST_TO_TRAIN:
        said.append(f"nearest neighbours need {FEWEST_TO_TRAIN} training images, but there are {counts['train']}")
    if held_out < FEWEST_HELD_OUT:
        need = f"{FEWEST_HELD_OUT} images for controls (val and a third of train)"
        said.append(f"verdicts need {need}, but there are {held_out}: both rules stay inconclusive")
    elif held_out < ENOUGH_HELD_OUT:
        have = f"there are {held_out} for them"
        said.append(f"verdicts on fewer than {ENOUGH_HELD_OUT} images for controls are often inconclusive; {have}")
    rare = [name for name, of in class_counts.items() if of["train"] < RARE]
    if len(class_counts) > MOST_SLIDERS:
        said.append(
            f"sliders toward classes need at most {MOST_SLIDERS} classes, but there are {len(class_counts)}: none"
        )
    elif rare:
        said.append(f"a slider toward a class needs {RARE} training images: none for {', '.join(rare)}")
    return said
