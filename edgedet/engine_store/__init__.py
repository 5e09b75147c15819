"""Built engines as files: the manifest beside each, signatures, whom to trust, and the cache.

An engine is code. Nothing here or anywhere else in edgedet hands one to TensorRT before `trust.read_engine` has
verified it; what was hashed and what is deserialised are the same bytes in memory.
"""
