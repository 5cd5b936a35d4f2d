"""Links: the path of batches from one actor to another. One writer, one reader, bounded, in order, image first."""
