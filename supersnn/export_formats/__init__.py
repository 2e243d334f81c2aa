"""Export formats of a trained student: NIR for neuromorphic tools, ONNX for inference engines."""
