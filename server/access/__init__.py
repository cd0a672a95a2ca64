"""Who may come in, and how often: tokens and rate limits."""
