"""What is said on the wire: the messages, their validation, the documents that describe them."""
