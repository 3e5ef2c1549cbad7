"""What a model is worth, one file a question. Images are float32 (N, C, H, W) in [0, 1] unless said otherwise."""
