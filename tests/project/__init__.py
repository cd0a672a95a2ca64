"""The documents, the deployment and the benchmark of the project itself."""
