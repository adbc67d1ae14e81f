"""Learning from radiologists' eye gaze on chest X-rays, on PyTorch Lightning."""

__version__ = "0.1.0"
