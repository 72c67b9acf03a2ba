// Writes a syntax tree as instructions. Each part is written after what follows it, whose place it
// is given, so that parts with the same continuation share it.
#ifndef PLUGINS_GUIDED_EMITTER_H_
#define PLUGINS_GUIDED_EMITTER_H_

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "program.h"

namespace engine::guided {

class Emitter {
 public:
  Emitter(Grammar* grammar, const ByteSet& alphabet, Program* program);

  // Writes `root` and every rule that it needs. Errors are left in the grammar.
  void Run(Node root);
  // Where a rule begins; kNever when nobody calls it.
  const std::vector<uint32_t>& entries() const { return entries_; }

 private:
  uint32_t Add(Instruction::Kind kind, uint32_t a = 0, uint32_t b = 0);
  uint32_t SetOf(const ByteSet& set);
  uint32_t Bytes(const ByteSet& set, uint32_t next);
  uint32_t Split(const std::vector<uint32_t>& ways);
  void Patch(uint32_t place, const std::vector<uint32_t>& ways);

  uint32_t Emit(Node node, uint32_t next, bool quoted);
  uint32_t EmitClass(const CodeSet& set, uint32_t next, bool quoted);
  void EmitPlain(const CodeSet& set, uint32_t next, std::vector<uint32_t>* ways);
  void EmitEscapes(const CodeSet& set, uint32_t next, std::vector<uint32_t>* ways);
  uint32_t EmitText(std::string_view text, uint32_t next, bool quoted);
  uint32_t EmitRepeat(Node node, uint32_t next, bool quoted);
  uint32_t EmitGraph(const Graph& graph, uint32_t next, bool quoted);
  uint32_t EmitTexts(const std::string* begin, const std::string* end, size_t at, uint32_t next);
  void ShortenJumps();

  Grammar& grammar_;
  const ByteSet alphabet_;
  Program& program_;
  uint32_t fail_ = 0;
  std::unordered_map<ByteSet, uint32_t> sets_;
  std::unordered_map<uint64_t, uint32_t> bytes_;  // (set, next) -> instruction
  std::vector<uint32_t> entries_;                 // of rules
  std::vector<Rule> wanted_;                      // rules that are called and not written yet
};

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_EMITTER_H_
