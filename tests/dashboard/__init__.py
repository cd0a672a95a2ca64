"""The page, in a browser, and its modules in Node."""
