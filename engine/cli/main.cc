// engine: the command line.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/abi/host.h"
#include "engine/cli/commands.h"
#include "engine/graph/suggest.h"
#include "engine/model/formats/mapped_guard.h"

namespace {

using engine::cli::PipelineArgs;

// One value an occurrence, so that a bare argument may follow.
void Repeated(CLI::Option* option) {
  option->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
}

// FILE [VALUE] [--set PATH=VALUE]...
void AddPipeline(CLI::App* app, PipelineArgs* args) {
  app->add_option("file", args->file, "Pipeline file (.pbtxt)")->required();
  app->add_option("value", args->positional, "Value of the param marked positional");
  Repeated(app->add_option("--set", args->sets, "PATH=VALUE or PARAM=VALUE; may be repeated"));
}

// What is wrong with the first of the leading words that names no command, or none of the command
// before it; CLI11 would only say that one is missing. Empty: they are good, or there are none.
std::string WrongCommand(const CLI::App& app, int argc, const char* const* argv) {
  const CLI::App* at = &app;
  std::string path;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    std::vector<std::string> commands;
    const CLI::App* next = nullptr;
    for (const CLI::App* command : at->get_subcommands([](const CLI::App*) { return true; })) {
      commands.push_back(command->get_name());
      if (command->get_name() == word) next = command;
    }
    if (commands.empty() || word.empty() || word[0] == '-') return "";
    path += path.empty() ? word : " " + word;
    if (next == nullptr) {
      return "there is no command " + engine::graph::Quote(path) + "; " +
             engine::graph::DidYouMean(word, commands, "commands");
    }
    at = next;
  }
  return "";
}

// LibTorch's team of threads (libgomp's) spins for milliseconds after each of its loops, on the
// cores that the kernels' own pool then wants. libgomp reads how long when it is loaded, so this
// has to come before every library's constructors. A value that is set already stays.
void SpinBriefly(int, char**, char**) { setenv("GOMP_SPINCOUNT", "1000", /*overwrite=*/0); }
__attribute__((section(".preinit_array"), used)) void (*const spin_briefly)(int, char**,
                                                                            char**) = &SpinBriefly;

}  // namespace

int main(int argc, char** argv) {
  using namespace engine::cli;
  engine::model::ExitOnCutFile(kFailed);
  CLI::App app("Runs, serves and trains language models from dataflow pipelines.", "engine");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string(engine::abi::kEngineVersion));
  int exit_code = kOk;

  RunArgs run;
  CLI::App* run_app = app.add_subcommand("run", "Run a pipeline to its end");
  AddPipeline(run_app, &run.pipeline);
  run_app->add_option("--trace", run.trace, "Write a Chrome/Perfetto trace to this file");
  run_app->add_option("--control", run.control, "Listen for operators on HOST:PORT");
  run_app->add_option("--report", run.report, "Write the figures of the run to this file as JSON");
  run_app
      ->add_option("--hang-warning", run.hang_warning,
                   "Name a node that has been in one call for so many seconds; 0: never")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  run_app
      ->add_option("--hang-limit", run.hang_limit,
                   "End the run when a node has been in one call for so many seconds; 0: never")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  run_app->add_flag("--stats", run.stats, "Print a table of all nodes at the end");
  run_app->add_flag("-v,--verbose", run.verbose, "Log what the engine does");
  run_app->callback([&] { exit_code = RunCommand(run); });

  PipelineArgs check;
  CLI::App* check_app = app.add_subcommand("check", "Check a pipeline without running it");
  AddPipeline(check_app, &check);
  check_app->callback([&] { exit_code = CheckCommand(check); });

  PipelineArgs explain;
  CLI::App* explain_app =
      app.add_subcommand("explain", "Print the expanded plan with each transform's diff and bytes");
  AddPipeline(explain_app, &explain);
  explain_app->callback([&] { exit_code = ExplainCommand(explain); });

  PipelineArgs graph;
  std::string format = "dot";
  CLI::App* graph_app = app.add_subcommand("graph", "Draw a pipeline");
  AddPipeline(graph_app, &graph);
  graph_app->add_option("--format", format, "dot, mermaid or svg")
      ->check(CLI::IsMember({"dot", "mermaid", "svg"}));
  graph_app->callback([&] { exit_code = GraphCommand(graph, format); });

  std::string schema_file;
  CLI::App* schema_app =
      app.add_subcommand("schema", "Write the pipeline language, with all kinds found, as .proto");
  schema_app->add_option("file", schema_file, "Where to; standard output when left out");
  schema_app->callback([&] { exit_code = SchemaCommand(schema_file); });

  std::string what;
  CLI::App* inspect_app = app.add_subcommand("inspect", "The manual of plugins, kinds and options");
  inspect_app->add_option("what", what, "PLUGIN, KIND or KIND.option; all when left out");
  bool markdown = false;
  std::string pages;
  inspect_app->add_flag("--markdown", markdown, "As Markdown");
  inspect_app->add_option("--pages", pages, "Write a Markdown page for each plugin to this folder");
  inspect_app->callback([&] {
    exit_code =
        markdown || !pages.empty() ? InspectMarkdownCommand(what, pages) : InspectCommand(what);
  });

  CLI::App* plugin_app = app.add_subcommand("plugin", "Plugins");
  plugin_app->require_subcommand(1);
  bool why = false;
  CLI::App* list_app = plugin_app->add_subcommand("list", "The plugins found");
  list_app->add_flag("--why", why, "Also where from, and why files were refused");
  bool list_json = false;
  list_app->add_flag("--json", list_json, "One JSON object on standard output");
  list_app->callback([&] { exit_code = PluginListCommand(why, list_json); });

  PluginNewArgs plugin_new;
  CLI::App* new_app = plugin_app->add_subcommand("new", "Write a plugin's project to begin with");
  new_app->add_option("name", plugin_new.name, "Name of the kind and of the project")->required();
  new_app->add_option("--kind", plugin_new.kind, "node, transform or resource; node when left out");
  new_app->add_option("--tier", plugin_new.tier,
                      "NONE, STABLE or NATIVE: how it touches tensors; NONE when left out, STABLE "
                      "for a transform");
  new_app->add_option("--dir", plugin_new.dir, "Folder of the project; NAME when left out");
  new_app->callback([&] { exit_code = PluginNewCommand(plugin_new); });

  PluginTestArgs plugin_test;
  CLI::App* test_app = plugin_app->add_subcommand("test", "Run the cases of a plugin's author");
  test_app->add_option("plugin", plugin_test.plugin, "The plugin's file")->required();
  test_app->add_option("cases", plugin_test.cases, "File of cases (.pbtxt)")->required();
  test_app->add_option("only", plugin_test.only, "Cases whose names hold this");
  test_app->callback([&] { exit_code = PluginTestCommand(plugin_test); });

  PluginCheckArgs plugin_check;
  CLI::App* conform_app =
      plugin_app->add_subcommand("check", "Whether a plugin keeps the contract of the SDK");
  conform_app->add_option("plugin", plugin_check.plugin, "The plugin's file")->required();
  conform_app->add_option("--seed", plugin_check.seed, "Of the random options");
  conform_app->add_option("--messages", plugin_check.messages, "Random options for each kind")
      ->check(CLI::Range(1, 1000000));
  conform_app->add_option("--limit", plugin_check.limit_s, "Seconds that one check may take")
      ->check(CLI::Range(1, 86400));
  conform_app->add_flag("--json", plugin_check.json, "One JSON object on standard output");
  conform_app->callback([&] { exit_code = PluginCheckCommand(plugin_check); });

  // Run by the engine itself; see engine/abi/scanner.h.
  int scan_fd = 1;
  std::vector<std::string> scan_files;
  CLI::App* scan_app = plugin_app->add_subcommand("scan", "Load files and report what happens");
  scan_app->group("");
  scan_app->add_option("fd", scan_fd, "Descriptor to report on")->required();
  scan_app->add_option("files", scan_files, "Plugin files")->required();
  scan_app->callback([&] { exit_code = PluginScanCommand(scan_fd, scan_files); });

  PerplexityArgs perplexity;
  CLI::App* perplexity_app = app.add_subcommand(
      "perplexity", "Perplexity of a pipeline's model, with all its transforms, on a text");
  AddPipeline(perplexity_app, &perplexity.pipeline);
  perplexity_app->add_option("--text", perplexity.text, "UTF-8 text file")->required();
  perplexity_app->add_option("--resource", perplexity.resource,
                             "Which model of the pipeline; the last one when left out");
  perplexity_app
      ->add_option("--window", perplexity.window, "Tokens of a window; its second half is scored")
      ->check(CLI::Range(4, 1 << 20));
  perplexity_app->add_flag("--json", perplexity.json, "One JSON object on standard output");
  perplexity_app->callback([&] { exit_code = PerplexityCommand(perplexity); });

  QuantizeArgs quantize;
  CLI::App* quantize_app = app.add_subcommand(
      "quantize", "Write a model again with 8-bit weights, as a GGUF file or a folder");
  quantize_app->add_option("model", quantize.model, "Name, GGUF file or Hugging Face folder")
      ->required();
  quantize_app->add_option("--out", quantize.out, "NAME.gguf for a GGUF file, else a folder")
      ->required();
  quantize_app->add_option("--format", quantize.format,
                           "Q8_0 (GGUF) or INT8 (folder); as --out has it when left out");
  quantize_app->add_option("--text", quantize.text,
                           "UTF-8 text file: perplexity on it before and after");
  quantize_app->add_option("--window", quantize.window, "Tokens of a window of that text")
      ->check(CLI::Range(4, 1 << 20));
  quantize_app->add_flag("--force", quantize.force, "Replace what is at --out");
  quantize_app->callback([&] { exit_code = QuantizeCommand(quantize); });

  CLI::App* data_app = app.add_subcommand("data", "Files to train on");
  data_app->require_subcommand(1);
  DataCheckArgs data;
  CLI::App* data_check_app = data_app->add_subcommand(
      "check", "What is in a file as dataset reads it, what would count, and what is wrong");
  data_check_app->add_option("file", data.file, "JSON, text or token ids; see `inspect dataset`")
      ->required();
  data_check_app->add_option("--model", data.model,
                             "Name, GGUF file or folder: whose tokenizer and chat format are used");
  data_check_app->add_option("--sequence", data.sequence, "Most tokens of an example");
  data_check_app->add_option("--train-on", data.train_on, "ANSWERS or ALL");
  data_check_app->add_option("--shape", data.shape, "What the examples look like; as it is found");
  Repeated(data_check_app->add_option("--columns", data.columns,
                                      "OURS=THEIRS: a name that the file uses; may be repeated"));
  data_check_app->add_option("--show", data.show, "So many examples are shown, the shortest ones");
  Repeated(data_check_app->add_option(
      "--set", data.sets,
      "check.dataset.OPTION=VALUE: another option of dataset; may be repeated"));
  data_check_app->add_flag("--json", data.json, "One JSON object on standard output");
  data_check_app->callback([&] { exit_code = DataCheckCommand(data); });

  ConvertArgs convert;
  CLI::App* convert_app = app.add_subcommand(
      "convert", "Write a model as a GGUF file or a Hugging Face folder, an adapter merged in");
  convert_app->add_option("model", convert.model, "Name, GGUF file or Hugging Face folder")
      ->required();
  convert_app->add_option("out", convert.out, "NAME.gguf for a GGUF file, else a folder")
      ->required();
  convert_app->add_option("--adapter", convert.adapter,
                          "Folder of a LoRA adapter, as PEFT has them, to merge into the weights");
  convert_app->add_option("--adapter-kind", convert.adapter_kind,
                          "Kind of the transform that reads it, where several could");
  convert_app->add_option("--type", convert.type,
                          "F32 when left out, F16, BF16 or F64; Q8_0 (GGUF); INT8 (folder)");
  convert_app->add_flag("--force", convert.force, "Replace what is at the second path");
  convert_app->callback([&] { exit_code = ConvertCommand(convert); });

  BenchArgs bench;
  CLI::App* bench_app =
      app.add_subcommand("bench", "Measure a pipeline, and what each optimization in it brings");
  AddPipeline(bench_app, &bench.pipeline);
  bench_app->add_flag("--ablate", bench.ablate, "Also without each optimization in turn");
  bench_app->add_option(
      "--load", bench.load,
      "A load for the pipeline's param `load`, as \"streams=16 prompt=128 out=64\"; "
      "`engine inspect traffic.load` tells the words");
  bench_app->add_option("--sweep", bench.sweep,
                        "WORD=V1,V2,...: the load with one of its words at several values");
  bench_app->add_option("--figure", bench.figure,
                        "What is compared: run_s, output_tokens_per_s, decode_tokens_per_s, "
                        "prefill_tokens_per_s, ttft_ms_p50, gap_ms_p50, engine_share, ...");
  bench_app->add_option("--against", bench.against,
                        "llama.cpp=FOLDER: its benchmark programs in the same interleaving");
  bench_app->add_option("--compare", bench.compare,
                        "PATH=VALUE or PARAM=VALUE: also with this set; may be repeated");
  bench_app->add_option("--svg", bench.svg, "Write a chart of the sweep to this file");
  bench_app->add_option("--ceiling", bench.ceilings, "NAME=VALUE: a line in the chart");
  bench_app->add_option("--json", bench.json, "Write the results to this file");
  bench_app->add_option("--repeats", bench.repeats, "Measured runs of each variant")
      ->check(CLI::Range(1, 1000));
  bench_app->callback([&] { exit_code = BenchCommand(bench); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const std::string wrong = e.get_exit_code() == 0 ? "" : WrongCommand(app, argc, argv);
    if (!wrong.empty()) {
      std::fprintf(stderr, "engine: error: %s\nRun with --help for more information.\n",
                   wrong.c_str());
    } else {
      app.exit(e);
    }
    exit_code = e.get_exit_code() == 0 ? kOk : kBadInput;
  }
  // What was asked for did not arrive: a full disk, or a reader that is gone.
  if ((std::fflush(stdout) != 0 || std::ferror(stdout) != 0) && exit_code == kOk) {
    std::fprintf(stderr, "engine: error: standard output cannot be written\n");
    exit_code = kFailed;
  }
  // Plugins and LibTorch stay mapped, and I/O threads may sit in a read: destructors of static
  // objects have nothing left to do that the system does not do.
  std::fflush(stderr);
  std::_Exit(exit_code);
}
