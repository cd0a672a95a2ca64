"""What the tests share: servers to test, and clients of every kind to test them with."""
