// A language as instructions over bytes: a Thompson machine with calls and counted loops. Rules and
// loops keep frames on a stack, so that neither recursion nor large bounds multiply instructions.
//
// Invariant: every instruction knows how many calls deep it must still be able to go for its rule
// to end (`need`); who follows only those for which that fits under the limit of nesting is never
// led into a dead end. What cannot end at all needs kNever.
#ifndef PLUGINS_GUIDED_PROGRAM_H_
#define PLUGINS_GUIDED_PROGRAM_H_

#include <bitset>
#include <cstdint>
#include <memory>
#include <vector>

#include "ast.h"
#include "engine/status.hpp"

namespace engine::guided {

using ByteSet = std::bitset<256>;
constexpr uint32_t kNever = UINT32_MAX;

struct Instruction {
  enum Kind : uint8_t {
    kFail,
    kByte,    // one byte of set `a`, then `b`
    kSplit,   // `a` or `b`
    kJump,    // `a`
    kCall,    // puts `b` on the stack and goes to `a`
    kReturn,  // takes where to go from the stack
    kEnter,   // puts loop `a` with the count 0 on the stack and goes to its head
    kHead,    // of loop `a`: another round, or on, as its count allows
    kNext,    // counts a round of loop `a` and goes to its head
    kMatch,   // the text is complete
  };
  Kind kind = kFail;
  uint32_t a = 0, b = 0;
};

struct Loop {
  uint32_t min = 0, max = 0;  // max may be kInfinite
  uint32_t head = 0, body = 0, exit = 0;
};

struct Program {
  std::vector<Instruction> code;
  std::vector<uint32_t> need;  // of each instruction
  std::vector<Loop> loops;
  std::vector<ByteSet> sets;
  uint32_t start = 0;
  uint8_t classes[256] = {};            // bytes of one class are in the same sets
  std::vector<uint8_t> representative;  // of each class
  uint32_t nesting = 0;                 // calls within calls

  size_t Bytes() const {
    return sizeof(*this) + code.size() * (sizeof(Instruction) + sizeof(uint32_t)) +
           loops.size() * sizeof(Loop) + sets.size() * sizeof(ByteSet);
  }
};

// The program of `root`, whose texts use bytes of `alphabet` only. Refused are grammars without a
// text within the limits, and rules that call themselves before they take a byte.
Status BuildProgram(Grammar* grammar, Node root, const ByteSet& alphabet,
                    std::shared_ptr<const Program>* program);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_PROGRAM_H_
