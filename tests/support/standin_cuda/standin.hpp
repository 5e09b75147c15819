// A stand-in for NVIDIA's libcuda: one device whose memory is the host's, and whose kernels are compiled for the host.
//
// It is stricter than a GPU where that finds faults. Nothing that is queued is done before somebody waits for it. Memory
// of the device ends at a page that cannot be touched, and cannot be touched at all once it is freed. Pointers in a
// kernel's arguments must lie in memory that the device can reach. It proves the logic of the host and the arithmetic of
// the kernels, never races, timing or what NVIDIA's driver itself does.
//
// Settings, as environment variables:
//   STANDIN_CUDA_KERNELS     the library of host-compiled kernels (tests/support/host_kernels.py)
//   STANDIN_CUDA_CAPABILITY  compute capability, 8.7 unless set
//   STANDIN_CUDA_VERSION     CUDA version of the driver, 13000 unless set
//   STANDIN_CUDA_DEVICES     number of devices, 1 unless set
//   STANDIN_CUDA_MEMORY      bytes of device memory
//   STANDIN_CUDA_LACKS       numbers of device attributes that are 0
//   STANDIN_CUDA_FAIL        FUNCTION:CALL:CODE, the call (from 1) of a function that returns a code
//   STANDIN_CUDA_REPORT      file to which the counts are written when the process ends
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace standin {

enum Code : int {
  ok = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  no_device = 100,
  invalid_device = 101,
  invalid_image = 200,
  invalid_context = 201,
  no_binary_for_gpu = 209,
  unsupported_ptx_version = 222,
  invalid_handle = 400,
  not_found = 500,
  not_ready = 600,
  illegal_address = 700,
  host_memory_already_registered = 712,
  host_memory_not_registered = 713,
  launch_failed = 719,
  not_supported = 801,
  capture_unsupported = 900,
  capture_invalidated = 901,
};

using Address = std::uint64_t;
using Work = std::function<int()>;

enum class Kind { device, pinned, managed, registered, external };

struct Range {
  Kind kind;
  std::size_t size;
  bool on_device, on_host;  // who can reach it
  void* base;               // of the mapping
  std::size_t mapped;
};

struct Graph {
  std::vector<Work> work;
};

struct Stream {
  std::deque<Work> queue;
  Graph* capture = nullptr;
  bool invalidated = false;
  std::uintptr_t capturing_thread = 0;
};

struct Event {
  bool timing = false;
  std::uint64_t wanted = 0, reached = 0;  // records asked for, and done
  double at = 0;
  Stream* stream = nullptr;
};

struct State {
  std::recursive_mutex mutex;
  bool initialised = false;
  long retained = 0;
  std::map<Address, Range> ranges;
  std::set<Stream*> streams;
  std::set<Event*> events;
  std::set<Graph*> graphs;
  std::map<std::string, long> calls;
  long modules = 0, foreign = 0;
  std::size_t used = 0;
  int lost = 0;  // an error that every later call returns
  Stream unnamed;
};

State& state();
long setting(const char* name, long otherwise);

/// What every call does first: counts, fails where it was told to, and where the context is missing or lost.
int enter(const char* name, bool in_context);

/// Exported under its name, and found by it in cuGetProcAddress.
struct Registration {
  Registration(const char* name, void* function);
};

Stream* stream_at(void* handle);  // null where there is none
int queue(void* stream, Work work);
int finish(Stream& stream);
int finish_all();
std::uintptr_t this_thread();
bool capturing_here();

/// The range that holds these bytes, or null.
const Range* holds(Address address, std::size_t size);
bool reaches(Address address, std::size_t size);  // from the device
int depth();

}  // namespace standin

/// Begins the definition of an exported function; `body` follows as its block.
#define STANDIN_API(name, in_context, parameters)                                            \
  extern "C" __attribute__((visibility("default"))) int name parameters;                     \
  static const standin::Registration register_##name(#name, reinterpret_cast<void*>(&name)); \
  constexpr bool context_##name = in_context;                                                \
  extern "C" int name parameters

/// The first line of every such block.
#define STANDIN_ENTER(name)                                                  \
  const std::lock_guard<std::recursive_mutex> guard(standin::state().mutex); \
  if (const int failed = standin::enter(#name, context_##name)) return failed
