"""Detection on a GPU: pre-processing, engine, decoding and NMS in order on one stream, several frames in flight.

| file | what |
|---|---|
| detector.py | DeviceDetector: the same calls and answers as a Detector |
| lane.py | one frame's way: a stream, an engine's worker, buffers, and the graph that replays all of it |
| frames.py | pictures on their way to the device |
| camera_memory.py | memory that a camera writes and the device reads |
| readout.py | from the network's outputs to answers; this one on the host, where no kernel knows the head |
| box_readout.py, device_masks.py | boxes and their masks on the device |
| map_readout.py | class maps, panoptic maps and objects of queries on the device |
| readout_choice.py | which of them a model gets |
"""
