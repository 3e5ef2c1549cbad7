"""The judgement of samples of anyone's generator: images in, a verdict, a record and a page out; without Ray or DVC."""
