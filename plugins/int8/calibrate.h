// What a text shows of the inputs of each linear, and by what inputs and weights are evened out for
// it. Invariant: sites that share their input get the same scales, so that it is quantized once.
#ifndef ENGINE_PLUGINS_INT8_CALIBRATE_H_
#define ENGINE_PLUGINS_INT8_CALIBRATE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/plugin.hpp"

namespace engine::int8 {

class Calibration {
 public:
  // Runs at most `tokens` of the text file's beginning through the model as it is now.
  Status Measure(const Model& model, const std::string& path, uint32_t tokens);
  // What multiplies the inputs of the site, [in]; its weights are divided by the same. `quantized`
  // [sites] says which sites count. Sites whose inputs were not seen are an error.
  Status ScalesOf(const Model& model, uint32_t site, const std::vector<bool>& quantized,
                  const std::vector<float>** scales);

 private:
  std::vector<std::vector<float>> peaks_;                    // [site][in]; empty: not seen
  std::map<std::vector<float>, std::vector<float>> scales_;  // by the peaks of the shared input
};

}  // namespace engine::int8

#endif  // ENGINE_PLUGINS_INT8_CALIBRATE_H_
