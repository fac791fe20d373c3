"""How a TrOCR-family model is trained or fine-tuned; the bundled one was made by it."""
