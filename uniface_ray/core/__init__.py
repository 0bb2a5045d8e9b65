"""Errors, config schemas, storage and the report page. Neither torch nor ray."""
