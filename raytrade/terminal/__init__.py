"""``raytrade top``: a running pipeline on one screen of the terminal."""
