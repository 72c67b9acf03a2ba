// One batch through a model with its gradients, and how two such trainings differ.
#ifndef TESTS_TRAINED_H_
#define TESTS_TRAINED_H_

#include <map>
#include <string>
#include <vector>

#include "engine/model/model.h"

namespace engine::tests {

// Loss and gradients of all trainable parameters for one batch.
struct Training {
  double loss = 0;
  std::map<std::string, std::vector<double>> grads;  // empty: the parameter got none
};

// A batch that depends on its shape alone. Throws what fails.
Training Train(model::Model* model, int64_t tokens = 48, int64_t batch = 2,
               const model::LossHow& how = {});

// What differs between two trainings; empty when they agree to the bit.
std::string Difference(const Training& a, const Training& b);

// The largest difference of the losses and of the gradients, each relative to the largest gradient
// of its parameter.
double Distance(const Training& a, const Training& b);

// How far the gradient of element `at` of each trained parameter whose name ends with `ending` is
// from the slope of the loss there, relative to 1 + |gradient|: the greatest, and of how many. In
// F64.
struct Slopes {
  double error = 0;
  int count = 0;
};
Slopes CompareSlopes(model::Model* model, const std::string& ending, int64_t at);

// What is wrong with the gradients after `t`: every one must be there and finite, and B's (or after
// a step A's too) not all zero.
std::string Untrained(const Training& t, bool a_too);

// Logits of 40 tokens, all of them: site by site on tensors, and as a step of serving for sequences
// that chose that adapter.
std::vector<double> Logits(model::Model* model);
std::vector<double> ServedLogits(model::Model* model, uint32_t adapter = 0);
// The greatest difference of two lists of one length.
double Distance(const std::vector<double>& a, const std::vector<double>& b);

// Moves every B away from zero, so that both halves of each branch matter.
void MoveAdapters(model::Model* model);

// Blocks of a pipeline's text.
std::string Base(const std::string& path, const std::string& rest = "");
std::string On(const std::string& name, const std::string& from, const std::string& kind);

}  // namespace engine::tests

#endif  // TESTS_TRAINED_H_
