"""The GPU door: tickets become claims, claims become batches, batches become text."""
