// Streams, events and graphs. Work is done when somebody waits for it, and no earlier.
#include <algorithm>
#include <chrono>
#include <utility>

#include "standin.hpp"

using namespace standin;

namespace standin {

namespace {

double now_ms() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(since).count();
}

/// Does the next piece of work of a stream.
int step(Stream& stream) {
  const Work work = std::move(stream.queue.front());
  stream.queue.pop_front();
  const int failed = work();
  if (failed != ok && state().lost == ok) state().lost = failed;
  return failed;
}

int reach(Event& event, std::uint64_t wanted) {
  while (event.reached < wanted) {
    if (event.stream == nullptr || event.stream->queue.empty()) return invalid_handle;
    if (const int failed = step(*event.stream)) return failed;
  }
  return ok;
}

bool is_event(void* event) { return state().events.count(static_cast<Event*>(event)) != 0; }

}  // namespace

Stream* stream_at(void* handle) {
  constexpr std::uintptr_t per_thread = 2;
  if (reinterpret_cast<std::uintptr_t>(handle) <= per_thread) return &state().unnamed;
  auto* stream = static_cast<Stream*>(handle);
  return state().streams.count(stream) == 0 ? nullptr : stream;
}

int queue(void* handle, Work work) {
  Stream* stream = stream_at(handle);
  if (stream == nullptr) return invalid_handle;
  if (stream->capture != nullptr)
    stream->capture->work.push_back(std::move(work));
  else
    stream->queue.push_back(std::move(work));
  return ok;
}

int finish(Stream& stream) {
  while (!stream.queue.empty())
    if (const int failed = step(stream)) return failed;
  return ok;
}

int finish_all() {
  int failed = finish(state().unnamed);
  for (Stream* stream : state().streams) failed = failed != ok ? failed : finish(*stream);
  return failed;
}

bool capturing_here() {
  bool here = false;
  for (Stream* stream : state().streams) {
    if (stream->capture == nullptr || stream->capturing_thread != this_thread()) continue;
    stream->invalidated = here = true;
  }
  return here;
}

}  // namespace standin

STANDIN_API(cuStreamCreate, true, (void** stream, unsigned)) {
  STANDIN_ENTER(cuStreamCreate);
  auto* made = new Stream;
  state().streams.insert(made);
  *stream = made;
  return ok;
}

STANDIN_API(cuStreamDestroy_v2, true, (void* handle)) {
  STANDIN_ENTER(cuStreamDestroy_v2);
  Stream* stream = stream_at(handle);
  if (stream == nullptr || stream == &state().unnamed) return invalid_handle;
  const int failed = finish(*stream);
  for (Event* event : state().events)
    if (event->stream == stream) event->stream = nullptr;
  state().streams.erase(stream);
  delete stream;
  return failed;
}

STANDIN_API(cuStreamSynchronize, true, (void* handle)) {
  STANDIN_ENTER(cuStreamSynchronize);
  Stream* stream = stream_at(handle);
  if (stream == nullptr) return invalid_handle;
  if (stream->capture != nullptr) {
    stream->invalidated = true;
    return capture_unsupported;
  }
  return finish(*stream);
}

/// Not done at the first question: each does one piece of work, so that a loop of questions ends.
STANDIN_API(cuStreamQuery, true, (void* handle)) {
  STANDIN_ENTER(cuStreamQuery);
  Stream* stream = stream_at(handle);
  if (stream == nullptr) return invalid_handle;
  if (stream->queue.empty()) return ok;
  const int failed = step(*stream);
  return failed != ok ? failed : static_cast<int>(not_ready);
}

STANDIN_API(cuStreamWaitEvent, true, (void* handle, void* event, unsigned)) {
  STANDIN_ENTER(cuStreamWaitEvent);
  if (!is_event(event)) return invalid_handle;
  auto* waited = static_cast<Event*>(event);
  if (waited->wanted == waited->reached) return queue(handle, [] { return static_cast<int>(ok); });
  // The event may be destroyed before the work is done: what it stands for is the source's queue as it is now.
  Stream* source = waited->stream;
  const std::size_t before = source->queue.size();
  auto left = std::make_shared<std::size_t>(before);
  source->queue.push_back([left] {
    *left = 0;
    return static_cast<int>(ok);
  });
  return queue(handle, [source, left] {
    if (state().streams.count(source) == 0 && source != &state().unnamed) return static_cast<int>(ok);
    while (*left != 0 && !source->queue.empty())
      if (const int failed = step(*source)) return failed;
    return static_cast<int>(ok);
  });
}

STANDIN_API(cuLaunchHostFunc, true, (void* handle, void (*function)(void*), void* data)) {
  STANDIN_ENTER(cuLaunchHostFunc);
  return queue(handle, [function, data] {
    function(data);
    return static_cast<int>(ok);
  });
}

STANDIN_API(cuEventCreate, true, (void** event, unsigned flags)) {
  STANDIN_ENTER(cuEventCreate);
  constexpr unsigned no_timing = 2;
  auto* made = new Event;
  made->timing = (flags & no_timing) == 0;
  state().events.insert(made);
  *event = made;
  return ok;
}

STANDIN_API(cuEventDestroy_v2, true, (void* event)) {
  STANDIN_ENTER(cuEventDestroy_v2);
  if (!is_event(event)) return invalid_handle;
  state().events.erase(static_cast<Event*>(event));
  delete static_cast<Event*>(event);
  return ok;
}

STANDIN_API(cuEventRecord, true, (void* event, void* handle)) {
  STANDIN_ENTER(cuEventRecord);
  Stream* stream = stream_at(handle);
  if (stream == nullptr || !is_event(event)) return invalid_handle;
  auto* recorded = static_cast<Event*>(event);
  recorded->stream = stream;
  const std::uint64_t number = ++recorded->wanted;
  return queue(handle, [event, recorded, number] {
    if (!is_event(event)) return static_cast<int>(ok);
    recorded->reached = std::max(recorded->reached, number);
    recorded->at = now_ms();
    return static_cast<int>(ok);
  });
}

STANDIN_API(cuEventSynchronize, true, (void* event)) {
  STANDIN_ENTER(cuEventSynchronize);
  if (!is_event(event)) return invalid_handle;
  if (capturing_here()) return capture_unsupported;
  auto* waited = static_cast<Event*>(event);
  return reach(*waited, waited->wanted);
}

STANDIN_API(cuEventQuery, true, (void* event)) {
  STANDIN_ENTER(cuEventQuery);
  if (!is_event(event)) return invalid_handle;
  auto* asked = static_cast<Event*>(event);
  if (asked->reached == asked->wanted) return ok;
  if (asked->stream == nullptr || asked->stream->queue.empty()) return not_ready;  // recorded in a graph
  const int failed = step(*asked->stream);
  return failed != ok ? failed : static_cast<int>(not_ready);
}

STANDIN_API(cuEventElapsedTime_v2, true, (float* milliseconds, void* start, void* end)) {
  STANDIN_ENTER(cuEventElapsedTime_v2);
  if (!is_event(start) || !is_event(end)) return invalid_handle;
  const auto *first = static_cast<Event*>(start), *last = static_cast<Event*>(end);
  if (!first->timing || !last->timing || first->wanted == 0 || last->wanted == 0) return invalid_handle;
  if (first->reached != first->wanted || last->reached != last->wanted) return not_ready;
  *milliseconds = static_cast<float>(last->at - first->at);
  return ok;
}

STANDIN_API(cuStreamBeginCapture_v2, true, (void* handle, int)) {
  STANDIN_ENTER(cuStreamBeginCapture_v2);
  Stream* stream = stream_at(handle);
  if (stream == nullptr || stream == &state().unnamed) return capture_unsupported;
  if (stream->capture != nullptr) return invalid_value;
  stream->capture = new Graph;
  stream->invalidated = false;
  stream->capturing_thread = this_thread();
  return ok;
}

STANDIN_API(cuStreamEndCapture, true, (void* handle, void** graph)) {
  STANDIN_ENTER(cuStreamEndCapture);
  Stream* stream = stream_at(handle);
  if (stream == nullptr || stream->capture == nullptr) return invalid_value;
  Graph* captured = std::exchange(stream->capture, nullptr);
  *graph = nullptr;
  if (stream->invalidated) {
    delete captured;
    return capture_invalidated;
  }
  state().graphs.insert(captured);
  *graph = captured;
  return ok;
}

STANDIN_API(cuGraphInstantiateWithFlags, true, (void** executable, void* graph, std::uint64_t)) {
  STANDIN_ENTER(cuGraphInstantiateWithFlags);
  if (state().graphs.count(static_cast<Graph*>(graph)) == 0) return invalid_handle;
  auto* made = new Graph(*static_cast<Graph*>(graph));
  state().graphs.insert(made);
  *executable = made;
  return ok;
}

STANDIN_API(cuGraphInstantiate, true, (void** executable, void* graph, std::uint64_t flags)) {
  return cuGraphInstantiateWithFlags(executable, graph, flags);
}

STANDIN_API(cuGraphLaunch, true, (void* executable, void* handle)) {
  STANDIN_ENTER(cuGraphLaunch);
  const auto found = state().graphs.find(static_cast<Graph*>(executable));
  if (found == state().graphs.end()) return invalid_handle;
  for (const Work& work : (*found)->work)
    if (const int failed = queue(handle, work)) return failed;
  return ok;
}

STANDIN_API(cuGraphDestroy, true, (void* graph)) {
  STANDIN_ENTER(cuGraphDestroy);
  if (state().graphs.erase(static_cast<Graph*>(graph)) == 0) return invalid_handle;
  delete static_cast<Graph*>(graph);
  return ok;
}

STANDIN_API(cuGraphExecDestroy, true, (void* executable)) {
  STANDIN_ENTER(cuGraphExecDestroy);
  if (state().graphs.erase(static_cast<Graph*>(executable)) == 0) return invalid_handle;
  delete static_cast<Graph*>(executable);
  return ok;
}
