// Entry points of decode_fastestdet.cuh: a thread a location; blocks along x go over locations, along y over pictures.
#include "decode_fastestdet.cuh"

extern "C" __global__ void edgedet_decode_fastestdet_f32(const float* __restrict__ output,
                                                         const edgedet::i32* __restrict__ wanted,
                                                         edgedet::FastestDet head, edgedet::u32* words,
                                                         edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_fastestdet(head, output, wanted, candidate_list(words, pictures, capacity), place_of_thread());
}

extern "C" __global__ void edgedet_decode_fastestdet_f16(const edgedet::Half* __restrict__ output,
                                                         const edgedet::i32* __restrict__ wanted,
                                                         edgedet::FastestDet head, edgedet::u32* words,
                                                         edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_fastestdet(head, output, wanted, candidate_list(words, pictures, capacity), place_of_thread());
}
