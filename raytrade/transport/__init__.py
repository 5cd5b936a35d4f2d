"""Sockets and the clock: the shell around the venue machines."""
