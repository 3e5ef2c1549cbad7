"""One self-contained page that tells what was trained, how it is judged, and what to see in each picture."""
