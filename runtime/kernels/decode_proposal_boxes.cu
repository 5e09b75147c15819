// Entry points of decode_proposal_boxes.cuh: `lanes` threads a location; blocks along x go over locations, along y over
// pictures.
#include "decode_proposal_boxes.cuh"
#include "lanes.cuh"

extern "C" __global__ void edgedet_decode_proposal_boxes_f32(const float* __restrict__ scores,
                                                             const float* __restrict__ offsets,
                                                             const float* __restrict__ regions,
                                                             const edgedet::i32* __restrict__ wanted,
                                                             edgedet::ProposalBoxes head, edgedet::i32 lanes,
                                                             edgedet::u32* words, edgedet::i32 pictures,
                                                             edgedet::i32 capacity) {
  using namespace edgedet;
  decode_proposal_boxes(lanes_of_thread(lanes), head, scores, offsets, regions, wanted,
                        candidate_list(words, pictures, capacity), place_of_lanes(lanes));
}

extern "C" __global__ void edgedet_decode_proposal_boxes_f16(const edgedet::Half* __restrict__ scores,
                                                             const edgedet::Half* __restrict__ offsets,
                                                             const float* __restrict__ regions,
                                                             const edgedet::i32* __restrict__ wanted,
                                                             edgedet::ProposalBoxes head, edgedet::i32 lanes,
                                                             edgedet::u32* words, edgedet::i32 pictures,
                                                             edgedet::i32 capacity) {
  using namespace edgedet;
  decode_proposal_boxes(lanes_of_thread(lanes), head, scores, offsets, regions, wanted,
                        candidate_list(words, pictures, capacity), place_of_lanes(lanes));
}
