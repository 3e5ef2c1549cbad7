"""One trial, from a plan to a record in the trial store. Knows no Ray."""
