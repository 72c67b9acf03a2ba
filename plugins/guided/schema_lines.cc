// Prints random schemas and, for each, outputs that were made under it: one JSON object a line. A
// script of tests/ gives them to a validator that others wrote.
#include <cstdio>
#include <cstdlib>

#include "test_forms.h"
#include "test_schemas.h"

int main(int argc, char** argv) {
  using namespace engine::guided;
  const int count = argc > 1 ? std::atoi(argv[1]) : 1000;
  std::mt19937 random(argc > 2 ? static_cast<uint32_t>(std::atoi(argv[2])) : 7);
  const auto vocabulary = TestVocabulary();
  for (int i = 0; i < count; ++i) {
    const nlohmann::ordered_json schema = RandomSchema(&random);
    std::shared_ptr<Guide> guide;
    const engine::Status status =
        Guide::Compile(Kind::kSchema, schema.dump(), vocabulary, {kEndToken}, TestLimits(), &guide);
    nlohmann::ordered_json line = {{"schema", schema}};
    if (!status.ok()) {
      line["refused"] = std::string(status.message());
    } else {
      line["outputs"] = nlohmann::ordered_json::array();
      for (uint64_t stream = 0; stream < 5; ++stream) {
        std::string text, problem;
        if (!RandomOutput(guide.get(), *vocabulary, stream, &random, &text, &problem)) {
          std::fprintf(stderr, "%s\nunder %s\nafter %s\n", problem.c_str(), schema.dump().c_str(),
                       text.c_str());
          return 1;
        }
        line["outputs"].push_back(text);
      }
    }
    std::printf("%s\n", line.dump().c_str());
  }
  return 0;
}
