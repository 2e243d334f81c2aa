"""A trained student in forms that others read: NIR for neuromorphic tools, ONNX for inference engines."""
