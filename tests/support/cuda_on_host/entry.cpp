// The library's way in: the names of its kernels, and a launch by name.
#include <functional>

#include "cuda_on_host.hpp"

extern "C" {

/// Returns 0, or 1 where there is no kernel of that name. One launch at a time.
int cuda_on_host_launch(const char* name, const unsigned* grid, const unsigned* block, void** values) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> guard(one_at_a_time);
  const auto found = cuda_on_host::kernels().find(name);
  if (found == cuda_on_host::kernels().end()) return 1;
  found->second.launch({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, values);
  return 0;
}

int cuda_on_host_has(const char* name) { return cuda_on_host::kernels().count(name) != 0; }

/// Returns how many parameters a kernel has, or -1, and writes size, alignment and whether it is a pointer of each.
int cuda_on_host_parameters(const char* name, unsigned* facts, int room) {
  const auto found = cuda_on_host::kernels().find(name);
  if (found == cuda_on_host::kernels().end()) return -1;
  const auto& parameters = found->second.parameters;
  for (int index = 0; index < room && index < static_cast<int>(parameters.size()); ++index) {
    const auto& parameter = parameters[static_cast<std::size_t>(index)];
    facts[3 * index] = parameter.size;
    facts[3 * index + 1] = parameter.alignment;
    facts[3 * index + 2] = parameter.is_pointer;
  }
  return static_cast<int>(parameters.size());
}

/// 0 runs blocks and threads in order, anything else shuffles them.
void cuda_on_host_order(unsigned seed) { cuda_on_host::order_seed = seed; }
}
