"""The store of many servers that share one Redis, which decides by scripts."""
