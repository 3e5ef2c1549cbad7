"""latentmill: train, judge and export a ladder of generative models of images."""
