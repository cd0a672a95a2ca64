"""Connections: an Engine.IO WebSocket driver on aiohttp, made for fan-out, and what accepts."""
