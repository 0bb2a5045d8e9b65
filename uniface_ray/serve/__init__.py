"""Ray Serve: the endpoint that speaks OpenAI's API, and its playground page."""
