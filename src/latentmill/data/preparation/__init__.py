"""From a collection to a prepared data set: decode, fit, drop copies, split, write."""
