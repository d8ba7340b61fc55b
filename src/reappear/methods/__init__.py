"""What one training method is: a model, a loss, and what happens in a step."""
