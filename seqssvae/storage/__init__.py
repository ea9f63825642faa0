"""Files: whole or absent, with checksums, cached, written slice by slice. Knows no model."""
