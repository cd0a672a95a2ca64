"""What is durable: the embedded store, and its file through crashes and full disks."""
