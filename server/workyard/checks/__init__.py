"""What a request passes before its route, in order. The only folder that imports FastAPI internals."""
