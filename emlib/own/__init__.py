"""People's own broken pictures: read as they are, measured, and written back as they were."""
