"""Speed and size against their targets: `python -m benchmarks [GROUP ...]`."""
