"""The vocabulary: events, messages, books, prices, time. Standard library and msgspec only."""
