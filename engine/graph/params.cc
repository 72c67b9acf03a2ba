#include "engine/graph/params.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "engine/graph/diagnostic.h"
#include "engine/graph/suggest.h"

namespace engine::graph {

namespace pb = google::protobuf;

namespace {

using Field = pb::FieldDescriptor;

class Silent : public pb::io::ErrorCollector {
  void AddError(int, int, const std::string&) override {}
};

std::string Expected(const Field& field) {
  switch (field.cpp_type()) {
    case Field::CPPTYPE_BOOL:
      return "true or false";
    case Field::CPPTYPE_FLOAT:
    case Field::CPPTYPE_DOUBLE:
      return "a number";
    case Field::CPPTYPE_UINT32:
      return "a whole number from 0 to 4294967295";
    case Field::CPPTYPE_UINT64:
      return "a whole number that is not below 0";
    case Field::CPPTYPE_INT32:
      return "a whole number from -2147483648 to 2147483647";
    case Field::CPPTYPE_ENUM: {
      std::string words = "one of";
      for (int i = 0; i < field.enum_type()->value_count(); ++i) {
        words += (i > 0 ? ", " : " ") + field.enum_type()->value(i)->name();
      }
      return words;
    }
    default:
      return "a whole number";
  }
}

bool SetOne(const Field& field, const std::string& value, pb::Message* message) {
  const pb::Reflection* reflection = message->GetReflection();
  if (field.cpp_type() == Field::CPPTYPE_STRING) {
    if (field.is_repeated()) {
      reflection->AddString(message, &field, value);
    } else {
      reflection->SetString(message, &field, value);
    }
    return true;
  }
  Silent silent;
  pb::TextFormat::Parser parser;
  parser.RecordErrorsTo(&silent);
  return parser.ParseFieldValueFromString(value, &field, message);
}

bool SetField(const Field& field, const std::string& value, pb::Message* message) {
  if (!field.is_repeated()) return SetOne(field, value, message);
  message->GetReflection()->ClearField(message, &field);
  for (size_t begin = 0; begin <= value.size();) {
    const size_t end = std::min(value.find(',', begin), value.size());
    if (!SetOne(field, value.substr(begin, end - begin), message)) return false;
    begin = end + 1;
  }
  return true;
}

bool FitsType(OptionType type, const std::string& value) {
  const char* end = value.data() + value.size();
  int64_t whole = 0;
  double number = 0;
  switch (type) {
    case OptionType::kText:
      return true;
    case OptionType::kBool:
      return value == "true" || value == "false";
    case OptionType::kInteger: {
      auto [stop, error] = std::from_chars(value.data(), end, whole);
      return error == std::errc() && stop == end;
    }
    case OptionType::kNumber: {
      auto [stop, error] = std::from_chars(value.data(), end, number);
      return error == std::errc() && stop == end;
    }
  }
  return true;
}

const char* const kTypeWords[] = {"a text", "a whole number", "a number", "true or false"};

// The value of a subgraph's option where it is used, as text; false when it is not set there.
bool InstanceValue(const Block& instance, const std::string& name, std::string* value, Span* at) {
  const Field* field = instance.message->GetDescriptor()->FindFieldByName(name);
  if (field == nullptr || !instance.Has(name.c_str())) return false;
  if (field->cpp_type() == Field::CPPTYPE_STRING) {
    *value = instance.Text(name.c_str());
  } else {
    pb::TextFormat::PrintFieldValueToString(*instance.message, field, -1, value);
  }
  *at = instance.At(name);
  return true;
}

std::vector<std::string> OptionNames(const pb::Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  return names;
}

// Fields of Node and Resource that may be set from outside; the others are the graph's shape.
const std::set<std::string, std::less<>> kSettable = {
    "bypass", "executor", "policy", "batch_max", "batch_wait_us", "max_in_flight"};

// Puts a value into the copy of an item's outline, so that errors about it show where it was given.
// A bad value leaves a bad field, which says that the field is not simply missing.
void Overlay(OutlineBlock* block, const std::vector<std::string>& path, size_t i,
             const Assignment& a, bool bad = false) {
  OutlineField field;
  field.name = path[i];
  field.name_span = a.path_span;
  field.span = a.value_span;
  OutlineValue value;
  value.span = a.value_span;
  value.text = a.value;
  if (i + 1 < path.size()) {
    for (OutlineField& existing : block->fields) {
      if (existing.bad || existing.name != path[i] || existing.values.empty()) continue;
      auto& child = existing.values[0].block;
      child = std::make_shared<OutlineBlock>(*child);
      return Overlay(child.get(), path, i + 1, a, bad);
    }
    value.type = OutlineValue::Type::kBlock;
    value.block = std::make_shared<OutlineBlock>();
    value.block->span = a.value_span;
    Overlay(value.block.get(), path, i + 1, a, bad);
  } else {
    value.type = OutlineValue::Type::kText;
    field.bad = bad;
    std::erase_if(block->fields,
                  [&](const OutlineField& f) { return !f.bad && f.name == path[i]; });
  }
  field.values.push_back(std::move(value));
  block->fields.push_back(std::move(field));
}

std::vector<std::string> SplitPath(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    parts.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// limits.x and trace.x of the main file.
void SetPipelineField(const std::string& block, const std::string& name, Assignment a, Block main,
                      Reporter* reporter) {
  const Field* outer = main.message->GetDescriptor()->FindFieldByName(block);
  const Field* field = outer->message_type()->FindFieldByName(name);
  if (field == nullptr) {
    reporter
        ->Error(a.path_span.Part(block.size() + 1, name.size()),
                block + " has no field " + Quote(name))
        .Hint(DidYouMean(name, OptionNames(*outer->message_type()), "fields"));
    return;
  }
  pb::Message* inner = main.message->GetReflection()->MutableMessage(main.message, outer);
  if (!SetField(*field, a.value, inner)) {
    reporter->Error(a.value_span, Quote(a.value) + " does not fit " + block + "." + name +
                                      ", which takes " + Expected(*field));
    return;
  }
  Overlay(main.outline, {block, name}, 0, a);
}

}  // namespace

CommandLine ReadCommandLine(const Overrides& overrides, const SourceFile& source, Block main,
                            Reporter* reporter) {
  CommandLine result;
  uint32_t begin = 0;
  auto span = [&](size_t from, size_t count) {
    return Span{&source, begin + static_cast<uint32_t>(from), static_cast<uint32_t>(count)};
  };
  for (const std::string& set : overrides.sets) {
    const size_t equals = set.find('=');
    const std::string path = set.substr(0, equals);
    if (equals == std::string::npos) {
      reporter->Error(span(0, set.size()), "--set takes path=value, and this has no '='");
    } else if (path.empty()) {
      reporter->Error(span(0, 1), "--set takes path=value, and this has no path");
    } else {
      const std::string value = set.substr(equals + 1);
      const Span path_span = span(0, equals), value_span = span(equals + 1, value.size());
      const size_t dot = path.find('.');
      if (dot == std::string::npos) {
        result.params.push_back({path, value, path_span, value_span, false});
      } else {
        Assignment a;
        a.target = path.substr(0, dot);
        a.path = path.substr(dot + 1);
        a.written = path;
        a.value = value;
        a.path_span = path_span;
        a.value_span = value_span;
        a.strength = Assignment::Strength::kSet;
        if (a.target == "limits" || a.target == "trace") {
          SetPipelineField(a.target, a.path, a, main, reporter);
        } else {
          result.assignments.push_back(std::move(a));
        }
      }
    }
    begin += static_cast<uint32_t>(set.size()) + 1;
  }
  for (const std::string& bare : overrides.positional) {
    result.bare.push_back({"", bare, span(0, bare.size()), span(0, bare.size()), false});
    begin += static_cast<uint32_t>(bare.size()) + 1;
  }
  return result;
}

void ReadParams(const std::vector<Block>& params, const std::string& prefix, const Block* instance,
                CommandLine* command_line, std::vector<Assignment>* assignments,
                std::vector<PlanParam>* result, Reporter* reporter) {
  const bool root = instance == nullptr;
  std::map<std::string, Span> names, paths;
  std::vector<std::string> all_names;
  Span positional;
  for (const Block& param : params) {
    PlanParam plan;
    plan.name = param.Text("name");
    plan.doc = param.Text("doc");
    plan.positional = param.Flag("positional");
    if (plan.name.empty()) continue;  // told by the check of needed fields
    if (!IsName(plan.name)) {
      reporter->Error(param.At("name"), "a name has letters, digits, '_' and '-' only");
      continue;
    }
    auto [first, fresh] = names.emplace(plan.name, param.At("name"));
    if (!fresh) {
      reporter->Error(param.At("name"), "a second param " + Quote(plan.name))
          .At(first->second, "the first is here");
      continue;
    }
    all_names.push_back(plan.name);
    if (plan.positional && !root) {
      reporter->Error(param.AtName("positional"), "a subgraph's param cannot be positional");
    } else if (plan.positional && positional) {
      reporter->Error(param.AtName("positional"), "a second positional param; at most one can be")
          .At(positional, "the first is here");
      plan.positional = false;
    } else if (plan.positional) {
      positional = param.AtName("positional");
    }

    Span value_at = param.At("default");
    plan.given = param.Has("default");
    plan.value = param.Text("default");
    Assignment::Strength strength = Assignment::Strength::kDefault;
    if (root) {
      auto take = [&](CommandLine::Value& value) {
        value.used = true;
        plan.given = plan.from_command_line = true;
        plan.value = value.value;
        value_at = value.value_span;
        strength = Assignment::Strength::kParam;
      };
      if (plan.positional && !command_line->bare.empty()) take(command_line->bare[0]);
      for (CommandLine::Value& value : command_line->params) {
        if (value.name == plan.name) take(value);
      }
    } else if (InstanceValue(*instance, plan.name, &plan.value, &value_at)) {
      plan.given = true;
      strength = Assignment::Strength::kParam;
    }

    bool good = true;
    if (plan.given) {
      const int type = param.Choice("type", 0);
      if (!FitsType(static_cast<OptionType>(type), plan.value)) {
        reporter->Error(value_at, Quote(plan.value) + " does not fit param " + Quote(plan.name) +
                                      ", which takes " + kTypeWords[type]);
        good = false;
      }
      std::vector<std::string> choices;
      for (int i = 0; i < param.Count("choices"); ++i) choices.push_back(param.Text("choices", i));
      if (!choices.empty() &&
          std::find(choices.begin(), choices.end(), plan.value) == choices.end()) {
        reporter
            ->Error(value_at,
                    Quote(plan.value) + " is not among the choices of param " + Quote(plan.name))
            .Hint(DidYouMean(plan.value, choices, "choices"));
        good = false;
      }
    }
    if (param.Count("sets") == 0 && !param.outline->damaged()) {
      reporter->Warning(param.At("name"), "param " + Quote(plan.name) + " sets nothing");
    }
    for (int i = 0; i < param.Count("sets"); ++i) {
      const std::string path = param.Text("sets", i);
      const Span at = param.At("sets", i);
      const size_t dot = path.find('.');
      if (dot == std::string::npos || dot == 0 || dot + 1 == path.size()) {
        reporter->Error(at, "sets takes node.option, or node.kind.option, not " + Quote(path));
        continue;
      }
      auto [other, first_path] = paths.emplace(path, at);
      if (!first_path) {
        reporter->Error(at, Quote(path) + " is set by another param too")
            .At(other->second, "the other is here");
        continue;
      }
      Assignment a;
      a.target = prefix + path.substr(0, dot);
      a.path = path.substr(dot + 1);
      a.written = path;
      a.value = plan.value;
      a.path_span = at;
      if (const OutlineValue* token = param.outline->Find("sets", static_cast<size_t>(i))) {
        a.path_span = token->Part(0, path.size());
      }
      a.value_span = value_at;
      a.strength = strength;
      a.param = plan.name;
      // Without a value the path must exist all the same: Apply checks it and sets nothing.
      if (!plan.given || !good) a.value_span = {};
      a.spoiled = !good;
      assignments->push_back(std::move(a));
    }
    result->push_back(std::move(plan));
  }
  if (!root) return;
  for (const CommandLine::Value& value : command_line->params) {
    if (value.used) continue;
    reporter->Error(value.name_span, "the pipeline has no param " + Quote(value.name))
        .Hint(DidYouMean(value.name, all_names, "params"))
        .Hint(all_names.empty() ? "options are set by --set node.option=value" : "");
  }
  for (size_t i = 0; i < command_line->bare.size(); ++i) {
    if (command_line->bare[i].used) continue;
    reporter->Error(command_line->bare[i].value_span,
                    i == 0 ? "the pipeline has no positional param for this argument"
                           : "one argument is enough: the pipeline has one positional param");
  }
}

void Apply(Assignment* a, Item* item, Reporter* reporter) {
  a->matched = true;
  const Field* kind = KindFieldOf(*item->message);
  std::vector<std::string> path = SplitPath(a->path);
  const pb::Descriptor* at = item->message->GetDescriptor();
  auto part_span = [&](size_t i) {
    size_t offset = a->written.size() - a->path.size();
    for (size_t k = 0; k < i; ++k) offset += path[k].size() + 1;
    if (a->path_span.length != a->written.size()) return a->path_span;
    return a->path_span.Part(offset, path[i].size());
  };
  const size_t as_written = path.size();
  if (kind != nullptr && path[0] != kind->name() &&
      (kind->message_type()->FindFieldByName(path[0]) != nullptr || !kSettable.count(path[0]))) {
    path.insert(path.begin(), kind->name());  // the kind's name was left out
  }
  if (kind == nullptr && !kSettable.count(path[0])) return;  // its missing kind is told already
  const size_t added = path.size() - as_written;

  const Field* field = nullptr;
  for (size_t i = 0; i < path.size(); ++i) {
    field = at->FindFieldByName(path[i]);
    if (field == nullptr) {
      std::vector<std::string> names = OptionNames(*at);
      if (i == added && added > 0) {
        names.push_back(kind->name());
        for (const std::string& name : kSettable) {
          if (item->message->GetDescriptor()->FindFieldByName(name)) names.push_back(name);
        }
      }
      if (added > 0) path.erase(path.begin());
      AddTrail(*item,
               reporter->Error(part_span(i - added),
                               Quote(at == kind->message_type() ? kind->name() : at->name()) +
                                   " has no option " + Quote(path[i - added])))
          .Hint(DidYouMean(path[i - added], names, "options"));
      return;
    }
    const bool last = i + 1 == path.size();
    const bool is_block = field->cpp_type() == Field::CPPTYPE_MESSAGE;
    if (last == is_block || (is_block && field->is_repeated())) {
      const std::string name = path[i];
      if (added > 0) path.erase(path.begin());
      Diagnostic& d = reporter->Error(
          part_span(i - added),
          is_block
              ? (field->is_repeated() ? Quote(name) + " is a list of blocks; set it in the file"
                                      : Quote(name) + " is a block; name one of its options")
              : Quote(name) + " is a value and has no options");
      if (is_block) d.Hint(DidYouMean("", OptionNames(*field->message_type()), "options"));
      return;
    }
    if (!last) at = field->message_type();
  }
  if (a->spoiled) Overlay(item->outline.get(), path, 0, *a, true);
  if (!a->value_span) return;  // a param without a value

  pb::Message* message = item->message.get();
  if (a->strength == Assignment::Strength::kDefault) {
    // What the file writes itself is stronger.
    const pb::Message* inside = message;
    for (size_t i = 0; i < path.size() && inside != nullptr; ++i) {
      const Field* step = inside->GetDescriptor()->FindFieldByName(path[i]);
      const pb::Reflection* reflection = inside->GetReflection();
      const bool set = step->is_repeated() ? reflection->FieldSize(*inside, step) > 0
                                           : reflection->HasField(*inside, step);
      if (!set) break;
      if (i + 1 == path.size()) {
        const OutlineBlock* block = item->outline.get();
        Span literal = item->head;
        for (const std::string& name : path) {
          const OutlineValue* value = block == nullptr ? nullptr : block->Find(name);
          if (value == nullptr) break;
          literal = value->span;
          block = value->block.get();
        }
        reporter
            ->Warning(a->value_span, "the default of param " + Quote(a->param) +
                                         " has no effect: the file sets " + a->written + " itself")
            .At(literal, "it is set here");
        return;
      }
      inside = &reflection->GetMessage(*inside, step);
    }
  }
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    message = message->GetReflection()->MutableMessage(
        message, message->GetDescriptor()->FindFieldByName(path[i]));
  }
  if (!SetField(*field, a->value, message)) {
    Diagnostic& d = reporter->Error(a->value_span, Quote(a->value) + " does not fit " + a->written +
                                                       ", which takes " + Expected(*field));
    if (field->cpp_type() == Field::CPPTYPE_ENUM) {
      std::vector<std::string> names;
      for (int i = 0; i < field->enum_type()->value_count(); ++i) {
        names.push_back(field->enum_type()->value(i)->name());
      }
      if (!Nearest(a->value, names).empty()) d.Hint(DidYouMean(a->value, names, "values"));
    }
    Overlay(item->outline.get(), path, 0, *a, true);
    return;
  }
  Overlay(item->outline.get(), path, 0, *a);
}

void ReportUnmatched(const std::vector<Assignment>& assignments,
                     const std::vector<std::string>& items, Reporter* reporter) {
  for (const Assignment& a : assignments) {
    if (a.matched) continue;
    const size_t length = a.written.find('.');
    Span at = a.path_span;
    if (at.length == a.written.size()) at = at.Part(0, length);
    const std::string name = a.written.substr(0, length);
    const std::string prefix = a.target.substr(0, a.target.size() - name.size());
    std::vector<std::string> near;
    for (const std::string& item : items) {
      if (item.rfind(prefix, 0) == 0) near.push_back(item.substr(prefix.size()));
    }
    if (prefix.empty() && a.strength == Assignment::Strength::kSet) {
      near.insert(near.end(), {"limits", "trace"});
    }
    reporter->Error(at, "no node or resource has the name " + Quote(name))
        .Hint(DidYouMean(name, near, "names"));
  }
}

}  // namespace engine::graph
