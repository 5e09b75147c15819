// Entry points of decode_localizer.cuh: a block, of one warp, a picture.
#include "decode_localizer.cuh"
#include "lanes.cuh"

extern "C" __global__ void edgedet_decode_localizer_f32(const float* __restrict__ classes,
                                                        const float* __restrict__ boxes,
                                                        const float* __restrict__ objectness,
                                                        const edgedet::i32* __restrict__ wanted,
                                                        edgedet::Localizer head, edgedet::u32* words,
                                                        edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_localizer(lanes_of_thread(32), head, classes, boxes, objectness, wanted,
                   candidate_list(words, pictures, capacity), static_cast<i32>(blockIdx.x));
}

extern "C" __global__ void edgedet_decode_localizer_f16(const edgedet::Half* __restrict__ classes,
                                                        const edgedet::Half* __restrict__ boxes,
                                                        const edgedet::Half* __restrict__ objectness,
                                                        const edgedet::i32* __restrict__ wanted,
                                                        edgedet::Localizer head, edgedet::u32* words,
                                                        edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_localizer(lanes_of_thread(32), head, classes, boxes, objectness, wanted,
                   candidate_list(words, pictures, capacity), static_cast<i32>(blockIdx.x));
}
