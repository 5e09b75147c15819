// Entry points of decode_distance_distributions.cuh: `lanes` threads a location; blocks along x go over locations,
// along y over pictures.
#include "decode_distance_distributions.cuh"
#include "lanes.cuh"

extern "C" __global__ void edgedet_decode_distance_distributions_f32(const edgedet::i32* __restrict__ wanted,
                                                                     edgedet::DistanceDistributions head,
                                                                     edgedet::i32 lanes, edgedet::u32* words,
                                                                     edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_distance_distributions<float>(lanes_of_thread(lanes), head, wanted, candidate_list(words, pictures, capacity),
                                       place_of_lanes(lanes));
}

extern "C" __global__ void edgedet_decode_distance_distributions_f16(const edgedet::i32* __restrict__ wanted,
                                                                     edgedet::DistanceDistributions head,
                                                                     edgedet::i32 lanes, edgedet::u32* words,
                                                                     edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  decode_distance_distributions<Half>(lanes_of_thread(lanes), head, wanted, candidate_list(words, pictures, capacity),
                                      place_of_lanes(lanes));
}
