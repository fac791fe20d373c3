"""What the service knows: jobs, credits, accounts, images. Neither a web framework nor a model is met here."""
