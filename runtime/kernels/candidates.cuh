// The list of candidates that a decode kernel fills and that NMS reads.
//
// Layout: one allocation of 32-bit words for a whole batch, so that one pointer and two numbers hand it on: boxes
// (B, N, 4), scores (B, N), class ids (B, N), locations (B, N), ranks (B, N), counts (B). The boxes come first: they
// are then aligned as the allocation is.
//
// Memory pattern: structure of arrays. NMS sorts by score and rank alone and touches 8 of a candidate's 32 bytes until
// the order is known; only then are boxes read, in that order.
//
// Why a counter and not a prefix sum: one candidate in a hundred passes the threshold, so an atomic for each is cheaper
// than a sweep of the whole output for its place. The places that atomics give out change from run to run; what follows
// must not depend on them. The rank makes sure: scores sorted down, and among equals ranks sorted up, is one fixed
// order.
#pragma once

#include "host_device.cuh"

namespace edgedet {

struct Candidate {
  Box box;       // xyxy in pixels of the network's input
  float score;   //
  i32 class_id;  //
  i32 location;  // place in the outputs that its mask is made from
  u32 rank;      // place in which the reference head lists it; no two candidates of a picture share one
};

struct CandidateList {
  float* xyxy;    // (pictures, capacity, 4)
  float* score;   // (pictures, capacity)
  i32* class_id;  // (pictures, capacity)
  i32* location;  // (pictures, capacity)
  u32* rank;      // (pictures, capacity)
  i32* count;     // (pictures,) how many were found; more than capacity where it overflowed
  i32 pictures;
  i32 capacity;
};

/// Finds the arrays in the one allocation.
EDGEDET_HD CandidateList candidate_list(u32* words, i32 pictures, i32 capacity) {
  const u64 places = static_cast<u64>(pictures) * static_cast<u64>(capacity);
  return {reinterpret_cast<float*>(words),
          reinterpret_cast<float*>(words + 4 * places),
          reinterpret_cast<i32*>(words + 5 * places),
          reinterpret_cast<i32*>(words + 6 * places),
          words + 7 * places,
          reinterpret_cast<i32*>(words + 8 * places),
          pictures,
          capacity};
}

/// Where a candidate of a picture lies in the arrays (boxes: times 4).
EDGEDET_HD u64 place_of(const CandidateList& list, i32 picture, i32 index) {
  return static_cast<u64>(picture) * static_cast<u64>(list.capacity) + static_cast<u64>(index);
}

/// How many candidates of a picture are in the arrays.
EDGEDET_HD i32 stored(const CandidateList& list, i32 picture) { return least(list.count[picture], list.capacity); }

EDGEDET_HD Box box_of(const CandidateList& list, u64 place) {
  const float* xyxy = list.xyxy + 4 * place;
  return {xyxy[0], xyxy[1], xyxy[2], xyxy[3]};
}

/// Adds a candidate; any thread may. Beyond the capacity it is counted and dropped.
EDGEDET_DEVICE void append(const CandidateList& list, i32 picture, const Candidate& candidate) {
  const i32 index = atomicAdd(&list.count[picture], 1);
  if (index >= list.capacity) return;
  const u64 place = place_of(list, picture, index);
  float* xyxy = list.xyxy + 4 * place;
  xyxy[0] = candidate.box.x1;
  xyxy[1] = candidate.box.y1;
  xyxy[2] = candidate.box.x2;
  xyxy[3] = candidate.box.y2;
  list.score[place] = candidate.score;
  list.class_id[place] = candidate.class_id;
  list.location[place] = candidate.location;
  list.rank[place] = candidate.rank;
}

}  // namespace edgedet
