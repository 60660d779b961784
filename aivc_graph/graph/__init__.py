"""The tissue graph: schema, building, storing, and reading it window by window."""
