"""From a file to a batch: vocabulary, rows, labels, encoded rows, streams."""
