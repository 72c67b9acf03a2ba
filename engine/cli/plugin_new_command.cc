// engine plugin new: a plugin's project from the templates of the SDK, which are real files.
// Invariant: nothing is written unless all of it can be, and no file that is there is touched.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "engine/abi/describe.h"
#include "engine/abi/registry.h"
#include "engine/cli/commands.h"
#include "engine/graph/suggest.h"

namespace engine::cli {
namespace {

namespace fs = std::filesystem;
using graph::Quote;

// Words that a project's target, namespace or options cannot have as their name.
constexpr const char* kWordsOfCpp[] = {
    "alignas",   "alignof",      "and",      "and_eq",        "asm",       "auto",      "bitand",
    "bitor",     "bool",         "break",    "case",          "catch",     "char",      "char8_t",
    "char16_t",  "char32_t",     "class",    "compl",         "concept",   "const",     "consteval",
    "constexpr", "constinit",    "continue", "co_await",      "co_return", "co_yield",  "decltype",
    "default",   "delete",       "do",       "double",        "else",      "enum",      "explicit",
    "export",    "extern",       "false",    "float",         "for",       "friend",    "goto",
    "if",        "inline",       "int",      "long",          "mutable",   "namespace", "new",
    "noexcept",  "not",          "not_eq",   "nullptr",       "operator",  "or",        "or_eq",
    "private",   "protected",    "public",   "register",      "requires",  "return",    "short",
    "signed",    "sizeof",       "static",   "static_assert", "struct",    "switch",    "template",
    "this",      "thread_local", "throw",    "true",          "try",       "typedef",   "typeid",
    "typename",  "union",        "unsigned", "using",         "virtual",   "void",      "volatile",
    "wchar_t",   "while",        "xor",      "xor_eq",        "engine",    "std",       "linux",
    "unix"};
constexpr const char* kTargetsOfCMake[] = {"all",           "clean",   "edit_cache",
                                           "help",          "install", "package",
                                           "rebuild_cache", "test",    "engine_sdk"};

template <typename List>
bool Contains(const List& list, const std::string& word) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

// "my_node" -> "MyNode"
std::string ClassName(const std::string& name) {
  std::string out;
  bool begins = true;
  for (const char c : name) {
    if (c == '_') {
      begins = true;
      continue;
    }
    out += begins && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    begins = false;
  }
  return out;
}

Status CheckName(const std::string& name, const std::string& kind) {
  const bool lower = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
  if (!abi::IsIdentifier(name) || !lower || name[0] == '_' || name.back() == '_' ||
      name.find("__") != std::string::npos) {
    return Error(ENGINE_INVALID_ARGUMENT, "name ", Quote(name),
                 " cannot be a kind's: it takes small letters, digits and single '_' between them, "
                 "begins with a letter and has at most 64 characters");
  }
  if (Contains(kWordsOfCpp, name) || Contains(kTargetsOfCMake, name)) {
    return Error(ENGINE_INVALID_ARGUMENT, "name ", Quote(name), " is a word of ",
                 Contains(kWordsOfCpp, name) ? "C++" : "CMake", "; take another, such as \"my_",
                 name, "\"");
  }
  const abi::KindIndex& index = TheRegistry().index();
  std::vector<std::string> made = {name};
  if (kind == "resource") made.push_back(name + "_words");
  for (const std::string& each : made) {
    if (const abi::Kind* there = index.Find(each)) {
      const abi::Plugin* plugin = index.FindPlugin(there->plugin);
      return Error(ENGINE_ALREADY_EXISTS, "kind ", Quote(each), " is there already: plugin ",
                   there->plugin, " has it",
                   plugin != nullptr && !plugin->path.empty() ? ", " + plugin->path : "",
                   "; a pipeline could not tell them apart");
    }
    for (const abi::Refusal& refusal : index.refused) {
      if (!Contains(refusal.kinds, each)) continue;
      return Error(ENGINE_ALREADY_EXISTS, "kind ", Quote(each), " is there already: plugin ",
                   refusal.id, " has it, ", refusal.path, ", which was refused");
    }
  }
  return Status();
}

// The word of `right` that was meant, in its spelling.
Status Choose(const char* what, const std::string& written, const std::vector<std::string>& right,
              std::string* out) {
  for (const std::string& each : right) {
    if (graph::EditDistance(written, each, 0) != 0) continue;
    *out = each;
    return Status();
  }
  return Error(ENGINE_INVALID_ARGUMENT, "there is no ", what, " ", Quote(written), "; ",
               graph::DidYouMean(written, right, std::string(what) + "s"));
}

Status ReadWhole(const fs::path& path, std::string* out) {
  std::ifstream in(path, std::ios::binary);
  out->assign(std::istreambuf_iterator<char>(in), {});
  if (in.is_open() && !in.bad()) return Status();
  return Error(ENGINE_NOT_FOUND, "template ", path.string(), " cannot be read");
}

std::string Replaced(std::string text, const std::map<std::string, std::string>& words) {
  for (const auto& [word, value] : words) {
    for (size_t at = 0; (at = text.find(word, at)) != std::string::npos; at += value.size()) {
      text.replace(at, word.size(), value);
    }
  }
  return text;
}

// Files of a template folder, without ".in", filled in.
Status Fill(const fs::path& folder, const std::map<std::string, std::string>& words,
            std::map<std::string, std::string>* files) {
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (!it->is_regular_file() || it->path().extension() != ".in") continue;
    std::string text;
    ENGINE_RETURN_IF_ERROR(ReadWhole(it->path(), &text));
    std::string name = fs::relative(it->path(), folder).string();
    name.resize(name.size() - 3);
    (*files)[Replaced(name, words)] = Replaced(text, words);
  }
  if (!error) return Status();
  return Error(ENGINE_NOT_FOUND, "the templates of ", folder.string(),
               " are not there: ", error.message());
}

Status WriteFiles(const fs::path& folder, const std::map<std::string, std::string>& files) {
  std::error_code error;
  const fs::file_status there = fs::status(folder, error);
  if (fs::exists(there) && !(fs::is_directory(there) && fs::is_empty(folder, error))) {
    return Error(
        ENGINE_ALREADY_EXISTS, folder.string(),
        fs::is_directory(there) ? " is a folder that holds files" : " is there and is no folder",
        "; name another by --dir");
  }
  for (const auto& [name, text] : files) {
    const fs::path path = folder / name;
    fs::create_directories(path.parent_path(), error);
    std::ofstream out(path, std::ios::binary);
    out << text;
    out.close();
    if (!out) return Error(ENGINE_UNAVAILABLE, "file ", path.string(), " cannot be written");
  }
  return Status();
}

Status Make(const PluginNewArgs& args, fs::path* folder, std::vector<std::string>* names) {
  std::string kind, tier;
  ENGINE_RETURN_IF_ERROR(Choose("kind", args.kind, {"node", "transform", "resource"}, &kind));
  const std::string by_kind = kind == "transform" ? "STABLE" : "NONE";
  ENGINE_RETURN_IF_ERROR(
      Choose("tier", args.tier.empty() ? by_kind : args.tier, {"NONE", "STABLE", "NATIVE"}, &tier));
  if (kind == "resource" && tier != "NONE") {
    return Error(
        ENGINE_INVALID_ARGUMENT, "a resource of tier ", tier,
        " has no template: what a resource gives is an object of yours behind a C pointer, "
        "and none of LibTorch's; begin with --tier NONE, and set TIER in CMakeLists.txt when "
        "it comes to compute on tensors");
  }
  ENGINE_RETURN_IF_ERROR(CheckName(args.name, kind));

  std::string small = tier;
  for (char& c : small) c = static_cast<char>(c - 'A' + 'a');
  const bool cases = tier != "NONE" || kind == "transform";
  const std::map<std::string, std::string> words = {
      {"@NAME@", args.name},
      {"@CLASS@", ClassName(args.name)},
      {"@KIND@", kind},
      {"@TIER@", tier},
      {"@TEST@", args.name + (cases ? "_test.pbtxt" : "_test.cc")},
      {"@TIER_MEANS@",
       tier == "NONE" ? "It needs no LibTorch."
       : tier == "STABLE"
           ? "It is built against LibTorch's stable ABI, links nothing, and runs with "
             "later LibTorch releases as it is."
           : "It is written with LibTorch's C++ headers, and loads in the very LibTorch "
             "that it was built for."}};
  const fs::path templates = fs::path(abi::InstallPrefix()) / "share/engine/templates";
  std::map<std::string, std::string> files;
  ENGINE_RETURN_IF_ERROR(Fill(templates / "common", words, &files));
  ENGINE_RETURN_IF_ERROR(Fill(templates / (kind + "-" + small), words, &files));
  *folder = args.dir.empty() ? fs::path(args.name) : fs::path(args.dir);
  for (const auto& [name, text] : files) names->push_back(name);
  return WriteFiles(*folder, files);
}

}  // namespace

int PluginNewCommand(const PluginNewArgs& args) {
  fs::path folder;
  std::vector<std::string> files;
  const Status status = Make(args, &folder, &files);
  if (!status.ok()) {
    PrintStatus(status);
    return kBadInput;
  }
  const std::string in = folder.string();
  std::printf("%s:\n", in.c_str());
  for (const std::string& file : files) std::printf("  %s\n", file.c_str());
  std::error_code ignored;
  const fs::path prefix = abi::InstallPrefix();
  const bool installed = fs::exists(prefix / "lib/cmake/EngineSDK/EngineSDKConfig.cmake", ignored);
  std::printf("\nnext:\n");
  if (!installed) {
    std::printf("  cmake --install %s --prefix P      # P: where the SDK shall be\n",
                prefix.string().c_str());
  }
  std::printf(
      "  cmake -S %s -B %s/build -DCMAKE_PREFIX_PATH=%s -DCMAKE_BUILD_TYPE=Release\n"
      "  cmake --build %s/build\n"
      "  ctest --test-dir %s/build --output-on-failure\n"
      "  ENGINE_PLUGIN_PATH=%s/build engine run %s/%s.pbtxt \"The capital of France is\"\n",
      in.c_str(), in.c_str(), installed ? prefix.string().c_str() : "P", in.c_str(), in.c_str(),
      in.c_str(), in.c_str(), args.name.c_str());
  return kOk;
}

}  // namespace engine::cli
