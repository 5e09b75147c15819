// Entry points of decode_queries.cuh: `lanes` threads a location; blocks along x go over locations, along y over
// pictures.
#include "decode_queries.cuh"
#include "lanes.cuh"

extern "C" __global__ void edgedet_decode_queries_f32(const float* __restrict__ logits, const float* __restrict__ boxes,
                                                      const edgedet::i32* __restrict__ wanted, edgedet::Queries head,
                                                      edgedet::i32 lanes, edgedet::u32* words, edgedet::i32 pictures,
                                                      edgedet::i32 capacity) {
  using namespace edgedet;
  decode_queries(lanes_of_thread(lanes), head, logits, boxes, wanted, candidate_list(words, pictures, capacity),
                 place_of_lanes(lanes));
}

extern "C" __global__ void edgedet_decode_queries_f16(const edgedet::Half* __restrict__ logits,
                                                      const edgedet::Half* __restrict__ boxes,
                                                      const edgedet::i32* __restrict__ wanted, edgedet::Queries head,
                                                      edgedet::i32 lanes, edgedet::u32* words, edgedet::i32 pictures,
                                                      edgedet::i32 capacity) {
  using namespace edgedet;
  decode_queries(lanes_of_thread(lanes), head, logits, boxes, wanted, candidate_list(words, pictures, capacity),
                 place_of_lanes(lanes));
}
