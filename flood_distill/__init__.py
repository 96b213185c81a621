"""Cross modal distillation for flood extent mapping (Garg et al.), in TensorFlow and Keras."""

__version__ = "0.1.0"
