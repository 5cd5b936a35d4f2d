"""``raytrade ui``: a running pipeline in the browser, by NiceGUI, which brings its own code for the browser."""
