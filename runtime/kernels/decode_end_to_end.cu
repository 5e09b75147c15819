// Entry points of decode_end_to_end.cuh: a thread a location; blocks along x go over locations, along y over pictures.
#include "decode_end_to_end.cuh"

extern "C" __global__ void edgedet_decode_end_to_end_f32(const float* __restrict__ boxes,
                                                         const float* __restrict__ scores,
                                                         const void* __restrict__ labels,
                                                         const edgedet::i32* __restrict__ wanted,
                                                         edgedet::EndToEnd head, edgedet::u32* words,
                                                         edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_end_to_end(head, boxes, scores, labels, wanted, candidate_list(words, pictures, capacity), place_of_thread());
}

extern "C" __global__ void edgedet_decode_end_to_end_f16(const edgedet::Half* __restrict__ boxes,
                                                         const edgedet::Half* __restrict__ scores,
                                                         const void* __restrict__ labels,
                                                         const edgedet::i32* __restrict__ wanted,
                                                         edgedet::EndToEnd head, edgedet::u32* words,
                                                         edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_end_to_end(head, boxes, scores, labels, wanted, candidate_list(words, pictures, capacity), place_of_thread());
}
