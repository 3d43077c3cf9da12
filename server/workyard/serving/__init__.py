"""The HTTP server: uvicorn, connections, protocol limits. The only package that imports uvicorn."""
