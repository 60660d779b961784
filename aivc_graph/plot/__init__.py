"""Pictures from arrays and tables; one picture a file, no model known here."""
