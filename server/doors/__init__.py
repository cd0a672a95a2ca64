"""The ways in that are no Socket.IO: HTTP, plain WebSockets, the pages, and what guards them."""
