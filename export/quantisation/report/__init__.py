"""What the user is told of a quantised network: figures, measurements, plots, and one HTML page.

| file | what it is |
|---|---|
| figures.py | the metrics of both networks side by side, and what each class lost |
| measure.py | everything that is measured for the report, as one object and as JSON |
| latency.py | time of a run on a CPU, both networks taking turns |
| builder_share.py | which arithmetic TensorRT-RTX's builder puts into INT8 kernels |
| picture_pairs.py | the pictures on which the two networks' answers differ most |
| plots.py | the plots, as SVG that takes its colours from the page |
| page.py | the HTML page, from page.html.j2 |
"""
