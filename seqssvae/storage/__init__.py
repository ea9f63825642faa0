"""Files: whole or absent, sealed, cached, written slice by slice. Knows no model."""
