"""What runs a network: ONNX Runtime or OpenVINO, in fp32, bf16 or int8."""
