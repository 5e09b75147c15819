"""Kernels: CUDA C++ for every stage around the engine, and the launchers that hold their buffers; one stage a file.

A stage has three files: ``STAGE.cuh`` with the arithmetic of one element, which the host compiles too, ``STAGE.cu``
with the kernels, and ``STAGE.py`` with the launcher. The NumPy code in ``edgedet.runtime`` is the definition of right.

| stage | reads | leaves |
|---|---|---|
| preprocess | a camera's or a picture's pixels | the network's input |
| decode_* | the outputs of a head that stands for boxes | candidates |
| nms | candidates | detections in source pixels |
| masks | detections, and prototypes, squares or logit maps | a packed mask for each |
| maps | class scores or ids | a class for each pixel |
| panoptic | class and mask logits of queries | a segment for each pixel |
| panoptic_deeplab | semantic logits, a center heatmap and offsets | a segment for each pixel |
| query_instances | class and mask logits of queries | objects with their masks |
| overlay | a picture, and what was found in it | a picture to look at |
"""
