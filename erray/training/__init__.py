"""From windows of features to a trained model."""
