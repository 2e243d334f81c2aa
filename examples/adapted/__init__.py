"""Networks of other libraries as students, unchanged but for their constructors: the adapter brings them into form."""
