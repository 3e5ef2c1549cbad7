"""A project without a clone: `latentmill init`, and the commands that its stages and users run there."""
