// CheckFields: does each field of the text exist, once, with a value that fits? Its answers are in
// the words of the pipeline's author; protobuf's parser, which runs after it, only repeats the
// work.
#include <google/protobuf/descriptor.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <map>

#include "engine/graph/diagnostic.h"
#include "engine/graph/reader.h"
#include "engine/graph/refused.h"
#include "engine/graph/suggest.h"

namespace engine::graph {

namespace pb = google::protobuf;

namespace {

using Field = pb::FieldDescriptor;

// Whole numbers as protobuf writes them: 12, -3, 0x1F, 017.
bool ParseWhole(std::string_view text, bool* negative, uint64_t* value) {
  *negative = !text.empty() && text[0] == '-';
  if (*negative) text.remove_prefix(1);
  int base = 10;
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;
  }
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value, base);
  return error == std::errc() && end == text.data() + text.size();
}

// What is wrong with a whole number for a field; empty if nothing.
std::string WholeProblem(const Field& field, const OutlineValue& value) {
  bool negative = false;
  uint64_t number = 0;
  const Field::CppType type = field.cpp_type();
  const bool is_unsigned = type == Field::CPPTYPE_UINT32 || type == Field::CPPTYPE_UINT64;
  const bool is_wide = type == Field::CPPTYPE_INT64 || type == Field::CPPTYPE_UINT64;
  const bool digits =
      value.type == OutlineValue::Type::kNumber &&
      value.text.find_first_not_of("-0123456789xXabcdefABCDEF") == std::string::npos;
  if (!digits) return "takes a whole number, not " + value.text;
  if (!ParseWhole(value.text, &negative, &number)) {
    const bool hex = value.text.find_first_of("xX") != std::string::npos;
    const bool looks_whole =
        hex || value.text.find_first_not_of("-0123456789") == std::string::npos;
    return looks_whole ? "takes no number as great as " + value.text
                       : "takes a whole number, not " + value.text;
  }
  if (negative && is_unsigned) return "takes no number below 0, and this is " + value.text;
  const uint64_t most =
      is_unsigned ? (is_wide ? UINT64_MAX : UINT32_MAX)
                  : (is_wide ? static_cast<uint64_t>(INT64_MAX) : INT32_MAX) + (negative ? 1 : 0);
  if (number > most) {
    return "takes no number " + std::string(negative ? "as small as " : "as great as ") +
           value.text;
  }
  return "";
}

class Walker {
 public:
  Walker(const Schema& schema, Reporter* reporter) : schema_(schema), reporter_(reporter) {}

  void Block(const pb::Descriptor& message, OutlineBlock* block) {
    std::map<const Field*, const OutlineField*> seen;
    std::map<const pb::OneofDescriptor*, const OutlineField*> chosen;
    for (OutlineField& field : block->fields) {
      if (field.bad) continue;
      const Field* known = message.FindFieldByName(field.name);
      if (known == nullptr) {
        Unknown(message, *block, field);
        field.bad = true;
        continue;
      }
      if (!known->is_repeated()) {
        auto [first, fresh] = seen.emplace(known, &field);
        if (!fresh || field.values.size() != 1) {
          Diagnostic& d =
              reporter_->Error(field.name_span, Quote(field.name) + " can be given once");
          if (!fresh) d.At(first->second->name_span, "the first is here");
          field.bad = true;
          continue;
        }
      }
      if (const pb::OneofDescriptor* oneof = known->containing_oneof()) {
        auto [first, fresh] = chosen.emplace(oneof, &field);
        if (!fresh) {
          const std::string what = &message == &schema_.node()       ? "a node has one kind"
                                   : &message == &schema_.resource() ? "a resource has one kind"
                                                                     : "only one can be given";
          reporter_
              ->Error(field.name_span, Quote(first->second->name) + " and " + Quote(field.name) +
                                           " in one block: " + what)
              .At(first->second->name_span, "the first is here");
          field.bad = true;
          continue;
        }
      }
      for (OutlineValue& value : field.values) Value(*known, field, &value);
    }
  }

 private:
  void Bad(OutlineField& field, const Span& at, std::string message, std::string hint) {
    reporter_->Error(at, Quote(field.name) + " " + std::move(message)).Hint(std::move(hint));
    field.bad = true;
  }

  void Value(const Field& known, OutlineField& field, OutlineValue* value) {
    const bool is_block = value->type == OutlineValue::Type::kBlock;
    if (known.cpp_type() == Field::CPPTYPE_MESSAGE) {
      if (!is_block) {
        Bad(field, value->span, "takes a block", "write " + field.name + " { ... }");
      } else {
        Block(*known.message_type(), value->block.get());
      }
      return;
    }
    if (is_block) {
      Bad(field, value->span, "takes a value, not a block", "");
      return;
    }
    switch (known.cpp_type()) {
      case Field::CPPTYPE_STRING:
        if (value->type != OutlineValue::Type::kText) {
          Bad(field, value->span, "takes a text, not " + value->text,
              "write " + field.name + ": " + Quote(value->text));
        }
        break;
      case Field::CPPTYPE_BOOL: {
        const std::string& t = value->text;
        const bool good =
            value->type == OutlineValue::Type::kWord
                ? t == "true" || t == "false" || t == "True" || t == "False" || t == "t" || t == "f"
                : value->type == OutlineValue::Type::kNumber && (t == "0" || t == "1");
        if (!good) {
          Bad(field, value->span, "takes true or false, not " + Shown(*value),
              Nearest(t, {"true", "false"}).empty() ? ""
                                                    : DidYouMean(t, {"true", "false"}, "values"));
        }
        break;
      }
      case Field::CPPTYPE_ENUM:
        EnumValue(known, field, *value);
        break;
      case Field::CPPTYPE_FLOAT:
      case Field::CPPTYPE_DOUBLE: {
        const std::string_view t =
            std::string_view(value->text).substr(value->text.rfind('-', 0) == 0 ? 1 : 0);
        const bool word = t == "inf" || t == "nan" || t == "infinity";
        if (value->type == OutlineValue::Type::kText ||
            (value->type == OutlineValue::Type::kWord && !word)) {
          Bad(field, value->span, "takes a number, not " + Shown(*value), "");
        }
        break;
      }
      default:
        if (value->type == OutlineValue::Type::kText) {
          Bad(field, value->span, "takes a whole number, not " + Shown(*value), "");
        } else if (std::string problem = WholeProblem(known, *value); !problem.empty()) {
          Bad(field, value->span, problem, "");
        }
    }
  }

  static std::string Shown(const OutlineValue& value) {
    return value.type == OutlineValue::Type::kText ? "the text " + Quote(value.text) : value.text;
  }

  void EnumValue(const Field& known, OutlineField& field, const OutlineValue& value) {
    const pb::EnumDescriptor& type = *known.enum_type();
    std::vector<std::string> names;
    for (int i = 0; i < type.value_count(); ++i) names.push_back(type.value(i)->name());
    if (value.type == OutlineValue::Type::kWord) {
      if (type.FindValueByName(value.text) == nullptr) {
        Bad(field, value.span, "has no value " + value.text,
            DidYouMean(value.text, names, "values"));
      }
    } else if (value.type == OutlineValue::Type::kText) {
      Bad(field, value.span, "takes a word without quotes",
          type.FindValueByName(value.text) != nullptr ? "write " + field.name + ": " + value.text
                                                      : DidYouMean(value.text, names, "values"));
    } else {
      bool negative = false;
      uint64_t number = 0;
      const bool good = ParseWhole(value.text, &negative, &number) && number <= INT32_MAX &&
                        type.FindValueByNumber(negative ? -static_cast<int>(number)
                                                        : static_cast<int>(number)) != nullptr;
      if (!good)
        Bad(field, value.span, "has no value " + value.text, DidYouMean("", names, "values"));
    }
  }

  static std::vector<std::string> Names(const pb::Descriptor& message, bool kinds) {
    std::vector<std::string> names;
    for (int i = 0; i < message.field_count(); ++i) {
      if (IsKindField(*message.field(i)) == kinds) names.push_back(message.field(i)->name());
    }
    return names;
  }

  void Unknown(const pb::Descriptor& message, const OutlineBlock& block,
               const OutlineField& field) {
    const bool is_node = &message == &schema_.node(), is_resource = &message == &schema_.resource();
    const bool is_block =
        !field.values.empty() && field.values[0].type == OutlineValue::Type::kBlock;
    if ((is_node || is_resource) && is_block) return UnknownKind(message, block, field, is_node);
    Diagnostic& d = reporter_->Error(
        field.name_span, "unknown " + std::string(IsOptions(message) ? "option " : "field ") +
                             Quote(field.name) + " in " + Owner(message));
    std::vector<std::string> names = Names(message, false);
    if (names.empty()) names = Names(message, true);  // an options message with great numbers
    d.Hint(names.empty() ? "it takes no options" : DidYouMean(field.name, names, "names"));
  }

  bool IsOptions(const pb::Descriptor& message) const {
    return message.file() != schema_.pipeline().file() || message.name() == "NoOptions" ||
           message.name().rfind("Subgraph_", 0) == 0;
  }

  std::string Owner(const pb::Descriptor& message) const {
    if (message.full_name() == "engine.NoOptions") return "a kind without options";
    for (const pb::Descriptor* block : {&schema_.node(), &schema_.resource()}) {
      for (int i = 0; i < block->field_count(); ++i) {
        const Field& field = *block->field(i);
        if (IsKindField(field) && field.message_type() == &message) return field.name();
      }
    }
    std::string name = message.name();
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return name;
  }

  void UnknownKind(const pb::Descriptor& message, const OutlineBlock& block,
                   const OutlineField& field, bool is_node) {
    const abi::KindIndex& index = schema_.index();
    const pb::Descriptor& other = is_node ? schema_.resource() : schema_.node();
    const std::string here = is_node ? "node" : "resource", there = is_node ? "resource" : "node";
    if (const Field* kind = other.FindFieldByName(field.name); kind && IsKindField(*kind)) {
      reporter_->Error(field.name_span, Quote(field.name) + " is a kind of " + there)
          .Hint("write it in a " + there + " { ... } block");
      return;
    }
    Diagnostic& d = reporter_->Error(field.name_span, "unknown kind " + Quote(field.name));
    bool refused = false;
    for (const abi::Refusal& refusal : index.refused) {
      for (const std::string& kind : refusal.kinds) {
        if (kind != field.name) continue;
        refused = true;
        const OutlineValue* name = block.Find("name");
        HintRefused(
            refusal, "has it",
            here + (name == nullptr ? "" : " " + Quote(name->text)) + " (" + field.name + ")", &d);
      }
    }
    if (refused) return;
    const std::vector<std::string> kinds = Names(message, true);
    std::vector<std::string> all = kinds;
    for (const std::string& name : Names(message, false)) {
      if (message.FindFieldByName(name)->message_type() != nullptr) all.push_back(name);
    }
    const std::string near = Nearest(field.name, all);
    if (near.empty()) {
      const std::string far = Nearest(field.name, Names(other, true));
      if (!far.empty()) {
        d.Hint("did you mean the kind of " + there + " " + Quote(far) + "?");
      } else {
        d.Hint(DidYouMean("", kinds, "kinds of " + here));
      }
      for (const abi::Refusal& refusal : index.refused) {
        if (refusal.kinds.empty()) {
          d.Hint("or it is in a plugin that was refused: " +
                 (refusal.id.empty() ? refusal.path : refusal.id) + ": " + refusal.reason);
        }
      }
      return;
    }
    std::string hint = "did you mean " + Quote(near);
    if (const abi::Kind* kind = index.Find(near)) {
      const abi::Plugin* plugin = index.FindPlugin(kind->plugin);
      hint += " (plugin " + kind->plugin +
              (plugin == nullptr || plugin->version.empty() ? "" : " " + plugin->version) + ")";
    } else if (schema_.FindSubgraph(near) != nullptr) {
      hint += " (a subgraph)";
    }
    d.Hint(hint + "?");
  }

  const Schema& schema_;
  Reporter* reporter_;
};

}  // namespace

void CheckFields(const Schema& schema, const pb::Descriptor& message, OutlineBlock* block,
                 Reporter* reporter) {
  Walker(schema, reporter).Block(message, block);
}

}  // namespace engine::graph
