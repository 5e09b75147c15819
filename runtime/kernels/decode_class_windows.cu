// Entry points of decode_class_windows.cuh: blocks along x go over locations, along y over pictures.
#include "decode_class_windows.cuh"
#include "lanes.cuh"

/// A thread a location: channels first.
extern "C" __global__ void edgedet_decode_class_windows_f32(const float* __restrict__ output,
                                                            const edgedet::i32* __restrict__ wanted,
                                                            edgedet::ClassWindows head, edgedet::u32* words,
                                                            edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_class_windows(Alone{}, head, output, wanted, candidate_list(words, pictures, capacity), place_of_thread());
}

extern "C" __global__ void edgedet_decode_class_windows_f16(const edgedet::Half* __restrict__ output,
                                                            const edgedet::i32* __restrict__ wanted,
                                                            edgedet::ClassWindows head, edgedet::u32* words,
                                                            edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_class_windows(Alone{}, head, output, wanted, candidate_list(words, pictures, capacity), place_of_thread());
}

/// `lanes` threads a location: channels last.
extern "C" __global__ void edgedet_decode_class_windows_rows_f32(const float* __restrict__ output,
                                                                 const edgedet::i32* __restrict__ wanted,
                                                                 edgedet::ClassWindows head, edgedet::i32 lanes,
                                                                 edgedet::u32* words, edgedet::i32 pictures,
                                                                 edgedet::i32 capacity) {
  using namespace edgedet;
  decode_class_windows(lanes_of_thread(lanes), head, output, wanted, candidate_list(words, pictures, capacity),
                       place_of_lanes(lanes));
}

extern "C" __global__ void edgedet_decode_class_windows_rows_f16(const edgedet::Half* __restrict__ output,
                                                                 const edgedet::i32* __restrict__ wanted,
                                                                 edgedet::ClassWindows head, edgedet::i32 lanes,
                                                                 edgedet::u32* words, edgedet::i32 pictures,
                                                                 edgedet::i32 capacity) {
  using namespace edgedet;
  decode_class_windows(lanes_of_thread(lanes), head, output, wanted, candidate_list(words, pictures, capacity),
                       place_of_lanes(lanes));
}
