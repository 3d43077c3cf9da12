"""The routes, one file a resource: take the checked request, call one store or queue method, render the answer."""
