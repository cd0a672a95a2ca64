"""The benchmark: `python -m bench` measures the server, prints and writes docs/benchmarks.md."""
