// Memory: who can reach it, how far it goes, and copies.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "standin.hpp"

using namespace standin;

namespace standin {

namespace {

constexpr std::size_t kPage = 4096, kAlignment = 256;

/// Maps memory that ends at (or up to 255 bytes before) a page that nobody may touch.
int make(Kind kind, std::size_t size, bool on_device, bool on_host, Address* address) {
  if (size == 0) return invalid_value;
  if (capturing_here()) return capture_unsupported;
  const auto total = static_cast<std::size_t>(setting("STANDIN_CUDA_MEMORY", 1L << 30));
  if (kind == Kind::device && state().used + size > total) return out_of_memory;
  const std::size_t room = (size + kAlignment - 1) / kAlignment * kAlignment;
  const std::size_t pages = (room + kPage - 1) / kPage * kPage;
  void* base = mmap(nullptr, pages + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return out_of_memory;
  mprotect(static_cast<char*>(base) + pages, kPage, PROT_NONE);
  char* first = static_cast<char*>(base) + pages - room;
  std::memset(first, 0xcd, room);  // what was not set is not zero
  *address = reinterpret_cast<Address>(first);
  state().ranges[*address] = {kind, size, on_device, on_host, base, pages + kPage};
  if (kind == Kind::device) state().used += size;
  return ok;
}

int drop(Address address, std::initializer_list<Kind> kinds) {
  if (address == 0) return ok;
  if (capturing_here()) return capture_unsupported;
  const auto found = state().ranges.find(address);
  if (found == state().ranges.end()) return invalid_value;
  bool fits = false;
  for (const Kind kind : kinds) fits = fits || found->second.kind == kind;
  if (!fits) return invalid_value;
  const int done = finish_all();
  if (found->second.kind == Kind::device) state().used -= found->second.size;
  if (found->second.base != nullptr) mprotect(found->second.base, found->second.mapped, PROT_NONE);
  state().ranges.erase(found);
  return done;
}

bool host_reaches(const void* address, std::size_t size) {
  const Range* range = holds(reinterpret_cast<Address>(address), size);
  if (range != nullptr) return range->on_host;
  // Memory that CUDA does not know; a part of what it knows, or the beginning after its end, is a fault.
  const auto next = state().ranges.lower_bound(reinterpret_cast<Address>(address));
  return next == state().ranges.end() || next->first >= reinterpret_cast<Address>(address) + size;
}

bool is_pageable(const void* address) { return holds(reinterpret_cast<Address>(address), 1) == nullptr; }

int copy_now(void* to, const void* from, std::size_t size) {
  std::memcpy(to, from, size);
  return ok;
}

template <typename T> T* at(Address address) { return reinterpret_cast<T*>(address); }

int to_device(Address to, const void* from, std::size_t size, void* stream) {
  if (!reaches(to, size) || !host_reaches(from, size)) return invalid_value;
  if (!is_pageable(from)) {
    return queue(stream, [=] { return reaches(to, size) ? copy_now(at<void>(to), from, size) : illegal_address; });
  }
  const Stream* queued = stream_at(stream);
  if (queued != nullptr && queued->capture != nullptr)  // read each time the graph runs
    return queue(stream, [=] { return reaches(to, size) ? copy_now(at<void>(to), from, size) : illegal_address; });
  const std::vector<char> staged(static_cast<const char*>(from), static_cast<const char*>(from) + size);
  return queue(stream, [=] { return reaches(to, size) ? copy_now(at<void>(to), staged.data(), size) : illegal_address; });
}

int to_host(void* to, Address from, std::size_t size, void* stream) {
  if (!reaches(from, size) || !host_reaches(to, size)) return invalid_value;
  if (const int failed =
          queue(stream, [=] { return reaches(from, size) ? copy_now(to, at<void>(from), size) : illegal_address; }))
    return failed;
  Stream* queued = stream_at(stream);
  return is_pageable(to) && queued->capture == nullptr ? finish(*queued) : static_cast<int>(ok);
}

int within(Address to, Address from, std::size_t size, void* stream) {
  if (!reaches(to, size) || !reaches(from, size)) return invalid_value;
  return queue(stream, [=] {
    return reaches(to, size) && reaches(from, size) ? copy_now(at<void>(to), at<void>(from), size) : illegal_address;
  });
}

int fill(Address to, int value, std::size_t size, void* stream) {
  if (!reaches(to, size)) return invalid_value;
  return queue(stream, [=] {
    if (!reaches(to, size)) return static_cast<int>(illegal_address);
    std::memset(at<void>(to), value, size);
    return static_cast<int>(ok);
  });
}

/// CUDA_MEMCPY2D.
struct Rows {
  std::size_t from_x, from_y;
  unsigned from_type;
  const void* from_host;
  Address from_device;
  void* from_array;
  std::size_t from_pitch;
  std::size_t to_x, to_y;
  unsigned to_type;
  void* to_host;
  Address to_device;
  void* to_array;
  std::size_t to_pitch;
  std::size_t width, height;
};
static_assert(sizeof(Rows) == 128);

int copy_rows(const Rows& rows, void* stream) {
  constexpr unsigned host = 1, device = 2;
  const auto known = [](unsigned type) { return type == host || type == device; };
  if (!known(rows.from_type) || !known(rows.to_type)) return not_supported;
  if (rows.width == 0 || rows.height == 0) return ok;
  if (rows.from_pitch < rows.width || rows.to_pitch < rows.width) return invalid_value;
  const Address from =
      (rows.from_type == host ? reinterpret_cast<Address>(rows.from_host) : rows.from_device) +
      rows.from_y * rows.from_pitch + rows.from_x;
  const Address to = (rows.to_type == host ? reinterpret_cast<Address>(rows.to_host) : rows.to_device) +
                     rows.to_y * rows.to_pitch + rows.to_x;
  for (std::size_t row = 0; row < rows.height; ++row) {
    const Address from_row = from + row * rows.from_pitch, to_row = to + row * rows.to_pitch;
    int failed = ok;
    if (rows.from_type == host && rows.to_type == device)
      failed = to_device(to_row, at<const void>(from_row), rows.width, stream);
    else if (rows.from_type == device && rows.to_type == host)
      failed = to_host(at<void>(to_row), from_row, rows.width, stream);
    else if (rows.from_type == device)
      failed = within(to_row, from_row, rows.width, stream);
    else
      failed = not_supported;
    if (failed) return failed;
  }
  return ok;
}

}  // namespace

const Range* holds(Address address, std::size_t size) {
  auto found = state().ranges.upper_bound(address);
  if (found == state().ranges.begin()) return nullptr;
  --found;
  return address + size <= found->first + found->second.size ? &found->second : nullptr;
}

bool reaches(Address address, std::size_t size) {
  const Range* range = holds(address, size);
  return range != nullptr && range->on_device;
}

}  // namespace standin

STANDIN_API(cuMemGetInfo_v2, true, (std::size_t* free, std::size_t* total)) {
  STANDIN_ENTER(cuMemGetInfo_v2);
  *total = static_cast<std::size_t>(setting("STANDIN_CUDA_MEMORY", 1L << 30));
  *free = *total - state().used;
  return ok;
}

STANDIN_API(cuMemAlloc_v2, true, (Address* address, std::size_t size)) {
  STANDIN_ENTER(cuMemAlloc_v2);
  return make(Kind::device, size, true, false, address);
}

STANDIN_API(cuMemAllocManaged, true, (Address* address, std::size_t size, unsigned)) {
  STANDIN_ENTER(cuMemAllocManaged);
  return make(Kind::managed, size, true, true, address);
}

STANDIN_API(cuMemHostAlloc, true, (void** address, std::size_t size, unsigned flags)) {
  STANDIN_ENTER(cuMemHostAlloc);
  constexpr unsigned mapped = 2;
  return make(Kind::pinned, size, (flags & mapped) != 0, true, reinterpret_cast<Address*>(address));
}

STANDIN_API(cuMemHostRegister_v2, true, (void* address, std::size_t size, unsigned flags)) {
  STANDIN_ENTER(cuMemHostRegister_v2);
  constexpr unsigned mapped = 2;
  if (address == nullptr || size == 0) return invalid_value;
  const auto first = reinterpret_cast<Address>(address);
  if (holds(first, 1) != nullptr || !host_reaches(address, size)) return host_memory_already_registered;
  state().ranges[first] = {Kind::registered, size, (flags & mapped) != 0, true, nullptr, 0};
  return ok;
}

STANDIN_API(cuMemHostUnregister, true, (void* address)) {
  STANDIN_ENTER(cuMemHostUnregister);
  return drop(reinterpret_cast<Address>(address), {Kind::registered}) ? host_memory_not_registered : ok;
}

STANDIN_API(cuMemHostGetDevicePointer_v2, true, (Address* on_device, void* address, unsigned)) {
  STANDIN_ENTER(cuMemHostGetDevicePointer_v2);
  if (!reaches(reinterpret_cast<Address>(address), 1)) return invalid_value;
  *on_device = reinterpret_cast<Address>(address);
  return ok;
}

STANDIN_API(cuMemFree_v2, true, (Address address)) {
  STANDIN_ENTER(cuMemFree_v2);
  return drop(address, {Kind::device, Kind::managed, Kind::external});
}

STANDIN_API(cuMemFreeHost, true, (void* address)) {
  STANDIN_ENTER(cuMemFreeHost);
  return drop(reinterpret_cast<Address>(address), {Kind::pinned});
}

STANDIN_API(cuMemcpyHtoDAsync_v2, true, (Address to, const void* from, std::size_t size, void* stream)) {
  STANDIN_ENTER(cuMemcpyHtoDAsync_v2);
  return to_device(to, from, size, stream);
}

STANDIN_API(cuMemcpyDtoHAsync_v2, true, (void* to, Address from, std::size_t size, void* stream)) {
  STANDIN_ENTER(cuMemcpyDtoHAsync_v2);
  return to_host(to, from, size, stream);
}

STANDIN_API(cuMemcpyDtoDAsync_v2, true, (Address to, Address from, std::size_t size, void* stream)) {
  STANDIN_ENTER(cuMemcpyDtoDAsync_v2);
  return within(to, from, size, stream);
}

STANDIN_API(cuMemcpy2DAsync_v2, true, (const void* rows, void* stream)) {
  STANDIN_ENTER(cuMemcpy2DAsync_v2);
  return copy_rows(*static_cast<const Rows*>(rows), stream);
}

STANDIN_API(cuMemsetD8Async, true, (Address to, unsigned char value, std::size_t size, void* stream)) {
  STANDIN_ENTER(cuMemsetD8Async);
  return fill(to, value, size, stream);
}

// Memory of others: a file descriptor that can be mapped stands for what Vulkan or another process exports.

namespace {

/// CUDA_EXTERNAL_MEMORY_HANDLE_DESC.
struct ForeignMemory {
  unsigned type;
  union {
    int file_descriptor;
    void* two_pointers[2];
  } handle;
  std::uint64_t size;
};
static_assert(offsetof(ForeignMemory, size) == 24);

/// CUDA_EXTERNAL_MEMORY_BUFFER_DESC.
struct Window {
  std::uint64_t offset, size;
};

struct Imported {
  int file_descriptor;
  std::uint64_t size;
};

/// CUeglFrame.
struct EglFrame {
  void* planes[3];
  unsigned width, height, depth, pitch, plane_count, channels, type, colour_format, array_format;
};

}  // namespace

STANDIN_API(cuImportExternalMemory, true, (void** memory, const void* description)) {
  STANDIN_ENTER(cuImportExternalMemory);
  const auto* wanted = static_cast<const ForeignMemory*>(description);
  if (wanted->type != 1 || wanted->handle.file_descriptor < 0) return not_supported;
  *memory = new Imported{wanted->handle.file_descriptor, wanted->size};
  ++state().foreign;
  return ok;
}

STANDIN_API(cuExternalMemoryGetMappedBuffer, true, (Address* address, void* memory, const void* window)) {
  STANDIN_ENTER(cuExternalMemoryGetMappedBuffer);
  const auto* imported = static_cast<const Imported*>(memory);
  const auto* wanted = static_cast<const Window*>(window);
  if (wanted->offset + wanted->size > imported->size || wanted->size == 0) return invalid_value;
  void* base = mmap(nullptr, imported->size, PROT_READ | PROT_WRITE, MAP_SHARED, imported->file_descriptor, 0);
  if (base == MAP_FAILED) return invalid_value;
  *address = reinterpret_cast<Address>(base) + wanted->offset;
  state().ranges[*address] = {Kind::external, wanted->size, true, false, base, imported->size};
  return ok;
}

STANDIN_API(cuDestroyExternalMemory, true, (void* memory)) {
  STANDIN_ENTER(cuDestroyExternalMemory);
  const auto* imported = static_cast<const Imported*>(memory);
  close(imported->file_descriptor);
  delete imported;
  --state().foreign;
  return ok;
}

STANDIN_API(cuGraphicsEGLRegisterImage, true, (void** resource, void* image, unsigned)) {
  STANDIN_ENTER(cuGraphicsEGLRegisterImage);
  if (image == nullptr) return invalid_value;
  *resource = image;  // an EGLImage is, here, the frame that it will be mapped as
  ++state().foreign;
  return ok;
}

STANDIN_API(cuGraphicsResourceGetMappedEglFrame, true, (void* frame, void* resource, unsigned, unsigned)) {
  STANDIN_ENTER(cuGraphicsResourceGetMappedEglFrame);
  std::memcpy(frame, resource, sizeof(EglFrame));
  return ok;
}

STANDIN_API(cuGraphicsUnregisterResource, true, (void*)) {
  STANDIN_ENTER(cuGraphicsUnregisterResource);
  --state().foreign;
  return ok;
}
