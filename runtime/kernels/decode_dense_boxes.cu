// Entry points of decode_dense_boxes.cuh: blocks along x go over locations, along y over pictures.
#include "decode_dense_boxes.cuh"
#include "lanes.cuh"

/// A thread a location: channels first, or rows with an objectness.
extern "C" __global__ void edgedet_decode_dense_boxes_f32(const float* __restrict__ output,
                                                          const edgedet::i32* __restrict__ wanted,
                                                          edgedet::DenseBoxes head, edgedet::u32* words,
                                                          edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_dense_boxes(Alone{}, head, output, wanted, candidate_list(words, pictures, capacity), place_of_thread());
}

extern "C" __global__ void edgedet_decode_dense_boxes_f16(const edgedet::Half* __restrict__ output,
                                                          const edgedet::i32* __restrict__ wanted,
                                                          edgedet::DenseBoxes head, edgedet::u32* words,
                                                          edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_dense_boxes(Alone{}, head, output, wanted, candidate_list(words, pictures, capacity), place_of_thread());
}

/// `lanes` threads a location: rows without an objectness.
extern "C" __global__ void edgedet_decode_dense_boxes_rows_f32(const float* __restrict__ output,
                                                               const edgedet::i32* __restrict__ wanted,
                                                               edgedet::DenseBoxes head, edgedet::i32 lanes,
                                                               edgedet::u32* words, edgedet::i32 pictures,
                                                               edgedet::i32 capacity) {
  using namespace edgedet;
  decode_dense_boxes(lanes_of_thread(lanes), head, output, wanted, candidate_list(words, pictures, capacity),
                     place_of_lanes(lanes));
}

extern "C" __global__ void edgedet_decode_dense_boxes_rows_f16(const edgedet::Half* __restrict__ output,
                                                               const edgedet::i32* __restrict__ wanted,
                                                               edgedet::DenseBoxes head, edgedet::i32 lanes,
                                                               edgedet::u32* words, edgedet::i32 pictures,
                                                               edgedet::i32 capacity) {
  using namespace edgedet;
  decode_dense_boxes(lanes_of_thread(lanes), head, output, wanted, candidate_list(words, pictures, capacity),
                     place_of_lanes(lanes));
}
