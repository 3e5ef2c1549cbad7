"""The evaluation of models, one file per topic. Images are float32 (N, C, H, W) in [0, 1] unless stated otherwise."""
