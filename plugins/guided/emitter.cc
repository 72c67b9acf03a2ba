// Writes a syntax tree as instructions.
#include "emitter.h"

#include <algorithm>

#include "utf8_paths.h"

namespace engine::guided {
namespace {

struct ShortEscape {
  char code, letter;
};
constexpr ShortEscape kShort[] = {{'"', '"'},  {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'},
                                  {'\n', 'n'}, {'\r', 'r'},  {'\t', 't'}};

ByteSet One(char c) { return ByteSet().set(static_cast<uint8_t>(c)); }
ByteSet Span(uint32_t low, uint32_t high) {
  ByteSet set;
  for (uint32_t b = low; b <= high; ++b) set.set(b);
  return set;
}

}  // namespace

Emitter::Emitter(Grammar* grammar, const ByteSet& alphabet, Program* program)
    : grammar_(*grammar), alphabet_(alphabet), program_(*program) {
  fail_ = Add(Instruction::kFail);
}

uint32_t Emitter::Add(Instruction::Kind kind, uint32_t a, uint32_t b) {
  if (!grammar_.ok()) return fail_;
  if (program_.code.size() >= grammar_.limits().instructions) {
    grammar_.Fail(Error(ENGINE_INVALID_ARGUMENT, "the form needs more than ",
                        grammar_.limits().instructions,
                        " instructions; fewer alternatives or smaller bounds would do"));
    return fail_;
  }
  program_.code.push_back({kind, a, b});
  return static_cast<uint32_t>(program_.code.size() - 1);
}

uint32_t Emitter::SetOf(const ByteSet& set) {
  const auto [it, fresh] = sets_.try_emplace(set, static_cast<uint32_t>(program_.sets.size()));
  if (fresh) program_.sets.push_back(set);
  return it->second;
}

uint32_t Emitter::Bytes(const ByteSet& set, uint32_t next) {
  const ByteSet spelled = set & alphabet_;
  if (spelled.none() || next == fail_) return fail_;
  const uint32_t number = SetOf(spelled);
  const auto [it, fresh] = bytes_.try_emplace(uint64_t{number} << 32 | next, 0);
  if (fresh) it->second = Add(Instruction::kByte, number, next);
  return it->second;
}

uint32_t Emitter::Split(const std::vector<uint32_t>& ways) {
  uint32_t place = fail_;
  for (size_t i = ways.size(); i-- > 0;) {
    if (ways[i] == fail_ || ways[i] == place) continue;
    place = place == fail_ ? ways[i] : Add(Instruction::kSplit, ways[i], place);
  }
  return place;
}

void Emitter::Patch(uint32_t place, const std::vector<uint32_t>& ways) {
  const uint32_t target = Split(ways);
  if (place != fail_) program_.code[place] = {Instruction::kJump, target, 0};
}

uint32_t Emitter::Emit(Node node, uint32_t next, bool quoted) {
  if (!grammar_.ok()) return fail_;
  const Grammar::Data data = grammar_.at(node);
  switch (data.op) {
    case Op::kNothing:
      return fail_;
    case Op::kEmpty:
      return next;
    case Op::kClass:
      return EmitClass(grammar_.set(node), next, quoted);
    case Op::kText:
      return EmitText(grammar_.text(node), next, quoted);
    case Op::kSequence:
      for (uint32_t i = data.count; i-- > 0;) next = Emit(grammar_.child(node, i), next, quoted);
      return next;
    case Op::kEither: {
      std::vector<uint32_t> ways;
      for (uint32_t i = 0; i < data.count; ++i) {
        ways.push_back(Emit(grammar_.child(node, i), next, quoted));
      }
      return Split(ways);
    }
    case Op::kRepeat:
      return EmitRepeat(node, next, quoted);
    case Op::kQuoted:
      return Emit(grammar_.child(node, 0), next, true);
    case Op::kCall: {
      entries_.resize(grammar_.rules(), kNever);
      if (entries_[data.first] == kNever) {
        entries_[data.first] = Add(Instruction::kJump, fail_);
        wanted_.push_back(data.first);
      }
      return Add(Instruction::kCall, entries_[data.first], next);
    }
    case Op::kGraph:
      return EmitGraph(grammar_.graph(node), next, quoted);
    case Op::kTexts: {
      const std::vector<std::string>& texts = grammar_.texts(node);
      return EmitTexts(texts.data(), texts.data() + texts.size(), 0, next);
    }
  }
  return fail_;
}

void Emitter::EmitPlain(const CodeSet& set, uint32_t next, std::vector<uint32_t>* ways) {
  // First bytes that lead to the same place are one set.
  std::map<uint32_t, ByteSet> first;
  for (const Utf8Path& path : Utf8Paths(set)) {
    uint32_t place = next;
    for (uint32_t i = path.count; i-- > 1;) {
      place = Bytes(Span(path.bytes[i].low, path.bytes[i].high), place);
    }
    if (place != fail_) first[place] |= Span(path.bytes[0].low, path.bytes[0].high);
  }
  for (const auto& [place, bytes] : first) ways->push_back(Bytes(bytes, place));
}

void Emitter::EmitEscapes(const CodeSet& set, uint32_t next, std::vector<uint32_t>* ways) {
  ByteSet letters, low[2];
  for (uint32_t code = 0; code < 0x20; ++code) {
    const bool is_short =
        std::any_of(std::begin(kShort), std::end(kShort),
                    [&](const ShortEscape& e) { return e.code == static_cast<char>(code); });
    if (is_short || !set.Has(code)) continue;
    const uint32_t digit = code & 15;
    low[code >> 4] |= digit < 10 ? One(static_cast<char>('0' + digit))
                                 : One(static_cast<char>('a' + digit - 10)) |
                                       One(static_cast<char>('A' + digit - 10));
  }
  for (const ShortEscape& e : kShort) {
    if (set.Has(static_cast<uint8_t>(e.code))) letters |= One(e.letter);
  }
  const uint32_t first = Bytes(One('0'), Bytes(low[0], next));
  const uint32_t second = Bytes(One('1'), Bytes(low[1], next));
  const uint32_t zeros = Bytes(One('0'), Bytes(One('0'), Split({first, second})));
  const uint32_t escape = Split({Bytes(letters, next), Bytes(One('u'), zeros)});
  ways->push_back(Bytes(One('\\'), escape));
}

uint32_t Emitter::EmitClass(const CodeSet& set, uint32_t next, bool quoted) {
  static const CodeSet escaped{{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};
  static const CodeSet plain = escaped.Not();
  if (next == fail_) return fail_;
  std::vector<uint32_t> ways;
  EmitPlain(quoted ? set.And(plain) : set, next, &ways);
  if (quoted && !set.And(escaped).empty()) EmitEscapes(set, next, &ways);
  return Split(ways);
}

uint32_t Emitter::EmitText(std::string_view text, uint32_t next, bool quoted) {
  if (!quoted) {
    for (size_t i = text.size(); i-- > 0;) next = Bytes(One(text[i]), next);
    return next;
  }
  for (size_t i = text.size(); i-- > 0;) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (byte < 0x20 || byte == '"' || byte == '\\') {
      next = EmitClass(CodeSet::Of(byte), next, true);
    } else {
      next = Bytes(One(text[i]), next);
    }
  }
  return next;
}

uint32_t Emitter::EmitRepeat(Node node, uint32_t next, bool quoted) {
  const Grammar::Data data = grammar_.at(node);
  const Node child = grammar_.child(node, 0);
  if (next == fail_) return fail_;
  if (grammar_.Counts(node)) {
    const auto number = static_cast<uint32_t>(program_.loops.size());
    program_.loops.push_back({data.min, data.max, 0, 0, next});
    const uint32_t head = Add(Instruction::kHead, number);
    const uint32_t body = Emit(child, Add(Instruction::kNext, number), quoted);
    program_.loops[number].head = head;
    program_.loops[number].body = body;
    return Add(Instruction::kEnter, number);
  }
  uint32_t done = data.min;  // copies that must be there
  if (data.max == kInfinite) {
    const uint32_t head = Add(Instruction::kJump, fail_);
    const uint32_t body = Emit(child, head, quoted);
    Patch(head, {body, next});
    next = head;
    if (done > 0) {  // the first round of the star is the last that must be there
      next = body;
      --done;
    }
  } else {
    const uint32_t exit = next;
    for (uint32_t i = data.min; i < data.max; ++i) {
      next = Split({Emit(child, next, quoted), exit});
    }
  }
  for (uint32_t i = 0; i < done; ++i) next = Emit(child, next, quoted);
  return next;
}

uint32_t Emitter::EmitGraph(const Graph& graph, uint32_t next, bool quoted) {
  if (next == fail_) return fail_;
  std::vector<uint32_t> places;
  for (size_t i = 0; i < graph.states.size(); ++i) {
    places.push_back(Add(Instruction::kJump, fail_));
  }
  for (size_t i = 0; i < graph.states.size(); ++i) {
    std::vector<uint32_t> ways;
    for (const Graph::Edge& edge : graph.states[i].edges) {
      ways.push_back(Emit(edge.label, places[edge.to], quoted));
    }
    if (graph.states[i].accepts) ways.push_back(next);
    Patch(places[i], ways);
  }
  return places[0];
}

// Of sorted texts that agree before `at`. It calls itself where texts part, which takes a text for
// every level: 256 KiB of them have no more than some hundreds.
uint32_t Emitter::EmitTexts(const std::string* begin, const std::string* end, size_t at,
                            uint32_t next) {
  if (!grammar_.ok()) return fail_;
  size_t parts = at;  // where they part, or the first one ends
  const std::string& last = *(end - 1);
  while (parts < begin->size() && parts < last.size() && (*begin)[parts] == last[parts]) ++parts;
  std::vector<uint32_t> ways;
  const std::string& first = *begin;
  if (begin->size() == parts) {
    ways.push_back(next);
    ++begin;
  }
  while (begin != end) {
    const char c = (*begin)[parts];
    const std::string* group = begin;
    while (group != end && (*group)[parts] == c) ++group;
    ways.push_back(Bytes(One(c), EmitTexts(begin, group, parts + 1, next)));
    begin = group;
  }
  uint32_t place = Split(ways);
  for (size_t i = parts; i-- > at;) place = Bytes(One(first[i]), place);
  return place;
}

void Emitter::ShortenJumps() {
  std::vector<Instruction>& code = program_.code;
  const auto end = [&](uint32_t place) {
    for (int hops = 0; hops < 64 && code[place].kind == Instruction::kJump; ++hops) {
      place = code[place].a;
    }
    return place;
  };
  for (Instruction& each : code) {
    switch (each.kind) {
      case Instruction::kSplit:
      case Instruction::kCall:
        each.a = end(each.a);
        each.b = end(each.b);
        break;
      case Instruction::kByte:
        each.b = end(each.b);
        break;
      case Instruction::kJump:
        each.a = end(each.a);
        break;
      default:
        break;
    }
  }
  for (Loop& loop : program_.loops) {
    loop.body = end(loop.body);
    loop.exit = end(loop.exit);
  }
  program_.start = end(program_.start);
}

void Emitter::Run(Node root) {
  program_.start = Emit(root, Add(Instruction::kMatch), false);
  const uint32_t end = Add(Instruction::kReturn);
  while (!wanted_.empty() && grammar_.ok()) {
    const Rule rule = wanted_.back();
    wanted_.pop_back();
    const uint32_t body = Emit(grammar_.definition(rule), end, false);
    program_.code[entries_[rule]] = {Instruction::kJump, body, 0};
  }
  entries_.resize(grammar_.rules(), kNever);
  if (grammar_.ok()) ShortenJumps();
}

}  // namespace engine::guided
