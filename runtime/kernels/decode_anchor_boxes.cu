// Entry points of decode_anchor_boxes.cuh: `lanes` threads a location; blocks along x go over locations, along y over
// pictures.
#include "decode_anchor_boxes.cuh"
#include "lanes.cuh"

extern "C" __global__ void edgedet_decode_anchor_boxes_f32(const float* __restrict__ boxes,
                                                           const float* __restrict__ scores,
                                                           const float* __restrict__ anchors,
                                                           const edgedet::i32* __restrict__ wanted,
                                                           edgedet::AnchorBoxes head, edgedet::i32 lanes,
                                                           edgedet::u32* words, edgedet::i32 pictures,
                                                           edgedet::i32 capacity) {
  using namespace edgedet;
  decode_anchor_boxes(lanes_of_thread(lanes), head, boxes, scores, anchors, wanted,
                      candidate_list(words, pictures, capacity), place_of_lanes(lanes));
}

extern "C" __global__ void edgedet_decode_anchor_boxes_f16(const edgedet::Half* __restrict__ boxes,
                                                           const edgedet::Half* __restrict__ scores,
                                                           const float* __restrict__ anchors,
                                                           const edgedet::i32* __restrict__ wanted,
                                                           edgedet::AnchorBoxes head, edgedet::i32 lanes,
                                                           edgedet::u32* words, edgedet::i32 pictures,
                                                           edgedet::i32 capacity) {
  using namespace edgedet;
  decode_anchor_boxes(lanes_of_thread(lanes), head, boxes, scores, anchors, wanted,
                      candidate_list(words, pictures, capacity), place_of_lanes(lanes));
}
