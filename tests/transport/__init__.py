"""The driver of WebSockets, beside the stock one and against floods."""
