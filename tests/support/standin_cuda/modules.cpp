// Modules and launches: an image is checked as a driver would, and its kernels are run as compiled for the host.
#include <dlfcn.h>
#include <elf.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "standin.hpp"

using namespace standin;

namespace {

struct Module {
  std::string image;
};

struct Function {
  std::string name;
  std::vector<unsigned> facts;  // size, alignment and whether a pointer, of each parameter
};

struct Modules {
  std::set<Module*> live;
  std::vector<std::unique_ptr<Function>> functions;
};

Modules& modules() {
  static Modules* the_modules = new Modules;
  return *the_modules;
}

template <typename T> T host_function(const char* name) {
  static void* library = [] {
    const char* path = std::getenv("STANDIN_CUDA_KERNELS");
    return path == nullptr ? nullptr : dlopen(path, RTLD_NOW | RTLD_LOCAL);
  }();
  return library == nullptr ? nullptr : reinterpret_cast<T>(dlsym(library, name));
}

int capability() {
  int major = 8, minor = 7;
  if (const char* text = std::getenv("STANDIN_CUDA_CAPABILITY")) std::sscanf(text, "%d.%d", &major, &minor);
  return 10 * major + minor;
}

/// A cubin is ELF for machine 190; its flags hold the architecture, in another byte since CUDA 13.
int check_cubin(const void* image, std::string* copy) {
  Elf64_Ehdr header;
  std::memcpy(&header, image, sizeof(header));
  constexpr int cuda_machine = 190, newer_abi = 8;
  if (header.e_machine != cuda_machine) return invalid_image;
  const unsigned built = header.e_ident[EI_ABIVERSION] >= newer_abi ? header.e_flags >> 8 & 0xff : header.e_flags & 0xff;
  const auto wanted = static_cast<unsigned>(capability());
  if (built / 10 != wanted / 10 || built > wanted) return no_binary_for_gpu;
  if (built >= 100 && setting("STANDIN_CUDA_VERSION", 13000) < 12080) return invalid_image;
  copy->assign(static_cast<const char*>(image),
               std::max<std::size_t>(header.e_shoff + std::size_t{header.e_shentsize} * header.e_shnum,
                                     header.e_phoff + std::size_t{header.e_phentsize} * header.e_phnum));
  return ok;
}

int check_ptx(const char* text, std::string* copy) {
  const char *version = std::strstr(text, ".version "), *target = std::strstr(text, ".target sm_");
  if (version == nullptr || target == nullptr) return invalid_image;
  const double wanted = std::atof(version + 9);
  // PTX 8.0 came with CUDA 12.0 and 9.0 with 13.0; the minor versions went along, nearly.
  const long driver = setting("STANDIN_CUDA_VERSION", 13000);
  if (wanted > static_cast<double>(driver / 1000 - 4) + static_cast<double>(driver % 1000) / 100) return unsupported_ptx_version;
  if (std::atoi(target + 11) > capability()) return no_binary_for_gpu;
  copy->assign(text);
  return ok;
}

int load(void** module, const void* image) {
  std::string copy;
  const bool is_cubin = std::memcmp(image, ELFMAG, SELFMAG) == 0;
  const int failed = is_cubin ? check_cubin(image, &copy) : check_ptx(static_cast<const char*>(image), &copy);
  if (failed) return failed;
  auto* made = new Module{std::move(copy)};
  modules().live.insert(made);
  ++state().modules;
  *module = made;
  return ok;
}

/// Copies the arguments, as a launch does, and checks that the pointers among them can be reached.
int arguments_of(const Function& function, void** values, void** extra, std::vector<std::vector<char>>* copies) {
  const std::size_t count = function.facts.size() / 3;
  const char* packed = nullptr;
  std::size_t packed_size = 0, used = 0;
  if (extra != nullptr) {
    for (; *extra != nullptr; extra += 2) {
      const auto key = reinterpret_cast<std::uintptr_t>(*extra);
      if (key == 1) packed = static_cast<const char*>(extra[1]);
      if (key == 2) packed_size = *static_cast<std::size_t*>(extra[1]);
    }
    if (packed == nullptr) return invalid_value;
  } else if (values == nullptr && count != 0) {
    return invalid_value;
  }
  for (std::size_t index = 0; index < count; ++index) {
    const std::size_t size = function.facts[3 * index], alignment = function.facts[3 * index + 1];
    used = (used + alignment - 1) / alignment * alignment;
    if (packed != nullptr && used + size > packed_size) return invalid_value;
    const char* from = packed != nullptr ? packed + used : static_cast<const char*>(values[index]);
    used += size;
    copies->emplace_back(from, from + size);
    if (function.facts[3 * index + 2] == 0) continue;
    Address pointer = 0;
    std::memcpy(&pointer, from, sizeof(pointer));
    if (pointer != 0 && !reaches(pointer, 1)) return illegal_address;
  }
  return packed != nullptr && packed_size != used ? invalid_value : ok;
}

}  // namespace

STANDIN_API(cuModuleLoadData, true, (void** module, const void* image)) {
  STANDIN_ENTER(cuModuleLoadData);
  return load(module, image);
}

STANDIN_API(cuModuleLoadDataEx, true, (void** module, const void* image, unsigned count, const int* options, void** values)) {
  STANDIN_ENTER(cuModuleLoadDataEx);
  for (unsigned index = 0; index < count; ++index)
    if (options[index] == 4 || options[index] == 6) values[index] = nullptr;  // sizes of the two logs: nothing written
  return load(module, image);
}

STANDIN_API(cuModuleUnload, true, (void* module)) {
  STANDIN_ENTER(cuModuleUnload);
  if (modules().live.erase(static_cast<Module*>(module)) == 0) return invalid_handle;
  delete static_cast<Module*>(module);
  --state().modules;
  return ok;
}

STANDIN_API(cuModuleGetFunction, true, (void** function, void* module, const char* name)) {
  STANDIN_ENTER(cuModuleGetFunction);
  const auto found = modules().live.find(static_cast<Module*>(module));
  if (found == modules().live.end()) return invalid_handle;
  if ((*found)->image.find(name) == std::string::npos) return not_found;
  const auto parameters = host_function<int (*)(const char*, unsigned*, int)>("cuda_on_host_parameters");
  const int count = parameters == nullptr ? -1 : parameters(name, nullptr, 0);
  if (count < 0) return not_found;
  auto made = std::make_unique<Function>(Function{name, std::vector<unsigned>(3 * static_cast<std::size_t>(count))});
  parameters(name, made->facts.data(), count);
  *function = made.get();
  modules().functions.push_back(std::move(made));
  return ok;
}

/// Of old; pycuda calls it before each launch.
STANDIN_API(cuFuncSetBlockShape, true, (void*, int x, int y, int z)) {
  STANDIN_ENTER(cuFuncSetBlockShape);
  return x > 0 && y > 0 && z > 0 && 1L * x * y * z <= 1024 ? ok : invalid_value;
}

STANDIN_API(cuLaunchKernel, true,
            (void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
             unsigned block_z, unsigned, void* stream, void** values, void** extra)) {
  STANDIN_ENTER(cuLaunchKernel);
  const auto* function = static_cast<const Function*>(handle);
  const unsigned long threads = 1ul * block_x * block_y * block_z;
  if (threads == 0 || threads > 1024 || grid_x == 0 || grid_y == 0 || grid_z == 0) return invalid_value;
  if (grid_y > 65535 || grid_z > 65535) return invalid_value;
  auto copies = std::make_shared<std::vector<std::vector<char>>>();
  if (const int failed = arguments_of(*function, values, extra, copies.get())) {
    if (failed == illegal_address) state().lost = failed;
    return failed;
  }
  const std::string name = function->name;
  return queue(stream, [=] {
    const auto launch = host_function<int (*)(const char*, const unsigned*, const unsigned*, void**)>("cuda_on_host_launch");
    const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
    std::vector<void*> pointers;
    for (auto& copy : *copies) pointers.push_back(copy.data());
    return launch(name.c_str(), grid, block, pointers.data()) == 0 ? ok : launch_failed;
  });
}
