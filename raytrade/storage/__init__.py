"""Files: recordings of exchanges' raw frames (captures) in, Parquet segments out."""
