// Empties the list of candidates at the start of each run. A kernel, not a memset: it is a node of the same kind as all
// others of the captured graph, and the counts lie behind the arrays, so that nothing but them is written.
#include "candidates.cuh"

/// One thread a picture.
extern "C" __global__ void edgedet_candidates_reset(edgedet::u32* words, edgedet::i32 pictures, edgedet::i32 capacity) {
  using namespace edgedet;
  const CandidateList list = candidate_list(words, pictures, capacity);
  const i32 picture = static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x);
  if (picture < pictures) list.count[picture] = 0;
}
