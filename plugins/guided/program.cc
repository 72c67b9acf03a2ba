// A language as instructions over bytes.
#include "program.h"

#include <algorithm>
#include <utility>

#include "emitter.h"

namespace engine::guided {
namespace {

// Which instructions an instruction's answer goes into, for answers that flow from what follows to
// what comes before. Those that go on in two ways at once, or in one of two, have two.
class Uses {
 public:
  explicit Uses(const Program& program) : first_(program.code.size() + 1, 0) {
    for (const bool count : {true, false}) {
      for (uint32_t i = 0; i < program.code.size(); ++i) {
        uint32_t on[2];
        const uint32_t ways = Follow(program, i, on);
        for (uint32_t way = 0; way < ways; ++way) {
          count ? ++first_[on[way] + 1] : users_[--first_[on[way] + 1]] = i;
        }
      }
      if (!count) break;
      for (size_t i = 1; i < first_.size(); ++i) first_[i] += first_[i - 1];
      users_.resize(first_.back());
    }
    // Filling took each count back to where its users begin, one place further on.
  }

  template <typename Body>
  void ForEach(uint32_t instruction, Body&& body) const {
    const uint32_t end = instruction + 2 < first_.size() ? first_[instruction + 2]
                                                         : static_cast<uint32_t>(users_.size());
    for (uint32_t i = first_[instruction + 1]; i < end; ++i) body(users_[i]);
  }

  // What an instruction goes on to.
  static uint32_t Follow(const Program& program, uint32_t at, uint32_t on[2]) {
    const Instruction& each = program.code[at];
    switch (each.kind) {
      case Instruction::kByte:
        on[0] = each.b;
        return 1;
      case Instruction::kJump:
        on[0] = each.a;
        return 1;
      case Instruction::kSplit:
      case Instruction::kCall:
        on[0] = each.a;
        on[1] = each.b;
        return 2;
      case Instruction::kEnter:
      case Instruction::kHead:
        on[0] = program.loops[each.a].exit;
        on[1] = program.loops[each.a].body;
        // What may do without a round needs none.
        return program.loops[each.a].min > 0 ? 2 : 1;
      case Instruction::kNext:
        // Rounds that are left were looked at on the way in, from the same depth.
        on[0] = program.loops[each.a].exit;
        return 1;
      default:
        return 0;
    }
  }

 private:
  std::vector<uint32_t> first_, users_;
};

// What each instruction needs, the least first: when one is taken up, no way can make it less.
bool Needs(Program* program, const Uses& uses, Budget* budget) {
  const std::vector<Instruction>& code = program->code;
  std::vector<uint32_t>& need = program->need;
  need.assign(code.size(), kNever);
  std::vector<std::vector<uint32_t>> waiting(program->nesting + 1);
  for (uint32_t i = 0; i < code.size(); ++i) {
    if (code[i].kind == Instruction::kReturn || code[i].kind == Instruction::kMatch) {
      waiting[0].push_back(i);
    }
  }
  for (uint32_t value = 0; value < waiting.size(); ++value) {
    for (size_t n = 0; n < waiting[value].size(); ++n) {
      if (!budget->Spend()) return false;
      const uint32_t at = waiting[value][n];
      if (need[at] != kNever) continue;
      need[at] = value;
      uses.ForEach(at, [&](uint32_t user) {
        if (need[user] != kNever) return;
        uint32_t of_user = value;
        if (code[user].kind != Instruction::kSplit) {
          // All that it goes on to is needed.
          uint32_t on[2];
          const uint32_t ways = Uses::Follow(*program, user, on);
          for (uint32_t way = 0; way < ways; ++way) {
            if (need[on[way]] == kNever) return;
            const bool called = code[user].kind == Instruction::kCall && way == 0;
            of_user = std::max(of_user, need[on[way]] + (called ? 1 : 0));
          }
        }
        if (of_user < waiting.size()) waiting[of_user].push_back(user);
      });
    }
  }
  return true;
}

// Rules that `from` reaches without taking a byte. What a rule calls first, it may be after: that a
// called rule is empty is taken for possible when its text may be.
void FirstCalls(const Program& program, uint32_t from, const std::vector<bool>& empty,
                std::vector<uint32_t>* calls, std::vector<uint32_t>* seen, uint32_t stamp,
                Budget* budget) {
  std::vector<uint32_t> work = {from};
  while (!work.empty() && budget->Spend()) {
    const uint32_t at = work.back();
    work.pop_back();
    if ((*seen)[at] == stamp) continue;
    (*seen)[at] = stamp;
    const Instruction& each = program.code[at];
    switch (each.kind) {
      case Instruction::kSplit:
        work.push_back(each.b);
        work.push_back(each.a);
        break;
      case Instruction::kJump:
        work.push_back(each.a);
        break;
      case Instruction::kCall:
        calls->push_back(each.a);
        if (empty[each.a]) work.push_back(each.b);
        break;
      case Instruction::kEnter:
      case Instruction::kHead:
      case Instruction::kNext:
        work.push_back(program.loops[each.a].body);
        work.push_back(program.loops[each.a].exit);
        break;
      default:
        break;
    }
  }
}

// Whether instructions reach the end of their rule without taking a byte. Rounds of a loop may be
// empty, so that its end may be reached from anywhere within.
std::vector<bool> EmptyWays(const Program& program, const Uses& uses, Budget* budget) {
  std::vector<bool> empty(program.code.size());
  std::vector<uint32_t> work;
  for (uint32_t i = 0; i < program.code.size(); ++i) {
    if (program.code[i].kind != Instruction::kReturn) continue;
    empty[i] = true;
    work.push_back(i);
  }
  while (!work.empty() && budget->Spend()) {
    const uint32_t at = work.back();
    work.pop_back();
    uses.ForEach(at, [&](uint32_t user) {
      const Instruction& each = program.code[user];
      if (empty[user] || each.kind == Instruction::kByte) return;
      if (each.kind == Instruction::kCall && !(empty[each.a] && empty[each.b])) return;
      empty[user] = true;
      work.push_back(user);
    });
  }
  return empty;
}

// A rule that calls itself first would put frames on the stack without end.
Status CheckFirstCalls(const Grammar& grammar, const Program& program,
                       const std::vector<uint32_t>& entries, const Uses& uses, Budget* budget) {
  std::vector<uint32_t> rule_at(program.code.size(), kNever);
  const auto end = [&](uint32_t place) {
    for (int hops = 0; hops < 64 && program.code[place].kind == Instruction::kJump; ++hops) {
      place = program.code[place].a;
    }
    return place;
  };
  for (uint32_t rule = 0; rule < entries.size(); ++rule) {
    if (entries[rule] != kNever) rule_at[end(entries[rule])] = rule;
  }
  const std::vector<bool> empty = EmptyWays(program, uses, budget);
  std::vector<uint32_t> seen(program.code.size(), 0);
  std::vector<std::vector<uint32_t>> calls(entries.size());
  uint32_t stamp = 0;
  for (uint32_t rule = 0; rule < entries.size(); ++rule) {
    if (entries[rule] == kNever) continue;
    std::vector<uint32_t> places;
    FirstCalls(program, entries[rule], empty, &places, &seen, ++stamp, budget);
    for (const uint32_t place : places) {
      if (rule_at[place] != kNever) calls[rule].push_back(rule_at[place]);
    }
  }
  // Depth first over rules: 1 is on the way, 2 is done.
  std::vector<uint8_t> mark(entries.size(), 0);
  for (uint32_t root = 0; root < entries.size(); ++root) {
    std::vector<std::pair<uint32_t, size_t>> way = {{root, 0}};
    if (mark[root] != 0) continue;
    mark[root] = 1;
    while (!way.empty()) {
      auto& [rule, next] = way.back();
      if (next == calls[rule].size()) {
        mark[rule] = 2;
        way.pop_back();
        continue;
      }
      const uint32_t callee = calls[rule][next++];
      if (mark[callee] == 1) {
        return Error(ENGINE_INVALID_ARGUMENT, "'", grammar.name(callee),
                     "' stands for itself before anything is written; what refers to itself must "
                     "do so inside of an object or a list");
      }
      if (mark[callee] == 0) {
        mark[callee] = 1;
        way.push_back({callee, 0});
      }
    }
  }
  return Status();
}

// Bytes that are in the same sets are one class.
void MakeClasses(Program* program) {
  std::vector<uint32_t> of(256, 0);
  uint32_t count = 1;
  for (const ByteSet& set : program->sets) {
    if (count == 256) break;
    // Each class falls into those within the set and those outside.
    std::vector<uint32_t> inside(count, kNever), outside(count, kNever);
    uint32_t fresh = 0;
    for (uint32_t b = 0; b < 256; ++b) {
      uint32_t& number = (set.test(b) ? inside : outside)[of[b]];
      if (number == kNever) number = fresh++;
      of[b] = number;
    }
    count = fresh;
  }
  program->representative.assign(count, 0);
  for (uint32_t b = 0; b < 256; ++b) {
    program->classes[b] = static_cast<uint8_t>(of[b]);
    program->representative[of[b]] = static_cast<uint8_t>(b);
  }
}

}  // namespace

Status BuildProgram(Grammar* grammar, Node root, const ByteSet& alphabet,
                    std::shared_ptr<const Program>* program) {
  ENGINE_RETURN_IF_ERROR(grammar->status());
  auto made = std::make_shared<Program>();
  // The parts between brackets are called as well.
  made->nesting = grammar->limits().nesting + 1;
  Emitter emitter(grammar, alphabet, made.get());
  emitter.Run(root);
  ENGINE_RETURN_IF_ERROR(grammar->status());
  const Uses uses(*made);
  ENGINE_RETURN_IF_ERROR(
      CheckFirstCalls(*grammar, *made, emitter.entries(), uses, grammar->budget()));
  Needs(made.get(), uses, grammar->budget());
  if (!grammar->ok()) return grammar->status();
  if (made->need[made->start] == kNever) {
    if (alphabet.all()) {
      return Error(ENGINE_INVALID_ARGUMENT, "no text fits the form, or none with at most ",
                   grammar->limits().nesting, " brackets open", grammar->note().empty() ? "" : "; ",
                   grammar->note());
    }
    ENGINE_RETURN_IF_ERROR(BuildProgram(grammar, root, ByteSet().set(), program));
    program->reset();
    return Error(ENGINE_FAILED_PRECONDITION, "the vocabulary has only ", alphabet.count(),
                 " of 256 bytes as tokens of their own, and no text of the form can be spelled "
                 "with these");
  }
  MakeClasses(made.get());
  made->code.shrink_to_fit();
  *program = std::move(made);
  return Status();
}

}  // namespace engine::guided
