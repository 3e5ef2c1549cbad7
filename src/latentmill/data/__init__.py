"""Images on their way to training: where they come from (`sources`), how they are split (`dataset`)."""
