"""The page of `latentmill serve`: sliders and pictures in a browser, decoded there by onnxruntime-web."""
