"""The runtime: frames -> results. It never imports the exporter.

`detector.py` is the way of one picture, `stream.py` the way of many.
"""
