// What is recomputed so that activations fit a budget: as little work as possible.
#ifndef PLUGINS_CHECKPOINT_SOLVER_H_
#define PLUGINS_CHECKPOINT_SOLVER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace engine::checkpoint {

// Of a block and of the MLP in it, for one batch.
struct BlockCost {
  double input = 0, saved = 0;      // bytes, as engine_site_cost has them
  double mlp_saved = 0;             // of which the MLP has
  double flops = 0, mlp_flops = 0;  // to compute them again
};

struct Choice {
  std::vector<bool> blocks, mlps;  // recomputed whole; the MLP alone
  double kept = 0;                 // bytes from forward to backward
  double flops = 0;                // computed again
  bool fits = false;
};

// The first blocks are recomputed: when backward comes to them, those after them have given their
// activations back, so that what is recomputed finds room.
inline Choice Solve(const std::vector<BlockCost>& costs, double budget) {
  Choice best;
  const std::size_t n = costs.size();
  double all = 0;
  for (const BlockCost& c : costs) all += c.input + c.saved;
  double kept = all, flops = 0;
  for (std::size_t whole = 0; whole <= n; ++whole) {
    // Blocks [0, whole) entirely; then at most one MLP of the others, where that alone suffices.
    const auto take = [&](std::size_t mlp, double k, double f) {
      if (best.fits && (k > budget || f >= best.flops)) return;
      if (!best.fits && k > budget && whole < n) return;
      best.blocks.assign(n, false);
      best.mlps.assign(n, false);
      for (std::size_t i = 0; i < whole; ++i) best.blocks[i] = true;
      if (mlp < n) best.mlps[mlp] = true;
      best.kept = k;
      best.flops = f;
      best.fits = k <= budget;
    };
    take(n, kept, flops);
    if (whole == n) break;
    const BlockCost& c = costs[whole];
    take(whole, kept - c.mlp_saved, flops + c.mlp_flops);
    kept -= c.saved;
    flops += c.flops;
  }
  return best;
}

}  // namespace engine::checkpoint

#endif  // PLUGINS_CHECKPOINT_SOLVER_H_
