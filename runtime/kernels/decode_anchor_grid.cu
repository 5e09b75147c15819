// Entry points of decode_anchor_grid.cuh: a thread a location; blocks along x go over locations, along y over pictures.
#include "decode_anchor_grid.cuh"

extern "C" __global__ void edgedet_decode_anchor_grid_f32(const float* __restrict__ anchors,
                                                          const edgedet::i32* __restrict__ wanted,
                                                          edgedet::AnchorGrid head, edgedet::u32* words,
                                                          edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_anchor_grid<float>(head, anchors, wanted, candidate_list(words, pictures, capacity), place_of_thread());
}

extern "C" __global__ void edgedet_decode_anchor_grid_f16(const float* __restrict__ anchors,
                                                          const edgedet::i32* __restrict__ wanted,
                                                          edgedet::AnchorGrid head, edgedet::u32* words,
                                                          edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_anchor_grid<Half>(head, anchors, wanted, candidate_list(words, pictures, capacity), place_of_thread());
}
