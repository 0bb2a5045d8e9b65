"""What is asked of the model: a row becomes requests, results become rows."""
