"""The GPU through CUDA's driver interface: `Device` owns, `Stream` queues, `DeviceBuffer` is the memory.

``Device()`` takes the first GPU and the provider that is installed: pycuda, or cuda-bindings. Threads: one `Device` for
all, one `Stream` for each worker, and work in ``with device.current():`` (streams and buffers do so themselves, which
costs a push and a pop of the context each time). A stream is used by one thread at a time.
"""
