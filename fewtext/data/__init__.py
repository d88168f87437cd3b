"""From Hugging Face data sets to batches of episodes."""
