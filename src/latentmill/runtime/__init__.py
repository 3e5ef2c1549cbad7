"""What an application needs of latentmill: numpy, onnxruntime, and for PNG pillow; no torch."""
