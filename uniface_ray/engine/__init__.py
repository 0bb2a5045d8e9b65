"""One replica: requests in, results out. No ray."""
