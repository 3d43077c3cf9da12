"""Wire shapes, one file a resource: request models validate, response models document, `render_*` writes."""
