"""The player: robots in a browser, live in service or as a recording in one HTML file.

Own renderer on a 2-D canvas: it needs no GPU, no downloads and no network, and works in every browser.
"""
