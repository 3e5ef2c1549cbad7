"""Trained models as ONNX graphs that sample without torch. The only place that imports onnx."""
