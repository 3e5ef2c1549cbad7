"""One self-contained page with the trained models, their verdicts, and their pictures with captions."""
