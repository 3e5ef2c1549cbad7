"""Exports trained models as ONNX graphs that sample without torch. The only package that imports onnx."""
