"""How the server is watched: metrics, health and its own log."""
