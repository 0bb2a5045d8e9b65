"""What rows look like: sources and image decoding."""
