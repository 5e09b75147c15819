// The device, its context, errors by name, and the finding of functions.
#include <dlfcn.h>
#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "standin.hpp"

namespace standin {

namespace {

thread_local std::vector<void*> contexts;
char the_context;  // its address is the context

std::map<std::string, void*>& functions() {
  static std::map<std::string, void*> table;
  return table;
}

int injected(const std::string& name, long call) {
  const char* wanted = std::getenv("STANDIN_CUDA_FAIL");
  if (wanted == nullptr) return ok;
  char function[64];
  long at = 0;
  int code = 0;
  if (std::sscanf(wanted, "%63[^:]:%ld:%d", function, &at, &code) != 3) return ok;
  return name == function && call == at ? code : static_cast<int>(ok);
}

struct Text {
  int code;
  const char *name, *text;
};

constexpr Text texts[] = {
    {ok, "CUDA_SUCCESS", "no error"},
    {invalid_value, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {out_of_memory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {not_initialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {no_device, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {invalid_device, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {invalid_image, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {invalid_context, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {no_binary_for_gpu, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {unsupported_ptx_version, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain"},
    {invalid_handle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {not_found, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {not_ready, "CUDA_ERROR_NOT_READY", "device not ready"},
    {illegal_address, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {host_memory_already_registered, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped"},
    {host_memory_not_registered, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "pointer does not correspond to a registered memory region"},
    {launch_failed, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {not_supported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {capture_unsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {capture_invalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};

int unsupported() { return not_supported; }

bool lacks(int attribute) {
  const char* list = std::getenv("STANDIN_CUDA_LACKS");
  if (list == nullptr) return false;
  return ("," + std::string(list) + ",").find("," + std::to_string(attribute) + ",") != std::string::npos;
}

int capability(int part) {
  const char* text = std::getenv("STANDIN_CUDA_CAPABILITY");
  int major = 8, minor = 7;
  if (text != nullptr) std::sscanf(text, "%d.%d", &major, &minor);
  return part == 0 ? major : minor;
}

void report() {
  const char* path = std::getenv("STANDIN_CUDA_REPORT");
  if (path == nullptr) return;
  std::FILE* file = std::fopen(path, "w");
  if (file == nullptr) return;
  std::map<Kind, long> kinds;
  for (const auto& entry : state().ranges) ++kinds[entry.second.kind];
  std::fprintf(file,
               "{\"device\": %ld, \"pinned\": %ld, \"managed\": %ld, \"registered\": %ld, \"external\": %ld, "
               "\"streams\": %zu, \"events\": %zu, \"graphs\": %zu, \"modules\": %ld, \"foreign\": %ld, "
               "\"retained\": %ld, \"depth\": %d, \"lost\": %d}\n",
               kinds[Kind::device], kinds[Kind::pinned], kinds[Kind::managed], kinds[Kind::registered],
               kinds[Kind::external], state().streams.size(), state().events.size(), state().graphs.size(),
               state().modules, state().foreign, state().retained, depth(), state().lost);
  std::fclose(file);
}

struct AtExit {
  ~AtExit() { report(); }
} at_exit;

}  // namespace

State& state() {
  static State* the_state = new State;  // outlives every destructor
  return *the_state;
}

long setting(const char* name, long otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atol(text);
}

int depth() { return static_cast<int>(contexts.size()); }

std::uintptr_t this_thread() { return static_cast<std::uintptr_t>(pthread_self()); }

Registration::Registration(const char* name, void* function) { functions()[name] = function; }

int enter(const char* name, bool in_context) {
  const long call = ++state().calls[name];
  if (const int code = injected(name, call)) return code;
  if (!in_context) return ok;
  if (contexts.empty() || state().retained == 0) return invalid_context;
  return state().lost;
}

}  // namespace standin

using namespace standin;

STANDIN_API(cuInit, false, (unsigned)) {
  STANDIN_ENTER(cuInit);
  state().initialised = true;
  return setting("STANDIN_CUDA_DEVICES", 1) > 0 ? ok : no_device;
}

STANDIN_API(cuDriverGetVersion, false, (int* version)) {
  STANDIN_ENTER(cuDriverGetVersion);
  *version = static_cast<int>(setting("STANDIN_CUDA_VERSION", 13000));
  return ok;
}

STANDIN_API(cuGetErrorName, false, (int code, const char** name)) {
  for (const Text& text : texts) {
    if (text.code != code) continue;
    *name = text.name;
    return ok;
  }
  *name = nullptr;
  return invalid_value;
}

STANDIN_API(cuGetErrorString, false, (int code, const char** text)) {
  *text = "an error that the stand-in does not know";
  for (const Text& known : texts)
    if (known.code == code) *text = known.text;
  return ok;
}

STANDIN_API(cuGetProcAddress_v2, false,
            (const char* symbol, void** function, int, std::uint64_t, int* status)) {
  const std::string name = symbol;
  *function = reinterpret_cast<void*>(&unsupported);
  for (const char* suffix : {"_v4", "_v3", "_v2", ""}) {
    const auto found = functions().find(name + suffix);
    if (found == functions().end()) continue;
    *function = found->second;
    break;
  }
  if (status != nullptr) *status = 0;
  return ok;
}

/// Asked for by NVRTC 13, which goes on without.
STANDIN_API(cuGetExportTable, false, (const void** table, const void*)) {
  *table = nullptr;
  return not_supported;
}

STANDIN_API(cuDeviceGetCount, false, (int* count)) {
  STANDIN_ENTER(cuDeviceGetCount);
  *count = static_cast<int>(setting("STANDIN_CUDA_DEVICES", 1));
  return ok;
}

STANDIN_API(cuDeviceGet, false, (int* device, int ordinal)) {
  STANDIN_ENTER(cuDeviceGet);
  if (!state().initialised) return not_initialized;
  if (ordinal < 0 || ordinal >= setting("STANDIN_CUDA_DEVICES", 1)) return invalid_device;
  *device = ordinal;
  return ok;
}

STANDIN_API(cuDeviceGetName, false, (char* name, int room, int)) {
  STANDIN_ENTER(cuDeviceGetName);
  std::snprintf(name, static_cast<std::size_t>(room), "stand-in");
  return ok;
}

STANDIN_API(cuDeviceTotalMem_v2, false, (std::size_t* bytes, int)) {
  STANDIN_ENTER(cuDeviceTotalMem_v2);
  *bytes = static_cast<std::size_t>(setting("STANDIN_CUDA_MEMORY", 1L << 30));
  return ok;
}

STANDIN_API(cuDeviceGetAttribute, false, (int* value, int attribute, int)) {
  STANDIN_ENTER(cuDeviceGetAttribute);
  switch (attribute) {
    case 75:
    case 76:
      *value = capability(attribute - 75);
      break;
    case 18:
      *value = capability(0) * 10 + capability(1) == 87 || capability(0) * 10 + capability(1) == 72;
      break;
    case 16:
    case 19:
    case 83:
    case 89:
    case 99:
      *value = 1;
      break;
    default:
      *value = 0;
  }
  if (lacks(attribute)) *value = 0;
  return ok;
}

STANDIN_API(cuDeviceComputeCapability, false, (int* major, int* minor, int)) {
  STANDIN_ENTER(cuDeviceComputeCapability);
  *major = capability(0);
  *minor = capability(1);
  return ok;
}

STANDIN_API(cuDevicePrimaryCtxRetain, false, (void** context, int)) {
  STANDIN_ENTER(cuDevicePrimaryCtxRetain);
  ++state().retained;
  *context = &the_context;
  return ok;
}

STANDIN_API(cuDevicePrimaryCtxRelease_v2, false, (int)) {
  STANDIN_ENTER(cuDevicePrimaryCtxRelease_v2);
  if (state().retained == 0) return invalid_context;
  --state().retained;
  return ok;
}

STANDIN_API(cuCtxPushCurrent_v2, false, (void* context)) {
  STANDIN_ENTER(cuCtxPushCurrent_v2);
  if (context != &the_context) return invalid_context;
  contexts.push_back(context);
  return ok;
}

STANDIN_API(cuCtxPopCurrent_v2, false, (void** context)) {
  STANDIN_ENTER(cuCtxPopCurrent_v2);
  if (contexts.empty()) return invalid_context;
  if (context != nullptr) *context = contexts.back();
  contexts.pop_back();
  return ok;
}

STANDIN_API(cuCtxGetCurrent, false, (void** context)) {
  STANDIN_ENTER(cuCtxGetCurrent);
  *context = contexts.empty() ? nullptr : contexts.back();
  return ok;
}

STANDIN_API(cuCtxGetDevice, true, (int* device)) {
  STANDIN_ENTER(cuCtxGetDevice);
  *device = 0;
  return ok;
}

STANDIN_API(cuCtxSynchronize, true, ()) {
  STANDIN_ENTER(cuCtxSynchronize);
  if (capturing_here()) return capture_unsupported;
  return finish_all();
}

extern "C" {

/// How much of a kind there is; of "calls:NAME", how often it was called. For tests, through ctypes.
__attribute__((visibility("default"))) long standin_count(const char* what) {
  const std::lock_guard<std::recursive_mutex> guard(state().mutex);
  const std::string name = what;
  if (name.rfind("calls:", 0) == 0) return state().calls[name.substr(6)];
  const std::map<std::string, Kind> kinds = {{"device", Kind::device},
                                             {"pinned", Kind::pinned},
                                             {"managed", Kind::managed},
                                             {"registered", Kind::registered},
                                             {"external", Kind::external}};
  if (kinds.count(name) != 0) {
    long count = 0;
    for (const auto& entry : state().ranges) count += entry.second.kind == kinds.at(name);
    return count;
  }
  if (name == "streams") return static_cast<long>(state().streams.size());
  if (name == "events") return static_cast<long>(state().events.size());
  if (name == "graphs") return static_cast<long>(state().graphs.size());
  if (name == "modules") return state().modules;
  if (name == "foreign") return state().foreign;
  if (name == "retained") return state().retained;
  if (name == "depth") return depth();
  return -1;
}
}
