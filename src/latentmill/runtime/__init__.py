"""What an application needs: numpy and onnxruntime, and no torch."""
